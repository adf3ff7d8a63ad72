/* Images as SAM's predictor and MedSAM's inference script prepare them, and their masks, against the references'
 * results (tests/golden/make_sam_images.py); files of embeddings. */
#include "data/io/file.h"
#include "data/weights/weight_write.h"
#include "engine/device_ops.h"
#include "infer/sam/sam_embedding.h"
#include "infer/sam/sam_prompts.h"
#include "tests/golden/formula.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_sam_run.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct weight_file *golden;

static void setup(void)
{
    sam_run_open();
    golden = golden_open("sam_images.safetensors");
}

static void teardown(void)
{
    mcs_weight_file_close(golden);
    sam_run_close();
}
TestSuite(sam_images, .init = setup, .fini = teardown, .timeout = 60);

/* Two of the sizes have masks. */
enum { N_SIZES = 4, N_MASKS = 2 };
static const int sizes[N_SIZES][2] = {{48, 37}, {30, 100}, {64, 64}, {150, 170}}; /* height, width */

static const char *named(const char *what, int i)
{
    static char name[2][64];
    static int k;
    k = !k;
    snprintf(name[k], sizeof name[k], "%s%dx%d", what, sizes[i][0], sizes[i][1]);
    return name[k];
}

static struct image noise(int i)
{
    struct image img;
    const uint64_t hash = mcs_golden_hash(named("image.", i));
    OK(mcs_image_alloc(&img, sizes[i][1], sizes[i][0], 3));
    for (int k = 0; k < 3 * img.width * img.height; k++)
        img.pixels[k] = (uint8_t)(128 * (mcs_golden_uniform(hash, (uint64_t)k) + 1));
    return img;
}

static struct image flat(int i)
{
    static const uint8_t level[2][3] = {{100, 7, 33}, {17, 201, 254}};
    struct image img;
    const int h = sizes[i][0], w = sizes[i][1];
    OK(mcs_image_alloc(&img, w, h, 3));
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            memcpy(img.pixels + 3 * (y * w + x), level[y >= h / 4 && y < h / 2 && x >= w / 3 && x < w / 2], 3);
    return img;
}

/* Byte for byte, areas of one level included, whose level rounding decides. */
Test(sam_images, splines_are_those_of_skimage)
{
    for (int i = 0; i < N_SIZES; i++)
        for (int kind = 0; kind < 2; kind++) {
            struct image img = kind ? flat(i) : noise(i), small;
            const char *name = named(kind ? "flat." : "noise.", i);
            int64_t n;
            float *want = golden_values(golden, name, &n);
            OK(mcs_image_resize_spline(&img, SAM_RUN_FRAME, SAM_RUN_FRAME, &small));
            cr_assert_eq(n, 3 * SAM_RUN_FRAME * SAM_RUN_FRAME);
            for (int64_t k = 0; k < n; k++)
                cr_assert_eq(small.pixels[k], (uint8_t)want[k], "%s: value %lld is %d, want %g", name, (long long)k,
                             small.pixels[k], (double)want[k]);
            mcs_image_free(&img);
            mcs_image_free(&small);
            free(want);
        }
}

Test(sam_images, splines_want_three_channels_and_pixels)
{
    static uint8_t pixels[12];
    const struct image grey = {2, 2, 1, pixels}, none = {0, 2, 3, pixels}, good = {2, 2, 3, pixels};
    struct image dst;
    cr_expect_eq(mcs_image_resize_spline(&grey, 4, 4, &dst), MCS_E_SHAPE);
    cr_expect_eq(mcs_image_resize_spline(&none, 4, 4, &dst), MCS_E_SHAPE);
    cr_expect_eq(mcs_image_resize_spline(&good, 4, 0, &dst), MCS_E_SHAPE);
    mcs_error_clear();
}

struct encoded {
    struct image img;
    struct sam_frame frame;
    float pixels[3 * SAM_RUN_FRAME * SAM_RUN_FRAME], embedding[SAM_RUN_EMBEDDING];
    float low[SAM_MASKS * SAM_RUN_LOW], iou[SAM_MASKS];
};

static struct encoded *predict(struct sam_model *m, int i, struct sam_prompts prompt)
{
    struct encoded *e = calloc(1, sizeof *e);
    cr_assert(e);
    e->img = noise(i);
    OK(mcs_sam_prepare(&m->config, &e->img, e->pixels, &e->frame));
    OK(mcs_sam_encode_images(m, e->pixels, 1, e->embedding));
    OK(mcs_sam_predict(m, e->embedding, &e->frame, 1, &prompt, 1, e->low, e->iou));
    return e;
}

