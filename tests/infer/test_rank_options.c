/* Selection of components by given scores: `both`, ties, merged boxes, the least confidence, and the words of the
 * options
 * --threshold and --rank. Rank by text: test_rank.c. */
#include "data/image/image.h"
#include "data/io/store.h"
#include "infer/coarse/boxes.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_rank.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1 --quiet");
}
TestSuite(rank, .init = setup, .fini = shell_close, .timeout = 120);

/* ---- both, and ties ---- */

struct given_scores {
    float v[RANK_COMPONENTS];
};

static enum mcs_status give(void *context, const char *stem, const struct component_list *list, const int32_t *labels,
                            int width, int height, float *scores)
{
    const struct given_scores *g = context;
    for (int i = 0; i < list->n; i++) scores[i] = g->v[list->items[i].label - 1];
    return MCS_OK;
}

/* text + 2 confidence is greatest for the second component; text alone, text + confidence and text - 2 confidence for
 * the third, confidence alone and text + 3 confidence for the first. */
Test(rank, both_is_text_and_twice_the_confidence)
{
    float map[RANK_PIXELS];
    uint8_t mask[RANK_PIXELS];
    struct given_scores given = {{0, 0.55f, 0.8f}};
    const struct coarse_text_scorer scorer = {give, &given};
    struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    rank_make_map((float[]){0.9f, 0.7f, 0.55f}, map);
    const enum mcs_coarse_rank ranks[] = {MCS_COARSE_CONFIDENCE, MCS_COARSE_BOTH, MCS_COARSE_TEXT};
    for (int k = 0; k < 3; k++) {
        o.rank = ranks[k];
        struct coarse_result r = rank_coarse(map, &o, &scorer, mask);
        cr_assert_eq(r.components.n, 1);
        cr_expect_eq(r.components.items[0].label, k + 1);
        mcs_coarse_free(&r);
    }
}

static int best(const float *scores, const int *areas, int n)
{
    struct component_list list = {n, calloc((size_t)n, sizeof(struct component))};
    cr_assert(list.items);
    for (int i = 0; i < n; i++) list.items[i] = (struct component){.label = i + 1, .area = areas[i]};
    OK(mcs_components_keep_score(&list, scores, 1));
    cr_assert_eq(list.n, 1);
    const int label = list.items[0].label;
    mcs_components_free(&list);
    return label;
}

Test(rank, equal_scores_go_by_area_then_by_place)
{
    const float equal[] = {0.5f, 0.5f, 0.5f}, last[] = {0.1f, 0.5f, 0.6f};
    cr_expect_eq(best(equal, (const int[]){9, 4, 2}, 3), 1, "the largest comes first");
    cr_expect_eq(best(equal, (const int[]){4, 9, 2}, 3), 2, "the largest is in the middle");
    cr_expect_eq(best(equal, (const int[]){4, 2, 9}, 3), 3, "the largest comes last");
    cr_expect_eq(best(equal, (const int[]){4, 4, 4}, 3), 1, "all alike: the first in raster order");
    cr_expect_eq(best(equal, (const int[]){2, 4, 4}, 3), 2);
    cr_expect_eq(best(last, (const int[]){9, 9, 1}, 3), 3, "area decides only between equal scores");
    /* three of one mean saliency: 64, 60 and 63 pixels */
    float map[RANK_PIXELS];
    uint8_t mask[RANK_PIXELS];
    const struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    rank_make_map((float[]){0.75f, 0.75f, 0.75f}, map);
    struct coarse_result r = rank_coarse(map, &o, NULL, mask);
    cr_expect(r.components.n == 1 && r.components.items[0].area == 64);
    mcs_coarse_free(&r);
    for (int y = 4; y <= 11; y++) map[y * RANK_WIDTH + 5] = 0; /* 56, 60 and 63 */
    r = rank_coarse(map, &o, NULL, mask);
    cr_expect(r.components.n == 1 && r.components.items[0].area == 63);
    mcs_coarse_free(&r);
}

