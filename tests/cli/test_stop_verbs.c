/* Verbs that are asked to stop, killed or started twice: finished results are kept complete, the same command continues
 * to the same bytes without computing a finished case again, and one process at a time uses a folder. Signals are sent
 * after events, never after a delay. */
#include "data/io/file.h"
#include "data/io/store.h"
#include "infer/sam/sam_model.h"
#include "infer/unet/probability.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { IMAGES = 40, ATTEMPTS = 20 };

/* ---- processes ---- */

static int ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == pid;
}

static void nap(void)
{
    nanosleep(&(struct timespec){0, 200000}, NULL);
}

/* Waits until the file exists; 0 where the process ended before. */
static int wait_for_file(pid_t pid, const char *path)
{
    while (!mcs_file_exists(path)) {
        if (ended(pid)) return mcs_file_exists(path);
        nap();
    }
    return 1;
}

/* Waits until the file has this text; 0 where the process ended before. */
static int wait_for_text(pid_t pid, const char *path, const char *part)
{
    for (;;) {
        char *text = NULL;
        int64_t n;
        const int over = ended(pid), there = mcs_file_exists(path) &&
                                             mcs_file_read(path, 1 << 24, &text, &n) == MCS_OK &&
                                             strstr(text, part) != NULL;
        mcs_error_clear();
        free(text);
        if (there || over) return there;
        nap();
    }
}

static int wait_for_log(pid_t pid, const char *folder, const char *part)
{
    while (!strstr(tiny_log(folder), part)) {
        if (ended(pid)) return strstr(tiny_log(folder), part) != NULL;
        nap();
    }
    return 1;
}

/* Waits until the process waits for signals: SIGTERM is blocked in it. */
static int wait_for_waiting(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    for (;;) {
        unsigned long long blocked = 0;
        char line[256];
        FILE *f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f)) sscanf(line, "SigBlk: %llx", &blocked);
        if (f) fclose(f);
        if (blocked >> (SIGTERM - 1) & 1) return 1;
        if (ended(pid)) return 0;
        nap();
    }
}

/* ---- inputs ---- */

/* In a separate process: threads do not survive the later forks. */
static void make_models(const char *folder)
{
    const pid_t pid = fork();
    cr_assert(pid >= 0);
    if (pid == 0) {
        struct device d;
        struct sam_model m;
        const struct sam_config sam = tiny_sam_config();
        tiny_clip_model(tiny_path(folder, "clip"));
        int good = mcs_cpu_open(1, &d) == MCS_OK && mcs_sam_model_new(&sam, 3, &d, &m) == MCS_OK;
        good = good && mcs_sam_model_save(&m, tiny_path(folder, "sam"), 0, NULL) == MCS_OK;
        _exit(good ? 0 : 1);
    }
    cr_assert_eq(tiny_wait(pid), 0);
}

/* img/: IMAGES images, two of them damaged; maps/: saliency maps; boxes.json. */
static void make_images(const char *folder)
{
    tiny_pairs(tiny_path(folder, "made"), IMAGES);
    cr_assert_eq(
        tiny_shell("cd %s && mkdir img && cp $(find made -name '*.png') img/ && set -- $(ls img) && head -c 60 "
                   "img/$3 > img/cut && mv img/cut img/$3 && cp img/$3 img/zz_last.png",
                   folder),
        0);
}

static void make_probabilities(const char *folder, const char *name, uint32_t seed)
{
    cr_assert_eq(mcs_folder_make(tiny_path(folder, "%s", name)), MCS_OK);
    for (int k = 0; k < 2 * IMAGES; k++) {
        struct probability p;
        cr_assert_eq(mcs_probability_alloc(&p, 2, 1, 24, 20), MCS_OK);
        for (int i = 0; i < 480; i++) {
            const uint32_t mix = (uint32_t)(i * 2654435761u + (uint32_t)k * 40503u + seed * 69069u);
            p.values[480 + i] = (float)(mix >> 8 & 255) / 255;
            p.values[i] = 1 - p.values[480 + i];
        }
        cr_assert_eq(mcs_probability_write(tiny_path(folder, "%s/case_%03d.h5", name, k), &p), MCS_OK);
        mcs_probability_free(&p);
    }
}

