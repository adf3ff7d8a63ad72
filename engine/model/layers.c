#include "engine/model/layers.h"

#include "engine/base/rng.h"

#include <math.h>
#include <stdio.h>

struct init mcs_init_fan_in(int64_t fan_in)
{
    return (struct init){INIT_UNIFORM, 1.0f / sqrtf((float)fan_in)};
}

static struct tensor *linear_weight(struct graph *g, int64_t n_out, int64_t n_in)
{
    return mcs_param(g, "weight", MCS_DIMS(n_out, n_in), mcs_init_fan_in(n_in));
}

struct tensor *mcs_linear(struct graph *g, struct tensor *x, int64_t n_out, int bias, const char *name)
{
    mcs_scope_begin(g, "%s", name);
    struct tensor *w = linear_weight(g, n_out, mcs_last(x));
    struct tensor *b = bias ? mcs_param(g, "bias", MCS_DIMS(n_out), (struct init){INIT_ZERO, 0}) : NULL;
    struct tensor *y = mcs_apply(g, OP_linear, "", (struct tensor *[]){x, w, b}, &(struct linear_attr){0});
    mcs_scope_end(g);
    return y;
}

struct tensor *mcs_linear_rows(struct graph *g, struct tensor *x, int64_t n_out, int64_t row, int64_t rows,
                               const char *name)
{
    mcs_scope_begin(g, "%s", name);
    struct tensor *w = linear_weight(g, n_out, mcs_last(x));
    struct tensor *b = mcs_param(g, "bias", MCS_DIMS(n_out), (struct init){INIT_ZERO, 0});
    struct tensor *y = mcs_apply(g, OP_linear, "", (struct tensor *[]){x, w, b}, &(struct linear_attr){row, rows});
    mcs_scope_end(g);
    return y;
}

struct tensor *mcs_linear_named(struct graph *g, struct tensor *x, int64_t n_out, int64_t row, int64_t rows,
                                const char *weight, const char *bias, const char *name)
{
    const int64_t n_in = mcs_last(x);
    struct tensor *w = mcs_param(g, weight, MCS_DIMS(n_out, n_in), mcs_init_fan_in(n_in));
    struct tensor *b = mcs_param(g, bias, MCS_DIMS(n_out), (struct init){INIT_ZERO, 0});
    return mcs_apply(g, OP_linear, name, (struct tensor *[]){x, w, b}, &(struct linear_attr){row, rows});
}

struct tensor *mcs_project(struct graph *g, struct tensor *x, int64_t n_out, const char *name)
{
    /* A transposed convolution of one tap: its weight (C,O,1,1) is not transposed either. */
    const int64_t n_in = mcs_last(x), n = mcs_rows(x);
    struct tensor *w = mcs_param(g, name, MCS_DIMS(n_in, n_out), mcs_init_fan_in(n_in));
    struct tensor *in[] = {mcs_reshape(g, x, MCS_DIMS(n, 1, 1, n_in)), mcs_reshape(g, w, MCS_DIMS(n_in, n_out, 1, 1)),
                           NULL};
    return mcs_reshape(g, mcs_apply(g, OP_conv_transpose, name, in, &(struct conv_attr){.nsp = 2}), MCS_DIMS(n, n_out));
}

struct tensor *mcs_conv(struct graph *g, struct tensor *x, int64_t n_out, const int64_t *kernel, const int64_t *stride,
                        int same, int bias, struct init init, const char *name)
{
    const int nsp = x->nd - 2;
    struct conv_attr a = {.nsp = nsp};
    int64_t dim[MCS_MAX_DIM] = {n_out, mcs_last(x)};
    int pointwise = 1;
    for (int i = 0; i < nsp && i < 3; i++) {
        a.stride[i] = stride[i];
        a.pad[i] = same ? (kernel[i] - 1) / 2 : 0;
        dim[2 + i] = kernel[i];
        pointwise &= kernel[i] == 1 && stride[i] == 1;
    }
    mcs_scope_begin(g, "%s", name);
    struct tensor *w = mcs_param(g, "weight", nsp + 2, dim, init);
    struct tensor *b = bias ? mcs_param(g, "bias", MCS_DIMS(n_out), (struct init){INIT_ZERO, 0}) : NULL;
    struct tensor *y;
    if (pointwise) {
        w = mcs_reshape(g, w, 2, dim);
        y = mcs_apply(g, OP_linear, "", (struct tensor *[]){x, w, b}, &(struct linear_attr){0});
    } else {
        y = mcs_apply(g, OP_conv, "", (struct tensor *[]){x, w, b}, &a);
    }
    mcs_scope_end(g);
    return y;
}

