/* Layer norm over the last axis. Rows are processed in blocks; the backward pass sums dw and db within each block, then
 * over the blocks in order. */
#include <math.h>

#include "engine/cpu/op_common.h"

enum { MAX_BLOCKS = 64, MIN_BLOCK_ROWS = 16 };

static int64_t block_rows(int64_t rows)
{
    const int64_t per = op_div_up(rows, MAX_BLOCKS);
    return per < MIN_BLOCK_ROWS ? MIN_BLOCK_ROWS : per;
}

MCS_CLONES static void fwd_rows(const float *restrict x, const float *restrict w, const float *restrict b,
                                float *restrict y, float *restrict stats, int64_t rows, int64_t n, float eps)
{
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        float s = 0, q = 0, d = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = 0; i < n; i++) s += x[i];
        float mean = s / (float)n;
        /* second pass: the variance, and a correction d of the mean's rounding error */
#pragma omp simd reduction(+ : q, d)
        for (int64_t i = 0; i < n; i++) {
            const float c = x[i] - mean;
            d += c;
            q += c * c;
        }
        d /= (float)n;
        mean += d;
        const float var = q / (float)n - d * d, rstd = 1.0f / sqrtf((var > 0 ? var : 0) + eps);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = (x[i] - mean) * rstd * w[i] + b[i];
        stats[2 * r] = mean;
        stats[2 * r + 1] = rstd;
    }
}

static enum mcs_status fwd(const struct step *s)
{
    const struct norm_attr *a = s->attr;
    const int64_t n = mcs_last(s->in[0]), rows = mcs_rows(s->in[0]), per = block_rows(rows);
    const float *x = mcs_f32(s->in[0]), *w = mcs_f32(s->in[1]), *b = mcs_f32(s->in[2]);
    float *y = mcs_f32(s->out[0]), *stats = mcs_f32(s->out[1]);
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t r = 0; r < rows; r += per)
        fwd_rows(x + r * n, w, b, y + r * n, stats + 2 * r, op_min(per, rows - r), n, a->eps);
    return MCS_OK;
}

/* dx, and the block's partial dw and db (n each); each may be NULL. */
MCS_CLONES static void bwd_rows(const float *restrict x, const float *restrict w, const float *restrict stats,
                                const float *restrict dy, float *restrict dx, float beta, float *restrict dw,
                                float *restrict db, int64_t rows, int64_t n)
{
    for (int64_t i = 0; dw && i < n; i++) dw[i] = 0;
    for (int64_t i = 0; db && i < n; i++) db[i] = 0;
    for (int64_t r = 0; r < rows; r++, x += n, dy += n, dx = dx ? dx + n : dx) {
        const float mean = stats[2 * r], rstd = stats[2 * r + 1];
        if (dw)
#pragma omp simd
            for (int64_t i = 0; i < n; i++) dw[i] += dy[i] * ((x[i] - mean) * rstd);
        if (db)
#pragma omp simd
            for (int64_t i = 0; i < n; i++) db[i] += dy[i];
        if (!dx) continue;
        float s1 = 0, s2 = 0;
#pragma omp simd reduction(+ : s1, s2)
        for (int64_t i = 0; i < n; i++) {
            const float g = dy[i] * w[i];
            s1 += g;
            s2 += g * ((x[i] - mean) * rstd);
        }
        s1 /= (float)n;
        s2 /= (float)n;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
            const float h = (x[i] - mean) * rstd;
            dx[i] = op_blend(beta, dx[i], rstd * (dy[i] * w[i] - s1 - h * s2));
        }
    }
}

static enum mcs_status prepare(struct step *s)
{
    if (!s->backward) return MCS_OK;
    const int64_t n = mcs_last(s->in[0]), rows = mcs_rows(s->in[0]), blocks = op_div_up(rows, block_rows(rows));
    s->workspace_bytes = (size_t)(2 * blocks * n) * sizeof(float) + op_sum_rows_bytes(blocks, n);
    return MCS_OK;
}

static enum mcs_status bwd(const struct step *s)
{
    const int64_t n = mcs_last(s->in[0]), rows = mcs_rows(s->in[0]), per = block_rows(rows),
                  blocks = op_div_up(rows, per);
    const float *x = mcs_f32(s->in[0]), *w = mcs_f32(s->in[1]), *stats = mcs_f32(s->out[1]), *dy = mcs_f32(s->dout[0]);
    float *dx = mcs_f32(s->din[0]), *part = s->workspace, *tmp = part + 2 * blocks * n;
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t r = b * per;
        bwd_rows(x + r * n, w, stats + 2 * r, dy + r * n, dx ? dx + r * n : NULL, s->beta[0],
                 s->din[1] ? part + 2 * b * n : NULL, s->din[2] ? part + (2 * b + 1) * n : NULL, op_min(per, rows - r),
                 n);
    }
    if (s->din[1]) op_sum_rows(part, blocks, n, 2 * n, s->beta[1], mcs_f32(s->din[1]), tmp);
    if (s->din[2]) op_sum_rows(part + n, blocks, n, 2 * n, s->beta[2], mcs_f32(s->din[2]), tmp);
    return MCS_OK;
}

const struct op_impl mcs_cpu_layernorm = {prepare, fwd, bwd, NULL};