static struct sam_prompts box_of(int i)
{
    const int h = sizes[i][0], w = sizes[i][1];
    return (struct sam_prompts){.has_box = 1, .box = {w * 0.2, h * 0.3, w * 0.7, h * 0.8}};
}

/* mcs_sam_masks agrees with mcs_sam_upscale: pixels above 0, 1 and -1. */
static void expect_counts(const struct sam_model *m, const struct encoded *e, int mask, const struct map2 *logits)
{
    const int64_t n = (int64_t)logits->width * logits->height;
    uint8_t *united = malloc((size_t)n);
    struct sam_counts counts;
    int64_t area = 0;
    cr_assert(united);
    OK(mcs_sam_masks(&m->config, support_cpu_scratch(), e->low, &mask, 1, &e->frame, 1, united, &counts));
    for (int64_t k = 0; k < n; k++) {
        cr_assert_eq(united[k], logits->values[k] > 0);
        area += united[k];
    }
    cr_expect_eq(counts.area, area);
    cr_expect_eq(counts.stability, support_stability(logits));
    free(united);
}

Test(sam_images, medsam_equals_its_inference_script)
{
    struct sam_model m = sam_run_model();
    OK(mcs_sam_preprocess_set(&m, "medsam"));
    for (int i = 0; i < N_MASKS; i++) {
        struct encoded *e = predict(&m, i, box_of(i));
        struct map2 got;
        int64_t n;
        float *low = golden_values(golden, named("medsam.low_res.", i), &n);
        golden_check(named("low_res ", i), e->low, low, n, 2e-6, 0);
        float *want = golden_values(golden, named("medsam.prob.", i), &n);
        OK(mcs_sam_upscale(&m.config, e->low, &e->frame, &got));
        cr_assert_eq(n, (int64_t)got.width * got.height);
        for (int64_t k = 0; k < n; k++) { /* v = tanh(logit / 2) / tanh(1 / 2) = (2 p - 1) / tanh(1 / 2) */
            const double p = 0.5 + 0.5 * tanh(0.5) * (double)got.values[k];
            cr_assert_float_eq(p, (double)want[k], 1e-6, "%d: pixel %lld is %g, want %g", i, (long long)k, p,
                               (double)want[k]);
        }
        expect_counts(&m, e, 0, &got);
        cr_expect(e->frame.in_width == SAM_RUN_FRAME && e->frame.in_height == SAM_RUN_FRAME);
        mcs_map_free(&got);
        mcs_image_free(&e->img);
        free(low);
        free(want);
        free(e);
    }
    mcs_sam_model_close(&m);
}

/* A constant image becomes 0 for MedSAM; grey is repeated. */
Test(sam_images, medsam_scales_by_the_range_of_the_image)
{
    struct sam_config c = sam_run_config;
    struct sam_frame frame;
    struct image img;
    float *dst = malloc(3 * SAM_RUN_FRAME * SAM_RUN_FRAME * sizeof *dst);
    c.preprocess = SAM_PREPROCESS_MEDSAM;
    OK(mcs_image_alloc(&img, SAM_RUN_FRAME, SAM_RUN_FRAME, 1));
    memset(img.pixels, 77, SAM_RUN_LOW);
    memset(img.pixels + SAM_RUN_LOW, 77, 3 * SAM_RUN_LOW);
    OK(mcs_sam_prepare(&c, &img, dst, &frame));
    for (int k = 0; k < 3 * SAM_RUN_FRAME * SAM_RUN_FRAME; k++) cr_assert_eq(dst[k], 0);
    img.pixels[0] = 27, img.pixels[1] = 127;
    OK(mcs_sam_prepare(&c, &img, dst, &frame)); /* of its size: no resize */
    for (int k = 0; k < 9; k++) cr_assert_eq(dst[k], k < 3 ? 0 : k < 6 ? 1 : 0.5f);
    free(dst);
    mcs_image_free(&img);
}

