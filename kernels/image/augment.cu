/* Augmentation in three launches: spatial sampling (rotation, scaling) with noise; intensity transforms, one block per
 * channel, since most need sums over the whole channel; mirroring. Labels are mirrored as they are sampled. */
#include "kernels/common/chunks.cuh"
#include "kernels/common/philox.cuh"
#include "kernels/image/augmentation.h"

constexpr int THREADS = 256, PLANE_THREADS = 512, MAX_RADIUS = 8;

/* ---- spatial ---- */

/* The four pixels around a position: index and bilinear weight of each. */
struct corners {
    int64_t at[4]; /* -1: outside */
    float weight[4];
};
static DEV_INLINE struct corners corners_at(double y, double x, int height, int width)
{
    struct corners c;
    const double fy = floor(y), fx = floor(x);
    const float ay = (float)(y - fy), ax = (float)(x - fx);
    const float w[4] = {(1 - ay) * (1 - ax), (1 - ay) * ax, ay * (1 - ax), ay * ax};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const double py = fy + (i >> 1), px = fx + (i & 1);
        const bool inside = py >= 0 && px >= 0 && py < height && px < width;
        c.at[i] = inside ? (int64_t)py * width + (int64_t)px : -1;
        c.weight[i] = w[i];
    }
    return c;
}

/* Label with the largest total weight among the four; the smallest label on a tie. */
static DEV_INLINE int32_t vote(const int32_t *label, const struct corners &c)
{
    int32_t l[4];
#pragma unroll
    for (int i = 0; i < 4; i++) l[i] = c.at[i] < 0 ? -1 : label[c.at[i]];
    if (l[0] == l[1] && l[1] == l[2] && l[2] == l[3]) return l[0];
    int32_t best = l[0];
    float best_weight = -1;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float w = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) w += l[j] == l[i] ? c.weight[j] : 0;
        if (w > best_weight || (w == best_weight && l[i] < best)) best_weight = w, best = l[i];
    }
    return best;
}

/* Element e of mcs_rng_fill_normal. */
static DEV_INLINE float noise_at(const struct augment_draw &p, int64_t e)
{
    const float4 v =
        philox_normal4(philox_key_of(p.noise_seed, p.noise_site), (uint32_t)(e >> 2), p.noise_sample, p.noise_step);
    const int k = (int)(e & 3);
    return k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w;
}

/* image (n, height, width, channels): sampled, with noise. Labels are written at the mirrored position. */
static __global__ void __launch_bounds__(THREADS) augment_spatial(struct k_augment a, float *image)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= a.height * a.width) return;
    const struct augment_draw &p = a.samples[blockIdx.y];
    const int y = i / a.width, x = i % a.width;
    const float *src = a.src + (int64_t)blockIdx.y * a.src_height * a.src_width * a.channels;
    const int32_t *labels = a.src_label + (int64_t)blockIdx.y * a.src_height * a.src_width;
    struct corners c;
    if (p.moves) {
        const double dy = y - 0.5 * (a.height - 1), dx = x - 0.5 * (a.width - 1);
        c = corners_at(0.5 * (a.src_height - 1) + p.matrix[0][0] * dy + p.matrix[0][1] * dx,
                       0.5 * (a.src_width - 1) + p.matrix[1][0] * dy + p.matrix[1][1] * dx, a.src_height, a.src_width);
    } else {
        const int sy = y + a.src_height / 2 - a.height / 2, sx = x + a.src_width / 2 - a.width / 2;
        c.at[0] = (int64_t)sy * a.src_width + sx;
        c.at[1] = c.at[2] = c.at[3] = c.at[0];
        c.weight[0] = 1;
        c.weight[1] = c.weight[2] = c.weight[3] = 0;
    }
    const int32_t l = vote(labels, c);
    const int ty = p.flip_rows ? a.height - 1 - y : y, tx = p.flip_columns ? a.width - 1 - x : x;
    a.label[((int64_t)blockIdx.y * a.height + ty) * a.width + tx] = l < 0 ? 0 : l;
    for (int k = 0; k < a.channels; k++) {
        float v = 0;
        if (p.moves) {
#pragma unroll
            for (int j = 0; j < 4; j++)
                if (c.at[j] >= 0) v += c.weight[j] * src[c.at[j] * a.channels + k];
        } else {
            v = src[c.at[0] * a.channels + k];
        }
        const int64_t e = (int64_t)i * a.channels + k;
        if (p.noise != 0) v += p.noise * noise_at(p, e);
        image[(int64_t)blockIdx.y * a.height * a.width * a.channels + e] = v;
    }
}

/* ---- intensities: one channel x (height, width), `stride` floats from pixel to pixel ---- */

struct plane {
    float *x;
    int height, width, stride;
};

