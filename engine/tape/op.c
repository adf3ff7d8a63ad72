/* The op table and the shape rules, in the order of ops.def. */
#include "engine/tape/op.h"

#include <string.h>

#define WANT(cond, ...) MCS_REQUIRE(cond, MCS_E_SHAPE, __VA_ARGS__)

static void like(struct tensor *out, const struct tensor *in)
{
    out->dt = MCS_F32;
    out->nd = in->nd;
    memcpy(out->dim, in->dim, sizeof out->dim);
}

static void set_shape(struct tensor *out, int nd, const int64_t *dim)
{
    out->dt = MCS_F32;
    out->nd = nd;
    memcpy(out->dim, dim, (size_t)nd * sizeof *dim);
}
#define DIMS(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), ((int64_t[]){__VA_ARGS__})

static int same_shape(const struct tensor *a, const struct tensor *b)
{
    if (a->nd != b->nd) return 0;
    for (int i = 0; i < a->nd; i++)
        if (a->dim[i] != b->dim[i]) return 0;
    return 1;
}

static int is_vector(const struct tensor *t, int64_t n)
{
    return t->nd == 1 && t->dim[0] == n;
}

static enum mcs_status shape_linear(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct linear_attr *a = attr;
    const struct tensor *x = in[0], *w = in[1];
    WANT(w->nd == 2 && x->nd >= 1 && mcs_last(x) == w->dim[1], "%s: linear wants a weight (N,%lld), got (%lld,%lld)",
         where, (long long)mcs_last(x), (long long)w->dim[0], (long long)w->dim[1]);
    WANT(!in[2] || is_vector(in[2], w->dim[0]), "%s: linear wants a bias of %lld", where, (long long)w->dim[0]);
    WANT(a->w_row >= 0 && a->w_rows >= 0 && a->w_row + a->w_rows <= w->dim[0], "%s: weight rows out of range", where);
    like(out, x);
    out->dim[out->nd - 1] = a->w_rows ? a->w_rows : w->dim[0];
    return MCS_OK;
}

static enum mcs_status shape_conv(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct conv_attr *a = attr;
    const struct tensor *x = in[0], *w = in[1];
    WANT(a->nsp == 2 || a->nsp == 3, "%s: conv wants 2 or 3 spatial dimensions, got %d", where, a->nsp);
    WANT(x->nd == a->nsp + 2 && w->nd == a->nsp + 2, "%s: conv wants %d dimensions, got x %d, w %d", where, a->nsp + 2,
         x->nd, w->nd);
    WANT(w->dim[1] == mcs_last(x), "%s: conv weight wants %lld channels, got %lld", where, (long long)mcs_last(x),
         (long long)w->dim[1]);
    WANT(!in[2] || is_vector(in[2], w->dim[0]), "%s: conv wants a bias of %lld", where, (long long)w->dim[0]);
    like(out, x);
    for (int i = 0; i < a->nsp; i++) {
        const int64_t span = x->dim[1 + i] + 2 * a->pad[i] - w->dim[2 + i];
        WANT(span >= 0 && a->stride[i] >= 1, "%s: conv kernel %lld is larger than its padded input %lld", where,
             (long long)w->dim[2 + i], (long long)(x->dim[1 + i] + 2 * a->pad[i]));
        out->dim[1 + i] = span / a->stride[i] + 1;
    }
    out->dim[out->nd - 1] = w->dim[0];
    return MCS_OK;
}

static enum mcs_status shape_conv_transpose(const char *where, struct tensor *const *in, const void *attr,
                                            struct tensor *out)
{
    const struct conv_attr *a = attr;
    const struct tensor *x = in[0], *w = in[1];
    WANT((a->nsp == 2 || a->nsp == 3) && x->nd == a->nsp + 2 && w->nd == a->nsp + 2,
         "%s: conv_transpose wants x and w of %d dimensions", where, a->nsp + 2);
    WANT(w->dim[0] == mcs_last(x), "%s: conv_transpose weight wants %lld input channels first, got %lld", where,
         (long long)mcs_last(x), (long long)w->dim[0]);
    WANT(!in[2] || is_vector(in[2], w->dim[1]), "%s: conv_transpose wants a bias of %lld", where, (long long)w->dim[1]);
    like(out, x);
    for (int i = 0; i < a->nsp; i++) out->dim[1 + i] = x->dim[1 + i] * w->dim[2 + i];
    out->dim[out->nd - 1] = w->dim[1];
    return MCS_OK;
}

