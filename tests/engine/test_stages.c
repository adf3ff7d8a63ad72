/* What infer/ and train/ do on a device that offers stages (engine/stage_ops.h), on the device of support_stages.h: the
 * tests that test_sim_pipeline.c runs on the simulation, without it. */
#include "tests/cudasim/test_sim_pipeline.c"
