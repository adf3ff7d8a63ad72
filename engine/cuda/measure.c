/* For bench: times by CUDA events, and other implementations of a step to compare with ("peers"): k_matmul alone and
 * cuBLASLt for linear, cuDNN for convolutions. The simulation gives counts instead of times. */
#include "engine/cuda/matmul_cuda.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- times and counts ---- */

static enum mcs_status time_calls(cudaEvent_t *e, int n, struct cuda_device *c, enum mcs_status (*f)(void *), void *arg,
                                  void *flush, size_t flush_bytes, double *seconds)
{
    for (int i = 0; i < 2 * n; i++) MCS_CUDA(cudaEventCreate(&e[i]));
    for (int i = 0; i < n; i++) {
        MCS_CUDA(cudaMemsetAsync(flush, i, flush_bytes, c->compute));
        MCS_CUDA(cudaEventRecord(e[2 * i], c->compute));
        MCS_TRY(f(arg));
        MCS_CUDA(cudaEventRecord(e[2 * i + 1], c->compute));
    }
    MCS_CUDA(cudaStreamSynchronize(c->compute));
    for (int i = 0; i < n; i++) {
        float ms;
        MCS_CUDA(cudaEventElapsedTime(&ms, e[2 * i], e[2 * i + 1]));
        seconds[i] = 1e-3 * (double)ms;
    }
    return MCS_OK;
}

/* Before each call a buffer of twice the L2 cache is overwritten: the call starts with a cold cache, and the host has
 * time to enqueue it before the GPU is idle. */
static enum mcs_status measure_time(struct device *d, enum mcs_status (*f)(void *), void *arg, int n, double *seconds)
{
    struct cuda_device *c = d->state;
    int cache = 0;
    void *flush = NULL;
    MCS_CUDA(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, c->index));
    const size_t bytes = 2 * (size_t)(cache > 0 ? cache : 1 << 20);
    cudaEvent_t *e = calloc((size_t)n, 2 * sizeof(cudaEvent_t));
    MCS_REQUIRE(e, MCS_E_NOMEM, "no memory for %d times", n);
    enum mcs_status st = mcs_cuda_alloc(c, bytes, &flush);
    if (st == MCS_OK) st = time_calls(e, n, c, f, arg, flush, bytes, seconds);
    if (flush) (void)cudaFree(flush);
    for (int i = 0; i < 2 * n; i++)
        if (e[i]) (void)cudaEventDestroy(e[i]);
    free(e);
    return st;
}

static enum mcs_status measure_copy(struct device *d, void *dst, const void *src, int64_t bytes)
{
    const struct cuda_device *c = d->state;
    return MCS_CUDA_STATUS(cudaMemcpyAsync(dst, src, (size_t)bytes, cudaMemcpyDeviceToDevice, c->compute));
}

/* Launches, blocks, threads and mma.sync operations since the last call; defined by the simulation only. */
extern void cudasim_work(uint64_t work[4]) __attribute__((weak));

static enum mcs_status measure_counts(struct device *d, struct device_counts *n)
{
    uint64_t work[4];
    MCS_TRY(d->backend->sync(d));
    cudasim_work(work);
    *n = (struct device_counts){work[0], work[1], work[2], work[3]};
    return MCS_OK;
}

/* ---- peers ---- */

enum { KERNEL, LIBRARY }; /* peers of a linear, by number */
struct cuda_peer {
    struct peer peer; /* must stay first: callers hold a pointer to it */
    struct cuda_device *c;
    int is_conv, which;
    struct k_matmul matmul;
    struct blas_plan *blas;
    struct dnn_plan *dnn;
    const void *first, *second; /* operands of mcs_dnn_run */
    void *result, *workspace;
    void *memory[4]; /* (n_memory) this peer's device memory */
    int n_memory;
};

static enum mcs_status buffer(struct cuda_peer *p, size_t bytes, void **m)
{
    MCS_TRY(mcs_cuda_alloc(p->c, bytes, m));
    p->memory[p->n_memory++] = *m;
    return MCS_OK;
}

