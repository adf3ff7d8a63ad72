/* Finds and starts the helper program; a part of data/io/h5_helper.c. */
#ifndef MCS_H5_HELPER_START_H
#define MCS_H5_HELPER_START_H

#include "engine/base/path.h"
#include "engine/base/status.h"

#include <sys/types.h>

struct h5_process {
    pid_t pid;
    int socket, memory; /* mcsam's ends; close-on-exec */
};
/* E_FAIL: there is no such program, or it cannot be started; the message says how to fix it. */
enum mcs_status mcs_h5_process_start(int file, struct h5_process *p);
/* Kills the process, waits for it and closes mcsam's descriptors. Returns the status from waitpid, -1: unknown. */
int mcs_h5_process_end(struct h5_process *p);
/* Finds the program; E_FAIL as above. */
enum mcs_status mcs_h5_process_find(char path[MCS_PATH_BYTES]);

#endif
