/* SAM's sizes: the published models, each limit of sam_config.json, and a written file reads back. */
#include "data/io/file.h"
#include "data/weights/weight_write.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void setup(void)
{
    shell_open(":", "");
}
TestSuite(sam_config, .init = setup, .fini = shell_close);

static void expect_sizes(const struct sam_config *c, const int *want, const int *global)
{
    const int got[13] = {c->image_size, c->patch,   c->width, c->depth,        c->heads,   c->window,  c->mlp,
                         c->embed,      c->d_heads, c->d_mlp, c->d_downsample, c->mask_in, c->n_global};
    for (int i = 0; i < 13; i++) cr_expect_eq(got[i], want[i], "size %d is %d, want %d", i, got[i], want[i]);
    for (int i = 0; i < c->n_global && i < 4; i++) cr_expect_eq(c->global[i], global[i], "global block %d", i);
}

/* A file with only a position table of these dimensions. */
static const char *position_table(const char *name, int nd, const int64_t *dims)
{
    struct weight_out t = {.name = name, .type = MCS_ARRAY_F32, .nd = nd};
    int64_t n = 1;
    for (int i = 0; i < nd; i++) t.dims[i] = dims[i], n *= dims[i];
    float *values = calloc((size_t)n, sizeof *values);
    cr_assert(values);
    t.values = values;
    cr_assert_eq(mcs_safetensors_write(shell_path("w.safetensors"), 1, &t, 0, NULL), MCS_OK, "%s", mcs_error_message());
    free(values);
    return shell_path("w.safetensors");
}

/* The published models' sizes (segment_anything/build_sam.py). */
Test(sam_config, published_models_by_their_width)
{
    static const struct {
        const char *name;
        int64_t width;
        int sizes[13], global[4];
    } rows[] = {
        {"image_encoder.pos_embed", 768, {1024, 16, 768, 12, 12, 14, 3072, 256, 8, 2048, 2, 16, 4}, {2, 5, 8, 11}},
        {"image_encoder.pos_embed", 1024, {1024, 16, 1024, 24, 16, 14, 4096, 256, 8, 2048, 2, 16, 4}, {5, 11, 17, 23}},
        {"module.image_encoder.pos_embed",
         1280,
         {1024, 16, 1280, 32, 16, 14, 5120, 256, 8, 2048, 2, 16, 4},
         {7, 15, 23, 31}},
    };
    struct sam_config c;
    for (int i = 0; i < 3; i++) {
        const int64_t dims[] = {1, 64, 64, rows[i].width};
        cr_assert_eq(mcs_sam_config_guess(position_table(rows[i].name, 4, dims), &c), MCS_OK, "%s",
                     mcs_error_message());
        expect_sizes(&c, rows[i].sizes, rows[i].global);
    }
    const int64_t bad[][4] = {{1, 64, 64, 767}, {1, 63, 64, 768}, {1, 64, 65, 768}, {64, 64, 768, 1}};
    for (int i = 0; i < 5; i++) {
        const char *path = i < 4 ? position_table("image_encoder.pos_embed", i < 3 ? 4 : 3, bad[i])
                                 : position_table("pos_embed", 4, (const int64_t[]){1, 64, 64, 768});
        cr_expect_eq(mcs_sam_config_guess(path, &c), MCS_E_DATA, "%d", i);
        cr_expect(strstr(mcs_error_message(), "so its sam_config.json, or the config.json of transformers, must lie"),
                  "%s", mcs_error_message());
        mcs_error_clear();
    }
    cr_expect_eq(mcs_sam_config_guess(shell_path("none"), &c), MCS_E_NOINPUT);
    mcs_error_clear();
    c = mcs_sam_small();
    expect_sizes(&c, (const int[]){128, 8, 96, 4, 4, 8, 384, 64, 4, 256, 2, 16, 2}, (const int[]){1, 3});
}

static enum mcs_status read_config(const char *text, struct sam_config *c)
{
    mcs_error_clear();
    shell_write("sam_config.json", text);
    return mcs_sam_config_read(shell_path("sam_config.json"), c);
}

