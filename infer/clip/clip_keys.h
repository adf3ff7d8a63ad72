/* Keys of a CLIP model's configuration files: each key of an object has a rule; a value that changes the result and is
 * not supported is refused; the message has the file, the key, the value and the supported ones. */
#ifndef MCS_CLIP_KEYS_H
#define MCS_CLIP_KEYS_H

#include "data/io/json.h"

/* A key of an object. accepts: the JSON values that mcsam supports, separated by '|' (compact); NULL: any value, read
 * elsewhere or without effect on these towers. missing: the reference's default, if it is not supported; NULL: it is. A
 * list ends with a key of NULL. */
struct clip_key {
    const char *key, *accepts, *missing;
};

/* E_DATA: a value that its rule does not accept. */
enum mcs_status mcs_clip_check_values(const char *path, const char *group, const json_t *object,
                                      const struct clip_key *rules);
/* E_DATA: a key without a rule in either list (`more` may be NULL). */
enum mcs_status mcs_clip_check_keys(const char *path, const char *group, const json_t *object,
                                    const struct clip_key *rules, const char *const *more);
/* *dst = the whole number of a key, or of a pair of equal ones (an image's size); unchanged where it is missing. */
enum mcs_status mcs_clip_get_size(const char *path, const char *group, const json_t *object, const char *key, int *dst);
/* *dst = a finite number; unchanged where the key is missing. */
enum mcs_status mcs_clip_get_number(const char *path, const char *group, const json_t *object, const char *key,
                                    double *dst);
/* 1 where the key is true, 0 where it is false or missing; E_DATA: another value. */
enum mcs_status mcs_clip_get_flag(const char *path, const char *group, const json_t *object, const char *key, int *dst);
/* E_DATA: no number to subtract from an image's values and divide them by. */
enum mcs_status mcs_clip_check_normalisation(const char *path, const float mean[3], const float std[3]);

#endif
