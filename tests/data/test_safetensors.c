/* safetensors: round trips in both widths, and each kind of damage refused with a clear message. */
#include "data/io/file.h"
#include "data/weights/weight_file.h"
#include "data/weights/weight_write.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64]; /* ends with "x.safetensors" */

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/mcs_XXXXXX.x.safetensors");
    close(mkstemps(path, 14));
}

static void teardown(void)
{
    unlink(path);
}

/* Opens a file of these bytes. */
static enum mcs_status parse_bytes(const void *bytes, int64_t n, struct weight_file **f)
{
    FILE *out = fopen(path, "wb");
    cr_assert(out && fwrite(bytes, 1, (size_t)n, out) == (size_t)n && fclose(out) == 0);
    return mcs_weight_file_open(path, f);
}

TestSuite(safetensors, .init = setup, .fini = teardown);

Test(safetensors, round_trip)
{
    float a[6] = {1, -2.5f, 1e-30f, 3e38f, 0, 65504}, b[5] = {1, 0.1f, 65519.9f, 65520, 6e-8f}, c[1] = {7}, got[6];
    static const char *const meta[][2] = {{"format", "pt"}, {"seed", "17"}};
    struct weight_out out[] = {{.name = "vision.weight", .type = MCS_ARRAY_F32, .nd = 2, .dims = {2, 3}, .values = a},
                               {.name = "half", .type = MCS_ARRAY_F16, .nd = 1, .dims = {5}, .values = b},
                               {.name = "a scalar \"quoted\" \xc3\xa9", .type = MCS_ARRAY_F32, .values = c},
                               {.name = "empty", .type = MCS_ARRAY_F32, .nd = 2, .dims = {0, 4}, .values = NULL}};
    struct weight_file *f;
    char first[65], second[65];

    cr_assert_eq(mcs_safetensors_write(path, 4, out, 2, meta), MCS_OK, "%s", mcs_error_message());
    mcs_file_sha256(path, first);
    struct weight_out turned[] = {out[3], out[1], out[0], out[2]};
    cr_assert_eq(mcs_safetensors_write(path, 4, turned, 2, meta), MCS_OK);
    mcs_file_sha256(path, second);
    cr_assert_str_eq(first, second, "the order of the list shows in the file");

    cr_assert_eq(mcs_weight_file_open(path, &f), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_weight_file_count(f), 4);
    for (int i = 1; i < 4; i++)
        cr_assert_lt(strcmp(mcs_weight_file_at(f, i - 1)->name, mcs_weight_file_at(f, i)->name), 0);
    cr_assert(!mcs_weight_file_at(f, 4) && !mcs_weight_file_find(f, "absent"));
    cr_assert_str_eq(mcs_weight_file_metadata(f, "seed"), "17");
    cr_assert(!mcs_weight_file_metadata(f, "absent"));
    int64_t shape[2] = {2, 3}, five = 5, wrong[2] = {3, 2}, none[2] = {0, 4};
    cr_assert_eq(mcs_weight_file_read_f32(f, "vision.weight", 2, shape, got), MCS_OK);
    cr_assert_arr_eq(got, a, sizeof a);
    cr_assert_eq(mcs_weight_file_read_f32(f, "half", 1, &five, got), MCS_OK);
    /* IEEE: 0.1 -> 0x2e66; 65519.9 -> the largest half; 65520 -> infinity; 6e-8 -> 2^-24 */
    cr_assert(got[0] == 1 && got[1] == 0x1.998p-4f && got[2] == 65504 && isinf(got[3]) && got[4] == 0x1p-24f);
    cr_assert_eq(mcs_weight_file_read_f32(f, out[2].name, 0, NULL, got), MCS_OK);
    cr_assert_eq(got[0], 7);
    cr_assert_eq(mcs_weight_file_read_f32(f, "empty", 2, none, got), MCS_OK);
    cr_assert_eq(mcs_weight_file_read_f32(f, "vision.weight", 2, wrong, got), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "(2, 3)") && strstr(mcs_error_message(), "(3, 2)"), "%s",
              mcs_error_message());
    mcs_error_clear();
    cr_assert_eq(mcs_weight_file_read_f32(f, "absent", 2, wrong, got), MCS_E_DATA);
    cr_assert(strstr(mcs_error_message(), "absent"));
    mcs_error_clear();
    cr_assert_eq(mcs_weight_file_read_i64(f, "half", 1, &five, &(int64_t){0}), MCS_E_DATA);
    mcs_error_clear();
    mcs_weight_file_close(f);

    struct weight_out twice[] = {out[0], out[0]};
    cr_assert_eq(mcs_safetensors_write(path, 2, twice, 0, NULL), MCS_E_USAGE);
    mcs_error_clear();
    mcs_file_sha256(path, first);
    cr_assert_str_eq(first, second, "a refused write changed the file");
}

