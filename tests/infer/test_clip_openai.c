/* CLIPs other than BiomedCLIP against open_clip: tests/golden/openai_clip.safetensors. */
#include "engine/model/clip.h"
#include "engine/model/layers.h"
#include "engine/tape/grad.h"
#include "tests/golden/formula.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_isa.h"
#include "tests/support/support_ops.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 3, CONTEXT = 12, ROWS = 24, SIDE = 12, LAST_ID = 63 };

static struct clip_config openai_config(void)
{
    struct clip_config c = mcs_clip_biomed();
    c.embed = 8, c.image_size = SIDE, c.patch = 4, c.vocab = 64, c.context = c.positions = CONTEXT, c.dropout = 0;
    c.v_width = c.t_width = 8, c.v_depth = c.t_depth = 2, c.v_heads = c.t_heads = 2, c.v_mlp = c.t_mlp = 32;
    c.v_eps = c.t_eps = 1e-5f;
    c.v_openai = c.t_openai = c.v_quick_gelu = c.t_quick_gelu = 1;
    return c;
}

/* The padded ids (3,12) as packed rows: OpenAI's captions end at the last id, a BERT's before the padding. */
static void pack(const struct weight_file *file, const char *name, const struct clip_config *c, int32_t *ids,
                 int32_t *position, int32_t *key, int32_t *offset)
{
    float *padded = golden_values(file, name, NULL);
    int row = 0;
    for (int b = 0; b < BATCH; b++) {
        offset[b] = row;
        for (int t = 0; t < CONTEXT && (c->t_openai || padded[CONTEXT * b + t] != 0); t++) {
            ids[row] = (int32_t)padded[CONTEXT * b + t];
            position[row++] = t;
            if (c->t_openai && ids[row - 1] == LAST_ID) break;
        }
        key[b] = row - 1;
    }
    offset[BATCH] = row;
    for (int i = row; i < ROWS; i++) ids[i] = -1, position[i] = 0;
    for (int i = BATCH; i < ROWS; i++) key[i] = 0;
    free(padded);
}

static void set(struct exec *e, const struct tensor *t, const void *src)
{
    cr_assert(mcs_exec_set(e, t, src) == MCS_OK, "%s", mcs_error_message());
}

static void check_out(struct exec *e, const struct weight_file *file, const struct tensor *t, const char *prefix,
                      const char *what, double tolerance)
{
    char name[64];
    int64_t n;
    snprintf(name, sizeof name, "%s%s", prefix, what);
    float *want = golden_values(file, name, &n), *got = golden_get(e, t);
    cr_assert_eq(n, mcs_count(t), "%s", name);
    golden_check(name, got, want, n, tolerance, 0);
    free(want);
    free(got);
}

/* Within 1e-5 of each tensor's range, as in test_clip_model.c: as many blocks, shorter sums. */
static void check(const char *prefix, const struct clip_config *c, int n_grads)
{
    struct device d;
    struct exec *e;
    char name[64];
    struct weight_file *file = golden_open("openai_clip.safetensors");
    cr_assert(mcs_cpu_open(0, &d) == MCS_OK);
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct tensor *image = mcs_input(g, "image", MCS_F32, MCS_DIMS(BATCH, SIDE, SIDE, 3));
    const struct clip_text text = mcs_clip_text_inputs(g, BATCH, ROWS);
    struct tensor *image_raw = mcs_keep(mcs_clip_image(g, image, c)),
                  *text_raw = mcs_keep(mcs_clip_text(g, &text, c, 1));
    const struct contrastive_attr infonce = {.a = 1};
    struct tensor *loss = mcs_keep(mcs_apply(
        g, OP_contrastive, "loss",
        (struct tensor *[]){mcs_l2norm(g, image_raw), mcs_l2norm(g, text_raw), mcs_clip_logit_scale(g)}, &infonce));
    cr_assert(mcs_grad(g, &loss, 1) == MCS_OK, "%s", mcs_error_message());
    cr_assert(mcs_params_alloc(p, &d) == MCS_OK && mcs_params_alloc_grad(p) == MCS_OK);
    golden_fill_params(p);
    cr_assert(mcs_exec_new(g, &d, &e) == MCS_OK, "%s", mcs_error_message());

    float pixels[BATCH * SIDE * SIDE * 3];
    int32_t ids[ROWS], position[ROWS], key[ROWS], offset[BATCH + 1];
    golden_fill_image("input.image", BATCH, 3, SIDE * SIDE, pixels);
    snprintf(name, sizeof name, "%sids", prefix);
    pack(file, name, c, ids, position, key, offset);
    set(e, image, pixels);
    set(e, text.ids, ids);
    set(e, text.position, position);
    set(e, text.key, key);
    set(e, text.offset, offset);
    /* mcsam sums both directions, ClipLoss takes their mean */
    const float half = 0.5f;
    set(e, loss->grad, &half);
    mcs_params_zero_grad(p);
    cr_assert(mcs_exec_run(e) == MCS_OK, "%s", mcs_error_message());

    check_out(e, file, image_raw, prefix, "image.raw", 1e-5);
    check_out(e, file, text_raw, prefix, "text.raw", 1e-5);
    snprintf(name, sizeof name, "%sloss", prefix);
    float *got = golden_get(e, loss), *want = golden_values(file, name, NULL);
    cr_expect_float_eq(got[0] / 2, want[0], 1e-5 * fabs((double)want[0]), "loss %g, want %g", (double)got[0] / 2,
                       (double)want[0]);
    /* floor: key biases have gradient 0 in exact arithmetic and are compared absolutely */
    cr_expect_eq(golden_check_grads(file, prefix, p, 1e-5, 1e-2), n_grads);
    free(got);
    free(want);
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_weight_file_close(file);
    mcs_cpu_close(&d);
}

