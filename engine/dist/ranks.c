#include "engine/dist/ranks.h"

#include "engine/base/log.h"
#include "engine/base/newfile.h"
#include "engine/base/path.h"
#include "engine/base/text_cut.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

enum { MAX_RANKS = 65536, SRUN = 4 /* index in launchers: used only where no other launcher is found */ };

static const struct launcher {
    const char *name, *rank, *size, *local;
} launchers[] = {
    {"Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    {"MVAPICH's mpirun", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"},
    {"MPICH's mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
    {"RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_RANK"},
    {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"},
};

static const char *look_up(char *const *env, const char *name)
{
    const size_t n = strlen(name);
    for (; *env; env++)
        if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') return *env + n + 1;
    return NULL;
}

static enum mcs_status number(const char *name, const char *text, int low, int *v)
{
    char *end;
    errno = 0;
    const long value = strtol(text, &end, 10);
    MCS_REQUIRE(*text && !*end && errno == 0 && value >= low && value <= MAX_RANKS, MCS_E_USAGE,
                "%s=%s: want a number from %d to %d", name, text, low, MAX_RANKS);
    *v = (int)value;
    return MCS_OK;
}

/* size 0: this launcher set nothing. */
static enum mcs_status read_launcher(char *const *env, const struct launcher *l, struct ranks *r)
{
    const char *rank = look_up(env, l->rank), *size = look_up(env, l->size), *local = look_up(env, l->local);
    *r = (struct ranks){.local_rank = -1, .launcher = l->name};
    if (!size && (!rank || l == &launchers[SRUN])) return MCS_OK;
    MCS_REQUIRE(rank && size, MCS_E_USAGE, "%s is set, but %s is not; set both, or neither", rank ? l->rank : l->size,
                rank ? l->size : l->rank);
    MCS_TRY(number(l->size, size, 1, &r->size));
    MCS_TRY(number(l->rank, rank, 0, &r->rank));
    if (local) MCS_TRY(number(l->local, local, 0, &r->local_rank));
    MCS_REQUIRE(r->rank < r->size, MCS_E_USAGE, "%s=%d, but %s=%d: ranks count from 0", l->rank, r->rank, l->size,
                r->size);
    MCS_REQUIRE(r->local_rank <= r->rank, MCS_E_USAGE,
                "%s=%d, but %s=%d: no rank has a lower number than on its machine", l->rank, r->rank, l->local,
                r->local_rank);
    return MCS_OK;
}

enum mcs_status mcs_ranks_find(char *const *env, struct ranks *found)
{
    if (!env) env = environ;
    *found = (struct ranks){.size = 1, .local_rank = -1};
    for (int i = 0; i <= SRUN; i++) {
        struct ranks r;
        if (i == SRUN && found->launcher) break;
        MCS_TRY(read_launcher(env, &launchers[i], &r));
        if (!r.size) continue;
        MCS_REQUIRE(!found->launcher || (found->rank == r.rank && found->size == r.size), MCS_E_USAGE,
                    "%s says rank %d of %d, but %s rank %d of %d; unset the variables of one of them", found->launcher,
                    found->rank, found->size, r.launcher, r.rank, r.size);
        if (!found->launcher) *found = r;
    }
    return MCS_OK;
}

/* ---- threads ---- */

struct member {
    struct ranks ranks;
    enum mcs_status (*body)(void *ctx, struct ranks *r);
    void *ctx;
    enum mcs_status status;
    char message[1024];
    pthread_t thread;
    int started;
};

static void *run_member(void *of)
{
    struct member *m = of;
    if (m->ranks.rank) mcs_log_mute_here(1);
    m->status = m->body(m->ctx, &m->ranks);
    mcs_text_cut(m->message, sizeof m->message, "%s", mcs_error_message());
    mcs_error_clear();
    return NULL;
}

/* The rank whose failure is reported: one that failed by itself before one that followed another, then the lowest. */
static const struct member *culprit(const struct member *m, int n)
{
    for (int follows = 0; follows < 2; follows++)
        for (int i = 0; i < n; i++)
            if (m[i].status != MCS_OK && m[i].ranks.follows == follows) return &m[i];
    return NULL;
}

/* ---- the folder of the rendezvous ---- */

/* It is locked while its ranks run, so that a later run can recognise, and remove, the folder of a killed run. */

static const char folder_name[] = "mcsam-ranks-";

/* *lock: the folder, open and locked; closing it unlocks it. */
static enum mcs_status make_folder(char folder[MCS_PATH_BYTES], int *lock)
{
    const char *tmp = getenv("TMPDIR");
    if (!tmp) tmp = "/tmp";
    mcs_leftovers_remove(tmp, folder_name);
    for (;;) {
        struct stat opened, there;
        MCS_TRY(mcs_path(folder, "%s/%sXXXXXX", tmp, folder_name));
        MCS_REQUIRE(mkdtemp(folder), MCS_E_IO, "%s: cannot be made: %s", folder, strerror(errno));
        *lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const int locked = *lock >= 0 && (flock(*lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK);
        if (locked && fstat(*lock, &opened) == 0 && stat(folder, &there) == 0 && there.st_ino == opened.st_ino)
            return MCS_OK;
        if (*lock >= 0) close(*lock); /* another run removed it as a leftover before it was locked: try again */
    }
}

enum mcs_status mcs_ranks_run(int n, enum mcs_status (*body)(void *ctx, struct ranks *r), void *ctx)
{
    char folder[MCS_PATH_BYTES];
    int lock = -1;
    enum mcs_status st = MCS_OK;
    if (n == 1) return body(ctx, &(struct ranks){.size = 1});
    struct member *m = calloc((size_t)n, sizeof *m);
    MCS_REQUIRE(m, MCS_E_NOMEM, "no memory for %d ranks", n);
    MCS_TRY_GOTO(make_folder(folder, &lock), st, done);
    for (int i = 0; i < n; i++)
        m[i] = (struct member){.ranks = {.rank = i, .size = n, .local_rank = i, .folder = folder},
                               .body = body,
                               .ctx = ctx,
                               .status = MCS_OK};
    for (int i = 1; i < n; i++) {
        const int error = pthread_create(&m[i].thread, NULL, run_member, &m[i]);
        m[i].started = error == 0;
        if (error) break; /* the others notice that this rank does not arrive */
    }
    run_member(&m[0]);
    for (int i = 1; i < n; i++)
        if (m[i].started) pthread_join(m[i].thread, NULL);
    const struct member *bad = culprit(m, n);
    if (bad)
        st = MCS_FAIL(bad->status, "%s%s", bad->message,
                      bad->ranks.rank && bad->status != MCS_E_STOPPED ? " (on a rank other than 0)" : "");
    for (int i = 0; i < n; i++) { /* the messages of ranks that failed */
        char path[MCS_PATH_BYTES];
        if (mcs_path_fits(path, "%s/left.%d", folder, i)) unlink(path);
    }
    rmdir(folder);
    close(lock);
done:
    free(m);
    return st;
}
