/* predict, ensemble, uncertainty, evaluate and retrieve on ten cases together and on each alone (support_alone.h).
 * The verbs of CLIP and SAM: test_each_alone.c. */
#include "data/image/image.h"
#include "data/io/store.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_alone.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

TestSuite(each_alone, .init = alone_open, .fini = shell_close, .timeout = 120);

/* ---- predict, ensemble, uncertainty ---- */

/* Two classes: where the probabilities are clear beyond rounding, the mask must agree. */
static void check_masks_by_probability(double threshold)
{
    for (int i = 0; i < ALONE_CASES; i++) {
        int64_t n;
        struct image mask = alone_mask(i, 0);
        float *p = alone_values("", i, ".h5", "probabilities", 0, &n);
        cr_assert_eq(n, 2 * ALONE_PIXELS);
        for (int k = 0; k < ALONE_PIXELS; k++)
            if (fabs((double)p[ALONE_PIXELS + k] - threshold) > 1e-5)
                cr_assert_eq(mask.pixels[k], (double)p[ALONE_PIXELS + k] > threshold ? 255 : 0, "case %d, pixel %d", i,
                             k);
        mcs_image_free(&mask);
        free(p);
    }
}

/* Ten images of one size: a group of eight and one of two. Rounding of a softmax over some 40 windows and mirrorings.
 */
Test(each_alone, predict)
{
    alone_run("mcsam predict -m run -i $IN -o $OUT --save-probabilities --uncertainty");
    alone_check_arrays("", ".h5", "probabilities", 1e-5);
    alone_check_arrays("uncertainty/", "_entropy.h5", "entropy", 1e-4);
    alone_check_masks(ALONE_PIXELS / 100, 40);
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
    for (int i = 0; i < ALONE_CASES; i++) {
        char name[32];
        snprintf(name, sizeof name, "alone/c%d.csv", i);
        const struct score a = score_of("all.csv", i), b = score_of(name, i);
        cr_expect_float_eq(a.mean, b.mean, 1e-6 * b.mean, "case %d: %g, alone %g", i, a.mean, b.mean);
        cr_expect(labs(a.foreground - b.foreground) <= ALONE_PIXELS / 100, "case %d", i);
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
    alone_run("mcsam predict -m run -i $IN -o $OUT.p --save-probabilities --checkpoints all && mcsam predict -m "
              "run -i $IN -o $OUT.q --save-probabilities --checkpoints last && mcsam ensemble -i $OUT.p -i "
              "$OUT.q -o $OUT --save-probabilities --threshold 0.4");
    alone_check_arrays("", ".h5", "probabilities", 1e-5);
    check_masks_by_probability(0.4);
    for (int i = 0; i < ALONE_CASES; i++) { /* the mean, by hand */
        static const char *const folders[] = {"all.p", "all.q", "all"};
        float v[3][2 * ALONE_PIXELS];
        const int64_t dims[] = {2, 1, ALONE_HEIGHT, ALONE_WIDTH};
        for (int k = 0; k < 3; k++) {
            char name[32];
            struct store *s;
            snprintf(name, sizeof name, "%s/c%d.h5", folders[k], i);
            OK(mcs_store_open(shell_path(name), &s));
            OK(mcs_store_get(s, "probabilities", MCS_ARRAY_F32, 4, dims, v[k]));
            mcs_store_close(s);
        }
        for (int k = 0; k < 2 * ALONE_PIXELS; k++) cr_assert_float_eq(v[2][k], (v[0][k] + v[1][k]) / 2, 1e-6);
    }
    alone_run("mcsam uncertainty -i $OUT.p -o $OUT.u; cp $OUT.u/uncertainty.csv $OUT.csv");
    check_scores();
}

/* ---- evaluate ---- */

/* A disc with a place and radius unique to case i. */
static void write_disc(const char *folder, int i, int dx, int diameter)
{
    char name[32];
    uint8_t mask[ALONE_PIXELS];
    snprintf(name, sizeof name, "%s/c%d.png", folder, i);
    for (int p = 0; p < ALONE_PIXELS; p++) {
        const int x = p % ALONE_WIDTH - 8 - dx, y = p / ALONE_WIDTH - 9;
        mask[p] = 4 * (x * x + y * y) < diameter * diameter;
    }
    OK(mcs_image_write_mask(shell_path(name), mask, ALONE_WIDTH, ALONE_HEIGHT));
}

Test(each_alone, evaluate)
{
    expect("mkdir pred ref", 0, "");
    for (int i = 0; i < ALONE_CASES; i++) {
        write_disc("pred", i, i, 5 + i);
        write_disc("ref", i, i / 2, 9 + i % 2);
    }
    alone_run("mkdir -p $OUT.pred $OUT.ref; cp pred/$CASE.png $OUT.pred; cp ref/$CASE.png $OUT.ref; mcsam "
              "evaluate --pred $OUT.pred --ref $OUT.ref -o $OUT");
    /* all columns but the files' paths */
    expect("for c in c0 c1 c2 c3 c4 c5 c6 c7 c8 c9; do grep ^$c, alone/$c/cases.csv | cut -d, -f1-13 > row; grep ^$c, "
           "all/cases.csv | cut -d, -f1-13 | cmp - row || exit 1; done; cut -d, -f2-13 all/cases.csv | sort -u | wc -l",
           0, "11"); /* ten rows that all differ, and the header */
}

/* ---- retrieve ---- */

static const char *const captions[ALONE_CASES] = {
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
            for (int k = 0; k < ALONE_EMBED; k++) {
                own += (double)images[i * ALONE_EMBED + k] * (double)texts[i * ALONE_EMBED + k];
                text += (double)images[i * ALONE_EMBED + k] * (double)texts[j * ALONE_EMBED + k];
                image += (double)images[j * ALONE_EMBED + k] * (double)texts[i * ALONE_EMBED + k];
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
    float images[ALONE_CASES * ALONE_EMBED], texts[ALONE_CASES * ALONE_EMBED];
    char table[2048] = "filename,Caption\n", damaged[2048] = "filename,Caption\n", lines[1024] = "";
    double want[4];
    struct store *s;
    for (int i = 0; i < ALONE_CASES; i++) {
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
    OK(mcs_store_get(s, "image_embeddings", MCS_ARRAY_F32, 2, (const int64_t[]){ALONE_CASES, ALONE_EMBED}, images));
    OK(mcs_store_get(s, "text_embeddings", MCS_ARRAY_F32, 2, (const int64_t[]){ALONE_CASES, ALONE_EMBED}, texts));
    mcs_store_close(s);
    recall_by_hand(images, texts, ALONE_CASES, 4, want);
    cr_assert(want[0] != want[2] || want[1] != want[3], "these captions do not tell one way from the other");
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img --batch 4 > r.json", 0, "");
    check_recall("r.json", want, ALONE_CASES);
    expect("head -c 60 img/c0.png > img/bad.png; mcsam retrieve -m clip --pairs damaged.csv --images img --batch 4 > "
           "d.json",
           3, "1 of 11 pairs");
    check_recall("d.json", want, ALONE_CASES);
    recall_by_hand(images, texts, ALONE_CASES, ALONE_CASES, want);
    expect("mcsam retrieve -m clip --pairs pairs.csv --images img --batch 50 > a.json", 0, "");
    check_recall("a.json", want, ALONE_CASES);
}
