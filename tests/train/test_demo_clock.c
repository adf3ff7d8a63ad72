/* The demo's clock: the times of a demo's runs are summed, however each of them ended. */
#include "data/io/file.h"
#include "tests/support/support_tiny.h"
#include "train/demo/demo_clock.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const names[] = {"data", "training", "network"};

/* Writes the file of a run that was killed `after` seconds after writing it. */
static void leave(const char *folder, double seconds, double training, const char *stage, int after)
{
    const char *path = tiny_path(folder, ".mcsam.seconds");
    char text[400];
    const long written = 1700000000;
    const int n = snprintf(text, sizeof text,
                           "{\"seconds\": %.3f, \"stages\": {\"data\": 2.0, \"training\": %.3f}, \"written\": %ld.0, "
                           "\"stage\": \"%s\"}",
                           seconds, training, written, stage);
    const struct timespec times[2] = {{written + after, 0}, {written + after, 0}};
    cr_assert_eq(mcs_file_write(path, text, n), MCS_OK);
    cr_assert_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void expect_clock(const char *folder, double total, double data, double training, double network)
{
    const double most = 600; /* upper bound of this test's duration in seconds */
    struct demo_clock c;
    cr_assert_eq(mcs_demo_clock_open(&c, folder, names, 3), MCS_OK, "%s", mcs_error_message());
    const double got = mcs_demo_clock_total(&c);
    cr_expect(got >= total && got < total + most, "total %g, want %g", got, total);
    const double want[3] = {data, training, network};
    for (int i = 0; i < 3; i++) cr_expect_eq(c.stage[i].seconds, want[i], "%s: %g", names[i], c.stage[i].seconds);
    mcs_demo_clock_close(&c);
}

Test(demo_clock, parts_add_up)
{
    const char *folder = tiny_folder("clock");
    struct demo_clock c;
    expect_clock(folder, 0, 0, 0, 0);
    remove(tiny_path(folder, ".mcsam.seconds"));
    leave(folder, 100, 40, "training", 1000); /* killed during training */
    expect_clock(folder, 1100, 2, 1040, 0);
    expect_clock(folder, 1100, 2, 1040, 0); /* the run before was closed: nothing is counted twice */
    leave(folder, 100, 40, "", 1000);       /* a finished run; the time since then does not count */
    expect_clock(folder, 100, 2, 40, 0);
    leave(folder, 100, 40, "training", -1000); /* the machine's clock was set back */
    expect_clock(folder, 100, 2, 40, 0);
    leave(folder, 100, 40, "another", 1000);
    expect_clock(folder, 1100, 2, 40, 0);
    cr_assert_eq(mcs_file_write(tiny_path(folder, ".mcsam.seconds"), "{\"sec", 5), MCS_OK);
    expect_clock(folder, 0, 0, 0, 0);

    /* Stages of this run, read again by the next one. */
    leave(folder, 100, 40, "", 0);
    cr_assert_eq(mcs_demo_clock_open(&c, folder, names, 3), MCS_OK);
    for (int i = 0; i < 3; i++) cr_assert_eq(mcs_demo_clock_stage(&c, i), MCS_OK);
    cr_assert_eq(mcs_demo_clock_stage(&c, -1), MCS_OK);
    const double training = c.stage[1].seconds, network = c.stage[2].seconds, total = mcs_demo_clock_total(&c);
    cr_expect(training > 40 && network > 0);
    mcs_demo_clock_close(&c);
    cr_assert_eq(mcs_demo_clock_open(&c, folder, names, 3), MCS_OK);
    cr_expect_eq(c.stage[1].seconds, training);
    cr_expect_eq(c.stage[2].seconds, network);
    cr_expect(mcs_demo_clock_total(&c) >= total);
    mcs_demo_clock_close(&c);
    tiny_remove(folder);
}
