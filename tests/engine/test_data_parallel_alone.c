/* engine/dist seen from one rank of many, with a communicator that writes down each collective and makes up the values
 * of the other ranks: the exchanges after each step, the bounds of each gradient bucket, the loss of the whole batch by
 * its formula, exchanged numbers, refused calls. */
#include "engine/dist/data_parallel.h"
#include "engine/model/layers.h"
#include "engine/tape/grad.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static struct device d;
static struct ranks ranks;
static struct comm comm;
static char calls[2048];
static float step_of_rank; /* a gather's values of rank r are this rank's + r times this */
static float *grad;        /* what sums of gradients are counted from */
static struct {
    float v[64];
    int64_t n;
} gathered[8]; /* this rank's part of each gather */
static int n_gathered;

static void note(const char *format, ...)
{
    va_list a;
    const size_t n = strlen(calls);
    va_start(a, format);
    vsnprintf(calls + n, sizeof calls - n, format, a);
    va_end(a);
}

static enum mcs_status sum(struct comm *c, float *x, int64_t n)
{
    if (grad)
        note("%s: %lld+%lld; ", c->what, (long long)(x - grad), (long long)n);
    else
        note("sum %s %lld; ", c->what, (long long)n);
    for (int64_t i = 0; i < n; i++) x[i] *= 2;
    return MCS_OK;
}

static enum mcs_status gather(struct comm *c, const float *src, float *dst, int64_t n)
{
    note("gather %s %lld; ", c->what, (long long)n);
    cr_assert_str_eq(c->doing, "allgather");
    if (n <= 64 && n_gathered < 8) {
        memcpy(gathered[n_gathered].v, src, (size_t)n * sizeof *src);
        gathered[n_gathered++].n = n;
    }
    for (int r = 0; r < c->size; r++)
        for (int64_t i = 0; i < n; i++) dst[r * n + i] = src[i] + (float)r * step_of_rank;
    return MCS_OK;
}

static enum mcs_status broadcast(struct comm *c, float *x, int64_t n)
{
    note("broadcast %s %lld; ", c->what, (long long)n);
    x[0] = -1;
    return MCS_OK;
}

static enum mcs_status join(struct comm *c)
{
    note("join; ");
    return MCS_OK;
}

static enum mcs_status wait_for(struct comm *c)
{
    note("wait; ");
    return MCS_OK;
}

static struct comm_ops ops = {
    .name = "test", .allreduce_sum = sum, .allgather = gather, .broadcast = broadcast, .join = join, .wait = wait_for};

static void open_comm(int rank, int size)
{
    void *scratch;
    OK(mcs_cpu_open(1, &d));
    ranks = (struct ranks){.rank = rank, .size = size};
    OK(d.backend->alloc(&d, COMM_VALUES * (1 + size) * (int64_t)sizeof(float), &scratch));
    comm = (struct comm){.ops = &ops,
                         .device = &d,
                         .ranks = &ranks,
                         .rank = rank,
                         .size = size,
                         .scratch = scratch,
                         .gathered = calloc((size_t)size, sizeof(float))};
    calls[0] = 0;
    n_gathered = 0;
}

static void close_comm(void)
{
    d.backend->free(&d, comm.scratch);
    free(comm.gathered);
    mcs_device_close(&d);
}

static void expect_calls(const char *want)
{
    cr_expect_str_eq(calls, want, "'%s', want '%s'", calls, want);
    calls[0] = 0;
}

