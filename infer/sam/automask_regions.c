/* Small holes and islands of automatic masks, and their label map. */
#include "engine/image/components.h"
#include "infer/sam/automask_parts.h"

#include <stdlib.h>
#include <string.h>

/* Components of mask == foreground: those smaller than `area` become background (islands, unless all are small: then
 * the largest stays) or foreground (holes). */
static enum mcs_status clean(uint8_t *mask, int width, int height, int holes, int64_t area, int *changed)
{
    const int64_t n = (int64_t)width * height;
    struct component_list list = {0};
    int32_t *labels = malloc((size_t)n * sizeof *labels);
    uint8_t *part = malloc((size_t)n), *drop = NULL;
    int n_small = 0, largest = 0;
    enum mcs_status st;
    MCS_REQUIRE_GOTO(labels && part, MCS_E_NOMEM, st, done, "no memory for components");
    for (int64_t i = 0; i < n; i++) part[i] = (mask[i] == 0) == holes;
    MCS_TRY_GOTO(mcs_components_find(part, NULL, width, height, labels, &list), st, done);
    drop = calloc((size_t)list.n + 1, 1);
    MCS_REQUIRE_GOTO(drop, MCS_E_NOMEM, st, done, "no memory for components");
    for (int i = 0; i < list.n; i++) {
        if (list.items[i].area > list.items[largest].area) largest = i;
        n_small += drop[i + 1] = list.items[i].area < area;
    }
    if (!holes && list.n && n_small == list.n) drop[largest + 1] = 0;
    *changed |= n_small > 0;
    for (int64_t i = 0; i < n; i++)
        if (drop[labels[i]]) mask[i] = (uint8_t)holes;
done:
    mcs_components_free(&list);
    free(labels);
    free(part);
    free(drop);
    return st;
}

enum mcs_status mcs_automask_clean(uint8_t *mask, int width, int height, int64_t area, int *changed)
{
    *changed = 0;
    MCS_TRY(clean(mask, width, height, 1, area, changed));
    return clean(mask, width, height, 0, area, changed);
}

enum mcs_status mcs_automask_small_regions(const struct automask_options *o, int width, int height,
                                           struct automask_list *list)
{
    const double threshold = o->box_nms_thresh > o->crop_nms_thresh ? o->box_nms_thresh : o->crop_nms_thresh;
    float *scores = malloc(((size_t)list->n + 1) * sizeof *scores);
    uint8_t *mask = malloc((size_t)width * (size_t)height);
    enum mcs_status st;
    MCS_REQUIRE_GOTO(scores && mask, MCS_E_NOMEM, st, done, "no memory for %d masks", list->n);
    for (int i = 0; i < list->n; i++) {
        struct automask *a = &list->v[i];
        struct rle cleaned;
        int changed;
        mcs_rle_decode(&a->rle, mask);
        MCS_TRY_GOTO(mcs_automask_clean(mask, width, height, o->min_region_area, &changed), st, done);
        scores[i] = changed ? 0 : 1;
        if (!changed) continue;
        mcs_automask_box(mask, width, height, a->box);
        MCS_TRY_GOTO(mcs_rle_encode(mask, width, height, &cleaned), st, done);
        mcs_rle_free(&a->rle);
        a->rle = cleaned;
        a->area = mcs_rle_area(&cleaned);
    }
    st = mcs_automask_suppress(list, 0, scores, threshold);
done:
    free(scores);
    free(mask);
    return st;
}

/* ---- label map ---- */

struct sized {
    int64_t area;
    int index;
};

static int largest_first(const void *a, const void *b)
{
    const struct sized *x = a, *y = b;
    if (x->area != y->area) return x->area < y->area ? 1 : -1;
    return x->index - y->index;
}

enum mcs_status mcs_automask_labels(const struct automask_list *list, int width, int height, uint16_t *labels)
{
    MCS_REQUIRE(list->n <= UINT16_MAX, MCS_E_USAGE, "%d masks; a label map has at most %d", list->n, UINT16_MAX);
    struct sized *order = malloc(((size_t)list->n + 1) * sizeof *order);
    MCS_REQUIRE(order, MCS_E_NOMEM, "no memory for %d masks", list->n);
    for (int i = 0; i < list->n; i++) order[i] = (struct sized){list->v[i].area, i};
    qsort(order, (size_t)list->n, sizeof *order, largest_first);
    memset(labels, 0, (size_t)width * (size_t)height * sizeof *labels);
    for (int i = 0; i < list->n; i++) {
        const struct rle *r = &list->v[order[i].index].rle;
        int64_t at = 0;
        for (int k = 0; k < r->n; at += r->counts[k++])
            for (uint32_t j = 0; k % 2 && j < r->counts[k]; j++)
                labels[(at + j) % height * width + (at + j) / height] = (uint16_t)(order[i].index + 1);
    }
    free(order);
    return MCS_OK;
}
