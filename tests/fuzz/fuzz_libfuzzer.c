/* The entry point for libFuzzer, compiled once per reader with -DFUZZ_NAME=png. */
#include "tests/fuzz/support_fuzz.h"

#define CALL_(name) fuzz_##name
#define CALL(name) CALL_(name)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CALL(FUZZ_NAME)(data, size);
    return 0;
}
