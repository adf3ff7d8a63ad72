/* Captions of any length: a few sessions (compiled graphs) for all batches, which share memory of a size known before
 * the run; the same session on every rank in every step; results that do not depend on the session. Ranks are threads
 * here.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef TEST_CUDASIM
#include "kernels/common/optimizers.h"
#endif
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "tests/support/support_captions.h"
#include "tests/support/support_device.h"
#include "tests/support/support_gradient.h"
#include "tests/support/support_tiny.h"
#include "train/clip/clip_sessions.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
#define VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"

enum { BATCH = 8, PIXELS = 8 * 8 * 3 };

static const char *folder;
static void setup(void)
{
    mcs_log_quiet(1);
    test_devices(2);
    folder = tiny_folder("captions");
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(captions, .init = setup, .fini = teardown, .timeout = 300);

/* ---- ranks whose captions differ ---- */

/* Long captions are in the second half of the batch, in the first half or in none, alternating by step. */
static int tokens_of(int64_t step, int64_t item)
{
    const int second = item >= BATCH / 2;
    const int is_long = step % 3 == 0 ? second : step % 3 == 1 ? !second : 0;
    return (is_long ? 40 : 5) + (int)item;
}

static enum mcs_status fill(void *ctx, int64_t step, struct clip_batch *b)
{
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t item = b->first + i;
        mcs_rng_fill_normal((struct mcs_rng){9, 2, (uint32_t)item, (uint32_t)step}, b->images + i * PIXELS, PIXELS);
        b->texts[i] = caption_of(tokens_of(step, item));
        b->sample[i] = (int32_t)item;
    }
    return MCS_OK;
}

/* Maximum of token rows over the steps (tokens_of): of the whole batch, when items 4 to 7 are long and 0 to 3 short,
 * and of those four long ones. Buckets have 64, 128, ... rows. */
enum { MOST_ROWS = 4 * 40 + 22 + 4 * 5 + 6, MOST_OWN = 4 * 40 + 22 };

struct job {
    enum mcs_status (*body)(const struct job *job, struct comm *c, struct clip_model *m, int rank);
    const char *run;
    int64_t steps, max_rows;
    float weight;   /* of an auxiliary loss */
    float *grad[2]; /* of each rank */
    int64_t n_values;
};

static enum mcs_status run_rank(void *ctx, struct ranks *r)
{
    struct job *job = ctx;
    struct device d;
    struct clip_model m;
    struct comm *c = NULL;
    const struct clip_config config = caption_towers();
    MCS_TRY(test_device_open(r->local_rank, &d));
    enum mcs_status st = mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c);
    if (st == MCS_OK) st = mcs_clip_model_new(&config, VOCABULARY, 11, &d, NULL, &m);
    if (st == MCS_OK) {
        st = job->body(job, c, &m, r->rank);
        const int64_t bytes = m.params->n_values * (int64_t)sizeof(float);
        job->n_values = m.params->n_values;
        job->grad[r->rank] = malloc((size_t)bytes);
        if (st == MCS_OK) st = d.backend->download(&d, job->grad[r->rank], m.params->grad, bytes);
        mcs_clip_model_close(&m);
    }
    mcs_comm_close(c, st);
    mcs_device_close(&d);
    return st;
}

/* Learning rate 0: all steps have the same weights, so rounding errors of earlier steps have no effect. */
static struct clip_train_options options(const struct job *job, struct comm *c)
{
    return (struct clip_train_options){.batch = BATCH,
                                       .steps = job->steps,
                                       .lr = 0,
                                       .clip_norm = 1,
                                       .loss = {.b_image = 0.15f, .b_text = 0.15f, .inv_tau = 1 / 0.6f},
                                       .seed = 3,
                                       .diagnose = 1,
                                       .run = job->run,
                                       .config = "a: 1\n",
                                       .comm = c,
                                       .max_rows = job->max_rows};
}

static enum mcs_status train(const struct job *job, struct comm *c, struct clip_model *m, int rank)
{
    const struct clip_train_options o = options(job, c);
    return mcs_clip_train(m, &o, &(struct clip_source){fill, NULL}, NULL);
}

