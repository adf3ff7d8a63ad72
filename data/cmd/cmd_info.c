/* mcsam info FILE...: describes files: images, volumes, safetensors. */
#include "data/image/image.h"
#include "data/image/media.h"
#include "data/image/volume.h"
#include "data/io/array.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/weights/weight_file.h"
#include "engine/base/escape.h"
#include "engine/base/input.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 10000 };

struct info_options {
    struct mcs_common common;
    const char *filter;
};

static const struct mcs_option options[] = {
    {"filter", 0, MCS_FIELD(info_options, filter), .value = "TEXT",
     .help = "list only arrays whose name has this text"},
    {0},
};

enum kind { KIND_UNKNOWN, KIND_PNG, KIND_JPEG, KIND_NIFTI, KIND_SAFETENSORS, KIND_HDF5 };

/* Recognises a file by its content where the format has a signature, else by its name. */
static enum mcs_status kind_of(const char *path, enum kind *kind)
{
    unsigned char head[8] = {0};
    int fd;
    int64_t n_bytes;
    MCS_TRY(mcs_input_open(path, &fd, &n_bytes));
    const int n = n_bytes < (int64_t)sizeof head ? (int)n_bytes : (int)sizeof head;
    const enum mcs_status st = mcs_input_read(fd, path, head, n, 0);
    close(fd);
    MCS_TRY(st);
    *kind = KIND_UNKNOWN;
    if (n == 8 && memcmp(head, "\x89PNG\r\n\x1a\n", 8) == 0)
        *kind = KIND_PNG;
    else if (n >= 3 && memcmp(head, "\xff\xd8\xff", 3) == 0)
        *kind = KIND_JPEG;
    else if (n == 8 && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        *kind = KIND_HDF5;
    else if (mcs_media_is_volume(path) || mcs_file_has_ending(path, ".hdr"))
        *kind = KIND_NIFTI;
    else if (mcs_file_has_ending(path, ".safetensors"))
        *kind = KIND_SAFETENSORS;
    return MCS_OK;
}

/* Smallest, largest and mean of the finite values; number of values that are not finite. */
static json_t *value_range(const float *v, int64_t n)
{
    double lo = INFINITY, hi = -INFINITY, sum = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(v[i])) continue;
        if (v[i] < lo) lo = v[i];
        if (v[i] > hi) hi = v[i];
        sum += v[i];
        finite++;
    }
    if (!finite) return json_pack("{s:I}", "not_finite", (json_int_t)n);
    return json_pack("{s:f, s:f, s:f, s:I}", "min", lo, "max", hi, "mean", sum / (double)finite, "not_finite",
                     (json_int_t)(n - finite));
}

static enum mcs_status info_image(const char *path, const char *format, json_t **out)
{
    struct image img = {0};
    MCS_TRY(mcs_image_read(path, 0, &img));
    const int64_t n = (int64_t)img.width * img.height * img.channels;
    int lo = 255, hi = 0;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (img.pixels[i] < lo) lo = img.pixels[i];
        if (img.pixels[i] > hi) hi = img.pixels[i];
        sum += img.pixels[i];
    }
    *out = json_pack("{s:s, s:[i,i], s:i, s:{s:i, s:i, s:f}}", "format", format, "size", img.width, img.height,
                     "channels", img.channels, "values", "min", lo, "max", hi, "mean", sum / (double)n);
    mcs_image_free(&img);
    return MCS_OK;
}

static enum mcs_status info_volume(const char *path, json_t **out)
{
    struct volume v = {0};
    MCS_TRY(mcs_volume_read(path, &v));
    *out = json_pack("{s:s, s:[i,i,i], s:[f,f,f], s:o}", "format", "NIfTI", "size", v.nx, v.ny, v.nz, "spacing_mm",
                     (double)v.spacing[0], (double)v.spacing[1], (double)v.spacing[2], "values",
                     value_range(v.values, (int64_t)v.nx * v.ny * v.nz));
    mcs_volume_free(&v);
    return MCS_OK;
}

static enum mcs_status info_safetensors(const char *path, const char *filter, json_t **out)
{
    struct weight_file *file = NULL;
    MCS_TRY(mcs_weight_file_open(path, &file));
    json_t *list = json_array();
    int64_t values = 0, bytes = 0;
    const int n = mcs_weight_file_count(file);
    for (int i = 0; i < n; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(file, i);
        values += t->n_values;
        bytes += t->n_bytes;
        if (filter && !strstr(t->name, filter)) continue;
        json_t *shape = json_array();
        for (int d = 0; d < t->nd; d++) json_array_append_new(shape, json_integer(t->dims[d]));
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o}", "name", t->name, "type", mcs_array_type_name(t->type), "shape", shape));
    }
    *out = json_pack("{s:s, s:i, s:I, s:I, s:o}", "format", "safetensors", "arrays", n, "values", (json_int_t)values,
                     "bytes", (json_int_t)bytes, "list", list);
    mcs_weight_file_close(file);
    return MCS_OK;
}

