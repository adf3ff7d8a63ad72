/* The optimizers' loops on the CPU: optim_update and optim_norm of backend.h. */
#ifndef MCS_CPU_OPTIM_CPU_H
#define MCS_CPU_OPTIM_CPU_H

#include "engine/backend.h"
#include "engine/optim.h"

enum mcs_status mcs_cpu_optim_update(struct device *d, const struct optim_update *u);
enum mcs_status mcs_cpu_optim_norm(struct device *d, double *norm);

#endif
