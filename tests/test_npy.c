/* .npy: numpy's own bytes, round trips, damage. */
#include "data/file.h"
#include "data/npy.h"

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
    cr_assert_eq(n, 128 + 24); /* numpy.save of such an array: a header of 128 bytes that ends its line */
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
