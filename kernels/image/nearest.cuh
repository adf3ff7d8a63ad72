/* OpenCV's nearest neighbour, as the released code of MedCLIP-SAMv2 resizes maps: mcs_nearest_index of
 * engine/image/threshold.h. */
#ifndef MCS_KERNELS_NEAREST_CUH
#define MCS_KERNELS_NEAREST_CUH

#include "kernels/common/device.cuh"

/* Source index of destination index i, from n_src to n_dst. */
static DEV_INLINE int nearest_index(int i, int n_src, int n_dst)
{
    const int index = (int)floor((double)i * (1.0 / ((double)n_dst / (double)n_src)));
    return index < n_src ? index : n_src - 1;
}

#endif
