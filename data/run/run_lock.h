/* The lock of a run folder; run_folder.h documents its guarantees. */
#ifndef MCS_RUN_LOCK_H
#define MCS_RUN_LOCK_H

#include "engine/base/path.h"
#include "engine/base/status.h"

#include <limits.h>

struct run_lock {
    int fd; /* -1: none is held */
    char path[MCS_PATH_BYTES];
};
/* what: the locked folder or file, for messages. E_FAIL: another process holds it; E_IO: the lock file cannot be
 * created. Never waits. */
enum mcs_status mcs_run_lock(const char *path, const char *what, const char *verb, struct run_lock *lock);
/* Removes the lock file and releases the lock. */
void mcs_run_unlock(struct run_lock *lock);

#endif