static enum mcs_status cast(struct cuda_peer *p, const float *x, int64_t n, void **y)
{
    MCS_TRY(buffer(p, 2 * (size_t)n, y));
    const struct k_cast k = {.from = K_F32, .to = K_BF16, .n = n, .x = x, .y = *y};
    return MCS_CUDA_STATUS(k_cast(&k, p->c->compute));
}

/* y = x w^T + b, dx = dy w, dw = dy^T x. The weights are cast to the activations' type here, outside the measured
 * time. */
static enum mcs_status plan_linear(const struct step *s, struct cuda_peer *p)
{
    const struct tensor *x = s->like[0] ? s->like[0] : s->in[0], *w = s->in[1];
    const int64_t m = mcs_rows(x), n = w->dim[0], k = w->dim[1];
    const enum k_dtype type = mcs_cuda_dtype(x);
    struct k_matmul *a = &p->matmul;
    void *weights = w->data;
    *a = (struct k_matmul){.dtype = type, .dtype_y = type, .batch = 1};
    if (type == K_BF16 && !(s->backward && s->din[1])) MCS_TRY(cast(p, w->data, n * k, &weights));
    if (!s->backward)
        a->form = K_MATMUL_NT, a->m = m, a->n = n, a->k = k, a->a = x->data, a->b = weights, a->y = s->out[0]->data;
    else if (s->din[0])
        a->form = K_MATMUL_NN, a->m = m, a->n = k, a->k = n, a->a = s->dout[0]->data, a->b = weights,
        a->y = s->din[0]->data;
    else
        a->form = K_MATMUL_TN, a->m = n, a->n = k, a->k = m, a->a = s->dout[0]->data, a->b = x->data,
        a->y = s->din[1]->data, a->dtype_y = K_F32;
    p->peer.adds_bias = p->which == KERNEL && !s->backward;
    if (p->which == KERNEL) {
        p->peer.name = "k_matmul";
        if (p->peer.adds_bias) a->bias = mcs_f32(s->in[2]);
        MCS_TRY(buffer(p, k_matmul_bytes(a), (void **)&a->workspace));
        return MCS_OK;
    }
    int is_aligned;
    const struct blas_matmul b = mcs_cuda_blas_matmul(a, &is_aligned);
    size_t bytes = 0;
    p->peer.name = "cuBLASLt";
    if (is_aligned) MCS_TRY(mcs_blas_plan(p->c, &b, &p->blas, &bytes));
    if (!p->blas) snprintf(p->peer.missing, sizeof p->peer.missing, "rows that are no multiple of 16 bytes");
    return buffer(p, bytes, &p->workspace);
}

/* Weights (o,c,k) -> (o,k,c), cuDNN's NHWC filter layout, in the activations' type. */
static enum mcs_status transpose_weights(const struct tensor *w, struct cuda_peer *p, enum k_dtype type,
                                         void **transposed)
{
    const int64_t o = w->dim[0], c = w->dim[1], taps = mcs_count(w) / (o * c), n = o * c * taps;
    const size_t size = type == K_BF16 ? 2 : 4;
    float *from = malloc((size_t)n * 8);
    MCS_REQUIRE(from, MCS_E_NOMEM, "no memory for %lld weights", (long long)n);
    float *to = from + n;
    uint16_t *half = (uint16_t *)to;
    enum mcs_status st = mcs_cuda_status(
        cudaMemcpyAsync(from, w->data, (size_t)n * 4, cudaMemcpyDeviceToHost, p->c->compute), "cudaMemcpyAsync");
    if (st == MCS_OK) st = mcs_cuda_status(cudaStreamSynchronize(p->c->compute), "cudaStreamSynchronize");
    for (int64_t i = 0; st == MCS_OK && i < n; i++) {
        const int64_t at = (i / (c * taps) * taps + i % taps) * c + i / taps % c;
        if (type == K_BF16)
            half[at] = mcs_bf16_from(from[i]);
        else
            to[at] = from[i];
    }
    if (st == MCS_OK) st = buffer(p, (size_t)n * size, transposed);
    if (st == MCS_OK)
        st = mcs_cuda_status(cudaMemcpy(*transposed, to, (size_t)n * size, cudaMemcpyHostToDevice), "cudaMemcpy");
    free(from);
    return st;
}

