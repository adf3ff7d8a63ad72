/* HDF5 files that need far more memory than their size: refused before allocation, or by the limit of the helper
 * program. */
#include "data/io/file.h"
#include "data/io/store.h"
#include "engine/base/memory.h"
#include "infer/unet/probability.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <hdf5.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void setup(void)
{
    test_folder_open("memory");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

TestSuite(store_memory, .init = setup, .fini = test_folder_close, .timeout = 120);

static hid_t create(const char *name)
{
    const hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert(file >= 0);
    return file;
}

static void put_good(const char *name)
{
    static const float x[2] = {0.25f, 0.75f};
    struct store *s;
    OK(mcs_store_create(in_folder(name), &s));
    OK(mcs_store_put(s, "probabilities", MCS_ARRAY_F32, 4, (int64_t[]){2, 1, 1, 1}, x));
    OK(mcs_store_commit(s));
}

/* Zeros that are 1000 times smaller in the file than in memory, in chunks of 16 MiB. */
static void put_bomb(const char *name, hsize_t n_chunks)
{
    const hsize_t chunk[4] = {1, 1, 1 << 11, 1 << 11}, dims[4] = {2, n_chunks / 2, 1 << 11, 1 << 11};
    float *zeros = calloc((size_t)1 << 22, sizeof *zeros);
    const hid_t file = create(name), properties = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(4, dims, NULL);
    H5Pset_chunk(properties, 4, chunk);
    H5Pset_deflate(properties, 1);
    const hid_t set = H5Dcreate2(file, "probabilities", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    cr_assert(set >= 0 && zeros);
    /* The library compresses the first chunk; the others are copies of it. */
    const hid_t part = H5Scopy(space), memory = H5Screate_simple(4, chunk, NULL);
    hsize_t first[4] = {0}, packed_bytes;
    H5Sselect_hyperslab(part, H5S_SELECT_SET, first, NULL, chunk, NULL);
    cr_assert(H5Dwrite(set, H5T_NATIVE_FLOAT, memory, part, H5P_DEFAULT, zeros) >= 0);
    H5Fflush(file, H5F_SCOPE_LOCAL);
    cr_assert(H5Dget_chunk_storage_size(set, first, &packed_bytes) >= 0);
    uint32_t filters = 0;
    cr_assert(H5Dread_chunk(set, H5P_DEFAULT, first, &filters, zeros) >= 0);
    for (hsize_t i = 1; i < n_chunks; i++) {
        const hsize_t to[4] = {i / (n_chunks / 2), i % (n_chunks / 2), 0, 0};
        cr_assert(H5Dwrite_chunk(set, H5P_DEFAULT, 0, to, packed_bytes, zeros) >= 0);
    }
    H5Sclose(memory);
    H5Sclose(part);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(properties);
    H5Fclose(file);
    free(zeros);
}

/* A chunk that needs more than the helper's first limit of 128 MiB to decompress. */
Test(store_memory, large_chunks_are_read)
{
    const int64_t shape[1] = {40 << 20};
    const hsize_t dims[1] = {40 << 20};
    struct store *s;
    float *x = calloc((size_t)dims[0], sizeof *x);
    const hid_t file = create("a.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(1, dims, NULL);
    H5Pset_chunk(properties, 1, dims);
    H5Pset_deflate(properties, 1);
    const hid_t set = H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    cr_assert(set >= 0 && x);
    x[dims[0] - 1] = 5;
    cr_assert(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    x[dims[0] - 1] = 0;
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(properties);
    H5Fclose(file);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    OK(mcs_store_get(s, "x", MCS_ARRAY_F32, 1, shape, x));
    cr_expect(x[0] == 0 && x[dims[0] - 1] == 5);
    mcs_store_close(s);
    free(x);
}

static int64_t peak_bytes(int who)
{
    struct rusage used;
    getrusage(who, &used);
    return (int64_t)used.ru_maxrss * 1024;
}

/* 3.5 GiB in a file of a few MB are refused before memory is allocated, failing only this case. */
Test(store_memory, a_bomb_is_refused_before_it_takes_memory)
{
    struct probability p;
    struct stat about;
    tiny_shell("mkdir %s", in_folder("in"));
    put_bomb("in/bomb.h5", 224);
    put_good("in/good.h5");
    cr_assert(stat(in_folder("in/bomb.h5"), &about) == 0 && about.st_size < 20 << 20);
    const int64_t before = peak_bytes(RUSAGE_SELF);
    mcs_memory_limit_set((int64_t)1 << 30);
    fails_with(mcs_probability_read(in_folder("in/bomb.h5"), &p), MCS_E_DATA,
               "dataset probabilities: 939524096 values: needs 7.0 GiB of memory, --max-memory allows 1.0 GiB");
    cr_expect(peak_bytes(RUSAGE_SELF) - before < 64 << 20);
    cr_expect(peak_bytes(RUSAGE_CHILDREN) < 512 << 20);
    const int rc = tiny_wait(tiny_spawn(
        MCS_BINARY, test_folder,
        (const char *const[]){"ensemble", "-i", "in", "-o", "out", "--max-memory", "1G", "--threads", "1", NULL},
        NULL));
    cr_expect_eq(rc, 3, "exit %d: %s", rc, tiny_log(test_folder));
    cr_expect(mcs_file_exists(in_folder("out/good.png")) && !mcs_file_exists(in_folder("out/bomb.nii.gz")));
}

#ifndef MCS_SANITIZE /* with the address sanitizer the helper has no memory limit */
/* A chunk that claims 16 bytes and decompresses to 384 MiB: libhdf5's buffer grows with it, in the helper and only up
 * to its limit. */
Test(store_memory, a_chunk_that_unpacks_to_more_than_it_says_is_refused)
{
    const int64_t shape[1] = {1 << 14};
    const hsize_t dims[1] = {1 << 14}, large[1] = {(hsize_t)192 << 20};
    static float x[1 << 14];
    struct store *s;
    hid_t file = create("large.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
    hid_t space = H5Screate_simple(1, large, NULL);
    H5Pset_chunk(properties, 1, large);
    H5Pset_deflate(properties, 1);
    hid_t set = H5Dcreate2(file, "x", H5T_STD_U8LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    uint8_t *zeros = calloc((size_t)large[0], 1);
    cr_assert(zeros && H5Dwrite(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
    H5Fflush(file, H5F_SCOPE_LOCAL);
    hsize_t first[1] = {0}, packed_bytes;
    uint32_t filters;
    cr_assert(H5Dget_chunk_storage_size(set, first, &packed_bytes) >= 0 && packed_bytes < 4 << 20);
    cr_assert(H5Dread_chunk(set, H5P_DEFAULT, first, &filters, zeros) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(file);
    file = create("a.h5");
    space = H5Screate_simple(1, dims, NULL);
    H5Pset_chunk(properties, 1, dims);
    set = H5Dcreate2(file, "x", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    cr_assert(H5Dwrite_chunk(set, H5P_DEFAULT, 0, first, packed_bytes, zeros) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(properties);
    H5Fclose(file);
    free(zeros);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    fails_with(mcs_store_get(s, "x", MCS_ARRAY_F32, 1, shape, x), MCS_E_DATA, "a.h5: ");
    mcs_store_close(s);
}
#endif