/* ---- stopping and continuing ---- */

struct verb_case {
    const char *name, *record;
    const char *argv[40];
};

static int run_in(const char *folder, const char *const *argv)
{
    return tiny_wait(tiny_spawn(MCS_BINARY, folder, argv, NULL));
}

/* Everything in `out` except files that a run rewrites at its end, with inode and time of change. */
static void list_outputs(const char *folder, const char *to)
{
    cr_assert_eq(tiny_shell("cd %s && find out* -type f ! -name '.*' ! -name '*.yaml' ! -name '*.csv' ! -name '*.json' "
                            "-printf '%%p %%i %%T@\\n' 2>/dev/null | sort > %s",
                            folder, to),
                 0);
}

/* Every finished output of B is complete and equal to A's; no partial file is left. */
static void check_parts(const char *a, const char *b)
{
    cr_expect_eq(tiny_shell("cd %s && find . -path './out*' -type f ! -name '.*' | while read -r f; do cmp -s \"$f\" "
                            "\"%s/$f\" || { echo \"$f differs\" >&2; exit 1; }; done",
                            b, a),
                 0);
    cr_expect_neq(tiny_shell("find %s/out* -name '*.tmp*' | grep -q .", b), 0, "a half file is left");
}

/* Starts the verb in B and sends `number` once something is recorded; 1 where it was stopped midway. */
static int interrupt(const struct verb_case *v, const char *b, int number)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        cr_assert_eq(tiny_shell("cd %s && rm -rf out out.h5 .out.h5*", b), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, b, v->argv, NULL);
        if (wait_for_text(pid, tiny_path(b, "%s", v->record), "\"case\":")) kill(pid, number);
        const int code = tiny_wait(pid);
        if (number == SIGKILL && code == 128 + SIGKILL) return 1;
        if (number != SIGKILL && code == 75) return 1;
        cr_assert(code == 0 || code == 3, "%s: exit %d: %s", v->name, code, tiny_log(b));
    }
    return 0;
}

static void check_stop(const struct verb_case *v, const char *a, int number)
{
    const char *b = tiny_folder("stopped");
    cr_assert_eq(tiny_shell("cp -r %s/. %s && rm -rf %s/out* %s/.out*", a, b, b, b), 0);
    cr_assert(interrupt(v, b, number), "%s: always over before the signal", v->name);
    if (number != SIGKILL)
        cr_expect(strstr(tiny_log(b), "run the same command again to go on"), "%s: %s", v->name, tiny_log(b));
    cr_assert_eq(tiny_shell("mkdir -p %s/out", b), 0); /* embed writes a file */
    check_parts(a, b);
    list_outputs(b, "before");
    const int code = run_in(b, v->argv), want = strcmp(v->name, "ensemble") && strcmp(v->name, "uncertainty") ? 3 : 0;
    cr_assert_eq(code, want, "%s: exit %d: %s", v->name, code, tiny_log(b));
    cr_expect(strstr(tiny_log(b), "finished already"), "%s: %s", v->name, tiny_log(b));
    list_outputs(b, "after");
    if (strcmp(v->name, "embed") != 0)
        cr_expect_eq(tiny_shell("cd %s && test -s before && test -z \"$(comm -23 before after)\"", b), 0,
                     "%s: a finished case was made again", v->name);
    cr_expect_eq(
        tiny_shell("cd %s && diff -r %s/out out >&2 && { [ ! -e out.h5 ] || diff -r %s/out.h5 out.h5; }", b, a, a), 0,
        "%s: the result is another one", v->name);
    tiny_remove(b);
}

