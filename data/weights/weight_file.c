#include "data/weights/weight_file.h"

#include "data/io/bounds.h"
#include "data/io/file.h"
#include "data/io/sha256.h"
#include "data/weights/weight_parts.h"
#include "engine/base/input.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const PREFIXES[] = {"module.", "model.", "_orig_mod."};
enum { N_PREFIXES = sizeof PREFIXES / sizeof *PREFIXES };

const char *mcs_weight_kind_name(enum weight_kind kind)
{
    static const char *const names[WEIGHT_N_KINDS] = {"safetensors", "PyTorch, zip", "PyTorch, before 1.6",
                                                      "in several files"};
    return names[kind];
}

enum mcs_status mcs_weight_alloc(struct weight_file *f, int64_t bytes, void *dst)
{
    void *p = NULL;
    MCS_TRY(mcs_memory_check(bytes, "%s: its list of tensors", f->path));
    p = mcs_arena_alloc(&f->arena, (size_t)bytes + !bytes);
    MCS_REQUIRE(p, MCS_E_NOMEM, "%s: no memory for its list of tensors", f->path);
    memcpy(dst, &p, sizeof p);
    return MCS_OK;
}

enum mcs_status mcs_weight_reserve(struct weight_file *f, int64_t n)
{
    MCS_REQUIRE(n < INT_MAX, MCS_E_DATA, "%s: %lld tensors are more than can be read", f->path, (long long)n);
    MCS_TRY(mcs_memory_check(n * (int64_t)sizeof *f->tensors, "%s: its list of tensors", f->path));
    f->tensors = calloc((size_t)n + 1, sizeof *f->tensors);
    MCS_REQUIRE(f->tensors, MCS_E_NOMEM, "%s: no memory for its list of tensors", f->path);
    return MCS_OK;
}

enum mcs_status mcs_weight_sizes(const struct weight_file *f, struct weight_tensor *t)
{
    t->n_values = mcs_array_count(t->nd, t->dims);
    t->n_bytes = mcs_size_mul(t->n_values, mcs_array_type_bytes(t->type));
    MCS_REQUIRE(t->n_values >= 0 && t->n_bytes >= 0, MCS_E_DATA, "%s: array %s: impossible sizes", f->path, t->name);
    int64_t step = 1;
    for (int d = t->nd - 1; d >= 0; d--) {
        t->strides[d] = step;
        if (t->n_values) step *= t->dims[d];
    }
    return MCS_OK;
}

/* ---- opening ---- */

static int begins(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

/* E_DATA for a file of another kind that is recognised; the message names the kind. */
static enum mcs_status check_other(const char *path, const uint8_t *head, int64_t n)
{
    static const struct {
        int at;
        const char *begin, *what;
    } others[] = {
        {0, "version https://git-lfs",
         "a Git LFS pointer, not the file itself: run `git lfs pull`, or download the file"},
        {0, "<!DOCTYPE", "a web page: the download did not give the file; download it again"},
        {0, "<!doctype", "a web page: the download did not give the file; download it again"},
        {0, "<html", "a web page: the download did not give the file; download it again"},
        {0, "\x89HDF", "HDF5: Keras's weights and mcsam's own stores are not weights that are read here"},
        {0, "GGUF", "GGUF, which is not read: take the model's safetensors or PyTorch file"},
        {0, "\x1f\x8b", "compressed by gzip: unpack it first (gunzip)"},
        {257, "ustar", "a tar file: PyTorch before 0.2 wrote such weights, or it is an archive to unpack first"},
    };
    while (n && strchr(" \t\r\n", *head) && *head) head++, n--; /* before a web page */
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const int64_t len = (int64_t)strlen(others[i].begin), at = others[i].at;
        MCS_REQUIRE(n < at + len || memcmp(head + at, others[i].begin, (size_t)len) != 0, MCS_E_DATA, "%s: is %s", path,
                    others[i].what);
    }
    return MCS_OK;
}

/* E_DATA for a short text, such as a server's answer in place of the file ("Entry not found"), which is shown. */
static enum mcs_status check_answer(const char *path, const uint8_t *head, int64_t n)
{
    int64_t i = 0;
    while (i < n && (head[i] == '\n' || head[i] == '\r' || head[i] == '\t' || (head[i] >= ' ' && head[i] < 0x7f))) i++;
    const int shown = (int)(n < 60 ? n : 60), line = (int)strcspn((const char *)head, "\r\n");
    MCS_REQUIRE(i < n || n == 512, MCS_E_DATA,
                "%s: is a text (%.*s), no weights: the download did not give the file; download it again", path,
                line < shown ? line : shown, (const char *)head);
    return MCS_OK;
}

