/* Executors on a device that records steps for replay: which runs are recorded, which are replayed, when a recording is
 * freed, and that failures leave none. The device is the CPU with calls that are written down. Also the mean times in a
 * trace, and inputs in bfloat16 that are set in pieces. */
#include "engine/base/memory.h"
#include "engine/model/layers.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "tests/support/support_counting.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static struct counting counted;
static char calls[4096];   /* since the last expect_calls */
static char recording[64]; /* recording[i]: an executor holds number i */
static int n_recordings;   /* made so far; the first is number 1 */
static int fail_step;      /* the step after which a run fails; -1: none */
static enum mcs_status begin_fails, end_fails, run_fails;
static const struct run_state *run_seen;

static void note(const char *format, ...)
{
    va_list a;
    const size_t n = strlen(calls);
    va_start(a, format);
    vsnprintf(calls + n, sizeof calls - n, format, a);
    va_end(a);
}

static enum mcs_status begin_run(struct device *d, const struct run_state *run)
{
    run_seen = run;
    note("b ");
    return run_fails;
}

static enum mcs_status capture_begin(struct device *d)
{
    note("( ");
    return begin_fails;
}

static enum mcs_status capture_end(struct device *d, void **captured)
{
    note(") ");
    if (end_fails != MCS_OK) return end_fails;
    recording[++n_recordings] = 1;
    *captured = &recording[n_recordings];
    return MCS_OK;
}

static int number_of(void *captured)
{
    const int i = (int)((char *)captured - recording);
    cr_assert(i >= 1 && i <= n_recordings && recording[i], "no recording that is held");
    return i;
}

static enum mcs_status replay(struct device *d, void *captured)
{
    note("r%d ", number_of(captured));
    return MCS_OK;
}

static void captured_free(struct device *d, void *captured)
{
    const int i = number_of(captured);
    note("f%d ", i);
    recording[i] = 0;
}

static enum mcs_status after_step(void *ctx, int i)
{
    note("%d ", i);
    cr_assert_eq(ctx, &counted);
    return i == fail_step ? MCS_FAIL(MCS_E_DEVICE, "step %d fails", i) : MCS_OK;
}

static struct device device_open(void)
{
    struct device d;
    OK(mcs_cpu_open(1, &d));
    count_device(&d, &counted);
    counted.table.begin_run = begin_run;
    counted.table.capture_begin = capture_begin;
    counted.table.capture_end = capture_end;
    counted.table.replay = replay;
    counted.table.captured_free = captured_free;
    fail_step = -1;
    return d;
}

static void expect_calls(const char *what, const char *want)
{
    cr_expect_str_eq(calls, want, "%s: '%s', want '%s'", what, calls, want);
    calls[0] = 0;
}

/* A linear layer and a loss: 2 steps forward, 2 backward. */
struct net {
    struct params *p;
    struct graph *g;
    struct exec *e;
};

static struct graph *record(struct params *p, int64_t rows)
{
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct tensor *x = mcs_input(g, "x", MCS_F32, MCS_DIMS(rows, 3)),
                  *target = mcs_input(g, "target", MCS_F32, MCS_DIMS(rows, 2));
    struct tensor *y = mcs_linear(g, x, 2, 0, "l");
    struct tensor *loss = mcs_keep(mcs_apply(g, OP_mse, "loss", (struct tensor *[]){y, target, NULL}, NULL));
    OK(mcs_grad(g, &loss, 1));
    cr_assert_eq(g->n_forward, 2);
    cr_assert_eq(g->n_steps, 4);
    return g;
}

static void net_new(struct net *n, struct device *d)
{
    memset(n, 0, sizeof *n);
    n->p = mcs_params_new();
    n->g = record(n->p, 5);
    OK(mcs_params_alloc(n->p, d));
    OK(mcs_params_alloc_grad(n->p));
    OK(mcs_exec_new(n->g, d, &n->e));
    n->e->after_step = after_step;
    n->e->after_ctx = &counted;
    calls[0] = 0;
}

