/* The stack machine of pickle protocol 2, with the opcodes that PyTorch's files contain. */
#include "data/weights/pickle.h"

#include "data/weights/pickle_machine.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Opcodes (pickletools.py), their names in messages. Others are refused. */
#define OPCODE_LIST(X)                                                                                                 \
    X(0x80, PROTO)                                                                                                     \
    X('.', STOP)                                                                                                       \
    X('(', MARK)                                                                                                       \
    X('c', GLOBAL)                                                                                                     \
    X(0x81, NEWOBJ)                                                                                                    \
    X('R', REDUCE)                                                                                                     \
    X('b', BUILD)                                                                                                      \
    X('Q', BINPERSID)                                                                                                  \
    X('N', NONE)                                                                                                       \
    X(0x88, NEWTRUE)                                                                                                   \
    X(0x89, NEWFALSE)                                                                                                  \
    X('K', BININT1)                                                                                                    \
    X('M', BININT2)                                                                                                    \
    X('J', BININT)                                                                                                     \
    X(0x8a, LONG1)                                                                                                     \
    X('G', BINFLOAT)                                                                                                   \
    X('X', BINUNICODE)                                                                                                 \
    X('U', SHORT_BINSTRING)                                                                                            \
    X('T', BINSTRING)                                                                                                  \
    X(')', EMPTY_TUPLE)                                                                                                \
    X(0x85, TUPLE1)                                                                                                    \
    X(0x86, TUPLE2)                                                                                                    \
    X(0x87, TUPLE3)                                                                                                    \
    X('t', TUPLE)                                                                                                      \
    X(']', EMPTY_LIST)                                                                                                 \
    X('a', APPEND)                                                                                                     \
    X('e', APPENDS)                                                                                                    \
    X('}', EMPTY_DICT)                                                                                                 \
    X('s', SETITEM)                                                                                                    \
    X('u', SETITEMS)                                                                                                   \
    X('q', BINPUT)                                                                                                     \
    X('r', LONG_BINPUT)                                                                                                \
    X('h', BINGET)                                                                                                     \
    X('j', LONG_BINGET)

enum opcode {
#define X(code, name) OP_##name = (code),
    OPCODE_LIST(X)
#undef X
};

long long mcs_pickle_position(const struct pickle_machine *m)
{
    return (long long)(m->source->at - m->begin);
}

/* ---- memory ---- */

static enum mcs_status charge(struct pickle_machine *m, int64_t bytes)
{
    enum { STEP = 1 << 23 };
    m->charged += bytes;
    if (m->charged < STEP) return MCS_OK;
    MCS_TRY(
        mcs_memory_check(m->charged, "%s: its pickle of %lld bytes so far", m->source->path, mcs_pickle_position(m)));
    m->charged = 0;
    return MCS_OK;
}

enum mcs_status mcs_pickle_alloc(struct pickle_machine *m, int64_t bytes, void *dst)
{
    MCS_TRY(charge(m, bytes + 64)); /* the arena aligns to 64 bytes */
    void *p = mcs_arena_alloc(m->arena, (size_t)bytes + !bytes);
    MCS_REQUIRE(p, MCS_E_NOMEM, "%s: no memory for its pickle", m->source->path);
    memcpy(dst, &p, sizeof p);
    return MCS_OK;
}

enum mcs_status mcs_pickle_new(struct pickle_machine *m, enum pickle_kind kind, struct pickle_value **v)
{
    MCS_TRY(mcs_pickle_alloc(m, sizeof **v, v));
    (*v)->kind = kind;
    return MCS_OK;
}

enum mcs_status mcs_pickle_append(struct pickle_machine *m, struct pickle_value *list, struct pickle_value *item)
{
    if (list->items.n == list->items.capacity) {
        struct pickle_value **wider;
        const int64_t capacity = list->items.capacity ? 2 * (int64_t)list->items.capacity : 8;
        MCS_REQUIRE(capacity < 1 << 30, MCS_E_DATA, "%s: pickle, byte %lld: a list of more than 2^29 values",
                    m->source->path, mcs_pickle_position(m));
        MCS_TRY(mcs_pickle_alloc(m, capacity * (int64_t)sizeof *wider, &wider));
        if (list->items.n) memcpy(wider, list->items.v, sizeof *wider * (size_t)list->items.n);
        list->items.v = wider;
        list->items.capacity = (int)capacity;
    }
    list->items.v[list->items.n++] = item;
    return MCS_OK;
}

