/* Messages, progress and errors as they reach the terminal or a log: engine/log, engine/status and engine/stop. */
#define _GNU_SOURCE
#include "engine/base/log.h"
#include "engine/base/status.h"
#include "engine/base/stop.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* The monotonic clock of this program stands still where a test has set it. */
static int stands;
static double stands_at;

int clock_gettime(clockid_t clock, struct timespec *t)
{
    if (!stands || clock != CLOCK_MONOTONIC) return (int)syscall(SYS_clock_gettime, clock, t);
    t->tv_sec = (time_t)stands_at;
    t->tv_nsec = (long)(1e9 * (stands_at - (double)t->tv_sec));
    return 0;
}

/* ---- standard error, caught in a file or on a terminal ---- */

static int saved = -1, caught = -1;

static void catch_begin(int fd)
{
    fflush(stderr);
    saved = dup(2);
    caught = fd;
    cr_assert(saved >= 0 && caught >= 0 && dup2(caught, 2) == 2);
}

static void catch_file(void)
{
    FILE *f = tmpfile();
    cr_assert(f);
    catch_begin(dup(fileno(f)));
    fclose(f);
}

static const char *catch_end(void)
{
    static char text[1 << 16];
    fflush(stderr);
    dup2(saved, 2);
    close(saved);
    const ssize_t n = pread(caught, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    close(caught);
    return text;
}

static void reset(void)
{
    stands = 0;
    mcs_log_quiet(0);
    mcs_log_mute_here(0);
    mcs_error_clear();
    mcs_stop_reset();
}
TestSuite(messages, .init = reset, .fini = reset);

Test(messages, what_is_printed)
{
    catch_file();
    mcs_log("loss %d%%", 5);
    mcs_warn("%s", "\x1b[2J");
    cr_expect_str_eq(catch_end(), "mcsam: loss 5%\nmcsam: warning: \\x1b[2J\n");
    mcs_log_quiet(1);
    catch_file();
    mcs_log("nothing");
    mcs_warn("odd");
    cr_expect_str_eq(catch_end(), "mcsam: warning: odd\n");
    mcs_log_quiet(0);
    mcs_log_mute_here(1);
    catch_file();
    mcs_log("nothing");
    mcs_warn("nothing");
    cr_expect_str_eq(catch_end(), "");
    mcs_log_mute_here(0);
    catch_file();
    mcs_log("again");
    cr_expect_str_eq(catch_end(), "mcsam: again\n");
}

static void *say(void *unused)
{
    mcs_log("from another thread");
    return NULL;
}

Test(messages, muted_in_one_thread)
{
    pthread_t thread;
    mcs_log_mute_here(1);
    catch_file();
    cr_assert_eq(pthread_create(&thread, NULL, say, NULL), 0);
    pthread_join(thread, NULL);
    cr_expect_str_eq(catch_end(), "mcsam: from another thread\n");
}

static const char *end_after(double seconds)
{
    struct mcs_progress p;
    stands = 1;
    stands_at = 1000;
    mcs_progress_start(&p, "finetune", "step", 100);
    p.done = 7;
    snprintf(p.note, sizeof p.note, "loss 1.5");
    stands_at = 1000 + seconds;
    catch_file();
    mcs_progress_end(&p);
    return catch_end();
}

Test(messages, durations)
{
    cr_expect_str_eq(end_after(0), "finetune     7 step in 0.0 s  loss 1.5\n");
    cr_expect_str_eq(end_after(-5), "finetune     7 step in 0.0 s  loss 1.5\n");
    cr_expect_str_eq(end_after(0.5), "finetune     7 step in 0.5 s  loss 1.5\n");
    cr_expect_str_eq(end_after(59.5), "finetune     7 step in 59.5 s  loss 1.5\n");
    cr_expect_str_eq(end_after(60), "finetune     7 step in 1:00  loss 1.5\n");
    cr_expect_str_eq(end_after(125.25), "finetune     7 step in 2:05  loss 1.5\n");
    cr_expect_str_eq(end_after(3599), "finetune     7 step in 59:59  loss 1.5\n");
    cr_expect_str_eq(end_after(3600), "finetune     7 step in 1:00:00  loss 1.5\n");
    cr_expect_str_eq(end_after(7384), "finetune     7 step in 2:03:04  loss 1.5\n");
    mcs_log_quiet(1);
    cr_expect_str_eq(end_after(1), "");
    mcs_log_quiet(0);
    mcs_log_mute_here(1);
    cr_expect_str_eq(end_after(1), "");
}

/* In a file, a line every 5 s; the remaining time by the rate so far. */
Test(messages, progress_in_a_file)
{
    struct mcs_progress p;
    stands = 1;
    stands_at = 50;
    mcs_progress_start(&p, "train", "steps", 200);
    cr_expect_eq(p.total, 200);
    cr_expect_eq(p.done, 0);
    cr_expect_eq(p.note[0], '\0');
    catch_file();
    stands_at = 54.5;
    mcs_progress_set(&p, 20);
    stands_at = 55;
    snprintf(p.note, sizeof p.note, "loss 2");
    mcs_progress_set(&p, 40);
    stands_at = 59.5;
    mcs_progress_set(&p, 60);
    stands_at = 60;
    mcs_progress_set(&p, 80);
    mcs_progress_set(&p, 81);
    cr_expect_eq(p.done, 81);
    stands_at = 4000;
    p.started = 3992;
    mcs_progress_set(&p, 0);
    stands_at = 4008;
    mcs_progress_set(&p, 8);
    cr_expect_str_eq(catch_end(), "train        40/200 steps  8.0/s  20.0 s left  loss 2\n"
                                  "train        80/200 steps  8.0/s  15.0 s left  loss 2\n"
                                  "train        0/200 steps  0.0/s  ? left  loss 2\n"
                                  "train        8/200 steps  0.5/s  6:24 left  loss 2\n");
    mcs_log_quiet(1);
    catch_file();
    stands_at = 8000;
    mcs_progress_set(&p, 90);
    mcs_log_quiet(0);
    mcs_log_mute_here(1);
    mcs_progress_set(&p, 91);
    cr_expect_str_eq(catch_end(), "");
    cr_expect_eq(p.done, 91);
}

/* On a terminal, one bar that is redrawn at most five times a second. */
Test(messages, progress_on_a_terminal)
{
    struct mcs_progress p;
    const int master = posix_openpt(O_RDWR | O_NOCTTY);
    char name[64] = "", text[4096] = "";
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0 || ptsname_r(master, name, sizeof name) != 0)
        cr_skip_test("no terminal can be opened here");
    const int terminal = open(name, O_RDWR | O_NOCTTY);
    cr_assert(terminal >= 0);
    stands = 1;
    stands_at = 100;
    mcs_progress_start(&p, "sam", "images", 48);
    catch_begin(terminal);
    stands_at = 100.125;
    mcs_progress_set(&p, 6);
    stands_at = 100.5;
    mcs_progress_set(&p, 12);
    stands_at = 102;
    mcs_progress_set(&p, 48);
    p.total = 0;
    stands_at = 103;
    mcs_progress_set(&p, 48);
    stands_at = 104;
    mcs_progress_end(&p);
    fflush(stderr);
    dup2(saved, 2);
    ssize_t n = 0, got;
    const char want[] = "\rsam          [######..................] 12/48 images  24.0/s  1.5 s left  \033[K"
                        "\rsam          [########################] 48/48 images  24.0/s  0.0 s left  \033[K"
                        "\rsam          [........................] 48/0 images  16.0/s  0.0 s left  \033[K"
                        "\rsam          48 images in 4.0 s  \033[K\r\n";
    while (n < (ssize_t)sizeof want - 1 && (got = read(master, text + n, sizeof text - 1 - (size_t)n)) > 0) n += got;
    cr_expect_str_eq(text, want);
    close(terminal);
    close(master);
    close(saved);
}

