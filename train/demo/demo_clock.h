/* The running time of a demo, summed over its runs if it was stopped or killed and resumed, without the time in
 * between.
 *
 * FOLDER/.mcsam.seconds holds the times of earlier runs and of this run up to the file's writing. While the demo runs,
 * a thread sets the file's modification time each second (the heartbeat), from which a resumed run knows when a killed
 * one ended. */
#ifndef MCS_DEMO_CLOCK_H
#define MCS_DEMO_CLOCK_H

#include "engine/base/path.h"
#include "engine/base/status.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

enum { DEMO_CLOCK_STAGES = 16 };

struct demo_clock {
    char path[MCS_PATH_BYTES];
    double before;  /* seconds of earlier runs */
    double started; /* start of this run, and below of the current stage, by mcs_seconds */
    double stage_started;
    struct {
        const char *name;
        double seconds; /* of earlier runs, and of this run after the stage's end */
    } stage[DEMO_CLOCK_STAGES];
    int n_stages, running; /* index of the current stage, -1: none */
    pthread_t beat;
    int beats;
    atomic_int over;
};

/* Reads the times of earlier runs from the folder, which must exist, and starts counting. names: the stages' names in
 * order; must outlive the clock. E_IO. */
enum mcs_status mcs_demo_clock_open(struct demo_clock *c, const char *folder, const char *const *names, int n);
/* Ends the current stage and starts the i-th, or none (-1). E_IO. */
enum mcs_status mcs_demo_clock_stage(struct demo_clock *c, int i);
/* Seconds of all runs so far. */
double mcs_demo_clock_total(const struct demo_clock *c);
/* Writes the times and stops counting; does nothing if the clock is not open. */
void mcs_demo_clock_close(struct demo_clock *c);

#endif