static void check_all(void)
{
    struct clip_config c = openai_config();
    check("quick.", &c, 62);
    c.v_quick_gelu = c.t_quick_gelu = 0;
    c.custom_text = 1;
    c.v_pool = CLIP_POOL_MEAN;
    check("gelu.", &c, 10);
    c = openai_config();
    c.v_openai = c.t_openai = c.v_quick_gelu = c.t_quick_gelu = c.t_proj = 0;
    c.v_eps = 1e-6f, c.t_eps = 1e-12f;
    c.v_pool = c.t_pool = CLIP_POOL_MEAN;
    check("mean.", &c, 13);
    c.v_pool = CLIP_POOL_FIRST, c.t_pool = CLIP_POOL_TANH, c.t_proj = -1;
    check("cls.", &c, 14);
}

Test(clip_openai, equals_open_clip_avx2)
{
    test_isa(TEST_AVX2);
    check_all();
}

Test(clip_openai, equals_open_clip_avx512)
{
    test_isa(TEST_AVX512);
    check_all();
}

/* The released models' tensors and values. */
Test(clip_openai, sizes_of_the_released_models)
{
    static const struct {
        int patch, v_width, v_depth, v_heads, t_width, t_heads, embed, tensors;
        int64_t values;
    } models[] = {{32, 768, 12, 12, 512, 8, 512, 302, 151277313},
                  {16, 768, 12, 12, 512, 8, 512, 302, 149620737},
                  {14, 1024, 24, 16, 768, 12, 768, 446, 427616513}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct clip_config c = openai_config();
        int64_t sum = 0;
        c.image_size = 224, c.patch = models[i].patch, c.embed = models[i].embed, c.vocab = 49408,
        c.context = c.positions = 77;
        c.v_width = models[i].v_width, c.v_depth = models[i].v_depth, c.v_heads = models[i].v_heads,
        c.v_mlp = 4 * c.v_width;
        c.t_width = models[i].t_width, c.t_depth = 12, c.t_heads = models[i].t_heads, c.t_mlp = 4 * c.t_width;
        struct params *p = mcs_params_new();
        struct graph *g = mcs_graph_new(p, MCS_F32);
        const struct clip_text t = mcs_clip_text_inputs(g, 2, 9);
        mcs_clip_image(g, mcs_input(g, "image", MCS_F32, MCS_DIMS(1, 224, 224, 3)), &c);
        mcs_clip_text(g, &t, &c, 0);
        mcs_clip_logit_scale(g);
        cr_assert_eq(mcs_graph_status(g), MCS_OK, "%s", mcs_error_message());
        for (int k = 0; k < p->n; k++) sum += mcs_count(p->t[k]);
        cr_expect_eq(p->n, models[i].tensors, "%d tensors", p->n);
        cr_expect_eq(sum, models[i].values, "%lld values", (long long)sum);
        mcs_graph_free(g);
        mcs_params_free(p);
    }
}