Test(sam_images, sam_equals_its_predictor)
{
    struct sam_model m = sam_run_model();
    for (int i = 0; i < N_MASKS; i++) {
        const int h = sizes[i][0], w = sizes[i][1];
        const double points[2][2] = {{w * 0.5, h * 0.5}, {w * 0.1, h * 0.9}};
        const int labels[2] = {1, 0};
        struct sam_prompts prompt = box_of(i);
        prompt.n_points = 2, prompt.points = points, prompt.labels = labels;
        struct encoded *e = predict(&m, i, prompt);
        int64_t n;
        float *low = golden_values(golden, named("sam.low_res.", i), &n),
              *iou = golden_values(golden, named("sam.iou.", i), NULL),
              *want = golden_values(golden, named("sam.logits.", i), NULL);
        golden_check(named("low_res ", i), e->low + SAM_RUN_LOW, low, n, 2e-6, 0);
        golden_check(named("iou ", i), e->iou + 1, iou, 3, 2e-6, 1);
        for (int k = 1; k < SAM_MASKS; k++) {
            struct map2 got;
            OK(mcs_sam_upscale(&m.config, e->low + (ptrdiff_t)k * SAM_RUN_LOW, &e->frame, &got));
            golden_check(named("logits ", i), got.values, want + (ptrdiff_t)(k - 1) * w * h, (int64_t)w * h, 5e-6, 0);
            expect_counts(&m, e, k, &got);
            mcs_map_free(&got);
        }
        mcs_image_free(&e->img);
        free(low);
        free(iou);
        free(want);
        free(e);
    }
    mcs_sam_model_close(&m);
}

/* ---- the preparation's name ---- */

Test(sam_images, preparation_in_the_configuration)
{
    struct sam_config c = sam_run_config, got;
    struct sam_model m = sam_run_model();
    cr_expect_eq(m.config.preprocess, SAM_PREPROCESS_SAM);
    OK(mcs_sam_preprocess_set(&m, "medsam"));
    OK(mcs_sam_model_save(&m, in_folder("med"), 0, NULL));
    OK(mcs_sam_config_read(in_folder("med/sam_config.json"), &got));
    cr_expect_eq(got.preprocess, SAM_PREPROCESS_MEDSAM);
    cr_expect_eq(got.image_size, c.image_size);
    OK(mcs_sam_preprocess_set(&m, NULL));
    cr_expect_eq(m.config.preprocess, SAM_PREPROCESS_MEDSAM);
    OK(mcs_sam_preprocess_set(&m, "sam"));
    cr_expect_eq(m.config.preprocess, SAM_PREPROCESS_SAM);
    cr_expect_eq(mcs_sam_preprocess_set(&m, "clip"), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "want sam or medsam"));
    mcs_error_clear();
    sam_run_write("bad.json", "{\"preprocess\": \"none\"}");
    cr_expect_eq(mcs_sam_config_read(in_folder("bad.json"), &got), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "preprocess must be"), "%s", mcs_error_message());
    sam_run_write("bad.json", "{\"preprocess\": 1}");
    cr_expect_eq(mcs_sam_config_read(in_folder("bad.json"), &got), MCS_E_DATA);
    mcs_error_clear();
    mcs_sam_model_close(&m);
}

/* ---- embeddings in files ---- */

Test(sam_images, embedding_is_read_as_written)
{
    struct sam_model m = sam_run_model();
    struct encoded *e = predict(&m, 0, box_of(0));
    float got[SAM_RUN_EMBEDDING], chw[SAM_RUN_EMBEDDING];
    struct weight_file *f;
    OK(mcs_folder_make(in_folder("e")));
    OK(mcs_sam_embedding_write(in_folder("e"), "a", &m, &e->img, e->embedding));
    OK(mcs_sam_embedding_read(in_folder("e"), "a", &m, &e->img, got));
    cr_expect_arr_eq(got, e->embedding, sizeof got);
    OK(mcs_sam_embedding_read(in_folder("e"), "a", &m, &e->img, NULL));
    OK(mcs_weight_file_open(in_folder("e/a.safetensors"), &f)); /* channels first, as torch has it */
    OK(mcs_weight_file_read_f32(f, "image_embedding", 4, (int64_t[]){1, 16, 8, 8}, chw));
    mcs_weight_file_close(f);
    for (int i = 0; i < SAM_RUN_EMBEDDING; i++) cr_assert_eq(chw[i], e->embedding[i % 64 * 16 + i / 64]);
    mcs_image_free(&e->img);
    free(e);
    mcs_sam_model_close(&m);
}

