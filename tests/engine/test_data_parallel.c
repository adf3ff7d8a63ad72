/* engine/dist/data_parallel on small graphs: a contrastive loss with gathered rows, Dice and cross-entropy with added
 * sums, and gradient buckets, on 2 and 4 ranks against one. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/dist/data_parallel.h"
#include "engine/model/layers.h"
#include "engine/tape/grad.h"
#include "tests/support/support_device.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

enum { BATCH = 8, IN = 24, HIDDEN = 40, OUT = 16, VOXELS = 70, CLASSES = 3, RUNS = 4, MAX_RANKS = 4 };

static void setup(void)
{
    mcs_log_quiet(1);
    test_devices(MAX_RANKS);
}
static void teardown(void)
{
    cr_expect(!test_reports(), "%s", test_reports());
}
TestSuite(data_parallel, .init = setup, .fini = teardown, .timeout = 300);

struct job {
    int dice; /* 1: Dice and cross-entropy; 0: contrastive */
    struct dice_ce_attr attr;
    int64_t bucket_bytes;
    float *grad[MAX_RANKS];
    double loss[MAX_RANKS];
    int64_t n;
};

static void fill(uint32_t site, uint32_t sample, float *x, int64_t n)
{
    mcs_rng_fill_normal((struct mcs_rng){.seed = 31, .site = site, .sample = sample}, x, n);
}

static struct tensor *layer(struct graph *g, struct tensor *x, int64_t width, const char *name)
{
    return mcs_linear(g, x, width, BIAS, name);
}

/* Sets the graph's inputs to a rank's part of the batch. */
static enum mcs_status set_inputs(const struct job *job, struct exec *e, struct tensor *const *in, int64_t own,
                                  int rank, uint32_t run)
{
    const int64_t per = job->dice ? VOXELS * IN : IN;
    float *x = malloc((size_t)(own * per) * sizeof *x);
    int32_t *t = malloc((size_t)(own * VOXELS) * sizeof *t);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(x && t, MCS_E_NOMEM, st, done, "no memory");
    for (uint32_t k = 0; k < (job->dice ? 1U : 2U); k++) {
        for (int64_t i = 0; i < own; i++) fill(1 + k, (uint32_t)(rank * own + i) + 100 * run, x + i * per, per);
        MCS_TRY_GOTO(mcs_exec_set(e, in[k], x), st, done);
    }
    if (!job->dice) goto done;
    for (int64_t i = 0; i < own * VOXELS; i++) { /* samples differ in their class frequencies */
        const uint64_t at = (uint64_t)(i + rank * own * VOXELS), drawn = (at + 1000 * run) * 2654435761U / 977;
        t[i] = (int32_t)(drawn % (3 + at / VOXELS)) % CLASSES;
    }
    st = mcs_exec_set(e, in[1], t);
done:
    free(x);
    free(t);
    return st;
}

static enum mcs_status record(const struct job *job, struct data_parallel *dp, struct graph *g, int64_t own,
                              struct tensor **in, struct tensor **loss)
{
    if (job->dice) {
        in[0] = mcs_input(g, "image", MCS_F32, 3, (int64_t[]){own, VOXELS, IN});
        in[1] = mcs_input(g, "target", MCS_I32, 2, (int64_t[]){own, VOXELS});
        struct tensor *h = mcs_gelu(g, layer(g, in[0], HIDDEN, "a"));
        struct tensor *logits = layer(g, h, CLASSES, "b");
        *loss = mcs_keep(mcs_apply(g, OP_dice_ce, "loss", (struct tensor *[]){logits, in[1]}, &job->attr));
        return mcs_graph_status(g);
    }
    static const struct contrastive_attr dhnnce = {.b_image = 0.15f, .b_text = 0.15f, .inv_tau = 1 / 0.6f};
    struct tensor *out[2];
    for (int k = 0; k < 2; k++) {
        in[k] = mcs_input(g, k ? "text" : "image", MCS_F32, 2, (int64_t[]){own, IN});
        mcs_scope_begin(g, "tower%d", k);
        out[k] = mcs_l2norm(g, layer(g, mcs_gelu(g, layer(g, in[k], HIDDEN, "a")), OUT, "b"));
        mcs_scope_end(g);
        out[k] = mcs_data_parallel_gather(dp, out[k]);
    }
    *loss = mcs_keep(mcs_apply(g, OP_contrastive, "loss", (struct tensor *[]){out[0], out[1], NULL}, &dhnnce));
    return mcs_graph_status(g);
}

