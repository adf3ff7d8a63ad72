#include "data/text/prompts.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

static int same(const struct prompts *a, const struct prompts *b)
{
    if (a->n != b->n) return 0;
    for (int i = 0; i < a->n; i++) {
        if (strcmp(a->v[i].name, b->v[i].name) != 0 || a->v[i].n != b->v[i].n) return 0;
        for (int k = 0; k < a->v[i].n; k++)
            if (strcmp(a->v[i].texts[k], b->v[i].texts[k]) != 0) return 0;
    }
    return 1;
}

/* Writing the prompts and reading them again gives the same. */
FUZZ(prompts)
{
    struct prompts p, q;
    if (!fuzz_ended(mcs_prompts_read(fuzz_file(data, size, "f.json"), &p))) return;
    FUZZ_REQUIRE(p.n > 0, "no prompt");
    for (int i = 0; i < p.n; i++) FUZZ_REQUIRE(mcs_prompts_find(&p, p.v[i].name), "%s is not found", p.v[i].name);
    const char *path = fuzz_file(NULL, 0, "g.json");
    FUZZ_REQUIRE(mcs_prompts_write(path, &p) == MCS_OK, "%s", mcs_error_message());
    FUZZ_REQUIRE(mcs_prompts_read(path, &q) == MCS_OK, "%s", mcs_error_message());
    FUZZ_REQUIRE(same(&p, &q), "%d prompts, read again %d", p.n, q.n);
    mcs_prompts_free(&p);
    mcs_prompts_free(&q);
}
