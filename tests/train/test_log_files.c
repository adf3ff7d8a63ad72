/* train/run_log: a link or pipe in place of a log is not written through. */
#include "data/io/file.h"
#include "tests/support/support_tiny.h"
#include "train/run/run_log.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void holds(const char *path, const char *want)
{
    char *text;
    int64_t n;
    cr_assert_eq(mcs_file_read(path, 1 << 20, &text, &n), MCS_OK, "%s", mcs_error_message());
    cr_expect_str_eq(text, want, "%s holds %s", path, text);
    free(text);
}

/* A symbolic link keeps its target unchanged, a pipe does not make the run wait. */
Test(log_files, links_and_pipes_are_refused)
{
    static const char *const names[] = {"metrics.jsonl", "events.out.tfevents.mcsam"};
    const char *folder = tiny_folder("log_files");
    char target[256], path[256];
    snprintf(target, sizeof target, "%s", tiny_path(folder, "precious"));
    for (int i = 0; i < 2; i++)
        for (int resumed = -1; resumed < 2; resumed += 2)
            for (int kind = 0; kind < 3; kind++) {
                struct run_log log;
                if (i == 0 && kind == 0 && resumed >= 0) continue; /* the old log is moved away, a link too */
                snprintf(path, sizeof path, "%s", tiny_path(folder, names[i]));
                cr_assert_eq(mcs_file_write(target, "{}\n", 3), MCS_OK);
                unlink(path);
                if (kind == 0) cr_assert_eq(symlink(target, path), 0);
                if (kind == 1) cr_assert_eq(symlink("nowhere", path), 0);
                if (kind == 2) cr_assert_eq(mkfifo(path, 0600), 0);
                cr_expect_eq(mcs_run_log_open(&log, folder, resumed), MCS_E_IO, "%s, kind %d", names[i], kind);
                cr_expect(strstr(mcs_error_message(), path), "%s", mcs_error_message());
                mcs_error_clear();
                mcs_run_log_close(&log);
                holds(target, "{}\n");
                cr_expect_not(mcs_file_exists(tiny_path(folder, "nowhere")));
                unlink(path);
            }
}

/* An older log of the same name is emptied. */
Test(log_files, an_older_log_is_replaced)
{
    const char *folder = tiny_folder("log_files_old");
    char path[256];
    struct run_log log;
    snprintf(path, sizeof path, "%s", tiny_path(folder, "metrics.jsonl"));
    cr_assert_eq(mcs_file_write(path, "a line that is much longer than the next log\n", 45), MCS_OK);
    cr_assert_eq(mcs_run_log_open(&log, folder, -1), MCS_OK, "%s", mcs_error_message());
    mcs_run_log_begin(&log, 3);
    mcs_run_log_value(&log, "loss", 1.5);
    cr_assert_eq(mcs_run_log_end(&log), MCS_OK);
    mcs_run_log_close(&log);
    holds(path, "{\"step\": 3, \"loss\": 1.5}\n");
}
