/* The two implementations of convolution on the CPU, for tests: oneDNN's primitives, and im2col + GEMM where oneDNN
 * would only offer a reference implementation. */
#ifndef MCS_CPU_CONV_H
#define MCS_CPU_CONV_H

#include "engine/backend.h"

extern const struct op_impl mcs_cpu_conv;
/* conv always by im2col + GEMM: the same results as mcs_cpu_conv, on any processor. */
extern const struct op_impl mcs_cpu_conv_im2col;

/* The implementation chosen for a prepared conv step, by pass (0 fprop, 1 dgrad, 2 wgrad): oneDNN's name for it,
 * "im2col", or NULL where the step has no such pass. */
const char *mcs_cpu_conv_impl_name(const struct step *prepared, int pass);

#endif
