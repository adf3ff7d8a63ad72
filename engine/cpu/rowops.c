#include "engine/cpu/rowops.h"

#include "engine/cpu/simd.h"

#include <string.h>

MCS_CLONES static void add_bias(float *y, const float *b, int64_t rows, int64_t n)
{
    for (int64_t i = 0; i < rows; i++, y += n) {
#pragma omp simd
        for (int64_t j = 0; j < n; j++) y[j] += b[j];
    }
}

void mcs_rows_add_bias(float *y, const float *b, int64_t rows, int64_t n)
{
    /* pieces of whole rows, about 4096 values */
    const int64_t piece = n < 4096 ? 4096 / (n ? n : 1) + 1 : 1, pieces = (rows + piece - 1) / piece;
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t p = 0; p < pieces; p++)
        add_bias(y + p * piece * n, b, rows - p * piece < piece ? rows - p * piece : piece, n);
}

/* At most 64 pieces of whole blocks of 64 rows: sums within a block are float, over blocks double. */
enum { BLOCK = 64, PIECES = 64 };

static int64_t piece_rows(int64_t rows)
{
    const int64_t blocks = (rows + BLOCK - 1) / BLOCK;
    return (blocks + PIECES - 1) / PIECES * BLOCK;
}

size_t mcs_rows_sum_workspace(int64_t rows, int64_t n)
{
    const int64_t piece = piece_rows(rows), pieces = piece ? (rows + piece - 1) / piece : 0;
    return (size_t)(pieces * n) * (sizeof(double) + sizeof(float)) + 64;
}

MCS_CLONES static void sum_piece(const float *x, int64_t rows, int64_t n, double *sum, float *part)
{
    memset(sum, 0, (size_t)n * sizeof *sum);
    for (int64_t r0 = 0; r0 < rows; r0 += BLOCK) {
        const int64_t r1 = rows < r0 + BLOCK ? rows : r0 + BLOCK;
        memset(part, 0, (size_t)n * sizeof *part);
        for (int64_t r = r0; r < r1; r++) {
            const float *row = x + r * n;
#pragma omp simd
            for (int64_t j = 0; j < n; j++) part[j] += row[j];
        }
        for (int64_t j = 0; j < n; j++) sum[j] += part[j];
    }
}

void mcs_rows_sum(const float *x, int64_t rows, int64_t n, float beta, float *out, void *workspace)
{
    const int64_t piece = piece_rows(rows), pieces = piece ? (rows + piece - 1) / piece : 0;
    double *sum = workspace;
    float *part = (float *)(sum + pieces * n);
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN)
    for (int64_t p = 0; p < pieces; p++)
        sum_piece(x + p * piece * n, rows - p * piece < piece ? rows - p * piece : piece, n, sum + p * n, part + p * n);
    for (int64_t j = 0; j < n; j++) {
        double s = 0;
        for (int64_t p = 0; p < pieces; p++) s += sum[p * n + j];
        out[j] = (beta != 0 ? beta * out[j] : 0) + (float)s;
    }
}
