#include "train/run/training_data.h"

#include "data/io/file.h"
#include "engine/base/text_cut.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEX_BYTES = 64, SHOWN = 16 /* hex digits printed in a line */ };

/* Hashes of several inputs, to be hashed together. */
struct digests {
    int64_t n;
    char (*hex)[65];
};

/* No memory: also an error that the arena holds, for callers that return a text. */
static enum mcs_status digests_alloc(struct arena *a, struct digests *d, int64_t n)
{
    *d = (struct digests){n, calloc((size_t)n + 1, sizeof *d->hex)};
    a->failed |= !d->hex;
    MCS_REQUIRE(d->hex, MCS_E_NOMEM, "no memory for the hashes of %lld inputs", (long long)n);
    return MCS_OK;
}

/* "KEY contents: N WHAT, sha256 ...". Frees the hashes. */
static const char *line_of(struct arena *a, const char *key, const char *what, struct digests *d)
{
    char hex[65];
    mcs_sha256(d->hex, d->n * (int64_t)sizeof *d->hex, hex);
    const char *line =
        mcs_arena_printf(a, "%s contents: %lld %s, sha256 %.*s\n", key, (long long)d->n, what, SHOWN, hex);
    free(d->hex);
    return line;
}

/* Hash of a file's size, first 32 KiB, 4 evenly spaced blocks of 4 KiB and last 16 KiB; short files are hashed whole.
 */
static enum mcs_status sample_file(const char *path, char hex[65])
{
    enum { HEAD = 1 << 15, PART = 1 << 12, PARTS = 4, TAIL = 1 << 14, ALL = HEAD + PARTS * PART + TAIL };
    struct stat info;
    int64_t n = sizeof(int64_t);
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    MCS_REQUIRE(fd >= 0, errno == ENOENT ? MCS_E_NOINPUT : MCS_E_IO, "%s: cannot read: %s", path, strerror(errno));
    char *bytes = malloc(sizeof(int64_t) + ALL);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(bytes, MCS_E_NOMEM, st, done, "%s: no memory", path);
    MCS_REQUIRE_GOTO(fstat(fd, &info) == 0 && S_ISREG(info.st_mode), MCS_E_IO, st, done, "%s: is no regular file",
                     path);
    const int64_t size = info.st_size, between = size - HEAD - TAIL;
    memcpy(bytes, &size, sizeof size);
    for (int i = 0; i < PARTS + 2; i++) {
        const int whole = size <= ALL;
        const int64_t from = whole || i == 0 ? 0
                             : i <= PARTS    ? HEAD + between / PARTS * (i - 1)
                                             : size - TAIL,
                      want = whole        ? size
                             : i == 0     ? HEAD
                             : i <= PARTS ? PART
                                          : TAIL;
        const ssize_t got = pread(fd, bytes + n, (size_t)want, from);
        MCS_REQUIRE_GOTO(got == want, MCS_E_IO, st, done, "%s: cannot read: %s", path,
                         got < 0 ? strerror(errno) : "it became shorter");
        n += want;
        if (whole) break;
    }
    mcs_sha256(bytes, n, hex);
done:
    free(bytes);
    close(fd);
    return st;
}

enum mcs_status mcs_training_pairs_lines(const struct pairs *pairs, struct arena *a, const char **lines)
{
    struct digests table, images;
    MCS_TRY(digests_alloc(a, &table, 2 * (int64_t)pairs->n));
    enum mcs_status st = digests_alloc(a, &images, pairs->n);
    char message[1024] = "";
#pragma omp parallel for schedule(dynamic, 16)
    for (int i = 0; i < (images.hex ? pairs->n : 0); i++) {
        const struct pair *p = &pairs->v[i];
        mcs_sha256(p->stem, (int64_t)strlen(p->stem), table.hex[2 * i]);
        mcs_sha256(p->caption, (int64_t)strlen(p->caption), table.hex[2 * i + 1]);
        const enum mcs_status one = sample_file(p->image, images.hex[i]);
        if (one == MCS_OK) continue;
#pragma omp critical(mcs_training_failure) /* error messages are per thread: keep the first for the caller's */
        if (st == MCS_OK) st = one, mcs_text_cut(message, sizeof message, "%s", mcs_error_message());
        mcs_error_clear();
    }
    table.n = pairs->n;
    char hex[65];
    mcs_sha256(table.hex, 2 * table.n * (int64_t)sizeof *table.hex, hex);
    *lines = mcs_arena_printf(a, "pairs contents: %d rows, sha256 %.*s\n", pairs->n, SHOWN, hex);
    free(table.hex);
    if (st != MCS_OK) {
        free(images.hex);
        return MCS_FAIL(st, "%s", message);
    }
    *lines = mcs_arena_printf(a, "%s%s", *lines, line_of(a, "images", "files", &images));
    return MCS_OK;
}

const char *mcs_training_cases_lines(const struct unet_cases *cases, struct arena *a)
{
    struct digests images, labels;
    if (digests_alloc(a, &images, cases->n) != MCS_OK) return "";
    if (digests_alloc(a, &labels, cases->n) != MCS_OK) {
        free(images.hex);
        return "";
    }
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < cases->n; i++) {
        const struct unet_case *c = &cases->items[i];
        const int64_t pixels = (int64_t)c->height * c->width, values = pixels * cases->channels;
        char size[64], both[2 * HEX_BYTES + 2], hex[65];
        if (c->bytes)
            mcs_sha256(c->bytes, values, hex);
        else
            mcs_sha256(c->values, values * (int64_t)sizeof *c->values, hex);
        snprintf(size, sizeof size, "%d x %d x %d", c->height, c->width, cases->channels);
        const int n = snprintf(both, sizeof both, "%s %s", size, hex);
        mcs_sha256(both, n, images.hex[i]);
        mcs_sha256(c->labels, pixels, labels.hex[i]);
    }
    const char *first = line_of(a, "images", "slices", &images);
    return mcs_arena_printf(a, "%s%s", first, line_of(a, "labels", "slices", &labels));
}

const char *mcs_training_atlas_lines(const struct demo_atlas *atlas, struct arena *a)
{
    const int64_t n = (int64_t)atlas->nx * atlas->ny * atlas->nz;
    struct digests d;
    if (digests_alloc(a, &d, 3) != MCS_OK) return "";
    mcs_sha256(atlas->value, n * (int64_t)sizeof *atlas->value, d.hex[0]);
    mcs_sha256(atlas->label, n, d.hex[1]);
    mcs_sha256(atlas->brain, n, d.hex[2]);
    return line_of(a, "atlas", "volumes", &d);
}

const char *mcs_training_weights_line(const char *name, const char sha256[65], struct arena *a)
{
    return mcs_arena_printf(a, "%s weights: sha256 %.*s\n", name, SHOWN, sha256);
}
