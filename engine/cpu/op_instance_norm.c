/* Instance norm + leaky ReLU, channels last: sums per channel over the positions of a sample. Blocks of BLOCK positions
 * are summed in float, the blocks in double and in order. Two passes: one pass loses four digits on CT volumes, whose
 * mean is far above their standard deviation. */
#include <math.h>

#include "engine/cpu/op_common.h"

enum { BLOCK = 256 };

struct size {
    int64_t n, sp, c, blocks; /* samples, positions, channels, blocks per sample */
};

static struct size size_of(const struct tensor *x)
{
    struct size z = {.n = x->dim[0], .c = mcs_last(x)};
    z.sp = mcs_count(x) / (z.n * z.c);
    z.blocks = op_div_up(z.sp, BLOCK);
    return z;
}

/* Workspace: totals (n, 2, c) doubles, then part (n, blocks, 2, c) floats. */
static enum mcs_status prepare(struct step *s)
{
    const struct size z = size_of(s->in[0]);
    s->workspace_bytes = (size_t)(z.n * z.c * 2) * (sizeof(double) + (size_t)z.blocks * sizeof(float));
    return MCS_OK;
}

/* Adds the blocks' sums: tot (2,c). */
MCS_CLONES static void total(const float *restrict part, int64_t blocks, int64_t n, double *restrict tot)
{
    for (int64_t i = 0; i < n; i++) tot[i] = 0;
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t i = 0; i < n; i++) tot[i] += part[b * n + i];
}

/* part (2,c) = sums of x - mean (in stats) and of its square; stats NULL: sums of x alone, in the first half. */
MCS_CLONES static void moments(const float *restrict x, int64_t rows, int64_t c, const float *restrict stats,
                               float *restrict part)
{
    float *s1 = part, *s2 = part + c;
    for (int64_t i = 0; i < 2 * c; i++) part[i] = 0;
    for (int64_t r = 0; r < rows; r++, x += c) {
        if (!stats) {
#pragma omp simd
            for (int64_t i = 0; i < c; i++) s1[i] += x[i];
            continue;
        }
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            const float d = x[i] - stats[2 * i];
            s1[i] += d;
            s2[i] += d * d;
        }
    }
}

MCS_CLONES static void normalise(const float *restrict x, float *restrict y, int64_t rows, int64_t c,
                                 const float *restrict stats, const float *restrict w, const float *restrict b,
                                 float slope)
{
    for (int64_t r = 0; r < rows; r++, x += c, y += c)
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            const float v = (x[i] - stats[2 * i]) * stats[2 * i + 1] * w[i] + b[i];
            y[i] = v > 0 ? v : slope * v;
        }
}

static enum mcs_status fwd(const struct step *s)
{
    const struct norm_attr *a = s->attr;
    const struct size z = size_of(s->in[0]);
    const float *x = mcs_f32(s->in[0]), *w = mcs_f32(s->in[1]), *b = mcs_f32(s->in[2]);
    float *y = mcs_f32(s->out[0]), *stats = mcs_f32(s->out[1]);
    double *tot = s->workspace;
    float *part = (float *)(tot + 2 * z.n * z.c);
    const int64_t tasks = z.n * z.blocks;
    const int many = z.n * z.sp * z.c >= MCS_PARALLEL_MIN;

    for (int pass = 0; pass < 2; pass++) {
#pragma omp parallel for schedule(static) if (many)
        for (int64_t t = 0; t < tasks; t++) {
            const int64_t n = t / z.blocks, p = t % z.blocks * BLOCK;
            moments(x + (n * z.sp + p) * z.c, op_min(BLOCK, z.sp - p), z.c, pass ? stats + 2 * n * z.c : NULL,
                    part + t * 2 * z.c);
        }
#pragma omp parallel for schedule(static) if (many)
        for (int64_t n = 0; n < z.n; n++) {
            const double *t = tot + n * 2 * z.c;
            float *st = stats + n * 2 * z.c;
            total(part + n * z.blocks * 2 * z.c, z.blocks, 2 * z.c, tot + n * 2 * z.c);
            for (int64_t i = 0; i < z.c; i++) {
                const double d = t[i] / (double)z.sp, var = t[z.c + i] / (double)z.sp - d * d;
                if (!pass) {
                    st[2 * i] = (float)d;
                    continue;
                }
                st[2 * i] = (float)(st[2 * i] + d); /* corrects the rounding error of the first pass's mean */
                st[2 * i + 1] = (float)(1.0 / sqrt((var > 0 ? var : 0) + a->eps));
            }
        }
    }
#pragma omp parallel for schedule(static) if (many)
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t n = t / z.blocks, p = t % z.blocks * BLOCK, o = (n * z.sp + p) * z.c;
        normalise(x + o, y + o, op_min(BLOCK, z.sp - p), z.c, stats + 2 * n * z.c, w, b, a->slope);
    }
    return MCS_OK;
}

