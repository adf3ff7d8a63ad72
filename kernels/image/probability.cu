/* Ensemble probabilities, and entropy, labels and sums from them: one thread per pixel, sums by chunks. */
#include "kernels/common/chunks.cuh"
#include "kernels/image/inference.h"

constexpr int THREADS = 256;

template <class T> __global__ void __launch_bounds__(THREADS) softmax_mean(struct k_softmax_mean a)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.pixels) return;
    const T *x = (const T *)a.logits + ((int64_t)blockIdx.y * a.pixels + i) * a.classes;
    float *prob = a.prob + (int64_t)blockIdx.y * a.classes * a.pixels + i;
    float top = dev_load(x), sum = 0;
    for (int k = 1; k < a.classes; k++) {
        const float v = dev_load(x + k);
        top = v > top ? v : top;
    }
    for (int k = 0; k < a.classes; k++) sum += expf(dev_load(x + k) - top);
    for (int k = 0; k < a.classes; k++)
        dev_blend(prob + k * a.pixels, a.beta, a.share * (expf(dev_load(x + k) - top) / sum));
}

cudaError_t k_softmax_mean_run(const struct k_softmax_mean *a, cudaStream_t s)
{
    if (!a->n || !a->pixels || !a->classes) return cudaSuccess;
    const dim3 grid(blocks_of(a->pixels, THREADS), (unsigned)a->n);
    return a->dtype == K_BF16 ? dev_launch(softmax_mean<__nv_bfloat16>, grid, THREADS, 0, s, *a)
                              : dev_launch(softmax_mean<float>, grid, THREADS, 0, s, *a);
}

static DEV_INLINE double entropy_term(double p)
{
    return p > 0.0 && p < 1.0 ? -p * log2(p) : 0.0;
}

/* In double, as on the CPU: in float, 1 - p loses all digits of a small p. */
static __global__ void __launch_bounds__(THREADS) entropy_bits(struct k_entropy a)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.n) return;
    double sum = 0.0;
    bool good = true;
    for (int k = 0; k < a.classes; k++) {
        const float p = a.prob[k * a.n + i];
        good = good && p >= -1e-4f && p <= 1.0001f;
        sum += entropy_term(p);
        if (a.classes == 1) sum += entropy_term(1.0 - p);
    }
    a.bits[i] = (float)sum;
    if (!good) atomicOr(a.bad, 1u);
}

cudaError_t k_entropy_run(const struct k_entropy *a, cudaStream_t s)
{
    if (!a->n || !a->classes) return cudaSuccess;
    return dev_launch(entropy_bits, blocks_of(a->n, THREADS), THREADS, 0, s, *a);
}

static __global__ void __launch_bounds__(THREADS) labels_of(struct k_labels a)
{
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.n) return;
    int best = 0;
    float most = a.prob[i];
    for (int k = 1; k < a.classes; k++) {
        const float p = a.prob[k * a.n + i];
        if (p > most) {
            most = p;
            best = k;
        }
    }
    if (a.threshold > 0 && a.classes == 2) best = (double)a.prob[a.n + i] > a.threshold;
    a.labels[i] = (uint8_t)best;
}

cudaError_t k_labels_run(const struct k_labels *a, cudaStream_t s)
{
    if (!a->n || !a->classes) return cudaSuccess;
    return dev_launch(labels_of, blocks_of(a->n, THREADS), THREADS, 0, s, *a);
}

/* ---- sums over an image ---- */

static DEV_INLINE bool touches(const uint8_t *mask, int x, int y, int width, int height)
{
    for (int v = y ? y - 1 : 0; v <= y + 1 && v < height; v++)
        for (int u = x ? x - 1 : 0; u <= x + 1 && u < width; u++)
            if (mask[(int64_t)v * width + u]) return true;
    return false;
}

static DEV_INLINE void write_sums(struct k_uncertainty_sums *to, double bits, unsigned long long edge,
                                  unsigned long long area)
{
    bits = block_sum<CHUNK_THREADS>(bits);
    edge = block_sum<CHUNK_THREADS>(edge);
    area = block_sum<CHUNK_THREADS>(area);
    if (threadIdx.x == 0) *to = {bits, edge, area};
}

static __global__ void __launch_bounds__(CHUNK_THREADS)
    uncertainty_parts(const float *bits, const uint8_t *mask, int height, int width, struct k_uncertainty_sums *part)
{
    const int64_t n = (int64_t)height * width, first = (int64_t)blockIdx.x * CHUNK;
    double sum = 0;
    unsigned long long edge = 0, area = 0;
    for (int64_t i = first + threadIdx.x; i < first + CHUNK && i < n; i += CHUNK_THREADS) {
        sum += bits[i];
        if (mask[i])
            area++;
        else
            edge += touches(mask, (int)(i % width), (int)(i / width), width, height);
    }
    write_sums(part + blockIdx.x, sum, edge, area);
}