static void refused(const struct sam_model *m, const struct image *img, enum mcs_status code, const char *part)
{
    float got[SAM_RUN_EMBEDDING];
    cr_expect_eq(mcs_sam_embedding_read(in_folder("e"), "a", m, img, got), code, "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in: %s", part, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), "e/a.safetensors"), "%s", mcs_error_message());
    mcs_error_clear();
}

Test(sam_images, foreign_embeddings_are_refused)
{
    struct sam_model m = sam_run_model();
    struct encoded *e = predict(&m, 0, box_of(0));
    struct image other = noise(1);
    OK(mcs_folder_make(in_folder("e")));
    refused(&m, &e->img, MCS_E_NOINPUT, "--save-embeddings writes one");
    OK(mcs_sam_embedding_write(in_folder("e"), "a", &m, &e->img, e->embedding));
    refused(&m, &other, MCS_E_DATA, "another image (image_size is 37 48, here 100 30)");
    e->img.pixels[5]++;
    refused(&m, &e->img, MCS_E_DATA, "another image (image_sha256");
    e->img.pixels[5]--;
    OK(mcs_sam_preprocess_set(&m, "medsam"));
    refused(&m, &e->img, MCS_E_DATA, "another preparation (preprocess is sam, here medsam)");
    OK(mcs_sam_preprocess_set(&m, "sam"));
    m.sha256[0] ^= 1;
    refused(&m, &e->img, MCS_E_DATA, "another model (model_sha256");
    m.sha256[0] ^= 1;
    e->embedding[7] = NAN;
    OK(mcs_sam_embedding_write(in_folder("e"), "a", &m, &e->img, e->embedding));
    refused(&m, &e->img, MCS_E_DATA, "is not finite");
    OK(mcs_safetensors_write(in_folder("e/a.safetensors"), 0, NULL, 0, NULL));
    refused(&m, &e->img, MCS_E_DATA, "no embedding that --save-embeddings wrote");
    sam_run_write("e/a.safetensors", "no safetensors");
    refused(&m, &e->img, MCS_E_DATA, "");
    mcs_image_free(&other);
    mcs_image_free(&e->img);
    free(e);
    mcs_sam_model_close(&m);
}

/* Many images in one call, read and written; the masks do not change by a bit. */
Test(sam_images, embeddings_of_cases)
{
    struct sam_model m = sam_run_model();
    struct box_component boxes[2] = {{.x0 = 5, .y0 = 6, .x1 = 20, .y1 = 25}, {.x0 = 2, .y0 = 3, .x1 = 30, .y1 = 20}};
    struct image images[2] = {noise(0), noise(1)};
    const struct box_case prompts[2] = {
        {.image = "x.png", .width = 37, .height = 48, .n_components = 2, .components = boxes},
        {.image = "y.b.png", .width = 100, .height = 30, .n_components = 1, .components = boxes + 1}};
    const struct sam_case cases[2] = {{&images[0], &prompts[0]}, {&images[1], &prompts[1]}};
    struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    struct sam_result plain[2], got[2];
    char folder[256];
    OK(mcs_folder_make(in_folder("e")));
    snprintf(folder, sizeof folder, "%s", in_folder("e"));
    OK(mcs_sam_segment(&m, &o, cases, 2, plain));
    for (int way = 0; way < 2; way++) {
        o.embeddings = way ? (struct sam_embeddings){.load = folder} : (struct sam_embeddings){.save = folder};
        OK(mcs_sam_segment(&m, &o, cases, 2, got));
        for (int i = 0; i < 2; i++) {
            cr_expect_arr_eq(got[i].mask, plain[i].mask, (size_t)(images[i].width * images[i].height));
            cr_expect_eq(got[i].prompts[0].iou, plain[i].prompts[0].iou);
            mcs_sam_result_free(&got[i]);
        }
        cr_expect(mcs_file_exists(in_folder("e/x.safetensors")) && mcs_file_exists(in_folder("e/y.b.safetensors")));
    }
    images[1].pixels[0]++;
    cr_expect_eq(mcs_sam_segment(&m, &o, cases, 2, got), MCS_E_DATA);
    mcs_error_clear();
    for (int i = 0; i < 2; i++) {
        mcs_sam_result_free(&got[i]);
        mcs_sam_result_free(&plain[i]);
        mcs_image_free(&images[i]);
    }
    mcs_sam_model_close(&m);
}
