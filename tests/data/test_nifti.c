/* NIfTI files of every type, version, byte order and form, against values computed here; refused files; the contents of
 * written files. Damage is in test_nifti_hostile.c. */
#include "data/image/nifti.h"
#include "data/image/volume.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_nifti.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { N = 4 * 3 * 2 };

static void setup(void)
{
    test_folder_open("nifti");
    mcs_log_quiet(1);
}

TestSuite(nifti, .init = setup, .fini = test_folder_close);

/* The values include the smallest and the largest of each type. */
static const struct {
    int code;
    double lo, hi;
} types[] = {
    {2, 0, 255},
    {4, -32768, 32767},
    {8, -2147483648.0, 2147483647},
    {16, -3.25e38, 3.25e38},
    {64, -1e30, 1e30},
    {256, -128, 127},
    {512, 0, 65535},
    {768, 0, 4294967295.0},
    {1024, -9223372036854775808.0, 9223372036854774784.0}, /* the double below 2^63 */
    {1280, 0, 18446744073709549568.0},                     /* the double below 2^64 */
};
enum { N_TYPES = sizeof types / sizeof *types };

static void fill(int type, double values[N])
{
    for (int i = 0; i < N; i++) {
        values[i] = types[type].lo < 0 ? 5 * i - 60 : 5 * i;
        if (types[type].code == 16 || types[type].code == 64) values[i] = (float)(values[i] * 0.1);
    }
    values[3] = types[type].lo;
    values[N - 1] = types[type].hi;
    if (types[type].code == 64) values[5] = 0.1; /* not a float32 */
    if (types[type].code == 1024 || types[type].code == 8 || types[type].code == 768)
        values[7] = 16777217; /* 2^24 + 1: the first integer that float32 cannot represent; ties go to even */
}

/* Saves a volume in the form of the spec and returns the name to read it by. */
static const char *save(const struct nifti_spec *s, const double *values, int n, int packed)
{
    static struct nifti_file f, image;
    nifti_header(s, &f);
    if (!s->paired) {
        nifti_append(s, &f, values, n);
        nifti_save(in_folder(packed ? "a.nii.gz" : "a.nii"), f.bytes, f.n, packed);
        return in_folder(packed ? "a.nii.gz" : "a.nii");
    }
    image.n = 0;
    nifti_append(s, &image, values, n);
    unlink(in_folder(packed ? "a.hdr" : "a.hdr.gz"));
    unlink(in_folder(packed ? "a.img" : "a.img.gz"));
    nifti_save(in_folder(packed ? "a.hdr.gz" : "a.hdr"), f.bytes, f.n, packed);
    nifti_save(in_folder(packed ? "a.img.gz" : "a.img"), image.bytes, image.n, packed);
    return in_folder(packed ? "a.hdr.gz" : "a.hdr");
}

Test(nifti, every_type_version_order_and_form)
{
    static const double scales[][2] = {{1, 0}, {0, 7}, {NAN, 7}, {0.25, -11.5}, {-2, 0}, {1, 3}};
    int turn = 0;
    for (int t = 0; t < N_TYPES; t++)
        for (int form = 0; form < 16; form++, turn++) {
            struct nifti_spec s = nifti_spec();
            struct volume v;
            double values[N];
            const int packed = form >> 3 & 1;
            s.version = 1 + (form & 1);
            s.swapped = form >> 1 & 1;
            s.paired = form >> 2 & 1;
            s.datatype = types[t].code;
            s.bitpix = nifti_bits(types[t].code);
            s.vox_offset = s.paired ? 0 : s.version == 1 ? 352 : 544;
            s.slope = scales[turn % 6][0];
            s.inter = scales[turn % 6][1];
            s.dim[0] = 3 + turn % 5; /* trailing dimensions of 1 are one volume */
            fill(t, values);
            const char *path = save(&s, values, N, packed);
            cr_assert_eq(mcs_volume_read(path, &v), MCS_OK, "%s", mcs_error_message());
            cr_assert(v.nx == 4 && v.ny == 3 && v.nz == 2);
            cr_assert(v.spacing[0] == 0.5f && v.spacing[1] == 0.75f && v.spacing[2] == 2.5f);
            const int none = !(s.slope < 0 || s.slope > 0);
            for (int i = 0; i < N; i++) {
                const float want = (float)(none ? values[i] : s.slope * values[i] + s.inter);
                cr_assert(v.values[i] == want, "type %d, form %d: voxel %d is %.9g, want %.9g", types[t].code, form, i,
                          v.values[i], want);
            }
            mcs_volume_free(&v);
        }
}