static void net_free(struct net *n)
{
    mcs_exec_free(n->e);
    mcs_graph_free(n->g);
    mcs_params_free(n->p);
}

Test(exec_capture, each_part_is_recorded_on_its_second_run)
{
    struct device d = device_open();
    struct net n;
    net_new(&n, &d);
    OK(mcs_exec_run(n.e));
    expect_calls("first run", "b 0 1 2 3 ");
    cr_expect_eq(run_seen, &n.g->run);
    OK(mcs_exec_run(n.e));
    expect_calls("second run", "b ( 0 1 2 3 ) r1 ");
    OK(mcs_exec_run(n.e));
    expect_calls("third run", "b r1 ");
    OK(mcs_exec_forward(n.e));
    OK(mcs_exec_backward(n.e));
    expect_calls("first forward and backward", "b 0 1 b 2 3 ");
    OK(mcs_exec_backward(n.e));
    OK(mcs_exec_forward(n.e));
    expect_calls("second backward and forward", "b ( 2 3 ) r2 b ( 0 1 ) r3 ");
    OK(mcs_exec_forward(n.e));
    OK(mcs_exec_backward(n.e));
    OK(mcs_exec_run(n.e));
    expect_calls("later ones", "b r3 b r2 b r1 ");
    cr_expect_eq(n.e->n_runs, 7);
    net_free(&n);
    expect_calls("end", "f1 f3 f2 ");
    mcs_device_close(&d);
}

Test(exec_capture, failures_leave_no_recording)
{
    struct device d = device_open();
    struct net n;
    net_new(&n, &d);
    run_fails = MCS_E_IO;
    cr_expect_eq(mcs_exec_run(n.e), MCS_E_IO);
    expect_calls("begin_run fails", "b ");
    run_fails = MCS_OK;
    fail_step = 1;
    cr_expect_eq(mcs_exec_run(n.e), MCS_E_DEVICE);
    expect_calls("a step fails", "b 0 1 ");
    cr_expect_eq(mcs_exec_run(n.e), MCS_E_DEVICE);
    expect_calls("a recorded step fails", "b ( 0 1 ) f1 ");
    fail_step = -1;
    begin_fails = MCS_E_NOMEM;
    cr_expect_eq(mcs_exec_run(n.e), MCS_E_NOMEM);
    expect_calls("the recording cannot begin", "b ( ");
    begin_fails = MCS_OK;
    end_fails = MCS_E_DEVICE;
    cr_expect_eq(mcs_exec_run(n.e), MCS_E_DEVICE);
    expect_calls("the recording cannot end", "b ( 0 1 2 3 ) ");
    fail_step = 3;
    end_fails = MCS_E_IO;
    cr_expect_eq(mcs_exec_run(n.e), MCS_E_DEVICE, "the step's failure comes first");
    expect_calls("both", "b ( 0 1 2 3 ) ");
    fail_step = -1;
    end_fails = MCS_OK;
    OK(mcs_exec_run(n.e));
    expect_calls("then it can", "b ( 0 1 2 3 ) r2 ");
    net_free(&n);
    expect_calls("end", "f2 ");
    mcs_error_clear();
    mcs_device_close(&d);
}

/* Timed steps, and those of an executor that waits for the device after each, are never recorded; an earlier recording
 * is freed at the end. */
Test(exec_capture, what_is_not_recorded)
{
    struct device d = device_open();
    struct net n;
    net_new(&n, &d);
    n.e->no_capture = 1;
    for (int i = 0; i < 3; i++) OK(mcs_exec_run(n.e));
    expect_calls("no_capture", "b 0 1 2 3 b 0 1 2 3 b 0 1 2 3 ");
    n.e->no_capture = 0;
    OK(mcs_exec_run(n.e));
    expect_calls("allowed again", "b ( 0 1 2 3 ) r1 ");
    OK(mcs_exec_time_steps(n.e));
    OK(mcs_exec_run(n.e));
    expect_calls("timed", "b 0 1 2 3 ");
    for (int i = 0; i < 4; i++) cr_expect(n.e->step_seconds[i] >= 0 && n.e->step_seconds[i] < 60);
    net_free(&n);
    expect_calls("end", "f1 ");
    mcs_device_close(&d);
}

