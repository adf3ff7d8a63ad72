/* Ranks, communicators and gradient buckets, on the CPU. */
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/dist/buckets.h"
#include "engine/dist/comm.h"
#include "engine/model/layers.h"
#include "engine/tape/grad.h"
#include "tests/support/support_device.h"

static void setup(void)
{
    mcs_log_quiet(1);
}
TestSuite(dist, .init = setup, .timeout = 60);

/* ---- launchers ---- */

static enum mcs_status find(struct ranks *r, const char *a, const char *b, const char *c, const char *d, const char *e)
{
    char *env[] = {(char *)a, (char *)b, (char *)c, (char *)d, (char *)e, NULL};
    mcs_error_clear();
    return mcs_ranks_find(env, r);
}

Test(dist, launchers_are_found)
{
    struct ranks r;
    cr_assert_eq(find(&r, "HOME=/", NULL, NULL, NULL, NULL), MCS_OK);
    cr_expect(r.size == 1 && r.rank == 0 && !r.launcher);
    cr_assert_eq(find(&r, "RANK=3", "WORLD_SIZE=8", "LOCAL_RANK=1", "MASTER_ADDR=a", NULL), MCS_OK);
    cr_expect(r.size == 8 && r.rank == 3 && r.local_rank == 1);
    cr_assert_eq(find(&r, "RANK=3", "WORLD_SIZE=8", NULL, NULL, NULL), MCS_OK);
    cr_expect_eq(r.local_rank, -1);
    cr_assert_eq(find(&r, "OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_RANK=0",
                      "SLURM_PROCID=0", "SLURM_STEP_NUM_TASKS=1"),
                 MCS_OK);
    cr_expect(r.size == 2 && r.rank == 1 && r.local_rank == 0, "mpirun stands before the srun that started it");
    cr_assert_eq(find(&r, "PMI_RANK=1", "PMI_SIZE=2", "MPI_LOCALRANKID=1", NULL, NULL), MCS_OK);
    cr_expect(r.size == 2 && r.rank == 1 && r.local_rank == 1);
    cr_assert_eq(find(&r, "MV2_COMM_WORLD_RANK=1", "MV2_COMM_WORLD_SIZE=2", "MV2_COMM_WORLD_LOCAL_RANK=1", NULL, NULL),
                 MCS_OK);
    cr_expect(r.size == 2 && r.rank == 1);
    cr_assert_eq(find(&r, "SLURM_PROCID=5", "SLURM_NTASKS=8", "SLURM_LOCALID=1", "SLURM_STEP_NUM_TASKS=8", NULL),
                 MCS_OK);
    cr_expect(r.size == 8 && r.rank == 5 && r.local_rank == 1 && !strcmp(r.launcher, "srun"));
    cr_assert_eq(find(&r, "SLURM_PROCID=0", "SLURM_NTASKS=8", "SLURM_LOCALID=0", NULL, NULL), MCS_OK);
    cr_expect(r.size == 1, "a batch script is no rank");
}

