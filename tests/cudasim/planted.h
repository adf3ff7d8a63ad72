/* Kernels with one mistake each, and the report that it must cause. Compiled only for checked mode, never by nvcc. */
#ifndef CUDASIM_PLANTED_H
#define CUDASIM_PLANTED_H

#include <cuda_runtime_api.h>

#include "tests/cudasim/cudasim.h"

struct planted {
    const char *name;
    cudaError_t (*run)(void); /* returns the error that a program would see */
    enum cudasim_kind want;
    cudaError_t error; /* error that the run must end with; cudaSuccess where the launch continues */
    const char *here;  /* the report must name the line with the comment "here: NAME"; NULL: no line of a kernel */
    const char *says;  /* further text that the report must contain; NULL: none */
};
extern "C" const struct planted planted[];
extern "C" const int n_planted;

#endif
