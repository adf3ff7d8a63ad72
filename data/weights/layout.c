#include "data/weights/layout.h"

#include "data/io/bounds.h"
#include "data/weights/layout_names.h"
#include "data/weights/weight_parts.h"

#include <stdlib.h>
#include <string.h>

/* ---- which layout ---- */

/* Tensors of the layout that the file has, less those that it has not; 0 where it has at most half of them. */
static int score(const struct weight_file *f, enum weight_layout layout)
{
    struct layout_walk w = {.file = f, .layout = layout};
    struct layout_names names;
    int found = 0, expected = 0;
    while (mcs_layout_next(&w)) {
        int here = 0;
        mcs_layout_names(layout, &w.place, &names);
        for (int i = 0; i < names.n; i++) here += mcs_weight_file_find(f, names.v[i]) != NULL;
        const int twice = w.place.row->how == HOW_TWICE, optional = w.place.row->how == HOW_NONE;
        found += twice ? here > 0 : optional ? 0 : here;
        expected += twice ? 1 : optional ? 0 : names.n;
    }
    return 2 * found > expected ? 2 * found - expected : 0;
}

enum weight_layout mcs_weight_layout(const struct weight_file *file)
{
    enum weight_layout best = LAYOUT_UNKNOWN;
    int most = 0;
    for (int k = 0; k < LAYOUT_N; k++) {
        const int s = score(file, (enum weight_layout)k);
        if (s <= most) continue;
        most = s;
        best = (enum weight_layout)k;
    }
    return best;
}

/* ---- the view ---- */

struct view_maker {
    const struct weight_file *base;
    enum weight_layout from, to;
    struct weight_file *view; /* its tensors have room for all that are added */
    char *used;               /* (base->n) this tensor has its place in the view */
};

static enum mcs_status add(struct view_maker *m, const struct weight_tensor *t, const char *name)
{
    struct weight_tensor *dst = &m->view->tensors[m->view->n];
    char *copy = mcs_arena_strdup(&m->view->arena, name);
    MCS_TRY(mcs_arena_status(&m->view->arena));
    *dst = *t;
    dst->name = copy;
    m->view->n++;
    return MCS_OK;
}

/* Puts `lead` dimensions of 1 before the others. */
static void put_lead(struct weight_tensor *t, int lead)
{
    for (int d = t->nd - 1; d >= 0; d--) {
        t->dims[d + lead] = t->dims[d];
        t->strides[d + lead] = t->strides[d];
    }
    for (int d = 0; d < lead; d++) t->dims[d] = t->strides[d] = 1;
    t->nd += lead;
}

static void cut_lead(struct weight_tensor *t, int lead)
{
    t->nd -= lead;
    for (int d = 0; d < t->nd; d++) {
        t->dims[d] = t->dims[d + lead];
        t->strides[d] = t->strides[d + lead];
    }
}

static void transpose(struct weight_tensor *t)
{
    const int64_t dim = t->dims[0], stride = t->strides[0];
    t->dims[0] = t->dims[1];
    t->strides[0] = t->strides[1];
    t->dims[1] = dim;
    t->strides[1] = stride;
}

/* Joins three tensors; 0 where they do not fit together. */
static int join(struct view_maker *m, const struct weight_tensor *const parts[3], struct weight_tensor *t)
{
    *t = *parts[0];
    if (!mcs_weight_is_float(t->type) || t->nd < 1) return 0;
    for (int i = 1; i < 3; i++) {
        const struct weight_tensor *p = parts[i];
        if (p->type != t->type || !mcs_array_same_shape(p->nd, p->dims, parts[0]->nd, parts[0]->dims)) return 0;
    }
    t->dims[0] = mcs_size_mul(3, t->dims[0]);
    t->n_bytes = mcs_size_mul(3, t->n_bytes);
    t->n_values = mcs_array_count(t->nd, t->dims);
    if (t->n_values < 0 || t->n_bytes < 0) return 0;
    struct weight_tensor *pieces = mcs_arena_alloc(&m->view->arena, 3 * sizeof *pieces);
    if (!pieces) return 0; /* the arena's status says so */
    for (int i = 0; i < 3; i++) pieces[i] = *parts[i];
    t->pieces = pieces;
    t->n_pieces = 3;
    return 1;
}

/* The reference's tensor of a place; 0 where the file has not all of it, or with other dimensions. */
static int take(struct view_maker *m, const struct layout_place *p, struct weight_tensor *t)
{
    const enum layout_how how = mcs_layout_how(m->from, p->row);
    const struct weight_tensor *found[3] = {NULL};
    struct layout_names names;
    struct layout_size sizes[MCS_ARRAY_MAX_ND];
    mcs_layout_names(m->from, p, &names);
    for (int i = 0; i < names.n; i++) found[i] = mcs_weight_file_find(m->base, names.v[i]);
    const struct weight_tensor *first = found[0] ? found[0] : how == HOW_TWICE ? found[1] : NULL;
    const int nd = mcs_layout_sizes(m->from, p, sizes);
    if (!first || (how == HOW_JOIN && (!found[1] || !found[2]))) return 0;
    *t = *first;
    if (nd == 0 && t->nd == 1 && t->dims[0] == 1) t->nd = 0; /* a scalar stored as (1) */
    if (t->nd != nd || (how == HOW_JOIN && !join(m, found, t))) return 0;
    if (how == HOW_LEAD1) put_lead(t, 1);
    if (how == HOW_LEAD2) put_lead(t, 2);
    if (how == HOW_TRANSPOSE) transpose(t);
    for (int i = 0; i < names.n; i++)
        if (found[i]) m->used[found[i] - m->base->tensors] = 1;
    return 1;
}

