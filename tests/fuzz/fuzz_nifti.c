#include "data/volume.h"
#include "tests/fuzz/support_fuzz.h"

FUZZ(nifti)
{
    struct volume v = {0};
    const int packed = size > 1 && data[0] == 0x1F && data[1] == 0x8B;
    if (!fuzz_ended(mcs_volume_read(fuzz_file(data, size, packed ? "f.nii.gz" : "f.nii"), &v))) return;
    FUZZ_REQUIRE(v.nx > 0 && v.ny > 0 && v.nz > 0, "%d x %d x %d", v.nx, v.ny, v.nz);
    for (int a = 0; a < 3; a++) FUZZ_REQUIRE(v.spacing[a] > 0, "spacing %g", (double)v.spacing[a]);
    fuzz_use(v.values, (size_t)v.nx * (size_t)v.ny * (size_t)v.nz * sizeof *v.values);
    mcs_volume_free(&v);
}
