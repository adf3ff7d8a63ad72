#include "infer/unet/probability.h"

#include "data/image/image.h"
#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/store.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"
#include "engine/image/prob_maps.h"
#include "infer/cases.h"
#include "infer/unet/ensemble.h"
#include "infer/unet/uncertainty.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CLASSES = 256 };
static const int64_t MAX_VALUES = (int64_t)1 << 34;

static int64_t voxels(const struct probability *p)
{
    return (int64_t)p->nz * p->ny * p->nx;
}

enum mcs_status mcs_probability_alloc(struct probability *p, int classes, int nz, int ny, int nx)
{
    const int64_t n = mcs_size_mul(mcs_size_mul(mcs_size_mul(nz, ny), nx), classes);
    *p = (struct probability){0};
    MCS_REQUIRE(n >= 0 && n <= MAX_VALUES, MCS_E_SHAPE, "probabilities of %d x %d x %d in %d classes", nx, ny, nz,
                classes);
    MCS_TRY(mcs_memory_check(n * (int64_t)sizeof(float), "probabilities of %d x %d x %d in %d classes", nx, ny, nz,
                             classes));
    *p = (struct probability){.classes = classes, .nz = nz, .ny = ny, .nx = nx, .spacing = {1, 1, 1}};
    p->is_volume = nz > 1;
    p->values = calloc((size_t)n + 1, sizeof(float));
    MCS_REQUIRE(p->values, MCS_E_NOMEM, "no memory for probabilities of %d x %d x %d", nx, ny, nz);
    return MCS_OK;
}

void mcs_probability_free(struct probability *p)
{
    free(p->values);
    *p = (struct probability){0};
}

enum mcs_status mcs_probability_write(const char *path, const struct probability *p)
{
    static const char *const names[] = {"spacing_x", "spacing_y", "spacing_z"};
    const int64_t dims[] = {p->classes, p->nz, p->ny, p->nx};
    struct store *s = NULL;
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_store_create(path, &s), st, done);
    MCS_TRY_GOTO(mcs_store_put(s, "probabilities", MCS_ARRAY_F32, 4, dims, p->values), st, done);
    for (int a = 0; a < 3; a++) MCS_TRY_GOTO(mcs_store_put_number(s, names[a], (double)p->spacing[a]), st, done);
    MCS_TRY_GOTO(mcs_store_put_number(s, "is_volume", p->is_volume), st, done);
    st = mcs_store_commit(s);
    s = NULL;
done:
    mcs_store_close(s);
    return st;
}

/* An optional attribute, `otherwise` if the file lacks it. */
static double attribute(struct store *s, const char *key, double otherwise)
{
    double v;
    if (mcs_store_get_number(s, key, &v) == MCS_OK && isfinite(v)) return v;
    mcs_error_clear();
    return otherwise;
}

/* The attributes. Several slices are a volume even if is_volume is 0, since a PNG holds one slice. */
static enum mcs_status read_attributes(const char *path, struct store *s, struct probability *p)
{
    static const char *const keys[] = {"spacing_x", "spacing_y", "spacing_z"};
    for (int a = 0; a < 3; a++) {
        const double mm = attribute(s, keys[a], 1);
        MCS_REQUIRE(mm > 0 && mm <= 1e6, MCS_E_DATA, "%s: %s is %g; want millimetres above 0, at most 1e6", path,
                    keys[a], mm);
        p->spacing[a] = (float)mm;
    }
    p->is_volume = p->nz > 1 || attribute(s, "is_volume", 0) != 0;
    return MCS_OK;
}

static enum mcs_status check_sums(const char *path, const struct probability *p)
{
    const int64_t n = voxels(p);
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < p->classes; k++) {
            const float v = p->values[k * n + i];
            MCS_REQUIRE(v >= -1e-4f && v <= 1.0001f, MCS_E_DATA, "%s: a probability of %g", path, (double)v);
            sum += (double)v;
        }
        MCS_REQUIRE(fabs(sum - 1) < 1e-3, MCS_E_DATA, "%s: the classes' probabilities of a voxel add up to %g", path,
                    sum);
    }
    return MCS_OK;
}

enum mcs_status mcs_probability_read(const char *path, struct probability *p)
{
    struct store *s = NULL;
    struct store_info info;
    enum mcs_status st;
    int size[4];
    char shape[160];
    *p = (struct probability){0};
    MCS_TRY(mcs_store_open(path, &s));
    MCS_TRY_GOTO(mcs_store_get_info(s, "probabilities", &info), st, done);
    MCS_REQUIRE_GOTO(info.nd == 4 && mcs_sizes_to_int(4, info.dims, size) && size[0] >= 2 && size[0] <= MAX_CLASSES &&
                         info.n_values <= MAX_VALUES,
                     MCS_E_DATA, st, done,
                     "%s: probabilities have shape %s; want (classes, slices, rows, columns), 2 to %d classes and at "
                     "most 2^34 values",
                     path, mcs_array_shape_text(info.nd, info.dims, shape, sizeof shape), MAX_CLASSES);
    MCS_TRY_GOTO(mcs_probability_alloc(p, size[0], size[1], size[2], size[3]), st, done);
    MCS_TRY_GOTO(mcs_store_get(s, "probabilities", MCS_ARRAY_F32, 4, info.dims, p->values), st, done);
    MCS_TRY_GOTO(read_attributes(path, s, p), st, done);
    MCS_TRY_GOTO(check_sums(path, p), st, done);
done:
    mcs_store_close(s);
    if (st != MCS_OK) mcs_probability_free(p);
    return st;
}

