/* The graphs of the models as whole texts (tests/expected/graphs): every parameter with its shape and initial values,
 * every input and constant, every step with its attributes, inputs and outputs. */
#include "engine/model/clip.h"
#include "engine/model/layers.h"
#include "engine/model/sam.h"
#include "engine/model/unet.h"
#include "engine/tape/grad.h"
#include "engine/tape/graph.h"
#include "tests/support/support_expected.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- a graph as text ---- */

static const char *const dtypes[] = {"float", "int", "bfloat16"};
static const char *const inits[] = {"zero", "one", "normal", "uniform", "constant"};

static void print_dims(FILE *f, const struct tensor *t)
{
    fputc('(', f);
    for (int i = 0; i < t->nd; i++) fprintf(f, i ? ",%lld" : "%lld", (long long)t->dim[i]);
    fputc(')', f);
}

/* A tensor of a step: a parameter by its name, any other by its number; a view with its shape at this step. */
static void print_tensor(FILE *f, const struct tensor *t)
{
    const struct tensor *r = t->root;
    if (r->role == TENSOR_PARAM)
        fprintf(f, " %s", r->name);
    else
        fprintf(f, " #%d", r->index);
    print_dims(f, t);
    if (r->role == TENSOR_PARAM_GRAD) fputs("gradient", f);
}

static void print_attr(FILE *f, const struct step *s)
{
    if (s->op == OP_linear) {
        const struct linear_attr *a = s->attr;
        fprintf(f, " rows %lld+%lld", (long long)a->w_row, (long long)a->w_rows);
    } else if (s->op == OP_conv || s->op == OP_conv_transpose) {
        const struct conv_attr *a = s->attr;
        fprintf(f, " %d-D stride", a->nsp);
        for (int i = 0; i < 3; i++) fprintf(f, " %lld", (long long)a->stride[i]);
        fputs(" pad", f);
        for (int i = 0; i < 3; i++) fprintf(f, " %lld", (long long)a->pad[i]);
    } else if (s->op == OP_layernorm || s->op == OP_instance_norm) {
        const struct norm_attr *a = s->attr;
        fprintf(f, " eps %g slope %g", (double)a->eps, (double)a->slope);
    } else if (s->op == OP_attention) {
        const struct attention_attr *a = s->attr;
        fprintf(
            f,
            " heads %d of %d columns %lld %lld %lld lengths %lld %lld grid %dx%d scale %g dropout %g site %u from %d",
            a->heads, a->head_dim, (long long)a->q_col, (long long)a->k_col, (long long)a->v_col, (long long)a->q_len,
            (long long)a->k_len, a->grid_h, a->grid_w, (double)a->scale, (double)a->dropout_p, a->site, a->first_seq);
    } else if (s->op == OP_window || s->op == OP_unwindow) {
        const struct window_attr *a = s->attr;
        fprintf(f, " win %lld to %lldx%lld", (long long)a->win, (long long)a->h, (long long)a->w);
    } else if (s->op == OP_concat) {
        fprintf(f, " axis %d", ((const struct axis_attr *)s->attr)->axis);
    } else if (s->op == OP_dropout) {
        const struct dropout_attr *a = s->attr;
        fprintf(f, " p %g site %u", (double)a->p, a->site);
    }
}

static void print_step(FILE *f, const struct step *s, int i)
{
    fprintf(f, "%d %s%s %s:", i, mcs_op_table[s->op].name, s->backward ? " backward" : "", s->scope);
    print_attr(f, s);
    for (int k = 0; k < MCS_MAX_IN; k++) {
        if (!s->in[k]) continue;
        fprintf(f, " in%d", k);
        print_tensor(f, s->in[k]);
    }
    for (int k = 0; k < MCS_MAX_OUT; k++) {
        if (s->out[k]) {
            fprintf(f, " out%d", k);
            print_tensor(f, s->out[k]);
            if (!s->backward && s->out[k]->keep) fputs(" kept", f);
        }
        if (s->dout[k]) {
            fprintf(f, " dout%d", k);
            print_tensor(f, s->dout[k]);
        }
    }
    for (int k = 0; k < MCS_MAX_IN; k++)
        if (s->din[k]) {
            fprintf(f, s->beta[k] != 0 ? " din%d+=" : " din%d=", k);
            print_tensor(f, s->din[k]);
        }
    fputc('\n', f);
}

