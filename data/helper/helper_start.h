/* Finds and starts a helper program; a part of data/helper/helper.c. */
#ifndef MCS_HELPER_START_H
#define MCS_HELPER_START_H

#include "data/helper/helper.h"
#include "engine/base/path.h"

/* E_FAIL: there is no such program, or it cannot be started; the message says how to fix it. */
enum mcs_status mcs_helper_process_start(const struct helper_kind *kind, int file, struct helper_process *p);
/* Kills the process, waits for it and closes mcsam's descriptors. Returns the status from waitpid, -1: unknown. */
int mcs_helper_process_end(struct helper_process *p);
/* Finds the program; E_FAIL as above. */
enum mcs_status mcs_helper_find(const struct helper_kind *kind, char path[MCS_PATH_BYTES]);

#endif
