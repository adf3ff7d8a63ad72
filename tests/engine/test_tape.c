/* The engine around a run, value by value: addresses and initial values of parameters, the memory plan as text and over
 * time, the trace, the bfloat16 operands, scratch memory of pipeline steps. */
#include "engine/backend.h"
#include "engine/base/newfile.h"
#include "engine/base/rng.h"
#include "engine/device_ops.h"
#include "engine/model/layers.h"
#include "engine/tape/amp.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "tests/support/support_net.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* ---- parameters ---- */

Test(tape, parameters_are_drawn_by_kind)
{
    struct net n = net_open();
    static const struct {
        const char *name;
        int64_t count;
        struct init init;
    } rows[] = {{"zero", 5, {INIT_ZERO, 9}},           {"one", 17, {INIT_ONE, 9}},
                {"constant", 16, {INIT_CONST, -2.5f}}, {"normal", 33, {INIT_NORMAL, 0.25f}},
                {"uniform", 1, {INIT_UNIFORM, 0.5f}},  {"wide", 40, {INIT_UNIFORM, 3}}};
    static const int64_t at[] = {0, 16, 48, 64, 112, 128};
    float want[64];
    for (int i = 0; i < 6; i++) mcs_param(n.g, rows[i].name, MCS_DIMS(rows[i].count), rows[i].init);
    cr_expect_eq(n.p->n_values, 128 + 48, "each begins on 16 floats");
    OK(mcs_params_alloc(n.p, &n.d));
    OK(mcs_params_alloc_grad(n.p));
    for (int64_t k = 0; k < n.p->n_values; k++) cr_expect(n.p->data[k] == 0 && n.p->grad[k] == 0);
    OK(mcs_params_init(n.p, 77));
    for (int i = 0; i < 6; i++) {
        const struct tensor *t = mcs_params_find(n.p, rows[i].name);
        const struct mcs_rng r = {.seed = 77, .site = mcs_rng_site(rows[i].name)};
        const float v = rows[i].init.value;
        cr_assert_eq(t->data, n.p->data + at[i]);
        cr_expect_eq(mcs_params_grad(n.p, t), n.p->grad + at[i]);
        for (int64_t k = 0; k < rows[i].count; k++) want[k] = i == 0 ? 0 : i == 1 ? 1 : v;
        if (i == 3) mcs_rng_fill_normal(r, want, rows[i].count);
        if (i >= 4) mcs_rng_fill_uniform(r, want, rows[i].count);
        for (int64_t k = 0; k < rows[i].count && i >= 3; k++) want[k] = i == 3 ? want[k] * v : (2 * want[k] - 1) * v;
        cr_expect_arr_eq(t->data, want, (size_t)rows[i].count * sizeof *want, "%s", rows[i].name);
    }
    float *grad = n.p->grad;
    grad[3] = 5;
    OK(mcs_params_alloc_grad(n.p));
    cr_expect(n.p->grad == grad && grad[3] == 5, "a second call changes nothing");
    mcs_params_zero_grad(n.p);
    cr_expect_eq(grad[3], 0);
    net_close(&n);
}

Test(tape, many_parameters_steps_and_scopes)
{
    struct net n = net_open();
    struct tensor *x = mcs_input(n.g, "x", MCS_F32, MCS_DIMS(2));
    char name[24];
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "p%d", i);
        mcs_scope_begin(n.g, "%s", i % 3 ? "s" : "");
        x = mcs_add(n.g, x, mcs_param(n.g, name, MCS_DIMS(2), (struct init){INIT_CONST, (float)i}));
        mcs_scope_end(n.g);
    }
    OK(mcs_graph_status(n.g));
    cr_assert_eq(n.p->n, 300);
    cr_assert_eq(n.g->n_steps, 300);
    cr_assert_eq(n.g->n_forward, 300);
    cr_assert_eq(n.g->n_tensors, 301);
    for (int i = 0; i < 300; i++) {
        snprintf(name, sizeof name, "%sp%d", i % 3 ? "s." : "", i);
        const struct tensor *t = mcs_params_find(n.p, name);
        cr_assert(t && t == n.p->t[i] && t->index == i && t->offset == 64 * (int64_t)i, "%s", name);
        cr_expect(n.g->steps[i].in[1] == t && n.g->tensors[i + 1]->index == i + 1);
        cr_expect_eq(n.p->init[i].value, (float)i);
        cr_expect_eq(n.p->is_buffer[i], 0);
    }
    struct exec *e;
    float got[2], in[2] = {1, -1};
    mcs_keep(x);
    OK(mcs_params_alloc(n.p, &n.d));
    OK(mcs_params_init(n.p, 1));
    OK(mcs_exec_new(n.g, &n.d, &e));
    OK(mcs_exec_set(e, n.g->tensors[0], in));
    OK(mcs_exec_run(e));
    OK(mcs_exec_get(e, x, got));
    cr_expect(got[0] == 1 + 299 * 150 && got[1] == -1 + 299 * 150, "%g %g", (double)got[0], (double)got[1]);
    mcs_exec_free(e);
    net_close(&n);
}

