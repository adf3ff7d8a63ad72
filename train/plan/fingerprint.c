/* Fingerprints from images. The draws of a case are counted per voxel and then per value, so that memory grows with the
 * number of different values, not with the 100 million draws. */
#include "train/plan/fingerprint.h"

#include "data/nnunet/nnunet_image.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "engine/base/stop.h"
#include "infer/nnunet/nnunet_crop.h"
#include "train/plan/numpy_random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 1234 };
static const int64_t N_DRAWS = 100000000; /* of all cases together, for each channel */

/* Values with the number of their draws. */
struct drawn {
    float value;
    uint32_t count;
};
struct pool {
    struct drawn *items; /* owned */
    int64_t n, capacity;
};

static int by_value(const void *a, const void *b)
{
    const float x = ((const struct drawn *)a)->value, y = ((const struct drawn *)b)->value;
    return (x > y) - (x < y);
}

/* Sorts n items and adds up those of one value; returns how many are left. */
static int64_t merge(struct drawn *items, int64_t n)
{
    int64_t m = 0;
    qsort(items, (size_t)n, sizeof *items, by_value);
    for (int64_t i = 0; i < n; i++)
        if (m && items[m - 1].value == items[i].value)
            items[m - 1].count += items[i].count;
        else
            items[m++] = items[i];
    return m;
}

static enum mcs_status pool_add(struct pool *p, const struct drawn *items, int64_t n)
{
    if (p->n + n > p->capacity) {
        const int64_t capacity = 2 * p->capacity > p->n + n ? 2 * p->capacity : p->n + n;
        MCS_TRY(mcs_memory_check_as(MCS_E_NOMEM, capacity * (int64_t)sizeof *items,
                                    "the foreground's intensities: %lld different values", (long long)capacity));
        struct drawn *grown = realloc(p->items, (size_t)capacity * sizeof *grown);
        MCS_REQUIRE(grown, MCS_E_NOMEM, "no memory for %lld values of the foreground", (long long)capacity);
        p->items = grown;
        p->capacity = capacity;
    }
    memcpy(p->items + p->n, items, (size_t)n * sizeof *items);
    p->n += n;
    return MCS_OK;
}

/* ---- one case ---- */

struct job {
    const struct nnunet_dataset *dataset;
    struct fingerprint *fingerprint;
    struct pool *pools;    /* (channels) */
    double *relative_size; /* (cases) */
    int64_t n_draws;       /* for each case and channel */
};

/* The values of one channel that were drawn, merged, in items (n_foreground); returns their number. counts
 * (n_foreground) is scratch. */
static int64_t draw(struct job *j, struct numpy_random *random, const float *image, const float *label, int64_t n,
                    int64_t n_foreground, uint32_t *counts, struct drawn *items)
{
    int64_t at = 0, n_items = 0;
    memset(counts, 0, (size_t)n_foreground * sizeof *counts);
    mcs_numpy_count(random, j->n_draws, n_foreground - 1, counts);
    for (int64_t i = 0; i < n; i++)
        if (label[i] > 0 && counts[at++]) items[n_items++] = (struct drawn){image[i], counts[at - 1]};
    return merge(items, n_items);
}

/* images and label are cropped to n voxels. */
static enum mcs_status sample(struct job *j, const struct nnunet_case *c, const float *images, const float *label,
                              int64_t n)
{
    struct numpy_random random;
    enum mcs_status st = MCS_OK;
    int64_t n_foreground = 0;
    for (int64_t i = 0; i < n; i++) n_foreground += label[i] > 0;
    if (!n_foreground) return MCS_OK;
    struct drawn *items = malloc((size_t)n_foreground * sizeof *items);
    uint32_t *counts = malloc((size_t)n_foreground * sizeof *counts);
    MCS_REQUIRE_GOTO(items && counts, MCS_E_NOMEM, st, done, "case %s: no memory for %lld voxels of foreground",
                     c->name, (long long)n_foreground);
    mcs_numpy_seed(&random, SEED);
    for (int channel = 0; channel < j->dataset->n_channels; channel++) {
        const int64_t left = draw(j, &random, images + channel * n, label, n, n_foreground, counts, items);
        MCS_TRY_GOTO(pool_add(&j->pools[channel], items, left), st, done);
    }
done:
    free(items);
    free(counts);
    return st;
}

