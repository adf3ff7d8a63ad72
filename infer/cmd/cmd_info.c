/* mcsam info FILE...: describes files: images, volumes, weights. */
#include "data/image/media.h"
#include "data/image/picture.h"
#include "data/io/array.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/weights/layout_names.h"
#include "data/weights/weight_file.h"
#include "engine/base/escape.h"
#include "engine/base/input.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "infer/model_info.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 10000 };

struct info_options {
    struct mcs_common common;
    const char *filter, *series;
    int tensors;
};

static const struct mcs_option options[] = {
    {"tensors", 0, MCS_FIELD(info_options, tensors), .help = "list the tensors of files of weights: type, shape, name"},
    {"filter", 0, MCS_FIELD(info_options, filter), .value = "TEXT",
     .help = "list only tensors whose name has this text"},
    {"series", 0, MCS_FIELD(info_options, series), .value = "WORD",
     .help = "of several DICOM series in a folder: the number, from 1, or the end of the UID"},
    {0},
};

enum kind { KIND_UNKNOWN, KIND_PICTURE, KIND_WEIGHTS, KIND_HDF5 };

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
    if (n == 8 && memcmp(head, "\x89HDF\r\n\x1a\n", 8) == 0)
        *kind = KIND_HDF5;
    else if (mcs_file_has_ending(path, ".safetensors;.pt;.pth;.bin;.ckpt;.index.json") ||
             memcmp(head, "PK\3\4", 4) == 0 || memcmp(head, "\x80\2\x8a\x0a\x6c\xfc", 6) == 0)
        *kind = KIND_WEIGHTS;
    else if (mcs_picture_known(path, NULL))
        *kind = KIND_PICTURE;
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

/* Geometry, meaning of the values and notes, where the file has them. */
static void put_facts(const struct picture *p, json_t *out)
{
    if (p->has_spacing)
        json_object_set_new(out, "spacing_mm", json_pack("[f,f,f]", p->spacing[0], p->spacing[1], p->spacing[2]));
    if (p->has_affine) {
        json_t *affine = json_array();
        for (int i = 0; i < 3; i++)
            json_array_append_new(affine, json_pack("[f,f,f,f]", p->affine[4 * i], p->affine[4 * i + 1],
                                                    p->affine[4 * i + 2], p->affine[4 * i + 3]));
        json_object_set_new(out, "affine_ras", affine);
    }
    json_object_set_new(out, "type", json_string(mcs_picture_type_name(p->type)));
    if (p->bits) json_object_set_new(out, "bits", json_integer(p->bits));
    if (p->slope != 1 || p->inter != 0)
        json_object_set_new(out, "rescale", json_pack("{s:f, s:f}", "slope", p->slope, "intercept", p->inter));
    if (p->has_window) json_object_set_new(out, "window", json_pack("[f,f]", p->window_low, p->window_high));
    if (p->palette) json_object_set_new(out, "palette", json_integer(p->n_palette));
    if (p->inverted) json_object_set_new(out, "smallest_is", json_string("white"));
    if (p->orientation != 1) json_object_set_new(out, "exif_orientation", json_integer(p->orientation));
    if (p->notes[0]) json_object_set_new(out, "notes", mcs_json_text(p->notes));
}

/* Size, values (rescaled) and facts of any image or volume. */
static enum mcs_status info_picture(const char *path, const char *series, json_t **out)
{
    enum mcs_status st = MCS_OK;
    struct picture p;
    const struct picture_choice choice = {series};
    MCS_TRY(mcs_picture_read(path, &choice, &p));
    const int64_t n = mcs_picture_count(&p);
    const int flat = p.nz == 1 && !p.header;
    float *values = malloc((size_t)n * sizeof *values);
    MCS_REQUIRE_GOTO(values, MCS_E_NOMEM, st, done, "%s: no memory for its values", path);
    mcs_picture_to_float(&p, 0, n, values);
    *out = json_pack("{s:s, s:o}", "format", p.format, "size",
                     flat ? json_pack("[i,i]", p.nx, p.ny) : json_pack("[i,i,i]", p.nx, p.ny, p.nz));
    if (!p.header) json_object_set_new(*out, "channels", json_integer(p.channels));
    json_object_set_new(*out, "values", value_range(values, n));
    put_facts(&p, *out);
done:
    free(values);
    mcs_picture_free(&p);
    return st;
}

static json_t *names_of(const struct name_list *list)
{
    json_t *names = json_array();
    for (int i = 0; i < list->n; i++) json_array_append_new(names, mcs_json_text(list->v[i]));
    return names;
}

