/* Optimizer updates and gradient norms over ranges of flat arrays. Ranges are passed as launch arguments, AT_ONCE at a
 * time, and each is divided into blocks by its length alone. Ranges aligned to four floats are processed by fours. */
#include "kernels/common/optimizers.h"
#include "kernels/common/rows.cuh"
#include "kernels/common/sums.cuh"

constexpr int AT_ONCE = 128, BLOCK = 8192; /* ranges per launch, floats per block */
constexpr int PARTS = K_SQUARES_BYTES / (int)sizeof(double);

struct ranges {
    int n;
    int begin[AT_ONCE]; /* the range's first block of this launch */
    float decay[AT_ONCE];
    int64_t first[AT_ONCE], count[AT_ONCE];
};
/* Floats [first, first + n) of a block, and their weight decay. */
struct part {
    int64_t first;
    int n;
    float decay;
};

static DEV_INLINE part part_of(const ranges &r, int block)
{
    int low = 0, high = r.n; /* begin[low] <= block < begin[high] */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (block >= r.begin[middle])
            low = middle;
        else
            high = middle;
    }
    const int64_t at = (int64_t)(block - r.begin[low]) * BLOCK, left = r.count[low] - at;
    return {r.first[low] + at, (int)(left < BLOCK ? left : BLOCK), r.decay[low]};
}

/* sums[i] += squares of blocks i, i + gridDim, ... of `blocks`; sums from `parts` on are not initialised yet and are
 * set. */
static __global__ void __launch_bounds__(SUM_THREADS)
    squares_parts(const float *x, const ranges r, int blocks, int parts, double *sums)
{
    double s = 0;
    for (int b = (int)blockIdx.x; b < blocks; b += (int)gridDim.x) {
        const part p = part_of(r, b);
        const int fours = p.first % 4 == 0 && ((size_t)x & 15) == 0 ? p.n / 4 * 4 : 0;
        const float *at = x + p.first;
        for (int i = (int)threadIdx.x * 4; i < fours; i += SUM_THREADS * 4) {
            const float4 v = dev_load4(at + i);
            s += ((double)v.x * v.x + (double)v.y * v.y) + ((double)v.z * v.z + (double)v.w * v.w);
        }
        for (int i = fours + (int)threadIdx.x; i < p.n; i += SUM_THREADS) s += (double)at[i] * at[i];
    }
    s = block_sum<SUM_THREADS>(s);
    if (threadIdx.x == 0) sums[blockIdx.x] = (int)blockIdx.x < parts ? sums[blockIdx.x] + s : s;
}

/* state->squares = sum of sums (n); with_norm: also norm, clipping scale and finite. One block. */
static __global__ void __launch_bounds__(SUM_THREADS)
    squares_sum(const double *sums, int n, int with_norm, float clip_norm, struct k_optim_state *state)
{
    double s = 0;
    for (int i = (int)threadIdx.x; i < n; i += SUM_THREADS) s += sums[i];
    s = block_sum<SUM_THREADS>(s);
    if (threadIdx.x > 0) return;
    state->squares = s;
    if (!with_norm) return;
    const double norm = sqrt(s), clip = clip_norm > 0 ? clip_norm / (norm + 1e-6) : 1; /* 1e-6 as in torch */
    state->norm = norm;
    state->scale = clip < 1 ? (float)clip : 1.0f;
    state->finite = isfinite(norm) ? 1 : 0;
}

static __global__ void optim_set(struct k_optim_state value, struct k_optim_state *state)
{
    *state = value;
}

struct rates {
    float keep, step, rbias, eps, scale; /* as in engine/cpu/optim_cpu.c */
    float beta2, one1, one2, momentum, lr, decay;
};

struct adamw {
    static constexpr bool SECOND = true;
    static DEV_INLINE void update(const rates &a, float g, float &w, float &m, float &v)
    {
        const float e = g * a.scale;
        m += a.one1 * (e - m);
        v = a.beta2 * v + a.one2 * e * e;
        w = a.keep * w - a.step * m / (sqrtf(v) * a.rbias + a.eps);
    }
};
/* SGD with Nesterov momentum */
struct nesterov {
    static constexpr bool SECOND = false;
    static DEV_INLINE void update(const rates &a, float g, float &w, float &m, float &)
    {
        const float e = g * a.scale + a.decay * w;
        m = a.momentum * m + e;
        w -= a.lr * (e + a.momentum * m);
    }
};

template <class F, int V> static DEV_INLINE void update_at(const rates &a, const float *g, float *w, float *m, float *v)
{
    const pack<V> pg = pack_load<V>(g);
    pack<V> pw = pack_load<V>(w), pm = pack_load<V>(m), pv = {};
    if constexpr (F::SECOND) pv = pack_load<V>(v);
    for (int j = 0; j < V; j++) F::update(a, pg.v[j], pw.v[j], pm.v[j], pv.v[j]);
    pack_store<V>(w, pw);
    pack_store<V>(m, pm);
    if constexpr (F::SECOND) pack_store<V>(v, pv);
}

