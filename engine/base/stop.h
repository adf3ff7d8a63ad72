/* Stopping on request. SIGTERM, SIGUSR1, SIGINT and SIGHUP set a flag; every verb looks at it after each step or case,
 * keeps what is done and ends with MCS_E_STOPPED (exit code 75). Trainings write a checkpoint first. A second signal
 * ends the process at once by that signal's default action. A signal that was ignored when the process started, as
 * nohup and a shell's background jobs do, stays ignored.
 *
 * A thread of its own waits for the signals, and all others block them. A handler would run on the stack of a thread
 * that computes, and oneDNN 2.7's generated convolutions keep values below the stack pointer, further than the 128
 * bytes that are theirs: a handler's frame there damaged the heap (of 30 short trainings under a signal every 10 to
 * 200 us, 28 died).
 *
 * Blocked signals stay blocked in a program that is started with exec or posix_spawn: a child that does not wait for
 * them itself must get an empty mask (POSIX_SPAWN_SETSIGMASK). */
#ifndef MCS_STOP_H
#define MCS_STOP_H

#include "engine/base/status.h"

void mcs_stop_install(void);  /* by main, once, before it starts any thread: threads inherit what is blocked */
int mcs_stop_requested(void); /* after each step */
/* MCS_OK, or E_STOPPED with a message, for work that leaves nothing half done when it ends here. */
enum mcs_status mcs_stop_check(void);
void mcs_stop_request(void); /* what the signals do; for tests */
void mcs_stop_reset(void);   /* for tests */

#endif
