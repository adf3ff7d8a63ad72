/* Thresholds of a map from its histogram: range, counts, the best of 255 cuts, mask. The cut of the released code's
 * 2-means comes from the host. Counts and the sums of 2-means are
 * integers, so the order of atomics does not matter. The cut is found by the same operations in the same order as on
 * the CPU. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/masks.h"
#include "kernels/image/nearest.cuh"

constexpr int RELEASE_SIDE = 256;

struct range_part {
    float negative_low, high;
    uint32_t bad;
};
/* At the start of the workspace; the partial ranges follow. */
struct bins {
    float edge[K_BINS + 1];
    uint32_t count[K_BINS];
    unsigned long long sum[K_BINS]; /* sums of (value - low) scale, rounded to integers */
    double scale;                   /* a power of two that maps the range to 2^31 .. 2^32 */
};

static DEV_INLINE void reduce_range(struct range_part p, struct range_part *to)
{
    p.negative_low = block_max<CHUNK_THREADS>(p.negative_low);
    p.high = block_max<CHUNK_THREADS>(p.high);
    p.bad = block_sum<CHUNK_THREADS>(p.bad);
    if (threadIdx.x == 0) *to = p;
}

static __global__ void __launch_bounds__(CHUNK_THREADS)
    threshold_range_parts(const float *map, int64_t n, struct range_part *part)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK, last = first + CHUNK < n ? first + CHUNK : n;
    struct range_part p = {-INFINITY, -INFINITY, 0};
    for (int64_t i = first + threadIdx.x; i < last; i += CHUNK_THREADS) {
        const float v = map[i];
        if (!(v - v == 0)) {
            p.bad++;
            continue;
        }
        p.negative_low = fmaxf(p.negative_low, -v);
        p.high = fmaxf(p.high, v);
    }
    reduce_range(p, part + blockIdx.x);
}

/* One block: the range, the edges of the bins, counts and sums set to zero. */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    threshold_range(const struct range_part *part, int n, int fixed, float value, struct threshold_result *result,
                    struct bins *b)
{
    struct range_part p = {-INFINITY, -INFINITY, 0};
    SHARED_ARRAY(struct range_part, all, [1]);
    for (int i = (int)threadIdx.x; i < n; i += CHUNK_THREADS) {
        p.negative_low = fmaxf(p.negative_low, part[i].negative_low);
        p.high = fmaxf(p.high, part[i].high);
        p.bad += part[i].bad;
    }
    reduce_range(p, all);
    DEV_SYNC();
    const float low = -all[0].negative_low + 0.0f, high = all[0].high;
    const double range = (double)high - low, step = range / (double)K_BINS;
    for (int k = (int)threadIdx.x; k < K_BINS; k += CHUNK_THREADS) {
        b->edge[k] = (float)(low + k * step);
        b->count[k] = 0;
        b->sum[k] = 0;
    }
    if (threadIdx.x) return;
    b->edge[K_BINS] = high;
    b->scale = range > 0 ? exp2(31 - floor(log2(range))) : 1;
    *result = {low, high, fixed ? value : low, 0, !fixed && !(low < high), 0, all[0].bad};
}

/* Bin of v. The quotient alone may be off by one next to an edge, so it is corrected by the edges. */
static DEV_INLINE int bin_of(const float *edge, float low, float high, float v)
{
    int k = (int)(((double)v - low) / ((double)high - low) * (double)K_BINS);
    k = k < 0 ? 0 : k > K_BINS - 1 ? K_BINS - 1 : k; /* negative for values that are not finite */
    if (k > 0 && v < edge[k]) k--;
    if (k < K_BINS - 1 && v >= edge[k + 1]) k++;
    return k;
}

static DEV_INLINE int byte_of(float v)
{
    v = rintf(v * 255.0f);
    return v >= 255.0f ? 255 : v > 0.0f ? (int)v : 0;
}

