/* dataset.json: its keys and their checks; the channels, labels and reader that follow from it. */
#include "data/nnunet/nnunet_dataset.h"

#include "data/io/json.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 1 << 28, MAX_WORD = 40 };

/* The keys that nnU-Net reads, then those that only describe the data set. */
static const char *const used_keys[] = {"channel_names", "modality",    "labels",  "regions_class_order",
                                        "numTraining",   "file_ending", "dataset", "overwrite_image_reader_writer"};
static const char *const other_keys[] = {"name",     "description", "reference",    "licence",         "license",
                                         "release",  "citation",    "converted_by", "tensorImageSize", "numTest",
                                         "training", "test",        "evaluation",   "nnUNet_version",  "readme",
                                         "source",   "author",      "url",          "version"};
enum { N_USED = sizeof used_keys / sizeof *used_keys, N_OTHER = sizeof other_keys / sizeof *other_keys };

static const char *const readers[] = {"NaturalImage2DIO", "SimpleITKIO",           "Tiff3DIO",
                                      "NibabelIO",        "NibabelIOWithReorient", "SimpleITKIOWithReorient"};
enum { N_READERS = sizeof readers / sizeof *readers };

void mcs_nnunet_dataset_close(struct nnunet_dataset *d)
{
    json_decref(d->json);
    mcs_arena_free(&d->arena);
    *d = (struct nnunet_dataset){0};
}

/* ---- keys ---- */

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

/* Levenshtein's distance of two words without regard to case; MAX_WORD where one is longer. */
static int distance(const char *a, const char *b)
{
    int row[MAX_WORD + 1];
    const int na = (int)strlen(a), nb = (int)strlen(b);
    if (na >= MAX_WORD || nb >= MAX_WORD) return MAX_WORD;
    for (int j = 0; j <= nb; j++) row[j] = j;
    for (int i = 1; i <= na; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            const int same = (a[i - 1] | 32) == (b[j - 1] | 32), above = row[j];
            row[j] = smaller(smaller(above, row[j - 1]) + 1, corner + !same);
            corner = above;
        }
    }
    return row[nb];
}

static int is_one_of(const char *key, const char *const *keys, int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(key, keys[i])) return 1;
    return 0;
}

/* A key that is almost one that counts is a mistake, whose value would silently not be used. */
static enum mcs_status check_keys(const struct nnunet_dataset *d)
{
    const char *key;
    json_t *value;
    json_object_foreach(d->json, key, value)
    {
        if (is_one_of(key, used_keys, N_USED) || is_one_of(key, other_keys, N_OTHER)) continue;
        for (int i = 0; i < N_USED; i++)
            MCS_REQUIRE(distance(key, used_keys[i]) > 2, MCS_E_DATA,
                        "%s: the key \"%s\" is not nnU-Net's; did you mean \"%s\"?", d->path, key, used_keys[i]);
    }
    return MCS_OK;
}

/* ---- channels ---- */

static enum mcs_status read_channels(struct nnunet_dataset *d)
{
    json_t *names = json_object_get(d->json, "channel_names"), *value;
    const char *key, *word = "channel_names";
    if (!names) names = json_object_get(d->json, word = "modality");
    MCS_REQUIRE(json_is_object(names) && json_object_size(names) > 0, MCS_E_DATA,
                "%s: has no channel_names such as {\"0\": \"CT\"}", d->path);
    MCS_REQUIRE(json_object_size(names) <= NNUNET_MAX_CHANNELS, MCS_E_DATA, "%s: %zu channels; %d are possible",
                d->path, json_object_size(names), NNUNET_MAX_CHANNELS);
    d->channels = mcs_arena_alloc(&d->arena, json_object_size(names) * sizeof *d->channels);
    MCS_TRY(mcs_arena_status(&d->arena));
    json_object_foreach(names, key, value)
    {
        char want[16];
        snprintf(want, sizeof want, "%d", d->n_channels);
        MCS_REQUIRE(!strcmp(key, want), MCS_E_DATA, "%s: %s: the keys are \"0\", \"1\", ... in this order, not \"%s\"",
                    d->path, word, key);
        MCS_REQUIRE(json_is_string(value), MCS_E_DATA, "%s: %s: channel %s has no name", d->path, word, key);
        d->channels[d->n_channels++] = json_string_value(value);
    }
    return MCS_OK;
}

/* ---- labels ---- */

