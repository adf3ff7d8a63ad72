/* One table in three formats. */
#include "bench/bench.h"

#include "data/io/file.h"
#include "engine/base/path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mcs_bench_put(struct bench_text *t, enum bench_form form, const char *line)
{
    const size_t n = strlen(line);
    if (t->used[form] + n + 1 > t->capacity[form]) {
        const size_t capacity = 2 * (t->capacity[form] + n) + 4096;
        char *more = realloc(t->text[form], capacity);
        if (!more) abort();
        t->text[form] = more;
        t->capacity[form] = capacity;
    }
    memcpy(t->text[form] + t->used[form], line, n + 1);
    t->used[form] += n;
    if (form == (t->json ? BENCH_JSONL : BENCH_MD)) {
        fputs(line, stdout);
        fflush(stdout);
    }
}

enum mcs_status mcs_bench_write(const struct bench_text *t, const char *output)
{
    static const char *const ending[BENCH_FORMS] = {"md", "csv", "jsonl"};
    char path[MCS_PATH_BYTES];
    for (int i = 0; i < BENCH_FORMS && output; i++) {
        MCS_TRY(mcs_path(path, "%s.%s", output, ending[i]));
        MCS_TRY(mcs_file_write(path, t->text[i] ? t->text[i] : "", (int64_t)t->used[i]));
    }
    return MCS_OK;
}

void mcs_bench_text_free(struct bench_text *t)
{
    for (int i = 0; i < BENCH_FORMS; i++) free(t->text[i]);
}
