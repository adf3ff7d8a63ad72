/* The verb sam on one image: all numbers in sam.json, low_res.npy and mask.png against library calls with the same
 * prompts; the limits of its options. */
#include "data/io/file.h"
#include "data/io/npy.h"
#include "infer/sam/sam_model.h"
#include "infer/sam/sam_prompts.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 40, HEIGHT = 30, PIXELS = WIDTH * HEIGHT, SIDE = 16, PLANE = SIDE * SIDE, MOST = 3 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct device device;
static struct sam_model model;
static struct image image;

static void setup(void)
{
    const struct sam_config c = tiny_sam_config();
    shell_open(MCS_BINARY, "--threads 1");
    OK(mcs_cpu_open(1, &device));
    OK(mcs_sam_model_new(&c, 5, &device, &model));
    /* larger than initial weights, so that prompts have different best masks and logits lie outside of -1 .. 1 */
    for (int64_t i = 0; i < model.params->n_values; i++) model.params->data[i] *= 4;
    OK(mcs_sam_model_save(&model, shell_path("m"), 0, NULL));
    mcs_sam_model_close(&model);
    OK(mcs_sam_model_open(shell_path("m"), &device, &model));
    OK(mcs_image_alloc(&image, WIDTH, HEIGHT, 3));
    for (int i = 0; i < PIXELS * 3; i++) image.pixels[i] = (uint8_t)(i * 7 % 251 ^ i / 120 * 5);
    OK(mcs_image_write_png(shell_path("a.png"), &image));
}

static void teardown(void)
{
    mcs_image_free(&image);
    mcs_sam_model_close(&model);
    mcs_cpu_close(&device);
    shell_close();
}
TestSuite(sam_verb, .init = setup, .fini = teardown, .timeout = 60);

/* The results of the library for the same prompts. */
struct prediction {
    float low[MOST * SAM_MASKS * PLANE], iou[MOST * SAM_MASKS];
    double stability[MOST * SAM_MASKS];
    int area[MOST * SAM_MASKS];
    uint8_t inside[MOST * SAM_MASKS][PIXELS];
};

static struct prediction *predict(const struct sam_prompts *prompts, int n)
{
    struct prediction *a = calloc(1, sizeof *a);
    struct sam_frame frame;
    float *pixels = malloc(32 * 32 * 3 * sizeof *pixels),
          *embedding = malloc((size_t)mcs_sam_embedding_values(&model.config) * sizeof *embedding);
    cr_assert(a && pixels && embedding);
    cr_assert(model.config.image_size == 32 && mcs_sam_side(&model.config) == SIDE);
    OK(mcs_sam_prepare(&model.config, &image, pixels, &frame));
    OK(mcs_sam_encode_images(&model, pixels, 1, embedding));
    OK(mcs_sam_predict(&model, embedding, &frame, 1, prompts, n, a->low, a->iou));
    for (int i = 0; i < n * SAM_MASKS; i++) {
        struct map2 logits;
        OK(mcs_sam_upscale(&model.config, a->low + (ptrdiff_t)i * PLANE, &frame, &logits));
        a->stability[i] = support_stability(&logits);
        for (int k = 0; k < PIXELS; k++) a->area[i] += a->inside[i][k] = logits.values[k] > 0;
        mcs_map_free(&logits);
    }
    free(pixels);
    free(embedding);
    return a;
}

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    cr_assert(json_is_number(v), "no number %s", key);
    return json_number_value(v);
}

/* JSON has seven digits. */
static void expect_near(double got, double want, const char *what)
{
    cr_expect_float_eq(got, want, 1e-6 * fabs(want), "%s is %.9g, want %.9g", what, got, want);
}

