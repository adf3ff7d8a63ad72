/* Interrupted trainings: killed at any moment and started again they end with the same bytes; asked to stop they exit
 * with 75 and a checkpoint; a checkpoint that is damaged, has other options, or cannot be written loses nothing. */
#include "data/io/file.h"
#include "data/io/store.h"
#include "infer/clip/clip_model.h"
#include "infer/weights.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KILLS = 4 };

Test(resume, clip_killed_at_random_moments, .timeout = 120)
{
    tiny_kill_test(TINY_CLIP, MCS_BINARY, KILLS, 1);
}

Test(resume, sam_killed_at_random_moments, .timeout = 120)
{
    tiny_kill_test(TINY_SAM, MCS_BINARY, KILLS, 2);
}

Test(resume, unet_killed_at_random_moments, .timeout = 120)
{
    tiny_kill_test(TINY_UNET, MCS_BINARY, KILLS, 3);
}

static int64_t bytes_of(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (int64_t)info.st_size : -1;
}

static int64_t checkpoint_step(const char *folder)
{
    struct store *s;
    int64_t step = -1;
    const int64_t one = 1;
    cr_assert_eq(mcs_store_open(tiny_path(folder, "run/checkpoint.h5"), &s), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_get(s, "step", MCS_ARRAY_I64, 1, &one, &step), MCS_OK);
    mcs_store_close(s);
    return step;
}

/* Whether it has ended; it stays a zombie for tiny_wait. */
static int ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

/* Starts a new training and stops it midway; folder/run is then a stopped run. */
static void start_and_stop(enum tiny_training t, const char *folder, int signal)
{
    for (int attempt = 0; attempt < 10; attempt++) {
        cr_assert_eq(tiny_shell("rm -rf %s/run", folder), 0);
        const pid_t pid = tiny_start(t, MCS_BINARY, folder, NULL, NULL);
        /* A log line is written in step 1. */
        for (int i = 0; i < 10000 && bytes_of(tiny_path(folder, "run/metrics.jsonl")) <= 0 && !ended(pid); i++)
            nanosleep(&(struct timespec){0, 500000}, NULL);
        kill(pid, signal);
        const int code = tiny_wait(pid);
        if (code == 0) continue; /* this process was descheduled for the whole run */
        cr_assert_eq(code, 75, "exit %d: %s", code, tiny_log(folder));
        cr_assert(strstr(tiny_log(folder), "run the same command again"), "%s", tiny_log(folder));
        const int64_t step = checkpoint_step(folder);
        cr_assert(step >= 1 && step < TINY_STEPS, "%lld", (long long)step);
        return;
    }
    cr_assert_fail("the run was always over before the signal");
}

static void check_stop(enum tiny_training t, int signal)
{
    const char *whole = tiny_folder("whole"), *stopped = tiny_folder("stopped");
    tiny_training_folder(t, whole);
    cr_assert_eq(tiny_shell("cp -r %s/. %s", whole, stopped), 0);
    cr_assert_eq(tiny_wait(tiny_start(t, MCS_BINARY, whole, NULL, NULL)), 0, "%s", tiny_log(whole));
    start_and_stop(t, stopped, signal);
    cr_assert_eq(tiny_wait(tiny_start(t, MCS_BINARY, stopped, NULL, NULL)), 0, "%s", tiny_log(stopped));
    cr_expect(tiny_same(tiny_path(whole, "run"), tiny_path(stopped, "run")));
    tiny_remove(whole);
    tiny_remove(stopped);
}

Test(resume, clip_asked_to_stop, .timeout = 120)
{
    check_stop(TINY_CLIP, SIGTERM);
}

Test(resume, sam_asked_to_stop, .timeout = 120)
{
    check_stop(TINY_SAM, SIGUSR1);
}

Test(resume, unet_asked_to_stop, .timeout = 120)
{
    check_stop(TINY_UNET, SIGTERM);
}

/* In addition to equal files, the hash of the tensors is equal, whatever file they are in. Starting a finished run
 * again only reports that it is finished. */
Test(resume, a_finished_run_stays_as_it_is, .timeout = 120)
{
    const char *folder = tiny_folder("finished");
    char hash[2][65];
    struct device d;
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, NULL, NULL)), 0, "%s", tiny_log(folder));
    cr_assert_eq(tiny_shell("cp -r %s/run %s/before", folder, folder), 0);
    cr_assert_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, NULL, NULL)), 0, "%s", tiny_log(folder));
    cr_expect(tiny_same(tiny_path(folder, "run"), tiny_path(folder, "before")));
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    for (int i = 0; i < 2; i++) {
        struct clip_model m;
        cr_assert_eq(mcs_clip_model_open(tiny_path(folder, i ? "run/model" : "model"), &d, &m), MCS_OK, "%s",
                     mcs_error_message());
        cr_assert_eq(mcs_weights_sha256(m.params, hash[i]), MCS_OK);
        mcs_clip_model_close(&m);
    }
    cr_expect_str_neq(hash[0], hash[1], "training changed nothing");
    mcs_cpu_close(&d);
    tiny_remove(folder);
}

