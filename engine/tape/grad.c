#include "engine/tape/grad.h"

#include "engine/backend.h"

#include <string.h>

static int is_frozen(const struct graph *g, const struct tensor *param)
{
    if (g->params->is_buffer[param->index]) return 1;
    for (const char *const *f = g->frozen; f && *f; f++)
        if (!strncmp(param->name, *f, strlen(*f))) return 1;
    return 0;
}

static int needs(const struct graph *g, const struct tensor *t)
{
    const struct tensor *r = t->root;
    return r->role == TENSOR_PARAM ? !is_frozen(g, r) : r->needs_grad;
}

/* Marks the tensors on a path from a trainable parameter or a wanted input. */
static void mark(struct graph *g)
{
    for (int i = 0; i < g->n_tensors; i++) {
        struct tensor *t = g->tensors[i];
        t->needs_grad = t->role == TENSOR_INPUT && t->wants_grad;
    }
    for (int i = 0; i < g->n_forward; i++) {
        const struct step *s = &g->steps[i];
        const struct op_info *info = &mcs_op_table[s->op];
        int any = 0;
        for (int k = 0; k < info->n_in; k++) any |= s->in[k] && mcs_op_differentiates(s->op, k) && needs(g, s->in[k]);
        for (int k = 0; k < info->n_out; k++) s->out[k]->needs_grad = any;
    }
}

static struct tensor *gradient_of(struct graph *g, struct tensor *of, enum tensor_role role)
{
    struct tensor *t = mcs_graph_tensor(g, mcs_arena_printf(&g->arena, "%s (gradient)", of->name), role);
    t->dt = of->dt;
    t->nd = of->nd;
    memcpy(t->dim, of->dim, sizeof t->dim);
    return t;
}

/* The view of its root's gradient that corresponds to x. */
static struct tensor *view(struct graph *g, const struct tensor *x, struct tensor *root_grad)
{
    return x == x->root ? root_grad : mcs_alias(g, root_grad, x->nd, x->dim);
}

enum mcs_status mcs_grad(struct graph *g, struct tensor *const *seeds, int n_seeds)
{
    MCS_TRY(mcs_graph_status(g));
    MCS_REQUIRE(g->n_forward == g->n_steps, MCS_E_FAIL, "mcs_grad was called twice on one graph");
    mark(g);
    for (int i = 0; i < n_seeds; i++) {
        struct tensor *r = seeds[i]->root;
        MCS_REQUIRE(r->needs_grad, MCS_E_SHAPE, "%s: no trainable parameter or wanted input leads to this seed",
                    r->name);
        MCS_REQUIRE(!r->grad, MCS_E_SHAPE, "%s: given twice as a seed", r->name);
        r->grad = gradient_of(g, r, TENSOR_SEED);
        seeds[i]->grad = view(g, seeds[i], r->grad);
    }
    /* (params->n) the gradient of each parameter; NULL: not wanted so far */
    struct tensor **param_grad = mcs_arena_alloc(&g->arena, (size_t)(g->params->n + 1) * sizeof *param_grad);
    MCS_TRY(mcs_graph_status(g));
    for (int i = g->n_forward - 1; i >= 0; i--) {
        const struct step f = g->steps[i]; /* a copy: mcs_graph_step may move the array */
        const struct op_info *info = &mcs_op_table[f.op];
        struct step b = {.op = f.op, .backward = 1, .scope = f.scope, .attr = f.attr, .run = f.run};
        int any_dout = 0, any_din = 0;
        for (int k = 0; k < info->n_out; k++) {
            if (f.out[k]->grad) b.dout[k] = f.out[k]->grad, any_dout = 1;
            if (info->out[k] & SLOT_KEEP) b.out[k] = f.out[k];
        }
        if (!any_dout) continue;
        for (int k = 0; k < info->n_in; k++) {
            struct tensor *x = f.in[k];
            b.like[k] = x;
            if (x && info->in[k] & SLOT_KEEP) b.in[k] = x;
            if (!x || !mcs_op_differentiates(f.op, k) || !needs(g, x)) continue;
            struct tensor *r = x->root;
            any_din = 1;
            if (r->role == TENSOR_PARAM) {
                if (!param_grad[r->index]) {
                    param_grad[r->index] = gradient_of(g, r, TENSOR_PARAM_GRAD);
                    param_grad[r->index]->offset = r->offset;
                }
                b.din[k] = view(g, x, param_grad[r->index]);
                b.beta[k] = 1;
                continue;
            }
            int twin = -1;
            for (int j = 0; j < k; j++)
                if (f.in[j] && f.in[j]->root == r) twin = j;
            if (twin >= 0) {
                MCS_REQUIRE(info->in[k] & SLOT_SHARE, MCS_E_SHAPE, "%s: %s reads one tensor through two inputs",
                            f.scope, info->name);
                b.din[k] = b.din[twin];
                b.beta[k] = b.beta[twin];
                continue;
            }
            MCS_REQUIRE(!r->grad || r->grad->role != TENSOR_SEED, MCS_E_SHAPE,
                        "%s: a seed of the gradient is also read by %s, which leads to a seed", r->name, f.scope);
            b.beta[k] = r->grad ? 1 : 0;
            if (!r->grad) {
                r->grad = gradient_of(g, r, TENSOR_GRAD);
                r->grad->keep = r->wants_grad;
            }
            b.din[k] = view(g, x, r->grad);
        }
        if (any_din) *mcs_graph_step(g) = b;
        MCS_TRY(mcs_graph_status(g));
    }
    return MCS_OK;
}

void mcs_params_zero_grad(struct params *p)
{
    p->device->backend->zero(p->device, p->grad, p->n_values * (int64_t)sizeof(float));
}
