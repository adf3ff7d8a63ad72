#include "tests/fuzz/support_fuzz.h"

FUZZ(nrrd)
{
    fuzz_picture(fuzz_file(data, size, "f.nrrd"));
}