Test(nifti, nan_and_infinity_are_kept)
{
    for (int form = 0; form < 4; form++) {
        struct nifti_spec s = nifti_spec();
        struct volume v;
        double values[N] = {NAN, INFINITY, -INFINITY, 1};
        s.datatype = form & 1 ? 16 : 64;
        s.bitpix = nifti_bits(s.datatype);
        s.swapped = form >> 1;
        cr_assert_eq(mcs_volume_read(save(&s, values, N, 0), &v), MCS_OK, "%s", mcs_error_message());
        cr_expect(isnan(v.values[0]) && v.values[1] == INFINITY && v.values[2] == -INFINITY && v.values[3] == 1);
        mcs_volume_free(&v);
    }
}

/* Metrics use distances in mm, so a file in metres that is read as mm is wrong by a factor of a thousand. */
Test(nifti, spacing_in_every_unit)
{
    static const struct {
        int code;
        double factor;
    } units[] = {{0, 1}, {1, 1000}, {2, 1}, {3, 0.001}, {2 | 8, 1}, {1 | 16, 1000}, {3 | 24, 0.001}, {8, 1}};
    const double values[N] = {0};
    for (int form = 0; form < 4; form++)
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            struct nifti_spec s = nifti_spec();
            struct volume v;
            s.version = 1 + (form & 1);
            s.swapped = form >> 1;
            s.vox_offset = s.version == 1 ? 352 : 544;
            s.units = units[u].code;
            s.pixdim[2] = -0.75; /* a sign does not change a distance */
            cr_assert_eq(mcs_volume_read(save(&s, values, N, 0), &v), MCS_OK, "%s", mcs_error_message());
            const double want[3] = {0.5, 0.75, 2.5};
            for (int i = 0; i < 3; i++)
                cr_expect(v.spacing[i] == (float)(want[i] * units[u].factor), "unit %d: %.9g along %c", units[u].code,
                          v.spacing[i], "xyz"[i]);
            mcs_volume_free(&v);
        }
}

Test(nifti, fewer_dimensions)
{
    static const struct {
        int64_t dim[4];
        double pixdim_z;
        float spacing_z;
    } shapes[] = {{{1, 24, 9, 9}, 0, 1},  {{2, 6, 4, 9}, 0, 1}, {{2, 6, 4, 9}, 2.5, 2.5f},
                  {{2, 6, 4, 0}, NAN, 1}, {{3, 6, 4, 1}, 0, 1}, {{3, 24, 1, 1}, 3, 3}};
    const double values[N] = {1, 2, 3};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct nifti_spec s = nifti_spec();
        struct volume v;
        memcpy(s.dim, shapes[i].dim, sizeof shapes[i].dim);
        s.pixdim[3] = shapes[i].pixdim_z;
        cr_assert_eq(mcs_volume_read(save(&s, values, N, 0), &v), MCS_OK, "%s", mcs_error_message());
        cr_expect(v.nx == s.dim[1] && v.ny == (s.dim[0] > 1 ? s.dim[2] : 1) && v.nz == 1);
        cr_expect(v.spacing[2] == shapes[i].spacing_z, "%g", v.spacing[2]);
        cr_expect_eq(v.values[2], 3);
        mcs_volume_free(&v);
    }
}

/* ---- pairs ---- */

static void fails(const char *path, enum mcs_status want, const char *word)
{
    struct volume v;
    mcs_error_clear();
    const enum mcs_status st = mcs_volume_read(path, &v);
    cr_expect_eq(st, want, "%s: status %d: %s", path, st, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), word), "no '%s' in: %s", word, mcs_error_message());
    cr_expect(!v.values && !v.header && !v.nx);
    if (st == MCS_OK) mcs_volume_free(&v);
    mcs_error_clear();
}

