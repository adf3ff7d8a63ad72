#include "tests/support/support_weights.h"

#include "data/io/gzip.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

void made_add(struct made_file *f, const void *bytes, size_t n)
{
    cr_assert(n <= sizeof f->v - f->n);
    if (n) memcpy(f->v + f->n, bytes, n);
    f->n += n;
}

void made_text(struct made_file *f, const char *text)
{
    made_add(f, text, strlen(text));
}

void made_little(struct made_file *f, uint64_t value, int n)
{
    for (int i = 0; i < n; i++) made_add(f, &(uint8_t){(uint8_t)(value >> 8 * i)}, 1);
}

void made_save(const struct made_file *f, const char *path)
{
    FILE *out = fopen(path, "wb");
    cr_assert(out && fwrite(f->v, 1, f->n, out) == f->n && fclose(out) == 0, "%s", path);
}

static void add_header(struct made_file *f, const struct made_entry *e, int central, uint64_t at)
{
    made_text(f, central ? "PK\1\2" : "PK\3\4");
    if (central) made_little(f, 20, 2);
    made_little(f, 20, 2);
    made_little(f, 0, 8);
    made_little(f, mcs_crc32(0, e->bytes, (int64_t)e->n), 4);
    made_little(f, e->n, 4);
    made_little(f, e->n, 4);
    made_little(f, strlen(e->name), 2);
    made_little(f, 0, 2);
    if (central) {
        made_little(f, 0, 6);
        made_little(f, 0, 4);
        made_little(f, at, 4);
    }
    made_text(f, e->name);
}

void made_zip(struct made_file *f, int n, const struct made_entry *entries)
{
    size_t at[16];
    cr_assert(n <= 16);
    f->n = 0;
    for (int i = 0; i < n; i++) {
        at[i] = f->n;
        add_header(f, &entries[i], 0, 0);
        made_add(f, entries[i].bytes, entries[i].n);
    }
    const size_t directory = f->n;
    for (int i = 0; i < n; i++) add_header(f, &entries[i], 1, at[i]);
    const size_t bytes = f->n - directory;
    made_text(f, "PK\5\6");
    made_little(f, 0, 4);
    made_little(f, (uint64_t)n, 2);
    made_little(f, (uint64_t)n, 2);
    made_little(f, bytes, 4);
    made_little(f, directory, 4);
    made_little(f, 0, 2);
}

void made_torch(struct made_file *f, const void *pickle, size_t n, int n_floats, const float *floats)
{
    const struct made_entry entries[] = {{"x/data.pkl", pickle, n},
                                         {"x/byteorder", "little", 6},
                                         {"x/data/0", floats, (size_t)n_floats * sizeof *floats},
                                         {"x/version", "3\n", 2}};
    made_zip(f, 4, entries);
}

size_t made_pickle(const char *from, size_t from_n, const char *to, size_t to_n, char dst[1024])
{
    static const char whole[] = "\x80\x02}(X\1\0\0\0a"
                                "ctorch._utils\n_rebuild_tensor_v2\n(("
                                "X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                                "0X\3\0\0\0cpuK\4tQ"
                                "K\0(K\2K\2t(K\2K\1t\x89}tRu.";
    const size_t n = sizeof whole - 1;
    memcpy(dst, whole, n);
    if (!from) return n;
    for (size_t i = 0; i + from_n <= n; i++) {
        if (memcmp(whole + i, from, from_n) != 0) continue;
        memcpy(dst + i, to, to_n);
        memcpy(dst + i + to_n, whole + i + from_n, n - i - from_n);
        return n - from_n + to_n;
    }
    cr_assert(0, "the pickle has no such part");
    return 0;
}
