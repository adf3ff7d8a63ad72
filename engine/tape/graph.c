#include "engine/tape/graph.h"

#include "engine/backend.h"
#include "engine/base/rng.h"
#include "engine/tape/amp.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- parameters ---- */

enum { PARAM_ALIGN = 16 /* floats: each tensor of a flat array starts on 64 bytes */ };

struct params *mcs_params_new(void)
{
    return calloc(1, sizeof(struct params));
}

void mcs_params_free(struct params *p)
{
    if (!p) return;
    if (p->device) {
        p->device->backend->free(p->device, p->data);
        p->device->backend->free(p->device, p->grad);
    }
    free(p->t);
    free(p->init);
    free(p->is_buffer);
    mcs_arena_free(&p->arena);
    free(p);
}

struct tensor *mcs_params_find(const struct params *p, const char *name)
{
    for (int i = 0; i < p->n; i++)
        if (!strcmp(p->t[i]->name, name)) return p->t[i];
    return NULL;
}

/* Reallocates an array to n items of `bytes` each; 0 where there is no memory: it is then unchanged. */
static int grow_array(void **array, int n, size_t bytes)
{
    void *more = realloc(*array, (size_t)n * bytes);
    if (more) *array = more;
    return more != NULL;
}

/* NULL: no memory. */
static struct tensor *params_add(struct params *p, const char *name, int nd, const int64_t *dim, struct init init,
                                 int is_buffer)
{
    if (p->n == p->capacity) {
        const int capacity = p->capacity ? 2 * p->capacity : 64;
        if (!grow_array((void **)&p->t, capacity, sizeof *p->t) ||
            !grow_array((void **)&p->init, capacity, sizeof *p->init) ||
            !grow_array((void **)&p->is_buffer, capacity, sizeof *p->is_buffer))
            return NULL;
        p->capacity = capacity;
    }
    struct tensor *t = mcs_arena_alloc(&p->arena, sizeof *t);
    if (!t) return NULL;
    t->name = mcs_arena_strdup(&p->arena, name);
    t->dt = MCS_F32;
    t->role = TENSOR_PARAM;
    t->nd = nd;
    if (nd) memcpy(t->dim, dim, (size_t)nd * sizeof *dim);
    t->root = t;
    t->index = p->n;
    t->offset = p->n_values * (int64_t)sizeof(float);
    p->n_values += (mcs_count(t) + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
    p->init[p->n] = init;
    p->is_buffer[p->n] = (uint8_t)is_buffer;
    p->t[p->n++] = t;
    return t;
}

enum mcs_status mcs_params_alloc(struct params *p, struct device *d)
{
    void *data;
    MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for a list of parameters");
    MCS_TRY(mcs_arena_status(&p->arena));
    MCS_REQUIRE(!p->data, MCS_E_FAIL, "these parameters were already given memory");
    MCS_TRY(d->backend->alloc(d, p->n_values * (int64_t)sizeof(float), &data));
    p->data = data;
    p->device = d;
    for (int i = 0; i < p->n; i++) p->t[i]->data = (char *)data + p->t[i]->offset;
    return d->backend->zero(d, p->data, p->n_values * (int64_t)sizeof(float));
}

enum mcs_status mcs_params_alloc_grad(struct params *p)
{
    void *grad;
    if (p->grad) return MCS_OK;
    MCS_TRY(p->device->backend->alloc(p->device, p->n_values * (int64_t)sizeof(float), &grad));
    p->grad = grad;
    return p->device->backend->zero(p->device, grad, p->n_values * (int64_t)sizeof(float));
}

float *mcs_params_grad(const struct params *p, const struct tensor *t)
{
    return p->grad + t->offset / (int64_t)sizeof(float);
}

/* One tensor at a time: a host copy of all weights would take more memory than planned. */
enum mcs_status mcs_params_init(struct params *p, uint64_t seed)
{
    int64_t most = 1;
    for (int i = 0; i < p->n; i++) most = mcs_count(p->t[i]) > most ? mcs_count(p->t[i]) : most;
    float *w = malloc((size_t)most * sizeof *w);
    MCS_REQUIRE(w, MCS_E_NOMEM, "no memory for a tensor of %lld values", (long long)most);
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < p->n && st == MCS_OK; i++) {
        const int64_t n = mcs_count(p->t[i]);
        const struct mcs_rng r = {.seed = seed, .site = mcs_rng_site(p->t[i]->name)};
        const struct init init = p->init[i];
        if (init.kind == INIT_NORMAL) mcs_rng_fill_normal(r, w, n);
        if (init.kind == INIT_UNIFORM) mcs_rng_fill_uniform(r, w, n);
        for (int64_t k = 0; k < n; k++) switch (init.kind) {
            case INIT_ZERO: w[k] = 0; break;
            case INIT_ONE: w[k] = 1; break;
            case INIT_CONST: w[k] = init.value; break;
            case INIT_NORMAL: w[k] *= init.value; break;
            case INIT_UNIFORM: w[k] = (2 * w[k] - 1) * init.value; break;
            }
        st = p->device->backend->upload(p->device, p->t[i]->data, w, n * (int64_t)sizeof *w);
    }
    free(w);
    return st;
}

