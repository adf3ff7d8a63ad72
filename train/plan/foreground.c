#include "train/plan/foreground.h"

#include "train/plan/numpy_random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 1234, MIN_SAMPLES = 10000 };
static const double MIN_SHARE = 0.01, MAX_VOXELS = 1e7;

void mcs_foreground_free(struct foreground_list *list)
{
    for (int i = 0; i < list->n; i++) {
        free(list->items[i].classes);
        free(list->items[i].at);
    }
    free(list->items);
    *list = (struct foreground_list){0};
}

/* ---- classes and regions ---- */

static enum mcs_status add(struct foreground_list *list, int is_region, int n, const int *classes)
{
    struct foreground *f = &list->items[list->n++];
    *f = (struct foreground){.is_region = is_region, .n_classes = n, .classes = malloc(((size_t)n + 1) * sizeof(int))};
    MCS_REQUIRE(f->classes, MCS_E_NOMEM, "no memory for a list of %d classes", n);
    memcpy(f->classes, classes, (size_t)n * sizeof *classes);
    return MCS_OK;
}

/* Classes in order, or regions in the order of dataset.json; then all classes and -1 where there is an ignore label. */
static enum mcs_status list_groups(const struct nnunet_dataset *d, struct foreground_list *list)
{
    list->items = calloc((size_t)d->n_labels + (size_t)d->n_classes + 1, sizeof *list->items);
    MCS_REQUIRE(list->items, MCS_E_NOMEM, "no memory for %d classes", d->n_classes);
    for (int i = 0; d->has_regions && i < d->n_labels; i++) {
        const struct nnunet_label *l = &d->labels[i];
        if (strcmp(l->name, "ignore") != 0 && !mcs_nnunet_is_background(l))
            MCS_TRY(add(list, l->is_list, l->n, l->values));
    }
    for (int k = 1; !d->has_regions && k < d->n_classes; k++) MCS_TRY(add(list, 0, 1, &k));
    if (d->ignore < 0) return MCS_OK;
    int *all = malloc(((size_t)d->n_classes + 1) * sizeof *all);
    MCS_REQUIRE(all, MCS_E_NOMEM, "no memory for %d classes", d->n_classes);
    for (int k = 0; k <= d->n_classes; k++) all[k] = k - 1;
    const enum mcs_status st = add(list, 1, d->n_classes + 1, all);
    free(all);
    return st;
}

/* ---- drawing ---- */

/* Voxels that are not background and not drawn yet. */
struct rest {
    int64_t n, *index; /* (n) into the labels, ascending */
};

static enum mcs_status collect(const float *labels, int64_t n, struct rest *rest)
{
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) count += labels[i] != 0;
    rest->index = malloc(((size_t)count + 1) * sizeof *rest->index);
    MCS_REQUIRE(rest->index, MCS_E_NOMEM, "no memory for the places of %lld voxels", (long long)count);
    const int64_t every = (double)count > MAX_VOXELS ? (int64_t)floor((double)count / MAX_VOXELS) : 1;
    for (int64_t i = 0, k = 0; i < n; i++)
        if (labels[i] != 0 && k++ % every == 0) rest->index[rest->n++] = i;
    return MCS_OK;
}

static int belongs(const struct foreground *f, float label)
{
    for (int k = 0; k < f->n_classes; k++)
        if ((float)f->classes[k] == label) return 1;
    return 0;
}

static enum mcs_status draw(struct numpy_random *r, const float *labels, const int64_t shape[3], struct rest *rest,
                            struct foreground *f)
{
    int64_t n = 0, left = 0;
    for (int64_t i = 0; i < rest->n; i++) n += belongs(f, labels[rest->index[i]]);
    if (!n) return MCS_OK;
    const int64_t least = n < MIN_SAMPLES ? n : MIN_SAMPLES, share = (int64_t)ceil((double)n * MIN_SHARE);
    f->n = least > share ? least : share;
    int64_t *order = malloc((size_t)n * sizeof *order), *own = malloc((size_t)n * sizeof *own);
    f->at = malloc((size_t)f->n * sizeof *f->at);
    if (order && own && f->at) {
        int64_t at = 0;
        for (int64_t i = 0; i < rest->n; i++)
            if (belongs(f, labels[rest->index[i]]))
                own[at++] = rest->index[i];
            else
                rest->index[left++] = rest->index[i];
        rest->n = left;
        mcs_numpy_permutation(r, order, n);
        for (int64_t i = 0; i < f->n; i++) {
            const int64_t v = own[order[i]];
            f->at[i][0] = 0;
            f->at[i][1] = v / (shape[1] * shape[2]);
            f->at[i][2] = v / shape[2] % shape[1];
            f->at[i][3] = v % shape[2];
        }
    }
    const int good = order && own && f->at;
    free(order);
    free(own);
    MCS_REQUIRE(good, MCS_E_NOMEM, "no memory for the places of %lld voxels", (long long)n);
    return MCS_OK;
}

enum mcs_status mcs_foreground_draw(const struct nnunet_dataset *d, const float *labels, const int64_t shape[3],
                                    struct foreground_list *list)
{
    struct numpy_random random;
    struct rest rest = {0};
    enum mcs_status st;
    *list = (struct foreground_list){0};
    MCS_TRY_GOTO(list_groups(d, list), st, done);
    MCS_TRY_GOTO(collect(labels, shape[0] * shape[1] * shape[2], &rest), st, done);
    mcs_numpy_seed(&random, SEED);
    for (int i = 0; i < list->n; i++) MCS_TRY_GOTO(draw(&random, labels, shape, &rest, &list->items[i]), st, done);
done:
    free(rest.index);
    if (st != MCS_OK) mcs_foreground_free(list);
    return st;
}
