/* engine/device_ops.h on the host's memory. */
#ifndef MCS_DEVICE_OPS_CPU_H
#define MCS_DEVICE_OPS_CPU_H

#include "engine/device_ops.h"

extern const struct device_ops mcs_cpu_device_ops;
void mcs_cpu_device_ops_close(struct device *d); /* frees the state that the ops keep in d->state */

#endif
