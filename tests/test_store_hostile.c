/* HDF5 files made to do harm: sizes that overflow, files that point outside themselves, memory bombs, damage that
 * libhdf5 does not survive. The files are made here, those that mcs_store_put never writes through libhdf5 itself. */
#include "data/bounds.h"
#include "data/file.h"
#include "data/store.h"
#include "infer/clip_model.h"
#include "infer/probability.h"
#include "tests/support_tiny.h"

#include <criterion/criterion.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;

static void setup(void)
{
    folder = tiny_folder("hostile");
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(store_hostile, .init = setup, .fini = teardown, .timeout = 120);

static const char *at(const char *name)
{
    return tiny_path(folder, "%s", name);
}

static void fails(enum mcs_status st, enum mcs_status want, const char *word)
{
    cr_assert_eq(st, want, "status %d, want %d: %s", st, want, mcs_error_message());
    cr_assert(strstr(mcs_error_message(), word), "no '%s' in: %s", word, mcs_error_message());
    mcs_error_clear();
}

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

/* probabilities (2, nz, 2, 3): 0.25 and 0.75, with notes. */
static void put_probabilities(const char *name, int nz, double is_volume, double spacing_z)
{
    const int64_t dims[] = {2, nz, 2, 3};
    struct store *s;
    float *values = malloc((size_t)nz * 12 * sizeof *values);
    cr_assert(values);
    for (int i = 0; i < nz * 12; i++) values[i] = i < nz * 6 ? 0.25f : 0.75f;
    OK(mcs_store_create(at(name), &s));
    OK(mcs_store_put(s, "probabilities", MCS_ARRAY_F32, 4, dims, values));
    OK(mcs_store_put_number(s, "is_volume", is_volume));
    OK(mcs_store_put_number(s, "spacing_z", spacing_z));
    OK(mcs_store_commit(s));
    free(values);
}

/* Each of 100 slices beyond the first would be written past the end of a PNG's pixels. */
Test(store_hostile, several_slices_are_a_volume_whatever_the_file_says)
{
    struct probability p;
    struct volume v;
    put_probabilities("a.h5", 100, 0, 2.5);
    OK(mcs_probability_read(at("a.h5"), &p));
    cr_expect_eq(p.is_volume, 1);
    p.is_volume = 0; /* and once more where it is written */
    uint8_t *labels = calloc(600, 1);
    cr_assert(labels);
    labels[599] = 1;
    OK(mcs_probability_write_mask(folder, "a", &p, labels, NULL));
    cr_assert(mcs_file_exists(at("a.nii.gz")) && !mcs_file_exists(at("a.png")));
    OK(mcs_volume_read(at("a.nii.gz"), &v));
    cr_expect(v.nz == 100 && v.values[599] == 1 && v.values[598] == 0 && v.spacing[2] == 2.5f);
    struct uncertainty_row row;
    OK(mcs_probability_write_entropy(folder, "a", &p, NULL, labels, MCS_PAPER, &row));
    cr_expect(mcs_file_exists(at("a_entropy.h5")) && !mcs_file_exists(at("a_entropy.png")));
    struct volume other = v;
    other.nz = 99;
    fails(mcs_probability_write_mask(folder, "b", &p, labels, &other), MCS_E_SHAPE, "3 x 2 x 99");
    mcs_volume_free(&v);
    mcs_probability_free(&p);
    free(labels);

    put_probabilities("flat.h5", 1, 0, 1);
    OK(mcs_probability_read(at("flat.h5"), &p));
    cr_expect_eq(p.is_volume, 0);
    mcs_probability_free(&p);
    put_probabilities("flat_volume.h5", 1, 1, 1);
    OK(mcs_probability_read(at("flat_volume.h5"), &p));
    cr_expect_eq(p.is_volume, 1);
    mcs_probability_free(&p);
    put_probabilities("spacing.h5", 3, 1, -2);
    fails(mcs_probability_read(at("spacing.h5"), &p), MCS_E_DATA, "spacing_z is -2");
}

Test(store_hostile, ensemble_writes_no_png_of_several_slices)
{
    tiny_shell("mkdir %s", at("in"));
    put_probabilities("in/a.h5", 100, 0, 1);
    const int rc = tiny_wait(
        tiny_spawn(MCS_BINARY, folder, (const char *const[]){"ensemble", "-i", "in", "-o", "out", NULL}, NULL));
    cr_expect_eq(rc, 0, "exit %d: %s", rc, tiny_log(folder));
    cr_expect(mcs_file_exists(at("out/a.nii.gz")) && !mcs_file_exists(at("out/a.png")));
}

/* A chunked dataset of these sizes of which only the last chunk is stored: n_bytes of no use. HDF5 fills the rest. */
static void put_sparse(const char *name, const char *dataset, int nd, const hsize_t *dims, const hsize_t *chunk,
                       size_t n_bytes)
{
    hsize_t last[6];
    char *garbage = calloc(n_bytes, 1);
    cr_assert(garbage);
    const hid_t file = H5Fcreate(at(name), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
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

/* 2^32 + 1 slices, of which a cast makes 1; 34 MB are stored so that the sizes are possible by deflate's best ratio. */
Test(store_hostile, a_dimension_above_int_is_refused)
{
    struct probability p;
    const hsize_t dims[] = {2, ((hsize_t)1 << 32) + 1, 1, 1}, chunk[] = {1, 1 << 20, 1, 1};
    put_sparse("a.h5", "probabilities", 4, dims, chunk, 34 << 20);
    fails(mcs_probability_read(at("a.h5"), &p), MCS_E_DATA, "(2, 4294967297, 1, 1)");
}

Test(store_hostile, a_note_longer_than_its_buffer_is_refused)
{
    struct store *s;
    char small[16];
    OK(mcs_store_create(at("a.h5"), &s));
    OK(mcs_store_put_text(s, "config", "sixteen bytes...."));
    OK(mcs_store_commit(s));
    OK(mcs_store_open(at("a.h5"), &s));
    fails(mcs_store_get_text(s, "config", small, sizeof small), MCS_E_DATA, "17 bytes");
    mcs_store_close(s);
}

/* embed_dim 2^32 + 16 would be taken for 16. */
Test(store_hostile, a_model_size_above_int_is_refused)
{
    struct clip_model m;
    static const char config[] = "{\"model_cfg\": {\"embed_dim\": 4294967312, \"vision_cfg\": {}, \"text_cfg\": {}}}";
    OK(mcs_file_write(at("open_clip_config.json"), config, sizeof config - 1));
    OK(mcs_file_write(at("model.safetensors"), "x", 1));
    fails(mcs_clip_model_open(folder, NULL, &m), MCS_E_DATA, "a size of 2147483647");
}
