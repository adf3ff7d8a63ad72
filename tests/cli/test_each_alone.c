/* Verbs that process several cases at once, run on ten different images together and on each image alone: both runs
 * must give each image the same result, and different images different results. Returning one case the result of
 * another, in a batch, a group of predict or a chunk, fails here. */
#include "data/image/image.h"
#include "data/io/store.h"
#include "engine/base/rng.h"
#include "infer/coarse/boxes.h"
#include "infer/sam/sam_model.h"
#include "infer/unet/ensemble.h"
#include "infer/weights.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 10, WIDTH = 24, HEIGHT = 20, PIXELS = WIDTH * HEIGHT, EMBED = 8 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* Image i: noise, and a bright disc with a unique place and size. */
static void write_image(const char *name, int i)
{
    const struct mcs_rng r = {.seed = 3, .site = mcs_rng_site("tests.alone"), .sample = (uint32_t)i};
    struct image img;
    OK(mcs_image_alloc(&img, WIDTH, HEIGHT, 1));
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            const int dx = x - 4 - 5 * (i % 4), dy = y - 4 - 5 * (i / 4), in = dx * dx + dy * dy <= 4 + 2 * i;
            img.pixels[y * WIDTH + x] =
                (uint8_t)((in ? 190 : 20 + 9 * i) + mcs_rng_below(r, (uint32_t)(y * WIDTH + x), 50));
        }
    OK(mcs_image_write_png(shell_path(name), &img));
    mcs_image_free(&img);
}

/* A training run with two random checkpoints. */
static void write_run(struct device *d)
{
    struct unet_plans p;
    struct unet_model m;
    const struct unet_checkpoint c[2] = {{.cycle = 1, .index = 1, .step = 10, .file = "one.safetensors"},
                                         {.cycle = 2, .index = 1, .step = 20, .file = "two.safetensors"}};
    OK(mcs_unet_plans_make(1, 2, 16, 16, 3, 4, 16, &p));
    expect("mkdir run", 0, "");
    OK(mcs_unet_plans_write(shell_path("run"), &p));
    OK(mcs_unet_checkpoints_write(shell_path("run"), c, 2));
    for (int i = 0; i < 2; i++) {
        OK(mcs_unet_model_new(&p, 7 + (uint64_t)i, d, &m));
        OK(mcs_weights_write(shell_path(i ? "run/two.safetensors" : "run/one.safetensors"), m.params, 0, NULL, NULL));
        mcs_unet_model_close(&m);
    }
}

/* The images in img, and each once more in one/cN. */
static void setup(void)
{
    struct device d;
    struct sam_model s;
    const struct sam_config sam = tiny_sam_config();
    shell_open(MCS_BINARY, "--threads 1 --quiet");
    expect("mkdir img; for i in 0 1 2 3 4 5 6 7 8 9; do mkdir -p one/c$i; done", 0, "");
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "img/c%d.png", i);
        write_image(name, i);
    }
    expect("for i in 0 1 2 3 4 5 6 7 8 9; do cp img/c$i.png one/c$i; done", 0, "");
    tiny_clip_model(shell_path("clip"));
    OK(mcs_cpu_open(1, &d));
    OK(mcs_sam_model_new(&sam, 2, &d, &s));
    OK(mcs_sam_model_save(&s, shell_path("sam"), 0, NULL));
    mcs_sam_model_close(&s);
    write_run(&d);
    mcs_cpu_close(&d);
}
TestSuite(each_alone, .init = setup, .fini = shell_close, .timeout = 120);

/* Runs a line that reads $IN and writes $OUT on all images (img, into all) and on each (one/cN, into alone/cN). */
static void on_all_and_on_each(const char *line)
{
    char whole[2048];
    snprintf(
        whole, sizeof whole,
        "mkdir -p alone; run() { %s; }; IN=img OUT=all CASE='*' && run || exit 1; for c in c0 c1 c2 c3 c4 c5 c6 c7 c8 "
        "c9; do IN=one/$c OUT=alone/$c CASE=$c && run || exit 1; done",
        line);
    expect(whole, 0, "");
}

