#define _GNU_SOURCE /* fallocate */
#include "data/io/h5_helper.h"

#include "data/io/bounds.h"
#include "data/io/h5_helper_start.h"
#include "data/io/h5_protocol.h"
#include "engine/base/memory.h"
#include "engine/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int mcs_h5_helper_timeout_ms = 120 * 1000;
static const int64_t SLOWEST_BYTES_A_MS = 1000;    /* a file on a busy network */
static const int64_t MAX_BYTES = (int64_t)1 << 38; /* 256 GiB, as the helper's MAX_ARRAY_BYTES (hdf5_read.c) */

struct h5_helper {
    const char *path;
    pthread_mutex_t lock;
    struct h5_process process;
    int failed; /* no further requests are sent */
    struct h5_request request;
    struct h5_reply reply;
};

/* ---- messages ---- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Receives a message. Returns its length, 0 where the helper has closed the socket, -1 on timeout. */
static ssize_t take(struct h5_helper *h, void *message, size_t n_bytes, int64_t more_ms)
{
    const int64_t until = now_ms() + mcs_h5_helper_timeout_ms + more_ms;
    for (;;) {
        struct pollfd p = {.fd = h->process.socket, .events = POLLIN};
        const int64_t left = until - now_ms();
        if (left <= 0) return -1;
        const int ready = poll(&p, 1, left < 1000000 ? (int)left : 1000000);
        if (ready > 0) {
            const ssize_t n = recv(h->process.socket, message, n_bytes, MSG_TRUNC | MSG_DONTWAIT);
            if (n >= 0) return n;
            if (errno != EINTR && errno != EAGAIN) return 0;
        } else if (ready < 0 && errno != EINTR) {
            return 0;
        }
    }
}

/* Ends a failed helper. All such failures share one message, with the reason in brackets. */
static enum mcs_status give_up(struct h5_helper *h, const char *why)
{
    mcs_h5_process_end(&h->process);
    h->failed = 1;
    return MCS_FAIL(MCS_E_DATA, "%s: damaged: the HDF5 library failed on it (%s)", h->path, why);
}

/* The same for a helper that closed its socket: the exit status says whether it ran out of time or crashed. */
static enum mcs_status give_up_dead(struct h5_helper *h)
{
    int how = 0;
    pid_t ended = 0;
    for (int tries = 0; !ended && tries < 100; tries++) { /* it may still be running */
        ended = waitpid(h->process.pid, &how, WNOHANG);
        if (!ended) nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    if (ended) h->process.pid = -1;
    const int slow = ended > 0 && WIFSIGNALED(how) && WTERMSIG(how) == SIGXCPU;
    return give_up(h, slow ? "it took too long" : "it crashed");
}

/* Control characters become "?": parts of the text come from the file and could hold terminal escapes. */
static void clean(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f) *c = '?';
        if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f) c[0] = c[1] = '?'; /* U+0080 to U+009F in UTF-8 */
    }
}

/* Receives a reply. Any error status in it becomes E_DATA: the file is the cause. */
static enum mcs_status take_reply(struct h5_helper *h, int64_t more_ms)
{
    const ssize_t n = take(h, &h->reply, sizeof h->reply, more_ms);
    if (n < 0) return give_up(h, "it took too long");
    if (n == 0) return give_up_dead(h);
    if (n != (ssize_t)sizeof h->reply) return give_up(h, "it answered nonsense");
    if (h->reply.status == MCS_OK) return MCS_OK;
    h->reply.message[sizeof h->reply.message - 1] = 0;
    clean(h->reply.message);
    return MCS_FAIL(MCS_E_DATA, "%s: %s", h->path, h->reply.message[0] ? h->reply.message : "cannot be read");
}

/* Sends a request and receives its reply, in h->reply. bytes: the request's, which also lengthen the timeout. */
static enum mcs_status ask(struct h5_helper *h, enum h5_op op, const char *name, int64_t bytes)
{
    struct h5_request *q = &h->request;
    MCS_REQUIRE(!h->failed, MCS_E_DATA, "%s: damaged: the HDF5 library failed on it before", h->path);
    MCS_REQUIRE(strlen(name) <= HDF5_MAX_NAME, MCS_E_DATA, "%s: a name of %zu bytes; at most %d are read", h->path,
                strlen(name), HDF5_MAX_NAME);
    q->op = op;
    q->bytes = bytes;
    memset(q->name, 0, sizeof q->name);
    memcpy(q->name, name, strlen(name));
    if (send(h->process.socket, q, sizeof *q, MSG_NOSIGNAL) != (ssize_t)sizeof *q) return give_up_dead(h);
    return take_reply(h, bytes / SLOWEST_BYTES_A_MS);
}

/* ---- shared memory ---- */