/* Growing memory moves the tensors, while recordings hold their old addresses. An executor that fits into the existing
 * memory leaves the others' recordings valid. */
Test(exec_capture, recordings_end_where_memory_grows)
{
    struct device d = device_open();
    struct params *p = mcs_params_new();
    struct exec_memory memory = {.device = &d};
    static const int64_t rows[3] = {50, 4, 5000};
    struct graph *g[3];
    struct exec *e[3];
    for (int i = 0; i < 3; i++) g[i] = record(p, rows[i]);
    OK(mcs_params_alloc(p, &d));
    OK(mcs_params_alloc_grad(p));
    for (int i = 0; i < 3; i++) {
        OK(mcs_exec_new_in(&memory, g[i], &e[i]));
        cr_expect_eq(e[i]->bound, 0);
        cr_expect_eq(mcs_exec_run(e[i]), MCS_E_FAIL, "it has no memory yet");
        mcs_error_clear();
        calls[0] = 0;
        const struct plan all = mcs_exec_memory_plan(&memory);
        OK(mcs_exec_memory_alloc(&memory));
        cr_expect_str_eq(calls, i == 2 ? "f2 f1 " : "", "executor %d: %s", i, calls);
        cr_expect_eq(memory.activation_bytes, all.activation_bytes);
        cr_expect_eq(memory.input_bytes, all.input_bytes);
        cr_expect_eq(memory.workspace_bytes, all.workspace_bytes);
        for (int k = 0; k <= i; k++) cr_expect_eq(e[k]->bound, 1);
        calls[0] = 0;
        OK(mcs_exec_run(e[i]));
        OK(mcs_exec_run(e[i]));
        char want[64];
        snprintf(want, sizeof want, "b b ( ) r%d ", i + 1);
        expect_calls("two runs", want);
    }
    OK(mcs_exec_run(e[0]));
    expect_calls("recorded anew", "b ( ) r4 ");
    mcs_exec_free(e[0]);
    expect_calls("freed", "f4 ");
    OK(mcs_exec_memory_alloc(&memory));
    OK(mcs_exec_run(e[2]));
    expect_calls("the others go on", "b r3 ");
    mcs_exec_free(e[2]);
    mcs_exec_free(e[1]);
    mcs_exec_memory_free(&memory);
    for (int i = 0; i < 3; i++) mcs_graph_free(g[i]);
    mcs_params_free(p);
    cr_expect_eq(counted.held, 0);
    mcs_device_close(&d);
}

/* Each step is in the trace with its mean time over the runs, one after the other; each executor is a process. */
Test(exec_capture, mean_times_of_a_trace)
{
    struct device d = device_open();
    char path[] = "/tmp/mcs_trace_XXXXXX", text[4096] = "";
    const int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    OK(mcs_exec_trace_open(path));
    cr_expect_eq(mcs_exec_trace_open(path), MCS_E_FAIL);
    mcs_error_clear();
    struct net n[3];
    for (int k = 0; k < 3; k++) {
        net_new(&n[k], &d);
        cr_expect_eq(n[k].e->no_capture, 1);
        for (int i = 0; i < 4; i++) n[k].e->step_seconds[i] = 1e-3 * (i + 1) * (k + 1);
        n[k].e->n_runs = k == 1 ? 0 : 4; /* an executor that never ran is left out */
    }
    for (int k = 0; k < 3; k++) net_free(&n[k]);
    OK(mcs_exec_trace_close());
    OK(mcs_exec_trace_close());
    FILE *f = fopen(path, "r");
    cr_assert(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    unlink(path);
    char want[4096] = "[", line[256];
    static const char *const names[] = {"linear l\",\"cat\":\"forward", "mse loss\",\"cat\":\"forward",
                                        "mse loss\",\"cat\":\"backward", "linear l\",\"cat\":\"backward"};
    double at[2] = {0};
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 4; i++) {
            const double us = 250.0 * (i + 1) * (k ? 3 : 1);
            snprintf(line, sizeof line,
                     "%s\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":%.1f,\"dur\":%.1f,"
                     "\"args\":{\"runs\":4}}",
                     k + i ? "," : "", names[i], k + 1, at[k], us);
            strcat(want, line);
            at[k] += us;
        }
    strcat(want, "\n]\n");
    cr_expect_str_eq(text, want, "%s", text);
    mcs_device_close(&d);
}