static enum mcs_status find_kind(struct weight_file *f)
{
    static const uint8_t legacy[] = {0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    uint8_t head[512 + 1] = {0};
    const int64_t n = f->parts[0].n_bytes < 512 ? f->parts[0].n_bytes : 512;
    MCS_REQUIRE(n, MCS_E_DATA, "%s: is empty: the download did not give the file; download it again", f->path);
    MCS_TRY(mcs_input_read(f->parts[0].fd, f->path, head, n, 0));
    MCS_TRY(check_other(f->path, head, n));
    if (!mcs_file_has_ending(f->path, ".json")) MCS_TRY(check_answer(f->path, head, n));
    f->kind = n >= 4 && memcmp(head, "PK\3\4", 4) == 0                                  ? WEIGHT_TORCH_ZIP
              : n >= (int64_t)sizeof legacy && memcmp(head, legacy, sizeof legacy) == 0 ? WEIGHT_TORCH_LEGACY
              : mcs_file_has_ending(f->path, ".json")                                   ? WEIGHT_INDEX
                                                                                        : WEIGHT_SAFETENSORS;
    /* A PyTorch file that begins like none of them is damaged: said here, where its name tells. */
    MCS_REQUIRE(
        f->kind != WEIGHT_SAFETENSORS || !mcs_file_has_ending(f->path, ".pt;.pth;.bin;.ckpt") ||
            (n > 8 && head[8] == '{'),
        MCS_E_DATA,
        "%s: no file of weights: want a safetensors file, or one of torch.save, which begins with PK; it may be "
        "damaged: compare its size and SHA-256 with the publisher's",
        f->path);
    return MCS_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct weight_tensor *)a)->name, ((const struct weight_tensor *)b)->name);
}

enum mcs_status mcs_weight_sort(struct weight_file *f)
{
    if (f->n) qsort(f->tensors, (size_t)f->n, sizeof *f->tensors, by_name);
    for (int i = 1; i < f->n; i++)
        MCS_REQUIRE(by_name(&f->tensors[i - 1], &f->tensors[i]) != 0, MCS_E_DATA, "%s: array %s is there twice",
                    f->path, f->tensors[i].name);
    return MCS_OK;
}

/* Removes prefixes that all names share, and sorts. */
static enum mcs_status finish(struct weight_file *f)
{
    size_t cut = 0;
    for (int k = 0; k < N_PREFIXES; k++) {
        int all = f->n > 0;
        for (int i = 0; i < f->n && all; i++)
            all = begins(f->tensors[i].name, PREFIXES[k]) && f->tensors[i].name[strlen(PREFIXES[k])];
        if (!all) continue;
        const size_t len = strlen(PREFIXES[k]);
        for (int i = 0; i < f->n; i++) f->tensors[i].name += len;
        cut += len;
        k = -1; /* another one may follow */
    }
    if (cut) f->prefix = mcs_arena_printf(&f->arena, "%.*s", (int)cut, f->tensors[0].name - cut);
    MCS_TRY(mcs_arena_status(&f->arena));
    return mcs_weight_sort(f);
}

static enum mcs_status open_into(struct weight_file *f, const char *path)
{
    f->path = f->wrapper = f->prefix = "";
    MCS_TRY(mcs_weight_alloc(f, sizeof *f->parts, &f->parts));
    f->n_parts = 1;
    f->parts[0].fd = -1;
    f->path = f->parts[0].path = mcs_arena_strdup(&f->arena, path);
    MCS_TRY(mcs_arena_status(&f->arena));
    MCS_TRY(mcs_input_open(path, &f->parts[0].fd, &f->parts[0].n_bytes));
    MCS_TRY(find_kind(f));
    switch (f->kind) {
    case WEIGHT_TORCH_ZIP: MCS_TRY(mcs_weight_torch_zip(f)); break;
    case WEIGHT_TORCH_LEGACY: MCS_TRY(mcs_weight_torch_legacy(f)); break;
    case WEIGHT_INDEX: MCS_TRY(mcs_weight_index(f)); break;
    case WEIGHT_SAFETENSORS:
    case WEIGHT_N_KINDS: MCS_TRY(mcs_weight_safetensors(f)); break;
    }
    return finish(f);
}