/* all/NAME and alone/cN/NAME, where NAME is cN and an ending. */
static const char *path_of(const char *folder, int i, const char *ending, int alone)
{
    char name[128];
    snprintf(name, sizeof name, alone ? "%s/c%d/%sc%d%s" : "%s/%.0d%sc%d%s", alone ? "alone" : "all", alone ? i : 0,
             folder, i, ending);
    return shell_path(name);
}

/* A dataset of a case's file, malloc'ed. */
static float *values_of(const char *folder, int i, const char *ending, const char *dataset, int alone, int64_t *n)
{
    struct store *s;
    struct store_info info;
    OK(mcs_store_open(path_of(folder, i, ending, alone), &s));
    OK(mcs_store_get_info(s, dataset, &info));
    float *v = malloc((size_t)info.n_values * sizeof *v);
    cr_assert(v);
    OK(mcs_store_get(s, dataset, MCS_ARRAY_F32, info.nd, info.dims, v));
    mcs_store_close(s);
    *n = info.n_values;
    return v;
}

static double furthest(const float *a, const float *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

/* Arrays of all cases: each within `rounding` of its result alone, any two cases further apart than ten times that. */
static void check_arrays(const char *folder, const char *ending, const char *dataset, double rounding)
{
    float *all[N];
    int64_t n = 0;
    for (int i = 0; i < N; i++) {
        all[i] = values_of(folder, i, ending, dataset, 0, &n);
        float *alone = values_of(folder, i, ending, dataset, 1, &n);
        const double d = furthest(all[i], alone, n);
        cr_expect(d <= rounding, "%s of case %d is off by %g among others", dataset, i, d);
        for (int k = 0; k < i; k++)
            cr_expect(furthest(all[i], all[k], n) > 10 * rounding, "%s of cases %d and %d are alike", dataset, k, i);
        free(alone);
    }
    for (int i = 0; i < N; i++) free(all[i]);
}

static struct image mask_of(int i, int alone)
{
    struct image img;
    OK(mcs_image_read(path_of("", i, ".png", alone), 0, &img));
    cr_assert(img.width == WIDTH && img.height == HEIGHT && img.channels == 1);
    return img;
}

static int n_different(const struct image *a, const struct image *b)
{
    int n = 0;
    for (int i = 0; i < PIXELS; i++) n += a->pixels[i] != b->pixels[i];
    return n;
}

/* Masks of all cases: each within `rounding` pixels of its result alone, and at least `least` of the 45 pairs of cases
 * further apart than that. */
static void check_masks(int rounding, int least)
{
    struct image all[N];
    int n_apart = 0;
    for (int i = 0; i < N; i++) {
        struct image alone = mask_of(i, 1);
        all[i] = mask_of(i, 0);
        cr_expect(n_different(&all[i], &alone) <= rounding, "case %d: %d pixels", i, n_different(&all[i], &alone));
        for (int k = 0; k < i; k++) n_apart += n_different(&all[i], &all[k]) > rounding;
        mcs_image_free(&alone);
    }
    cr_expect(n_apart >= least, "only %d of 45 pairs of cases have different masks", n_apart);
    for (int i = 0; i < N; i++) mcs_image_free(&all[i]);
}

/* ---- CLIP and SAM ---- */

Test(each_alone, embed)
{
    float all[N * EMBED], one[EMBED];
    const int64_t many[] = {N, EMBED}, single[] = {1, EMBED};
    struct store *s;
    on_all_and_on_each("mcsam embed -m clip --images $IN -o $OUT.h5");
    OK(mcs_store_open(shell_path("all.h5"), &s));
    OK(mcs_store_get(s, "image_embeddings", MCS_ARRAY_F32, 2, many, all));
    mcs_store_close(s);
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "alone/c%d.h5", i);
        OK(mcs_store_open(shell_path(name), &s));
        OK(mcs_store_get(s, "image_embeddings", MCS_ARRAY_F32, 2, single, one));
        mcs_store_close(s);
        cr_expect(furthest(all + i * EMBED, one, EMBED) < 1e-6, "image %d", i);
        for (int k = 0; k < i; k++)
            cr_expect(furthest(all + i * EMBED, all + k * EMBED, EMBED) > 1e-4, "%d is %d", i, k);
    }
}