/* ---- plan and trace as text ---- */

/* x (8192,3) -> linear "layer" (8192,20) -> gelu -> mse with target; with its gradient. */
static struct tensor *small_network(struct net *n)
{
    struct tensor *x = mcs_input(n->g, "x", MCS_F32, MCS_DIMS(8192, 3));
    struct tensor *target = mcs_input(n->g, "target", MCS_F32, MCS_DIMS(8192, 20));
    struct tensor *y = mcs_gelu(n->g, mcs_linear(n->g, x, 20, BIAS, "layer"));
    struct tensor *loss = mcs_apply(n->g, OP_mse, "loss", (struct tensor *[]){y, target, NULL}, NULL);
    mcs_keep(loss);
    OK(mcs_grad(n->g, &loss, 1));
    return loss;
}

Test(tape, plan_as_text)
{
    struct net n = net_open();
    struct plan plan;
    int64_t live[6];
    char *text = NULL;
    size_t bytes = 0;
    small_network(&n);
    OK(mcs_plan_make(n.g, &plan));
    cr_expect_eq(plan.input_bytes, 8192 * (3 + 20) * 4);
    cr_expect_eq(plan.constant_bytes, 64, "the seed");
    cr_expect_eq(plan.activation_bytes, 3 * 655360 + 64);
    cr_expect_eq(plan.sum_bytes, 8192 * (3 + 20) * 4 + 64 + 4 * 655360 + 64);
    cr_expect_eq(plan.param_bytes, (64 + 32) * 4);
    cr_expect_eq(plan.grad_bytes, plan.param_bytes);
    plan.workspace_bytes = 3 << 20, plan.constant_bytes = 3 << 19, plan.param_bytes = 5 << 20;
    FILE *f = open_memstream(&text, &bytes);
    cr_assert(f);
    mcs_plan_dump(n.g, &plan, f);
    fclose(f);
    /* By hand: the layer's output is read until step 4, gelu's until 3, so the layer's gradient reuses gelu's memory.
     */
    cr_expect_str_eq(
        text,
        "# 6 steps (3 forward), activations 1.9 MiB, inputs 0.7 MiB, constants 1.5 MiB (together 3.2 without reuse), "
        "workspace 3.0 MiB, parameters 5.0 MiB\n"
        "    0 fwd linear          layer                                            (8192,20) 655360 B @0\n"
        "    1 fwd gelu            gelu                                             (8192,20) 655360 B @655360\n"
        "    2 fwd mse             loss                                             (1) 4 B @1966080\n"
        "    3 bwd mse             loss                                             (8192,20) 655360 B @1310720\n"
        "    4 bwd gelu            gelu                                             (8192,20) 655360 B @655360\n"
        "    5 bwd linear          layer                                            (20,3) 240 B @0 (20) 80 B @256\n");
    cr_assert_eq(n.g->n_steps, 6);
    mcs_plan_timeline(n.g, live);
    const int64_t filled = 8192 * (3 + 20) * 4 + 64, one = 655360;
    const int64_t want[] = {filled + one,          filled + 2 * one,      filled + 2 * one + 64,
                            filled + 3 * one + 64, filled + 3 * one + 64, filled + one + 64};
    for (int i = 0; i < 6; i++) cr_expect_eq(live[i], want[i], "step %d: %lld", i, (long long)live[i]);
    free(text);
    net_close(&n);
}

