#include "engine/base/stop.h"

#include "engine/base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static const struct {
    int number;
    const char *name;
} stop_signals[] = {{SIGTERM, "SIGTERM"}, {SIGUSR1, "SIGUSR1"}, {SIGINT, "SIGINT"}, {SIGHUP, "SIGHUP"}};
enum { N_STOP_SIGNALS = sizeof stop_signals / sizeof *stop_signals };

static atomic_int requested;

static const char *name_of(int number)
{
    for (int i = 0; i < N_STOP_SIGNALS; i++)
        if (stop_signals[i].number == number) return stop_signals[i].name;
    return "a signal";
}

/* The default action of all four signals ends the process. All other threads block the signal, so it is delivered to
 * this thread. */
static void end_at_once(int number)
{
    sigset_t one;
    signal(number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, number);
    kill(getpid(), number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

static void *wait_for_signals(void *set)
{
    int number;
    while (sigwait(set, &number) == 0) {
        if (atomic_exchange(&requested, 1)) end_at_once(number);
        mcs_log("%s: ends after the step or case at hand; a second signal ends it at once", name_of(number));
    }
    return NULL;
}

void mcs_stop_install(void)
{
    static sigset_t waited_for;
    sigset_t before;
    pthread_t waiting;
    sigemptyset(&waited_for);
    for (int i = 0; i < N_STOP_SIGNALS; i++) {
        struct sigaction at_start;
        if (sigaction(stop_signals[i].number, NULL, &at_start) == 0 && at_start.sa_handler != SIG_IGN)
            sigaddset(&waited_for, stop_signals[i].number);
    }
    pthread_sigmask(SIG_BLOCK, &waited_for, &before);
    const int error = pthread_create(&waiting, NULL, wait_for_signals, &waited_for);
    if (error == 0) {
        pthread_detach(waiting);
        return;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    mcs_warn("no thread waits for signals (%s): they end this process at once", strerror(error));
}

int mcs_stop_requested(void)
{
    return requested;
}

enum mcs_status mcs_stop_check(void)
{
    MCS_REQUIRE(!requested, MCS_E_STOPPED, "stopped by a signal before the end; run the same command again");
    return MCS_OK;
}

void mcs_stop_request(void)
{
    requested = 1;
}

void mcs_stop_reset(void)
{
    requested = 0;
}