/* ---- damage ---- */

/* Starts the stopped run in folder and expects this exit code, one line with `part`, and an unchanged run folder. */
static void refused(enum tiny_training t, const char *folder, const char *const *more, const struct tiny_limits *limits,
                    int want, const char *part)
{
    cr_assert_eq(tiny_shell("rm -rf %s/before && cp -rp %s/run %s/before", folder, folder, folder), 0);
    const int code = tiny_wait(tiny_start(t, MCS_BINARY, folder, more, limits));
    const char *log = tiny_log(folder), *error = strstr(log, "mcsam: error: ");
    cr_assert_eq(code, want, "exit %d, want %d: %s", code, want, log);
    cr_assert(error && strstr(error, part), "want '%s' in: %s", part, log);
    cr_expect_eq(strchr(error, '\n')[1], '\0', "more than one line: %s", error);
    cr_expect(tiny_same(tiny_path(folder, "run"), tiny_path(folder, "before")), "the run's folder was changed");
}

static void overwrite(const char *path, int64_t at, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "r+b");
    cr_assert(f && fseek(f, at, SEEK_SET) == 0 && fwrite(bytes, 1, n, f) == n && fclose(f) == 0, "%s", path);
}

static void check_damage(enum tiny_training t)
{
    const char *folder = tiny_folder("damage");
    tiny_training_folder(t, folder);
    start_and_stop(t, folder, SIGTERM);
    const char *path = tiny_path(folder, "run/checkpoint.h5");
    cr_assert_eq(tiny_shell("cp %s %s/good.h5", path, folder), 0);
    const int64_t bytes = bytes_of(path);

    const int64_t lengths[] = {0, 7, bytes / 2, bytes - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        cr_assert_eq(truncate(path, lengths[i]), 0);
        refused(t, folder, NULL, NULL, 65, "checkpoint.h5");
        cr_assert_eq(tiny_shell("cp %s/good.h5 %s", folder, path), 0);
    }
    overwrite(path, 0, "\0\0\0\0", 4);
    refused(t, folder, NULL, NULL, 65, "checkpoint.h5");
    cr_assert_eq(tiny_shell("cp %s/good.h5 %s", folder, path), 0);

    /* One bit of a value, which only the hash can detect. The values fill most of the file. */
    int refusals = 0;
    for (int i = 1; i < 8; i++) {
        char *all;
        int64_t n;
        cr_assert_eq(mcs_file_read(path, 1 << 26, &all, &n), MCS_OK);
        const char flipped = (char)(all[n * i / 8] ^ 1);
        free(all);
        overwrite(path, n * i / 8, &flipped, 1);
        cr_assert_eq(tiny_shell("rm -rf %s/before && cp -rp %s/run %s/before", folder, folder, folder), 0);
        const int code = tiny_wait(tiny_start(t, MCS_BINARY, folder, NULL, NULL));
        cr_assert(code == 65 || code == 0, "exit %d: %s", code, tiny_log(folder));
        if (code == 65) {
            refusals++;
            cr_expect(strstr(tiny_log(folder), "checkpoint.h5: "), "%s", tiny_log(folder));
            cr_expect(tiny_same(tiny_path(folder, "run"), tiny_path(folder, "before")));
        } else { /* an unused byte: the run finished; restore the stopped one */
            cr_assert_eq(tiny_shell("rm -rf %s/run && mv %s/before %s/run", folder, folder, folder), 0);
        }
        cr_assert_eq(tiny_shell("cp %s/good.h5 %s", folder, path), 0);
    }
    cr_expect_geq(refusals, 5, "%d of 7 flipped bits were seen", refusals);

    if (t != TINY_SAM) refused(t, folder, (const char *const[]){"--lr", "0.5", NULL}, NULL, 65, "other options");
    cr_expect_eq(tiny_wait(tiny_start(t, MCS_BINARY, folder, NULL, NULL)), 0, "%s", tiny_log(folder));
    tiny_remove(folder);
}

Test(resume, damaged_checkpoints_of_clip, .timeout = 120)
{
    check_damage(TINY_CLIP);
}

Test(resume, damaged_checkpoints_of_the_unet, .timeout = 120)
{
    check_damage(TINY_UNET);
}

