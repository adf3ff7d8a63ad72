#include "infer/metrics/regions.h"

#include "data/io/file.h"
#include "data/nnunet/nnunet_dataset.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* ---- lists ---- */

static struct region *add(struct arena *a, struct region_list *list, const char *name, int n, int64_t **labels)
{
    struct region *v = mcs_arena_alloc(a, ((size_t)list->n + 1) * sizeof *v);
    *labels = mcs_arena_alloc(a, ((size_t)n + 1) * sizeof **labels);
    if (!v || !*labels) return NULL; /* mcs_arena_status has the error */
    if (list->n) memcpy(v, list->v, (size_t)list->n * sizeof *v);
    v[list->n] = (struct region){.name = mcs_arena_strdup(a, name), .n = n, .labels = *labels};
    list->v = v;
    return &v[list->n++];
}

/* "1+2" -> 1, 2. text is changed. */
static enum mcs_status parse_labels(struct arena *a, const char *name, char *text, struct region_list *list)
{
    int n = 1;
    int64_t *labels;
    char *end;
    for (const char *c = text; *c; c++) n += *c == '+';
    if (!add(a, list, name, n, &labels)) return mcs_arena_status(a);
    for (int i = 0; i < n; i++, text = end + 1) {
        const long v = strtol(text, &end, 10);
        MCS_REQUIRE(end != text && *end == (i + 1 < n ? '+' : 0) && v > 0 && v <= 65535, MCS_E_USAGE,
                    "--labels: \"%s\" has no labels from 1 to 65535 in it; want such as 1,2 or organ=1+2,tumour=2",
                    name);
        labels[i] = v;
    }
    return MCS_OK;
}

static enum mcs_status from_dataset(const char *path, struct arena *a, struct label_rule *rule,
                                    struct region_list *list)
{
    struct nnunet_dataset d;
    int64_t *labels;
    MCS_TRY(mcs_nnunet_dataset_read(path, &d));
    for (int i = 0; i < d.n_labels; i++) {
        const struct nnunet_label *l = &d.labels[i];
        if (mcs_nnunet_is_background(l) || (l->n == 1 && l->values[0] == d.ignore)) continue;
        if (!add(a, list, l->name, l->n, &labels)) break;
        for (int k = 0; k < l->n; k++) labels[k] = l->values[k];
    }
    if (d.ignore >= 0 && !rule->has_ignore) {
        rule->has_ignore = 1;
        rule->ignore = d.ignore;
    }
    mcs_nnunet_dataset_close(&d);
    return mcs_arena_status(a);
}

enum mcs_status mcs_regions_parse(const char *text, struct arena *a, struct label_rule *rule, struct region_list *list)
{
    *list = (struct region_list){0};
    if (mcs_file_has_ending(text, ".json")) return from_dataset(text, a, rule, list);
    char *rest = mcs_arena_strdup(a, text);
    MCS_TRY(mcs_arena_status(a));
    while (rest) {
        char *part = rest, *comma = strchr(rest, ','), *equals;
        if (comma) *comma = 0;
        rest = comma ? comma + 1 : NULL;
        equals = strchr(part, '=');
        if (equals) *equals = 0;
        char *labels = equals ? equals + 1 : mcs_arena_strdup(a, part);
        MCS_TRY(mcs_arena_status(a));
        for (int i = 0; i < list->n; i++)
            MCS_REQUIRE(strcmp(list->v[i].name, part) != 0, MCS_E_USAGE, "--labels: \"%s\" is named twice", part);
        MCS_REQUIRE(*part, MCS_E_USAGE, "--labels %s: an empty name; want such as 1,2 or organ=1+2,tumour=2", text);
        MCS_TRY(parse_labels(a, part, labels, list));
    }
    return MCS_OK;
}

void mcs_regions_any(struct arena *a, struct region_list *list)
{
    int64_t *labels;
    *list = (struct region_list){0};
    struct region *r = add(a, list, "1", 0, &labels);
    if (r) r->any = 1;
}

void mcs_regions_each(struct arena *a, const int64_t *labels, int n, const struct label_rule *rule,
                      struct region_list *list)
{
    *list = (struct region_list){0};
    for (int i = 0; i < n; i++) {
        int64_t *one;
        if (labels[i] == 0 || (rule->has_ignore && labels[i] == rule->ignore)) continue;
        if (!add(a, list, mcs_arena_printf(a, "%lld", (long long)labels[i]), 1, &one)) return;
        one[0] = labels[i];
    }
}