/* An uninterrupted run in A, then B stopped by `number` and continued; and again when all is done. */
static void check_verb(const struct verb_case *v, const char *a, int number)
{
    const int code = run_in(a, v->argv), all = !strcmp(v->name, "ensemble") || !strcmp(v->name, "uncertainty");
    cr_assert_eq(code, all ? 0 : 3, "%s: exit %d: %s", v->name, code, tiny_log(a));
    cr_assert_eq(tiny_shell("cd %s && mkdir -p out", a), 0); /* embed writes a file */
    check_stop(v, a, number);
    list_outputs(a, "before");
    cr_assert_eq(tiny_shell("cp -r %s/out %s/kept", a, a), 0);
    cr_assert_eq(run_in(a, v->argv), all ? 0 : 3);
    list_outputs(a, "after");
    if (strcmp(v->name, "embed") != 0) {
        cr_expect(strstr(tiny_log(a), "finished already"), "%s: %s", v->name, tiny_log(a));
        cr_expect_eq(tiny_shell("cd %s && cmp before after", a), 0, "%s: finished cases were made again", v->name);
    }
    cr_expect_eq(tiny_shell("cd %s && diff -r kept out >&2", a), 0, "%s", v->name);
    cr_assert_eq(tiny_shell("rm -rf %s/out %s/kept %s/out.h5 %s/.out.h5*", a, a, a, a), 0);
}

/* clang-format off */
static const struct verb_case saliency = {"saliency", "out/.mcsam.record",
    {"saliency", "-m", "clip", "-i", "img", "-o", "out", "--text", "a lesion", "--steps", "20", "--pairs", "4",
     "--threads", "1", NULL}};
static const struct verb_case segment = {"segment", "out/.mcsam.record",
    {"segment", "--clip", "clip", "--sam", "sam", "-i", "img", "-o", "out", "--text", "a lesion", "--keep-stages",
     "--min-confidence", "0", "--threads", "1", NULL}};
static const struct verb_case coarse = {"coarse", "out/.mcsam.record",
    {"coarse", "-i", "img", "-o", "out", "--min-confidence", "0", "--threads", "1", NULL}};
static const struct verb_case sam = {"sam", "out/.mcsam.record",
    {"sam", "-m", "sam", "-i", "img", "-o", "out", "--prompts-from", "boxes.json", "--threads", "1", NULL}};
static const struct verb_case embed = {"embed", ".out.h5.record",
    {"embed", "-m", "clip", "--images", "img", "--texts", "texts", "-o", "out.h5", "--threads", "1", NULL}};
static const struct verb_case predict = {"predict", "out/.mcsam.record",
    {"predict", "-i", "img", "-o", "out", "-m", "run", "--checkpoints", "all,last", "--uncertainty",
     "--save-probabilities", "--threads", "1", NULL}};
static const struct verb_case ensemble = {"ensemble", "out/.mcsam.record",
    {"ensemble", "-i", "fold_0", "-i", "fold_1", "-o", "out", "--save-probabilities", "--threads", "1", NULL}};
static const struct verb_case uncertainty = {"uncertainty", "out/.mcsam.record",
    {"uncertainty", "-i", "fold_0", "-o", "out", "--threads", "1", NULL}};
/* clang-format on */

Test(stop_verbs, text_to_mask, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    make_models(a);
    make_images(a);
    check_verb(&saliency, a, SIGTERM);
    check_verb(&segment, a, SIGINT);
    tiny_remove(a);
}

Test(stop_verbs, masks_and_prompts, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    make_models(a);
    make_images(a);
    check_verb(&coarse, a, SIGHUP);
    cr_assert_eq(run_in(a, coarse.argv), 3);
    cr_assert_eq(tiny_shell("cd %s && mv out/boxes.json . && rm -r out", a), 0);
    check_verb(&sam, a, SIGUSR1);
    tiny_remove(a);
}

Test(stop_verbs, embeddings, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    make_models(a);
    make_images(a);
    FILE *f = fopen(tiny_path(a, "texts"), "w");
    cr_assert(f);
    for (int i = 0; i < 1000; i++) fprintf(f, "a lesion of the brain %d\n", i);
    fclose(f);
    check_verb(&embed, a, SIGTERM);
    tiny_remove(a);
}

