#include "engine/image/augment_apply.h"

#include "engine/base/rng.h"

#include <math.h>
#include <string.h>

/* ---- spatial ---- */

static void centre_crop(const struct augment_patch *src, const struct augment_patch *dst)
{
    const int y0 = src->height / 2 - dst->height / 2, x0 = src->width / 2 - dst->width / 2, c = dst->channels;
    for (int y = 0; y < dst->height; y++) {
        const int64_t from = (int64_t)(y + y0) * src->width + x0, to = (int64_t)y * dst->width;
        memcpy(dst->image + to * c, src->image + from * c, (size_t)dst->width * (size_t)c * sizeof(float));
        memcpy(dst->label + to, src->label + from, (size_t)dst->width * sizeof(int32_t));
    }
}

/* The label with the largest total weight among four neighbours; ties go to the smallest label. */
static int32_t vote(const int32_t label[4], const float weight[4])
{
    int32_t best = label[0];
    float most = -1;
    for (int i = 0; i < 4; i++) {
        float w = 0;
        for (int j = 0; j < 4; j++) w += label[j] == label[i] ? weight[j] : 0;
        if (w > most || (w == most && label[i] < best)) most = w, best = label[i];
    }
    return best;
}

static void sample_at(const struct augment_patch *src, double y, double x, float *value, int32_t *label)
{
    const double fy = floor(y), fx = floor(x);
    const float ay = (float)(y - fy), ax = (float)(x - fx);
    const float w[4] = {(1 - ay) * (1 - ax), (1 - ay) * ax, ay * (1 - ax), ay * ax};
    int32_t l[4];
    for (int k = 0; k < src->channels; k++) value[k] = 0;
    for (int i = 0; i < 4; i++) {
        const double py = fy + (i >> 1), px = fx + (i & 1);
        l[i] = -1;
        if (!(py >= 0 && px >= 0 && py < src->height && px < src->width)) continue;
        const int64_t at = (int64_t)py * src->width + (int64_t)px;
        l[i] = src->label[at];
        for (int k = 0; k < src->channels; k++) value[k] += w[i] * src->image[at * src->channels + k];
    }
    *label = l[0] == l[1] && l[1] == l[2] && l[2] == l[3] ? l[0] : vote(l, w);
}

void mcs_augment_spatial(const double matrix[2][2], const struct augment_patch *src, const struct augment_patch *dst)
{
    if (!matrix) {
        centre_crop(src, dst);
        return;
    }
    for (int y = 0; y < dst->height; y++)
        for (int x = 0; x < dst->width; x++) {
            const double dy = y - 0.5 * (dst->height - 1), dx = x - 0.5 * (dst->width - 1);
            const int64_t to = (int64_t)y * dst->width + x;
            sample_at(src, 0.5 * (src->height - 1) + matrix[0][0] * dy + matrix[0][1] * dx,
                      0.5 * (src->width - 1) + matrix[1][0] * dy + matrix[1][1] * dx, dst->image + to * dst->channels,
                      &dst->label[to]);
        }
}

/* ---- intensities ---- */

struct moments {
    double mean, sd;
    float low, high;
};

static struct moments moments_of(struct augment_plane p)
{
    const int64_t n = (int64_t)p.height * p.width;
    struct moments m = {.low = INFINITY, .high = -INFINITY};
    for (int64_t i = 0; i < n; i++) {
        const float v = p.x[i * p.stride];
        m.mean += (double)v;
        m.low = v < m.low ? v : m.low;
        m.high = v > m.high ? v : m.high;
    }
    m.mean /= (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double e = (double)p.x[i * p.stride] - m.mean;
        m.sd += e * e;
    }
    m.sd = sqrt(m.sd / (double)n);
    return m;
}

enum { MAX_RADIUS = 8 };

