/* Damaged NIfTI files: each header field with false values, sizes that need more memory than there is, streams that end
 * early or never, and many random changes. With the sanitizers these tests watch every access. */
#include "data/image/nifti.h"
#include "data/image/volume.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_nifti.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { N = 4 * 3 * 2 };
static const int64_t MIB = 1 << 20;

static void setup(void)
{
    test_folder_open("hostile");
    mcs_log_quiet(1);
}

static void teardown(void)
{
    mcs_memory_limit_set(0);
    test_folder_close();
}

TestSuite(nifti_hostile, .init = setup, .fini = teardown);

static void fails(const char *path, const char *word)
{
    struct volume v;
    mcs_error_clear();
    const enum mcs_status st = mcs_volume_read(path, &v);
    cr_expect_eq(st, MCS_E_DATA, "%s (%s): status %d: %s", path, word, st, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), word) && strstr(mcs_error_message(), path), "no '%s' in: %s", word,
              mcs_error_message());
    cr_expect(!v.values && !v.header && !v.nx);
    if (st == MCS_OK) mcs_volume_free(&v);
    mcs_error_clear();
}

/* Saves the spec as a file with zero voxels, in the version and byte order of `form`; it must be refused. */
static void refused(struct nifti_spec s, int form, const char *word)
{
    static struct nifti_file f;
    const double values[N] = {0};
    s.version = 1 + (form & 1);
    s.swapped = form >> 1;
    if (s.vox_offset == 352 && s.version == 2) s.vox_offset = 544;
    nifti_header(&s, &f);
    if (nifti_bits(s.datatype) >= 8 && nifti_bits(s.datatype) <= 64) nifti_append(&s, &f, values, N);
    nifti_save(in_folder("a.nii"), f.bytes, f.n, 0);
    fails(in_folder("a.nii"), word);
}

