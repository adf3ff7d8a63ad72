/* Status codes and the error message of the calling thread.
 *
 * Every function that can fail returns an mcs_status and leaves one message saying what was wrong, where, what was
 * expected and what to do. Callers forward with MCS_TRY; only main turns a status into an exit code. Messages are kept
 * per thread; the first failure wins until mcs_error_clear().
 *
 *     MCS_REQUIRE(src->nd == 4, MCS_E_SHAPE, "%s: want (N,H,W,C), got %d dimensions", src->name, src->nd);
 *     MCS_TRY(mcs_image_read(path, &img));
 *     MCS_TRY_GOTO(write_all(f), st, done);        // when something is held; `st` is an enum mcs_status
 */
#ifndef MCS_STATUS_H
#define MCS_STATUS_H

#include <stdarg.h>

/*     name        exit  meaning */
#define MCS_STATUS_LIST(X)                                                                                             \
    X(OK, 0, "done")                                                                                                   \
    X(E_FAIL, 1, "failed")                                                                                             \
    X(E_USAGE, 2, "wrong use")                                                                                         \
    X(E_PARTIAL, 3, "done, but some cases failed")                                                                     \
    X(E_DATA, 65, "bad data")                                                                                          \
    X(E_NOINPUT, 66, "missing input")                                                                                  \
    X(E_DEVICE, 69, "no such device")                                                                                  \
    X(E_IO, 74, "input/output error")                                                                                  \
    X(E_STOPPED, 75, "stopped early, a valid checkpoint was written")                                                  \
    X(E_SHAPE, 101, "shapes do not fit")                                                                               \
    X(E_NOMEM, 102, "out of memory")                                                                                   \
    X(E_BACKEND, 103, "a compute library refused")

enum mcs_status {
#define X(name, code, text) MCS_##name = code,
    MCS_STATUS_LIST(X)
#undef X
};

/* Process exit code for a status: statuses above 100 are internal kinds of 1. */
int mcs_exit_code(enum mcs_status st);
const char *mcs_status_text(enum mcs_status st);

/* Records a message (printf style) unless one is already held, and returns st. Control characters and bytes that are
 * not UTF-8 are escaped as \x1b (engine/base/escape.h). */
enum mcs_status mcs_fail(enum mcs_status st, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
enum mcs_status mcs_vfail(enum mcs_status st, const char *file, int line, const char *fmt, va_list ap)
    __attribute__((format(printf, 4, 0)));
/* Adds "file:line" to the trace of the held message; returns st. */
enum mcs_status mcs_trace(enum mcs_status st, const char *file, int line);
/* The held message ("" when none), and its trace of source lines, innermost first. Owned by the thread. */
const char *mcs_error_message(void);
const char *mcs_error_trace(void);
void mcs_error_clear(void);
/* Appends context that only a caller knows (printf style) to the held message; nothing where none is held. */
void mcs_error_add(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* The status is repeated after the call so that the compiler sees that a failure is not MCS_OK. Otherwise it warns that
 * outputs of a failed call may be used uninitialised. */
#define MCS_FAIL(st, ...) (mcs_fail((st), __FILE__, __LINE__, __VA_ARGS__), (st))
#define MCS_REQUIRE(cond, st, ...)                                                                                     \
    do {                                                                                                               \
        if (!(cond)) return MCS_FAIL(st, __VA_ARGS__);                                                                 \
    } while (0)
#define MCS_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        enum mcs_status try_st = (expr);                                                                               \
        if (try_st != MCS_OK) return mcs_trace(try_st, __FILE__, __LINE__), try_st;                                    \
    } while (0)
#define MCS_TRY_GOTO(expr, st, label)                                                                                  \
    do {                                                                                                               \
        (st) = (expr);                                                                                                 \
        if ((st) != MCS_OK) {                                                                                          \
            mcs_trace((st), __FILE__, __LINE__);                                                                       \
            goto label;                                                                                                \
        }                                                                                                              \
    } while (0)
/* MCS_REQUIRE for a function that holds something: records the message and jumps. */
#define MCS_REQUIRE_GOTO(cond, code, st, label, ...)                                                                   \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            (st) = MCS_FAIL(code, __VA_ARGS__);                                                                        \
            goto label;                                                                                                \
        }                                                                                                              \
    } while (0)

#endif