static enum mcs_status info_file(const char *path, const char *filter, json_t **out)
{
    enum kind kind = KIND_UNKNOWN;
    MCS_TRY(kind_of(path, &kind));
    switch (kind) {
    case KIND_PNG: MCS_TRY(info_image(path, "PNG", out)); break;
    case KIND_JPEG: MCS_TRY(info_image(path, "JPEG", out)); break;
    case KIND_NIFTI: MCS_TRY(info_volume(path, out)); break;
    case KIND_SAFETENSORS: MCS_TRY(info_safetensors(path, filter, out)); break;
    case KIND_HDF5: *out = json_pack("{s:s}", "format", "HDF5"); break;
    case KIND_UNKNOWN:
        return MCS_FAIL(MCS_E_DATA,
                        "%s: none of the kinds that are known: PNG, JPEG, NIfTI (.nii, .nii.gz), .safetensors, HDF5",
                        path);
    }
    MCS_REQUIRE(*out, MCS_E_NOMEM, "%s: no memory to describe it", path);
    return MCS_OK;
}

static void print_text(const char *path, const json_t *o)
{
    const json_t *size = json_object_get(o, "size"), *values = json_object_get(o, "values");
    const json_t *spacing = json_object_get(o, "spacing_mm"), *list = json_object_get(o, "list");
    printf("%s: %s", mcs_text_shown(path), json_string_value(json_object_get(o, "format")));
    for (size_t d = 0; d < json_array_size(size); d++)
        printf("%s%lld", d ? " x " : ", ", (long long)json_integer_value(json_array_get(size, d)));
    if (json_object_get(o, "channels"))
        printf(", %lld channels", (long long)json_integer_value(json_object_get(o, "channels")));
    for (size_t d = 0; d < json_array_size(spacing); d++)
        printf("%s%g", d ? " x " : ", ", json_number_value(json_array_get(spacing, d)));
    if (spacing) printf(" mm");
    if (json_object_get(values, "max"))
        printf(", values %g to %g, mean %g", json_number_value(json_object_get(values, "min")),
               json_number_value(json_object_get(values, "max")), json_number_value(json_object_get(values, "mean")));
    const json_int_t wrong = json_integer_value(json_object_get(values, "not_finite"));
    if (wrong) printf(", %lld not finite", (long long)wrong);
    if (list)
        printf(", %lld arrays, %lld values, %lld bytes", (long long)json_integer_value(json_object_get(o, "arrays")),
               (long long)json_integer_value(values), (long long)json_integer_value(json_object_get(o, "bytes")));
    printf("\n");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *t = json_array_get(list, i), *shape = json_object_get(t, "shape");
        printf("  %-5s (", json_string_value(json_object_get(t, "type")));
        for (size_t d = 0; d < json_array_size(shape); d++)
            printf("%s%lld", d ? ", " : "", (long long)json_integer_value(json_array_get(shape, d)));
        printf(") %s\n", mcs_text_shown(json_string_value(json_object_get(t, "name"))));
    }
}

static enum mcs_status run(const void *o)
{
    const struct info_options *opt = o;
    const struct mcs_strings *files = &opt->common.args;
    json_t *all = json_object();
    int failed = 0;
    for (int i = 0; i < files->n; i++) {
        json_t *one = NULL;
        const enum mcs_status stopped = mcs_stop_check();
        if (stopped != MCS_OK) {
            json_decref(all);
            return mcs_trace(stopped, __FILE__, __LINE__);
        }
        const enum mcs_status st = info_file(files->v[i], opt->filter, &one);
        if (st != MCS_OK && files->n == 1) {
            json_decref(all);
            return mcs_trace(st, __FILE__, __LINE__);
        }
        if (st != MCS_OK) { /* reports a bad file and continues */
            mcs_warn("%s", mcs_error_message());
            mcs_error_clear();
            failed++;
            continue;
        }
        if (!opt->common.json) print_text(files->v[i], one);
        mcs_json_put(all, files->v[i], one);
    }
    if (opt->common.json) {
        json_dumpf(all, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
        printf("\n");
    }
    json_decref(all);
    MCS_REQUIRE(!failed, failed < files->n ? MCS_E_PARTIAL : MCS_E_DATA, "%d of %d files could not be read", failed,
                files->n);
    return MCS_OK;
}

const struct mcs_verb mcs_verb_info = {.name = "info",
                                       .line = "what is in a file: images, volumes, weights",
                                       .options = options,
                                       .options_bytes = sizeof(struct info_options),
                                       .run = run,
                                       .args = "FILE...",
                                       .min_args = 1,
                                       .max_args = MAX_ARGS};
