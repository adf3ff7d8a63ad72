/* The training loop by a training of one weight: the order of its calls, which steps are logged and saved, a request to
 * stop, resuming, and failures. */
#include "data/io/file.h"
#include "engine/backend.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "tests/support/support_tiny.h"
#include "train/run/loop.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* A training of one weight with a constant gradient. stop_at and fail_...: steps, -1: never. calls: the functions of
 * struct training_task in the order of their calls, by first letter and step: "s0 p0 b0 p1 e0 l0 a1 ". */
struct toy {
    struct device cpu;
    struct params *params;
    struct graph *graph;
    struct optim *optim;
    int64_t stop_at, fail_prefetch, fail_end;
    char calls[256];
};

static const char *folder;

static void setup(void)
{
    mcs_log_quiet(1);
    mcs_stop_reset();
    folder = tiny_folder("loop");
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(loop, .init = setup, .fini = teardown, .timeout = 60);

static void note(struct toy *t, const char *call, int64_t step)
{
    const size_t n = strlen(t->calls);
    snprintf(t->calls + n, sizeof t->calls - n, "%s%lld ", call, (long long)step);
}

static enum mcs_status start(void *ctx)
{
    note(ctx, "s", 0);
    return MCS_OK;
}

static enum mcs_status prefetch(void *ctx, int64_t step)
{
    struct toy *t = ctx;
    note(t, "p", step);
    if (step == t->stop_at) mcs_stop_request();
    MCS_REQUIRE(step != t->fail_prefetch, MCS_E_DATA, "batch %lld is damaged", (long long)step);
    return MCS_OK;
}

static enum mcs_status begin(void *ctx, struct training_step *s)
{
    struct toy *t = ctx;
    note(t, "b", s->step);
    s->lr = 0.1;
    t->params->grad[0] = 2;
    return mcs_optim_begin(t->optim, s->lr);
}

static enum mcs_status end(void *ctx, struct training_step *s)
{
    struct toy *t = ctx;
    note(t, "e", s->step);
    MCS_REQUIRE(s->step != t->fail_end, MCS_E_DATA, "step %lld failed", (long long)s->step);
    s->loss = 0.5;
    return mcs_optim_end(t->optim, &s->norm);
}

static enum mcs_status log_step(void *ctx, const struct training_step *s, struct run_log *log)
{
    note(ctx, "l", s->step);
    mcs_run_log_value(log, "loss", s->loss);
    mcs_run_log_value(log, "norm", s->norm);
    return MCS_OK;
}

static enum mcs_status after_step(void *ctx, int64_t steps_done)
{
    note(ctx, "a", steps_done);
    return MCS_OK;
}

static const struct training_task task = {"toy", 2, start, prefetch, begin, end, log_step, after_step};
static const struct toy never = {.stop_at = -1, .fail_prefetch = -1, .fail_end = -1};

/* Trains for five steps, with checkpoints every two; *done is the loop's state afterwards. */
static enum mcs_status train(struct toy *t, const char *config, struct training *done)
{
    const struct optim_options sgd = {.kind = OPTIM_SGD, .momentum = 0.9f};
    OK(mcs_cpu_open(1, &t->cpu));
    t->params = mcs_params_new();
    t->graph = mcs_graph_new(t->params, MCS_F32);
    mcs_param(t->graph, "weight", 1, (int64_t[]){1}, (struct init){INIT_ZERO, 0});
    OK(mcs_graph_status(t->graph));
    OK(mcs_params_alloc(t->params, &t->cpu));
    OK(mcs_params_alloc_grad(t->params));
    OK(mcs_optim_new(t->params, &sgd, NULL, &t->optim));
    *done = (struct training){.task = &task,
                              .ctx = t,
                              .steps = 5,
                              .checkpoint_every = 2,
                              .run = tiny_path(folder, "run"),
                              .config = config,
                              .optim = t->optim};
    const enum mcs_status st = mcs_training_run(done);
    mcs_optim_free(t->optim);
    mcs_graph_free(t->graph);
    mcs_params_free(t->params);
    mcs_cpu_close(&t->cpu);
    return st;
}

static void expect_log(const char *want)
{
    char *text;
    int64_t n;
    OK(mcs_file_read(tiny_path(folder, "run/metrics.jsonl"), 1 << 20, &text, &n));
    cr_expect_str_eq(text, want);
    free(text);
}

#define LINE(step) "{\"step\": " step ", \"loss\": 0.5, \"norm\": 2}\n"

Test(loop, the_next_batch_is_prefetched_between_begin_and_end)
{
    struct toy t = never;
    struct training done;
    OK(train(&t, "a: 1\n", &done));
    cr_expect_str_eq(t.calls, "s0 p0 b0 p1 e0 l0 a1 b1 p2 e1 a2 b2 p3 e2 l2 a3 b3 p4 e3 a4 b4 e4 l4 a5 ");
    cr_expect(done.first == 0 && done.step == 5 && done.saved == 5);
    expect_log(LINE("1") LINE("3") LINE("5"));
    t = never; /* a finished run: nothing is done again */
    OK(train(&t, "a: 1\n", &done));
    cr_expect_str_eq(t.calls, "s0 ");
    cr_expect(done.first == 5 && done.step == 5 && done.saved == 5);
    expect_log(LINE("1") LINE("3") LINE("5"));
}

Test(loop, a_stop_saves_a_checkpoint_and_the_next_run_resumes)
{
    struct toy t = never;
    struct training done;
    t.stop_at = 3;
    cr_expect_eq(train(&t, "a: 1\n", &done), MCS_E_STOPPED);
    cr_expect(strstr(mcs_error_message(), "stopped after step 3; run the same command again to go on from"), "%s",
              mcs_error_message());
    cr_expect_str_eq(t.calls, "s0 p0 b0 p1 e0 l0 a1 b1 p2 e1 a2 b2 p3 e2 l2 a3 ");
    cr_expect_eq(done.saved, 3);
    mcs_error_clear();
    mcs_stop_reset();
    t = never;
    cr_expect_eq(train(&t, "a: 2\n", &done), MCS_E_DATA, "other options");
    cr_expect_str_eq(t.calls, "", "nothing is written for a run that is refused");
    cr_expect_null(strstr(mcs_error_message(), "last checkpoint"), "%s", mcs_error_message());
    mcs_error_clear();
    OK(train(&t, "a: 1\n", &done));
    cr_expect_str_eq(t.calls, "s0 p3 b3 p4 e3 a4 b4 e4 l4 a5 ");
    cr_expect(done.first == 3 && done.step == 5 && done.saved == 5);
    expect_log(LINE("1") LINE("3") LINE("5"));
}

/* The step before a damaged batch is finished and saved; a failed step is not. */
Test(loop, failures_name_the_last_checkpoint)
{
    struct toy t = never;
    struct training done;
    t.fail_end = 1;
    cr_expect_eq(train(&t, "a: 1\n", &done), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "step 1 failed; there is no checkpoint yet"), "%s", mcs_error_message());
    cr_expect_str_eq(t.calls, "s0 p0 b0 p1 e0 l0 a1 b1 p2 e1 ");
    mcs_error_clear();
    t = never;
    t.fail_prefetch = 2;
    cr_expect_eq(train(&t, "a: 1\n", &done), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "batch 2 is damaged; the last checkpoint"), "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), "is of step 2"), "%s", mcs_error_message());
    cr_expect_str_eq(t.calls, "s0 p0 b0 p1 e0 l0 a1 b1 p2 e1 a2 ");
    mcs_error_clear();
    t = never;
    OK(train(&t, "a: 1\n", &done));
    cr_expect_str_eq(t.calls, "s0 p2 b2 p3 e2 l2 a3 b3 p4 e3 a4 b4 e4 l4 a5 ");
}