Test(nifti_hostile, dimensions)
{
    static const struct {
        int64_t dim[8];
        const char *word;
    } rows[] = {
        {{0, 4, 3, 2}, "0 dimensions, want"},
        {{-1, 4, 3, 2}, "-1 dimensions, want"},
        {{8, 4, 3, 2, 1, 1, 1, 1}, "8 dimensions, want 1 to 3"},
        {{1000, 4, 3, 2}, "1000 dimensions"},
        {{3, 0, 3, 2}, "0 voxels along x"},
        {{3, 4, -3, 2}, "-3 voxels along y"},
        {{3, 4, 3, 0}, "0 voxels along z"},
        {{4, 4, 3, 2, 20}, "4 dimensions (20 volumes)"},
        {{4, 4, 3, 2, 0}, "4 dimensions (0 volumes)"},
        {{5, 4, 3, 2, 1, 3}, "5 dimensions (3 values"},
        {{7, 4, 3, 2, 1, 1, 1, -1}, "7 dimensions (-1 values"},
        {{3, 32767, 32767, 32767}, "too many"},
        {{3, 32767, 32767, 1}, "truncated"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int form = 0; form < 4; form++) {
            struct nifti_spec s = nifti_spec();
            memcpy(s.dim, rows[i].dim, sizeof s.dim);
            refused(s, form, rows[i].word);
        }
    /* Sizes that only NIfTI-2 can claim: 2^32 + 4 is 4 in 32 bits, and 2^32 * 2^32 is 0 in 64. */
    static const int64_t large[][3] = {{((int64_t)1 << 32) + 4, 3, 2},
                                       {65536, 3, 2},
                                       {4, (int64_t)1 << 32, (int64_t)1 << 32},
                                       {4, 3, INT64_MAX},
                                       {INT64_MIN, 3, 2}};
    for (size_t i = 0; i < sizeof large / sizeof *large; i++)
        for (int form = 1; form < 4; form += 2) {
            struct nifti_spec s = nifti_spec();
            memcpy(s.dim + 1, large[i], sizeof large[i]);
            refused(s, form, "voxels along");
        }
}

/* 754 bytes with dim[0] = -1, 1000 and 2^40: a library that converted them before checking wrote past its stack. */
Test(nifti_hostile, the_number_of_dimensions_in_nifti_2)
{
    static const int64_t numbers[] = {-1, 1000, (int64_t)1 << 40};
    for (int i = 0; i < 3; i++) {
        struct nifti_spec s = nifti_spec();
        static struct nifti_file f;
        char word[64];
        s.version = 2;
        s.vox_offset = 544;
        s.dim[0] = numbers[i];
        nifti_header(&s, &f);
        memset(f.bytes + 544, 1, 754 - 544);
        nifti_save(in_folder("d.nii"), f.bytes, 754, 0);
        snprintf(word, sizeof word, "%lld dimensions", (long long)numbers[i]);
        fails(in_folder("d.nii"), word);
    }
}

Test(nifti_hostile, types_by_name)
{
    static const struct {
        int datatype, bitpix;
        const char *word;
    } rows[] = {{1, 1, "voxels of type BINARY; want"},
                {32, 64, "voxels of type COMPLEX64; want"},
                {128, 24, "voxels of type RGB24; want"},
                {1536, 128, "voxels of type FLOAT128; want"},
                {1792, 128, "voxels of type COMPLEX128; want"},
                {2048, 256, "voxels of type COMPLEX256; want"},
                {2304, 32, "voxels of type RGBA32; want"},
                {0, 16, "unknown type"},
                {3, 16, "unknown type"},
                {-4, 16, "unknown type"},
                {4, 8, "INT16 have 16 bits, but its header says 8"},
                {4, 0, "bitpix"},
                {2, -8, "bitpix"},
                {64, 32, "FLOAT64 have 64 bits"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int form = 0; form < 4; form++) {
            struct nifti_spec s = nifti_spec();
            s.datatype = rows[i].datatype;
            s.bitpix = rows[i].bitpix;
            refused(s, form, rows[i].word);
        }
}

Test(nifti_hostile, reals)
{
    for (int form = 0; form < 4; form++) {
        const double bad_spacing[] = {0, -0.0, NAN, INFINITY, -INFINITY, 1e9, 1e-45 * 1e-3};
        for (int i = 0; i < 7; i++)
            for (int axis = 1; axis <= 3; axis++) {
                struct nifti_spec s = nifti_spec();
                s.pixdim[axis] = bad_spacing[i];
                refused(s, form, "voxel spacing");
            }
        const double bad_scale[][2] = {{INFINITY, 0}, {-INFINITY, 0}, {1, NAN}, {1, INFINITY}, {2, -INFINITY}};
        for (int i = 0; i < 5; i++) {
            struct nifti_spec s = nifti_spec();
            s.slope = bad_scale[i][0];
            s.inter = bad_scale[i][1];
            refused(s, form, "scl_slope");
        }
        const double bad_offset[] = {0, 348, 351, -352, 1e30};
        for (int i = 0; i < 5; i++) {
            struct nifti_spec s = nifti_spec();
            s.vox_offset = form & 1 && bad_offset[i] > 1e18 ? 0x1p62 : bad_offset[i];
            refused(s, form, "vox_offset");
        }
    }
    const double fractions[] = {352.5, NAN, INFINITY, -INFINITY}; /* NIfTI-1 holds the offset as a float */
    for (int i = 0; i < 4; i++) {
        struct nifti_spec s = nifti_spec();
        s.vox_offset = fractions[i];
        refused(s, 0, "vox_offset");
    }
    struct nifti_spec s = nifti_spec();
    s.vox_offset = 1e9;
    refused(s, 0, "truncated");
}

/* Writes the usual file with bytes replaced. */
static void patched(int version, int at, const void *bytes, int n, int cut)
{
    static struct nifti_file f;
    struct nifti_spec s = nifti_spec();
    const double values[N] = {0};
    s.version = version;
    s.vox_offset = version == 1 ? 352 : 544;
    nifti_header(&s, &f);
    nifti_append(&s, &f, values, N);
    memcpy(f.bytes + at, bytes, (size_t)n);
    nifti_save(in_folder("p.nii"), f.bytes, cut < 0 ? f.n : cut, 0);
}

Test(nifti_hostile, magic)
{
    patched(1, 344, "\0\0\0", 4, -1);
    fails(in_folder("p.nii"), "ANALYZE 7.5");
    patched(1, 344, "n+2", 4, -1);
    fails(in_folder("p.nii"), "no n+1 or ni1");
    patched(1, 344, "n+1!", 4, -1);
    fails(in_folder("p.nii"), "damaged after \"n+1\"");
    patched(2, 4, "n+1", 4, -1);
    fails(in_folder("p.nii"), "no n+2 or ni2");
    patched(2, 8, "\n\032\n\0", 4, -1); /* the carriage return is gone: copied in text mode */
    fails(in_folder("p.nii"), "copied as text");
    patched(1, 0, "\x5d\1\0\0", 4, -1);
    fails(in_folder("p.nii"), "no NIfTI file");
    static const int cuts[] = {0, 3, 4, 347, 348, 351, 352, 352 + 2 * N - 1};
    for (int i = 0; i < 8; i++) {
        patched(1, 39, "9", 1, cuts[i]);
        fails(in_folder("p.nii"), cuts[i] < 4 ? "no NIfTI file" : cuts[i] < 348 ? "header is truncated" : "truncated");
    }
    patched(2, 524, "9", 1, 539);
    fails(in_folder("p.nii"), "header is truncated: 539 bytes of 540");
}

/* ---- extensions ---- */

struct extension {
    int32_t bytes, room; /* claimed bytes, and actual bytes up to the voxels */
    const char *word;    /* NULL: readable */
};

Test(nifti_hostile, extensions)
{
    static const struct extension rows[] = {
        {32, 32, NULL},
        {16, 32, NULL}, /* a second one of size 0: padding */
        {8, 16, NULL},
        {24, 32, NULL}, /* not a multiple of 16, but inside */
        {0, 16, NULL},
        {32, 4, NULL}, /* too short for a size */
        {48, 32, "extension"},
        {4, 32, "extension"},
        {7, 32, "extension"},
        {-16, 32, "extension"},
        {INT32_MAX, 32, "extension"},
        {INT32_MIN, 32, "extension"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int form = 0; form < 8; form++) {
            static struct nifti_file f;
            struct nifti_spec s = nifti_spec();
            struct volume v;
            double values[N];
            const int packed = form >> 2;
            for (int k = 0; k < N; k++) values[k] = 3 * k;
            s.version = 1 + (form & 1);
            s.swapped = form >> 1 & 1;
            s.vox_offset = (s.version == 1 ? 352 : 544) + rows[i].room;
            nifti_header(&s, &f);
            f.bytes[f.n - 4] = 1;
            memset(f.bytes + f.n, 0, (size_t)rows[i].room);
            if (rows[i].room >= 8) nifti_put(f.bytes + f.n, &rows[i].bytes, 4, s.swapped);
            f.n += rows[i].room;
            nifti_append(&s, &f, values, N);
            const char *path = in_folder(packed ? "x.nii.gz" : "x.nii");
            nifti_save(path, f.bytes, f.n, packed);
            if (rows[i].word) {
                fails(path, rows[i].word);
                continue;
            }
            cr_assert_eq(mcs_volume_read(path, &v), MCS_OK, "row %zu, form %d: %s", i, form, mcs_error_message());
            for (int k = 0; k < N; k++) cr_assert_eq(v.values[k], 3 * k);
            mcs_volume_free(&v);
        }
}

/* ---- memory ---- */

/* The peak of resident memory since the process began. */
static int64_t peak_bytes(void)
{
    struct rusage u;
    cr_assert_eq(getrusage(RUSAGE_SELF, &u), 0);
    return (int64_t)u.ru_maxrss * 1024;
}

/* A header that claims nx^3 voxels of uint8, then n compressed bytes of a device. */
static const char *bomb(const char *source, int64_t n, int64_t nx)
{
    struct nifti_spec s = nifti_spec();
    static struct nifti_file f;
    char command[600];
    s.dim[1] = s.dim[2] = s.dim[3] = nx;
    s.datatype = 2;
    s.bitpix = 8;
    nifti_header(&s, &f);
    nifti_save(in_folder("head"), f.bytes, f.n, 0);
    snprintf(command, sizeof command, "cd %s && (cat head; head -c %lld %s) | gzip -nc1 > bomb.nii.gz", test_folder,
             (long long)n, source);
    cr_assert_eq(system(command), 0);
    return in_folder("bomb.nii.gz");
}

/* 125 MB of bytes become 477 MiB of floats; the file has a few hundred KB. */
Test(nifti_hostile, a_memory_bomb_is_refused_by_its_header)
{
    const char *path = bomb("/dev/zero", 125000000, 500);
    const int64_t before = peak_bytes();
    mcs_memory_limit_set(before + 400 * MIB);
    fails(path, "500 x 500 x 500 voxels: needs 478.8 MiB of memory, --max-memory allows");
    /* nothing was allocated for it, except a reader's buffers */
    cr_expect_lt(peak_bytes() - before, 8 * MIB);
}

Test(nifti_hostile, a_volume_in_memory_is_bounded_too)
{
    struct volume v;
    mcs_memory_limit_set(peak_bytes() + 10 * MIB);
    cr_expect_eq(mcs_volume_alloc(&v, 200, 200, 100, NULL), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "200 x 200 x 100 voxels: needs 15.3 MiB"), "%s", mcs_error_message());
    cr_expect(!v.values);
}

/* The header truthfully claims too much, and the stream is shorter: memory grows with the received data, not with the
 * claim. */
Test(nifti_hostile, streams_that_end_early_or_go_on)
{
    struct volume v;
    int64_t before = peak_bytes();
    mcs_memory_limit_set(before + 2000 * MIB);
    fails(bomb("/dev/urandom", 5000000, 500), "slice 20 of 500"); /* 5 MB that do not compress: 20 slices */
    /* 19 MiB of floats arrived; the sanitizers' shadow of 477 MiB is an eighth of that */
    cr_expect_lt(peak_bytes() - before, 100 * MIB);
    before = peak_bytes();
    fails(bomb("/dev/zero", 50000000, 20), "too long");
    cr_expect_lt(peak_bytes() - before, 16 * MIB);
    fails(bomb("/dev/zero", 8001, 20), "too long");
    cr_assert_eq(mcs_volume_read(bomb("/dev/zero", 8000, 20), &v), MCS_OK, "%s", mcs_error_message());
    mcs_volume_free(&v);
}

Test(nifti_hostile, bytes_after_the_last_voxel)
{
    static struct nifti_file f;
    struct nifti_spec s = nifti_spec();
    const double values[N + 1] = {0};
    nifti_header(&s, &f);
    nifti_append(&s, &f, values, N + 1);
    nifti_save(in_folder("long.nii"), f.bytes, f.n, 0);
    fails(in_folder("long.nii"), "too long: 402 bytes, its header promises 400");
}

/* The header's file is read to its end, for the checksum: also past an extension larger than zlib's buffer. */
Test(nifti_hostile, a_damaged_packed_header)
{
    static struct nifti_file f, image;
    static uint8_t packed[1 << 21];
    struct nifti_spec s = nifti_spec();
    struct volume v;
    char command[400];
    const double values[N] = {0};
    s.paired = 1;
    s.vox_offset = 0;
    nifti_header(&s, &f);
    nifti_append(&s, &image, values, N);
    nifti_save(in_folder("h.img.gz"), image.bytes, image.n, 1);
    nifti_save(in_folder("head"), f.bytes, f.n, 0);
    snprintf(command, sizeof command, "cd %s && (cat head; head -c 1000000 /dev/urandom) | gzip -nc1 > h.hdr.gz",
             test_folder);
    cr_assert_eq(system(command), 0);
    cr_assert_eq(mcs_volume_read(in_folder("h.hdr.gz"), &v), MCS_OK, "%s", mcs_error_message());
    mcs_volume_free(&v);
    FILE *file = fopen(in_folder("h.hdr.gz"), "rb");
    const int n = (int)fread(packed, 1, sizeof packed, file);
    fclose(file);
    packed[n - 6] ^= 1; /* the third byte of the checksum */
    nifti_save(in_folder("h.hdr.gz"), packed, n, 0);
    fails(in_folder("h.hdr.gz"), "damaged");
}

/* A gzip file truncated at every length, and with every byte changed: read correctly or refused. Unnoticed changes are
 * in bytes of gzip's header that do not affect the contents (time, system), and then the values are right. */
Test(nifti_hostile, every_cut_and_every_flip_of_a_gzip_file)
{
    static struct nifti_file f;
    static uint8_t packed[4096], changed[4096];
    struct nifti_spec s = nifti_spec();
    double values[N];
    for (int i = 0; i < N; i++) values[i] = i * i;
    nifti_header(&s, &f);
    nifti_append(&s, &f, values, N);
    nifti_save(in_folder("g.nii.gz"), f.bytes, f.n, 1);
    FILE *file = fopen(in_folder("g.nii.gz"), "rb");
    const int n = (int)fread(packed, 1, sizeof packed, file);
    fclose(file);
    cr_assert(n > 20 && n < 4096);
    for (int cut = 0; cut < n; cut++) {
        nifti_save(in_folder("c.nii.gz"), packed, cut, 0);
        fails(in_folder("c.nii.gz"), "c.nii.gz");
    }
    int accepted = 0;
    for (int at = 0; at < n; at++) {
        struct volume v;
        memcpy(changed, packed, sizeof packed);
        changed[at] ^= 0x11;
        nifti_save(in_folder("c.nii.gz"), changed, n, 0);
        mcs_error_clear();
        if (mcs_volume_read(in_folder("c.nii.gz"), &v) != MCS_OK) continue;
        for (int i = 0; i < N; i++) cr_expect_eq(v.values[i], (float)values[i], "byte %d", at);
        mcs_volume_free(&v);
        accepted++;
    }
    cr_expect_leq(accepted, 6, "%d changes went unnoticed", accepted); /* 4 of time, extra flags, system */
    mcs_error_clear();
}
