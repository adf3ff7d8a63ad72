/* The tests of test_sim_pipeline.c with the device of support_guarded.h in place of the simulation: the pipelines write
 * inside their blocks, read nothing that nobody wrote, and give everything back when an allocation fails. */
#include "tests/cudasim/test_sim_pipeline.c"