/* RUNS runs, each with another batch: a device that replays recorded steps does so from the third on. */
static enum mcs_status run_graph(struct job *job, struct comm *c, struct device *d, int rank, int size)
{
    const int64_t own = BATCH / size;
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct exec *e = NULL;
    struct data_parallel dp;
    struct tensor *in[2], *loss;
    float weight = 1, value;
    enum mcs_status st;
    mcs_data_parallel_begin(&dp, c, g);
    MCS_TRY_GOTO(record(job, &dp, g, own, in, &loss), st, done);
    MCS_TRY_GOTO(mcs_grad(g, &loss, 1), st, done);
    MCS_TRY_GOTO(mcs_params_alloc(p, d), st, done);
    MCS_TRY_GOTO(mcs_params_alloc_grad(p), st, done);
    MCS_TRY_GOTO(mcs_params_init(p, 3), st, done);
    MCS_TRY_GOTO(mcs_exec_new(g, d, &e), st, done);
    if (job->dice) MCS_TRY_GOTO(mcs_data_parallel_dice(&dp, loss, &weight), st, done);
    MCS_TRY_GOTO(mcs_exec_set(e, loss->grad, &weight), st, done);
    MCS_TRY_GOTO(mcs_data_parallel_attach(&dp, e, NULL, job->bucket_bytes), st, done);
    for (uint32_t run = 0; run < RUNS; run++) {
        MCS_TRY_GOTO(set_inputs(job, e, in, own, rank, run), st, done);
        mcs_params_zero_grad(p);
        MCS_TRY_GOTO(mcs_exec_run(e), st, done);
        MCS_TRY_GOTO(mcs_comm_wait(c), st, done);
    }
    MCS_TRY_GOTO(mcs_exec_get(e, loss, &value), st, done);
    job->loss[rank] = (double)value;
    if (job->dice && size > 1) MCS_TRY_GOTO(mcs_data_parallel_dice_loss(&dp, 0, &job->loss[rank]), st, done);
    if (rank == 0) job->n = p->n_values;
    job->grad[rank] = malloc((size_t)p->n_values * sizeof(float));
    st = d->backend->download(d, job->grad[rank], p->grad, p->n_values * (int64_t)sizeof(float));
done:
    mcs_data_parallel_end(&dp);
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    return st;
}

static enum mcs_status run_rank(void *ctx, struct ranks *r)
{
    struct device d;
    struct comm *c = NULL;
    MCS_TRY(test_device_open(r->local_rank, &d));
    enum mcs_status st = mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c);
    if (st == MCS_OK) st = run_graph(ctx, c, &d, r->rank, r->size);
    mcs_comm_close(c, st);
    mcs_device_close(&d);
    return st;
}

/* Both results are sums of the same products of numbers of magnitude 1 in different orders; only their rounding
 * differs. A value of the gradient is a sum over rows and widths of at most TERMS products, passed through fewer than
 * STEPS steps. Its error is a random walk of sqrt(TERMS) U per step, all steps' errors added, relative to the largest
 * gradient. */
static void expect_same(const char *what, struct job job)
{
    const double u = ldexp(1, -24), terms = BATCH * VOXELS, steps = 16;
    struct job one = job;
    OK(mcs_ranks_run(1, run_rank, &one));
    double size = 0;
    for (int64_t i = 0; i < one.n; i++) size = fmax(size, fabs((double)one.grad[0][i]));
    cr_assert_gt(size, 1e-3);
    const double bound = steps * sqrt(terms) * u * size;
    for (int ranks = 2; ranks <= MAX_RANKS; ranks += 2) {
        struct job many = job;
        double off = 0, small = 0;
        OK(mcs_ranks_run(ranks, run_rank, &many));
        for (int64_t i = 0; i < one.n; i++) {
            off = fmax(off, fabs((double)one.grad[0][i] - many.grad[0][i]));
            small = fmax(small, fabs((double)many.grad[0][i]));
        }
        cr_expect_leq(off, bound, "%s, %d ranks: off by %g of %g, the bound is %g", what, ranks, off, small, bound);
        for (int r = 0; r < ranks; r++) {
            cr_expect_float_eq(many.loss[r], one.loss[0], 1e-5 * fabs(one.loss[0]),
                               "%s, rank %d of %d: loss %g, alone %g", what, r, ranks, many.loss[r], one.loss[0]);
            cr_expect_eq(memcmp(many.grad[0], many.grad[r], (size_t)one.n * sizeof(float)), 0, "%s: rank %d of %d",
                         what, r, ranks);
        }
        for (int r = 0; r < ranks; r++) free(many.grad[r]);
    }
    free(one.grad[0]);
}

Test(data_parallel, contrastive_loss_over_all_ranks)
{
    expect_same("one bucket", (struct job){0});
    expect_same("a bucket a tensor", (struct job){.bucket_bytes = 64});
    expect_same("two buckets a tower", (struct job){.bucket_bytes = 4000});
}

