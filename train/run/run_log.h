/* The log of a training run: metrics.jsonl (one JSON object per line, with "step") and TensorBoard events of the same
 * values. A resumed run drops the lines after its checkpoint, so that the files are those of a run without
 * interruption.
 */
#ifndef MCS_RUN_LOG_H
#define MCS_RUN_LOG_H

#include "engine/base/path.h"
#include "engine/base/status.h"

#include <stdint.h>
#include <stdio.h>

struct run_log {
    FILE *json, *events;
    char path[MCS_PATH_BYTES];
    int64_t step;
};

/* Opens RUN/metrics.jsonl and RUN/events.out.tfevents.mcsam, keeping only steps <= resumed_step (-1: none). */
enum mcs_status mcs_run_log_open(struct run_log *log, const char *run_folder, int64_t resumed_step);
/* Writes one line: begin, any number of values, end. */
void mcs_run_log_begin(struct run_log *log, int64_t step);
void mcs_run_log_value(struct run_log *log, const char *name, double value);
enum mcs_status mcs_run_log_end(struct run_log *log);
/* Flushes both files to disk (fsync). Called before a checkpoint, so that the log has all steps of a checkpoint. E_IO.
 */
enum mcs_status mcs_run_log_sync(struct run_log *log);
void mcs_run_log_close(struct run_log *log);

#endif