/* part (2,c) = sums of dz and of dz h, where h is the normalised x, z = h w + b and dz = dy leaky'(z). */
MCS_CLONES static void bwd_sums(const float *restrict x, const float *restrict dy, int64_t rows, int64_t c,
                                const float *restrict stats, const float *restrict w, const float *restrict b,
                                float slope, float *restrict part)
{
    float *s1 = part, *s2 = part + c;
    for (int64_t i = 0; i < 2 * c; i++) part[i] = 0;
    for (int64_t r = 0; r < rows; r++, x += c, dy += c)
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            const float h = (x[i] - stats[2 * i]) * stats[2 * i + 1];
            const float dz = h * w[i] + b[i] > 0 ? dy[i] : slope * dy[i];
            s1[i] += dz;
            s2[i] += dz * h;
        }
}

/* dx = rstd w (dz - mean dz - h mean(dz h)); mean: (2,c) */
MCS_CLONES static void bwd_apply(const float *restrict x, const float *restrict dy, int64_t rows, int64_t c,
                                 const float *restrict stats, const float *restrict w, const float *restrict b,
                                 float slope, const float *restrict mean, float beta, float *restrict dx)
{
    for (int64_t r = 0; r < rows; r++, x += c, dy += c, dx += c)
#pragma omp simd
        for (int64_t i = 0; i < c; i++) {
            const float rstd = stats[2 * i + 1], h = (x[i] - stats[2 * i]) * rstd;
            const float dz = h * w[i] + b[i] > 0 ? dy[i] : slope * dy[i];
            dx[i] = op_blend(beta, dx[i], rstd * w[i] * (dz - mean[i] - h * mean[c + i]));
        }
}

static enum mcs_status bwd(const struct step *s)
{
    const struct norm_attr *a = s->attr;
    const struct size z = size_of(s->in[0]);
    const float *x = mcs_f32(s->in[0]), *w = mcs_f32(s->in[1]), *b = mcs_f32(s->in[2]), *dy = mcs_f32(s->dout[0]);
    const float *stats = mcs_f32(s->out[1]);
    float *dx = mcs_f32(s->din[0]), *dw = mcs_f32(s->din[1]), *db = mcs_f32(s->din[2]);
    double *tot = s->workspace;
    float *part = (float *)(tot + 2 * z.n * z.c);
    const int64_t tasks = z.n * z.blocks;
    const int many = z.n * z.sp * z.c >= MCS_PARALLEL_MIN;

#pragma omp parallel for schedule(static) if (many)
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t n = t / z.blocks, p = t % z.blocks * BLOCK, o = (n * z.sp + p) * z.c;
        bwd_sums(x + o, dy + o, op_min(BLOCK, z.sp - p), z.c, stats + 2 * n * z.c, w, b, a->slope, part + t * 2 * z.c);
    }
    for (int64_t n = 0; n < z.n; n++) total(part + n * z.blocks * 2 * z.c, z.blocks, 2 * z.c, tot + n * 2 * z.c);
    for (int64_t i = 0; i < z.c; i++) {
        double s1 = 0, s2 = 0;
        for (int64_t n = 0; n < z.n; n++) s1 += tot[n * 2 * z.c + i], s2 += tot[(n * 2 + 1) * z.c + i];
        if (dw) dw[i] = op_blend(s->beta[1], dw[i], (float)s2);
        if (db) db[i] = op_blend(s->beta[2], db[i], (float)s1);
    }
    if (!dx) return MCS_OK;
    /* the means in float, over the first partial sums, which are no longer needed */
    for (int64_t i = 0; i < 2 * z.n * z.c; i++) part[i] = (float)(tot[i] / (double)z.sp);
#pragma omp parallel for schedule(static) if (many)
    for (int64_t t = 0; t < tasks; t++) {
        const int64_t n = t / z.blocks, p = t % z.blocks * BLOCK, o = (n * z.sp + p) * z.c;
        bwd_apply(x + o, dy + o, op_min(BLOCK, z.sp - p), z.c, stats + 2 * n * z.c, w, b, a->slope, part + n * 2 * z.c,
                  s->beta[0], dx + o);
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_instance_norm = {prepare, fwd, bwd, NULL};