static enum mcs_status plan_conv(const struct step *s, struct cuda_peer *p)
{
    const struct conv_attr *attr = s->attr;
    const struct tensor *x = s->like[0] ? s->like[0] : s->in[0], *w = s->in[1];
    const struct tensor *y = s->backward ? s->dout[0] : s->out[0];
    struct dnn_conv a = {.direction = !s->backward ? DNN_FPROP
                                      : s->din[0]  ? DNN_DGRAD
                                                   : DNN_WGRAD,
                         .dtype = mcs_cuda_dtype(x),
                         .nsp = attr->nsp,
                         .n = (int)x->dim[0],
                         .c = (int)mcs_last(x),
                         .o = (int)mcs_last(y)};
    void *weights = NULL;
    size_t bytes;
    for (int i = 0; i < attr->nsp; i++) {
        const int at = 3 - attr->nsp + i;
        a.src[at] = (int)x->dim[1 + i], a.dst[at] = (int)y->dim[1 + i], a.k[at] = (int)w->dim[2 + i];
        a.stride[at] = (int)attr->stride[i], a.pad[at] = (int)attr->pad[i];
    }
    p->is_conv = 1;
    p->peer.name = "cuDNN";
    const enum mcs_status st = mcs_dnn_plan(p->c, &a, &p->dnn, &bytes, p->peer.missing, sizeof p->peer.missing);
    if (st != MCS_OK) { /* cuDNN refuses this shape: the report prints its message in place of a time */
        snprintf(p->peer.missing, sizeof p->peer.missing, "%s", mcs_error_message());
        mcs_error_clear();
    }
    if (!p->dnn) return MCS_OK;
    MCS_TRY(buffer(p, bytes, &p->workspace));
    p->first = x->data;
    p->second = y->data;
    if (a.direction == DNN_WGRAD) return buffer(p, (size_t)mcs_count(w) * 4, &p->result);
    MCS_TRY(transpose_weights(w, p, a.dtype, &weights));
    p->result = a.direction == DNN_FPROP ? s->out[0]->data : s->din[0]->data;
    *(a.direction == DNN_FPROP ? &p->second : &p->first) = weights;
    return MCS_OK;
}

static void peer_free(struct peer *made)
{
    struct cuda_peer *p = (struct cuda_peer *)made;
    if (!p) return;
    (void)cudaStreamSynchronize(p->c->compute);
    mcs_blas_plan_free(p->blas);
    mcs_dnn_plan_free(p->dnn);
    for (int i = 0; i < p->n_memory; i++) (void)cudaFree(p->memory[i]);
    free(p);
}

static enum mcs_status peer_new(const struct step *s, int which, struct peer **made)
{
    const int is_conv = s->op == OP_conv;
    *made = NULL;
    if (which >= (is_conv ? 1 : s->op == OP_linear ? 2 : 0)) return MCS_OK;
    struct cuda_peer *p = calloc(1, sizeof *p);
    MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for a peer of %s", s->scope);
    p->c = mcs_cuda_of(s);
    p->which = which;
    const enum mcs_status st = is_conv ? plan_conv(s, p) : plan_linear(s, p);
    if (st == MCS_OK)
        *made = &p->peer;
    else
        peer_free(&p->peer);
    return st;
}

static enum mcs_status peer_run(void *made)
{
    struct cuda_peer *p = made;
    const struct k_matmul *a = &p->matmul;
    if (p->is_conv) return mcs_dnn_run(p->c, p->dnn, p->first, p->second, p->result, p->workspace);
    if (p->which == LIBRARY) {
        const struct blas_matmul b = {.a = a->a, .b = a->b, .c = a->y};
        return mcs_blas_run(p->c, p->blas, &b, p->workspace);
    }
    return MCS_CUDA_STATUS(k_matmul_run(a, p->c->compute));
}

const struct measure *mcs_cuda_measure(void)
{
    static struct measure m = {
        .time = measure_time, .copy = measure_copy, .peer_new = peer_new, .peer_run = peer_run, .peer_free = peer_free};
    if (&cudasim_work) m.counts = measure_counts;
    return &m;
}
