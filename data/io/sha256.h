/* SHA-256 of an open file; of bytes and of a file by name: data/io/file.h. */
#ifndef MCS_SHA256_H
#define MCS_SHA256_H

#include "engine/base/status.h"

/* Of the whole file behind fd, whose position is left alone, as 64 hex digits + NUL. path stands in messages. E_IO,
 * E_NOMEM. */
enum mcs_status mcs_sha256_fd(int fd, const char *path, char hex[65]);

#endif
