#include "data/io/h5_helper.h"

#include "data/helper/helper.h"
#include "data/io/bounds.h"
#include "data/io/h5_protocol.h"
#include "engine/base/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const int64_t SLOWEST_BYTES_A_MS = 1000;    /* a file on a busy network */
static const int64_t MAX_BYTES = (int64_t)1 << 38; /* 256 GiB, as the helper's MAX_ARRAY_BYTES (hdf5_read.c) */

struct h5_helper {
    const char *path;
    pthread_mutex_t lock;
    struct helper helper;
    struct h5_request request;
    struct h5_reply reply;
};

static const struct helper_kind kind = {
    H5_HELPER_NAME, "HDF5 files", "the HDF5 library", H5_MAGIC, sizeof(struct h5_request), sizeof(struct h5_reply)};

static enum mcs_status verdict(struct h5_helper *h)
{
    return mcs_helper_verdict(&h->helper, h->reply.status, h->reply.message, sizeof h->reply.message);
}

/* Sends a request and receives its reply, in h->reply. bytes: the request's, which also lengthen the timeout. */
static enum mcs_status ask(struct h5_helper *h, enum h5_op op, const char *name, int64_t bytes)
{
    struct h5_request *q = &h->request;
    MCS_REQUIRE(h->helper.failed || strlen(name) <= HDF5_MAX_NAME, MCS_E_DATA,
                "%s: a name of %zu bytes; at most %d are read", h->path, strlen(name), HDF5_MAX_NAME);
    q->op = op;
    q->bytes = bytes;
    memset(q->name, 0, sizeof q->name);
    memcpy(q->name, name, strnlen(name, sizeof q->name - 1));
    MCS_TRY(mcs_helper_ask(&h->helper, q, &h->reply, bytes / SLOWEST_BYTES_A_MS));
    return verdict(h);
}

/* ---- open and close ---- */

enum mcs_status mcs_h5_helper_open(int fd, const char *path, struct h5_helper **h)
{
    enum mcs_status st;
    *h = NULL;
    struct h5_helper *made = calloc(1, sizeof *made);
    MCS_REQUIRE(made, MCS_E_NOMEM, "%s: no memory to open it", path);
    made->path = path;
    made->helper.process = (struct helper_process){.pid = -1, .socket = -1, .memory = -1};
    pthread_mutex_init(&made->lock, NULL);
    MCS_TRY_GOTO(mcs_helper_start(&kind, fd, path, &made->helper), st, failed);
    MCS_TRY_GOTO(mcs_helper_receive(&made->helper, &made->reply, 0), st, failed);
    MCS_TRY_GOTO(verdict(made), st, failed);
    *h = made;
    return MCS_OK;
failed:
    mcs_h5_helper_close(made);
    return st;
}

