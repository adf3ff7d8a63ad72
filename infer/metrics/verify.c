#include "infer/metrics/verify.h"

#include "data/image/media.h"
#include "data/image/picture.h"
#include "data/io/file.h"
#include "data/text/pairs.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "infer/cases.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(struct findings *f, const char *file, const char *value, const char *meaning, const char *fix)
{
    if (f->n == f->capacity) {
        const int capacity = f->capacity ? 2 * f->capacity : 32;
        struct finding *v = mcs_arena_alloc(&f->arena, (size_t)capacity * sizeof *v);
        if (!v) return; /* mcs_arena_status has the error */
        if (f->n) memcpy(v, f->v, (size_t)f->n * sizeof *v);
        f->v = v;
        f->capacity = capacity;
    }
    f->v[f->n++] =
        (struct finding){mcs_arena_strdup(&f->arena, file), mcs_arena_strdup(&f->arena, value), meaning, fix};
}

/* The held error as a finding, unless memory ran out. */
static enum mcs_status add_held(struct findings *f, const char *file, enum mcs_status st, const char *meaning)
{
    if (st == MCS_E_NOMEM) return st;
    add(f, file, mcs_error_message(), meaning, "repair or remove the file");
    mcs_error_clear();
    return MCS_OK;
}

/* ---- images ---- */

/* Properties that all images of a folder should share, and a hash of the pixels. */
struct look {
    const char *path, *format;
    int channels, bits, has_spacing, volume;
    double spacing[3];
    struct grid grid;
    char sha256[65];
};
struct looks {
    int n;
    struct look *v;
};

static enum mcs_status look_at(const char *path, struct findings *f, struct look *l)
{
    struct picture p;
    char value[96];
    const enum mcs_status st = mcs_picture_read(path, NULL, &p);
    *l = (struct look){.path = path};
    if (st != MCS_OK) return add_held(f, path, st, "it cannot be read");
    l->format = p.format;
    l->channels = p.channels;
    l->bits = p.bits ? p.bits : 8 * mcs_picture_type_bytes(p.type);
    l->volume = p.nz > 1;
    l->has_spacing = p.has_spacing;
    memcpy(l->spacing, p.spacing, sizeof l->spacing);
    l->grid = mcs_grid_of_picture(&p);
    const int64_t bytes = mcs_picture_count(&p) * mcs_picture_type_bytes(p.type);
    mcs_sha256(p.values, bytes, l->sha256);
    if (p.notes[0]) add(f, path, p.notes, "its geometry or its reading is not plain", "look at it in a viewer");
    if (p.orientation != 1) {
        snprintf(value, sizeof value, "EXIF orientation %d", p.orientation);
        add(f, path, value, "it is shown turned, and its label is not", "store the image upright");
    }
    if (p.has_affine && mcs_grid_is_sheared(&l->grid))
        add(f, path, "sheared affine", "its axes are not at right angles", "resample it to a plain grid");
    mcs_picture_free(&p);
    return MCS_OK;
}

/* The images are compared with the first that can be read. */
static void compare_images(const struct looks *all, struct findings *f)
{
    const struct look *first = NULL;
    char value[160];
    for (int i = 0; i < all->n; i++) {
        const struct look *l = &all->v[i];
        if (!l->format) continue;
        if (!first) first = l;
        if (l->channels != first->channels || l->bits != first->bits) {
            snprintf(value, sizeof value, "%d channels of %d bits, %s has %d of %d", l->channels, l->bits,
                     mcs_path_name(first->path), first->channels, first->bits);
            add(f, l->path, value, "images of different depth or colour", "convert them to one kind");
        }
        for (int k = 0; k < 2 + (l->volume && first->volume); k++)
            if (l->has_spacing && first->has_spacing &&
                fabs(l->spacing[k] - first->spacing[k]) > 0.01 * first->spacing[k]) {
                snprintf(value, sizeof value, "%.4g x %.4g x %.4g mm, %s has %.4g x %.4g x %.4g", l->spacing[0],
                         l->spacing[1], l->spacing[2], mcs_path_name(first->path), first->spacing[0], first->spacing[1],
                         first->spacing[2]);
                add(f, l->path, value, "a structure has another size in pixels", "resample to one spacing");
                break;
            }
    }
}

