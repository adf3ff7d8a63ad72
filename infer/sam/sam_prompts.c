#include "infer/sam/sam_prompts.h"

#include "data/io/file.h"
#include "engine/base/path.h"
#include "engine/device_ops.h"
#include "engine/image/components.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 16 /* images in memory at once */ };

struct sam_options mcs_sam_defaults(enum mcs_form form)
{
    return (struct sam_options){.form = form};
}

void mcs_sam_result_free(struct sam_result *r)
{
    free(r->mask);
    free(r->prompts);
    *r = (struct sam_result){0};
}

/* ---- prompts of a case ---- */

/* Buffers of a chunk of cases; the arena owns points and labels. */
struct work {
    struct sam_prompts *prompts;
    int n, *owner; /* owner: the case in the chunk that a prompt belongs to */
    struct sam_frame frame[CHUNK];
    float *pixels, *iou;
    float *embeddings, *low_res; /* on the device */
    int *place;                  /* index of each prompt's masks in low_res */
    struct arena arena;
};

static void add_points(struct arena *a, const struct box_component *components, int n, struct sam_prompts *p)
{
    int total = 0, k = 0;
    for (int i = 0; i < n; i++) total += components[i].n_points;
    double(*points)[2] = mcs_arena_alloc(a, (size_t)(total + 1) * sizeof *points);
    int *labels = mcs_arena_alloc(a, (size_t)(total + 1) * sizeof *labels);
    if (!points || !labels) return; /* mcs_arena_status has the error */
    for (int i = 0; i < n; i++)
        for (int j = 0; j < components[i].n_points; j++, k++) {
            points[k][0] = components[i].points[j].x;
            points[k][1] = components[i].points[j].y;
            labels[k] = components[i].points[j].label;
        }
    p->n_points = total;
    p->points = (const double(*)[2])points;
    p->labels = labels;
}

static void add_box(const struct sam_options *o, const struct box_case *c, const struct box_component *b,
                    struct sam_prompts *p)
{
    int box[4] = {b->x0, b->y0, b->x1, b->y1};
    if (o->grow_px) mcs_box_grow(box, o->grow_px, c->width, c->height);
    p->has_box = 1;
    for (int k = 0; k < 4; k++) p->box[k] = box[k];
}

static struct box_component around_all(const struct box_case *c)
{
    struct box_component all = c->components[0];
    for (int i = 1; i < c->n_components; i++) {
        const struct box_component *b = &c->components[i];
        if (b->x0 < all.x0) all.x0 = b->x0;
        if (b->y0 < all.y0) all.y0 = b->y0;
        if (b->x1 > all.x1) all.x1 = b->x1;
        if (b->y1 > all.y1) all.y1 = b->y1;
    }
    return all;
}

static int n_prompts(const struct sam_options *o, const struct box_case *c)
{
    const int one = (o->kind == SAM_POINTS) ? o->form == MCS_RELEASE : o->merge_boxes;
    return c->n_components && one ? 1 : c->n_components;
}

static void add_case(struct work *w, const struct sam_options *o, const struct box_case *c, int owner)
{
    const int n = n_prompts(o, c);
    for (int i = 0; i < n; i++) {
        struct sam_prompts *p = &w->prompts[w->n];
        const int all = n < c->n_components || o->form == MCS_RELEASE; /* points of all components */
        const struct box_component box = n < c->n_components ? around_all(c) : c->components[i];
        *p = (struct sam_prompts){.image = owner};
        if (o->kind != SAM_BOXES)
            add_points(&w->arena, all ? c->components : &c->components[i], all ? c->n_components : 1, p);
        if (o->kind != SAM_POINTS) add_box(o, c, &box, p);
        w->owner[w->n++] = owner;
    }
}

/* ---- masks of a case ---- */

static enum mcs_status keep_largest(uint8_t *mask, int width, int height, int keep)
{
    struct component_list list = {0};
    const int64_t n = (int64_t)width * height;
    int32_t *labels = malloc((size_t)n * sizeof *labels);
    MCS_REQUIRE(labels, MCS_E_NOMEM, "no memory for labels");
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_components_find(mask, NULL, width, height, labels, &list), st, done);
    mcs_components_keep_area(&list, keep);
    MCS_TRY_GOTO(mcs_components_mask(&list, labels, n, mask), st, done);
done:
    mcs_components_free(&list);
    free(labels);
    return st;
}

