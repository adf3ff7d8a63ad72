/* Rank by text on models whose text embedding is aimed at one known component. Other ranks, ties and the words of the
 * options: test_rank_options.c. */
#include "data/image/image.h"
#include "data/io/store.h"
#include "engine/base/rng.h"
#include "infer/coarse/boxes.h"
#include "infer/segment.h"
#include "tests/support/support_ops.h"
#include "tests/support/support_rank.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* Noise in blocks of 3 x 3 pixels, so that blurring any region changes the model's input. In colour the channels
 * differ.
 */
static struct image picture(int channels)
{
    const struct mcs_rng r = {.seed = 5, .site = mcs_rng_site("tests.rank")};
    struct image img;
    OK(mcs_image_alloc(&img, RANK_WIDTH, RANK_HEIGHT, channels));
    for (int y = 0; y < RANK_HEIGHT; y++)
        for (int x = 0; x < RANK_WIDTH; x++)
            for (int k = 0; k < channels; k++)
                img.pixels[(y * RANK_WIDTH + x) * channels + k] =
                    (uint8_t)mcs_rng_below(r, (uint32_t)((y / 3 * RANK_WIDTH + x / 3) * 3 + k), 256);
    return img;
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
    for (int v = rank_boxes[k][1]; v <= rank_boxes[k][3]; v++)
        for (int u = rank_boxes[k][0]; u <= rank_boxes[k][2]; u++)
            if ((u - x) * (u - x) + (v - y) * (v - y) <= 9) return 1;
    return 0;
}

/* The image with everything outside component k, grown by 3 pixels, blurred. */
static struct image alone(const struct image *img, int k)
{
    struct image dst;
    OK(mcs_image_alloc(&dst, img->width, img->height, img->channels));
    for (int y = 0; y < RANK_HEIGHT; y++)
        for (int x = 0; x < RANK_WIDTH; x++)
            for (int c = 0; c < img->channels; c++) {
                const int at = (y * RANK_WIDTH + x) * img->channels + c;
                dst.pixels[at] = near_component(x, y, k) ? img->pixels[at] : (uint8_t)lrint(blurred_at(img, x, y, c));
            }
    return dst;
}

/* ---- the model ---- */

static struct device device;
static struct clip_model model;
static float alone_embedding[RANK_COMPONENTS][RANK_EMBED]; /* embedding of alone(img, k) */

