/* Helpers shared by the CPU ops. */
#ifndef MCS_CPU_OP_COMMON_H
#define MCS_CPU_OP_COMMON_H

#include <omp.h>

#include "engine/backend.h"
#include "engine/cpu/simd.h"

MCS_INLINE int64_t op_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
MCS_INLINE int64_t op_div_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
/* Writes or accumulates a gradient: v where beta is 0 (old is ignored, even NaN), else old + v. */
MCS_INLINE float op_blend(float beta, float old, float v)
{
    return beta != 0 ? old + v : v;
}

/* dst (cols) = beta dst + sum over rows of src, whose rows are `stride` floats apart. The shape alone determines blocks
 * of rows, whose sums are added in order, so the result does not depend on the number of threads. workspace:
 * op_sum_rows_bytes(rows, cols). */
size_t op_sum_rows_bytes(int64_t rows, int64_t cols);
void op_sum_rows(const float *src, int64_t rows, int64_t cols, int64_t stride, float beta, float *dst, void *workspace);

/* dst = beta dst + src, n floats: in the calling thread; in parallel where that is faster. */
void op_blend_row(const float *restrict src, int64_t n, float beta, float *restrict dst);
void op_accumulate(const float *src, int64_t n, float beta, float *dst);

#endif