/* Makes the shared memory at least this large; pages are allocated only when the helper writes to them. A compromised
 * helper may have made it larger already. */
static enum mcs_status grow(struct h5_helper *h, int64_t bytes)
{
    struct rlimit limit;
    struct stat about;
    if (fstat(h->process.memory, &about) == 0 && about.st_size >= bytes) return MCS_OK;
    /* Beyond this limit the kernel would send SIGXFSZ. */
    MCS_REQUIRE(
        getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || (uint64_t)bytes <= limit.rlim_cur,
        MCS_E_IO, "%s: %lld bytes of values, more than files may have here (ulimit -f)", h->path, (long long)bytes);
    MCS_REQUIRE(ftruncate(h->process.memory, (off_t)bytes) == 0, MCS_E_NOMEM, "%s: no memory for %lld bytes: %s",
                h->path, (long long)bytes, strerror(errno));
    return MCS_OK;
}

/* Copies the first bytes of the shared memory, then frees its pages. */
static enum mcs_status copy_out(struct h5_helper *h, int64_t bytes, void *dst)
{
    void *from = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, h->process.memory, 0);
    MCS_REQUIRE(from != MAP_FAILED, MCS_E_NOMEM, "%s: no memory for %lld bytes: %s", h->path, (long long)bytes,
                strerror(errno));
    memcpy(dst, from, (size_t)bytes);
    munmap(from, (size_t)bytes);
    fallocate(h->process.memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
    return MCS_OK;
}

/* ---- open and close ---- */

/* Receives the hello. The helper sends it before it opens the file, so a bad hello means a bad installation, not a bad
 * file. */
static enum mcs_status take_hello(struct h5_helper *h)
{
    struct h5_hello hello = {.request_bytes = sizeof(struct h5_request), .reply_bytes = sizeof(struct h5_reply)}, got;
    char program[MCS_PATH_BYTES] = H5_HELPER_NAME;
    memcpy(hello.magic, H5_MAGIC, sizeof hello.magic);
    snprintf(hello.version, sizeof hello.version, "%s", MCS_VERSION);
    memset(&got, 0, sizeof got);
    if (take(h, &got, sizeof got, 0) == (ssize_t)sizeof got && memcmp(&got, &hello, sizeof got) == 0) return MCS_OK;
    if (mcs_h5_process_find(program) != MCS_OK) mcs_error_clear();
    return MCS_FAIL(MCS_E_FAIL,
                    "%s, which reads HDF5 files, does not answer, or is not of mcsam " MCS_VERSION
                    "; install mcsam again",
                    program);
}

enum mcs_status mcs_h5_helper_open(int fd, const char *path, struct h5_helper **h)
{
    enum mcs_status st;
    *h = NULL;
    struct h5_helper *made = calloc(1, sizeof *made);
    MCS_REQUIRE(made, MCS_E_NOMEM, "%s: no memory to open it", path);
    made->path = path;
    made->process = (struct h5_process){.pid = -1, .socket = -1, .memory = -1};
    pthread_mutex_init(&made->lock, NULL);
    MCS_TRY_GOTO(mcs_h5_process_start(fd, &made->process), st, failed);
    MCS_TRY_GOTO(take_hello(made), st, failed);
    MCS_TRY_GOTO(take_reply(made, 0), st, failed);
    *h = made;
    return MCS_OK;
failed:
    mcs_h5_helper_close(made);
    return st;
}

void mcs_h5_helper_close(struct h5_helper *h)
{
    if (!h) return;
    mcs_h5_process_end(&h->process);
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
        return give_up(h, "it answered nonsense");
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
    if (!h->failed) MCS_TRY(grow(h, bytes));
    h->request.type = (int32_t)type;
    h->request.nd = nd;
    for (int i = 0; i < nd; i++) h->request.dims[i] = dims[i];
    MCS_TRY(ask(h, H5_OP_GET, name, bytes));
    return bytes ? copy_out(h, bytes, dst) : MCS_OK;
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
        return give_up(h, "it answered nonsense");
    MCS_TRY(mcs_memory_check(2 * n_bytes, "%s: %lld texts", h->path, (long long)n));
    char *copy = calloc((size_t)n_bytes + 1, 1);
    MCS_REQUIRE(copy, MCS_E_NOMEM, "%s: no memory for %lld texts", h->path, (long long)n);
    enum mcs_status st = n_bytes ? grow(h, n_bytes) : MCS_OK;
    if (st == MCS_OK && n_bytes) st = ask(h, H5_OP_FETCH, "", n_bytes);
    if (st == MCS_OK && n_bytes) st = copy_out(h, n_bytes, copy);
    if (st == MCS_OK && !are_texts(copy, n_bytes, n)) st = give_up(h, "it answered nonsense");
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