/* Missing keys get ViT-B's values; each row sets one key to a limit. */
Test(sam_config, limits_of_every_size)
{
    static const struct {
        const char *text, *part; /* of the message; NULL: accepted */
    } rows[] = {
        {"{}", NULL},
        {"[]", "want a JSON object"},
        {"{\"patch\": 0}", "patch must be a positive integer"},
        {"{\"patch\": 1.0}", "patch must be a positive integer"},
        {"{\"mlp\": 65537}", "mlp must be a positive integer"},
        {"{\"mlp\": 65536}", NULL},
        {"{\"mlp\": 1}", NULL},
        {"{\"window\": 1, \"d_mlp\": 1}", NULL},
        {"{\"d_mlp\": -1}", "d_mlp must be"},
        {"{\"depth\": 256}", NULL},
        {"{\"depth\": 257}", "depth 257 is more than"},
        {"{\"depth\": 12}", NULL},
        {"{\"depth\": 11}", "no block 11 to be global"},
        {"{\"image_size\": 4096}", NULL},
        {"{\"image_size\": 4112}", "at most 4096"},
        {"{\"image_size\": 1032}", "image_size 1032 must be a multiple of patch 16"},
        {"{\"image_size\": 1032, \"patch\": 8}", NULL},
        {"{\"width\": 769}", "width 769 is not a multiple of 12 heads"},
        {"{\"heads\": 5}", "width 768 is not a multiple of 5 heads"},
        {"{\"embed\": 264}", "embed 264 must be a multiple of 8"}, /* of 8, not of 16 */
        {"{\"embed\": 272}", NULL},
        {"{\"embed\": 20, \"d_heads\": 2}", "embed 20 must be a multiple of 8"}, /* of 4, not of 8 */
        {"{\"embed\": 24, \"d_heads\": 6}", NULL},
        {"{\"embed\": 24, \"d_heads\": 8}", "embed 24 must be"},
        {"{\"mask_in\": 4}", NULL},
        {"{\"mask_in\": 6}", "mask_in 6 is not a multiple of 4"},
        {"{\"global\": []}", NULL},
        {"{\"global\": [0, 11]}", NULL},
        {"{\"global\": [12]}", "no block 12 to be global"},
        {"{\"global\": [-1]}", "blocks' numbers"},
        {"{\"global\": [65536]}", "blocks' numbers"},
        {"{\"global\": [65535]}", "no block 65535"},
        {"{\"global\": [1.0]}", "blocks' numbers"},
        {"{\"global\": 1}", "global must be a list of at most"},
    };
    struct sam_config c;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum mcs_status st = read_config(rows[i].text, &c);
        cr_expect_eq(st, rows[i].part ? MCS_E_DATA : MCS_OK, "%s: %s", rows[i].text, mcs_error_message());
        if (rows[i].part)
            cr_expect(strstr(mcs_error_message(), rows[i].part), "%s: %s", rows[i].text, mcs_error_message());
    }
    char text[256] = "{\"global\": [0";
    for (int i = 1; i < SAM_MAX_GLOBAL; i++) strcat(text, ", 1");
    strcat(text, "]}");
    cr_expect_eq(read_config(text, &c), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(c.n_global, SAM_MAX_GLOBAL);
    strcpy(text + strlen(text) - 2, ", 1]}");
    cr_expect_eq(read_config(text, &c), MCS_E_DATA);
    mcs_error_clear();
    cr_expect_eq(read_config("{\"width\": 48, \"heads\": 3, \"global\": [3, 7]}", &c), MCS_OK);
    expect_sizes(&c, (const int[]){1024, 16, 48, 12, 3, 14, 3072, 256, 8, 2048, 2, 16, 2}, (const int[]){3, 7});
}

