/* Components are found on runs of set voxels along x, joined by union-find, so that memory grows with the lesions'
 * outlines and not with the volume. */
#include "infer/metrics/lesions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct run {
    int begin, end; /* voxels begin to end - 1 */
    int64_t lesion; /* another run of the same component while they are joined, then its number from 0 */
};
struct runs {
    int64_t n, capacity, n_lesions;
    struct run *v;
    int64_t *row;   /* (ny nz + 1) first run of each row */
    int64_t *sizes; /* (n_lesions) voxels */
};

static void runs_free(struct runs *r)
{
    free(r->v);
    free(r->row);
    free(r->sizes);
}

static enum mcs_status add_row(struct runs *r, const uint8_t *row, int nx)
{
    for (int x = 0; x < nx;) {
        const uint8_t *set = memchr(row + x, 1, (size_t)(nx - x));
        if (!set) break;
        const int begin = (int)(set - row);
        const uint8_t *clear = memchr(set, 0, (size_t)(nx - begin));
        x = clear ? (int)(clear - row) : nx;
        if (r->n == r->capacity) {
            const int64_t capacity = r->capacity ? 2 * r->capacity : 256;
            struct run *v = realloc(r->v, (size_t)capacity * sizeof *v);
            MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for the components of a mask");
            r->v = v;
            r->capacity = capacity;
        }
        r->v[r->n] = (struct run){begin, x, r->n};
        r->n++;
    }
    return MCS_OK;
}

static int64_t root_of(struct runs *r, int64_t i)
{
    while (r->v[i].lesion != i) i = r->v[i].lesion = r->v[r->v[i].lesion].lesion;
    return i;
}

/* Joins the runs of two neighbouring rows that touch, also at a corner. The first run of a component is its root. */
static void join_rows(struct runs *r, int64_t a, int64_t b)
{
    for (int64_t i = r->row[a], k = r->row[b]; i < r->row[a + 1] && k < r->row[b + 1];) {
        if (r->v[i].begin <= r->v[k].end && r->v[k].begin <= r->v[i].end) {
            const int64_t x = root_of(r, i), y = root_of(r, k);
            r->v[x > y ? x : y].lesion = x < y ? x : y;
        }
        if (r->v[i].end < r->v[k].end)
            i++;
        else
            k++;
    }
}

static enum mcs_status find(const uint8_t *mask, const int n[3], struct runs *r)
{
    const int64_t rows = (int64_t)n[1] * n[2];
    r->row = calloc((size_t)rows + 1, sizeof *r->row);
    MCS_REQUIRE(r->row, MCS_E_NOMEM, "no memory for the components of a mask");
    for (int64_t i = 0; i < rows; i++) {
        MCS_TRY(add_row(r, mask + i * n[0], n[0]));
        r->row[i + 1] = r->n;
        const int64_t y = i % n[1];
        if (y > 0) join_rows(r, i, i - 1);
        for (int64_t k = -1; i >= n[1] && k <= 1; k++)
            if (y + k >= 0 && y + k < n[1]) join_rows(r, i, i - n[1] + k);
    }
    for (int64_t i = 0; i < r->n; i++) r->n_lesions += r->v[i].lesion == i;
    r->sizes = calloc((size_t)r->n_lesions + 1, sizeof *r->sizes);
    MCS_REQUIRE(r->sizes, MCS_E_NOMEM, "no memory for the components of a mask");
    int64_t numbered = 0;
    for (int64_t i = 0; i < r->n; i++) { /* a root comes before its other runs and has its number already */
        int64_t *lesion = &r->v[i].lesion;
        *lesion = *lesion == i ? numbered++ : r->v[*lesion].lesion;
        r->sizes[*lesion] += r->v[i].end - r->v[i].begin;
    }
    return MCS_OK;
}

/* ---- matching ---- */

struct overlap {
    int64_t pred, ref, voxels;
    double iou;
};
struct overlaps {
    int64_t n, capacity;
    struct overlap *v;
};

static int by_lesions(const void *a, const void *b)
{
    const struct overlap *x = a, *y = b;
    if (x->ref != y->ref) return x->ref < y->ref ? -1 : 1;
    return (x->pred > y->pred) - (x->pred < y->pred);
}

