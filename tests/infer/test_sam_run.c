/* SAM model files and predictions: saving and opening, preparation of images, all kinds of prompts in one call, masks
 * at the size of the image. Cases of several components and the verb: test_sam_cases.c. */
#include "data/image/image.h"
#include "data/weights/weight_file.h"
#include "infer/sam/sam_prompts.h"
#include "tests/golden/formula.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_sam_run.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

TestSuite(sam_run, .init = sam_run_open, .fini = sam_run_close);

static float *load(const char *file, const char *name, int64_t *n)
{
    char path[256];
    snprintf(path, sizeof path, "%s.safetensors", file);
    struct weight_file *f = golden_open(path);
    float *v = golden_values(f, name, n);
    mcs_weight_file_close(f);
    return v;
}

static void compare(const char *name, const float *got, const float *want, int64_t n, double share)
{
    double worst = 0, lo = 0, hi = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)got[i] - (double)want[i]);
        if (!(d <= worst)) worst = d;
        lo = fmin(lo, (double)want[i]);
        hi = fmax(hi, (double)want[i]);
    }
    cr_expect(worst <= share * (hi - lo), "%s: off by %g of a range of %g", name, worst, hi - lo);
}

/* The embedding of input.image, which is given in (3,H,W). */
static void golden_embedding(struct sam_model *m, float *embedding)
{
    float *chw = malloc(3 * SAM_RUN_FRAME * SAM_RUN_FRAME * sizeof *chw),
          *hwc = malloc(3 * SAM_RUN_FRAME * SAM_RUN_FRAME * sizeof *hwc);
    mcs_golden_input("input.image", chw, 3 * SAM_RUN_FRAME * SAM_RUN_FRAME);
    for (int i = 0; i < SAM_RUN_FRAME * SAM_RUN_FRAME; i++)
        for (int k = 0; k < 3; k++) hwc[3 * i + k] = chw[k * SAM_RUN_FRAME * SAM_RUN_FRAME + i];
    OK(mcs_sam_encode_images(m, hwc, 1, embedding));
    free(chw);
    free(hwc);
}

