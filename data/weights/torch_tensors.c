/* The tensors of a PyTorch file's object: which dictionary they are in, and where they lie. */
#include "data/io/bounds.h"
#include "data/weights/weight_parts.h"

#include <stdlib.h>
#include <string.h>

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct torch_storage *)a)->key, ((const struct torch_storage *)b)->key);
}

void mcs_torch_storages_sort(int n, struct torch_storage *storages)
{
    if (n) qsort(storages, (size_t)n, sizeof *storages, by_key);
}

const struct torch_storage *mcs_torch_storage_find(int n, const struct torch_storage *storages, const char *key)
{
    const struct torch_storage wanted = {.key = key};
    return n ? bsearch(&wanted, storages, (size_t)n, sizeof wanted, by_key) : NULL;
}

static int n_tensors(const struct pickle_value *dict)
{
    int n = 0;
    if (!dict || dict->kind != PICKLE_DICT) return 0;
    for (int i = 1; i < dict->items.n; i += 2) n += dict->items.v[i]->kind == PICKLE_TENSOR;
    return n;
}

/* The dictionary that holds the weights: the value of one of these keys, else the object itself, else the only value
 * that is a dictionary with tensors. */
static enum mcs_status find_weights(struct weight_file *f, const struct pickle_value **weights)
{
    static const char *const wrappers[] = {"state_dict", "model_state_dict", "network_weights", "model", "net",
                                           "module",     "weights",          "params",          "ema"};
    const struct pickle_value *o = f->object;
    const char *name = NULL;
    int found = 0;
    MCS_REQUIRE(o->kind == PICKLE_DICT, MCS_E_DATA,
                "%s: its object is %s, want a dictionary of tensors; save the model's state_dict()", f->path,
                mcs_pickle_kind_name(o->kind));
    for (size_t i = 0; i < sizeof wrappers / sizeof *wrappers; i++)
        if (n_tensors(*weights = mcs_pickle_get(o, wrappers[i]))) {
            f->wrapper = wrappers[i];
            return MCS_OK;
        }
    *weights = o;
    if (n_tensors(o)) return MCS_OK;
    for (int i = 0; i + 1 < o->items.n; i += 2)
        if (n_tensors(o->items.v[i + 1])) {
            *weights = o->items.v[i + 1];
            name = mcs_pickle_text(o->items.v[i]);
            found++;
        }
    MCS_REQUIRE(found == 1, MCS_E_DATA,
                "%s: %s of the %d values of its dictionary are tensors or a dictionary of them; save the model's "
                "state_dict()",
                f->path, found ? "several" : "none", o->items.n / 2);
    f->wrapper = name ? name : "";
    return MCS_OK;
}

static enum mcs_status add_tensor(struct weight_file *f, const struct pickle_value *key, const struct pickle_tensor *p,
                                  int n, const struct torch_storage *storages)
{
    struct weight_tensor *t = &f->tensors[f->n];
    const struct pickle_storage *s = p->storage;
    t->name = mcs_pickle_text(key);
    MCS_REQUIRE(t->name, MCS_E_DATA, "%s: the name of a tensor is %s, want a text", f->path,
                mcs_pickle_kind_name(key->kind));
    t->type = s->type;
    t->nd = p->nd;
    memcpy(t->dims, p->dims, sizeof t->dims);
    MCS_TRY(mcs_weight_sizes(f, t));
    memcpy(t->strides, p->strides, sizeof t->strides);

    const struct torch_storage *found = mcs_torch_storage_find(n, storages, s->key);
    MCS_REQUIRE(found, MCS_E_DATA, "%s: array %s: the file has no storage %s: truncated or damaged", f->path, t->name,
                s->key);
    const int64_t item = mcs_array_type_bytes(s->type), end = s->first + s->n_values; /* below 2^57: no overflow */
    MCS_REQUIRE(found->n_bytes / item >= end && (s->first || found->n_bytes == end * item), MCS_E_DATA,
                "%s: array %s: storage %s has %lld bytes, want %lld: truncated or damaged", f->path, t->name, s->key,
                (long long)found->n_bytes, (long long)(end * item));
    t->offset = found->at + (s->first + p->offset) * item; /* within the storage: checked when it was unpickled */
    f->n++;
    return MCS_OK;
}

enum mcs_status mcs_weight_torch_tensors(struct weight_file *f, int n, const struct torch_storage *storages)
{
    const struct pickle_value *weights;
    MCS_TRY(find_weights(f, &weights));
    MCS_TRY(mcs_weight_reserve(f, n_tensors(weights)));
    for (int i = 0; i + 1 < weights->items.n; i += 2)
        if (weights->items.v[i + 1]->kind == PICKLE_TENSOR)
            MCS_TRY(add_tensor(f, weights->items.v[i], weights->items.v[i + 1]->tensor, n, storages));
    return MCS_OK;
}
