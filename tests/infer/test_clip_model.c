/* CLIP and M2IB against open_clip and the bottleneck's reference: tests/golden/clip.safetensors, m2ib.safetensors. */
#include "engine/model/clip.h"
#include "engine/model/layers.h"
#include "engine/tape/grad.h"
#include "infer/clip/saliency.h"
#include "tests/golden/formula.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_isa.h"
#include "tests/support/support_ops.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { BATCH = 3, MAX_ROWS = 32, PADDED_ROWS = 30 };

/* The golden file's padded ids (3,12) as packed rows, padded at the end to PADDED_ROWS. Returns the rows used. */
static int pack(const struct weight_file *file, int32_t *ids, int32_t *position, int32_t *offset)
{
    float *padded = golden_values(file, "input.ids", NULL);
    int row = 0;
    for (int b = 0; b < BATCH; b++) {
        offset[b] = row;
        for (int t = 0; t < 12 && padded[12 * b + t] != 0; t++, row++) {
            ids[row] = (int32_t)padded[12 * b + t];
            position[row] = t;
        }
    }
    offset[BATCH] = row;
    for (int i = row; i < PADDED_ROWS; i++) ids[i] = -1, position[i] = 0;
    free(padded);
    return row;
}

static void set(struct exec *e, const struct tensor *t, const void *src)
{
    cr_assert(mcs_exec_set(e, t, src) == MCS_OK, "%s", mcs_error_message());
}

static void check_kept(struct exec *e, const struct weight_file *file, const struct tensor *t, const char *name,
                       double tolerance)
{
    int64_t n;
    float *want = golden_values(file, name, &n), *got = golden_get(e, t);
    cr_assert_eq(n, mcs_count(t), "%s", name);
    golden_check(name, got, want, n, tolerance, 0);
    free(want);
    free(got);
}

/* Both directions within 1e-5 of each tensor's range, 168 roundings of float32: a value has passed 2 blocks of some 20
 * sums of up to 128 products, backward twice as many, whose roundings add up as a random walk does, sqrt(40 * 128) =
 * 72, at 1 to 2 units each. */
static void check_clip(void)
{
    const struct clip_config c = golden_clip_config(2);
    struct device d;
    struct exec *e;
    struct weight_file *file = golden_open("clip.safetensors");
    cr_assert(mcs_cpu_open(0, &d) == MCS_OK);
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct tensor *image = mcs_input(g, "image", MCS_F32, MCS_DIMS(BATCH, 32, 32, 3));
    const struct clip_text text = mcs_clip_text_inputs(g, BATCH, PADDED_ROWS);
    struct tensor *embedding = mcs_keep(mcs_clip_embed_image(g, image, &c));
    struct tensor *block0 = mcs_keep(mcs_clip_blocks(g, embedding, &c, 0, 1, NULL));
    struct tensor *image_raw = mcs_keep(mcs_clip_finish(g, block0, &c, 0, NULL));
    struct tensor *text_raw = mcs_keep(mcs_clip_text(g, &text, &c, 1));
    struct tensor *image_out = mcs_keep(mcs_l2norm(g, image_raw)), *text_out = mcs_keep(mcs_l2norm(g, text_raw));
    const struct contrastive_attr infonce = {.a = 1};
    struct tensor *loss = mcs_keep(mcs_apply(
        g, OP_contrastive, "loss", (struct tensor *[]){image_out, text_out, mcs_clip_logit_scale(g)}, &infonce));
    cr_assert(mcs_grad(g, &loss, 1) == MCS_OK, "%s", mcs_error_message());
    cr_assert(mcs_params_alloc(p, &d) == MCS_OK && mcs_params_alloc_grad(p) == MCS_OK);
    golden_fill_params(p);
    cr_assert(mcs_exec_new(g, &d, &e) == MCS_OK, "%s", mcs_error_message());

    float *pixels = malloc(BATCH * 32 * 32 * 3 * sizeof *pixels);
    int32_t ids[MAX_ROWS], position[MAX_ROWS], offset[BATCH + 1];
    golden_fill_image("input.image", BATCH, 3, 32 * 32, pixels);
    pack(file, ids, position, offset);
    set(e, image, pixels);
    set(e, text.ids, ids);
    set(e, text.position, position);
    set(e, text.offset, offset);
    /* mcsam sums both directions, ClipLoss takes their mean */
    const float half = 0.5f;
    set(e, loss->grad, &half);
    mcs_params_zero_grad(p);
    cr_assert(mcs_exec_run(e) == MCS_OK, "%s", mcs_error_message());

    check_kept(e, file, embedding, "vision.embedding", 1e-5);
    check_kept(e, file, block0, "vision.block.0", 1e-5);
    check_kept(e, file, image_raw, "image.raw", 1e-5);
    check_kept(e, file, text_raw, "text.raw", 1e-5);
    check_kept(e, file, image_out, "image.normalised", 1e-5);
    check_kept(e, file, text_out, "text.normalised", 1e-5);
    float *got = golden_get(e, loss), *want = golden_values(file, "loss", NULL);
    cr_expect_float_eq(got[0] / 2, want[0], 1e-5 * fabs((double)want[0]), "loss %g, want %g", (double)got[0] / 2,
                       (double)want[0]);
    /* floor: key biases have gradient 0 in exact arithmetic and are compared absolutely */
    cr_expect_eq(golden_check_grads(file, "", p, 1e-5, 1e-2), 71);

    free(got);
    free(want);
    free(pixels);
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_weight_file_close(file);
    mcs_cpu_close(&d);
}

