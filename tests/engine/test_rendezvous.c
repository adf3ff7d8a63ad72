/* engine/dist/rendezvous.c: how ranks find each other, file by file. The test plays the other ranks: it writes their
 * files and reads those of the one rank that is real, leader or follower. Nothing here waits for a time to pass but
 * where a test of silence must. */
#include "engine/base/log.h"
#include "engine/dist/rendezvous.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], host[64];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/mcs_rendezvous_XXXXXX");
    cr_assert(mkdtemp(folder));
    gethostname(host, sizeof host - 1);
    mcs_error_clear();
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0) cr_log_warn("%s was left behind", folder);
}
TestSuite(rendezvous, .init = setup, .fini = teardown, .timeout = 60);

/* ---- files ---- */

static const char *path_of(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text)
{
    char fresh[256];
    snprintf(fresh, sizeof fresh, "%s", path_of("fresh"));
    FILE *f = fopen(fresh, "w");
    cr_assert(f);
    fputs(text, f);
    fclose(f);
    cr_assert_eq(rename(fresh, path_of(name)), 0);
}

/* The whole text of a file; "" where there is none. */
static const char *get(const char *name)
{
    static char text[8192];
    FILE *f = fopen(path_of(name), "r");
    text[0] = 0;
    if (!f) return text;
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

/* The text once there is one that differs from `old`. */
static const char *await(const char *name, const char *old)
{
    for (int i = 0; i < 20000 && (!*get(name) || !strcmp(get(name), old)); i++) usleep(1000);
    cr_assert(*get(name) && strcmp(get(name), old), "%s does not come", name);
    return get(name);
}

static int n_files(void)
{
    int n = -2;
    DIR *d = opendir(folder);
    if (!d) return -1;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* ---- the rank that is real ---- */

static struct {
    struct rendezvous m;
    struct ranks r;
    double timeout_s;
    char unique_id[UNIQUE_ID_BYTES], message[1024];
    enum mcs_status st;
    pthread_t thread;
} real;

static void *run_rendezvous(void *unused)
{
    real.st = mcs_rendezvous(&real.m, &real.r, "the same", real.timeout_s, real.unique_id);
    snprintf(real.message, sizeof real.message, "%s", mcs_error_message());
    mcs_error_clear();
    return NULL;
}

static void begin(int rank, int size, double timeout_s)
{
    memset(&real, 0, sizeof real);
    real.r = (struct ranks){.rank = rank, .size = size, .folder = folder};
    real.timeout_s = timeout_s;
    for (int i = 0; rank == 0 && i < UNIQUE_ID_BYTES; i++) real.unique_id[i] = (char)(i * 7 + 1);
    cr_assert_eq(pthread_create(&real.thread, NULL, run_rendezvous, NULL), 0);
}

static enum mcs_status ended(void)
{
    pthread_join(real.thread, NULL);
    return real.st;
}

/* The list that a leader writes: its name, the unique_id of the bytes 7 i + 1, then each rank. */
static const char *list_of(const char *leader, int n_bytes, const char *ranks)
{
    static char text[4096];
    int at = snprintf(text, sizeof text, "%s\n", leader);
    for (int i = 0; i < n_bytes; i++) at += snprintf(text + at, sizeof text - (size_t)at, "%02x", (i * 7 + 1) & 255);
    snprintf(text + at, sizeof text - (size_t)at, "%s", ranks);
    return text;
}

/* ---- rank 0 ---- */

/* Lets a leader of three ranks meet n1 on box1 and n2 on this machine; they confirm with the given texts. */
static void lead(const char *same1, const char *same2)
{
    char name[128], machine[64], ranks[512], text[512];
    put("left.0", "of an earlier launch\n");
    put("hello.1", "1 box1");
    begin(0, 3, 40);
    cr_assert_eq(sscanf(await("hello.0", ""), "%127s %63s", name, machine), 2);
    cr_expect_str_eq(machine, host);
    cr_expect(strncmp(name, host, strlen(host)) == 0 && name[strlen(host)] == '/');
    cr_expect_str_eq(get("alive.0"), "\n");
    cr_expect_str_eq(get("left.0"), "", "a farewell of an earlier launch");
    usleep(30000);
    cr_expect_str_eq(get("list"), "", "rank 2 has not come");
    snprintf(text, sizeof text, "n2 %s", host);
    put("hello.2", text);
    snprintf(ranks, sizeof ranks, "\n%s %s\n1 box1\nn2 %s", name, host, host);
    cr_expect_str_eq(await("list", ""), list_of(name, UNIQUE_ID_BYTES, ranks));
    char old[4096];
    snprintf(old, sizeof old, "%s", list_of(name, UNIQUE_ID_BYTES, ranks));
    put("hello.1", "n1b box2"); /* rank 1 is started again: the list is written anew */
    snprintf(ranks, sizeof ranks, "\n%s %s\nn1b box2\nn2 %s", name, host, host);
    cr_expect_str_eq(await("list", old), list_of(name, UNIQUE_ID_BYTES, ranks));
    snprintf(text, sizeof text, "%s n2\n%s", name, same2);
    put("here.2", text);
    snprintf(text, sizeof text, "%s n1\n%s", name, same1);
    put("here.1", text); /* not of its new name */
    usleep(30000);
    cr_expect_str_eq(get("complete"), "");
    snprintf(text, sizeof text, "%s n1b\n%s", name, same1);
    put("here.1", text);
}

Test(rendezvous, what_a_leader_writes)
{
    char name[128], what[256];
    lead("the same", "the same");
    cr_assert_eq(ended(), MCS_OK, "%s", real.message);
    snprintf(name, sizeof name, "%s\n", real.m.name);
    cr_expect_str_eq(get("complete"), name);
    cr_expect(real.m.rank == 0 && real.m.size == 3 && real.m.local_rank == 0);
    cr_expect_eq(real.m.n_machines, 2);
    /* the others' signs of life */
    struct timespec times[2] = {{1000, 5}, {1000, 5}};
    put("alive.1", "\n");
    put("alive.2", "\n");
    utimensat(AT_FDCWD, path_of("alive.1"), times, 0);
    cr_expect_eq(mcs_rendezvous_lost(&real.m, 1e9, what, sizeof what), 0);
    cr_expect_eq(mcs_rendezvous_lost(&real.m, -1, what, sizeof what), 1, "rank 1 is the first of the others");
    cr_expect_str_eq(what, "rank 1 on box2 has shown no sign of life for 0 s");
    for (int k = 0; k < 2; k++) { /* a change of the seconds or of their fraction alone is a sign */
        usleep(300000);
        times[1].tv_sec += k, times[1].tv_nsec += !k;
        utimensat(AT_FDCWD, path_of("alive.1"), times, 0);
        cr_expect_eq(mcs_rendezvous_lost(&real.m, 0.25, what, sizeof what), 1);
        snprintf(name, sizeof name, "rank 2 on %s has shown no sign of life for ", host);
        cr_expect(strncmp(what, name, strlen(name)) == 0, "%s", what);
    }
    put("left.2", "n1b\nnot of its name");
    put("left.0", "mine\nmy own");
    cr_expect_eq(mcs_rendezvous_lost(&real.m, 1e9, what, sizeof what), 0);
    put("left.2", "n2");
    cr_expect_eq(mcs_rendezvous_lost(&real.m, 1e9, what, sizeof what), 0, "a name without its line's end");
    put("left.2", "n2\nit was tired");
    cr_expect_eq(mcs_rendezvous_lost(&real.m, 1e9, what, sizeof what), 1);
    snprintf(name, sizeof name, "rank 2 on %s has left: it was tired", host);
    cr_expect_str_eq(what, name);
    put("left.1", "n1b\n");
    cr_expect_eq(mcs_rendezvous_lost(&real.m, 1e9, what, sizeof what), 1);
    cr_expect_str_eq(what, "rank 1 on box2 has left");
    mcs_rendezvous_leave(&real.m, NULL);
    static const char *const gone[] = {"hello.0", "here.0", "alive.0", "list", "complete"};
    for (int i = 0; i < 5; i++) cr_expect_neq(access(path_of(gone[i]), F_OK), 0, "%s", gone[i]);
    cr_expect_null(real.m.peers);
    mcs_rendezvous_leave(&real.m, "twice");
    cr_expect_str_eq(get("left.0"), "mine\nmy own", "who has left says nothing more");
}

/* Rank 0 says why it leaves, so that the others can tell. */
Test(rendezvous, a_leader_refuses_other_options)
{
    char want[1200];
    for (int which = 1; which < 3; which++) {
        lead(which == 1 ? "other" : "the same", which == 2 ? "the same but" : "the same");
        cr_expect_eq(ended(), MCS_E_USAGE);
        snprintf(want, sizeof want, "rank %d on %s was started with other options than rank 0", which,
                 which == 1 ? "box2" : host);
        cr_expect_str_eq(real.message, want);
        snprintf(want, sizeof want, "%s\nrank %d", real.m.name, which);
        cr_expect(strncmp(get("left.0"), want, strlen(want)) == 0, "%s", get("left.0"));
        cr_expect_str_eq(get("complete"), "");
        static const char *const files[] = {"hello.1", "hello.2", "here.1", "here.2"};
        for (int i = 0; i < 4; i++) cr_expect_eq(unlink(path_of(files[i])), 0);
        cr_expect_eq(n_files(), 1, "left.0 alone stays");
    }
}

Test(rendezvous, a_leader_names_those_that_are_missing)
{
    char want[256];
    put("hello.2", "n2 box2");
    begin(0, 4, 0.02);
    cr_expect_eq(ended(), MCS_E_FAIL);
    snprintf(want, sizeof want, "of 4 ranks these did not come to %s: 1, 2, 3; look at", folder);
    cr_expect(strncmp(real.message, want, strlen(want)) == 0, "%s", real.message);
    cr_expect_eq(n_files(), 1, "hello.2 alone stays");
    unlink(path_of("hello.2"));
    begin(0, 2, 0.02);
    cr_expect_eq(ended(), MCS_E_FAIL);
    cr_expect(strstr(real.message, ": 1; look at"), "%s", real.message);
    cr_expect_eq(n_files(), -1, "the last one removes the folder");
}

/* ---- a follower ---- */

Test(rendezvous, what_a_follower_confirms)
{
    char name[128], ranks[512], text[512];
    put("left.0", "lead\nof another launch");
    put("list", list_of("old", UNIQUE_ID_BYTES, "\nold a\nn1 b\nanother c\nn3 d"));
    begin(2, 4, 40);
    cr_assert_eq(sscanf(await("hello.2", ""), "%127s", name), 1);
    usleep(30000);
    cr_expect_str_eq(get("here.2"), "", "another launch's list");
    snprintf(ranks, sizeof ranks, "\nL %s\nn1 x\n%s %s\nn3 %s", host, name, host, host);
    put("list", list_of("L", UNIQUE_ID_BYTES - 1, ranks + 1)); /* a unique_id that is cut off */
    usleep(30000);
    cr_expect_str_eq(get("here.2"), "", "a list that is cut off");
    put("list", list_of("first", UNIQUE_ID_BYTES, ranks));
    snprintf(text, sizeof text, "first %s\nthe same", name);
    cr_expect_str_eq(await("here.2", ""), text);
    put("list", list_of("L", UNIQUE_ID_BYTES, ranks)); /* rank 0 is started again */
    char again[512];
    snprintf(again, sizeof again, "L %s\nthe same", name);
    cr_expect_str_eq(await("here.2", text), again);
    put("complete", "first\n");
    usleep(30000);
    cr_expect_eq(access(path_of("hello.2"), F_OK), 0);
    cr_expect_eq(real.m.n_machines, 0, "it still waits");
    put("complete", "L\n");
    cr_assert_eq(ended(), MCS_OK, "%s", real.message);
    for (int i = 0; i < UNIQUE_ID_BYTES; i++)
        cr_assert_eq((unsigned char)real.unique_id[i], (i * 7 + 1) & 255, "byte %d", i);
    cr_expect_str_eq(real.m.leader, "L");
    cr_expect_str_eq(real.m.name, name);
    cr_expect_eq(real.m.n_machines, 2);
    cr_expect_eq(real.m.local_rank, 1, "rank 0 is on its machine, rank 1 is not, rank 3 comes later");
    char what[256];
    put("left.3", "n3\nbye");
    cr_expect_eq(mcs_rendezvous_lost(&real.m, 1e9, what, sizeof what), 1);
    snprintf(text, sizeof text, "rank 3 on %s has left: bye", host);
    cr_expect_str_eq(what, text);
    mcs_rendezvous_leave(&real.m, "farewell");
    snprintf(text, sizeof text, "%s\nfarewell", name);
    cr_expect_str_eq(get("left.2"), text);
    cr_expect_neq(*get("list"), 0, "the list is rank 0's to remove");
    cr_expect_neq(*get("complete"), 0);
    cr_expect_neq(access(path_of("hello.2"), F_OK), 0);
    cr_expect_neq(access(path_of("here.2"), F_OK), 0);
}

Test(rendezvous, a_follower_whose_leader_leaves_or_does_not_come)
{
    char name[128], ranks[512], want[512];
    begin(1, 2, 40);
    cr_assert_eq(sscanf(await("hello.1", ""), "%127s", name), 1);
    snprintf(ranks, sizeof ranks, "\nL box\n%s %s", name, host);
    put("list", list_of("L", UNIQUE_ID_BYTES, ranks));
    await("here.1", "");
    put("left.0", "M\nnot of this launch");
    usleep(30000);
    put("left.0", "L\nout of disk");
    cr_expect_eq(ended(), MCS_E_FAIL);
    cr_expect_str_eq(real.message, "rank 0 has left: out of disk");
    cr_expect_str_eq(get("left.1"), "", "it leaves in peace");
    unlink(path_of("list"));
    begin(1, 2, 0.02);
    cr_expect_eq(ended(), MCS_E_FAIL);
    snprintf(want, sizeof want, "rank 1 of 2: rank 0 did not come to meet in %s; look at", folder);
    cr_expect(strncmp(real.message, want, strlen(want)) == 0, "%s", real.message);
    begin(1, 2, 2);
    cr_assert_eq(sscanf(await("hello.1", ""), "%127s", name), 1);
    snprintf(ranks, sizeof ranks, "\nL box\n%s %s", name, host);
    put("list", list_of("K", UNIQUE_ID_BYTES, ranks));
    cr_expect_eq(ended(), MCS_E_FAIL);
    cr_expect(strstr(real.message, "rank 1 of 2: not all ranks came to meet in "), "%s", real.message);
}

Test(rendezvous, a_folder_that_cannot_be_made)
{
    real.r = (struct ranks){.rank = 0, .size = 2, .folder = "/nonexistent/x"};
    cr_expect_eq(mcs_rendezvous(&real.m, &real.r, "", 1, real.unique_id), MCS_E_IO);
    cr_expect(strstr(mcs_error_message(), "/nonexistent/x: cannot be made: "), "%s", mcs_error_message());
    cr_expect_null(real.m.peers);
    mcs_error_clear();
}