static void expect_prompts(const json_t *list, const struct sam_prompts *prompts, int n, int multimask,
                           const struct prediction *a)
{
    cr_assert_eq(json_array_size(list), (size_t)n);
    for (int i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, (size_t)i), *masks = json_object_get(o, "masks"),
                     *box = json_object_get(o, "box");
        const int first = multimask ? 1 : 0, n_masks = multimask ? 3 : 1;
        cr_expect_eq(number(o, "points"), prompts[i].n_points);
        cr_expect_eq(number(o, "chosen"), mcs_sam_choose(a->iou + i * SAM_MASKS, multimask));
        cr_expect_eq(json_array_size(box), prompts[i].has_box ? 4 : 0);
        for (size_t k = 0; k < json_array_size(box); k++)
            cr_expect_eq(json_number_value(json_array_get(box, k)), prompts[i].box[k]);
        cr_assert_eq(json_array_size(masks), (size_t)n_masks);
        for (int k = 0; k < n_masks; k++) {
            const json_t *m = json_array_get(masks, (size_t)k);
            const int at = i * SAM_MASKS + first + k;
            expect_near(number(m, "iou"), (double)a->iou[at], "iou");
            expect_near(number(m, "stability"), a->stability[at], "stability");
            cr_expect_eq(number(m, "area"), a->area[at], "area %g, want %d", number(m, "area"), a->area[at]);
        }
    }
}

/* The shape omits the number of prompts or masks if it is 1. */
static void expect_low_res(const char *path, int n, int multimask, const struct prediction *a)
{
    struct npy low;
    const int kept = multimask ? 3 : 1, first = multimask ? 1 : 0, nd = 2 + (n > 1) + (kept > 1);
    OK(mcs_npy_read(path, &low));
    cr_assert_eq(low.nd, nd);
    cr_assert_eq(low.n_values, n * kept * PLANE);
    cr_expect(low.dims[nd - 1] == SIDE && low.dims[nd - 2] == SIDE && low.dims[0] == (n > 1 ? n : kept > 1 ? 3 : SIDE));
    for (int i = 0; i < n; i++)
        cr_expect_arr_eq(low.values + (ptrdiff_t)i * kept * PLANE, a->low + (ptrdiff_t)(i * SAM_MASKS + first) * PLANE,
                         (size_t)(kept * PLANE) * sizeof(float));
    mcs_npy_free(&low);
}

/* Runs the verb with `arguments` and compares all that it writes. */
static void check(const char *arguments, const struct sam_prompts *prompts, int n, int multimask, int release)
{
    struct prediction *a = predict(prompts, n);
    struct image mask;
    char line[512], text[64];
    int area = 0;
    snprintf(line, sizeof line, "rm -rf out; mcsam sam -m m -i a.png -o out %s%s%s && ls out | tr '\\n' ' '", arguments,
             multimask ? " --multimask" : "", release ? " --form release" : "");
    expect(line, 0, "low_res.npy mask.png sam.json ");
    OK(mcs_image_read(shell_path("out/mask.png"), 0, &mask));
    cr_assert(mask.width == WIDTH && mask.height == HEIGHT && mask.channels == 1);
    for (int k = 0; k < PIXELS; k++) {
        int inside = 0;
        for (int i = 0; i < n; i++)
            for (int m = 0; m < SAM_MASKS; m++)
                if (release && multimask ? m > 0 : m == mcs_sam_choose(a->iou + i * SAM_MASKS, multimask))
                    inside |= a->inside[i * SAM_MASKS + m][k];
        cr_assert_eq(mask.pixels[k], inside ? 255 : 0, "%s: pixel %d", line, k);
        area += inside;
    }
    mcs_image_free(&mask);
    snprintf(text, sizeof text, "%d prompts, %d pixels\n", n, area);
    cr_expect(strstr(shell_output, text), "want '%s' in %s", text, shell_output);
    json_t *root = json_load_file(shell_path("out/sam.json"), 0, NULL);
    const json_t *size = json_object_get(root, "size");
    cr_assert(root);
    cr_expect_eq(number(root, "area"), area);
    cr_expect(json_integer_value(json_array_get(size, 0)) == WIDTH &&
              json_integer_value(json_array_get(size, 1)) == HEIGHT);
    cr_expect_str_eq(json_string_value(json_object_get(root, "image")), "a.png");
    cr_expect_str_eq(json_string_value(json_object_get(root, "model")), "m/sam.safetensors");
    cr_expect_str_eq(json_string_value(json_object_get(root, "sha256")), model.sha256);
    cr_expect_str_eq(json_string_value(json_object_get(root, "form")), release ? "release" : "paper");
    cr_expect_str_eq(json_string_value(json_object_get(root, "version")), MCS_VERSION);
    expect_prompts(json_object_get(root, "prompts"), prompts, n, multimask, a);
    expect_low_res(shell_path("out/low_res.npy"), n, multimask, a);
    json_decref(root);
    free(a);
}

