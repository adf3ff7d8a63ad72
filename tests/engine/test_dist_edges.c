/* Edge cases of engine/dist: one rank without a communicator, options and their defaults, ranks that leave, files left
 * behind by a run, every launcher's variables, the file of the unique id. */
#include "engine/backend.h"
#include "engine/base/log.h"
#include "engine/dist/comm.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_edges_XXXXXX");
    cr_assert(mkdtemp(folder));
    setenv("TMPDIR", folder, 1);
    unsetenv("MCSAM_COMM_TIMEOUT");
    mcs_log_quiet(1);
    mcs_error_clear();
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0) cr_log_warn("%s was left behind", folder);
}
TestSuite(dist_edges, .init = setup, .fini = teardown, .timeout = 60);

static int n_entries(const char *path)
{
    int n = -2; /* . and .. */
    DIR *d = opendir(path);
    cr_assert(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

static void fails(enum mcs_status st, enum mcs_status want, const char *message)
{
    cr_expect_eq(st, want, "status %d, want %d", st, want);
    cr_expect_str_eq(mcs_error_message(), message);
    mcs_error_clear();
}

Test(dist_edges, one_rank_alone)
{
    struct device d;
    struct comm *c = (struct comm *)&d;
    struct ranks r = {.size = 1, .local_rank = -1};
    float mine[3] = {1, 2, 3}, all[3] = {0};
    int most = 0;
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_comm_open(&(struct comm_options){.ranks = &r}, &d, &c), MCS_OK);
    cr_expect_eq(c, NULL);
    cr_expect_eq(mcs_comm_rank(NULL), 0);
    cr_expect_eq(mcs_comm_size(NULL), 1);
    cr_expect_eq(mcs_comm_values(NULL, mine, 2, all, "two"), MCS_OK);
    cr_expect(all[0] == 1 && all[1] == 2 && all[2] == 0);
    cr_expect_eq(mcs_comm_allreduce_max(NULL, 5, &most, "five"), MCS_OK);
    cr_expect_eq(most, 5);
    cr_expect_eq(mcs_comm_allreduce_sum(NULL, mine, 3, "x"), MCS_OK);
    cr_expect_eq(mcs_comm_broadcast(NULL, mine, 3, "x"), MCS_OK);
    cr_expect(mine[0] == 1 && mine[1] == 2 && mine[2] == 3);
    cr_expect_eq(mcs_comm_join(NULL), MCS_OK);
    cr_expect_eq(mcs_comm_wait(NULL), MCS_OK);
    cr_expect_eq(mcs_comm_barrier(NULL, "end"), MCS_OK);
    fails(mcs_comm_allgather(NULL, mine, all, 3, "images"), MCS_E_FAIL, "images: gathered from one rank alone");
    mcs_comm_close(NULL, MCS_OK);
    r.size = 2;
    fails(mcs_comm_open(&(struct comm_options){.ranks = &r}, &d, &c), MCS_E_FAIL, "ranks need a folder to meet in");
    cr_expect_eq(c, NULL);
    mcs_cpu_close(&d);
}

/* A function that each rank calls with its communicator. */
struct task {
    struct comm_options options;
    enum mcs_status (*work)(struct comm *c, float *x, char *said);
    char said[3][512];
};

static enum mcs_status with_comm(void *of, struct ranks *r)
{
    struct task *t = of;
    struct comm_options o = t->options;
    struct device d;
    struct comm *c = NULL;
    float x[64] = {0};
    o.ranks = r;
    MCS_TRY(mcs_cpu_open(1, &d));
    enum mcs_status st = mcs_comm_open(&o, &d, &c);
    if (st == MCS_OK) st = t->work(c, x, t->said[r->rank]);
    mcs_comm_close(c, st);
    mcs_cpu_close(&d);
    return st;
}

static enum mcs_status say_timeouts(struct comm *c, float *x, char *said)
{
    snprintf(said, 512, "%g %g %d %d %s", c->timeout_s, c->heartbeat_timeout_s, mcs_comm_rank(c), mcs_comm_size(c),
             c->ops->name);
    return mcs_comm_barrier(c, "end");
}

Test(dist_edges, timeouts)
{
    static struct task t = {.work = say_timeouts};
    cr_assert_eq(mcs_ranks_run(2, with_comm, &t), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(t.said[0], "900 30 0 2 memory");
    cr_expect_str_eq(t.said[1], "900 30 1 2 memory");
    setenv("MCSAM_COMM_TIMEOUT", "77.5", 1);
    cr_assert_eq(mcs_ranks_run(2, with_comm, &t), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(t.said[0], "77.5 30 0 2 memory");
    t.options.timeout_s = 50, t.options.heartbeat_timeout_s = 60;
    cr_assert_eq(mcs_ranks_run(2, with_comm, &t), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(t.said[1], "50 60 1 2 memory");
    cr_expect_eq(n_entries(folder), 0);
}

/* Summing nothing is no collective; the largest set of values is COMM_VALUES. */
static enum mcs_status sizes(struct comm *c, float *x, char *said)
{
    static const int values[] = {0, COMM_VALUES + 1};
    float mine[COMM_VALUES + 1] = {0}, all[3 * COMM_VALUES];
    MCS_TRY(mcs_comm_allreduce_sum(c, x, 0, "none"));
    MCS_TRY(mcs_comm_broadcast(c, x, 0, "none"));
    MCS_REQUIRE(c->n_calls == 0, MCS_E_FAIL, "%lld calls", (long long)c->n_calls);
    for (int i = 0; i < 2; i++) {
        MCS_REQUIRE(mcs_comm_values(c, mine, values[i], all, "many") == MCS_E_FAIL, MCS_E_DATA, "%d were taken",
                    values[i]);
        snprintf(said, 512, "%s", mcs_error_message());
        mcs_error_clear();
    }
    for (int i = 0; i < COMM_VALUES; i++) mine[i] = (float)(100 * c->rank + i);
    MCS_TRY(mcs_comm_values(c, mine, COMM_VALUES, all, "many"));
    for (int i = 0; i < 3 * COMM_VALUES; i++)
        MCS_REQUIRE(all[i] == (float)(100 * (i / COMM_VALUES) + i % COMM_VALUES), MCS_E_DATA, "value %d is %g", i,
                    (double)all[i]);
    x[0] = (float)(c->rank + 1), x[1] = 7;
    MCS_TRY(mcs_comm_allreduce_sum(c, x, 1, "one"));
    MCS_REQUIRE(x[0] == 6 && x[1] == 7, MCS_E_DATA, "a sum of one value each is %g", (double)x[0]);
    x[0] = (float)(c->rank + 4);
    MCS_TRY(mcs_comm_broadcast(c, x, 1, "one"));
    MCS_REQUIRE(x[0] == 4 && x[1] == 7, MCS_E_DATA, "the value of rank 0 is %g", (double)x[0]);
    int most;
    MCS_TRY(mcs_comm_allreduce_max(c, -5 - c->rank, &most, "negative"));
    MCS_REQUIRE(most == -5, MCS_E_DATA, "the largest is %d", most);
    MCS_TRY(mcs_comm_allreduce_max(c, c->rank, &most, "last"));
    MCS_REQUIRE(most == 2, MCS_E_DATA, "the largest is %d", most);
    return MCS_OK;
}

Test(dist_edges, sizes)
{
    static struct task t = {.work = sizes};
    cr_expect_eq(mcs_ranks_run(3, with_comm, &t), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < 3; i++) cr_expect_str_eq(t.said[i], "many: 65 values, at most 64 go at once");
}

/* If the other ranks do not arrive, rank 0 removes the file it made for them. */
Test(dist_edges, nobody_comes)
{
    struct device d;
    struct comm *c;
    char meeting[96];
    snprintf(meeting, sizeof meeting, "%s/meeting", folder);
    struct ranks r = {.size = 2, .folder = meeting};
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_expect_eq(mcs_comm_open(&(struct comm_options){.ranks = &r, .rendezvous_s = 0.1}, &d, &c), MCS_E_FAIL);
    cr_expect_eq(n_entries(folder), 0);
    for (int fd = 3; fd < 64; fd++) {
        char path[64], to[256] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, to, sizeof to - 1) > 0) cr_expect_not(strstr(to, "mcsam-comm-"), "%s is open", to);
    }
    mcs_cpu_close(&d);
}

/* Rank 1 leaves and reports no failure. */
static enum mcs_status one_goes(struct comm *c, float *x, char *said)
{
    MCS_TRY(mcs_comm_allreduce_sum(c, x, 64, "first"));
    if (c->rank == 1) return MCS_E_STOPPED;
    const enum mcs_status st = mcs_comm_allreduce_sum(c, x, 64, "second");
    snprintf(said, 512, "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_eq(mcs_comm_allreduce_sum(c, x, 64, "third"), MCS_E_FAIL);
    char want[100];
    snprintf(want, sizeof want, "rank %d: allreduce of third after a collective that failed", c->rank);
    cr_expect_str_eq(mcs_error_message(), want);
    return st;
}

Test(dist_edges, a_rank_that_leaves_is_named)
{
    static struct task t = {.work = one_goes};
    cr_expect_eq(mcs_ranks_run(3, with_comm, &t), MCS_E_STOPPED, "who left first, not who followed");
    cr_expect_str_eq(t.said[0], "rank 0, allreduce of second (collective 2): rank 1 has left");
    cr_expect_str_eq(t.said[2], "rank 2, allreduce of second (collective 2): rank 1 has left");
    cr_expect_eq(n_entries(folder), 0, "the folder where they met is still there");
}

/* ---- the rank whose failure is reported ---- */

static enum mcs_status by_number(void *of, struct ranks *r)
{
    const int *how = of; /* of rank r: 0 succeeds, 1 fails, 2 fails because another one has, 3 stopped */
    char path[1100];
    FILE *f;
    cr_expect_eq(r->size, 3);
    cr_expect_eq(r->local_rank, r->rank);
    cr_expect(strncmp(r->folder, folder, strlen(folder)) == 0 && strstr(r->folder, "/mcsam-ranks-"));
    snprintf(path, sizeof path, "%s/left.%d", r->folder, r->rank);
    if ((f = fopen(path, "w"))) fclose(f);
    r->follows = how[r->rank] == 2;
    if (how[r->rank] == 3) return MCS_FAIL(MCS_E_STOPPED, "stopped %d", r->rank);
    return how[r->rank] ? MCS_FAIL(MCS_E_DATA, "bad %d", r->rank) : MCS_OK;
}

Test(dist_edges, whose_failure_is_told)
{
    static const struct {
        int how[3];
        enum mcs_status st;
        const char *message;
    } cases[] = {{{0, 0, 0}, MCS_OK, ""},
                 {{1, 0, 0}, MCS_E_DATA, "bad 0"},
                 {{0, 1, 1}, MCS_E_DATA, "bad 1 (on a rank other than 0)"},
                 {{2, 0, 1}, MCS_E_DATA, "bad 2 (on a rank other than 0)"},
                 {{2, 2, 0}, MCS_E_DATA, "bad 0"},
                 {{0, 2, 2}, MCS_E_DATA, "bad 1 (on a rank other than 0)"},
                 {{0, 0, 3}, MCS_E_STOPPED, "stopped 2"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fails(mcs_ranks_run(3, by_number, (void *)(size_t)cases[i].how), cases[i].st, cases[i].message);
        cr_expect_eq(n_entries(folder), 0, "case %zu leaves files", i);
    }
    setenv("TMPDIR", "/nonexistent", 1);
    int none[3] = {0};
    cr_expect_eq(mcs_ranks_run(3, by_number, none), MCS_E_IO);
    cr_expect(strstr(mcs_error_message(), "/nonexistent/mcsam-ranks-"), "%s", mcs_error_message());
}

static enum mcs_status alone(void *of, struct ranks *r)
{
    *(int *)of = r->size == 1 && r->rank == 0 && r->local_rank == 0 && !r->folder;
    return MCS_E_PARTIAL;
}

static enum mcs_status warns(void *of, struct ranks *r)
{
    mcs_warn("rank %d", r->rank);
    return MCS_OK;
}

Test(dist_edges, one_rank_and_messages)
{
    int seen = 0;
    char text[256] = "";
    cr_expect_eq(mcs_ranks_run(1, alone, &seen), MCS_E_PARTIAL);
    cr_expect(seen);
    FILE *f = tmpfile();
    cr_assert(f);
    fflush(stderr);
    const int saved = dup(2);
    dup2(fileno(f), 2);
    const enum mcs_status st = mcs_ranks_run(3, warns, NULL);
    fflush(stderr);
    dup2(saved, 2);
    cr_expect_eq(st, MCS_OK);
    cr_expect_geq(pread(fileno(f), text, sizeof text - 1, 0), 0);
    cr_expect_str_eq(text, "mcsam: warning: rank 0\n");
    close(saved);
    fclose(f);
}

/* ---- launchers ---- */

Test(dist_edges, every_launcher)
{
    static const char *const names[][4] = {
        {"Open MPI's mpirun", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
        {"MVAPICH's mpirun", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"},
        {"MPICH's mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
        {"RANK and WORLD_SIZE", "RANK", "WORLD_SIZE", "LOCAL_RANK"},
        {"srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"}};
    for (int i = 0; i < 5; i++) {
        char rank[64], size[64], local[64], other[64], *env[] = {rank, size, local, NULL};
        struct ranks r;
        snprintf(rank, sizeof rank, "%s=3", names[i][1]);
        snprintf(size, sizeof size, "%s=65536", names[i][2]);
        snprintf(local, sizeof local, "%s=3", names[i][3]);
        cr_expect_eq(mcs_ranks_find(env, &r), MCS_OK, "%s", mcs_error_message());
        cr_expect(r.rank == 3 && r.size == 65536 && r.local_rank == 3, "%s: %d of %d", names[i][0], r.rank, r.size);
        cr_expect_str_eq(r.launcher, names[i][0]);
        snprintf(other, sizeof other, "%sS=9", names[i][1]); /* a longer name is a different variable */
        char *longer[] = {other, rank, size, NULL};
        cr_expect_eq(mcs_ranks_find(longer, &r), MCS_OK);
        cr_expect(r.rank == 3 && r.local_rank == -1);
        static const char *const bad[][2] = {
            {"1", "65537"}, {"-1", "2"},    {"1x", "2"}, {"1", "0"},
            {"2", "2"},     {"65537", "2"}, {"", "2"},   {"1", "99999999999999999999"}};
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            snprintf(rank, sizeof rank, "%s=%s", names[i][1], bad[k][0]);
            snprintf(size, sizeof size, "%s=%s", names[i][2], bad[k][1]);
            cr_expect_eq(mcs_ranks_find(env, &r), MCS_E_USAGE, "%s %s", rank, size);
            mcs_error_clear();
        }
        snprintf(rank, sizeof rank, "%s=0", names[i][1]);
        snprintf(size, sizeof size, "%s=1", names[i][2]);
        snprintf(local, sizeof local, "%s=0", names[i][3]);
        cr_expect_eq(mcs_ranks_find(env, &r), MCS_OK);
        cr_expect(r.rank == 0 && r.size == 1 && r.local_rank == 0);
        snprintf(local, sizeof local, "%s=1", names[i][3]);
        cr_expect_eq(mcs_ranks_find(env, &r), MCS_E_USAGE, "%s", local);
        mcs_error_clear();
    }
    struct ranks r;
    char *agree[] = {"RANK=1", "WORLD_SIZE=2", "PMI_RANK=1", "PMI_SIZE=2", "LOCAL_RANK=0", NULL};
    cr_expect_eq(mcs_ranks_find(agree, &r), MCS_OK);
    cr_expect_str_eq(r.launcher, "MPICH's mpirun", "the first one that is set");
    cr_expect_eq(r.local_rank, -1);
    char *other_size[] = {"RANK=1", "WORLD_SIZE=3", "PMI_RANK=1", "PMI_SIZE=2", NULL};
    cr_expect_eq(mcs_ranks_find(other_size, &r), MCS_E_USAGE);
    mcs_error_clear();
    char *one[] = {"RANK=0", "WORLD_SIZE=1", NULL};
    cr_expect_eq(mcs_ranks_find(one, &r), MCS_OK);
    cr_expect_str_eq(r.launcher, "RANK and WORLD_SIZE");
    setenv("RANK", "4", 1), setenv("WORLD_SIZE", "7", 1);
    cr_expect_eq(mcs_ranks_find(NULL, &r), MCS_OK);
    cr_expect(r.rank == 4 && r.size == 7, "this process's own variables");
}

/* ---- the file that ranks share ---- */

Test(dist_edges, the_shared_file)
{
    char unique_id[UNIQUE_ID_BYTES] = "x", left[] = "/dev/shm/mcsam-comm-edges";
    struct stat info;
    int fd = open(left, O_RDWR | O_CREAT, 0600);
    if (fd < 0) cr_skip_test("/dev/shm is not to be written here");
    close(fd);
    mcs_comm_host.make_unique_id(unique_id);
    cr_expect(strncmp(unique_id, "/dev/shm/mcsam-comm-", 20) == 0, "%s", unique_id);
    cr_expect(stat(left, &info) != 0, "a killed run's file is removed");
    cr_expect_eq(stat(unique_id, &info), 0);
    cr_expect_eq(info.st_mode & 0777, 0600);
    fd = open(unique_id, O_RDWR);
    cr_assert(fd >= 0);
    cr_expect_neq(flock(fd, LOCK_EX | LOCK_NB), 0, "locked");
    cr_expect_eq(fcntl(fd - 1, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC, "children do not keep it");
    mcs_comm_host.drop_unique_id(unique_id);
    cr_expect_neq(stat(unique_id, &info), 0);
    cr_expect_eq(flock(fd, LOCK_EX | LOCK_NB), 0, "not locked any more");
    close(fd);
    mcs_comm_host.drop_unique_id("");
    /* Opening files fails. */
    struct rlimit before, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    mcs_comm_host.make_unique_id(unique_id);
    setrlimit(RLIMIT_NOFILE, &before);
    cr_expect_str_eq(unique_id, "");
    struct comm c = {.rendezvous = {.n_machines = 1}, .size = 2};
    fails(mcs_comm_host.attach(&c, unique_id), MCS_E_IO, "rank 0 could make no file in /dev/shm or /tmp");
    mcs_comm_host.detach(&c, NULL);
    struct device d;
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    c.rendezvous.n_machines = 2, c.device = &d;
    fails(mcs_comm_host.attach(&c, "/dev/null"), MCS_E_DEVICE,
          "ranks on 2 machines need GPUs and NCCL; the cpu backend works with ranks of one machine");
    c.rendezvous.n_machines = 1;
    fails(mcs_comm_host.attach(&c, "/nonexistent/a"), MCS_E_IO,
          "/nonexistent/a: cannot be opened: No such file or directory");
    mcs_comm_host.detach(&c, NULL);
    cr_expect_eq(c.state, NULL);
    mcs_cpu_close(&d);
}
