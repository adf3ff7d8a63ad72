/* Sets the device-side seed and step that a captured graph reads at each replay. */
#include "kernels/common/device.cuh"
#include "kernels/common/kernels.h"

static __global__ void run_set(struct k_run value, struct k_run *run)
{
    if (threadIdx.x == 0) *run = value;
}

cudaError_t k_run_set(struct k_run value, struct k_run *run, cudaStream_t s)
{
    return dev_launch(run_set, 1, DEV_WARP, 0, s, value, run);
}
