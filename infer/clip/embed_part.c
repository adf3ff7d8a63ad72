#include "infer/clip/embed_part.h"

#include "data/io/file.h"
#include "engine/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t row_bytes(const struct embed_part *p)
{
    return (int64_t)p->embed * (int64_t)sizeof(float);
}

/* folder/.OUT.h5.part */
static enum mcs_status part_path(const char *output, char path[MCS_PATH_BYTES])
{
    char folder[MCS_PATH_BYTES];
    const char *name;
    MCS_TRY(mcs_path_split(output, folder, &name));
    return mcs_path(path, "%s/.%s.part", folder, name);
}

int mcs_embed_part_exists(const char *output)
{
    char path[MCS_PATH_BYTES];
    struct stat info;
    const int found = part_path(output, path) == MCS_OK && lstat(path, &info) == 0;
    mcs_error_clear();
    return found;
}

enum mcs_status mcs_embed_part_open(struct embed_part *p, struct run_folder *run, const char *output, int embed)
{
    struct stat info;
    *p = (struct embed_part){.run = run, .embed = embed, .fd = -1};
    MCS_TRY(part_path(output, p->path));
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    MCS_REQUIRE(p->fd >= 0 && fstat(p->fd, &info) == 0, MCS_E_IO, "%s: cannot write: %s", p->path, strerror(errno));
    MCS_REQUIRE(S_ISREG(info.st_mode), MCS_E_IO, "%s: cannot write: is no regular file", p->path);
    p->n_rows = info.st_size / row_bytes(p);
    return MCS_OK;
}

int mcs_embed_part_take(struct embed_part *p, const char *stem, const struct run_source *source, float *row)
{
    json_t *result;
    char hex[65];
    if (p->fd < 0 || !mcs_run_case_done(p->run, stem, source, &result)) return 0;
    const json_t *number = json_object_get(result, "row");
    const char *want = json_string_value(json_object_get(result, "sha256"));
    const int64_t at = json_integer_value(number);
    if (!json_is_integer(number) || !want || at < 0 || at >= p->n_rows) return 0;
    if (pread(p->fd, row, (size_t)row_bytes(p), at * row_bytes(p)) != row_bytes(p)) return 0;
    mcs_sha256(row, row_bytes(p), hex);
    if (strcmp(hex, want) != 0) return 0;
    p->n_taken++;
    return 1;
}

enum mcs_status mcs_embed_part_add(struct embed_part *p, const char *stem, const struct run_source *source,
                                   const float *row)
{
    const char *const none[] = {NULL};
    char hex[65];
    const ssize_t put = pwrite(p->fd, row, (size_t)row_bytes(p), p->n_rows * row_bytes(p));
    MCS_REQUIRE(put == row_bytes(p), MCS_E_IO, "%s: cannot write: %s", p->path,
                put < 0 ? strerror(errno) : "disk full");
    mcs_sha256(row, row_bytes(p), hex);
    return mcs_run_case_add(p->run, stem, source, none,
                            json_pack("{s:I, s:s}", "row", (json_int_t)p->n_rows++, "sha256", hex));
}

enum mcs_status mcs_embed_part_flush(struct embed_part *p)
{
    MCS_REQUIRE(fdatasync(p->fd) == 0, MCS_E_IO, "%s: cannot write: %s", p->path, strerror(errno));
    return mcs_run_flush(p->run);
}

void mcs_embed_part_close(struct embed_part *p, int finished)
{
    if (!p->run || p->fd < 0) return;
    if (finished || !p->n_rows) unlink(p->path);
    close(p->fd);
    p->fd = -1;
}
