/* NIfTI volumes: reading a real scan, geometry in a round trip, each kind of damage refused. */
#include "data/image/volume.h"
#include "data/io/file.h"
#include "engine/base/log.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *scan_path = "/usr/share/mricron/templates/ch2.nii.gz"; /* Debian's mricron-data */

static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_volume_XXXXXX");
    cr_assert(mkdtemp(folder));
    mcs_log_quiet(1);
}

static void teardown(void)
{
    struct file_list list;
    char path[512];
    if (mcs_folder_list(folder, NULL, &list) != MCS_OK) return;
    for (int i = 0; i < list.n; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, list.names[i]);
        unlink(path);
    }
    mcs_file_list_free(&list);
    rmdir(folder);
}

TestSuite(volume, .init = setup, .fini = teardown);

static const char *in_folder(const char *name)
{
    static char path[4][256];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void put(char *header, int offset, const void *value, int n)
{
    memcpy(header + offset, value, (size_t)n);
}

/* Makes a NIfTI-1 file from the standard's field offsets: int16 voxels, a slope, a rotated sform. */
static int hand_made(char *bytes, int16_t nx, int16_t ny, int16_t nz, int16_t nt)
{
    int32_t header_size = 348;
    int16_t dim[8] = {nt > 1 ? 4 : 3, nx, ny, nz, nt, 1, 1, 1}, type = 4, bits = 16, code = 1;
    float pixdim[8] = {1, 0.5f, 0.75f, 2.5f, 1, 1, 1, 1}, offset = 352, slope = 0.5f, inter = -10;
    float srow[12] = {0, -0.75f, 0, 12, 0.5f, 0, 0, -7, 0, 0, 2.5f, 3};
    int n = nx * ny * nz * nt;

    memset(bytes, 0, 352);
    put(bytes, 0, &header_size, 4);
    put(bytes, 40, dim, 16);
    put(bytes, 70, &type, 2);
    put(bytes, 72, &bits, 2);
    put(bytes, 76, pixdim, 32);
    put(bytes, 108, &offset, 4);
    put(bytes, 112, &slope, 4);
    put(bytes, 116, &inter, 4);
    bytes[123] = 2; /* xyzt_units: mm */
    put(bytes, 254, &code, 2);
    put(bytes, 280, srow, 48);
    put(bytes, 344, "n+1", 4);
    for (int i = 0; i < n; i++) {
        int16_t x = (int16_t)(i * 7 - 100);
        put(bytes, 352 + 2 * i, &x, 2);
    }
    return 352 + 2 * n;
}

Test(volume, reads_values_scaled_and_spacing)
{
    char bytes[352 + 2 * 60];
    struct volume v;
    int n = hand_made(bytes, 3, 4, 5, 1);

    cr_assert_eq(mcs_file_write(in_folder("a.nii"), bytes, n), MCS_OK);
    cr_assert_eq(mcs_volume_read(in_folder("a.nii"), &v), MCS_OK, "%s", mcs_error_message());
    cr_assert(v.nx == 3 && v.ny == 4 && v.nz == 5);
    cr_assert(v.spacing[0] == 0.5f && v.spacing[1] == 0.75f && v.spacing[2] == 2.5f);
    for (int i = 0; i < 60; i++) cr_assert_eq(v.values[i], 0.5f * (float)(i * 7 - 100) - 10);
    mcs_volume_free(&v);
}

Test(volume, reads_the_other_byte_order)
{
    char bytes[352 + 2 * 60];
    static const int two[] = {40, 42, 44, 46, 48, 50, 52, 54, 70, 72, 254};
    static const int four[] = {0, 76, 80, 84, 88, 92, 96, 100, 104, 108, 112, 116};
    struct volume v;
    int n = hand_made(bytes, 3, 4, 5, 1);

    for (int i = 0; i < 11 + 60; i++) {
        int at = i < 11 ? two[i] : 352 + 2 * (i - 11);
        char a = bytes[at];
        bytes[at] = bytes[at + 1];
        bytes[at + 1] = a;
    }
    for (int i = 0; i < 12 + 12; i++) {
        uint32_t x;
        int at = i < 12 ? four[i] : 280 + 4 * (i - 12);
        memcpy(&x, bytes + at, 4);
        x = __builtin_bswap32(x);
        memcpy(bytes + at, &x, 4);
    }
    cr_assert_eq(mcs_file_write(in_folder("a.nii"), bytes, n), MCS_OK);
    cr_assert_eq(mcs_volume_read(in_folder("a.nii"), &v), MCS_OK, "%s", mcs_error_message());
    cr_assert(v.nx == 3 && v.ny == 4 && v.nz == 5 && v.spacing[2] == 2.5f);
    for (int i = 0; i < 60; i++) cr_assert_eq(v.values[i], 0.5f * (float)(i * 7 - 100) - 10);
    mcs_volume_free(&v);
}

Test(volume, round_trip_keeps_geometry)
{
    static const char *names[] = {"mask.nii", "mask.nii.gz"};
    char bytes[352 + 2 * 60], *again;
    uint8_t labels[60];
    struct volume v, w;
    int64_t n_again;
    int n = hand_made(bytes, 3, 4, 5, 1);

    for (int i = 0; i < 60; i++) labels[i] = (uint8_t)(i % 3);
    cr_assert_eq(mcs_file_write(in_folder("a.nii"), bytes, n), MCS_OK);
    cr_assert_eq(mcs_volume_read(in_folder("a.nii"), &v), MCS_OK);
    for (int k = 0; k < 2; k++) {
        cr_assert_eq(mcs_volume_write_u8(in_folder(names[k]), labels, &v), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_volume_read(in_folder(names[k]), &w), MCS_OK, "%s", mcs_error_message());
        cr_assert(w.nx == 3 && w.ny == 4 && w.nz == 5);
        cr_assert_arr_eq(w.spacing, v.spacing, sizeof v.spacing);
        for (int i = 0; i < 60; i++) cr_assert_eq(w.values[i], (float)labels[i]);
        mcs_volume_free(&w);
    }
    /* In the uncompressed file the sform, its code and the units must be at the same offsets as in the image's. */
    cr_assert_eq(mcs_file_read(in_folder("mask.nii"), 1 << 20, &again, &n_again), MCS_OK);
    cr_assert_eq(n_again, 352 + 60);
    cr_assert_arr_eq(again + 280, bytes + 280, 48);
    cr_assert_arr_eq(again + 252, bytes + 252, 4);
    cr_assert_eq(again[123], 2);
    cr_assert_eq(again[70], 2); /* DT_UINT8 */
    free(again);
    mcs_volume_free(&v);
}

Test(volume, nan_is_kept_and_bytes_repeat)
{
    struct volume v, w;
    float spacing[3] = {0.7f, 0.8f, 3};
    char first[65], second[65];

    cr_assert_eq(mcs_volume_alloc(&v, 4, 3, 2, spacing), MCS_OK);
    for (int i = 0; i < 24; i++) v.values[i] = (float)i * 0.1f;
    v.values[5] = NAN;
    v.values[6] = INFINITY;
    cr_assert_eq(mcs_volume_write_f32(in_folder("f.nii.gz"), v.values, &v), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_file_sha256(in_folder("f.nii.gz"), first), MCS_OK);
    cr_assert_eq(mcs_volume_write_f32(in_folder("f.nii.gz"), v.values, &v), MCS_OK);
    cr_assert_eq(mcs_file_sha256(in_folder("f.nii.gz"), second), MCS_OK);
    cr_assert_str_eq(first, second);
    cr_assert_eq(mcs_volume_read(in_folder("f.nii.gz"), &w), MCS_OK);
    cr_assert_arr_eq(w.values, v.values, 24 * sizeof(float));
    cr_assert_arr_eq(w.spacing, spacing, sizeof spacing);
    mcs_volume_free(&v);
    mcs_volume_free(&w);
}

static void refused(const char *name, enum mcs_status want, const char *word)
{
    struct volume v;
    mcs_error_clear();
    enum mcs_status st = mcs_volume_read(in_folder(name), &v);
    cr_assert_eq(st, want, "%s: status %d, %s", name, st, mcs_error_message());
    cr_assert(strstr(mcs_error_message(), name), "no file name in: %s", mcs_error_message());
    cr_assert(strstr(mcs_error_message(), word), "no '%s' in: %s", word, mcs_error_message());
    cr_assert(!v.values && !v.header);
    mcs_error_clear();
}

Test(volume, damage_is_refused)
{
    char good[352 + 2 * 120], bytes[sizeof good];
    int n = hand_made(good, 3, 4, 5, 1);
    int16_t big = 32767, one = 1, rgb = 128, bits = 24, minus = -3;
    float far = 1e9f;

    refused("absent.nii", MCS_E_NOINPUT, "No such file");
    mcs_file_write(in_folder("cut.nii"), good, n - 1);
    refused("cut.nii", MCS_E_DATA, "truncated");
    mcs_file_write(in_folder("header.nii"), good, 200);
    refused("header.nii", MCS_E_DATA, "header");
    mcs_file_write(in_folder("empty.nii"), good, 0);
    refused("empty.nii", MCS_E_DATA, "no NIfTI");
    mcs_file_write(in_folder("text.nii.gz"), "hello, this is no volume", 24);
    refused("text.nii.gz", MCS_E_DATA, "no NIfTI");

    int n4 = hand_made(bytes, 3, 4, 5, 2);
    mcs_file_write(in_folder("four.nii"), bytes, n4);
    refused("four.nii", MCS_E_DATA, "4 dimensions");

    memcpy(bytes, good, (size_t)n); /* sizes whose product is 2^45: refused before any allocation */
    put(bytes, 42, &big, 2), put(bytes, 44, &big, 2), put(bytes, 46, &big, 2);
    mcs_file_write(in_folder("huge.nii"), bytes, n);
    refused("huge.nii", MCS_E_DATA, "too many");
    put(bytes, 46, &one, 2); /* 2^30 voxels in a file of 472 bytes */
    mcs_file_write(in_folder("lie.nii"), bytes, n);
    refused("lie.nii", MCS_E_DATA, "truncated");

    memcpy(bytes, good, (size_t)n);
    put(bytes, 42, &minus, 2);
    mcs_file_write(in_folder("minus.nii"), bytes, n);
    refused("minus.nii", MCS_E_DATA, "");
    memcpy(bytes, good, (size_t)n);
    put(bytes, 70, &rgb, 2), put(bytes, 72, &bits, 2);
    mcs_file_write(in_folder("rgb.nii"), bytes, n);
    refused("rgb.nii", MCS_E_DATA, "RGB");
    memcpy(bytes, good, (size_t)n);
    put(bytes, 108, &far, 4);
    mcs_file_write(in_folder("far.nii"), bytes, n);
    refused("far.nii", MCS_E_DATA, "truncated");
}

Test(volume, damaged_gzip_is_refused)
{
    struct volume v;
    char *bytes;
    int64_t n;

    cr_assert_eq(mcs_volume_alloc(&v, 40, 30, 20, NULL), MCS_OK);
    for (int i = 0; i < 24000; i++) v.values[i] = (float)((i * 7919) % 1009);
    cr_assert_eq(mcs_volume_write_f32(in_folder("g.nii.gz"), v.values, &v), MCS_OK);
    mcs_volume_free(&v);
    cr_assert_eq(mcs_file_read(in_folder("g.nii.gz"), 1 << 20, &bytes, &n), MCS_OK);
    mcs_file_write(in_folder("half.nii.gz"), bytes, n / 2);
    refused("half.nii.gz", MCS_E_DATA, "truncated");
    bytes[n - 6] ^= 1; /* the checksum's third byte */
    mcs_file_write(in_folder("sum.nii.gz"), bytes, n);
    refused("sum.nii.gz", MCS_E_DATA, "damaged");
    free(bytes);
}

/* Every byte of the header, one after the other, set to 0x00, 0x7f and 0xff: read or refused, but nothing out of bounds
 * (the sanitizer build watches). */
Test(volume, hostile_headers)
{
    static const uint8_t evil[] = {0x00, 0x7f, 0xff};
    char bytes[352 + 2 * 60];
    struct volume v;
    int refusals = 0;

#ifndef MCS_SANITIZE /* suppresses hundreds of warnings; a sanitizer's report must still be visible */
    if (!freopen("/dev/null", "w", stderr)) cr_log_warn("stderr stays");
#endif
    for (int at = 0; at < 352; at++) {
        for (int k = 0; k < 3; k++) {
            int n = hand_made(bytes, 3, 4, 5, 1);
            bytes[at] = (char)evil[k];
            FILE *f = fopen(in_folder("evil.nii"), "wb");
            fwrite(bytes, 1, (size_t)n, f);
            fclose(f);
            mcs_error_clear();
            if (mcs_volume_read(in_folder("evil.nii"), &v) == MCS_OK)
                mcs_volume_free(&v);
            else
                refusals++;
        }
    }
    mcs_error_clear();
    cr_assert_gt(refusals, 20);
}

Test(volume, writing_fails_whole)
{
    struct volume v;
    uint8_t labels[8] = {0};
    struct file_list list;

    cr_assert_eq(mcs_volume_alloc(&v, 2, 2, 2, NULL), MCS_OK);
    cr_assert_eq(mcs_volume_write_u8(in_folder("no/such/folder/m.nii.gz"), labels, &v), MCS_E_IO);
    mcs_error_clear();
    cr_assert_eq(mcs_volume_write_u8(in_folder("m.png"), labels, &v), MCS_E_USAGE);
    mcs_error_clear();
    cr_assert_eq(mkdir(in_folder("d.nii"), 0777), 0);
    cr_assert_eq(mcs_volume_write_u8(in_folder("d.nii"), labels, &v), MCS_E_IO);
    rmdir(in_folder("d.nii"));
    cr_assert_eq(mcs_folder_list(folder, NULL, &list), MCS_OK);
    cr_assert_eq(list.n, 0, "%s was left behind", list.n ? list.names[0] : "");
    mcs_file_list_free(&list);
    mcs_volume_free(&v);
    mcs_error_clear();
}

Test(volume, reads_a_real_scan)
{
    struct volume v;
    double sum = 0;
    float low = INFINITY, high = -INFINITY;

    if (!mcs_file_exists(scan_path)) cr_skip_test("%s is not installed (package mricron-data)", scan_path);
    cr_assert_eq(mcs_volume_read(scan_path, &v), MCS_OK, "%s", mcs_error_message());
    cr_assert(v.nx == 181 && v.ny == 217 && v.nz == 181, "%d x %d x %d", v.nx, v.ny, v.nz);
    cr_assert(v.spacing[0] == 1 && v.spacing[1] == 1 && v.spacing[2] == 1);
    for (int64_t i = 0; i < (int64_t)181 * 217 * 181; i++) {
        low = fminf(low, v.values[i]);
        high = fmaxf(high, v.values[i]);
        sum += v.values[i];
    }
    cr_assert(low >= 0 && high <= 255 && high > 100, "voxels from %g to %g", low, high);
    cr_assert_gt(sum, 1e7); /* a head, not an empty volume */
    mcs_volume_free(&v);
}
