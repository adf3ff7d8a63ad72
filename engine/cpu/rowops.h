/* Row-wise helpers of the matrix ops: bias, sums down the columns, scaled add. */
#ifndef MCS_CPU_ROWOPS_H
#define MCS_CPU_ROWOPS_H

#include <stddef.h>
#include <stdint.h>

/* y (rows,n) += b (n). */
void mcs_rows_add_bias(float *y, const float *b, int64_t rows, int64_t n);
/* out (n) = beta out + sum over rows of x (rows,n). Rows are cut into pieces that depend on `rows` alone and added in
 * order, so the sum does not depend on the number of threads. */
size_t mcs_rows_sum_workspace(int64_t rows, int64_t n);
void mcs_rows_sum(const float *x, int64_t rows, int64_t n, float beta, float *out, void *workspace);
/* y (n) += x (n). */
void mcs_vec_add(float *y, const float *x, int64_t n);

#endif
