#include "infer/coarse/coarse.h"

#include "engine/base/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct coarse_options mcs_coarse_defaults(enum mcs_form form)
{
    struct coarse_options o = {.form = form, .threshold_value = 0.3f, .keep = 1, .min_area = 1, .n_points = 10};
    if (form == MCS_PAPER) {
        o.threshold = MCS_COARSE_OTSU;
        o.rank = MCS_COARSE_CONFIDENCE;
        o.min_confidence = 0.5f;
    } else {
        o.threshold = MCS_COARSE_KMEANS;
        o.rank = MCS_COARSE_AREA;
        o.merge_boxes = 1;
    }
    return o;
}

enum mcs_status mcs_coarse_parse_threshold(const char *word, struct coarse_options *o)
{
    if (!strcmp(word, "otsu") || !strcmp(word, "kmeans")) {
        o->threshold = word[0] == 'o' ? MCS_COARSE_OTSU : MCS_COARSE_KMEANS;
        return MCS_OK;
    }
    char *end;
    errno = 0;
    double v = strtod(word, &end);
    MCS_REQUIRE(*word && !*end && !errno && isfinite(v), MCS_E_USAGE, "threshold %s: want otsu, kmeans or a number",
                word);
    o->threshold = MCS_COARSE_FIXED;
    o->threshold_value = (float)v;
    return MCS_OK;
}

enum mcs_status mcs_coarse_parse_rank(const char *word, struct coarse_options *o)
{
    static const char *const names[] = {"confidence", "area", "text", "both"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(word, names[i])) {
            o->rank = (enum mcs_coarse_rank)i;
            return MCS_OK;
        }
    return MCS_FAIL(MCS_E_USAGE, "rank %s: want confidence, area, text or both", word);
}

/* ---- components ---- */

static int needs_text(const struct coarse_options *o)
{
    return o->rank == MCS_COARSE_TEXT || o->rank == MCS_COARSE_BOTH;
}

static enum mcs_status keep_best(const struct coarse_options *o, const struct coarse_text_scorer *scorer,
                                 const char *stem, const int32_t *labels, int width, int height,
                                 struct component_list *list)
{
    mcs_components_min_area(list, o->min_area);
    mcs_components_min_confidence(list, o->min_confidence);
    if (!list->n) return MCS_OK;
    if (o->rank == MCS_COARSE_AREA) {
        mcs_components_keep_area(list, o->keep);
        return MCS_OK;
    }
    float *scores = malloc((size_t)list->n * sizeof *scores);
    MCS_REQUIRE(scores, MCS_E_NOMEM, "no memory for %d scores", list->n);
    enum mcs_status st = MCS_OK;
    if (needs_text(o))
        MCS_TRY_GOTO(scorer->score(scorer->context, stem, list, labels, width, height, scores), st, done);
    for (int i = 0; i < list->n; i++) {
        if (o->rank == MCS_COARSE_CONFIDENCE) scores[i] = list->items[i].confidence;
        if (o->rank == MCS_COARSE_BOTH) scores[i] += 2 * list->items[i].confidence;
    }
    MCS_TRY_GOTO(mcs_components_keep_score(list, scores, o->keep), st, done);
done:
    free(scores);
    return st;
}

/* ---- boxes and points ---- */

static int matches(int32_t label, uint8_t set, int32_t want)
{
    return want > 0 ? label == want && set : want == 0 ? set != 0 : !set;
}

/* Draws n points (at most n_pixels) without replacement among the n_pixels pixels of label `want` (0: the whole mask,
 * -1: outside the mask), which all lie in box. Selection sampling (Knuth, volume 2, 3.4.2, algorithm S): one draw per
 * pixel, no list of pixels, points in raster order. labels NULL: all of the mask has label `want`. Returns their
 * number. */
