/* The optimizers' loops on the CPU: backend.h's sum_squares and optim_update. */
#ifndef MCS_CPU_OPTIM_CPU_H
#define MCS_CPU_OPTIM_CPU_H

#include "engine/backend.h"
#include "engine/optim.h"

enum mcs_status mcs_cpu_sum_squares(struct device *d, const float *x, const struct optim_range *r, int n, double *sum);
enum mcs_status mcs_cpu_optim_update(struct device *d, const struct optim_update *u);

#endif
