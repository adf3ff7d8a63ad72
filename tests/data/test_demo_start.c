/* Runs two steps of the trainings behind demo-start and compares losses, gradient norms and written files with
 * tests/expected/demo_start_*.txt. A loss is a float32 sum of at most 4,000 terms, so another summation order (threads,
 * SIMD width) changes it by at most 4,000 * 2^-24 = 2.4e-4 of the sum of the terms' sizes. */
#include "data/io/file.h"
#include "data/lesions/demo_config.h"
#include "engine/backend.h"
#include "engine/base/log.h"
#include "tests/support/support_expected.h"
#include "train/demo/start_models.h"

#include <criterion/criterion.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOSS_TOLERANCE 2.4e-4

static char folder[] = "/tmp/mcs_demo_start_XXXXXX";

/* A file of the run, and its expected text. */
struct written {
    const char *file, *expected;
    double tolerance;
};

/* Runs `make` for two steps and checks the files that it wrote. */
static void check(enum mcs_status (*make)(const struct demo_start_options *), const struct written *files, int n_files)
{
    struct device d;
    char path[256], *text;
    int64_t n;
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
    omp_set_num_threads(2);
    cr_assert_eq(mcs_cpu_open(2, &d), MCS_OK);
    const struct demo_start_options o = {.out = folder,
                                         .config = "test: 1\n",
                                         .steps = 2,
                                         .batch = 3,
                                         .seed = 5,
                                         .checkpoint_every = 1,
                                         .lr = 0.001,
                                         .data = mcs_demo_config_default(),
                                         .device = &d};
    cr_assert_eq(make(&o), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < n_files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i].file);
        cr_assert_eq(mcs_file_read(path, 1 << 20, &text, &n), MCS_OK, "%s", mcs_error_message());
        for (char *p = text; *p; p++) /* each number becomes a separate word */
            if (strchr("{}[]:\"", *p)) *p = ' ';
        expected_check_within(files[i].expected, text, files[i].tolerance);
        free(text);
    }
    mcs_device_close(&d);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    cr_assert_eq(system(path), 0);
}

Test(demo_start, clip)
{
    static const struct written files[] = {{"metrics.jsonl", "demo_start_clip.txt", LOSS_TOLERANCE},
                                           {"model/open_clip_config.json", "demo_start_clip_config.txt", 0}};
    check(mcs_demo_start_clip, files, 2);
}

/* The evaluation has four decimals; its DSCs are a few hundredths. */
Test(demo_start, sam)
{
    static const struct written files[] = {{"metrics.jsonl", "demo_start_sam.txt", LOSS_TOLERANCE},
                                           {"evaluation.json", "demo_start_sam_dsc.txt", 0.01}};
    check(mcs_demo_start_sam, files, 2);
}
