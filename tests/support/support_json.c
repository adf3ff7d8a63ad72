#include "tests/support/support_json.h"

#include "data/io/gzip.h"
#include "data/io/json.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_BYTES = 1 << 24, WHERE_BYTES = 512 };

json_t *golden_json(const char *name)
{
    char path[1024];
    struct gzip_input *in;
    json_t *root;
    int64_t n;
    char *bytes = malloc(MAX_BYTES);
    snprintf(path, sizeof path, *name == '/' ? "%s" : MCS_SOURCE_DIR "/tests/golden/%s", name);
    cr_assert(bytes);
    cr_assert_eq(mcs_gzip_open(path, &in), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_gzip_read_some(in, bytes, MAX_BYTES, &n), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_json_parse(path, bytes, n, 0, &root), MCS_OK, "%s", mcs_error_message());
    mcs_gzip_close(in);
    free(bytes);
    return root;
}

static void same_object(const char *where, const json_t *got, const json_t *want, double tolerance)
{
    const char *key;
    json_t *value;
    char inner[WHERE_BYTES];
    json_object_foreach((json_t *)got, key, value)
        cr_assert(json_object_get(want, key), "%s: the key %s is not expected", where, key);
    json_object_foreach((json_t *)want, key, value)
    {
        const json_t *mine = json_object_get(got, key);
        cr_assert(mine, "%s: no key %s", where, key);
        snprintf(inner, sizeof inner, "%s/%s", where, key);
        same_json(inner, mine, value, tolerance);
    }
}

void same_json(const char *where, const json_t *got, const json_t *want, double tolerance)
{
    char inner[WHERE_BYTES];
    if (json_is_number(want)) {
        const double a = json_number_value(got), b = json_number_value(want),
                     allowed = json_is_integer(want) ? 0 : tolerance * fmax(1, fabs(b));
        cr_assert(json_is_number(got) && fabs(a - b) <= allowed, "%s: %.17g, want %.17g", where, a, b);
        return;
    }
    cr_assert_eq(json_typeof(got), json_typeof(want), "%s: another type", where);
    if (json_is_string(want))
        cr_assert_str_eq(json_string_value(got), json_string_value(want), "%s: %s, want %s", where,
                         json_string_value(got), json_string_value(want));
    if (json_is_object(want)) same_object(where, got, want, tolerance);
    if (!json_is_array(want)) return;
    cr_assert_eq(json_array_size(got), json_array_size(want), "%s: %zu elements, want %zu", where, json_array_size(got),
                 json_array_size(want));
    for (size_t i = 0; i < json_array_size(want); i++) {
        snprintf(inner, sizeof inner, "%s/%zu", where, i);
        same_json(inner, json_array_get(got, i), json_array_get(want, i), tolerance);
    }
}