Test(nifti, pairs_by_either_name)
{
    static const char *const names[][2] = {
        {"b.hdr", "b.img"}, {"B.HDR", "B.IMG"}, {"c.hdr.gz", "c.img.gz"}, {"d.hdr", "d.img.gz"}, {"e.hdr.gz", "e.img"}};
    double values[N];
    fill(1, values);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct nifti_spec s = nifti_spec();
        struct nifti_file f, image = {0};
        s.paired = 1;
        s.vox_offset = i == 1 ? 32 : 0; /* bytes before the voxels in the .img */
        image.n = (int)s.vox_offset;
        nifti_header(&s, &f);
        nifti_append(&s, &image, values, N);
        nifti_save(in_folder(names[i][0]), f.bytes, i == 0 ? 348 : f.n, strstr(names[i][0], ".gz") != NULL);
        nifti_save(in_folder(names[i][1]), image.bytes, image.n, strstr(names[i][1], ".gz") != NULL);
        for (int by = 0; by < 2; by++) {
            struct volume v;
            cr_assert_eq(mcs_volume_read(in_folder(names[i][by]), &v), MCS_OK, "%s", mcs_error_message());
            for (int k = 0; k < N; k++) cr_assert_eq(v.values[k], (float)values[k]);
            mcs_volume_free(&v);
        }
    }
    unlink(in_folder("b.img"));
    fails(in_folder("b.hdr"), MCS_E_NOINPUT, "b.img");
    unlink(in_folder("B.HDR"));
    fails(in_folder("B.IMG"), MCS_E_NOINPUT, "B.HDR");
    cr_assert_eq(mkdir(in_folder("b.img"), 0777), 0);
    fails(in_folder("b.hdr"), MCS_E_NOINPUT, "b.img");
}

Test(nifti, a_single_file_says_so)
{
    struct nifti_spec s = nifti_spec();
    struct nifti_file f;
    struct volume v;
    const double values[N] = {0};
    nifti_header(&s, &f);
    nifti_append(&s, &f, values, N);
    nifti_save(in_folder("one.hdr"), f.bytes, f.n, 0); /* n+1 in a .hdr: the voxels follow the header */
    cr_assert_eq(mcs_volume_read(in_folder("one.hdr"), &v), MCS_OK, "%s", mcs_error_message());
    mcs_volume_free(&v);
    memcpy(f.bytes + 344, "ni1", 4);
    nifti_save(in_folder("two.nii"), f.bytes, f.n, 0);
    fails(in_folder("two.nii"), MCS_E_DATA, "name it .hdr");
    nifti_save(in_folder("name.png"), f.bytes, f.n, 0);
    fails(in_folder("name.png"), MCS_E_DATA, "name it .hdr");
}

/* ---- names that contradict contents ---- */

Test(nifti, gzip_is_known_by_its_bytes)
{
    struct nifti_spec s = nifti_spec();
    struct nifti_file f;
    double values[N];
    fill(1, values);
    nifti_header(&s, &f);
    nifti_append(&s, &f, values, N);
    nifti_save(in_folder("plain.nii.gz"), f.bytes, f.n, 0);
    nifti_save(in_folder("packed.nii"), f.bytes, f.n, 1);
    nifti_save(in_folder("CAPITAL.NII.GZ"), f.bytes, f.n, 1);
    /* concatenated gzip streams are one file, as `cat a.gz b.gz` and bgzip make them */
    nifti_save(in_folder("first"), f.bytes, 400 - 40, 1);
    nifti_save(in_folder("second"), f.bytes + 360, f.n - 360, 1);
    char command[400];
    snprintf(command, sizeof command, "cd %s && cat first second > members.nii.gz", test_folder);
    cr_assert_eq(system(command), 0);
    static const char *const names[] = {"plain.nii.gz", "packed.nii", "CAPITAL.NII.GZ", "members.nii.gz"};
    for (int i = 0; i < 4; i++) {
        struct volume v;
        cr_assert_eq(mcs_volume_read(in_folder(names[i]), &v), MCS_OK, "%s", mcs_error_message());
        for (int k = 0; k < N; k++) cr_assert_eq(v.values[k], (float)values[k]);
        mcs_volume_free(&v);
    }
}

/* ---- writing ---- */

static int64_t get_int(const char *bytes, int at, int n)
{
    int64_t v = 0;
    memcpy(&v, bytes + at, (size_t)n);
    return n == 2 ? (int16_t)v : n == 4 ? (int32_t)v : v;
}