static int by_iou(const void *a, const void *b)
{
    const struct overlap *x = a, *y = b;
    if (x->iou != y->iou) return x->iou > y->iou ? -1 : 1;
    return by_lesions(a, b);
}

static enum mcs_status add_overlap(struct overlaps *o, int64_t pred, int64_t ref, int64_t voxels)
{
    if (o->n && o->v[o->n - 1].pred == pred && o->v[o->n - 1].ref == ref) {
        o->v[o->n - 1].voxels += voxels;
        return MCS_OK;
    }
    if (o->n == o->capacity) {
        const int64_t capacity = o->capacity ? 2 * o->capacity : 256;
        struct overlap *v = realloc(o->v, (size_t)capacity * sizeof *v);
        MCS_REQUIRE(v, MCS_E_NOMEM, "no memory for the overlaps of lesions");
        o->v = v;
        o->capacity = capacity;
    }
    o->v[o->n++] = (struct overlap){pred, ref, voxels, 0};
    return MCS_OK;
}

/* The pairs of lesions that overlap, each once. */
static enum mcs_status overlap(const struct runs *p, const struct runs *r, int64_t rows, struct overlaps *o)
{
    for (int64_t row = 0; row < rows; row++)
        for (int64_t i = p->row[row], k = r->row[row]; i < p->row[row + 1] && k < r->row[row + 1];) {
            const struct run *a = &p->v[i], *b = &r->v[k];
            const int begin = a->begin > b->begin ? a->begin : b->begin, end = a->end < b->end ? a->end : b->end;
            if (begin < end) MCS_TRY(add_overlap(o, a->lesion, b->lesion, end - begin));
            if (a->end < b->end)
                i++;
            else
                k++;
        }
    if (o->n) qsort(o->v, (size_t)o->n, sizeof *o->v, by_lesions);
    int64_t n = 0;
    for (int64_t i = 0; i < o->n; i++) {
        if (n && by_lesions(&o->v[n - 1], &o->v[i]) == 0)
            o->v[n - 1].voxels += o->v[i].voxels;
        else
            o->v[n++] = o->v[i];
    }
    o->n = n;
    return MCS_OK;
}

static enum mcs_status match(const struct runs *p, const struct runs *r, struct overlaps *o, double min_iou,
                             struct lesion_counts *c)
{
    uint8_t *taken = calloc((size_t)(p->n_lesions + r->n_lesions) + 1, 1);
    double sum = 0;
    MCS_REQUIRE(taken, MCS_E_NOMEM, "no memory for the matches of lesions");
    for (int64_t i = 0; i < o->n; i++) {
        struct overlap *v = &o->v[i];
        v->iou = (double)v->voxels / (double)(p->sizes[v->pred] + r->sizes[v->ref] - v->voxels);
    }
    if (o->n) qsort(o->v, (size_t)o->n, sizeof *o->v, by_iou);
    for (int64_t i = 0; i < o->n && o->v[i].iou >= min_iou; i++) {
        uint8_t *pred = &taken[o->v[i].pred], *ref = &taken[p->n_lesions + o->v[i].ref];
        if (*pred || *ref) continue;
        *pred = *ref = 1;
        c->n_matched++;
        sum += 2 * o->v[i].iou / (1 + o->v[i].iou);
    }
    free(taken);
    if (c->n_matched) c->dice = sum / (double)c->n_matched;
    return MCS_OK;
}

enum mcs_status mcs_lesions_match(const uint8_t *pred, const uint8_t *ref, const int n[3], double min_iou,
                                  struct lesion_counts *counts)
{
    struct runs p = {0}, r = {0};
    struct overlaps o = {0};
    enum mcs_status st;
    *counts = (struct lesion_counts){.dice = NAN};
    MCS_TRY_GOTO(find(pred, n, &p), st, done);
    MCS_TRY_GOTO(find(ref, n, &r), st, done);
    counts->n_pred = p.n_lesions;
    counts->n_ref = r.n_lesions;
    MCS_TRY_GOTO(overlap(&p, &r, (int64_t)n[1] * n[2], &o), st, done);
    MCS_TRY_GOTO(match(&p, &r, &o, min_iou, counts), st, done);
done:
    runs_free(&p);
    runs_free(&r);
    free(o.v);
    return st;
}
