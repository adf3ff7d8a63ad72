#define _GNU_SOURCE /* fallocate */
#include "data/helper/helper.h"

#include "data/helper/helper_protocol.h"
#include "data/helper/helper_start.h"
#include "engine/base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int mcs_helper_timeout_ms = 120 * 1000;

/* ---- messages ---- */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Receives a message. Returns its length, 0 where the helper has closed the socket, -1 on timeout. */
static ssize_t take(struct helper *h, void *message, size_t n_bytes, int64_t more_ms)
{
    const int64_t until = now_ms() + mcs_helper_timeout_ms + more_ms;
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
static enum mcs_status give_up(struct helper *h, const char *why)
{
    mcs_helper_process_end(&h->process);
    h->failed = 1;
    return MCS_FAIL(MCS_E_DATA, "%s: damaged: %s failed on it (%s)", h->path, h->kind->library, why);
}

/* The same for a helper that closed its socket: the exit status says whether it ran out of time or crashed. */
static enum mcs_status give_up_dead(struct helper *h)
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

enum mcs_status mcs_helper_nonsense(struct helper *h)
{
    return give_up(h, "it answered nonsense");
}

enum mcs_status mcs_helper_verdict(const struct helper *h, int32_t status, char message[], size_t message_bytes)
{
    if (status == MCS_OK) return MCS_OK;
    message[message_bytes - 1] = 0;
    clean(message);
    return MCS_FAIL(MCS_E_DATA, "%s: %s", h->path, message[0] ? message : "cannot be read");
}

enum mcs_status mcs_helper_receive(struct helper *h, void *reply, int64_t more_ms)
{
    const ssize_t n = take(h, reply, h->kind->reply_bytes, more_ms);
    if (n < 0) return give_up(h, "it took too long");
    if (n == 0) return give_up_dead(h);
    return n == (ssize_t)h->kind->reply_bytes ? MCS_OK : mcs_helper_nonsense(h);
}

enum mcs_status mcs_helper_ask(struct helper *h, const void *request, void *reply, int64_t more_ms)
{
    MCS_REQUIRE(!h->failed, MCS_E_DATA, "%s: damaged: %s failed on it before", h->path, h->kind->library);
    if (send(h->process.socket, request, h->kind->request_bytes, MSG_NOSIGNAL) != (ssize_t)h->kind->request_bytes)
        return give_up_dead(h);
    return mcs_helper_receive(h, reply, more_ms);
}

/* ---- shared memory ---- */

/* Makes the shared memory at least this large; pages are allocated only when the helper writes to them. A compromised
 * helper may have made it larger already. */
enum mcs_status mcs_helper_grow(struct helper *h, int64_t bytes)
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

enum mcs_status mcs_helper_copy_out(struct helper *h, int64_t at, int64_t bytes, void *dst)
{
    for (int64_t done = 0; done < bytes;) {
        const ssize_t n = pread(h->process.memory, (char *)dst + done, (size_t)(bytes - done), (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        MCS_REQUIRE(n > 0, MCS_E_IO, "%s: its decoded values cannot be read: %s", h->path, strerror(errno));
        done += n;
    }
    fallocate(h->process.memory, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)bytes);
    return MCS_OK;
}

/* ---- start and end ---- */

/* Receives the hello. The helper sends it before it opens the file, so a bad hello means a bad installation, not a bad
 * file. */
static enum mcs_status take_hello(struct helper *h)
{
    const struct helper_kind *k = h->kind;
    struct helper_hello hello = {.request_bytes = (uint32_t)k->request_bytes, .reply_bytes = (uint32_t)k->reply_bytes},
                        got;
    char program[MCS_PATH_BYTES];
    snprintf(program, sizeof program, "%s", k->program);
    memcpy(hello.magic, k->magic, sizeof hello.magic);
    snprintf(hello.version, sizeof hello.version, "%s", MCS_VERSION);
    memset(&got, 0, sizeof got);
    if (take(h, &got, sizeof got, 0) == (ssize_t)sizeof got && memcmp(&got, &hello, sizeof got) == 0) return MCS_OK;
    if (mcs_helper_find(k, program) != MCS_OK) mcs_error_clear();
    return MCS_FAIL(MCS_E_FAIL,
                    "%s, which reads %s, does not answer, or is not of mcsam " MCS_VERSION "; install mcsam again",
                    program, k->files);
}

enum mcs_status mcs_helper_start(const struct helper_kind *kind, int fd, const char *path, struct helper *h)
{
    *h = (struct helper){.kind = kind, .path = path, .process = {.pid = -1, .socket = -1, .memory = -1}};
    MCS_TRY(mcs_helper_process_start(kind, fd, &h->process));
    const enum mcs_status st = take_hello(h);
    if (st != MCS_OK) mcs_helper_end(h);
    return st;
}

void mcs_helper_end(struct helper *h)
{
    mcs_helper_process_end(&h->process);
}