/* Adds the reference's tensor in the names of `to`; *placed: 0 where it has no place there. */
static enum mcs_status place(struct view_maker *m, const struct layout_place *p, struct weight_tensor *t, int *placed)
{
    const enum layout_how how = mcs_layout_how(m->to, p->row);
    struct layout_names names;
    mcs_layout_names(m->to, p, &names);
    const int lead = how == HOW_LEAD1 ? 1 : how == HOW_LEAD2 ? 2 : 0;
    *placed = names.n > 0 && (how != HOW_JOIN || (!t->n_pieces && t->dims[0] % 3 == 0));
    for (int d = 0; d < lead; d++) *placed &= t->dims[d] == 1;
    if (!*placed) return MCS_OK;
    cut_lead(t, lead);
    if (how == HOW_TRANSPOSE) transpose(t);
    if (how == HOW_JOIN) {
        const int64_t rows = t->dims[0] / 3, item = mcs_array_type_bytes(t->type);
        t->dims[0] = rows;
        t->n_values /= 3;
        t->n_bytes /= 3;
        for (int i = 0; i < 3; i++) {
            MCS_TRY(add(m, t, names.v[i]));
            if (t->n_values) t->offset += rows * t->strides[0] * item; /* within the storage: rows are its rows */
        }
        return MCS_OK;
    }
    for (int i = 0; i < names.n; i++) MCS_TRY(add(m, t, names.v[i]));
    return MCS_OK;
}

static enum mcs_status fill(struct view_maker *m)
{
    struct layout_walk w = {.file = m->base, .layout = m->from};
    struct weight_tensor t;
    while (m->from != m->to && mcs_layout_next(&w)) {
        int placed = 0;
        const int taken = take(m, &w.place, &t);
        MCS_TRY(mcs_arena_status(&m->view->arena));
        if (taken) MCS_TRY(place(m, &w.place, &t, &placed));
        if (!taken || placed) continue;
        struct layout_names names; /* it keeps its own name */
        mcs_layout_names(m->from, &w.place, &names);
        for (int i = 0; i < names.n; i++) {
            const struct weight_tensor *own = mcs_weight_file_find(m->base, names.v[i]);
            if (own) m->used[own - m->base->tensors] = 0;
        }
    }
    for (int i = 0; i < m->base->n; i++) {
        const struct weight_tensor *own = &m->base->tensors[i];
        if (!m->used[i] && (m->from == LAYOUT_UNKNOWN || !mcs_layout_is_buffer(own->name)))
            MCS_TRY(add(m, own, own->name));
    }
    return mcs_weight_sort(m->view);
}

static enum mcs_status make_view(const struct weight_file *base, enum weight_layout to, struct weight_file *view)
{
    struct view_maker m = {base, mcs_weight_layout(base), to, view, NULL};
    if (to == LAYOUT_UNKNOWN) m.from = to;
    MCS_REQUIRE(mcs_layout_family(m.from) == mcs_layout_family(to), MCS_E_USAGE,
                "%s: has %s, which are not those of a model with %s", base->path, mcs_layout_text(m.from),
                mcs_layout_text(to));
    *view = *base;
    view->arena = (struct arena){0};
    view->tensors = NULL;
    view->n = 0;
    view->base = base;
    view->owned = NULL;
    view->prefix = "";
    /* Each tensor of the file is at most three of the view, or one of three. */
    MCS_TRY(mcs_weight_reserve(view, mcs_size_mul(3, base->n)));
    m.used = mcs_arena_alloc(&view->arena, (size_t)base->n + 1);
    MCS_REQUIRE(m.used, MCS_E_NOMEM, "%s: no memory for its list of tensors", base->path);
    return fill(&m);
}

enum mcs_status mcs_weight_view(const struct weight_file *file, enum weight_layout to, struct weight_file **view)
{
    *view = NULL;
    struct weight_file *v = calloc(1, sizeof *v);
    MCS_REQUIRE(v, MCS_E_NOMEM, "%s: no memory for its list of tensors", file->path);
    v->base = file; /* so that closing it leaves the file open */
    const enum mcs_status st = make_view(file, to, v);
    if (st == MCS_OK)
        *view = v;
    else
        mcs_weight_file_close(v);
    return st;
}

enum mcs_status mcs_weight_model_open(const char *path, struct weight_file **view)
{
    struct weight_file *file;
    MCS_TRY(mcs_weight_file_open(path, &file));
    const enum mcs_status st = mcs_weight_view(file, mcs_layout_reference(mcs_weight_layout(file)), view);
    if (st == MCS_OK)
        (*view)->owned = file;
    else
        mcs_weight_file_close(file);
    return st;
}