static void print_constant(FILE *f, const struct tensor *t)
{
    for (int64_t k = 0; k < mcs_count(t) && k < 40; k++)
        if (t->dt == MCS_I32)
            fprintf(f, " %d", ((const int32_t *)t->constant)[k]);
        else
            fprintf(f, " %.6g", (double)((const float *)t->constant)[k]);
}

/* Compares the graph with tests/expected/graphs/NAME.txt. `result`: the tensor that the builder returned. */
static void check(const char *name, struct graph *g, const struct tensor *result)
{
    char *text, path[128];
    size_t n;
    FILE *f = open_memstream(&text, &n);
    cr_assert_eq(mcs_graph_status(g), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < g->params->n; i++) {
        const struct tensor *t = g->params->t[i];
        const struct init v = g->params->init[i];
        fprintf(f, "%s %s", g->params->is_buffer[i] ? "buffer" : "parameter", t->name);
        print_dims(f, t);
        fprintf(f, " %s %.6g\n", inits[v.kind], (double)v.value);
    }
    for (int i = 0; i < g->n_tensors; i++) {
        const struct tensor *t = g->tensors[i];
        if (t->root != t || (t->role != TENSOR_INPUT && t->role != TENSOR_SEED)) continue;
        fprintf(f, "input #%d %s %s", i, t->name, dtypes[t->dt]);
        print_dims(f, t);
        if (t->wants_grad) fputs(" wants gradient", f);
        if (t->constant) print_constant(f, t);
        fputc('\n', f);
    }
    for (int i = 0; i < g->n_steps; i++) print_step(f, &g->steps[i], i);
    if (result) {
        fputs("result", f);
        print_tensor(f, result);
        fputc('\n', f);
    }
    fclose(f);
    snprintf(path, sizeof path, "graphs/%s.txt", name);
    expected_check(path, text);
    free(text);
}

struct net {
    struct params *p;
    struct graph *g;
};

static struct net net_open(void)
{
    struct net n = {.p = mcs_params_new()};
    n.g = mcs_graph_new(n.p, MCS_F32);
    return n;
}

static void net_close(struct net *n)
{
    mcs_graph_free(n->g);
    mcs_params_free(n->p);
}

/* ---- CLIP ---- */

/* All numbers differ, so that a mistaken one shows. */
static struct clip_config clip(void)
{
    struct clip_config c = {.vocab = 50, .context = 20, .positions = 30, .types = 2, .dropout = 0.25f};
    c.embed = 10, c.image_size = 12, c.patch = 4;
    c.v_width = 6, c.v_depth = 4, c.v_heads = 2, c.v_mlp = 14, c.v_eps = 1e-6f;
    c.t_width = 12, c.t_depth = 2, c.t_heads = 3, c.t_mlp = 22, c.t_proj = 18, c.t_eps = 1e-12f;
    return c;
}

Test(graph_texts, image_tower)
{
    struct net n = net_open();
    const struct clip_config c = clip();
    struct tensor *image = mcs_input(n.g, "image", MCS_F32, MCS_DIMS(5, 12, 12, 3));
    struct tensor *y = mcs_clip_image(n.g, image, &c);
    check("clip_image", n.g, y);
    net_close(&n);
}

Test(graph_texts, blocks_hand_out_their_qkv)
{
    struct net n = net_open();
    const struct clip_config c = clip();
    struct tensor *qkv[4] = {0}, *image = mcs_input(n.g, "image", MCS_F32, MCS_DIMS(5, 12, 12, 3));
    struct tensor *x = mcs_clip_embed_image(n.g, image, &c);
    x = mcs_clip_blocks(n.g, x, &c, 1, 3, qkv);
    x = mcs_clip_finish(n.g, x, &c, 0, &qkv[2]);
    cr_assert(qkv[0] && qkv[1] && qkv[2] && !qkv[3]);
    cr_expect_str_eq(qkv[0]->name, "visual.trunk.blocks.1.attn.qkv");
    cr_expect_str_eq(qkv[1]->name, "visual.trunk.blocks.2.attn.qkv");
    cr_expect_str_eq(qkv[2]->name, "visual.trunk.blocks.3.attn.qkv");
    for (int i = 0; i < 3; i++) cr_expect(qkv[i]->nd == 3 && qkv[i]->dim[0] == 5 && qkv[i]->dim[2] == 18);
    cr_expect_eq(x->dim[1], 10);
    net_close(&n);
}

