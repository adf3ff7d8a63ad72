/* The kernels' interface for engine/cuda and tests, in C, one header a family: one struct of pointers and sizes an op,
 * one launcher a direction. All pointers are device memory, rows are contiguous; nothing overlaps unless said. x and y
 * are of type `dtype`, weights, their gradients and statistics are float; sums are float or better, in an order that
 * depends on shapes alone. A gradient pointer NULL: not wanted. beta 0: gradients are written, 1: added. Launchers only
 * enqueue; they return the launch's error. A size of 0 is no error and launches nothing. The formulas are those of
 * engine/tape/ops.def. */
#ifndef MCS_KERNELS_H
#define MCS_KERNELS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

enum k_dtype { K_F32, K_BF16 };

/* Parameters of one replay of a captured step, in device memory; read by kernels that draw random numbers (those
 * of engine/base/rng.h). */
struct k_run {
    uint64_t seed;
    uint32_t step;
};
#ifdef __cplusplus
extern "C"
#endif
    cudaError_t
    k_run_set(struct k_run value, struct k_run *run, cudaStream_t s); /* *run = value, in the stream's order */

#include "kernels/attention/attention.h"
#include "kernels/common/optimizers.h"
#include "kernels/conv/convolution.h"
#include "kernels/gemm/matmul.h"
#include "kernels/image/stages.h"
#include "kernels/loss/losses.h"
#include "kernels/norm/norms.h"
#include "kernels/pointwise/pointwise.h"

#endif
