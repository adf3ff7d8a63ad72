#include "data/io/json.h"
#include "engine/base/escape.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

FUZZ(json)
{
    json_t *root, *again;
    struct arena a = {0};
    if (fuzz_ended(
            mcs_json_read(fuzz_file(data, size, "f.json"), 1 << 20, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &root))) {
        char *text = json_dumps(root, JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
        FUZZ_REQUIRE(text, "what was read cannot be written");
        FUZZ_REQUIRE(mcs_json_parse("again", text, (int64_t)strlen(text), JSON_DECODE_ANY, &again) == MCS_OK, "%s",
                     mcs_error_message());
        FUZZ_REQUIRE(json_equal(root, again), "read again it differs: %s", text);
        json_decref(again);
        json_decref(root);
        free(text);
    }
    /* Any bytes as a name: preserved in JSON, and different from every other. */
    char *name = fuzz_as_text(data, size), shown[256];
    json_t *value = mcs_json_text(name);
    FUZZ_REQUIRE(value, "a name that JSON does not take");
    FUZZ_REQUIRE(strcmp(mcs_json_name(&a, json_string_value(value)), name) == 0, "a name that is not given back");
    json_decref(value);
    mcs_text_escape(shown, sizeof shown, name);
    for (const char *p = shown; *p; p++)
        FUZZ_REQUIRE((unsigned char)*p >= 0x20, "byte 0x%02x shown", (unsigned char)*p);
    FUZZ_REQUIRE(strcmp(mcs_text_shown(shown), shown) == 0, "escaped twice it differs: %s", shown);
    free(name);
    mcs_arena_free(&a);
}
