#include "engine/cpu/op_common.h"

/* op_sum_rows cuts the rows into one block per SUM_ROWS rows, at most SUM_MAX_BLOCKS; a task is SUM_COLS columns of a
 * block. */
enum { SUM_ROWS = 256, SUM_MAX_BLOCKS = 64, SUM_COLS = 1024 };

static int64_t n_blocks(int64_t rows, int64_t cols)
{
    if (cols >= 64 * SUM_COLS) return 1; /* blocks of columns keep the threads busy */
    const int64_t b = op_div_up(rows, SUM_ROWS);
    return b < 1 ? 1 : op_min(b, SUM_MAX_BLOCKS);
}

size_t op_sum_rows_bytes(int64_t rows, int64_t cols)
{
    return (size_t)(n_blocks(rows, cols) * cols) * sizeof(float);
}

/* Groups of 64 rows first, then their sums: the error grows with 64 + rows/64, not with rows. */
MCS_CLONES static void sum_block(const float *src, int64_t r0, int64_t r1, int64_t stride, int64_t c0, int64_t c1,
                                 float *out)
{
    float part[SUM_COLS];
    const int64_t n = c1 - c0;
    for (int64_t c = 0; c < n; c++) out[c0 + c] = 0;
    for (int64_t g = r0; g < r1; g += 64) {
        for (int64_t c = 0; c < n; c++) part[c] = 0;
        for (int64_t r = g; r < r1 && r < g + 64; r++) {
            const float *x = src + r * stride + c0;
#pragma omp simd
            for (int64_t c = 0; c < n; c++) part[c] += x[c];
        }
        for (int64_t c = 0; c < n; c++) out[c0 + c] += part[c];
    }
}

MCS_CLONES void op_blend_row(const float *restrict src, int64_t n, float beta, float *restrict dst)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dst[i] = op_blend(beta, dst[i], src[i]);
}

void op_sum_rows(const float *src, int64_t rows, int64_t cols, int64_t stride, float beta, float *dst, void *workspace)
{
    const int64_t nb = n_blocks(rows, cols), nt = op_div_up(cols, SUM_COLS), per = op_div_up(rows, nb);
    float *part = workspace;
#pragma omp parallel for schedule(static) if (rows * cols >= MCS_PARALLEL_MIN)
    for (int64_t t = 0; t < nb * nt; t++) {
        const int64_t b = t / nt, c0 = t % nt * SUM_COLS;
        sum_block(src, op_min(b * per, rows), op_min((b + 1) * per, rows), stride, c0, op_min(c0 + SUM_COLS, cols),
                  part + b * cols);
    }
    for (int64_t b = 0; b < nb; b++) op_blend_row(part + b * cols, cols, b ? 1 : beta, dst);
}

void op_accumulate(const float *src, int64_t n, float beta, float *dst)
{
#pragma omp parallel for schedule(static) if (n >= MCS_PARALLEL_MIN)
    for (int64_t i = 0; i < n; i += MCS_CHUNK) op_blend_row(src + i, op_min(MCS_CHUNK, n - i), beta, dst + i);
}

void op_pack_weight(const float *w, int64_t outer, int64_t inner, int64_t taps, float *packed)
{
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < outer; o++)
        for (int64_t t = 0; t < taps; t++)
            for (int64_t i = 0; i < inner; i++) packed[(o * taps + t) * inner + i] = w[(o * inner + i) * taps + t];
}

void op_unpack_weight(const float *packed, int64_t outer, int64_t inner, int64_t taps, float beta, float *w)
{
#pragma omp parallel for schedule(static)
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < inner; i++)
            for (int64_t t = 0; t < taps; t++) {
                float *to = w + (o * inner + i) * taps + t;
                *to = (beta != 0 ? *to : 0) + packed[(o * taps + t) * inner + i];
            }
}
