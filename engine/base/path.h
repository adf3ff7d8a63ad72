/* Paths that are never cut short: a path longer than the system takes is an error, never another path.
 *
 *     char path[MCS_PATH_BYTES];
 *     MCS_TRY(mcs_path(path, "%s/config.yaml", folder));
 *
 * Every buffer for a path has MCS_PATH_BYTES, so that no function takes a buffer's length. */
#ifndef MCS_PATH_H
#define MCS_PATH_H

#include "engine/base/status.h"

enum { MCS_PATH_BYTES = 4096 /* Linux's PATH_MAX: the longest path of a system call, with its terminating NUL */ };

/* Formats a path. E_IO where it is too long: the message gives its beginning, its length and the limit; dst is then "".
 * The arguments must not overlap dst. */
enum mcs_status mcs_path(char dst[MCS_PATH_BYTES], const char *fmt, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));
enum mcs_status mcs_vpath(char dst[MCS_PATH_BYTES], const char *fmt, va_list ap)
    __attribute__((format(printf, 2, 0), warn_unused_result));
/* The same without a message, for files that need not exist: 1 where the path fits, else 0. */
int mcs_path_fits(char dst[MCS_PATH_BYTES], const char *fmt, ...)
    __attribute__((format(printf, 2, 3), warn_unused_result));

/* "a/b.h5": folder "a", *name "b.h5" (in path); "b.h5": folder "."; "/b.h5": folder "/". E_IO: too long. */
enum mcs_status mcs_path_split(const char *path, char folder[MCS_PATH_BYTES], const char **name)
    __attribute__((warn_unused_result));

/* The part of a path after its last slash. */
const char *mcs_path_name(const char *path);

/* E_IO where a folder's path is so long that less than MCS_PATH_ROOM bytes remain for the names of files in it. For a
 * verb to call before it makes its folder, so that a run that could not name all its files leaves nothing behind. */
enum { MCS_PATH_ROOM = 128 };
enum mcs_status mcs_path_room(const char *folder) __attribute__((warn_unused_result));

#endif