/* Three boxes, points, or both; the mask of one call as the prompt of the next. Each with one mask, the best of three,
 * and all three. */
Test(sam_verb, every_figure_is_the_librarys)
{
    static const double points[3][2] = {{0, 0}, {39.5, 29.5}, {12, 7.25}};
    static const int labels[3] = {1, 0, 1};
    static const struct sam_prompts
        boxes[3] = {{.has_box = 1, .box = {2, 3, 15, 20}},
                    {.has_box = 1, .box = {0, 0, 39.5, 29}},
                    {.has_box = 1, .box = {20.5, 4, 20.5, 4}}},
        clicks[1] = {{.n_points = 3, .points = points, .labels = labels}},
        both[1] = {{.n_points = 3, .points = points, .labels = labels, .has_box = 1, .box = {2, 3, 15, 20}}};
    static const char b[] = "--box 2,3,15,20 --box 0,0,39.5,29 --box 20.5,4,20.5,4",
                      p[] = "--point 0,0,1 --point 39.5,29.5,0 --point 12,7.25,1";
    char line[256];
    for (int way = 0; way < 3; way++) {
        const int multimask = way > 0, release = way > 1;
        check(b, boxes, 3, multimask, release);
        check(p, clicks, 1, multimask, release);
        snprintf(line, sizeof line, "--box 2,3,15,20 %s", p);
        check(line, both, 1, multimask, release);
    }
}

Test(sam_verb, a_mask_as_prompt)
{
    struct prediction *first;
    float logits[PLANE];
    struct image mask;
    struct sam_prompts prompt = {.has_box = 1, .box = {2, 3, 15, 20}};
    first = predict(&prompt, 1);
    expect("mcsam sam -m m -i a.png -o before --box 2,3,15,20", 0, "1 prompts");
    prompt.mask = first->low;
    check("--box 2,3,15,20 --mask before/low_res.npy", &prompt, 1, 0, 0);
    free(first);
    OK(mcs_image_alloc(&mask, WIDTH, HEIGHT, 1));
    for (int i = 0; i < PIXELS; i++) mask.pixels[i] = i % WIDTH > 20 ? 255 : 0;
    OK(mcs_image_write_png(shell_path("half.png"), &mask));
    OK(mcs_sam_mask_prompt(&model.config, &mask, logits));
    prompt = (struct sam_prompts){.mask = logits};
    check("--mask half.png", &prompt, 1, 1, 0);
    mcs_image_free(&mask);
}

/* Mask prompts of one pixel in width or height work; a mask whose shorter side would be scaled below one pixel keeps
 * one row. */
Test(sam_verb, thin_mask_prompts)
{
    static uint8_t pixels[100];
    float dst[PLANE];
    const struct image one = {.width = 1, .height = 1, .channels = 1, .pixels = pixels},
                       thin = {.width = 100, .height = 1, .channels = 1, .pixels = pixels},
                       tall = {.width = 1, .height = 100, .channels = 1, .pixels = pixels};
    memset(pixels, 1, sizeof pixels);
    OK(mcs_sam_mask_prompt(&model.config, &one, dst));
    for (int i = 0; i < PLANE; i++) cr_assert_eq(dst[i], 10);
    OK(mcs_sam_mask_prompt(&model.config, &thin, dst));
    for (int i = 0; i < PLANE; i++) cr_assert_eq(dst[i], i < SIDE ? 10 : -10, "%d", i);
    OK(mcs_sam_mask_prompt(&model.config, &tall, dst));
    for (int i = 0; i < PLANE; i++) cr_assert_eq(dst[i], i % SIDE == 0 ? 10 : -10, "%d", i);
    for (int way = 0; way < 2; way++) {
        const struct image none = {.width = way, .height = 1 - way, .channels = 1, .pixels = pixels};
        cr_expect_eq(mcs_sam_mask_prompt(&model.config, &none, dst), MCS_E_DATA);
        mcs_error_clear();
    }
}

