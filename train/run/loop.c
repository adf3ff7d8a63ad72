#include "train/run/loop.h"

#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/base/text_cut.h"
#include "train/run/checkpoint.h"
#include "train/run/process_group.h"

/* Rank 0 alone reads and writes the run's folder. */
static int writes(const struct training *t)
{
    return mcs_comm_rank(t->comm) == 0;
}

static enum mcs_status start(struct training *t)
{
    struct params *params = t->optim->params;
    int resumed = 0;
    MCS_TRY(mcs_path(t->checkpoint, "%s/checkpoint.h5", t->run));
    if (writes(t)) {
        MCS_TRY(mcs_folder_make(t->run));
        MCS_TRY(mcs_checkpoint_load(t->checkpoint, params, t->optim, t->config, &t->step, &resumed));
        if (t->task->start) MCS_TRY(t->task->start(t->ctx));
        if (resumed) mcs_log("%s: resuming after step %lld", t->checkpoint, (long long)t->step);
        MCS_TRY(mcs_run_log_open(&t->log, t->run, resumed ? t->step : -1));
    }
    MCS_TRY(mcs_process_group_broadcast(t->comm, params, t->optim, &t->step));
    t->first = t->saved = t->step;
    return MCS_OK;
}

static enum mcs_status log_step(struct training *t, const struct training_step *s)
{
    mcs_run_log_begin(&t->log, s->step + 1);
    MCS_TRY(t->task->log(t->ctx, s, &t->log));
    return mcs_run_log_end(&t->log);
}

/* The log is synced first, so that it has all steps of the checkpoint. */
static enum mcs_status save(struct training *t)
{
    if (writes(t)) {
        MCS_TRY(mcs_run_log_sync(&t->log));
        MCS_TRY(mcs_checkpoint_save(t->checkpoint, t->optim->params, t->optim, t->step, t->config));
    }
    t->saved = t->step;
    return MCS_OK;
}

/* Runs the step whose inputs are set, and prefetches the next one's. */
static enum mcs_status run_step(struct training *t, struct mcs_progress *bar)
{
    const struct training_task *task = t->task;
    struct training_step s = {.step = t->step};
    const int last = s.step + 1 == t->steps;
    int stop;
    MCS_TRY(task->begin(t->ctx, &s));
    const enum mcs_status next = last ? MCS_OK : task->prefetch(t->ctx, s.step + 1);
    MCS_TRY(task->end(t->ctx, &s));
    if (writes(t) && (s.step % task->log_every == 0 || last)) MCS_TRY(log_step(t, &s));
    mcs_text_cut(bar->note, sizeof bar->note, "loss %.3f%s", s.loss, s.note);
    mcs_progress_set(bar, ++t->step);
    if (task->after_step) MCS_TRY(task->after_step(t->ctx, t->step));
    MCS_TRY(mcs_comm_allreduce_max(t->comm, mcs_stop_requested(), &stop, "request to stop"));
    if (stop || last || (t->checkpoint_every && t->step % t->checkpoint_every == 0)) MCS_TRY(save(t));
    MCS_REQUIRE(!stop || last, MCS_E_STOPPED, "stopped after step %lld; run the same command again to go on from %s",
                (long long)t->step, t->checkpoint);
    return next;
}

static enum mcs_status run_steps(struct training *t)
{
    struct mcs_progress bar;
    mcs_progress_start(&bar, t->task->name, "step", t->steps);
    if (t->step < t->steps) MCS_TRY(t->task->prefetch(t->ctx, t->step));
    while (t->step < t->steps) MCS_TRY(run_step(t, &bar));
    mcs_progress_set(&bar, t->step);
    mcs_progress_end(&bar);
    return MCS_OK;
}

enum mcs_status mcs_training_run(struct training *t)
{
    enum mcs_status st = start(t);
    if (st == MCS_OK) {
        st = run_steps(t);
        if (st != MCS_OK && st != MCS_E_STOPPED && !(t->comm && t->comm->broken))
            mcs_checkpoint_error_add(st, t->checkpoint, t->saved);
    }
    mcs_run_log_close(&t->log);
    return st;
}
