/* Automatic masks against SamAutomaticMaskGenerator (tests/golden/make_automask.py): whole images, crops, small
 * regions; its parts: suppression of boxes, run-length encoding; the verb automask. */
#include "data/image/picture.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/image/nms.h"
#include "infer/sam/automask.h"
#include "tests/golden/formula.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_sam_run.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static json_t *golden;

static void setup(void)
{
    sam_run_open();
    shell_open(MCS_BINARY, "--threads 1");
    OK(mcs_json_read(MCS_SOURCE_DIR "/tests/golden/automask.json", 1 << 24, 0, &golden));
}

static void teardown(void)
{
    json_decref(golden);
    shell_close();
    sam_run_close();
}
TestSuite(automask, .init = setup, .fini = teardown, .timeout = 120);

static double number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    cr_assert(json_is_number(v), "no number %s", key);
    return json_number_value(v);
}

static int integer(const json_t *list, size_t i)
{
    return (int)json_number_value(json_array_get(list, i));
}

static double option(const json_t *o, const char *key, double otherwise)
{
    return json_object_get(o, key) ? number(o, key) : otherwise;
}

/* make_automask.py's picture. */
static struct image picture(int h, int w)
{
    static const uint8_t color[4][3] = {{40, 40, 40}, {230, 60, 30}, {20, 90, 240}, {255, 255, 255}};
    struct image img;
    OK(mcs_image_alloc(&img, w, h, 3));
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            const int dy = y - h / 3, dx = x - w / 3;
            int k = dy * dy + dx * dx < (h / 6) * (h / 6);
            if (y >= h / 2 && y < h * 7 / 8 && x >= w * 5 / 9 && x < w * 7 / 8) k = 2;
            if (y >= h / 8 && y < h / 4 && x >= w * 3 / 4 && x < w * 5 / 6) k = 3;
            memcpy(img.pixels + 3 * (y * w + x), color[k], 3);
        }
    return img;
}

static int is_last_of(const char *name, const char *before, const char *after)
{
    return !strncmp(name, before, strlen(before)) && strstr(name, after);
}

/* The model of sam_run_model with make_automask.py's scales. */
static struct sam_model scaled_model(void)
{
    struct sam_model m = sam_run_model();
    for (int i = 0; i < m.params->n; i++) {
        const struct tensor *t = m.params->t[i];
        const int hyper = is_last_of(t->name, "mask_decoder.output_hypernetworks_mlps.", ".layers.2."),
                  iou = is_last_of(t->name, "mask_decoder.iou_prediction_head.", "layers.2.");
        for (int64_t k = 0; k < mcs_count(t); k++) {
            if (hyper) ((float *)t->data)[k] *= 40;
            if (iou && strstr(t->name, "weight")) ((float *)t->data)[k] *= 2;
            if (iou && strstr(t->name, "bias")) ((float *)t->data)[k] += 0.9f;
        }
    }
    return m;
}

/* The inverse of mcs_rle_string. */
static struct rle parse(const char *s, int width, int height)
{
    struct rle r = {width, height, 0, calloc(strlen(s) + 1, sizeof(uint32_t))};
    cr_assert(r.counts);
    while (*s) {
        int64_t v = 0;
        int shift = 0, c;
        do {
            c = *s++ - 48;
            v |= (int64_t)(c & 31) << shift;
            shift += 5;
        } while (c & 32);
        if (c & 16) v -= (int64_t)1 << shift;
        if (r.n > 2) v += r.counts[r.n - 2];
        r.counts[r.n++] = (uint32_t)v;
    }
    return r;
}

static double dice(const struct rle *a, const struct rle *b)
{
    const int64_t n = (int64_t)a->width * a->height;
    int64_t both = 0;
    uint8_t *x = malloc((size_t)n), *y = malloc((size_t)n);
    cr_assert(x && y && b->width == a->width && b->height == a->height);
    mcs_rle_decode(a, x);
    mcs_rle_decode(b, y);
    for (int64_t i = 0; i < n; i++) both += x[i] && y[i];
    free(x);
    free(y);
    return 2.0 * (double)both / (double)(mcs_rle_area(a) + mcs_rle_area(b));
}

