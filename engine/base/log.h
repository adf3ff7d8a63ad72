/* Messages and progress on stderr; stdout is for results. Control characters and bytes that are not UTF-8 are shown as
 * \x1b (engine/base/escape.h), so that a file name cannot send commands to the terminal. A message is one line of at
 * most 8 KB. On a terminal, progress is a bar that redraws itself; elsewhere it is a line every few seconds. */
#ifndef MCS_LOG_H
#define MCS_LOG_H

#include <stdint.h>

void mcs_log_quiet(int quiet);    /* --quiet: only warnings and errors */
void mcs_log_mute_here(int mute); /* silences the calling thread, such as a rank whose messages rank 0 prints too */
void mcs_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));  /* "mcsam: ..." */
void mcs_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* "mcsam: warning: ..." */

struct mcs_progress {
    const char *what; /* "finetune" */
    const char *unit; /* "step" */
    int64_t total, done;
    double started, last_shown;
    char note[64]; /* "loss 1.234", shown at the end of the line */
};
/* Starts counting progress up to `total` units. `what` and `unit` must outlive it. */
void mcs_progress_start(struct mcs_progress *p, const char *what, const char *unit, int64_t total);
/* Sets the number of units done. Redraws at most a few times a second on a terminal, once in 5 s elsewhere. */
void mcs_progress_set(struct mcs_progress *p, int64_t done);
/* Prints the final line with total time and rate. */
void mcs_progress_end(struct mcs_progress *p);

/* Seconds of a monotonic clock. */
double mcs_seconds(void);

#endif