void mcs_h5_helper_close(struct h5_helper *h)
{
    if (!h) return;
    mcs_helper_end(&h->helper);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

/* ---- requests ---- */

static enum mcs_status take_info(struct h5_helper *h, const char *name, struct store_info *info, int64_t *chunk_bytes)
{
    const struct h5_reply *r = &h->reply;
    MCS_TRY(ask(h, H5_OP_INFO, name, 0));
    const int64_t n = r->nd >= 0 && r->nd <= MCS_STORE_MAX_ND ? mcs_array_count(r->nd, r->dims) : -1;
    if (n < 0 || n > MAX_BYTES || r->type < 0 || r->type > MCS_ARRAY_N_TYPES || r->chunk_bytes < 0 ||
        r->chunk_bytes > MAX_BYTES)
        return mcs_helper_nonsense(&h->helper);
    *info = (struct store_info){.type = (enum mcs_array_type)r->type, .nd = r->nd, .n_values = n};
    for (int i = 0; i < r->nd; i++) info->dims[i] = r->dims[i];
    *chunk_bytes = r->chunk_bytes;
    return MCS_OK;
}

enum mcs_status mcs_h5_helper_info(struct h5_helper *h, const char *name, struct store_info *info, int64_t *chunk_bytes)
{
    *info = (struct store_info){0};
    *chunk_bytes = 0;
    pthread_mutex_lock(&h->lock);
    const enum mcs_status st = take_info(h, name, info, chunk_bytes);
    pthread_mutex_unlock(&h->lock);
    return st;
}

static enum mcs_status take_values(struct h5_helper *h, const char *name, enum mcs_array_type type, int nd,
                                   const int64_t *dims, void *dst)
{
    const int64_t n = mcs_array_count(nd, dims);
    MCS_REQUIRE(nd >= 0 && nd <= MCS_STORE_MAX_ND && n >= 0 && (unsigned)type < MCS_ARRAY_N_TYPES, MCS_E_SHAPE,
                "%s: dataset %s: %d dimensions; want 0 to %d", h->path, name, nd, MCS_STORE_MAX_ND);
    const int64_t bytes = mcs_size_mul(n, mcs_array_type_bytes(type));
    MCS_REQUIRE(bytes >= 0 && bytes <= MAX_BYTES, MCS_E_DATA, "%s: dataset %s: %lld values are too many", h->path, name,
                (long long)n);
    if (!h->helper.failed) MCS_TRY(mcs_helper_grow(&h->helper, bytes));
    h->request.type = (int32_t)type;
    h->request.nd = nd;
    for (int i = 0; i < nd; i++) h->request.dims[i] = dims[i];
    MCS_TRY(ask(h, H5_OP_GET, name, bytes));
    return bytes ? mcs_helper_copy_out(&h->helper, 0, bytes, dst) : MCS_OK;
}

enum mcs_status mcs_h5_helper_get(struct h5_helper *h, const char *name, enum mcs_array_type type, int nd,
                                  const int64_t *dims, void *dst)
{
    pthread_mutex_lock(&h->lock);
    const enum mcs_status st = take_values(h, name, type, nd, dims, dst);
    pthread_mutex_unlock(&h->lock);
    return st;
}

/* 1 where the bytes are exactly n texts, each ended by NUL. */
static int are_texts(const char *bytes, int64_t n_bytes, int64_t n)
{
    int64_t ends = 0;
    for (int64_t i = 0; i < n_bytes; i++) ends += bytes[i] == 0;
    return ends == n && (n_bytes == 0 || bytes[n_bytes - 1] == 0);
}

static enum mcs_status take_texts(struct h5_helper *h, enum h5_op op, const char *name, int64_t bytes,
                                  struct hdf5_texts *texts)
{
    MCS_TRY(ask(h, op, name, bytes));
    const int64_t n = h->reply.n, n_bytes = h->reply.bytes;
    if (n < 0 || n > HDF5_MAX_TEXTS || n_bytes < n || n_bytes > (int64_t)2 * HDF5_MAX_TEXT_BYTES ||
        (op == H5_OP_TEXT && (n != 1 || n_bytes > bytes)))
        return mcs_helper_nonsense(&h->helper);
    MCS_TRY(mcs_memory_check(2 * n_bytes, "%s: %lld texts", h->path, (long long)n));
    char *copy = calloc((size_t)n_bytes + 1, 1);
    MCS_REQUIRE(copy, MCS_E_NOMEM, "%s: no memory for %lld texts", h->path, (long long)n);
    enum mcs_status st = n_bytes ? mcs_helper_grow(&h->helper, n_bytes) : MCS_OK;
    if (st == MCS_OK && n_bytes) st = ask(h, H5_OP_FETCH, "", n_bytes);
    if (st == MCS_OK && n_bytes) st = mcs_helper_copy_out(&h->helper, 0, n_bytes, copy);
    if (st == MCS_OK && !are_texts(copy, n_bytes, n)) st = mcs_helper_nonsense(&h->helper);
    if (st == MCS_OK)
        *texts = (struct hdf5_texts){n, n_bytes, copy};
    else
        free(copy);
    return st;
}

static enum mcs_status texts_of(struct h5_helper *h, enum h5_op op, const char *name, int64_t bytes,
                                struct hdf5_texts *texts)
{
    *texts = (struct hdf5_texts){0};
    pthread_mutex_lock(&h->lock);
    const enum mcs_status st = take_texts(h, op, name, bytes, texts);
    pthread_mutex_unlock(&h->lock);
    return st;
}

enum mcs_status mcs_h5_helper_texts(struct h5_helper *h, const char *name, struct hdf5_texts *texts)
{
    return texts_of(h, H5_OP_TEXTS, name, 0, texts);
}

enum mcs_status mcs_h5_helper_list(struct h5_helper *h, struct hdf5_texts *names)
{
    return texts_of(h, H5_OP_LIST, "", 0, names);
}

enum mcs_status mcs_h5_helper_note_text(struct h5_helper *h, const char *key, int64_t dst_bytes,
                                        struct hdf5_texts *text)
{
    return texts_of(h, H5_OP_TEXT, key, dst_bytes, text);
}

enum mcs_status mcs_h5_helper_note_number(struct h5_helper *h, const char *key, double *number)
{
    pthread_mutex_lock(&h->lock);
    const enum mcs_status st = ask(h, H5_OP_NUMBER, key, 0);
    if (st == MCS_OK) *number = h->reply.number;
    pthread_mutex_unlock(&h->lock);
    return st;
}
