#include "engine/exec.h"

#include "engine/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The trace that is being written, one a program as standard output is: the graphs of the thread that opened it. */
static struct {
    FILE *file; /* NULL: none */
    pthread_t owner;
    int n_graphs;
} trace;

static int traced(void)
{
    return trace.file && pthread_equal(trace.owner, pthread_self());
}

/* A graph's steps one after the other, each with its mean time over the runs. */
static void trace_graph(const struct exec *e)
{
    double at = 0;
    for (int i = 0; i < e->graph->n_steps; i++) {
        const struct step *s = &e->graph->steps[i];
        const double us = 1e6 * e->step_seconds[i] / (double)e->n_runs;
        fprintf(trace.file,
                "%s\n{\"name\":\"%s %s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":1,\"ts\":%.1f,\"dur\":%.1f,"
                "\"args\":{\"runs\":%lld}}",
                trace.n_graphs + i ? "," : "", mcs_op_table[s->op].name, s->scope, s->backward ? "backward" : "forward",
                trace.n_graphs + 1, at, us, (long long)e->n_runs);
        at += us;
    }
    trace.n_graphs++;
}

static void bind(struct exec *e)
{
    struct graph *g = e->graph;
    for (int pass = 0; pass < 2; pass++) /* roots first, then what aliases them */
        for (int i = 0; i < g->n_tensors; i++) {
            struct tensor *t = g->tensors[i];
            if ((t->root == t) != (pass == 0)) continue;
            if (t->root != t)
                t->data = t->root->data;
            else if (t->role == TENSOR_PARAM_GRAD)
                t->data = (char *)g->params->grad + t->offset;
            else if (t->last_step >= 0)
                t->data = e->arena + t->offset;
        }
    for (int i = 0; i < g->n_steps; i++) g->steps[i].workspace = e->workspace;
}

static enum mcs_status fill_inputs(struct exec *e)
{
    const float one = 1;
    for (int i = 0; i < e->graph->n_tensors; i++) {
        const struct tensor *t = e->graph->tensors[i];
        if (t->role != TENSOR_INPUT || t->root != t) continue;
        if (t->constant)
            MCS_TRY(e->device->backend->upload(e->device, t->data, t->constant, mcs_bytes(t)));
        else
            MCS_TRY(e->device->backend->zero(e->device, t->data, mcs_bytes(t)));
    }
    for (int i = 0; i < e->graph->n_forward; i++)
        for (int k = 0; k < MCS_MAX_OUT; k++) {
            const struct tensor *t = e->graph->steps[i].out[k];
            if (t && t->grad && t->grad->role == TENSOR_INPUT && mcs_count(t) == 1)
                MCS_TRY(e->device->backend->upload(e->device, t->grad->data, &one, sizeof one));
        }
    return MCS_OK;
}

/* Before anything is allocated, so that the message can say which batch would fit: the first input's. */
static enum mcs_status check_room(const struct exec *e)
{
    const struct graph *g = e->graph;
    int64_t batch = 1;
    if (!e->device->backend->room) return MCS_OK;
    for (int i = g->n_tensors - 1; i >= 0; i--)
        if (g->tensors[i]->role == TENSOR_INPUT && !g->tensors[i]->constant && g->tensors[i]->nd > 1)
            batch = g->tensors[i]->dim[0];
    return e->device->backend->room(e->device, e->plan.workspace_bytes, e->plan.activation_bytes, batch);
}

enum mcs_status mcs_exec_new(struct graph *g, struct device *d, struct exec **made)
{
    MCS_TRY(g->status);
    MCS_REQUIRE(g->params->data || g->params->n == 0, MCS_E_FAIL, "the graph's parameters have no memory yet");
    for (int i = 0; i < g->n_tensors; i++)
        MCS_REQUIRE(g->tensors[i]->role != TENSOR_PARAM_GRAD || g->params->grad, MCS_E_FAIL,
                    "%s: wanted before mcs_params_alloc_grad", g->tensors[i]->name);
    enum mcs_status st;
    void *p;
    struct exec *e = calloc(1, sizeof *e);
    MCS_REQUIRE(e, MCS_E_NOMEM, "no memory for an executor");
    e->graph = g;
    e->device = d;
    MCS_TRY_GOTO(mcs_plan_make(g, &e->plan), st, failed);
    for (int i = 0; i < g->n_steps; i++) {
        struct step *s = &g->steps[i];
        s->device = d;
        s->before = i ? s - 1 : NULL;
        s->after = i + 1 < g->n_steps ? s + 1 : NULL;
        if (d->backend->ops[s->op].prepare) MCS_TRY_GOTO(d->backend->ops[s->op].prepare(s, d), st, failed);
        if ((int64_t)s->workspace_bytes > e->plan.workspace_bytes)
            e->plan.workspace_bytes = (int64_t)s->workspace_bytes;
    }
    MCS_TRY_GOTO(check_room(e), st, failed);
    MCS_TRY_GOTO(d->backend->alloc(d, e->plan.activation_bytes, &p), st, failed);
    e->arena = p;
    MCS_TRY_GOTO(d->backend->alloc(d, e->plan.workspace_bytes, &p), st, failed);
    e->workspace = p;
    bind(e);
    MCS_TRY_GOTO(fill_inputs(e), st, failed);
    if (traced()) MCS_TRY_GOTO(mcs_exec_time_steps(e), st, failed);
    *made = e;
    return MCS_OK;
failed:
    mcs_exec_free(e);
    return st;
}

