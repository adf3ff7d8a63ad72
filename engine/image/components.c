#include "engine/image/components.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Union-find root of a provisional label, with path halving. The root is the least label of its set. */
static int32_t find_root(int32_t *parent, int32_t a)
{
    while (parent[a] != a) a = parent[a] = parent[parent[a]];
    return a;
}

static int32_t join(int32_t *parent, int32_t a, int32_t b)
{
    a = find_root(parent, a);
    b = find_root(parent, b);
    if (a < b) return parent[b] = a;
    return parent[a] = b;
}

/* First pass: provisional labels from the four neighbours already visited. Returns the number of labels. */
static int32_t label_provisional(const uint8_t *mask, int width, int height, int32_t *labels, int32_t *parent)
{
    int32_t n = 0;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int64_t i = (int64_t)y * width + x;
            labels[i] = 0;
            if (!mask[i]) continue;
            int32_t near[4] = {x ? labels[i - 1] : 0, y && x ? labels[i - width - 1] : 0, y ? labels[i - width] : 0,
                               y && x + 1 < width ? labels[i - width + 1] : 0};
            int32_t l = 0;
            for (int k = 0; k < 4; k++)
                if (near[k]) l = l ? join(parent, l, near[k]) : near[k];
            if (!l) {
                l = ++n;
                parent[l] = l;
            }
            labels[i] = l;
        }
    return n;
}

static void measure(struct component *items, double *sums, const float *map, int width, int height,
                    const int32_t *labels)
{
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            int64_t i = (int64_t)y * width + x;
            if (!labels[i]) continue;
            struct component *c = items + labels[i] - 1;
            double *sum = sums + 3 * (int64_t)(labels[i] - 1); /* x, y, map */
            float v = map ? map[i] : 0.0f;
            if (!c->area) {
                *c = (struct component){.label = labels[i], .x0 = x, .y0 = y, .x1 = x, .y1 = y};
                c->peak_x = x;
                c->peak_y = y;
                c->peak = v;
            }
            c->area++;
            if (x < c->x0) c->x0 = x;
            if (x > c->x1) c->x1 = x;
            if (y > c->y1) c->y1 = y;
            if (v > c->peak) {
                c->peak = v;
                c->peak_x = x;
                c->peak_y = y;
            }
            sum[0] += x;
            sum[1] += y;
            sum[2] += v;
        }
}

enum mcs_status mcs_components_find(const uint8_t *mask, const float *map, int width, int height, int32_t *labels,
                                    struct component_list *list)
{
    *list = (struct component_list){0};
    MCS_REQUIRE(width > 0 && height > 0 && (int64_t)width * height < INT_MAX, MCS_E_SHAPE,
                "components of a %d x %d mask", width, height);
    enum mcs_status st = MCS_OK;
    double *sums = NULL;
    /* A pixel gets a new label only if its four visited neighbours are background: at most one per 2 x 2 block. */
    int64_t max_labels = (int64_t)((width + 1) / 2) * ((height + 1) / 2);
    int32_t *parent = malloc((size_t)(max_labels + 1) * sizeof *parent);
    MCS_REQUIRE_GOTO(parent, MCS_E_NOMEM, st, done, "no memory for the labels of a %d x %d mask", width, height);
    int32_t n_given = label_provisional(mask, width, height, labels, parent);

    /* Components are numbered in order of their roots, since a root is the label of the component's first pixel. */
    int32_t n = 0;
    for (int32_t l = 1; l <= n_given; l++) n += parent[l] == l;
    list->items = calloc((size_t)n + 1, sizeof *list->items);
    sums = calloc((size_t)n * 3 + 1, sizeof *sums);
    MCS_REQUIRE_GOTO(list->items && sums, MCS_E_NOMEM, st, done, "no memory for %d components", n);
    list->n = n;
    /* parent[l] < l except for roots, so one ascending sweep maps every label to its component's number. Numbers are
     * stored negated to tell them from labels. */
    int32_t next = 0;
    for (int32_t l = 1; l <= n_given; l++) parent[l] = parent[l] == l ? -(++next) : parent[parent[l]];
    for (int64_t i = 0; i < (int64_t)width * height; i++)
        if (labels[i]) labels[i] = -parent[labels[i]];