static enum mcs_status read_class(const struct nnunet_dataset *d, const char *name, const json_t *value, int *v)
{
    MCS_REQUIRE(json_is_integer(value), MCS_E_DATA, "%s: labels: \"%s\" is neither a class number nor a list of them%s",
                d->path, name,
                json_is_string(value) ? " (nnU-Net 1 wrote {\"1\": \"liver\"}; nnU-Net 2 wants {\"liver\": 1})" : "");
    MCS_REQUIRE(json_integer_value(value) >= 0 && json_integer_value(value) < NNUNET_MAX_LABELS, MCS_E_DATA,
                "%s: labels: \"%s\" cannot be %lld", d->path, name, (long long)json_integer_value(value));
    *v = (int)json_integer_value(value);
    return MCS_OK;
}

static enum mcs_status read_label(struct nnunet_dataset *d, const char *name, const json_t *value)
{
    struct nnunet_label *l = &d->labels[d->n_labels];
    l->name = name;
    l->is_list = json_is_array(value);
    const size_t n = l->is_list ? json_array_size(value) : 1;
    MCS_REQUIRE(n > 0 && n <= NNUNET_MAX_LABELS, MCS_E_DATA, "%s: labels: the list of \"%s\" has %zu classes", d->path,
                name, n);
    l->values = mcs_arena_alloc(&d->arena, n * sizeof *l->values);
    MCS_TRY(mcs_arena_status(&d->arena));
    for (size_t i = 0; i < n; i++)
        MCS_TRY(read_class(d, name, l->is_list ? json_array_get(value, i) : value, &l->values[i]));
    l->n = (int)n;
    d->n_labels++;
    return MCS_OK;
}

int mcs_nnunet_is_background(const struct nnunet_label *l)
{
    for (int i = 0; i < l->n; i++)
        if (l->values[i]) return 0;
    return 1;
}

/* Classes must be 0, 1, 2, ... without a gap, and ignore the next one. */
static enum mcs_status check_classes(struct nnunet_dataset *d)
{
    int *seen = mcs_arena_alloc(&d->arena, (NNUNET_MAX_LABELS + 1) * sizeof *seen), largest = 0;
    MCS_TRY(mcs_arena_status(&d->arena));
    for (int i = 0; i < d->n_labels; i++) {
        const struct nnunet_label *l = &d->labels[i];
        if (!strcmp(l->name, "ignore")) continue;
        for (int k = 0; k < l->n; k++) {
            seen[l->values[k]] = 1;
            if (l->values[k] > largest) largest = l->values[k];
        }
    }
    d->n_classes = largest + 1;
    for (int v = 0; v < d->n_classes; v++)
        MCS_REQUIRE(seen[v], MCS_E_DATA, "%s: labels: classes must be 0, 1, 2, ... without a gap; %d is missing",
                    d->path, v);
    MCS_REQUIRE(d->n_classes > 1, MCS_E_DATA, "%s: labels: there is no class besides the background", d->path);
    MCS_REQUIRE(d->ignore < 0 || d->ignore == d->n_classes, MCS_E_DATA,
                "%s: labels: \"ignore\" must be the highest class, %d here, not %d", d->path, d->n_classes, d->ignore);
    return MCS_OK;
}

static enum mcs_status check_region_order(const struct nnunet_dataset *d)
{
    const json_t *order = json_object_get(d->json, "regions_class_order"), *v;
    size_t i;
    if (!d->has_regions) return MCS_OK;
    MCS_REQUIRE(json_is_array(order) && (int)json_array_size(order) == d->n_regions, MCS_E_DATA,
                "%s: the labels have regions, so regions_class_order must be a list of %d classes, one a region",
                d->path, d->n_regions);
    json_array_foreach(order, i, v)
        MCS_REQUIRE(json_is_integer(v), MCS_E_DATA, "%s: regions_class_order has an entry that is no class", d->path);
    return MCS_OK;
}