static int gaussian(double sigma, float w[2 * MAX_RADIUS + 1])
{
    const int wanted = (int)ceil(3 * sigma), radius = wanted < MAX_RADIUS ? wanted : MAX_RADIUS;
    double sum = 0, v[2 * MAX_RADIUS + 1];
    for (int i = -radius; i <= radius; i++) sum += v[i + radius] = exp(-0.5 * i * i / (sigma * sigma));
    for (int i = 0; i <= 2 * radius; i++) w[i] = (float)(v[i] / sum);
    return radius;
}

/* Reflected index: ... 2 1 | 0 1 2 ... n-1 | n-2 ... */
static int reflect(int i, int n)
{
    if (n == 1) return 0;
    while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
    return i;
}

/* Blurs one row or column: n values `step` floats apart. line: scratch for the values with reflected ends, n + 2
 * MAX_RADIUS floats. */
static void blur_line(float *x, int n, int64_t step, const float *w, int radius, float *line)
{
    for (int i = -radius; i < n + radius; i++) line[i + radius] = x[reflect(i, n) * step];
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int k = 0; k <= 2 * radius; k++) sum += w[k] * line[i + k];
        x[i * step] = sum;
    }
}

void mcs_augment_blur(struct augment_plane p, double sigma_y, double sigma_x, float *scratch)
{
    float w[2 * MAX_RADIUS + 1];
    const int64_t row = (int64_t)p.width * p.stride;
    int radius = gaussian(sigma_y, w);
    for (int x = 0; x < p.width; x++) blur_line(p.x + (int64_t)x * p.stride, p.height, row, w, radius, scratch);
    radius = gaussian(sigma_x, w);
    for (int y = 0; y < p.height; y++) blur_line(p.x + y * row, p.width, p.stride, w, radius, scratch);
}

void mcs_augment_contrast(struct augment_plane p, double factor)
{
    const struct moments m = moments_of(p);
    const float f = (float)factor, mean = (float)m.mean;
    for (int64_t i = 0; i < (int64_t)p.height * p.width; i++) {
        const float v = (p.x[i * p.stride] - mean) * f + mean;
        p.x[i * p.stride] = v < m.low ? m.low : v > m.high ? m.high : v;
    }
}

/* Linear resize from n to size values: output i is a mix of *first and *second; returns the second one's weight. */
static float neighbours(int i, int n, int size, int *first, int *second)
{
    const double at = fmax((i + 0.5) * n / size - 0.5, 0);
    *first = (int)at < n ? (int)at : n - 1;
    *second = *first + 1 < n ? *first + 1 : *first;
    return (float)(at - *first);
}

void mcs_augment_lowres(struct augment_plane p, double zoom, float *scratch)
{
    const int h = (int)fmax(1, nearbyint(zoom * p.height)), w = (int)fmax(1, nearbyint(zoom * p.width));
    for (int y = 0; y < h; y++) {
        const int64_t sy = (int64_t)((y + 0.5) * p.height / h);
        for (int x = 0; x < w; x++)
            scratch[(int64_t)y * w + x] = p.x[(sy * p.width + (int64_t)((x + 0.5) * p.width / w)) * p.stride];
    }
    for (int y = 0; y < p.height; y++) {
        int y0, y1, x0, x1;
        const float ay = neighbours(y, h, p.height, &y0, &y1);
        const float *a = scratch + (int64_t)y0 * w, *b = scratch + (int64_t)y1 * w;
        for (int x = 0; x < p.width; x++) {
            const float ax = neighbours(x, w, p.width, &x0, &x1);
            const float top = a[x0] + ax * (a[x1] - a[x0]), bottom = b[x0] + ax * (b[x1] - b[x0]);
            p.x[((int64_t)y * p.width + x) * p.stride] = top + ay * (bottom - top);
        }
    }
}

void mcs_augment_gamma(struct augment_plane p, double exponent, int inverted)
{
    const int64_t n = (int64_t)p.height * p.width;
    const float sign = inverted ? -1 : 1, e = (float)exponent;
    const struct moments m = moments_of(p);
    const float low = inverted ? -m.high : m.low, range = fmaxf(m.high - m.low, 1e-7f);
    for (int64_t i = 0; i < n; i++) {
        float *v = &p.x[i * p.stride];
        *v = powf((sign * *v - low) / range, e) * range + low;
    }
    const struct moments now = moments_of(p);
    const double gain = m.sd / fmax(now.sd, 1e-8);
    for (int64_t i = 0; i < n; i++) {
        float *v = &p.x[i * p.stride];
        *v = (float)(((double)*v - now.mean) * gain * (double)sign + m.mean);
    }
}

