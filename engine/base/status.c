#include "engine/base/status.h"

#include "engine/base/escape.h"

#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 2048, TRACE_BYTES = 1024 };
static _Thread_local char held_message[MESSAGE_BYTES];
static _Thread_local char held_trace[TRACE_BYTES];

int mcs_exit_code(enum mcs_status st)
{
    return st > 100 ? 1 : (int)st;
}

const char *mcs_status_text(enum mcs_status st)
{
    switch (st) {
#define X(name, code, text)                                                                                            \
    case MCS_##name: return text;
        MCS_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

static void trace_append(const char *file, int line)
{
    size_t used = strlen(held_trace);
    snprintf(held_trace + used, TRACE_BYTES - used, "%s%s:%d", used ? " < " : "", file, line);
}

/* Names and text in a message come from outside and must not reach a terminal as a command. */
static void format_escaped(char *dst, size_t bytes, const char *fmt, va_list ap)
{
    char raw[MESSAGE_BYTES];
    vsnprintf(raw, sizeof raw, fmt, ap);
    mcs_text_escape(dst, bytes, raw);
}

enum mcs_status mcs_vfail(enum mcs_status st, const char *file, int line, const char *fmt, va_list ap)
{
    if (held_message[0]) return mcs_trace(st, file, line);
    format_escaped(held_message, MESSAGE_BYTES, fmt, ap);
    held_trace[0] = '\0';
    trace_append(file, line);
    return st;
}

enum mcs_status mcs_fail(enum mcs_status st, const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    mcs_vfail(st, file, line, fmt, ap);
    va_end(ap);
    return st;
}

enum mcs_status mcs_trace(enum mcs_status st, const char *file, int line)
{
    trace_append(file, line);
    return st;
}

const char *mcs_error_message(void)
{
    return held_message;
}

const char *mcs_error_trace(void)
{
    return held_trace;
}

void mcs_error_clear(void)
{
    held_message[0] = '\0';
    held_trace[0] = '\0';
}

void mcs_error_add(const char *fmt, ...)
{
    const size_t used = strlen(held_message);
    if (!used) return;
    va_list ap;
    va_start(ap, fmt);
    format_escaped(held_message + used, MESSAGE_BYTES - used, fmt, ap);
    va_end(ap);
}