Test(data_parallel, dice_over_all_ranks)
{
    const struct dice_ce_attr a = {.smooth = 1e-5f, .weight_ce = 1, .weight_dice = 1};
    struct job job = {.dice = 1, .attr = a};
    expect_same("dice by sample", job);
    job.attr.batch_dice = 1;
    expect_same("batch dice", job);
}

Test(data_parallel, buckets_hold_each_gradient_once)
{
    struct device d;
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct data_parallel dp;
    struct tensor *in[2], *loss;
    struct buckets b;
    const struct job job = {0};
    static const char *const without[] = {"tower0.b.", NULL};
    OK(test_device_open(0, &d));
    mcs_data_parallel_begin(&dp, NULL, g);
    OK(record(&job, &dp, g, BATCH, in, &loss));
    OK(mcs_grad(g, &loss, 1));
    OK(mcs_params_alloc(p, &d));
    for (int64_t bytes = 0; bytes <= 8192; bytes = bytes ? 2 * bytes : 64) {
        OK(mcs_buckets_make(g, without, NULL, bytes, &b));
        uint8_t *times = calloc((size_t)p->n_values, 1);
        for (int k = 0; k < b.n; k++) {
            cr_expect(k == 0 || b.b[k].ready >= b.b[k - 1].ready);
            cr_expect(b.b[k].first % 16 == 0 && b.b[k].n % 16 == 0);
            for (int64_t i = 0; i < b.b[k].n; i++) times[b.b[k].first + i]++;
            for (int s = b.b[k].ready + 1; s < g->n_steps; s++)
                for (int n = 0; n < MCS_MAX_IN; n++) {
                    const struct tensor *t = g->steps[s].din[n];
                    if (!t || t->root->role != TENSOR_PARAM_GRAD) continue;
                    const int64_t at = t->root->offset / 4;
                    cr_expect(at < b.b[k].first || at >= b.b[k].first + b.b[k].n, "step %d writes bucket %d later", s,
                              k);
                }
        }
        for (int i = 0; i < p->n; i++) {
            const int skipped = !strncmp(p->t[i]->name, without[0], strlen(without[0]));
            for (int64_t k = 0; k < mcs_count(p->t[i]); k++)
                cr_assert_eq(times[p->t[i]->offset / 4 + k], !skipped, "%s", p->t[i]->name);
        }
        free(times);
        mcs_buckets_free(&b);
    }
    mcs_data_parallel_end(&dp);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_device_close(&d);
}

/* Dice by sample, where one rank has fewer valid voxels: an error, never a wrong average. */
static enum mcs_status run_unlike(void *ctx, struct ranks *r)
{
    struct device d;
    struct comm *c = NULL;
    struct job job = {.dice = 1, .attr = {.smooth = 1e-5f, .weight_ce = 1, .weight_dice = 1}};
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct exec *e = NULL;
    struct data_parallel dp;
    struct tensor *in[2], *loss;
    float weight = 1;
    double value;
    int32_t target[BATCH / 2 * VOXELS] = {0};
    MCS_TRY(test_device_open(r->local_rank, &d));
    enum mcs_status st = mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c);
    mcs_data_parallel_begin(&dp, c, g);
    if (st == MCS_OK) st = record(&job, &dp, g, BATCH / 2, in, &loss);
    if (st == MCS_OK) st = mcs_grad(g, &loss, 1);
    if (st == MCS_OK) st = mcs_params_alloc(p, &d);
    if (st == MCS_OK) st = mcs_params_alloc_grad(p);
    if (st == MCS_OK) st = mcs_params_init(p, 3);
    if (st == MCS_OK) st = mcs_exec_new(g, &d, &e);
    if (st == MCS_OK) st = mcs_data_parallel_dice(&dp, loss, &weight);
    if (st == MCS_OK) st = mcs_data_parallel_attach(&dp, e, NULL, 0);
    target[3] = r->rank == 1 ? -1 : 0;
    if (st == MCS_OK) st = mcs_exec_set(e, in[1], target);
    if (st == MCS_OK) st = mcs_exec_run(e);
    if (st == MCS_OK) st = mcs_data_parallel_dice_loss(&dp, 0, &value);
    mcs_data_parallel_end(&dp);
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_comm_close(c, st);
    mcs_device_close(&d);
    return st;
}

Test(data_parallel, dice_by_sample_wants_as_many_voxels_on_each_rank)
{
    cr_expect_eq(mcs_ranks_run(2, run_unlike, NULL), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "rank 1 has 279 labelled voxels and rank 0 280"), "%s", mcs_error_message());
}
