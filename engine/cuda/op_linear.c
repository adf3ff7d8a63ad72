/* linear on the device: y = x w^T + b. In bf16 the weight is cast into the workspace first. */
#include <stdlib.h>

#include "engine/cuda/matmul_cuda.h"

struct shape {
    int64_t m, n, k, w0; /* rows of x, outputs, inputs; first row of the weight that is used */
    enum k_dtype t;      /* of the activations */
};

struct prepared {
    struct cuda_matmul y, dx, dw;
};

static struct shape shape_of(const struct step *s)
{
    const struct linear_attr *a = s->attr;
    const struct tensor *w = s->like[1] ? s->like[1] : s->in[1], *y = s->backward ? s->dout[0] : s->out[0];
    return (struct shape){.m = mcs_rows(y),
                          .n = mcs_last(y),
                          .k = mcs_last(w),
                          .w0 = a && a->w_rows > 0 ? a->w_row : 0,
                          .t = mcs_cuda_dtype(y)};
}

static struct k_matmul product(const struct shape *d, enum k_matmul_form form)
{
    struct k_matmul p = {.dtype = d->t, .dtype_y = d->t, .form = form, .batch = 1, .m = d->m, .n = d->n, .k = d->k};
    if (form == K_MATMUL_NN) p.n = d->k, p.k = d->n;                                /* dx = dy w */
    if (form == K_MATMUL_TN) p.m = d->n, p.n = d->k, p.k = d->m, p.dtype_y = K_F32; /* dw = dy^T x */
    return p;
}

static size_t weight_bytes(const struct shape *d)
{
    return d->t == K_BF16 ? mcs_cuda_round((size_t)(d->n * d->k) * 2) : 0;
}

static enum mcs_status plan(struct step *s, const struct shape *d, enum k_matmul_form form, struct cuda_matmul *p,
                            size_t *max_bytes)
{
    p->k = product(d, form);
    MCS_TRY(mcs_cuda_matmul_plan(mcs_cuda_of(s), form == K_MATMUL_NT && s->in[2], p));
    if (p->workspace_bytes > *max_bytes) *max_bytes = p->workspace_bytes;
    return MCS_OK;
}

static enum mcs_status prepare(struct step *s)
{
    size_t rest = 0;
    if (s->backward && !s->dout[0]) return MCS_OK;
    const struct shape d = shape_of(s);
    struct prepared *p = s->prepared = calloc(1, sizeof *p);
    MCS_REQUIRE(p, MCS_E_NOMEM, "%s: no memory for its plans", s->scope);
    if (!s->backward) MCS_TRY(plan(s, &d, K_MATMUL_NT, &p->y, &rest));
    if (s->backward && s->din[0]) MCS_TRY(plan(s, &d, K_MATMUL_NN, &p->dx, &rest));
    if (s->backward && s->din[1]) MCS_TRY(plan(s, &d, K_MATMUL_TN, &p->dw, &rest));
    if (s->backward && s->din[2] && k_sum_rows_bytes(d.m, d.n) > rest) rest = k_sum_rows_bytes(d.m, d.n);
    s->workspace_bytes = (!s->backward || s->din[0] ? weight_bytes(&d) : 0) + rest;
    return MCS_OK;
}

static void release(struct step *s)
{
    struct prepared *p = s->prepared;
    if (!p) return;
    mcs_cuda_matmul_free(&p->y);
    mcs_cuda_matmul_free(&p->dx);
    mcs_cuda_matmul_free(&p->dw);
    free(p);
}

/* *w: the rows of the weight that are used, in the activations' type. *rest: the workspace after the cast weight. */
static enum mcs_status weight(const struct step *s, const struct shape *d, const void **w, float **rest)
{
    const float *first_row = mcs_f32(s->in[1]) + d->w0 * d->k;
    *w = first_row;
    *rest = s->workspace;
    if (d->t == K_F32) return MCS_OK;
    const struct k_cast c = {.from = K_F32, .to = K_BF16, .n = d->n * d->k, .x = first_row, .y = s->workspace};
    MCS_CUDA(k_cast(&c, mcs_cuda_stream(s)));
    *w = s->workspace;
    *rest = (float *)((char *)s->workspace + weight_bytes(d));
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct shape d = shape_of(s);
    struct cuda_matmul p = ((const struct prepared *)s->prepared)->y;
    p.k.a = s->in[0]->data;
    p.k.bias = s->in[2] ? mcs_f32(s->in[2]) + d.w0 : NULL;
    p.k.y = s->out[0]->data;
    MCS_TRY(weight(s, &d, &p.k.b, &p.k.workspace));
    return mcs_cuda_matmul_run(mcs_cuda_of(s), &p);
}

/* A step that uses only some of the weight's rows is always frozen (op.h), so din[1] and din[2] cover all rows. */
static enum mcs_status bwd(const struct step *s)
{
    if (!s->dout[0]) return MCS_OK;
    const struct shape d = shape_of(s);
    const struct prepared *plans = s->prepared;
    const void *dy = s->dout[0]->data;
    if (s->din[0]) {
        struct cuda_matmul p = plans->dx;
        p.k.a = dy, p.k.y = s->din[0]->data, p.k.beta = s->beta[0];
        MCS_TRY(weight(s, &d, &p.k.b, &p.k.workspace));
        MCS_TRY(mcs_cuda_matmul_run(mcs_cuda_of(s), &p));
    }
    if (s->din[1]) {
        struct cuda_matmul p = plans->dw;
        p.k.a = dy, p.k.b = s->in[0]->data, p.k.y = s->din[1]->data, p.k.beta = s->beta[1];
        p.k.workspace = s->workspace;
        MCS_TRY(mcs_cuda_matmul_run(mcs_cuda_of(s), &p));
    }
    if (s->din[2]) {
        const struct k_sum_rows b = {.from = d.t,
                                     .to = K_F32,
                                     .rows = d.m,
                                     .n = d.n,
                                     .stride = d.n,
                                     .x = dy,
                                     .y = s->din[2]->data,
                                     .workspace = s->workspace,
                                     .beta = s->beta[2]};
        MCS_CUDA(k_sum_rows(&b, mcs_cuda_stream(s)));
    }
    return MCS_OK;
}

const struct op_impl mcs_cuda_linear = {prepare, fwd, bwd, release};