/* The model, and the keys that are missing, misshapen and extra. */
static enum mcs_status put_model(const struct weight_file *file, json_t *out)
{
    struct arena a = {0};
    struct model_info info;
    const enum mcs_status st = mcs_model_recognise(file, &a, &info);
    json_t *model = json_object();
    if (st == MCS_OK) {
        json_object_set_new(model, "name", mcs_json_text(info.name));
        if (info.note) json_object_set_new(model, "note", mcs_json_text(info.note));
        if (info.compared) {
            json_object_set_new(model, "missing", names_of(&info.missing));
            json_object_set_new(model, "misshapen", names_of(&info.misshapen));
            json_object_set_new(model, "extra", names_of(&info.extra));
        }
    }
    json_object_set_new(out, "model", model);
    mcs_arena_free(&a);
    return st;
}

static void put_tensors(const struct weight_file *file, const struct info_options *opt, json_t *out)
{
    json_t *list = json_array();
    int64_t values = 0, bytes = 0;
    const int n = mcs_weight_file_count(file);
    for (int i = 0; i < n; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(file, i);
        values += t->n_values;
        bytes += t->n_bytes;
        if (opt->filter ? !strstr(t->name, opt->filter) : !opt->tensors) continue;
        json_t *shape = json_array();
        for (int d = 0; d < t->nd; d++) json_array_append_new(shape, json_integer(t->dims[d]));
        json_array_append_new(list, json_pack("{s:o, s:s, s:o}", "name", mcs_json_text(t->name), "type",
                                              mcs_array_type_name(t->type), "shape", shape));
    }
    json_object_set_new(out, "tensors", json_integer(n));
    json_object_set_new(out, "values", json_integer(values));
    json_object_set_new(out, "bytes", json_integer(bytes));
    if (opt->filter || opt->tensors)
        json_object_set_new(out, "list", list);
    else
        json_decref(list);
}

/* Tensors with values that are NaN or infinite: no model can use them. */
static enum mcs_status put_not_finite(const struct weight_file *file, json_t *out)
{
    json_t *names = json_array();
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < mcs_weight_file_count(file) && st == MCS_OK; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(file, i);
        int64_t count = 0;
        if (!mcs_layout_is_buffer(t->name)) st = mcs_weight_file_not_finite(file, t, &count); /* masks have -inf */
        if (st == MCS_OK && count) json_array_append_new(names, mcs_json_text(t->name));
    }
    if (json_array_size(names))
        json_object_set_new(out, "not_finite", names);
    else
        json_decref(names);
    return st;
}

static enum mcs_status info_weights(const char *path, const struct info_options *opt, json_t **out)
{
    struct weight_file *file = NULL;
    char hex[65];
    MCS_TRY(mcs_weight_file_open(path, &file));
    *out = json_pack("{s:s}", "format", mcs_weight_kind_name(mcs_weight_file_kind(file)));
    put_tensors(file, opt, *out);
    if (mcs_weight_file_wrapper(file)[0])
        json_object_set_new(*out, "wrapper", mcs_json_text(mcs_weight_file_wrapper(file)));
    if (mcs_weight_file_prefix(file)[0])
        json_object_set_new(*out, "prefix", mcs_json_text(mcs_weight_file_prefix(file)));
    enum mcs_status st = put_model(file, *out);
    if (st == MCS_OK) st = mcs_weight_file_verify(file);
    if (st == MCS_OK) st = put_not_finite(file, *out);
    if (st == MCS_OK) st = mcs_weight_file_sha256(file, hex);
    if (st == MCS_OK) json_object_set_new(*out, "sha256", json_string(hex));
    mcs_weight_file_close(file);
    if (st == MCS_OK) return MCS_OK;
    json_decref(*out);
    *out = NULL;
    return mcs_trace(st, __FILE__, __LINE__);
}

/* The weights in a model's folder, by the names of every model. */
static enum mcs_status info_folder(const char *folder, const struct info_options *opt, json_t **out)
{
    static const char *const names[] = {"open_clip_model.safetensors",
                                        "open_clip_pytorch_model.bin",
                                        "sam.safetensors",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "pytorch_model.bin",
                                        "pytorch_model.bin.index.json",
                                        "checkpoint_final.pth",
                                        NULL};
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_weight_folder_find(folder, names, path));
    MCS_TRY(info_weights(path, opt, out));
    json_object_set_new(*out, "file", mcs_json_text(mcs_path_name(path)));
    return MCS_OK;
}

