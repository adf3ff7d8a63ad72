/* Stopping on request: SIGTERM and SIGUSR1 set a flag; training loops finish their step, checkpoint and return
 * MCS_E_STOPPED.
 *
 * A thread of its own waits for the signals, and all others block them. A handler would run on the stack of a thread
 * that computes, and oneDNN 2.7's generated convolutions keep values below the stack pointer, further than the 128
 * bytes that are theirs: a handler's frame there damaged the heap (of 30 short trainings under a signal every 10 to
 * 200 us, 28 died). */
#ifndef MCS_STOP_H
#define MCS_STOP_H

void mcs_stop_install(void);  /* by main, once, before it starts any thread: threads inherit what is blocked */
int mcs_stop_requested(void); /* after each step */
void mcs_stop_request(void);  /* what the signals do; for tests */
void mcs_stop_reset(void);    /* for tests */

#endif
