/* A device module of another version of the program, for tests/engine/test_cuda_badinput.c; OTHER_EMPTY: a shared
 * library that is not a module. */
#ifdef OTHER_EMPTY
extern const int mcs_no_module;
const int mcs_no_module = 1;
#else
#include "engine/cuda/module.h"

const struct cuda_module mcs_cuda_module = {.version = "0.0.0"};
#endif
