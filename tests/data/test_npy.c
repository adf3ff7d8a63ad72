/* .npy: numpy's own bytes, round trips, damage. */
#include "data/io/file.h"
#include "data/io/npy.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/mcs_npy_XXXXXX");
    close(mkstemp(path));
}

static void teardown(void)
{
    unlink(path);
}

TestSuite(npy, .init = setup, .fini = teardown);

Test(npy, round_trip)
{
    static const int64_t shapes[][4] = {{0}, {6}, {2, 3}, {1, 2, 3}, {3, 1, 2, 1}, {0, 5}};
    static const int nd[] = {0, 1, 2, 3, 4, 2};
    float x[6] = {1, -2, 3e-40f, 4, 5, 6};
    for (int i = 0; i < 6; i++) {
        struct npy a;
        cr_assert_eq(mcs_npy_write(path, x, nd[i], shapes[i]), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_npy_read(path, &a), MCS_OK, "%s", mcs_error_message());
        cr_assert(mcs_array_same_shape(a.nd, a.dims, nd[i], shapes[i]));
        cr_assert_arr_eq(a.values, x, (size_t)a.n_values * 4);
        mcs_npy_free(&a);
    }
    char *bytes;
    int64_t n, d[2] = {2, 3};
    cr_assert_eq(mcs_npy_write(path, x, 2, d), MCS_OK);
    cr_assert_eq(mcs_file_read(path, 1 << 16, &bytes, &n), MCS_OK);
    cr_assert_eq(n, 128 + 24); /* numpy.save of such an array: a header of 128 bytes that ends with a line end */
    cr_assert_arr_eq(bytes, "\x93NUMPY\1\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }  ", 71);
    cr_assert_eq(bytes[127], '\n');
    free(bytes);
}

/* A file from a dict and n bytes of values. */
static enum mcs_status parse(int version, const char *dict, int n, struct npy *a)
{
    char bytes[512] = "\x93NUMPY";
    int len = (int)strlen(dict), start = version > 1 ? 12 : 10;
    bytes[6] = (char)version;
    bytes[8] = (char)len;
    memcpy(bytes + start, dict, (size_t)len);
    for (int i = 0; i < n; i++) bytes[start + len + i] = (char)(i % 4 == 3 ? 0x3f : 0);
    cr_assert_eq(mcs_file_write(path, bytes, start + len + n), MCS_OK);
    mcs_error_clear();
    return mcs_npy_read(path, a);
}

Test(npy, variants)
{
    struct npy a;
    cr_assert_eq(parse(2, "{\"shape\": (2,), 'fortran_order': True, 'descr': '<f4'}", 8, &a), MCS_OK, "%s",
                 mcs_error_message());
    cr_assert(a.n_values == 2 && a.values[1] == 0.5f);
    mcs_npy_free(&a);
    cr_assert_eq(parse(3, "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1,), }\n", 8, &a), MCS_OK);
    cr_assert(a.nd == 2 && a.values[0] == (float)0x1.000003fp-15);
    mcs_npy_free(&a);
    cr_assert_eq(parse(1, "{'descr': '<f2', 'fortran_order': False, 'shape': (), }", 2, &a), MCS_OK);
    cr_assert(a.nd == 0 && a.n_values == 1 && a.values[0] == 0);
    mcs_npy_free(&a);
}

Test(npy, damage_is_refused)
{
    static const struct {
        const char *dict;
        int n;
        const char *word;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 7, "truncated"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }", 9, "too long"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }", 8, "Fortran"},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }", 8, "<i4"},
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (2,), }", 8, ">f4"},
        {"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", 8, "|O"}, /* a pickle: never executed */
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }", 8, "header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2", 8, "header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", 8, "header"},
        {"{'descr': '<f4', 'fortran_order': False}", 8, "header"},
        {"{'descr': '<f4', 'fortran_order': None, 'shape': (2,)}", 8, "header"},
        {"{'descr': '<f4", 8, "header"},
        {"", 8, "header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4, "header"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999999999, 4), }", 4, "impossible"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999999999999, 4), }", 4, "header"},
    };
    struct npy a;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert_eq(parse(1, cases[i].dict, cases[i].n, &a), MCS_E_DATA, "case %zu was taken", i);
        cr_assert(strstr(mcs_error_message(), path) && strstr(mcs_error_message(), cases[i].word), "case %zu: %s", i,
                  mcs_error_message());
        cr_assert(!a.values);
    }
    cr_assert_eq(parse(4, cases[0].dict, 8, &a), MCS_E_DATA);
    mcs_error_clear();
    cr_assert_eq(mcs_file_write(path, "\x93NUMPY\1\0\xff\xff{}", 12), MCS_OK);
    cr_assert_eq(mcs_npy_read(path, &a), MCS_E_DATA);
    mcs_error_clear();
    cr_assert_eq(mcs_file_write(path, "PK", 2), MCS_OK);
    cr_assert_eq(mcs_npy_read(path, &a), MCS_E_DATA);
    mcs_error_clear();
    cr_assert_eq(mcs_npy_read("/tmp/no/such.npy", &a), MCS_E_NOINPUT);
    mcs_error_clear();
}

