/* What torch.save wrote before 1.6: five pickles in a row (a magic number, the protocol's version, the machine, the
 * object, the list of its storages' keys); then, for each key, the number of elements (int64) and the elements. */
#include "data/io/bounds.h"
#include "data/weights/weight_parts.h"
#include "engine/base/input.h"

#include <string.h>

enum { PROTOCOL = 1001 };

/* Notes the type of every storage below v. Recursive, at most PICKLE_MAX_DEPTH levels; shared values are visited once:
 * `on_path` marks them. */
static enum mcs_status set_types(const struct weight_file *f, struct pickle_value *v, int n,
                                 struct torch_storage *storages, const enum mcs_array_type **types)
{
    const struct pickle_storage *s = v->kind == PICKLE_STORAGE  ? v->storage
                                     : v->kind == PICKLE_TENSOR ? v->tensor->storage
                                                                : NULL;
    if (s) {
        const struct torch_storage *found = mcs_torch_storage_find(n, storages, s->key);
        MCS_REQUIRE(found, MCS_E_DATA, "%s: damaged: its list of storages has no %s", f->path, s->key);
        types[found - storages] = &s->type;
    }
    if ((v->kind != PICKLE_LIST && v->kind != PICKLE_TUPLE && v->kind != PICKLE_DICT) || v->on_path) return MCS_OK;
    v->on_path = 1;
    for (int i = 0; i < v->items.n; i++) MCS_TRY(set_types(f, v->items.v[i], n, storages, types));
    return MCS_OK;
}

/* Walks the storages in the order of `keys`; each one's length follows from its type. */
static enum mcs_status place(struct weight_file *f, const struct pickle_value *keys, int64_t at,
                             struct torch_storage *storages, const enum mcs_array_type **types)
{
    const struct weight_part *file = &f->parts[0];
    for (int i = 0; i < keys->items.n; i++) {
        struct torch_storage *s =
            (struct torch_storage *)mcs_torch_storage_find(keys->items.n, storages, keys->items.v[i]->text.s);
        const enum mcs_array_type *type = types[s - storages];
        int64_t n = 0;
        MCS_REQUIRE(type, MCS_E_DATA, "%s: damaged: storage %s has no tensor, so its type is not known", f->path,
                    s->key);
        MCS_REQUIRE(s->n_bytes < 0, MCS_E_DATA, "%s: damaged: storage %s twice", f->path, s->key);
        MCS_REQUIRE(file->n_bytes - at >= 8, MCS_E_DATA, "%s: truncated: it ends before storage %s", f->path, s->key);
        MCS_TRY(mcs_input_read(file->fd, f->path, &n, 8, at));
        at += 8;
        s->at = at;
        s->n_bytes = mcs_size_mul(n, mcs_array_type_bytes(*type));
        MCS_REQUIRE(s->n_bytes >= 0 && s->n_bytes <= file->n_bytes - at, MCS_E_DATA,
                    "%s: truncated or damaged: storage %s of %lld elements lies outside the file", f->path, s->key,
                    (long long)n);
        at += s->n_bytes;
    }
    MCS_REQUIRE(at == file->n_bytes, MCS_E_DATA, "%s: damaged: %lld bytes after the last storage", f->path,
                (long long)(file->n_bytes - at));
    return MCS_OK;
}

static enum mcs_status check_machine(const struct weight_file *f, const struct pickle_value *version,
                                     const struct pickle_value *machine)
{
    const struct pickle_value *little = mcs_pickle_get(machine, "little_endian");
    MCS_REQUIRE(version->kind == PICKLE_INT && version->i == PROTOCOL, MCS_E_DATA,
                "%s: damaged: its protocol is not %d, the only one that there was", f->path, PROTOCOL);
    MCS_REQUIRE(!little || (little->kind == PICKLE_BOOL && little->i), MCS_E_DATA,
                "%s: big-endian, want little-endian: save it again on such a machine (x86, ARM)", f->path);
    return MCS_OK;
}

enum mcs_status mcs_weight_torch_legacy(struct weight_file *f)
{
    struct pickle_source source = {f->parts[0].fd, f->path, 0, f->parts[0].n_bytes, 0};
    struct pickle_value *magic, *version, *machine, *keys;
    struct torch_storage *storages;
    const enum mcs_array_type **types;
    MCS_TRY(mcs_pickle_read(&source, &f->arena, &magic));
    MCS_TRY(mcs_pickle_read(&source, &f->arena, &version));
    MCS_TRY(mcs_pickle_read(&source, &f->arena, &machine));
    MCS_TRY(check_machine(f, version, machine));
    MCS_TRY(mcs_pickle_read(&source, &f->arena, &f->object));
    MCS_TRY(mcs_pickle_read(&source, &f->arena, &keys));
    MCS_REQUIRE(keys->kind == PICKLE_LIST, MCS_E_DATA, "%s: damaged: its list of storages is %s", f->path,
                mcs_pickle_kind_name(keys->kind));
    const int n = keys->items.n;
    MCS_TRY(mcs_weight_alloc(f, n * (int64_t)sizeof *storages, &storages));
    MCS_TRY(mcs_weight_alloc(f, n * (int64_t)sizeof *types, &types));
    for (int i = 0; i < n; i++) {
        MCS_REQUIRE(mcs_pickle_text(keys->items.v[i]), MCS_E_DATA, "%s: damaged: its list of storages has %s", f->path,
                    mcs_pickle_kind_name(keys->items.v[i]->kind));
        storages[i] = (struct torch_storage){keys->items.v[i]->text.s, 0, -1};
    }
    mcs_torch_storages_sort(n, storages);
    MCS_TRY(set_types(f, f->object, n, storages, types));
    MCS_TRY(place(f, keys, source.at, storages, types));
    return mcs_weight_torch_tensors(f, n, storages);
}
