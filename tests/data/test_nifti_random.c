/* Random changes to NIfTI headers and files: read or refused, but nothing out of bounds (the sanitizer build watches),
 * and accepted headers satisfy the assumptions of the reader's arithmetic. */
#include "data/image/nifti.h"
#include "data/image/volume.h"
#include "engine/base/log.h"
#include "engine/base/memory.h"
#include "tests/support/support_nifti.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 4 * 3 * 2 };

static void setup(void)
{
    mcs_log_mute_here(1); /* suppresses thousands of warnings */
}

TestSuite(nifti_random, .init = setup);

static uint64_t state = 88172645463325252u;
static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* 1 to 4 changes: a bit, a byte, or a limit value of 2, 4 or 8 bytes at any position. */
static void mutate(uint8_t *bytes, int n)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7f800000,
                                     0x7fc00000,
                                     (uint64_t)1 << 32,
                                     ((uint64_t)1 << 32) + 1,
                                     INT64_MAX,
                                     (uint64_t)1 << 63,
                                     UINT64_MAX,
                                     0x7ff0000000000000,
                                     0x7ff8000000000000};
    for (int k = 1 + (int)(draw() % 4); k > 0; k--) {
        const int at = (int)(draw() % (uint64_t)n), width = 1 << draw() % 4;
        const uint64_t edge = edges[draw() % (sizeof edges / sizeof *edges)];
        if (draw() % 3 == 0)
            bytes[at] ^= (uint8_t)(1 << draw() % 8);
        else
            nifti_put(bytes + (at + width <= n ? at : n - width), &edge, width, (int)(draw() % 2));
    }
}

Test(nifti_random, a_hundred_thousand_headers)
{
    static struct nifti_file good[8], f;
    int accepted = 0;
    for (int form = 0; form < 8; form++) {
        struct nifti_spec s = nifti_spec();
        s.version = 1 + (form & 1);
        s.swapped = form >> 1 & 1;
        s.paired = form >> 2;
        s.vox_offset = s.paired ? 0 : s.version == 1 ? 352 : 544;
        nifti_header(&s, &good[form]);
    }
    for (int i = 0; i < 100000; i++) {
        struct nifti_header h;
        uint8_t written[MCS_NIFTI_MAX_BYTES];
        float spacing[3];
        const struct nifti_file *from = &good[i % 8];
        const int n = from->n - 4;
        memcpy(f.bytes, from->bytes, (size_t)from->n);
        mutate(f.bytes, n);
        mcs_error_clear();
        const enum mcs_status st =
            mcs_nifti_parse("x", f.bytes, i % 16 == 15 ? (int64_t)(draw() % (uint64_t)n) : n, &h);
        cr_assert(st == MCS_OK || st == MCS_E_DATA);
        if (st != MCS_OK) continue;
        accepted++;
        for (int k = 1; k < 4; k++) cr_assert(h.dim[k] >= 1 && h.dim[k] <= 65535);
        for (int k = 4; k < 8; k++) cr_assert_eq(h.dim[k], 1);
        cr_assert(h.dim[1] * h.dim[2] * h.dim[3] <= (int64_t)1 << 33);
        cr_assert(mcs_nifti_value_bytes(&h) * 8 == h.bitpix);
        cr_assert(h.vox_offset >= 0 && h.vox_offset < 0x1p31 && isfinite(h.scl_slope) && isfinite(h.scl_inter));
        if (mcs_nifti_spacing("x", &h, spacing) == MCS_OK)
            for (int k = 0; k < 3; k++) cr_assert(spacing[k] > 0 && spacing[k] < 1e6f);
        const int n_written = mcs_nifti_make(&h, MCS_NIFTI_UINT8, written);
        cr_assert_eq(mcs_nifti_parse("x", written, n_written, &h), MCS_OK, "%s", mcs_error_message());
    }
    cr_assert(accepted > 10000 && accepted < 90000, "%d accepted", accepted);
}

/* The whole reader on changed files, compressed or not. */
Test(nifti_random, changed_files)
{
    static struct nifti_file f;
    int accepted = 0;
    const int runs = 4000;
    char path[] = "/tmp/mcs_random_XXXXXX.nii";
    const int fd = mkstemps(path, 4);
    cr_assert_geq(fd, 0);
    mcs_memory_limit_set((int64_t)1 << 30);
    for (int i = 0; i < runs; i++) {
        struct nifti_spec s = nifti_spec();
        struct volume v;
        const double values[N] = {1, 2, 3};
        const int32_t extension = 32;
        s.version = 1 + i % 2;
        s.swapped = i / 2 % 2;
        s.vox_offset = (s.version == 1 ? 352 : 544) + 32;
        nifti_header(&s, &f);
        f.bytes[f.n - 4] = 1;
        memset(f.bytes + f.n, 0, 32);
        nifti_put(f.bytes + f.n, &extension, 4, s.swapped);
        f.n += 32;
        nifti_append(&s, &f, values, N);
        mutate(f.bytes, f.n);
        /* Overwritten in place: a file that is truncated and rewritten is synced to the disk each time. */
        const int n = draw() % 8 ? f.n : (int)(draw() % (uint64_t)f.n);
        cr_assert(pwrite(fd, f.bytes, (size_t)n, 0) == n && ftruncate(fd, n) == 0);
        mcs_error_clear();
        const enum mcs_status st = mcs_volume_read(path, &v);
        cr_assert(st == MCS_OK || st == MCS_E_DATA || st == MCS_E_NOINPUT, "%s", mcs_error_message());
        if (st != MCS_OK) continue;
        accepted++;
        mcs_volume_free(&v);
    }
    close(fd);
    unlink(path);
    cr_assert(accepted > runs / 10 && accepted < runs * 9 / 10, "%d accepted", accepted);
}