static enum mcs_status norm_affine(const char *where, struct tensor *const *in)
{
    const int64_t c = mcs_last(in[0]);
    WANT(is_vector(in[1], c) && is_vector(in[2], c), "%s: a norm over %lld channels wants weight and bias of as many",
         where, (long long)c);
    return MCS_OK;
}

static enum mcs_status shape_layernorm(const char *where, struct tensor *const *in, const void *attr,
                                       struct tensor *out)
{
    MCS_TRY(norm_affine(where, in));
    like(&out[0], in[0]);
    set_shape(&out[1], DIMS(mcs_rows(in[0]), 2));
    return MCS_OK;
}

static enum mcs_status shape_instance_norm(const char *where, struct tensor *const *in, const void *attr,
                                           struct tensor *out)
{
    WANT(in[0]->nd >= 3, "%s: instance norm wants (N,sp...,C), got %d dimensions", where, in[0]->nd);
    MCS_TRY(norm_affine(where, in));
    like(&out[0], in[0]);
    set_shape(&out[1], DIMS(in[0]->dim[0], mcs_last(in[0]), 2));
    return MCS_OK;
}

static enum mcs_status shape_same(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    like(out, in[0]);
    return MCS_OK;
}
#define shape_gelu shape_same
#define shape_quick_gelu shape_same
#define shape_relu shape_same
#define shape_softmax shape_same

static enum mcs_status shape_add(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct tensor *a = in[0], *b = in[1];
    WANT(b->nd <= a->nd, "%s: add: the second operand has more dimensions than the first", where);
    for (int i = 0; i < b->nd; i++)
        WANT(b->dim[b->nd - 1 - i] == a->dim[a->nd - 1 - i],
             "%s: add: the second operand must be a trailing part of the first: %lld against %lld", where,
             (long long)b->dim[b->nd - 1 - i], (long long)a->dim[a->nd - 1 - i]);
    like(out, a);
    return MCS_OK;
}

static enum mcs_status shape_attention(const char *where, struct tensor *const *in, const void *attr,
                                       struct tensor *out)
{
    const struct attention_attr *a = attr;
    const struct tensor *q = in[0], *k = in[1], *v = in[2], *q_off = in[3], *k_off = in[4], *rel_h = in[5],
                        *rel_w = in[6];
    const int64_t width = (int64_t)a->heads * a->head_dim;
    WANT(width > 0 && a->q_col + width <= mcs_last(q) && a->k_col + width <= mcs_last(k) &&
             a->v_col + width <= mcs_last(v),
         "%s: attention: %d heads of %d columns do not fit q, k, v of %lld, %lld, %lld columns", where, a->heads,
         a->head_dim, (long long)mcs_last(q), (long long)mcs_last(k), (long long)mcs_last(v));
    WANT(mcs_rows(k) == mcs_rows(v), "%s: attention: k and v must have as many rows", where);
    WANT(!q_off == !k_off, "%s: attention: give both offsets or none", where);
    if (q_off) {
        WANT(q_off->nd == 1 && same_shape(q_off, k_off) && q_off->dim[0] >= 2,
             "%s: attention: offsets are two int32 vectors of S+1", where);
    } else {
        WANT(a->q_len > 0 && a->k_len > 0 && mcs_rows(q) % a->q_len == 0 && mcs_rows(k) % a->k_len == 0 &&
                 mcs_rows(q) / a->q_len == mcs_rows(k) / a->k_len,
             "%s: attention: %lld query and %lld key rows are not as many sequences of %lld and %lld", where,
             (long long)mcs_rows(q), (long long)mcs_rows(k), (long long)a->q_len, (long long)a->k_len);
    }
    WANT(!rel_h == !rel_w, "%s: attention: give both relative position tables or none", where);
    WANT(!rel_h || !a->causal, "%s: attention: a causal mask does not go with relative positions", where);
    if (rel_h)
        WANT(!q_off && a->q_len == a->k_len && a->q_len == (int64_t)a->grid_h * a->grid_w && rel_h->nd == 2 &&
                 rel_w->nd == 2 && rel_h->dim[0] == 2 * a->grid_h - 1 && rel_w->dim[0] == 2 * a->grid_w - 1 &&
                 rel_h->dim[1] == a->head_dim && rel_w->dim[1] == a->head_dim,
             "%s: attention: relative positions want tables (2*%d-1,%d) and (2*%d-1,%d) and sequences of the grid",
             where, a->grid_h, a->head_dim, a->grid_w, a->head_dim);
    like(&out[0], q);
    out[0].dim[out[0].nd - 1] = width;
    set_shape(&out[1], DIMS(mcs_rows(q), a->heads));
    return MCS_OK;
}

