/* The tape: builders and their held errors, the set of gradients that exist, and plans whose tensors never overlap. */
#include "engine/backend.h"
#include "engine/base/rng.h"
#include "engine/model/layers.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "tests/support/support_net.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void fails(enum mcs_status st, enum mcs_status want, const char *part)
{
    cr_expect_eq(st, want, "status %d, want %d: %s", st, want, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    mcs_error_clear();
}

static struct tensor *input(struct net *n, int64_t rows, int64_t columns)
{
    return mcs_input(n->g, "x", MCS_F32, MCS_DIMS(rows, columns));
}

static struct tensor *mse(struct graph *g, struct tensor *x, struct tensor *target)
{
    return mcs_apply(g, OP_mse, "loss", (struct tensor *[]){x, target, NULL}, NULL);
}

/* ---- builders ---- */

Test(graph, the_first_error_of_a_builder_is_held)
{
    struct net n = net_open();
    struct tensor *x = input(&n, 4, 6), *y = input(&n, 3, 6);
    mcs_scope_begin(n.g, "outer");
    struct tensor *bad = mcs_add(n.g, x, y);
    cr_expect_neq(bad, NULL, "a builder returns a tensor also after an error");
    const int steps = n.g->n_steps;
    bad = mcs_linear(n.g, mcs_gelu(n.g, mcs_reshape(n.g, bad, MCS_DIMS(77))), 5, BIAS, "later");
    cr_expect_neq(bad, NULL);
    cr_expect_eq(mcs_record(n.g, OP_gelu, "later", &x, NULL), NULL);
    mcs_scope_end(n.g);
    cr_expect_eq(n.g->n_steps, steps, "steps are recorded after an error");
    fails(mcs_graph_status(n.g), MCS_E_SHAPE, "outer.");
    struct exec *e = NULL;
    struct plan plan;
    cr_expect_eq(mcs_grad(n.g, &bad, 1), MCS_E_SHAPE);
    cr_expect_eq(mcs_plan_make(n.g, &plan), MCS_E_SHAPE);
    cr_expect_eq(mcs_exec_new(n.g, &n.d, &e), MCS_E_SHAPE);
    net_close(&n);
}

Test(graph, reshape_keeps_the_elements)
{
    struct net n = net_open();
    struct tensor *x = input(&n, 4, 6), *y = mcs_reshape(n.g, x, MCS_DIMS(2, 2, 6));
    OK(mcs_graph_status(n.g));
    cr_expect_eq(y->root, x);
    cr_expect_eq(mcs_count(y), 24);
    struct tensor *z = mcs_reshape(n.g, y, MCS_DIMS(24));
    cr_expect_eq(z->root, x, "a view of a view");
    mcs_reshape(n.g, z, MCS_DIMS(5, 5));
    fails(mcs_graph_status(n.g), MCS_E_SHAPE, "from 24 to 25 elements");
    net_close(&n);
}

Test(graph, parameters_are_named_once)
{
    struct net n = net_open();
    mcs_scope_begin(n.g, "block.%d", 3);
    struct tensor *w = mcs_param(n.g, "weight", MCS_DIMS(3, 4), (struct init){INIT_ONE, 0});
    mcs_scope_end(n.g);
    cr_expect_str_eq(w->name, "block.3.weight");
    mcs_scope_begin(n.g, "block.3");
    cr_expect_eq(mcs_param(n.g, "weight", MCS_DIMS(3, 4), (struct init){INIT_ONE, 0}), w);
    mcs_scope_end(n.g);
    cr_expect_eq(mcs_params_find(n.p, "block.3.weight"), w);
    cr_expect_eq(mcs_params_find(n.p, "weight"), NULL);
    OK(mcs_graph_status(n.g));
    mcs_param(n.g, "block.3.weight", MCS_DIMS(4, 3), (struct init){INIT_ONE, 0});
    fails(mcs_graph_status(n.g), MCS_E_SHAPE, "block.3.weight: the parameter is used with two shapes");
    OK(mcs_params_alloc(n.p, &n.d));
    fails(mcs_params_alloc(n.p, &n.d), MCS_E_FAIL, "already");
    struct graph *later = mcs_graph_new(n.p, MCS_F32);
    mcs_param(later, "new", MCS_DIMS(2), (struct init){INIT_ONE, 0});
    fails(mcs_graph_status(later), MCS_E_FAIL, "new: a parameter first named after");
    mcs_graph_free(later);
    net_close(&n);
}

/* Drawn by (seed, name): another order of naming, or additional parameters, change nothing. */
Test(graph, a_parameter_is_drawn_by_its_name)
{
    float first[2][30];
    for (int round = 0; round < 2; round++) {
        struct net n = net_open();
        if (round) mcs_param(n.g, "other", MCS_DIMS(7), (struct init){INIT_NORMAL, 1});
        struct tensor *w = mcs_param(n.g, "w", MCS_DIMS(30), (struct init){INIT_NORMAL, 0.5f});
        OK(mcs_params_alloc(n.p, &n.d));
        OK(mcs_params_init(n.p, 42));
        memcpy(first[round], w->data, sizeof first[round]);
        net_close(&n);
    }
    cr_expect_arr_eq(first[0], first[1], sizeof first[0]);
    cr_expect_neq(first[0][0], 0);
}

Test(graph, an_executor_wants_its_memory)
{
    struct net n = net_open();
    struct exec *e = NULL;
    struct tensor *x = input(&n, 2, 3), *y = mcs_linear(n.g, x, 3, BIAS, "layer");
    struct tensor *loss = mse(n.g, y, x);
    OK(mcs_grad(n.g, &loss, 1));
    fails(mcs_exec_new(n.g, &n.d, &e), MCS_E_FAIL, "no memory yet");
    OK(mcs_params_alloc(n.p, &n.d));
    fails(mcs_exec_new(n.g, &n.d, &e), MCS_E_FAIL, "before mcs_params_alloc_grad");
    OK(mcs_params_alloc_grad(n.p));
    OK(mcs_exec_new(n.g, &n.d, &e));
    OK(mcs_exec_run(e));
    float v;
    fails(mcs_exec_get(e, loss, &v), MCS_E_FAIL, "without mcs_keep");
    mcs_exec_free(e);
    net_close(&n);
}

/* ---- gradients ---- */

static int count_backward(const struct graph *g)
{
    return g->n_steps - g->n_forward;
}

Test(grad, seeds_that_cannot_be)
{
    struct net n = net_open();
    struct tensor *x = input(&n, 2, 3), *y = mcs_linear(n.g, x, 3, BIAS, "layer"), *z = mcs_gelu(n.g, y);
    struct tensor *plain = mcs_gelu(n.g, x);
    fails(mcs_grad(n.g, &plain, 1), MCS_E_SHAPE, "no trainable parameter");
    net_close(&n);

    n = net_open();
    x = input(&n, 2, 3), y = mcs_linear(n.g, x, 3, BIAS, "layer"), z = mcs_gelu(n.g, y);
    fails(mcs_grad(n.g, (struct tensor *[]){z, z}, 2), MCS_E_SHAPE, "given twice");
    net_close(&n);

    /* y is a seed and is read by gelu, which leads to the seed z: its gradient would be both given and computed. */
    n = net_open();
    x = input(&n, 2, 3), y = mcs_linear(n.g, x, 3, BIAS, "layer"), z = mcs_gelu(n.g, y);
    fails(mcs_grad(n.g, (struct tensor *[]){z, y}, 2), MCS_E_SHAPE, "layer: a seed of the gradient is also read by");
    net_close(&n);

    /* A reader that leads to no seed is allowed. */
    n = net_open();
    x = input(&n, 2, 3), y = mcs_linear(n.g, x, 3, BIAS, "layer"), z = mcs_gelu(n.g, y);
    OK(mcs_grad(n.g, &y, 1));
    cr_expect_eq(count_backward(n.g), 1);
    fails(mcs_grad(n.g, &z, 1), MCS_E_FAIL, "twice");
    net_close(&n);

    n = net_open();
    x = input(&n, 2, 3), y = mcs_linear(n.g, x, 3, BIAS, "layer"), z = mcs_add(n.g, y, y);
    fails(mcs_grad(n.g, &z, 1), MCS_E_SHAPE, "one tensor through two inputs");
    net_close(&n);
}

/* Frozen by prefix: no gradient, and no backward step below the lowest trained layer. */
Test(grad, frozen_parameters_get_none)
{
    static const char *const frozen[] = {"low.", "high.bias", NULL};
    struct net n = net_open();
    struct exec *e;
    float ones[12];
    for (int i = 0; i < 12; i++) ones[i] = 1;
    n.g->frozen = frozen;
    struct tensor *x = input(&n, 4, 3), *target = input(&n, 4, 3);
    struct tensor *y = mcs_linear(n.g, mcs_gelu(n.g, mcs_linear(n.g, x, 3, BIAS, "low")), 3, BIAS, "high");
    struct tensor *loss = mcs_keep(mse(n.g, y, target));
    OK(mcs_grad(n.g, &loss, 1));
    cr_expect_eq(count_backward(n.g), 2, "%d backward steps, want those of the loss and the high layer",
                 count_backward(n.g));
    OK(mcs_params_alloc(n.p, &n.d));
    OK(mcs_params_alloc_grad(n.p));
    OK(mcs_params_init(n.p, 1));
    OK(mcs_exec_new(n.g, &n.d, &e));
    OK(mcs_exec_set(e, x, ones));
    mcs_params_zero_grad(n.p);
    OK(mcs_exec_run(e));
    for (int i = 0; i < n.p->n; i++) {
        const struct tensor *t = n.p->t[i];
        const float *grad = mcs_params_grad(n.p, t);
        int any = 0;
        for (int64_t k = 0; k < mcs_count(t); k++) any |= grad[k] != 0;
        cr_expect_eq(any, !strcmp(t->name, "high.weight"), "%s", t->name);
    }
    /* Gradients add up until they are set to zero. */
    const float once = mcs_params_grad(n.p, mcs_params_find(n.p, "high.weight"))[0];
    OK(mcs_exec_run(e));
    cr_expect_eq(mcs_params_grad(n.p, mcs_params_find(n.p, "high.weight"))[0], 2 * once);
    mcs_exec_free(e);
    net_close(&n);
}

/* A buffer is a parameter that never trains; a wanted input gets its gradient though no parameter does. */
Test(grad, buffers_and_wanted_inputs)
{
    struct net n = net_open();
    struct exec *e;
    const float values[6] = {1, -2, 3, -4, 5, -6};
    float got[6];
    struct tensor *x = input(&n, 2, 3), *b = mcs_buffer(n.g, "b", MCS_DIMS(3), (struct init){INIT_ONE, 0});
    x->wants_grad = 1;
    struct tensor *y = mcs_relu(n.g, mcs_add(n.g, x, b));
    OK(mcs_grad(n.g, &y, 1));
    OK(mcs_params_alloc(n.p, &n.d));
    OK(mcs_params_init(n.p, 1));
    OK(mcs_exec_new(n.g, &n.d, &e)); /* without gradients of parameters: none is wanted */
    OK(mcs_exec_set(e, x, values));
    OK(mcs_exec_set(e, y->grad, values));
    OK(mcs_exec_run(e));
    OK(mcs_exec_get(e, x->grad, got));
    for (int i = 0; i < 6; i++) cr_expect_eq(got[i], values[i] + 1 > 0 ? values[i] : 0, "%d: %g", i, (double)got[i]);
    mcs_exec_free(e);
    net_close(&n);
}

/* ---- plans ---- */

enum { WIDTH = 8, MAX_NODES = 40 };

/* A random network of `nodes` steps; every tensor is (rows, WIDTH) with one of two numbers of rows. */
static struct tensor *random_network(struct net *n, uint32_t number, int nodes, int keep_all, struct tensor **x)
{
    const struct mcs_rng r = {.seed = 5, .site = mcs_rng_site("test.graph"), .sample = number};
    struct tensor *node[MAX_NODES + 1];
    uint32_t draw = 0;
    char name[16];
    const int64_t rows = 4 + 4 * (int64_t)mcs_rng_below(r, draw++, 6);
    *x = node[0] = mcs_input(n->g, "x", MCS_F32, MCS_DIMS(rows, WIDTH));
    for (int i = 1; i <= nodes; i++) {
        /* Mostly of the last few, so that lifetimes overlap; sometimes from long ago. */
        const int far = mcs_rng_uniform(r, draw++) < 0.2;
        const uint32_t back = mcs_rng_below(r, draw++, (uint32_t)(far || i < 3 ? i : 3));
        struct tensor *a = node[i - 1 - (int)back], *b = node[mcs_rng_below(r, draw++, (uint32_t)i)];
        snprintf(name, sizeof name, "n%d", i);
        switch (mcs_rng_below(r, draw++, 6)) {
        case 0: node[i] = mcs_gelu(n->g, a); break;
        case 1: node[i] = mcs_linear(n->g, a, WIDTH, BIAS, name); break;
        case 2: node[i] = mcs_layernorm(n->g, a, 1e-6f, name); break;
        case 3: node[i] = a->root == b->root ? mcs_relu(n->g, a) : mcs_add(n->g, a, b); break;
        case 4: /* the same storage twice under another shape */
            node[i] = mcs_reshape(n->g, mcs_gelu(n->g, mcs_reshape(n->g, a, MCS_DIMS(rows / 2, 2 * WIDTH))),
                                  MCS_DIMS(rows, WIDTH));
            break;
        default: /* wide for one step */
            node[i] =
                mcs_linear(n->g, mcs_gelu(n->g, mcs_linear(n->g, a, 5 * WIDTH, BIAS, name)), WIDTH, NO_BIAS, "shared");
        }
        if (mcs_rng_uniform(r, draw++) < 0.1 || keep_all) mcs_keep(node[i]);
    }
    struct tensor *y = mcs_linear(n->g, node[nodes], WIDTH, BIAS, "last");
    return mcs_keep(mse(n->g, y, *x));
}

/* First and last step at which a tensor must hold its values, recomputed here from the steps alone. */
static void life(const struct graph *g, const struct tensor *t, int *first, int *last)
{
    *first = g->n_steps, *last = -1;
    for (int i = 0; i < g->n_steps; i++) {
        const struct step *s = &g->steps[i];
        int used = 0;
        for (int k = 0; k < MCS_MAX_IN; k++)
            used |= (s->in[k] && s->in[k]->root == t) || (s->din[k] && s->din[k]->root == t);
        for (int k = 0; k < MCS_MAX_OUT; k++)
            used |= (s->out[k] && s->out[k]->root == t) || (s->dout[k] && s->dout[k]->root == t);
        if (used && *first > i) *first = i;
        if (used) *last = i;
    }
    const int filled = t->role == TENSOR_INPUT || t->role == TENSOR_SEED;
    if (filled) *first = 0;
    if (filled || t->keep) *last = g->n_steps;
}

static int64_t region_bytes(const struct plan *plan, const struct tensor *t)
{
    if (t->constant || t->role == TENSOR_SEED) return plan->constant_bytes;
    return t->role == TENSOR_INPUT ? plan->input_bytes : plan->activation_bytes;
}

static void check_plan(const struct graph *g, const struct plan *plan)
{
    int64_t sum = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        const struct tensor *a = g->tensors[i];
        int a_first, a_last, b_first, b_last;
        if (a->root != a || a->role == TENSOR_PARAM_GRAD) continue;
        life(g, a, &a_first, &a_last);
        if (a_last < 0) continue;
        const int64_t a_end = a->offset + 4 * mcs_count(a);
        sum += (4 * mcs_count(a) + 63) / 64 * 64;
        cr_assert(a->offset >= 0 && a->offset % 64 == 0 && a_end <= region_bytes(plan, a), "%s", a->name);
        for (int k = 0; k < i; k++) {
            const struct tensor *b = g->tensors[k];
            if (b->root != b || b->role == TENSOR_PARAM_GRAD) continue;
            life(g, b, &b_first, &b_last);
            if (b_last < 0 || a_last < b_first || b_last < a_first) continue;
            if (mcs_plan_region(a) != mcs_plan_region(b)) continue;
            cr_assert(a_end <= b->offset || b->offset + 4 * mcs_count(b) <= a->offset,
                      "%s [%d, %d] and %s [%d, %d] lie on each other", a->name, a_first, a_last, b->name, b_first,
                      b_last);
        }
    }
    cr_assert_eq(sum, plan->sum_bytes);
}

