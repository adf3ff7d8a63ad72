/* Stopping on request: SIGTERM and SIGUSR1 set a flag; training loops finish their step, checkpoint and return
 * MCS_E_STOPPED. */
#ifndef MCS_STOP_H
#define MCS_STOP_H

void mcs_stop_install(void);  /* by main, once */
int mcs_stop_requested(void); /* after each step */
void mcs_stop_request(void);  /* what the signals do; for tests */
void mcs_stop_reset(void);    /* for tests */

#endif