Test(clip, equals_open_clip_avx2)
{
    test_isa(TEST_AVX2);
    check_clip();
}

Test(clip, equals_open_clip_avx512)
{
    test_isa(TEST_AVX512);
    check_clip();
}

/* ---- M2IB ---- */

/* KL by token, and the map at the image's size: the file's V.tokens and V.map. */
static void check_map(struct exec *e, const struct m2ib *b, const struct weight_file *file, const char *beta_name)
{
    enum { SIDE = 4, IMAGE = 32 };
    char name[64];
    struct map2 grown = {0};
    float *map = golden_get(e, b->map);
    snprintf(name, sizeof name, "%s.tokens", beta_name);
    float *tokens_want = golden_values(file, name, NULL);
    golden_check(name, map + 1, tokens_want, SIDE * SIDE, 1e-5, 0);
    snprintf(name, sizeof name, "%s.map", beta_name);
    float *map_want = golden_values(file, name, NULL);
    support_saliency_map(map + 1, SIDE, 0, IMAGE, IMAGE, &grown);
    golden_check(name, grown.values, map_want, IMAGE * IMAGE, 1e-5, 0);
    mcs_map_free(&grown);
    free(map), free(tokens_want), free(map_want);
}

static void check_m2ib(const char *beta_name, float beta)
{
    enum { STEPS = 10, COPIES = 4, TOKENS = 17, WIDTH = 32, ALL = TOKENS * WIDTH };
    const struct clip_config c = golden_clip_config(4);
    struct device d;
    struct exec *e;
    struct weight_file *file = golden_open("m2ib.safetensors");
    cr_assert(mcs_cpu_open(0, &d) == MCS_OK);
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    const struct m2ib b = mcs_clip_m2ib(g, &c, 2, 1, COPIES);
    cr_assert(mcs_grad(g, (struct tensor *[]){b.fit, b.kl}, 2) == MCS_OK, "%s", mcs_error_message());
    cr_assert(mcs_params_alloc(p, &d) == MCS_OK);
    golden_fill_params(p);
    cr_assert(mcs_exec_new(g, &d, &e) == MCS_OK, "%s", mcs_error_message());

    char name[64];
    float *x = golden_values(file, "x", NULL), *text = golden_values(file, "text", NULL),
          *noise = golden_values(file, "noise", NULL);
    snprintf(name, sizeof name, "%s.alpha", beta_name);
    float *alpha_want = golden_values(file, name, NULL);
    snprintf(name, sizeof name, "%s.grad", beta_name);
    float *grad_want = golden_values(file, name, NULL);
    snprintf(name, sizeof name, "%s.fit", beta_name);
    float *fit_want = golden_values(file, name, NULL);
    snprintf(name, sizeof name, "%s.compression", beta_name);
    float *kl_want = golden_values(file, name, NULL);
    float alpha[ALL], minus[COPIES];
    for (int i = 0; i < ALL; i++) alpha[i] = 5;
    for (int i = 0; i < COPIES; i++) minus[i] = -1.0f / COPIES;
    set(e, b.x, x);
    set(e, b.text, text);
    set(e, b.fit->grad, minus);
    set(e, b.kl->grad, &beta);
    for (int step = 0; step < STEPS; step++) {
        set(e, b.alpha, alpha);
        set(e, b.noise, noise + step * COPIES * ALL);
        cr_assert(mcs_exec_run(e) == MCS_OK, "%s", mcs_error_message());
        float *grad = golden_get(e, b.alpha->grad), *fit = golden_get(e, b.fit), *kl = golden_get(e, b.kl);
        double mean_fit = 0;
        for (int i = 0; i < COPIES; i++) mean_fit += (double)fit[i] / COPIES;
        cr_expect_float_eq(mean_fit, fit_want[step], 1e-5, "step %d: fit %g, want %g", step, mean_fit,
                           (double)fit_want[step]);
        cr_expect_float_eq(kl[0], kl_want[step], 1e-5 * fabs((double)kl_want[step]), "step %d: compression", step);
        snprintf(name, sizeof name, "%s gradient of step %d", beta_name, step);
        golden_check(name, grad, grad_want + step * ALL, ALL, 1e-5, 0);
        if (step == STEPS - 1) check_map(e, &b, file, beta_name); /* the tenth forward pass: alpha after nine updates */
        memcpy(alpha, alpha_want + step * ALL,
               sizeof alpha); /* start each step from the reference's alpha, so that errors do not accumulate */
        free(grad);
        free(fit);
        free(kl);
    }
    free(x), free(text), free(noise), free(alpha_want), free(grad_want), free(fit_want), free(kl_want);
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_weight_file_close(file);
}

Test(m2ib, gradient_of_each_step_equals_the_reference_beta_0_1)
{
    check_m2ib("0.1", 0.1f);
}

Test(m2ib, gradient_of_each_step_equals_the_reference_beta_2)
{
    check_m2ib("2.0", 2.0f);
}
