#include "tests/fuzz/support_fuzz.h"

FUZZ(dicom)
{
    fuzz_picture(fuzz_file(data, size, "f.dcm"));
}