/* Loss and gradients of random network `number`; where keep_all, every tensor has separate memory. */
static float *run_random(uint32_t number, int keep_all, int64_t *n_values, struct plan *plan)
{
    struct net n = net_open();
    struct exec *e;
    struct tensor *x;
    const int nodes = 5 + (int)mcs_rng_below((struct mcs_rng){.seed = 6, .sample = number}, 0, MAX_NODES - 5);
    struct tensor *loss = random_network(&n, number, nodes, keep_all, &x);
    OK(mcs_grad(n.g, &loss, 1));
    if (keep_all)
        for (int i = 0; i < n.g->n_tensors; i++) mcs_keep(n.g->tensors[i]);
    OK(mcs_params_alloc(n.p, &n.d));
    OK(mcs_params_alloc_grad(n.p));
    OK(mcs_params_init(n.p, number));
    OK(mcs_exec_new(n.g, &n.d, &e));
    check_plan(n.g, &e->plan);
    *plan = e->plan;
    float *values = malloc((size_t)mcs_count(x) * sizeof *values);
    mcs_rng_fill_normal((struct mcs_rng){.seed = 7, .sample = number}, values, mcs_count(x));
    OK(mcs_exec_set(e, x, values));
    free(values);
    mcs_params_zero_grad(n.p);
    OK(mcs_exec_run(e));
    *n_values = 1 + n.p->n_values;
    float *result = malloc((size_t)*n_values * sizeof *result);
    OK(mcs_exec_get(e, loss, result));
    OK(n.d.backend->download(&n.d, result + 1, n.p->grad, n.p->n_values * (int64_t)sizeof(float)));
    mcs_exec_free(e);
    net_close(&n);
    return result;
}

