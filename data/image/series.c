#include "data/image/series.h"

#include "data/image/picture_parts.h"
#include "data/io/file.h"
#include "engine/base/arena.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIST_BYTES = 512, MAX_SERIES = 64 };
static const double SAME_DIRECTION = 1e-3, SAME_PLACE_MM = 1e-3;
/* Positions are decimal texts, often of six digits, and gantries drift: a step may differ by this share. */
static const double STEP_SHARE = 0.05;

struct slice {
    const char *name;
    struct picture picture;
    struct slice_place place;
    double along; /* mm along the normal */
};

struct stack {
    int n, n_other; /* slices; other files of the folder */
    struct slice *slices;
    char others[LIST_BYTES]; /* names, as many as fit */
};

static void add_name(char list[LIST_BYTES], const char *name)
{
    const size_t at = strlen(list);
    if (at + strlen(name) + 8 < LIST_BYTES)
        snprintf(list + at, LIST_BYTES - at, "%s%s", at ? ", " : "", name);
    else if (at < LIST_BYTES - 6 && strcmp(list + at - 3, "...") != 0)
        snprintf(list + at, LIST_BYTES - at, ", ...");
}

/* ---- reading ---- */

/* Reads every DICOM file of the folder; at the first that fails the others are not read. */
static enum mcs_status read_slices(const char *folder, const struct file_list *files, struct stack *s)
{
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < files->n && st == MCS_OK; i++) {
        char path[MCS_PATH_BYTES];
        const char *format = NULL;
        MCS_TRY(mcs_path(path, "%s/%s", folder, files->names[i]));
        if (mcs_folder_exists(path)) continue;
        if (!mcs_picture_known(path, &format) || strcmp(format, "DICOM") != 0) {
            s->n_other++;
            add_name(s->others, files->names[i]);
            continue;
        }
        struct slice *one = &s->slices[s->n];
        one->name = files->names[i];
        st = mcs_helped_picture(path, &one->picture, &one->place);
        if (st == MCS_OK) s->n++;
    }
    return st;
}

/* ---- choosing a series ---- */

static int is_chosen(const char *uid, const char *choice, int number)
{
    const size_t n = strlen(uid), k = strlen(choice);
    char *end;
    const long wanted = strtol(choice, &end, 10);
    return (!*end && wanted == number) || (n >= k && !strcmp(uid + n - k, choice));
}

static int by_uid(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The series in the order of their UIDs; the number of them, at most MAX_SERIES. */
static int list_series(const struct stack *s, const char *uid[MAX_SERIES])
{
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        int k = 0;
        while (k < n && strcmp(uid[k], s->slices[i].place.series) != 0) k++;
        if (k == n && n < MAX_SERIES) uid[n++] = s->slices[i].place.series;
    }
    qsort(uid, (size_t)n, sizeof *uid, by_uid);
    return n;
}

/* Keeps the slices of the chosen series. */
static enum mcs_status choose(const char *folder, const char *choice, struct stack *s)
{
    const char *uid[MAX_SERIES], *kept = NULL;
    char list[LIST_BYTES] = "";
    const int n = list_series(s, uid);
    int chosen = 0, left = 0;
    for (int k = 0; k < n; k++) {
        char one[IMAGEREAD_UID_BYTES + 16];
        snprintf(one, sizeof one, "%d: %s", k + 1, uid[k]);
        add_name(list, one);
        if (n == 1 && !choice) kept = uid[k], chosen = 1;
        if (choice && is_chosen(uid[k], choice, k + 1)) kept = uid[k], chosen++;
    }
    MCS_REQUIRE(choice || n == 1, MCS_E_DATA,
                "%s: %d series in one folder (%s); move each to its folder (mcsam info --series N shows one)", folder,
                n, list);
    MCS_REQUIRE(chosen == 1, MCS_E_DATA, "%s: series '%s' is %s of those in it: %s", folder, choice,
                chosen ? "more than one" : "none", list);
    char wanted[IMAGEREAD_UID_BYTES];
    snprintf(wanted, sizeof wanted, "%s", kept);
    for (int i = 0; i < s->n; i++) {
        if (!strcmp(s->slices[i].place.series, wanted))
            s->slices[left++] = s->slices[i];
        else
            mcs_picture_free(&s->slices[i].picture);
    }
    s->n = left;
    return MCS_OK;
}

