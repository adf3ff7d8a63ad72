/* A run whose options are complete only when a thread has the weights' hash. */
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct mcs_command command = {.verb = "testverb", .options = "threshold: 0.5\n"};
static const struct run_source source = {.texts = (const char *const[]){"a", NULL}};

/* The weights' hash as it becomes known: counts how often it is asked for. */
struct late {
    int asked;
    const char *lines;
};
static enum mcs_status late_lines(void *context, struct arena *a, const char **lines)
{
    struct late *late = context;
    late->asked++;
    MCS_REQUIRE(late->lines, MCS_E_IO, "the weights cannot be read");
    *lines = mcs_arena_strdup(a, late->lines);
    return MCS_OK;
}

static struct run_folder *open_late(const char *folder, struct late *late)
{
    struct run_folder *run;
    cr_assert_eq(mcs_run_open_late(&command, folder, (struct run_more){late_lines, late}, &run), MCS_OK, "%s",
                 mcs_error_message());
    return run;
}

static enum mcs_status add(struct run_folder *run, const char *folder, const char *stem)
{
    const char *file = tiny_path(folder, "%s.txt", stem), *names[] = {strrchr(file, '/') + 1, NULL};
    cr_assert_eq(mcs_file_write(file, stem, (int64_t)strlen(stem)), MCS_OK, "%s", mcs_error_message());
    return mcs_run_case_add(run, stem, &source, names, json_true());
}

Test(run_late, options_are_asked_for_by_the_first_case_of_an_empty_record)
{
    const char *folder = tiny_folder("run");
    struct late late = {0, "weights: w1\n"};
    struct run_folder *run = open_late(folder, &late);
    cr_expect(!mcs_run_case_done(run, "a", &source, NULL));
    cr_expect_eq(late.asked, 0);
    cr_expect_eq(add(run, folder, "a"), MCS_OK);
    cr_expect_eq(add(run, folder, "b"), MCS_OK);
    cr_expect_eq(late.asked, 1);
    cr_expect_eq(mcs_run_close(run, MCS_OK), MCS_OK);
    cr_assert_eq(mcs_run_open(&command, folder, "weights: w1\n", &run), MCS_OK);
    cr_expect(mcs_run_case_done(run, "a", &source, NULL), "as if they had been known at once");
    mcs_run_close(run, MCS_OK);
    tiny_remove(folder);
}

Test(run_late, options_are_asked_for_at_once_where_the_record_has_cases)
{
    const char *folder = tiny_folder("run");
    struct late first = {0, "weights: w1\n"}, second = {0, "weights: w2\n"}, fails = {0};
    struct run_folder *run = open_late(folder, &first);
    cr_expect_eq(add(run, folder, "a"), MCS_OK);
    cr_expect_eq(mcs_run_close(run, MCS_OK), MCS_OK);
    run = open_late(folder, &second);
    cr_expect_eq(second.asked, 1);
    cr_expect(!mcs_run_case_done(run, "a", &source, NULL), "other weights");
    mcs_run_close(run, MCS_E_STOPPED);
    cr_expect_eq(mcs_run_open_late(&command, folder, (struct run_more){late_lines, &fails}, &run), MCS_E_IO);
    run = open_late(folder, &first);
    cr_expect(mcs_run_case_done(run, "a", &source, NULL), "the same weights, and nothing was lost");
    mcs_run_close(run, MCS_OK);
    tiny_remove(folder);
}

Test(run_late, no_case_is_recorded_without_options)
{
    const char *folder = tiny_folder("run");
    struct late fails = {0};
    struct run_folder *run = open_late(folder, &fails);
    cr_expect_eq(add(run, folder, "a"), MCS_E_IO);
    cr_expect_eq(mcs_run_close(run, MCS_OK), MCS_OK);
    cr_expect(!mcs_file_exists(tiny_path(folder, ".mcsam.record")));
    tiny_remove(folder);
}
