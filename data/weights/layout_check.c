/* The tensors that are missing, misshapen or extra in a file of a known layout. */
#include "data/weights/layout_names.h"
#include "data/weights/weight_parts.h"
#include "engine/base/text_cut.h"

#include <stdlib.h>
#include <string.h>

/* The sizes that a letter has in the tensors seen so far; the most frequent one counts. */
enum { N_VOTES = 8, LIST_BYTES = 560 };
struct letter {
    int n, count[N_VOTES];
    int64_t size[N_VOTES];
};

struct list {
    int n;
    char text[LIST_BYTES];
};

struct checker {
    const struct weight_file *file;
    enum weight_layout from, to;
    struct letter letters[26];
    char *used; /* (file->n) */
    struct list missing, misshapen, extra;
};

static void vote(struct letter *l, int64_t size)
{
    int i = 0;
    while (i < l->n && l->size[i] != size) i++;
    if (i == N_VOTES) return;
    if (i == l->n) l->size[l->n++] = size;
    l->count[i]++;
}

/* -1: no tensor has told it. */
static int64_t elected(const struct letter *l)
{
    int best = 0;
    for (int i = 1; i < l->n; i++)
        if (l->count[i] > l->count[best]) best = i;
    return l->n ? l->size[best] : -1;
}

static int is_letter(const struct layout_size *s)
{
    return s->letter >= 'A' && s->letter <= 'Z';
}

/* -1: any. */
static int64_t wanted(const struct checker *c, const struct layout_size *s)
{
    if (!s->letter) return s->k;
    const int64_t size = is_letter(s) ? elected(&c->letters[s->letter - 'A']) : -1;
    return mcs_array_count(1, &size) < 0 ? -1 : size * s->k;
}

static void list_add(struct list *l, const char *text)
{
    const size_t used = strlen(l->text);
    if (l->n++ == 0)
        mcs_text_cut(l->text, sizeof l->text, "%s", text);
    else if (used + strlen(text) + 8 < sizeof l->text)
        mcs_text_cut(l->text + used, sizeof l->text - used, ", %s", text);
    else if (strcmp(l->text + used - 3, "...") != 0)
        mcs_text_cut(l->text + used, sizeof l->text - used, ", ...");
}

/* "(3, ?)" */
static const char *wanted_text(const struct checker *c, int nd, const struct layout_size *s, char dst[96])
{
    mcs_text_cut(dst, 96, "(");
    for (int d = 0; d < nd; d++) {
        const size_t used = strlen(dst);
        const int64_t size = wanted(c, &s[d]);
        if (size < 0)
            mcs_text_cut(dst + used, 96 - used, "%s?", d ? ", " : "");
        else
            mcs_text_cut(dst + used, 96 - used, "%s%lld", d ? ", " : "", (long long)size);
    }
    mcs_text_cut(dst + strlen(dst), 96 - strlen(dst), ")");
    return dst;
}

static void vote_shape(struct checker *c, const struct weight_tensor *t, int nd, const struct layout_size *s)
{
    if (t->nd != nd) return;
    for (int d = 0; d < nd; d++)
        if (is_letter(&s[d]) && t->dims[d] % s[d].k == 0) vote(&c->letters[s[d].letter - 'A'], t->dims[d] / s[d].k);
}

static void check_shape(struct checker *c, const struct weight_tensor *t, int nd, const struct layout_size *s)
{
    char line[LAYOUT_NAME + 256], have[96], want[96];
    int fits = t->nd == nd || (nd == 0 && t->nd == 1 && t->dims[0] == 1);
    for (int d = 0; d < nd && fits; d++) {
        const int64_t size = wanted(c, &s[d]);
        fits = size < 0 || size == t->dims[d];
    }
    if (!mcs_weight_is_float(t->type))
        mcs_text_cut(line, sizeof line, "%s is of type %s, want floats", t->name, mcs_array_type_name(t->type));
    else if (!fits)
        mcs_text_cut(line, sizeof line, "%s is %s, want %s", t->name,
                     mcs_array_shape_text(t->nd, t->dims, have, sizeof have), wanted_text(c, nd, s, want));
    else
        return;
    list_add(&c->misshapen, line);
}

/* One place: votes, or compares. */
static void check_place(struct checker *c, const struct layout_place *p, int comparing)
{
    struct layout_names names, other;
    struct layout_size sizes[MCS_ARRAY_MAX_ND];
    const int nd = mcs_layout_sizes(c->from, p, sizes), optional = p->row->how == HOW_NONE;
    const int twice = mcs_layout_how(c->from, p->row) == HOW_TWICE;
    int found = 0;
    mcs_layout_names(c->from, p, &names);
    mcs_layout_names(c->to, p, &other);
    for (int i = 0; i < names.n; i++) {
        const struct weight_tensor *t = mcs_weight_file_find(c->file, names.v[i]);
        if (!t) continue;
        found++;
        if (!comparing)
            vote_shape(c, t, nd, sizes);
        else
            check_shape(c, t, nd, sizes);
        c->used[t - c->file->tensors] = other.n > 0;
    }
    if (!comparing || optional || found == names.n || (twice && found)) return;
    for (int i = 0; i < names.n - twice; i++) {
        char line[LAYOUT_NAME + 128], want[96];
        if (mcs_weight_file_find(c->file, names.v[i])) continue;
        mcs_text_cut(line, sizeof line, "%s %s", names.v[i], wanted_text(c, nd, sizes, want));
        list_add(&c->missing, line);
    }
}

static void report_write(const struct checker *c, struct layout_report *r)
{
    *r = (struct layout_report){.missing = c->missing.n, .misshapen = c->misshapen.n, .extra = c->extra.n};
    const struct {
        const struct list *list;
        const char *what;
    } lists[] = {{&c->missing, "missing"}, {&c->misshapen, "of another shape or type"}, {&c->extra, "extra"}};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const size_t used = strlen(r->text);
        const struct list *l = lists[i].list;
        if (l->n)
            mcs_text_cut(r->text + used, sizeof r->text - used, "%s%d %s %s (%s)", used ? "; " : "", l->n,
                         l->n == 1 ? "tensor" : "tensors", lists[i].what, l->text);
    }
}

enum mcs_status mcs_weight_layout_check(const struct weight_file *file, enum weight_layout to,
                                        struct layout_report *report)
{
    struct checker *c = calloc(1, sizeof *c);
    MCS_REQUIRE(c, MCS_E_NOMEM, "%s: no memory to compare it", file->path);
    c->file = file;
    c->from = mcs_weight_layout(file);
    c->to = to;
    c->used = calloc((size_t)file->n + 1, 1);
    if (!c->used) {
        free(c);
        return MCS_FAIL(MCS_E_NOMEM, "%s: no memory to compare it", file->path);
    }
    for (int comparing = 0; comparing < 2; comparing++) {
        struct layout_walk w = {.file = file, .layout = c->from};
        while (mcs_layout_next(&w)) check_place(c, &w.place, comparing);
    }
    for (int i = 0; i < file->n; i++)
        if (!c->used[i] && !mcs_layout_is_buffer(file->tensors[i].name)) list_add(&c->extra, file->tensors[i].name);
    report_write(c, report);
    free(c->used);
    free(c);
    return MCS_OK;
}