/* Every half: converted to float and back without loss (NaN stays NaN). */
Test(safetensors, all_halves)
{
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t h = (uint16_t)i, again;
        float x;
        mcs_half_to_float(&h, 1, &x);
        mcs_float_to_half(&x, 1, &again);
        int e = (int)(i >> 10 & 31), m = (int)(i & 1023);
        double want = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
        if (i >> 15) want = -want;
        cr_assert(isnan(want) ? isnan(x) : x == want && !signbit(x) == !signbit(want), "half %04x is %g", i, x);
        cr_assert(isnan(want) ? (again & 0x7fff) > 0x7c00 : again == h, "half %04x came back as %04x", i, again);
    }
    float ties[] = {1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 0x1p-25f, 3 * 0x1p-25f}; /* ties: to the even neighbour */
    uint16_t got[4];
    mcs_float_to_half(ties, 4, got);
    cr_assert(got[0] == 0x3c00 && got[1] == 0x3c02 && got[2] == 0 && got[3] == 2);
}

/* A file from a header's text and n bytes of data. */
static enum mcs_status parse(const char *header, int n, struct weight_file **f)
{
    char bytes[4096] = {0};
    uint64_t len = strlen(header);
    memcpy(bytes, &len, 8);
    memcpy(bytes + 8, header, len);
    for (int i = 0; i < n; i++) bytes[8 + len + (size_t)i] = (char)(i + 1);
    mcs_error_clear();
    return parse_bytes(bytes, (int64_t)(8 + len) + n, f);
}

Test(safetensors, other_types)
{
    struct weight_file *f;
    int64_t i64[2], two = 2, one = 1;
    float x[2];
    cr_assert_eq(parse("{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
                       "\"b\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[2,4]},"
                       "\"c\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                       8, &f),
                 MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_weight_file_read_i64(f, "a", 1, &two, i64), MCS_OK);
    cr_assert(i64[0] == 1 && i64[1] == 2);
    cr_assert_eq(mcs_weight_file_read_i64(f, "c", 1, &one, i64), MCS_OK);
    cr_assert_eq(i64[0], 0x08070605);
    cr_assert_eq(mcs_weight_file_read_f32(f, "b", 1, &one, x), MCS_OK);
    uint32_t bits;
    memcpy(&bits, x, 4);
    cr_assert_eq(bits, 0x04030000);
    mcs_weight_file_close(f);
}

Test(safetensors, damage_is_refused)
{
    static const struct {
        const char *header;
        int n;
        const char *word;
    } cases[] = {
        {"", 0, "header"},
        {"[]", 0, "object"},
        {"{\"a\":", 0, "header"},
        {"{\"a\":3}", 0, "want dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "want dtype"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "F31"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 3, "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5, "after the last"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "bytes for"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "outside"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "whole numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "two data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,99999999999999999999]}}", 4, "header"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4],\"data_offsets\":[0,4]}}", 4, "impossible"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4, ""},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, "dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
         4, "overlaps"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
         12, "hole"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
         8, "header"},
        {"{\"__metadata__\":5}", 0, "__metadata__"},
        {"{\"a\\u0000b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "header"},
    };
    struct weight_file *f;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(parse(cases[i].header, cases[i].n, &f), MCS_E_DATA, "case %zu was taken", i);
        cr_assert(strstr(mcs_error_message(), "x.safetensors") && strstr(mcs_error_message(), cases[i].word),
                  "case %zu: %s", i, mcs_error_message());
        cr_assert(!f);
    }
    static const uint64_t lengths[] = {9, 1u << 20, 100000001, ~0ull, 1ull << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char bytes[16] = {0};
        memcpy(bytes, &lengths[i], 8);
        mcs_error_clear();
        cr_assert_eq(parse_bytes(bytes, 16, &f), MCS_E_DATA);
    }
    mcs_error_clear();
    cr_assert_eq(parse_bytes("short", 5, &f), MCS_E_DATA);
    mcs_error_clear();
    cr_assert_eq(mcs_weight_file_open("/tmp/no/such.safetensors", &f), MCS_E_NOINPUT);
    mcs_error_clear();
}

