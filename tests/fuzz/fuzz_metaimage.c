#include "tests/fuzz/support_fuzz.h"

FUZZ(metaimage)
{
    fuzz_picture(fuzz_file(data, size, "f.mha"));
}