Test(dist, launchers_that_make_no_sense_are_one_clear_error)
{
    static const struct {
        const char *env[4], *says;
    } bad[] = {
        {{"RANK=1"}, "RANK is set, but WORLD_SIZE is not"},
        {{"WORLD_SIZE=2"}, "WORLD_SIZE is set, but RANK is not"},
        {{"SLURM_STEP_NUM_TASKS=2"}, "SLURM_STEP_NUM_TASKS is set, but SLURM_PROCID is not"},
        {{"RANK=x", "WORLD_SIZE=2"}, "RANK=x: want a number"},
        {{"RANK=", "WORLD_SIZE=2"}, "RANK=: want a number"},
        {{"RANK=0", "WORLD_SIZE=0"}, "WORLD_SIZE=0: want a number from 1"},
        {{"RANK=2", "WORLD_SIZE=2"}, "RANK=2, but WORLD_SIZE=2"},
        {{"RANK=1", "WORLD_SIZE=2", "LOCAL_RANK=2"}, "RANK=1, but LOCAL_RANK=2"},
        {{"RANK=1", "WORLD_SIZE=2", "PMI_RANK=0", "PMI_SIZE=2"},
         "says rank 0 of 2, but RANK and WORLD_SIZE rank 1 of 2"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ranks r;
        const char *const *e = bad[i].env;
        cr_expect_eq(find(&r, e[0], e[1], e[2], e[3], NULL), MCS_E_USAGE);
        cr_expect(strstr(mcs_error_message(), bad[i].says), "'%s' has no '%s'", mcs_error_message(), bad[i].says);
    }
}

/* ---- collectives ---- */

enum { N = 70001 }; /* more than two chunks, and not a multiple of the ranks */

static void fill(float *x, int rank)
{
    mcs_rng_fill_normal((struct mcs_rng){.seed = 5, .site = (uint32_t)rank}, x, N);
}

static enum mcs_status device_floats(struct device *d, int64_t n, float **p)
{
    void *memory;
    MCS_TRY(d->backend->alloc(d, n * (int64_t)sizeof(float), &memory));
    *p = memory;
    return MCS_OK;
}

/* Uploads rank r's values. */
static enum mcs_status put(struct device *d, float *dst, int rank, float *host)
{
    fill(host, rank);
    return d->backend->upload(d, dst, host, N * (int64_t)sizeof(float));
}

static enum mcs_status get(struct device *d, struct comm *c, const float *src, int64_t n, float *host)
{
    MCS_TRY(mcs_comm_join(c));
    MCS_TRY(mcs_comm_wait(c));
    return d->backend->download(d, host, src, n * (int64_t)sizeof(float));
}

/* Adds the number of wrong values to *bad. x (N), all (ranks,N): device memory; host, want (ranks,N): buffers. */
static enum mcs_status check_collectives(struct comm *c, struct device *d, const struct ranks *r, float *x, float *all,
                                         float *host, float *want, int *bad)
{
    float mine[3], values[3 * 8];
    int most;
    MCS_TRY(put(d, x, r->rank, host));
    MCS_TRY(mcs_comm_allreduce_sum(c, x, N, "numbers"));
    MCS_TRY(get(d, c, x, N, host));
    for (int i = 0; i < r->size; i++) fill(want + (size_t)i * N, i);
    for (int i = 0; i < N; i++) { /* summed in the order of ranks, in float: identical bits */
        float sum = want[i];
        for (int k = 1; k < r->size; k++) sum += want[(size_t)k * N + (size_t)i];
        *bad += sum != host[i];
    }
    MCS_TRY(put(d, x, r->rank, host));
    MCS_TRY(mcs_comm_allgather(c, x, all, N, "numbers"));
    MCS_TRY(get(d, c, all, (int64_t)r->size * N, host));
    *bad += memcmp(host, want, (size_t)r->size * N * sizeof *host) != 0;
    MCS_TRY(mcs_comm_broadcast(c, x, N, "numbers"));
    MCS_TRY(get(d, c, x, N, host));
    *bad += memcmp(host, want, N * sizeof *host) != 0;
    for (int i = 0; i < 3; i++) mine[i] = (float)(10 * r->rank + i);
    MCS_TRY(mcs_comm_values(c, mine, 3, values, "three"));
    for (int i = 0; i < 3 * r->size; i++) *bad += values[i] != (float)(10 * (i / 3) + i % 3);
    MCS_TRY(mcs_comm_allreduce_max(c, r->rank == 1 ? 7 : 2, &most, "stop"));
    *bad += most != 7;
    return mcs_comm_barrier(c, "end");
}

static enum mcs_status collectives(void *ctx, struct ranks *r)
{
    struct device d;
    struct comm *c = NULL;
    float *x = NULL, *all = NULL, *host = malloc((size_t)r->size * N * sizeof *host),
          *want = malloc((size_t)r->size * N * sizeof *want);
    int bad = 0;
    enum mcs_status st;
    MCS_TRY(test_device_open(r->local_rank, &d));
    MCS_TRY_GOTO(mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c), st, done);
    MCS_REQUIRE_GOTO(!strcmp(c->ops->name, test_comm_name), MCS_E_FAIL, st, done, "by %s", c->ops->name);
    MCS_TRY_GOTO(device_floats(&d, N, &x), st, done);
    MCS_TRY_GOTO(device_floats(&d, (int64_t)r->size * N, &all), st, done);
    st = check_collectives(c, &d, r, x, all, host, want, &bad);
    if (st == MCS_OK && bad) st = MCS_FAIL(MCS_E_FAIL, "%d values differ on rank %d", bad, r->rank);
done:
    mcs_comm_close(c, st);
    d.backend->free(&d, x);
    d.backend->free(&d, all);
    mcs_device_close(&d);
    free(host);
    free(want);
    return st;
}