/* ---- a patch ---- */

static void add_noise(const struct augment_draw *a, const struct augment_patch *dst, float *scratch)
{
    const int64_t n = (int64_t)dst->height * dst->width * dst->channels;
    const struct mcs_rng key = {a->noise_seed, a->noise_site, a->noise_sample, a->noise_step};
    mcs_rng_fill_normal(key, scratch, n);
    for (int64_t i = 0; i < n; i++) dst->image[i] += a->noise * scratch[i];
}

static void change_channel(const struct augment_channel *c, struct augment_plane p, float *scratch)
{
    if (c->blur_y > 0) mcs_augment_blur(p, c->blur_y, c->blur_x, scratch);
    for (int64_t i = 0; c->brightness != 0 && i < (int64_t)p.height * p.width; i++) p.x[i * p.stride] *= c->brightness;
    if (c->contrast != 0) mcs_augment_contrast(p, c->contrast);
    if (c->zoom > 0) mcs_augment_lowres(p, c->zoom, scratch);
    if (c->gamma_inverted != 0) mcs_augment_gamma(p, c->gamma_inverted, 1);
    if (c->gamma != 0) mcs_augment_gamma(p, c->gamma, 0);
}

/* Swaps pixels a and b of image and label. */
static void swap(const struct augment_patch *p, int64_t a, int64_t b)
{
    const int32_t l = p->label[a];
    p->label[a] = p->label[b];
    p->label[b] = l;
    for (int k = 0; k < p->channels; k++) {
        const float v = p->image[a * p->channels + k];
        p->image[a * p->channels + k] = p->image[b * p->channels + k];
        p->image[b * p->channels + k] = v;
    }
}

static void mirror(const struct augment_draw *a, const struct augment_patch *p)
{
    const int64_t w = p->width;
    for (int y = 0; a->flip_rows && y < p->height / 2; y++)
        for (int x = 0; x < p->width; x++) swap(p, y * w + x, (p->height - 1 - y) * w + x);
    for (int y = 0; a->flip_columns && y < p->height; y++)
        for (int x = 0; x < p->width / 2; x++) swap(p, y * w + x, y * w + w - 1 - x);
}

size_t mcs_augment_scratch(const struct augment_patch *dst)
{
    const size_t line = (size_t)(dst->height > dst->width ? dst->height : dst->width) + 2 * MAX_RADIUS;
    return (size_t)dst->height * (size_t)dst->width * (size_t)dst->channels + line;
}

void mcs_augment_apply(const struct augment_draw *a, const struct augment_patch *src, const struct augment_patch *dst,
                       float *scratch)
{
    mcs_augment_spatial(a->moves ? a->matrix : NULL, src, dst);
    if (a->noise != 0) add_noise(a, dst, scratch);
    for (int k = 0; k < dst->channels; k++)
        change_channel(&a->channel[k], (struct augment_plane){dst->image + k, dst->height, dst->width, dst->channels},
                       scratch);
    mirror(a, dst);
    for (int64_t i = 0; i < (int64_t)dst->height * dst->width; i++)
        if (dst->label[i] < 0) dst->label[i] = 0;
}

void mcs_augment_target(const int32_t *labels, int batch, int height, int width, int h, int w, int32_t *dst)
{
    for (int n = 0; n < batch; n++)
        for (int y = 0; y < h; y++) {
            const int64_t sy = (int64_t)((y + 0.5) * height / h);
            for (int x = 0; x < w; x++)
                dst[((int64_t)n * h + y) * w + x] =
                    labels[((int64_t)n * height + sy) * width + (int64_t)((x + 0.5) * width / w)];
        }
}
