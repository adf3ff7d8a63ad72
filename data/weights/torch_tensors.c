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

static enum mcs_status add_tensor(struct weight_file *f, const char *name, const struct pickle_tensor *p, int n,
                                  const struct torch_storage *storages)
{
    struct weight_tensor *t = &f->tensors[f->n];
    const struct pickle_storage *s = p->storage;
    t->name = name;
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

static enum mcs_status name_of(struct weight_file *f, const struct pickle_value *key, const char **name)
{
    *name = mcs_pickle_text(key);
    MCS_REQUIRE(*name, MCS_E_DATA, "%s: the name of a tensor is %s, want a text", f->path,
                mcs_pickle_kind_name(key->kind));
    return MCS_OK;
}

/* ---- TorchScript: modules in modules; a tensor's name is that of its attribute behind those of its modules. The tree
 * has no cycles and a bounded number of values and levels (pickle.h). ---- */

static int64_t n_below(const struct pickle_value *module)
{
    int64_t n = n_tensors(module);
    if (module->kind != PICKLE_DICT) return 0;
    for (int i = 1; i < module->items.n; i += 2) n += n_below(module->items.v[i]);
    return n;
}

static enum mcs_status add_module(struct weight_file *f, const char *prefix, const struct pickle_value *module, int n,
                                  const struct torch_storage *storages)
{
    for (int i = 0; i + 1 < module->items.n; i += 2) {
        const struct pickle_value *v = module->items.v[i + 1];
        const char *name;
        char *full;
        if (v->kind != PICKLE_TENSOR && !(v->kind == PICKLE_DICT && n_below(v))) continue;
        MCS_TRY(name_of(f, module->items.v[i], &name));
        MCS_TRY(mcs_weight_alloc(f, (int64_t)(strlen(prefix) + strlen(name)) + 2, &full));
        stpcpy(stpcpy(stpcpy(full, prefix), name), v->kind == PICKLE_DICT ? "." : "");
        MCS_TRY(v->kind == PICKLE_TENSOR ? add_tensor(f, full, v->tensor, n, storages)
                                         : add_module(f, full, v, n, storages));
    }
    return MCS_OK;
}

enum mcs_status mcs_weight_torch_tensors(struct weight_file *f, int n, const struct torch_storage *storages)
{
    const struct pickle_value *weights;
    if (f->script) {
        MCS_REQUIRE(f->object->kind == PICKLE_DICT, MCS_E_DATA, "%s: TorchScript of %s, want a module", f->path,
                    mcs_pickle_kind_name(f->object->kind));
        MCS_REQUIRE(f->object->tree <= 1 << 20, MCS_E_DATA, "%s: TorchScript of more than 2^20 values", f->path);
        MCS_REQUIRE(
            n_below(f->object), MCS_E_DATA,
            "%s: TorchScript without tensors among its attributes; a frozen one has its weights as constants of "
            "its code, which is not read: take the model's other files",
            f->path);
        MCS_TRY(mcs_weight_reserve(f, n_below(f->object)));
        return add_module(f, "", f->object, n, storages);
    }
    MCS_TRY(find_weights(f, &weights));
    MCS_TRY(mcs_weight_reserve(f, n_tensors(weights)));
    for (int i = 0; i + 1 < weights->items.n; i += 2) {
        const char *name;
        if (weights->items.v[i + 1]->kind != PICKLE_TENSOR) continue;
        MCS_TRY(name_of(f, weights->items.v[i], &name));
        MCS_TRY(add_tensor(f, name, weights->items.v[i + 1]->tensor, n, storages));
    }
    return MCS_OK;
}
