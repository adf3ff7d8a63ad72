#include "engine/cli/config.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

struct fuzzed {
    struct mcs_common common;
    const char *text, *word;
    int64_t count;
    double rate;
    int flag, choice;
    struct mcs_strings list;
};

static const struct mcs_option options[] = {
    {"text", 't', MCS_FIELD(fuzzed, text), .def = "x"},
    {"word", 0, MCS_FIELD(fuzzed, word), .def = "a", .choices = "a|b"},
    {"count", 0, MCS_FIELD(fuzzed, count), .def = "1", .lo = 0, .hi = 1e6},
    {"nested.rate", 0, MCS_FIELD(fuzzed, rate), .def = "0.5", .alias = "rate"},
    {"flag", 0, MCS_FIELD(fuzzed, flag), .help = ""},
    {"choice", 0, MCS_FIELD(fuzzed, choice), .def = "one", .choices = "one|two"},
    {"list", 0, MCS_FIELD(fuzzed, list), .help = ""},
    {0},
};
static const struct mcs_verb verb = {.name = "v",
                                     .line = "",
                                     .options = options,
                                     .options_bytes = sizeof(struct fuzzed),
                                     .args = "X",
                                     .max_args = 1 << 20};

/* Saving and reading the options of a file again gives the same options. */
FUZZ(config)
{
    struct arena a = {0};
    struct fuzzed one, two;
    const char *path = fuzz_file(data, size, "f.yaml"), *of;
    char *argv[] = {"--config", (char *)path};
    if (fuzz_ended(mcs_config_verb(path, &a, &of))) fuzz_use(of, strlen(of));
    if (fuzz_ended(mcs_config_parse_env(&verb, 2, argv, NULL, &a, &one))) {
        const char *text = mcs_config_text(&one, &a);
        argv[1] = (char *)fuzz_file((const uint8_t *)text, strlen(text), "g.yaml");
        FUZZ_REQUIRE(mcs_config_parse_env(&verb, 2, argv, NULL, &a, &two) == MCS_OK, "%s in:\n%s", mcs_error_message(),
                     text);
        FUZZ_REQUIRE(!strcmp(mcs_config_text(&two, &a), text), "saved:\n%sread again:\n%s", text,
                     mcs_config_text(&two, &a));
    }
    mcs_arena_free(&a);
}
