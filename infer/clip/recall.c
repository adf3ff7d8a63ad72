#include "infer/clip/recall.h"

#include "engine/base/rng.h"

#include <math.h>
#include <stdlib.h>

struct recall_options mcs_recall_defaults(void)
{
    return (struct recall_options){.batch = 50};
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

/* Number of candidates ranked before pair i's partner: at least as similar, and of another group. */
static int count_rivals(const double *sim, int stride, double own, int b, int i, const uint32_t *rows,
                        const int32_t *group)
{
    int n = 0;
    for (int j = 0; j < b; j++)
        n += j != i && sim[(int64_t)j * stride] >= own && !(group && group[rows[i]] == group[rows[j]]);
    return n;
}

/* Recall of one batch: share[0], [1] image -> text at 1 and 2, share[2], [3] text -> image. sim (b, b): scratch for the
 * similarities, image row, text column. */
static void score_batch(const float *images, const float *texts, int dim, int b, const uint32_t *rows,
                        const int32_t *group, double *sim, double share[4])
{
    for (int i = 0; i < b; i++)
        for (int j = 0; j < b; j++)
            sim[(int64_t)i * b + j] = dot(images + (int64_t)rows[i] * dim, texts + (int64_t)rows[j] * dim, dim);
    int found[4] = {0};
    for (int i = 0; i < b; i++) {
        double own = sim[(int64_t)i * b + i];
        int rivals_text = count_rivals(sim + (int64_t)i * b, 1, own, b, i, rows, group);
        int rivals_image = count_rivals(sim + i, b, own, b, i, rows, group);
        for (int k = 0; k < 2; k++) {
            found[k] += rivals_text < k + 1;
            found[2 + k] += rivals_image < k + 1;
        }
    }
    for (int k = 0; k < 4; k++) share[k] = (double)found[k] / b;
}

enum mcs_status mcs_recall(const float *images, const float *texts, int n, int dim, const struct recall_options *o,
                           struct recall_result *r)
{
    *r = (struct recall_result){0};
    MCS_REQUIRE(n >= 2 && dim >= 1 && o->batch >= 2 && o->n_runs >= 0, MCS_E_SHAPE,
                "recall of %d pairs in batches of %d: want at least 2 of each", n, o->batch);
    for (int64_t i = 0; i < (int64_t)n * dim; i++)
        MCS_REQUIRE(isfinite(images[i]) && isfinite(texts[i]), MCS_E_DATA,
                    "the %s embedding of pair %lld is not finite", isfinite(images[i]) ? "text" : "image",
                    (long long)(i / dim));
    int b = n < o->batch ? n : o->batch, n_runs = o->n_runs ? o->n_runs : 1, per_run = n / b, total = n_runs * per_run;
    enum mcs_status st = MCS_OK;
    uint32_t *rows = malloc((size_t)n * sizeof *rows);
    double *sim = malloc((size_t)b * b * sizeof *sim), *share = malloc((size_t)total * 4 * sizeof *share);
    MCS_REQUIRE_GOTO(rows && sim && share, MCS_E_NOMEM, st, done, "no memory for the recall of %d pairs", n);
    for (int run = 0; run < n_runs; run++) {
        struct mcs_rng rng = {.seed = o->seed, .site = mcs_rng_site("recall.shuffle"), .sample = (uint32_t)run};
        if (o->n_runs)
            mcs_rng_permutation(rng, rows, (uint32_t)n);
        else
            for (int i = 0; i < n; i++) rows[i] = (uint32_t)i;
        for (int k = 0; k < per_run; k++) {
            double four[4];
            score_batch(images, texts, dim, b, rows + (int64_t)k * b, o->group, sim, four);
            for (int m = 0; m < 4; m++) share[(int64_t)m * total + run * per_run + k] = four[m];
        }
    }
    for (int k = 0; k < 2; k++) {
        r->image_to_text[k] = mcs_mean_interval(share + (int64_t)k * total, total);
        r->text_to_image[k] = mcs_mean_interval(share + (int64_t)(2 + k) * total, total);
    }
    r->n_batches = total;
    r->n_left_out = n - per_run * b;
done:
    free(rows);
    free(sim);
    free(share);
    return st;
}