/* One box around all: its area is their sum, its confidence the mean over their pixels. */
Test(rank, a_merged_box_weighs_confidence_by_area)
{
    static const float confidence[RANK_COMPONENTS] = {0.6f, 0.9f, 0.7f};
    static const int area[RANK_COMPONENTS] = {64, 60, 63};
    float map[RANK_PIXELS];
    uint8_t mask[RANK_PIXELS];
    double sum = 0;
    struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    o.keep = 0, o.merge_boxes = 1;
    rank_make_map(confidence, map);
    struct coarse_result r = rank_coarse(map, &o, NULL, mask);
    cr_assert(r.components.n == RANK_COMPONENTS && r.n_boxes == 1);
    for (int k = 0; k < RANK_COMPONENTS; k++) sum += (double)confidence[k] * area[k];
    cr_expect_eq(r.boxes->area, 187);
    cr_expect_float_eq(r.boxes->confidence, sum / 187, 1e-6);
    cr_expect(r.boxes->x0 == 5 && r.boxes->y0 == 4 && r.boxes->x1 == 39 && r.boxes->y1 == 33);
    mcs_coarse_free(&r);
}

/* ---- defaults and words ---- */

/* The paper's form drops components with a mean saliency below 0.5, the released form none. */
Test(rank, least_confidence_by_form)
{
    float map[RANK_PIXELS];
    uint8_t mask[RANK_PIXELS];
    rank_make_map((float[]){0.49f, 0.3f, 0.2f}, map);
    struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    o.keep = 0;
    struct coarse_result r = rank_coarse(map, &o, NULL, mask);
    cr_expect(r.state == MCS_MASK_FILTERED && r.components.n == 0);
    mcs_coarse_free(&r);
    rank_make_map((float[]){0.51f, 0.49f, 0.49f}, map);
    r = rank_coarse(map, &o, NULL, mask);
    cr_expect(r.n_found == 3 && r.components.n == 1 && r.components.items[0].label == 1);
    mcs_coarse_free(&r);
    rank_make_map((float[]){0.2f, 0.2f, 0.2f}, map);
    o = mcs_coarse_defaults(MCS_RELEASE);
    o.keep = 0;
    r = rank_coarse(map, &o, NULL, mask);
    cr_expect_eq(r.components.n, 3);
    mcs_coarse_free(&r);
}

static void same_mask(const char *name, const uint8_t *want)
{
    struct image img;
    OK(mcs_image_read(shell_path(name), 0, &img));
    cr_assert(img.width == RANK_WIDTH && img.height == RANK_HEIGHT);
    int wrong = 0;
    for (int i = 0; i < RANK_PIXELS; i++) wrong += (img.pixels[i] != 0) != want[i];
    cr_expect_eq(wrong, 0, "%s: %d pixels", name, wrong);
    mcs_image_free(&img);
}

/* --threshold otsu, kmeans and a number give the masks of those functions; on this map they all differ. */
Test(rank, thresholds_by_word)
{
    float map[RANK_PIXELS], cut;
    uint8_t want[3][RANK_PIXELS];
    enum mcs_mask_state state;
    struct store *s;
    for (int i = 0; i < RANK_PIXELS; i++) /* many dark pixels, a long tail */
        map[i] = powf((float)((i * 37) % RANK_PIXELS) / (float)RANK_PIXELS, 6);
    OK(mcs_threshold_otsu(map, RANK_PIXELS, want[0], &cut, &state));
    OK(mcs_threshold_kmeans(map, RANK_PIXELS, want[1], &cut, &state));
    OK(mcs_threshold_fixed(map, RANK_PIXELS, 0.81f, want[2], &state));
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < a; b++)
            cr_assert(memcmp(want[a], want[b], RANK_PIXELS) != 0, "%d and %d are one mask", a, b);
    expect("mkdir maps", 0, "");
    OK(mcs_store_create(shell_path("maps/a.h5"), &s));
    OK(mcs_store_put(s, "saliency", MCS_ARRAY_F32, 2, (const int64_t[]){RANK_HEIGHT, RANK_WIDTH}, map));
    OK(mcs_store_commit(s));
    expect("for t in otsu kmeans 0.81; do mcsam coarse -i maps -o $t --threshold $t --keep 0 --min-confidence 0 || "
           "exit 1; "
           "done; grep -h made_by -A 12 otsu/boxes.json kmeans/boxes.json 0.81/boxes.json",
           0, "\"kmeans\"");
    same_mask("otsu/a.png", want[0]);
    same_mask("kmeans/a.png", want[1]);
    same_mask("0.81/a.png", want[2]);
    expect("mcsam coarse -i maps -o def --keep 0 --min-confidence 0", 0, ""); /* the paper's default is otsu */
    same_mask("def/a.png", want[0]);
}

