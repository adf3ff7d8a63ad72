#include "bench/bench_networks.h"

#include "engine/model/clip.h"
#include "engine/model/layers.h"
#include "engine/model/sam.h"

enum { TEXT_TOKENS = 64 };

static void result(struct bench_network *n, struct tensor *t)
{
    n->result[n->n_results++] = mcs_keep(t);
}

static struct tensor *image_input(struct bench_network *n, int64_t batch, int64_t side, int64_t channels)
{
    return n->image = mcs_input(n->graph, "image", MCS_F32, MCS_DIMS(batch, side, side, channels));
}

/* n integers first, first + step, ..., wrapping to `first` after `period` of them. */
static struct tensor *integers(struct graph *g, const char *name, int64_t n, int64_t period, int32_t first,
                               int32_t step)
{
    int32_t *v = mcs_arena_alloc(&g->arena, (size_t)n * sizeof *v);
    for (int64_t i = 0; v && i < n; i++) v[i] = first + step * (int32_t)(i % period);
    return mcs_constant(g, name, MCS_I32, 1, &n, v);
}

/* ---- the networks ---- */

static struct clip_config clip_config(int small)
{
    struct clip_config c = mcs_clip_biomed();
    if (!small) return c;
    c.embed = 8, c.image_size = 32, c.v_width = c.t_width = 16, c.v_depth = c.t_depth = 2, c.v_heads = c.t_heads = 2;
    c.v_mlp = c.t_mlp = 32, c.vocab = 100, c.t_proj = 12;
    return c;
}

static void build_clip_image(struct bench_network *n, int64_t batch, int small, int train)
{
    const struct clip_config c = clip_config(small);
    result(n, mcs_clip_image(n->graph, image_input(n, batch, c.image_size, 3), &c));
}

/* Both towers; captions of 64 tokens; in training with dropout and the loss, whose temperature is learned. */
static void build_clip(struct bench_network *n, int64_t batch, int small, int train)
{
    const struct clip_config c = clip_config(small);
    const struct contrastive_attr dhn_nce = {.b_image = 0.15f, .b_text = 0.15f};
    const int64_t rows = batch * TEXT_TOKENS;
    struct graph *g = n->graph;
    const struct clip_text text = {
        .ids = integers(g, "ids", rows, c.vocab - 4, 4, 1),
        .position = integers(g, "position", rows, TEXT_TOKENS, 0, 1),
        .offset = integers(g, "offset", batch + 1, batch + 1, 0, TEXT_TOKENS),
        .key = integers(g, "key", rows, rows, 0, 1),
    };
    struct tensor *a = mcs_l2norm(g, mcs_clip_image(g, image_input(n, batch, c.image_size, 3), &c));
    struct tensor *b = mcs_l2norm(g, mcs_clip_text(g, &text, &c, train)), *scale = mcs_clip_logit_scale(g);
    if (train) {
        result(n, mcs_apply(g, OP_contrastive, "loss", (struct tensor *[]){a, b, scale}, &dhn_nce));
        return;
    }
    result(n, a);
    result(n, b);
}

static struct sam_config sam_config(int small)
{
    struct sam_config c = mcs_sam_vit_b();
    if (!small) return c;
    c.image_size = 64, c.patch = 8, c.width = 16, c.depth = 2, c.heads = 2, c.window = 5, c.mlp = 64, c.n_global = 1;
    c.global[0] = 1, c.embed = 16, c.d_heads = 2, c.d_mlp = 16, c.mask_in = 16;
    return c;
}

static void build_sam_encoder(struct bench_network *n, int64_t batch, int small, int train)
{
    const struct sam_config c = sam_config(small);
    result(n, mcs_sam_encode(n->graph, image_input(n, batch, c.image_size, 3), &c));
}

/* Encoder and decoder, one box per image. */
static void build_sam(struct bench_network *n, int64_t batch, int small, int train)
{
    const struct sam_config c = sam_config(small);
    struct graph *g = n->graph;
    const int64_t rows = 2 * batch, dim[2] = {rows, 2};
    float *corner = mcs_arena_alloc(&g->arena, (size_t)(2 * rows) * sizeof *corner);
    for (int64_t i = 0; corner && i < 2 * rows; i++) corner[i] = i % 4 < 2 ? 0.25f : 0.75f;
    const struct sam_prompt prompt = {.n = batch,
                                      .tokens = 2,
                                      .coords = mcs_constant(g, "coords", MCS_F32, 2, dim, corner),
                                      .label = integers(g, "label", rows, 2, 2, 1),
                                      .kind = integers(g, "kind", rows, 2, 3, 1)};
    struct tensor *x = mcs_sam_encode(g, image_input(n, batch, c.image_size, 3), &c);
    const struct sam_output out = mcs_sam_decode(g, x, integers(g, "image_of", batch, batch, 0, 1), &prompt, &c);
    result(n, out.masks);
    result(n, out.iou);
}

/* nnU-Net's 2-D network for one channel and two classes; in training with deep supervision. */
static void build_unet(struct bench_network *n, int64_t batch, int small, int train)
{
    const struct unet_config c = small ? mcs_unet_2d(1, 2, 3, 4, 8) : mcs_unet_2d(1, 2, 8, 32, 512);
    const struct dice_ce_attr attr = {.batch_dice = 1, .smooth = 1e-5f, .weight_ce = 1, .weight_dice = 1};
    struct tensor *out[UNET_MAX_STAGES];
    struct graph *g = n->graph;
    const int levels = mcs_unet(g, image_input(n, batch, small ? 32 : 512, 1), &c, train, out);
    if (!train) result(n, out[0]);
    for (int i = 0; i < (train ? levels - 1 : 0); i++) { /* the coarsest has weight 0 */
        const int64_t dim[3] = {out[i]->dim[0], out[i]->dim[1], out[i]->dim[2]}, voxels = dim[0] * dim[1] * dim[2];
        int32_t *label = mcs_arena_alloc(&g->arena, (size_t)voxels * sizeof *label);
        for (int64_t k = 0; label && k < voxels; k++) label[k] = k % 7 == 0;
        struct tensor *target = mcs_constant(g, "target", MCS_I32, 3, dim, label);
        result(n, mcs_apply(g, OP_dice_ce, "loss", (struct tensor *[]){out[i], target}, &attr));
    }
}

const struct bench_model mcs_bench_networks[] = {
    {"biomedclip", 8, 0, 1, build_clip}, {"biomedclip_image", 8, 1, 0, build_clip_image},
    {"sam_vit_b", 1, 0, 0, build_sam},   {"sam_vit_b_encoder", 1, 1, 0, build_sam_encoder},
    {"nnunet_2d", 2, 0, 0, build_unet},
};
const int mcs_bench_n_networks = (int)(sizeof mcs_bench_networks / sizeof *mcs_bench_networks);