/* Updates w, m (and v) by F; a step whose gradient norm is not finite is skipped. */
template <class F>
__global__ void __launch_bounds__(SUM_THREADS) optim_update(float *w, float *m, float *v, const float *g, rates a,
                                                            const ranges r, const struct k_optim_state *state)
{
    if (!state->finite) return;
    const part p = part_of(r, (int)blockIdx.x);
    const size_t all = (size_t)w | (size_t)m | (size_t)g | (F::SECOND ? (size_t)v : 0);
    const int fours = p.first % 4 == 0 && (all & 15) == 0 ? p.n / 4 * 4 : 0;
    a.scale = state->scale;
    a.step = state->step;
    a.rbias = state->rbias;
    a.lr = (float)state->lr;
    a.decay = p.decay;
    a.keep = (float)(1 - state->lr * (double)p.decay);
    for (int i = (int)threadIdx.x * 4; i < fours; i += SUM_THREADS * 4) {
        const int64_t o = p.first + i;
        update_at<F, 4>(a, g + o, w + o, m + o, F::SECOND ? v + o : NULL);
    }
    for (int i = fours + (int)threadIdx.x; i < p.n; i += SUM_THREADS) {
        const int64_t o = p.first + i;
        update_at<F, 1>(a, g + o, w + o, m + o, F::SECOND ? v + o : NULL);
    }
}

/* Collects the next ranges for a launch, from *next on, skipping empty ones; returns their number of blocks. */
static unsigned next_ranges(const struct k_range *from, int n, int *next, ranges *r)
{
    int64_t blocks = 0;
    for (r->n = 0; *next < n && r->n < AT_ONCE; ++*next) {
        const struct k_range *k = from + *next;
        if (k->n <= 0) continue;
        r->begin[r->n] = (int)blocks;
        r->decay[r->n] = k->decay;
        r->first[r->n] = k->first;
        r->count[r->n++] = k->n;
        blocks += div_up(k->n, BLOCK);
    }
    return (unsigned)blocks;
}

static cudaError_t sum(const float *x, const struct k_range *from, int n, int with_norm, float clip_norm,
                       void *workspace, struct k_optim_state *state, cudaStream_t s)
{
    double *sums = (double *)workspace;
    int parts = 0;
    ranges r;
    for (int next = 0; next < n;) {
        const unsigned blocks = next_ranges(from, n, &next, &r), grid = blocks < PARTS ? blocks : PARTS;
        if (!blocks) continue;
        const cudaError_t e = dev_launch(squares_parts, grid, SUM_THREADS, 0, s, x, r, (int)blocks, parts, sums);
        if (e != cudaSuccess) return e;
        if ((int)grid > parts) parts = (int)grid;
    }
    return dev_launch(squares_sum, 1, SUM_THREADS, 0, s, sums, parts, with_norm, clip_norm, state);
}

cudaError_t k_optim_set(struct k_optim_state value, struct k_optim_state *state, cudaStream_t s)
{
    return dev_launch(optim_set, 1, 1, 0, s, value, state);
}

cudaError_t k_sum_squares(const float *x, const struct k_range *from, int n, void *workspace,
                          struct k_optim_state *state, cudaStream_t s)
{
    return sum(x, from, n, 0, 0, workspace, state, s);
}
cudaError_t k_grad_norm(const float *g, const struct k_range *from, int n, float clip_norm, void *workspace,
                        struct k_optim_state *state, cudaStream_t s)
{
    return sum(g, from, n, 1, clip_norm, workspace, state, s);
}

template <class F> static cudaError_t update(const struct k_optim *a, cudaStream_t s)
{
    rates v = {};
    v.eps = a->eps;
    v.beta2 = a->beta2;
    v.one1 = a->one1;
    v.one2 = a->one2;
    v.momentum = a->momentum;
    ranges r;
    for (int next = 0; next < a->n_ranges;) {
        const unsigned blocks = next_ranges(a->ranges, a->n_ranges, &next, &r);
        if (!blocks) continue;
        const cudaError_t e =
            dev_launch((optim_update<F>), blocks, SUM_THREADS, 0, s, a->w, a->m, a->v, a->g, v, r, a->state);
        if (e != cudaSuccess) return e;
    }
    return cudaSuccess;
}
cudaError_t k_adamw(const struct k_optim *a, cudaStream_t s)
{
    return update<adamw>(a, s);
}
cudaError_t k_sgd_nesterov(const struct k_optim *a, cudaStream_t s)
{
    return update<nesterov>(a, s);
}
