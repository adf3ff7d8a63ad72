#include "data/json.h"

#include "data/file.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

enum mcs_status mcs_json_read(const char *path, int64_t max_bytes, size_t flags, json_t **root)
{
    char *text;
    int64_t n_bytes;
    json_error_t error;
    *root = NULL;
    MCS_TRY(mcs_file_read(path, max_bytes, &text, &n_bytes));
    *root = json_loadb(text, (size_t)n_bytes, flags, &error);
    free(text);
    MCS_REQUIRE(*root, MCS_E_DATA, "%s:%d: not JSON: %s", path, error.line, error.text);
    return MCS_OK;
}

enum mcs_status mcs_json_write(json_t *root, size_t flags, const char *fmt, ...)
{
    char path[PATH_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(path, sizeof path, fmt, args);
    va_end(args);
    char *text = root ? json_dumps(root, flags) : NULL;
    json_decref(root);
    MCS_REQUIRE(text, MCS_E_DATA, "%s cannot be made: a name in it is not UTF-8, or a number not finite", path);
    const enum mcs_status st = mcs_file_write(path, text, (int64_t)strlen(text));
    free(text);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

json_t *mcs_json_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}