Test(graph_texts, text_tower)
{
    for (int train = 0; train < 2; train++) {
        struct net n = net_open();
        const struct clip_config c = clip();
        struct clip_text t = mcs_clip_text_inputs(n.g, 4, 17);
        t.first = 8;
        struct tensor *y = mcs_clip_text(n.g, &t, &c, train);
        mcs_clip_logit_scale(n.g);
        check(train ? "clip_text_training" : "clip_text", n.g, y);
        net_close(&n);
    }
}

Test(graph_texts, bottleneck_of_each_layer)
{
    for (int layer = 0; layer < 3; layer += 2) { /* below and above all other blocks */
        struct net n = net_open();
        char name[32];
        const struct clip_config c = clip();
        const struct m2ib m = mcs_clip_m2ib(n.g, &c, layer, 2, 3);
        struct tensor *seeds[] = {m.fit, m.kl};
        cr_assert_eq(mcs_grad(n.g, seeds, 2), MCS_OK, "%s", mcs_error_message());
        cr_expect(m.map->keep && m.alpha->grad && m.alpha->grad->keep && !m.x->grad && !m.noise->grad && !m.text->grad);
        snprintf(name, sizeof name, "clip_bottleneck_%d", layer);
        check(name, n.g, m.map);
        net_close(&n);
    }
}

/* ---- SAM ---- */

static struct sam_config sam(void)
{
    return (struct sam_config){.image_size = 20,
                               .patch = 4,
                               .width = 6,
                               .depth = 3,
                               .heads = 3,
                               .window = 2,
                               .mlp = 14,
                               .n_global = 2,
                               .global = {0, 2},
                               .embed = 16,
                               .d_heads = 4,
                               .d_mlp = 22,
                               .d_downsample = 2,
                               .mask_in = 12};
}

Test(graph_texts, sam_encoder)
{
    struct net n = net_open();
    const struct sam_config c = sam();
    struct tensor *image = mcs_input(n.g, "image", MCS_F32, MCS_DIMS(2, 20, 20, 3));
    check("sam_encoder", n.g, mcs_sam_encode(n.g, image, &c));
    net_close(&n);
}

Test(graph_texts, sam_decoder)
{
    const struct sam_config c = sam();
    for (int points = 0; points < 2; points++) { /* either points or a mask */
        struct net n = net_open();
        struct tensor *embedding = mcs_input(n.g, "embedding", MCS_F32, MCS_DIMS(2, 5, 5, 16));
        struct tensor *image_of = mcs_input(n.g, "image_of", MCS_I32, MCS_DIMS(3));
        const struct sam_prompt p = mcs_sam_prompt_inputs(n.g, &c, 3, points ? 7 : 0, !points);
        const struct sam_output out = mcs_sam_decode(n.g, embedding, image_of, &p, &c);
        cr_expect(p.n == 3 && p.tokens == (points ? 7 : 0));
        cr_assert(out.iou->nd == 2 && out.iou->dim[0] == 3 && out.iou->dim[1] == 4);
        check(points ? "sam_decoder_points" : "sam_decoder_mask", n.g, out.masks);
        net_close(&n);
    }
}

/* ---- U-Net ---- */

static void unet_text(const struct unet_config *c, int deep, struct tensor *(*input)(struct graph *), const char *name)
{
    struct net n = net_open();
    struct tensor *out[UNET_MAX_STAGES] = {0};
    const int n_out = mcs_unet(n.g, input(n.g), c, deep, out);
    cr_assert_eq(n_out, deep ? c->n_stages - 1 : 1);
    for (int i = 0; i < UNET_MAX_STAGES; i++) cr_expect_eq(out[i] != NULL, i < n_out);
    for (int i = 0; i < n_out; i++) mcs_keep(out[i]);
    check(name, n.g, out[0]);
    net_close(&n);
}

static struct tensor *flat(struct graph *g)
{
    return mcs_input(g, "image", MCS_F32, MCS_DIMS(2, 16, 24, 3));
}

static struct tensor *solid(struct graph *g)
{
    return mcs_input(g, "volume", MCS_F32, MCS_DIMS(2, 6, 8, 8, 1));
}

Test(graph_texts, unet)
{
    const struct unet_config c = mcs_unet_2d(3, 2, 4, 5, 18);
    static const struct unet_config volume = {.nsp = 3,
                                              .in_channels = 1,
                                              .classes = 3,
                                              .n_stages = 3,
                                              .features = {4, 6, 10},
                                              .n_conv = {1, 2, 3},
                                              .n_conv_decoder = {2, 1},
                                              .kernel = {{1, 3, 3}, {3, 3, 3}, {3, 3, 1}},
                                              .stride = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}}};
    unet_text(&c, 0, flat, "unet_2d");
    unet_text(&c, 1, flat, "unet_2d_deep");
    unet_text(&volume, 1, solid, "unet_3d_deep");
}

