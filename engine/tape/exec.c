#include "engine/tape/exec.h"

#include "engine/base/log.h"
#include "engine/base/newfile.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The trace that is being written: one per program, as standard output is. It holds the graphs of the thread that
 * opened it. */
static struct {
    FILE *file; /* NULL: none */
    struct mcs_new_file out;
    pthread_t owner;
    int n_graphs;
} trace;

static int traced(void)
{
    return trace.file && pthread_equal(trace.owner, pthread_self());
}

/* Writes a graph's steps one after the other, each with its mean time over the runs. */
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

/* ---- memory ---- */

static char *region_of(const struct exec *e, const struct tensor *t)
{
    switch (mcs_plan_region(t)) {
    case PLAN_INPUTS: return e->memory->inputs;
    case PLAN_CONSTANTS: return e->constants;
    default: return e->memory->activations;
    }
}

static void bind(struct exec *e)
{
    struct graph *g = e->graph;
    for (int pass = 0; pass < 2; pass++) /* roots first, then their aliases */
        for (int i = 0; i < g->n_tensors; i++) {
            struct tensor *t = g->tensors[i];
            if ((t->root == t) != (pass == 0)) continue;
            if (t->root != t)
                t->data = t->root->data;
            else if (t->role == TENSOR_PARAM_GRAD)
                t->data = (char *)g->params->grad + t->offset;
            else if (t->last_step >= 0)
                t->data = region_of(e, t) + t->offset;
        }
    for (int i = 0; i < g->n_steps; i++) g->steps[i].workspace = e->memory->workspace;
}

static enum mcs_status fill_constants(struct exec *e)
{
    const float one = 1;
    const struct backend *b = e->device->backend;
    for (int i = 0; i < e->graph->n_tensors; i++) {
        const struct tensor *t = e->graph->tensors[i];
        if (t->root != t || mcs_plan_region(t) != PLAN_CONSTANTS) continue;
        if (t->constant)
            MCS_TRY(b->upload(e->device, t->data, t->constant, mcs_bytes(t)));
        else if (mcs_count(t) == 1)
            MCS_TRY(b->upload(e->device, t->data, &one, sizeof one));
        else
            MCS_TRY(b->zero(e->device, t->data, mcs_bytes(t)));
    }
    return MCS_OK;
}

static enum mcs_status alloc_bytes(struct device *d, int64_t bytes, char **to)
{
    void *p = NULL;
    MCS_TRY(d->backend->alloc(d, bytes, &p));
    *to = p;
    return MCS_OK;
}

static enum mcs_status alloc_constants_and_bind(struct exec *e)
{
    const struct graph *g = e->graph;
    MCS_REQUIRE(g->params->data || g->params->n == 0, MCS_E_FAIL, "the graph's parameters have no memory yet");
    for (int i = 0; i < g->n_tensors; i++)
        MCS_REQUIRE(g->tensors[i]->role != TENSOR_PARAM_GRAD || g->params->grad, MCS_E_FAIL,
                    "%s: wanted before mcs_params_alloc_grad", g->tensors[i]->name);
    const int fresh = !e->constants;
    if (fresh && e->plan.constant_bytes) MCS_TRY(alloc_bytes(e->device, e->plan.constant_bytes, &e->constants));
    bind(e);
    return fresh ? fill_constants(e) : MCS_OK; /* a loss weight that the caller has set stays */
}

static int64_t largest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Bytes of the three shared regions that the executors need, and of the constants that are not allocated yet. */
static struct plan memory_needed(const struct exec_memory *m)
{
    struct plan all = {
        .activation_bytes = m->activation_bytes, .input_bytes = m->input_bytes, .workspace_bytes = m->workspace_bytes};
    for (const struct exec *e = m->first; e; e = e->next) {
        all.activation_bytes = largest(all.activation_bytes, e->plan.activation_bytes);
        all.input_bytes = largest(all.input_bytes, e->plan.input_bytes);
        all.workspace_bytes = largest(all.workspace_bytes, e->plan.workspace_bytes);
        if (!e->constants) all.constant_bytes += e->plan.constant_bytes;
    }
    return all;
}

