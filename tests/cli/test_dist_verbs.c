/* finetune and train on several ranks as users start them: --gpus, and processes with a launcher's variables. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/io/file.h"
#include "tests/support/support_tiny.h"

#define CLIP "finetune -m model --pairs pairs/pairs.csv --batch 6 --steps 12 --warmup 2 --checkpoint-every 4 --quiet"
#define UNET                                                                                                           \
    "train -i data/images -l data/labels --patch 16x16 --stages 2 --features 4 --max-features 8 --batch 4 --epochs 2 " \
    "--iterations 5 --cycles 1 --checkpoints 2 --late 0.5 --quiet"

static const char *folder;
static void setup(void)
{
    folder = tiny_folder("dist_verbs");
    unsetenv("RANK");
    unsetenv("WORLD_SIZE");
    setenv("OMP_NUM_THREADS", "1", 1);
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(dist_verbs, .init = setup, .fini = teardown, .timeout = 240);

/* Runs the program in folder; returns its exit code. */
static int one(const char *arguments)
{
    return tiny_shell("cd %s && %s %s >out 2>log", folder, MCS_BINARY, arguments);
}

/* The same as n processes, with rank r's messages in log.r; meanwhile: a shell command run after they have started.
 * Returns the exit codes as text, "0 0". */
static const char *launched(int n, const char *arguments, const char *meanwhile)
{
    static char text[4096];
    int64_t bytes;
    char *codes;
    cr_assert_leq(tiny_shell("cd %s && { n=%d; pids=; for r in $(seq 0 $((n - 1))); do RANK=$r WORLD_SIZE=$n %s %s "
                             ">out.$r 2>log.$r & pids=\"$pids $!\"; done; set -- $pids; %s\n"
                             "for p in $pids; do wait $p; printf '%%s ' $?; done; } >codes 2>shell",
                             folder, n, MCS_BINARY, arguments, meanwhile),
                  0);
    cr_assert_eq(mcs_file_read(tiny_path(folder, "codes"), 1000, &codes, &bytes), MCS_OK);
    snprintf(text, sizeof text, "%s", codes);
    free(codes);
    return text;
}

static const char *log_of(const char *name)
{
    static char text[1 << 14];
    FILE *f = fopen(tiny_path(folder, "%s", name), "r");
    const size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    text[n] = '\0';
    if (f) fclose(f);
    return text;
}

/* The value `key` of the first line of RUN/metrics.jsonl. */
static double first_value(const char *run, const char *key)
{
    char want[64];
    const char *text = log_of(tiny_path(run, "metrics.jsonl"));
    snprintf(want, sizeof want, "\"%s\":", key);
    const char *at = strstr(text, want);
    cr_assert(at, "%s has no %s: %s", run, key, text);
    return strtod(at + strlen(want), NULL);
}

static void same_as_one_process(enum tiny_training t, const char *verb)
{
    char line[600];
    tiny_training_folder(t, folder);
    snprintf(line, sizeof line, "%s -o one", verb);
    cr_assert_eq(one(line), 0, "%s", log_of("log"));
    snprintf(line, sizeof line, "%s -o threads --gpus 2", verb);
    cr_assert_eq(one(line), 0, "%s", log_of("log"));
    snprintf(line, sizeof line, "%s -o processes", verb);
    cr_assert_str_eq(launched(2, line, ":"), "0 0 ", "%s", log_of("log.0"));
    cr_expect_eq(
        tiny_shell("cd %s && test -s out.0 && ! test -s out.1 && ! test -s log.1 && ! test -e processes/.ranks",
                   folder),
        0, "rank 0 alone writes");
    /* first step: the loss is a mean of float32 values in another order, the norm a sum of squares of such gradients */
    const double loss = first_value("one", "loss"), norm = first_value("one", "gradient_norm");
    cr_expect_float_eq(first_value("threads", "loss"), loss, 1e-5 * fabs(loss));
    cr_expect_float_eq(first_value("threads", "gradient_norm"), norm, 1e-4 * norm);
    cr_expect_eq(
        tiny_shell("cd %s && diff -r -x config.yaml -x checkpoint.h5 -x .mcsam.record threads processes >&2", folder),
        0, "threads and processes leave other bytes");
}

Test(dist_verbs, finetune_is_the_same_by_threads_and_processes)
{
    same_as_one_process(TINY_CLIP, CLIP);
}

Test(dist_verbs, train_is_the_same_by_threads_and_processes)
{
    same_as_one_process(TINY_UNET, UNET);
}

Test(dist_verbs, a_signal_to_one_rank_stops_all_and_the_run_goes_on)
{
    tiny_training_folder(TINY_CLIP, folder);
    cr_assert_str_eq(launched(2, CLIP " --steps 60 -o whole", ":"), "0 0 ", "%s", log_of("log.0"));
    cr_assert_str_eq(
        launched(2, CLIP " --steps 60 -o run", "while ! test -e run/checkpoint.h5; do sleep 0.01; done; kill -TERM $2"),
        "75 75 ", "%s", log_of("log.0"));
    cr_assert_str_eq(launched(2, CLIP " --steps 60 -o run", ":"), "0 0 ", "%s", log_of("log.0"));
    cr_expect_eq(tiny_shell("cd %s && diff -r -x config.yaml -x checkpoint.h5 -x .mcsam.record whole run >&2", folder),
                 0);
}

