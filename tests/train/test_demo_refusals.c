/* Faults that end a demo, and stops, before it writes anything. */
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "train/cmd/demo_command.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct mcs_verb mcs_verb_demo;

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static char folder[] = "/tmp/mcs_demo_refusals_XXXXXX";
static struct arena arena;

static void setup(void)
{
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
}

static void teardown(void)
{
    char line[64];
    mcs_stop_reset();
    mcs_arena_free(&arena);
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(demo_refusals, .init = setup, .fini = teardown, .timeout = 120);

static int exists(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return mcs_file_exists(path) || mcs_folder_exists(path);
}

static struct demo_options whole_run(void)
{
    char *const argv[] = {"--output",
                          folder,
                          "--clip",
                          MCS_SOURCE_DIR "/data/demo/clip",
                          "--sam",
                          MCS_SOURCE_DIR "/data/demo/sam",
                          "--train-images",
                          "2",
                          "--finetune-batch",
                          "2",
                          "--threads",
                          "1"};
    struct demo_command c;
    OK(mcs_config_parse_env(&mcs_verb_demo, sizeof argv / sizeof *argv, (char **)(uintptr_t)argv, NULL, &arena, &c));
    return mcs_demo_command_options(&c, &arena);
}

/* A stage is not begun once a stop is asked for. */
Test(demo_refusals, a_stop_before_a_stage)
{
    const struct demo_options o = whole_run();
    mcs_stop_request();
    cr_expect_eq(mcs_demo_run(&o), MCS_E_STOPPED);
    mcs_error_clear();
    cr_expect(exists("config.yaml"));
    cr_expect(!exists("data") && !exists("summary.json") && !exists("report.html"));
}

/* Fewer training images than a batch of the fine-tuning; a batch of as many is none of the faults. */
Test(demo_refusals, too_few_training_images)
{
    struct demo_options o = whole_run();
    o.finetune_batch = 3;
    cr_expect_eq(mcs_demo_run(&o), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "--train-images 2 is less than one batch of 3"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect(!exists("data"));
}

/* A checkpoint of other options in any of the three trainings' folders is found before anything is written. */
Test(demo_refusals, checkpoints_of_another_run)
{
    static const char *const trainings[] = {"finetune", "network", "ceiling"};
    const struct demo_options o = whole_run();
    char path[256];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, trainings[i]);
        OK(mcs_folder_make(path));
        snprintf(path, sizeof path, "%s/%s/checkpoint.h5", folder, trainings[i]);
        OK(mcs_file_write(path, "no checkpoint", 13));
        mcs_stop_request(); /* nothing but the refusal is wanted */
        cr_expect_eq(mcs_demo_run(&o), MCS_E_DATA, "%s", trainings[i]);
        mcs_stop_reset();
        cr_expect(strstr(mcs_error_message(), trainings[i]), "%s", mcs_error_message());
        mcs_error_clear();
        cr_expect(!exists("data"));
        remove(path);
    }
}

/* --start names a shipped folder; one that is not there is said by its name and by the option. */
Test(demo_refusals, a_start_that_is_not_shipped)
{
    char line[512];
    snprintf(line, sizeof line,
             "cd %s && mkdir bin && cp %s bin/ && bin/mcsam demo --start captions --quick -o out 2>err", folder,
             MCS_BINARY);
    const int st = system(line);
    cr_expect(WIFEXITED(st) && WEXITSTATUS(st) == 66, "exit status %d", WEXITSTATUS(st));
    snprintf(line, sizeof line, "grep -q 'data/demo/clip-captions: no such folder.*--start captions.*--clip' %s/err",
             folder);
    cr_expect_eq(system(line), 0);
    cr_expect(!exists("out"));
}
