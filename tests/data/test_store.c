/* The HDF5 store: round trip, same bytes, clear refusals. */
#include "data/io/file.h"
#include "data/io/store.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/mcs_store_XXXXXX");
    close(mkstemp(path));
}

static void teardown(void)
{
    unlink(path);
}

TestSuite(store, .init = setup, .fini = teardown);

static const float f32[6] = {1, 2, -3, 4.5f, 1e-40f, 6};
static const int32_t i32[3] = {-1, 0, 2147483647};
static const uint8_t u8[4] = {0, 1, 128, 255};
static const int64_t i64[2] = {INT64_MIN, 5}, d23[2] = {2, 3}, d3[1] = {3}, d4[1] = {4}, d2[1] = {2}, d0[2] = {0, 3};
static const char *const names[3] = {"a.png", "", "caf\xc3\xa9.nii.gz"};

static void fill(void)
{
    struct store *s;
    int64_t six[6] = {1, 1, 2, 1, 3, 1};
    cr_assert_eq(mcs_store_create(path, &s), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_put(s, "embeddings", MCS_ARRAY_F32, 2, d23, f32), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_put(s, "group/deep/labels", MCS_ARRAY_I32, 1, d3, i32), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_put(s, "mask", MCS_ARRAY_U8, 1, d4, u8), MCS_OK);
    cr_assert_eq(mcs_store_put(s, "group/ids", MCS_ARRAY_I64, 1, d2, i64), MCS_OK);
    cr_assert_eq(mcs_store_put(s, "six", MCS_ARRAY_F32, 6, six, f32), MCS_OK);
    cr_assert_eq(mcs_store_put(s, "scalar", MCS_ARRAY_F32, 0, NULL, f32), MCS_OK);
    cr_assert_eq(mcs_store_put(s, "empty", MCS_ARRAY_F32, 2, d0, NULL), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_put_texts(s, "names", 3, names), MCS_OK);
    cr_assert_eq(mcs_store_put_texts(s, "no_names", 0, NULL), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_put_number(s, "logit_scale", 3), MCS_OK);
    cr_assert_eq(mcs_store_put_number(s, "logit_scale", 4.4454), MCS_OK); /* the later value counts */
    cr_assert_eq(mcs_store_put_text(s, "form", "paper"), MCS_OK);
    cr_assert_eq(mcs_store_put_text(s, "nothing", ""), MCS_OK);
    cr_assert_eq(mcs_store_commit(s), MCS_OK, "%s", mcs_error_message());
}

static void fails(enum mcs_status st, enum mcs_status want, const char *word)
{
    cr_assert_eq(st, want, "status %d: %s", st, mcs_error_message());
    cr_assert(strstr(mcs_error_message(), word), "no '%s' in: %s", word, mcs_error_message());
    mcs_error_clear();
}

