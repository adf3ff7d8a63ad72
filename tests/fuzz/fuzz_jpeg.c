#include "tests/fuzz/support_fuzz.h"

FUZZ(jpeg)
{
    fuzz_image(fuzz_file(data, size, "f.jpg"));
}
