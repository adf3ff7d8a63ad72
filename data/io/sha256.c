#include "data/io/sha256.h"

#include "data/io/file.h"
#include "engine/base/arena.h"
#include "engine/base/input.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_hex(const uint8_t digest[32], char hex[65])
{
    for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
}

void mcs_sha256(const void *bytes, int64_t n_bytes, char hex[65])
{
    uint8_t digest[32];
    hex[0] = 0;
    if (EVP_Digest(bytes, (size_t)n_bytes, digest, NULL, EVP_sha256(), NULL)) write_hex(digest, hex);
}

enum mcs_status mcs_sha256_fd(int fd, const char *path, char hex[65])
{
    enum { PART = 1 << 18 };
    enum mcs_status st = MCS_OK;
    uint8_t digest[32], *part = malloc(PART);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    int hashed = part && hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    ssize_t got = 0;
    off_t at = 0;

    hex[0] = 0;
    while (hashed && ((got = pread(fd, part, PART, at)) > 0 || (got < 0 && errno == EINTR))) {
        if (got < 0) continue;
        hashed = EVP_DigestUpdate(hash, part, (size_t)got);
        at += got;
    }
    MCS_REQUIRE_GOTO(got >= 0, MCS_E_IO, st, done, "%s: cannot read: %s", path, strerror(errno));
    hashed = hashed && EVP_DigestFinal_ex(hash, digest, NULL);
    MCS_REQUIRE_GOTO(hashed, MCS_E_NOMEM, st, done, "%s: no memory to read it", path);
    write_hex(digest, hex);
done:
    EVP_MD_CTX_free(hash);
    free(part);
    return st;
}

enum mcs_status mcs_file_sha256(const char *path, char hex[65])
{
    int fd;
    int64_t n_bytes;
    hex[0] = 0;
    MCS_TRY(mcs_input_open(path, &fd, &n_bytes));
    const enum mcs_status st = mcs_sha256_fd(fd, path, hex);
    close(fd);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

enum mcs_status mcs_path_sha256(const char *path, char hex[65])
{
    struct file_list files;
    struct arena a = {0};
    enum mcs_status st = MCS_OK;
    const char *all = "";
    char one[65];
    if (!mcs_folder_exists(path)) return mcs_file_sha256(path, hex);
    MCS_TRY(mcs_folder_list(path, NULL, &files));
    for (int i = 0; i < files.n && st == MCS_OK; i++) {
        st = mcs_file_sha256(mcs_arena_printf(&a, "%s/%s", path, files.names[i]), one);
        all = mcs_arena_printf(&a, "%s%s\n", all, one);
    }
    if (st == MCS_OK) st = mcs_arena_status(&a);
    if (st == MCS_OK) mcs_sha256(all, (int64_t)strlen(all), hex);
    mcs_file_list_free(&files);
    mcs_arena_free(&a);
    return st;
}