/* ---- geometry ---- */

static enum mcs_status check_equal(const char *folder, const struct stack *s)
{
    const struct slice *a = &s->slices[0];
    for (int i = 0; i < s->n; i++) {
        const struct slice *b = &s->slices[i];
        const struct picture *p = &a->picture, *q = &b->picture;
        MCS_REQUIRE(b->place.known, MCS_E_DATA,
                    "%s/%s: a slice without position, orientation or spacing: its place in the series is not known",
                    folder, b->name);
        MCS_REQUIRE(p->nx == q->nx && p->ny == q->ny && p->channels == q->channels && p->type == q->type, MCS_E_DATA,
                    "%s: slices of one series differ: %s is %d x %d of %s, %s is %d x %d of %s", folder, a->name, p->nx,
                    p->ny, mcs_picture_type_name(p->type), b->name, q->nx, q->ny, mcs_picture_type_name(q->type));
        MCS_REQUIRE(fabs(p->spacing[0] - q->spacing[0]) < 1e-4 && fabs(p->spacing[1] - q->spacing[1]) < 1e-4,
                    MCS_E_DATA, "%s: slices of one series differ: the spacing of %s is %g x %g mm, of %s %g x %g",
                    folder, a->name, p->spacing[0], p->spacing[1], b->name, q->spacing[0], q->spacing[1]);
        for (int k = 0; k < 6; k++)
            MCS_REQUIRE(fabs(a->place.cosines[k] - b->place.cosines[k]) < SAME_DIRECTION, MCS_E_DATA,
                        "%s: slices of one series differ: %s and %s have other orientations; a localizer?", folder,
                        a->name, b->name);
    }
    return MCS_OK;
}

