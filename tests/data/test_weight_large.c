/* Files of weights of more than 4 GiB: offsets and sizes beyond 32 bits, in sparse files that take a few blocks. */
#include "data/io/gzip.h"
#include "data/weights/weight_file.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_skip.h"
#include "tests/support/support_weights.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const int64_t HOLE = ((int64_t)5 << 30) + 64; /* bytes of the tensor that nothing reads */
static const float floats[4] = {1, 2, 3, 4};

static void setup(void)
{
    test_folder_open("weight_large");
}
TestSuite(weight_large, .init = setup, .fini = test_folder_close);

/* Writes parts one behind the other, with a hole of HOLE bytes behind part `hole`. */
static const char *sparse_file(const char *name, const struct made_file *parts, int n, int hole)
{
    const char *path = in_folder(name);
    const int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    off_t at = 0;
    cr_assert(fd >= 0);
    for (int i = 0; i < n; i++) {
        cr_assert_eq(pwrite(fd, parts[i].v, parts[i].n, at), (ssize_t)parts[i].n);
        at += (off_t)parts[i].n + (i == hole ? (off_t)HOLE : 0);
        if (i == hole && ftruncate(fd, at) != 0) {
            close(fd);
            mcs_test_skip("this file system takes no file of 5 GiB");
        }
    }
    cr_assert_eq(close(fd), 0);
    return path;
}

static void expect_floats(const char *path, const char *name)
{
    struct weight_file *f;
    float got[4] = {0};
    cr_assert_eq(mcs_weight_file_open(path, &f), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_weight_file_read_f32(f, name, 2, (int64_t[]){2, 2}, got), MCS_OK, "%s", mcs_error_message());
    cr_expect_arr_eq(got, floats, sizeof floats);
    mcs_weight_file_close(f);
}

Test(weight_large, safetensors_behind_4_gib)
{
    static struct made_file part[2];
    char header[512];
    const int n = snprintf(header, sizeof header,
                           "{\"a\":{\"dtype\":\"U8\",\"shape\":[%lld],\"data_offsets\":[0,%lld]},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[%lld,%lld]}}",
                           (long long)HOLE, (long long)HOLE, (long long)HOLE, (long long)HOLE + 16);
    made_little(&part[0], (uint64_t)n, 8);
    made_text(&part[0], header);
    made_add(&part[1], floats, sizeof floats);
    expect_floats(sparse_file("w.safetensors", part, 2, 0), "b");
}

/* A local header, or with central an entry of the directory, whose sizes (and place) are in a zip64 field. */
static void add_header(struct made_file *f, const struct made_entry *e, int central, uint64_t size, uint64_t at)
{
    const int wide = size > UINT32_MAX || at >= UINT32_MAX;
    made_text(f, central ? "PK\1\2" : "PK\3\4");
    if (central) made_little(f, 45, 2);
    made_little(f, 45, 2);
    made_little(f, 0, 8);
    made_little(f, e->bytes ? mcs_crc32(0, e->bytes, (int64_t)e->n) : 0, 4);
    made_little(f, wide ? UINT32_MAX : size, 4);
    made_little(f, wide ? UINT32_MAX : size, 4);
    made_little(f, strlen(e->name), 2);
    made_little(f, wide ? (central ? 28 : 20) : 0, 2);
    if (central) {
        made_little(f, 0, 10);
        made_little(f, wide ? UINT32_MAX : at, 4);
    }
    made_text(f, e->name);
    if (!wide) return;
    made_little(f, 1, 2);
    made_little(f, central ? 24 : 16, 2);
    made_little(f, size, 8);
    made_little(f, size, 8);
    if (central) made_little(f, at, 8);
}

/* PyTorch's zip: storage "9", which no tensor uses, has more than 4 GiB, and storage "0" lies behind it. */
Test(weight_large, torch_zip_behind_4_gib)
{
    static struct made_file part[2];
    char pickle[1024];
    const size_t n = made_pickle(NULL, 0, NULL, 0, pickle);
    const struct made_entry object = {"x/data.pkl", pickle, n}, unused = {"x/data/9", NULL, 0},
                            used = {"x/data/0", floats, sizeof floats};
    add_header(&part[0], &object, 0, n, 0);
    made_add(&part[0], pickle, n);
    const uint64_t unused_at = part[0].n;
    add_header(&part[0], &unused, 0, (uint64_t)HOLE, 0);
    const uint64_t used_at = part[0].n + (uint64_t)HOLE;
    add_header(&part[1], &used, 0, sizeof floats, 0);
    made_add(&part[1], floats, sizeof floats);
    const uint64_t directory = used_at + part[1].n;
    const size_t before = part[1].n;
    add_header(&part[1], &object, 1, n, 0);
    add_header(&part[1], &unused, 1, (uint64_t)HOLE, unused_at);
    add_header(&part[1], &used, 1, sizeof floats, used_at);
    const uint64_t bytes = part[1].n - before;
    made_text(&part[1], "PK\6\6"); /* zip64's end record and its locator */
    made_little(&part[1], 44, 8);
    made_little(&part[1], 45, 2);
    made_little(&part[1], 45, 2);
    made_little(&part[1], 0, 8);
    made_little(&part[1], 3, 8);
    made_little(&part[1], 3, 8);
    made_little(&part[1], bytes, 8);
    made_little(&part[1], directory, 8);
    made_text(&part[1], "PK\6\7");
    made_little(&part[1], 0, 4);
    made_little(&part[1], directory + bytes, 8);
    made_little(&part[1], 1, 4);
    made_text(&part[1], "PK\5\6");
    made_little(&part[1], 0, 4);
    made_little(&part[1], 3, 2);
    made_little(&part[1], 3, 2);
    made_little(&part[1], UINT32_MAX, 4);
    made_little(&part[1], UINT32_MAX, 4);
    made_little(&part[1], 0, 2);
    expect_floats(sparse_file("w.pt", part, 2, 0), "a");
}