static enum mcs_status info_file(const char *path, const struct info_options *opt, json_t **out)
{
    enum kind kind = KIND_UNKNOWN;
    if (mcs_folder_exists(path))
        return mcs_media_holds_series(path) ? info_picture(path, opt->series, out) : info_folder(path, opt, out);
    MCS_TRY(kind_of(path, &kind));
    switch (kind) {
    case KIND_PICTURE: MCS_TRY(info_picture(path, opt->series, out)); break;
    case KIND_WEIGHTS: MCS_TRY(info_weights(path, opt, out)); break;
    case KIND_HDF5: *out = json_pack("{s:s}", "format", "HDF5"); break;
    case KIND_UNKNOWN:
        return MCS_FAIL(MCS_E_DATA,
                        "%s: none of the kinds that are known: PNG, JPEG, TIFF, JPEG 2000, DICOM, BMP, NIfTI, NRRD, "
                        "MetaImage, weights (.safetensors, .pt, "
                        ".pth, .bin, .index.json), HDF5",
                        path);
    }
    MCS_REQUIRE(*out, MCS_E_NOMEM, "%s: no memory to describe it", path);
    return MCS_OK;
}

/* "  3 missing: a, b, c": at most ten names. */
static void print_names(const json_t *o, const char *key, const char *text)
{
    const json_t *names = json_object_get(o, key);
    const size_t n = json_array_size(names);
    if (!n) return;
    printf("  %zu %s: ", n, text);
    for (size_t i = 0; i < n && i < 10; i++)
        printf("%s%s", i ? ", " : "", mcs_text_shown(json_string_value(json_array_get(names, i))));
    printf(n > 10 ? ", ... (all with --json)\n" : "\n");
}

static void print_model(const json_t *o)
{
    const json_t *model = json_object_get(o, "model");
    const char *name = json_string_value(json_object_get(model, "name")),
               *note = json_string_value(json_object_get(model, "note"));
    const int compared = json_object_get(model, "missing") != NULL;
    if (json_object_get(o, "wrapper"))
        printf("  in: %s\n", mcs_text_shown(json_string_value(json_object_get(o, "wrapper"))));
    if (json_object_get(o, "prefix")) printf("  prefix: %s\n", json_string_value(json_object_get(o, "prefix")));
    printf("  model: %s", name ? mcs_text_shown(name) : "not known");
    if (note) printf("; %s", mcs_text_shown(note));
    if (compared && !json_array_size(json_object_get(model, "missing")) &&
        !json_array_size(json_object_get(model, "misshapen")))
        printf("; all of its tensors are there");
    printf("\n");
    print_names(model, "missing", "missing");
    print_names(model, "misshapen", "misshapen");
    print_names(model, "extra", "extra");
    print_names(o, "not_finite", "with values that are NaN or infinite");
    printf("  sha256: %s\n", json_string_value(json_object_get(o, "sha256")));
}

/* What differs from a plain image of 8 bits. */
static void print_facts(const json_t *o)
{
    const char *type = json_string_value(json_object_get(o, "type"));
    const json_t *window = json_object_get(o, "window"), *turned = json_object_get(o, "exif_orientation"),
                 *palette = json_object_get(o, "palette");
    if (type && strcmp(type, "uint8") != 0 && strcmp(type, "float32") != 0) printf(", stored as %s", type);
    if (palette) printf(", a palette of %lld colours", (long long)json_integer_value(palette));
    if (json_object_get(o, "smallest_is")) printf(", the smallest is white");
    if (window)
        printf(", window %g:%g", json_number_value(json_array_get(window, 0)),
               json_number_value(json_array_get(window, 1)));
    if (turned) printf(", EXIF orientation %lld", (long long)json_integer_value(turned));
}

static void print_text(const char *path, const json_t *o)
{
    const json_t *size = json_object_get(o, "size"), *values = json_object_get(o, "values");
    const json_t *spacing = json_object_get(o, "spacing_mm"), *list = json_object_get(o, "list");
    const char *file = json_string_value(json_object_get(o, "file")); /* in a folder */
    printf("%s%s%s: ", mcs_text_shown(path), file ? "/" : "", file ? file : "");
    printf("%s", json_string_value(json_object_get(o, "format")));
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
    if (json_object_get(o, "tensors"))
        printf(", %lld tensors, %lld values, %lld bytes", (long long)json_integer_value(json_object_get(o, "tensors")),
               (long long)json_integer_value(values), (long long)json_integer_value(json_object_get(o, "bytes")));
    print_facts(o);
    printf("\n");
    if (json_object_get(o, "notes")) printf("  %s\n", mcs_text_shown(json_string_value(json_object_get(o, "notes"))));
    if (json_object_get(o, "model")) print_model(o);
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
        const enum mcs_status st = info_file(files->v[i], opt, &one);
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
                                       .line = "what is in a file: images, volumes, weights and their model",
                                       .options = options,
                                       .options_bytes = sizeof(struct info_options),
                                       .run = run,
                                       .args = "FILE...",
                                       .min_args = 1,
                                       .max_args = MAX_ARGS};
