/* Which device computes, and in which precision. engine/devices.h opens it. */
#ifndef MCS_DEVICE_OPTIONS_H
#define MCS_DEVICE_OPTIONS_H

#include <stdint.h>

enum mcs_device_kind { MCS_DEVICE_CPU, MCS_DEVICE_CUDA, MCS_DEVICE_CUDASIM };
/* Type of a graph's activations. auto: bf16 on a GPU, fp32 on the CPU. */
enum mcs_precision { MCS_PRECISION_AUTO, MCS_PRECISION_FP32, MCS_PRECISION_BF16 };

/* All zero: the CPU with all its cores. */
struct mcs_device_options {
    int kind;        /* enum mcs_device_kind */
    int precision;   /* enum mcs_precision */
    int64_t gpu;     /* index of the GPU, counted from 0 */
    int64_t threads; /* of the CPU; 0: as many as it has */
};

#endif
