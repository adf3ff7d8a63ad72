/* Keys of a configuration that another program wrote: their values against those that are supported. Messages begin
 * with the file's path, and name the key as GROUP.KEY. */
#ifndef MCS_JSON_KEYS_H
#define MCS_JSON_KEYS_H

#include "data/io/json.h"
#include "engine/base/status.h"

/* E_DATA where the object has the key with another whole number than the tensors' `size`. */
enum mcs_status mcs_json_key_agree(const char *path, const char *group, const json_t *object, const char *key,
                                   int size);
/* Reads a whole number of 1..65536; a key that is not there leaves *dst. E_DATA. */
enum mcs_status mcs_json_key_int(const char *path, const char *group, const json_t *object, const char *key, int *dst);
/* E_DATA where the object has the key with another value than one of `accepts` (JSON, compact, separated by '|'). */
enum mcs_status mcs_json_key_only(const char *path, const char *group, const json_t *object, const char *key,
                                  const char *accepts);

#endif
