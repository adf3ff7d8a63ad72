#include "data/io/safetensors.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

static void check_array(const struct safetensors *f, const struct safetensor *t)
{
    int64_t n = 1;
    FUZZ_REQUIRE(t->nd >= 0 && t->nd <= MCS_ARRAY_MAX_ND, "%d dimensions", t->nd);
    for (int d = 0; d < t->nd; d++) n *= t->dims[d];
    FUZZ_REQUIRE(n == t->n_values && n >= 0, "%lld values", (long long)t->n_values);
    FUZZ_REQUIRE(mcs_safetensors_find(f, t->name) == t, "%s is found elsewhere", t->name);
    fuzz_use(t->bytes, (size_t)t->n_bytes);
    float *values = malloc((size_t)n * sizeof *values + 1);
    FUZZ_REQUIRE(values, "no memory");
    if (fuzz_ended(mcs_safetensors_read_f32(f, t->name, t->nd, t->dims, values)))
        fuzz_use(values, (size_t)n * sizeof *values);
    free(values);
    int64_t *whole = malloc((size_t)n * sizeof *whole + 1);
    FUZZ_REQUIRE(whole, "no memory");
    if (fuzz_ended(mcs_safetensors_read_i64(f, t->name, t->nd, t->dims, whole)))
        fuzz_use(whole, (size_t)n * sizeof *whole);
    free(whole);
}

FUZZ(safetensors)
{
    struct safetensors *f;
    if (!fuzz_ended(mcs_safetensors_open(fuzz_file(data, size, "f.safetensors"), &f))) return;
    for (int i = 0; i < mcs_safetensors_count(f); i++) check_array(f, mcs_safetensors_at(f, i));
    const char *note = mcs_safetensors_metadata(f, "format");
    if (note) fuzz_use(note, strlen(note));
    mcs_safetensors_close(f);
}
