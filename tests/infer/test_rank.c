/* Selection of components: rank by text on models whose text embedding is aimed at one known component, `both`, ties,
 * and the words of the options --threshold and --rank. */
#include "data/image/image.h"
#include "data/io/store.h"
#include "engine/base/rng.h"
#include "infer/coarse/boxes.h"
#include "infer/segment.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 48, HEIGHT = 40, PIXELS = WIDTH * HEIGHT, N = 3, EMBED = 8 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* Three components, of 8 x 8, 10 x 6 and 7 x 9 pixels, in raster order of their first pixels. */
static const int boxes[N][4] = {{5, 4, 12, 11}, {30, 6, 39, 11}, {18, 25, 24, 33}};

static int component_at(int x, int y)
{
    for (int k = 0; k < N; k++)
        if (x >= boxes[k][0] && x <= boxes[k][2] && y >= boxes[k][1] && y <= boxes[k][3]) return k + 1;
    return 0;
}

/* Noise in blocks of 3 x 3 pixels, so that blurring any region changes the model's input. In colour the channels
 * differ.
 */
static struct image picture(int channels)
{
    const struct mcs_rng r = {.seed = 5, .site = mcs_rng_site("tests.rank")};
    struct image img;
    OK(mcs_image_alloc(&img, WIDTH, HEIGHT, channels));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int k = 0; k < channels; k++)
                img.pixels[(y * WIDTH + x) * channels + k] =
                    (uint8_t)mcs_rng_below(r, (uint32_t)((y / 3 * WIDTH + x / 3) * 3 + k), 256);
    return img;
}

/* mask value of each component: all three above 0.5, the rest 0. */
static void make_map(const float confidence[N], float *map)
{
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            const int c = component_at(x, y);
            map[y * WIDTH + x] = c ? confidence[c - 1] : 0;
        }
}

/* ---- the definition, by brute force ---- */

/* Gaussian of sigma 3/32 of the longer side, cut at 3 sigma, edges repeated: both axes at once, in float64. */
static double blurred_at(const struct image *img, int x, int y, int channel)
{
    const double sigma = 3.0 / 32 * (img->width > img->height ? img->width : img->height);
    const int radius = (int)ceil(3 * sigma);
    double sum = 0, weight = 0;
    for (int dy = -radius; dy <= radius; dy++)
        for (int dx = -radius; dx <= radius; dx++) {
            const int u = x + dx < 0             ? 0
                          : x + dx >= img->width ? img->width - 1
                                                 : x + dx,
                      v = y + dy < 0              ? 0
                          : y + dy >= img->height ? img->height - 1
                                                  : y + dy;
            const double w = exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma));
            weight += w;
            sum += w * img->pixels[(v * img->width + u) * img->channels + channel];
        }
    return sum / weight;
}

static int near_component(int x, int y, int k)
{
    for (int v = boxes[k][1]; v <= boxes[k][3]; v++)
        for (int u = boxes[k][0]; u <= boxes[k][2]; u++)
            if ((u - x) * (u - x) + (v - y) * (v - y) <= 9) return 1;
    return 0;
}

/* The image with everything outside component k, grown by 3 pixels, blurred. */
static struct image alone(const struct image *img, int k)
{
    struct image dst;
    OK(mcs_image_alloc(&dst, img->width, img->height, img->channels));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < img->channels; c++) {
                const int at = (y * WIDTH + x) * img->channels + c;
                dst.pixels[at] = near_component(x, y, k) ? img->pixels[at] : (uint8_t)lrint(blurred_at(img, x, y, c));
            }
    return dst;
}

/* ---- the model ---- */

static struct device device;
static struct clip_model model;
static float alone_embedding[N][EMBED]; /* embedding of alone(img, k) */

