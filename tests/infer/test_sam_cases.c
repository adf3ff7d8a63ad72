/* Cases of several components as one mask, combined from single predictions as each form defines it, and the verb sam
 * on an image and on a folder. */

#include "data/io/file.h"
#include "data/io/npy.h"
#include "engine/image/components.h"
#include "infer/sam/sam_prompts.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_sam_run.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

TestSuite(sam_run, .init = sam_run_open, .fini = sam_run_close);

static struct box_point inner[] = {{20, 20, 1}, {22, 25, 1}}, other[] = {{40, 30, 1}};
static struct box_component two[] = {{.x0 = 10, .y0 = 12, .x1 = 30, .y1 = 33, .n_points = 2, .points = inner},
                                     {.x0 = 35, .y0 = 25, .x1 = 50, .y1 = 44, .n_points = 1, .points = other}};

/* Two images of which the first has two components, and the second none. */
struct images {
    struct sam_model m;
    struct image a, b;
    struct box_case both, none;
};

static void images_open(struct images *s)
{
    s->m = sam_run_model();
    s->a = sam_run_picture(60, 50), s->b = sam_run_picture(33, 64);
    s->both = (struct box_case){.image = "a.png", .width = 60, .height = 50, .n_components = 2, .components = two};
    s->none = (struct box_case){.image = "b.png", .width = 33, .height = 64, .reason = "flat"};
}

static void images_close(struct images *s)
{
    mcs_image_free(&s->a);
    mcs_image_free(&s->b);
    mcs_sam_model_close(&s->m);
}

/* The image with two components under these options. */
static struct sam_result segment(struct images *s, const struct sam_options *o)
{
    struct sam_result r;
    OK(mcs_sam_segment(&s->m, o, &(struct sam_case){&s->a, &s->both}, 1, &r));
    return r;
}

/* The mask is the union of the masks of each box. */
static void check_union(struct images *s, const uint8_t *mask)
{
    float pixels[3 * SAM_RUN_FRAME * SAM_RUN_FRAME], embedding[SAM_RUN_EMBEDDING], iou[2 * SAM_MASKS];
    float *low = malloc(2 * SAM_MASKS * SAM_RUN_LOW * sizeof *low);
    struct sam_frame frame;
    struct sam_prompts p[2] = {{.has_box = 1, .box = {10, 12, 30, 33}}, {.has_box = 1, .box = {35, 25, 50, 44}}};
    OK(mcs_sam_prepare(&sam_run_config, &s->a, pixels, &frame));
    OK(mcs_sam_encode_images(&s->m, pixels, 1, embedding));
    OK(mcs_sam_predict(&s->m, embedding, &frame, 1, p, 2, low, iou));
    struct map2 map[2];
    for (int k = 0; k < 2; k++)
        OK(mcs_sam_upscale(&sam_run_config, low + k * SAM_MASKS * SAM_RUN_LOW, &frame, &map[k]));
    int area = 0, wrong = 0;
    for (int i = 0; i < 60 * 50; i++) {
        const int want = map[0].values[i] > 0 || map[1].values[i] > 0;
        area += want;
        /* with another batch size rounding may change the sign of a logit near 0 */
        wrong += want != mask[i] && fabsf(map[0].values[i]) > 1e-4f && fabsf(map[1].values[i]) > 1e-4f;
    }
    cr_expect_eq(wrong, 0);
    cr_expect(area > 0 && area < 60 * 50, "this test says nothing with an area of %d", area);
    for (int k = 0; k < 2; k++) mcs_map_free(&map[k]);
    free(low);
}

/* Grown and merged boxes. */
static void check_changed_boxes(struct images *s, struct sam_options o)
{
    o.grow_px = 3;
    struct sam_result r = segment(s, &o);
    cr_expect_eq(r.prompts[0].box[0], 7);
    cr_expect_eq(r.prompts[1].box[3], 47);
    mcs_sam_result_free(&r);
    o.merge_boxes = 1;
    r = segment(s, &o);
    cr_expect(r.n_prompts == 1 && r.prompts[0].box[0] == 7 && r.prompts[0].box[2] == 53);
    mcs_sam_result_free(&r);
}

