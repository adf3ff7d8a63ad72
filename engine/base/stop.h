/* Stopping on request. SIGTERM, SIGUSR1, SIGINT and SIGHUP set a flag; every verb checks it after each step or case,
 * keeps the finished part and ends with MCS_E_STOPPED (exit code 75). Trainings write a checkpoint first. A second
 * signal ends the process at once by that signal's default action. A signal that was ignored when the process started,
 * as under nohup or in a shell's background job, stays ignored.
 *
 * A separate thread waits for the signals, and all others block them. A handler would run on the stack of a computing
 * thread, and oneDNN 2.7's generated convolutions keep values below the stack pointer, beyond the 128 bytes of the red
 * zone: a handler's frame there corrupted the heap (of 30 short trainings under a signal every 10 to 200 us, 28 died).
 *
 * Blocked signals stay blocked in a program that is started with exec or posix_spawn: a child that does not wait for
 * them itself must get an empty mask (POSIX_SPAWN_SETSIGMASK). */
#ifndef MCS_STOP_H
#define MCS_STOP_H

#include "engine/base/status.h"

void mcs_stop_install(void);  /* called once by main before it starts any thread: threads inherit the blocked signals */
int mcs_stop_requested(void); /* checked after each step */
/* MCS_OK, or E_STOPPED with a message, for work that can end here without leaving anything half done. */
enum mcs_status mcs_stop_check(void);
void mcs_stop_request(void); /* the effect of a signal; for tests */
void mcs_stop_reset(void);   /* for tests */

#endif