Test(dist, threads_sum_gather_and_broadcast)
{
    test_devices(5);
    for (int n = 2; n <= 5; n++) {
        const enum mcs_status st = mcs_ranks_run(n, collectives, NULL);
        cr_expect_eq(st, MCS_OK, "%d ranks: %s", n, mcs_error_message());
    }
}

/* ---- a rank that leaves ---- */

/* Rank 1 fails between two collectives; messages (ranks,512) receive the error of each rank. */
static enum mcs_status leaves(void *ctx, struct ranks *r)
{
    struct device d;
    struct comm *c = NULL;
    float *x = NULL;
    enum mcs_status st;
    char *messages = ctx;
    MCS_TRY(test_device_open(r->local_rank, &d));
    MCS_TRY_GOTO(mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c), st, done);
    MCS_TRY_GOTO(device_floats(&d, 16, &x), st, done);
    MCS_TRY_GOTO(d.backend->zero(&d, x, 64), st, done);
    MCS_TRY_GOTO(mcs_comm_allreduce_sum(c, x, 16, "first"), st, done);
    MCS_TRY_GOTO(mcs_comm_wait(c), st, done);
    if (r->rank == 1)
        st = MCS_FAIL(MCS_E_DATA, "step 7: the loss is not finite");
    else
        st = mcs_comm_allreduce_sum(c, x, 16, "second");
    if (st == MCS_OK) st = mcs_comm_wait(c);
done:
    snprintf(messages + 512 * r->rank, 512, "%s", mcs_error_message());
    mcs_comm_close(c, st);
    d.backend->free(&d, x);
    mcs_device_close(&d);
    return st;
}

Test(dist, a_thread_that_fails_ends_the_others_with_its_message)
{
    char messages[3][512];
    const double started = mcs_seconds();
    test_devices(3);
    cr_expect_eq(mcs_ranks_run(3, leaves, messages), MCS_E_DATA, "the failure is that of the rank that failed first");
    cr_expect(strstr(mcs_error_message(), "step 7: the loss is not finite"), "%s", mcs_error_message());
    cr_expect(mcs_seconds() - started < 10);
    for (int i = 0; i < 3; i += 2)
        cr_expect(strstr(messages[i], "allreduce of second (collective 2): rank 1 ") &&
                      strstr(messages[i], " has left: step 7: the loss"),
                  "rank %d: %s", i, messages[i]);
}

static enum mcs_status late(void *ctx, struct ranks *r)
{
    struct device d;
    struct comm *c = NULL;
    MCS_TRY(test_device_open(r->local_rank, &d));
    enum mcs_status st = mcs_comm_open(&(struct comm_options){.ranks = r, .timeout_s = 0.2}, &d, &c);
    if (st == MCS_OK && r->rank == 1) usleep(1500000);
    if (st == MCS_OK) st = mcs_comm_barrier(c, "end");
    mcs_comm_close(c, st);
    mcs_device_close(&d);
    return st;
}

