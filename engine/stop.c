#include "engine/stop.h"

#include <signal.h>
#include <string.h>

/* A signal handler can reach nothing but a global. */
static volatile sig_atomic_t requested;

static void on_signal(int number)
{
    (void)number;
    requested = 1;
}

void mcs_stop_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART; /* a step's reads and writes go on */
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

int mcs_stop_requested(void)
{
    return requested != 0;
}

void mcs_stop_request(void)
{
    requested = 1;
}

void mcs_stop_reset(void)
{
    requested = 0;
}