static void refused(enum mcs_status st, enum mcs_status want, const char *part)
{
    cr_expect_eq(st, want, "status %d, want %d: %s", (int)st, (int)want, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    mcs_error_clear();
}

/* ---- collectives ---- */

Test(data_parallel_alone, numbers_of_all_ranks)
{
    static float mine[COMM_VALUES + 1], all[3 * COMM_VALUES + 1];
    int most;
    open_comm(1, 3);
    for (int i = 0; i <= COMM_VALUES; i++) mine[i] = (float)(i + 1);
    step_of_rank = 100;
    OK(mcs_comm_values(&comm, mine, 2, all, "two"));
    expect_calls("gather two 2; join; wait; ");
    for (int i = 0; i < 6; i++) cr_expect_eq(all[i], i % 2 + 1 + i / 2 * 100);
    cr_expect_eq(all[6], 0);
    OK(mcs_comm_values(&comm, mine, COMM_VALUES, all, "many"));
    cr_expect(all[0] == 1 && all[COMM_VALUES - 1] == COMM_VALUES && all[3 * COMM_VALUES - 1] == COMM_VALUES + 200);
    cr_expect_eq(all[3 * COMM_VALUES], 0);
    refused(mcs_comm_values(&comm, mine, 0, all, "none"), MCS_E_FAIL, "none: 0 values, at most 64");
    refused(mcs_comm_values(&comm, mine, COMM_VALUES + 1, all, "more"), MCS_E_FAIL, "more: 65 values, at most 64");
    calls[0] = 0;
    OK(mcs_comm_allreduce_max(&comm, 7, &most, "most"));
    cr_expect_eq(most, 207);
    step_of_rank = -100;
    OK(mcs_comm_allreduce_max(&comm, 7, &most, "most"));
    cr_expect_eq(most, 7);
    calls[0] = 0;
    OK(mcs_comm_barrier(&comm, "here"));
    expect_calls("gather here 1; join; wait; ");
    cr_expect_eq(comm.n_calls, 5);
    OK(mcs_comm_allreduce_sum(&comm, mine, 0, "nothing"));
    OK(mcs_comm_broadcast(&comm, mine, 0, "nothing"));
    expect_calls("");
    cr_expect_eq(comm.n_calls, 5, "of no values none is begun");
    OK(mcs_comm_allreduce_sum(&comm, mine, 3, "three"));
    OK(mcs_comm_broadcast(&comm, all, 2, "pair"));
    expect_calls("sum three 3; broadcast pair 2; ");
    cr_expect(mine[0] == 2 && mine[2] == 6 && mine[3] == 4 && all[0] == -1);
    refused(mcs_comm_lost(&comm, "it rains"), MCS_E_FAIL, "rank 1, broadcast of pair (collective 7): it rains");
    cr_expect_eq(ranks.follows, 1);
    refused(mcs_comm_allreduce_sum(&comm, mine, 3, "three"), MCS_E_FAIL,
            "rank 1: allreduce of three after a collective that failed");
    refused(mcs_comm_allgather(&comm, mine, all, 3, "g"), MCS_E_FAIL, "rank 1: allgather of g after a collective");
    refused(mcs_comm_broadcast(&comm, mine, 3, "b"), MCS_E_FAIL, "rank 1: broadcast of b after a collective");
    cr_expect_eq(comm.n_calls, 7);
    expect_calls("");
    close_comm();
}

/* ---- gathered rows ---- */

Test(data_parallel_alone, rows_of_all_ranks)
{
    struct data_parallel dp;
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct exec *e;
    static const int32_t own[] = {-1, -1, 0, 1, -1, -1};
    static const float values[] = {1, 2, 3, 4, 5, 6}, more[] = {9, 8, 7, 6};
    float got[18];
    open_comm(1, 3);
    mcs_data_parallel_begin(&dp, &comm, g);
    struct tensor *x = mcs_input(g, "x", MCS_F32, MCS_DIMS(2, 3)), *z = mcs_input(g, "z", MCS_F32, MCS_DIMS(1, 4));
    struct tensor *rows = mcs_keep(mcs_data_parallel_gather(&dp, x)),
                  *others = mcs_keep(mcs_data_parallel_gather(&dp, z));
    cr_assert(rows->nd == 2 && rows->dim[0] == 6 && rows->dim[1] == 3 && others->dim[0] == 3 && others->dim[1] == 4);
    cr_expect_eq(dp.n_rows, 2);
    cr_expect(!memcmp(g->steps[0].in[1]->constant, own, sizeof own), "its own rows come second");
    OK(mcs_params_alloc(p, &d));
    OK(mcs_exec_new(g, &d, &e));
    OK(mcs_data_parallel_attach(&dp, e, NULL, 0));
    cr_expect_eq(e->no_capture, 1, "collectives through the host cannot be recorded");
    OK(mcs_exec_set(e, x, values));
    OK(mcs_exec_set(e, z, more));
    step_of_rank = 10;
    OK(mcs_exec_run(e));
    expect_calls("gather x 6; join; gather z 4; join; ");
    OK(mcs_exec_get(e, rows, got));
    for (int i = 0; i < 18; i++) cr_expect_eq(got[i], values[i % 6] + (float)(i / 6) * 10);
    OK(mcs_exec_get(e, others, got));
    for (int i = 0; i < 12; i++) cr_expect_eq(got[i], more[i % 4] + (float)(i / 4) * 10);
    mcs_exec_free(e);
    mcs_data_parallel_end(&dp);
    cr_expect(!dp.comm && !dp.n_rows);
    mcs_graph_free(g);
    mcs_params_free(p);
    close_comm();
}

Test(data_parallel_alone, rows_that_are_refused)
{
    struct params *p = mcs_params_new();
    open_comm(0, 2);
    for (int k = 0; k < 6; k++) {
        struct data_parallel dp;
        struct graph *g = mcs_graph_new(p, MCS_F32);
        mcs_data_parallel_begin(&dp, k == 4 ? NULL : &comm, g);
        struct tensor *x = k == 0   ? mcs_input(g, "x", MCS_F32, MCS_DIMS(2, 3, 4))
                           : k == 1 ? mcs_input(g, "x", MCS_BF16, MCS_DIMS(2, 3))
                           : k == 2 ? mcs_input(g, "x", MCS_F32, MCS_DIMS(2))
                                    : mcs_input(g, "x", MCS_F32, MCS_DIMS(2, 3));
        for (int i = 0; k == 3 && i < DATA_PARALLEL_MAX; i++) cr_assert_neq(mcs_data_parallel_gather(&dp, x), x);
        if (k == 3) OK(g->status);
        if (k == 5) g->status = MCS_E_IO;
        cr_expect_eq(mcs_data_parallel_gather(&dp, x), x);
        if (k < 4)
            refused(g->status, MCS_E_SHAPE, "x: gathered rows want (n,D) of float32, and at most 24 of them");
        else
            cr_expect_eq(g->status, k == 4 ? MCS_OK : MCS_E_IO);
        mcs_data_parallel_end(&dp);
        mcs_graph_free(g);
    }
    mcs_params_free(p);
    close_comm();
}

/* ---- the loss of the whole batch ---- */

enum { N = 2, SPACE = 5, CLASSES = 3, PER = N * CLASSES * 3 };

/* 2 pg / (p + g), smoothed, mean over groups of samples and the classes but the first. */
static double dice_of(const struct dice_ce_attr *a, const float *sums, int n)
{
    const int per_group = a->batch_dice ? n : 1;
    double all = 0;
    for (int i = 0; i < n; i += per_group)
        for (int c = 1; c < CLASSES; c++) {
            double pg = 0, both = 0;
            for (int k = i; k < i + per_group; k++) {
                const float *q = sums + (k * CLASSES + c) * 3;
                pg += (double)q[0], both += (double)q[1] + (double)q[2];
            }
            all += (2 * pg + (double)a->smooth) / (both + (double)a->smooth);
        }
    return all / (n / per_group * (CLASSES - 1));
}

/* The loss of `size` ranks, which have this rank's loss and sums + r times a step. */
static void expect_loss(int size, int batch_dice, float step, int labelled)
{
    struct dice_ce_attr a = {.batch_dice = batch_dice, .smooth = 0.5f, .weight_ce = 1, .weight_dice = 0.75f};
    struct data_parallel dp;
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct exec *e;
    float x[N * SPACE * CLASSES], weight = 6;
    int32_t target[N * SPACE];
    double loss = 0, entropy = 0, valid = 0;
    static float sums[32 * PER];
    open_comm(0, size);
    mcs_data_parallel_begin(&dp, &comm, g);
    struct tensor *logits = mcs_input(g, "logits", MCS_F32, MCS_DIMS(N, SPACE, CLASSES)),
                  *truth = mcs_input(g, "truth", MCS_I32, MCS_DIMS(N, SPACE));
    struct tensor *before = mcs_apply(g, OP_relu, "before", (struct tensor *[]){logits, NULL}, NULL);
    struct tensor *y = mcs_keep(mcs_apply(g, OP_dice_ce, "loss", (struct tensor *[]){before, truth, NULL}, &a));
    cr_assert_eq(g->n_steps, 2);
    for (int i = 0; i < N * SPACE * CLASSES; i++) x[i] = (float)(i * 7 % 11) / 4;
    for (int i = 0; i < N * SPACE; i++) target[i] = labelled ? i * 5 % 4 - 1 : -1;
    OK(mcs_params_alloc(p, &d));
    OK(mcs_exec_new(g, &d, &e));
    OK(mcs_data_parallel_dice(&dp, y, &weight));
    cr_expect_eq(weight, batch_dice ? 6 : 6 / (float)size);
    OK(mcs_data_parallel_attach(&dp, e, NULL, 0));
    OK(mcs_exec_set(e, logits, x));
    OK(mcs_exec_set(e, truth, target));
    step_of_rank = step;
    OK(mcs_exec_run(e));
    cr_expect(strncmp(calls, "gather ", 7) == 0 && strstr(calls, " 1; gather ") && strstr(calls, " 18; "), "%s", calls);
    cr_expect_eq(!strstr(calls, "; sum "), !batch_dice, "%s", calls);
    calls[0] = 0;
    cr_assert(n_gathered == 2 && gathered[0].n == 1 && gathered[1].n == PER);
    for (int r = 0; r < size; r++) {
        double own_valid = 0;
        float *own = sums + r * PER;
        for (int i = 0; i < PER; i++) own[i] = gathered[1].v[i] + (float)r * step;
        for (int i = 0; i < N * CLASSES; i++) own_valid += (double)own[3 * i + 2];
        entropy += own_valid * ((double)(gathered[0].v[0] + (float)r * step) + 0.75 * dice_of(&a, own, N));
        valid += own_valid;
    }
    const double want = (valid > 0 ? entropy / valid : 0) - 0.75 * dice_of(&a, sums, size * N);
    const enum mcs_status st = mcs_data_parallel_dice_loss(&dp, 0, &loss);
    expect_calls("wait; ");
    if (!batch_dice && step > 0)
        refused(st, MCS_E_DATA, "rank 1 has 10 labelled voxels and rank 0 7; Dice by sample");
    else {
        OK(st);
        cr_expect_lt(fabs(loss - want), 1e-12 * (1 + fabs(want)), "%d ranks: %.17g, want %.17g", size, loss, want);
    }
    mcs_exec_free(e);
    mcs_data_parallel_end(&dp);
    mcs_graph_free(g);
    mcs_params_free(p);
    close_comm();
}

Test(data_parallel_alone, loss_of_the_whole_batch)
{
    static const int sizes[] = {2, 3, 15, 16, 17};
    for (int i = 0; i < 5; i++)
        for (int batch_dice = 0; batch_dice < 2; batch_dice++) {
            expect_loss(sizes[i], batch_dice, 0, 1);
            expect_loss(sizes[i], batch_dice, 0, 0);
            expect_loss(sizes[i], batch_dice, 0.5f, 1);
        }
}

Test(data_parallel_alone, losses_that_are_refused)
{
    const struct dice_ce_attr a = {.smooth = 1, .weight_ce = 1, .weight_dice = 1};
    struct data_parallel dp;
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    float weight = 6;
    open_comm(0, 2);
    struct tensor *x = mcs_input(g, "x", MCS_F32, MCS_DIMS(1, 4, 2)), *t = mcs_input(g, "t", MCS_I32, MCS_DIMS(1, 4));
    struct tensor *other = mcs_apply(g, OP_mse, "other", (struct tensor *[]){x, x, NULL}, NULL);
    struct tensor *loss = mcs_apply(g, OP_dice_ce, "loss", (struct tensor *[]){x, t, NULL}, &a);
    mcs_data_parallel_begin(&dp, NULL, g);
    OK(mcs_data_parallel_dice(&dp, loss, &weight));
    OK(mcs_data_parallel_attach(&dp, NULL, NULL, 0));
    cr_expect(weight == 6 && dp.n_dice == 0, "one rank alone");
    mcs_data_parallel_begin(&dp, &comm, g);
    refused(mcs_data_parallel_dice(&dp, other, &weight), MCS_E_SHAPE, "is no loss of a dice_ce step");
    refused(mcs_data_parallel_dice(&dp, g->steps[1].out[1], &weight), MCS_E_SHAPE, "is no loss of a dice_ce step");
    cr_expect(weight == 6 && dp.n_dice == 0);
    for (int i = 0; i < DATA_PARALLEL_MAX; i++) OK(mcs_data_parallel_dice(&dp, loss, &weight));
    cr_expect_eq(dp.n_dice, DATA_PARALLEL_MAX);
    refused(mcs_data_parallel_dice(&dp, loss, &weight), MCS_E_SHAPE, "is no loss of a dice_ce step");
    mcs_data_parallel_end(&dp);
    mcs_graph_free(g);
    mcs_params_free(p);
    close_comm();
}

/* ---- gradient buckets ---- */

/* The buckets in order, as "first+n after ready", and the sums that a backward pass does. */
static void expect_buckets(const struct graph *g, const char *const *without, int64_t bytes, const char *want,
                           const char *sums)
{
    struct buckets b;
    char text[512] = "";
    OK(mcs_buckets_make(g, without, &comm, bytes, &b));
    for (int i = 0; i < b.n; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld+%lld after %d", i ? ", " : "",
                 (long long)b.b[i].first, (long long)b.b[i].n, b.b[i].ready);
    cr_expect_str_eq(text, want, "%lld bytes: %s, want %s", (long long)bytes, text, want);
    for (int i = g->n_forward; i < g->n_steps; i++) {
        OK(mcs_buckets_after_step(&b, g, i));
        note("| ");
    }
    if (sums) expect_calls(sums);
    calls[0] = 0;
    mcs_buckets_free(&b);
    cr_expect(!b.b && !b.n);
}

Test(data_parallel_alone, bounds_of_each_bucket)
{
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32), *second = mcs_graph_new(p, MCS_F32);
    struct data_parallel dp;
    struct exec *e;
    static const char *const without[] = {"c.w", "d.", NULL};
    open_comm(0, 2);
    struct tensor *x = mcs_input(g, "x", MCS_F32, MCS_DIMS(4, 3)), *t = mcs_input(g, "t", MCS_F32, MCS_DIMS(4, 1));
    struct tensor *h = mcs_linear(g, x, 2, BIAS, "a"); /* 6 and 2 floats, in 16 each */
    mcs_buffer(g, "buffer", 1, (int64_t[]){5}, (struct init){INIT_ZERO, 0});
    h = mcs_linear(g, h, 20, BIAS, "c"); /* 40 in 48, 20 in 32 */
    h = mcs_linear(g, h, 1, BIAS, "d");  /* 20 in 32, 1 in 16 */
    struct tensor *loss = mcs_apply(g, OP_mse, "loss", (struct tensor *[]){h, t, NULL}, NULL);
    mcs_param(second, "last", 1, (int64_t[]){17}, (struct init){INIT_ZERO, 0}); /* in 32; no step of g has it */
    OK(mcs_grad(g, &loss, 1));
    OK(mcs_params_alloc(p, &d));
    OK(mcs_params_alloc_grad(p));
    cr_assert(g->n_forward == 4 && g->n_steps == 8 && p->n_values == 208);
    grad = p->grad;
    expect_buckets(g, NULL, 0, "48+160 after 6, 0+32 after 7",
                   "| | gradient bucket 0: 48+160; | gradient bucket 1: 0+32; | ");
    expect_buckets(g, NULL, 4,
                   "176+32 after 3, 128+32 after 5, 160+16 after 5, 48+48 after 6, 96+32 after 6, "
                   "0+16 after 7, 16+16 after 7",
                   "gradient bucket 0: 176+32; | gradient bucket 1: 128+32; gradient bucket 2: 160+16; | "
                   "gradient bucket 3: 48+48; gradient bucket 4: 96+32; | gradient bucket 5: 0+16; "
                   "gradient bucket 6: 16+16; | ");
    expect_buckets(g, NULL, 4 * 80, "128+80 after 5, 48+80 after 6, 0+32 after 7", NULL);
    expect_buckets(g, NULL, 4 * 79, "160+48 after 5, 48+48 after 6, 96+64 after 6, 0+32 after 7", NULL);
    expect_buckets(g, NULL, 4 * 32 - 1,
                   "176+32 after 3, 128+32 after 5, 160+16 after 5, 48+48 after 6, 96+32 after 6, "
                   "0+16 after 7, 16+16 after 7",
                   NULL);
    expect_buckets(g, without, 0, "176+32 after 3, 96+32 after 6, 0+32 after 7", NULL);
    mcs_data_parallel_begin(&dp, &comm, g);
    OK(mcs_exec_new(g, &d, &e));
    ops.enqueues = 1;
    OK(mcs_data_parallel_attach(&dp, e, without, 4));
    cr_expect_eq(e->no_capture, 0);
    cr_expect_eq(dp.buckets.n, 4);
    OK(mcs_exec_run(e));
    expect_calls("gradient bucket 0: 176+32; gradient bucket 1: 96+32; gradient bucket 2: 0+16; "
                 "gradient bucket 3: 16+16; join; ");
    mcs_exec_free(e);
    mcs_data_parallel_end(&dp);
    mcs_graph_free(second);
    mcs_graph_free(g);
    mcs_params_free(p);
    close_comm();
}