/* The released code's reduced map: its pixel (y, x). */
static DEV_INLINE int small_byte(const float *map, int height, int width, int y, int x)
{
    return byte_of(
        map[(int64_t)nearest_index(y, height, RELEASE_SIDE) * width + nearest_index(x, width, RELEASE_SIDE)]);
}

template <int KIND>
__global__ void __launch_bounds__(CHUNK_THREADS) threshold_histogram(struct k_threshold a, int64_t n, struct bins *b)
{
    SHARED_ARRAY(float, edge, [K_BINS + 1]);
    SHARED_ARRAY(uint32_t, count, [K_BINS]);
    SHARED_ARRAY(unsigned long long, sum, [K_BINS]);
    const int64_t first = (int64_t)blockIdx.x * CHUNK, last = first + CHUNK < n ? first + CHUNK : n;
    const float low = a.result->low, high = a.result->high;
    for (int k = (int)threadIdx.x; k <= K_BINS; k += CHUNK_THREADS) edge[k] = b->edge[k];
    for (int k = (int)threadIdx.x; k < K_BINS; k += CHUNK_THREADS) count[k] = 0, sum[k] = 0;
    DEV_SYNC();
    for (int64_t i = first + threadIdx.x; i < last; i += CHUNK_THREADS) {
        const float v = a.map[i];
        if (!(v >= low && v <= high)) continue; /* not finite */
        const int k = low < high ? bin_of(edge, low, high, v) : 0;
        atomicAdd(&count[k], 1u);
        if constexpr (KIND == THRESHOLD_KMEANS)
            atomicAdd(&sum[k], (unsigned long long)rint(((double)v - low) * b->scale));
    }
    DEV_SYNC();
    for (int k = (int)threadIdx.x; k < K_BINS; k += CHUNK_THREADS) {
        if (!count[k]) continue;
        atomicAdd(&b->count[k], count[k]);
        if constexpr (KIND == THRESHOLD_KMEANS) atomicAdd(&b->sum[k], sum[k]);
    }
}

static cudaError_t run_histogram(const struct k_threshold *a, int64_t n, struct bins *b, cudaStream_t s)
{
    if (a->kind == THRESHOLD_KMEANS)
        return dev_launch(threshold_histogram<THRESHOLD_KMEANS>, chunks_of(n), CHUNK_THREADS, 0, s, *a, n, b);
    return dev_launch(threshold_histogram<THRESHOLD_OTSU>, chunks_of(n), CHUNK_THREADS, 0, s, *a, n, b);
}

/* The cut (last bin of the lower class, 0 .. K_BINS-2) with the largest between-class variance n0 n1 (m0 - m1)^2, the
 * first on a tie. One block of K_BINS threads. */
static __global__ void __launch_bounds__(K_BINS) threshold_cut(struct k_threshold a, const struct bins *b)
{
    SHARED_ARRAY(double,
                 sum, [K_BINS]); /* count times the representative value of the bin; then its inclusive prefix sum */
    SHARED_ARRAY(double, number, [K_BINS]);
    SHARED_ARRAY(double, variance, [K_BINS]);
    const int k = (int)threadIdx.x;
    struct threshold_result *r = a.result;
    const uint32_t count = b->count[k];
    const float low = r->low;
    if (a.counts) a.counts[k] = count;
    if (a.kind != THRESHOLD_OTSU && a.kind != THRESHOLD_KMEANS) return; /* uniform over the block */
    number[k] = count;
    if (a.kind == THRESHOLD_OTSU)
        sum[k] = (double)count * (0.5 * ((double)b->edge[k] + b->edge[k + 1]) - low);
    else
        sum[k] = (double)b->sum[k] / b->scale;
    DEV_SYNC();
    if (k == 0)
        for (int i = 1; i < K_BINS; i++) {
            sum[i] += sum[i - 1];
            number[i] += number[i - 1];
        }
    DEV_SYNC();
    const double n0 = number[k], n1 = number[K_BINS - 1] - n0, m0 = sum[k] / n0, m1 = (sum[K_BINS - 1] - sum[k]) / n1;
    variance[k] = n0 == 0 || n1 == 0 ? -2 : n0 * n1 * (m0 - m1) * (m0 - m1);
    DEV_SYNC();
    if (k) return;
    int best = 0;
    double best_variance = -1;
    for (int i = 0; i < K_BINS - 1; i++)
        if (variance[i] > best_variance) best_variance = variance[i], best = i;
    if (r->constant) return;
    r->cut = best;
    const double below = sum[best] / number[best],
                 above = (sum[K_BINS - 1] - sum[best]) / (number[K_BINS - 1] - number[best]);
    if (a.kind == THRESHOLD_OTSU)
        r->threshold = (float)(0.5 * ((double)b->edge[best] + b->edge[best + 1]));
    else
        r->threshold = (float)(low + 0.5 * (below + above));
}