/* More texts than one batch, all different: the words are the binary digits of the text's number. */
Test(each_alone, embed_texts)
{
    enum { TEXTS = 40 };
    static const char *const words[6] = {"lung", "brain", "breast", "tumor", "left", "cyst"};
    char text[TEXTS][64], file[TEXTS * 64] = "";
    float all[TEXTS * EMBED], one[EMBED];
    const int64_t many[] = {TEXTS, EMBED}, single[] = {1, EMBED};
    struct store *s;
    for (int i = 0; i < TEXTS; i++) {
        strcpy(text[i], "lesion");
        for (int k = 0; k < 6; k++)
            if (i >> k & 1) strcat(strcat(text[i], " "), words[k]);
        strcat(strcat(file, text[i]), "\n");
    }
    shell_write("texts", file);
    expect("mcsam embed -m clip --texts texts -o all.h5", 0, "40 texts");
    OK(mcs_store_open(shell_path("all.h5"), &s));
    OK(mcs_store_get(s, "text_embeddings", MCS_ARRAY_F32, 2, many, all));
    mcs_store_close(s);
    for (int i = 0; i < TEXTS; i++)
        for (int k = 0; k < i; k++)
            cr_expect(furthest(all + i * EMBED, all + k * EMBED, EMBED) > 1e-5, "'%s' is '%s'", text[i], text[k]);
    for (int i = 0; i < TEXTS; i += 13) {
        shell_write("text", text[i]);
        expect("mcsam embed -m clip --texts text -o one.h5", 0, "1 texts");
        OK(mcs_store_open(shell_path("one.h5"), &s));
        OK(mcs_store_get(s, "text_embeddings", MCS_ARRAY_F32, 2, single, one));
        mcs_store_close(s);
        cr_expect(furthest(all + i * EMBED, one, EMBED) < 1e-6, "text %d", i);
    }
}

/* Rounding: products of four pairs and of one, amplified by two updates (test_saliency.c has the bound). */
Test(each_alone, saliency)
{
    on_all_and_on_each("mcsam saliency -m clip -i $IN --text 'bright lesion' --steps 3 --copies 2 --pairs 4 -o $OUT");
    check_arrays("", ".h5", "saliency", 1e-3);
}

Test(each_alone, coarse)
{
    struct box_list all, one;
    expect("mcsam saliency -m clip -i img --text lesion --steps 3 --copies 2 -o maps; for i in 0 1 2 3 4 5 6 7 8 9; do "
           "rm one/c$i/*; cp maps/c$i.h5 one/c$i; done; rm img/*; cp maps/*.h5 img",
           0, "10 maps");
    on_all_and_on_each("mcsam coarse -i $IN -o $OUT --min-confidence 0 --keep 0");
    check_masks(0, 30);
    OK(mcs_boxes_read(shell_path("all/boxes.json"), &all));
    for (int i = 0; i < N; i++) {
        char name[64];
        snprintf(name, sizeof name, "alone/c%d/boxes.json", i);
        OK(mcs_boxes_read(shell_path(name), &one));
        snprintf(name, sizeof name, "c%d", i);
        const struct box_case *a = mcs_boxes_find(&all, name), *b = mcs_boxes_find(&one, name);
        cr_assert(a && b && a->n_components == b->n_components, "%s", name);
        for (int k = 0; k < a->n_components; k++) {
            const struct box_component *p = &a->components[k], *q = &b->components[k];
            cr_expect(p->x0 == q->x0 && p->y0 == q->y0 && p->x1 == q->x1 && p->y1 == q->y1 && p->area == q->area, "%s",
                      name);
            cr_assert_eq(p->n_points, q->n_points);
            cr_expect_arr_eq(p->points, q->points, (size_t)p->n_points * sizeof *p->points);
        }
        mcs_boxes_free(&one);
    }
    mcs_boxes_free(&all);
}

