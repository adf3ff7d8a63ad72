#include "engine/dist/rendezvous.h"

#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/text_cut.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HEARTBEAT_SECONDS = 5, POLL_NS = 5000000 };

struct rendezvous_peer {
    char name[RENDEZVOUS_NAME_BYTES], machine[RENDEZVOUS_NAME_BYTES];
    struct timespec beat; /* time of FOLDER/alive.RANK, by the file system's clock */
    double seen;          /* when it last changed, by this machine's clock; 0: never checked */
};

/* ---- small files, written whole or not at all ---- */

/* FOLDER/KIND.RANK, or FOLDER/KIND for rank -1. 0 where that is too long: mcs_rendezvous refuses such a folder. */
static int path_of(const struct rendezvous *m, char path[MCS_PATH_BYTES], const char *kind, int rank)
{
    return rank >= 0 ? mcs_path_fits(path, "%s/%s.%d", m->folder, kind, rank)
                     : mcs_path_fits(path, "%s/%s", m->folder, kind);
}

static enum mcs_status write_file(const struct rendezvous *m, const char *kind, int rank, const char *text)
{
    char path[MCS_PATH_BYTES], fresh[MCS_PATH_BYTES];
    MCS_REQUIRE(path_of(m, path, kind, rank), MCS_E_IO, "%.200s...: the path is too long", m->folder);
    MCS_TRY(mcs_path(fresh, "%s.new.%d", path, m->rank));
    FILE *f = fopen(fresh, "w");
    MCS_REQUIRE(f, MCS_E_IO, "%s: cannot be written: %s", fresh, strerror(errno));
    const int failed = fputs(text, f) == EOF, closed = fclose(f);
    MCS_REQUIRE(!failed && closed == 0 && rename(fresh, path) == 0, MCS_E_IO, "%s: cannot be written: %s", path,
                strerror(errno));
    return MCS_OK;
}

/* The text, to be freed; NULL where there is no such file. */
static char *read_file(const struct rendezvous *m, const char *kind, int rank)
{
    char path[MCS_PATH_BYTES];
    FILE *f = path_of(m, path, kind, rank) ? fopen(path, "r") : NULL;
    struct stat s;
    char *text = NULL;
    if (!f) return NULL;
    if (fstat(fileno(f), &s) == 0 && (text = calloc(1, (size_t)s.st_size + 1)) &&
        fread(text, 1, (size_t)s.st_size, f) != (size_t)s.st_size) {
        free(text);
        text = NULL;
    }
    fclose(f);
    return text;
}

static void remove_file(const struct rendezvous *m, const char *kind, int rank)
{
    char path[MCS_PATH_BYTES];
    if (path_of(m, path, kind, rank)) unlink(path);
}

/* The message with which rank r, of that name, left, to be freed; NULL: it did not leave. */
static char *leave_message(const struct rendezvous *m, int r, const char *name)
{
    char *note = read_file(m, "left", r);
    const size_t n = strlen(name);
    if (!note) return NULL;
    const int own = n > 0 && strncmp(note, name, n) == 0 && note[n] == '\n';
    char *said = own ? strdup(note + n + 1) : NULL;
    free(note);
    return said;
}

/* ---- heartbeat ---- */

struct heartbeat {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t end;
    int ended;
    char path[MCS_PATH_BYTES];
};

