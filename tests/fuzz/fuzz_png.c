#include "tests/fuzz/support_fuzz.h"

FUZZ(png)
{
    fuzz_image(fuzz_file(data, size, "f.png"));
}
