/* Linked into every Criterion program: prints the number of tests and the reasons of skipped ones in lines that ./run
 * reads.
 *
 *     mcsam-test-skip: volume/a_real_scan: /usr/share/... is not installed
 *     mcsam-test-count: 11 passed, 0 failed, 1 skipped
 *
 * A program that ran no test fails, since a --filter that matches nothing would otherwise pass. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stdio.h>

#ifdef MCS_SANITIZE
/* Tests run in child processes. Leak checks are off in the runner, whose memory is Criterion's and sometimes leaks 48
 * bytes. LeakSanitizer calls the function at exit. */
static int is_runner;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return is_runner;
}

ReportHook(PRE_ALL)(struct criterion_test_set *tests)
{
    is_runner = 1;
}
#endif

static size_t n_skipped; /* stats->tests_skipped also counts the tests excluded by --filter */

ReportHook(POST_TEST)(struct criterion_test_stats *stats)
{
    if (stats->test_status != CR_STATUS_SKIPPED) return;
    n_skipped++;
    fprintf(stderr, "mcsam-test-skip: %s/%s: %s\n", stats->test->category, stats->test->name,
            stats->message ? stats->message : "no reason given");
}

ReportHook(POST_ALL)(struct criterion_global_stats *stats)
{
    if (stats->tests_passed + stats->tests_failed + n_skipped == 0) {
        fprintf(stderr, "no test ran: the filter matches none (--list shows the names)\n");
        stats->tests_failed++; /* the exit status */
    }
    fprintf(stderr, "mcsam-test-count: %zu passed, %zu failed, %zu skipped\n", stats->tests_passed, stats->tests_failed,
            n_skipped);
}
