#include "engine/base/path.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(MCS_PATH_BYTES == PATH_MAX, "paths: as long as the system takes");

/* The path's length; dst is "" where that is MCS_PATH_BYTES or more. */
static int format(char dst[MCS_PATH_BYTES], const char *fmt, va_list ap)
{
    const int n = vsnprintf(dst, MCS_PATH_BYTES, fmt, ap);
    if (n < 0 || n >= MCS_PATH_BYTES) *dst = '\0';
    return n < 0 ? INT_MAX : n;
}

enum mcs_status mcs_path(char dst[MCS_PATH_BYTES], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const enum mcs_status st = mcs_vpath(dst, fmt, ap);
    va_end(ap);
    return st;
}

enum mcs_status mcs_vpath(char dst[MCS_PATH_BYTES], const char *fmt, va_list ap)
{
    char beginning[128];
    va_list again;
    va_copy(again, ap);
    const int n = format(dst, fmt, ap);
    vsnprintf(beginning, sizeof beginning, fmt, again);
    va_end(again);
    if (n < MCS_PATH_BYTES) return MCS_OK;
    return MCS_FAIL(MCS_E_IO, "%s...: the path is too long: %d bytes, at most %d are allowed; use a shorter folder",
                    beginning, n, MCS_PATH_BYTES - 1);
}

int mcs_path_fits(char dst[MCS_PATH_BYTES], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = format(dst, fmt, ap);
    va_end(ap);
    return n < MCS_PATH_BYTES;
}

const char *mcs_path_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

enum mcs_status mcs_path_split(const char *path, char folder[MCS_PATH_BYTES], const char **name)
{
    *name = mcs_path_name(path);
    const int n = (int)(*name - path); /* bytes with the last slash */
    return n ? mcs_path(folder, "%.*s", n > 1 ? n - 1 : 1, path) : mcs_path(folder, ".");
}

enum mcs_status mcs_path_room(const char *folder)
{
    const size_t n = strlen(folder), most = MCS_PATH_BYTES - 1 - MCS_PATH_ROOM;
    MCS_REQUIRE(n <= most, MCS_E_IO,
                "%.127s...: the path is too long: the folder's name has %zu bytes, at most %zu are allowed, so that "
                "files in it can be named; use a shorter folder",
                folder, n, most);
    return MCS_OK;
}