/* Options that do not affect the result do not count: a moved folder, a quiet second start. */
Test(resume, another_name_of_the_folder_is_the_same_run, .timeout = 120)
{
    const char *whole = tiny_folder("whole"), *folder = tiny_folder("moved");
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_eq(tiny_shell("cp -r %s/. %s", folder, whole), 0);
    cr_assert_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, whole, NULL, NULL)), 0, "%s", tiny_log(whole));
    start_and_stop(TINY_CLIP, folder, SIGTERM);
    cr_assert_eq(tiny_shell("mv %s/run %s/other", folder, folder), 0);
    const char *const more[] = {"-o", "./other/", "--quiet", NULL};
    cr_assert_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, more, NULL)), 0, "%s", tiny_log(folder));
    cr_expect(tiny_same(tiny_path(whole, "run/model"), tiny_path(folder, "other/model")));
    cr_expect(tiny_same(tiny_path(whole, "run/metrics.jsonl"), tiny_path(folder, "other/metrics.jsonl")));
    tiny_remove(whole);
    tiny_remove(folder);
}

/* ---- no space ---- */

/* A limit on the size of files truncates a write as a full disk does: the old checkpoint stays, without a partial file
 * beside it, and when there is space again the run continues to the same bytes. */
Test(resume, full_disk, .timeout = 120)
{
    const char *whole = tiny_folder("whole"), *folder = tiny_folder("full");
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_eq(tiny_shell("cp -r %s/. %s", folder, whole), 0);
    cr_assert_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, whole, NULL, NULL)), 0, "%s", tiny_log(whole));
    start_and_stop(TINY_CLIP, folder, SIGTERM);
    const char *path = tiny_path(folder, "run/checkpoint.h5");
    cr_assert_eq(tiny_shell("cp %s %s/good.h5", path, folder), 0);
    const struct tiny_limits limits = {.file_bytes = bytes_of(path) / 2};
    cr_expect_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, NULL, &limits)), 74, "%s", tiny_log(folder));
    cr_expect(strstr(tiny_log(folder), "checkpoint.h5: cannot write"), "%s", tiny_log(folder));
    cr_expect(tiny_same(path, tiny_path(folder, "good.h5")), "the old checkpoint is gone");
    cr_expect_neq(tiny_shell("ls %s/run/*.tmp.* 2>/dev/null", folder), 0, "a half file is left");

    /* The same on a real full disk, where one can be mounted: enough space for the logs, not for a second checkpoint.
     */
    cr_assert_eq(tiny_shell("mkdir %s/disk", folder), 0);
    char size[32];
    snprintf(size, sizeof size, "size=%lld", (long long)(bytes_of(path) * 3 / 2 + (1 << 16)));
    if (geteuid() == 0 && mount("none", tiny_path(folder, "disk"), "tmpfs", 0, size) == 0) {
        cr_assert_eq(tiny_shell("cd %s && cp -r run/. disk && mv run kept && ln -s disk run", folder), 0);
        const int code = tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, NULL, NULL));
        cr_expect_eq(code, 74, "exit %d: %s", code, tiny_log(folder));
        cr_expect(strstr(tiny_log(folder), "No space left"), "%s", tiny_log(folder));
        cr_expect(tiny_same(tiny_path(folder, "disk/checkpoint.h5"), tiny_path(folder, "good.h5")));
        cr_expect_eq(umount(tiny_path(folder, "disk")), 0);
        cr_assert_eq(tiny_shell("cd %s && rm run && mv kept run", folder), 0);
    } else {
        fprintf(stderr, "skipped: a small file system cannot be mounted here\n");
    }
    cr_expect_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, NULL, NULL)), 0, "%s", tiny_log(folder));
    cr_expect(tiny_same(tiny_path(whole, "run"), tiny_path(folder, "run")));
    tiny_remove(folder);
    tiny_remove(whole);
}

Test(resume, read_only_folder, .timeout = 120)
{
    const struct tiny_limits nobody = {.as_nobody = 1};
    const char *folder = tiny_folder("readonly");
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_eq(tiny_shell("chmod -R a+rX %s && touch %s/log && chmod a+w %s/log", folder, folder, folder), 0);
    if (geteuid() != 0) cr_assert_eq(tiny_shell("chmod u-w %s", folder), 0);
    cr_expect_eq(tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, folder, NULL, &nobody)), 74, "%s", tiny_log(folder));
    cr_expect(strstr(tiny_log(folder), "cannot make the folder"), "%s", tiny_log(folder));
    cr_assert_eq(tiny_shell("chmod u+w %s", folder), 0);

    start_and_stop(TINY_CLIP, folder, SIGTERM);
    cr_assert_eq(tiny_shell("chmod a-w %s/run %s/run/*", folder, folder), 0);
    refused(TINY_CLIP, folder, NULL, &nobody, 74, "run/");
    tiny_remove(folder);
}
