/* Signals and processes: a second signal, a signal that the parent ignored, verbs that only read, a replay, and two
 * runs into one folder. Signals are sent after events, never after a delay. Stopped and continued verbs:
 * test_stop_verbs.c. */
#include "data/io/file.h"
#include "tests/support/support_stop.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- signals ---- */

static const char *const saliency[] = {"saliency", "-m",      "clip", "-i",      "img", "-o",        "out", "--text",
                                       "a lesion", "--steps", "20",   "--pairs", "4",   "--threads", "1",   NULL};
static const char *const slow[] = {"saliency", "-m",      "clip",   "-i",      "img", "-o",        "out", "--text",
                                   "a lesion", "--steps", "100000", "--pairs", "64",  "--threads", "1",   NULL};

/* Waits until the process has used a second of CPU time, more than opening tiny models takes: then it is in its first
 * group of cases. 0 where it ended before. */
static int wait_for_work(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (;;) {
        unsigned long user = 0, system = 0;
        char state = 0;
        FILE *f = fopen(path, "r");
        if (!f) return 0;
        const int n =
            fscanf(f, "%*d (%*[^)]) %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &state, &user, &system);
        fclose(f);
        if (n != 3 || state == 'Z') return 0;
        if (user + system >= (unsigned long)sysconf(_SC_CLK_TCK)) return 1;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
}

/* One group takes long here; the second signal does not wait for it. */
Test(stop_verbs, a_second_signal_ends_at_once, .timeout = 120)
{
    static const int numbers[] = {SIGTERM, SIGUSR1, SIGINT, SIGHUP};
    const char *a = tiny_folder("twice");
    stop_make_models(a);
    stop_make_images(a);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(tiny_shell("rm -rf %s/out", a), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, a, slow, NULL);
        cr_assert(stop_wait_file(pid, tiny_path(a, "out/config.yaml")), "%s", tiny_log(a));
        cr_assert(wait_for_work(pid), "%s", tiny_log(a));
        kill(pid, numbers[i]);
        cr_assert(stop_wait_log(pid, a, "a second signal ends it at once"), "%s", tiny_log(a));
        kill(pid, numbers[(i + 1) % 4]);
        const int code = tiny_wait(pid);
        cr_expect_eq(code, 128 + numbers[(i + 1) % 4], "exit %d: %s", code, tiny_log(a));
    }
    tiny_remove(a);
}

/* As started by nohup or as a shell's background job: it runs to its end. */
Test(stop_verbs, what_was_ignored_at_the_start_stays_ignored, .timeout = 120)
{
    const char *a = tiny_folder("nohup");
    stop_make_models(a);
    stop_make_images(a);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    const pid_t pid = tiny_spawn(MCS_BINARY, a, saliency, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    cr_assert(stop_wait_file(pid, tiny_path(a, "out/config.yaml")), "%s", tiny_log(a));
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    kill(pid, SIGINT);
    const int code = tiny_wait(pid);
    cr_expect_eq(code, 3, "exit %d: %s", code, tiny_log(a));
    cr_expect_null(strstr(tiny_log(a), "SIG"), "%s", tiny_log(a));
    tiny_remove(a);
}

/* Sends a signal as soon as the process waits for it; 1 where it ended with 75. */
static int stops(const char *folder, const char *const *argv)
{
    for (int attempt = 0; attempt < STOP_ATTEMPTS; attempt++) {
        cr_assert_eq(tiny_shell("rm -rf %s/scores", folder), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, folder, argv, NULL);
        if (stop_wait_blocked(pid)) kill(pid, SIGTERM);
        const int code = tiny_wait(pid);
        if (code == 75) return 1;
    }
    return 0;
}

/* Verbs without a record stop at their next case, row or step. */
Test(stop_verbs, verbs_that_only_read, .timeout = 300)
{
    const char *a = tiny_folder("read"), *info[62] = {"info"};
    stop_make_models(a);
    tiny_pairs(tiny_path(a, "made"), 200);
    cr_assert_eq(tiny_shell("cd %s && mkdir img && cp $(find made -name '*.png') img/ && cp -r img img2 && cp -r img "
                            "out && mv made/pairs.csv .",
                            a),
                 0);
    struct file_list files;
    cr_assert_eq(mcs_folder_list(tiny_path(a, "img"), ".png", &files), MCS_OK);
    static char names[60][64];
    for (int i = 0; i < 60; i++) {
        snprintf(names[i], sizeof names[i], "img/%s", files.names[i]);
        info[1 + i] = names[i];
    }
    mcs_file_list_free(&files);
    const char *const
        evaluate[] = {"evaluate", "--pred", "img", "--ref", "img2", "-o", "scores", NULL},
        *const diff[] = {"diff", "img", "img2", NULL}, *const retrieve[] = {"retrieve",  "-m", "clip", "--pairs",
                                                                            "pairs.csv", "-i", "img",  NULL},
        *const bench[] = {"bench", "ops", "--small", NULL}, *const models[] = {"bench", "models", "--small", NULL};
    cr_expect(stops(a, evaluate), "evaluate: %s", tiny_log(a));
    cr_expect(!mcs_file_exists(tiny_path(a, "scores/summary.json")), "a part of the scores");
    cr_expect(stops(a, diff), "diff: %s", tiny_log(a));
    cr_expect(stops(a, info), "info: %s", tiny_log(a));
    cr_expect(stops(a, retrieve), "retrieve: %s", tiny_log(a));
    cr_expect(stops(a, bench), "bench ops: %s", tiny_log(a));
    cr_expect(stops(a, models), "bench models: %s", tiny_log(a));
    tiny_remove(a);
}

/* A replay passes the request on to its second run, and continues in its folder. */
Test(stop_verbs, replay, .timeout = 300)
{
    const char *a = tiny_folder("replay");
    const char *const replay[] = {"replay", "out", NULL};
    stop_make_models(a);
    stop_make_images(a);
    cr_assert_eq(tiny_shell("cd %s && rm img/zz_last.png && set -- $(ls img) && rm img/$3", a), 0);
    cr_assert_eq(stop_run(a, saliency), 0, "%s", tiny_log(a));
    int stopped = 0;
    for (int attempt = 0; attempt < STOP_ATTEMPTS && !stopped; attempt++) {
        cr_assert_eq(tiny_shell("rm -rf %s/out.replay", a), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, a, replay, NULL);
        if (stop_wait_text(pid, tiny_path(a, "out.replay/.mcsam.record"), "\"case\":")) kill(pid, SIGTERM);
        const int code = tiny_wait(pid);
        cr_assert(code == 75 || code == 0, "exit %d: %s", code, tiny_log(a));
        stopped = code == 75;
    }
    cr_assert(stopped);
    cr_assert_eq(stop_run(a, replay), 0, "%s", tiny_log(a));
    cr_expect(strstr(tiny_log(a), "going on with a replay that was stopped"), "%s", tiny_log(a));
    cr_expect(strstr(tiny_log(a), "are finished already; going on with"), "%s", tiny_log(a));
    cr_expect(strstr(tiny_log(a), ": the same"), "%s", tiny_log(a));
    cr_expect_eq(stop_run(a, replay), 2, "a folder that is no replay under way: %s", tiny_log(a));
    tiny_remove(a);
}

/* ---- two processes ---- */

Test(stop_verbs, two_runs_into_one_folder, .timeout = 120)
{
    const char *a = tiny_folder("two");
    char want[64];
    stop_make_models(a);
    stop_make_images(a);
    tiny_pairs(tiny_path(a, "pairs"), 24);
    cr_assert_eq(tiny_shell("mv %s/clip %s/model", a, a), 0);
    const pid_t first = tiny_start(TINY_CLIP, MCS_BINARY, a, NULL, NULL);
    cr_assert(stop_wait_text(first, tiny_path(a, "run/.mcsam.lock"), "mcsam finetune, process"), "%s", tiny_log(a));
    kill(first, SIGSTOP);
    const char *const other[] = {"--seed", "4", NULL};
    cr_assert_eq(tiny_shell("mkdir %s/b && cp -r %s/model %s/pairs %s/b/ && ln -s ../run %s/b/run", a, a, a, a, a), 0);
    const char *b = tiny_path(a, "b");
    const int code = tiny_wait(tiny_start(TINY_CLIP, MCS_BINARY, b, other, NULL));
    cr_expect_eq(code, 1, "exit %d: %s", code, tiny_log(b));
    snprintf(want, sizeof want, "is in use by mcsam finetune, process %d on host ", (int)first);
    cr_expect(strstr(tiny_log(b), want), "%s", tiny_log(b));
    const char *const segment_there[] = {"segment", "--clip", "model", "--sam",  "../sam",   "-i",
                                         "../img",  "-o",     "run",   "--text", "a lesion", NULL};
    cr_expect_eq(stop_run(b, segment_there), 1, "another verb: %s", tiny_log(b));
    kill(first, SIGCONT);
    cr_assert_eq(tiny_wait(first), 0, "%s", tiny_log(a));
    cr_expect_eq(tiny_shell("grep -q 'seed: 3' %s/run/config.yaml", a), 0);
    tiny_remove(a);
}
