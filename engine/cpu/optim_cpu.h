/* The optimizers' loops on the CPU: backend.h's optim_update and optim_norm. */
#ifndef MCS_CPU_OPTIM_CPU_H
#define MCS_CPU_OPTIM_CPU_H

#include "engine/backend.h"
#include "engine/optim.h"

enum mcs_status mcs_cpu_optim_update(struct device *d, const struct optim_update *u);
enum mcs_status mcs_cpu_optim_norm(struct device *d, double *norm);

#endif
