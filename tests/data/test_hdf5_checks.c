/* data/io/hdf5_checks.c called directly on files in memory: how soft links are resolved, at the limits of length and
 * number; chunks at their largest; each layout and filter that is taken or refused. And how a store's texts are
 * stored, seen by the HDF5 library. */
#include "data/io/hdf5_library.h"
#include "data/io/store.h"

#include <criterion/criterion.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

enum { PATH_MOST = 2047, LINKS_MOST = 16 };

static hid_t file;

static void setup(void)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5Pset_fapl_core(access, 1 << 16, 0);
    H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST); /* long links */
    file = H5Fcreate("in memory", H5F_ACC_TRUNC, H5P_DEFAULT, access);
    cr_assert(file >= 0);
    H5Pclose(access);
}

static void teardown(void)
{
    H5Fclose(file);
}
TestSuite(hdf5_checks, .init = setup, .fini = teardown, .timeout = 60);

static void group(const char *name)
{
    const hid_t g = H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert(g >= 0, "%s", name);
    H5Gclose(g);
}

/* A dataset of nd dimensions of `size` values each. */
static hid_t dataset(const char *name, int nd, hsize_t size, hid_t properties)
{
    hsize_t dims[H5S_MAX_RANK];
    for (int i = 0; i < nd; i++) dims[i] = size;
    const hid_t space = H5Screate_simple(nd, dims, NULL),
                set = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, H5P_DEFAULT, properties, H5P_DEFAULT);
    cr_assert(set >= 0, "%s", name);
    H5Sclose(space);
    return set;
}

static void soft(const char *name, const char *target)
{
    cr_assert(H5Lcreate_soft(target, file, name, H5P_DEFAULT, H5P_DEFAULT) >= 0, "%s", name);
}

static void found(const char *name)
{
    const enum mcs_status st = mcs_hdf5_check_path("f", file, name);
    cr_expect_eq(st, MCS_OK, "%.60s: %s", name, mcs_error_message());
    mcs_error_clear();
}

static void refused(enum mcs_status st, const char *what, const char *part)
{
    cr_expect_eq(st, MCS_E_DATA, "%.60s: status %d", what, (int)st);
    cr_expect(strncmp(mcs_error_message(), "f: ", 3) == 0 && strstr(mcs_error_message(), part),
              "%.60s: want '%s' in: %s", what, part, mcs_error_message());
    mcs_error_clear();
}
#define REFUSED(name, part) refused(mcs_hdf5_check_path("f", file, name), name, part)

/* ---- soft links ---- */

Test(hdf5_checks, where_soft_links_lead)
{
    group("g"), group("g/h"), group("other");
    H5Dclose(dataset("g/h/x", 1, 4, H5P_DEFAULT));
    H5Dclose(dataset("y", 1, 4, H5P_DEFAULT));
    soft("g/h/up", "/y");
    soft("g/h/near", "x");
    soft("g/down", "h/x");
    soft("g/wrong", "x"); /* relative to its own group, which has no x */
    soft("to_h", "g/h");
    soft("other/back", "/g");
    soft("other/chain", "back/h"); /* by a link of the same group */
    soft("other/y", "y");          /* itself */
    soft("slashes", "//g//h/./x");
    static const char *const good[] = {"y",
                                       "/y",
                                       "g/h/x",
                                       "/g/h/x",
                                       "//g///h//x/",
                                       "./y",
                                       "g/./h/x",
                                       "g/h/up",
                                       "g/h/near",
                                       "g/down",
                                       "to_h/x",
                                       "to_h/near",
                                       "to_h/up",
                                       "other/back/h/x",
                                       "other/chain/x",
                                       "other/chain/near",
                                       "slashes",
                                       "g",
                                       "/",
                                       "."};
    static const char *const bad[] = {"x", "g/x", "g/wrong", "other/back/x", "to_h/y", "to_h/x2", "g/h/xx", "g/hh/x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) found(good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char want[64];
        snprintf(want, sizeof want, "f: no dataset %s", bad[i]);
        REFUSED(bad[i], want);
    }
    REFUSED("other/y", "dataset other/y: other/y is a soft link that leads nowhere, or over more than 16 others");
    REFUSED("", "a dataset's name of 0 bytes");
}