/* Two boxes for each image, at unique places. Case 3 has none. */
static void write_boxes(void)
{
    struct box_component two[N][2] = {{{0}}};
    struct box_case cases[N];
    char names[N][16];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "c%d.png", i);
        two[i][0] = (struct box_component){.x0 = i, .y0 = 1 + i / 2, .x1 = i + 6, .y1 = 8 + i};
        two[i][1] = (struct box_component){.x0 = 12 - i, .y0 = 9, .x1 = 22 - i, .y1 = 19 - i / 2};
        cases[i] = (struct box_case){
            .image = names[i], .width = WIDTH, .height = HEIGHT, .n_components = i == 3 ? 0 : 2, .components = two[i]};
        const struct box_list one = {.n = 1, .cases = &cases[i]};
        char path[32];
        snprintf(path, sizeof path, "one/c%d/boxes.json", i);
        OK(mcs_boxes_write(shell_path(path), &one));
    }
    OK(mcs_boxes_write(shell_path("img/boxes.json"), &(struct box_list){.n = N, .cases = cases}));
}

/* A pixel whose logit is 0 up to rounding may have either label: at most 1 of 100. */
Test(each_alone, sam)
{
    write_boxes();
    on_all_and_on_each("mcsam sam -m sam -i $IN --prompts-from $IN/boxes.json -o $OUT");
    check_masks(PIXELS / 100, 30);
    struct image none = mask_of(3, 0);
    for (int i = 0; i < PIXELS; i++) cr_assert_eq(none.pixels[i], 0);
    mcs_image_free(&none);
}

Test(each_alone, segment)
{
    on_all_and_on_each(
        "mcsam segment --clip clip --sam sam -i $IN --text 'bright lesion' --steps 3 --copies 2 --pairs 4 "
        "--min-confidence 0 --keep-stages -o $OUT");
    check_arrays("saliency/", ".h5", "saliency", 1e-3);
    check_masks(PIXELS / 50, 20); /* a rounding error in a map may move its box by a pixel */
}

/* ---- predict, ensemble, uncertainty ---- */

/* Two classes: where the probabilities are clear beyond rounding, the mask must agree. */
static void check_masks_by_probability(double threshold)
{
    for (int i = 0; i < N; i++) {
        int64_t n;
        struct image mask = mask_of(i, 0);
        float *p = values_of("", i, ".h5", "probabilities", 0, &n);
        cr_assert_eq(n, 2 * PIXELS);
        for (int k = 0; k < PIXELS; k++)
            if (fabs((double)p[PIXELS + k] - threshold) > 1e-5)
                cr_assert_eq(mask.pixels[k], (double)p[PIXELS + k] > threshold ? 255 : 0, "case %d, pixel %d", i, k);
        mcs_image_free(&mask);
        free(p);
    }
}

/* Ten images of one size: a group of eight and one of two. Rounding of a softmax over some 40 windows and mirrorings.
 */
Test(each_alone, predict)
{
    on_all_and_on_each("mcsam predict -m run -i $IN -o $OUT --save-probabilities --uncertainty");
    check_arrays("", ".h5", "probabilities", 1e-5);
    check_arrays("uncertainty/", "_entropy.h5", "entropy", 1e-4);
    check_masks(PIXELS / 100, 40);
    check_masks_by_probability(0.5);
}

struct score {
    double edge, area, mean;
    long foreground;
};

/* A case's row of uncertainty.csv. */
static struct score score_of(const char *file, int i)
{
    struct score s = {0};
    char line[256], stem[32];
    int found = 0;
    FILE *f = fopen(shell_path(file), "r");
    cr_assert(f, "%s", file);
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "%31[^,],%lf,%lf,%lf,%ld", stem, &s.edge, &s.area, &s.mean, &s.foreground) == 5 &&
            stem[0] == 'c' && atoi(stem + 1) == i) {
            found = 1;
            break;
        }
    fclose(f);
    cr_assert(found, "%s: case %d", file, i);
    return s;
}

