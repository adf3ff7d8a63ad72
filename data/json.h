/* JSON files: read with the place of a mistake, written whole or not at all. The values are jansson's. */
#ifndef MCS_JSON_H
#define MCS_JSON_H

#include "engine/status.h"

#include <jansson.h>
#include <stdint.h>

/* Reads a file of at most max_bytes. flags: jansson's JSON_REJECT_DUPLICATES ... *root is the caller's, NULL on
 * failure. E_NOINPUT, E_IO; E_DATA: too large, or not JSON ("FILE:LINE: not JSON: ..."). */
enum mcs_status mcs_json_read(const char *path, int64_t max_bytes, size_t flags, json_t **root);
/* Writes root to the path that fmt makes, and releases it, also on failure. flags: jansson's JSON_INDENT(n) ...
 * E_DATA: root is NULL, as json_pack's result is when a text is not UTF-8 or a number not finite; E_IO. */
enum mcs_status mcs_json_write(json_t *root, size_t flags, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A number, or null where it is NaN or infinite: JSON has no word for those. */
json_t *mcs_json_number(double v);

#endif
