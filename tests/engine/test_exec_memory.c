/* Executors that share device memory: the same bits as with separate memory, whatever runs in between; exactly the
 * planned bytes; memory that grows for a larger executor. */
#include "engine/base/rng.h"
#include "engine/model/layers.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "tests/support/support_counting.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

enum { WIDTH = 16, MAX_ROWS = 64 };

static struct counting counted;

static struct device device_open(void)
{
    struct device d;
    OK(mcs_cpu_open(1, &d));
    count_device(&d, &counted);
    counted.poison = 1;
    return d;
}

/* ---- networks of one set of parameters ---- */

struct net {
    struct graph *g;
    struct exec *e;
    struct tensor *x, *target, *loss;
    int64_t rows;
};

/* Two losses on a small network for a number of rows; an integer constant is in it. */
static void record(struct net *n, struct params *p, int64_t rows)
{
    int32_t last_first[MAX_ROWS];
    for (int64_t i = 0; i < rows; i++) last_first[i] = (int32_t)(rows - 1 - i);
    n->rows = rows;
    struct graph *g = n->g = mcs_graph_new(p, MCS_F32);
    n->x = mcs_input(g, "x", MCS_F32, MCS_DIMS(rows, WIDTH));
    n->target = mcs_input(g, "target", MCS_F32, MCS_DIMS(rows, WIDTH));
    struct tensor *h = mcs_gelu(g, mcs_linear(g, n->x, 2 * WIDTH, BIAS, "first"));
    h = mcs_layernorm(g, h, 1e-5f, "norm");
    h = mcs_linear(g, mcs_gather(g, h, mcs_constant(g, "order", MCS_I32, 1, &rows, last_first)), WIDTH, BIAS, "second");
    n->loss = mcs_keep(mcs_apply(g, OP_mse, "loss", (struct tensor *[]){h, n->target, NULL}, NULL));
    OK(mcs_grad(g, &n->loss, 1));
}

static void set(struct net *n, uint32_t number)
{
    float values[MAX_ROWS * WIDTH];
    const int64_t count = n->rows * WIDTH;
    mcs_rng_fill_normal((struct mcs_rng){.seed = 3, .site = 1, .sample = number}, values, count);
    OK(mcs_exec_set(n->e, n->x, values));
    mcs_rng_fill_normal((struct mcs_rng){.seed = 3, .site = 2, .sample = number}, values, count);
    OK(mcs_exec_set(n->e, n->target, values));
}

static void net_free(struct net *n)
{
    mcs_exec_free(n->e);
    mcs_graph_free(n->g);
    *n = (struct net){0};
}

/* The loss and the gradients of inputs `number`. */
struct result {
    float loss, *grad;
};

static struct result result_of(struct net *n)
{
    const struct params *p = n->g->params;
    struct result r;
    const size_t bytes = (size_t)p->n_values * sizeof(float);
    cr_assert(r.grad = malloc(bytes));
    memcpy(r.grad, p->grad, bytes); /* the device is the CPU */
    OK(mcs_exec_get(n->e, n->loss, &r.loss));
    return r;
}

static struct result alone(struct params *p, struct device *d, int64_t rows, uint32_t number, float weight)
{
    struct net n;
    record(&n, p, rows);
    OK(mcs_exec_new(n.g, d, &n.e));
    OK(mcs_exec_set(n.e, n.loss->grad, &weight));
    set(&n, number);
    mcs_params_zero_grad(p);
    OK(mcs_exec_run(n.e));
    const struct result r = result_of(&n);
    net_free(&n);
    return r;
}

static void same(const struct params *p, struct result got, struct result want, const char *what)
{
    cr_expect_eq(memcmp(&got.loss, &want.loss, sizeof got.loss), 0, "%s: loss %g, alone %g", what, (double)got.loss,
                 (double)want.loss);
    cr_expect_eq(memcmp(got.grad, want.grad, (size_t)p->n_values * sizeof(float)), 0, "%s: another gradient", what);
    free(got.grad);
    free(want.grad);
}

static struct params *params_open(struct device *d)
{
    struct params *p = mcs_params_new();
    struct net n;
    record(&n, p, 1);
    mcs_graph_free(n.g);
    OK(mcs_params_alloc(p, d));
    OK(mcs_params_alloc_grad(p));
    OK(mcs_params_init(p, 5));
    return p;
}

/* ---- tests ---- */

/* The inputs of the next run are set before the last run's loss is read, alternating between sizes. */
Test(exec_memory, the_same_bits_as_alone)
{
    const int64_t rows[] = {5, MAX_ROWS, 17}, turns[] = {0, 1, 0, 2, 2, 1, 0};
    struct device d = device_open();
    struct params *p = params_open(&d);
    struct exec_memory memory = {.device = &d};
    struct net n[3];
    for (int i = 0; i < 3; i++) {
        record(&n[i], p, rows[i]);
        OK(mcs_exec_new_in(&memory, n[i].g, &n[i].e));
    }
    OK(mcs_exec_memory_alloc(&memory));
    const int before = counted.n_allocations;
    for (int i = 0; i < 3; i++) OK(mcs_exec_set(n[i].e, n[i].loss->grad, &(float){(float)(i + 1)}));
    set(&n[turns[0]], 0);
    for (int t = 0; t < 7; t++) {
        struct net *now = &n[turns[t]];
        mcs_params_zero_grad(p);
        OK(mcs_exec_run(now->e));
        if (t + 1 < 7) set(&n[turns[t + 1]], (uint32_t)t + 1);
        const struct result got = result_of(now);
        cr_assert_eq(counted.n_allocations, before, "memory was taken in a step");
        same(p, got, alone(p, &d, now->rows, (uint32_t)t, (float)(turns[t] + 1)), "in turn");
        counted.n_allocations = before;
    }
    for (int i = 0; i < 3; i++) net_free(&n[i]);
    mcs_exec_memory_free(&memory);
    mcs_params_free(p);
    mcs_device_close(&d);
}