/* A pixel of equal probabilities may count as foreground or not, and changes the border's length by a few pixels. */
static void check_scores(void)
{
    for (int i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof name, "alone/c%d.csv", i);
        const struct score a = score_of("all.csv", i), b = score_of(name, i);
        cr_expect_float_eq(a.mean, b.mean, 1e-6 * b.mean, "case %d: %g, alone %g", i, a.mean, b.mean);
        cr_expect(labs(a.foreground - b.foreground) <= PIXELS / 100, "case %d", i);
        cr_expect_float_eq(a.area, b.area, 0.05 * b.area, "case %d: %g, alone %g", i, a.area, b.area);
        cr_expect_float_eq(a.edge, b.edge, 0.05 * b.edge, "case %d: %g, alone %g", i, a.edge, b.edge);
        for (int k = 0; k < i; k++) {
            const struct score c = score_of("all.csv", k);
            cr_expect(fabs(a.mean - c.mean) > 1e-5 * c.mean, "cases %d and %d have one score", i, k);
        }
    }
}

/* The mean of two predictions of each case; the second folder is predicted by the last checkpoint alone. */
Test(each_alone, ensemble_and_uncertainty)
{
    on_all_and_on_each(
        "mcsam predict -m run -i $IN -o $OUT.p --save-probabilities --checkpoints all && mcsam predict -m "
        "run -i $IN -o $OUT.q --save-probabilities --checkpoints last && mcsam ensemble -i $OUT.p -i "
        "$OUT.q -o $OUT --save-probabilities --threshold 0.4");
    check_arrays("", ".h5", "probabilities", 1e-5);
    check_masks_by_probability(0.4);
    for (int i = 0; i < N; i++) { /* the mean, by hand */
        static const char *const folders[] = {"all.p", "all.q", "all"};
        float v[3][2 * PIXELS];
        const int64_t dims[] = {2, 1, HEIGHT, WIDTH};
        for (int k = 0; k < 3; k++) {
            char name[32];
            struct store *s;
            snprintf(name, sizeof name, "%s/c%d.h5", folders[k], i);
            OK(mcs_store_open(shell_path(name), &s));
            OK(mcs_store_get(s, "probabilities", MCS_ARRAY_F32, 4, dims, v[k]));
            mcs_store_close(s);
        }
        for (int k = 0; k < 2 * PIXELS; k++) cr_assert_float_eq(v[2][k], (v[0][k] + v[1][k]) / 2, 1e-6);
    }
    on_all_and_on_each("mcsam uncertainty -i $OUT.p -o $OUT.u; cp $OUT.u/uncertainty.csv $OUT.csv");
    check_scores();
}

/* ---- evaluate ---- */

/* A disc with a place and radius unique to case i. */
static void write_disc(const char *folder, int i, int dx, int diameter)
{
    char name[32];
    uint8_t mask[PIXELS];
    snprintf(name, sizeof name, "%s/c%d.png", folder, i);
    for (int p = 0; p < PIXELS; p++) {
        const int x = p % WIDTH - 8 - dx, y = p / WIDTH - 9;
        mask[p] = 4 * (x * x + y * y) < diameter * diameter;
    }
    OK(mcs_image_write_mask(shell_path(name), mask, WIDTH, HEIGHT));
}

Test(each_alone, evaluate)
{
    expect("mkdir pred ref", 0, "");
    for (int i = 0; i < N; i++) {
        write_disc("pred", i, i, 5 + i);
        write_disc("ref", i, i / 2, 9 + i % 2);
    }
    on_all_and_on_each("mkdir -p $OUT.pred $OUT.ref; cp pred/$CASE.png $OUT.pred; cp ref/$CASE.png $OUT.ref; mcsam "
                       "evaluate --pred $OUT.pred --ref $OUT.ref -o $OUT");
    /* all columns but the files' paths */
    expect("for c in c0 c1 c2 c3 c4 c5 c6 c7 c8 c9; do grep ^$c, alone/$c/cases.csv | cut -d, -f1-13 > row; grep ^$c, "
           "all/cases.csv | cut -d, -f1-13 | cmp - row || exit 1; done; cut -d, -f2-13 all/cases.csv | sort -u | wc -l",
           0, "11"); /* ten rows that all differ, and the header */
}

/* ---- retrieve ---- */