enum mcs_status mcs_weight_file_open(const char *path, struct weight_file **file)
{
    *file = NULL;
    struct weight_file *f = calloc(1, sizeof *f);
    MCS_REQUIRE(f, MCS_E_NOMEM, "%s: no memory to open it", path);
    const enum mcs_status st = open_into(f, path);
    if (st == MCS_OK)
        *file = f;
    else
        mcs_weight_file_close(f);
    return st;
}

void mcs_weight_file_close(struct weight_file *f)
{
    if (!f) return;
    for (int i = 0; i < f->n_parts && !f->base; i++)
        if (f->parts[i].fd >= 0) close(f->parts[i].fd);
    free(f->tensors);
    mcs_arena_free(&f->arena);
    mcs_weight_file_close(f->owned);
    free(f);
}

/* ---- contents ---- */

enum weight_kind mcs_weight_file_kind(const struct weight_file *f)
{
    return f->kind;
}

const char *mcs_weight_file_path(const struct weight_file *f)
{
    return f->path;
}

int mcs_weight_file_count(const struct weight_file *f)
{
    return f->n;
}

const struct weight_tensor *mcs_weight_file_at(const struct weight_file *f, int i)
{
    return i >= 0 && i < f->n ? &f->tensors[i] : NULL;
}

static const struct weight_tensor *find_exact(const struct weight_file *f, const char *name)
{
    const struct weight_tensor key = {.name = name};
    return f->n ? bsearch(&key, f->tensors, (size_t)f->n, sizeof key, by_name) : NULL;
}

const struct weight_tensor *mcs_weight_file_find(const struct weight_file *f, const char *name)
{
    char full[512];
    const struct weight_tensor *t = find_exact(f, name);
    for (int i = 0; i < N_PREFIXES && !t; i++)
        if (snprintf(full, sizeof full, "%s%s", PREFIXES[i], name) < (int)sizeof full) t = find_exact(f, full);
    if (!t && f->prefix[0] && begins(name, f->prefix)) t = find_exact(f, name + strlen(f->prefix));
    return t;
}

int mcs_weight_file_blocks(const struct weight_file *f, const char *before, const char *after)
{
    char name[160];
    for (int k = 0;; k++) {
        snprintf(name, sizeof name, "%s%d%s", before, k, after);
        if (!mcs_weight_file_find(f, name)) return k;
    }
}

const char *mcs_weight_file_metadata(const struct weight_file *f, const char *key)
{
    for (int i = 0; i < f->n_meta; i++)
        if (strcmp(f->meta[i][0], key) == 0) return f->meta[i][1];
    return NULL;
}

const struct pickle_value *mcs_weight_file_object(const struct weight_file *f)
{
    return f->object;
}

const char *mcs_weight_file_wrapper(const struct weight_file *f)
{
    return f->wrapper;
}

const char *mcs_weight_file_prefix(const struct weight_file *f)
{
    return f->prefix;
}

int mcs_weight_file_n_parts(const struct weight_file *f)
{
    return f->n_parts;
}

const char *mcs_weight_file_part(const struct weight_file *f, int i)
{
    return i >= 0 && i < f->n_parts ? f->parts[i].path : NULL;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct weight_part *)a)->path, ((const struct weight_part *)b)->path);
}

enum mcs_status mcs_weight_file_sha256(const struct weight_file *f, char hex[65])
{
    char *text = NULL;
    size_t n = 0;
    enum mcs_status st = MCS_OK;
    if (f->n_parts == 1) return mcs_sha256_fd(f->parts[0].fd, f->path, hex);
    hex[0] = 0;
    FILE *all = open_memstream(&text, &n);
    struct weight_part *parts = malloc((size_t)f->n_parts * sizeof *parts);
    if (parts) {
        memcpy(parts, f->parts, (size_t)f->n_parts * sizeof *parts);
        qsort(parts, (size_t)f->n_parts, sizeof *parts, by_path);
    }
    for (int i = 0; parts && all && i < f->n_parts && st == MCS_OK; i++) {
        st = mcs_sha256_fd(parts[i].fd, parts[i].path, hex);
        if (st == MCS_OK) fprintf(all, "%s  %s\n", hex, mcs_path_name(parts[i].path));
    }
    const int good = parts && all && !ferror(all);
    if ((!all || fclose(all) != 0 || !good) && st == MCS_OK)
        st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory for its hash", f->path);
    hex[0] = 0;
    if (st == MCS_OK) mcs_sha256(text, (int64_t)n, hex);
    free(parts);
    free(text);
    return st;
}