/* All golden prompts in one call: eleven of seven kinds, on two copies of one image in turn. */
Test(sam_run, prompts_of_every_kind_in_one_call)
{
    static const struct kind {
        const char *name;
        int n, n_points, box, mask;
    } kinds[] = {{"none", 1, 0, 0, 0},       {"point", 1, 1, 0, 0}, {"points", 2, 3, 0, 0},  {"box", 2, 0, 1, 0},
                 {"box_points", 2, 3, 1, 0}, {"mask", 1, 0, 0, 1},  {"mask_box", 2, 0, 1, 1}};
    struct sam_model m = sam_run_model();
    int64_t n;
    float embedding[2 * SAM_RUN_EMBEDDING], mask[2 * SAM_RUN_LOW];
    golden_embedding(&m, embedding);
    memcpy(embedding + SAM_RUN_EMBEDDING, embedding, SAM_RUN_EMBEDDING * sizeof(float));
    mcs_golden_input("input.mask", mask, 2 * SAM_RUN_LOW);
    for (int i = 0; i < 2 * SAM_RUN_LOW; i++) mask[i] *= 4;
    float *points = load("sam", "input.points", &n), *labels = load("sam", "input.labels", &n),
          *boxes = load("sam", "input.boxes", &n);
    double xy[6][2];
    int label[6];
    for (int i = 0; i < 6; i++) {
        xy[i][0] = points[2 * i], xy[i][1] = points[2 * i + 1];
        label[i] = (int)labels[i];
    }
    struct sam_prompts prompts[11] = {{0}};
    int first[7], k = 0;
    for (int i = 0; i < 7; i++) {
        first[i] = k;
        for (int b = 0; b < kinds[i].n; b++, k++) {
            prompts[k] = (struct sam_prompts){.image = k % 2,
                                              .n_points = kinds[i].n_points,
                                              .points = (const double(*)[2])(xy + 3 * b),
                                              .labels = label + 3 * b,
                                              .has_box = kinds[i].box,
                                              .mask = kinds[i].mask ? mask + b * SAM_RUN_LOW : NULL};
            for (int j = 0; j < 4; j++) prompts[k].box[j] = boxes[4 * b + j];
        }
    }
    cr_assert_eq(k, 11);
    const struct sam_frame frames[2] = {{SAM_RUN_FRAME, SAM_RUN_FRAME, SAM_RUN_FRAME, SAM_RUN_FRAME},
                                        {SAM_RUN_FRAME, SAM_RUN_FRAME, SAM_RUN_FRAME, SAM_RUN_FRAME}};
    float *low = malloc(11 * SAM_MASKS * SAM_RUN_LOW * sizeof *low), iou[11 * SAM_MASKS];
    OK(mcs_sam_predict(&m, embedding, frames, 2, prompts, 11, low, iou));
    for (int i = 0; i < 7; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.low_res", kinds[i].name);
        float *want = load("sam", name, &n);
        compare(name, low + first[i] * SAM_MASKS * SAM_RUN_LOW, want, n,
                2e-5); /* twice test_sam_model's: encoder and decoder */
        free(want);
        snprintf(name, sizeof name, "%s.iou", kinds[i].name);
        want = load("sam", name, &n);
        compare(name, iou + first[i] * SAM_MASKS, want, n, 2e-5);
        free(want);
    }
    /* Bad prompts. */
    prompts[0].image = 2;
    cr_expect_eq(mcs_sam_predict(&m, embedding, frames, 2, prompts, 1, low, iou), MCS_E_USAGE);
    mcs_error_clear();
    label[0] = 3;
    cr_expect_eq(mcs_sam_predict(&m, embedding, frames, 2, prompts + 1, 1, low, iou), MCS_E_USAGE);
    mcs_error_clear();
    label[0] = 1, xy[0][0] = NAN;
    cr_expect_eq(mcs_sam_predict(&m, embedding, frames, 2, prompts + 1, 1, low, iou), MCS_E_USAGE);
    mcs_error_clear();
    prompts[4].box[2] = INFINITY;
    cr_expect_eq(mcs_sam_predict(&m, embedding, frames, 2, prompts + 4, 1, low, iou), MCS_E_USAGE);
    free(low);
    free(points);
    free(labels);
    free(boxes);
    mcs_sam_model_close(&m);
}

/* segment-anything's postprocess_masks: resize to the frame, crop, resize to the image. */
Test(sam_run, masks_at_the_pictures_size)
{
    static const int sizes[][4] = {{48, 37, 64, 49}, {30, 100, 19, 64}}; /* H, W; their size in the frame */
    int64_t n;
    float *low = load("sam", "box.low_res", &n);
    for (int i = 0; i < 2; i++) {
        const struct sam_frame f = {sizes[i][1], sizes[i][0], sizes[i][3], sizes[i][2]};
        struct map2 got;
        char name[64];
        OK(mcs_sam_upscale(&sam_run_config, low, &f, &got));
        snprintf(name, sizeof name, "upscaled.%dx%d", f.height, f.width);
        float *want = load("sam", name, &n);
        cr_assert_eq(n, (int64_t)got.width * got.height);
        compare(name, got.values, want, n, 1e-5);
        int64_t inner = 0, outer = 0;
        for (int64_t p = 0; p < n; p++) inner += want[p] > 1, outer += want[p] > -1;
        cr_expect_float_eq(support_stability(&got), (double)inner / (double)outer, 2.0 / (double)outer);
        mcs_map_free(&got);
        free(want);
    }
    free(low);
}