/* Makes room for one more element of `bytes` each in a malloc'ed array. */
static enum mcs_status grow(struct pickle_machine *m, void *array, int64_t n, int64_t *capacity, size_t bytes)
{
    void *old, *wider;
    if (n < *capacity) return MCS_OK;
    const int64_t wanted = *capacity ? 2 * *capacity : 64;
    MCS_TRY(charge(m, wanted * (int64_t)bytes));
    memcpy(&old, array, sizeof old);
    wider = realloc(old, (size_t)wanted * bytes);
    MCS_REQUIRE(wider, MCS_E_NOMEM, "%s: no memory for its pickle", m->source->path);
    memcpy(array, &wider, sizeof wider);
    *capacity = wanted;
    return MCS_OK;
}

/* ---- bytes ---- */

static enum mcs_status take(struct pickle_machine *m, void *dst, int64_t n)
{
    struct pickle_source *s = m->source;
    uint8_t *to = dst;
    MCS_REQUIRE(n <= s->end - s->at, MCS_E_DATA, "%s: pickle, byte %lld: truncated: %lld more bytes are announced",
                s->path, mcs_pickle_position(m), (long long)n);
    while (n > 0) {
        if (s->at < m->buffered_at || s->at >= m->buffered_at + m->buffered) {
            m->buffered_at = s->at;
            m->buffered = s->end - s->at < PICKLE_BUFFER ? s->end - s->at : PICKLE_BUFFER;
            MCS_TRY(mcs_input_read(s->fd, s->path, m->buffer, m->buffered, s->at));
        }
        const int64_t from = s->at - m->buffered_at, left = m->buffered - from, part = n < left ? n : left;
        memcpy(to, m->buffer + from, (size_t)part);
        to += part;
        s->at += part;
        n -= part;
    }
    return MCS_OK;
}

/* An unsigned number of n bytes, little endian. */
static enum mcs_status take_number(struct pickle_machine *m, int n, uint64_t *value)
{
    uint8_t bytes[8];
    MCS_TRY(take(m, bytes, n));
    *value = 0;
    for (int i = n - 1; i >= 0; i--) *value = *value << 8 | bytes[i];
    return MCS_OK;
}

static enum mcs_status take_text(struct pickle_machine *m, int length_bytes, struct pickle_value **v)
{
    uint64_t n;
    char *s;
    MCS_TRY(take_number(m, length_bytes, &n));
    MCS_REQUIRE((int64_t)n <= m->source->end - m->source->at, MCS_E_DATA,
                "%s: pickle, byte %lld: truncated: a text of %llu bytes", m->source->path, mcs_pickle_position(m),
                (unsigned long long)n);
    MCS_TRY(mcs_pickle_new(m, PICKLE_TEXT, v));
    MCS_TRY(mcs_pickle_alloc(m, (int64_t)n + 1, &s));
    MCS_TRY(take(m, s, (int64_t)n));
    s[n] = 0;
    (*v)->text.s = s;
    (*v)->text.n = (int64_t)n;
    return MCS_OK;
}

/* ---- stack ---- */

static enum mcs_status push(struct pickle_machine *m, struct pickle_value *v)
{
    MCS_TRY(grow(m, &m->stack, m->n_stack, &m->stack_capacity, sizeof *m->stack));
    m->stack[m->n_stack++] = v;
    return MCS_OK;
}

/* The top n values above the last mark are there. */
static enum mcs_status need(const struct pickle_machine *m, int64_t n, const char *opcode)
{
    const int64_t floor = m->n_marks ? m->marks[m->n_marks - 1] : 0;
    MCS_REQUIRE(m->n_stack - floor >= n, MCS_E_DATA, "%s: pickle, byte %lld: damaged: too few values for %s",
                m->source->path, mcs_pickle_position(m), opcode);
    return MCS_OK;
}