    measure(list->items, sums, map, width, height, labels);
    for (int32_t k = 0; k < n; k++) {
        struct component *c = list->items + k;
        c->cx = (float)(sums[3 * k] / c->area);
        c->cy = (float)(sums[3 * k + 1] / c->area);
        c->confidence = (float)(sums[3 * k + 2] / c->area);
    }
done:
    free(parent);
    free(sums);
    if (st != MCS_OK) mcs_components_free(list);
    return st;
}

void mcs_components_free(struct component_list *list)
{
    free(list->items);
    *list = (struct component_list){0};
}

void mcs_components_min_area(struct component_list *list, int min_area)
{
    int n = 0;
    for (int i = 0; i < list->n; i++)
        if (list->items[i].area >= min_area) list->items[n++] = list->items[i];
    list->n = n;
}

void mcs_components_min_confidence(struct component_list *list, float min_confidence)
{
    int n = 0;
    for (int i = 0; i < list->n; i++)
        if (list->items[i].confidence >= min_confidence) list->items[n++] = list->items[i];
    list->n = n;
}

void mcs_components_keep_area(struct component_list *list, int keep)
{
    if (keep <= 0 || list->n <= keep) return;
    /* Find the keep-th largest area, ties counted, by descending through the distinct areas. */
    int limit = INT_MAX, n_above = 0;
    while (n_above < keep) {
        int next = 0;
        for (int i = 0; i < list->n; i++)
            if (list->items[i].area < limit && list->items[i].area > next) next = list->items[i].area;
        limit = next;
        for (int i = 0; i < list->n; i++) n_above += list->items[i].area == limit;
    }
    mcs_components_min_area(list, limit);
}

enum mcs_status mcs_components_keep_score(struct component_list *list, const float *scores, int keep)
{
    for (int i = 0; i < list->n; i++)
        MCS_REQUIRE(!isnan(scores[i]), MCS_E_DATA, "the score of component %d is NaN", list->items[i].label);
    if (keep <= 0 || list->n <= keep) return MCS_OK;
    uint8_t *kept = calloc((size_t)list->n, 1);
    MCS_REQUIRE(kept, MCS_E_NOMEM, "no memory for %d components", list->n);
    for (int k = 0; k < keep; k++) {
        int best = 0;
        while (kept[best]) best++;
        for (int i = best + 1; i < list->n; i++) {
            if (kept[i] || scores[i] < scores[best]) continue;
            if (scores[i] > scores[best] || list->items[i].area > list->items[best].area) best = i;
        }
        kept[best] = 1;
    }
    int n = 0;
    for (int i = 0; i < list->n; i++)
        if (kept[i]) list->items[n++] = list->items[i];
    list->n = n;
    free(kept);
    return MCS_OK;
}

enum mcs_status mcs_components_mask(const struct component_list *list, const int32_t *labels, int64_t n_pixels,
                                    uint8_t *mask)
{
    int top = 0;
    for (int i = 0; i < list->n; i++)
        if (list->items[i].label > top) top = list->items[i].label;
    uint8_t *kept = calloc((size_t)top + 1, 1);
    MCS_REQUIRE(kept, MCS_E_NOMEM, "no memory for %d labels", top);
    for (int i = 0; i < list->n; i++) kept[list->items[i].label] = 1;
    for (int64_t i = 0; i < n_pixels; i++) mask[i] = labels[i] > 0 && labels[i] <= top && kept[labels[i]];
    free(kept);
    return MCS_OK;
}

/* Clamps v to 0 .. n - 1. */
static int clamp(int64_t v, int n)
{
    return v < 0 ? 0 : v >= n ? n - 1 : (int)v;
}

static void grow_axis(int *lo, int *hi, int px, int n)
{
    int middle = *lo + (*hi - *lo) / 2;
    int64_t a = (int64_t)*lo - px, b = (int64_t)*hi + px;
    if (a > b) a = b = middle;
    *lo = clamp(a, n);
    *hi = clamp(b, n);
}

void mcs_box_grow(int box[4], int px, int width, int height)
{
    grow_axis(&box[0], &box[2], px, width);
    grow_axis(&box[1], &box[3], px, height);
}