Test(dist, a_collective_times_out)
{
    test_devices(2);
    cr_expect_eq(mcs_ranks_run(2, late, NULL), MCS_E_FAIL);
    cr_expect(strstr(mcs_error_message(), "rank 0, allgather of end (collective 1): "), "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), "within 0 s"), "%s", mcs_error_message());
}

#ifndef TEST_CUDASIM /* the tests below are for the host communicator, or for the rendezvous alone */

static float values[2][16];

/* Runs body in n processes, as a launcher would; returns the exit codes, messages go to each process's stderr. */
static void in_processes(int n, const char *folder, void (*body)(const struct ranks *r), int *codes)
{
    pid_t pid[8];
    for (int i = 0; i < n; i++)
        if ((pid[i] = fork()) == 0) {
            body(&(struct ranks){.rank = i, .size = n, .local_rank = -1, .folder = folder});
            _exit(0);
        }
    for (int i = 0; i < n; i++) {
        int status;
        waitpid(pid[i], &status, 0);
        codes[i] = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

static const char *fresh_folder(void)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/mcs_dist_%ld", (long)getpid());
    return path;
}

static void collectives_in_process(const struct ranks *of)
{
    struct ranks r = *of;
    const enum mcs_status st = collectives(NULL, &r);
    if (st != MCS_OK) fprintf(stderr, "rank %d: %s\n", r.rank, mcs_error_message());
    _exit(st != MCS_OK ? 1 : r.local_rank != r.rank ? 2 : 0);
}

Test(dist, processes_sum_gather_and_broadcast_and_leave_nothing)
{
    int codes[3];
    in_processes(3, fresh_folder(), collectives_in_process, codes);
    for (int i = 0; i < 3; i++) cr_expect_eq(codes[i], 0, "rank %d ended with %d", i, codes[i]);
    cr_expect(access(fresh_folder(), F_OK) != 0, "the folder where they met is still there");
}

/* Files of all kinds left by an earlier launch, whole and torn. */
Test(dist, files_of_an_earlier_launch_do_no_harm)
{
    char path[200];
    int codes[3];
    static const char *const files[] = {"hello.0",  "hello.1", "hello.2", "here.1", "here.2", "list",
                                        "complete", "left.0",  "left.1",  "left.2", "alive.2"};
    snprintf(path, sizeof path, "mkdir %s", fresh_folder());
    cr_assert_eq(system(path), 0);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", fresh_folder(), files[i]);
        FILE *f = fopen(path, "w");
        cr_assert(f);
        fputs(i % 2 ? "old/1/2.3 machine\nold/1/2.4 machine\n" : "ol", f);
        fclose(f);
    }
    in_processes(3, fresh_folder(), collectives_in_process, codes);
    for (int i = 0; i < 3; i++) cr_expect_eq(codes[i], 0, "rank %d ended with %d", i, codes[i]);
    snprintf(path, sizeof path, "rm -rf %s", fresh_folder());
    cr_expect_eq(system(path), 0);
}

static void killed_in_process(const struct ranks *of)
{
    struct ranks r = *of;
    struct device d;
    struct comm *c;
    if (mcs_cpu_open(1, &d) != MCS_OK || mcs_comm_open(&(struct comm_options){.ranks = &r}, &d, &c) != MCS_OK) _exit(1);
    if (mcs_comm_allreduce_sum(c, values[0], 16, "first") != MCS_OK) _exit(2);
    if (r.rank == 1) raise(SIGKILL);
    if (mcs_comm_allreduce_sum(c, values[0], 16, "second") != MCS_E_FAIL) _exit(3);
    if (!strstr(mcs_error_message(), "allreduce of second (collective 2): rank 1 has left: its process")) _exit(4);
    if (mcs_comm_allreduce_sum(c, values[0], 16, "third") != MCS_E_FAIL) _exit(5); /* at once */
    mcs_comm_close(c, MCS_E_FAIL);
}

/* The parent of the killed rank is this test, which waits for rank 0 first, so rank 1 stays a zombie for a while: that
 * is detected too. */
Test(dist, a_process_that_is_killed_ends_the_others)
{
    int codes[3];
    char line[100];
    const double started = mcs_seconds();
    in_processes(3, fresh_folder(), killed_in_process, codes);
    cr_expect(mcs_seconds() - started < 30);
    cr_expect_eq(codes[0], 0, "rank 0 ended with %d", codes[0]);
    cr_expect_eq(codes[1], 128 + SIGKILL);
    cr_expect_eq(codes[2], 0, "rank 2 ended with %d", codes[2]);
    snprintf(line, sizeof line, "rm -rf %s", fresh_folder());
    cr_expect_eq(system(line), 0);
}

/* Rank 1 calls another collective than rank 0, or (*how 1) the same with another count. */
static enum mcs_status calls_another(void *ctx, struct ranks *r)
{
    struct device d;
    struct comm *c = NULL;
    const int *how = ctx;
    MCS_TRY(mcs_cpu_open(1, &d));
    enum mcs_status st = mcs_comm_open(&(struct comm_options){.ranks = r}, &d, &c);
    if (st == MCS_OK && r->rank == 1)
        st = *how ? mcs_comm_allreduce_sum(c, values[1], 8, "a") : mcs_comm_broadcast(c, values[1], 16, "b");
    else if (st == MCS_OK)
        st = mcs_comm_allreduce_sum(c, values[0], 16, "a");
    mcs_comm_close(c, st);
    return st;
}

Test(dist, collectives_that_do_not_match_are_named)
{
    int how = 0;
    cr_expect_eq(mcs_ranks_run(2, calls_another, &how), MCS_E_FAIL);
    cr_expect(strstr(mcs_error_message(),
                     "rank 0, allreduce of a (collective 1): 16 values here, but rank 1 is at the broadcast "
                     "of b with 16"),
              "%s", mcs_error_message());
    mcs_error_clear();
    how = 1;
    cr_expect_eq(mcs_ranks_run(2, calls_another, &how), MCS_E_FAIL);
    cr_expect(strstr(mcs_error_message(), "rank 1 is at the allreduce of a with 8"), "%s", mcs_error_message());
}

static enum mcs_status other_options(void *ctx, struct ranks *r)
{
    struct device d;
    struct comm *c = NULL;
    MCS_TRY(mcs_cpu_open(1, &d));
    const enum mcs_status st =
        mcs_comm_open(&(struct comm_options){.ranks = r, .same = r->rank == 1 ? "lr: 2" : "lr: 1"}, &d, &c);
    mcs_comm_close(c, st);
    return st;
}

Test(dist, ranks_with_other_options_do_not_meet)
{
    cr_expect_eq(mcs_ranks_run(3, other_options, NULL), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "was started with other options than rank 0"), "%s", mcs_error_message());
}

