/* How long a demo took, over all its parts: a run that was stopped or killed and started again counts from the first
 * start, without the time in between.
 *
 * FOLDER/.mcsam.seconds holds the seconds of the parts before and when this part began. While the demo runs, a thread
 * sets the file's modification time each second, so that the next part knows how far a killed one came. */
#ifndef MCS_DEMO_CLOCK_H
#define MCS_DEMO_CLOCK_H

#include "engine/base/status.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

enum { DEMO_CLOCK_STAGES = 16 };

struct demo_clock {
    char path[PATH_MAX];
    double before;  /* seconds of earlier parts */
    double started; /* of this part, and of the stage at hand, by mcs_seconds */
    double stage_started;
    struct {
        const char *name;
        double seconds; /* of earlier parts, and of this one once it is over */
    } stage[DEMO_CLOCK_STAGES];
    int n_stages, running; /* index of the stage at hand, -1: none */
    pthread_t beat;
    int beats;
    atomic_int over;
};

/* Reads what earlier parts left in the folder, which must exist, and starts to count. names: of the stages, in order,
 * which must outlive the clock. E_IO. */
enum mcs_status mcs_demo_clock_open(struct demo_clock *c, const char *folder, const char *const *names, int n);
/* The stage at hand is over; the i-th begins, or none (-1). E_IO. */
enum mcs_status mcs_demo_clock_stage(struct demo_clock *c, int i);
/* Seconds of all parts so far. */
double mcs_demo_clock_total(const struct demo_clock *c);
/* Writes the seconds so far and stops counting; nothing on a clock that is not open. */
void mcs_demo_clock_close(struct demo_clock *c);

#endif