Test(graph_texts, weights_of_deep_supervision)
{
    float w[4];
    mcs_unet_deep_weights(1, w);
    cr_expect_eq(w[0], 1);
    mcs_unet_deep_weights(2, w);
    cr_expect(w[0] == 1 && w[1] == 0);
    mcs_unet_deep_weights(4, w);
    cr_expect(w[0] == 1 / 1.75f && w[1] == 0.5f / 1.75f && w[2] == 0.25f / 1.75f && w[3] == 0);
}

/* ---- the published sizes ---- */

/* The parameters of all graphs over p: number of tensors, number of values. */
static void check_size(struct net *n, int tensors, int64_t values)
{
    int64_t sum = 0;
    cr_assert_eq(mcs_graph_status(n->g), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < n->p->n; i++) sum += mcs_count(n->p->t[i]);
    cr_expect_eq(n->p->n, tensors, "%d tensors", n->p->n);
    cr_expect_eq(sum, values, "%lld values", (long long)sum);
    net_close(n);
}

Test(graph_texts, biomed_clip)
{
    struct net n = net_open();
    const struct clip_config c = mcs_clip_biomed();
    const struct clip_text t = mcs_clip_text_inputs(n.g, 2, 9);
    mcs_clip_image(n.g, mcs_input(n.g, "image", MCS_F32, MCS_DIMS(1, 224, 224, 3)), &c);
    mcs_clip_text(n.g, &t, &c, 1);
    mcs_clip_logit_scale(n.g);
    check_size(&n, 351, 195902721);
    cr_expect(c.embed == 512 && c.image_size == 224 && c.patch == 16 && mcs_clip_tokens(&c) == 197);
    cr_expect(c.v_heads == 12 && c.t_heads == 12 && c.context == 256 && c.positions == 512 && c.types == 2);
    cr_expect(c.v_eps == 1e-6f && c.t_eps == 1e-12f && c.dropout == 0.1f);
    static const float mean[] = {0.48145466f, 0.4578275f, 0.40821073f}, std[] = {0.26862954f, 0.26130258f, 0.27577711f};
    cr_expect_arr_eq(c.mean, mean, sizeof mean, "CLIP's own");
    cr_expect_arr_eq(c.std, std, sizeof std, "CLIP's own");
}

Test(graph_texts, sam_vit_b)
{
    struct net n = net_open();
    const struct sam_config c = mcs_sam_vit_b();
    struct tensor *x = mcs_sam_encode(n.g, mcs_input(n.g, "image", MCS_F32, MCS_DIMS(1, 1024, 1024, 3)), &c);
    struct tensor *image_of = mcs_input(n.g, "image_of", MCS_I32, MCS_DIMS(1));
    const struct sam_prompt p = mcs_sam_prompt_inputs(n.g, &c, 1, 2, 1);
    const struct sam_output out = mcs_sam_decode(n.g, x, image_of, &p, &c);
    cr_expect_eq(mcs_count(out.masks), 4 * 256 * 256);
    check_size(&n, 314, 93735728);
    cr_expect(mcs_sam_grid(&c) == 64 && c.heads == 12 && c.window == 14 && c.d_heads == 8 && c.d_downsample == 2);
    cr_expect(c.n_global == 4 && c.global[0] == 2 && c.global[1] == 5 && c.global[2] == 8 && c.global[3] == 11);
}

Test(graph_texts, unet_2d_by_default)
{
    const struct unet_config c = mcs_unet_2d(3, 2, 8, 32, 512);
    static const int features[] = {32, 64, 128, 256, 512, 512, 512, 512};
    cr_expect(c.nsp == 2 && c.in_channels == 3 && c.classes == 2 && c.n_stages == 8);
    for (int i = 0; i < 8; i++) {
        cr_expect_eq(c.features[i], features[i]);
        cr_expect(c.n_conv[i] == 2 && c.kernel[i][0] == 3 && c.kernel[i][1] == 3);
        cr_expect(c.stride[i][0] == (i ? 2 : 1) && c.stride[i][1] == (i ? 2 : 1));
        if (i < 7) cr_expect_eq(c.n_conv_decoder[i], 2);
    }
}