Test(hdf5_checks, how_many_soft_links)
{
    char name[16], target[16];
    H5Dclose(dataset("l0", 1, 4, H5P_DEFAULT));
    for (int i = 1; i <= LINKS_MOST + 1; i++) { /* link number i leads over i links */
        snprintf(name, sizeof name, "l%d", i);
        snprintf(target, sizeof target, "l%d", i - 1);
        soft(name, target);
    }
    for (int i = 0; i <= LINKS_MOST; i++) {
        snprintf(name, sizeof name, "l%d", i);
        found(name);
    }
    REFUSED("l17", "dataset l17: l1 is a soft link that leads nowhere, or over more than 16 others");
}

/* `head`, then letters up to n bytes. */
static const char *long_name(const char *head, int n, char letter)
{
    static char text[4][3 * PATH_MOST];
    static int turn;
    char *to = text[turn = (turn + 1) % 4];
    const int used = snprintf(to, sizeof text[0], "%s", head);
    memset(to + used, letter, (size_t)(n - used));
    to[n] = 0;
    return to;
}

/* A path may have 2047 bytes, also after a link in it was replaced by its target. */
Test(hdf5_checks, the_longest_paths)
{
    char want[64];
    const char *most = long_name("", PATH_MOST, 'm'), *most_in_group = long_name("g/", PATH_MOST, 'i');
    H5Dclose(dataset(most, 1, 4, H5P_DEFAULT));
    found(most);
    REFUSED(long_name("", PATH_MOST + 1, 'm'), "a dataset's name of 2048 bytes");
    group("g");
    soft("fits", most);
    found("fits");
    H5Dclose(dataset(most_in_group, 1, 4, H5P_DEFAULT));
    soft("g/fits", most_in_group + 2);
    found("g/fits");
    H5Dclose(dataset(long_name("g/", PATH_MOST + 1, 'j'), 1, 4, H5P_DEFAULT));
    soft("g/more", long_name("", PATH_MOST - 1, 'j')); /* "g/" before it: a byte more than there may be */
    REFUSED("g/more", "g/more is a soft link that leads nowhere");
    soft("g/root", long_name("/", PATH_MOST, 'r')); /* from the root: nothing before it */
    snprintf(want, sizeof want, "no dataset g/root");
    REFUSED("g/root", want);
    soft("g/beyond", long_name("/", PATH_MOST + 1, 'r'));
    REFUSED("g/beyond", "g/beyond is a soft link that leads nowhere");
    group(long_name("", PATH_MOST - 2, 'd')); /* with what follows the link: "/x" */
    H5Dclose(dataset(strcat((char *)(size_t)long_name("", PATH_MOST - 2, 'd'), "/x"), 1, 4, H5P_DEFAULT));
    H5Dclose(dataset(strcat((char *)(size_t)long_name("", PATH_MOST - 2, 'd'), "/xx"), 1, 4, H5P_DEFAULT));
    soft("d", long_name("", PATH_MOST - 2, 'd'));
    found("d/x");
    REFUSED("d/xx", "d is a soft link that leads nowhere");
}

Test(hdf5_checks, links_into_other_files)
{
    group("g");
    soft("g/soft", "/out");
    OK(mcs_hdf5_check_links("f", file));
    cr_assert(H5Lcreate_external("far.h5", "/a/b", file, "out", H5P_DEFAULT, H5P_DEFAULT) >= 0);
    static const char *const names[] = {"out", "out/x", "g/soft", "g/soft/x"};
    for (int i = 0; i < 4; i++) {
        char want[128];
        snprintf(want, sizeof want, "dataset %s: %s is a link into another file, far.h5, which is not followed",
                 names[i], i < 2 ? "out" : "/out");
        REFUSED(names[i], want);
    }
    refused(mcs_hdf5_check_links("f", file), "links", "f: out is a link into another file, far.h5, which is not");
    found("g");
}

/* ---- how a dataset is stored ---- */

