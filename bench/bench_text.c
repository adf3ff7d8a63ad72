/* One table in three formats. */
#include "bench/bench.h"

#include "data/io/file.h"
#include "engine/base/path.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void mcs_bench_put(struct bench_text *t, enum bench_form form, const char *fmt, ...)
{
    va_list ap;
    if (!t->stream[form]) t->stream[form] = open_memstream(&t->text[form], &t->used[form]);
    va_start(ap, fmt);
    if (!t->stream[form] || vfprintf(t->stream[form], fmt, ap) < 0) t->failed = 1;
    va_end(ap);
    if (form != (t->json ? BENCH_JSONL : BENCH_MD)) return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    fflush(stdout);
}

enum mcs_status mcs_bench_write(const struct bench_text *t, const char *output)
{
    static const char *const ending[BENCH_FORMS] = {"md", "csv", "jsonl"};
    char path[MCS_PATH_BYTES];
    for (int i = 0; i < BENCH_FORMS && output; i++) {
        const int flushed = !t->stream[i] || fflush(t->stream[i]) == 0;
        MCS_REQUIRE(flushed && !t->failed, MCS_E_NOMEM, "%s: no memory for the table", output);
        MCS_TRY(mcs_path(path, "%s.%s", output, ending[i]));
        MCS_TRY(mcs_file_write(path, t->text[i] ? t->text[i] : "", (int64_t)t->used[i]));
    }
    return MCS_OK;
}

void mcs_bench_text_free(struct bench_text *t)
{
    for (int i = 0; i < BENCH_FORMS; i++) {
        if (t->stream[i]) fclose(t->stream[i]);
        free(t->text[i]);
    }
}