static void embed_alone(const struct image *img, enum clip_view view)
{
    float *prepared = malloc((size_t)3 * 32 * 32 * sizeof *prepared);
    cr_assert(prepared);
    for (int k = 0; k < N; k++) {
        struct image one = alone(img, k);
        OK(mcs_clip_prepare(&model.config, &one, view, prepared));
        OK(mcs_clip_embed_images(&model, prepared, 1, 1, alone_embedding[k]));
        mcs_image_free(&one);
    }
    free(prepared);
}

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (int i = 0; i < EMBED; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Sets the text tower's last projection to an outer product with `direction`, so that every text has this direction or
 * its opposite, in which case the sign is flipped. With component k's embedding minus the others' as direction,
 * component k has the greatest cosine. */
static void aim_text_at(int k)
{
    const struct tensor *w = mcs_params_find(model.params, "text.proj.2.weight"); /* (embed, t_proj) */
    const char *text = "lesion";
    float got[EMBED], direction[EMBED];
    for (int i = 0; i < EMBED; i++)
        direction[i] = 2 * alone_embedding[k][i] - alone_embedding[(k + 1) % N][i] - alone_embedding[(k + 2) % N][i];
    float *values = w->data;
    for (int turned = 0; turned < 2; turned++) {
        for (int i = 0; i < EMBED; i++)
            for (int j = 0; j < w->dim[1]; j++) values[i * w->dim[1] + j] = turned ? -direction[i] : direction[i];
        OK(mcs_clip_embed_texts(&model, &text, 1, 1, got));
        if (dot(got, direction) > 0) break;
    }
    for (int i = 0; i < N; i++)
        cr_assert(i == k || dot(got, alone_embedding[k]) > dot(got, alone_embedding[i]) + 1e-3,
                  "this model does not tell component %d from %d", k, i);
}

static void setup(void)
{
    struct clip_config c = tiny_clip_config();
    shell_open(MCS_BINARY, "--threads 1 --quiet");
    c.image_size = 32, c.v_width = 32, c.v_depth = 3;
    OK(mcs_cpu_open(1, &device));
    OK(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 3, &device, NULL, &model));
    for (int i = 0; i < model.params->n; i++) { /* larger than initial weights, so that attention and MLPs matter */
        const struct tensor *t = model.params->t[i];
        float *v = t->data;
        const struct mcs_rng r = {.seed = 9, .site = mcs_rng_site(t->name)};
        if (t->nd < 2) continue;
        mcs_rng_fill_normal(r, v, mcs_count(t));
        for (int64_t k = 0; k < mcs_count(t); k++) v[k] *= sqrtf((float)t->dim[0] / (float)mcs_count(t));
    }
}

static void teardown(void)
{
    mcs_clip_model_close(&model);
    mcs_cpu_close(&device);
    shell_close();
}
TestSuite(rank, .init = setup, .fini = teardown, .timeout = 120);

static struct coarse_result kept(const float *map, const struct coarse_options *o, const struct coarse_text_scorer *s,
                                 uint8_t *mask)
{
    struct coarse_result r;
    OK(mcs_coarse_mask(support_cpu_scratch(), &(struct map2){WIDTH, HEIGHT, (float *)(uintptr_t)map}, "a", o, s, NULL,
                       mask, &r));
    return r;
}

/* The score is the cosine of the prompt and the brute-force image, and the component that the text is aimed at is kept,
 * in grey and colour, whole and cropped. Rounding: 1e-5 of a cosine, and one grey level for blurred values halfway
 * between two. */
Test(rank, the_component_of_the_text_is_kept)
{
    float map[PIXELS];
    int32_t labels[PIXELS];
    uint8_t mask[PIXELS];
    make_map((float[]){0.8f, 0.9f, 0.7f}, map);
    for (int i = 0; i < PIXELS; i++) labels[i] = component_at(i % WIDTH, i / WIDTH);
    for (int channels = 1; channels <= 3; channels += 2) {
        const enum clip_view view = channels == 1 ? CLIP_VIEW_WHOLE : CLIP_VIEW_CROP;
        struct image img = picture(channels);
        embed_alone(&img, view);
        for (int k = 0; k < N; k++) {
            aim_text_at(k);
            struct text_rank rank = {&model, &img, "lesion", view};
            const struct coarse_text_scorer scorer = {mcs_text_rank_score, &rank};
            struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
            o.rank = MCS_COARSE_TEXT;
            struct coarse_result r = kept(map, &o, &scorer, mask);
            cr_assert(r.n_found == N && r.components.n == 1);
            cr_expect(r.components.items[0].x0 == boxes[k][0] && r.components.items[0].y0 == boxes[k][1],
                      "%d channels: component %d was meant, the one at %d, %d stayed", channels, k,
                      r.components.items[0].x0, r.components.items[0].y0);
            mcs_coarse_free(&r);

            struct component items[N] = {{.label = 1}, {.label = 2}, {.label = 3}};
            const struct component_list all = {N, items};
            float scores[N], text[EMBED];
            OK(mcs_text_rank_score(&rank, "a", &all, labels, WIDTH, HEIGHT, scores));
            OK(mcs_clip_embed_texts(&model, &rank.text, 1, 1, text));
            for (int i = 0; i < N; i++)
                cr_expect_float_eq(scores[i], dot(text, alone_embedding[i]), 1e-4, "score %d of %d", i, k);
        }
        mcs_image_free(&img);
    }
}

