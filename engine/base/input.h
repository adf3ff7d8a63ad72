/* Opening a file to read it. Only regular files are inputs: opening a named pipe waits for a writer, a device may never
 * end, and neither has a size. Every reader of the program opens its file here. */
#ifndef MCS_INPUT_H
#define MCS_INPUT_H

#include "engine/base/status.h"

#include <stdint.h>

/* Opens `path` for reading without blocking and returns its size in bytes. The caller closes *fd; on failure it is -1.
 * E_NOINPUT: no such file; E_IO: not readable, or not a regular file ("PATH: is a named pipe, a file is needed"). */
enum mcs_status mcs_input_open(const char *path, int *fd, int64_t *n_bytes);
/* Reads exactly n bytes from `offset` on. E_DATA: the file has become shorter than it was when it was opened; E_IO. */
enum mcs_status mcs_input_read(int fd, const char *path, void *dst, int64_t n, int64_t offset);

#endif
