/* mcsam-h5read: reads one HDF5 file for mcsam, which starts it, and answers its requests (data/io/h5_protocol.h) until
 * mcsam closes the socket. It is a separate process because libhdf5 can crash, or run code of the file's author, on a
 * damaged file; this process can open nothing, write nowhere and use little memory. */
#include "data/h5read/h5read_limits.h"
#include "data/io/h5_protocol.h"
#include "data/io/hdf5_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct server {
    struct hdf5_file *file;
    struct hdf5_texts kept; /* for H5_OP_FETCH */
};

/* Copies the held error into a reply, without the ": " after the file's empty label. */
static void tell_error(struct h5_reply *reply, enum mcs_status st)
{
    const char *message = mcs_error_message();
    reply->status = (int32_t)st;
    if (st != MCS_OK) snprintf(reply->message, sizeof reply->message, "%s", message + 2 * !strncmp(message, ": ", 2));
    mcs_error_clear();
}

/* The first `bytes` bytes of the shared memory, or NULL. */
static void *map_memory(int64_t bytes)
{
    struct stat about;
    if (bytes <= 0 || fstat(H5_FD_MEMORY, &about) != 0 || about.st_size < bytes) return NULL;
    void *p = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_SHARED, H5_FD_MEMORY, 0);
    return p == MAP_FAILED ? NULL : p;
}

static enum mcs_status get_values(struct server *s, const struct h5_request *q)
{
    const enum mcs_array_type type = (enum mcs_array_type)q->type;
    struct store_info info;
    int64_t chunk_bytes;
    char none;
    MCS_REQUIRE(q->type >= 0 && q->type < MCS_ARRAY_N_TYPES && q->nd >= 0 && q->nd <= MCS_STORE_MAX_ND, MCS_E_FAIL,
                ": a request that does not fit together");
    const int64_t n = mcs_array_count(q->nd, q->dims);
    MCS_REQUIRE(n >= 0 && n <= q->bytes / mcs_array_type_bytes(type), MCS_E_FAIL,
                ": a request that does not fit together");
    MCS_TRY(mcs_hdf5_info(s->file, q->name, &info, &chunk_bytes)); /* for the size of one chunk */
    mcs_h5read_allow(q->bytes, chunk_bytes);
    if (n == 0) return mcs_hdf5_get(s->file, q->name, type, q->nd, q->dims, &none);
    void *dst = map_memory(q->bytes);
    MCS_REQUIRE(dst, MCS_E_NOMEM, ": no memory for dataset %s", q->name);
    const enum mcs_status st = mcs_hdf5_get(s->file, q->name, type, q->nd, q->dims, dst);
    munmap(dst, (size_t)q->bytes);
    return st;
}

static enum mcs_status fetch(struct server *s, const struct h5_request *q)
{
    MCS_REQUIRE(s->kept.bytes && q->bytes >= s->kept.n_bytes, MCS_E_FAIL, ": nothing is kept");
    void *dst = map_memory(s->kept.n_bytes);
    MCS_REQUIRE(dst, MCS_E_NOMEM, ": no memory for its texts");
    memcpy(dst, s->kept.bytes, (size_t)s->kept.n_bytes);
    munmap(dst, (size_t)s->kept.n_bytes);
    return MCS_OK;
}

static enum mcs_status get_info(struct server *s, const struct h5_request *q, struct h5_reply *reply)
{
    struct store_info info = {0};
    MCS_TRY(mcs_hdf5_info(s->file, q->name, &info, &reply->chunk_bytes));
    reply->type = (int32_t)info.type;
    reply->nd = info.nd;
    memcpy(reply->dims, info.dims, sizeof reply->dims);
    return MCS_OK;
}

static enum mcs_status serve(struct server *s, const struct h5_request *q, struct h5_reply *reply)
{
    if (q->op != H5_OP_FETCH) {
        free(s->kept.bytes);
        s->kept = (struct hdf5_texts){0};
    }
    switch ((enum h5_op)q->op) {
    case H5_OP_INFO: return get_info(s, q, reply);
    case H5_OP_GET: return get_values(s, q);
    case H5_OP_NUMBER: return mcs_hdf5_note_number(s->file, q->name, &reply->number);
    case H5_OP_FETCH: return fetch(s, q);
    case H5_OP_TEXTS:
        mcs_h5read_allow(HDF5_MAX_TEXT_BYTES, HDF5_MAX_TEXT_BYTES);
        MCS_TRY(mcs_hdf5_texts(s->file, q->name, &s->kept));
        break;
    case H5_OP_TEXT: MCS_TRY(mcs_hdf5_note_text(s->file, q->name, q->bytes, &s->kept)); break;
    case H5_OP_LIST:
        mcs_h5read_allow(0, HDF5_MAX_NAME * (int64_t)HDF5_MAX_DATASETS / 2);
        MCS_TRY(mcs_hdf5_list(s->file, &s->kept));
        break;
    default: return MCS_FAIL(MCS_E_FAIL, ": an unknown request");
    }
    reply->n = s->kept.n;
    reply->bytes = s->kept.n_bytes;
    return MCS_OK;
}

static int send_hello(void)
{
    struct h5_hello hello = {.request_bytes = sizeof(struct h5_request), .reply_bytes = sizeof(struct h5_reply)};
    memcpy(hello.magic, H5_MAGIC, sizeof hello.magic);
    snprintf(hello.version, sizeof hello.version, "%s", MCS_VERSION);
    return send(H5_FD_SOCKET, &hello, sizeof hello, MSG_NOSIGNAL) == (ssize_t)sizeof hello;
}

int main(void)
{
    static struct h5_request request;
    static struct h5_reply reply;
    struct server s = {0};
    struct stat about;
    if (fstat(H5_FD_SOCKET, &about) != 0 || !S_ISSOCK(about.st_mode)) {
        fprintf(stderr, H5_HELPER_NAME " " MCS_VERSION " reads HDF5 files for mcsam, which starts it itself\n");
        return 2;
    }
    if (!mcs_h5read_limit() || !send_hello()) return 1;
    tell_error(&reply, mcs_hdf5_open(H5_FD_FILE, "", &s.file));
    while (send(H5_FD_SOCKET, &reply, sizeof reply, MSG_NOSIGNAL) == (ssize_t)sizeof reply) {
        if (!s.file || recv(H5_FD_SOCKET, &request, sizeof request, 0) != (ssize_t)sizeof request) break;
        request.name[sizeof request.name - 1] = 0;
        memset(&reply, 0, sizeof reply);
        tell_error(&reply, serve(&s, &request, &reply));
    }
    _exit(0); /* nothing is closed: the library may crash in it after reading a damaged file */
}