void mcs_exec_free(struct exec *e)
{
    if (!e) return;
    if (traced() && e->step_seconds && e->n_runs) trace_graph(e);
    for (int i = 0; i < 3; i++)
        if (e->part[i].captured) e->device->backend->captured_free(e->device, e->part[i].captured);
    for (int i = 0; i < e->graph->n_steps; i++) {
        struct step *s = &e->graph->steps[i];
        if (e->device->backend->ops[s->op].release) e->device->backend->ops[s->op].release(s);
        s->prepared = NULL;
    }
    e->device->backend->free(e->device, e->arena);
    e->device->backend->free(e->device, e->workspace);
    free(e->step_seconds);
    free(e);
}

enum mcs_status mcs_exec_set(struct exec *e, const struct tensor *t, const void *src)
{
    const struct backend *b = e->device->backend;
    enum { TILE = 4096 };
    uint16_t half[TILE];
    if (t->dt != MCS_BF16) return b->upload(e->device, t->data, src, mcs_bytes(t));
    for (int64_t i = 0, n = mcs_count(t); i < n; i += TILE) {
        const int64_t m = n - i < TILE ? n - i : TILE;
        for (int64_t k = 0; k < m; k++) half[k] = mcs_bf16_from(((const float *)src)[i + k]);
        MCS_TRY(b->upload(e->device, (uint16_t *)t->data + i, half, m * (int64_t)sizeof *half));
    }
    return MCS_OK;
}

enum mcs_status mcs_exec_get(struct exec *e, const struct tensor *t, void *dst)
{
    MCS_REQUIRE(t->root->keep || t->root->role != TENSOR_ACT, MCS_E_FAIL, "%s: read after a run without mcs_keep",
                t->name);
    MCS_TRY(e->device->backend->download(e->device, dst, t->data, mcs_bytes(t)));
    if (t->dt == MCS_BF16) /* widened in place, the last first */
        for (int64_t i = mcs_count(t) - 1; i >= 0; i--) {
            uint16_t half;
            memcpy(&half, (const char *)dst + 2 * i, sizeof half);
            ((float *)dst)[i] = mcs_bf16_to(half);
        }
    return MCS_OK;
}

static enum mcs_status run_steps(struct exec *e, int from, int to)
{
    for (int i = from; i < to; i++) {
        const struct step *s = &e->graph->steps[i];
        const struct op_impl *op = &e->device->backend->ops[s->op];
        const double started = e->step_seconds ? mcs_seconds() : 0;
        const enum mcs_status st = s->backward ? op->bwd(s) : op->fwd(s);
        if (st != MCS_OK)
            return MCS_FAIL(st, "%s: %s %s failed", s->scope, mcs_op_table[s->op].name,
                            s->backward ? "backward" : "forward");
        if (e->after_step) MCS_TRY(e->after_step(e->after_ctx, i));
        if (e->step_seconds) {
            MCS_TRY(e->device->backend->sync(e->device));
            e->step_seconds[i] += mcs_seconds() - started;
        }
    }
    return MCS_OK;
}

enum { ALL, FORWARD, BACKWARD };

/* The first run goes step by step, so that what a library sets up when first called is not captured. */
static enum mcs_status run_part(struct exec *e, int part, int from, int to)
{
    const struct backend *b = e->device->backend;
    if (b->begin_run) MCS_TRY(b->begin_run(e->device, &e->graph->run));
    if (e->part[part].n_runs++ == 0 || !b->capture_begin || e->step_seconds || e->no_capture)
        return run_steps(e, from, to);
    if (!e->part[part].captured) {
        MCS_TRY(b->capture_begin(e->device));
        void *captured = NULL;
        const enum mcs_status st = run_steps(e, from, to), ended = b->capture_end(e->device, &captured);
        if (captured && st != MCS_OK) b->captured_free(e->device, captured); /* of a part of the steps */
        MCS_TRY(st);
        MCS_TRY(ended);
        e->part[part].captured = captured;
    }
    return b->replay(e->device, e->part[part].captured);
}

enum mcs_status mcs_exec_forward(struct exec *e)
{
    e->n_runs++;
    return run_part(e, FORWARD, 0, e->graph->n_forward);
}

enum mcs_status mcs_exec_backward(struct exec *e)
{
    return run_part(e, BACKWARD, e->graph->n_forward, e->graph->n_steps);
}

enum mcs_status mcs_exec_run(struct exec *e)
{
    e->n_runs++;
    return run_part(e, ALL, 0, e->graph->n_steps);
}

/* ---- times ---- */

enum mcs_status mcs_exec_time_steps(struct exec *e)
{
    if (!e->step_seconds) e->step_seconds = calloc((size_t)e->graph->n_steps + 1, sizeof *e->step_seconds);
    MCS_REQUIRE(e->step_seconds, MCS_E_NOMEM, "no memory for the steps' times");
    return MCS_OK;
}

enum mcs_status mcs_exec_trace_open(const char *path)
{
    MCS_REQUIRE(!trace.file, MCS_E_FAIL, "%s: a trace is being written already", path);
    trace.file = fopen(path, "w");
    MCS_REQUIRE(trace.file, MCS_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    trace.owner = pthread_self();
    trace.n_graphs = 0;
    fputs("[", trace.file);
    return MCS_OK;
}

enum mcs_status mcs_exec_trace_close(void)
{
    if (!trace.file) return MCS_OK;
    fputs("\n]\n", trace.file);
    const int failed = ferror(trace.file), closed = fclose(trace.file);
    trace.file = NULL;
    MCS_REQUIRE(!failed && closed == 0, MCS_E_IO, "the trace could not be written: %s", strerror(errno));
    return MCS_OK;
}