static int by_content(const void *a, const void *b)
{
    const struct look *const *x = a, *const *y = b;
    const int order = strcmp((*x)->sha256, (*y)->sha256);
    return order ? order : strcmp((*x)->path, (*y)->path);
}

/* Images of one content, of one folder or of two. */
static enum mcs_status find_duplicates(const struct looks *a, const struct looks *test, struct findings *f)
{
    const int n = a->n + test->n;
    const struct look **all = malloc(((size_t)n + 1) * sizeof *all);
    char value[160];
    MCS_REQUIRE(all, MCS_E_NOMEM, "no memory to compare %d images", n);
    for (int i = 0; i < n; i++) all[i] = i < a->n ? &a->v[i] : &test->v[i - a->n];
    qsort(all, (size_t)n, sizeof *all, by_content);
    for (int i = 1; i < n; i++) {
        if (!all[i]->format || strcmp(all[i]->sha256, all[i - 1]->sha256) != 0) continue;
        const int sides = (all[i] >= test->v && all[i] < test->v + test->n) +
                          (all[i - 1] >= test->v && all[i - 1] < test->v + test->n);
        snprintf(value, sizeof value, "the pixels of %.120s", all[i - 1]->path);
        add(f, all[i]->path, value, test->n && sides == 1 ? "in train and test: the result is too good" : "a duplicate",
            "remove one of them");
    }
    free(all);
    return MCS_OK;
}

static enum mcs_status look_at_all(const struct case_list *list, struct findings *f, struct looks *all)
{
    all->v = mcs_arena_alloc(&f->arena, ((size_t)list->n + 1) * sizeof *all->v);
    MCS_TRY(mcs_arena_status(&f->arena));
    for (int i = 0; i < list->n; i++) {
        MCS_TRY(mcs_stop_check());
        MCS_TRY(look_at(mcs_arena_strdup(&f->arena, list->files[i].path), f, &all->v[i]));
        all->n++;
    }
    f->n_images += list->n;
    return MCS_OK;
}

/* ---- labels ---- */

static enum mcs_status check_label(const char *path, const struct look *image, const struct verify_options *o,
                                   struct findings *f, int *empty)
{
    struct label_map m;
    char value[64];
    enum mcs_status st = mcs_labels_read(path, &o->rule, &m);
    if (st != MCS_OK) return add_held(f, path, st, "no labels that can be used");
    if (mcs_labels_is_picture(&m)) {
        snprintf(value, sizeof value, "%d values from pixel to pixel", m.n);
        add(f, path, value, "an image given as a mask", "exchange the folders, or give masks");
    }
    int others = 0;
    for (int i = 0; i < m.n; i++)
        others += m.label[i] != 0 && m.count[i] && !(o->rule.has_ignore && m.label[i] == o->rule.ignore);
    *empty = !others;
    for (int i = 0; i < m.n && o->classes; i++) {
        const int64_t v = m.label[i];
        const int known = v == 0 || (o->rule.has_ignore && v == o->rule.ignore) || (o->classes == 2 && others == 1);
        if (known || v < o->classes) continue;
        snprintf(value, sizeof value, "label %lld", (long long)v);
        add(f, path, value, "not one of the classes",
            v == 255 ? "--ignore-label 255 if it means that" : "more --classes, or number the labels from 0");
    }
    if (image && image->format) {
        m.notes[0] = 0;
        st = mcs_labels_to_grid(&m, path, &image->grid, image->path, 0);
        if (st == MCS_OK && m.notes[0])
            add(f, path, m.notes, "read correctly; other programs may not", "nothing, or store it as its image");
        if (st != MCS_OK) st = add_held(f, path, st, "not on its image's grid");
    }
    mcs_labels_free(&m);
    return st;
}

static void add_alone(struct findings *f, const struct case_file *file, const struct case_list *others, int is_image)
{
    const char *nearest = mcs_cases_nearest(others, file->stem);
    add(f, file->path, mcs_arena_printf(&f->arena, "the nearest name is %s", nearest ? nearest : "unknown"),
        is_image ? "an image without a label: it is not used" : "a label without an image: it is not used",
        "give both one name");
}