/* ---- graph ---- */

/* Exhausted memory is an error that a graph holds, so that code which builds one need not check after each call.
 * Without memory for a graph, mcs_graph_new returns the thread's failed_graph, which has failed from the start. Without
 * memory for a tensor or a step, the functions return failed_tensor or failed_step, whose contents are never read,
 * since a failed graph is never planned. */
static _Thread_local struct graph failed_graph;
static _Thread_local struct tensor failed_tensor;
static _Thread_local struct step failed_step;
static _Thread_local struct params failed_params;

/* Keeps the first error. */
static void hold(struct graph *g, enum mcs_status st)
{
    if (g->status == MCS_OK) g->status = st;
}

static struct tensor *no_tensor(struct graph *g)
{
    hold(g, MCS_FAIL(MCS_E_NOMEM, "no memory for a graph of %d steps", g->n_steps));
    failed_tensor = (struct tensor){.name = "after an error", .role = TENSOR_ACT, .nd = 1, .root = &failed_tensor};
    for (int i = 0; i < MCS_MAX_DIM; i++) failed_tensor.dim[i] = 1;
    return &failed_tensor;
}

struct graph *mcs_graph_new(struct params *p, enum mcs_dtype activations)
{
    struct graph *g = p ? calloc(1, sizeof *g) : NULL;
    if (!g) {
        mcs_graph_free(&failed_graph);
        g = &failed_graph;
        no_tensor(g);
    }
    g->params = p ? p : &failed_params;
    g->activations = activations;
    return g;
}

void mcs_graph_free(struct graph *g)
{
    if (!g) return;
    free(g->tensors);
    free(g->steps);
    mcs_arena_free(&g->arena);
    if (g == &failed_graph)
        *g = (struct graph){0};
    else
        free(g);
}

enum mcs_status mcs_graph_status(const struct graph *g)
{
    return g->arena.failed ? MCS_E_NOMEM : g->status; /* the arena has recorded the message */
}

enum { MAX_SCOPES = sizeof((struct graph *)0)->scope / sizeof(char *) };

static const char *innermost(const struct graph *g)
{
    const int n = g->n_scopes < MAX_SCOPES ? g->n_scopes : MAX_SCOPES;
    return n ? g->scope[n - 1] : "";
}