static int draw_points(struct mcs_rng rng, const int32_t *labels, const uint8_t *mask, int width, const int box[4],
                       int32_t want, int n_pixels, int n, struct box_point *points)
{
    int seen = 0, taken = 0;
    if (n > n_pixels) n = n_pixels;
    for (int y = box[1]; y <= box[3] && taken < n; y++)
        for (int x = box[0]; x <= box[2] && taken < n; x++) {
            int64_t i = (int64_t)y * width + x;
            if (!matches(labels ? labels[i] : want, mask[i], want)) continue;
            if (mcs_rng_below(rng, (uint32_t)seen, (uint32_t)(n_pixels - seen)) < (uint32_t)(n - taken))
                points[taken++] = (struct box_point){x, y, want >= 0};
            seen++;
        }
    return taken;
}

static void union_box(const struct component_list *list, int box[4], int *area, double *confidence)
{
    const struct component *first = list->items;
    box[0] = first->x0, box[1] = first->y0, box[2] = first->x1, box[3] = first->y1;
    *area = 0;
    *confidence = 0.0;
    for (int i = 0; i < list->n; i++) {
        const struct component *c = list->items + i;
        if (c->x0 < box[0]) box[0] = c->x0;
        if (c->y0 < box[1]) box[1] = c->y0;
        if (c->x1 > box[2]) box[2] = c->x1;
        if (c->y1 > box[3]) box[3] = c->y1;
        *area += c->area;
        *confidence += (double)c->confidence * c->area;
    }
    *confidence /= *area;
}

static enum mcs_status make_boxes(const struct coarse_options *o, const char *stem, const int32_t *labels,
                                  const uint8_t *mask, int width, int height, struct coarse_result *r)
{
    int all[4], all_area;
    double all_confidence;
    union_box(&r->components, all, &all_area, &all_confidence);
    int whole[4] = {0, 0, width - 1, height - 1}, n_outside = width * height - all_area;
    struct mcs_rng rng = {.seed = o->seed, .site = mcs_rng_site("coarse.points"), .sample = mcs_rng_site(stem)};
    r->n_boxes = o->merge_boxes ? 1 : r->components.n;
    r->boxes = mcs_arena_alloc(&r->arena, (size_t)r->n_boxes * sizeof *r->boxes);
    MCS_TRY(mcs_arena_status(&r->arena));
    for (int k = 0; k < r->n_boxes; k++) {
        const struct component *c = r->components.items + k;
        struct box_component *b = r->boxes + k;
        int box[4] = {c->x0, c->y0, c->x1, c->y1};
        if (o->merge_boxes) memcpy(box, all, sizeof box);
        b->area = o->merge_boxes ? all_area : c->area;
        b->confidence = o->merge_boxes ? all_confidence : (double)c->confidence;
        b->points = mcs_arena_alloc(&r->arena, ((size_t)o->n_points + o->n_negative + 1) * sizeof *b->points);
        MCS_TRY(mcs_arena_status(&r->arena));
        /* The released code draws once from the whole mask: every box gets the same points. */
        int from_all = o->merge_boxes || o->form == MCS_RELEASE;
        rng.step = from_all ? 0 : (uint32_t)c->label;
        b->n_points = draw_points(rng, labels, mask, width, from_all ? all : box, from_all ? 0 : c->label,
                                  from_all ? all_area : c->area, o->n_points, b->points);
        rng.step |= 0x80000000u;
        b->n_points +=
            draw_points(rng, labels, mask, width, whole, -1, n_outside, o->n_negative, b->points + b->n_points);
        mcs_box_grow(box, o->grow_px, width, height);
        if (o->form == MCS_RELEASE) { /* it uses x + w and y + h, one pixel outside the component */
            if (box[2] < width - 1) box[2]++;
            if (box[3] < height - 1) box[3]++;
        }
        b->x0 = box[0], b->y0 = box[1], b->x1 = box[2], b->y1 = box[3];
    }
    return MCS_OK;
}

/* ---- on the device ---- */