/* numpy.save of a float64 and a float16 array, written out by hand: 3 and 5 values, all different. */
Test(npy, wide_and_half_values)
{
    const double wide[3] = {1.1, -2.5e-300, 1e39}; /* nearest float, 0, infinity */
    const uint16_t half[5] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x3555};
    struct npy a;
    char bytes[256] = "\x93NUMPY\2\0";
    for (int kind = 0; kind < 2; kind++) {
        const char *dict = kind ? "{'descr': '<f2', 'fortran_order': False, 'shape': (5,), }"
                                : "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), }";
        const size_t len = strlen(dict), n = kind ? sizeof half : sizeof wide;
        bytes[8] = (char)len;
        memcpy(bytes + 12, dict, len);
        memcpy(bytes + 12 + len, kind ? (const void *)half : wide, n);
        cr_assert_eq(mcs_file_write(path, bytes, (int64_t)(12 + len + n)), MCS_OK);
        cr_assert_eq(mcs_npy_read(path, &a), MCS_OK, "%s", mcs_error_message());
        if (kind)
            cr_expect(a.n_values == 5 && a.values[0] == 1 && a.values[1] == -2 && a.values[2] == 0x1p-24f &&
                      a.values[3] == 65504 && a.values[4] == 0x1.554p-2f);
        else
            cr_expect(a.nd == 2 && a.dims[0] == 1 && a.dims[1] == 3 && a.values[0] == 1.1f && a.values[1] == 0 &&
                      a.values[2] > 3.4e38f);
        mcs_npy_free(&a);
    }
}

/* A header of `n` bytes: the dict, then blanks. */
static enum mcs_status parse_padded(int version, int64_t n, int64_t said, struct npy *a)
{
    static const char dict[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }";
    const int start = version > 1 ? 12 : 10;
    char *bytes = malloc((size_t)(start + n + 4));
    const float one = 1;
    cr_assert(bytes);
    memset(bytes, ' ', (size_t)(start + n));
    memcpy(bytes, "\x93NUMPY", 6);
    bytes[6] = (char)version;
    bytes[7] = 0;
    for (int i = 8; i < start; i++) bytes[i] = (char)(said >> 8 * (i - 8) & 255);
    memcpy(bytes + start, dict, sizeof dict - 1);
    memcpy(bytes + start + n, &one, 4);
    cr_assert_eq(mcs_file_write(path, bytes, start + n + 4), MCS_OK);
    free(bytes);
    mcs_error_clear();
    return mcs_npy_read(path, a);
}

Test(npy, headers_of_every_length)
{
    static const int64_t good[] = {57, 255, 256, 300, 65535};
    struct npy a;
    for (int version = 1; version <= 3; version++)
        for (int i = 0; i < 5; i++) {
            cr_assert_eq(parse_padded(version, good[i], good[i], &a), MCS_OK, "%d: %s", version, mcs_error_message());
            cr_expect(a.nd == 1 && a.dims[0] == 1 && a.values[0] == 1);
            mcs_npy_free(&a);
        }
    cr_expect_eq(parse_padded(2, 65536, 65536, &a), MCS_OK, "%s", mcs_error_message());
    mcs_npy_free(&a);
    cr_expect_eq(parse_padded(2, 65537, 65537, &a), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "more than the 65536"), "%s", mcs_error_message());
    cr_expect_eq(parse_padded(2, 100, 105, &a), MCS_E_DATA, "a byte more than there is");
    cr_expect(strstr(mcs_error_message(), "truncated: a header of 105 bytes in a file of 116"), "%s",
              mcs_error_message());
    cr_expect_eq(parse_padded(2, 100, 104, &a), MCS_E_DATA, "no value is left");
    cr_expect(strstr(mcs_error_message(), "0 bytes of values, its header promises 4"), "%s", mcs_error_message());
    cr_expect_eq(parse_padded(2, 100, 1 << 24, &a), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "16777216 bytes"), "%s", mcs_error_message());
    mcs_error_clear();
}