/* Replaces times by "#". */
static char *without_times(const char *path)
{
    static char text[8192], out[8192];
    FILE *f = fopen(path, "r");
    cr_assert(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    char *to = out;
    for (const char *c = text; *c; c++) {
        *to++ = *c;
        if (c >= text + 5 && (!strncmp(c - 4, "\"ts\":", 5) || !strncmp(c - 5, "\"dur\":", 6))) {
            *to++ = '#';
            while (isdigit((unsigned char)c[1]) || c[1] == '.') c++;
        }
    }
    *to = '\0';
    return out;
}

Test(tape, trace_as_text)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/mcs_tape_%ld.json", (long)getpid());
    struct net n = net_open();
    struct exec *e;
    struct tensor *x = mcs_input(n.g, "x", MCS_F32, MCS_DIMS(2));
    x->wants_grad = 1;
    struct tensor *y = mcs_relu(n.g, mcs_gelu(n.g, x));
    OK(mcs_grad(n.g, &y, 1));
    OK(mcs_params_alloc(n.p, &n.d));
    OK(mcs_exec_trace_close()); /* no trace is open */
    OK(mcs_exec_trace_open(path));
    cr_expect_eq(mcs_exec_trace_open("other"), MCS_E_FAIL);
    cr_expect(strstr(mcs_error_message(), "other: a trace is being written already"));
    mcs_error_clear();
    for (int graph = 0; graph < 3; graph++) {
        OK(mcs_exec_new(n.g, &n.d, &e));
        for (int k = 0; k < 2 * graph; k++) OK(mcs_exec_run(e)); /* the first executor does not run */
        mcs_exec_free(e);
    }
    cr_expect(access(path, F_OK) != 0, "whole or not at all");
    OK(mcs_exec_trace_close());
    OK(mcs_exec_new(n.g, &n.d, &e)); /* no trace is open any more */
    OK(mcs_exec_run(e));
    mcs_exec_free(e);
#define EVENT(name, way, graph, runs)                                                                                  \
    "{\"name\":\"" name " " name "\",\"cat\":\"" way "\",\"ph\":\"X\",\"pid\":" graph                                  \
    ",\"tid\":1,\"ts\":#,\"dur\":#,\"args\":{\"runs\":" runs "}}"
#define GRAPH(graph, runs)                                                                                             \
    EVENT("gelu", "forward", graph, runs)                                                                              \
    ",\n" EVENT("relu", "forward", graph, runs) ",\n" EVENT("relu", "backward", graph,                                 \
                                                            runs) ",\n" EVENT("gelu", "backward", graph, runs)
    cr_expect_str_eq(without_times(path), "[\n" GRAPH("1", "2") ",\n" GRAPH("2", "4") "\n]\n");
    cr_expect_eq(mcs_exec_trace_open("/nonexistent/a.json"), MCS_E_IO);
    unlink(path);
    net_close(&n);
}

/* ---- bfloat16 ---- */