Test(messages, seconds_of_the_clock)
{
    stands = 1;
    stands_at = 12.25;
    cr_expect_eq(mcs_seconds(), 12.25);
}

/* ---- errors ---- */

static enum mcs_status inner(void)
{
    return MCS_FAIL(MCS_E_DATA, "a.nii: bad %d", 7);
}

static enum mcs_status outer(void)
{
    MCS_TRY(inner());
    return MCS_OK;
}

Test(messages, the_first_error_is_kept)
{
    cr_expect_str_eq(mcs_error_message(), "");
    mcs_error_add("; nothing to add to");
    cr_expect_str_eq(mcs_error_message(), "");
    cr_expect_eq(outer(), MCS_E_DATA);
    cr_expect_str_eq(mcs_error_message(), "a.nii: bad 7");
    const char *trace = mcs_error_trace();
    cr_expect(strstr(trace, "test_messages.c:") && strstr(trace, " < "), "%s", trace);
    const size_t once = strlen(trace);
    cr_expect_eq(MCS_FAIL(MCS_E_IO, "later"), MCS_E_IO);
    cr_expect_str_eq(mcs_error_message(), "a.nii: bad 7", "the first one stays");
    cr_expect_gt(strlen(mcs_error_trace()), once, "the trace goes on");
    mcs_error_add("; in %s", "case\t1");
    cr_expect_str_eq(mcs_error_message(), "a.nii: bad 7; in case\\x091");
    mcs_error_clear();
    cr_expect_str_eq(mcs_error_message(), "");
    cr_expect_str_eq(mcs_error_trace(), "");
    cr_expect_eq(MCS_FAIL(MCS_E_IO, "later"), MCS_E_IO);
    cr_expect_str_eq(mcs_error_message(), "later");
    cr_expect_not(strstr(mcs_error_trace(), "<"));
}

Test(messages, exit_codes)
{
    static const struct {
        enum mcs_status st;
        int code;
        const char *text;
    } cases[] = {{MCS_OK, 0, "done"},
                 {MCS_E_FAIL, 1, "failed"},
                 {MCS_E_USAGE, 2, "wrong use"},
                 {MCS_E_PARTIAL, 3, "done, but some cases failed"},
                 {MCS_E_DATA, 65, "bad data"},
                 {MCS_E_NOINPUT, 66, "missing input"},
                 {MCS_E_DEVICE, 69, "no such device"},
                 {MCS_E_IO, 74, "input/output error"},
                 {MCS_E_STOPPED, 75, "stopped early, a valid checkpoint was written"},
                 {MCS_E_SHAPE, 1, "shapes do not fit"},
                 {MCS_E_NOMEM, 1, "out of memory"},
                 {MCS_E_BACKEND, 1, "a compute library refused"},
                 {(enum mcs_status)100, 100, "unknown status"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect_eq(mcs_exit_code(cases[i].st), cases[i].code, "%s", cases[i].text);
        cr_expect_str_eq(mcs_status_text(cases[i].st), cases[i].text);
    }
}

Test(messages, a_request_to_stop)
{
    cr_expect_eq(mcs_stop_requested(), 0);
    cr_expect_eq(mcs_stop_check(), MCS_OK);
    mcs_stop_request();
    cr_expect(mcs_stop_requested());
    cr_expect_eq(mcs_stop_check(), MCS_E_STOPPED);
    cr_expect(strstr(mcs_error_message(), "run the same command again"));
    mcs_stop_reset();
    mcs_error_clear();
    cr_expect_eq(mcs_stop_check(), MCS_OK);
}
