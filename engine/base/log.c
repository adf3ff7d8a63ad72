#include "engine/base/log.h"

#include "engine/base/escape.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 8192 };
static int be_quiet;
static _Thread_local int mute_here;

void mcs_log_quiet(int quiet)
{
    be_quiet = quiet;
}

void mcs_log_mute_here(int mute)
{
    mute_here = mute;
}

double mcs_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Prints a line to stderr in one write, so that lines of several threads do not mix. */
static void print_line(const char *head, const char *fmt, va_list ap)
{
    char raw[LINE_BYTES], shown[2 * LINE_BYTES];
    vsnprintf(raw, sizeof raw, fmt, ap);
    mcs_text_escape(shown, sizeof shown, raw);
    fprintf(stderr, "%s%s\n", head, shown);
}

void mcs_log(const char *fmt, ...)
{
    if (be_quiet || mute_here) return;
    va_list ap;
    va_start(ap, fmt);
    print_line("mcsam: ", fmt, ap);
    va_end(ap);
}

void mcs_warn(const char *fmt, ...)
{
    if (mute_here) return;
    va_list ap;
    va_start(ap, fmt);
    print_line("mcsam: warning: ", fmt, ap);
    va_end(ap);
}

static void format_duration(double s, char *dst, size_t bytes)
{
    if (s < 0) s = 0;
    if (s < 60)
        snprintf(dst, bytes, "%.1f s", s);
    else if (s < 3600)
        snprintf(dst, bytes, "%d:%02d", (int)s / 60, (int)s % 60);
    else
        snprintf(dst, bytes, "%d:%02d:%02d", (int)s / 3600, (int)s / 60 % 60, (int)s % 60);
}

static void draw(const struct mcs_progress *p, double now, int terminal)
{
    const double spent = now - p->started, rate = spent > 0 ? (double)p->done / spent : 0;
    char left[32] = "?";
    if (rate > 0) format_duration((double)(p->total - p->done) / rate, left, sizeof left);
    if (terminal) {
        enum { WIDTH = 24 };
        char bar[WIDTH + 1];
        const int filled = p->total > 0 ? (int)(WIDTH * p->done / p->total) : 0;
        for (int i = 0; i < WIDTH; i++) bar[i] = i < filled ? '#' : '.';
        bar[WIDTH] = '\0';
        fprintf(stderr, "\r%-12s [%s] %lld/%lld %s  %.1f/s  %s left  %s\033[K", p->what, bar, (long long)p->done,
                (long long)p->total, p->unit, rate, left, p->note);
    } else {
        fprintf(stderr, "%-12s %lld/%lld %s  %.1f/s  %s left  %s\n", p->what, (long long)p->done, (long long)p->total,
                p->unit, rate, left, p->note);
    }
    fflush(stderr);
}

void mcs_progress_start(struct mcs_progress *p, const char *what, const char *unit, int64_t total)
{
    *p = (struct mcs_progress){.what = what, .unit = unit, .total = total};
    p->started = p->last_shown = mcs_seconds();
}

void mcs_progress_set(struct mcs_progress *p, int64_t done)
{
    p->done = done;
    if (be_quiet || mute_here) return;
    const double now = mcs_seconds();
    const int terminal = isatty(2);
    if (now - p->last_shown < (terminal ? 0.2 : 5.0)) return;
    p->last_shown = now;
    draw(p, now, terminal);
}

void mcs_progress_end(struct mcs_progress *p)
{
    if (be_quiet || mute_here) return;
    const double spent = mcs_seconds() - p->started;
    char took[32];
    format_duration(spent, took, sizeof took);
    fprintf(stderr, "%s%-12s %lld %s in %s  %s%s\n", isatty(2) ? "\r" : "", p->what, (long long)p->done, p->unit, took,
            p->note, isatty(2) ? "\033[K" : "");
}
