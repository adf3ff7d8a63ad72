/* The suite's last line, counted from a log of ctest; a program that ran no test fails. */
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>

static const char one_good[] = "1/2 Testing: test_a\nOutput:\n"
                               "mcsam-test-skip: volume/scan: no scan here\n"
                               "mcsam-test-count: 3 passed, 0 failed, 1 skipped\nTest time = 1\nTest Passed.\n";

static void open_folder(void)
{
    shell_open("false", "");
    shell_write("good", one_good);
}

static void count(const char *log, int status, int code, const char *want)
{
    char line[512];
    shell_write("log", log);
    snprintf(line, sizeof line, "awk -v rc=%d -f %s/tests/count.awk good log", status, MCS_SOURCE_DIR);
    expect(line, code, want);
}

TestSuite(suite_count, .init = open_folder, .fini = shell_close);

Test(suite_count, skips_are_counted_and_explained)
{
    count("", 0, 0, "skipped: test_a: volume/scan: no scan here\n3 passed, 0 failed, 1 skipped\n");
    expect("awk -v rc=0 -v left_out='the simulation: no headers' -f \"$DEMO/../../tests/count.awk\" good", 0,
           "skipped: the simulation: no headers\n3 passed, 0 failed, 2 skipped\n");
}

Test(suite_count, a_program_that_dies_is_one_failure)
{
    count("2/2 Testing: test_b\nOutput:\nTest time = 1\nTest Failed.\n", 8, 1, "3 passed, 1 failed, 1 skipped\n");
    count("2/2 Testing: test_b\nOutput:\nmcsam-test-count: 7 passed, 0 failed, 0 skipped\nTest Failed.\n", 8, 1,
          "10 passed, 1 failed, 1 skipped\n"); /* crashed after its count */
    count("2/3 Testing: test_b\nOutput:\nTest Failed.\n"
          "3/3 Testing: test_c\nOutput:\nmcsam-test-count: 7 passed, 0 failed, 0 skipped\nTest Failed.\n",
          8, 1, "10 passed, 2 failed, 1 skipped\n");
    count("2/2 Testing: test_b\nOutput:\nmcsam-test-count: 5 passed, 2 failed, 0 skipped\nTest Failed.\n", 8, 1,
          "8 passed, 2 failed, 1 skipped\n");
    count("2/2 Testing: test_b\nOutput:\n", 8, 1, "3 passed, 1 failed, 1 skipped\n"); /* stopped */
    count("", 8, 1, "3 passed, 1 failed, 1 skipped\n"); /* ctest failed in a way that its log does not show */
}

Test(suite_count, other_programs_and_leaks)
{
    count("2/2 Testing: mutants_sample\nOutput:\n40 of 40 mutants caught\nTest Passed.\n", 0, 0,
          "4 passed, 0 failed, 1 skipped\n");
    count("2/2 Testing: test_b\nOutput:\n==7==ERROR: LeakSanitizer: detected memory leaks\n"
          "mcsam-test-count: 5 passed, 0 failed, 0 skipped\nTest Failed.\n",
          8, 1, "7 passed, 1 failed, 1 skipped\n");
}

Test(suite_count, nothing_ran_is_a_failure)
{
    expect("awk -v rc=0 -f \"$DEMO/../../tests/count.awk\" /dev/null", 1,
           "no test ran\n0 passed, 1 failed, 0 skipped\n");
    /* env -i: otherwise the Criterion program finds this test's runner in its environment. */
    expect("env -i " MCS_BUILD "/test_rng --filter no/such", 1, "no test ran: the filter matches none");
    expect("env -i " MCS_BUILD "/test_rng --filter 'rng/*'", 0, " 0 failed, 0 skipped\n");
}
