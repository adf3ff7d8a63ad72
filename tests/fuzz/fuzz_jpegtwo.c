#include "tests/fuzz/support_fuzz.h"

FUZZ(jpegtwo)
{
    fuzz_picture(fuzz_file(data, size, "f.jp2"));
}
