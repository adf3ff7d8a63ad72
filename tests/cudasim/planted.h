/* Kernels with one mistake each, and what must be reported for it. Compiled only for checked mode, never by nvcc. */
#ifndef CUDASIM_PLANTED_H
#define CUDASIM_PLANTED_H

#include <cuda_runtime_api.h>

#include "tests/cudasim/cudasim.h"

struct planted {
    const char *name;
    cudaError_t (*run)(void); /* what the program would see */
    enum cudasim_kind want;
    cudaError_t error; /* that the run must end with; cudaSuccess where the launch goes on */
    const char *here;  /* the text must name a line with "here: ..."; NULL: no line of a kernel */
    const char *says;  /* and what else, NULL: nothing */
};
extern "C" const struct planted planted[];
extern "C" const int n_planted;

#endif