/* Each bit of a file flipped, one at a time: read or refused, nothing out of bounds (the sanitizer build watches). */
Test(safetensors, hostile_bytes)
{
    float a[3] = {1, 2, 3};
    struct weight_out out[] = {{.name = "a", .type = MCS_ARRAY_F32, .nd = 1, .dims = {3}, .values = a},
                               {.name = "b.c", .type = MCS_ARRAY_F16, .nd = 2, .dims = {1, 3}, .values = a}};
    struct weight_file *f;
    char *bytes;
    int64_t n;
    int refusals = 0;

    cr_assert_eq(mcs_safetensors_write(path, 2, out, 0, NULL), MCS_OK);
    cr_assert_eq(mcs_file_read(path, 1 << 16, &bytes, &n), MCS_OK);
    for (int64_t at = 0; at < n; at++)
        for (int k = 0; k < 8; k++) {
            bytes[at] = (char)(bytes[at] ^ 1 << k);
            mcs_error_clear();
            if (parse_bytes(bytes, n, &f) == MCS_OK)
                mcs_weight_file_close(f);
            else
                refusals++;
            bytes[at] = (char)(bytes[at] ^ 1 << k);
        }
    for (int64_t cut = 0; cut < n; cut++) {
        mcs_error_clear();
        cr_assert_eq(parse_bytes(bytes, cut, &f), MCS_E_DATA, "%d of %d bytes were taken", (int)cut, (int)n);
    }
    cr_assert_gt(refusals, 300);
    free(bytes);
    mcs_error_clear();
}

Test(safetensors, reads_the_reference_library)
{
    static const char *names[] = {"clip", "sam", "unet2d", "unet3d"};
    int seen = 0;
    for (int i = 0; i < 4; i++) {
        char golden[512];
        struct weight_file *f;
        snprintf(golden, sizeof golden, "%s/tests/golden/%s.safetensors", MCS_SOURCE_DIR, names[i]);
        if (!mcs_file_exists(golden)) continue;
        cr_assert_eq(mcs_weight_file_open(golden, &f), MCS_OK, "%s", mcs_error_message());
        cr_assert_gt(mcs_weight_file_count(f), 0);
        mcs_weight_file_close(f);
        seen++;
    }
    if (!seen) cr_skip_test("no golden file here");
}

/* Doubles become the nearest floats and 64-bit integers are unchanged, over more values than one chunk of the
 * conversion. */
Test(safetensors, wide_numbers)
{
    enum { N = 5000 };
    const char *header = "{\"f\":{\"dtype\":\"F64\",\"shape\":[5000],\"data_offsets\":[0,40000]},"
                         "\"i\":{\"dtype\":\"I64\",\"shape\":[5000],\"data_offsets\":[40000,80000]}}";
    const uint64_t len = strlen(header);
    const int64_t n = N, total = 8 + (int64_t)len + 16 * N;
    char *bytes = malloc((size_t)total);
    float *floats = malloc(N * sizeof *floats);
    int64_t *whole = malloc(N * sizeof *whole);
    struct weight_file *f;
    cr_assert(bytes && floats && whole);
    memcpy(bytes, &len, 8);
    memcpy(bytes + 8, header, len);
    for (int i = 0; i < N; i++) {
        const double x = (i % 2 ? -1 : 1) * ldexp(1 + i / 7.0, i % 40 - 20);
        const int64_t k = (int64_t)i * 1234567890123 - 4000000000;
        memcpy(bytes + 8 + len + 8 * i, &x, 8);
        memcpy(bytes + 8 + len + 8 * (N + i), &k, 8);
    }
    cr_assert_eq(parse_bytes(bytes, total, &f), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_weight_file_read_f32(f, "f", 1, &n, floats), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_weight_file_read_i64(f, "i", 1, &n, whole), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < N; i++) {
        cr_assert_eq(floats[i], (float)((i % 2 ? -1 : 1) * ldexp(1 + i / 7.0, i % 40 - 20)), "value %d", i);
        cr_assert_eq(whole[i], (int64_t)i * 1234567890123 - 4000000000, "value %d", i);
    }
    cr_expect_eq(mcs_weight_file_read_f32(f, "i", 1, &n, floats), MCS_E_DATA, "integers are no floats");
    mcs_error_clear();
    cr_expect_eq(mcs_weight_file_read_i64(f, "f", 1, &n, whole), MCS_E_DATA, "floats are no integers");
    mcs_error_clear();
    mcs_weight_file_close(f);
    free(bytes);
    free(floats);
    free(whole);
}