static enum mcs_status check_labels(const struct case_list *images, const struct looks *looks,
                                    const struct case_list *labels, const struct verify_options *o, struct findings *f)
{
    int n_empty = 0, n_read = 0;
    for (int i = 0; i < labels->n; i++) {
        const struct case_file *image = images->n ? mcs_cases_partner(labels, i, images) : NULL;
        int empty = 0;
        MCS_TRY(mcs_stop_check());
        if (images->n && !image) add_alone(f, &labels->files[i], images, 0);
        MCS_TRY(check_label(labels->files[i].path, image ? &looks->v[image - images->files] : NULL, o, f, &empty));
        n_empty += empty;
        n_read++;
        if (empty)
            add(f, labels->files[i].path, "0 everywhere", "an empty mask", "fine if nothing is there to be found");
    }
    if (n_read && n_empty == n_read)
        add(f, o->labels, "every mask is empty", "there is nothing to learn or to compare",
            "look at how they were written");
    for (int i = 0; i < images->n; i++)
        if (!mcs_cases_partner(images, i, labels)) add_alone(f, &images->files[i], labels, 1);
    f->n_labels = labels->n;
    return MCS_OK;
}

/* ---- captions ---- */

static int by_caption(const void *a, const void *b)
{
    const struct pair *const *x = a, *const *y = b;
    return strcmp((*x)->caption, (*y)->caption);
}

static enum mcs_status check_pairs(const struct verify_options *o, struct findings *f)
{
    const struct pairs_options po = {o->image_column, o->caption_column, o->images, o->separator, 0};
    struct pairs pairs;
    char value[160];
    MCS_TRY(mcs_pairs_read(o->pairs, &po, &pairs));
    f->n_pairs = pairs.n;
    for (int i = 0; i < pairs.n_left_out; i++)
        add(f, pairs.left_out[i].name, mcs_pair_fault_text(pairs.left_out[i].fault), "the row or image is not used",
            "complete the table");
    const struct pair **sorted = malloc(((size_t)pairs.n + 1) * sizeof *sorted);
    for (int i = 0; sorted && i < pairs.n; i++) sorted[i] = &pairs.v[i];
    if (sorted) qsort(sorted, (size_t)pairs.n, sizeof *sorted, by_caption);
    for (int i = 0, end; sorted && i < pairs.n; i = end) {
        for (end = i + 1; end < pairs.n && !strcmp(sorted[end]->caption, sorted[i]->caption); end++) continue;
        if (end - i < 2) continue;
        snprintf(value, sizeof value, "%d rows say \"%.100s\"", end - i, sorted[i]->caption);
        add(f, o->pairs, value, "as negatives of each other they teach nothing", "fewer of them, or other captions");
    }
    const int held = sorted != NULL;
    free(sorted);
    mcs_pairs_free(&pairs);
    MCS_REQUIRE(held, MCS_E_NOMEM, "%s: no memory for its captions", o->pairs);
    return MCS_OK;
}

enum mcs_status mcs_verify(const struct verify_options *o, struct findings *f)
{
    struct case_list images = {0}, labels = {0}, test = {0};
    struct looks looks = {0}, test_looks = {0};
    enum mcs_status st = MCS_OK;
    *f = (struct findings){0};
    if (o->images && !o->pairs) MCS_TRY_GOTO(mcs_cases_list(o->images, MCS_MEDIA_ENDINGS, NULL, &images), st, done);
    if (o->test) MCS_TRY_GOTO(mcs_cases_list(o->test, MCS_MEDIA_ENDINGS, NULL, &test), st, done);
    if (o->labels) MCS_TRY_GOTO(mcs_cases_list(o->labels, MCS_MEDIA_ENDINGS, NULL, &labels), st, done);
    MCS_TRY_GOTO(look_at_all(&images, f, &looks), st, done);
    MCS_TRY_GOTO(look_at_all(&test, f, &test_looks), st, done);
    compare_images(&looks, f);
    MCS_TRY_GOTO(find_duplicates(&looks, &test_looks, f), st, done);
    if (o->labels) MCS_TRY_GOTO(check_labels(&images, &looks, &labels, o, f), st, done);
    if (o->pairs) MCS_TRY_GOTO(check_pairs(o, f), st, done);
    MCS_TRY_GOTO(mcs_arena_status(&f->arena), st, done);
done:
    mcs_cases_free(&images);
    mcs_cases_free(&labels);
    mcs_cases_free(&test);
    if (st != MCS_OK) mcs_verify_free(f);
    return st;
}

void mcs_verify_free(struct findings *f)
{
    mcs_arena_free(&f->arena);
    *f = (struct findings){0};
}
