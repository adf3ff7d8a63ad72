#include "data/image/volume.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

enum { HEADER_1 = 348, HEADER_2 = 540, MOST_WRITTEN = 1 << 16 };

/* Header and voxels in two files where the magic says so, gzip if it has its first two bytes, else one file. */
static const char *as_files(const uint8_t *data, size_t size)
{
    const int one = size > HEADER_1 && memcmp(data + 344, "ni1", 4) == 0;
    const int two = size > HEADER_2 && memcmp(data + 4, "ni2", 4) == 0;
    const size_t header = one ? HEADER_1 : two ? HEADER_2 : 0;
    if (size > 1 && data[0] == 0x1F && data[1] == 0x8B) return fuzz_file(data, size, "f.nii.gz");
    if (!header) return fuzz_file(data, size, "f.nii");
    fuzz_file(data + header, size - header, "f.img");
    return fuzz_file(data, header, "f.hdr");
}

/* Writes the volume with its geometry and reads it again: the same values at the same positions. */
static void write_and_read(const struct volume *v)
{
    struct volume w = {0};
    const size_t bytes = (size_t)v->nx * (size_t)v->ny * (size_t)v->nz * sizeof *v->values;
    if (bytes > MOST_WRITTEN) return;
    const char *path = fuzz_file(NULL, 0, "g.nii");
    if (!fuzz_ended(mcs_volume_write_f32(path, v->values, v))) return; /* a header without a usable position */
    FUZZ_REQUIRE(mcs_volume_read(path, &w) == MCS_OK, "%s", mcs_error_message());
    FUZZ_REQUIRE(w.nx == v->nx && w.ny == v->ny && w.nz == v->nz, "%d x %d x %d, read again %d x %d x %d", v->nx, v->ny,
                 v->nz, w.nx, w.ny, w.nz);
    for (int a = 0; a < 3; a++) /* float32, or float64 in NIfTI-2, in millimetres or another unit: a few roundings */
        FUZZ_REQUIRE(w.spacing[a] >= v->spacing[a] * 0.999999f && w.spacing[a] <= v->spacing[a] * 1.000001f,
                     "axis %d: %g mm, read again %g", a, (double)v->spacing[a], (double)w.spacing[a]);
    for (size_t i = 0; i < bytes / sizeof *v->values; i++)
        FUZZ_REQUIRE(w.values[i] == v->values[i] || (w.values[i] != w.values[i] && v->values[i] != v->values[i]),
                     "value %zu: %g, read again %g", i, (double)v->values[i], (double)w.values[i]);
    mcs_volume_free(&w);
}

FUZZ(nifti)
{
    struct volume v = {0};
    if (!fuzz_ended(mcs_volume_read(as_files(data, size), &v))) return;
    FUZZ_REQUIRE(v.nx > 0 && v.ny > 0 && v.nz > 0, "%d x %d x %d", v.nx, v.ny, v.nz);
    for (int a = 0; a < 3; a++) FUZZ_REQUIRE(v.spacing[a] > 0, "axis %d: %g mm", a, (double)v.spacing[a]);
    fuzz_use(v.values, (size_t)v.nx * (size_t)v.ny * (size_t)v.nz * sizeof *v.values);
    write_and_read(&v);
    mcs_volume_free(&v);
}