/* The number of distinct areas of a mask's components, since components of equal area are kept together. */
static int distinct_areas(const uint8_t *mask)
{
    struct component_list list;
    int32_t labels[60 * 50];
    int n = 0;
    OK(mcs_components_find(mask, NULL, 60, 50, labels, &list));
    for (int i = 0; i < list.n; i++) {
        int seen = 0;
        for (int k = 0; k < i; k++) seen |= list.items[k].area == list.items[i].area;
        n += !seen;
    }
    mcs_components_free(&list);
    return n;
}

/* Release: all points with every box; the result keeps as many components as the case has; points make one prompt.
 * Paper: each component is a prompt with its points. */
static void check_forms(struct images *s)
{
    struct sam_options o = mcs_sam_defaults(MCS_RELEASE);
    o.kind = SAM_BOTH;
    struct sam_result r = segment(s, &o);
    cr_expect(r.n_prompts == 2 && r.prompts[0].n_points == 3 && r.prompts[1].n_points == 3);
    const int areas = distinct_areas(r.mask);
    cr_expect(areas >= 1 && areas <= 2, "%d sizes of components", areas);
    mcs_sam_result_free(&r);
    o.kind = SAM_POINTS;
    r = segment(s, &o);
    cr_expect(r.n_prompts == 1 && r.prompts[0].n_points == 3);
    mcs_sam_result_free(&r);
    o.multimask = 1;
    r = segment(s, &o);
    cr_expect_eq(r.prompts[0].chosen, -1);
    mcs_sam_result_free(&r);
    o.form = MCS_PAPER;
    r = segment(s, &o);
    cr_expect(r.n_prompts == 2 && r.prompts[0].n_points == 2 && r.prompts[1].n_points == 1);
    cr_expect(r.prompts[0].chosen >= 1);
    mcs_sam_result_free(&r);
}

/* A case of another size; a component without points where points are the prompt. */
static void check_refused(struct images *s)
{
    struct sam_options o = mcs_sam_defaults(MCS_RELEASE);
    struct sam_result r;
    struct box_case wrong_size = s->both;
    o.kind = SAM_POINTS, o.multimask = 1, o.form = MCS_PAPER;
    wrong_size.width = 61;
    cr_expect_eq(mcs_sam_segment(&s->m, &o, &(struct sam_case){&s->a, &wrong_size}, 1, &r), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "a.png"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_sam_result_free(&r);
    struct box_component bare = two[0];
    bare.n_points = 0;
    const struct box_case no_points = {
        .image = "a.png", .width = 60, .height = 50, .n_components = 1, .components = &bare};
    cr_expect_eq(mcs_sam_segment(&s->m, &o, &(struct sam_case){&s->a, &no_points}, 1, &r), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "no points"), "%s", mcs_error_message());
    mcs_sam_result_free(&r);
}

/* The mask of several components, combined from single predictions as each form defines it. */
Test(sam_run, components_become_one_mask)
{
    struct images s;
    images_open(&s);
    const struct sam_case cases[] = {{&s.a, &s.both}, {&s.b, &s.none}, {&s.a, &s.both}};
    const struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    struct sam_result r[3];
    OK(mcs_sam_segment(&s.m, &o, cases, 3, r));
    cr_assert_eq(r[0].n_prompts, 2);
    cr_expect_eq(r[1].n_prompts, 0);
    cr_expect_eq(r[1].area, 0);
    for (int i = 0; i < 33 * 64; i++) cr_assert_eq(r[1].mask[i], 0);
    cr_expect_arr_eq(r[0].mask, r[2].mask, 60 * 50); /* the same case at two places of the batch */
    check_union(&s, r[0].mask);
    for (int i = 0; i < 3; i++) mcs_sam_result_free(&r[i]);
    check_changed_boxes(&s, o);
    check_forms(&s);
    check_refused(&s);
    images_close(&s);
}

/* ---- the verb ---- */

static int shell(const char *options)
{
    char line[1024];
    snprintf(line, sizeof line, "cd %s && %s sam %s > log 2>&1", test_folder, MCS_BINARY, options);
    const int st = system(line);
    return WIFEXITED(st) ? WEXITSTATUS(st) : 128;
}
static void expect(const char *options, int code, const char *part)
{
    char *text;
    int64_t n;
    const int got = shell(options);
    OK(mcs_file_read(in_folder("log"), 1 << 20, &text, &n));
    cr_expect_eq(got, code, "sam %s: exit %d, want %d:\n%s", options, got, code, text);
    cr_expect(strstr(text, part), "sam %s: want '%s' in:\n%s", options, part, text);
    free(text);
}

