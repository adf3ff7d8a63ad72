/* Limits of the process (ulimit) that the CPU backend could not start under. */
#ifndef MCS_LIMITS_CPU_H
#define MCS_LIMITS_CPU_H

#include "engine/base/status.h"

/* E_FAIL where RLIMIT_AS or RLIMIT_DATA leaves less than `threads` threads and oneDNN need to start: libgomp would end
 * the program, and oneDNN 2.7 writes through a NULL pointer where it gets no memory for generated code. */
enum mcs_status mcs_cpu_check_limits(int threads);

#endif