Test(store, round_trip)
{
    struct store *s;
    struct store_info info;
    float x[6];
    int32_t a[3];
    uint8_t b[4];
    int64_t c[2];
    char text[8], **list;
    double number;
    int n;

    fill();
    cr_assert_eq(mcs_store_open(path, &s), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_get(s, "embeddings", MCS_ARRAY_F32, 2, d23, x), MCS_OK, "%s", mcs_error_message());
    cr_assert_arr_eq(x, f32, sizeof f32);
    cr_assert_eq(mcs_store_get(s, "group/deep/labels", MCS_ARRAY_I32, 1, d3, a), MCS_OK);
    cr_assert_arr_eq(a, i32, sizeof i32);
    cr_assert_eq(mcs_store_get(s, "mask", MCS_ARRAY_U8, 1, d4, b), MCS_OK);
    cr_assert_arr_eq(b, u8, sizeof u8);
    cr_assert_eq(mcs_store_get(s, "group/ids", MCS_ARRAY_I64, 1, d2, c), MCS_OK);
    cr_assert_arr_eq(c, i64, sizeof i64);
    cr_assert_eq(mcs_store_get(s, "scalar", MCS_ARRAY_F32, 0, NULL, x), MCS_OK);
    cr_assert_eq(x[0], 1);
    cr_assert_eq(mcs_store_get(s, "empty", MCS_ARRAY_F32, 2, d0, x), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_get_info(s, "six", &info), MCS_OK);
    cr_assert(info.nd == 6 && info.dims[4] == 3 && info.n_values == 6 && info.type == MCS_ARRAY_F32);

    cr_assert_eq(mcs_store_get_texts(s, "names", &n, &list), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(n, 3);
    for (int i = 0; i < 3; i++) cr_assert_str_eq(list[i], names[i]);
    mcs_store_texts_free(n, list);
    cr_assert_eq(mcs_store_get_texts(s, "no_names", &n, &list), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(n, 0);
    mcs_store_texts_free(n, list);
    cr_assert_eq(mcs_store_get_number(s, "logit_scale", &number), MCS_OK);
    cr_assert_eq(number, 4.4454);
    cr_assert_eq(mcs_store_get_text(s, "form", text, sizeof text), MCS_OK, "%s", mcs_error_message());
    cr_assert_str_eq(text, "paper");
    cr_assert_eq(mcs_store_get_text(s, "nothing", text, sizeof text), MCS_OK);
    cr_assert_str_eq(text, "");
    cr_assert_eq(mcs_store_list(s, &n, &list), MCS_OK);
    cr_assert_eq(n, 9);
    cr_assert_str_eq(list[0], "embeddings");
    cr_assert_str_eq(list[2], "group/deep/labels");
    mcs_store_texts_free(n, list);

    fails(mcs_store_get(s, "absent", MCS_ARRAY_F32, 2, d23, x), MCS_E_DATA, "no dataset absent");
    fails(mcs_store_get(s, "mask", MCS_ARRAY_I32, 1, d4, x), MCS_E_DATA, "type U8, want I32");
    fails(mcs_store_get(s, "mask", MCS_ARRAY_U8, 1, d3, x), MCS_E_DATA, "shape (4), want (3)");
    fails(mcs_store_get(s, "group", MCS_ARRAY_U8, 1, d3, x), MCS_E_DATA, "group");
    fails(mcs_store_get_texts(s, "mask", &n, &list), MCS_E_DATA, "no list of texts");
    fails(mcs_store_get_text(s, "absent", text, sizeof text), MCS_E_DATA, "no note");
    fails(mcs_store_get_text(s, "form", text, 5), MCS_E_DATA, "room for 4");
    fails(mcs_store_get_text(s, "logit_scale", text, sizeof text), MCS_E_DATA, "no text");
    fails(mcs_store_get_number(s, "form", &number), MCS_E_DATA, "no number");
    fails(mcs_store_put(s, "x", MCS_ARRAY_U8, 1, d4, u8), MCS_E_USAGE, "for reading");
    mcs_store_close(s);
}

Test(store, same_contents_same_bytes)
{
    char first[65], second[65];
    fill();
    mcs_file_sha256(path, first);
    sleep(1); /* file times have a resolution of a second */
    fill();
    mcs_file_sha256(path, second);
    cr_assert_str_eq(first, second);
}

Test(store, whole_or_not_at_all)
{
    struct store *s;
    char first[65], second[65];
    static char big[100000];
    int64_t n_big = sizeof big, seven[7] = {1, 1, 1, 1, 1, 1, 1};

    fill();
    mcs_file_sha256(path, first);
    cr_assert_eq(mcs_store_create(path, &s), MCS_OK);
    cr_assert_eq(mcs_store_put(s, "mask", MCS_ARRAY_U8, 1, d4, u8), MCS_OK);
    fails(mcs_store_put(s, "mask", MCS_ARRAY_U8, 1, d4, u8), MCS_E_FAIL, "mask");
    fails(mcs_store_put(s, "half", MCS_ARRAY_F16, 1, d4, u8), MCS_E_USAGE, "F16");
    fails(mcs_store_put(s, "seven", MCS_ARRAY_U8, 7, seven, u8), MCS_E_SHAPE, "7 dimensions");
    mcs_store_close(s); /* no commit */
    mcs_file_sha256(path, second);
    cr_assert_str_eq(first, second);

    cr_assert_eq(mcs_store_create(path, &s), MCS_OK);
    cr_assert_eq(mcs_store_put(s, "big", MCS_ARRAY_U8, 1, &n_big, big), MCS_OK);
    struct rlimit before, limit;
    getrlimit(RLIMIT_FSIZE, &before);
    limit = (struct rlimit){20000, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit); /* as on a full disk */
    enum mcs_status st = mcs_store_commit(s);
    setrlimit(RLIMIT_FSIZE, &before);
    fails(st, MCS_E_IO, "cannot write");
    mcs_file_sha256(path, second);
    cr_assert_str_eq(first, second);
    fails(mcs_store_create("/tmp/no/such/folder/x.h5", &s), MCS_E_IO, "cannot write");
    fails(mcs_store_create("/tmp", &s), MCS_E_IO, "is a folder");
}

Test(store, damage_is_refused)
{
    struct store *s;
    char *bytes;
    int64_t n;
    fill();
    cr_assert_eq(mcs_file_read(path, 1 << 20, &bytes, &n), MCS_OK);
    for (int64_t cut = 0; cut < n; cut += n / 23) {
        cr_assert_eq(mcs_file_write(path, bytes, cut), MCS_OK);
        fails(mcs_store_open(path, &s), MCS_E_DATA, "truncated");
    }
    cr_assert_eq(mcs_file_write(path, bytes, n - 1), MCS_OK);
    fails(mcs_store_open(path, &s), MCS_E_DATA, "truncated");
    bytes[1] ^= 1;
    cr_assert_eq(mcs_file_write(path, bytes, n), MCS_OK);
    fails(mcs_store_open(path, &s), MCS_E_DATA, "no HDF5 file");
    free(bytes);
    fails(mcs_store_open("/tmp/no/such.h5", &s), MCS_E_NOINPUT, "No such file");
    fails(mcs_store_open("/tmp", &s), MCS_E_IO, "is a folder");
}
