#include "infer/metrics/diff.h"

#include "data/image/image.h"
#include "data/image/media.h"
#include "data/image/volume.h"
#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/npy.h"
#include "data/io/store.h"
#include "data/weights/weight_file.h"
#include "engine/base/memory.h"
#include "engine/base/stop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const ENDINGS = ".h5;.safetensors;.npy;" MCS_MEDIA_ENDINGS;

/* One named array, converted to float64 for comparison. */
struct array {
    char *name;
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND], n;
    double *values;
};
struct content {
    int n, capacity, is_picture;
    struct array *v;
};

static void content_free(struct content *c)
{
    for (int i = 0; i < c->n; i++) {
        free(c->v[i].name);
        free(c->v[i].values);
    }
    free(c->v);
    *c = (struct content){0};
}

/* Appends an array and allocates its values. */
static enum mcs_status add(struct content *c, const char *name, int nd, const int64_t *dims, struct array **array)
{
    if (c->n == c->capacity) {
        const int capacity = c->capacity ? 2 * c->capacity : 16;
        struct array *v = realloc(c->v, (size_t)capacity * sizeof *v);
        MCS_REQUIRE(v, MCS_E_NOMEM, "no memory to compare");
        c->v = v;
        c->capacity = capacity;
    }
    struct array *a = &c->v[c->n];
    *a = (struct array){.nd = nd, .n = mcs_array_count(nd, dims)};
    /* Twice the values: the array in the file's type is in memory during conversion. */
    MCS_TRY(mcs_memory_check(mcs_size_mul(a->n, 2 * (int64_t)sizeof *a->values), "%s%s%lld values to compare", name,
                             *name ? ": " : "", (long long)a->n));
    for (int i = 0; i < nd; i++) a->dims[i] = dims[i];
    a->name = strdup(name);
    a->values = malloc(((size_t)a->n + 1) * sizeof *a->values);
    c->n++;
    MCS_REQUIRE(a->name && a->values, MCS_E_NOMEM, "%s: no memory for %lld values", name, (long long)a->n);
    *array = a;
    return MCS_OK;
}

static enum mcs_status add_floats(struct content *c, const char *name, int nd, const int64_t *dims, const float *values)
{
    struct array *a;
    MCS_TRY(add(c, name, nd, dims, &a));
    for (int64_t i = 0; i < a->n; i++) a->values[i] = (double)values[i];
    return MCS_OK;
}

/* A list of texts as an array of their bytes, each terminated by 0. */
static enum mcs_status read_texts(struct store *s, const char *name, struct content *c)
{
    int n;
    char **texts;
    struct array *a;
    int64_t bytes = 0;
    MCS_TRY(mcs_store_get_texts(s, name, &n, &texts));
    for (int i = 0; i < n; i++) bytes += (int64_t)strlen(texts[i]) + 1;
    const enum mcs_status st = add(c, name, 1, &bytes, &a);
    if (st == MCS_OK) {
        int64_t at = 0;
        for (int i = 0; i < n; i++)
            for (const char *t = texts[i];; t++) {
                a->values[at++] = (unsigned char)*t;
                if (!*t) break;
            }
    }
    mcs_store_texts_free(n, texts);
    return st;
}

static enum mcs_status read_dataset(struct store *s, const char *name, struct content *c)
{
    struct store_info info;
    struct array *a;
    MCS_TRY(mcs_store_get_info(s, name, &info));
    if (info.type == MCS_ARRAY_N_TYPES) return read_texts(s, name, c);
    const int is_float = info.type == MCS_ARRAY_F32 || info.type == MCS_ARRAY_F16 || info.type == MCS_ARRAY_F64;
    const enum mcs_array_type type = is_float ? MCS_ARRAY_F32 : info.type;
    MCS_TRY(add(c, name, info.nd, info.dims, &a));
    void *raw = malloc((size_t)(a->n + 1) * 8);
    MCS_REQUIRE(raw, MCS_E_NOMEM, "%s: no memory", name);
    const enum mcs_status st = mcs_store_get(s, name, type, info.nd, info.dims, raw);
    for (int64_t i = 0; st == MCS_OK && i < a->n; i++)
        a->values[i] = type == MCS_ARRAY_F32   ? (double)((float *)raw)[i]
                       : type == MCS_ARRAY_I32 ? ((int32_t *)raw)[i]
                       : type == MCS_ARRAY_U8  ? ((uint8_t *)raw)[i]
                                               : (double)((int64_t *)raw)[i];
    free(raw);
    return st;
}

static enum mcs_status read_h5(const char *path, struct content *c)
{
    struct store *s;
    char **names = NULL;
    int n = 0;
    enum mcs_status st;
    MCS_TRY(mcs_store_open(path, &s));
    MCS_TRY_GOTO(mcs_store_list(s, &n, &names), st, done);
    for (int i = 0; i < n; i++) MCS_TRY_GOTO(read_dataset(s, names[i], c), st, done);
done:
    mcs_store_texts_free(n, names);
    mcs_store_close(s);
    return st;
}