/* The bytes of a written file: names sorted, offsets, blanks up to a multiple of 8, values. */
Test(safetensors, written_bytes)
{
    static const char header[] = "{\"__metadata__\":{\"k\":\"v\"},"
                                 "\"a\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]},"
                                 "\"b\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[6,14]},"
                                 "\"c\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[14,18]}}";
    static const char *const meta[][2] = {{"k", "v"}}, *const bad_meta[][2] = {{"k", "\xff"}};
    const float x[3] = {1, -2, 0.5f};
    const uint16_t half[3] = {0x3c00, 0xc000, 0x3800};
    struct weight_out out[] = {{.name = "c", .type = MCS_ARRAY_F32, .nd = 0, .dims = {0}, .values = x + 2},
                               {.name = "b", .type = MCS_ARRAY_F32, .nd = 2, .dims = {1, 2}, .values = x},
                               {.name = "a", .type = MCS_ARRAY_F16, .nd = 1, .dims = {3}, .values = x}};
    const size_t padded = (sizeof header - 1 + 7) / 8 * 8;
    char *bytes;
    uint64_t said;
    int64_t n;
    cr_assert_eq(mcs_safetensors_write(path, 3, out, 1, meta), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_file_read(path, 1 << 16, &bytes, &n), MCS_OK);
    memcpy(&said, bytes, 8);
    cr_expect_eq(said, padded);
    cr_assert_eq(n, (int64_t)(8 + padded + 18));
    cr_expect_eq(memcmp(bytes + 8, header, sizeof header - 1), 0, "%.*s", (int)padded, bytes + 8);
    for (size_t i = sizeof header - 1; i < padded; i++) cr_expect_eq(bytes[8 + i], ' ');
    cr_expect_eq(memcmp(bytes + 8 + padded, half, 6), 0);
    cr_expect_eq(memcmp(bytes + 8 + padded + 6, x, 8), 0);
    cr_expect_eq(memcmp(bytes + 8 + padded + 14, x + 2, 4), 0);
    free(bytes);
    cr_assert_eq(mcs_safetensors_write(path, 0, NULL, 0, NULL), MCS_OK);
    cr_assert_eq(mcs_file_read(path, 1 << 16, &bytes, &n), MCS_OK);
    cr_expect(n == 16 && memcmp(bytes, "\x8\0\0\0\0\0\0\0{}      ", 16) == 0);
    free(bytes);

    const struct weight_out refused[] = {
        {.name = "__metadata__", .type = MCS_ARRAY_F32, .nd = 0, .dims = {0}, .values = x},
        {.name = "\xff", .type = MCS_ARRAY_F32, .nd = 0, .dims = {0}, .values = x},
        {.name = "a", .type = MCS_ARRAY_I64, .nd = 1, .dims = {1}, .values = x},
        {.name = "a", .type = MCS_ARRAY_BF16, .nd = 1, .dims = {1}, .values = x},
        {.name = "a", .type = MCS_ARRAY_F32, .nd = 1, .dims = {-1}, .values = x},
        {.name = "a", .type = MCS_ARRAY_F32, .nd = 9, .dims = {1}, .values = x}};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        cr_expect_eq(mcs_safetensors_write(path, 1, &refused[i], 0, NULL), MCS_E_USAGE, "%zu", i);
        mcs_error_clear();
    }
    cr_expect_eq(mcs_safetensors_write(path, 3, out, 1, bad_meta), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(mcs_safetensors_write("/proc/none/x", 3, out, 0, NULL), MCS_E_IO);
    mcs_error_clear();
}

/* More halves than one chunk of the conversion, and every count around it. */
Test(safetensors, halves_in_parts)
{
    enum { N = 2050 };
    float x[N], got[N];
    for (int i = 0; i < N; i++) x[i] = (float)(i % 2 ? -i : i);
    static const int64_t counts[] = {1, 1023, 1024, 1025, 2047, 2048, 2049, 2050};
    for (int i = 0; i < 8; i++) {
        struct weight_out out = {.name = "h", .type = MCS_ARRAY_F16, .nd = 1, .dims = {counts[i]}, .values = x};
        struct weight_file *f;
        cr_assert_eq(mcs_safetensors_write(path, 1, &out, 0, NULL), MCS_OK);
        cr_assert_eq(mcs_weight_file_open(path, &f), MCS_OK, "%s", mcs_error_message());
        memset(got, 0, sizeof got);
        cr_assert_eq(mcs_weight_file_read_f32(f, "h", 1, &counts[i], got), MCS_OK);
        for (int k = 0; k < N; k++)
            cr_assert(k < counts[i] ? fabsf(got[k] - x[k]) <= 1 && (k > 2048 || got[k] == x[k]) : got[k] == 0,
                      "%d of %d", k, (int)counts[i]);
        cr_expect_eq(mcs_weight_file_at(f, 0)->n_bytes, 2 * counts[i]);
        mcs_weight_file_close(f);
    }
}
