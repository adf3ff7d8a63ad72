/* The training cases of a raw data set: listed in imagesTr and labelsTr, or named in dataset.json. */
#include "data/nnunet/nnunet_dataset.h"

#include "data/io/file.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { SUFFIX = 5 /* "_0000" */ };

static int ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n > m && !strcmp(name + n - m, ending);
}

/* ---- folders ---- */

/* An image file split into its case and channel. */
struct part {
    const char *name; /* of the case */
    int channel;
};

static int by_case(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    const int order = strcmp(x->name, y->name);
    return order ? order : (x->channel > y->channel) - (x->channel < y->channel);
}

/* The files of `folder` with the ending of the data set; the others are not looked at, as in nnU-Net. */
static enum mcs_status list_files(const struct nnunet_dataset *d, const char *folder, struct file_list *list)
{
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such folder", folder);
    MCS_TRY(mcs_folder_list(folder, "", list));
    int n = 0;
    for (int i = 0; i < list->n; i++) {
        char *name = list->names[i];
        if (ends_with(name, d->ending))
            list->names[n++] = name;
        else
            free(name);
    }
    list->n = n;
    return MCS_OK;
}

static enum mcs_status split(struct nnunet_dataset *d, const char *folder, const char *file, struct part *p)
{
    const size_t n = strlen(file) - strlen(d->ending);
    int good = n > SUFFIX && file[n - SUFFIX] == '_';
    for (size_t i = n - SUFFIX + 1; good && i < n; i++) good = isdigit((unsigned char)file[i]) != 0;
    MCS_REQUIRE(good, MCS_E_DATA,
                "%s/%s: an image's name ends in _CCCC%s, CCCC being the channel: CASE_0000%s is channel 0", folder,
                file, d->ending, d->ending);
    p->channel = atoi(file + n - SUFFIX + 1);
    p->name = mcs_arena_printf(&d->arena, "%.*s", (int)(n - SUFFIX), file);
    return MCS_OK;
}

/* One case from its n images. One file may hold all channels (RGB); its reader counts them. */
static enum mcs_status add_case(struct nnunet_dataset *d, const char *folder, const struct part *parts, int n)
{
    struct nnunet_case *c = &d->cases[d->n_cases];
    c->name = parts[0].name;
    for (int i = 0; i < d->n_channels && !(n == 1 && parts[0].channel == 0); i++)
        MCS_REQUIRE(i < n && parts[i].channel == i, MCS_E_DATA,
                    "case %s has no channel %d (%s): %s/imagesTr/%s_%04d%s is missing", c->name, i, d->channels[i],
                    folder, c->name, i, d->ending);
    MCS_REQUIRE(n <= d->n_channels, MCS_E_DATA, "case %s has a channel %d, but %s names %d channels", c->name,
                parts[n - 1].channel, d->path, d->n_channels);
    c->images = mcs_arena_alloc(&d->arena, (size_t)n * sizeof *c->images);
    c->label = mcs_arena_printf(&d->arena, "%s/labelsTr/%s%s", folder, c->name, d->ending);
    MCS_TRY(mcs_arena_status(&d->arena));
    for (int i = 0; i < n; i++)
        c->images[i] = mcs_arena_printf(&d->arena, "%s/imagesTr/%s_%04d%s", folder, c->name, i, d->ending);
    MCS_REQUIRE(mcs_file_exists(c->label), MCS_E_DATA, "case %s has no label: %s is missing", c->name, c->label);
    c->n_images = n;
    d->n_cases++;
    return mcs_arena_status(&d->arena);
}

static int compare_to_case(const void *key, const void *item)
{
    return strcmp(key, ((const struct nnunet_case *)item)->name);
}

static enum mcs_status check_labels(struct nnunet_dataset *d, const char *folder, const struct file_list *labels)
{
    for (int i = 0; i < labels->n; i++) {
        const char *file = labels->names[i],
                   *name = mcs_arena_printf(&d->arena, "%.*s", (int)(strlen(file) - strlen(d->ending)), file);
        MCS_REQUIRE(bsearch(name, d->cases, (size_t)d->n_cases, sizeof *d->cases, compare_to_case), MCS_E_DATA,
                    "%s/labelsTr/%s: a label without images: %s/imagesTr/%s_0000%s is missing", folder, file, folder,
                    name, d->ending);
    }
    return mcs_arena_status(&d->arena);
}

