/* SAM model files and predictions: saving and opening, preparation of images, all kinds of prompts in one call, masks
 * at the image's size, both forms, the verb. */
#include "data/io/file.h"
#include "data/io/npy.h"
#include "data/io/safetensors.h"
#include "engine/image/components.h"
#include "infer/sam/sam_prompts.h"
#include "tests/golden/formula.h"
#include "tests/support/support_ops.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct sam_config toy = {.image_size = 64,
                                      .patch = 8,
                                      .width = 16,
                                      .depth = 3,
                                      .heads = 2,
                                      .window = 5,
                                      .mlp = 64,
                                      .n_global = 1,
                                      .global = {2},
                                      .embed = 16,
                                      .d_heads = 2,
                                      .d_mlp = 16,
                                      .d_downsample = 2,
                                      .mask_in = 16};
enum { SIDE = 32, FRAME = 64, LOW = SIDE * SIDE, EMBEDDING = 8 * 8 * 16 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct device cpu;
static char folder[64];

static void setup(void)
{
    char line[128];
    OK(mcs_cpu_open(1, &cpu));
    snprintf(folder, sizeof folder, "/tmp/mcs_sam_%ld", (long)getpid());
    snprintf(line, sizeof line, "mkdir -p %s/images", folder);
    cr_assert_eq(system(line), 0);
}
static void teardown(void)
{
    char line[128];
    mcs_cpu_close(&cpu);
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(sam_run, .init = setup, .fini = teardown);

static char *at(const char *name)
{
    static char path[8][160];
    static int next;
    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* The toy of the golden files in folder/model, and opened from there. */
static struct sam_model toy_model(void)
{
    struct sam_model m;
    OK(mcs_sam_model_new(&toy, 1, &cpu, &m));
    for (int i = 0; i < m.params->n; i++) {
        const struct tensor *t = m.params->t[i];
        mcs_golden_weight(t->name, t->dim, t->nd, t->data);
    }
    OK(mcs_sam_model_save(&m, at("model"), 0, "a test"));
    mcs_sam_model_close(&m);
    OK(mcs_sam_model_open(at("model"), &cpu, &m));
    return m;
}

static float *load(const char *file, const char *name, int64_t *n)
{
    struct safetensors *f;
    char path[256];
    snprintf(path, sizeof path, MCS_SOURCE_DIR "/tests/golden/%s.safetensors", file);
    OK(mcs_safetensors_open(path, &f));
    const struct safetensor *t = mcs_safetensors_find(f, name);
    cr_assert(t, "%s", name);
    float *v = malloc((size_t)t->n_values * sizeof *v);
    if (t->type == MCS_ARRAY_I32)
        for (int64_t i = 0; i < t->n_values; i++) {
            int32_t k;
            memcpy(&k, t->bytes + 4 * i, sizeof k);
            v[i] = (float)k;
        }
    else
        OK(mcs_safetensors_read_f32(f, name, t->nd, t->dims, v));
    *n = t->n_values;
    mcs_safetensors_close(f);
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
    float *chw = malloc(3 * FRAME * FRAME * sizeof *chw), *hwc = malloc(3 * FRAME * FRAME * sizeof *hwc);
    mcs_golden_input("input.image", chw, 3 * FRAME * FRAME);
    for (int i = 0; i < FRAME * FRAME; i++)
        for (int k = 0; k < 3; k++) hwc[3 * i + k] = chw[k * FRAME * FRAME + i];
    OK(mcs_sam_encode_images(m, hwc, 1, embedding));
    free(chw);
    free(hwc);
}

/* All golden prompts in one call: seven kinds, ten masks, of two images that are the same. */
Test(sam_run, prompts_of_every_kind_in_one_call)
{
    static const struct kind {
        const char *name;
        int n, n_points, box, mask;
    } kinds[] = {{"none", 1, 0, 0, 0},       {"point", 1, 1, 0, 0}, {"points", 2, 3, 0, 0},  {"box", 2, 0, 1, 0},
                 {"box_points", 2, 3, 1, 0}, {"mask", 1, 0, 0, 1},  {"mask_box", 2, 0, 1, 1}};
    struct sam_model m = toy_model();
    int64_t n;
    float embedding[2 * EMBEDDING], mask[2 * LOW];
    golden_embedding(&m, embedding);
    memcpy(embedding + EMBEDDING, embedding, EMBEDDING * sizeof(float));
    mcs_golden_input("input.mask", mask, 2 * LOW);
    for (int i = 0; i < 2 * LOW; i++) mask[i] *= 4;
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
                                              .mask = kinds[i].mask ? mask + b * LOW : NULL};
            for (int j = 0; j < 4; j++) prompts[k].box[j] = boxes[4 * b + j];
        }
    }
    cr_assert_eq(k, 11);
    const struct sam_frame frames[2] = {{FRAME, FRAME, FRAME, FRAME}, {FRAME, FRAME, FRAME, FRAME}};
    float *low = malloc(11 * SAM_MASKS * LOW * sizeof *low), iou[11 * SAM_MASKS];
    OK(mcs_sam_predict(&m, embedding, frames, 2, prompts, 11, low, iou));
    for (int i = 0; i < 7; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s.low_res", kinds[i].name);
        float *want = load("sam", name, &n);
        compare(name, low + first[i] * SAM_MASKS * LOW, want, n,
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
        OK(mcs_sam_upscale(&toy, low, &f, &got));
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
    struct safetensors *f;
    int found = 0;
    OK(mcs_safetensors_open(MCS_SOURCE_DIR "/tests/golden/image.safetensors", &f));
    for (int i = 0; i < mcs_safetensors_count(f); i++) {
        const struct safetensor *t = mcs_safetensors_at(f, i);
        int h, w, end = 0;
        char name[64];
        if (sscanf(t->name, "sam.%dx%d%n", &h, &w, &end) != 2 || t->name[end]) continue;
        snprintf(name, sizeof name, "input.3.%dx%d", h, w);
        const struct safetensor *in = mcs_safetensors_find(f, name);
        cr_assert(in, "%s", name);
        const struct image img = {w, h, 3, (uint8_t *)(uintptr_t)in->bytes};
        struct sam_frame frame;
        float *got = malloc(3 * FRAME * FRAME * sizeof *got), *want = malloc(3 * FRAME * FRAME * sizeof *want);
        OK(mcs_sam_prepare(&toy, &img, got, &frame));
        OK(mcs_safetensors_read_f32(f, t->name, t->nd, t->dims, want));
        for (int p = 0; p < FRAME * FRAME; p++)
            for (int k = 0; k < 3; k++) /* the reference divides in float32 too: the last bit at most */
                cr_assert_float_eq(got[3 * p + k], want[k * FRAME * FRAME + p], 1e-6, "%s", t->name);
        cr_expect(frame.in_width == FRAME || frame.in_height == FRAME);
        free(got);
        free(want);
        found++;
    }
    mcs_safetensors_close(f);
    cr_expect(found >= 2);
}

Test(sam_run, multimask_takes_the_best_of_three)
{
    const float iou[SAM_MASKS] = {0.9f, 0.2f, 0.5f, 0.5f};
    cr_expect_eq(mcs_sam_choose(iou, 0), 0);
    cr_expect_eq(mcs_sam_choose(iou, 1), 2);
}

static void write_text(const char *name, const char *text)
{
    OK(mcs_file_write(at(name), text, (int64_t)strlen(text)));
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
    struct sam_model m = toy_model();
    mcs_sam_model_close(&m);
    cr_expect_eq(mcs_sam_model_open(at("nothing"), &cpu, &m), MCS_E_NOINPUT);
    mcs_sam_model_close(&m);
    mcs_error_clear();
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        write_text("model/sam_config.json", configs[i]);
        cr_expect_eq(mcs_sam_model_open(at("model"), &cpu, &m), MCS_E_DATA, "%s", configs[i]);
        mcs_sam_model_close(&m);
        mcs_error_clear();
    }
    unlink(at("model/sam_config.json"));
    cr_expect_eq(mcs_sam_model_open(at("model/sam.safetensors"), &cpu, &m), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "sam_config.json"), "%s", mcs_error_message());
    mcs_sam_model_close(&m);
    mcs_error_clear();
    write_text("model/sam_config.json", "{\"image_size\": 64, \"patch\": 8, \"width\": 16, \"depth\": 3, \"heads\": 2, "
                                        "\"window\": 5, \"mlp\": 32, \"embed\": 16, \"d_heads\": 2, \"d_mlp\": 16, "
                                        "\"global\": [2]}");
    cr_expect_eq(mcs_sam_model_open(at("model"), &cpu, &m), MCS_E_DATA, "another width of the MLP");
    cr_expect(strstr(mcs_error_message(), "mlp.lin1"), "%s", mcs_error_message());
    mcs_sam_model_close(&m);
}