Test(stop_verbs, networks, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    tiny_training_folder(TINY_UNET, a);
    cr_assert_eq(tiny_wait(tiny_start(TINY_UNET, MCS_BINARY, a, NULL, NULL)), 0, "%s", tiny_log(a));
    make_images(a);
    check_verb(&predict, a, SIGINT);
    tiny_remove(a);
}

Test(stop_verbs, probabilities, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    make_probabilities(a, "fold_0", 1);
    make_probabilities(a, "fold_1", 2);
    check_verb(&ensemble, a, SIGTERM);
    check_verb(&uncertainty, a, SIGHUP);
    tiny_remove(a);
}

/* The same with SIGKILL: no partial result counts. */
Test(stop_verbs, killed, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    make_models(a);
    make_images(a);
    cr_assert_eq(run_in(a, segment.argv), 3, "%s", tiny_log(a));
    check_stop(&segment, a, SIGKILL);
    cr_assert_eq(tiny_shell("rm -r %s/out", a), 0);
    make_probabilities(a, "fold_0", 1);
    make_probabilities(a, "fold_1", 2);
    cr_assert_eq(run_in(a, ensemble.argv), 0, "%s", tiny_log(a));
    check_stop(&ensemble, a, SIGKILL);
    tiny_remove(a);
}

/* Other options, another input or another prompt cause exactly the affected cases to be computed again. */
Test(stop_verbs, what_changed_is_made_again, .timeout = 300)
{
    const char *a = tiny_folder("changed");
    make_models(a);
    make_images(a);
    cr_assert_eq(run_in(a, coarse.argv), 3, "%s", tiny_log(a));
    list_outputs(a, "before");
    cr_assert_eq(tiny_shell("cd %s && set -- $(ls img) && cp img/$2 img/$1", a), 0);
    cr_assert_eq(run_in(a, coarse.argv), 3);
    list_outputs(a, "after");
    cr_expect_eq(tiny_shell("cd %s && test $(comm -23 before after | wc -l) = 1", a), 0, "one case");
    const char *const other[] = {"coarse", "-i",          "img",    "-o",        "out", "--min-confidence",
                                 "0",      "--threshold", "kmeans", "--threads", "1",   NULL};
    cr_assert_eq(run_in(a, other), 3);
    cr_expect(
        strstr(tiny_log(a), "were made by other options and are made again: --threshold \"kmeans\", was not given"),
        "%s", tiny_log(a));
    cr_expect_null(strstr(tiny_log(a), "finished already"), "%s", tiny_log(a));
    list_outputs(a, "other");
    cr_expect_eq(tiny_shell("cd %s && test -z \"$(comm -12 after other)\"", a), 0, "all cases");
    cr_assert_eq(run_in(a, other), 3);
    cr_expect_null(strstr(tiny_log(a), "other options"), "said once: %s", tiny_log(a));
    tiny_remove(a);
}

/* ---- signals ---- */

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
    make_models(a);
    make_images(a);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(tiny_shell("rm -rf %s/out", a), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, a, slow, NULL);
        cr_assert(wait_for_file(pid, tiny_path(a, "out/config.yaml")), "%s", tiny_log(a));
        cr_assert(wait_for_work(pid), "%s", tiny_log(a));
        kill(pid, numbers[i]);
        cr_assert(wait_for_log(pid, a, "a second signal ends it at once"), "%s", tiny_log(a));
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
    make_models(a);
    make_images(a);
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    const pid_t pid = tiny_spawn(MCS_BINARY, a, saliency.argv, NULL);
    signal(SIGINT, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    cr_assert(wait_for_file(pid, tiny_path(a, "out/config.yaml")), "%s", tiny_log(a));
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
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        cr_assert_eq(tiny_shell("rm -rf %s/scores", folder), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, folder, argv, NULL);
        if (wait_for_waiting(pid)) kill(pid, SIGTERM);
        const int code = tiny_wait(pid);
        if (code == 75) return 1;
    }
    return 0;
}