/* Each literal of the dict at its limits. */
Test(npy, literals_of_the_header)
{
    static const struct {
        const char *dict;
        int n_values; /* -1: refused */
    } rows[] = {
        {"{'descr':'<f4','fortran_order':False,'shape':(2,)}", 2},
        {"  { \"descr\" : \"<f4\" , 'shape' : ( 2 , 1 ) , 'fortran_order' : False , } \t\n", 2},
        {"{'descr':'<f4','fortran_order':False,'shape':(1,1,1,1,1,1,1,1)}", 1},
        {"{'descr':'<f4','fortran_order':False,'shape':(000000000000000002,)}", 2}, /* 18 digits */
        {"{'descr':'<f4','fortran_order':False,'shape':(0000000000000000002,)}", -1},
        {"{'descr':'<f4','fortran_order':False,'shape':(2 2)}", -1},
        {"{'descr':'<f4','fortran_order':False,'shape':(,)}", -1},
        {"{'descr':'<f4','fortran_order':False,'shape':(2,}", -1},
        {"{'descr':'<f4','fortran_order':False,'shape':2}", -1},
        {"{'descr':'<f4','fortran_order':False,'shape':(2,) 'x'}", -1},
        {"{'descr':'<f4','fortran_order':Fals,'shape':(2,)}", -1},
        {"{'descr':'<f4\",'fortran_order':False,'shape':(2,)}", -1},
        {"{'descr':<f4,'fortran_order':False,'shape':(2,)}", -1},
        {"{'descr' '<f4','fortran_order':False,'shape':(2,)}", -1},
        {"{'descr':'<f4','fortran_order':False,'shape':(2,),'more':1}", -1},
        {"{'descr':'<f4','fortran_order':False,'shape':(2,),'descr':'<f4'}", 2},
        {"{'fortran_order':False,'shape':(2,)}", -1},
        {"{'descr':'<f4','shape':(2,)}", -1},
        {"{'descr':'<f4','fortran_order':False,}", -1},
        {"'descr':'<f4','fortran_order':False,'shape':(2,)}", -1},
    };
    struct npy a;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int n = rows[i].n_values;
        cr_expect_eq(parse(1, rows[i].dict, n < 0 ? 8 : 4 * n, &a), n < 0 ? MCS_E_DATA : MCS_OK, "%s: %s", rows[i].dict,
                     mcs_error_message());
        if (n < 0)
            cr_expect(strstr(mcs_error_message(), "damaged .npy header"), "%s: %s", rows[i].dict, mcs_error_message());
        cr_expect_eq(a.n_values, n < 0 ? 0 : n);
        mcs_npy_free(&a);
    }
    /* the longest names and types, and one character more: 23 and 15 characters */
    cr_expect_eq(parse(1, "{'descr':'<f4456789012345','fortran_order':False,'shape':(2,)}", 8, &a), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "values of type <f4456789012345,"), "%s", mcs_error_message());
    cr_expect_eq(parse(1, "{'descr':'<f44567890123456','fortran_order':False,'shape':(2,)}", 8, &a), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "damaged"), "%s", mcs_error_message());
    mcs_error_clear();
}

/* The header of numpy.save for one, three and eight dimensions: space for a first size of 21 digits, then padding to a
 * multiple of 64. */
Test(npy, written_headers)
{
    static const struct {
        int nd;
        int64_t dims[8];
        const char *shape;
        int header;
    } rows[] = {{0, {0}, "()", 128},
                {1, {3}, "(3,)", 128},
                {3, {1, 20, 3}, "(1, 20, 3)", 128},
                {8, {1, 1, 1, 1, 1, 1, 1, 2}, "(1, 1, 1, 1, 1, 1, 1, 2)", 128},
                {4, {0, 5, 1000, 2000000000}, "(0, 5, 1000, 2000000000)", 128},
                {8, {1000000000, 0, 100, 1, 1, 1, 1, 1}, "(1000000000, 0, 100, 1, 1, 1, 1, 1)", 128}};
    float x[60];
    char want[160];
    for (int i = 0; i < 60; i++) x[i] = (float)i;
    for (int i = 0; i < 6; i++) {
        char *bytes;
        int64_t n, n_values = mcs_array_count(rows[i].nd, rows[i].dims);
        cr_assert_eq(mcs_npy_write(path, x, rows[i].nd, rows[i].dims), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_file_read(path, 1 << 16, &bytes, &n), MCS_OK);
        cr_expect_eq(n, rows[i].header + 4 * n_values, "row %d: %d bytes", i, (int)n);
        snprintf(want, sizeof want, "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }", rows[i].shape);
        cr_expect_eq(memcmp(bytes, "\x93NUMPY\1\0", 8), 0);
        cr_expect_eq((uint8_t)bytes[8], rows[i].header - 10);
        cr_expect_eq(bytes[9], 0);
        cr_expect_eq(memcmp(bytes + 10, want, strlen(want)), 0, "%.120s", bytes + 10);
        for (size_t k = 10 + strlen(want); k < (size_t)rows[i].header; k++)
            cr_expect_eq(bytes[k], k + 1 < (size_t)rows[i].header ? ' ' : '\n');
        cr_expect_eq(memcmp(bytes + rows[i].header, x, (size_t)n_values * 4), 0);
        free(bytes);
    }
    cr_expect_eq(mcs_npy_write(path, x, 9, rows[4].dims), MCS_E_SHAPE);
    mcs_error_clear();
    cr_expect_eq(mcs_npy_write("/proc/none/x.npy", x, 1, rows[1].dims), MCS_E_IO);
    mcs_error_clear();
}