/* The mask's header equals the one that the spec makes for NIfTI-1 in this machine's byte order, whatever the image's
 * form was, except for type, scaling and display range. */
Test(nifti, a_mask_has_its_image_s_geometry)
{
    const double values[N] = {0};
    uint8_t labels[N];
    for (int i = 0; i < N; i++) labels[i] = (uint8_t)(i * 3);
    for (int form = 0; form < 8; form++) {
        struct nifti_spec s = nifti_spec(), want_spec = s;
        struct nifti_file want;
        struct volume v, again;
        char *got;
        int64_t n;
        s.version = 1 + (form & 1);
        s.swapped = form >> 1 & 1;
        s.paired = form >> 2 & 1;
        s.vox_offset = s.paired ? 0 : s.version == 1 ? 352 : 544;
        s.slope = 2;
        s.inter = -1024;
        s.pixdim[2] = -s.pixdim[2]; /* distances are written without a sign */
        cr_assert_eq(mcs_volume_read(save(&s, values, N, 0), &v), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_volume_write_u8(in_folder("mask.nii"), labels, &v), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_volume_write_u8(in_folder("mask.nii.gz"), labels, &v), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_file_read(in_folder("mask.nii"), 1 << 20, &got, &n), MCS_OK);
        want_spec.datatype = 2;
        want_spec.bitpix = 8;
        want_spec.slope = 1;
        nifti_header(&want_spec, &want);
        memset(want.bytes + 124, 0, 8); /* cal_max, cal_min */
        want.bytes[38] = 'r';           /* regular */
        cr_assert_eq(n, 352 + N);
        for (int i = 0; i < 352; i++)
            cr_expect((uint8_t)got[i] == want.bytes[i], "form %d, byte %d: %d, want %d", form, i, (uint8_t)got[i],
                      want.bytes[i]);
        cr_expect_arr_eq(got + 352, labels, N);
        free(got);
        cr_assert_eq(mcs_volume_read(in_folder("mask.nii.gz"), &again), MCS_OK, "%s", mcs_error_message());
        for (int i = 0; i < N; i++) cr_assert_eq(again.values[i], labels[i]);
        cr_expect_arr_eq(again.spacing, v.spacing, sizeof v.spacing);
        mcs_volume_free(&again);
        mcs_volume_free(&v);
    }
}

static float get_real(const char *bytes, int at)
{
    float v;
    memcpy(&v, bytes + at, 4);
    return v;
}

Test(nifti, a_volume_that_came_from_no_file)
{
    const float spacing[3] = {0.7f, 0.8f, 3};
    for (int nz = 1; nz <= 2; nz++) {
        struct volume v;
        char *got;
        int64_t n;
        cr_assert_eq(mcs_volume_alloc(&v, 5, 4, nz, spacing), MCS_OK);
        cr_assert_eq(mcs_volume_write_f32(in_folder("n.nii"), v.values, &v), MCS_OK, "%s", mcs_error_message());
        cr_assert_eq(mcs_file_read(in_folder("n.nii"), 1 << 20, &got, &n), MCS_OK);
        cr_expect_eq(n, 352 + 4 * 20 * nz);
        const int64_t dim[8] = {nz == 1 ? 2 : 3, 5, 4, nz, 1, 1, 1, 1};
        for (int i = 0; i < 8; i++) cr_expect_eq(get_int(got, 40 + 2 * i, 2), dim[i], "dim[%d]", i);
        cr_expect(get_int(got, 70, 2) == 16 && get_int(got, 72, 2) == 32 && get_real(got, 108) == 352);
        cr_expect(get_real(got, 76) == 1, "right-handed");
        for (int i = 0; i < 3; i++) cr_expect_eq(get_real(got, 80 + 4 * i), spacing[i]);
        cr_expect(got[123] == 2, "mm");
        cr_expect(get_int(got, 252, 2) == 1 && get_int(got, 254, 2) == 0, "scanner coordinates by qform alone");
        free(got);
        mcs_volume_free(&v);
    }
}