static enum mcs_status shape_window(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct window_attr *a = attr;
    const struct tensor *x = in[0];
    WANT(x->nd == 4 && a->win > 0, "%s: window wants (B,H,W,C)", where);
    const int64_t nh = (x->dim[1] + a->win - 1) / a->win, nw = (x->dim[2] + a->win - 1) / a->win;
    like(out, x);
    out->dim[0] = x->dim[0] * nh * nw;
    out->dim[1] = out->dim[2] = a->win;
    return MCS_OK;
}

static enum mcs_status shape_unwindow(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct window_attr *a = attr;
    const struct tensor *x = in[0];
    WANT(x->nd == 4 && a->win > 0 && x->dim[1] == a->win && x->dim[2] == a->win && a->h > 0 && a->w > 0,
         "%s: unwindow wants (B*nW,win,win,C)", where);
    const int64_t windows = ((a->h + a->win - 1) / a->win) * ((a->w + a->win - 1) / a->win);
    WANT(x->dim[0] % windows == 0, "%s: unwindow: %lld windows are not a multiple of %lld", where, (long long)x->dim[0],
         (long long)windows);
    like(out, x);
    out->dim[0] = x->dim[0] / windows;
    out->dim[1] = a->h;
    out->dim[2] = a->w;
    return MCS_OK;
}

static enum mcs_status shape_gather(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    WANT(in[1]->nd == 1, "%s: gather wants an int32 vector of row numbers", where);
    set_shape(out, DIMS(in[1]->dim[0], mcs_last(in[0])));
    out->dt = in[0]->dt;
    return MCS_OK;
}

static enum mcs_status shape_concat(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const int axis = ((const struct axis_attr *)attr)->axis;
    int widest = 0, n_given = 0; /* widest: the input with the most elements before the axis; it is not broadcast */
    for (int i = 0; i < 4 && in[i]; i++, n_given++) {
        WANT(in[i]->nd == in[0]->nd && axis >= 0 && axis < in[i]->nd, "%s: concat: inputs differ in dimensions", where);
        int64_t lead = 1, best = 1;
        for (int d = 0; d < axis; d++) lead *= in[i]->dim[d], best *= in[widest]->dim[d];
        if (lead > best) widest = i;
    }
    like(out, in[widest]);
    out->dim[axis] = 0;
    for (int i = 0; i < n_given; i++) {
        int64_t lead = 1;
        for (int d = 0; d < axis; d++) lead *= in[i]->dim[d];
        for (int d = 0; d < in[i]->nd; d++)
            WANT(d == axis || in[i]->dim[d] == out->dim[d] || (d < axis && lead == 1),
                 "%s: concat: input %d has %lld in dimension %d, expected %lld", where, i, (long long)in[i]->dim[d], d,
                 (long long)out->dim[d]);
        out->dim[axis] += in[i]->dim[axis];
    }
    return MCS_OK;
}

static enum mcs_status shape_l2norm(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    like(&out[0], in[0]);
    set_shape(&out[1], DIMS(mcs_rows(in[0])));
    return MCS_OK;
}