static int holds(const struct region *r, int64_t label, const struct label_rule *rule)
{
    if (label == 0 || (rule->has_ignore && label == rule->ignore)) return 0;
    if (r->any) return 1;
    for (int i = 0; i < r->n; i++)
        if (r->labels[i] == label) return 1;
    return 0;
}

enum mcs_status mcs_regions_check(const struct region_list *list, const struct label_map *m, const char *path,
                                  const struct label_rule *rule)
{
    char place[64];
    for (int i = 0; i < m->n; i++) {
        int known = m->label[i] == 0 || m->count[i] == 0 || (rule->has_ignore && m->label[i] == rule->ignore);
        for (int k = 0; k < list->n && !known; k++) known = holds(&list->v[k], m->label[i], rule);
        MCS_REQUIRE(known, MCS_E_DATA, "%s: voxel %s, counted from 0, has label %lld, which is none of --labels", path,
                    mcs_labels_place(m, m->first[i], place), (long long)m->label[i]);
    }
    return MCS_OK;
}

/* ---- counts and boxes of each label ---- */

struct box {
    int lo[3], hi[3]; /* hi < lo: empty */
};
struct tally {
    int64_t joint[MCS_LABELS_MAX][MCS_LABELS_MAX]; /* voxels by number of prediction and reference */
    struct box pred[MCS_LABELS_MAX], ref[MCS_LABELS_MAX];
};

static void grow(struct box *b, int x0, int x1, int y, int z)
{
    const int lo[3] = {x0, y, z}, hi[3] = {x1, y, z};
    for (int i = 0; i < 3; i++) {
        if (lo[i] < b->lo[i]) b->lo[i] = lo[i];
        if (hi[i] > b->hi[i]) b->hi[i] = hi[i];
    }
}

/* Runs of equal pairs of labels along x. */
static void tally_row(struct tally *t, const uint8_t *pred, const uint8_t *ref, int nx, int y, int z)
{
    for (int x = 0, end; x < nx; x = end) {
        const uint8_t p = pred[x], r = ref[x];
        for (end = x + 1; end < nx && pred[end] == p && ref[end] == r; end++) continue;
        t->joint[p][r] += end - x;
        grow(&t->pred[p], x, end - 1, y, z);
        grow(&t->ref[r], x, end - 1, y, z);
    }
}

static struct tally *tally_new(const struct label_map *pred, const struct label_map *ref)
{
    struct tally *t = calloc(1, sizeof *t);
    const int *n = ref->grid.n;
    if (!t) return NULL;
    for (int i = 0; i < MCS_LABELS_MAX; i++) t->pred[i] = t->ref[i] = (struct box){{n[0], n[1], n[2]}, {-1, -1, -1}};
    for (int z = 0; z < n[2]; z++)
        for (int y = 0; y < n[1]; y++) {
            const int64_t row = ((int64_t)z * n[1] + y) * n[0];
            tally_row(t, pred->index + row, ref->index + row, n[0], y, z);
        }
    return t;
}

/* ---- one region ---- */

struct members {
    uint8_t of_pred[MCS_LABELS_MAX + 1], of_ref[MCS_LABELS_MAX + 1];
};

static struct mask_counts counts_of(const struct tally *t, const struct members *in, int64_t n)
{
    int64_t tp = 0, n_pred = 0, n_ref = 0;
    for (int p = 0; p < MCS_LABELS_MAX; p++)
        for (int r = 0; r < MCS_LABELS_MAX; r++) {
            const int64_t v = t->joint[p][r];
            tp += in->of_pred[p] && in->of_ref[r] ? v : 0;
            n_pred += in->of_pred[p] ? v : 0;
            n_ref += in->of_ref[r] ? v : 0;
        }
    return (struct mask_counts){tp, n_pred - tp, n_ref - tp, n - n_pred - n_ref + tp, n_pred, n_ref};
}

static void box_of(const struct tally *t, const struct members *in, struct box *b)
{
    *b = (struct box){{1 << 30, 1 << 30, 1 << 30}, {-1, -1, -1}};
    for (int i = 0; i < MCS_LABELS_MAX; i++)
        for (int side = 0; side < 2; side++) {
            const struct box *o = side ? &t->ref[i] : &t->pred[i];
            if (!(side ? in->of_ref[i] : in->of_pred[i]) || o->hi[0] < 0) continue;
            grow(b, o->lo[0], o->hi[0], o->lo[1], o->lo[2]);
            grow(b, o->lo[0], o->hi[0], o->hi[1], o->hi[2]);
        }
}