static int by_place(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    if (x->along != y->along) return x->along < y->along ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorts the slices; two at one place, and gaps, are told by name. */
static enum mcs_status sort(const char *folder, struct stack *s)
{
    double least = INFINITY;
    for (int i = 0; i < s->n; i++) {
        const double *c = s->slices[i].place.cosines, *at = s->slices[i].place.position;
        s->slices[i].along = at[0] * (c[1] * c[5] - c[2] * c[4]) + at[1] * (c[2] * c[3] - c[0] * c[5]) +
                             at[2] * (c[0] * c[4] - c[1] * c[3]);
    }
    qsort(s->slices, (size_t)s->n, sizeof *s->slices, by_place);
    for (int i = 1; i < s->n; i++) {
        const double step = s->slices[i].along - s->slices[i - 1].along;
        MCS_REQUIRE(
            step > SAME_PLACE_MM, MCS_E_DATA,
            "%s: %s and %s lie at one place (%.2f mm along the normal): a duplicate, or several times in one series",
            folder, s->slices[i - 1].name, s->slices[i].name, s->slices[i].along);
        least = fmin(least, step);
    }
    for (int i = 1; i < s->n; i++) {
        const double step = s->slices[i].along - s->slices[i - 1].along;
        const int missing = (int)lrint(fmin(step / least, 1e6)) - 1;
        MCS_REQUIRE(step <= least * (1 + STEP_SHARE), MCS_E_DATA,
                    "%s: between %s and %s are %.3g mm, elsewhere %.3g: %s", folder, s->slices[i - 1].name,
                    s->slices[i].name, step, least,
                    missing > 0 ? "slices are missing" : "the slices are not evenly spaced");
    }
    return MCS_OK;
}

/* The affine of the first slice, with the mean step. */
static void set_geometry(const struct stack *s, struct picture *p)
{
    const double *first = s->slices[0].place.position, *last = s->slices[s->n - 1].place.position;
    double square = 0;
    memcpy(p->affine, s->slices[0].picture.affine, sizeof p->affine);
    for (int i = 0; i < 3 && s->n > 1; i++) {
        const double step = (last[i] - first[i]) / (s->n - 1);
        p->affine[4 * i + 2] = i < 2 ? -step : step;
        square += step * step;
    }
    memcpy(p->spacing, s->slices[0].picture.spacing, sizeof p->spacing);
    if (s->n > 1) p->spacing[2] = sqrt(square);
    p->has_spacing = p->has_affine = 1;
}

/* Slices may have a scale each (PET): their values become floats then. */
static int one_scale(const struct stack *s)
{
    for (int i = 1; i < s->n; i++)
        if (s->slices[i].picture.slope != s->slices[0].picture.slope ||
            s->slices[i].picture.inter != s->slices[0].picture.inter)
            return 0;
    return 1;
}

static enum mcs_status join(const char *folder, struct stack *s, struct picture *p)
{
    const struct picture *a = &s->slices[0].picture;
    const int same = one_scale(s);
    const enum picture_type type = same ? a->type : MCS_PICTURE_F32;
    const int64_t n = mcs_picture_count(a);
    MCS_REQUIRE(same || a->channels == 1, MCS_E_DATA, "%s: colours with different rescaling", folder);
    MCS_REQUIRE(!a->palette || same, MCS_E_DATA, "%s: palettes with different rescaling", folder);
    MCS_TRY(mcs_picture_alloc(p, folder, a->nx, a->ny, s->n, a->channels, type));
    for (int i = 0; i < s->n; i++) {
        const struct picture *q = &s->slices[i].picture;
        if (same)
            memcpy((char *)p->values + (size_t)(i * n) * (size_t)mcs_picture_type_bytes(type), q->values,
                   (size_t)n * (size_t)mcs_picture_type_bytes(type));
        else
            mcs_picture_to_float(q, 0, n, (float *)p->values + i * n);
    }
    if (same) {
        p->slope = a->slope;
        p->inter = a->inter;
        p->bits = a->bits;
    } else
        mcs_picture_note(p, "its slices have different rescale slopes: values are rescaled ones");
    p->inverted = a->inverted;
    p->has_window = a->has_window;
    p->window_low = a->window_low;
    p->window_high = a->window_high;
    set_geometry(s, p);
    if (s->n_other) mcs_picture_note(p, "%d other files in the folder are not of it: %s", s->n_other, s->others);
    p->format = "DICOM";
    return MCS_OK;
}

enum mcs_status mcs_series_read(const char *folder, const struct picture_choice *choice, struct picture *p)
{
    struct file_list files = {0};
    struct stack s = {0};
    enum mcs_status st;
    memset(p, 0, sizeof *p);
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such folder", folder);
    MCS_TRY(mcs_folder_list(folder, NULL, &files));
    s.slices = calloc((size_t)files.n + 1, sizeof *s.slices);
    MCS_REQUIRE_GOTO(s.slices, MCS_E_NOMEM, st, done, "%s: no memory to read it", folder);
    MCS_TRY_GOTO(read_slices(folder, &files, &s), st, done);
    MCS_REQUIRE_GOTO(s.n, MCS_E_IO, st, done, "%s: is a folder without DICOM files", folder);
    MCS_TRY_GOTO(choose(folder, choice ? choice->series : NULL, &s), st, done);
    MCS_REQUIRE_GOTO(s.slices[0].picture.nz == 1 && !s.slices[0].picture.palette, MCS_E_DATA, st, done,
                     "%s: a series of files of several frames, or of palettes: read %s alone", folder,
                     s.slices[0].name);
    MCS_TRY_GOTO(check_equal(folder, &s), st, done);
    MCS_TRY_GOTO(sort(folder, &s), st, done);
    MCS_TRY_GOTO(join(folder, &s, p), st, done);
done:
    for (int i = 0; i < s.n; i++) mcs_picture_free(&s.slices[i].picture);
    free(s.slices);
    mcs_file_list_free(&files);
    if (st != MCS_OK) mcs_picture_free(p);
    return st;
}