/* Divides one allocation into the buffers of a map's coarse mask. most: the largest possible number of 8-connected
 * components, since the pixels of a 2 x 2 block belong to one at most. */
static enum mcs_status lay_out(struct device_scratch *scratch, const struct map2 *map, const struct coarse_options *o,
                               struct coarse_args *a)
{
    const int64_t n = (int64_t)map->width * map->height,
                  most = (int64_t)((map->width + 1) / 2) * ((map->height + 1) / 2);
    const int release = o->form == MCS_RELEASE;
    MCS_TRY(mcs_device_scratch(scratch, most * (int64_t)sizeof *a->items + (int64_t)sizeof *a->found + 8 * n + 2 * n +
                                            most + 1));
    *a = (struct coarse_args){.height = map->height, .width = map->width, .value = o->threshold_value};
    switch (o->threshold) {
    case MCS_COARSE_OTSU: a->cut = THRESHOLD_OTSU; break;
    case MCS_COARSE_KMEANS: a->cut = release ? THRESHOLD_KMEANS_RELEASE : THRESHOLD_KMEANS; break;
    case MCS_COARSE_FIXED: a->cut = release ? THRESHOLD_FIXED_RELEASE : THRESHOLD_FIXED; break;
    }
    a->items = scratch->p;
    a->found = (struct coarse_found *)(a->items + most);
    a->labels = (int32_t *)(a->found + 1);
    a->map = (float *)(a->labels + n);
    a->above = (uint8_t *)(a->map + n);
    a->mask = a->above + n;
    a->keep = a->mask + n;
    return MCS_OK;
}

static enum mcs_status read_components(struct device *d, const struct coarse_args *a, int n,
                                       struct component_list *list)
{
    list->items = calloc((size_t)n + 1, sizeof *list->items);
    MCS_REQUIRE(list->items, MCS_E_NOMEM, "no memory for %d components", n);
    MCS_TRY(d->backend->download(d, list->items, a->items, n * (int64_t)sizeof *list->items));
    list->n = n;
    return MCS_OK;
}

/* The released code's 2-means is found here, since its steps depend on the order of the pixels; the device applies it.
 * Returns its threshold. */
static enum mcs_status find_release_cut(const struct map2 *map, float *cut, float *threshold)
{
    uint8_t *small = malloc(MCS_RELEASE_SIDE * MCS_RELEASE_SIDE);
    int level;
    MCS_REQUIRE(small, MCS_E_NOMEM, "no memory for a reduced map");
    mcs_kmeans_release_reduce(map->values, map->width, map->height, small);
    mcs_kmeans_release_cut(small, &level, threshold);
    *cut = (float)level;
    free(small);
    return MCS_OK;
}

/* Sets threshold, state and components of r. The thresholded mask and the labels stay on the device. */
static enum mcs_status find_components(struct device_scratch *scratch, const struct map2 *map,
                                       const struct coarse_options *o, uint8_t *above, struct coarse_args *a,
                                       struct coarse_result *r)
{
    struct device *d = scratch->device;
    const int64_t n = (int64_t)map->width * map->height;
    struct coarse_found found;
    float release_threshold = 0;
    MCS_TRY(lay_out(scratch, map, o, a));
    const int release = a->cut == THRESHOLD_KMEANS_RELEASE;
    if (release) MCS_TRY(find_release_cut(map, &a->value, &release_threshold));
    MCS_TRY(d->backend->upload(d, (float *)a->map, map->values, n * (int64_t)sizeof *map->values));
    MCS_TRY(d->backend->device_ops->coarse(d, a));
    MCS_TRY(d->backend->download(d, &found, a->found, sizeof found));
    if (found.level.bad) MCS_TRY(mcs_threshold_check(map->values, n)); /* says where */
    const int constant = release ? a->value >= MCS_THRESHOLD_BINS - 1 : (int)found.level.constant;
    r->threshold = release ? release_threshold : found.level.threshold;
    r->state = constant ? MCS_MASK_CONSTANT : found.level.set ? MCS_MASK_OK : MCS_MASK_NOTHING;
    if (above) MCS_TRY(d->backend->download(d, above, a->above, n));
    MCS_TRY(read_components(d, a, found.n, &r->components));
    r->n_found = found.n;
    return MCS_OK;
}