/* Removes the last mark: `values` above it, whose number is *n, are taken off the stack. */
static enum mcs_status pop_mark(struct pickle_machine *m, const char *opcode, struct pickle_value ***values, int64_t *n)
{
    MCS_REQUIRE(m->n_marks, MCS_E_DATA, "%s: pickle, byte %lld: damaged: %s without a mark", m->source->path,
                mcs_pickle_position(m), opcode);
    const int64_t floor = m->marks[--m->n_marks];
    *values = m->stack + floor;
    *n = m->n_stack - floor;
    m->n_stack = floor;
    return MCS_OK;
}

static enum mcs_status push_number(struct pickle_machine *m, enum pickle_kind kind, int64_t i)
{
    struct pickle_value *v;
    MCS_TRY(mcs_pickle_new(m, kind, &v));
    v->i = i;
    return push(m, v);
}

static enum mcs_status push_tuple(struct pickle_machine *m, struct pickle_value *const *values, int64_t n)
{
    struct pickle_value *v;
    MCS_TRY(mcs_pickle_new(m, PICKLE_TUPLE, &v));
    for (int64_t i = 0; i < n; i++) MCS_TRY(mcs_pickle_append(m, v, values[i]));
    return push(m, v);
}

static enum mcs_status add_items(struct pickle_machine *m, enum pickle_kind kind, const char *opcode,
                                 struct pickle_value *const *values, int64_t n)
{
    MCS_TRY(need(m, 1, opcode));
    struct pickle_value *to = m->stack[m->n_stack - 1];
    MCS_REQUIRE(to->kind == kind && (kind == PICKLE_LIST || n % 2 == 0), MCS_E_DATA,
                "%s: pickle, byte %lld: damaged: %s for %s", m->source->path, mcs_pickle_position(m), opcode,
                mcs_pickle_kind_name(to->kind));
    for (int64_t i = 0; i < n; i++) MCS_TRY(mcs_pickle_append(m, to, values[i]));
    return MCS_OK;
}

/* ---- opcodes ---- */

static enum mcs_status put_memo(struct pickle_machine *m, uint64_t i)
{
    MCS_TRY(need(m, 1, "BINPUT"));
    /* Python numbers them from 0, or from 1 (Python 2's cPickle), without gaps. */
    MCS_REQUIRE(i <= (uint64_t)m->n_memo + 1, MCS_E_DATA, "%s: pickle, byte %lld: damaged: memo %llu after %lld",
                m->source->path, mcs_pickle_position(m), (unsigned long long)i, (long long)m->n_memo);
    while ((uint64_t)m->n_memo <= i) {
        MCS_TRY(grow(m, &m->memo, m->n_memo, &m->memo_capacity, sizeof *m->memo));
        m->memo[m->n_memo++] = NULL;
    }
    m->memo[i] = m->stack[m->n_stack - 1];
    return MCS_OK;
}

static enum mcs_status get_memo(struct pickle_machine *m, uint64_t i)
{
    MCS_REQUIRE(i < (uint64_t)m->n_memo && m->memo[i], MCS_E_DATA, "%s: pickle, byte %lld: damaged: no memo %llu",
                m->source->path, mcs_pickle_position(m), (unsigned long long)i);
    return push(m, m->memo[i]);
}

/* Appends one line to "module name"; the line's end is not kept. */
static enum mcs_status take_line(struct pickle_machine *m, char *name, int64_t room)
{
    for (int64_t n = 0; n < room; n++) {
        MCS_TRY(take(m, name + n, 1));
        if (name[n] != '\n') continue;
        name[n] = 0;
        return MCS_OK;
    }
    return MCS_FAIL(MCS_E_DATA, "%s: pickle, byte %lld: a name of more than %lld characters", m->source->path,
                    mcs_pickle_position(m), (long long)room);
}

