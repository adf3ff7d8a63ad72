/* Verbs that are asked to stop or killed: finished results are kept complete, the same command continues to the same
 * bytes without computing a finished case again. Signals are sent after events, never after a delay; the signals
 * themselves: test_stop_signals.c. */
#include "tests/support/support_stop.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* ---- stopping and continuing ---- */

struct verb_case {
    const char *name, *record;
    const char *argv[40];
};

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
    for (int attempt = 0; attempt < STOP_ATTEMPTS; attempt++) {
        cr_assert_eq(tiny_shell("cd %s && rm -rf out out.h5 .out.h5*", b), 0);
        const pid_t pid = tiny_spawn(MCS_BINARY, b, v->argv, NULL);
        if (stop_wait_text(pid, tiny_path(b, "%s", v->record), "\"case\":")) kill(pid, number);
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
    const int code = stop_run(b, v->argv), want = strcmp(v->name, "ensemble") && strcmp(v->name, "uncertainty") ? 3 : 0;
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
    const int code = stop_run(a, v->argv), all = !strcmp(v->name, "ensemble") || !strcmp(v->name, "uncertainty");
    cr_assert_eq(code, all ? 0 : 3, "%s: exit %d: %s", v->name, code, tiny_log(a));
    cr_assert_eq(tiny_shell("cd %s && mkdir -p out", a), 0); /* embed writes a file */
    check_stop(v, a, number);
    list_outputs(a, "before");
    cr_assert_eq(tiny_shell("cp -r %s/out %s/kept", a, a), 0);
    cr_assert_eq(stop_run(a, v->argv), all ? 0 : 3);
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
    stop_make_models(a);
    stop_make_images(a);
    check_verb(&saliency, a, SIGTERM);
    check_verb(&segment, a, SIGINT);
    tiny_remove(a);
}

Test(stop_verbs, masks_and_prompts, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    stop_make_models(a);
    stop_make_images(a);
    check_verb(&coarse, a, SIGHUP);
    cr_assert_eq(stop_run(a, coarse.argv), 3);
    cr_assert_eq(tiny_shell("cd %s && mv out/boxes.json . && rm -r out", a), 0);
    check_verb(&sam, a, SIGUSR1);
    tiny_remove(a);
}

Test(stop_verbs, embeddings, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    stop_make_models(a);
    stop_make_images(a);
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
    stop_make_images(a);
    check_verb(&predict, a, SIGINT);
    tiny_remove(a);
}

Test(stop_verbs, probabilities, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    stop_make_probabilities(a, "fold_0", 1);
    stop_make_probabilities(a, "fold_1", 2);
    check_verb(&ensemble, a, SIGTERM);
    check_verb(&uncertainty, a, SIGHUP);
    tiny_remove(a);
}

/* The same with SIGKILL: no partial result counts. */
Test(stop_verbs, killed, .timeout = 300)
{
    const char *a = tiny_folder("whole");
    stop_make_models(a);
    stop_make_images(a);
    cr_assert_eq(stop_run(a, segment.argv), 3, "%s", tiny_log(a));
    check_stop(&segment, a, SIGKILL);
    cr_assert_eq(tiny_shell("rm -r %s/out", a), 0);
    stop_make_probabilities(a, "fold_0", 1);
    stop_make_probabilities(a, "fold_1", 2);
    cr_assert_eq(stop_run(a, ensemble.argv), 0, "%s", tiny_log(a));
    check_stop(&ensemble, a, SIGKILL);
    tiny_remove(a);
}

/* Other options, another input or another prompt cause exactly the affected cases to be computed again. */
Test(stop_verbs, what_changed_is_made_again, .timeout = 300)
{
    const char *a = tiny_folder("changed");
    stop_make_models(a);
    stop_make_images(a);
    cr_assert_eq(stop_run(a, coarse.argv), 3, "%s", tiny_log(a));
    list_outputs(a, "before");
    cr_assert_eq(tiny_shell("cd %s && set -- $(ls img) && cp img/$2 img/$1", a), 0);
    cr_assert_eq(stop_run(a, coarse.argv), 3);
    list_outputs(a, "after");
    cr_expect_eq(tiny_shell("cd %s && test $(comm -23 before after | wc -l) = 1", a), 0, "one case");
    const char *const other[] = {"coarse", "-i",          "img",    "-o",        "out", "--min-confidence",
                                 "0",      "--threshold", "kmeans", "--threads", "1",   NULL};
    cr_assert_eq(stop_run(a, other), 3);
    cr_expect(
        strstr(tiny_log(a), "were made by other options and are made again: --threshold \"kmeans\", was not given"),
        "%s", tiny_log(a));
    cr_expect_null(strstr(tiny_log(a), "finished already"), "%s", tiny_log(a));
    list_outputs(a, "other");
    cr_expect_eq(tiny_shell("cd %s && test -z \"$(comm -12 after other)\"", a), 0, "all cases");
    cr_assert_eq(stop_run(a, other), 3);
    cr_expect_null(strstr(tiny_log(a), "other options"), "said once: %s", tiny_log(a));
    tiny_remove(a);
}

/* ---- all cases fail ---- */

/* Every case failed: exit code 65 of every verb; 3 where some succeeded. */
Test(stop_verbs, every_case_failed, .timeout = 300)
{
    const char *a = tiny_folder("failed");
    tiny_training_folder(TINY_UNET, a);
    cr_assert_eq(tiny_wait(tiny_start(TINY_UNET, MCS_BINARY, a, NULL, NULL)), 0, "%s", tiny_log(a));
    stop_make_models(a);
    cr_assert_eq(tiny_shell("cd %s && mkdir img fold_0 fold_1 && for f in a b; do echo x > img/$f.png; echo x > "
                            "fold_0/$f.h5; echo x > fold_1/$f.h5; done && printf '{\"cases\": []}' > boxes.json",
                            a),
                 0);
    const struct verb_case *const all[] = {&saliency, &segment, &coarse, &sam, &predict, &ensemble, &uncertainty};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const int code = stop_run(a, all[i]->argv);
        cr_expect_eq(code, 65, "%s: exit %d: %s", all[i]->name, code, tiny_log(a));
        cr_assert_eq(tiny_shell("rm -rf %s/out", a), 0);
    }
    const char *const images[] = {"embed", "-m", "clip", "--images", "img", "-o", "out.h5", NULL};
    cr_expect_eq(stop_run(a, images), 65, "embed: %s", tiny_log(a));
    const char *const info[] = {"info", "img/a.png", "img/b.png", NULL};
    cr_expect_eq(stop_run(a, info), 65, "info: %s", tiny_log(a));
    tiny_remove(a);
}