static enum mcs_status read_labels(struct device *d, const struct coarse_args *a, int32_t **labels)
{
    const int64_t n = (int64_t)a->width * a->height;
    *labels = malloc((size_t)n * sizeof **labels);
    MCS_REQUIRE(*labels, MCS_E_NOMEM, "no memory for the labels of %d x %d pixels", a->width, a->height);
    return d->backend->download(d, *labels, a->labels, n * (int64_t)sizeof **labels);
}

static enum mcs_status write_mask(struct device *d, struct coarse_args *a, const struct coarse_result *r, uint8_t *mask)
{
    enum mcs_status st;
    uint8_t *keep = calloc((size_t)r->n_found + 1, 1);
    MCS_REQUIRE(keep, MCS_E_NOMEM, "no memory for %d components", r->n_found);
    for (int i = 0; i < r->components.n; i++) keep[r->components.items[i].label] = 1;
    a->most_label = r->n_found;
    MCS_TRY_GOTO(d->backend->upload(d, (uint8_t *)a->keep, keep, r->n_found + 1), st, done);
    MCS_TRY_GOTO(d->backend->device_ops->coarse_keep(d, a), st, done);
    MCS_TRY_GOTO(d->backend->download(d, mask, a->mask, (int64_t)a->width * a->height), st, done);
done:
    free(keep);
    return st;
}

/* ---- the whole ---- */

enum mcs_status mcs_coarse_mask(struct device_scratch *scratch, const struct map2 *map, const char *stem,
                                const struct coarse_options *o, const struct coarse_text_scorer *scorer, uint8_t *above,
                                uint8_t *mask, struct coarse_result *r)
{
    const int width = map->width, height = map->height;
    *r = (struct coarse_result){0};
    MCS_REQUIRE(o->keep >= 0 && o->min_area >= 0 && o->n_points >= 0 && o->n_negative >= 0 && !isnan(o->min_confidence),
                MCS_E_USAGE, "coarse mask: keep, min-area and points must be 0 or more and min-confidence a number");
    MCS_REQUIRE(!needs_text(o) || scorer, MCS_E_USAGE, "rank text and both need a model, prompts and the images");
    MCS_REQUIRE(width > 0 && height > 0 && (int64_t)width * height < INT32_MAX, MCS_E_SHAPE, "%s: a map of %d x %d",
                stem, width, height);
    struct device *d = scratch->device;
    struct coarse_args a;
    int32_t *labels = NULL; /* NULL: not needed on the host */
    enum mcs_status st = MCS_OK;
    MCS_TRY_GOTO(find_components(scratch, map, o, above, &a, r), st, done);
    if (needs_text(o)) MCS_TRY_GOTO(read_labels(d, &a, &labels), st, done);
    MCS_TRY_GOTO(keep_best(o, scorer, stem, labels, width, height, &r->components), st, done);
    MCS_TRY_GOTO(write_mask(d, &a, r, mask), st, done);
    const int several = r->components.n > 1; /* then points need labels: the mask does not tell them apart */
    if (several && !labels) MCS_TRY_GOTO(read_labels(d, &a, &labels), st, done);
    if (r->state == MCS_MASK_OK && !r->components.n) r->state = MCS_MASK_FILTERED;
    if (r->components.n) MCS_TRY_GOTO(make_boxes(o, stem, several ? labels : NULL, mask, width, height, r), st, done);
done:
    free(labels);
    if (st != MCS_OK) mcs_coarse_free(r);
    return st;
}

void mcs_coarse_free(struct coarse_result *r)
{
    mcs_components_free(&r->components);
    mcs_arena_free(&r->arena);
    *r = (struct coarse_result){0};
}
