#include "infer/sam/sam_plan.h"

#include "engine/model/layers.h"

#include <stdlib.h>

enum { MAX_PLANS = 12 };

void mcs_sam_plan_free(struct sam_plan *p)
{
    mcs_exec_free(p->exec);
    mcs_graph_free(p->graph);
    free(p);
}

static enum mcs_status build(struct sam_model *m, struct sam_plan *p)
{
    const struct sam_config *c = &m->config;
    const int64_t s = c->image_size, grid = mcs_sam_grid(c);
    struct graph *g = p->graph = mcs_graph_new(m->params, m->device->activations);
    if (p->decoder) {
        p->embedding = mcs_input(g, "embedding", MCS_F32, MCS_DIMS(p->n, grid, grid, c->embed));
        p->image_of = mcs_input(g, "image_of", MCS_I32, MCS_DIMS(p->n));
        p->prompt = mcs_sam_prompt_inputs(g, c, p->n, p->tokens, p->with_mask);
        p->out = mcs_sam_decode(g, p->embedding, p->image_of, &p->prompt, c);
        mcs_keep(p->out.masks);
        mcs_keep(p->out.iou);
    } else {
        p->image = mcs_input(g, "image", MCS_F32, MCS_DIMS(p->n, s, s, 3));
        p->embedding = mcs_keep(mcs_sam_encode(g, p->image, c));
    }
    MCS_TRY(mcs_graph_status(g));
    m->memory.device = m->device;
    MCS_TRY(mcs_exec_new_in(&m->memory, g, &p->exec));
    return mcs_exec_memory_alloc(&m->memory);
}

enum mcs_status mcs_sam_plan_get(struct sam_model *m, int decoder, int64_t n, int64_t tokens, int with_mask,
                                 struct sam_plan **plan)
{
    int n_plans = 0;
    for (struct sam_plan **at = &m->plans; *at; at = &(*at)->next) {
        struct sam_plan *p = *at;
        if (p->decoder == decoder && p->n == n && p->tokens == tokens && p->with_mask == with_mask) {
            *at = p->next;
            p->next = m->plans;
            m->plans = *plan = p;
            return mcs_exec_memory_alloc(&m->memory); /* a no-op unless an earlier plan's allocation failed */
        }
        if (++n_plans == MAX_PLANS) {
            *at = NULL; /* p is the least recently used */
            mcs_sam_plan_free(p);
            break;
        }
    }
    struct sam_plan *p = calloc(1, sizeof *p);
    MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for a plan");
    p->decoder = decoder, p->n = n, p->tokens = tokens, p->with_mask = with_mask;
    const enum mcs_status st = build(m, p);
    if (st != MCS_OK) {
        mcs_sam_plan_free(p);
        return mcs_trace(st, __FILE__, __LINE__);
    }
    p->next = m->plans;
    m->plans = *plan = p;
    return MCS_OK;
}
