/* SHA-256 of an open file. data/io/file.h has it for bytes and for a file by name. */
#ifndef MCS_SHA256_H
#define MCS_SHA256_H

#include "engine/base/status.h"

/* Hash of the whole file behind fd, whose position does not change, as 64 hex digits + NUL. path is used in messages.
 * E_IO, E_NOMEM. */
enum mcs_status mcs_sha256_fd(int fd, const char *path, char hex[65]);

#endif
