/* dataset_fingerprint.json, and numpy's percentile and median. */
#include "data/io/json.h"
#include "train/plan/fingerprint.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

enum { MAX_BYTES = 1 << 28, MAX_CASES = 1 << 22, MAX_SIDE = 1 << 24 };
static const double MIN_SPACING = 1e-6, MAX_SPACING = 1e7;

/* The keys of a channel, and where they are. */
static const struct {
    const char *name;
    size_t offset;
} keys[] = {
#define KEY(name)                                                                                                      \
    {                                                                                                                  \
#name, offsetof(struct intensity, name)                                                                        \
    }
    KEY(mean),           KEY(median), KEY(std), KEY(min), KEY(max), KEY(percentile_00_5),
    KEY(percentile_99_5)
#undef KEY
};
enum { N_KEYS = sizeof keys / sizeof *keys };

static double *field(struct intensity *i, int key)
{
    return (double *)((char *)i + keys[key].offset);
}

enum mcs_status mcs_fingerprint_alloc(struct fingerprint *f, int n_cases, int n_channels)
{
    *f = (struct fingerprint){.n_cases = n_cases, .n_channels = n_channels};
    f->spacings = calloc((size_t)n_cases + 1, sizeof *f->spacings);
    f->shapes = calloc((size_t)n_cases + 1, sizeof *f->shapes);
    f->intensities = calloc((size_t)n_channels + 1, sizeof *f->intensities);
    if (f->spacings && f->shapes && f->intensities) return MCS_OK;
    mcs_fingerprint_free(f);
    return MCS_FAIL(MCS_E_NOMEM, "no memory for the fingerprint of %d cases", n_cases);
}

void mcs_fingerprint_free(struct fingerprint *f)
{
    free(f->spacings);
    free(f->shapes);
    free(f->intensities);
    *f = (struct fingerprint){0};
}

/* ---- reading ---- */

/* Three numbers from `least` to `most` of a list of lists. */
static enum mcs_status read_triple(const char *path, const char *key, const json_t *list, int i, double least,
                                   double most, double v[3])
{
    const json_t *row = json_array_get(list, (size_t)i);
    MCS_REQUIRE(json_array_size(row) == 3, MCS_E_DATA, "%s: %s: case %d has no three numbers", path, key, i);
    for (int d = 0; d < 3; d++) {
        const json_t *e = json_array_get(row, (size_t)d);
        v[d] = json_number_value(e);
        MCS_REQUIRE(json_is_number(e) && v[d] >= least && v[d] <= most, MCS_E_DATA,
                    "%s: %s: case %d has a number that is not from %g to %g", path, key, i, least, most);
    }
    return MCS_OK;
}

static enum mcs_status read_intensity(const char *path, const json_t *channels, int channel,
                                      struct intensity *intensity)
{
    char name[16];
    snprintf(name, sizeof name, "%d", channel);
    const json_t *o = json_object_get(channels, name);
    for (int k = 0; k < N_KEYS; k++) {
        const json_t *v = json_object_get(o, keys[k].name);
        MCS_REQUIRE(json_is_number(v), MCS_E_DATA, "%s: channel %d has no number %s", path, channel, keys[k].name);
        *field(intensity, k) = json_number_value(v);
    }
    return MCS_OK;
}

static enum mcs_status parse(const char *path, const json_t *root, struct fingerprint *f)
{
    const json_t *spacings = json_object_get(root, "spacings"), *shapes = json_object_get(root, "shapes_after_crop"),
                 *channels = json_object_get(root, "foreground_intensity_properties_per_channel"),
                 *size = json_object_get(root, "median_relative_size_after_cropping");
    const size_t n = json_array_size(spacings);
    MCS_REQUIRE(n > 0 && n <= MAX_CASES && json_array_size(shapes) == n, MCS_E_DATA,
                "%s: want spacings and shapes_after_crop of the same cases, has %zu and %zu", path, n,
                json_array_size(shapes));
    MCS_REQUIRE(json_object_size(channels) > 0 && json_object_size(channels) <= NNUNET_MAX_CHANNELS, MCS_E_DATA,
                "%s: has no foreground_intensity_properties_per_channel", path);
    MCS_REQUIRE(json_is_number(size), MCS_E_DATA, "%s: has no median_relative_size_after_cropping", path);
    MCS_TRY(mcs_fingerprint_alloc(f, (int)n, (int)json_object_size(channels)));
    f->relative_size = json_number_value(size);
    for (int i = 0; i < f->n_cases; i++) {
        double shape[3];
        MCS_TRY(read_triple(path, "spacings", spacings, i, MIN_SPACING, MAX_SPACING, f->spacings[i]));
        MCS_TRY(read_triple(path, "shapes_after_crop", shapes, i, 1, MAX_SIDE, shape));
        for (int d = 0; d < 3; d++) f->shapes[i][d] = (int64_t)shape[d];
    }
    for (int c = 0; c < f->n_channels; c++) MCS_TRY(read_intensity(path, channels, c, &f->intensities[c]));
    return MCS_OK;
}

enum mcs_status mcs_fingerprint_read(const char *path, struct fingerprint *f)
{
    json_t *root;
    *f = (struct fingerprint){0};
    MCS_TRY(mcs_json_read(path, MAX_BYTES, JSON_REJECT_DUPLICATES, &root));
    const enum mcs_status st = parse(path, root, f);
    json_decref(root);
    if (st != MCS_OK) mcs_fingerprint_free(f);
    return st;
}

/* ---- writing ---- */

enum mcs_status mcs_fingerprint_write(const char *path, const struct fingerprint *f)
{
    json_t *spacings = json_array(), *shapes = json_array(), *channels = json_object();
    for (int i = 0; i < f->n_cases; i++) {
        const double *s = f->spacings[i];
        const int64_t *n = f->shapes[i];
        json_array_append_new(spacings, json_pack("[f,f,f]", s[0], s[1], s[2]));
        json_array_append_new(shapes, json_pack("[I,I,I]", (json_int_t)n[0], (json_int_t)n[1], (json_int_t)n[2]));
    }
    for (int c = 0; c < f->n_channels; c++) {
        char name[16];
        json_t *o = json_object();
        snprintf(name, sizeof name, "%d", c);
        for (int k = 0; k < N_KEYS; k++) json_object_set_new(o, keys[k].name, json_real(*field(&f->intensities[c], k)));
        json_object_set_new(channels, name, o);
    }
    return mcs_json_write(json_pack("{s:o, s:o, s:o, s:f}", "spacings", spacings, "shapes_after_crop", shapes,
                                    "foreground_intensity_properties_per_channel", channels,
                                    "median_relative_size_after_cropping", f->relative_size),
                          JSON_INDENT(4) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17), "%s", path);
}

/* ---- numpy ---- */

int mcs_double_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double mcs_percentile(const double *sorted, int n, double q)
{
    const double at = (n - 1) * q, below = floor(at), t = at - below;
    const int i = (int)below, next = i + 1 < n ? i + 1 : n - 1;
    const double difference = sorted[next] - sorted[i];
    return t >= 0.5 ? sorted[next] - difference * (1 - t) : sorted[i] + difference * t;
}

double mcs_median(const double *sorted, int n)
{
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}
