/* JSON files: read with the line of an error, written whole or not at all. The values are jansson's. */
#ifndef MCS_JSON_H
#define MCS_JSON_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <jansson.h>
#include <stdint.h>

/* Parses n_bytes of JSON from the file `path`. flags: jansson's JSON_REJECT_DUPLICATES ... *root is owned by the
 * caller, NULL on failure. E_DATA: not JSON ("FILE:LINE: not JSON: ..."), nested deeper than 64, or more values than
 * free memory (--max-memory) can hold: a value needs about a hundred bytes in memory, though as little as two in the
 * file. */
enum mcs_status mcs_json_parse(const char *path, const char *bytes, int64_t n_bytes, size_t flags, json_t **root);
/* An upper bound of the memory that jansson needs for this text: about a hundred times the text for `[{},{},...]`. */
int64_t mcs_json_memory(const char *bytes, int64_t n_bytes);
/* The checks of mcs_json_parse before jansson is called: depth and number of values. */
enum mcs_status mcs_json_check_size(const char *path, const char *bytes, int64_t n_bytes);
/* Reads a file of at most max_bytes. flags: jansson's JSON_REJECT_DUPLICATES ... *root is owned by the caller, NULL on
 * failure. E_NOINPUT, E_IO; E_DATA: too large, or not JSON ("FILE:LINE: not JSON: ..."). */
enum mcs_status mcs_json_read(const char *path, int64_t max_bytes, size_t flags, json_t **root);
/* Writes root to the path formatted by fmt, and releases root, also on failure. flags: jansson's JSON_INDENT(n) ...
 * E_DATA: root is NULL, as json_pack's result is when a text is not UTF-8 or a number is not finite; E_IO. */
enum mcs_status mcs_json_write(json_t *root, size_t flags, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A string, or null for NULL; NULL where there is no memory. Bytes that are not UTF-8 are encoded by mcs_text_encode
 * (engine/base/escape.h). */
json_t *mcs_json_text(const char *text);
/* object[name] = value, the name encoded likewise; takes ownership of value. Returns 0, or -1 where jansson refuses. */
int mcs_json_put(json_t *object, const char *name, json_t *value);
/* Decodes a name that mcs_json_text encoded; owned by the arena. NULL for NULL. */
const char *mcs_json_name(struct arena *a, const char *text);

/* A number, or null where it is NaN or infinite, which JSON cannot represent. */
json_t *mcs_json_number(double v);

#endif