/* The same from the verb, with one model per component. */
Test(rank, the_verb_asks_the_model)
{
    float map[PIXELS];
    struct image img = picture(1);
    struct store *s;
    make_map((float[]){0.8f, 0.9f, 0.7f}, map);
    expect("mkdir maps img", 0, "");
    OK(mcs_store_create(shell_path("maps/a.h5"), &s));
    OK(mcs_store_put(s, "saliency", MCS_ARRAY_F32, 2, (const int64_t[]){HEIGHT, WIDTH}, map));
    OK(mcs_store_commit(s));
    OK(mcs_image_write_png(shell_path("img/a.png"), &img));
    embed_alone(&img, CLIP_VIEW_WHOLE);
    for (int k = 0; k < N; k++) {
        struct box_list list;
        aim_text_at(k);
        OK(mcs_clip_model_save(&model, shell_path("clip"), 0));
        expect("mcsam coarse -i maps -o out --rank text -m clip --images img --text lesion", 0, "1 masks");
        OK(mcs_boxes_read(shell_path("out/boxes.json"), &list));
        cr_assert(list.n == 1 && list.cases[0].n_components == 1);
        cr_expect(list.cases[0].components[0].x0 == boxes[k][0], "component %d was meant", k);
        cr_expect(strstr(list.made_by, "\"rank\":\"text\""), "%s", list.made_by);
        mcs_boxes_free(&list);
        expect("mcsam coarse -i maps -o two --rank text --keep 2 -m clip --images img --text lesion", 0, "1 masks");
        OK(mcs_boxes_read(shell_path("two/boxes.json"), &list));
        cr_expect_eq(list.cases[0].n_components, 2);
        cr_expect(list.cases[0].components[0].x0 == boxes[k][0] || list.cases[0].components[1].x0 == boxes[k][0]);
        mcs_boxes_free(&list);
    }
    expect("mcsam coarse -i maps -o both --rank both -m clip --images img --text lesion && cat both/boxes.json", 0,
           "\"rank\": \"both\"");
    mcs_image_free(&img);
}

/* ---- both, and ties ---- */

struct given_scores {
    float v[N];
};

static enum mcs_status give(void *context, const char *stem, const struct component_list *list, const int32_t *labels,
                            int width, int height, float *scores)
{
    const struct given_scores *g = context;
    (void)stem, (void)labels, (void)width, (void)height;
    for (int i = 0; i < list->n; i++) scores[i] = g->v[list->items[i].label - 1];
    return MCS_OK;
}

/* text + 2 confidence is greatest for the second component; text alone, text + confidence and text - 2 confidence for
 * the third, confidence alone and text + 3 confidence for the first. */
