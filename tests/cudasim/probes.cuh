/* Launching a probe, and the probes of probes_warp.cu, which stand in the table of probes.cu. */
#ifndef CUDASIM_PROBES_CUH
#define CUDASIM_PROBES_CUH

#include <stdio.h>

#include "kernels/common/device.cuh"

#define FAIL(...) return snprintf(text, 256, __VA_ARGS__), 1
#define CUDA(call)                                                                                                     \
    do {                                                                                                               \
        const cudaError_t e_ = (call);                                                                                 \
        if (e_ != cudaSuccess) FAIL("%s:%d: %s", __FILE__, __LINE__, cudaGetErrorString(e_));                          \
    } while (0)

/* Copies `in` to the device, launches kernel(in, out) with `threads` threads a block, copies `out` back. */
template <class I, class O>
static int launch(void (*kernel)(const I *, O *), int blocks, int threads, const I *in, size_t n_in, O *out,
                  size_t n_out, char *text)
{
    I *din = NULL;
    O *dout = NULL;
    CUDA(cudaMalloc((void **)&din, n_in * sizeof(I)));
    CUDA(cudaMalloc((void **)&dout, n_out * sizeof(O)));
    CUDA(cudaMemcpy(din, in, n_in * sizeof(I), cudaMemcpyHostToDevice));
    CUDA(cudaMemcpy(dout, out, n_out * sizeof(O), cudaMemcpyHostToDevice));
    CUDA(dev_launch(kernel, blocks, threads, 0, NULL, din, dout));
    CUDA(cudaDeviceSynchronize());
    CUDA(cudaMemcpy(out, dout, n_out * sizeof(O), cudaMemcpyDeviceToHost));
    CUDA(cudaFree(din));
    CUDA(cudaFree(dout));
    return 0;
}

int probe_shuffles(char *text);
int probe_wide_and_sums(char *text);
int probe_votes(char *text);
int probe_atomics(char *text);
int probe_atomic_types(char *text);

#endif