static const char *const captions[N] = {
    "lung nodule", "brain tumor left",    "no evidence of lesion",           "breast mass", "pneumonia", "left brain",
    "cyst",        "malignant carcinoma", "benign lesion of the right lung", "glioma"};

/* For each batch of b pairs, the share of queries whose partner has fewer than k rivals that are at least as similar:
 * [0], [1] images searching for their text at 1 and 2, [2], [3] texts searching for their image. Means over n / b
 * batches. */
static void recall_by_hand(const float *images, const float *texts, int n, int b, double share[4])
{
    memset(share, 0, 4 * sizeof *share);
    for (int i = 0; i < n / b * b; i++) {
        int rivals[2] = {0};
        for (int j = i / b * b; j < (i / b + 1) * b; j++) {
            double own = 0, text = 0, image = 0;
            for (int k = 0; k < EMBED; k++) {
                own += (double)images[i * EMBED + k] * (double)texts[i * EMBED + k];
                text += (double)images[i * EMBED + k] * (double)texts[j * EMBED + k];
                image += (double)images[j * EMBED + k] * (double)texts[i * EMBED + k];
            }
            rivals[0] += j != i && text >= own;
            rivals[1] += j != i && image >= own;
        }
        for (int k = 0; k < 4; k++) share[k] += (double)(rivals[k / 2] < k % 2 + 1) / (n / b * b);
    }
}

static void check_recall(const char *file, const double want[4], int n_pairs)
{
    static const char *const ways[] = {"image_to_text", "text_to_image"}, *const at[] = {"recall@1", "recall@2"};
    json_t *root = json_load_file(shell_path(file), 0, NULL);
    cr_assert(root, "%s", file);
    cr_expect_eq(json_integer_value(json_object_get(root, "pairs")), n_pairs);
    for (int k = 0; k < 4; k++) {
        const double got =
            json_number_value(json_object_get(json_object_get(json_object_get(root, ways[k / 2]), at[k % 2]), "mean"));
        cr_expect_float_eq(got, want[k], 1e-8, "%s, %s %s: %g, want %g", file, ways[k / 2], at[k % 2], got, want[k]);
    }
    json_decref(root);
}

/* Recall from the embeddings that embed writes, also where a row of the table has an unreadable image: the following
 * pairs must stay matched. */
Test(each_alone, retrieve)
{
    float images[N * EMBED], texts[N * EMBED];
    char table[2048] = "filename,Caption\n", damaged[2048] = "filename,Caption\n", lines[1024] = "";
    double want[4];
    struct store *s;
    for (int i = 0; i < N; i++) {
        char row[128];
        snprintf(row, sizeof row, "c%d.png,%s\n", i, captions[i]);
        strcat(table, row);
        if (i == 2) strcat(damaged, "bad.png,glioma of the brain\n");
        strcat(damaged, row);
        strcat(strcat(lines, captions[i]), "\n");
    }
    shell_write("pairs.csv", table);
    shell_write("damaged.csv", damaged);
    shell_write("texts", lines);
    expect("mcsam embed -m clip --images img --texts texts -o e.h5", 0, "10 images, 10 texts");
    OK(mcs_store_open(shell_path("e.h5"), &s));
    OK(mcs_store_get(s, "image_embeddings", MCS_ARRAY_F32, 2, (const int64_t[]){N, EMBED}, images));
    OK(mcs_store_get(s, "text_embeddings", MCS_ARRAY_F32, 2, (const int64_t[]){N, EMBED}, texts));
    mcs_store_close(s);
    recall_by_hand(images, texts, N, 4, want);
    cr_assert(want[0] != want[2] || want[1] != want[3], "these captions do not tell one way from the other");
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img --batch 4 > r.json", 0, "");
    check_recall("r.json", want, N);
    expect("head -c 60 img/c0.png > img/bad.png; mcsam retrieve -m clip --pairs damaged.csv --images img --batch 4 > "
           "d.json",
           3, "1 of 11 pairs");
    check_recall("d.json", want, N);
    recall_by_hand(images, texts, N, N, want);
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img --batch 50 > a.json", 0, "");
    check_recall("a.json", want, N);
}