/* Weight of each mask in the sum that is thresholded at .5: 1/n averages over the boxes (release, multimask); 1 makes
 * the union. */
static float weight_of(const struct sam_options *o, const struct sam_result *r)
{
    return o->multimask && o->form == MCS_RELEASE ? 1.0f / (float)r->n_prompts : 1.0f;
}

/* Computes r->mask of case `owner`, whose prompts are [first, first + r->n_prompts). */
static enum mcs_status unite(struct sam_model *m, const struct sam_options *o, struct work *w, int owner, int first,
                             struct sam_result *r)
{
    const int added = o->multimask && o->form == MCS_RELEASE, each = added ? SAM_MASKS - 1 : 1, n = r->n_prompts * each;
    struct sam_counts *counts = malloc((size_t)n * (sizeof *counts + sizeof(int32_t)));
    int32_t *plane = (int32_t *)(counts + n);
    enum mcs_status st;
    MCS_REQUIRE(counts, MCS_E_NOMEM, "no memory for %d masks", n);
    for (int i = 0; i < r->n_prompts; i++) {
        const float *iou = w->iou + (first + i) * SAM_MASKS;
        const int best = mcs_sam_choose(iou, o->multimask);
        r->prompts[i].chosen = added ? -1 : best;
        r->prompts[i].iou = iou[best];
        for (int k = 0; k < each; k++) plane[i * each + k] = w->place[first + i] * SAM_MASKS + (added ? 1 + k : best);
    }
    MCS_TRY_GOTO(
        mcs_sam_masks(&m->config, &m->masks, w->low_res, plane, n, &w->frame[owner], weight_of(o, r), r->mask, counts),
        st, done);
    for (int i = 0; i < r->n_prompts; i++)
        r->prompts[i].stability =
            counts[i * each + (added ? mcs_sam_choose(w->iou + (first + i) * SAM_MASKS, 1) - 1 : 0)].stability;
done:
    free(counts);
    return st;
}

static enum mcs_status finish_case(struct sam_model *m, const struct sam_options *o, struct work *w, int owner,
                                   int first, int n_components, struct sam_result *r)
{
    const struct sam_frame *f = &w->frame[owner];
    const int64_t n = (int64_t)f->width * f->height;
    if (!r->n_prompts) return MCS_OK; /* the mask stays 0 */
    for (int i = 0; i < r->n_prompts; i++) {
        const struct sam_prompts *p = &w->prompts[first + i];
        memcpy(r->prompts[i].box, p->box, sizeof p->box);
        r->prompts[i].n_points = p->n_points;
    }
    MCS_TRY(unite(m, o, w, owner, first, r));
    const int keep = o->keep ? o->keep : o->form == MCS_RELEASE ? n_components : 0;
    if (keep) MCS_TRY(keep_largest(r->mask, f->width, f->height, keep));
    for (int64_t i = 0; i < n; i++) r->area += r->mask[i];
    return MCS_OK;
}

/* ---- many cases ---- */

enum mcs_status mcs_sam_case_check(const struct sam_options *o, const struct sam_case *c)
{
    const struct box_case *b = c->prompts;
    MCS_REQUIRE(c->image->width == b->width && c->image->height == b->height, MCS_E_DATA,
                "%s: the image has %d x %d pixels, its prompts are for %d x %d", b->image, c->image->width,
                c->image->height, b->width, b->height);
    const int n = n_prompts(o, b);
    for (int i = 0; i < n && o->kind != SAM_BOXES; i++) {
        int n_points = 0;
        if (o->form == MCS_RELEASE || n < b->n_components) /* all points with each box */
            for (int k = 0; k < b->n_components; k++) n_points += b->components[k].n_points;
        else
            n_points = b->components[i].n_points;
        MCS_REQUIRE(n_points > 0, MCS_E_DATA,
                    "%s: no points to prompt with; make them with coarse --points, or use boxes", b->image);
    }
    return MCS_OK;
}

/* The file stem of a name, owned by the arena; NULL without memory (mcs_arena_status). */
static const char *stem_of(struct arena *a, const char *name)
{
    char stem[MCS_PATH_BYTES];
    mcs_file_stem(name, stem, sizeof stem);
    return mcs_arena_strdup(a, stem);
}

