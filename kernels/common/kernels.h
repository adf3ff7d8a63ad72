/* C interface of kernels/ for engine/cuda and tests, one header per family: one struct of pointers and sizes per op,
 * one launcher per direction. Pointers are device memory, rows are contiguous, and arrays do not overlap unless said. x
 * and y are of type `dtype`; weights, their gradients and statistics are float. Sums are in float or double, in an
 * order that depends on shapes alone. A gradient pointer that is NULL is not computed. beta 0: gradients are written,
 * 1: added. Launchers only enqueue, and return the launch's error. A size of 0 is not an error and launches nothing.
 * Formulas: engine/tape/ops.def. */
#ifndef MCS_KERNELS_H
#define MCS_KERNELS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

enum k_dtype { K_F32, K_BF16 };

/* Seed and step of the current training step, in device memory: kernels that draw random numbers (engine/base/rng.h)
 * read them at each replay of a captured graph. */
struct k_run {
    uint64_t seed;
    uint32_t step;
};
#ifdef __cplusplus
extern "C"
#endif
    cudaError_t
    k_run_set(struct k_run value, struct k_run *run, cudaStream_t s); /* *run = value, in stream order */

#include "kernels/attention/attention.h"
#include "kernels/common/optimizers.h"
#include "kernels/conv/convolution.h"
#include "kernels/gemm/matmul.h"
#include "kernels/image/inference.h"
#include "kernels/loss/losses.h"
#include "kernels/norm/norms.h"
#include "kernels/pointwise/pointwise.h"

#endif
