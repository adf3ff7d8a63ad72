#include "data/text/pairs.h"
#include "engine/base/escape.h"
#include "infer/cases.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

/* A cell written by this program is read back unchanged. */
static void check_cell(const char *text)
{
    struct arena a = {0};
    struct csv_table t;
    const char *cell = mcs_csv_field(&a, text);
    char *row = mcs_arena_printf(&a, "x,%s\n", cell);
    FUZZ_REQUIRE(mcs_csv_read(fuzz_file((const uint8_t *)row, strlen(row), "cell.csv"), ',', &t) == MCS_OK, "%s",
                 mcs_error_message());
    FUZZ_REQUIRE(t.n_rows == 1 && t.n_columns == 2, "%d x %d", t.n_rows, t.n_columns);
    const char *read = t.cells[1];
    FUZZ_REQUIRE(!*read || !strchr("=+-@\t\r\n", *read), "a formula: %s", read);
    if (*read == '\'' && strcmp(read, mcs_text_encode(&a, text)) != 0) read++;
    FUZZ_REQUIRE(strcmp(mcs_text_decode(&a, read), text) == 0, "'%s' became '%s'", text, read);
    mcs_csv_free(&t);
    mcs_arena_free(&a);
}

FUZZ(pairs)
{
    struct csv_table t;
    struct pairs p;
    const char *path = fuzz_file(data, size, "f.csv");
    if (fuzz_ended(mcs_csv_read(path, ';', &t))) {
        for (int i = 0; i < t.n_rows * t.n_columns; i++) fuzz_use(t.cells[i], strlen(t.cells[i]));
        mcs_csv_free(&t);
    }
    const struct pairs_options o = {.image_folder = fuzz_folder(), .min_codes = 2};
    for (int i = 0; i < 2; i++) {
        if (!fuzz_ended(mcs_pairs_read(path, i ? &o : NULL, &p))) continue;
        FUZZ_REQUIRE(p.n > 0, "%d pairs", p.n);
        for (int k = 0; k < p.n; k++) fuzz_use(p.v[k].caption, strlen(p.v[k].caption) + strlen(p.v[k].stem));
        mcs_pairs_free(&p);
    }
    char *text = fuzz_as_text(data, size);
    check_cell(text);
    free(text);
}
