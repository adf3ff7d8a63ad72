/* Checks the process's limits (ulimit): too low ones would crash the CPU backend at its start. */
#ifndef MCS_LIMITS_CPU_H
#define MCS_LIMITS_CPU_H

#include "engine/base/status.h"

/* E_FAIL where RLIMIT_AS or RLIMIT_DATA leaves less than `threads` threads and oneDNN need to start: libgomp would end
 * the program, and oneDNN 2.7 writes through a NULL pointer when it gets no memory for generated code. */
enum mcs_status mcs_cpu_check_limits(int threads);

#endif
