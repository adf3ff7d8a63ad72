#include "tests/fuzz/support_fuzz.h"

FUZZ(torch)
{
    fuzz_weights(fuzz_file(data, size, "f.pt"));
}