void mcs_scope_begin(struct graph *g, const char *fmt, ...)
{
    char name[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    const char *outer = innermost(g);
    if (g->n_scopes < MAX_SCOPES)
        g->scope[g->n_scopes] = name[0] ? mcs_arena_printf(&g->arena, "%s%s.", outer, name) : outer;
    else
        hold(g, MCS_FAIL(MCS_E_FAIL, "%s%s: scopes are nested more than %d deep", outer, name, MAX_SCOPES));
    g->n_scopes++;
}

void mcs_scope_end(struct graph *g)
{
    if (g->n_scopes == 0)
        hold(g, MCS_FAIL(MCS_E_FAIL, "a scope ends that never began"));
    else
        g->n_scopes--;
}

static const char *scoped(struct graph *g, const char *name)
{
    const char *scope = innermost(g);
    const int n = (int)strlen(scope);
    return mcs_arena_printf(&g->arena, "%.*s%s", n && !name[0] ? n - 1 : n, scope, name); /* no name: no dot */
}

struct tensor *mcs_graph_tensor(struct graph *g, const char *name, enum tensor_role role)
{
    if (g->n_tensors == g->cap_tensors) {
        const int capacity = g->cap_tensors ? 2 * g->cap_tensors : 256;
        if (!grow_array((void **)&g->tensors, capacity, sizeof *g->tensors)) return no_tensor(g);
        g->cap_tensors = capacity;
    }
    struct tensor *t = mcs_arena_alloc(&g->arena, sizeof *t);
    if (!t) return no_tensor(g);
    t->name = name;
    t->role = role;
    t->root = t;
    t->index = g->n_tensors;
    g->tensors[g->n_tensors++] = t;
    return t;
}

struct step *mcs_graph_step(struct graph *g)
{
    if (g->n_steps == g->cap_steps) {
        const int capacity = g->cap_steps ? 2 * g->cap_steps : 256;
        if (!grow_array((void **)&g->steps, capacity, sizeof *g->steps)) {
            no_tensor(g);
            return &failed_step;
        }
        g->cap_steps = capacity;
    }
    struct step *s = &g->steps[g->n_steps++];
    memset(s, 0, sizeof *s);
    s->run = &g->run;
    return s;
}

struct tensor *mcs_input(struct graph *g, const char *name, enum mcs_dtype dt, int nd, const int64_t *dim)
{
    struct tensor *t = mcs_graph_tensor(g, scoped(g, name), TENSOR_INPUT);
    t->dt = dt;
    t->nd = nd;
    memcpy(t->dim, dim, (size_t)nd * sizeof *dim);
    return t;
}

struct tensor *mcs_constant(struct graph *g, const char *name, enum mcs_dtype dt, int nd, const int64_t *dim,
                            const void *value)
{
    struct tensor *t = mcs_input(g, name, dt, nd, dim);
    const size_t bytes = (size_t)mcs_count(t) * 4;
    void *copy = value ? mcs_arena_alloc(&g->arena, bytes) : NULL;
    t->constant = copy ? memcpy(copy, value, bytes) : NULL;
    return t;
}

static struct tensor *param(struct graph *g, const char *name, int nd, const int64_t *dim, struct init init,
                            int is_buffer)
{
    const char *full = scoped(g, name);
    struct tensor *t = mcs_params_find(g->params, full);
    if (t) {
        if (t->nd != nd || (nd && memcmp(t->dim, dim, (size_t)nd * sizeof *dim) != 0))
            hold(g, MCS_FAIL(MCS_E_SHAPE, "%s: the parameter is used with two shapes", full));
        return t;
    }
    if (g->params->data)
        hold(g, MCS_FAIL(MCS_E_FAIL, "%s: a parameter first named after the others were given memory", full));
    t = g->status == MCS_OK ? params_add(g->params, full, nd, dim, init, is_buffer) : NULL;
    return t ? t : no_tensor(g);
}

struct tensor *mcs_param(struct graph *g, const char *name, int nd, const int64_t *dim, struct init init)
{
    return param(g, name, nd, dim, init, 0);
}

struct tensor *mcs_buffer(struct graph *g, const char *name, int nd, const int64_t *dim, struct init init)
{
    return param(g, name, nd, dim, init, 1);
}

struct tensor *mcs_alias(struct graph *g, struct tensor *x, int nd, const int64_t *dim)
{
    struct tensor *t = mcs_graph_tensor(g, x->name, x->root->role);
    t->dt = x->dt;
    t->nd = nd;
    if (nd) memcpy(t->dim, dim, (size_t)nd * sizeof *dim);
    t->root = x->root;
    return t;
}

struct tensor *mcs_reshape(struct graph *g, struct tensor *x, int nd, const int64_t *dim)
{
    if (mcs_graph_status(g) != MCS_OK) return x;
    struct tensor *t = mcs_alias(g, x, nd, dim);
    if (mcs_count(t) != mcs_count(x))
        hold(g, MCS_FAIL(MCS_E_SHAPE, "%s: a reshape from %lld to %lld elements", x->name, (long long)mcs_count(x),
                         (long long)mcs_count(t)));
    return t;
}

struct tensor *mcs_keep(struct tensor *t)
{
    t->root->keep = 1;
    return t;
}

struct step *mcs_record(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in, const void *attr)
{
    const struct op_info *info = &mcs_op_table[op];
    if (mcs_graph_status(g) != MCS_OK) return NULL;
    struct tensor out[MCS_MAX_OUT], *cast[MCS_MAX_IN];
    memset(out, 0, sizeof out);
    const char *scope = scoped(g, name);
    in = mcs_amp_inputs(g, op, name, in, cast);
    const enum mcs_status st = mcs_op_shape(op, scope, in, attr, out);
    if (st != MCS_OK) {
        hold(g, mcs_trace(st, __FILE__, __LINE__));
        return NULL;
    }
    struct step *s = mcs_graph_step(g);
    s->op = op;
    s->scope = scope;
    void *copy = mcs_arena_alloc(&g->arena, info->attr_bytes);
    if (attr && copy) memcpy(copy, attr, info->attr_bytes);
    s->attr = copy;
    memcpy(s->in, in, (size_t)info->n_in * sizeof *in);
    for (int i = 0; i < info->n_out; i++) {
        struct tensor *t = mcs_graph_tensor(g, scope, TENSOR_ACT);
        t->dt = mcs_amp_output(g->activations, op, i, out[i].dt);
        t->nd = out[i].nd;
        memcpy(t->dim, out[i].dim, sizeof t->dim);
        s->out[i] = t;
    }
    g->n_forward = g->n_steps;
    return mcs_graph_status(g) == MCS_OK ? s : NULL;
}

struct tensor *mcs_apply(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in, const void *attr)
{
    const struct step *s = mcs_record(g, op, name, in, attr);
    if (s) return s->out[0];
    struct tensor *dummy = mcs_graph_tensor(g, "after an error", TENSOR_ACT);
    dummy->nd = 1;
    dummy->dim[0] = 1;
    return dummy;
}
