/* What may lie between a NIfTI file's header and its voxels: extensions, one behind the other, each with its length in
 * the file's byte order; padding; bytes that mean nothing. The voxels are read from where the header says, and lengths
 * that cannot be are refused. */
#include "data/image/volume.h"
#include "tests/support/support_nifti.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(nifti_extensions, .init = setup, .fini = shell_close, .timeout = 60);

enum { N_VOXELS = 24 };

/* A file with `room` bytes after the four that announce extensions; lengths[i]: of extension i as it says, which ends
 * the list where it is negative. Every other byte is 0xEE. */
static void save(int room, const uint8_t flags[4], const int64_t *lengths, int swapped, int packed)
{
    static struct nifti_file f;
    struct nifti_spec s = nifti_spec();
    double values[N_VOXELS];
    s.swapped = swapped;
    s.vox_offset = 352 + room;
    for (int i = 0; i < N_VOXELS; i++) values[i] = 3 * i - 20;
    f.n = nifti_header(&s, &f);
    cr_assert_eq(f.n, 352);
    memcpy(f.bytes + 348, flags, 4);
    memset(f.bytes + 352, 0xEE, (size_t)room);
    for (int at = 352, i = 0; lengths[i] >= 0 && at + 8 <= 352 + room; at += (int)lengths[i++]) {
        const uint32_t n = (uint32_t)lengths[i];
        nifti_put(f.bytes + at, &n, 4, swapped);
    }
    f.n = 352 + room;
    nifti_append(&s, &f, values, N_VOXELS);
    nifti_save(shell_path(packed ? "v.nii.gz" : "v.nii"), f.bytes, f.n, packed);
}

Test(nifti_extensions, each_list_of_lengths)
{
    static const struct {
        int room;
        uint8_t flags[4];
        int64_t lengths[4];
        int good;
    } rows[] = {
        {0, {0, 0, 0, 0}, {-1}, 1},
        {0, {1, 0, 0, 0}, {-1}, 1},  /* announced, but there is no room for one */
        {7, {1, 0, 0, 0}, {-1}, 1},  /* nor here */
        {16, {0, 0, 0, 0}, {-1}, 1}, /* not announced: bytes of no meaning */
        {16, {0, 1, 1, 1}, {-1}, 1}, /* the first byte alone announces */
        {16, {1, 0, 0, 0}, {-1}, 0},
        {16, {9, 0, 0, 0}, {-1}, 0},
        {16, {1, 0, 0, 0}, {16, -1}, 1},
        {16, {1, 0, 0, 0}, {17, -1}, 0},
        {16, {1, 0, 0, 0}, {8, 8, -1}, 1},
        {16, {1, 0, 0, 0}, {8, 9, -1}, 0},
        {16, {1, 0, 0, 0}, {8, 7, -1}, 0},
        {16, {1, 0, 0, 0}, {7, -1}, 0},
        {16, {1, 0, 0, 0}, {1, -1}, 0},
        {16, {1, 0, 0, 0}, {0, -1}, 1}, /* padding to the end */
        {48, {1, 0, 0, 0}, {16, 0, -1}, 1},
        {48, {1, 0, 0, 0}, {16, 32, -1}, 1},
        {48, {1, 0, 0, 0}, {16, 33, -1}, 0},
        {48, {1, 0, 0, 0}, {16, 24, 8, -1}, 1},
        {48, {1, 0, 0, 0}, {16, 24, 16, -1}, 0},
        {47, {1, 0, 0, 0}, {16, 24, -1}, 1}, /* 7 bytes are left */
        {8, {1, 0, 0, 0}, {8, -1}, 1},
        {8, {1, 0, 0, 0}, {9, -1}, 0},
        {9000, {1, 0, 0, 0}, {5000, 4000, -1}, 1},
        {9000, {1, 0, 0, 0}, {5000, 4001, -1}, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int swapped = 0; swapped < 2; swapped++)
            for (int packed = 0; packed < (i % 4 == 0) + 1; packed++) {
                struct volume v = {0};
                save(rows[i].room, rows[i].flags, rows[i].lengths, swapped, packed);
                const enum mcs_status st = mcs_volume_read(shell_path(packed ? "v.nii.gz" : "v.nii"), &v);
                if (rows[i].good) {
                    OK(st);
                    for (int k = 0; k < N_VOXELS; k++)
                        cr_assert_eq(v.values[k], 3 * k - 20, "row %zu, voxel %d: %g", i, k, (double)v.values[k]);
                    cr_expect(v.nx == 4 && v.ny == 3 && v.nz == 2);
                    mcs_volume_free(&v);
                } else {
                    cr_expect_eq(st, MCS_E_DATA, "row %zu, swapped %d: status %d", i, swapped, (int)st);
                    cr_expect(
                        strstr(mcs_error_message(), " bytes does not fit before its voxels: its header is damaged"),
                        "row %zu: %s", i, mcs_error_message());
                }
                mcs_error_clear();
            }
}

Test(nifti_extensions, the_length_is_told)
{
    static const uint8_t flags[4] = {1, 0, 0, 0};
    for (int swapped = 0; swapped < 2; swapped++) {
        struct volume v = {0};
        save(16, flags, (const int64_t[]){300, -1}, swapped, 0);
        cr_expect_eq(mcs_volume_read(shell_path("v.nii"), &v), MCS_E_DATA);
        cr_expect(strstr(mcs_error_message(), "v.nii: an extension of 300 bytes does not fit"), "%s",
                  mcs_error_message());
        mcs_error_clear();
    }
}