Test(sam_verb, limits_of_its_options)
{
    static const struct {
        const char *arguments;
        int code;
        const char *part;
    } rows[] = {
        {"--point 40,1,1", 2, "--point '40,1,1' is outside of the image of 40 x 30 pixels"},
        {"--point 1,30,1", 2, "outside of the image"},
        {"--point -0.5,1,1", 2, "outside of the image"},
        {"--point 1,-0.5,1", 2, "outside of the image"},
        {"--point 1,2,0.5", 2, "label 1 (inside) or 0 (outside)"},
        {"--point 1,2", 2, "want x,y,label"},
        {"--point 1,2,1,1", 2, "want x,y,label"},
        {"--point ,2,1", 2, "want x,y,label"},
        {"--box 40,1,41,2", 2, "--box '40,1,41,2' is outside of the image of 40 x 30 pixels"},
        {"--box 1,30,2,31", 2, "outside of the image"},
        {"--box -5,1,-1,2", 2, "outside of the image"},
        {"--box 1,-5,2,-1", 2, "outside of the image"},
        {"--box -5,-5,0,0", 0, "1 prompts"},
        {"--box 39,29,99,99", 0, "1 prompts"},
        {"--point nan,1,1", 2, "outside of the image"},
        {"--point 1,2,nan", 2, "label 1 (inside) or 0 (outside)"},
        {"--box nan,1,2,5", 2, "x0 <= x1"},
        {"--box 1,1,inf,5", 2, "not finite"},
        {"--box ", 2, "want x0,y0,x1,y1"},
        {"--box 3,1,2,5", 2, "x0 <= x1"},
        {"--box 1,5,2,4", 2, "y0 <= y1"},
        {"--box 1,2,3", 2, "want x0,y0,x1,y1"},
        {"--mask a.txt", 65, "a.txt"},
        {"--mask .npy", 66, ".npy"},
        {"--mask wide.png", 65, "wide.png: the mask has 41 x 30 pixels, the image 40 x 30"},
        {"--mask high.png", 65, "high.png: the mask has 40 x 31 pixels, the image 40 x 30"},
        {"--mask short.npy", 65, "short.npy: a mask prompt must be (16, 16) logits"},
        {"--box 1,1,9,9 --json", 0, "{\"prompts\": 1, \"area\": "},
        {"--box 1,1,9,9 --prompts-from b.json", 2, "-i is a folder of images"},
        {"--dry-run", 0, "image 32, embedding 4 x 4"},
    };
    struct image other;
    for (int way = 0; way < 2; way++) {
        OK(mcs_image_alloc(&other, WIDTH + !way, HEIGHT + way, 1));
        OK(mcs_image_write_png(shell_path(way ? "high.png" : "wide.png"), &other));
        mcs_image_free(&other);
    }
    OK(mcs_npy_write(shell_path("short.npy"), (float[PLANE]){0}, 2, (int64_t[]){SIDE, SIDE - 1}));
    shell_write("a.txt", "no mask");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char line[256];
        snprintf(line, sizeof line, "rm -rf out; mcsam sam -m m -i a.png -o out %s", rows[i].arguments);
        expect(line, rows[i].code, rows[i].part);
        cr_expect_eq(mcs_file_exists(shell_path("out/sam.json")), !rows[i].code && !strstr(line, "--dry-run"), "%s",
                     line);
    }
    expect("mkdir d; mcsam sam -m m -i d -o out --box 1,1,2,2", 2, "d is a folder: --prompts-from says");
    expect("mcsam sam -m m -i none -o out --prompts-from b.json", 66, "none");
}

