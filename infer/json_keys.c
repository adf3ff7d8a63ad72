#include "infer/json_keys.h"

#include <string.h>

enum mcs_status mcs_json_key_int(const char *path, const char *group, const json_t *object, const char *key, int *dst)
{
    const json_t *v = json_object_get(object, key);
    if (!v || json_is_null(v)) return MCS_OK;
    const json_int_t n = json_integer_value(v);
    MCS_REQUIRE(json_is_integer(v) && n >= 1 && n <= 1 << 16, MCS_E_DATA,
                "%s: %s.%s: want a whole number from 1 to 65536", path, group, key);
    *dst = (int)n;
    return MCS_OK;
}

enum mcs_status mcs_json_key_agree(const char *path, const char *group, const json_t *object, const char *key, int size)
{
    int said = size;
    MCS_TRY(mcs_json_key_int(path, group, object, key, &said));
    MCS_REQUIRE(said == size, MCS_E_DATA, "%s: %s.%s is %d, but the tensors have %d", path, group, key, said, size);
    return MCS_OK;
}

enum mcs_status mcs_json_key_only(const char *path, const char *group, const json_t *object, const char *key,
                                  const char *accepts)
{
    const json_t *v = json_object_get(object, key);
    char value[96];
    if (!v) return MCS_OK;
    const size_t n = json_dumpb(v, value, sizeof value - 1, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    value[n < sizeof value ? n : 0] = '\0';
    for (const char *at = accepts; at && *value; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        const size_t len = strcspn(at, "|");
        if (len == strlen(value) && !strncmp(at, value, len)) return MCS_OK;
    }
    return MCS_FAIL(MCS_E_DATA, "%s: %s.%s is %s; want %s", path, group, key, *value ? value : "a long value", accepts);
}
