/* Row-wise helpers of matrix products and convolutions: adding the bias, and the bias gradient. */
#ifndef MCS_CPU_ROWOPS_H
#define MCS_CPU_ROWOPS_H

#include <stddef.h>
#include <stdint.h>

/* y (rows,n) += b (n). */
void mcs_rows_add_bias(float *y, const float *b, int64_t rows, int64_t n);
/* out (n) = beta out + sum over rows of x (rows,n). `rows` alone determines blocks of rows, whose sums are added in
 * order, so the sum does not depend on the number of threads. Sums of more than 64 rows are double: a row here is a
 * pixel of the batch, and their gradients may cancel. op_common.h's op_sum_rows, for norms and broadcasts, adds in
 * float and takes a stride. */
size_t mcs_rows_sum_workspace(int64_t rows, int64_t n);
void mcs_rows_sum(const float *x, int64_t rows, int64_t n, float beta, float *out, void *workspace);

#endif
