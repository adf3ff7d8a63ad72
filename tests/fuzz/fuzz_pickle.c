#include "data/weights/pickle.h"
#include "tests/fuzz/support_fuzz.h"

#include <fcntl.h>
#include <unistd.h>

/* Walks the tree: bounded by PICKLE_MAX_DEPTH and PICKLE_MAX_TREE. */
static void use(const struct pickle_value *v, int level)
{
    FUZZ_REQUIRE(level < PICKLE_MAX_DEPTH, "level %d", level);
    switch (v->kind) {
    case PICKLE_TEXT:
    case PICKLE_BYTES:
    case PICKLE_DTYPE: fuzz_use(v->text.s, (size_t)v->text.n + 1); break;
    case PICKLE_LIST:
    case PICKLE_TUPLE:
    case PICKLE_DICT:
        FUZZ_REQUIRE(v->kind != PICKLE_DICT || v->items.n % 2 == 0, "%d values", v->items.n);
        if (v->tree < 1 << 16)
            for (int i = 0; i < v->items.n; i++) use(v->items.v[i], level + 1);
        break;
    case PICKLE_TENSOR: fuzz_use(v->tensor, sizeof *v->tensor); break;
    case PICKLE_STORAGE: fuzz_use(v->storage, sizeof *v->storage); break;
    default: break;
    }
}

FUZZ(pickle)
{
    const char *path = fuzz_file(data, size, "f.pkl");
    struct pickle_source source = {open(path, O_RDONLY | O_CLOEXEC), path, 0, (int64_t)size, 0};
    struct arena arena = {0};
    struct pickle_value *root;
    FUZZ_REQUIRE(source.fd >= 0, "%s", path);
    if (fuzz_ended(mcs_pickle_read(&source, &arena, &root))) use(root, 0);
    FUZZ_REQUIRE(source.at >= 0 && source.at <= source.end, "at %lld", (long long)source.at);
    mcs_arena_free(&arena);
    close(source.fd);
}