struct plan mcs_exec_memory_plan(const struct exec_memory *m)
{
    struct plan all = memory_needed(m);
    for (const struct exec *e = m->first; e; e = e->next)
        if (e->constants) all.constant_bytes += e->plan.constant_bytes;
    return all;
}

/* Called before anything is allocated, so that the message can name the batch that would fit. The batch is the first
 * input's. */
static enum mcs_status check_memory(const struct exec_memory *m, const struct plan *all)
{
    const struct device *d = m->device;
    int64_t batch = 1;
    if (!d->backend->check_memory) return MCS_OK;
    const struct graph *g = m->first->graph;
    for (int i = g->n_tensors - 1; i >= 0; i--)
        if (g->tensors[i]->role == TENSOR_INPUT && !g->tensors[i]->constant && g->tensors[i]->nd > 1)
            batch = g->tensors[i]->dim[0];
    return d->backend->check_memory(m->device, all->workspace_bytes + all->constant_bytes,
                                    all->activation_bytes + all->input_bytes, batch);
}

static void drop_captured(struct exec *e)
{
    for (int i = 0; i < 3; i++)
        if (e->part[i].captured) e->device->backend->captured_free(e->device, e->part[i].captured);
    for (int i = 0; i < 3; i++) e->part[i].captured = NULL;
}

void mcs_exec_memory_free(struct exec_memory *m)
{
    if (!m->device) return;
    const struct backend *b = m->device->backend;
    b->free(m->device, m->activations);
    b->free(m->device, m->inputs);
    b->free(m->device, m->workspace);
    *m = (struct exec_memory){.device = m->device, .first = m->first};
}

static enum mcs_status grow(struct exec_memory *m, const struct plan *all)
{
    for (struct exec *e = m->first; e; e = e->next) {
        e->bound = 0;
        drop_captured(e);
    }
    mcs_exec_memory_free(m);
    MCS_TRY(check_memory(m, all));
    MCS_TRY(alloc_bytes(m->device, all->activation_bytes, &m->activations));
    m->activation_bytes = all->activation_bytes;
    MCS_TRY(alloc_bytes(m->device, all->input_bytes, &m->inputs));
    m->input_bytes = all->input_bytes;
    MCS_TRY(alloc_bytes(m->device, all->workspace_bytes, &m->workspace));
    m->workspace_bytes = all->workspace_bytes;
    return m->device->backend->zero(m->device, m->inputs, m->input_bytes);
}

enum mcs_status mcs_exec_memory_alloc(struct exec_memory *m)
{
    const struct plan all = memory_needed(m);
    if (!m->activations || !m->inputs || !m->workspace || all.activation_bytes > m->activation_bytes ||
        all.input_bytes > m->input_bytes || all.workspace_bytes > m->workspace_bytes)
        MCS_TRY(grow(m, &all));
    for (struct exec *e = m->first; e; e = e->next) {
        if (e->bound) continue;
        MCS_TRY(alloc_constants_and_bind(e));
        e->bound = 1;
    }
    return MCS_OK;
}

/* ---- executors ---- */

enum mcs_status mcs_exec_new_in(struct exec_memory *m, struct graph *g, struct exec **made)
{
    struct device *d = m->device;
    enum mcs_status st;
    MCS_TRY(mcs_graph_status(g));
    struct exec *e = calloc(1, sizeof *e);
    MCS_REQUIRE(e, MCS_E_NOMEM, "no memory for an executor");
    e->graph = g;
    e->device = d;
    e->no_capture = trace.file != NULL; /* set on other threads too: ranks record all together or not at all */
    MCS_TRY_GOTO(mcs_plan_make(g, &e->plan), st, failed);
    for (int i = 0; i < g->n_steps; i++) {
        struct step *s = &g->steps[i];
        s->device = d;
        s->before = i ? s - 1 : NULL;
        s->after = i + 1 < g->n_steps ? s + 1 : NULL;
        if (d->backend->ops[s->op].prepare) MCS_TRY_GOTO(d->backend->ops[s->op].prepare(s), st, failed);
        e->plan.workspace_bytes = largest(e->plan.workspace_bytes, (int64_t)s->workspace_bytes);
    }
    if (traced()) MCS_TRY_GOTO(mcs_exec_time_steps(e), st, failed);
    e->memory = m;
    e->next = m->first;
    m->first = e;
    *made = e;
    return MCS_OK;
failed:
    mcs_exec_free(e);
    return st;
}