void mcs_probability_labels(const struct probability *p, double threshold, uint8_t *labels)
{
    mcs_prob_labels(p->values, p->classes, voxels(p), threshold, labels);
}

enum mcs_status mcs_probability_write_mask(const char *out, const char *stem, const struct probability *p,
                                           const uint8_t *labels, const struct volume *like)
{
    char path[MCS_PATH_BYTES];
    const int is_volume = p->is_volume || p->nz > 1; /* a PNG holds one slice */
    MCS_TRY(mcs_path(path, "%s/%s.%s", out, stem, is_volume ? "nii.gz" : "png"));
    if (is_volume) {
        struct volume plain = {0};
        MCS_REQUIRE(!like || (like->nx == p->nx && like->ny == p->ny && like->nz == p->nz), MCS_E_SHAPE,
                    "%s: %d x %d x %d labels for a volume of %d x %d x %d", path, p->nx, p->ny, p->nz,
                    like ? like->nx : 0, like ? like->ny : 0, like ? like->nz : 0);
        if (like) return mcs_volume_write_u8(path, labels, like);
        MCS_TRY(mcs_volume_alloc(&plain, p->nx, p->ny, p->nz, p->spacing));
        const enum mcs_status st = mcs_volume_write_u8(path, labels, &plain);
        mcs_volume_free(&plain);
        return st;
    }
    struct image img;
    MCS_TRY(mcs_image_alloc(&img, p->nx, p->ny, 1));
    for (int64_t i = 0; i < voxels(p); i++) img.pixels[i] = p->classes == 2 ? labels[i] * 255 : labels[i];
    const enum mcs_status st = mcs_image_write_png(path, &img);
    mcs_image_free(&img);
    return st;
}

static enum mcs_status write_entropy_store(const char *path, const struct probability *p, const float *bits)
{
    const int64_t dims[] = {p->nz, p->ny, p->nx};
    struct store *s = NULL;
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_store_create(path, &s), st, done);
    MCS_TRY_GOTO(mcs_store_put(s, "entropy", MCS_ARRAY_F32, 3, dims, bits), st, done);
    st = mcs_store_commit(s);
    s = NULL;
done:
    mcs_store_close(s);
    return st;
}

static enum mcs_status write_entropy_png(const char *path, const struct probability *p, const float *bits)
{
    struct image img;
    MCS_REQUIRE(p->nz == 1, MCS_E_SHAPE, "%s: a PNG holds one slice, not %d", path, p->nz);
    const float scale = 255 / log2f((float)p->classes);
    MCS_TRY(mcs_image_alloc(&img, p->nx, p->ny, 1));
    for (int64_t i = 0; i < voxels(p); i++) img.pixels[i] = (uint8_t)lrintf(fminf(bits[i] * scale, 255));
    const enum mcs_status st = mcs_image_write_png(path, &img);
    mcs_image_free(&img);
    return st;
}

enum mcs_status mcs_probability_write_entropy(const char *out, const char *stem, const struct probability *p,
                                              const float *bits, const uint8_t *labels, enum mcs_form form,
                                              struct uncertainty_row *row)
{
    char path[MCS_PATH_BYTES];
    const int64_t n = voxels(p);
    enum mcs_status st;
    float *made = bits ? NULL : malloc((size_t)n * sizeof *made);
    MCS_REQUIRE(bits || made, MCS_E_NOMEM, "%s: no memory for its entropy", stem);
    if (made) MCS_TRY_GOTO(mcs_entropy_map(p->values, p->classes, n, made), st, done);
    if (made) bits = made;
    row->score = p->nz == 1 ? mcs_uncertainty_score(bits, labels, p->nx, p->ny, form) : NAN;
    row->score_area = mcs_uncertainty_score_area(bits, labels, n);
    row->mean = 0;
    row->foreground = 0;
    for (int64_t i = 0; i < n; i++) {
        row->mean += (double)bits[i] / (double)n;
        row->foreground += labels[i] != 0;
    }
    MCS_TRY_GOTO(mcs_path(path, "%s/%s_entropy.h5", out, stem), st, done);
    MCS_TRY_GOTO(write_entropy_store(path, p, bits), st, done);
    MCS_TRY_GOTO(mcs_path(path, "%s/%s_entropy.png", out, stem), st, done);
    if (p->nz == 1) MCS_TRY_GOTO(write_entropy_png(path, p, bits), st, done);
done:
    free(made);
    return st;
}

enum mcs_status mcs_uncertainty_write_csv(const char *out, const struct uncertainty_row *rows, int n)
{
    struct arena arena = {0};
    char path[MCS_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    MCS_TRY(mcs_path(path, "%s/uncertainty.csv", out));
    FILE *f = open_memstream(&text, &bytes);
    MCS_REQUIRE(f, MCS_E_NOMEM, "%s: no memory", path);
    fputs("image_name,uncertainty_score,score_by_area,mean_entropy,foreground\n", f);
    for (int i = 0; i < n; i++)
        fprintf(f, "%s,%.9g,%.9g,%.9g,%lld\n", mcs_csv_field(&arena, rows[i].stem), rows[i].score, rows[i].score_area,
                rows[i].mean, (long long)rows[i].foreground);
    const int written = fclose(f) == 0;
    enum mcs_status st = mcs_arena_status(&arena);
    if (st == MCS_OK && !written) st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory", path);
    if (st == MCS_OK) st = mcs_file_write(path, text, (int64_t)bytes);
    free(text);
    mcs_arena_free(&arena);
    return st;
}