/* A tiny model: its parameters by name, and a folder that gives the same model again. */
Test(sam_config, a_saved_model_is_the_same)
{
    const struct sam_config tiny = tiny_sam_config();
    struct sam_config c;
    struct device d;
    struct sam_model m, again;
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_sam_model_new(&tiny, 5, &d, &m), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_sam_model_save(&m, shell_path("m"), 0, NULL), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_sam_config_read(shell_path("m/sam_config.json"), &c), MCS_OK);
    cr_expect_eq(memcmp(&c, &tiny, offsetof(struct sam_config, global)), 0);
    cr_expect_eq(memcmp(c.global, tiny.global, (size_t)tiny.n_global * sizeof *c.global), 0);
    for (int i = 0; i < 2; i++) { /* by folder, by file */
        cr_assert_eq(mcs_sam_model_open(shell_path(i ? "m/sam.safetensors" : "m"), &d, &again), MCS_OK, "%s",
                     mcs_error_message());
        cr_expect_eq(again.params->n_values, m.params->n_values);
        cr_expect_eq(memcmp(again.params->data, m.params->data, (size_t)m.params->n_values * sizeof(float)), 0);
        cr_expect_eq(strlen(again.sha256), 64);
        mcs_sam_model_close(&again);
    }
    struct sam_config wrong = tiny;
    wrong.heads = 3;
    cr_expect_eq(mcs_sam_model_new(&wrong, 5, &d, &again), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "these sizes: "), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_sam_model_close(&again);
    cr_expect_eq(mcs_sam_model_open(shell_path("none"), &d, &again), MCS_E_NOINPUT);
    mcs_error_clear();
    mcs_sam_model_close(&again);
    mcs_sam_model_close(&m);
    mcs_cpu_close(&d);
}

/* The chosen mask, stability, and the square of a mask prompt, by hand. */
Test(sam_config, choices_counts_and_mask_prompts)
{
    cr_expect_eq(mcs_sam_choose((const float[]){9, 1, 2, 3}, 0), 0);
    cr_expect_eq(mcs_sam_choose((const float[]){9, 1, 2, 3}, 1), 3);
    cr_expect_eq(mcs_sam_choose((const float[]){9, 3, 2, 1}, 1), 1);
    cr_expect_eq(mcs_sam_choose((const float[]){9, 1, 3, 3}, 1), 2, "of equal ones the first");
    const float logits[32] = {1.5f, 1, 0.5f, 0, -0.5f, -1, -1.5f, 2, [16] = -1.5f};
    const struct sam_config four = {.image_size = 4, .patch = 4}; /* low resolution 4 x 4, and as large a frame */
    const struct sam_frame two_rows = {4, 2, 4, 2}, pixel = {1, 1, 1, 1};
    const int32_t plane[] = {0, 1};
    struct sam_counts counts;
    uint8_t inside[8];
    cr_assert_eq(mcs_sam_masks(&four, support_cpu_scratch(), logits, plane, 1, &two_rows, 1, inside, &counts), MCS_OK);
    cr_expect(counts.area == 4 && counts.stability == 2.0 / 6); /* 1.5 and 2; those and 1, 0.5, 0, -0.5 */
    for (int i = 0; i < 8; i++) cr_expect_eq(inside[i], logits[i] > 0);
    cr_assert_eq(mcs_sam_masks(&four, support_cpu_scratch(), logits, plane + 1, 1, &pixel, 1, NULL, &counts), MCS_OK);
    cr_expect(counts.area == 0 && counts.stability == 1.0);

    const struct sam_config c = tiny_sam_config(); /* side 16 */
    const int side = mcs_sam_side(&c);
    uint8_t pixels[32 * 8 * 3] = {0};
    struct image mask = {.width = 32, .height = 8, .channels = 3, .pixels = pixels};
    float dst[16 * 16];
    cr_assert_eq(side, 16);
    for (int y = 0; y < 8; y++)
        for (int x = 16; x < 32; x++) pixels[(y * 32 + x) * 3 + 2] = 1; /* any channel, any value */
    cr_assert_eq(mcs_sam_mask_prompt(&c, &mask, dst), MCS_OK);
    for (int i = 0; i < 256; i++) {
        const int x = i % 16, y = i / 16;
        if (x == 7 || x == 8) continue; /* the smoothed border */
        cr_expect_float_eq(dst[i], y < 4 && x > 8 ? 10 : -10, 1e-6, "%d, %d: %g", x, y, (double)dst[i]);
    }
    cr_expect(dst[7] > -10 && dst[7] < 0 && dst[8] > 0 && dst[8] < 10);
    mask.width = 0;
    cr_expect_eq(mcs_sam_mask_prompt(&c, &mask, dst), MCS_E_DATA);
    mcs_error_clear();
}