static enum mcs_status storage(hid_t set, int64_t *chunk_bytes)
{
    const enum mcs_status st = mcs_hdf5_check_storage("f", set, "x", chunk_bytes);
    H5Dclose(set);
    return st;
}

Test(hdf5_checks, layouts_and_chunks)
{
    static const struct {
        int nd;
        hsize_t chunk[3];
        int64_t bytes; /* 0: refused */
    } rows[] = {{1, {1}, 4},
                {1, {7}, 28},
                {2, {3, 5}, 60},
                {3, {2, 3, 4}, 96},
                {1, {1 << 28}, (int64_t)1 << 30},
                {1, {(1 << 28) + 1}, 0},
                {2, {1 << 14, 1 << 14}, (int64_t)1 << 30},
                {2, {1 << 14, (1 << 14) + 1}, 0},
                {3, {1 << 10, 1 << 10, 1 << 8}, (int64_t)1 << 30}};
    char name[16];
    int64_t bytes;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_chunk(properties, rows[i].nd, rows[i].chunk);
        snprintf(name, sizeof name, "c%zu", i);
        bytes = -1;
        const enum mcs_status st = storage(dataset(name, rows[i].nd, (hsize_t)1 << 29, properties), &bytes);
        if (rows[i].bytes) {
            OK(st);
            cr_expect_eq(bytes, rows[i].bytes, "row %zu: %lld", i, (long long)bytes);
        } else
            refused(st, name, "dataset x: has chunks of more than 1 GiB");
        H5Pclose(properties);
    }
    static const H5D_layout_t layouts[] = {H5D_COMPACT, H5D_CONTIGUOUS};
    for (int i = 0; i < 2; i++) {
        const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_layout(properties, layouts[i]);
        bytes = -1;
        OK(storage(dataset(i ? "contiguous" : "compact", 1, 4, properties), &bytes));
        cr_expect_eq(bytes, 0, "only chunks are held as a whole");
        H5Pclose(properties);
    }
    const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_external(properties, "values.raw", 0, 16);
    refused(storage(dataset("external", 1, 4, properties), &bytes), "external",
            "dataset x has external storage: its values lie in values.raw, which");
    H5Pclose(properties);
}

Test(hdf5_checks, filters)
{
    const hsize_t chunk[1] = {4};
    int64_t bytes;
    char name[16];
    for (int k = 0; k < 6; k++) {
        const hid_t properties = H5Pcreate(H5P_DATASET_CREATE);
        H5Pset_chunk(properties, 1, chunk);
        if (k == 0 || k == 4 || k == 5) H5Pset_deflate(properties, 1);
        if (k == 1 || k == 4) H5Pset_shuffle(properties);
        if (k == 2 || k == 4) H5Pset_fletcher32(properties);
        if (k == 3 || k == 5) H5Pset_filter(properties, 32001, H5Z_FLAG_OPTIONAL, 0, NULL);
        snprintf(name, sizeof name, "f%d", k);
        const enum mcs_status st = storage(dataset(name, 1, 4, properties), &bytes);
        if (k == 3 || k == 5)
            refused(st, name, "dataset x is stored with filter 32001 (no name), which is not built in");
        else {
            OK(st);
            cr_expect_eq(bytes, 16);
        }
        H5Pclose(properties);
    }
}

/* ---- texts ---- */

/* Texts of a store fill their width and are padded with zeros, without a terminating zero. */
Test(hdf5_checks, texts_of_a_store)
{
    char path[] = "/tmp/mcs_texts_XXXXXX";
    const char *const names[] = {"a", "four"};
    struct store *s;
    close(mkstemp(path));
    unlink(path);
    OK(mcs_store_create(path, &s));
    OK(mcs_store_put_texts(s, "names", 2, names));
    OK(mcs_store_commit(s));
    const hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), set = H5Dopen2(f, "names", H5P_DEFAULT),
                type = H5Dget_type(set);
    cr_expect_eq(H5Tget_size(type), 4);
    cr_expect_eq(H5Tget_strpad(type), H5T_STR_NULLPAD);
    cr_expect_eq(H5Tget_cset(type), H5T_CSET_UTF8);
    H5Tclose(type);
    H5Dclose(set);
    H5Fclose(f);
    unlink(path);
}