static enum mcs_status read_weights(const char *path, struct content *c)
{
    struct weight_file *file;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_weight_file_open(path, &file));
    for (int i = 0; i < mcs_weight_file_count(file) && st == MCS_OK; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(file, i);
        struct array *a;
        MCS_TRY_GOTO(add(c, t->name, t->nd, t->dims, &a), st, done);
        const int whole = mcs_weight_is_whole(t->type);
        void *raw = malloc((size_t)(a->n + 1) * 8);
        MCS_REQUIRE_GOTO(raw, MCS_E_NOMEM, st, done, "%s: no memory", path);
        st = whole ? mcs_weight_file_read_i64(file, t->name, t->nd, t->dims, raw)
                   : mcs_weight_file_read_f32(file, t->name, t->nd, t->dims, raw);
        for (int64_t k = 0; st == MCS_OK && k < a->n; k++)
            a->values[k] = whole ? (double)((int64_t *)raw)[k] : (double)((float *)raw)[k];
        free(raw);
    }
done:
    mcs_weight_file_close(file);
    return st;
}

static enum mcs_status read_npy(const char *path, struct content *c)
{
    struct npy a;
    MCS_TRY(mcs_npy_read(path, &a));
    const enum mcs_status st = add_floats(c, "", a.nd, a.dims, a.values);
    mcs_npy_free(&a);
    return st;
}

static enum mcs_status read_image(const char *path, struct content *c)
{
    struct image img;
    struct array *a;
    MCS_TRY(mcs_image_read(path, 0, &img));
    const enum mcs_status st = add(c, "", 3, (int64_t[]){img.height, img.width, img.channels}, &a);
    for (int64_t i = 0; st == MCS_OK && i < a->n; i++) a->values[i] = img.pixels[i];
    mcs_image_free(&img);
    c->is_picture = 1;
    return st;
}

static enum mcs_status read_volume(const char *path, struct content *c)
{
    struct volume v;
    MCS_TRY(mcs_volume_read(path, &v));
    const enum mcs_status st = add_floats(c, "", 3, (int64_t[]){v.nz, v.ny, v.nx}, v.values);
    mcs_volume_free(&v);
    c->is_picture = 1;
    return st;
}

static enum mcs_status read_content(const char *path, struct content *c)
{
    MCS_REQUIRE(mcs_file_exists(path), MCS_E_NOINPUT, "%s: no such file or folder", path);
    if (mcs_file_has_ending(path, ".h5")) return read_h5(path, c);
    if (mcs_file_has_ending(path, ".safetensors;.pt;.pth;.bin")) return read_weights(path, c);
    if (mcs_file_has_ending(path, ".npy")) return read_npy(path, c);
    if (mcs_media_is_volume(path)) return read_volume(path, c);
    if (mcs_media_is_image(path)) return read_image(path, c);
    return MCS_FAIL(MCS_E_DATA, "%s: of no kind that is compared: want one of %s", path, ENDINGS);
}

/* ---- comparing ---- */

/* A new row; where there is no memory, one that nobody reads (mcs_arena_status has the error). */
static struct diff_row *add_row(struct diff *d, const char *file, const char *array)
{
    static _Thread_local struct diff_row none;
    if (d->n == d->capacity) {
        const int capacity = d->capacity ? 2 * d->capacity : 32;
        struct diff_row *rows = mcs_arena_alloc(&d->arena, (size_t)capacity * sizeof *rows);
        if (!rows) return &none;
        if (d->n) memcpy(rows, d->rows, (size_t)d->n * sizeof *rows);
        d->rows = rows;
        d->capacity = capacity;
    }
    struct diff_row *r = &d->rows[d->n++];
    *r = (struct diff_row){.dice = NAN};
    r->name = mcs_arena_printf(&d->arena, "%s%s%s", file, *file && *array ? ":" : "", array);
    return r;
}

static void add_fault(struct diff *d, const char *file, const char *array, const char *fault)
{
    struct diff_row *r = add_row(d, file, array);
    r->fault = mcs_arena_strdup(&d->arena, fault);
    r->differs = 1;
    d->n_different++;
}

/* A mask has values 0 and one other value only. */
static int is_mask(const struct array *a)
{
    double other = 0;
    for (int64_t i = 0; i < a->n; i++) {
        if (a->values[i] == 0) continue;
        if (other == 0) other = a->values[i];
        if (!(a->values[i] == other)) return 0;
    }
    return 1;
}

