/* nnU-Net's loss (nnunetv2's DC_and_CE_loss): mean cross-entropy + soft Dice of the softmax without the background.
 * Voxels are processed in tiles (C,m), so that vector code runs over voxels; each chunk's sums are doubles, added in
 * order. */
#include <math.h>

#include "engine/cpu/op_common.h"

enum { TILE_VALUES = 4096, MAX_CLASSES = 256, CHUNK_VOXELS = 4096 };

struct dims {
    int64_t n, sp, c, chunks; /* samples, voxels of a sample, classes, chunks of a sample */
};

static struct dims dims_of(const struct tensor *x)
{
    struct dims d = {.n = x->dim[0], .c = mcs_last(x)};
    d.sp = mcs_rows(x) / d.n;
    d.chunks = op_div_up(d.sp, CHUNK_VOXELS);
    return d;
}

/* The number of a chunk's sums: (C,3) = pg, p, g, then the cross-entropy. */
static int64_t sums_of(int64_t c)
{
    return 3 * c + 1;
}

/* Of m voxels: p (C,m) = softmax of x (m,C), top (m) = max x, lse (m) = ln sum exp(x - top). */
MCS_INLINE void softmax_tile(const float *restrict x, int64_t m, int64_t c, float *restrict p, float *restrict lse,
                             float *restrict top)
{
    for (int64_t v = 0; v < m; v++) top[v] = x[v * c], lse[v] = 0;
    for (int64_t k = 1; k < c; k++)
        for (int64_t v = 0; v < m; v++) top[v] = x[v * c + k] > top[v] ? x[v * c + k] : top[v];
    for (int64_t k = 0; k < c; k++)
#pragma omp simd
        for (int64_t v = 0; v < m; v++) {
            p[k * m + v] = mcs_expf(x[v * c + k] - top[v]);
            lse[v] += p[k * m + v];
        }
    for (int64_t k = 0; k < c; k++)
#pragma omp simd
        for (int64_t v = 0; v < m; v++) p[k * m + v] /= lse[v];
#pragma omp simd
    for (int64_t v = 0; v < m; v++)
        lse[v] = mcs_logf(lse[v]); /* the caller adds top - x[target], which is exact where it is small */
}

MCS_CLONES static void chunk_fwd(const float *restrict x, const int32_t *restrict target, int64_t voxels, int64_t c,
                                 double *restrict sums)
{
    float p[TILE_VALUES], lse[TILE_VALUES], top[TILE_VALUES];
    const int64_t tile = TILE_VALUES / c;
    double ce = 0;
    for (int64_t i = 0; i < 3 * c; i++) sums[i] = 0;
    for (int64_t v0 = 0; v0 < voxels; v0 += tile) {
        const int64_t m = voxels - v0 < tile ? voxels - v0 : tile;
        const float *xt = x + v0 * c;
        const int32_t *t = target + v0;
        softmax_tile(xt, m, c, p, lse, top);
        for (int64_t v = 0; v < m; v++)
            if (t[v] >= 0) ce += (double)((top[v] - xt[v * c + t[v]]) + lse[v]);
        for (int64_t k = 0; k < c; k++) {
            double s0 = 0, s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : s0, s1, s2)
            for (int64_t v = 0; v < m; v++) {
                const float q = t[v] >= 0 ? p[k * m + v] : 0, g = t[v] == k ? 1 : 0;
                s0 += (double)(q * g);
                s1 += (double)q;
                s2 += (double)g;
            }
            sums[3 * k] += s0;
            sums[3 * k + 1] += s1;
            sums[3 * k + 2] += s2;
        }
    }
    sums[3 * c] = ce;
}

static enum mcs_status prepare(struct step *s)
{
    const struct dims z = dims_of(s->in[0]);
    MCS_REQUIRE(z.c <= MAX_CLASSES, MCS_E_SHAPE, "%s: dice_ce takes at most %d classes, got %lld", s->scope,
                MAX_CLASSES, (long long)z.c);
    s->workspace_bytes = s->backward ? (size_t)(2 * z.n * z.c) * sizeof(float)
                                     : (size_t)(z.n * z.chunks * sums_of(z.c)) * sizeof(double);
    return MCS_OK;
}

/* Numerator and denominator of the Dice of class c: of sample n, or of the whole batch with batch_dice. */
static void dice_parts(const struct dice_ce_attr *a, const float *sums, struct dims z, int64_t n, int64_t c,
                       double *num, double *den)
{
    double pg = 0, both = 0;
    for (int64_t i = a->batch_dice ? 0 : n, end = a->batch_dice ? z.n : n + 1; i < end; i++) {
        const float *q = sums + (i * z.c + c) * 3;
        pg += q[0];
        both += (double)q[1] + q[2];
    }
    *num = 2 * pg + a->smooth;
    *den = both + a->smooth;
}