enum mcs_status mcs_exec_new(struct graph *g, struct device *d, struct exec **made)
{
    struct exec_memory m = {.device = d};
    struct exec *e;
    MCS_TRY(mcs_exec_new_in(&m, g, &e));
    e->own = m;
    e->memory = &e->own;
    const enum mcs_status st = mcs_exec_memory_alloc(e->memory);
    if (st == MCS_OK)
        *made = e;
    else
        mcs_exec_free(e);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

void mcs_exec_free(struct exec *e)
{
    if (!e) return;
    if (traced() && e->step_seconds && e->n_runs) trace_graph(e);
    drop_captured(e);
    for (int i = 0; i < e->graph->n_steps; i++) {
        struct step *s = &e->graph->steps[i];
        if (e->device->backend->ops[s->op].release) e->device->backend->ops[s->op].release(s);
        s->prepared = NULL;
    }
    for (struct exec **at = e->memory ? &e->memory->first : NULL; at && *at; at = &(*at)->next)
        if (*at == e) {
            *at = e->next;
            break;
        }
    if (e->memory == &e->own) mcs_exec_memory_free(&e->own);
    e->device->backend->free(e->device, e->constants);
    free(e->step_seconds);
    free(e);
}

enum mcs_status mcs_exec_set(struct exec *e, const struct tensor *t, const void *src)
{
    const struct backend *b = e->device->backend;
    enum { TILE = 4096 };
    uint16_t half[TILE];
    MCS_REQUIRE(e->bound, MCS_E_FAIL, "%s: set before mcs_exec_memory_alloc", t->name);
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
    if (t->dt == MCS_BF16) /* widened in place, from the last to the first */
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

/* Run once eagerly: lazy initialisation in libraries must not be captured. */
static enum mcs_status run_part(struct exec *e, int part, int from, int to)
{
    const struct backend *b = e->device->backend;
    MCS_REQUIRE(e->bound, MCS_E_FAIL, "run before mcs_exec_memory_alloc");
    if (b->begin_run) MCS_TRY(b->begin_run(e->device, &e->graph->run));
    if (e->part[part].n_runs++ == 0 || !b->capture_begin || e->step_seconds || e->no_capture)
        return run_steps(e, from, to);
    if (!e->part[part].captured) {
        MCS_TRY(b->capture_begin(e->device));
        void *captured = NULL;
        const enum mcs_status st = run_steps(e, from, to), ended = b->capture_end(e->device, &captured);
        if (captured && st != MCS_OK)
            b->captured_free(e->device, captured); /* a failed recording of some of the steps */
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
    MCS_TRY(mcs_file_begin(path, &trace.out));
    trace.file = fopen(trace.out.path, "w");
    if (!trace.file) {
        const enum mcs_status st = MCS_FAIL(MCS_E_IO, "%s: cannot write: %s", path, mcs_file_write_error(errno));
        mcs_file_abort(&trace.out);
        return st;
    }
    trace.owner = pthread_self();
    trace.n_graphs = 0;
    fputs("[", trace.file);
    return MCS_OK;
}

enum mcs_status mcs_exec_trace_close(void)
{
    if (!trace.file) return MCS_OK;
    fputs("\n]\n", trace.file);
    const int failed = ferror(trace.file), closed = fclose(trace.file), why = errno;
    trace.file = NULL;
    if (!failed && closed == 0) return mcs_file_commit(&trace.out);
    mcs_file_abort(&trace.out);
    return MCS_FAIL(MCS_E_IO, "the trace could not be written: %s", mcs_file_write_error(why));
}
