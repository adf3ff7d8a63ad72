/* A bounded reader of the pickles in PyTorch's files. It builds a tree of plain values and never runs anything: a
 * pickle that names a function outside the short list of pickle_globals.c, or uses an opcode outside that of pickle.c,
 * is refused with a message that says its name.
 *
 * Format: CPython's pickletools (opcodes), torch/serialization.py and torch/_utils.py (how a tensor is written).
 * Bounds: memory grows with the bytes that were read and is compared with --max-memory; at most PICKLE_MAX_DEPTH
 * levels; a value that contains itself, or that shared parts expand to more than PICKLE_MAX_TREE values, is refused, so
 * that a caller may walk the tree without a guard. */
#ifndef MCS_PICKLE_H
#define MCS_PICKLE_H

#include "data/io/array.h"
#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <stdint.h>

enum { PICKLE_MAX_DEPTH = 64, PICKLE_MAX_TREE = 1 << 26 };

/*  kind    in messages */
#define PICKLE_KIND_LIST(X)                                                                                            \
    X(NONE, "None")                                                                                                    \
    X(BOOL, "a bool")                                                                                                  \
    X(INT, "an int")                                                                                                   \
    X(FLOAT, "a float")                                                                                                \
    X(TEXT, "a str")                                                                                                   \
    X(BYTES, "bytes")                                                                                                  \
    X(LIST, "a list")                                                                                                  \
    X(TUPLE, "a tuple")                                                                                                \
    X(DICT, "a dict")                                                                                                  \
    X(TENSOR, "a tensor")                                                                                              \
    X(STORAGE, "a storage")                                                                                            \
    X(DTYPE, "a numpy dtype")                                                                                          \
    X(GLOBAL, "a name")

enum pickle_kind {
#define X(name, text) PICKLE_##name,
    PICKLE_KIND_LIST(X)
#undef X
};

/* The bytes of one or several tensors: the zip entry STEM/data/KEY, or KEY's part of a legacy file. */
struct pickle_storage {
    enum mcs_array_type type;
    const char *key;
    int64_t first, n_values; /* elements of the stored array: `first` is above 0 only for views in very old files */
};

/* Strides and offset in elements; every index of the shape lies within the storage (checked). */
struct pickle_tensor {
    const struct pickle_storage *storage;
    int64_t offset;
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND], strides[MCS_ARRAY_MAX_ND];
};

struct pickle_value {
    enum pickle_kind kind;
    int height, on_path; /* levels below this value, itself included; for the search for cycles */
    int64_t tree;        /* values in the tree under it, itself included; 0: not counted yet */
    union {
        int64_t i; /* BOOL: 0 or 1; INT */
        double f;
        struct {
            const char *s; /* ends with a NUL that is not counted; may contain others */
            int64_t n;
        } text; /* TEXT, BYTES, DTYPE ("f8") */
        struct {
            int n, capacity;
            struct pickle_value **v; /* DICT: key, value, key, value ...; n counts both */
        } items;                     /* LIST, TUPLE, DICT */
        const struct pickle_tensor *tensor;
        const struct pickle_storage *storage;
        const struct pickle_global *global;
    };
};

/* Where a pickle lies: bytes [at, end) of an open file. Reading moves `at` behind the pickle's last byte. */
struct pickle_source {
    int fd;
    const char *path; /* for messages */
    int64_t at, end;
    int script; /* TorchScript: classes that the file defines itself (__torch__. ...) are dictionaries of attributes */
};

/* Reads one pickle; all values are owned by the arena. E_DATA: damaged, truncated, or something that is refused; E_IO,
 * E_NOMEM. */
enum mcs_status mcs_pickle_read(struct pickle_source *source, struct arena *arena, struct pickle_value **root);

/* The value of a text key; NULL where there is none, or where dict is NULL or no dict. */
const struct pickle_value *mcs_pickle_get(const struct pickle_value *dict, const char *key);
/* A str without NUL bytes; NULL for anything else, or NULL. */
const char *mcs_pickle_text(const struct pickle_value *v);
/* "a dict" ...: for messages. */
const char *mcs_pickle_kind_name(enum pickle_kind kind);

#endif