static void cut(const struct label_map *m, const struct box *b, const uint8_t *member, uint8_t *mask)
{
    const int nx = b->hi[0] - b->lo[0] + 1, ny = b->hi[1] - b->lo[1] + 1, nz = b->hi[2] - b->lo[2] + 1;
#pragma omp parallel for
    for (int row = 0; row < ny * nz; row++) {
        const int64_t y = b->lo[1] + row % ny, z = b->lo[2] + row / ny;
        const uint8_t *from = m->index + (z * m->grid.n[1] + y) * m->grid.n[0] + b->lo[0];
        uint8_t *to = mask + (int64_t)row * nx;
        for (int x = 0; x < nx; x++) to[x] = member[from[x]];
    }
}

static enum mcs_status measure(const struct region *region, const struct label_map *pred, const struct label_map *ref,
                               const struct region_options *o, const struct tally *t, int64_t n_valid,
                               struct mask_metrics *m)
{
    static const uint8_t nothing[1];
    struct members in = {{0}, {0}};
    struct box b;
    for (int i = 0; i < pred->n; i++) in.of_pred[i] = (uint8_t)holds(region, pred->label[i], &o->rule);
    for (int i = 0; i < ref->n; i++) in.of_ref[i] = (uint8_t)holds(region, ref->label[i], &o->rule);
    const struct mask_counts counts = counts_of(t, &in, n_valid);
    const int one_layer = ref->grid.n[2] == 1;
    int n[3] = {1, 1, one_layer ? 1 : 2};
    if (counts.n_pred + counts.n_ref == 0) {
        const uint8_t empty[2] = {0};
        return mcs_metrics_measure_all(one_layer ? nothing : empty, one_layer ? nothing : empty, n, ref->grid.spacing,
                                       o->tolerance, o->min_iou, &counts, m);
    }
    box_of(t, &in, &b);
    /* A volume stays one where the foreground lies in one slice. */
    if (!one_layer && b.hi[2] == b.lo[2]) {
        if (b.lo[2] > 0)
            b.lo[2]--;
        else
            b.hi[2]++;
    }
    for (int i = 0; i < 3; i++) n[i] = b.hi[i] - b.lo[i] + 1;
    const int64_t voxels = (int64_t)n[0] * n[1] * n[2];
    MCS_TRY(mcs_memory_check(2 * voxels, "masks of %d x %d x %d voxels", n[0], n[1], n[2]));
    uint8_t *masks = malloc((size_t)voxels * 2);
    MCS_REQUIRE(masks, MCS_E_NOMEM, "no memory for masks of %d x %d x %d voxels", n[0], n[1], n[2]);
    cut(pred, &b, in.of_pred, masks);
    cut(ref, &b, in.of_ref, masks + voxels);
    const enum mcs_status st =
        mcs_metrics_measure_all(masks, masks + voxels, n, ref->grid.spacing, o->tolerance, o->min_iou, &counts, m);
    free(masks);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* Voxels that the reference ignores get label 0 in the prediction; their number. */
static int64_t leave_out(struct label_map *pred, const struct label_map *ref, const struct label_rule *rule)
{
    const int ignored = rule->has_ignore ? mcs_labels_find(ref, rule->ignore) : -1;
    const int64_t n = (int64_t)ref->grid.n[0] * ref->grid.n[1] * ref->grid.n[2];
    int zero = mcs_labels_find(pred, 0);
    if (ignored < 0) return 0;
    if (zero < 0) pred->label[zero = pred->n++] = 0;
    for (int64_t i = 0; i < n; i++)
        if (ref->index[i] == ignored) pred->index[i] = (uint8_t)zero;
    return ref->count[ignored];
}

enum mcs_status mcs_regions_measure(const struct region_list *list, struct label_map *pred, const struct label_map *ref,
                                    const struct region_options *o, struct mask_metrics *m)
{
    const int64_t n = (int64_t)ref->grid.n[0] * ref->grid.n[1] * ref->grid.n[2];
    MCS_REQUIRE(pred->n < MCS_LABELS_MAX, MCS_E_DATA, "more than %d different labels", MCS_LABELS_MAX - 1);
    const int64_t n_valid = n - leave_out(pred, ref, &o->rule);
    struct tally *t = tally_new(pred, ref);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(t, MCS_E_NOMEM, "no memory to count labels");
    for (int k = 0; k < list->n && st == MCS_OK; k++) st = measure(&list->v[k], pred, ref, o, t, n_valid, &m[k]);
    free(t);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}