/* Set in chunks of 4096 values: each value at its position, rounded to the nearest. */
Test(exec_capture, an_input_in_bfloat16_of_several_pieces)
{
    static const int64_t counts[] = {1, 4095, 4096, 4097, 8192, 8195};
    struct device d = device_open();
    struct params *p = mcs_params_new();
    OK(mcs_params_alloc(p, &d));
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        static float values[9000], got[9000];
        const int64_t n = counts[k];
        struct graph *g = mcs_graph_new(p, MCS_F32);
        struct exec *e;
        struct tensor *x = mcs_input(g, "x", MCS_BF16, MCS_DIMS(1, n));
        const struct cast_attr wide = {MCS_F32};
        mcs_keep(mcs_apply(g, OP_cast, "wide", (struct tensor *[]){x, NULL}, &wide));
        OK(mcs_exec_new(g, &d, &e));
        for (int64_t i = 0; i < n; i++) values[i] = (float)(i % 256) - 100;
        /* more than 8 significant bits: rounded */
        for (int64_t i = 0; i < n; i += 256) values[i] = (float)(i / 256 + 1) * 0.001f;
        OK(mcs_exec_set(e, x, values));
        OK(mcs_exec_get(e, x, got));
        for (int64_t i = 0; i < n; i++)
            cr_assert_eq(got[i], mcs_bf16_to(mcs_bf16_from(values[i])), "%lld of %lld", (long long)i, (long long)n);
        mcs_exec_free(e);
        mcs_graph_free(g);
    }
    mcs_params_free(p);
    mcs_device_close(&d);
}

/* Where the memory does not suffice, the batch that would fit is told: the memory left beside the fixed part, by the
 * bytes that one more of the batch takes. The sizes are so large that what this process uses makes no difference. */
Test(exec_capture, the_batch_that_fits_is_told)
{
    static const int64_t P = (int64_t)1 << 40;
    static const struct {
        int64_t fixed, by_batch, batch;
        const char *want;
    } rows[] = {{256, 1024, 1024, "; a batch of 767 would fit"},
                {0, 2048, 4, "; a batch of 1 would fit"},
                {0, 2048, 2, NULL},
                {0, 2040, 2, "; a batch of 1 would fit"},
                {512, 3072, 64, "; a batch of 10 would fit"},
                {2048, 0, 8, NULL},
                {2048, 8, 8, NULL}};
    struct device d;
    OK(mcs_cpu_open(1, &d));
    mcs_memory_limit_set(1024 * P);
    OK(d.backend->check_memory(&d, 512 * P, 511 * P, 3));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_eq(d.backend->check_memory(&d, rows[i].fixed * P, rows[i].by_batch * P, rows[i].batch), MCS_E_NOMEM);
        const char *told = strstr(mcs_error_message(), "; a batch of");
        if (rows[i].want)
            cr_expect(told && !strcmp(told, rows[i].want), "row %zu: %s", i, mcs_error_message());
        else
            cr_expect_null(told, "row %zu: %s", i, mcs_error_message());
        mcs_error_clear();
    }
    mcs_memory_limit_set(0);
    mcs_device_close(&d);
}