static __global__ void __launch_bounds__(CHUNK_THREADS)
    uncertainty_sums(const struct k_uncertainty_sums *part, unsigned n, struct k_uncertainty_sums *sums)
{
    double sum = 0;
    unsigned long long edge = 0, area = 0;
    for (unsigned i = threadIdx.x; i < n; i += CHUNK_THREADS) {
        sum += part[i].bits;
        edge += part[i].edge;
        area += part[i].area;
    }
    write_sums(sums, sum, edge, area);
}

size_t k_uncertainty_bytes(int height, int width)
{
    return chunks_of((int64_t)height * width) * sizeof(struct k_uncertainty_sums);
}

cudaError_t k_uncertainty_run(const struct k_uncertainty *a, cudaStream_t s)
{
    const unsigned n = chunks_of((int64_t)a->height * a->width);
    struct k_uncertainty_sums *part = (struct k_uncertainty_sums *)a->workspace;
    if (!n) return cudaSuccess;
    const cudaError_t e =
        dev_launch(uncertainty_parts, n, CHUNK_THREADS, 0, s, a->bits, a->mask, a->height, a->width, part);
    if (e != cudaSuccess) return e;
    return dev_launch(uncertainty_sums, 1, CHUNK_THREADS, 0, s, part, n, a->sums);
}

/* ---- normalised inputs ---- */

static DEV_INLINE double source_at(const uint8_t *bytes, const float *values, int64_t i)
{
    return bytes ? (double)bytes[i] : (double)values[i];
}

/* part (channels, chunks): sums of values or, with `squares`, of squared deviations from stats[2 k]. Block (chunk,
 * channel). */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    zscore_parts(struct k_zscore a, int squares, const double *stats, double *part)
{
    const int64_t first = (int64_t)blockIdx.x * CHUNK;
    const int k = (int)blockIdx.y;
    const double mean = squares ? stats[2 * k] : 0;
    double sum = 0;
    for (int64_t i = first + threadIdx.x; i < first + CHUNK && i < a.n; i += CHUNK_THREADS) {
        const double v = source_at(a.bytes, a.values, i * a.channels + k) - mean;
        sum += squares ? v * v : v;
    }
    sum = block_sum<CHUNK_THREADS>(sum);
    if (threadIdx.x == 0) part[(int64_t)k * gridDim.x + blockIdx.x] = sum;
}

/* stats (channels, 2): mean, 1 / max(deviation, 1e-8). */
static __global__ void __launch_bounds__(CHUNK_THREADS)
    zscore_stats(const double *part, int chunks, int squares, int64_t n, double *stats)
{
    double sum = 0;
    for (int i = (int)threadIdx.x; i < chunks; i += CHUNK_THREADS) sum += part[(int64_t)blockIdx.x * chunks + i];
    sum = block_sum<CHUNK_THREADS>(sum) / (double)n;
    if (threadIdx.x == 0) stats[2 * blockIdx.x + squares] = squares ? 1 / fmax(sqrt(sum), 1e-8) : sum;
}

static __global__ void __launch_bounds__(THREADS) zscore_apply(struct k_zscore a, divisor channels, const double *stats)
{
    const uint32_t i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= a.n * a.channels) return;
    uint32_t pixel = i;
    const uint32_t k = divide_off(pixel, channels);
    const float centre = (float)stats[2 * k], inverse = (float)stats[2 * k + 1];
    a.dst[i] = ((float)source_at(a.bytes, a.values, i) - centre) * inverse;
}

size_t k_zscore_bytes(int64_t n, int channels)
{
    return (size_t)channels * (2 + (size_t)chunks_of(n)) * sizeof(double);
}

cudaError_t k_zscore_run(const struct k_zscore *a, cudaStream_t s)
{
    const unsigned chunks = chunks_of(a->n), channels = (unsigned)a->channels;
    double *stats = (double *)a->workspace, *part = stats + 2 * channels;
    if (!chunks || !channels) return cudaSuccess;
    for (int squares = 0; squares < 2; squares++) {
        cudaError_t e = dev_launch(zscore_parts, dim3(chunks, channels), CHUNK_THREADS, 0, s, *a, squares,
                                   (const double *)stats, part);
        if (e != cudaSuccess) return e;
        e = dev_launch(zscore_stats, channels, CHUNK_THREADS, 0, s, (const double *)part, (int)chunks, squares, a->n,
                       stats);
        if (e != cudaSuccess) return e;
    }
    return dev_launch(zscore_apply, blocks_of(a->n * a->channels, THREADS), THREADS, 0, s, *a, divisor_of(a->channels),
                      (const double *)stats);
}