/* Verbs without a record stop at their next case, row or step. */
Test(stop_verbs, verbs_that_only_read, .timeout = 300)
{
    const char *a = tiny_folder("read"), *info[62] = {"info"};
    make_models(a);
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
    make_models(a);
    make_images(a);
    cr_assert_eq(tiny_shell("cd %s && rm img/zz_last.png && set -- $(ls img) && rm img/$3", a), 0);
    cr_assert_eq(run_in(a, saliency.argv), 0, "%s", tiny_log(a));
    int stopped = 0;
    for (int attempt = 0; attempt < ATTEMPTS && !stopped; attempt++) {
        cr_assert_eq(tiny_shell("rm -rf %s/out.replay", a), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, a, replay, NULL);
        if (wait_for_text(pid, tiny_path(a, "out.replay/.mcsam.record"), "\"case\":")) kill(pid, SIGTERM);
        const int code = tiny_wait(pid);
        cr_assert(code == 75 || code == 0, "exit %d: %s", code, tiny_log(a));
        stopped = code == 75;
    }
    cr_assert(stopped);
    cr_assert_eq(run_in(a, replay), 0, "%s", tiny_log(a));
    cr_expect(strstr(tiny_log(a), "going on with a replay that was stopped"), "%s", tiny_log(a));
    cr_expect(strstr(tiny_log(a), "are finished already; going on with"), "%s", tiny_log(a));
    cr_expect(strstr(tiny_log(a), ": the same"), "%s", tiny_log(a));
    cr_expect_eq(run_in(a, replay), 2, "a folder that is no replay under way: %s", tiny_log(a));
    tiny_remove(a);
}

/* ---- two processes ---- */

Test(stop_verbs, two_runs_into_one_folder, .timeout = 120)
{
    const char *a = tiny_folder("two");
    char want[64];
    make_models(a);
    make_images(a);
    tiny_pairs(tiny_path(a, "pairs"), 24);
    cr_assert_eq(tiny_shell("mv %s/clip %s/model", a, a), 0);
    const pid_t first = tiny_start(TINY_CLIP, MCS_BINARY, a, NULL, NULL);
    cr_assert(wait_for_text(first, tiny_path(a, "run/.mcsam.lock"), "mcsam finetune, process"), "%s", tiny_log(a));
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
    cr_expect_eq(run_in(b, segment_there), 1, "another verb: %s", tiny_log(b));
    kill(first, SIGCONT);
    cr_assert_eq(tiny_wait(first), 0, "%s", tiny_log(a));
    cr_expect_eq(tiny_shell("grep -q 'seed: 3' %s/run/config.yaml", a), 0);
    tiny_remove(a);
}

/* ---- all cases fail ---- */

/* Every case failed: exit code 65 of every verb; 3 where some succeeded. */
Test(stop_verbs, every_case_failed, .timeout = 300)
{
    const char *a = tiny_folder("failed");
    tiny_training_folder(TINY_UNET, a);
    cr_assert_eq(tiny_wait(tiny_start(TINY_UNET, MCS_BINARY, a, NULL, NULL)), 0, "%s", tiny_log(a));
    make_models(a);
    cr_assert_eq(tiny_shell("cd %s && mkdir img fold_0 fold_1 && for f in a b; do echo x > img/$f.png; echo x > "
                            "fold_0/$f.h5; echo x > fold_1/$f.h5; done && printf '{\"cases\": []}' > boxes.json",
                            a),
                 0);
    const struct verb_case *const all[] = {&saliency, &segment, &coarse, &sam, &predict, &ensemble, &uncertainty};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const int code = run_in(a, all[i]->argv);
        cr_expect_eq(code, 65, "%s: exit %d: %s", all[i]->name, code, tiny_log(a));
        cr_assert_eq(tiny_shell("rm -rf %s/out", a), 0);
    }
    const char *const images[] = {"embed", "-m", "clip", "--images", "img", "-o", "out.h5", NULL};
    cr_expect_eq(run_in(a, images), 65, "embed: %s", tiny_log(a));
    const char *const info[] = {"info", "img/a.png", "img/b.png", NULL};
    cr_expect_eq(run_in(a, info), 65, "info: %s", tiny_log(a));
    tiny_remove(a);
}
