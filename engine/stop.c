#include "engine/stop.h"

#include "engine/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

static atomic_int requested;

static void *wait_for_signals(void *set)
{
    int number;
    while (sigwait(set, &number) == 0) requested = 1;
    return NULL;
}

void mcs_stop_install(void)
{
    static sigset_t asking;
    sigset_t before;
    pthread_t waiting;
    sigemptyset(&asking);
    sigaddset(&asking, SIGTERM);
    sigaddset(&asking, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &asking, &before);
    const int error = pthread_create(&waiting, NULL, wait_for_signals, &asking);
    if (error == 0) {
        pthread_detach(waiting);
        return;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    mcs_warn("no thread waits for SIGTERM and SIGUSR1 (%s): they end this process at once", strerror(error));
}

int mcs_stop_requested(void)
{
    return requested;
}

void mcs_stop_request(void)
{
    requested = 1;
}

void mcs_stop_reset(void)
{
    requested = 0;
}
