#include "data/io/gzip.h"

#include "engine/base/input.h"

#define ZLIB_CONST /* input is const */
#include <zlib.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFER_BYTES = 1 << 17 };

struct gzip_input {
    char *path;
    gzFile file;
    int compressed;
    int64_t file_bytes;
};

enum mcs_status mcs_gzip_open(const char *path, struct gzip_input **made)
{
    enum mcs_status st = MCS_OK;
    uint8_t magic[2] = {0};
    int fd;
    int64_t n_bytes;

    *made = NULL;
    MCS_TRY(mcs_input_open(path, &fd, &n_bytes));
    struct gzip_input *in = calloc(1, sizeof *in);
    MCS_REQUIRE_GOTO(in, MCS_E_NOMEM, st, failed, "%s: no memory to read it", path);
    if (n_bytes >= 2) MCS_TRY_GOTO(mcs_input_read(fd, path, magic, 2, 0), st, failed);
    in->compressed = magic[0] == 0x1f && magic[1] == 0x8b;
    in->file_bytes = n_bytes;
    in->path = strdup(path);
    in->file = in->path ? gzdopen(fd, "rb") : NULL;
    MCS_REQUIRE_GOTO(in->file, MCS_E_NOMEM, st, failed, "%s: no memory to read it", path);
    fd = -1; /* closed with in->file */
    MCS_REQUIRE_GOTO(gzbuffer(in->file, BUFFER_BYTES) == 0, MCS_E_NOMEM, st, failed, "%s: no memory to read it", path);
    *made = in;
    return MCS_OK;
failed:
    if (fd >= 0) close(fd);
    mcs_gzip_close(in);
    return st;
}

void mcs_gzip_close(struct gzip_input *in)
{
    if (!in) return;
    if (in->file) gzclose_r(in->file);
    free(in->path);
    free(in);
}

int64_t mcs_gzip_file_bytes(const struct gzip_input *in)
{
    return in->file_bytes;
}

int mcs_gzip_is_compressed(const struct gzip_input *in)
{
    return in->compressed;
}

enum mcs_status mcs_gzip_read_some(struct gzip_input *in, void *dst, int64_t n, int64_t *got)
{
    int error = Z_OK;
    errno = 0;
    *got = (int64_t)gzfread(dst, 1, (size_t)n, in->file);
    const int why = errno;
    const char *text = gzerror(in->file, &error);
    MCS_REQUIRE(error != Z_ERRNO, MCS_E_IO, "%s: cannot read: %s", in->path, strerror(why));
    MCS_REQUIRE(error != Z_MEM_ERROR, MCS_E_NOMEM, "%s: no memory to read it", in->path);
    MCS_REQUIRE(error != Z_BUF_ERROR, MCS_E_DATA, "%s: truncated: its gzip stream has no end", in->path);
    MCS_REQUIRE(error == Z_OK, MCS_E_DATA, "%s: damaged gzip stream (%s)", in->path, text);
    return MCS_OK;
}

enum mcs_status mcs_gzip_read(struct gzip_input *in, void *dst, int64_t n, const char *what)
{
    int64_t got;
    MCS_TRY(mcs_gzip_read_some(in, dst, n, &got));
    MCS_REQUIRE(got == n, MCS_E_DATA, "%s: truncated or damaged: %s cannot be read", in->path, what);
    return MCS_OK;
}

enum mcs_status mcs_gzip_skip(struct gzip_input *in, int64_t n, const char *what)
{
    char unused[4096];
    while (n > 0) {
        const int64_t part = n < (int64_t)sizeof unused ? n : (int64_t)sizeof unused;
        MCS_TRY(mcs_gzip_read(in, unused, part, what));
        n -= part;
    }
    return MCS_OK;
}

enum mcs_status mcs_gzip_finish(struct gzip_input *in, int64_t max_bytes)
{
    char unused[4096];
    int64_t got, total = 0;
    do {
        const int64_t left = max_bytes - total;
        MCS_TRY(
            mcs_gzip_read_some(in, unused, left < (int64_t)sizeof unused ? left + 1 : (int64_t)sizeof unused, &got));
        total += got;
        MCS_REQUIRE(total <= max_bytes, MCS_E_DATA, "%s: too long: bytes follow where it should end", in->path);
    } while (got > 0);
    return MCS_OK;
}

enum mcs_status mcs_gzip_write(const struct mcs_new_file *f, int compressed, const void *head, int64_t head_bytes,
                               const void *body, int64_t body_bytes)
{
    const int fd = fcntl(f->fd, F_DUPFD_CLOEXEC, 0); /* gzclose closes its descriptor, f->fd stays open */
    MCS_REQUIRE(fd >= 0, MCS_E_IO, "%s: cannot write: %s", f->target, strerror(errno));
    gzFile out = gzdopen(fd, compressed ? "wb" : "wbT"); /* T: transparent, without compression */
    if (!out) {
        close(fd);
        return MCS_FAIL(MCS_E_NOMEM, "%s: no memory to write it", f->target);
    }
    errno = 0;
    const int written = gzfwrite(head, 1, (size_t)head_bytes, out) == (size_t)head_bytes &&
                        gzfwrite(body, 1, (size_t)body_bytes, out) == (size_t)body_bytes;
    int why = errno;
    const int closed = gzclose_w(out) == Z_OK;
    if (written) why = errno;
    MCS_REQUIRE(written && closed, MCS_E_IO, "%s: cannot write: %s", f->target,
                why ? mcs_file_write_error(why) : "disk full");
    return MCS_OK;
}

uint32_t mcs_crc32(uint32_t crc, const void *bytes, int64_t n_bytes)
{
    return (uint32_t)crc32_z(crc, bytes, (size_t)n_bytes);
}

enum mcs_status mcs_inflate(const char *name, const void *src, int64_t src_bytes, void *dst, int64_t dst_bytes)
{
    enum { PART = 1 << 30, ANY_HEADER = 15 + 32 }; /* zlib counts in 32 bits; 32: zlib's header or gzip's */
    z_stream z = {.next_in = src, .next_out = dst};
    int64_t in_left = src_bytes, out_left = dst_bytes;
    int code = inflateInit2(&z, ANY_HEADER);
    uint8_t more;
    MCS_REQUIRE(code == Z_OK, MCS_E_NOMEM, "%s: no memory to read it", name);
    while (code == Z_OK) {
        const uInt in = (uInt)(in_left < PART ? in_left : PART), out = (uInt)(out_left < PART ? out_left : PART);
        z.avail_in = in;
        z.avail_out = out;
        if (!out_left) { /* the end of the stream, and nothing more, is wanted */
            z.next_out = &more;
            z.avail_out = 1;
        }
        code = inflate(&z, Z_NO_FLUSH);
        in_left -= in - z.avail_in;
        if (!out_left && !z.avail_out) {
            inflateEnd(&z);
            return MCS_FAIL(MCS_E_DATA, "%s: too long: more than the %lld bytes its header promises", name,
                            (long long)dst_bytes);
        }
        if (out_left) out_left -= out - z.avail_out;
    }
    inflateEnd(&z);
    MCS_REQUIRE(code == Z_STREAM_END && !out_left, MCS_E_DATA,
                "%s: truncated or damaged: %lld of %lld compressed bytes are missing", name, (long long)out_left,
                (long long)dst_bytes);
    return MCS_OK;
}