Test(tape, which_operands_are_bfloat16)
{
    static const struct {
        enum mcs_op op;
        unsigned inputs; /* bits of those that can be bf16 */
        int output;      /* 1: output 0 is bf16 in a bf16 graph */
    } rows[] = {{OP_linear, 1, 1},     {OP_conv, 1, 1},          {OP_conv_transpose, 1, 1},
                {OP_layernorm, 1, 1},  {OP_instance_norm, 1, 1}, {OP_gelu, 1, 1},
                {OP_quick_gelu, 1, 1}, {OP_relu, 1, 1},          {OP_add, 3, 1},
                {OP_attention, 7, 1},  {OP_window, 1, 1},        {OP_unwindow, 1, 1},
                {OP_gather, 1, 0},     {OP_concat, 15, 1},       {OP_dropout, 1, 1},
                {OP_resize, 1, 1},     {OP_bmm_nt, 3, 1},        {OP_cast, 1, 0},
                {OP_l2norm, 0, 0},     {OP_contrastive, 0, 0},   {OP_bottleneck, 0, 0},
                {OP_cosine, 0, 0},     {OP_dice_ce, 0, 0},       {OP_softmax, 0, 0},
                {OP_fourier_pe, 0, 0}, {OP_mask_loss, 0, 0},     {OP_mse, 0, 0},
                {OP_bce, 0, 0},        {OP_attn_guide, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum mcs_op op = rows[i].op;
        const char *name = mcs_op_table[op].name;
        cr_expect_eq(mcs_amp_slots(op), rows[i].inputs, "%s", name);
        cr_expect_eq(mcs_amp_output(MCS_BF16, op, 0, MCS_F32), rows[i].output ? MCS_BF16 : MCS_F32, "%s", name);
        cr_expect_eq(mcs_amp_output(MCS_F32, op, 0, MCS_F32), MCS_F32, "%s", name);
        for (int k = 1; k < mcs_op_table[op].n_out; k++)
            cr_expect_eq(mcs_amp_output(MCS_BF16, op, k, MCS_F32), MCS_F32, "%s", name);
    }
    cr_expect_eq(mcs_amp_output(MCS_F32, OP_gather, 0, MCS_BF16), MCS_BF16); /* as the shape rule says */
}

/* Casts are recorded where types change, once per tensor; a parameter's at each use. */
Test(tape, casts_of_a_bfloat16_graph)
{
    struct net n = net_open();
    struct graph *g = mcs_graph_new(n.p, MCS_BF16);
    cr_expect_eq(g->activations, MCS_BF16);
    struct tensor *x = mcs_input(g, "x", MCS_F32, MCS_DIMS(2, 4));
    struct tensor *w = mcs_param(g, "w", MCS_DIMS(2, 4), (struct init){INIT_ONE, 0});
    struct tensor *a = mcs_gelu(g, x), *b = mcs_relu(g, x), *s = mcs_add(g, a, w), *t = mcs_add(g, b, w);
    struct tensor *norm = mcs_apply(g, OP_l2norm, "norm", &s, NULL);
    struct tensor *again = mcs_apply(g, OP_l2norm, "again", &s, NULL);
    (void)t;
    static const enum mcs_op want[] = {OP_cast, OP_gelu, OP_relu, OP_cast,   OP_add,
                                       OP_cast, OP_add,  OP_cast, OP_l2norm, OP_l2norm};
    OK(mcs_graph_status(g));
    cr_assert_eq(g->n_steps, 10, "%d steps", g->n_steps);
    for (int i = 0; i < 10; i++)
        cr_expect_eq(g->steps[i].op, want[i], "step %d is %s", i, mcs_op_table[g->steps[i].op].name);
    cr_expect_eq(a->dt, MCS_BF16);
    cr_expect_eq(s->dt, MCS_BF16);
    cr_expect_eq(norm->dt, MCS_F32);
    cr_expect_eq(x->cast, g->steps[0].out[0]);
    cr_expect_eq(x->cast->dt, MCS_BF16);
    cr_expect_eq(s->cast->dt, MCS_F32);
    cr_expect(g->steps[8].in[0] == s->cast && g->steps[9].in[0] == s->cast && again->dt == MCS_F32);
    cr_expect(g->steps[3].in[0] == w && g->steps[5].in[0] == w && !w->cast);
    mcs_graph_free(g);
    net_close(&n);
}

/* ---- room for stages ---- */

Test(tape, room_for_stages)
{
    struct device d;
    OK(mcs_cpu_open(1, &d));
    struct device_scratch r = {.device = &d};
    OK(mcs_device_scratch(&r, 0));
    cr_expect_eq(r.p, NULL);
    OK(mcs_device_scratch(&r, 1000));
    cr_assert(r.p);
    cr_expect_eq(r.bytes, 1000);
    memset(r.p, 1, 1000);
    const void *first = r.p;
    OK(mcs_device_scratch(&r, 1000));
    OK(mcs_device_scratch(&r, 10));
    cr_expect(r.p == first && r.bytes == 1000, "what is large enough stays");
    OK(mcs_device_scratch(&r, 1001));
    cr_expect_eq(r.bytes, 1001);
    memset(r.p, 1, 1001);
    mcs_device_scratch_free(&r);
    cr_expect(!r.p && r.bytes == 0);
    mcs_device_scratch_free(&r);
    mcs_cpu_close(&d);
}
