#include "data/io/npy.h"
#include "tests/fuzz/support_fuzz.h"

FUZZ(npy)
{
    struct npy a;
    int64_t n = 1;
    if (!fuzz_ended(mcs_npy_read(fuzz_file(data, size, "f.npy"), &a))) return;
    FUZZ_REQUIRE(a.nd >= 0 && a.nd <= MCS_ARRAY_MAX_ND, "%d dimensions", a.nd);
    for (int d = 0; d < a.nd; d++) n *= a.dims[d];
    FUZZ_REQUIRE(n == a.n_values, "%lld values", (long long)a.n_values);
    fuzz_use(a.values, (size_t)a.n_values * sizeof *a.values);
    mcs_npy_free(&a);
}
