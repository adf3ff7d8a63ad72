#include "tests/fuzz/support_fuzz.h"

FUZZ(tiff)
{
    fuzz_picture(fuzz_file(data, size, "f.tif"));
}