Test(rank, both_is_text_and_twice_the_confidence)
{
    float map[PIXELS];
    uint8_t mask[PIXELS];
    struct given_scores given = {{0, 0.55f, 0.8f}};
    const struct coarse_text_scorer scorer = {give, &given};
    struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    make_map((float[]){0.9f, 0.7f, 0.55f}, map);
    const enum mcs_coarse_rank ranks[] = {MCS_COARSE_CONFIDENCE, MCS_COARSE_BOTH, MCS_COARSE_TEXT};
    for (int k = 0; k < 3; k++) {
        o.rank = ranks[k];
        struct coarse_result r = kept(map, &o, &scorer, mask);
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
    float map[PIXELS];
    uint8_t mask[PIXELS];
    const struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    make_map((float[]){0.75f, 0.75f, 0.75f}, map);
    struct coarse_result r = kept(map, &o, NULL, mask);
    cr_expect(r.components.n == 1 && r.components.items[0].area == 64);
    mcs_coarse_free(&r);
    for (int y = 4; y <= 11; y++) map[y * WIDTH + 5] = 0; /* 56, 60 and 63 */
    r = kept(map, &o, NULL, mask);
    cr_expect(r.components.n == 1 && r.components.items[0].area == 63);
    mcs_coarse_free(&r);
}

/* One box around all: its area is their sum, its confidence the mean over their pixels. */
Test(rank, a_merged_box_weighs_confidence_by_area)
{
    static const float confidence[N] = {0.6f, 0.9f, 0.7f};
    static const int area[N] = {64, 60, 63};
    float map[PIXELS];
    uint8_t mask[PIXELS];
    double sum = 0;
    struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    o.keep = 0, o.merge_boxes = 1;
    make_map(confidence, map);
    struct coarse_result r = kept(map, &o, NULL, mask);
    cr_assert(r.components.n == N && r.n_boxes == 1);
    for (int k = 0; k < N; k++) sum += (double)confidence[k] * area[k];
    cr_expect_eq(r.boxes->area, 187);
    cr_expect_float_eq(r.boxes->confidence, sum / 187, 1e-6);
    cr_expect(r.boxes->x0 == 5 && r.boxes->y0 == 4 && r.boxes->x1 == 39 && r.boxes->y1 == 33);
    mcs_coarse_free(&r);
}

/* ---- defaults and words ---- */

/* The paper's form drops components with a mean saliency below 0.5, the released form none. */
Test(rank, least_confidence_by_form)
{
    float map[PIXELS];
    uint8_t mask[PIXELS];
    make_map((float[]){0.49f, 0.3f, 0.2f}, map);
    struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    o.keep = 0;
    struct coarse_result r = kept(map, &o, NULL, mask);
    cr_expect(r.state == MCS_MASK_FILTERED && r.components.n == 0);
    mcs_coarse_free(&r);
    make_map((float[]){0.51f, 0.49f, 0.49f}, map);
    r = kept(map, &o, NULL, mask);
    cr_expect(r.n_found == 3 && r.components.n == 1 && r.components.items[0].label == 1);
    mcs_coarse_free(&r);
    make_map((float[]){0.2f, 0.2f, 0.2f}, map);
    o = mcs_coarse_defaults(MCS_RELEASE);
    o.keep = 0;
    r = kept(map, &o, NULL, mask);
    cr_expect_eq(r.components.n, 3);
    mcs_coarse_free(&r);
}

static void same_mask(const char *name, const uint8_t *want)
{
    struct image img;
    OK(mcs_image_read(shell_path(name), 0, &img));
    cr_assert(img.width == WIDTH && img.height == HEIGHT);
    int wrong = 0;
    for (int i = 0; i < PIXELS; i++) wrong += (img.pixels[i] != 0) != want[i];
    cr_expect_eq(wrong, 0, "%s: %d pixels", name, wrong);
    mcs_image_free(&img);
}

/* --threshold otsu, kmeans and a number give the masks of those functions; on this map they all differ. */
Test(rank, thresholds_by_word)
{
    float map[PIXELS], cut;
    uint8_t want[3][PIXELS];
    enum mcs_mask_state state;
    struct store *s;
    for (int i = 0; i < PIXELS; i++) /* many dark pixels, a long tail */
        map[i] = powf((float)((i * 37) % PIXELS) / (float)PIXELS, 6);
    OK(mcs_threshold_otsu(map, PIXELS, want[0], &cut, &state));
    OK(mcs_threshold_kmeans(map, PIXELS, want[1], &cut, &state));
    OK(mcs_threshold_fixed(map, PIXELS, 0.81f, want[2], &state));
    for (int a = 0; a < 3; a++)
        for (int b = 0; b < a; b++) cr_assert(memcmp(want[a], want[b], PIXELS) != 0, "%d and %d are one mask", a, b);
    expect("mkdir maps", 0, "");
    OK(mcs_store_create(shell_path("maps/a.h5"), &s));
    OK(mcs_store_put(s, "saliency", MCS_ARRAY_F32, 2, (const int64_t[]){HEIGHT, WIDTH}, map));
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
    float map[PIXELS];
    uint8_t mask[PIXELS];
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
    make_map((float[]){0.8f, 0.9f, 0.7f}, map);
    expect("mkdir maps", 0, "");
    OK(mcs_store_create(shell_path("maps/a.h5"), &s));
    OK(mcs_store_put(s, "saliency", MCS_ARRAY_F32, 2, (const int64_t[]){HEIGHT, WIDTH}, map));
    OK(mcs_store_commit(s));
    for (int i = 0; i < n; i++) {
        char line[256];
        struct box_list list;
        snprintf(line, sizeof line, "mcsam coarse -i maps %s -o out%d", rows[i].words, i);
        expect(line, 0, "1 masks");
        snprintf(line, sizeof line, "out%d/boxes.json", i);
        OK(mcs_boxes_read(shell_path(line), &list));
        struct coarse_result r = kept(map, &rows[i].o, NULL, mask);
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
