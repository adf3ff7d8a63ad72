/* Malicious HDF5 files: sizes that overflow, and references to other files. The files are made here, by libhdf5 where
 * mcs_store_put never writes such. Memory: test_store_memory.c; damage: test_store_helper.c. */
#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/hdf5_library.h"
#include "data/io/hdf5_read.h"
#include "data/io/store.h"
#include "engine/base/memory.h"
#include "infer/clip/clip_model.h"
#include "infer/unet/probability.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static void setup(void)
{
    test_folder_open("hostile");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

TestSuite(store_hostile, .init = setup, .fini = test_folder_close, .timeout = 120);

/* ---- sizes ---- */

Test(store_hostile, sizes_are_checked_before_casts_and_products)
{
    int v = 7, three[3];
    const int64_t wraps = ((int64_t)1 << 32) + 1; /* becomes 1 by a cast to int */
    cr_expect_eq(mcs_size_mul(3, 4), 12);
    cr_expect_eq(mcs_size_mul(INT64_MAX, 1), INT64_MAX);
    cr_expect_eq(mcs_size_mul((int64_t)1 << 32, (int64_t)1 << 31), -1);
    cr_expect_eq(mcs_size_mul(-2, 3), -1);
    cr_expect_eq(mcs_size_mul(3, -2), -1);
    cr_expect_eq(mcs_size_mul(mcs_size_mul(INT64_MAX, 2), 0), -1, "an overflow stays one");
    cr_expect_not(mcs_size_to_int(wraps, 1, INT_MAX, &v));
    cr_expect_not(mcs_size_to_int(0, 1, INT_MAX, &v));
    cr_expect_eq(v, 7);
    cr_expect(mcs_size_to_int(INT_MAX, 1, INT_MAX, &v) && v == INT_MAX);
    cr_expect(mcs_size_to_int(1, 1, 5, &v) && v == 1);
    cr_expect(mcs_sizes_to_int(3, (int64_t[]){2, 3, INT_MAX}, three) && three[2] == INT_MAX);
    cr_expect_not(mcs_sizes_to_int(3, (int64_t[]){2, 3, wraps}, three));
    cr_expect_not(mcs_sizes_to_int(3, (int64_t[]){2, 0, 3}, three));
}

/* probabilities (2, nz, 2, 3): 0.25 and 0.75, with attributes. */
static void put_probabilities(const char *name, int nz, double is_volume, double spacing_z)
{
    const int64_t dims[] = {2, nz, 2, 3};
    struct store *s;
    float *values = malloc((size_t)nz * 12 * sizeof *values);
    cr_assert(values);
    for (int i = 0; i < nz * 12; i++) values[i] = i < nz * 6 ? 0.25f : 0.75f;
    OK(mcs_store_create(in_folder(name), &s));
    OK(mcs_store_put(s, "probabilities", MCS_ARRAY_F32, 4, dims, values));
    OK(mcs_store_put_number(s, "is_volume", is_volume));
    OK(mcs_store_put_number(s, "spacing_z", spacing_z));
    OK(mcs_store_commit(s));
    free(values);
}

/* Each of 100 slices after the first would be written past the end of a PNG's pixels. */
Test(store_hostile, several_slices_are_a_volume_whatever_the_file_says)
{
    struct probability p;
    struct volume v;
    put_probabilities("a.h5", 100, 0, 2.5);
    OK(mcs_probability_read(in_folder("a.h5"), &p));
    cr_expect_eq(p.is_volume, 1);
    p.is_volume = 0; /* and again where it is written */
    uint8_t *labels = calloc(600, 1);
    cr_assert(labels);
    labels[599] = 1;
    OK(mcs_probability_write_mask(test_folder, "a", &p, labels, NULL));
    cr_assert(mcs_file_exists(in_folder("a.nii.gz")) && !mcs_file_exists(in_folder("a.png")));
    OK(mcs_volume_read(in_folder("a.nii.gz"), &v));
    cr_expect(v.nz == 100 && v.values[599] == 1 && v.values[598] == 0 && v.spacing[2] == 2.5f);
    struct uncertainty_row row;
    OK(mcs_probability_write_entropy(test_folder, "a", &p, NULL, labels, MCS_PAPER, &row));
    cr_expect(mcs_file_exists(in_folder("a_entropy.h5")) && !mcs_file_exists(in_folder("a_entropy.png")));
    struct volume other = v;
    other.nz = 99;
    fails_with(mcs_probability_write_mask(test_folder, "b", &p, labels, &other), MCS_E_SHAPE, "3 x 2 x 99");
    mcs_volume_free(&v);
    mcs_probability_free(&p);
    free(labels);

    put_probabilities("flat.h5", 1, 0, 1);
    OK(mcs_probability_read(in_folder("flat.h5"), &p));
    cr_expect_eq(p.is_volume, 0);
    mcs_probability_free(&p);
    put_probabilities("flat_volume.h5", 1, 1, 1);
    OK(mcs_probability_read(in_folder("flat_volume.h5"), &p));
    cr_expect_eq(p.is_volume, 1);
    mcs_probability_free(&p);
    put_probabilities("spacing.h5", 3, 1, -2);
    fails_with(mcs_probability_read(in_folder("spacing.h5"), &p), MCS_E_DATA, "spacing_z is -2");
}

Test(store_hostile, ensemble_writes_no_png_of_several_slices)
{
    tiny_shell("mkdir %s", in_folder("in"));
    put_probabilities("in/a.h5", 100, 0, 1);
    const int rc = tiny_wait(
        tiny_spawn(MCS_BINARY, test_folder, (const char *const[]){"ensemble", "-i", "in", "-o", "out", NULL}, NULL));
    cr_expect_eq(rc, 0, "exit %d: %s", rc, tiny_log(test_folder));
    cr_expect(mcs_file_exists(in_folder("out/a.nii.gz")) && !mcs_file_exists(in_folder("out/a.png")));
}

/* A chunked dataset of these sizes of which only the last chunk is stored, with n_bytes of meaningless data. HDF5 fills
 * the rest. */
static void put_sparse(const char *name, const char *dataset, int nd, const hsize_t *dims, const hsize_t *chunk,
                       size_t n_bytes)
{
    hsize_t last[6];
    char *garbage = calloc(n_bytes, 1);
    cr_assert(garbage);
    const hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(nd, dims, NULL);
    H5Pset_chunk(properties, nd, chunk);
    H5Pset_deflate(properties, 9);
    const hid_t set = H5Dcreate2(file, dataset, H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    cr_assert(set >= 0);
    for (int i = 0; i < nd; i++) last[i] = (dims[i] - 1) / chunk[i] * chunk[i];
    cr_assert(H5Dwrite_chunk(set, H5P_DEFAULT, 0, last, n_bytes, garbage) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(properties);
    H5Fclose(file);
    free(garbage);
}

/* 2^32 + 1 slices, which a cast turns into 1; 34 MB are stored so that the sizes are possible by deflate's best ratio.
 */
Test(store_hostile, a_dimension_above_int_is_refused)
{
    struct probability p;
    const hsize_t dims[] = {2, ((hsize_t)1 << 32) + 1, 1, 1}, chunk[] = {1, 1 << 20, 1, 1};
    put_sparse("a.h5", "probabilities", 4, dims, chunk, 34 << 20);
    mcs_memory_limit_set((int64_t)1 << 60); /* else it is refused because of its memory */
    fails_with(mcs_probability_read(in_folder("a.h5"), &p), MCS_E_DATA, "(2, 4294967297, 1, 1)");
}

/* ---- values and names outside the file ---- */

static hid_t create(const char *name)
{
    const hid_t file = H5Fcreate(in_folder(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert(file >= 0);
    return file;
}

static void put_floats(hid_t file, const char *name, hid_t properties, int write)
{
    static const float x[4] = {1, 2, 3, 4};
    const hsize_t dims[1] = {4};
    const hid_t space = H5Screate_simple(1, dims, NULL);
    const hid_t set = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    cr_assert(set >= 0);
    if (write) cr_assert(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, x) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

/* Info and values of a dataset must be refused with these words, also by the reader in this process. */
static void refused(const char *file, const char *dataset, const char *word)
{
    const int64_t four[1] = {4};
    struct store_info info;
    struct store *s;
    float x[4];
    OK(mcs_store_open(in_folder(file), &s));
    fails_with(mcs_store_get_info(s, dataset, &info), MCS_E_DATA, word);
    fails_with(mcs_store_get(s, dataset, MCS_ARRAY_F32, 1, four, x), MCS_E_DATA, word);
    mcs_store_close(s);
    struct hdf5_file *f;
    const int fd = open(in_folder(file), O_RDONLY);
    OK(mcs_hdf5_open(fd, "it", &f));
    fails_with(mcs_hdf5_get(f, dataset, MCS_ARRAY_F32, 1, four, x), MCS_E_DATA, word);
    mcs_hdf5_close(f);
    close(fd);
}

static void read_four(const char *file, const char *dataset)
{
    const int64_t four[1] = {4};
    struct store *s;
    float x[4] = {0};
    OK(mcs_store_open(in_folder(file), &s));
    OK(mcs_store_get(s, dataset, MCS_ARRAY_F32, 1, four, x));
    cr_expect(x[0] == 1 && x[3] == 4);
    mcs_store_close(s);
}

/* Exit code 65 and one line with the words, by the program; so `diff` shows nothing of another file. */
static void diff_refuses(const char *file, const char *word)
{
    const int rc = tiny_wait(
        tiny_spawn(MCS_BINARY, test_folder, (const char *const[]){"diff", file, file, "--quiet", NULL}, NULL));
    cr_expect_eq(rc, 65, "exit %d: %s", rc, tiny_log(test_folder));
    cr_expect(strstr(tiny_log(test_folder), word), "no '%s' in: %s", word, tiny_log(test_folder));
}

Test(store_hostile, external_storage_is_not_opened)
{
    const hid_t file = create("a.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(properties, "/etc/passwd", 0, 16);
    put_floats(file, "probabilities", properties, 0);
    H5Pclose(properties);
    H5Fclose(file);
    refused("a.h5", "probabilities", "dataset probabilities has external storage: its values lie in /etc/passwd");
    diff_refuses("a.h5", "external storage");
}

Test(store_hostile, virtual_datasets_are_not_opened)
{
    hid_t file = create("source.h5");
    const hsize_t dims[1] = {4};
    put_floats(file, "x", H5P_DEFAULT, 1);
    H5Fclose(file);
    file = create("a.h5");
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, dims, NULL);
    cr_assert(H5Pset_virtual(properties, space, in_folder("source.h5"), "x", space) >= 0);
    put_floats(file, "v", properties, 0);
    H5Sclose(space);
    H5Pclose(properties);
    H5Fclose(file);
    refused("a.h5", "v", "dataset v is a virtual dataset");
    diff_refuses("a.h5", "virtual dataset");
}

Test(store_hostile, external_links_are_not_followed)
{
    hid_t file = create("source.h5");
    H5Gclose(H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    put_floats(file, "g/x", H5P_DEFAULT, 1);
    H5Fclose(file);
    file = create("a.h5");
    put_floats(file, "inside", H5P_DEFAULT, 1);
    H5Lcreate_external(in_folder("source.h5"), "/g/x", file, "x", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_external(in_folder("source.h5"), "/g", file, "group", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/group/x", file, "soft", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    read_four("a.h5", "inside");
    refused("a.h5", "x", "x is a link into another file");
    refused("a.h5", "group/x", "dataset group/x: group is a link into another file");
    refused("a.h5", "soft", "group is a link into another file");
    refused("a.h5", "x", "source.h5");
    diff_refuses("a.h5", "is a link into another file");
}

/* The file driver must refuse paths that the checks of names and layouts miss. */
Test(store_hostile, the_file_driver_opens_one_file)
{
    hid_t file = create("source.h5");
    put_floats(file, "x", H5P_DEFAULT, 1);
    H5Fclose(file);
    file = create("a.h5");
    put_floats(file, "inside", H5P_DEFAULT, 1);
    H5Lcreate_external(in_folder("source.h5"), "/x", file, "x", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
    const int fd = open(in_folder("a.h5"), O_RDONLY);
    struct stat about;
    int opens = 0;
    cr_assert(fd >= 0 && fstat(fd, &about) == 0);
    const hid_t access = mcs_hdf5_fd_access(fd, (int64_t)about.st_size, &opens);
    file = H5Fopen("any name", H5F_ACC_RDONLY, access);
    cr_assert(file >= 0);
    const hid_t set = H5Dopen2(file, "inside", H5P_DEFAULT);
    cr_expect(set >= 0);
    cr_expect(H5Dopen2(file, "x", H5P_DEFAULT) < 0);
    cr_expect(H5Fopen("any name", H5F_ACC_RDONLY, access) < 0);
    H5Dclose(set);
    H5Fclose(file);
    H5Pclose(access);
    close(fd);
}

Test(store_hostile, soft_links_inside_the_file_are_followed)
{
    const hid_t file = create("a.h5");
    char name[16], target[16];
    H5Gclose(H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    put_floats(file, "g/x", H5P_DEFAULT, 1);
    H5Lcreate_soft("/g/x", file, "absolute", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("x", file, "g/relative", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("g", file, "folder", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("b", file, "a", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("a", file, "b", H5P_DEFAULT, H5P_DEFAULT);
    H5Lcreate_soft("/nothing", file, "dangling", H5P_DEFAULT, H5P_DEFAULT);
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "l%d", i);
        snprintf(target, sizeof target, "l%d", i + 1);
        H5Lcreate_soft(i < 19 ? target : "g/x", file, name, H5P_DEFAULT, H5P_DEFAULT);
    }
    H5Fclose(file);
    read_four("a.h5", "absolute");
    read_four("a.h5", "g/relative");
    read_four("a.h5", "folder/relative");
    read_four("a.h5", "//folder/./x");
    read_four("a.h5", "l5");
    refused("a.h5", "a", "leads nowhere, or over more than 16");
    refused("a.h5", "l0", "leads nowhere, or over more than 16");
    refused("a.h5", "dangling", "no dataset dangling");
}

/* ---- filters, sizes and names ---- */

Test(store_hostile, filters_that_are_plugins_are_not_loaded)
{
    const hid_t file = create("a.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk[1] = {4};
    H5Pset_chunk(properties, 1, chunk);
    H5Pset_filter(properties, 32001, H5Z_FLAG_OPTIONAL, 0, NULL);
    put_floats(file, "x", properties, 1);
    H5Pclose(properties);
    H5Fclose(file);
    setenv("HDF5_PLUGIN_PATH", test_folder, 1);
    refused("a.h5", "x", "dataset x is stored with filter 32001");
}

Test(store_hostile, built_in_filters_are_read)
{
    const hid_t file = create("a.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t chunk[1] = {4};
    H5Pset_chunk(properties, 1, chunk);
    H5Pset_shuffle(properties);
    H5Pset_deflate(properties, 6);
    H5Pset_fletcher32(properties);
    put_floats(file, "x", properties, 1);
    H5Pclose(properties);
    H5Fclose(file);
    read_four("a.h5", "x");
}

Test(store_hostile, sizes_names_and_layouts_are_bounded)
{
    const hid_t file = create("a.h5"), properties = H5Pcreate(H5P_DATASET_CREATE);
    const hsize_t seven[7] = {1, 1, 1, 1, 1, 1, 4}, many[1] = {1 << 20}, chunk[1] = {(hsize_t)1 << 29};
    const hsize_t huge[1] = {(hsize_t)1 << 30}, texts[1] = {10000001};
    const hid_t early = H5Pcreate(H5P_DATASET_CREATE);
    char name[1200], **list;
    int n_texts;
    hid_t space = H5Screate_simple(7, seven, NULL);
    H5Dclose(H5Dcreate2(file, "seven", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
    space = H5Screate(H5S_NULL);
    H5Dclose(H5Dcreate2(file, "nothing", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
    space = H5Screate_simple(1, many, NULL);
    H5Dclose(H5Dcreate2(file, "unwritten", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
    space = H5Screate_simple(1, huge, NULL);
    H5Pset_chunk(properties, 1, chunk);
    H5Dclose(H5Dcreate2(file, "chunks", H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(properties);
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = 0;
    put_floats(file, name, H5P_DEFAULT, 1);
    space = H5Screate_simple(1, texts, NULL);
    H5Pset_alloc_time(early, H5D_ALLOC_TIME_EARLY);
    H5Dclose(H5Dcreate2(file, "texts", H5T_C_S1, space, H5P_DEFAULT, early, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(early);
    H5Fclose(file);
    struct store *s;
    OK(mcs_store_open(in_folder("a.h5"), &s));
    fails_with(mcs_store_get_texts(s, "texts", &n_texts, &list), MCS_E_DATA,
               "10000001 texts of 1 bytes; at most 10000000");
    mcs_store_close(s);
    refused("a.h5", "seven", "dataset seven has 7 dimensions");
    refused("a.h5", "nothing", "dataset nothing holds nothing");
    refused("a.h5", "unwritten", "1048576 values cannot lie in 0 bytes");
    refused("a.h5", "chunks", "chunks of more than 1 GiB");
    refused("a.h5", name, "name of 1199 bytes");
    diff_refuses("a.h5", "or a name of more than 1023 bytes");
}

/* A header changed to claim twice the values: the others would be the bytes that follow in the file. */
Test(store_hostile, more_values_than_bytes_are_refused)
{
    static const float x[77] = {0};
    const int64_t n = 77, twice = 154;
    struct store_info info;
    struct store *s;
    char *bytes;
    int64_t n_bytes, changed = 0;
    OK(mcs_store_create(in_folder("a.h5"), &s));
    OK(mcs_store_put(s, "x", MCS_ARRAY_F32, 1, &n, x));
    OK(mcs_store_commit(s));
    OK(mcs_file_read(in_folder("a.h5"), 1 << 20, &bytes, &n_bytes));
    for (int64_t i = 0; i + 8 <= n_bytes; i++)
        if (memcmp(bytes + i, &n, 8) == 0) memcpy(bytes + i, &twice, 8), changed++;
    cr_assert(changed > 0);
    OK(mcs_file_write(in_folder("a.h5"), bytes, n_bytes));
    free(bytes);
    OK(mcs_store_open(in_folder("a.h5"), &s));
    fails_with(mcs_store_get_info(s, "x", &info), MCS_E_DATA, "154 values cannot lie in 308 bytes");
    mcs_store_close(s);
}

Test(store_hostile, only_regular_files_are_read)
{
    struct store *s;
    cr_assert_eq(mkfifo(in_folder("pipe.h5"), 0600), 0);
    fails_with(mcs_store_open(in_folder("pipe.h5"), &s), MCS_E_IO, "is a named pipe, a file is needed");
    fails_with(mcs_store_open("/dev/zero", &s), MCS_E_IO, "is a device, a file is needed");
}

Test(store_hostile, a_note_longer_than_its_buffer_is_refused)
{
    struct store *s;
    char small[16];
    OK(mcs_store_create(in_folder("a.h5"), &s));
    OK(mcs_store_put_text(s, "config", "sixteen bytes...."));
    OK(mcs_store_commit(s));
    OK(mcs_store_open(in_folder("a.h5"), &s));
    fails_with(mcs_store_get_text(s, "config", small, sizeof small), MCS_E_DATA, "17 bytes");
    mcs_store_close(s);
}

/* embed_dim 2^32 + 16 would be read as 16. */
Test(store_hostile, a_model_size_above_int_is_refused)
{
    struct clip_model m;
    static const char config[] = "{\"model_cfg\": {\"embed_dim\": 4294967312, \"vision_cfg\": {}, \"text_cfg\": {}}}";
    OK(mcs_file_write(in_folder("open_clip_config.json"), config, sizeof config - 1));
    OK(mcs_file_write(in_folder("model.safetensors"), "x", 1));
    fails_with(mcs_clip_model_open(test_folder, NULL, &m), MCS_E_DATA, "a size of 2147483647");
}