/* Reads one number of each line of a run's log; returns their number. */
static int logged(const char *run, const char *name, double *values, int most)
{
    char path[300], line[2000], key[100];
    int n = 0;
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    snprintf(key, sizeof key, "\"%s\":", name);
    FILE *f = fopen(path, "r");
    cr_assert(f, "%s", path);
    while (n < most && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, key);
        cr_assert(at, "no %s in %s", key, line);
        values[n++] = strtod(at + strlen(key), NULL);
    }
    fclose(f);
    return n;
}

static void no_reports(void)
{
    cr_expect_eq(test_reports(), NULL, "%s", test_reports());
}

#ifndef TEST_CUDASIM_CHECKED /* there a few steps of one device capture and copy the same */
/* A few dozen steps in which the longest captions alternate between ranks: losses and last gradient equal those of one
 * device. */
static void same_as_one_device(int64_t steps)
{
    struct job one = {
        .body = train, .steps = steps, .max_rows = MOST_ROWS, .run = tiny_path(folder, "one_%d", (int)steps)};
    struct job two = {
        .body = train, .steps = steps, .max_rows = MOST_OWN, .run = tiny_path(folder, "two_%d", (int)steps)};
    OK(mcs_ranks_run(1, run_rank, &one));
    OK(mcs_ranks_run(2, run_rank, &two));
    no_reports();
    cr_expect_eq(memcmp(two.grad[0], two.grad[1], (size_t)two.n_values * sizeof(float)), 0, "ranks differ");
    const double off = gradient_error(one.grad[0], two.grad[0], one.n_values);
    cr_expect_leq(off, 1, "%lld steps: the gradient differs by %g times what rounding explains", (long long)steps, off);
    double a[32], b[32];
    const char *const names[] = {"loss", "gradient_norm", "attracted_paper", "pull_release"};
    for (int k = 0; k < 4; k++) {
        const int n = logged(one.run, names[k], a, 32);
        cr_assert_eq(logged(two.run, names[k], b, 32), n);
        cr_assert_geq(n, 5);
        for (int i = 0; i < n; i++) /* sums of about 10^3 terms in another order: relative error 10^3 * 2^-24 */
            cr_expect_float_eq(a[i], b[i], 6e-5 * fabs(a[i]), "line %d: %s %g, then %g", i, names[k], a[i], b[i]);
    }
    for (int r = 0; r < 2; r++) free(one.grad[r]), free(two.grad[r]);
}

Test(captions, ranks_in_different_buckets)
{
    same_as_one_device(26); /* in the last step rank 0 has the long captions, */
#ifndef TEST_CUDASIM
    same_as_one_device(24); /* no rank, */
    same_as_one_device(25); /* rank 1 */
#endif
}

/* With --trace one rank runs without graph capture, so the other ranks must not capture either. */
Test(captions, no_rank_captures_in_a_traced_run)
{
    struct job job = {.body = train, .steps = 4, .max_rows = MOST_OWN, .run = tiny_path(folder, "traced")};
    OK(mcs_exec_trace_open(tiny_path(folder, "trace.json")));
    OK(mcs_ranks_run(2, run_rank, &job));
    OK(mcs_exec_trace_close());
    no_reports();
    free(job.grad[0]);
    free(job.grad[1]);
}

/* One batch in buckets of different sizes: padding rows do not change the result. */
Test(captions, the_bucket_does_not_matter)
{
    struct job tight = {.body = train, .steps = 1, .run = tiny_path(folder, "tight"), .max_rows = MOST_ROWS};
    OK(mcs_ranks_run(1, run_rank, &tight));
    const int64_t looser[] = {MOST_ROWS + 50, MOST_ROWS + 200, MOST_ROWS + 700, 0};
    for (int i = 0; i < 4; i++) {
        struct job loose = {.body = train, .steps = 1, .run = tiny_path(folder, "loose_%d", i), .max_rows = looser[i]};
        OK(mcs_ranks_run(1, run_rank, &loose));
        const double off = gradient_error(tight.grad[0], loose.grad[0], tight.n_values);
        cr_expect_leq(off, 1, "at most %lld rows: %g times what rounding explains", (long long)looser[i], off);
        free(loose.grad[0]);
    }
    struct job wrong = {.body = train, .steps = 1, .run = tiny_path(folder, "wrong"), .max_rows = MOST_ROWS / 2};
    cr_expect_eq(mcs_ranks_run(1, run_rank, &wrong), MCS_E_FAIL, "more tokens than were announced");
    free(tight.grad[0]);
    free(wrong.grad[0]);
    no_reports();
}