/* A grey picture with a bright square. */
static struct image picture(int width, int height)
{
    struct image img;
    OK(mcs_image_alloc(&img, width, height, 3));
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            memset(img.pixels + 3 * (y * width + x),
                   x > width / 3 && x < width / 2 && y > height / 3 && y < height / 2 ? 230 : 40 + (x * 7 + y * 3) % 30,
                   3);
    return img;
}

static struct box_point inner[] = {{20, 20, 1}, {22, 25, 1}}, other[] = {{40, 30, 1}};
static struct box_component two[] = {{.x0 = 10, .y0 = 12, .x1 = 30, .y1 = 33, .n_points = 2, .points = inner},
                                     {.x0 = 35, .y0 = 25, .x1 = 50, .y1 = 44, .n_points = 1, .points = other}};

/* The mask of several components, combined from single predictions as each form defines it. */
Test(sam_run, components_become_one_mask)
{
    struct sam_model m = toy_model();
    struct image a = picture(60, 50), b = picture(33, 64);
    const struct box_case both = {.image = "a.png", .width = 60, .height = 50, .n_components = 2, .components = two};
    const struct box_case none = {.image = "b.png", .width = 33, .height = 64, .reason = "flat"};
    const struct sam_case cases[] = {{&a, &both}, {&b, &none}, {&a, &both}};
    struct sam_result r[3];
    struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    OK(mcs_sam_segment(&m, &o, cases, 3, r));
    cr_assert_eq(r[0].n_prompts, 2);
    cr_expect_eq(r[1].n_prompts, 0);
    cr_expect_eq(r[1].area, 0);
    for (int i = 0; i < 33 * 64; i++) cr_assert_eq(r[1].mask[i], 0);
    cr_expect_arr_eq(r[0].mask, r[2].mask, 60 * 50); /* the same case at two places of the batch */

    /* The union of the masks of each box. */
    float pixels[3 * FRAME * FRAME], embedding[EMBEDDING], iou[2 * SAM_MASKS];
    float *low = malloc(2 * SAM_MASKS * LOW * sizeof *low);
    struct sam_frame frame;
    struct sam_prompts p[2] = {{.has_box = 1, .box = {10, 12, 30, 33}}, {.has_box = 1, .box = {35, 25, 50, 44}}};
    OK(mcs_sam_prepare(&toy, &a, pixels, &frame));
    OK(mcs_sam_encode_images(&m, pixels, 1, embedding));
    OK(mcs_sam_predict(&m, embedding, &frame, 1, p, 2, low, iou));
    struct map2 map[2];
    for (int k = 0; k < 2; k++) OK(mcs_sam_upscale(&toy, low + k * SAM_MASKS * LOW, &frame, &map[k]));
    int area = 0, wrong = 0;
    for (int i = 0; i < 60 * 50; i++) {
        const int want = map[0].values[i] > 0 || map[1].values[i] > 0;
        area += want;
        /* with another batch size rounding may change the sign of a logit near 0 */
        wrong += want != r[0].mask[i] && fabsf(map[0].values[i]) > 1e-4f && fabsf(map[1].values[i]) > 1e-4f;
    }
    cr_expect_eq(wrong, 0);
    cr_expect(area > 0 && area < 60 * 50, "this test says nothing with an area of %d", area);
    for (int i = 0; i < 3; i++) mcs_sam_result_free(&r[i]);

    /* Grown and merged boxes. */
    o.grow_px = 3;
    OK(mcs_sam_segment(&m, &o, cases, 1, r));
    cr_expect_eq(r[0].prompts[0].box[0], 7);
    cr_expect_eq(r[0].prompts[1].box[3], 47);
    mcs_sam_result_free(&r[0]);
    o.merge_boxes = 1;
    OK(mcs_sam_segment(&m, &o, cases, 1, r));
    cr_expect(r[0].n_prompts == 1 && r[0].prompts[0].box[0] == 7 && r[0].prompts[0].box[2] == 53);
    mcs_sam_result_free(&r[0]);

    /* Release: all points with every box; the result keeps as many components as the case has; points make one prompt.
     */
    o = mcs_sam_defaults(MCS_RELEASE);
    o.kind = SAM_BOTH;
    OK(mcs_sam_segment(&m, &o, cases, 1, r));
    cr_expect(r[0].n_prompts == 2 && r[0].prompts[0].n_points == 3 && r[0].prompts[1].n_points == 3);
    struct component_list list;
    int32_t labels[60 * 50];
    OK(mcs_components_find(r[0].mask, NULL, 60, 50, labels, &list));
    int sizes = 0; /* number of distinct areas, since components of equal area are kept together */
    for (int i = 0; i < list.n; i++) {
        int seen = 0;
        for (int k = 0; k < i; k++) seen |= list.items[k].area == list.items[i].area;
        sizes += !seen;
    }
    cr_expect(sizes >= 1 && sizes <= 2, "%d sizes of components", sizes);
    mcs_components_free(&list);
    mcs_sam_result_free(&r[0]);
    o.kind = SAM_POINTS;
    OK(mcs_sam_segment(&m, &o, cases, 1, r));
    cr_expect(r[0].n_prompts == 1 && r[0].prompts[0].n_points == 3);
    mcs_sam_result_free(&r[0]);
    o.multimask = 1;
    OK(mcs_sam_segment(&m, &o, cases, 1, r));
    cr_expect_eq(r[0].prompts[0].chosen, -1);
    mcs_sam_result_free(&r[0]);
    o.form = MCS_PAPER;
    OK(mcs_sam_segment(&m, &o, cases, 1, r));
    cr_expect(r[0].n_prompts == 2 && r[0].prompts[0].n_points == 2 && r[0].prompts[1].n_points == 1);
    cr_expect(r[0].prompts[0].chosen >= 1);
    mcs_sam_result_free(&r[0]);

    /* Errors: another size; missing points. */
    struct box_case wrong_size = both;
    wrong_size.width = 61;
    cr_expect_eq(mcs_sam_segment(&m, &o, &(struct sam_case){&a, &wrong_size}, 1, r), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "a.png"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_sam_result_free(&r[0]);
    struct box_component bare = two[0];
    bare.n_points = 0;
    const struct box_case no_points = {
        .image = "a.png", .width = 60, .height = 50, .n_components = 1, .components = &bare};
    cr_expect_eq(mcs_sam_segment(&m, &o, &(struct sam_case){&a, &no_points}, 1, r), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "no points"), "%s", mcs_error_message());
    mcs_sam_result_free(&r[0]);
    for (int k = 0; k < 2; k++) mcs_map_free(&map[k]);
    free(low);
    mcs_image_free(&a);
    mcs_image_free(&b);
    mcs_sam_model_close(&m);
}

