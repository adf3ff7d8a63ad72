#include "tests/fuzz/support_fuzz.h"

/* The index is the input; the file that it may name is there. */
FUZZ(shards)
{
    static const char part[] =
        "\x38\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  ABCD";
    fuzz_file((const uint8_t *)part, sizeof part - 1, "1.safetensors");
    fuzz_weights(fuzz_file(data, size, "f.index.json"));
}