static double valid_voxels(const float *sums, struct dims z)
{
    double valid = 0;
    for (int64_t i = 0; i < z.n * z.c; i++) valid += sums[3 * i + 2];
    return valid;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct dice_ce_attr *a = s->attr;
    const struct dims z = dims_of(s->in[0]);
    const float *x = mcs_f32(s->in[0]);
    const int32_t *t = mcs_i32(s->in[1]);
    float *sums = mcs_f32(s->out[1]);
    double *part = s->workspace, ce = 0, dice = 0;
    const int64_t width = sums_of(z.c), all = z.n * z.sp;
    int32_t worst = 0;
#pragma omp parallel for schedule(static) reduction(max : worst) if (all >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < all; i++) worst = t[i] > worst ? t[i] : worst;
    MCS_REQUIRE(worst < z.c, MCS_E_DATA, "%s: a label of %d where the network has %lld classes", s->scope, worst,
                (long long)z.c);
#pragma omp parallel for schedule(static) if (all * z.c >= MCS_PARALLEL_MIN)
    for (int64_t k = 0; k < z.n * z.chunks; k++) {
        const int64_t v = k % z.chunks * CHUNK_VOXELS, o = k / z.chunks * z.sp + v;
        chunk_fwd(x + o * z.c, t + o, op_min(CHUNK_VOXELS, z.sp - v), z.c, part + k * width);
    }
    for (int64_t n = 0; n < z.n; n++) {
        for (int64_t i = 0; i < 3 * z.c; i++) {
            double sum = 0;
            for (int64_t k = 0; k < z.chunks; k++) sum += part[(n * z.chunks + k) * width + i];
            sums[n * 3 * z.c + i] = (float)sum;
        }
        for (int64_t k = 0; k < z.chunks; k++) ce += part[(n * z.chunks + k) * width + 3 * z.c];
    }
    const double valid = valid_voxels(sums, z);
    const int64_t groups = a->batch_dice ? 1 : z.n;
    for (int64_t n = 0; n < groups; n++)
        for (int64_t c = 1; c < z.c; c++) {
            double num, den;
            dice_parts(a, sums, z, n, c, &num, &den);
            dice += num / fmax(den, 1e-8);
        }
    mcs_f32(s->out[0])[0] =
        (float)((valid > 0 ? a->weight_ce * ce / valid : 0) - a->weight_dice * dice / (double)(groups * (z.c - 1)));
    return MCS_OK;
}

/* dx = ce (p - g) + p (q - sum q p), with the Dice term's derivative by p_c, q_c = on_c g_c + off_c; zero where the
 * target is negative. */
MCS_CLONES static void chunk_bwd(const float *restrict x, const int32_t *restrict target, int64_t voxels, int64_t c,
                                 float ce, const float *restrict on, const float *restrict off, float beta,
                                 float *restrict dx)
{
    float p[TILE_VALUES], dot[TILE_VALUES], top[TILE_VALUES];
    const int64_t tile = TILE_VALUES / c;
    for (int64_t v0 = 0; v0 < voxels; v0 += tile) {
        const int64_t m = voxels - v0 < tile ? voxels - v0 : tile;
        const int32_t *t = target + v0;
        float *d = dx + v0 * c;
        softmax_tile(x + v0 * c, m, c, p, dot, top);
        for (int64_t v = 0; v < m; v++) dot[v] = 0;
        for (int64_t k = 0; k < c; k++)
#pragma omp simd
            for (int64_t v = 0; v < m; v++) dot[v] += p[k * m + v] * (off[k] + (t[v] == k ? on[k] : 0));
        for (int64_t k = 0; k < c; k++)
#pragma omp simd
            for (int64_t v = 0; v < m; v++) {
                const float q = p[k * m + v], g = t[v] == k ? 1 : 0;
                const float e = ce * (q - g) + q * (off[k] + g * on[k] - dot[v]);
                d[v * c + k] = op_blend(beta, d[v * c + k], t[v] >= 0 ? e : 0);
            }
    }
}

static enum mcs_status bwd(const struct step *s)
{
    const struct dice_ce_attr *a = s->attr;
    const struct dims z = dims_of(s->in[0]);
    const float *x = mcs_f32(s->in[0]), *sums = mcs_f32(s->out[1]), beta = s->beta[0];
    const double g = mcs_f32(s->dout[0])[0], valid = valid_voxels(sums, z);
    const int32_t *t = mcs_i32(s->in[1]);
    float *dx = mcs_f32(s->din[0]), *on = s->workspace, *off = on + z.n * z.c;
    if (!dx) return MCS_OK;
    const double share = g * a->weight_dice / (double)((a->batch_dice ? 1 : z.n) * (z.c - 1));
    for (int64_t n = 0; n < z.n; n++)
        for (int64_t c = 0; c < z.c; c++) {
            double num, den;
            dice_parts(a, sums, z, n, c, &num, &den);
            on[n * z.c + c] = c ? (float)(-share * 2 / fmax(den, 1e-8)) : 0;
            off[n * z.c + c] = c && den > 1e-8 ? (float)(share * num / (den * den)) : 0;
        }
    const float ce = valid > 0 ? (float)(g * a->weight_ce / valid) : 0;
#pragma omp parallel for schedule(static) if (z.n * z.sp * z.c >= MCS_PARALLEL_MIN)
    for (int64_t k = 0; k < z.n * z.chunks; k++) {
        const int64_t n = k / z.chunks, v = k % z.chunks * CHUNK_VOXELS, o = n * z.sp + v;
        chunk_bwd(x + o * z.c, t + o, op_min(CHUNK_VOXELS, z.sp - v), z.c, ce, on + n * z.c, off + n * z.c, beta,
                  dx + o * z.c);
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_dice_ce = {prepare, fwd, bwd, NULL};