static enum mcs_status one_case(struct job *j, int i)
{
    const struct nnunet_dataset *d = j->dataset;
    const struct nnunet_case *c = &d->cases[i];
    struct nnunet_image images, label;
    struct nnunet_box box;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_nnunet_case_read(d, d->reader, c, &images, &label));
    MCS_REQUIRE_GOTO(mcs_nnunet_box(images.values, images.channels, images.shape, &box), MCS_E_DATA, st, done,
                     "case %s: every voxel of %s is 0", c->name, c->images[0]);
    int64_t n = 1, before = 1;
    for (int k = 0; k < 3; k++) {
        j->fingerprint->spacings[i][k] = images.spacing[k];
        j->fingerprint->shapes[i][k] = box.hi[k] - box.lo[k];
        n *= box.hi[k] - box.lo[k];
        before *= images.shape[k];
    }
    j->relative_size[i] = (double)n / (double)before;
    mcs_nnunet_crop(images.values, images.channels, images.shape, &box, images.values);
    mcs_nnunet_crop(label.values, 1, label.shape, &box, label.values);
    MCS_TRY_GOTO(sample(j, c, images.values, label.values, n), st, done);
done:
    mcs_nnunet_image_free(&images);
    mcs_nnunet_image_free(&label);
    return st;
}

/* ---- statistics ---- */

/* The value at position `at` of all draws, sorted. */
static double value_at(const struct pool *p, int64_t at)
{
    int64_t i = 0;
    while (i < p->n - 1 && at >= p->items[i].count) at -= p->items[i++].count;
    return p->items[i].value;
}

static double percentile(const struct pool *p, int64_t n, double q)
{
    const double at = (double)(n - 1) * q, below = floor(at);
    const double pair[2] = {value_at(p, (int64_t)below),
                            value_at(p, (int64_t)below + 1 < n ? (int64_t)below + 1 : n - 1)};
    return mcs_percentile(pair, 2, at - below);
}

static void statistics(struct pool *p, struct intensity *v)
{
    int64_t n = 0;
    double sum = 0, squares = 0;
    p->n = merge(p->items, p->n);
    for (int64_t i = 0; i < p->n; i++) {
        n += p->items[i].count;
        sum += (double)p->items[i].value * p->items[i].count;
    }
    v->mean = sum / (double)n;
    for (int64_t i = 0; i < p->n; i++) {
        const double difference = (double)p->items[i].value - v->mean;
        squares += difference * difference * p->items[i].count;
    }
    v->std = sqrt(squares / (double)n);
    v->min = p->items[0].value;
    v->max = p->items[p->n - 1].value;
    v->median = percentile(p, n, 0.5);
    v->percentile_00_5 = percentile(p, n, 0.005);
    v->percentile_99_5 = percentile(p, n, 0.995);
}

static enum mcs_status all_cases(struct job *j)
{
    const struct nnunet_dataset *d = j->dataset;
    struct mcs_progress progress;
    mcs_progress_start(&progress, "fingerprint", "case", d->n_cases);
    for (int i = 0; i < d->n_cases; i++) {
        MCS_REQUIRE(!mcs_stop_requested(), MCS_E_STOPPED, "stopped after %d of %d cases", i, d->n_cases);
        MCS_TRY(one_case(j, i));
        mcs_progress_set(&progress, i + 1);
    }
    mcs_progress_end(&progress);
    for (int c = 0; c < d->n_channels; c++) {
        MCS_REQUIRE(j->pools[c].n, MCS_E_DATA, "%s: no voxel of any label is above 0", d->path);
        statistics(&j->pools[c], &j->fingerprint->intensities[c]);
    }
    qsort(j->relative_size, (size_t)d->n_cases, sizeof *j->relative_size, mcs_double_compare);
    j->fingerprint->relative_size = mcs_median(j->relative_size, d->n_cases);
    return MCS_OK;
}

enum mcs_status mcs_fingerprint_make(const struct nnunet_dataset *d, struct fingerprint *f)
{
    MCS_TRY(mcs_fingerprint_alloc(f, d->n_cases, d->n_channels));
    struct job j = {d, f, calloc((size_t)d->n_channels + 1, sizeof *j.pools),
                    calloc((size_t)d->n_cases + 1, sizeof *j.relative_size), N_DRAWS / d->n_cases};
    enum mcs_status st;
    MCS_REQUIRE_GOTO(j.pools && j.relative_size, MCS_E_NOMEM, st, done, "no memory for %d cases", d->n_cases);
    MCS_TRY_GOTO(all_cases(&j), st, done);
done:
    for (int c = 0; j.pools && c < d->n_channels; c++) free(j.pools[c].items);
    free(j.pools);
    free(j.relative_size);
    if (st != MCS_OK) mcs_fingerprint_free(f);
    return st;
}