struct tensor *mcs_conv_transpose(struct graph *g, struct tensor *x, int64_t n_out, const int64_t *kernel,
                                  struct init init, const char *name)
{
    const int nsp = x->nd - 2;
    int64_t dim[MCS_MAX_DIM] = {mcs_last(x), n_out};
    for (int i = 0; i < nsp && i < 3; i++) dim[2 + i] = kernel[i];
    mcs_scope_begin(g, "%s", name);
    struct tensor *w = mcs_param(g, "weight", nsp + 2, dim, init);
    struct tensor *b = mcs_param(g, "bias", MCS_DIMS(n_out), (struct init){INIT_ZERO, 0});
    struct tensor *y =
        mcs_apply(g, OP_conv_transpose, "", (struct tensor *[]){x, w, b}, &(struct conv_attr){.nsp = nsp});
    mcs_scope_end(g);
    return y;
}

static struct tensor *norm(struct graph *g, enum mcs_op op, struct tensor *x, struct norm_attr a, const char *name)
{
    mcs_scope_begin(g, "%s", name);
    struct tensor *w = mcs_param(g, "weight", MCS_DIMS(mcs_last(x)), (struct init){INIT_ONE, 0});
    struct tensor *b = mcs_param(g, "bias", MCS_DIMS(mcs_last(x)), (struct init){INIT_ZERO, 0});
    struct tensor *y = mcs_apply(g, op, "", (struct tensor *[]){x, w, b}, &a);
    mcs_scope_end(g);
    return y;
}

struct tensor *mcs_layernorm(struct graph *g, struct tensor *x, float eps, const char *name)
{
    return norm(g, OP_layernorm, x, (struct norm_attr){.eps = eps, .slope = 1}, name);
}

struct tensor *mcs_instance_norm(struct graph *g, struct tensor *x, float eps, float slope, const char *name)
{
    return norm(g, OP_instance_norm, x, (struct norm_attr){.eps = eps, .slope = slope}, name);
}

struct tensor *mcs_gelu(struct graph *g, struct tensor *x)
{
    return mcs_apply(g, OP_gelu, "gelu", &x, NULL);
}

struct tensor *mcs_quick_gelu(struct graph *g, struct tensor *x)
{
    return mcs_apply(g, OP_quick_gelu, "quick_gelu", &x, NULL);
}

struct tensor *mcs_relu(struct graph *g, struct tensor *x)
{
    return mcs_apply(g, OP_relu, "relu", &x, NULL);
}

struct tensor *mcs_add(struct graph *g, struct tensor *a, struct tensor *b)
{
    return mcs_apply(g, OP_add, "add", (struct tensor *[]){a, b}, NULL);
}

struct tensor *mcs_concat(struct graph *g, int axis, struct tensor *a, struct tensor *b, struct tensor *c,
                          struct tensor *d)
{
    return mcs_apply(g, OP_concat, "concat", (struct tensor *[]){a, b, c, d}, &(struct axis_attr){axis});
}

struct tensor *mcs_gather(struct graph *g, struct tensor *x, struct tensor *index)
{
    return mcs_apply(g, OP_gather, "gather", (struct tensor *[]){x, index}, NULL);
}

struct tensor *mcs_rows_every(struct graph *g, struct tensor *x, int64_t first, int64_t step, int64_t n)
{
    int32_t *index = mcs_arena_alloc(&g->arena, (size_t)n * sizeof *index);
    for (int64_t i = 0; index && i < n; i++) index[i] = (int32_t)(first + i * step);
    return mcs_gather(g, x, mcs_constant(g, "rows", MCS_I32, 1, &n, index));
}

struct tensor *mcs_window(struct graph *g, struct tensor *x, int64_t win)
{
    return mcs_apply(g, OP_window, "window", &x, &(struct window_attr){.win = win});
}

struct tensor *mcs_unwindow(struct graph *g, struct tensor *x, int64_t win, int64_t h, int64_t w)
{
    return mcs_apply(g, OP_unwindow, "unwindow", &x, &(struct window_attr){.win = win, .h = h, .w = w});
}

struct tensor *mcs_l2norm(struct graph *g, struct tensor *x)
{
    return mcs_apply(g, OP_l2norm, "l2norm", &x, NULL);
}

struct tensor *mcs_dropout(struct graph *g, struct tensor *x, float p, struct tensor *key, const char *name)
{
    if (p <= 0) return x;
    mcs_scope_begin(g, "%s", name);
    const uint32_t site = mcs_rng_site(g->scope[g->n_scopes - 1]);
    struct tensor *y =
        mcs_apply(g, OP_dropout, "", (struct tensor *[]){x, key}, &(struct dropout_attr){.p = p, .site = site});
    mcs_scope_end(g);
    return y;
}

struct tensor *mcs_attention_packed(struct graph *g, struct tensor *qkv, int heads, int64_t len, struct tensor *rel_h,
                                    struct tensor *rel_w, int grid_h, int grid_w)
{
    const int64_t width = mcs_last(qkv) / 3;
    const struct attention_attr a = {.heads = heads,
                                     .head_dim = (int)(width / heads),
                                     .k_col = width,
                                     .v_col = 2 * width,
                                     .q_len = len,
                                     .k_len = len,
                                     .grid_h = grid_h,
                                     .grid_w = grid_w};
    return mcs_apply(g, OP_attention, "attn", (struct tensor *[]){qkv, qkv, qkv, NULL, NULL, rel_h, rel_w}, &a);
}
