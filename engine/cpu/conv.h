/* The two ways a convolution is computed on the CPU, for tests: oneDNN's primitives, and own code (gathered rows and
 * matrix products) where oneDNN would only offer a reference implementation. */
#ifndef MCS_CPU_CONV_H
#define MCS_CPU_CONV_H

#include "engine/backend.h"

extern const struct op_impl mcs_cpu_conv;
/* conv by own code alone: the same results as mcs_cpu_conv, on any processor. */
extern const struct op_impl mcs_cpu_conv_own;

/* The implementation chosen for a prepared conv step, by pass (0 forward, 1 gradient of x, 2 of w): oneDNN's name for
 * it, "own", or NULL where the step has no such pass. */
const char *mcs_cpu_conv_impl_name(const struct step *prepared, int pass);

#endif
