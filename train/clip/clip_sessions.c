#include "train/clip/clip_sessions.h"

#include "engine/model/layers.h"
#include "engine/tape/grad.h"

#include <math.h>

int64_t mcs_clip_own_batch(const struct clip_train_options *o)
{
    return o->batch / mcs_comm_size(o->comm);
}

int mcs_clip_buckets(int64_t max_rows, int64_t rows[CLIP_MAX_BUCKETS])
{
    int n = 0;
    for (int i = CLIP_MAX_BUCKETS - 1; i >= 0; i--) {
        const int64_t wanted = i ? (int64_t)ceil((double)max_rows * exp2(-i / 4.0)) : max_rows;
        const int64_t r = (wanted + CLIP_BUCKET_STEP - 1) / CLIP_BUCKET_STEP * CLIP_BUCKET_STEP;
        if (n == 0 || r > rows[n - 1]) rows[n++] = r; /* small buckets may be rounded to the same number */
    }
    return n;
}

/* Records both towers on this rank's share of the batch and gathers the normalised embeddings of all ranks. */
static enum mcs_status record_towers(struct clip_train_session *p, const struct clip_config *c,
                                     const struct clip_train_options *o, struct clip_nodes *n)
{
    struct graph *g = p->graph;
    struct tensor *qkv[64] = {0};
    MCS_REQUIRE(c->v_depth <= 64, MCS_E_DATA, "%d blocks are more than this program supports", c->v_depth);
    struct tensor *x = mcs_clip_embed_image(g, p->images, c);
    n->tokens = mcs_clip_blocks(g, x, c, 0, c->v_depth - 1, qkv);
    n->qkv[0] = c->v_depth > 1 ? qkv[c->v_depth - 2] : NULL;
    n->image_embedding = mcs_clip_finish(g, n->tokens, c, 0, &n->qkv[1]);
    mcs_data_parallel_begin(&p->data_parallel, o->comm, g);
    p->image_out = mcs_keep(mcs_data_parallel_gather(&p->data_parallel, mcs_l2norm(g, n->image_embedding)));
    p->text_out =
        mcs_keep(mcs_data_parallel_gather(&p->data_parallel, mcs_l2norm(g, mcs_clip_text(g, &p->text, c, 1))));
    return mcs_graph_status(g);
}

static enum mcs_status record(struct clip_train_session *p, struct clip_model *m, int64_t rows,
                              const struct clip_train_options *o, const struct clip_extra *extra)
{
    const struct clip_config *c = &m->config;
    const int64_t batch = mcs_clip_own_batch(o), s = c->image_size;
    struct clip_nodes n;
    struct graph *g = p->graph = mcs_graph_new(m->params, m->device->activations);
    g->frozen = o->frozen;
    g->run.seed = o->seed;
    p->images = mcs_input(g, "image", MCS_F32, MCS_DIMS(batch, s, s, 3));
    p->text = mcs_clip_text_inputs(g, batch, rows);
    p->text.first = mcs_comm_rank(o->comm) * (int)batch;
    MCS_TRY(record_towers(p, c, o, &n));
    struct tensor *scale = o->loss.inv_tau > 0 ? NULL : mcs_clip_logit_scale(g);
    p->loss[0] = mcs_apply(g, OP_contrastive, "loss", (struct tensor *[]){p->image_out, p->text_out, scale}, &o->loss);
    p->loss_name[0] = "loss";
    p->weight[0] = o->mean_directions ? 0.5f : 1;
    p->n_losses = 1;
    if (extra) p->n_losses += extra->build(extra->ctx, g, &n, p->loss + 1, p->weight + 1, p->loss_name + 1);
    MCS_TRY(mcs_graph_status(g));
    for (int i = 0; i < p->n_losses; i++) mcs_keep(p->loss[i]);
    return mcs_grad(g, p->loss, p->n_losses);
}

enum mcs_status mcs_clip_sessions_make(struct clip_sessions *p, struct clip_model *m,
                                       const struct clip_train_options *o, const struct clip_extra *extra)
{
    const int64_t all_rows = mcs_clip_own_batch(o) * m->config.context;
    *p = (struct clip_sessions){.memory = {.device = m->device}};
    const int n = mcs_clip_buckets(o->max_rows > 0 && o->max_rows < all_rows ? o->max_rows : all_rows, p->rows);
    for (p->n = 0; p->n < n;) {
        struct clip_train_session *one = &p->session[p->n++];
        MCS_TRY(record(one, m, p->rows[p->n - 1], o, extra));
        MCS_TRY(mcs_exec_new_in(&p->memory, one->graph, &one->exec));
    }
    return MCS_OK;
}

enum mcs_status mcs_clip_sessions_alloc(struct clip_sessions *p, const char *const *alone)
{
    MCS_TRY(mcs_exec_memory_alloc(&p->memory));
    for (int i = 0; i < p->n; i++) {
        struct clip_train_session *one = &p->session[i];
        MCS_TRY(mcs_data_parallel_attach(&one->data_parallel, one->exec, alone, 0));
        for (int k = 0; k < one->n_losses; k++) MCS_TRY(mcs_exec_set(one->exec, one->loss[k]->grad, &one->weight[k]));
    }
    return MCS_OK;
}

void mcs_clip_sessions_free(struct clip_sessions *p)
{
    for (int i = 0; i < p->n; i++) {
        mcs_data_parallel_end(&p->session[i].data_parallel);
        mcs_exec_free(p->session[i].exec);
        mcs_graph_free(p->session[i].graph);
    }
    mcs_exec_memory_free(&p->memory);
    *p = (struct clip_sessions){0};
}

int mcs_clip_sessions_find(const struct clip_sessions *p, int64_t n_rows)
{
    for (int i = 0; i < p->n; i++)
        if (n_rows <= p->rows[i]) return i;
    return -1;
}
