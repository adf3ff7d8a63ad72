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
/* Bytes of so many floats, rounded up to the 64 bytes at which a part of a workspace starts. */
MCS_INLINE size_t op_part_bytes(int64_t floats)
{
    return ((size_t)floats * sizeof(float) + 63) & ~(size_t)63;
}
/* Writes or accumulates a gradient; beta is 0 or 1: v where it is 0 (old is ignored, even NaN), else old + v. */
MCS_INLINE float op_blend(float beta, float old, float v)
{
    return beta != 0 ? old + v : v;
}

/* dst (cols) = beta dst + sum over rows of src, whose rows are `stride` floats apart. The shape alone determines blocks
 * of rows, whose sums are added in order, so the result does not depend on the number of threads. workspace:
 * op_sum_rows_bytes(rows, cols). */
size_t op_sum_rows_bytes(int64_t rows, int64_t cols);
void op_sum_rows(const float *src, int64_t rows, int64_t cols, int64_t stride, float beta, float *dst, void *workspace);

/* Weights (outer,inner,taps) -> packed (outer,taps,inner), and back: w = beta w + packed. */
void op_pack_weight(const float *w, int64_t outer, int64_t inner, int64_t taps, float *packed);
void op_unpack_weight(const float *packed, int64_t outer, int64_t inner, int64_t taps, float beta, float *w);

/* dst = beta dst + src, n floats: in the calling thread; in parallel where that is faster. */
void op_blend_row(const float *restrict src, int64_t n, float beta, float *restrict dst);
void op_accumulate(const float *src, int64_t n, float beta, float *dst);

#endif
