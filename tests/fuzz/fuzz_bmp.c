#include "tests/fuzz/support_fuzz.h"

FUZZ(bmp)
{
    fuzz_picture(fuzz_file(data, size, "f.bmp"));
}