Test(dist_verbs, a_rank_that_is_killed_is_named)
{
    tiny_training_folder(TINY_CLIP, folder);
    cr_expect_str_eq(launched(3, CLIP " --steps 100000 -o run",
                              "while ! test -e run/checkpoint.h5; do sleep 0.01; done; kill -KILL $2"),
                     "1 137 1 ");
    cr_expect(strstr(log_of("log.0"), "rank 0, ") && strstr(log_of("log.0"), ": rank 1 has left: its process"), "%s",
              log_of("log.0"));
    cr_expect(strstr(log_of("log.2"), ": rank 1 has left: its process"), "%s", log_of("log.2"));
    cr_assert_str_eq(launched(3, CLIP " --steps 100000 -o run", "sleep 1; kill -TERM $1"), "75 75 75 ", "%s",
                     log_of("log.0"));
}

Test(dist_verbs, wrong_uses_are_one_clear_error)
{
    static const struct {
        const char *environment, *arguments, *says;
        int code;
    } bad[] = {
        {"RANK=1", CLIP " -o run", "RANK is set, but WORLD_SIZE is not", 2},
        {"RANK=0 WORLD_SIZE=2", CLIP " -o run --gpus 2", "--gpus 2, but RANK and WORLD_SIZE started 2 ranks", 2},
        {"RANK=0 WORLD_SIZE=2 PMI_RANK=1 PMI_SIZE=2", CLIP " -o run", "unset the variables of one of them", 2},
        {"A=1", CLIP " -o run --gpus 4", "a batch of 6 does not divide into 4 ranks", 2},
        {"A=1", UNET " -o run --gpus 3", "a batch of 4 does not divide into 3 ranks", 2},
    };
    tiny_training_folder(TINY_CLIP, folder);
    tiny_training_folder(TINY_UNET, folder);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(
            tiny_shell("cd %s && %s %s %s >out 2>log", folder, bad[i].environment, MCS_BINARY, bad[i].arguments),
            bad[i].code, "%s: %s", bad[i].arguments, log_of("log"));
        cr_expect(strstr(log_of("log"), bad[i].says), "'%s' has no '%s'", log_of("log"), bad[i].says);
        cr_expect_eq(tiny_shell("test $(grep -c . %s/log) = 1", folder), 0, "more than a line: %s", log_of("log"));
    }
    cr_expect_eq(tiny_shell("ls %s/run/checkpoint.h5 2>/dev/null", folder), 2, "a run was begun");
}

/* configs/slurm with stubs in place of srun, scontrol and mcsam. */
Test(dist_verbs, slurm_scripts_requeue_what_was_stopped_in_time)
{
    static const struct {
        const char *script, *program;
        int code, requeued;
    } runs[] = {
        {"one-node", "exit 0", 0, 0},
        {"one-node", "exit 69", 69, 0},
        {"one-node", "kill -USR1 $PPID; exit 75", 75, 1}, /* the signal reaches the script too */
        {"many-nodes", "exit 0", 0, 0},
        {"many-nodes", "kill -USR1 $PPID; exit 75", 75, 1},
    };
    const char *bin = tiny_path(folder, "bin");
    cr_assert_eq(tiny_shell("mkdir %s && cd %s && printf '#!/bin/bash\\necho \"$@\" >../requeued\\n' >scontrol && "
                            "printf '#!/bin/bash\\nshift 2\\nexec \"$@\"\\n' >srun && chmod +x *",
                            bin, bin),
                 0);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        cr_assert_eq(
            tiny_shell(
                "cd %s && rm -f requeued && printf '#!/bin/bash\\ntrap \"exit 75\" USR1\\necho \"$@\" >said\\n%s\\n' "
                "'%s' >mcsam && sed -i 's/said/..\\/said/' mcsam && mv mcsam bin && chmod +x bin/mcsam",
                folder, "%s", runs[i].program),
            0);
        const char *script = tiny_path(MCS_SOURCE_DIR, "configs/slurm/%s.sh", runs[i].script);
        cr_assert_eq(tiny_shell("bash -n %s", script), 0);
        cr_expect_eq(
            tiny_shell("cd %s/bin && PATH=$PWD:$PATH SLURM_JOB_ID=17 SLURM_GPUS_ON_NODE=4 SLURM_CPUS_PER_TASK=3 bash "
                       "%s train -o 'a b' 2>../log",
                       folder, script),
            runs[i].code, "%s, %s: %s", runs[i].script, runs[i].program, log_of("log"));
        cr_expect_eq(tiny_shell("grep -qs 'requeue 17' %s/requeued", folder) == 0, runs[i].requeued, "%s, %s",
                     runs[i].script, runs[i].program);
        cr_expect_eq(tiny_shell("grep -qx -- 'train -o a b --device cuda%s' %s/said", i < 3 ? " --gpus 4" : "", folder),
                     0, "%s", log_of("said"));
    }
}