/* The second of two prompts at each limit: the expected error message, or NULL if accepted. */
Test(sam_config, limits_of_prompts)
{
    enum { MOST = 4096 };
    static double points[MOST + 1][2];
    static int labels[MOST + 1];
    static const double far[2][2] = {{1, 1}, {0, INFINITY}}, left[2][2] = {{NAN, 1}, {0, 0}};
    static const int inside[2] = {1, 0}, wrong[2] = {1, 2}, below[2] = {-1, 0};
    const struct {
        struct sam_prompts prompt;
        const char *part;
    } rows[] = {
        {{.image = 1, .has_box = 1, .box = {0, 0, 4, 4}}, NULL},
        {{.image = 2, .has_box = 1, .box = {0, 0, 4, 4}}, "a prompt for image 2 of 2"},
        {{.image = -1, .has_box = 1, .box = {0, 0, 4, 4}}, "a prompt for image -1 of 2"},
        {{.n_points = -1}, "-1 points; at most 4096"},
        {{.n_points = MOST + 1, .points = points, .labels = labels}, "4097 points; at most 4096"},
        {{.n_points = 2, .points = points, .labels = inside}, NULL},
        {{.n_points = 2, .points = points, .labels = wrong}, "a point's label is 2"},
        {{.n_points = 2, .points = points, .labels = below}, "a point's label is -1"},
        {{.n_points = 1, .points = far, .labels = wrong}, NULL}, /* unused fields are not checked */
        {{.n_points = 2, .points = far, .labels = inside}, "a point is not finite"},
        {{.n_points = 1, .points = left, .labels = inside}, "a point is not finite"},
        {{.has_box = 1, .box = {0, 0, 4, NAN}}, "a box's corner is not finite"},
        {{.has_box = 1, .box = {-INFINITY, 0, 4, 4}}, "a box's corner is not finite"},
        {{.n_points = 1, .points = points, .labels = labels, .has_box = 0, .box = {NAN, 0, 0, 0}}, NULL},
    };
    const struct sam_config c = tiny_sam_config();
    const int64_t values = mcs_sam_embedding_values(&c), one = SAM_MASKS * (int64_t)mcs_sam_side(&c) * mcs_sam_side(&c);
    const struct sam_frame frames[2] = {{32, 32, 32, 32}, {32, 32, 32, 32}};
    float *embeddings = calloc((size_t)(2 * values), sizeof *embeddings), *low = calloc((size_t)(2 * one), sizeof *low),
          iou[2 * SAM_MASKS];
    struct device d;
    struct sam_model m;
    cr_assert(embeddings && low);
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_sam_model_new(&c, 5, &d, &m), MCS_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct sam_prompts two[2] = {{.image = 1, .has_box = 1, .box = {1, 1, 9, 9}}, rows[i].prompt};
        const enum mcs_status st = mcs_sam_predict(&m, embeddings, frames, 2, two, 2, low, iou);
        cr_expect_eq(st, rows[i].part ? MCS_E_USAGE : MCS_OK, "row %zu: %s", i, mcs_error_message());
        if (rows[i].part) cr_expect(strstr(mcs_error_message(), rows[i].part), "row %zu: %s", i, mcs_error_message());
        mcs_error_clear();
    }
    mcs_sam_model_close(&m);
    mcs_cpu_close(&d);
    free(embeddings);
    free(low);
}
