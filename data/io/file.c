#include "data/io/file.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static enum mcs_status open_status(int error)
{
    return error == ENOENT || error == ENOTDIR ? MCS_E_NOINPUT : MCS_E_IO;
}

enum mcs_status mcs_file_read(const char *path, int64_t max_bytes, char **bytes, int64_t *n_bytes)
{
    enum mcs_status st = MCS_OK;
    int fd;
    int64_t n;

    *bytes = NULL;
    *n_bytes = 0;
    MCS_TRY(mcs_input_open(path, &fd, &n));
    MCS_REQUIRE_GOTO(n <= max_bytes, MCS_E_DATA, st, done,
                     "%s: %lld bytes, more than the %lld that such a file may have", path, (long long)n,
                     (long long)max_bytes);
    MCS_TRY_GOTO(mcs_memory_check(n, "%s", path), st, done);
    *bytes = malloc((size_t)n + 1);
    MCS_REQUIRE_GOTO(*bytes, MCS_E_NOMEM, st, done, "%s: no memory for %lld bytes", path, (long long)n);
    MCS_TRY_GOTO(mcs_input_read(fd, path, *bytes, n, 0), st, done);
    (*bytes)[n] = 0;
    *n_bytes = n;
done:
    close(fd);
    if (st != MCS_OK) {
        free(*bytes);
        *bytes = NULL;
    }
    return st;
}

enum mcs_status mcs_folder_make(const char *path)
{
    char part[MCS_PATH_BYTES];
    size_t n = strlen(path);

    MCS_REQUIRE(n > 0, MCS_E_IO, "cannot make a folder: its name is empty");
    MCS_TRY(mcs_path(part, "%s", path));
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != 0) continue;
        char kept = part[i];
        part[i] = 0;
        if (mkdir(part, 0777) != 0) {
            int error = errno; /* a read-only parent may be reported before EEXIST: check whether the folder exists */
            MCS_REQUIRE(mcs_folder_exists(part), MCS_E_IO, "%s: cannot make the folder %s: %s", path, part,
                        error == EEXIST ? "a file has that name" : strerror(error));
        }
        part[i] = kept;
    }
    return MCS_OK;
}

int mcs_file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && !S_ISDIR(info.st_mode);
}

int mcs_folder_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

int mcs_file_has_ending(const char *name, const char *endings)
{
    size_t n = strlen(name);
    if (!endings || !endings[0]) return 1;
    for (const char *e = endings; *e;) {
        size_t len = strcspn(e, ";");
        if (len && n > len && strncasecmp(name + n - len, e, len) == 0) return 1;
        e += len;
        if (*e == ';') e++;
    }
    return 0;
}

int mcs_text_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

enum mcs_status mcs_folder_list(const char *path, const char *endings, struct file_list *list)
{
    enum mcs_status st = MCS_OK;
    int capacity = 0;
    char full[MCS_PATH_BYTES];

    list->n = 0;
    list->names = NULL;
    DIR *folder = opendir(path);
    MCS_REQUIRE(folder, open_status(errno), "%s: cannot list the folder: %s", path, strerror(errno));
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(folder);
        MCS_REQUIRE_GOTO(e || errno == 0, MCS_E_IO, st, done, "%s: cannot list the folder: %s", path, strerror(errno));
        if (!e) break;
        if (e->d_name[0] == '.' || !mcs_file_has_ending(e->d_name, endings)) continue;
        MCS_TRY_GOTO(mcs_path(full, "%s/%s", path, e->d_name), st, done);
        if (mcs_folder_exists(full)) continue;
        if (list->n == capacity) {
            capacity = capacity ? capacity * 2 : 64;
            char **larger = realloc(list->names, (size_t)capacity * sizeof *larger);
            MCS_REQUIRE_GOTO(larger, MCS_E_NOMEM, st, done, "%s: no memory for the list of files", path);
            list->names = larger;
        }
        list->names[list->n] = strdup(e->d_name);
        MCS_REQUIRE_GOTO(list->names[list->n], MCS_E_NOMEM, st, done, "%s: no memory for the list of files", path);
        list->n++;
    }
    if (list->n) qsort(list->names, (size_t)list->n, sizeof *list->names, mcs_text_compare);
done:
    closedir(folder);
    if (st != MCS_OK) mcs_file_list_free(list);
    return st;
}

void mcs_file_list_free(struct file_list *list)
{
    for (int i = 0; i < list->n; i++) free(list->names[i]);
    free(list->names);
    list->names = NULL;
    list->n = 0;
}

void mcs_file_stem(const char *path, char *dst, int dst_bytes)
{
    const char *base = mcs_path_name(path);
    size_t n = strlen(base);

    if (n > 7 && strcasecmp(base + n - 7, ".nii.gz") == 0) {
        n -= 7;
    } else {
        const char *dot = strrchr(base, '.');
        if (dot && dot > base) n = (size_t)(dot - base);
    }
    snprintf(dst, (size_t)dst_bytes, "%.*s", (int)n, base);
}
