/* The unpickler's stack machine, for pickle.c and pickle_globals.c only. */
#ifndef MCS_PICKLE_MACHINE_H
#define MCS_PICKLE_MACHINE_H

#include "data/weights/pickle.h"

enum { PICKLE_BUFFER = 1 << 16 };

struct pickle_machine {
    struct pickle_source *source;
    struct arena *arena;
    int64_t charged; /* bytes allocated since memory was last compared with --max-memory */
    struct pickle_value **stack, **memo;
    int64_t n_stack, stack_capacity, n_memo, memo_capacity;
    int64_t *marks; /* heights of the stack */
    int64_t n_marks, marks_capacity;
    int64_t begin;                 /* the pickle's first byte in the file */
    int64_t buffered_at, buffered; /* file position and length of what `buffer` holds */
    uint8_t buffer[PICKLE_BUFFER];
};

enum pickle_action {
    PICKLE_MAKE_DICT,      /* collections.OrderedDict */
    PICKLE_REBUILD_TENSOR, /* torch._utils._rebuild_tensor, _rebuild_tensor_v2 */
    PICKLE_REBUILD_PARAMETER,
    PICKLE_MAKE_DEVICE,
    PICKLE_NUMPY_SCALAR,
    PICKLE_NUMPY_DTYPE,
    PICKLE_ENCODE,       /* _codecs.encode: how protocol 2 writes bytes */
    PICKLE_STORAGE_TYPE, /* torch.FloatStorage ...: named, never called */
    PICKLE_SCRIPT_LIST,  /* torch.jit._pickle.build_intlist ...: its argument */
    PICKLE_SCRIPT_CLASS  /* __torch__ ...: NEWOBJ makes a dictionary of it */
};

struct pickle_global {
    const char *name; /* "module name" */
    enum pickle_action action;
    enum mcs_array_type type; /* of a storage */
};

/* NULL: not in the list; script: with the names of TorchScript. */
const struct pickle_global *mcs_pickle_global(const char *name, int script);
/* The result of REDUCE, BINPERSID and BUILD, without running anything. */
enum mcs_status mcs_pickle_reduce(struct pickle_machine *m, const struct pickle_global *g,
                                  const struct pickle_value *args, struct pickle_value **result);
enum mcs_status mcs_pickle_persistent(struct pickle_machine *m, const struct pickle_value *id,
                                      struct pickle_value **result);
enum mcs_status mcs_pickle_build(struct pickle_machine *m, struct pickle_value *object,
                                 const struct pickle_value *state);

/* Memory that was compared with --max-memory; E_DATA, E_NOMEM. */
enum mcs_status mcs_pickle_alloc(struct pickle_machine *m, int64_t bytes, void *dst);
enum mcs_status mcs_pickle_new(struct pickle_machine *m, enum pickle_kind kind, struct pickle_value **v);
enum mcs_status mcs_pickle_append(struct pickle_machine *m, struct pickle_value *list, struct pickle_value *item);
/* Position of the current opcode, for messages. */
long long mcs_pickle_position(const struct pickle_machine *m);

#endif