static enum mcs_status read_labels(struct nnunet_dataset *d)
{
    json_t *labels = json_object_get(d->json, "labels"), *value;
    const char *name;
    MCS_REQUIRE(json_is_object(labels), MCS_E_DATA, "%s: has no labels such as {\"background\": 0, \"liver\": 1}",
                d->path);
    MCS_REQUIRE(json_object_size(labels) <= NNUNET_MAX_LABELS, MCS_E_DATA, "%s: more than %d labels", d->path,
                NNUNET_MAX_LABELS);
    d->labels = mcs_arena_alloc(&d->arena, (json_object_size(labels) + 1) * sizeof *d->labels);
    MCS_TRY(mcs_arena_status(&d->arena));
    int background = 0;
    json_object_foreach(labels, name, value)
    {
        MCS_TRY(read_label(d, name, value));
        const struct nnunet_label *l = &d->labels[d->n_labels - 1];
        if (!strcmp(name, "background")) {
            MCS_REQUIRE(!l->is_list && l->values[0] == 0, MCS_E_DATA, "%s: labels: \"background\" must be 0", d->path);
            background = 1;
        } else if (!strcmp(name, "ignore")) {
            MCS_REQUIRE(!l->is_list, MCS_E_DATA, "%s: labels: \"ignore\" is one class, not a list", d->path);
            d->ignore = l->values[0];
        } else if (!mcs_nnunet_is_background(l)) {
            d->n_regions++;
        }
        if (l->n > 1) d->has_regions = 1;
    }
    MCS_REQUIRE(background, MCS_E_DATA, "%s: labels: \"background\": 0 is missing", d->path);
    MCS_TRY(check_classes(d));
    return check_region_order(d);
}

/* ---- the reader ---- */

enum mcs_status mcs_nnunet_reader_check(const char *path, const char *reader)
{
    MCS_REQUIRE(is_one_of(reader, readers, N_READERS), MCS_E_DATA,
                "%s: nnU-Net has no image reader %s; it has NaturalImage2DIO, SimpleITKIO, Tiff3DIO, NibabelIO, "
                "NibabelIOWithReorient and SimpleITKIOWithReorient",
                path, reader);
    return MCS_OK;
}

/* The reader that nnU-Net takes for an ending: the first of its list that knows it. */
static enum mcs_status choose_reader(struct nnunet_dataset *d)
{
    static const char *const of_ending[][2] = {
        {".png", "NaturalImage2DIO"}, {".bmp", "NaturalImage2DIO"}, {".tif", "NaturalImage2DIO"},
        {".nii.gz", "SimpleITKIO"},   {".nrrd", "SimpleITKIO"},     {".mha", "SimpleITKIO"},
        {".gipl", "SimpleITKIO"},     {".tiff", "Tiff3DIO"},        {".nii", "NibabelIO"}};
    const json_t *named = json_object_get(d->json, "overwrite_image_reader_writer");
    if (named && !json_is_null(named) && !(json_is_string(named) && !strcmp(json_string_value(named), "None"))) {
        MCS_REQUIRE(json_is_string(named), MCS_E_DATA, "%s: overwrite_image_reader_writer is no name", d->path);
        d->reader = json_string_value(named);
        return mcs_nnunet_reader_check(d->path, d->reader);
    }
    for (size_t i = 0; i < sizeof of_ending / sizeof *of_ending; i++)
        if (strlen(d->ending) == strlen(of_ending[i][0]) && !distance(d->ending, of_ending[i][0]))
            d->reader = of_ending[i][1];
    MCS_REQUIRE(d->reader, MCS_E_DATA,
                "%s: file_ending \"%s\": nnU-Net reads .nii.gz, .nii, .png, .bmp, .tif, .tiff, .nrrd, .mha and .gipl",
                d->path, d->ending);
    return MCS_OK;
}

static enum mcs_status parse(struct nnunet_dataset *d)
{
    MCS_REQUIRE(json_is_object(d->json), MCS_E_DATA, "%s: is no JSON object", d->path);
    MCS_TRY(check_keys(d));
    MCS_TRY(read_channels(d));
    MCS_TRY(read_labels(d));
    const json_t *n = json_object_get(d->json, "numTraining"), *ending = json_object_get(d->json, "file_ending");
    MCS_REQUIRE(json_is_integer(n) && json_integer_value(n) >= 0 && json_integer_value(n) <= INT_MAX, MCS_E_DATA,
                "%s: has no numTraining, the number of training cases", d->path);
    MCS_REQUIRE(json_is_string(ending) && json_string_length(ending) > 0, MCS_E_DATA,
                "%s: has no file_ending such as \".nii.gz\"", d->path);
    d->n_training = json_integer_value(n);
    d->ending = json_string_value(ending);
    return choose_reader(d);
}

enum mcs_status mcs_nnunet_dataset_read(const char *path, struct nnunet_dataset *d)
{
    *d = (struct nnunet_dataset){.ignore = -1};
    d->path = mcs_arena_strdup(&d->arena, path);
    enum mcs_status st = mcs_json_read(path, MAX_JSON_BYTES, JSON_REJECT_DUPLICATES, &d->json);
    if (st == MCS_OK) st = parse(d);
    if (st == MCS_OK) return st;
    mcs_trace(st, __FILE__, __LINE__);
    mcs_nnunet_dataset_close(d);
    return st;
}