static void compare_arrays(struct diff *d, const char *file, const struct array *a, const struct array *b, int picture,
                           double tolerance)
{
    char x[128], y[128];
    if (!mcs_array_same_shape(a->nd, a->dims, b->nd, b->dims)) {
        const char *fault =
            mcs_arena_printf(&d->arena, "shape %s against %s", mcs_array_shape_text(a->nd, a->dims, x, sizeof x),
                             mcs_array_shape_text(b->nd, b->dims, y, sizeof y));
        add_fault(d, file, a->name, fault);
        return;
    }
    struct diff_row *r = add_row(d, file, a->name);
    double own = 0, apart = 0; /* ||a||^2, ||a - b||^2 */
    int64_t both = 0, sum = 0;
    for (int64_t i = 0; i < a->n; i++) {
        const double p = a->values[i], q = b->values[i];
        const int same = p == q || (isnan(p) && isnan(q));
        const double gap = same ? 0 : isfinite(p) && isfinite(q) ? fabs(p - q) : INFINITY;
        r->max_abs = fmax(r->max_abs, gap);
        apart += gap * gap;
        if (isfinite(p)) own += p * p;
        both += p != 0 && q != 0;
        sum += (p != 0) + (q != 0);
    }
    r->relative = apart > 0 ? sqrt(apart / own) : 0; /* infinite if a is all 0 */
    const int masks = picture && is_mask(a) && is_mask(b);
    if (masks && sum > 0) r->dice = 2 * (double)both / (double)sum;
    r->differs = masks ? sum > 0 && 1 - r->dice > tolerance : r->relative > tolerance;
    d->n_different += r->differs;
}

static const struct array *find(const struct content *c, const char *name)
{
    for (int i = 0; i < c->n; i++)
        if (!strcmp(c->v[i].name, name)) return &c->v[i];
    return NULL;
}

static enum mcs_status compare_files(const char *a, const char *b, const char *name, double tolerance, struct diff *d)
{
    struct content x = {0}, y = {0};
    enum mcs_status st;
    MCS_TRY_GOTO(read_content(a, &x), st, done);
    MCS_TRY_GOTO(read_content(b, &y), st, done);
    for (int i = 0; i < x.n; i++) {
        const struct array *partner = find(&y, x.v[i].name);
        if (partner)
            compare_arrays(d, name, &x.v[i], partner, x.is_picture && y.is_picture, tolerance);
        else
            add_fault(d, name, x.v[i].name, "only in the first");
    }
    for (int i = 0; i < y.n; i++)
        if (!find(&x, y.v[i].name)) add_fault(d, name, y.v[i].name, "only in the second");
done:
    content_free(&x);
    content_free(&y);
    return st;
}

static enum mcs_status compare_folders(const char *a, const char *b, double tolerance, struct diff *d)
{
    struct file_list x = {0}, y = {0};
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_folder_list(a, ENDINGS, &x), st, done);
    MCS_TRY_GOTO(mcs_folder_list(b, ENDINGS, &y), st, done);
    MCS_REQUIRE_GOTO(x.n + y.n, MCS_E_NOINPUT, st, done, "%s and %s: no file in them ends in %s", a, b, ENDINGS);
    for (int i = 0, k = 0; i < x.n || k < y.n;) { /* both are sorted */
        MCS_TRY_GOTO(mcs_stop_check(), st, done);
        const int order = i == x.n ? 1 : k == y.n ? -1 : strcmp(x.names[i], y.names[k]);
        if (order) {
            add_fault(d, order < 0 ? x.names[i] : y.names[k], "",
                      order < 0 ? "only in the first" : "only in the second");
            i += order < 0;
            k += order > 0;
            continue;
        }
        const char *p = mcs_arena_printf(&d->arena, "%s/%s", a, x.names[i]);
        const char *q = mcs_arena_printf(&d->arena, "%s/%s", b, x.names[i]);
        st = compare_files(p, q, x.names[i], tolerance, d);
        if (st == MCS_E_NOMEM) goto done;
        if (st != MCS_OK) {
            add_fault(d, x.names[i], "", mcs_error_message());
            mcs_error_clear();
        }
        i++;
        k++;
    }
    st = MCS_OK;
done:
    mcs_file_list_free(&x);
    mcs_file_list_free(&y);
    return st;
}

enum mcs_status mcs_diff_paths(const char *a, const char *b, double tolerance, struct diff *d)
{
    const int folders = mcs_folder_exists(a) + mcs_folder_exists(b);
    MCS_REQUIRE(folders == 2 || mcs_folder_exists(a) || mcs_file_exists(a), MCS_E_NOINPUT, "%s: no such file or folder",
                a);
    MCS_REQUIRE(folders == 2 || mcs_folder_exists(b) || mcs_file_exists(b), MCS_E_NOINPUT, "%s: no such file or folder",
                b);
    MCS_REQUIRE(folders != 1, MCS_E_USAGE, "%s and %s: a file and a folder; want two of one kind", a, b);
    MCS_TRY(folders ? compare_folders(a, b, tolerance, d) : compare_files(a, b, "", tolerance, d));
    return mcs_arena_status(&d->arena);
}

void mcs_diff_free(struct diff *d)
{
    mcs_arena_free(&d->arena);
    *d = (struct diff){0};
}
