/* JSON files: read with the place of a mistake, written whole or not at all. The values are jansson's. */
#ifndef MCS_JSON_H
#define MCS_JSON_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <jansson.h>
#include <stdint.h>

/* Parses n_bytes of JSON from the file `path`. flags: jansson's JSON_REJECT_DUPLICATES ... *root is the caller's, NULL
 * on failure. E_DATA: not JSON ("FILE:LINE: not JSON: ..."), nested more than 64 deep, or more values than the memory
 * that is free (--max-memory) can hold: a value needs some hundred bytes, though two may do in the file. */
enum mcs_status mcs_json_parse(const char *path, const char *bytes, int64_t n_bytes, size_t flags, json_t **root);
/* An upper bound of the bytes that jansson takes for this text: some hundred times those of `[{},{},...]`. */
int64_t mcs_json_memory(const char *bytes, int64_t n_bytes);
/* The part of it that comes before jansson: depth and number of values. */
enum mcs_status mcs_json_check_size(const char *path, const char *bytes, int64_t n_bytes);
/* Reads a file of at most max_bytes. flags: jansson's JSON_REJECT_DUPLICATES ... *root is the caller's, NULL on
 * failure. E_NOINPUT, E_IO; E_DATA: too large, or not JSON ("FILE:LINE: not JSON: ..."). */
enum mcs_status mcs_json_read(const char *path, int64_t max_bytes, size_t flags, json_t **root);
/* Writes root to the path that fmt makes, and releases it, also on failure. flags: jansson's JSON_INDENT(n) ...
 * E_DATA: root is NULL, as json_pack's result is when a text is not UTF-8 or a number not finite; E_IO. */
enum mcs_status mcs_json_write(json_t *root, size_t flags, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A string, or null for NULL. Bytes that are not UTF-8 stand in it as mcs_text_encode writes them
 * (engine/base/escape.h). */
json_t *mcs_json_text(const char *text);
/* object[name] = value, the name likewise; takes the value. Returns 0, or -1 where jansson refuses. */
int mcs_json_put(json_t *object, const char *name, json_t *value);
/* A name that mcs_json_text wrote, as it was; owned by the arena. NULL for NULL. */
const char *mcs_json_name(struct arena *a, const char *text);

/* A number, or null where it is NaN or infinite: JSON has no word for those. */
json_t *mcs_json_number(double v);

#endif