/* A record of the reference. Logits are scaled by 40, so that single pixels lie within float32's rounding of 0. */
static void expect_mask(const char *what, const struct automask *got, const json_t *want, int width, int height)
{
    const json_t *segmentation = json_object_get(want, "segmentation"), *box = json_object_get(want, "bbox"),
                 *crop = json_object_get(want, "crop_box"),
                 *point = json_array_get(json_object_get(want, "point_coords"), 0);
    struct rle r = parse(json_string_value(json_object_get(segmentation, "counts")), width, height);
    const double same = dice(&got->rle, &r);
    cr_expect(same >= 0.9995, "%s: Dice %g", what, same);
    cr_expect_eq(mcs_rle_area(&r), (int64_t)number(want, "area"));
    cr_expect_eq(got->area, mcs_rle_area(&got->rle));
    for (size_t k = 0; k < 2; k++) {
        cr_expect_eq(got->box[k], integer(box, k), "%s: box", what);
        cr_expect_eq(got->box[k + 2] - got->box[k], integer(box, k + 2), "%s: box", what);
        cr_expect_eq(got->crop[k], integer(crop, k), "%s: crop", what);
        cr_expect_eq(got->crop[k + 2] - got->crop[k], integer(crop, k + 2), "%s: crop", what);
        cr_expect_float_eq(got->point[k], json_number_value(json_array_get(point, k)), 1e-9, "%s: point", what);
    }
    cr_expect_float_eq((double)got->iou, number(want, "predicted_iou"), 2e-5, "%s: iou", what);
    cr_expect_float_eq((double)got->stability, number(want, "stability_score"), 2e-3, "%s: stability", what);
    mcs_rle_free(&r);
}

static struct automask_options options_of(const json_t *o)
{
    const struct automask_options d = mcs_automask_defaults();
    return (struct automask_options){
        .points_per_side = (int)option(o, "points_per_side", d.points_per_side),
        .points_per_batch = (int)option(o, "points_per_batch", d.points_per_batch),
        .pred_iou_thresh = option(o, "pred_iou_thresh", d.pred_iou_thresh),
        .stability_thresh = option(o, "stability_score_thresh", d.stability_thresh),
        .stability_offset = option(o, "stability_score_offset", d.stability_offset),
        .box_nms_thresh = option(o, "box_nms_thresh", d.box_nms_thresh),
        .crop_n_layers = (int)option(o, "crop_n_layers", d.crop_n_layers),
        .crop_nms_thresh = option(o, "crop_nms_thresh", d.crop_nms_thresh),
        .crop_overlap_ratio = option(o, "crop_overlap_ratio", d.crop_overlap_ratio),
        .crop_points_downscale = (int)option(o, "crop_n_points_downscale_factor", d.crop_points_downscale),
        .min_region_area = (int64_t)option(o, "min_mask_region_area", (double)d.min_region_area)};
}

Test(automask, equals_the_reference)
{
    struct sam_model m = scaled_model();
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "cases"), i, c)
    {
        const int w = integer(json_object_get(c, "size"), 0), h = integer(json_object_get(c, "size"), 1);
        const json_t *masks = json_object_get(c, "masks");
        struct automask_options o = options_of(json_object_get(c, "options"));
        struct automask_list list;
        struct image img = picture(h, w);
        for (int way = 0; way < 2; way++, o.points_per_batch = 64) {
            OK(mcs_automask(&m, &o, &img, NULL, NULL, &list));
            cr_assert_eq((size_t)list.n, json_array_size(masks), "case %zu: %d masks, want %zu", i, list.n,
                         json_array_size(masks));
            cr_assert(list.n > 0);
            for (int k = 0; k < list.n; k++) {
                char what[64];
                snprintf(what, sizeof what, "case %zu, mask %d", i, k);
                expect_mask(what, &list.v[k], json_array_get(masks, (size_t)k), w, h);
            }
            mcs_automask_free(&list);
        }
        mcs_image_free(&img);
    }
    mcs_sam_model_close(&m);
}

Test(automask, crops)
{
    static int got[1 + 4 + 16 + 64 + 256][4], layer[1 + 4 + 16 + 64 + 256];
    size_t i, k;
    json_t *c, *box;
    json_array_foreach(json_object_get(golden, "crops"), i, c)
    {
        struct automask_options o = mcs_automask_defaults();
        o.crop_n_layers = (int)number(c, "layers");
        o.crop_overlap_ratio = number(c, "ratio");
        const int n = mcs_automask_crops(&o, integer(json_object_get(c, "size"), 0),
                                         integer(json_object_get(c, "size"), 1), got, layer);
        cr_assert_eq((size_t)n, json_array_size(json_object_get(c, "crops")));
        json_array_foreach(json_object_get(c, "crops"), k, box) for (size_t j = 0; j < 4; j++)
            cr_expect_eq(got[k][j], integer(box, j), "%zu: crop %zu", i, k);
        cr_expect(layer[0] == 0 && layer[1] == 1 && layer[n - 1] == o.crop_n_layers);
    }
}

