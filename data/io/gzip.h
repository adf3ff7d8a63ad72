/* Files that may be gzip-compressed, read and written sequentially through zlib. Only the requested bytes are inflated,
 * so memory use does not depend on the inflated size. */
#ifndef MCS_GZIP_H
#define MCS_GZIP_H

#include "engine/base/newfile.h"
#include "engine/base/status.h"

#include <stdint.h>

/* Deflate's best ratio is 1032 (258 bytes from two bits). */
enum { MCS_DEFLATE_MAX_RATIO = 1032 };

/* A file open for reading. */
struct gzip_input;

/* Opens a regular file. It is gzip where it begins with 1f 8b, whatever its name; other files are read unchanged.
 * E_NOINPUT, E_IO (engine/base/input.h), E_NOMEM. Close with mcs_gzip_close. */
enum mcs_status mcs_gzip_open(const char *path, struct gzip_input **in);
void mcs_gzip_close(struct gzip_input *in);
int64_t mcs_gzip_file_bytes(const struct gzip_input *in); /* size of the file as stored */
int mcs_gzip_is_compressed(const struct gzip_input *in);  /* 1: the file is gzip */

/* Reads up to n bytes; *got is less than n only at the end. E_DATA: damaged or truncated gzip; E_IO. */
enum mcs_status mcs_gzip_read_some(struct gzip_input *in, void *dst, int64_t n, int64_t *got);
/* Reads or skips exactly n bytes. E_DATA: the file ends before them ("PATH: truncated or damaged: WHAT cannot be
 * read"). */
enum mcs_status mcs_gzip_read(struct gzip_input *in, void *dst, int64_t n, const char *what);
enum mcs_status mcs_gzip_skip(struct gzip_input *in, int64_t n, const char *what);
/* Reads on to the end, where gzip's checksum is compared. E_DATA: more than max_bytes follow, or damage. */
enum mcs_status mcs_gzip_finish(struct gzip_input *in, int64_t max_bytes);

/* Writes head, then body, to a new file that was begun; as gzip if compressed. The same bytes give the same file:
 * gzip's header holds neither time nor name. E_IO. */
enum mcs_status mcs_gzip_write(const struct mcs_new_file *f, int compressed, const void *head, int64_t head_bytes,
                               const void *body, int64_t body_bytes);

/* Inflates a whole zlib or gzip stream in memory, by its first bytes, to exactly dst_bytes. E_DATA: damaged, truncated,
 * or another length; `name` is used in messages. */
enum mcs_status mcs_inflate(const char *name, const void *src, int64_t src_bytes, void *dst, int64_t dst_bytes);

/* CRC-32 (of gzip and zip) of more bytes; begin with crc 0. */
uint32_t mcs_crc32(uint32_t crc, const void *bytes, int64_t n_bytes);

#endif