/* Each region is as large as the largest executor needs; the constants of all are added. The sizes are known before
 * anything is allocated. */
Test(exec_memory, takes_what_was_planned)
{
    const int64_t rows[] = {33, MAX_ROWS, 7};
    struct device d = device_open();
    struct params *p = params_open(&d);
    struct exec_memory memory = {.device = &d};
    struct net n[3];
    int64_t activations = 0, inputs = 0, workspace = 0, constants = 0, before = counted.held;
    for (int i = 0; i < 3; i++) {
        record(&n[i], p, rows[i]);
        OK(mcs_exec_new_in(&memory, n[i].g, &n[i].e));
        const struct plan *plan = &n[i].e->plan;
        if (plan->activation_bytes > activations) activations = plan->activation_bytes;
        if (plan->input_bytes > inputs) inputs = plan->input_bytes;
        if (plan->workspace_bytes > workspace) workspace = plan->workspace_bytes;
        constants += plan->constant_bytes;
        cr_expect_eq(plan->input_bytes, 2 * ((rows[i] * WIDTH * 4 + 63) / 64 * 64));
        cr_expect_eq(plan->constant_bytes, (rows[i] * 4 + 63) / 64 * 64 + 64, "the order and the loss's weight");
    }
    cr_expect_eq(counted.held, before, "planning took %lld bytes", (long long)(counted.held - before));
    cr_expect_eq(mcs_exec_set(n[0].e, n[0].x, p), MCS_E_FAIL);
    cr_expect_eq(mcs_exec_run(n[0].e), MCS_E_FAIL);
    mcs_error_clear();
    const struct plan all = mcs_exec_memory_plan(&memory);
    const int64_t wanted = mcs_plan_bytes(&all);
    cr_expect_eq(wanted, activations + inputs + workspace + constants);
    OK(mcs_exec_memory_alloc(&memory));
    cr_expect_eq(counted.held - before, wanted);
    const struct plan still = mcs_exec_memory_plan(&memory);
    cr_expect_eq(mcs_plan_bytes(&still), wanted);
    OK(mcs_exec_memory_alloc(&memory));
    cr_expect_eq(counted.held - before, wanted, "a second call takes nothing");
    for (int i = 0; i < 3; i++) net_free(&n[i]);
    mcs_exec_memory_free(&memory);
    cr_expect_eq(counted.held, before);
    mcs_params_free(p);
    mcs_device_close(&d);
}

/* A larger executor is added after a smaller one has run and has its loss's weight; then an even larger one that gets
 * no memory, after which the first two continue. */
Test(exec_memory, grows)
{
    struct device d = device_open();
    struct params *p = params_open(&d);
    struct exec_memory memory = {.device = &d};
    struct net small, large, largest;
    record(&small, p, 9);
    OK(mcs_exec_new_in(&memory, small.g, &small.e));
    OK(mcs_exec_memory_alloc(&memory));
    OK(mcs_exec_set(small.e, small.loss->grad, &(float){3}));
    set(&small, 1);
    OK(mcs_exec_run(small.e));
    const int64_t before = memory.activation_bytes;
    record(&large, p, 40);
    OK(mcs_exec_new_in(&memory, large.g, &large.e));
    OK(mcs_exec_memory_alloc(&memory));
    cr_expect_gt(memory.activation_bytes, before);

    record(&largest, p, MAX_ROWS);
    OK(mcs_exec_new_in(&memory, largest.g, &largest.e));
    counted.fail_from = largest.e->plan.activation_bytes;
    cr_expect_eq(mcs_exec_memory_alloc(&memory), MCS_E_NOMEM);
    cr_expect_eq(mcs_exec_run(small.e), MCS_E_FAIL, "it has no memory");
    mcs_error_clear();
    net_free(&largest);
    OK(mcs_exec_memory_alloc(&memory));
    counted.fail_from = 0;

    struct net *const all[] = {&large, &small};
    for (int i = 0; i < 2; i++) {
        set(all[i], 2);
        mcs_params_zero_grad(p);
        OK(mcs_exec_run(all[i]->e));
        const struct result got = result_of(all[i]); /* before another run overwrites the gradients */
        same(p, got, alone(p, &d, all[i]->rows, 2, i ? 3 : 1), i ? "the small one" : "the large one");
    }
    net_free(&large);
    net_free(&small);
    mcs_exec_memory_free(&memory);
    mcs_params_free(p);
    mcs_device_close(&d);
}

/* The CPU's memory is backed by pages from the start: a large batch that comes late needs no new pages. */
Test(exec_memory, pages_are_taken_at_once)
{
    enum { BYTES = 48 << 20 };
    struct device d;
    void *p;
    OK(mcs_cpu_open(1, &d));
    OK(d.backend->alloc(&d, BYTES, &p));
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = ((uintptr_t)p + page - 1) / page * page;
    const size_t n = ((uintptr_t)p + BYTES - first) / page;
    unsigned char *resident = malloc(n);
    size_t missing = 0;
    cr_assert_eq(mincore((void *)first, n * page, resident), 0);
    for (size_t i = 0; i < n; i++) missing += !(resident[i] & 1);
    cr_expect_eq(missing, 0, "%zu of %zu pages are not resident", missing, n);
    free(resident);
    d.backend->free(&d, p);
    mcs_device_close(&d);
}
