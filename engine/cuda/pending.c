/* Until the parts that define these are in: weak, so that the real ones win. */
#include "engine/cuda/cuda.h"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#define W __attribute__((weak))
W enum mcs_status mcs_cuda_optim_update(struct device *d, const struct optim_update *u) { return MCS_E_FAIL; }
W enum mcs_status mcs_cuda_sum_squares(struct device *d, const float *x, const struct optim_range *r, int n, double *sum) { return MCS_E_FAIL; }