static enum mcs_status push_global(struct pickle_machine *m)
{
    enum { NAME = 128 };
    char name[2 * NAME + 1], dotted[2 * NAME + 1];
    struct pickle_value *v;
    MCS_TRY(take_line(m, name, NAME));
    const size_t module = strlen(name);
    name[module] = ' ';
    MCS_TRY(take_line(m, name + module + 1, NAME));
    const struct pickle_global *g = mcs_pickle_global(name, m->source->script);
    memcpy(dotted, name, sizeof dotted);
    dotted[module] = '.';
    MCS_REQUIRE(g, MCS_E_DATA,
                "%s: pickle, byte %lld: names %s, which no weights need: refused, nothing of the file was run. If you "
                "trust the file, save its weights alone, in Python: torch.save(model.state_dict(), \"weights.pt\")",
                m->source->path, mcs_pickle_position(m), dotted);
    MCS_TRY(mcs_pickle_new(m, PICKLE_GLOBAL, &v));
    v->global = g;
    return push(m, v);
}

/* LONG1: a signed number of any length, little endian. Those that need more than 64 bits are kept as bytes. */
static enum mcs_status push_long(struct pickle_machine *m)
{
    uint64_t n, value = 0;
    uint8_t bytes[255];
    char *kept;
    struct pickle_value *v;
    MCS_TRY(take_number(m, 1, &n));
    MCS_TRY(take(m, bytes, (int64_t)n));
    if (n <= 8) {
        for (int i = (int)n - 1; i >= 0; i--) value = value << 8 | bytes[i];
        if (n && n < 8 && bytes[n - 1] & 0x80) value |= ~(uint64_t)0 << 8 * n;
        return push_number(m, PICKLE_INT, (int64_t)value);
    }
    MCS_TRY(mcs_pickle_new(m, PICKLE_BYTES, &v));
    MCS_TRY(mcs_pickle_alloc(m, (int64_t)n + 1, &kept));
    memcpy(kept, bytes, n);
    v->text.s = kept;
    v->text.n = (int64_t)n;
    return push(m, v);
}