Test(sam_run, verb_on_one_image)
{
    struct sam_model m = sam_run_model();
    struct image img = sam_run_picture(60, 50), mask;
    mcs_sam_model_close(&m);
    OK(mcs_image_write_png(in_folder("a.png"), &img));
    expect("-m model -i a.png --box 10,12,30,33 -o out", 0, "1 prompts");
    struct npy low;
    OK(mcs_npy_read(in_folder("out/low_res.npy"), &low));
    cr_expect(low.nd == 2 && low.dims[0] == SAM_RUN_SIDE && low.dims[1] == SAM_RUN_SIDE);
    OK(mcs_image_read(in_folder("out/mask.png"), 0, &mask));
    cr_expect(mask.width == 60 && mask.height == 50 && mask.channels == 1);
    for (int i = 0; i < 60 * 50; i++) cr_assert(mask.pixels[i] == 0 || mask.pixels[i] == 255);
    mcs_npy_free(&low);
    mcs_image_free(&mask);
    char first[65], second[65];
    OK(mcs_file_sha256(in_folder("out/low_res.npy"), first));
    expect("-m model -i a.png --box 10,12,30,33 -o out2 --json", 0, "\"prompts\": 1");
    OK(mcs_file_sha256(in_folder("out2/low_res.npy"), second));
    cr_expect_str_eq(first, second);

    expect("-m model -i a.png --point 20,20,1 --point 50,40,0 --multimask -o multi", 0, "1 prompts");
    OK(mcs_npy_read(in_folder("multi/low_res.npy"), &low));
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
    struct sam_model m = sam_run_model();
    struct image img = sam_run_picture(60, 50), mask;
    mcs_sam_model_close(&m);
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "images/%c.png", 'a' + i);
        OK(mcs_image_write_png(in_folder(name), &img));
    }
    struct box_case cases[] = {{.image = "a.png", .width = 60, .height = 50, .n_components = 2, .components = two},
                               {.image = "b.png", .width = 60, .height = 50, .reason = "flat map"},
                               {.image = "c.png", .width = 60, .height = 50, .n_components = 1, .components = two}};
    struct box_list list = {.n = 2, .cases = cases};
    OK(mcs_boxes_write(in_folder("boxes.json"), &list));
    unlink(in_folder("images/c.png"));
    unlink(in_folder("images/d.png"));
    expect("-m model -i images --prompts-from boxes.json -o out", 0, "2 masks, 1 of them without prompts");
    OK(mcs_image_read(in_folder("out/b.png"), 0, &mask));
    for (int i = 0; i < 60 * 50; i++) cr_assert_eq(mask.pixels[i], 0);
    mcs_image_free(&mask);
    char *text;
    int64_t n;
    OK(mcs_file_read(in_folder("out/sam.json"), 1 << 20, &text, &n));
    cr_expect(strstr(text, "flat map"), "%s", text);
    free(text);
    cr_expect(!mcs_file_exists(in_folder("out/failures.csv")));

    /* c has another size than in boxes.json, d has no case, e no image, f is not an image: the others are done. */
    struct image small = sam_run_picture(20, 20);
    OK(mcs_image_write_png(in_folder("images/c.png"), &small));
    OK(mcs_image_write_png(in_folder("images/d.png"), &img));
    sam_run_write("images/f.png", "no picture");
    struct box_case more[5] = {cases[0], cases[1], cases[2], cases[0], cases[0]};
    more[3].image = "e.png";
    more[4].image = "f.png";
    list = (struct box_list){.n = 5, .cases = more};
    OK(mcs_boxes_write(in_folder("boxes.json"), &list));
    expect("-m model -i images --prompts-from boxes.json -o out --grow 2 --prompts both", 3, "failures.csv");
    OK(mcs_file_read(in_folder("out/failures.csv"), 1 << 20, &text, &n));
    for (const char *stem = "cdef"; *stem; stem++) {
        const char line[] = {'\n', *stem, ',', 0};
        cr_expect(strstr(text, line), "no failure of %c in:\n%s", *stem, text);
    }
    cr_expect(mcs_file_exists(in_folder("out/a.png")));
    free(text);
    expect("-m model -i images --prompts-from boxes.json -o out --box 1,2,3,4", 2, "one image");
    expect("-m model -i images --prompts-from none.json -o out", 66, "none.json");
    mcs_image_free(&img);
    mcs_image_free(&small);
}
