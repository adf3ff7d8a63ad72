/* The record of a run folder as tables; run_folder.h describes the file. */
#ifndef MCS_RUN_RECORD_H
#define MCS_RUN_RECORD_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <jansson.h>

/* Reals keep their value and keys their order, so that results that are read back are written unchanged. */
enum { RECORD_DUMP = JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(17) };

/* JSON objects used as tables. */
struct run_record {
    json_t *cases;   /* "VERB/STEM": the case's line */
    json_t *options; /* "VERB/HASH": the options' line */
    json_t *files;   /* name of an HDF5 file: its SHA-256 */
    json_t *known;   /* all SHA-256 that such files ever had */
    int cut;         /* the file's last line is incomplete */
};

/* A missing file is an empty record; lines that are not JSON objects are ignored. */
enum mcs_status mcs_record_read(const char *path, struct run_record *r);
void mcs_record_free(struct run_record *r);
/* Adds a line; takes ownership. */
void mcs_record_line(struct run_record *r, json_t *line);
/* Writes the record sorted, or removes the file where it is empty. */
enum mcs_status mcs_record_write(const char *path, const struct run_record *r);
/* 1 where the record in this file has the SHA-256. Caches the parsed record while the file stays the same; calls must
 * not overlap. */
int mcs_record_knows(const char *path, const char *hex);

/* Encodes any text for JSON, injectively: "%" and control characters other than newlines as %XX and, where the text is
 * not UTF-8, all bytes above 127 too. Owned by the arena. */
char *mcs_record_encode(struct arena *a, const char *text);
/* Reverses mcs_record_encode. Owned by the arena. */
char *mcs_record_decode(struct arena *a, const char *stored);
/* A text member; "" where there is none. */
const char *mcs_record_get(const json_t *o, const char *key);

#endif