static enum mcs_status push_float(struct pickle_machine *m)
{
    uint8_t bytes[8]; /* big endian */
    uint64_t bits = 0;
    struct pickle_value *v;
    MCS_TRY(take(m, bytes, 8));
    for (int i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    MCS_TRY(mcs_pickle_new(m, PICKLE_FLOAT, &v));
    memcpy(&v->f, &bits, sizeof v->f);
    return push(m, v);
}

static enum mcs_status call(struct pickle_machine *m)
{
    struct pickle_value *result;
    MCS_TRY(need(m, 2, "REDUCE"));
    const struct pickle_value *args = m->stack[--m->n_stack], *function = m->stack[--m->n_stack];
    MCS_REQUIRE(function->kind == PICKLE_GLOBAL && args->kind == PICKLE_TUPLE, MCS_E_DATA,
                "%s: pickle, byte %lld: damaged: %s is called with %s", m->source->path, mcs_pickle_position(m),
                mcs_pickle_kind_name(function->kind), mcs_pickle_kind_name(args->kind));
    MCS_TRY(mcs_pickle_reduce(m, function->global, args, &result));
    return push(m, result);
}

static enum mcs_status push_empty(struct pickle_machine *m, enum pickle_kind kind)
{
    struct pickle_value *v;
    MCS_TRY(mcs_pickle_new(m, kind, &v));
    return push(m, v);
}

/* An object of one of TorchScript's classes, without attributes: BUILD brings them. */
static enum mcs_status new_object(struct pickle_machine *m)
{
    MCS_TRY(need(m, 2, "NEWOBJ"));
    const struct pickle_value *args = m->stack[--m->n_stack], *class = m->stack[--m->n_stack];
    MCS_REQUIRE(class->kind == PICKLE_GLOBAL && class->global->action == PICKLE_SCRIPT_CLASS &&
                    args->kind == PICKLE_TUPLE && !args->items.n,
                MCS_E_DATA, "%s: pickle, byte %lld: damaged: an object of %s", m->source->path, mcs_pickle_position(m),
                mcs_pickle_kind_name(class->kind));
    return push_empty(m, PICKLE_DICT);
}

static enum mcs_status persistent(struct pickle_machine *m)
{
    struct pickle_value *result;
    MCS_TRY(need(m, 1, "BINPERSID"));
    MCS_TRY(mcs_pickle_persistent(m, m->stack[--m->n_stack], &result));
    return push(m, result);
}

static enum mcs_status take_opcode(struct pickle_machine *m, uint8_t opcode)
{
    uint64_t n;
    int64_t count;
    struct pickle_value **values, *v;
    switch ((enum opcode)opcode) {
    case OP_PROTO:
        MCS_TRY(take_number(m, 1, &n));
        MCS_REQUIRE(n <= 2, MCS_E_DATA,
                    "%s: pickle protocol %d; torch.save writes protocol 2: save it again without pickle_protocol",
                    m->source->path, (int)n);
        return MCS_OK;
    case OP_MARK:
        MCS_TRY(grow(m, &m->marks, m->n_marks, &m->marks_capacity, sizeof *m->marks));
        m->marks[m->n_marks++] = m->n_stack;
        return MCS_OK;
    case OP_GLOBAL: return push_global(m);
    case OP_REDUCE: return call(m);
    case OP_NEWOBJ:
        if (!m->source->script) break;
        return new_object(m);
    case OP_BUILD:
        MCS_TRY(need(m, 2, "BUILD"));
        m->n_stack--;
        return mcs_pickle_build(m, m->stack[m->n_stack - 1], m->stack[m->n_stack]);
    case OP_BINPERSID: return persistent(m);
    case OP_NONE: return push_empty(m, PICKLE_NONE);
    case OP_NEWTRUE: return push_number(m, PICKLE_BOOL, 1);
    case OP_NEWFALSE: return push_number(m, PICKLE_BOOL, 0);
    case OP_BININT1:
    case OP_BININT2:
        MCS_TRY(take_number(m, opcode == OP_BININT1 ? 1 : 2, &n));
        return push_number(m, PICKLE_INT, (int64_t)n);
    case OP_BININT: MCS_TRY(take_number(m, 4, &n)); return push_number(m, PICKLE_INT, (int32_t)(uint32_t)n);
    case OP_LONG1: return push_long(m);
    case OP_BINFLOAT: return push_float(m);
    case OP_BINUNICODE:
    case OP_BINSTRING: MCS_TRY(take_text(m, 4, &v)); return push(m, v);
    case OP_SHORT_BINSTRING: MCS_TRY(take_text(m, 1, &v)); return push(m, v);
    case OP_EMPTY_TUPLE: return push_empty(m, PICKLE_TUPLE);
    case OP_TUPLE1:
    case OP_TUPLE2:
    case OP_TUPLE3:
        count = opcode - OP_TUPLE1 + 1;
        MCS_TRY(need(m, count, "TUPLE"));
        m->n_stack -= count;
        return push_tuple(m, m->stack + m->n_stack, count);
    case OP_TUPLE: MCS_TRY(pop_mark(m, "TUPLE", &values, &count)); return push_tuple(m, values, count);
    case OP_EMPTY_LIST: return push_empty(m, PICKLE_LIST);
    case OP_APPEND:
        MCS_TRY(need(m, 2, "APPEND"));
        m->n_stack--;
        return add_items(m, PICKLE_LIST, "APPEND", m->stack + m->n_stack, 1);
    case OP_APPENDS:
        MCS_TRY(pop_mark(m, "APPENDS", &values, &count));
        return add_items(m, PICKLE_LIST, "APPENDS", values, count);
    case OP_EMPTY_DICT: return push_empty(m, PICKLE_DICT);
    case OP_SETITEM:
        MCS_TRY(need(m, 3, "SETITEM"));
        m->n_stack -= 2;
        return add_items(m, PICKLE_DICT, "SETITEM", m->stack + m->n_stack, 2);
    case OP_SETITEMS:
        MCS_TRY(pop_mark(m, "SETITEMS", &values, &count));
        return add_items(m, PICKLE_DICT, "SETITEMS", values, count);
    case OP_BINPUT: MCS_TRY(take_number(m, 1, &n)); return put_memo(m, n);
    case OP_LONG_BINPUT: MCS_TRY(take_number(m, 4, &n)); return put_memo(m, n);
    case OP_BINGET: MCS_TRY(take_number(m, 1, &n)); return get_memo(m, n);
    case OP_LONG_BINGET: MCS_TRY(take_number(m, 4, &n)); return get_memo(m, n);
    case OP_STOP: break;
    }
    return MCS_FAIL(MCS_E_DATA,
                    "%s: pickle, byte %lld: opcode 0x%02x is none of those that torch.save writes; damaged, or no file "
                    "of weights",
                    m->source->path, mcs_pickle_position(m), opcode);
}

static enum mcs_status run(struct pickle_machine *m, struct pickle_value **root)
{
    uint8_t opcode;
    MCS_TRY(grow(m, &m->stack, 0, &m->stack_capacity, sizeof *m->stack)); /* marks point into it, even when empty */
    for (;;) {
        MCS_TRY(take(m, &opcode, 1));
        if (opcode == OP_STOP) break;
        MCS_TRY(take_opcode(m, opcode));
    }
    MCS_REQUIRE(m->n_stack == 1 && !m->n_marks, MCS_E_DATA,
                "%s: pickle, byte %lld: damaged: it ends with %lld values, want one", m->source->path,
                mcs_pickle_position(m), (long long)m->n_stack);
    *root = m->stack[0];
    return MCS_OK;
}

/* Sets height and tree of every value below v. */
static enum mcs_status measure(const char *path, struct pickle_value *v, int level)
{
    MCS_REQUIRE(!v->on_path, MCS_E_DATA, "%s: pickle: a %s contains itself: refused", path,
                mcs_pickle_kind_name(v->kind) + 2);
    if (!v->tree) {
        MCS_REQUIRE(level < PICKLE_MAX_DEPTH, MCS_E_DATA, "%s: pickle: nested deeper than %d levels", path,
                    PICKLE_MAX_DEPTH);
        int64_t tree = 1;
        int height = 0;
        v->on_path = 1;
        if (v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE || v->kind == PICKLE_DICT)
            for (int i = 0; i < v->items.n; i++) {
                struct pickle_value *item = v->items.v[i];
                MCS_TRY(measure(path, item, level + 1));
                if (item->height > height) height = item->height;
                tree += item->tree;
                MCS_REQUIRE(tree <= PICKLE_MAX_TREE, MCS_E_DATA,
                            "%s: pickle: shared parts expand to more than %d values: refused", path, PICKLE_MAX_TREE);
            }
        v->on_path = 0;
        v->tree = tree;
        v->height = height + 1;
    }
    MCS_REQUIRE(level + v->height <= PICKLE_MAX_DEPTH, MCS_E_DATA, "%s: pickle: nested deeper than %d levels", path,
                PICKLE_MAX_DEPTH);
    return MCS_OK;
}

enum mcs_status mcs_pickle_read(struct pickle_source *source, struct arena *arena, struct pickle_value **root)
{
    *root = NULL;
    struct pickle_machine *m = calloc(1, sizeof *m);
    MCS_REQUIRE(m, MCS_E_NOMEM, "%s: no memory for its pickle", source->path);
    m->source = source;
    m->arena = arena;
    m->begin = m->buffered_at = source->at;
    enum mcs_status st = run(m, root);
    if (st == MCS_OK) st = measure(source->path, *root, 0);
    if (st != MCS_OK) *root = NULL;
    free(m->stack);
    free(m->memo);
    free(m->marks);
    free(m);
    return st;
}

const char *mcs_pickle_kind_name(enum pickle_kind kind)
{
    static const char *const names[] = {
#define X(name, text) text,
        PICKLE_KIND_LIST(X)
#undef X
    };
    return names[kind];
}

const char *mcs_pickle_text(const struct pickle_value *v)
{
    return v && v->kind == PICKLE_TEXT && (int64_t)strlen(v->text.s) == v->text.n ? v->text.s : NULL;
}

const struct pickle_value *mcs_pickle_get(const struct pickle_value *dict, const char *key)
{
    if (!dict || dict->kind != PICKLE_DICT) return NULL;
    for (int i = dict->items.n - 2; i >= 0; i -= 2) { /* the last of equal keys, as in Python */
        const char *text = mcs_pickle_text(dict->items.v[i]);
        if (text && strcmp(text, key) == 0) return dict->items.v[i + 1];
    }
    return NULL;
}