static void *beat(void *of)
{
    struct heartbeat *h = of;
    struct timespec t;
    pthread_mutex_lock(&h->lock);
    while (!h->ended) {
        utimensat(AT_FDCWD, h->path, NULL, 0);
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_sec += HEARTBEAT_SECONDS;
        pthread_cond_timedwait(&h->end, &h->lock, &t);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

static enum mcs_status start_heartbeat(struct rendezvous *m)
{
    struct heartbeat *h = calloc(1, sizeof *h);
    MCS_REQUIRE(h, MCS_E_NOMEM, "no memory for a thread");
    if (!path_of(m, h->path, "alive", m->rank)) {
        free(h);
        return MCS_FAIL(MCS_E_IO, "%.200s...: the path is too long", m->folder);
    }
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->end, NULL);
    if (pthread_create(&h->thread, NULL, beat, h) != 0) {
        free(h);
        return MCS_FAIL(MCS_E_FAIL, "a thread could not be started");
    }
    m->heartbeat = h;
    return MCS_OK;
}

static void stop_heartbeat(struct rendezvous *m)
{
    struct heartbeat *h = m->heartbeat;
    if (!h) return;
    pthread_mutex_lock(&h->lock);
    h->ended = 1;
    pthread_cond_signal(&h->end);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    free(h);
    m->heartbeat = NULL;
}

int mcs_rendezvous_lost(struct rendezvous *m, double heartbeat_timeout_s, char *what, size_t n)
{
    const double now = mcs_seconds();
    for (int r = 0; r < m->size; r++) {
        struct rendezvous_peer *peer = &m->peers[r];
        struct stat s;
        char path[MCS_PATH_BYTES], *said;
        if (r == m->rank) continue;
        if ((said = leave_message(m, r, peer->name))) {
            mcs_text_cut(what, n, "rank %d on %s has left%s%s", r, peer->machine, *said ? ": " : "", said);
            free(said);
            return 1;
        }
        if (!path_of(m, path, "alive", r) || stat(path, &s) != 0) memset(&s, 0, sizeof s);
        if (peer->seen == 0 || peer->beat.tv_sec != s.st_mtim.tv_sec || peer->beat.tv_nsec != s.st_mtim.tv_nsec) {
            peer->beat = s.st_mtim;
            peer->seen = now;
        }
        if (now - peer->seen > heartbeat_timeout_s) {
            mcs_text_cut(what, n, "rank %d on %s has shown no sign of life for %.0f s", r, peer->machine,
                         now - peer->seen);
            return 1;
        }
    }
    return 0;
}

void mcs_rendezvous_leave(struct rendezvous *m, const char *message)
{
    char note[1200];
    static const char *const kinds[] = {"hello", "here", "alive"};
    if (!m->peers) return;
    stop_heartbeat(m);
    if (message) { /* stays in the folder: the other ranks read it later */
        mcs_text_cut(note, sizeof note, "%s\n%s", m->name, message);
        if (write_file(m, "left", m->rank, note) != MCS_OK) mcs_error_clear();
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) remove_file(m, kinds[i], m->rank);
    if (m->rank == 0) {
        remove_file(m, "list", -1);
        remove_file(m, "complete", -1);
    }
    rmdir(m->folder); /* succeeds for the last rank, where none left a message */
    free(m->peers);
    m->peers = NULL;
}

/* ---- rendezvous ---- */

/* Reads hello.R, written by rank R: name, machine (of at most RENDEZVOUS_NAME_BYTES - 1 = 95 characters). */
static void read_hello(struct rendezvous *m, int r)
{
    char *text = read_file(m, "hello", r), name[RENDEZVOUS_NAME_BYTES], machine[RENDEZVOUS_NAME_BYTES];
    if (text && sscanf(text, "%95s %95s", name, machine) == 2) {
        snprintf(m->peers[r].name, RENDEZVOUS_NAME_BYTES, "%s", name);
        snprintf(m->peers[r].machine, RENDEZVOUS_NAME_BYTES, "%s", machine);
    }
    free(text);
}

/* Writes `list`, by rank 0: its name, the unique id, then name and machine of each rank. */
static enum mcs_status write_list(const struct rendezvous *m, const char *unique_id)
{
    const size_t bytes = 2 * UNIQUE_ID_BYTES + (size_t)(m->size + 2) * (2 * RENDEZVOUS_NAME_BYTES + 2);
    char *text = malloc(bytes);
    MCS_REQUIRE(text, MCS_E_NOMEM, "no memory for %d ranks", m->size);
    size_t at = (size_t)snprintf(text, bytes, "%s\n", m->name);
    for (int i = 0; i < UNIQUE_ID_BYTES; i++)
        at += (size_t)snprintf(text + at, bytes - at, "%02x", (unsigned char)unique_id[i]);
    for (int r = 0; r < m->size; r++)
        at += (size_t)snprintf(text + at, bytes - at, "\n%s %s", m->peers[r].name, m->peers[r].machine);
    const enum mcs_status st = write_file(m, "list", -1, text);
    free(text);
    return st;
}

/* 1 where the list contains this rank's name, so that it belongs to this launch. */
static int read_list(struct rendezvous *m, char *unique_id)
{
    char *text = read_file(m, "list", -1), *at = text;
    int n = 0, ok = text && sscanf(text, "%95s%n", m->leader, &n) == 1;
    if (ok) at += n + 1;
    ok = ok && strlen(at) > 2 * (size_t)UNIQUE_ID_BYTES;
    for (int i = 0; ok && i < UNIQUE_ID_BYTES; i++, at += 2) {
        unsigned v;
        ok = sscanf(at, "%2x", &v) == 1;
        if (ok) unique_id[i] = (char)v;
    }
    for (int r = 0; ok && r < m->size; r++) {
        ok = sscanf(at, "%95s %95s%n", m->peers[r].name, m->peers[r].machine, &n) == 2;
        at += n;
    }
    free(text);
    return ok && strcmp(m->peers[m->rank].name, m->name) == 0;
}

/* 1 where the first line of file kind.R is `want`; *rest is the text after it, to be freed. */
static int confirms(const struct rendezvous *m, const char *kind, int r, const char *want, char **rest)
{
    char *text = read_file(m, kind, r);
    const size_t n = strlen(want);
    const int ok = text && strncmp(text, want, n) == 0 && text[n] == '\n';
    if (ok && rest) *rest = strdup(text + n + 1);
    free(text);
    return ok;
}

static enum mcs_status check_same(const struct rendezvous *m, const char *same)
{
    for (int r = 1; r < m->size; r++) {
        char *rest = NULL, want[3 * RENDEZVOUS_NAME_BYTES];
        snprintf(want, sizeof want, "%s %s", m->name, m->peers[r].name);
        const int ok = confirms(m, "here", r, want, &rest) && rest && strcmp(rest, same) == 0;
        free(rest);
        MCS_REQUIRE(ok, MCS_E_USAGE, "rank %d on %s was started with other options than rank 0", r,
                    m->peers[r].machine);
    }
    return MCS_OK;
}

static enum mcs_status lead(struct rendezvous *m, const char *unique_id, const char *same, double until)
{
    char missing[256];
    for (;;) {
        int n_named = 0, n_here = 0, changed = 0;
        size_t used = 0;
        missing[0] = '\0';
        for (int r = 0; r < m->size; r++) {
            char before[RENDEZVOUS_NAME_BYTES], want[3 * RENDEZVOUS_NAME_BYTES];
            memcpy(before, m->peers[r].name, sizeof before);
            read_hello(m, r);
            changed |= strcmp(before, m->peers[r].name) != 0;
            n_named += m->peers[r].name[0] != '\0';
            snprintf(want, sizeof want, "%s %s", m->name, m->peers[r].name);
            const int here = r == 0 || confirms(m, "here", r, want, NULL);
            n_here += here;
            if (!here && used < sizeof missing - 16)
                used += (size_t)snprintf(missing + used, sizeof missing - used, "%s%d", used ? ", " : "", r);
        }
        if (n_named == m->size && changed)
            MCS_TRY(write_list(m, unique_id));
        else if (n_here == m->size)
            break;
        MCS_REQUIRE(mcs_seconds() < until, MCS_E_FAIL,
                    "of %d ranks these did not come to %s: %s; look at their messages, and whether their machines see "
                    "this folder",
                    m->size, m->folder, missing);
        nanosleep(&(struct timespec){0, POLL_NS}, NULL);
    }
    MCS_TRY(check_same(m, same));
    char text[RENDEZVOUS_NAME_BYTES + 2];
    snprintf(text, sizeof text, "%s\n", m->name);
    return write_file(m, "complete", -1, text);
}

static enum mcs_status follow(struct rendezvous *m, char *unique_id, const char *same, double until)
{
    char confirmed[RENDEZVOUS_NAME_BYTES] = "", text[1200];
    for (;;) {
        if (read_list(m, unique_id) && strcmp(confirmed, m->leader) != 0) {
            snprintf(text, sizeof text, "%s %s\n%s", m->leader, m->name, same);
            MCS_TRY(write_file(m, "here", m->rank, text));
            snprintf(confirmed, sizeof confirmed, "%s", m->leader);
        }
        if (confirmed[0] && confirms(m, "complete", -1, confirmed, NULL)) return MCS_OK;
        char *said = confirmed[0] ? leave_message(m, 0, confirmed) : NULL;
        if (said) {
            const enum mcs_status st = MCS_FAIL(MCS_E_FAIL, "rank 0 has left: %s", said);
            free(said);
            return st;
        }
        MCS_REQUIRE(mcs_seconds() < until, MCS_E_FAIL,
                    "rank %d of %d: %s in %s; look at the messages of the other ranks", m->rank, m->size,
                    confirmed[0] ? "not all ranks came to meet" : "rank 0 did not come to meet", m->folder);
        nanosleep(&(struct timespec){0, POLL_NS}, NULL);
    }
}

enum mcs_status mcs_rendezvous(struct rendezvous *m, const struct ranks *r, const char *same, double timeout_s,
                               char *unique_id)
{
    char machine[64] = "?", text[2 * RENDEZVOUS_NAME_BYTES + 2];
    struct timespec t;
    *m = (struct rendezvous){.rank = r->rank, .size = r->size, .local_rank = 0};
    MCS_TRY(mcs_path(m->folder, "%s", r->folder));
    m->peers = calloc((size_t)r->size, sizeof *m->peers);
    MCS_REQUIRE(m->peers, MCS_E_NOMEM, "no memory for %d ranks", r->size);
    gethostname(machine, sizeof machine - 1);
    clock_gettime(CLOCK_REALTIME, &t);
    snprintf(m->name, sizeof m->name, "%s/%ld/%lld.%09ld", machine, syscall(SYS_gettid), (long long)t.tv_sec,
             t.tv_nsec);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(mkdir(m->folder, 0777) == 0 || errno == EEXIST, MCS_E_IO, st, failed, "%s: cannot be made: %s",
                     m->folder, strerror(errno));
    remove_file(m, "left", m->rank); /* left by an earlier launch */
    MCS_TRY_GOTO(write_file(m, "alive", m->rank, "\n"), st, failed);
    MCS_TRY_GOTO(start_heartbeat(m), st, failed);
    snprintf(text, sizeof text, "%s %s", m->name, machine);
    MCS_TRY_GOTO(write_file(m, "hello", m->rank, text), st, failed);
    const double until = mcs_seconds() + timeout_s;
    MCS_TRY_GOTO(m->rank ? follow(m, unique_id, same, until) : lead(m, unique_id, same, until), st, failed);
    int machines = 0;
    for (int i = 0; i < m->size; i++) {
        int first = 1;
        for (int k = 0; k < i; k++) first &= strcmp(m->peers[k].machine, m->peers[i].machine) != 0;
        machines += first;
        m->local_rank += i < m->rank && strcmp(m->peers[i].machine, m->peers[m->rank].machine) == 0;
    }
    m->n_machines = machines;
    return MCS_OK;
failed:
    mcs_rendezvous_leave(m, st == MCS_E_USAGE ? mcs_error_message() : NULL);
    return st;
}
