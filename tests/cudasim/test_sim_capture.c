/* Eager, captured and replayed runs of the CUDA backend, captures that fail, and timed calls (suite of
 * test_sim_backend.c). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/module.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "tests/cudasim/cudasim.h"
#include "tests/cudasim/support_backend.h"
#include "train/clip/clip_train.h"

/* ---- a small network ---- */

/* Results of a run. */
struct outcome {
    float loss, hidden[N_X];
    float *grad;
};

static struct outcome *outcome_of(const struct net *n)
{
    struct outcome *o = calloc(1, sizeof *o);
    const int64_t bytes = n->p->n_values * (int64_t)sizeof(float);
    cr_assert(o);
    cr_assert(o->grad = malloc((size_t)bytes));
    OK(mcs_exec_get(n->e, n->loss, &o->loss));
    OK(mcs_exec_get(n->e, n->hidden, o->hidden));
    OK(n->e->device->backend->download(n->e->device, o->grad, n->p->grad, bytes));
    return o;
}
static void outcome_free(struct outcome *o)
{
    free(o->grad);
    free(o);
}
static int same(const struct net *n, const struct outcome *a, const struct outcome *b)
{
    return a->loss == b->loss && !memcmp(a->hidden, b->hidden, sizeof a->hidden) &&
           !memcmp(a->grad, b->grad, (size_t)n->p->n_values * sizeof(float));
}

/* ---- runs ---- */

/* Copies the loss on a second stream after the step that computes it: a branch of the captured graph. */
struct branch {
    struct net *net;
    cudaStream_t stream;
    cudaEvent_t ready, done;
    float *copies; /* one float on the device */
    int fail;      /* after_step fails */
};

static enum mcs_status copy_loss(void *ctx, int i)
{
    struct branch *b = ctx;
    const struct graph *g = b->net->g;
    const struct cuda_device *c = b->net->e->device->state;
    MCS_REQUIRE(!b->fail, MCS_E_FAIL, "refused");
    if (i == g->n_forward - 1) {
        MCS_CUDA(cudaEventRecord(b->ready, c->compute));
        MCS_CUDA(cudaStreamWaitEvent(b->stream, b->ready, 0));
        MCS_CUDA(cudaMemcpyAsync(b->copies, b->net->loss->data, sizeof(float), cudaMemcpyDeviceToDevice, b->stream));
        MCS_CUDA(cudaEventRecord(b->done, b->stream));
    }
    if (i == g->n_steps - 1) MCS_CUDA(cudaStreamWaitEvent(c->compute, b->done, 0));
    return MCS_OK;
}

static void branch_open(struct branch *b, struct net *n)
{
    *b = (struct branch){.net = n};
    cr_assert_eq(cudaStreamCreateWithFlags(&b->stream, cudaStreamNonBlocking), cudaSuccess);
    cr_assert_eq(cudaEventCreateWithFlags(&b->ready, cudaEventDisableTiming), cudaSuccess);
    cr_assert_eq(cudaEventCreateWithFlags(&b->done, cudaEventDisableTiming), cudaSuccess);
    cr_assert_eq(cudaMalloc((void **)&b->copies, sizeof(float)), cudaSuccess);
    n->e->after_step = copy_loss;
    n->e->after_ctx = b;
}
static void branch_close(struct branch *b)
{
    cudaFree(b->copies);
    cudaEventDestroy(b->ready);
    cudaEventDestroy(b->done);
    cudaStreamDestroy(b->stream);
}

/* Eager, captured and replayed runs give the same bits; dropout draws a new mask in each. */
static void capture_and_replay(enum mcs_dtype activations, uint64_t seed)
{
    struct device d = device_open();
    struct net eager, captured;
    struct branch branch;
    struct outcome *last = NULL;
    cudasim_seed(seed);
    d.activations = activations;
    OK(net_open(&eager, &d));
    OK(net_open(&captured, &d));
    eager.e->no_capture = 1;
    branch_open(&branch, &captured);
    for (uint32_t step = 0; step < RUNS; step++) {
        float copy;
        struct outcome *o[2];
        struct net *nets[] = {&eager, &captured};
        for (int i = 0; i < 2; i++) {
            nets[i]->g->run.step = step;
            mcs_params_zero_grad(nets[i]->p);
            OK(mcs_exec_run(nets[i]->e));
            o[i] = outcome_of(nets[i]);
        }
        cr_expect(same(&eager, o[0], o[1]), "run %d: not the same bits", (int)step);
        cr_expect(isfinite(o[0]->loss) && o[0]->loss > 0);
        OK(d.backend->download(&d, &copy, branch.copies, sizeof copy));
        cr_expect_eq(copy, o[1]->loss, "run %d", (int)step);
        if (last)
            cr_expect(memcmp(last->hidden, o[0]->hidden, sizeof last->hidden), "step %d drops the same", (int)step);
        if (last) outcome_free(last);
        last = o[0];
        outcome_free(o[1]);
    }
    outcome_free(last);
    cr_expect(!eager.e->part[0].captured && captured.e->part[0].captured);
    branch_close(&branch);
    net_close(&eager);
    net_close(&captured);
    mcs_device_close(&d);
}