static enum mcs_status segment_chunk(struct sam_model *m, const struct sam_options *o, const struct sam_case *cases,
                                     int n, struct work *w, struct sam_result *results)
{
    int first[CHUNK], n_used = 0, slot[CHUNK], owner[CHUNK];
    struct sam_frame frames[CHUNK];
    const struct image *images[CHUNK];
    const char *stems[CHUNK];
    w->n = 0;
    for (int i = 0; i < n; i++) {
        struct sam_result *r = &results[i];
        const struct image *img = cases[i].image;
        first[i] = w->n;
        add_case(w, o, cases[i].prompts, i);
        MCS_TRY(mcs_arena_status(&w->arena));
        r->n_prompts = w->n - first[i];
        r->mask = calloc((size_t)img->width * (size_t)img->height, 1);
        r->prompts = calloc((size_t)r->n_prompts + 1, sizeof *r->prompts);
        MCS_REQUIRE(r->mask && r->prompts, MCS_E_NOMEM, "no memory for a mask of %d x %d", img->width, img->height);
        w->frame[i] = (struct sam_frame){.width = img->width, .height = img->height};
        if (!r->n_prompts) continue; /* not encoded: no prompts */
        stems[n_used] = o->embeddings.load || o->embeddings.save ? stem_of(&w->arena, cases[i].prompts->image) : NULL;
        images[n_used] = img;
        owner[n_used] = i;
        slot[i] = n_used++;
    }
    if (!w->n) return MCS_OK;
    for (int i = 0; i < w->n; i++) w->prompts[i].image = slot[w->owner[i]];
    MCS_TRY(mcs_arena_status(&w->arena));
    MCS_TRY(mcs_sam_embed(m, &o->embeddings, stems, images, n_used, w->pixels, frames, w->embeddings));
    for (int i = 0; i < n_used; i++) w->frame[owner[i]] = frames[i];
    MCS_TRY(
        mcs_sam_predict_on_device(m, w->embeddings, frames, n_used, w->prompts, w->n, w->low_res, w->place, w->iou));
    for (int i = 0; i < n; i++) MCS_TRY(finish_case(m, o, w, i, first[i], cases[i].prompts->n_components, &results[i]));
    return MCS_OK;
}

enum mcs_status mcs_sam_segment(struct sam_model *m, const struct sam_options *o, const struct sam_case *cases, int n,
                                struct sam_result *results)
{
    const struct sam_config *c = &m->config;
    const int64_t pixels = 3 * (int64_t)c->image_size * c->image_size, side = mcs_sam_side(c),
                  masks = SAM_MASKS * side * side;
    /* 16 images per chunk up to 256 pixels, 1 above, to limit memory. */
    const int chunk = c->image_size <= 256 ? CHUNK : 1;
    struct work w = {0};
    int max_prompts = 0;
    enum mcs_status st = MCS_OK;
    memset(results, 0, (size_t)n * sizeof *results);
    for (int i = 0; i < n; i += chunk) {
        int total = 0;
        for (int k = i; k < n && k < i + chunk; k++) {
            MCS_TRY(mcs_sam_case_check(o, &cases[k]));
            total += n_prompts(o, cases[k].prompts);
        }
        if (total > max_prompts) max_prompts = total;
    }
    w.prompts = malloc(((size_t)max_prompts + 1) * sizeof *w.prompts);
    w.owner = malloc(((size_t)max_prompts + 1) * sizeof *w.owner);
    w.pixels = malloc((size_t)(chunk * pixels) * sizeof(float));
    w.place = malloc(((size_t)max_prompts + 1) * sizeof *w.place);
    w.iou = malloc((size_t)(max_prompts * SAM_MASKS + 1) * sizeof(float));
    MCS_REQUIRE_GOTO(w.prompts && w.owner && w.pixels && w.place && w.iou, MCS_E_NOMEM, st, done,
                     "no memory for %d prompts", max_prompts);
    const int64_t values = (max_prompts + SAM_CHUNK) * masks + chunk * mcs_sam_embedding_values(c);
    MCS_TRY_GOTO(mcs_device_scratch(&m->work, values * (int64_t)sizeof(float)), st, done);
    w.low_res = m->work.p;
    w.embeddings = w.low_res + (max_prompts + SAM_CHUNK) * masks;
    for (int i = 0; i < n; i += chunk)
        MCS_TRY_GOTO(segment_chunk(m, o, cases + i, n - i < chunk ? n - i : chunk, &w, results + i), st, done);
done:
    free(w.prompts);
    free(w.owner);
    free(w.pixels);
    free(w.place);
    free(w.iou);
    mcs_arena_free(&w.arena);
    return st;
}