#endif

/* Loss and embeddings of a step are read after the inputs of the next step, of another size, have been set. On a GPU
 * the seven steps run two sessions: both eagerly and captured, one of them also replayed. */
Test(captions, outputs_are_read_after_the_next_inputs_are_set)
{
    struct job alone = {.body = train, .steps = 1, .max_rows = MOST_ROWS, .run = tiny_path(folder, "alone")};
    struct job more = {.body = train, .steps = 7, .max_rows = MOST_ROWS, .run = tiny_path(folder, "more")};
    double a, b;
    OK(mcs_ranks_run(1, run_rank, &alone));
    OK(mcs_ranks_run(1, run_rank, &more));
    const char *const names[] = {"loss",       "gradient_norm", "attracted_paper", "attracted_release",
                                 "pull_paper", "pull_release"};
    for (int k = 0; k < 6; k++) {
        logged(alone.run, names[k], &a, 1);
        logged(more.run, names[k], &b, 1);
        cr_expect_eq(a, b, "%s: %g, with another step behind it %g", names[k], a, b);
    }
    free(alone.grad[0]);
    free(more.grad[0]);
    no_reports();
}

#ifndef TEST_CUDASIM
/* A weighted auxiliary loss on the image embeddings. */
struct auxiliary {
    float weight;
    struct tensor *target[CLIP_MAX_BUCKETS];
    int n;
};

static int build_auxiliary(void *ctx, struct graph *g, const struct clip_nodes *n, struct tensor *loss[CLIP_MAX_EXTRA],
                           float weight[CLIP_MAX_EXTRA], const char *name[CLIP_MAX_EXTRA])
{
    struct auxiliary *f = ctx;
    struct tensor *target = f->target[f->n++] =
        mcs_input(g, "target", MCS_F32, n->image_embedding->nd, n->image_embedding->dim);
    loss[0] = mcs_apply(g, OP_mse, "auxiliary", (struct tensor *[]){n->image_embedding, target, NULL}, NULL);
    weight[0] = f->weight;
    name[0] = "auxiliary";
    return 1;
}

static enum mcs_status fill_auxiliary(void *ctx, int session, struct exec *e)
{
    static const float zeros[BATCH * 64];
    return mcs_exec_set(e, ((struct auxiliary *)ctx)->target[session], zeros);
}

static enum mcs_status train_auxiliary(const struct job *job, struct comm *c, struct clip_model *m, int rank)
{
    const struct clip_train_options o = options(job, c);
    struct auxiliary f = {.weight = job->weight};
    return mcs_clip_train(m, &o, &(struct clip_source){fill, NULL},
                          &(struct clip_extra){build_auxiliary, fill_auxiliary, &f});
}

/* Gradients are linear in an auxiliary loss's weight in every session; the first and third step run different ones. */
Test(captions, auxiliary_losses_have_their_weight)
{
    const float weights[3] = {0, 1, 3};
    for (int64_t steps = 1; steps <= 3; steps += 2) {
        struct job jobs[3];
        for (int i = 0; i < 3; i++) {
            jobs[i] = (struct job){.body = train_auxiliary,
                                   .steps = steps,
                                   .max_rows = MOST_ROWS,
                                   .weight = weights[i],
                                   .run = tiny_path(folder, "weight_%d_%d", (int)steps, i)};
            OK(mcs_ranks_run(1, run_rank, &jobs[i]));
        }
        const int64_t n = jobs[0].n_values;
        float *three = malloc((size_t)n * sizeof *three), most = 0;
        for (int64_t i = 0; i < n; i++) {
            const float one = jobs[1].grad[0][i] - jobs[0].grad[0][i];
            three[i] = jobs[0].grad[0][i] + 3 * one;
            most = fmaxf(most, fabsf(one));
        }
        cr_expect_gt(most, 1e-3f, "the auxiliary loss has a gradient");
        const double off = gradient_error(jobs[2].grad[0], three, n);
        cr_expect_leq(off, 4, "%lld steps: %g times what rounding of one gradient explains; here are four of them",
                      (long long)steps, off);
        free(three);
        for (int i = 0; i < 3; i++) free(jobs[i].grad[0]);
    }
}
#endif

