/* Recall at 1 and 2 in both directions, by counting: batches, shuffled runs, groups, pairs that are left out. */
#include "engine/base/rng.h"
#include "infer/clip/recall.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { N = 23, D = 3 };
static float images[N * D], texts[N * D];

static void draw(void)
{
    struct mcs_rng g = {.seed = 8, .site = mcs_rng_site("tests.recall")};
    mcs_rng_fill_normal(g, images, N * D);
    g.step = 1;
    mcs_rng_fill_normal(g, texts, N * D);
    for (int i = 0; i < N * D; i++) texts[i] = images[i] + 0.8f * texts[i];
}

static double similar(int image, int text)
{
    double sum = 0;
    for (int k = 0; k < D; k++) sum += (double)images[image * D + k] * (double)texts[text * D + k];
    return sum;
}

/* Recall of a batch of `b` pairs rows[0..b): image to text at 1 and 2, text to image at 1 and 2. */
static void count(const uint32_t *rows, int b, const int32_t *group, double share[4])
{
    memset(share, 0, 4 * sizeof *share);
    for (int i = 0; i < b; i++) {
        int rivals[2] = {0, 0};
        const int q = (int)rows[i];
        for (int j = 0; j < b; j++) {
            const int c = (int)rows[j];
            if (j == i || (group && group[c] == group[q])) continue;
            rivals[0] += similar(q, c) >= similar(q, q);
            rivals[1] += similar(c, q) >= similar(q, q);
        }
        for (int side = 0; side < 2; side++)
            for (int k = 0; k < 2; k++) share[2 * side + k] += (rivals[side] <= k) / (double)b;
    }
}

static void expect_recall(int n, const struct recall_options *o)
{
    double shares[4][64];
    int total = 0;
    const int b = n < o->batch ? n : o->batch, runs = o->n_runs ? o->n_runs : 1;
    struct recall_result r;
    cr_assert_eq(mcs_recall(images, texts, n, D, o, &r), MCS_OK, "%s", mcs_error_message());
    for (int run = 0; run < runs; run++) {
        uint32_t rows[N];
        for (int i = 0; i < n; i++) rows[i] = (uint32_t)i;
        if (o->n_runs)
            mcs_rng_permutation(
                (struct mcs_rng){.seed = o->seed, .site = mcs_rng_site("recall.shuffle"), .sample = (uint32_t)run},
                rows, (uint32_t)n);
        for (int at = 0; at + b <= n; at += b, total++) {
            double four[4];
            count(rows + at, b, o->group, four);
            for (int m = 0; m < 4; m++) shares[m][total] = four[m];
        }
    }
    cr_expect_eq(r.n_batches, total);
    cr_expect_eq(r.n_left_out, n % b);
    for (int m = 0; m < 4; m++) {
        const struct mean_interval want = mcs_mean_interval(shares[m], total),
                                   got = m < 2 ? r.image_to_text[m] : r.text_to_image[m - 2];
        cr_expect_eq(got.n, total);
        cr_expect_float_eq(got.mean, want.mean, 1e-14, "%d: %g, want %g", m, got.mean, want.mean);
        cr_expect(total < 2 ? isnan(got.lo) && isnan(got.hi)
                            : fabs(got.lo - want.lo) < 1e-13 && fabs(got.hi - want.hi) < 1e-13);
        cr_expect(got.mean > 0 && got.mean < 1, "%d: %g tells nothing", m, got.mean);
    }
}

Test(recall_by_counting, batches_runs_and_groups)
{
    int32_t group[N];
    draw();
    for (int i = 0; i < N; i++) group[i] = i % 9;
    const struct recall_options rows[] = {{.batch = 5},
                                          {.batch = 7, .n_runs = 1},
                                          {.batch = 6, .n_runs = 4, .seed = 3},
                                          {.batch = 6, .n_runs = 4, .seed = 4},
                                          {.batch = 22},
                                          {.batch = 23},
                                          {.batch = 24},
                                          {.batch = 5, .group = group},
                                          {.batch = 11, .n_runs = 3, .group = group}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) expect_recall(N, &rows[i]);
    expect_recall(12, &rows[0]);
    const struct recall_options o = mcs_recall_defaults();
    cr_expect(o.batch == 50 && o.n_runs == 0 && o.seed == 0 && !o.group);
    expect_recall(N, &o);
}

Test(recall_by_counting, impossible_inputs)
{
    struct recall_result r;
    struct recall_options o = {.batch = 2};
    draw();
    cr_expect_eq(mcs_recall(images, texts, 2, D, &o, &r), MCS_OK);
    cr_expect(r.n_batches == 1 && r.n_left_out == 0);
    cr_expect_eq(mcs_recall(images, texts, 2, 1, &o, &r), MCS_OK);
    cr_expect_eq(mcs_recall(images, texts, 2, 0, &o, &r), MCS_E_SHAPE);
    mcs_error_clear();
    o.n_runs = -1;
    cr_expect_eq(mcs_recall(images, texts, 2, D, &o, &r), MCS_E_SHAPE);
    mcs_error_clear();
    o = (struct recall_options){.batch = 1};
    cr_expect_eq(mcs_recall(images, texts, 2, D, &o, &r), MCS_E_SHAPE);
    mcs_error_clear();
    o.batch = 2;
    texts[N * D - 1] = INFINITY;
    cr_expect_eq(mcs_recall(images, texts, N, D, &o, &r), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(), "the text embedding of pair 22 is not finite");
    mcs_error_clear();
    images[D] = NAN;
    cr_expect_eq(mcs_recall(images, texts, N, D, &o, &r), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(), "the image embedding of pair 1 is not finite");
    mcs_error_clear();
    cr_expect_eq(mcs_recall(images, texts, 1, D, &o, &r), MCS_E_SHAPE);
    mcs_error_clear();
}
