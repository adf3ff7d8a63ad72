/* The table that the program looks up (symbol mcs_cuda_module) in a module that it opens at run time
 * (engine/devices.c): libmcsam_cuda.so, linked with NVIDIA's libraries, or libmcsam_cudasim.so, linked with their
 * simulation. The program gives it the functions of host_api.h first. */
#ifndef MCS_CUDA_MODULE_H
#define MCS_CUDA_MODULE_H

#include "engine/backend.h"

struct cuda_module {
    const char *version; /* MCS_VERSION; the program must have the same */
    /* Opens GPU `index`, counted from 0. E_DEVICE with a one-line reason: no driver, a driver that is too old, no GPU,
     * no such index, an architecture that the kernels were not built for. Close it by backend->close. */
    enum mcs_status (*open)(int index, struct device *d);
    enum mcs_status (*count)(int *n);    /* number of GPUs; E_DEVICE as open */
    enum mcs_status (*check)(int index); /* the checks of open, without opening it */
    /* One line about GPU `index`: name, architecture, memory. E_DEVICE as open. */
    enum mcs_status (*describe)(int index, char *text, int text_bytes);
};
extern const struct cuda_module mcs_cuda_module;

#endif
