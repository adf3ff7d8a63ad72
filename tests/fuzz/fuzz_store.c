#include "data/io/store.h"
#include "engine/base/memory.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

/* A dataset as an array, and as texts: at least one of the two must refuse it. */
static void read_dataset(struct store *s, const char *name)
{
    enum { MOST_VALUES = 1 << 16 };
    struct store_info info;
    char **texts;
    int n;
    if (fuzz_ended(mcs_store_get_info(s, name, &info)) && info.type != MCS_ARRAY_N_TYPES &&
        info.n_values <= MOST_VALUES) {
        int64_t count = 1;
        for (int d = 0; d < info.nd; d++) count *= info.dims[d];
        FUZZ_REQUIRE(count == info.n_values, "%lld values", (long long)info.n_values);
        void *values = malloc((size_t)count * 8 + 1);
        FUZZ_REQUIRE(values, "no memory");
        if (fuzz_ended(mcs_store_get(s, name, MCS_ARRAY_F32, info.nd, info.dims, values)))
            fuzz_use(values, (size_t)count * 4);
        free(values);
    }
    if (!fuzz_ended(mcs_store_get_texts(s, name, &n, &texts))) return;
    for (int i = 0; i < n; i++) fuzz_use(texts[i], strlen(texts[i]));
    mcs_store_texts_free(n, texts);
}

FUZZ(store)
{
    enum { MOST_NAMES = 20 };
    struct store *s;
    char text[64], **names;
    double number;
    int n;
    if (!fuzz_ended(mcs_store_open(fuzz_file(data, size, "f.h5"), &s))) return;
    if (fuzz_ended(mcs_store_get_text(s, "note", text, sizeof text))) fuzz_use(text, strlen(text));
    if (fuzz_ended(mcs_store_get_number(s, "number", &number))) fuzz_use(&number, sizeof number);
    if (fuzz_ended(mcs_store_list(s, &n, &names))) {
        for (int i = 0; i < n && i < MOST_NAMES; i++) read_dataset(s, names[i]);
        mcs_store_texts_free(n, names);
    }
    mcs_store_close(s);
}
