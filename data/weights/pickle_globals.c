/* The names that a pickle of PyTorch may contain, and what each one's call is replaced by. */
#include "data/weights/pickle_machine.h"

#include "data/io/bounds.h"

#include <stdio.h>
#include <string.h>

static const struct pickle_global GLOBALS[] = {
    {"collections OrderedDict", PICKLE_MAKE_DICT, 0},
    {"torch._utils _rebuild_tensor", PICKLE_REBUILD_TENSOR, 0},
    {"torch._utils _rebuild_tensor_v2", PICKLE_REBUILD_TENSOR, 0},
    {"torch._utils _rebuild_parameter", PICKLE_REBUILD_PARAMETER, 0},
    {"torch device", PICKLE_MAKE_DEVICE, 0},
    {"numpy.core.multiarray scalar", PICKLE_NUMPY_SCALAR, 0},
    {"numpy._core.multiarray scalar", PICKLE_NUMPY_SCALAR, 0},
    {"numpy dtype", PICKLE_NUMPY_DTYPE, 0},
    {"_codecs encode", PICKLE_ENCODE, 0},
    {"torch FloatStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_F32},
    {"torch HalfStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_F16},
    {"torch BFloat16Storage", PICKLE_STORAGE_TYPE, MCS_ARRAY_BF16},
    {"torch DoubleStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_F64},
    {"torch LongStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_I64},
    {"torch IntStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_I32},
    {"torch ShortStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_I16},
    {"torch CharStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_I8},
    {"torch ByteStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_U8},
    {"torch BoolStorage", PICKLE_STORAGE_TYPE, MCS_ARRAY_BOOL},
};

/* Of TorchScript's archives alone. */
static const struct pickle_global SCRIPT_GLOBALS[] = {
    {"torch.jit._pickle build_intlist", PICKLE_SCRIPT_LIST, 0},
    {"torch.jit._pickle build_doublelist", PICKLE_SCRIPT_LIST, 0},
    {"torch.jit._pickle build_boollist", PICKLE_SCRIPT_LIST, 0},
    {"torch.jit._pickle build_tensorlist", PICKLE_SCRIPT_LIST, 0},
    {"torch.jit._pickle restore_type_tag", PICKLE_SCRIPT_LIST, 0},
};
static const struct pickle_global SCRIPT_CLASS = {"__torch__", PICKLE_SCRIPT_CLASS, 0};

static const struct pickle_global *find(int n, const struct pickle_global *list, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0) return &list[i];
    return NULL;
}

const struct pickle_global *mcs_pickle_global(const char *name, int script)
{
    enum { N = sizeof GLOBALS / sizeof *GLOBALS, N_SCRIPT = sizeof SCRIPT_GLOBALS / sizeof *SCRIPT_GLOBALS };
    const struct pickle_global *found = find(N, GLOBALS, name);
    if (found || !script) return found;
    if (strncmp(name, "__torch__.", 10) == 0 || strncmp(name, "__torch__ ", 10) == 0) return &SCRIPT_CLASS;
    return find(N_SCRIPT, SCRIPT_GLOBALS, name);
}

static const struct pickle_value *arg(const struct pickle_value *args, int i, enum pickle_kind kind)
{
    return args->kind == PICKLE_TUPLE && i < args->items.n && args->items.v[i]->kind == kind ? args->items.v[i] : NULL;
}

/* ---- tensors ---- */

/* A tuple of sizes or strides: whole numbers from 0 on. */
static int sizes_of(const struct pickle_value *tuple, int *n, int64_t *dst)
{
    if (!tuple || tuple->items.n > MCS_ARRAY_MAX_ND) return 0;
    *n = tuple->items.n;
    for (int i = 0; i < *n; i++) {
        if (tuple->items.v[i]->kind != PICKLE_INT || tuple->items.v[i]->i < 0) return 0;
        dst[i] = tuple->items.v[i]->i;
    }
    return 1;
}

/* Every element of the tensor lies within its storage. */
static int fits_storage(const struct pickle_tensor *t)
{
    const int64_t n = mcs_array_count(t->nd, t->dims);
    int64_t last = t->offset;
    if (n < 0) return 0;
    if (n == 0) return t->offset <= t->storage->n_values;
    for (int i = 0; i < t->nd; i++) {
        const int64_t step = mcs_size_mul(t->dims[i] - 1, t->strides[i]);
        if (step < 0 || __builtin_add_overflow(last, step, &last)) return 0;
    }
    return last < t->storage->n_values;
}

/* (storage, offset, size, stride, ...): whether a gradient is wanted, hooks and metadata do not matter here. */
static enum mcs_status rebuild_tensor(struct pickle_machine *m, const struct pickle_value *args,
                                      struct pickle_value **result)
{
    const struct pickle_value *storage = arg(args, 0, PICKLE_STORAGE), *offset = arg(args, 1, PICKLE_INT);
    struct pickle_tensor t = {0}, *kept;
    int n_strides = 0;
    MCS_REQUIRE(storage && offset && offset->i >= 0 && sizes_of(arg(args, 2, PICKLE_TUPLE), &t.nd, t.dims) &&
                    sizes_of(arg(args, 3, PICKLE_TUPLE), &n_strides, t.strides) && n_strides == t.nd,
                MCS_E_DATA,
                "%s: pickle, byte %lld: damaged tensor: want storage, offset, sizes and strides from 0 on, at most %d "
                "dimensions",
                m->source->path, mcs_pickle_position(m), MCS_ARRAY_MAX_ND);
    t.storage = storage->storage;
    t.offset = offset->i;
    char shape[128];
    MCS_REQUIRE(fits_storage(&t), MCS_E_DATA,
                "%s: pickle, byte %lld: a tensor of shape %s from element %lld on lies outside its storage %.100s of "
                "%lld elements",
                m->source->path, mcs_pickle_position(m), mcs_array_shape_text(t.nd, t.dims, shape, sizeof shape),
                (long long)t.offset, t.storage->key, (long long)t.storage->n_values);
    MCS_TRY(mcs_pickle_alloc(m, sizeof *kept, &kept));
    *kept = t;
    MCS_TRY(mcs_pickle_new(m, PICKLE_TENSOR, result));
    (*result)->tensor = kept;
    return MCS_OK;
}

/* ("storage", type, key, location, number of elements[, view]); view: None or (key, first element, elements). */
enum mcs_status mcs_pickle_persistent(struct pickle_machine *m, const struct pickle_value *id,
                                      struct pickle_value **result)
{
    const struct pickle_value *word = arg(id, 0, PICKLE_TEXT), *type = arg(id, 1, PICKLE_GLOBAL),
                              *key = arg(id, 2, PICKLE_TEXT), *n = arg(id, 4, PICKLE_INT),
                              *view = arg(id, 5, PICKLE_TUPLE);
    struct pickle_storage s = {0}, *kept;
    MCS_REQUIRE(word && strcmp(word->text.s, "storage") == 0 && type && type->global->action == PICKLE_STORAGE_TYPE &&
                    mcs_pickle_text(key) && key->text.n < 256 && n && n->i >= 0 && n->i < (int64_t)1 << 56,
                MCS_E_DATA, "%s: pickle, byte %lld: damaged: want (\"storage\", type, key, place, elements)",
                m->source->path, mcs_pickle_position(m));
    s.type = type->global->type;
    s.key = key->text.s;
    s.n_values = n->i;
    if (view) {
        const struct pickle_value *first = arg(view, 1, PICKLE_INT), *length = arg(view, 2, PICKLE_INT);
        MCS_REQUIRE(first && length && first->i >= 0 && length->i >= 0 && first->i <= n->i &&
                        length->i <= n->i - first->i,
                    MCS_E_DATA, "%s: pickle, byte %lld: damaged: a view outside storage %s", m->source->path,
                    mcs_pickle_position(m), s.key);
        s.first = first->i;
        s.n_values = length->i;
    }
    MCS_TRY(mcs_pickle_alloc(m, sizeof *kept, &kept));
    *kept = s;
    MCS_TRY(mcs_pickle_new(m, PICKLE_STORAGE, result));
    (*result)->storage = kept;
    return MCS_OK;
}

/* ---- dictionaries, devices, numpy's scalars ---- */

/* OrderedDict(), or Python 2's OrderedDict([[key, value], ...]). */
static enum mcs_status make_dict(struct pickle_machine *m, const struct pickle_value *args,
                                 struct pickle_value **result)
{
    const struct pickle_value *pairs = arg(args, 0, PICKLE_LIST);
    MCS_TRY(mcs_pickle_new(m, PICKLE_DICT, result));
    MCS_REQUIRE(args->items.n == 0 || (args->items.n == 1 && pairs), MCS_E_DATA,
                "%s: pickle, byte %lld: damaged: OrderedDict of something else than pairs", m->source->path,
                mcs_pickle_position(m));
    for (int i = 0; pairs && i < pairs->items.n; i++) {
        const struct pickle_value *pair = pairs->items.v[i];
        MCS_REQUIRE((pair->kind == PICKLE_LIST || pair->kind == PICKLE_TUPLE) && pair->items.n == 2, MCS_E_DATA,
                    "%s: pickle, byte %lld: damaged: OrderedDict of something else than pairs", m->source->path,
                    mcs_pickle_position(m));
        MCS_TRY(mcs_pickle_append(m, *result, pair->items.v[0]));
        MCS_TRY(mcs_pickle_append(m, *result, pair->items.v[1]));
    }
    return MCS_OK;
}

static enum mcs_status new_text(struct pickle_machine *m, enum pickle_kind kind, const char *s, int64_t n,
                                struct pickle_value **result)
{
    char *kept;
    MCS_TRY(mcs_pickle_new(m, kind, result));
    MCS_TRY(mcs_pickle_alloc(m, n + 1, &kept));
    memcpy(kept, s, (size_t)n);
    kept[n] = 0;
    (*result)->text.s = kept;
    (*result)->text.n = n;
    return MCS_OK;
}

/* torch.device("cuda", 0) -> "cuda:0". */
static enum mcs_status make_device(struct pickle_machine *m, const struct pickle_value *args,
                                   struct pickle_value **result)
{
    const struct pickle_value *name = arg(args, 0, PICKLE_TEXT), *index = arg(args, 1, PICKLE_INT);
    char text[64];
    MCS_REQUIRE(mcs_pickle_text(name) && name->text.n < 32, MCS_E_DATA,
                "%s: pickle, byte %lld: damaged: torch.device without a name", m->source->path, mcs_pickle_position(m));
    const int n = index ? snprintf(text, sizeof text, "%s:%lld", name->text.s, (long long)index->i)
                        : snprintf(text, sizeof text, "%s", name->text.s);
    return new_text(m, PICKLE_TEXT, text, n, result);
}

/* encode(text, "latin1"): each character from U+0000 to U+00FF is a byte. */
static enum mcs_status encode(struct pickle_machine *m, const struct pickle_value *args, struct pickle_value **result)
{
    const struct pickle_value *text = arg(args, 0, PICKLE_TEXT);
    const char *code = mcs_pickle_text(arg(args, 1, PICKLE_TEXT));
    int64_t n = 0;
    int good = text && code && strcmp(code, "latin1") == 0;
    MCS_REQUIRE(good, MCS_E_DATA, "%s: pickle, byte %lld: damaged: encode of something else than a text as latin1",
                m->source->path, mcs_pickle_position(m));
    MCS_TRY(new_text(m, PICKLE_BYTES, text->text.s, text->text.n, result));
    char *dst;
    MCS_TRY(mcs_pickle_alloc(m, text->text.n + 1, &dst));
    for (int64_t i = 0; i < text->text.n && good; i++) {
        const uint8_t c = (uint8_t)text->text.s[i], next = (uint8_t)text->text.s[i + 1];
        if (c < 0x80) {
            dst[n++] = (char)c;
        } else {
            good = (c == 0xc2 || c == 0xc3) && (next & 0xc0) == 0x80;
            dst[n++] = (char)(c << 6 | (next & 0x3f));
            i++;
        }
    }
    MCS_REQUIRE(good, MCS_E_DATA, "%s: pickle, byte %lld: damaged: a text that is not latin1", m->source->path,
                mcs_pickle_position(m));
    (*result)->text.s = dst;
    (*result)->text.n = n;
    return MCS_OK;
}

static enum mcs_status numpy_dtype(struct pickle_machine *m, const struct pickle_value *args,
                                   struct pickle_value **result)
{
    const struct pickle_value *word = arg(args, 0, PICKLE_TEXT);
    MCS_REQUIRE(mcs_pickle_text(word) && word->text.n < 8, MCS_E_DATA,
                "%s: pickle, byte %lld: damaged: numpy.dtype without a name", m->source->path, mcs_pickle_position(m));
    return new_text(m, PICKLE_DTYPE, word->text.s, word->text.n, result);
}

/* scalar(dtype, bytes) -> a float, an int or a bool. */
static enum mcs_status numpy_scalar(struct pickle_machine *m, const struct pickle_value *args,
                                    struct pickle_value **result)
{
    const struct pickle_value *dtype = arg(args, 0, PICKLE_DTYPE), *bytes = arg(args, 1, PICKLE_BYTES);
    if (!bytes) bytes = arg(args, 1, PICKLE_TEXT); /* Python 2's str */
    const char kind = dtype ? dtype->text.s[0] : 0;
    const int n = kind && dtype->text.s[1] ? dtype->text.s[1] - '0' : 0;
    MCS_REQUIRE(dtype && dtype->text.n == 2 && bytes && bytes->text.n == n && strchr("fiub", kind) &&
                    (n == 8 || n == 4 || (kind != 'f' && (n == 1 || n == 2))) && (kind != 'b' || n == 1),
                MCS_E_DATA, "%s: pickle, byte %lld: a numpy scalar of type %.8s, want f4, f8, i1 to i8, u1 to u8 or b1",
                m->source->path, mcs_pickle_position(m), dtype ? dtype->text.s : "unknown");
    MCS_TRY(mcs_pickle_new(m, kind == 'f' ? PICKLE_FLOAT : kind == 'b' ? PICKLE_BOOL : PICKLE_INT, result));
    if (kind == 'f' && n == 8) {
        memcpy(&(*result)->f, bytes->text.s, 8);
    } else if (kind == 'f') {
        float f;
        memcpy(&f, bytes->text.s, 4);
        (*result)->f = f;
    } else {
        uint64_t value = kind == 'i' && bytes->text.s[n - 1] & 0x80 ? ~(uint64_t)0 : 0;
        for (int i = n - 1; i >= 0; i--) value = value << 8 | (uint8_t)bytes->text.s[i];
        (*result)->i = kind == 'b' ? value != 0 : (int64_t)value;
    }
    return MCS_OK;
}

enum mcs_status mcs_pickle_reduce(struct pickle_machine *m, const struct pickle_global *g,
                                  const struct pickle_value *args, struct pickle_value **result)
{
    switch (g->action) {
    case PICKLE_MAKE_DICT: return make_dict(m, args, result);
    case PICKLE_REBUILD_TENSOR: return rebuild_tensor(m, args, result);
    case PICKLE_REBUILD_PARAMETER:
        MCS_REQUIRE(arg(args, 0, PICKLE_TENSOR), MCS_E_DATA,
                    "%s: pickle, byte %lld: damaged: a parameter without a tensor", m->source->path,
                    mcs_pickle_position(m));
        *result = args->items.v[0];
        return MCS_OK;
    case PICKLE_MAKE_DEVICE: return make_device(m, args, result);
    case PICKLE_NUMPY_SCALAR: return numpy_scalar(m, args, result);
    case PICKLE_NUMPY_DTYPE: return numpy_dtype(m, args, result);
    case PICKLE_ENCODE: return encode(m, args, result);
    case PICKLE_SCRIPT_LIST:
        MCS_REQUIRE(args->items.n, MCS_E_DATA, "%s: pickle, byte %lld: damaged: %s without a value", m->source->path,
                    mcs_pickle_position(m), g->name);
        *result = args->items.v[0];
        return MCS_OK;
    case PICKLE_STORAGE_TYPE:
    case PICKLE_SCRIPT_CLASS: break;
    }
    return MCS_FAIL(MCS_E_DATA, "%s: pickle, byte %lld: damaged: %s is called", m->source->path, mcs_pickle_position(m),
                    g->name);
}

/* The attributes of a module's dictionary (_metadata: versions of its layers) do not matter here; those of a dtype say
 * the byte order; those of TorchScript's objects are their values. */
enum mcs_status mcs_pickle_build(struct pickle_machine *m, struct pickle_value *object,
                                 const struct pickle_value *state)
{
    const char *order = mcs_pickle_text(arg(state, 1, PICKLE_TEXT));
    MCS_REQUIRE((object->kind == PICKLE_DICT && state->kind == PICKLE_DICT) ||
                    (object->kind == PICKLE_DTYPE && order && strchr("<|=", order[0])),
                MCS_E_DATA, "%s: pickle, byte %lld: %s gets the state %s: damaged, or of another byte order",
                m->source->path, mcs_pickle_position(m), mcs_pickle_kind_name(object->kind),
                mcs_pickle_kind_name(state->kind));
    if (!m->source->script || object->kind != PICKLE_DICT) return MCS_OK;
    MCS_REQUIRE(object != state, MCS_E_DATA, "%s: pickle, byte %lld: damaged: an object that is its own state",
                m->source->path, mcs_pickle_position(m));
    for (int i = 0; i < state->items.n; i++) MCS_TRY(mcs_pickle_append(m, object, state->items.v[i]));
    return MCS_OK;
}