Test(cuda_backend, captured_and_replayed_runs_are_equal)
{
    for (uint64_t seed = 0; seed < 3; seed++) capture_and_replay(MCS_F32, seed);
}
Test(cuda_backend, captured_and_replayed_runs_are_equal_bf16)
{
    for (uint64_t seed = 0; seed < 3; seed++) capture_and_replay(MCS_BF16, seed);
}

/* Forward and backward are captured as separate graphs; a run with timed steps is not captured. */
Test(cuda_backend, forward_and_backward_captured_apart)
{
    struct device d = device_open();
    struct net whole, halves;
    OK(net_open(&whole, &d));
    OK(net_open(&halves, &d));
    OK(mcs_exec_time_steps(whole.e));
    for (uint32_t step = 0; step < RUNS; step++) {
        whole.g->run.step = halves.g->run.step = step;
        mcs_params_zero_grad(whole.p);
        mcs_params_zero_grad(halves.p);
        OK(mcs_exec_run(whole.e));
        OK(mcs_exec_forward(halves.e));
        OK(mcs_exec_backward(halves.e));
        struct outcome *a = outcome_of(&whole), *b = outcome_of(&halves);
        cr_expect(same(&whole, a, b), "run %d", (int)step);
        outcome_free(a);
        outcome_free(b);
    }
    cr_expect(halves.e->part[1].captured && halves.e->part[2].captured && !whole.e->part[0].captured);
    double all = 0;
    for (int i = 0; i < whole.g->n_steps; i++) all += whole.e->step_seconds[i];
    cr_expect_gt(all, 0);
    net_close(&whole);
    net_close(&halves);
    mcs_device_close(&d);
}

/* A step that fails during capture: the incomplete graph is never replayed. */
Test(cuda_backend, failed_capture)
{
    struct device d = device_open();
    struct net n, eager;
    struct branch branch;
    OK(net_open(&n, &d));
    OK(net_open(&eager, &d));
    branch_open(&branch, &n);
    OK(mcs_exec_run(n.e));
    branch.fail = 1;
    fails(mcs_exec_run(n.e), MCS_E_FAIL, "refused");
    cr_expect(!n.e->part[0].captured);
    branch.fail = 0;
    for (int i = 0; i < 2; i++) {
        mcs_params_zero_grad(n.p);
        OK(mcs_exec_run(n.e));
    }
    OK(mcs_exec_run(eager.e));
    struct outcome *a = outcome_of(&n), *b = outcome_of(&eager);
    cr_expect(same(&n, a, b));
    outcome_free(a);
    outcome_free(b);
    branch_close(&branch);
    net_close(&n);
    net_close(&eager);
    mcs_device_close(&d);
}

/* Timing of enqueued calls: simulated time is 0, but the calls are made in order and everything is freed. */
struct copying {
    struct device *d;
    void *from, *to;
    int n, fails_at;
};
static enum mcs_status copy_once(void *ctx)
{
    struct copying *c = ctx;
    MCS_REQUIRE(++c->n != c->fails_at, MCS_E_FAIL, "refused");
    return c->d->backend->measure()->copy(c->d, c->to, c->from, 1000);
}

Test(cuda_backend, timed_calls)
{
    struct device d = device_open();
    struct copying c = {.d = &d};
    char host[1000];
    double seconds[3] = {1, 1, 1};
    const struct measure *m = d.backend->measure();
    OK(d.backend->alloc(&d, 1000, &c.from));
    OK(d.backend->alloc(&d, 1000, &c.to));
    memset(host, 7, sizeof host);
    OK(d.backend->upload(&d, c.from, host, sizeof host));
    OK(m->time(&d, copy_once, &c, 3, seconds));
    cr_expect_eq(c.n, 3);
    for (int i = 0; i < 3; i++) cr_expect(seconds[i] >= 0 && seconds[i] < 1);
    memset(host, 0, sizeof host);
    OK(d.backend->download(&d, host, c.to, sizeof host));
    for (int i = 0; i < 1000; i++) cr_assert_eq(host[i], 7);
    c.fails_at = 5;
    fails(m->time(&d, copy_once, &c, 3, seconds), MCS_E_FAIL, "refused");
    cudasim_fail_alloc(1);
    fails(m->time(&d, copy_once, &c, 3, seconds), MCS_E_NOMEM, "wanted in one piece");
    d.backend->free(&d, c.from);
    d.backend->free(&d, c.to);
    mcs_device_close(&d);
}
