/* The device of tests that run on several backends: the CPU, or with TEST_CUDASIM the CUDA backend on the simulation.
 */
#ifndef MCS_SUPPORT_DEVICE_H
#define MCS_SUPPORT_DEVICE_H

#include "engine/backend.h"

#ifdef TEST_CUDASIM
#include "engine/cuda/module.h"
#include "tests/cudasim/cudasim.h"

static const char *const test_comm_name __attribute__((unused)) = "NCCL"; /* its communicator */
/* Sets the number of devices; called before the first is opened. */
static inline void test_devices(int n)
{
    cudasim_devices(n);
}
static inline enum mcs_status test_device_open(int index, struct device *d)
{
    return mcs_cuda_module.open(index, d);
}
/* First report of the simulation (data races, missing stream dependencies, mismatched collectives), or NULL. */
static inline const char *test_reports(void)
{
    return cudasim_reports() ? cudasim_report_text(0) : NULL;
}
#else
static const char *const test_comm_name __attribute__((unused)) = "memory";
static inline void test_devices(int n)
{
}
static inline enum mcs_status test_device_open(int index, struct device *d)
{
    return mcs_cpu_open(1, d);
}
static inline const char *test_reports(void)
{
    return NULL;
}
#endif

#endif