struct moments {
    double mean, sd;
    float low, high;
};
static DEV_INLINE struct moments moments_of(struct plane p)
{
    const int64_t n = (int64_t)p.height * p.width;
    double sum = 0, squares = 0;
    float negative_low = -INFINITY, high = -INFINITY;
    for (int64_t i = threadIdx.x; i < n; i += PLANE_THREADS) {
        const float v = p.x[i * p.stride];
        sum += v;
        negative_low = fmaxf(negative_low, -v);
        high = fmaxf(high, v);
    }
    struct moments m;
    m.mean = block_sum<PLANE_THREADS>(sum) / (double)n;
    for (int64_t i = threadIdx.x; i < n; i += PLANE_THREADS) {
        const double e = (double)p.x[i * p.stride] - m.mean;
        squares += e * e;
    }
    m.sd = sqrt(block_sum<PLANE_THREADS>(squares) / (double)n);
    m.low = -block_max<PLANE_THREADS>(negative_low);
    m.high = block_max<PLANE_THREADS>(high);
    return m;
}

/* Index i reflected at the ends without repeating them: ... 2 1 | 0 1 2 ... n-1 | n-2 ... */
static DEV_INLINE int reflect(int i, int n)
{
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

/* to = src convolved with a Gaussian along an axis of `length` pixels that are `step` pixels apart. Consecutive pixels
 * are from_stride (src) and to_stride (to) floats apart; n pixels in all. Called by the whole block. */
static DEV_INLINE void blur_axis(const float *src, int from_stride, float *to, int to_stride, int64_t n, int length,
                                 int step, double sigma)
{
    SHARED_ARRAY(double, v, [2 * MAX_RADIUS + 1]);
    SHARED_ARRAY(float, w, [2 * MAX_RADIUS + 1]);
    const int wanted = (int)ceil(3 * sigma), radius = wanted < MAX_RADIUS ? wanted : MAX_RADIUS, me = (int)threadIdx.x;
    if (me <= 2 * radius) v[me] = exp(-0.5 * (me - radius) * (me - radius) / (sigma * sigma));
    DEV_SYNC();
    if (me <= 2 * radius) {
        double sum = 0;
        for (int i = 0; i <= 2 * radius; i++) sum += v[i];
        w[me] = (float)(v[me] / sum);
    }
    DEV_SYNC();
    for (int64_t i = me; i < n; i += PLANE_THREADS) {
        const int at = (int)((unsigned)i / (unsigned)step % (unsigned)length);
        const int64_t line = i - (int64_t)at * step;
        float sum = 0;
        for (int k = 0; k <= 2 * radius; k++)
            sum += w[k] * src[(line + (int64_t)reflect(at + k - radius, length) * step) * from_stride];
        to[i * to_stride] = sum;
    }
}

static DEV_INLINE void blur(struct plane p, double sigma_y, double sigma_x, float *scratch)
{
    const int64_t n = (int64_t)p.height * p.width;
    blur_axis(p.x, p.stride, scratch, 1, n, p.height, p.width, sigma_y);
    blur_axis(scratch, 1, p.x, p.stride, n, p.width, 1, sigma_x);
}

static DEV_INLINE void contrast(struct plane p, double factor)
{
    const struct moments m = moments_of(p);
    const float f = (float)factor, mean = (float)m.mean;
    for (int64_t i = threadIdx.x; i < (int64_t)p.height * p.width; i += PLANE_THREADS) {
        const float v = (p.x[i * p.stride] - mean) * f + mean;
        p.x[i * p.stride] = v < m.low ? m.low : v > m.high ? m.high : v;
    }
}

/* Linear resize from n to size values: the two source indices of output i; returns the weight of the second. */
static DEV_INLINE float neighbours(int i, int n, int size, int *first, int *second)
{
    const double at = fmax((i + 0.5) * n / size - 0.5, 0.0);
    *first = (int)at < n ? (int)at : n - 1;
    *second = *first + 1 < n ? *first + 1 : *first;
    return (float)(at - *first);
}

static DEV_INLINE void lowres(struct plane p, double zoom, float *scratch)
{
    const int h = (int)fmax(1.0, rint(zoom * p.height)), w = (int)fmax(1.0, rint(zoom * p.width));
    DEV_SYNC(); /* pixels of other threads are read next, and scratch may still be in use */
    for (int64_t i = threadIdx.x; i < (int64_t)h * w; i += PLANE_THREADS) {
        const int y = (int)((unsigned)i / (unsigned)w), x = (int)i - y * w;
        const int64_t sy = (int64_t)((y + 0.5) * p.height / h), sx = (int64_t)((x + 0.5) * p.width / w);
        scratch[i] = p.x[(sy * p.width + sx) * p.stride];
    }
    DEV_SYNC();
    for (int64_t i = threadIdx.x; i < (int64_t)p.height * p.width; i += PLANE_THREADS) {
        int y0, y1, x0, x1;
        const int y = (int)((unsigned)i / (unsigned)p.width), x = (int)i - y * p.width;
        const float ay = neighbours(y, h, p.height, &y0, &y1), ax = neighbours(x, w, p.width, &x0, &x1);
        const float *a = scratch + (int64_t)y0 * w, *b = scratch + (int64_t)y1 * w;
        const float top = a[x0] + ax * (a[x1] - a[x0]), bottom = b[x0] + ax * (b[x1] - b[x0]);
        p.x[i * p.stride] = top + ay * (bottom - top);
    }
}

/* Gamma correction that keeps mean and standard deviation; inverted: of -x. */
static DEV_INLINE void gamma_correct(struct plane p, double exponent, int inverted)
{
    const int64_t n = (int64_t)p.height * p.width;
    const float sign = inverted ? -1 : 1, e = (float)exponent;
    const struct moments m = moments_of(p);
    const float low = inverted ? -m.high : m.low, range = fmaxf(m.high - m.low, 1e-7f);
    for (int64_t i = threadIdx.x; i < n; i += PLANE_THREADS) {
        float *v = &p.x[i * p.stride];
        *v = powf((sign * *v - low) / range, e) * range + low;
    }
    const struct moments now = moments_of(p);
    const double gain = m.sd / fmax(now.sd, 1e-8);
    for (int64_t i = threadIdx.x; i < n; i += PLANE_THREADS) {
        float *v = &p.x[i * p.stride];
        *v = (float)(((double)*v - now.mean) * gain * (double)sign + m.mean);
    }
}

/* Block (channel, sample). scratch (n, channels, height width). In every transform thread i % PLANE_THREADS writes
 * pixel i, so only transforms that read other threads' pixels need a barrier. */
static __global__ void __launch_bounds__(PLANE_THREADS)
    augment_intensities(struct k_augment a, float *image, float *scratch)
{
    const int k = (int)blockIdx.x;
    const struct augment_channel &c = a.samples[blockIdx.y].channel[k];
    const int64_t n = (int64_t)a.height * a.width;
    const struct plane p = {image + (int64_t)blockIdx.y * n * a.channels + k, a.height, a.width, a.channels};
    scratch += ((int64_t)blockIdx.y * a.channels + k) * n;
    if (c.blur_y > 0) blur(p, c.blur_y, c.blur_x, scratch);
    if (c.brightness != 0)
        for (int64_t i = threadIdx.x; i < n; i += PLANE_THREADS) p.x[i * p.stride] *= c.brightness;
    if (c.contrast != 0) contrast(p, c.contrast);
    if (c.zoom > 0) lowres(p, c.zoom, scratch);
    if (c.gamma_inverted != 0) gamma_correct(p, c.gamma_inverted, 1);
    if (c.gamma != 0) gamma_correct(p, c.gamma, 0);
}

/* ---- mirroring ---- */

template <class T> __global__ void __launch_bounds__(THREADS) augment_mirror(struct k_augment a, const float *image)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= a.height * a.width * a.channels) return;
    const struct augment_draw &p = a.samples[blockIdx.y];
    const int k = i % a.channels, x = i / a.channels % a.width, y = i / a.channels / a.width;
    const int sy = p.flip_rows ? a.height - 1 - y : y, sx = p.flip_columns ? a.width - 1 - x : x;
    const int64_t first = (int64_t)blockIdx.y * a.height * a.width * a.channels;
    dev_store((T *)a.dst + first + i, image[first + ((int64_t)sy * a.width + sx) * a.channels + k]);
}