static void embed_alone(const struct image *img, enum clip_view view)
{
    float *prepared = malloc((size_t)3 * 32 * 32 * sizeof *prepared);
    cr_assert(prepared);
    for (int k = 0; k < RANK_COMPONENTS; k++) {
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
    for (int i = 0; i < RANK_EMBED; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Sets the text tower's last projection to an outer product with `direction`, so that every text has this direction or
 * its opposite, in which case the sign is flipped. With component k's embedding minus the others' as direction,
 * component k has the greatest cosine. */
static void aim_text_at(int k)
{
    const struct tensor *w = mcs_params_find(model.params, "text.proj.2.weight"); /* (embed, t_proj) */
    const char *text = "lesion";
    float got[RANK_EMBED], direction[RANK_EMBED];
    for (int i = 0; i < RANK_EMBED; i++)
        direction[i] = 2 * alone_embedding[k][i] - alone_embedding[(k + 1) % RANK_COMPONENTS][i] -
                       alone_embedding[(k + 2) % RANK_COMPONENTS][i];
    float *values = w->data;
    for (int turned = 0; turned < 2; turned++) {
        for (int i = 0; i < RANK_EMBED; i++)
            for (int j = 0; j < w->dim[1]; j++) values[i * w->dim[1] + j] = turned ? -direction[i] : direction[i];
        OK(mcs_clip_embed_texts(&model, &text, 1, 1, got));
        if (dot(got, direction) > 0) break;
    }
    for (int i = 0; i < RANK_COMPONENTS; i++)
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

/* The score is the cosine of the prompt and the brute-force image, and the component that the text is aimed at is kept,
 * in grey and colour, whole and cropped. Rounding: 1e-5 of a cosine, and one grey level for blurred values halfway
 * between two. */
Test(rank, the_component_of_the_text_is_kept)
{
    float map[RANK_PIXELS];
    int32_t labels[RANK_PIXELS];
    uint8_t mask[RANK_PIXELS];
    rank_make_map((float[]){0.8f, 0.9f, 0.7f}, map);
    for (int i = 0; i < RANK_PIXELS; i++) labels[i] = rank_component_at(i % RANK_WIDTH, i / RANK_WIDTH);
    for (int channels = 1; channels <= 3; channels += 2) {
        const enum clip_view view = channels == 1 ? CLIP_VIEW_WHOLE : CLIP_VIEW_CROP;
        struct image img = picture(channels);
        embed_alone(&img, view);
        for (int k = 0; k < RANK_COMPONENTS; k++) {
            aim_text_at(k);
            struct text_rank rank = {&model, &img, "lesion", view};
            const struct coarse_text_scorer scorer = {mcs_text_rank_score, &rank};
            struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
            o.rank = MCS_COARSE_TEXT;
            struct coarse_result r = rank_coarse(map, &o, &scorer, mask);
            cr_assert(r.n_found == RANK_COMPONENTS && r.components.n == 1);
            cr_expect(r.components.items[0].x0 == rank_boxes[k][0] && r.components.items[0].y0 == rank_boxes[k][1],
                      "%d channels: component %d was meant, the one at %d, %d stayed", channels, k,
                      r.components.items[0].x0, r.components.items[0].y0);
            mcs_coarse_free(&r);

            struct component items[RANK_COMPONENTS] = {{.label = 1}, {.label = 2}, {.label = 3}};
            const struct component_list all = {RANK_COMPONENTS, items};
            float scores[RANK_COMPONENTS], text[RANK_EMBED];
            OK(mcs_text_rank_score(&rank, "a", &all, labels, RANK_WIDTH, RANK_HEIGHT, scores));
            OK(mcs_clip_embed_texts(&model, &rank.text, 1, 1, text));
            for (int i = 0; i < RANK_COMPONENTS; i++)
                cr_expect_float_eq(scores[i], dot(text, alone_embedding[i]), 1e-4, "score %d of %d", i, k);
        }
        mcs_image_free(&img);
    }
}

/* The same from the verb, with one model per component. */
Test(rank, the_verb_asks_the_model)
{
    float map[RANK_PIXELS];
    struct image img = picture(1);
    struct store *s;
    rank_make_map((float[]){0.8f, 0.9f, 0.7f}, map);
    expect("mkdir maps img", 0, "");
    OK(mcs_store_create(shell_path("maps/a.h5"), &s));
    OK(mcs_store_put(s, "saliency", MCS_ARRAY_F32, 2, (const int64_t[]){RANK_HEIGHT, RANK_WIDTH}, map));
    OK(mcs_store_commit(s));
    OK(mcs_image_write_png(shell_path("img/a.png"), &img));
    embed_alone(&img, CLIP_VIEW_WHOLE);
    for (int k = 0; k < RANK_COMPONENTS; k++) {
        struct box_list list;
        aim_text_at(k);
        OK(mcs_clip_model_save(&model, shell_path("clip"), 0));
        expect("mcsam coarse -i maps -o out --rank text -m clip --images img --text lesion", 0, "1 masks");
        OK(mcs_boxes_read(shell_path("out/boxes.json"), &list));
        cr_assert(list.n == 1 && list.cases[0].n_components == 1);
        cr_expect(list.cases[0].components[0].x0 == rank_boxes[k][0], "component %d was meant", k);
        cr_expect(strstr(list.made_by, "\"rank\":\"text\""), "%s", list.made_by);
        mcs_boxes_free(&list);
        expect("mcsam coarse -i maps -o two --rank text --keep 2 -m clip --images img --text lesion", 0, "1 masks");
        OK(mcs_boxes_read(shell_path("two/boxes.json"), &list));
        cr_expect_eq(list.cases[0].n_components, 2);
        cr_expect(list.cases[0].components[0].x0 == rank_boxes[k][0] ||
                  list.cases[0].components[1].x0 == rank_boxes[k][0]);
        mcs_boxes_free(&list);
    }
    expect("mcsam coarse -i maps -o both --rank both -m clip --images img --text lesion && cat both/boxes.json", 0,
           "\"rank\": \"both\"");
    mcs_image_free(&img);
}