Test(automask, suppression_is_torchvisions)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "nms"), i, c)
    {
        enum { MOST = 200 };
        int boxes[MOST][4], keep[MOST], n_keep, u[4];
        float scores[MOST];
        char name[32];
        const int n = (int)number(c, "n");
        const json_t *want = json_object_get(c, "keep");
        snprintf(name, sizeof name, "nms.%d", n);
        const uint64_t hash = mcs_golden_hash(name);
        snprintf(name, sizeof name, "nms.scores.%d", n);
        const uint64_t score_hash = mcs_golden_hash(name);
        for (int b = 0; b < n; b++) {
            for (int k = 0; k < 4; k++) u[k] = (int)(50 * (mcs_golden_uniform(hash, (uint64_t)(4 * b + k)) + 1));
            memcpy(boxes[b], (int[]){u[0], u[1], u[0] + u[2] / 2, u[1] + u[3] / 2}, sizeof boxes[b]);
            scores[b] = (float)nearbyint(4 * mcs_golden_uniform(score_hash, (uint64_t)b));
        }
        OK(mcs_nms((const int(*)[4])boxes, scores, n, number(c, "threshold"), keep, &n_keep));
        cr_assert_eq((size_t)n_keep, json_array_size(want));
        for (int k = 0; k < n_keep; k++) cr_expect_eq(keep[k], integer(want, (size_t)k));
    }
}

static void expect_counts(const struct rle *r, const json_t *want)
{
    cr_assert_eq((size_t)r->n, json_array_size(want), "%d runs, want %zu", r->n, json_array_size(want));
    for (int k = 0; k < r->n; k++) cr_expect_eq((int)r->counts[k], integer(want, (size_t)k), "run %d", k);
}

Test(automask, regions_and_runs)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden, "regions"), i, c)
    {
        const int w = integer(json_object_get(c, "size"), 0), h = integer(json_object_get(c, "size"), 1);
        uint8_t mask[40 * 50], back[40 * 50];
        char name[32], *text;
        int changed;
        struct rle r;
        snprintf(name, sizeof name, "region.%s", json_string_value(json_object_get(c, "name")));
        const uint64_t hash = mcs_golden_hash(name);
        for (int k = 0; k < w * h; k++)
            mask[k] = (uint8_t)(128 * (mcs_golden_uniform(hash, (uint64_t)k) + 1)) >= number(c, "level") ? 1 : 0;
        OK(mcs_rle_encode(mask, w, h, &r));
        expect_counts(&r, json_object_get(c, "counts"));
        cr_assert((text = mcs_rle_string(&r)));
        cr_expect_str_eq(text, json_string_value(json_object_get(c, "string")));
        struct rle parsed = parse(text, w, h);
        expect_counts(&parsed, json_object_get(c, "counts"));
        mcs_rle_decode(&r, back);
        cr_expect_arr_eq(back, mask, (size_t)(w * h));
        free(text);
        mcs_rle_free(&parsed);
        mcs_rle_free(&r);
        OK(mcs_automask_clean(mask, w, h, (int64_t)number(c, "area"), &changed));
        cr_expect_eq(changed, json_is_true(json_object_get(c, "changed")));
        OK(mcs_rle_encode(mask, w, h, &r));
        expect_counts(&r, json_object_get(c, "cleaned"));
        mcs_rle_free(&r);
    }
}

Test(automask, labels_show_the_smaller_of_two_masks)
{
    const uint8_t large[6] = {1, 1, 1, 1, 0, 0}, small[6] = {0, 1, 0, 0, 0, 1};
    struct automask v[2] = {{.area = 2}, {.area = 4}};
    struct automask_list list = {2, v};
    uint16_t labels[6];
    OK(mcs_rle_encode(small, 3, 2, &v[0].rle));
    OK(mcs_rle_encode(large, 3, 2, &v[1].rle));
    OK(mcs_automask_labels(&list, 3, 2, labels));
    cr_expect_arr_eq(labels, ((uint16_t[]){2, 1, 2, 2, 0, 1}), sizeof labels);
    list.n = 65536;
    cr_expect_eq(mcs_automask_labels(&list, 3, 2, labels), MCS_E_USAGE);
    mcs_error_clear();
    for (int i = 0; i < 2; i++) mcs_rle_free(&v[i].rle);
}

Test(automask, options_out_of_range)
{
    struct sam_model m = scaled_model();
    struct image img = picture(30, 40);
    struct automask_list list;
    const struct sam_embeddings e = {.save = "e"};
    for (int way = 0; way < 8; way++) {
        struct automask_options o = mcs_automask_defaults();
        if (way == 0) o.points_per_side = 0;
        if (way == 1) o.points_per_batch = 0;
        if (way == 2) o.crop_n_layers = 5;
        if (way == 3) o.stability_offset = 0;
        if (way == 4) o.stability_offset = NAN;
        if (way == 5) o.crop_overlap_ratio = 1;
        if (way == 6) o.points_per_side = 3, o.crop_n_layers = 1, o.crop_points_downscale = 4;
        if (way == 7) o.crop_n_layers = 1;
        cr_expect_eq(mcs_automask(&m, &o, &img, way == 7 ? &e : NULL, "a", &list), MCS_E_USAGE, "way %d", way);
        cr_expect_eq(list.n, 0);
        mcs_error_clear();
    }
    mcs_image_free(&img);
    mcs_sam_model_close(&m);
}

