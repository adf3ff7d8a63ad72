#include "tests/support/support_layout.h"

#include "data/io/file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

const char *const layout_ids[LAYOUT_N] = {
#define X(name, family, word, text) #name,
    WEIGHT_LAYOUT_LIST(X)
#undef X
};

struct weight_out tensors[LAYOUT_TENSORS];
int n_tensors;
static struct arena arena;

void layout_free(void)
{
    mcs_arena_free(&arena);
}

void take_golden(int layout)
{
    char line[256], id[64], name[160], shape[32];
    float value = 1;
    FILE *f = fopen(MCS_SOURCE_DIR "/tests/golden/layouts.tsv", "r");
    cr_assert(f);
    n_tensors = 0;
    while (fgets(line, sizeof line, f)) {
        shape[0] = '\0';
        cr_assert(sscanf(line, "%63[^\t]\t%159[^\t]\t%31[^\n]", id, name, shape) >= 2, "%s", line);
        if (strcmp(id, layout_ids[layout]) != 0) continue;
        struct weight_out *t = &tensors[n_tensors++];
        *t = (struct weight_out){.name = mcs_arena_strdup(&arena, name), .type = MCS_ARRAY_F32};
        for (char *at = shape; *at; at += strspn(at, ",")) t->dims[t->nd++] = strtol(at, &at, 10);
        const int64_t n = mcs_array_count(t->nd, t->dims);
        float *values = mcs_arena_alloc(&arena, (size_t)n * sizeof *values);
        cr_assert(n <= LAYOUT_VALUES && values && n_tensors < LAYOUT_TENSORS);
        for (int64_t i = 0; i < n; i++) values[i] = value++;
        t->values = values;
    }
    fclose(f);
    cr_assert(n_tensors > 30, "%s: %d", layout_ids[layout], n_tensors);
}

struct weight_out *tensor(const char *name)
{
    for (int i = 0; i < n_tensors; i++)
        if (!strcmp(tensors[i].name, name)) return &tensors[i];
    cr_assert(0, "%s", name);
    return NULL;
}

void expect_same_bytes(const char *a, const char *b)
{
    char *x, *y;
    int64_t nx, ny;
    OK(mcs_file_read(a, 1 << 28, &x, &nx));
    OK(mcs_file_read(b, 1 << 28, &y, &ny));
    cr_expect(nx == ny && !memcmp(x, y, (size_t)nx), "%s and %s differ", a, b);
    free(x);
    free(y);
}