/* 16 bits allow at most 32767 voxels per side, so longer ones are written as NIfTI-2, and read again. */
Test(nifti, long_sides_are_written_as_version_2)
{
    struct volume v, again;
    char *got;
    int64_t n;
    for (int axis = 0; axis < 3; axis++)
        for (int nx = 32767; nx <= 32768; nx++) {
            cr_assert_eq(mcs_volume_alloc(&v, axis == 0 ? nx : 1, axis == 1 ? nx : 1, axis == 2 ? nx : 1, NULL),
                         MCS_OK);
            v.values[nx - 1] = 7;
            cr_assert_eq(mcs_volume_write_f32(in_folder("l.nii"), v.values, &v), MCS_OK, "%s", mcs_error_message());
            cr_assert_eq(mcs_file_read(in_folder("l.nii"), 1 << 20, &got, &n), MCS_OK);
            const int version = nx > 32767 ? 2 : 1, at = version == 2 ? 544 : 352;
            cr_expect_eq(get_int(got, 0, 4), version == 2 ? 540 : 348);
            cr_expect(memcmp(got + (version == 2 ? 4 : 344), version == 2 ? "n+2\0\r\n\032\n" : "n+1",
                             version == 2 ? 8 : 4) == 0);
            cr_expect_eq(n, at + 4 * (int64_t)nx);
            free(got);
            cr_assert_eq(mcs_volume_read(in_folder("l.nii"), &again), MCS_OK, "%s", mcs_error_message());
            cr_expect(again.nx == v.nx && again.ny == v.ny && again.nz == v.nz && again.values[nx - 1] == 7);
            mcs_volume_free(&again);
            mcs_volume_free(&v);
        }
}

/* Codes of NIfTI-2 that do not fit NIfTI-1 are written as "not given", never as another code. */
Test(nifti, codes_that_do_not_fit_are_left_out)
{
    struct nifti_header h = {.version = 2, .dim = {3, 1, 1, 1, 1, 1, 1, 1}, .intent_code = 65536 + 1002};
    uint8_t bytes[MCS_NIFTI_MAX_BYTES];
    h.slice_end = 40000;
    h.qform_code = 3;
    cr_assert_eq(mcs_nifti_make(&h, MCS_NIFTI_UINT8, bytes), 352);
    cr_expect_eq(get_int((const char *)bytes, 68, 2), 0);
    cr_expect_eq(get_int((const char *)bytes, 120, 2), 0);
    cr_expect_eq(get_int((const char *)bytes, 252, 2), 3);
}

Test(nifti, packed_files_hold_no_time)
{
    struct volume v;
    uint8_t labels[8] = {1, 2, 3};
    char *a, *b;
    int64_t na, nb;
    cr_assert_eq(mcs_volume_alloc(&v, 2, 2, 2, NULL), MCS_OK);
    cr_assert_eq(mcs_volume_write_u8(in_folder("a.nii.gz"), labels, &v), MCS_OK);
    sleep(1); /* gzip's time is in seconds */
    cr_assert_eq(mcs_volume_write_u8(in_folder("other.nii.gz"), labels, &v), MCS_OK);
    cr_assert_eq(mcs_file_read(in_folder("a.nii.gz"), 1 << 20, &a, &na), MCS_OK);
    cr_assert_eq(mcs_file_read(in_folder("other.nii.gz"), 1 << 20, &b, &nb), MCS_OK);
    cr_expect(na == nb && memcmp(a, b, (size_t)na) == 0);
    cr_expect((uint8_t)a[0] == 0x1f && a[3] == 0 && get_int(a, 4, 4) == 0, "flags (name) and time are 0");
    free(a);
    free(b);
    mcs_volume_free(&v);
}

/* More bytes than one call of zlib takes (16 MiB). */
Test(nifti, large_files_in_parts)
{
    enum { NX = 300, NY = 300, NZ = 200 };
    struct volume v, again;
    cr_assert_eq(mcs_volume_alloc(&v, NX, NY, NZ, NULL), MCS_OK);
    uint8_t *labels = malloc((size_t)NX * NY * NZ);
    cr_assert(labels);
    for (int i = 0; i < NX * NY * NZ; i++) labels[i] = (uint8_t)(i / 70000);
    cr_assert_eq(mcs_volume_write_u8(in_folder("large.nii.gz"), labels, &v), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_volume_read(in_folder("large.nii.gz"), &again), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < NX * NY * NZ; i++) cr_assert(again.values[i] == labels[i], "voxel %d", i);
    free(labels);
    mcs_volume_free(&v);
    mcs_volume_free(&again);
}