/* ---- the verb ---- */

/* The records of STEM.json are those of the library, and the label map has 16 bits. */
Test(automask, verb)
{
    struct sam_model m = scaled_model();
    struct image img = picture(60, 80);
    struct picture map;
    struct automask_options o = mcs_automask_defaults();
    struct automask_list list;
    OK(mcs_sam_model_save(&m, shell_path("m"), 0, NULL));
    OK(mcs_folder_make(shell_path("img")));
    OK(mcs_image_write_png(shell_path("img/a.png"), &img));
    o.points_per_side = 2, o.pred_iou_thresh = 0.1, o.stability_thresh = 0.1, o.box_nms_thresh = 1;
    OK(mcs_automask(&m, &o, &img, NULL, NULL, &list));
    cr_assert(list.n > 3);
#define OPTIONS "--points-per-side 2 --pred-iou-thresh 0.1 --stability-score-thresh 0.1 --box-nms-thresh 1 "
    shell_write("img/b.png", "no PNG");
    expect("mcsam automask -m m -i img -o out " OPTIONS "; echo code $?; cat out/failures.csv; ls out", 0, "code 3");
    cr_expect(strstr(shell_output, "\nb,") && strstr(shell_output, "a.json") && strstr(shell_output, "automask.json"),
              "%s", shell_output);
    json_t *records = json_load_file(shell_path("out/a.json"), 0, NULL);
    cr_assert_eq(json_array_size(records), (size_t)list.n);
    for (int i = 0; i < list.n; i++) {
        const json_t *r = json_array_get(records, (size_t)i);
        char *text = mcs_rle_string(&list.v[i].rle);
        cr_expect_str_eq(json_string_value(json_object_get(json_object_get(r, "segmentation"), "counts")), text);
        cr_expect_eq((int64_t)number(r, "area"), list.v[i].area);
        cr_expect_eq((float)number(r, "predicted_iou"), list.v[i].iou);
        cr_expect_eq((float)number(r, "stability_score"), list.v[i].stability);
        cr_expect_eq(integer(json_object_get(r, "bbox"), 3), list.v[i].box[3] - list.v[i].box[1]);
        free(text);
    }
    json_decref(records);
    OK(mcs_picture_read(shell_path("out/a.png"), NULL, &map));
    cr_assert(map.type == MCS_PICTURE_U16 && mcs_picture_count(&map) == 60 * 80);
    for (int i = 0; i < 60 * 80; i++) cr_assert_leq(mcs_picture_value(&map, i), list.n);
    mcs_picture_free(&map);
    expect("mcsam automask -m m -i img/a.png -o two --rle uncompressed " OPTIONS " --save-embeddings e && ls e", 0,
           "a.safetensors");
    expect("cmp out/a.png two/a.png && mcsam automask -m m -i img/a.png -o three --embeddings e " OPTIONS
           " && cmp out/a.json three/a.json",
           0, "1 images");
    expect("mcsam automask -m m -i img/a.png -o three --embeddings e " OPTIONS, 0, "finished already");
    records = json_load_file(shell_path("two/a.json"), 0, NULL);
    expect_counts(&list.v[0].rle,
                  json_object_get(json_object_get(json_array_get(records, 0), "segmentation"), "counts"));
    json_decref(records);
    expect("mcsam automask -m m -i img/a.png -o x --embeddings e --save-embeddings e", 2, "want one of");
    expect("mcsam automask -m m -i img/a.png -o x --embeddings e --crop-n-layers 1", 2, "whole images");
    expect("mcsam automask -m m -i img/a.png -o x --embeddings none", 66, "no such folder");
    expect("mcsam automask -m m -i none.png -o x", 66, "none.png: no such image or folder");
    expect("cp img/a.png c.png; mcsam automask -m m -i c.png -o x --embeddings e", 65, "no embedding of this image");
    expect("mcsam automask -m m -i img/a.png -o x --points-per-side 0", 2, "points-per-side");
    expect("mcsam automask -m m -i img/a.png -o x --stability-score-thresh nan", 2, "stability-score-thresh");
    expect("mcsam automask -m m -i img/a.png -o x --dry-run", 0, "a grid of 32 x 32 points");
    mcs_automask_free(&list);
    mcs_image_free(&img);
    mcs_sam_model_close(&m);
}