Test(dist, a_rank_that_does_not_come_is_named)
{
    struct ranks r = {.size = 3, .folder = fresh_folder()};
    struct device d;
    struct comm *c;
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_expect_eq(mcs_comm_open(&(struct comm_options){.ranks = &r, .rendezvous_s = 0.3}, &d, &c), MCS_E_FAIL);
    cr_expect(strstr(mcs_error_message(), "of 3 ranks these did not come to"), "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), ": 1, 2;"), "%s", mcs_error_message());
    cr_expect(access(fresh_folder(), F_OK) != 0);
}

/* Ranks on several machines see each other by the files alone: a rank that stops its heartbeat. */
Test(dist, lost_heartbeats_and_messages_are_seen)
{
    char unique_id[UNIQUE_ID_BYTES] = "", what[512];

    const char *folder = fresh_folder();
    const pid_t other = fork();
    if (other == 0) {
        struct rendezvous m;
        const struct ranks r = {.rank = 1, .size = 2, .folder = folder};
        if (mcs_rendezvous(&m, &r, "", 20, unique_id) != MCS_OK || strcmp(unique_id, "an id") != 0) _exit(1);
        raise(SIGKILL);
    }
    struct rendezvous m;
    struct ranks r = {.rank = 0, .size = 2, .folder = folder};
    snprintf(unique_id, sizeof unique_id, "an id");
    cr_assert_eq(mcs_rendezvous(&m, &r, "", 20, unique_id), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(mcs_rendezvous_lost(&m, 0.5, what, sizeof what), 0);
    double until = mcs_seconds() + 20;
    while (!mcs_rendezvous_lost(&m, 0.5, what, sizeof what) && mcs_seconds() < until) usleep(100000);
    cr_expect(strstr(what, "rank 1 on ") && strstr(what, "has shown no sign of life"), "%s", what);
    int status;
    waitpid(other, &status, 0);
    cr_expect(WIFSIGNALED(status));
    mcs_rendezvous_leave(&m, NULL);
    snprintf(what, sizeof what, "rm -rf %s", fresh_folder());
    cr_expect_eq(system(what), 0);
}

#endif