/* The case of boxes.json that a verb wrote against the result of mcs_coarse_mask with the same options. */
static void same_boxes(const char *options, const struct box_case *got, const struct coarse_result *want)
{
    cr_assert_eq(got->n_components, want->n_boxes, "%s: %d boxes, want %d", options, got->n_components, want->n_boxes);
    for (int k = 0; k < want->n_boxes; k++) {
        const struct box_component *a = &got->components[k], *b = &want->boxes[k];
        cr_expect(a->x0 == b->x0 && a->y0 == b->y0 && a->x1 == b->x1 && a->y1 == b->y1 && a->area == b->area,
                  "%s: box %d", options, k);
        cr_assert_eq(a->n_points, b->n_points, "%s: %d points, want %d", options, a->n_points, b->n_points);
        for (int i = 0; i < b->n_points; i++)
            cr_expect(a->points[i].x == b->points[i].x && a->points[i].y == b->points[i].y &&
                          a->points[i].label == b->points[i].label,
                      "%s: point %d", options, i);
    }
}

/* Each option of the verb coarse is that of mcs_coarse_mask, in both forms. */
Test(rank, options_of_the_verb)
{
    float map[RANK_PIXELS];
    uint8_t mask[RANK_PIXELS];
    struct store *s;
    struct row {
        const char *words;
        struct coarse_options o;
    } rows[10];
    const struct coarse_options paper = mcs_coarse_defaults(MCS_PAPER), release = mcs_coarse_defaults(MCS_RELEASE);
    int n = 0;
    rows[n] = (struct row){"", paper};
    rows[n].o.seed = 1, n++; /* the default of --seed */
    rows[n] = rows[0], rows[n].words = "--keep 0", rows[n++].o.keep = 0;
    rows[n] = rows[0], rows[n].words = "--keep 0 --min-area 62", rows[n].o.keep = 0, rows[n++].o.min_area = 62;
    rows[n] = rows[0], rows[n].words = "--min-confidence 0.95", rows[n++].o.min_confidence = 0.95f;
    rows[n] = rows[0], rows[n].words = "--rank area", rows[n++].o.rank = MCS_COARSE_AREA;
    rows[n] = rows[0], rows[n].words = "--grow -2", rows[n++].o.grow_px = -2;
    rows[n] = rows[0], rows[n].words = "--keep 0 --boxes merged", rows[n].o.keep = 0, rows[n++].o.merge_boxes = 1;
    rows[n] = rows[0], rows[n].words = "--points 4 --negative-points 3", rows[n].o.n_points = 4,
    rows[n++].o.n_negative = 3;
    rows[n] = rows[0], rows[n].words = "--seed 8", rows[n++].o.seed = 8;
    rows[n] = (struct row){"--form release --keep 0 --boxes each", release};
    rows[n].o.seed = 1, rows[n].o.keep = 0, rows[n++].o.merge_boxes = 0;
    rank_make_map((float[]){0.8f, 0.9f, 0.7f}, map);
    expect("mkdir maps", 0, "");
    OK(mcs_store_create(shell_path("maps/a.h5"), &s));
    OK(mcs_store_put(s, "saliency", MCS_ARRAY_F32, 2, (const int64_t[]){RANK_HEIGHT, RANK_WIDTH}, map));
    OK(mcs_store_commit(s));
    for (int i = 0; i < n; i++) {
        char line[256];
        struct box_list list;
        snprintf(line, sizeof line, "mcsam coarse -i maps %s -o out%d", rows[i].words, i);
        expect(line, 0, "1 masks");
        snprintf(line, sizeof line, "out%d/boxes.json", i);
        OK(mcs_boxes_read(shell_path(line), &list));
        struct coarse_result r = rank_coarse(map, &rows[i].o, NULL, mask);
        same_boxes(rows[i].words, &list.cases[0], &r);
        snprintf(line, sizeof line, "out%d/a.png", i);
        same_mask(line, mask);
        mcs_coarse_free(&r);
        mcs_boxes_free(&list);
        if (!i) continue;
        snprintf(line, sizeof line,
                 "grep -v made_by out0/boxes.json > x; grep -v made_by out%d/boxes.json | cmp -s - x", i);
        cr_expect_neq(shell(line), 0, "%s changes nothing", rows[i].words);
    }
}
