#include "tests/fuzz/support_fuzz.h"

FUZZ(safetensors)
{
    fuzz_weights(fuzz_file(data, size, "f.safetensors"));
}