/* ---- the verb ---- */

static int shell(const char *options)
{
    char line[1024];
    snprintf(line, sizeof line, "cd %s && %s sam %s > log 2>&1", folder, MCS_BINARY, options);
    const int st = system(line);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128;
}
static void expect(const char *options, int code, const char *part)
{
    char *text;
    int64_t n;
    const int got = shell(options);
    OK(mcs_file_read(at("log"), 1 << 20, &text, &n));
    cr_expect_eq(got, code, "sam %s: exit %d, want %d:\n%s", options, got, code, text);
    cr_expect(strstr(text, part), "sam %s: want '%s' in:\n%s", options, part, text);
    free(text);
}

Test(sam_run, verb_on_one_image)
{
    struct sam_model m = toy_model();
    struct image img = picture(60, 50), mask;
    mcs_sam_model_close(&m);
    OK(mcs_image_write_png(at("a.png"), &img));
    expect("-m model -i a.png --box 10,12,30,33 -o out", 0, "1 prompts");
    struct npy low;
    OK(mcs_npy_read(at("out/low_res.npy"), &low));
    cr_expect(low.nd == 2 && low.dims[0] == SIDE && low.dims[1] == SIDE);
    OK(mcs_image_read(at("out/mask.png"), 0, &mask));
    cr_expect(mask.width == 60 && mask.height == 50 && mask.channels == 1);
    for (int i = 0; i < 60 * 50; i++) cr_assert(mask.pixels[i] == 0 || mask.pixels[i] == 255);
    mcs_npy_free(&low);
    mcs_image_free(&mask);
    char first[65], second[65];
    OK(mcs_file_sha256(at("out/low_res.npy"), first));
    expect("-m model -i a.png --box 10,12,30,33 -o out2 --json", 0, "\"prompts\": 1");
    OK(mcs_file_sha256(at("out2/low_res.npy"), second));
    cr_expect_str_eq(first, second);

    expect("-m model -i a.png --point 20,20,1 --point 50,40,0 --multimask -o multi", 0, "1 prompts");
    OK(mcs_npy_read(at("multi/low_res.npy"), &low));
    cr_expect(low.nd == 3 && low.dims[0] == 3);
    mcs_npy_free(&low);
    expect("-m model -i a.png --box 10,12,30,33 --box 1,1,9,9 --mask out/low_res.npy -o refined", 0, "2 prompts");
    expect("-m model -i a.png --mask out/mask.png -o refined", 0, "1 prompts");
    expect("-m model -i a.png -o x --box 1,2,3,4 --dry-run", 0, "embedding 8 x 8");

    expect("-m model -i a.png -o x", 2, "say where");
    expect("-m model -i a.png -o x --box 1,2,3", 2, "x0,y0,x1,y1");
    expect("-m model -i a.png -o x --box 5,2,3,4", 2, "x0 <= x1");
    expect("-m model -i a.png -o x --box 1,2,3,4x", 2, "--box");
    expect("-m model -i a.png -o x --box 100,2,130,4", 2, "outside");
    expect("-m model -i a.png -o x --point 1,2,7", 2, "label");
    expect("-m model -i a.png -o x --point 61,2,1", 2, "outside");
    expect("-m model -i a.png -o x --point nan,2,1", 2, "--point");
    expect("-m model -i a.png -o x --mask multi/low_res.npy", 65, "mask prompt");
    expect("-m model -i images -o x --box 1,2,3,4", 2, "--prompts-from");
    expect("-m model -i none.png -o x --box 1,2,3,4", 66, "none.png");
    expect("-m none -i a.png -o x --box 1,2,3,4", 66, "none");
    expect("-m model -i log -o x --box 1,2,3,4", 65, "log");
    mcs_image_free(&img);
}

