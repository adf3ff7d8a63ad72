#include "engine/tape/plan.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

static int64_t bytes_of(const struct tensor *t)
{
    return (mcs_bytes(t) + ALIGN - 1) / ALIGN * ALIGN;
}

static int is_planned(const struct tensor *t)
{
    return t->root == t && t->role != TENSOR_PARAM && t->role != TENSOR_PARAM_GRAD;
}

static void extend_lifetime(struct tensor *t, int step)
{
    if (!t || !is_planned(t->root)) return;
    t = t->root;
    if (step < t->first_step) t->first_step = step;
    if (step > t->last_step) t->last_step = step;
}

static void find_lifetimes(struct graph *g)
{
    for (int i = 0; i < g->n_tensors; i++) {
        g->tensors[i]->first_step = g->n_steps;
        g->tensors[i]->last_step = -1;
    }
    for (int i = 0; i < g->n_steps; i++) {
        const struct step *s = &g->steps[i];
        for (int k = 0; k < MCS_MAX_IN; k++) extend_lifetime(s->in[k], i), extend_lifetime(s->din[k], i);
        for (int k = 0; k < MCS_MAX_OUT; k++) extend_lifetime(s->out[k], i), extend_lifetime(s->dout[k], i);
    }
    for (int i = 0; i < g->n_tensors; i++) {
        struct tensor *t = g->tensors[i];
        const int filled_before = t->role == TENSOR_INPUT || t->role == TENSOR_SEED;
        if (filled_before) t->first_step = 0;
        if (filled_before || t->keep) t->last_step = g->n_steps;
    }
}

static int by_bytes_then_index(const void *pa, const void *pb)
{
    const struct tensor *a = *(struct tensor *const *)pa, *b = *(struct tensor *const *)pb;
    const int64_t na = bytes_of(a), nb = bytes_of(b);
    if (na != nb) return na < nb ? 1 : -1;
    return a->index < b->index ? -1 : 1;
}

enum plan_region mcs_plan_region(const struct tensor *t)
{
    const struct tensor *r = t->root;
    if (r->role == TENSOR_SEED || r->constant) return PLAN_CONSTANTS;
    return r->role == TENSOR_INPUT ? PLAN_INPUTS : PLAN_ACTIVATIONS;
}

int64_t mcs_plan_bytes(const struct plan *plan)
{
    return plan->activation_bytes + plan->input_bytes + plan->constant_bytes + plan->workspace_bytes;
}

/* Inputs and constants are alive during all steps: placed one after the other. */
static void place_filled(struct tensor *t, struct plan *plan)
{
    int64_t *end = mcs_plan_region(t) == PLAN_INPUTS ? &plan->input_bytes : &plan->constant_bytes;
    t->offset = *end;
    *end += bytes_of(t);
}

/* Greedy by size: the largest tensor first, each at the lowest offset where no tensor placed before it is alive at the
 * same time. `placed` is kept sorted by offset, so one pass finds the gap. */
enum mcs_status mcs_plan_make(struct graph *g, struct plan *plan)
{
    MCS_TRY(mcs_graph_status(g));
    find_lifetimes(g);
    memset(plan, 0, sizeof *plan);
    struct tensor **todo = malloc((size_t)(g->n_tensors + 1) * sizeof *todo);
    struct tensor **placed = malloc((size_t)(g->n_tensors + 1) * sizeof *placed);
    if (!todo || !placed) {
        free(todo);
        free(placed);
        return MCS_FAIL(MCS_E_NOMEM, "no memory to plan %d tensors", g->n_tensors);
    }
    int n_todo = 0, n_placed = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        struct tensor *t = g->tensors[i];
        if (!is_planned(t) || t->last_step < 0) continue;
        plan->sum_bytes += bytes_of(t);
        if (mcs_plan_region(t) == PLAN_ACTIVATIONS)
            todo[n_todo++] = t;
        else
            place_filled(t, plan);
    }
    qsort(todo, (size_t)n_todo, sizeof *todo, by_bytes_then_index);
    for (int i = 0; i < n_todo; i++) {
        struct tensor *t = todo[i];
        const int64_t bytes = bytes_of(t);
        int64_t at = 0;
        for (int k = 0; k < n_placed; k++) {
            const struct tensor *o = placed[k];
            if (o->last_step < t->first_step || o->first_step > t->last_step) continue;
            if (o->offset - at >= bytes) break;
            if (o->offset + bytes_of(o) > at) at = o->offset + bytes_of(o);
        }
        t->offset = at;
        int slot = n_placed++;
        for (; slot > 0 && placed[slot - 1]->offset > at; slot--) placed[slot] = placed[slot - 1];
        placed[slot] = t;
        if (at + bytes > plan->activation_bytes) plan->activation_bytes = at + bytes;
    }
    free(todo);
    free(placed);
    plan->param_bytes = g->params->n_values * (int64_t)sizeof(float);
    plan->grad_bytes = g->n_steps > g->n_forward ? plan->param_bytes : 0;
    return MCS_OK;
}

static void print_shape(const struct tensor *t, FILE *f)
{
    fputc('(', f);
    for (int i = 0; i < t->nd; i++) fprintf(f, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    fputc(')', f);
}

void mcs_plan_dump(const struct graph *g, const struct plan *plan, FILE *f)
{
    fprintf(f,
            "# %d steps (%d forward), activations %.1f MiB, inputs %.1f MiB, constants %.1f MiB (together %.1f without "
            "reuse), workspace %.1f MiB, parameters %.1f MiB\n",
            g->n_steps, g->n_forward, (double)plan->activation_bytes / 1048576, (double)plan->input_bytes / 1048576,
            (double)plan->constant_bytes / 1048576, (double)plan->sum_bytes / 1048576,
            (double)plan->workspace_bytes / 1048576, (double)plan->param_bytes / 1048576);
    for (int i = 0; i < g->n_steps; i++) {
        const struct step *s = &g->steps[i];
        fprintf(f, "%5d %-3s %-15s %-48s", i, s->backward ? "bwd" : "fwd", mcs_op_table[s->op].name, s->scope);
        struct tensor *const *made = s->backward ? s->din : s->out;
        for (int k = 0; k < (s->backward ? MCS_MAX_IN : MCS_MAX_OUT); k++) {
            if (!made[k]) continue;
            fputc(' ', f);
            print_shape(made[k], f);
            fprintf(f, " %lld B @%lld", (long long)mcs_bytes(made[k]), (long long)made[k]->root->offset);
        }
        fputc('\n', f);
    }
}

void mcs_plan_timeline(const struct graph *g, int64_t *live_bytes)
{
    memset(live_bytes, 0, (size_t)g->n_steps * sizeof *live_bytes);
    for (int i = 0; i < g->n_tensors; i++) {
        const struct tensor *t = g->tensors[i];
        if (!is_planned(t)) continue;
        for (int k = t->first_step; k <= t->last_step && k < g->n_steps; k++) live_bytes[k] += bytes_of(t);
    }
}