/* Every picture of image.safetensors that the reference prepared. */
Test(sam_run, pictures_are_prepared_as_the_reference_does)
{
    struct weight_file *f;
    int found = 0;
    OK(mcs_weight_file_open(MCS_SOURCE_DIR "/tests/golden/image.safetensors", &f));
    for (int i = 0; i < mcs_weight_file_count(f); i++) {
        const struct weight_tensor *t = mcs_weight_file_at(f, i);
        int h, w, end = 0;
        char name[64];
        if (sscanf(t->name, "sam.%dx%d%n", &h, &w, &end) != 2 || t->name[end]) continue;
        snprintf(name, sizeof name, "input.3.%dx%d", h, w);
        const struct weight_tensor *in = mcs_weight_file_find(f, name);
        cr_assert(in, "%s", name);
        float *pixels = golden_values(f, name, NULL);
        struct image img;
        OK(mcs_image_alloc(&img, w, h, 3));
        for (int k = 0; k < 3 * w * h; k++) img.pixels[k] = (uint8_t)pixels[k];
        free(pixels);
        struct sam_frame frame;
        float *got = malloc(3 * SAM_RUN_FRAME * SAM_RUN_FRAME * sizeof *got),
              *want = malloc(3 * SAM_RUN_FRAME * SAM_RUN_FRAME * sizeof *want);
        OK(mcs_sam_prepare(&sam_run_config, &img, got, &frame));
        OK(mcs_weight_file_read_f32(f, t->name, t->nd, t->dims, want));
        for (int p = 0; p < SAM_RUN_FRAME * SAM_RUN_FRAME; p++)
            for (int k = 0; k < 3; k++) /* the reference divides in float32 too: the last bit at most */
                cr_assert_float_eq(got[3 * p + k], want[k * SAM_RUN_FRAME * SAM_RUN_FRAME + p], 1e-6, "%s", t->name);
        cr_expect(frame.in_width == SAM_RUN_FRAME || frame.in_height == SAM_RUN_FRAME);
        mcs_image_free(&img);
        free(got);
        free(want);
        found++;
    }
    mcs_weight_file_close(f);
    cr_expect(found >= 2);
}

Test(sam_run, multimask_takes_the_best_of_three)
{
    const float iou[SAM_MASKS] = {0.9f, 0.2f, 0.5f, 0.5f};
    cr_expect_eq(mcs_sam_choose(iou, 0), 0);
    cr_expect_eq(mcs_sam_choose(iou, 1), 2);
}

Test(sam_run, bad_model_files)
{
    static const char *const configs[] = {
        "{",
        "[1]",
        "{\"width\": -1}",
        "{\"width\": \"16\"}",
        "{\"patch\": 7}",
        "{\"heads\": 5}",
        "{\"global\": [12]}",
        "{\"global\": [0,1,2,3,4,5,6,7,8]}",
        "{\"depth\": 100000000000}",
        "{\"image_size\": 65536}",
    };
    struct sam_model m = sam_run_model();
    mcs_sam_model_close(&m);
    cr_expect_eq(mcs_sam_model_open(in_folder("nothing"), &sam_run_cpu, &m), MCS_E_NOINPUT);
    mcs_sam_model_close(&m);
    mcs_error_clear();
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        sam_run_write("model/sam_config.json", configs[i]);
        cr_expect_eq(mcs_sam_model_open(in_folder("model"), &sam_run_cpu, &m), MCS_E_DATA, "%s", configs[i]);
        mcs_sam_model_close(&m);
        mcs_error_clear();
    }
    unlink(in_folder("model/sam_config.json"));
    cr_expect_eq(mcs_sam_model_open(in_folder("model/sam.safetensors"), &sam_run_cpu, &m), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "sam_config.json"), "%s", mcs_error_message());
    mcs_sam_model_close(&m);
    mcs_error_clear();
    sam_run_write("model/sam_config.json",
                  "{\"image_size\": 64, \"patch\": 8, \"width\": 16, \"depth\": 3, \"heads\": 2, "
                  "\"window\": 5, \"mlp\": 32, \"embed\": 16, \"d_heads\": 2, \"d_mlp\": 16, "
                  "\"global\": [2]}");
    cr_expect_eq(mcs_sam_model_open(in_folder("model"), &sam_run_cpu, &m), MCS_E_DATA, "another width of the MLP");
    cr_expect(strstr(mcs_error_message(), "mlp.lin1"), "%s", mcs_error_message());
    mcs_sam_model_close(&m);
}
