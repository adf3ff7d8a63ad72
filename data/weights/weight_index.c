/* An index of several files, as Hugging Face writes model.safetensors.index.json and pytorch_model.bin.index.json:
 *
 *     {"metadata": {...}, "weight_map": {"NAME OF A TENSOR": "NAME OF A FILE beside the index", ...}} */
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/weights/weight_parts.h"
#include "engine/base/path.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PARTS = 256 };
static const int64_t MAX_INDEX_BYTES = 100 * 1000 * 1000;

/* The number of a part, which is added where it is new. */
static enum mcs_status find_part(struct weight_file *f, const char *folder, const char *name, int *part)
{
    char path[MCS_PATH_BYTES];
    MCS_REQUIRE(name && name[0] && name[0] != '.' && !strchr(name, '/'), MCS_E_DATA,
                "%s: weight_map: want names of files beside it, got %.100s", f->path, name ? name : "no text");
    for (*part = 1; *part < f->n_parts; ++*part)
        if (strcmp(mcs_path_name(f->parts[*part].path), name) == 0) return MCS_OK;
    MCS_REQUIRE(f->n_parts < MAX_PARTS, MCS_E_DATA, "%s: names more than %d files", f->path, MAX_PARTS - 1);
    MCS_TRY(mcs_path(path, "%s/%s", folder, name));
    f->parts[f->n_parts++] = (struct weight_part){.path = mcs_arena_strdup(&f->arena, path), .fd = -1};
    return mcs_arena_status(&f->arena);
}

/* Opens part k and takes over its open file and the tensors that `map` says are in it. */
static enum mcs_status take_part(struct weight_file *f, int k, const json_t *map)
{
    struct weight_file *part;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(mcs_file_exists(f->parts[k].path), MCS_E_DATA, "%s: names %s, which is not there: download it too",
                f->path, mcs_path_name(f->parts[k].path));
    MCS_REQUIRE(!mcs_file_has_ending(f->parts[k].path, ".json"), MCS_E_DATA, "%s: names an index, %s, want weights",
                f->path, mcs_path_name(f->parts[k].path));
    MCS_TRY(mcs_weight_file_open(f->parts[k].path, &part));
    for (int i = 0; i < part->n; i++) {
        const struct weight_tensor *t = &part->tensors[i];
        char *name = mcs_arena_printf(&f->arena, "%s%s", part->prefix, t->name); /* as the index has it */
        MCS_TRY_GOTO(mcs_arena_status(&f->arena), st, done);
        const char *in = json_string_value(json_object_get(map, name));
        if (!in || strcmp(in, mcs_path_name(f->parts[k].path)) != 0) continue;
        MCS_REQUIRE_GOTO(f->n < (int)json_object_size(map), MCS_E_DATA, st, done, "%s: a tensor twice", f->path);
        f->tensors[f->n] = *t;
        f->tensors[f->n].name = name;
        f->tensors[f->n++].part = k;
    }
    f->parts[k].n_bytes = part->parts[0].n_bytes;
    f->parts[k].fd = part->parts[0].fd;
    part->parts[0].fd = -1;
done:
    mcs_weight_file_close(part);
    return st;
}

/* E_DATA with the names that weight_map has and its files have not. */
static enum mcs_status check_complete(const struct weight_file *f, json_t *map)
{
    const char *name, *first = NULL;
    json_t *value;
    json_t *seen = json_object();
    int missing = 0;
    MCS_REQUIRE(seen, MCS_E_NOMEM, "%s: no memory for its list of tensors", f->path);
    for (int i = 0; i < f->n; i++) json_object_set_new(seen, f->tensors[i].name, json_null());
    json_object_foreach(map, name, value)
    {
        (void)value;
        if (json_object_get(seen, name)) continue;
        if (!missing++) first = name;
    }
    if (missing)
        mcs_fail(MCS_E_DATA, __FILE__, __LINE__, "%s: %d tensors are not in the files that it names, the first is %s",
                 f->path, missing, first);
    json_decref(seen);
    return missing ? MCS_E_DATA : MCS_OK;
}

static enum mcs_status parse(struct weight_file *f, json_t *root)
{
    char folder[MCS_PATH_BYTES];
    const char *name;
    json_t *value, *map = json_object_get(root, "weight_map");
    int part;
    MCS_REQUIRE(json_is_object(map), MCS_E_DATA, "%s: no index of weights: it has no weight_map", f->path);
    MCS_TRY(mcs_path_split(f->path, folder, &name));
    struct weight_part *parts;
    MCS_TRY(mcs_weight_alloc(f, MAX_PARTS * (int64_t)sizeof *parts, &parts));
    parts[0] = f->parts[0];
    f->parts = parts;
    MCS_TRY(mcs_weight_reserve(f, (int64_t)json_object_size(map)));
    json_object_foreach(map, name, value) MCS_TRY(find_part(f, folder, json_string_value(value), &part));
    for (int k = 1; k < f->n_parts; k++) MCS_TRY(take_part(f, k, map));
    return check_complete(f, map);
}

enum mcs_status mcs_weight_index(struct weight_file *f)
{
    json_t *root;
    MCS_TRY(mcs_json_read(f->path, MAX_INDEX_BYTES, JSON_REJECT_DUPLICATES, &root));
    const enum mcs_status st = parse(f, root);
    json_decref(root);
    return st;
}