static enum mcs_status list_folders(const char *folder, struct nnunet_dataset *d)
{
    enum mcs_status st;
    char path[MCS_PATH_BYTES];
    struct file_list images = {0}, labels = {0};
    MCS_TRY(mcs_path(path, "%s/imagesTr", folder));
    MCS_TRY_GOTO(list_files(d, path, &images), st, done);
    struct part *parts = mcs_arena_alloc(&d->arena, ((size_t)images.n + 1) * sizeof *parts);
    d->cases = mcs_arena_alloc(&d->arena, ((size_t)images.n + 1) * sizeof *d->cases);
    MCS_TRY_GOTO(mcs_arena_status(&d->arena), st, done);
    for (int i = 0; i < images.n; i++) MCS_TRY_GOTO(split(d, path, images.names[i], &parts[i]), st, done);
    MCS_TRY_GOTO(mcs_arena_status(&d->arena), st, done);
    qsort(parts, (size_t)images.n, sizeof *parts, by_case);
    MCS_TRY_GOTO(mcs_path(path, "%s/labelsTr", folder), st, done);
    MCS_TRY_GOTO(list_files(d, path, &labels), st, done);
    for (int i = 0, n; i < images.n; i += n) {
        for (n = 1; i + n < images.n && !strcmp(parts[i].name, parts[i + n].name);) n++;
        MCS_TRY_GOTO(add_case(d, folder, parts + i, n), st, done);
    }
    MCS_TRY_GOTO(check_labels(d, folder, &labels), st, done);
done:
    mcs_file_list_free(&images);
    mcs_file_list_free(&labels);
    return st;
}

/* ---- "dataset" ---- */

static int is_name_byte(char c)
{
    return c == '_' || isalnum((unsigned char)c);
}

/* Replaces $NAME and ${NAME} by the variable's value, where it is set, as Python's os.path.expandvars. */
static const char *expand(struct arena *a, const char *text)
{
    const char *done = "";
    while (*text) {
        const size_t plain = strcspn(text + 1, "$") + 1;
        const int braces = text[0] == '$' && text[1] == '{';
        size_t n = 0;
        while (text[0] == '$' && is_name_byte(text[1 + braces + n])) n++;
        const char *name = mcs_arena_printf(a, "%.*s", (int)n, text + 1 + braces),
                   *value = n && (!braces || text[2 + n] == '}') ? getenv(name) : NULL;
        if (value) {
            done = mcs_arena_printf(a, "%s%s", done, value);
            text += 1 + n + (braces ? 2 : 0);
        } else {
            done = mcs_arena_printf(a, "%s%.*s", done, (int)plain, text);
            text += plain;
        }
    }
    return done;
}

static enum mcs_status named_file(struct nnunet_dataset *d, const char *folder, const char *name, const json_t *value,
                                  const char **path)
{
    MCS_REQUIRE(json_is_string(value) && json_string_length(value) > 0, MCS_E_DATA,
                "%s: dataset: case %s needs {\"images\": [PATH, ...], \"label\": PATH}", d->path, name);
    *path = expand(&d->arena, json_string_value(value));
    if (**path != '/') *path = mcs_arena_printf(&d->arena, "%s/%s", folder, *path);
    MCS_TRY(mcs_arena_status(&d->arena));
    MCS_REQUIRE(mcs_file_exists(*path), MCS_E_DATA, "%s: dataset: case %s: %s is missing", d->path, name, *path);
    return MCS_OK;
}

static enum mcs_status list_named(const char *folder, const json_t *dataset, struct nnunet_dataset *d)
{
    const char *name;
    json_t *value;
    MCS_REQUIRE(json_is_object(dataset), MCS_E_DATA, "%s: dataset is no object of cases", d->path);
    d->cases = mcs_arena_alloc(&d->arena, (json_object_size(dataset) + 1) * sizeof *d->cases);
    MCS_TRY(mcs_arena_status(&d->arena));
    json_object_foreach((json_t *)dataset, name, value)
    {
        struct nnunet_case *c = &d->cases[d->n_cases];
        const json_t *images = json_object_get(value, "images");
        const int n = (int)json_array_size(images);
        MCS_REQUIRE(*name && !strchr(name, '/'), MCS_E_DATA, "%s: dataset: \"%s\" cannot name a case's files", d->path,
                    name);
        MCS_REQUIRE(n == d->n_channels || n == 1, MCS_E_DATA, "%s: dataset: case %s has %d images, but %d channels",
                    d->path, name, n, d->n_channels);
        c->name = name;
        c->n_images = n;
        c->images = mcs_arena_alloc(&d->arena, (size_t)n * sizeof *c->images);
        MCS_TRY(mcs_arena_status(&d->arena));
        for (int i = 0; i < n; i++)
            MCS_TRY(named_file(d, folder, name, json_array_get(images, (size_t)i), &c->images[i]));
        MCS_TRY(named_file(d, folder, name, json_object_get(value, "label"), &c->label));
        d->n_cases++;
    }
    return MCS_OK;
}

enum mcs_status mcs_nnunet_dataset_list(const char *folder, struct nnunet_dataset *d)
{
    const json_t *dataset = json_object_get(d->json, "dataset");
    d->n_cases = 0;
    MCS_TRY(dataset ? list_named(folder, dataset, d) : list_folders(folder, d));
    MCS_REQUIRE(d->n_cases > 0, MCS_E_DATA, "%s: there is no training case (*%s in %s/imagesTr)", d->path, d->ending,
                folder);
    MCS_REQUIRE(d->n_cases == d->n_training, MCS_E_DATA, "%s: numTraining is %lld, but there are %d training cases",
                d->path, (long long)d->n_training, d->n_cases);
    return MCS_OK;
}