/* One image is encoded once: the embedding that one run wrote serves another one's prompts. */
Test(sam_verb, embeddings_from_files)
{
    expect("mcsam sam -m m -i a.png -o one --box 2,3,15,20 --save-embeddings e && ls e", 0, "a.safetensors");
    expect("mcsam sam -m m -i a.png -o two --box 2,3,15,20 --embeddings e && cmp one/mask.png two/mask.png && cmp "
           "one/low_res.npy two/low_res.npy",
           0, "");
    expect("mcsam sam -m m -i a.png -o three --box 2,3,15,20 --embeddings e --preprocess medsam", 65,
           "another preparation (preprocess is sam, here medsam)");
    expect("mcsam sam -m m -i a.png -o three --box 2,3,15,20 --embeddings e --save-embeddings e", 2, "want one of");
    expect("mcsam sam -m m -i a.png -o three --box 2,3,15,20 --embeddings none", 66, "no such folder");
    expect("cp a.png b.png; mcsam sam -m m -i b.png -o three --box 2,3,15,20 --embeddings e", 66,
           "e/b.safetensors: no embedding of this image");
    shell_write("b.json",
                "{\"cases\": [{\"image\": \"a.png\", \"size\": [40, 30], \"components\": [{\"box\": [2, 3, 15, 20]}]}, "
                "{\"image\": \"b.png\", \"size\": [40, 30], \"components\": [{\"box\": [2, 3, 15, 20]}]}]}");
    expect("mkdir d; cp a.png b.png d; mcsam sam -m m -i d -o four --prompts-from b.json --embeddings e; echo $?; cat "
           "four/failures.csv; cmp four/a.png one/mask.png",
           0, "b,");
    expect("mcsam sam -m m -i d -o five --prompts-from b.json --save-embeddings e && mcsam sam -m m -i d -o six "
           "--prompts-from b.json --embeddings e && cmp five/a.png six/a.png",
           0, "2 masks");
}

Test(sam_verb, preparation_of_medsam)
{
    expect("mcsam sam -m m -i a.png -o one --box 2,3,15,20 --preprocess medsam && cat one/sam.json", 0,
           "\"preprocess\": \"medsam\"");
    expect("mcsam sam -m m -i a.png -o two --box 2,3,15,20 && cat two/sam.json", 0, "\"preprocess\": \"sam\"");
    expect("cmp one/low_res.npy two/low_res.npy", 1, "differ");
    expect("mcsam sam -m m -i a.png -o two --box 2,3,15,20 --preprocess clip", 2, "clip");
    expect("mkdir n; cp m/sam_config.json n; cp m/sam.safetensors n/MedSAM_vit_b.safetensors; mcsam sam -m n -i a.png "
           "-o two --box 2,3,15,20",
           0, "--preprocess medsam is right");
}

/* The released form prompts with the points of all components together: the verb's result equals one prediction with
 * all of them. The components have one and three points, so that their counts cannot be confused. */
Test(sam_verb, points_of_several_components)
{
    static const double all[4][2] = {{3, 4}, {20, 11}, {25, 9}, {22, 14}};
    static const int labels[4] = {1, 1, 0, 1};
    static struct box_point first[] = {{3, 4, 1}}, second[] = {{20, 11, 1}, {25, 9, 0}, {22, 14, 1}};
    struct box_component two[2] = {{.x0 = 1, .y0 = 2, .x1 = 8, .y1 = 9, .n_points = 1, .points = first},
                                   {.x0 = 18, .y0 = 8, .x1 = 30, .y1 = 16, .n_points = 3, .points = second}};
    const struct box_case prompts = {
        .image = "a.png", .width = WIDTH, .height = HEIGHT, .n_components = 2, .components = two};
    const struct sam_case one = {&image, &prompts};
    for (int paper = 0; paper < 2; paper++) {
        struct sam_options o = mcs_sam_defaults(paper ? MCS_PAPER : MCS_RELEASE);
        struct sam_result r;
        o.kind = SAM_POINTS;
        OK(mcs_sam_segment(&model, &o, &one, 1, &r));
        cr_assert_eq(r.n_prompts, paper ? 2 : 1);
        for (int i = 0; i < r.n_prompts; i++) {
            const int from = paper ? i : 0, n = !paper ? 4 : i ? 3 : 1;
            const struct sam_prompts alone = {.n_points = n, .points = all + from, .labels = labels + from};
            struct prediction *a = predict(&alone, 1);
            cr_expect_eq(r.prompts[i].n_points, n);
            cr_expect_eq(r.prompts[i].iou, a->iou[0], "prompt %d: %g, want %g", i, (double)r.prompts[i].iou,
                         (double)a->iou[0]);
            cr_expect_eq(r.prompts[i].stability, a->stability[0]);
            free(a);
        }
        mcs_sam_result_free(&r);
    }
}