/* No two tensors that are alive together share a byte, and reuse changes no bit of the results. */
Test(plan, random_networks)
{
    int64_t reused = 0, all = 0;
    for (uint32_t number = 0; number < 60; number++) {
        int64_t n, n_kept;
        struct plan plan, kept_plan;
        float *got = run_random(number, 0, &n, &plan), *kept = run_random(number, 1, &n_kept, &kept_plan);
        cr_assert_eq(n, n_kept);
        cr_assert_arr_eq(got, kept, (size_t)n * sizeof *got, "network %u differs where no memory is reused", number);
        const int64_t planned = plan.activation_bytes + plan.input_bytes + plan.constant_bytes;
        cr_expect_leq(planned, plan.sum_bytes);
        cr_expect_eq(mcs_plan_bytes(&plan), planned + plan.workspace_bytes);
        reused += planned, all += plan.sum_bytes;
        free(got);
        free(kept);
    }
    cr_expect_lt(reused, all, "memory is never reused");
}

Test(plan, dump_and_timeline)
{
    struct net n = net_open();
    struct plan plan;
    struct tensor *x;
    struct tensor *loss = random_network(&n, 3, 12, 0, &x);
    OK(mcs_grad(n.g, &loss, 1));
    OK(mcs_plan_make(n.g, &plan));
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    mcs_plan_dump(n.g, &plan, f);
    fclose(f);
    int lines = 0;
    for (const char *c = text; *c; c++) lines += *c == '\n';
    cr_expect_eq(lines, 1 + n.g->n_steps, "a line a step:\n%s", text);
    cr_expect(strstr(text, "mse") && strstr(text, " bwd ") && strstr(text, "last"), "%s", text);
    char place[64]; /* the offsets must be the plan's */
    snprintf(place, sizeof place, "%lld B @%lld", 4 * (long long)mcs_count(loss), (long long)loss->offset);
    cr_expect(strstr(text, place), "no '%s' in\n%s", place, text);
    free(text);

    int64_t *live = calloc((size_t)n.g->n_steps, sizeof *live), most = 0;
    mcs_plan_timeline(n.g, live);
    for (int i = 0; i < n.g->n_steps; i++) {
        int64_t want = 0;
        for (int k = 0; k < n.g->n_tensors; k++) {
            const struct tensor *t = n.g->tensors[k];
            int first, last;
            if (t->root != t || t->role == TENSOR_PARAM_GRAD) continue;
            life(n.g, t, &first, &last);
            if (first <= i && i <= last) want += (4 * mcs_count(t) + 63) / 64 * 64;
        }
        cr_expect_eq(live[i], want, "step %d: %lld, want %lld", i, (long long)live[i], (long long)want);
        if (live[i] > most) most = live[i];
    }
    cr_expect_geq(plan.activation_bytes + plan.input_bytes + plan.constant_bytes, most);
    free(live);
    net_close(&n);
}
