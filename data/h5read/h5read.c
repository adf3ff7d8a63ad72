/* mcsam-h5read: reads one HDF5 file for mcsam, which starts it, and answers its requests (data/io/h5_protocol.h) until
 * mcsam closes the socket. It is a separate process because libhdf5 can crash, or run code of the file's author, on a
 * damaged file; this process can open nothing, write nowhere and use little memory. */
#include "data/helper/helper_limits.h"
#include "data/helper/helper_side.h"
#include "data/io/h5_protocol.h"
#include "data/io/hdf5_read.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct server {
    struct hdf5_file *file;
    struct hdf5_texts kept; /* for H5_OP_FETCH */
};

static void tell(struct h5_reply *reply, enum mcs_status st)
{
    reply->status = (int32_t)st;
    if (st != MCS_OK) mcs_helper_tell(reply->message);
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
    mcs_helper_allow(q->bytes, chunk_bytes);
    if (n == 0) return mcs_hdf5_get(s->file, q->name, type, q->nd, q->dims, &none);
    void *dst = mcs_helper_map(q->bytes);
    MCS_REQUIRE(dst, MCS_E_NOMEM, ": no memory for dataset %s", q->name);
    const enum mcs_status st = mcs_hdf5_get(s->file, q->name, type, q->nd, q->dims, dst);
    munmap(dst, (size_t)q->bytes);
    return st;
}

static enum mcs_status fetch(struct server *s, const struct h5_request *q)
{
    MCS_REQUIRE(s->kept.bytes && q->bytes >= s->kept.n_bytes, MCS_E_FAIL, ": nothing is kept");
    void *dst = mcs_helper_map(s->kept.n_bytes);
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
        mcs_helper_allow(HDF5_MAX_TEXT_BYTES, HDF5_MAX_TEXT_BYTES);
        MCS_TRY(mcs_hdf5_texts(s->file, q->name, &s->kept));
        break;
    case H5_OP_TEXT: MCS_TRY(mcs_hdf5_note_text(s->file, q->name, q->bytes, &s->kept)); break;
    case H5_OP_LIST:
        mcs_helper_allow(0, HDF5_MAX_NAME * (int64_t)HDF5_MAX_DATASETS / 2);
        MCS_TRY(mcs_hdf5_list(s->file, &s->kept));
        break;
    default: return MCS_FAIL(MCS_E_FAIL, ": an unknown request");
    }
    reply->n = s->kept.n;
    reply->bytes = s->kept.n_bytes;
    return MCS_OK;
}

int main(void)
{
    static struct h5_request request;
    static struct h5_reply reply;
    struct server s = {0};
    if (!mcs_helper_was_started()) {
        fprintf(stderr, H5_HELPER_NAME " " MCS_VERSION " reads HDF5 files for mcsam, which starts it itself\n");
        return 2;
    }
    if (!mcs_helper_limit() || !mcs_helper_send_hello(H5_MAGIC, sizeof request, sizeof reply)) return 1;
    tell(&reply, mcs_hdf5_open(MCS_HELPER_FILE, "", &s.file));
    while (send(MCS_HELPER_SOCKET, &reply, sizeof reply, MSG_NOSIGNAL) == (ssize_t)sizeof reply) {
        if (!s.file || recv(MCS_HELPER_SOCKET, &request, sizeof request, 0) != (ssize_t)sizeof request) break;
        request.name[sizeof request.name - 1] = 0;
        memset(&reply, 0, sizeof reply);
        tell(&reply, serve(&s, &request, &reply));
    }
    _exit(0); /* nothing is closed: the library may crash in it after reading a damaged file */
}