Test(sam_run, verb_on_a_folder)
{
    struct sam_model m = toy_model();
    struct image img = picture(60, 50), mask;
    mcs_sam_model_close(&m);
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "images/%c.png", 'a' + i);
        OK(mcs_image_write_png(at(name), &img));
    }
    struct box_case cases[] = {{.image = "a.png", .width = 60, .height = 50, .n_components = 2, .components = two},
                               {.image = "b.png", .width = 60, .height = 50, .reason = "flat map"},
                               {.image = "c.png", .width = 60, .height = 50, .n_components = 1, .components = two}};
    struct box_list list = {.n = 2, .cases = cases};
    OK(mcs_boxes_write(at("boxes.json"), &list));
    unlink(at("images/c.png"));
    unlink(at("images/d.png"));
    expect("-m model -i images --prompts-from boxes.json -o out", 0, "2 masks, 1 of them without prompts");
    OK(mcs_image_read(at("out/b.png"), 0, &mask));
    for (int i = 0; i < 60 * 50; i++) cr_assert_eq(mask.pixels[i], 0);
    mcs_image_free(&mask);
    char *text;
    int64_t n;
    OK(mcs_file_read(at("out/sam.json"), 1 << 20, &text, &n));
    cr_expect(strstr(text, "flat map"), "%s", text);
    free(text);
    cr_expect(!mcs_file_exists(at("out/failures.csv")));

    /* c has another size than in boxes.json, d has no case, e no image, f is not an image: the others are done. */
    struct image small = picture(20, 20);
    OK(mcs_image_write_png(at("images/c.png"), &small));
    OK(mcs_image_write_png(at("images/d.png"), &img));
    write_text("images/f.png", "no picture");
    struct box_case more[5] = {cases[0], cases[1], cases[2], cases[0], cases[0]};
    more[3].image = "e.png";
    more[4].image = "f.png";
    list = (struct box_list){.n = 5, .cases = more};
    OK(mcs_boxes_write(at("boxes.json"), &list));
    expect("-m model -i images --prompts-from boxes.json -o out --grow 2 --prompts both", 3, "failures.csv");
    OK(mcs_file_read(at("out/failures.csv"), 1 << 20, &text, &n));
    for (const char *stem = "cdef"; *stem; stem++) {
        const char line[] = {'\n', *stem, ',', 0};
        cr_expect(strstr(text, line), "no failure of %c in:\n%s", *stem, text);
    }
    cr_expect(mcs_file_exists(at("out/a.png")));
    free(text);
    expect("-m model -i images --prompts-from boxes.json -o out --box 1,2,3,4", 2, "one image");
    expect("-m model -i images --prompts-from none.json -o out", 66, "none.json");
    mcs_image_free(&img);
    mcs_image_free(&small);
}