static DEV_INLINE bool inside_of(const struct k_threshold &a, const struct threshold_result &r, const float *edge,
                                 int64_t i)
{
    const float v = a.map[i];
    if (r.constant) return false;
    switch (a.kind) {
    case THRESHOLD_KMEANS: return bin_of(edge, r.low, r.high, v) > r.cut;
    case THRESHOLD_KMEANS_RELEASE: {
        const int y = (int)(i / a.width), x = (int)(i % a.width);
        return (float)small_byte(a.map, a.height, a.width, nearest_index(y, RELEASE_SIDE, a.height),
                                 nearest_index(x, RELEASE_SIDE, a.width)) > a.value;
    }
    case THRESHOLD_FIXED_RELEASE: return byte_of(v) / 255.0 > (double)a.value;
    default: return v > r.threshold;
    }
}

static __global__ void __launch_bounds__(CHUNK_THREADS) threshold_mask(struct k_threshold a, int64_t n, struct bins *b)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK;
    struct threshold_result r;
    r.low = a.result->low, r.high = a.result->high, r.threshold = a.result->threshold;
    r.cut = a.result->cut, r.constant = a.result->constant;
    unsigned set = 0;
    for (int64_t i = first + threadIdx.x; i < first + CHUNK && i < n; i += CHUNK_THREADS) {
        const bool inside = inside_of(a, r, b->edge, i);
        a.mask[i] = inside;
        set += inside;
    }
    set = block_sum<CHUNK_THREADS>(set);
    if (threadIdx.x == 0 && set) atomicAdd(&a.result->set, set);
}

size_t k_threshold_bytes(int height, int width)
{
    return sizeof(struct bins) + chunks_of((int64_t)height * width) * sizeof(struct range_part);
}

cudaError_t k_threshold_run(const struct k_threshold *a, cudaStream_t s)
{
    const int64_t n = (int64_t)a->height * a->width;
    const int fixed = a->kind != THRESHOLD_OTSU && a->kind != THRESHOLD_KMEANS;
    const float value = a->kind == THRESHOLD_KMEANS_RELEASE ? a->value / 255.0f : a->value;
    struct bins *b = (struct bins *)a->workspace;
    struct range_part *part = (struct range_part *)(b + 1);
    if (!n) return cudaSuccess;
    cudaError_t e = dev_launch(threshold_range_parts, chunks_of(n), CHUNK_THREADS, 0, s, a->map, n, part);
    if (e == cudaSuccess)
        e = dev_launch(threshold_range, 1, CHUNK_THREADS, 0, s, (const struct range_part *)part, (int)chunks_of(n),
                       fixed, value, a->result, b);
    if (e == cudaSuccess && (!fixed || a->counts)) e = run_histogram(a, n, b, s);
    if (e == cudaSuccess && (!fixed || a->counts))
        e = dev_launch(threshold_cut, 1, K_BINS, 0, s, *a, (const struct bins *)b);
    return e != cudaSuccess ? e : dev_launch(threshold_mask, chunks_of(n), CHUNK_THREADS, 0, s, *a, n, b);
}