static enum mcs_status shape_contrastive(const char *where, struct tensor *const *in, const void *attr,
                                         struct tensor *out)
{
    const struct contrastive_attr *a = attr;
    WANT(in[0]->nd == 2 && same_shape(in[0], in[1]),
         "%s: a contrastive loss wants as many images as texts, of one width", where);
    WANT(in[0]->dim[0] >= 2,
         "%s: a contrastive loss needs a batch of at least 2 pairs (one pair has no negatives); raise the batch size",
         where);
    WANT((a->inv_tau > 0) == !in[2], "%s: give either a fixed temperature or the learned log scale", where);
    set_shape(&out[0], DIMS(1));
    set_shape(&out[1], DIMS(2, in[0]->dim[0], 2));
    return MCS_OK;
}

static enum mcs_status shape_dropout(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct dropout_attr *a = attr;
    WANT(a->p >= 0 && a->p < 1, "%s: dropout probability %g is not in [0,1)", where, (double)a->p);
    WANT(!in[1] || mcs_count(in[1]) == mcs_rows(in[0]), "%s: dropout wants a sample id a row", where);
    like(out, in[0]);
    return MCS_OK;
}

static enum mcs_status shape_bottleneck(const char *where, struct tensor *const *in, const void *attr,
                                        struct tensor *out)
{
    const struct tensor *x = in[0], *noise = in[2];
    WANT(x->nd == 3 && same_shape(x, in[1]) && noise->nd == 3 && noise->dim[1] == x->dim[1] &&
             noise->dim[2] == x->dim[2] && noise->dim[0] % x->dim[0] == 0,
         "%s: bottleneck wants x and alpha (P,T,C) and noise (P*copies,T,C)", where);
    like(&out[0], noise);
    set_shape(&out[1], DIMS(x->dim[0]));
    set_shape(&out[2], DIMS(x->dim[0], x->dim[1]));
    return MCS_OK;
}

static enum mcs_status shape_cosine(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    WANT(in[0]->nd == 2 && in[1]->nd == 2 && in[0]->dim[1] == in[1]->dim[1] && in[0]->dim[0] % in[1]->dim[0] == 0,
         "%s: cosine wants (N,D) and (M,D) with N a multiple of M", where);
    set_shape(&out[0], DIMS(in[0]->dim[0]));
    set_shape(&out[1], DIMS(in[0]->dim[0], 2));
    return MCS_OK;
}

static enum mcs_status shape_dice_ce(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct tensor *x = in[0], *t = in[1];
    WANT(x->nd >= 3 && mcs_last(x) >= 2 && mcs_count(t) == mcs_rows(x) && t->dim[0] == x->dim[0],
         "%s: dice_ce wants logits (N,sp...,C) with C >= 2 and an int32 target (N,sp...)", where);
    set_shape(&out[0], DIMS(1));
    set_shape(&out[1], DIMS(x->dim[0], mcs_last(x), 3));
    return MCS_OK;
}

static enum mcs_status shape_resize(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct resize_attr *a = attr;
    WANT(in[0]->nd == 4 && a->h > 0 && a->w > 0, "%s: resize wants (N,H,W,C) and a positive size", where);
    like(out, in[0]);
    out->dim[1] = a->h;
    out->dim[2] = a->w;
    return MCS_OK;
}

static enum mcs_status shape_fourier_pe(const char *where, struct tensor *const *in, const void *attr,
                                        struct tensor *out)
{
    WANT(in[0]->nd == 2 && in[0]->dim[1] == 2 && in[2]->nd == 2 && in[2]->dim[0] == 2,
         "%s: fourier_pe wants coords (n,2) and a matrix (2,F)", where);
    WANT(!in[1] || is_vector(in[1], in[0]->dim[0]), "%s: fourier_pe wants a label a row", where);
    set_shape(out, DIMS(in[0]->dim[0], 2 * in[2]->dim[1]));
    return MCS_OK;
}

static enum mcs_status shape_bmm_nt(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct tensor *a = in[0], *b = in[1];
    WANT(a->nd == 3 && b->nd == 3 && a->dim[0] == b->dim[0] && a->dim[2] == b->dim[2],
         "%s: bmm_nt wants (B,M,K) and (B,N,K)", where);
    set_shape(out, DIMS(a->dim[0], a->dim[1], b->dim[1]));
    return MCS_OK;
}

