#include "infer/clip/clip_keys.h"

#include "data/io/bounds.h"

#include <limits.h>
#include <math.h>
#include <string.h>

static int accepts(const char *list, const char *value)
{
    const size_t n = strlen(value);
    for (const char *at = list; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (!strncmp(at, value, n) && (at[n] == '|' || !at[n])) return 1;
    return 0;
}

enum mcs_status mcs_clip_check_values(const char *path, const char *group, const json_t *object,
                                      const struct clip_key *rules)
{
    for (const struct clip_key *r = rules; r->key; r++) {
        const json_t *v = json_object_get(object, r->key);
        MCS_REQUIRE(v || !r->missing, MCS_E_DATA, "%s: no %s.%s, for which open_clip takes %s; mcsam supports %s", path,
                    group, r->key, r->missing, r->accepts ? r->accepts : "the BERT tokenizer of the folder");
        if (!v || !r->accepts) continue;
        char value[160];
        const size_t n =
            json_dumpb(v, value, sizeof value - 1, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        value[n < sizeof value ? n : 0] = '\0';
        MCS_REQUIRE(accepts(r->accepts, value), MCS_E_DATA, "%s: %s.%s is %s; mcsam supports %s", path, group, r->key,
                    *value ? value : "a long value", r->accepts);
    }
    return MCS_OK;
}

static int is_in(const char *const *list, const char *key)
{
    for (; list && *list; list++)
        if (!strcmp(*list, key)) return 1;
    return 0;
}

enum mcs_status mcs_clip_check_keys(const char *path, const char *group, const json_t *object,
                                    const struct clip_key *rules, const char *const *more)
{
    for (void *it = json_object_iter((json_t *)object); it; it = json_object_iter_next((json_t *)object, it)) {
        const char *key = json_object_iter_key(it);
        const struct clip_key *r = rules;
        while (r->key && strcmp(r->key, key) != 0) r++;
        MCS_REQUIRE(r->key || is_in(more, key), MCS_E_DATA, "%s: %s.%s: a key that mcsam does not support", path, group,
                    key);
    }
    return MCS_OK;
}

enum mcs_status mcs_clip_get_size(const char *path, const char *group, const json_t *object, const char *key, int *dst)
{
    const json_t *v = json_object_get(object, key);
    if (!v) return MCS_OK;
    /* an image's size may be a pair */
    if (json_is_array(v) && json_array_size(v) == 2 && json_equal(json_array_get(v, 0), json_array_get(v, 1)))
        v = json_array_get(v, 0);
    MCS_REQUIRE(json_is_integer(v) && mcs_size_to_int(json_integer_value(v), INT_MIN, INT_MAX, dst), MCS_E_DATA,
                "%s: %s.%s is not a whole number", path, group, key);
    return MCS_OK;
}

enum mcs_status mcs_clip_get_number(const char *path, const char *group, const json_t *object, const char *key,
                                    double *dst)
{
    const json_t *v = json_object_get(object, key);
    if (!v) return MCS_OK;
    MCS_REQUIRE(json_is_number(v) && isfinite(json_number_value(v)), MCS_E_DATA, "%s: %s.%s is not a number", path,
                group, key);
    *dst = json_number_value(v);
    return MCS_OK;
}

enum mcs_status mcs_clip_get_flag(const char *path, const char *group, const json_t *object, const char *key, int *dst)
{
    const json_t *v = json_object_get(object, key);
    MCS_REQUIRE(!v || json_is_boolean(v) || json_is_null(v), MCS_E_DATA, "%s: %s.%s is neither true nor false", path,
                group, key);
    *dst = json_is_true(v);
    return MCS_OK;
}

enum mcs_status mcs_clip_check_normalisation(const char *path, const float mean[3], const float std[3])
{
    for (int i = 0; i < 3; i++)
        MCS_REQUIRE(isfinite(mean[i]) && isfinite(std[i]) && std[i] > 0, MCS_E_DATA,
                    "%s: images are normalised by (value - %g) / %g; want a finite mean and a deviation above 0", path,
                    (double)mean[i], (double)std[i]);
    return MCS_OK;
}
