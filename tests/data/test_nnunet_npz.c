/* .npz and pickles for nnunetv2. The pickle's bytes were read back by Python once: {"a": (1, [2.5, -3]), (1, 2):
 * array}. */
#include "data/io/file.h"
#include "data/io/gzip.h"
#include "data/nnunet/nnunet_npz.h"
#include "data/weights/zip.h"
#include "tests/support/support_folder.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void setup(void)
{
    test_folder_open("npz");
}
TestSuite(nnunet_npz, .init = setup, .fini = test_folder_close);

Test(nnunet_npz, archive_of_npy_files)
{
    const float data[6] = {1, -2, 3, 4, 5, 6.5f};
    const int16_t seg[3] = {-1, 0, 300};
    const struct npz_array arrays[] = {{"data", MCS_ARRAY_F32, 3, {1, 2, 3}, data},
                                       {"seg", MCS_ARRAY_I16, 1, {3}, seg}};
    struct arena arena = {0};
    struct zip_directory zip;
    char *bytes;
    int64_t n;
    OK(mcs_npz_write(in_folder("a.npz"), 2, arrays));
    OK(mcs_file_read(in_folder("a.npz"), 1 << 20, &bytes, &n));
    const int fd = open(in_folder("a.npz"), O_RDONLY);
    OK(mcs_zip_read(fd, "a.npz", n, &arena, &zip));
    close(fd);
    cr_assert_eq(zip.n, 2);
    const struct zip_entry *a = mcs_zip_find(&zip, "data.npy"), *b = mcs_zip_find(&zip, "seg.npy");
    cr_assert(a && b && a->n_bytes == 128 + 24 && b->n_bytes == 128 + 6);
    cr_assert_eq(a->crc, mcs_crc32(0, bytes + a->at, a->n_bytes));
    cr_assert_eq(b->crc, mcs_crc32(0, bytes + b->at, b->n_bytes));
    cr_assert_eq(
        memcmp(bytes + a->at, "\x93NUMPY\1\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", 72), 0);
    cr_assert(strstr(bytes + b->at + 10, "'<i2', 'fortran_order': False, 'shape': (3,), }"));
    cr_assert_eq(memcmp(bytes + a->at + 128, data, sizeof data), 0);
    cr_assert_eq(memcmp(bytes + b->at + 128, seg, sizeof seg), 0);
    cr_assert_eq(bytes[a->at + 127], '\n');
    mcs_arena_free(&arena);
    free(bytes);
    fails_with(mcs_npz_write(in_folder("b.npz"), 1, &(struct npz_array){"x", MCS_ARRAY_F64, 1, {1}, data}), MCS_E_USAGE,
               "F64");
    fails_with(mcs_npz_write(in_folder("no/b.npz"), 1, arrays), MCS_E_IO, "no/b.npz");
}

Test(nnunet_npz, pickle)
{
    static const char want[] = "\x80\x03}(X\1\0\0\0a(J\1\0\0\0](G\x40\4\0\0\0\0\0\0J\xfd\xff\xff\xff"
                               "et(J\1\0\0\0J\2\0\0\0tcnumpy\nndarray\n((J\1\0\0\0J\2\0\0\0tX\3\0\0\0<i8B\x10\0\0\0"
                               "\5\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xfftRu.";
    struct pickle_out p;
    char *bytes;
    int64_t n;
    OK(mcs_pickle_begin(&p));
    mcs_pickle_open(&p, '{');
    mcs_pickle_put_text(&p, "a");
    mcs_pickle_open(&p, '(');
    mcs_pickle_put_int(&p, 1);
    mcs_pickle_open(&p, '[');
    mcs_pickle_put_real(&p, 2.5);
    mcs_pickle_put_int(&p, -3);
    mcs_pickle_close(&p, '[');
    mcs_pickle_close(&p, '(');
    mcs_pickle_open(&p, '(');
    mcs_pickle_put_int(&p, 1);
    mcs_pickle_put_int(&p, 2);
    mcs_pickle_close(&p, '(');
    mcs_pickle_put_array(&p, MCS_ARRAY_I64, 2, (const int64_t[]){1, 2}, (const int64_t[]){5, -1});
    mcs_pickle_close(&p, '{');
    OK(mcs_pickle_end(&p, in_folder("a.pkl")));
    OK(mcs_file_read(in_folder("a.pkl"), 1 << 20, &bytes, &n));
    cr_assert_eq(n, (int64_t)sizeof want - 1);
    cr_assert_arr_eq(bytes, want, sizeof want - 1);
    free(bytes);
    OK(mcs_pickle_begin(&p));
    OK(mcs_pickle_end(&p, NULL));
}