static enum mcs_status shape_mask_loss(const char *where, struct tensor *const *in, const void *attr,
                                       struct tensor *out)
{
    WANT(in[0]->nd == 2 && same_shape(in[0], in[1]) && is_vector(in[2], in[0]->dim[0]),
         "%s: mask_loss wants logits and target (B,n) and a weight a mask", where);
    set_shape(&out[0], DIMS(1));
    set_shape(&out[1], DIMS(in[0]->dim[0]));
    set_shape(&out[2], DIMS(in[0]->dim[0], 4));
    return MCS_OK;
}

static enum mcs_status shape_pointwise_loss(const char *where, struct tensor *const *in, const void *attr,
                                            struct tensor *out)
{
    WANT(mcs_count(in[0]) == mcs_count(in[1]) && (!in[2] || mcs_count(in[2]) == mcs_count(in[0])),
         "%s: prediction, target and weight must have as many elements", where);
    set_shape(out, DIMS(1));
    return MCS_OK;
}
#define shape_mse shape_pointwise_loss
#define shape_bce shape_pointwise_loss

static enum mcs_status shape_attn_guide(const char *where, struct tensor *const *in, const void *attr,
                                        struct tensor *out)
{
    const struct guide_attr *a = attr;
    const struct tensor *qkv = in[0];
    WANT(qkv->nd == 3 && qkv->dim[2] == 3 * (int64_t)a->heads * a->head_dim && a->heads_used >= 1 &&
             a->heads_used <= a->heads,
         "%s: attn_guide wants packed qkv (B,T,3*heads*head_dim)", where);
    WANT(in[1]->nd == 2 && in[1]->dim[0] == qkv->dim[0] && in[1]->dim[1] == qkv->dim[1] &&
             is_vector(in[2], qkv->dim[0]),
         "%s: attn_guide wants coverage (B,T) and weight (B)", where);
    set_shape(&out[0], DIMS(1));
    set_shape(&out[1], DIMS(qkv->dim[0], a->heads_used, qkv->dim[1]));
    return MCS_OK;
}

static enum mcs_status shape_cast(const char *where, struct tensor *const *in, const void *attr, struct tensor *out)
{
    const struct cast_attr *a = attr;
    WANT(a->to != MCS_I32, "%s: cast is between float types", where);
    like(out, in[0]);
    out->dt = a->to;
    return MCS_OK;
}

/* The words of ops.def. */
enum {
    F32 = SLOT_F32,
    ACT = SLOT_ACT,
    ANY = SLOT_ANY,
    I32 = SLOT_I32,
    KEEP = SLOT_KEEP,
    NOGRAD = SLOT_NOGRAD,
    OPT = SLOT_OPT,
    SHARE = SLOT_SHARE
};
#define SLOTS(n, slots, ...) .n = sizeof((uint8_t[]){__VA_ARGS__}), .slots = {__VA_ARGS__}
#define IN(...) SLOTS(n_in, in, __VA_ARGS__)
#define OUT(...) SLOTS(n_out, out, __VA_ARGS__)
const struct op_info mcs_op_table[MCS_N_OPS] = {
#define OP(name_, inputs, outputs, attr)                                                                               \
    [OP_##name_] = {.name = #name_, inputs, outputs, .attr_bytes = sizeof(attr), .shape = shape_##name_},
#include "engine/tape/ops.def"
#undef OP
};

enum mcs_status mcs_op_shape(enum mcs_op op, const char *where, struct tensor *const *in, const void *attr,
                             struct tensor *out)
{
    const struct op_info *info = &mcs_op_table[op];
    for (int i = 0; i < info->n_in; i++) {
        const int is_int = (info->in[i] & SLOT_TYPE) == SLOT_I32;
        WANT(in[i] || info->in[i] & SLOT_OPT, "%s: %s: input %d is missing", where, info->name, i);
        WANT(!in[i] || (in[i]->dt == MCS_I32) == is_int, "%s: %s: input %d must be %s", where, info->name, i,
             is_int ? "int32" : "float");
    }
    return info->shape(where, in, attr, out);
}