static int64_t values_of(const struct k_augment *a)
{
    return (int64_t)a->height * a->width * a->channels;
}

size_t k_augment_bytes(const struct k_augment *a)
{
    return 2 * (size_t)a->n * (size_t)values_of(a) * sizeof(float);
}

cudaError_t k_augment_run(const struct k_augment *a, cudaStream_t s)
{
    const int64_t values = values_of(a);
    const unsigned n = (unsigned)a->n;
    float *image = (float *)a->workspace, *scratch = image + n * values;
    if (a->channels > AUGMENT_MAX_CHANNELS) return cudaErrorInvalidValue;
    if (!n || !values) return cudaSuccess;
    cudaError_t e = dev_launch(augment_spatial, dim3(blocks_of((int64_t)a->height * a->width, THREADS), n), THREADS, 0,
                               s, *a, image);
    if (e == cudaSuccess)
        e = dev_launch(augment_intensities, dim3((unsigned)a->channels, n), PLANE_THREADS, 0, s, *a, image, scratch);
    if (e != cudaSuccess) return e;
    const dim3 grid(blocks_of(values, THREADS), n);
    return a->dtype == K_BF16 ? dev_launch(augment_mirror<__nv_bfloat16>, grid, THREADS, 0, s, *a, (const float *)image)
                              : dev_launch(augment_mirror<float>, grid, THREADS, 0, s, *a, (const float *)image);
}

/* ---- targets of deep supervision ---- */

static __global__ void __launch_bounds__(THREADS) augment_target(struct k_target a, int count)
{
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x);
    if (i >= count) return;
    const int x = i % a.target_width, line = i / a.target_width, y = line % a.target_height, n = line / a.target_height;
    const int sy = (int)((y + 0.5) * a.height / a.target_height), sx = (int)((x + 0.5) * a.width / a.target_width);
    a.target[i] = a.label[((int64_t)n * a.height + sy) * a.width + sx];
}

cudaError_t k_target_run(const struct k_target *a, cudaStream_t s)
{
    const int count = a->n * a->target_height * a->target_width;
    return count ? dev_launch(augment_target, blocks_of(count, THREADS), THREADS, 0, s, *a, count) : cudaSuccess;
}