#if defined TEST_CUDASIM && !defined TEST_CUDASIM_CHECKED
static size_t held_in_step;

static enum mcs_status fill_measured(void *ctx, int64_t step, struct clip_batch *b)
{
    if (step == 2) held_in_step = cudasim_bytes_held();
    return fill(ctx, step, b);
}

static enum mcs_status train_measured(const struct job *job, struct comm *c, struct clip_model *m, int rank)
{
    const struct clip_train_options o = options(job, c);
    struct train_memory memory;
    MCS_TRY(mcs_clip_train_memory(m, &o, &memory));
    const int64_t before = (int64_t)cudasim_bytes_held() - memory.weights; /* the device's staging buffers */
    MCS_TRY(mcs_clip_train(m, &o, &(struct clip_source){fill_measured, NULL}, NULL));
    const int64_t taken = (int64_t)held_in_step - before, norm_bytes = 2 * K_SQUARES_BYTES; /* optim_cuda.c's */
    cr_expect(taken >= mcs_memory_bytes(&memory) && taken <= mcs_memory_bytes(&memory) + norm_bytes,
              "the dry run says %lld bytes, a run takes %lld", (long long)mcs_memory_bytes(&memory), (long long)taken);
    return MCS_OK;
}

Test(captions, a_gpu_allocates_as_much_as_the_dry_run_says)
{
    struct job job = {.body = train_measured, .steps = 4, .run = tiny_path(folder, "measured")};
    OK(mcs_ranks_run(1, run_rank, &job));
    free(job.grad[0]);
}

/* Without the exchange before each step: each rank runs the session that its captions need. Rank 0 replays its graph
 * while rank 1 runs another session for the first time, which the simulation reports. */
static enum mcs_status run_own_sessions(const struct job *job, struct comm *c, struct clip_model *m, int rank)
{
    static const int turns[2][3] = {{0, 0, 0}, {0, 0, 1}};
    struct clip_sessions p;
    const struct clip_train_options o = options(job, c);
    const char *const alone[] = {"logit_scale", NULL};
    MCS_TRY(mcs_params_alloc_grad(m->params));
    enum mcs_status st = mcs_clip_sessions_make(&p, m, &o, NULL);
    if (st == MCS_OK) st = mcs_clip_sessions_alloc(&p, alone);
    for (int i = 0; st == MCS_OK && i < 3; i++) {
        const struct clip_train_session *now = &p.session[turns[rank][i]];
        int32_t offset[BATCH + 1], zeros[2048] = {0};
        for (int k = 0; k <= BATCH / 2; k++) offset[k] = 4 * k;
        st = mcs_exec_set(now->exec, now->text.offset, offset);
        if (st == MCS_OK) st = mcs_exec_set(now->exec, now->text.ids, zeros);
        if (st == MCS_OK) st = mcs_exec_set(now->exec, now->text.position, zeros);
        if (st == MCS_OK) st = mcs_exec_set(now->exec, now->text.key, zeros);
        if (st == MCS_OK) st = mcs_exec_run(now->exec);
        if (st == MCS_OK) st = mcs_comm_wait(c);
    }
    mcs_clip_sessions_free(&p);
    return st;
}

Test(captions, ranks_that_do_not_agree_are_reported)
{
    struct job job = {.body = run_own_sessions, .max_rows = MOST_OWN, .run = folder};
    cudasim_quiet(1);
    cr_expect_neq(mcs_ranks_run(2, run_rank, &job), MCS_OK);
    cr_expect(test_reports() && strstr(test_reports(), "not captured alike: "), "%s",
              test_reports() ? test_reports() : "no report");
    free(job.grad[0]);
    free(job.grad[1]);
}
#endif
