/* The cyclic schedule against tables computed by hand from its definition in train/run/cycle.h. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "train/run/cycle.h"

static struct cycle_options release(int64_t epochs, int64_t cycles, double gamma)
{
    return (struct cycle_options){
        .form = MCS_RELEASE, .epochs = epochs, .iterations = 250, .cycles = cycles, .lr = 0.01, .gamma = gamma};
}

static struct cycle_options paper(int64_t epochs, int64_t iterations, int64_t cycles, int64_t checkpoints)
{
    return (struct cycle_options){.form = MCS_PAPER,
                                  .epochs = epochs,
                                  .iterations = iterations,
                                  .cycles = cycles,
                                  .checkpoints = checkpoints,
                                  .late = 0.2,
                                  .lr = 0.01};
}

Test(cycle, released_rate_hardly_falls)
{
    struct cycle_options o = release(600, 3, 0.5);
    cr_expect_float_eq(mcs_cycle_lr(&o, 0), 0.01, 1e-12);
    /* e 50: .01 (1 - 50/600)^.9 */
    cr_expect_float_eq(mcs_cycle_lr(&o, 50 * 250), 0.0092468, 5e-8);
    cr_expect_float_eq(mcs_cycle_lr(&o, 50 * 250 + 249), 0.0092468, 5e-8, "the rate changes by epoch alone");
    /* from e = int(.5 * 200) on it stays at .01 (1 - 100/600)^.9 = .00849 */
    for (int e = 100; e < 200; e++) cr_expect_float_eq(mcs_cycle_lr(&o, e * 250), 0.00849, 5e-6);
    cr_expect_float_eq(mcs_cycle_lr(&o, 200 * 250), 0.01, 1e-12, "a new cycle starts at the base rate");
    cr_expect_float_eq(mcs_cycle_lr(&o, 599 * 250), 0.00849, 5e-6);
    o = release(600, 3, 0.8);
    cr_expect_float_eq(mcs_cycle_lr(&o, 199 * 250), 0.0075643, 5e-8); /* (1 - 160/600)^.9 */
    o = release(1000, 1, 0.5); /* one cycle: nnU-Net's schedule, gamma is ignored */
    cr_expect_float_eq(mcs_cycle_lr(&o, 500 * 250), 0.01 * 0.5358867, 1e-9); /* .5^.9 */
    cr_expect_float_eq(mcs_cycle_lr(&o, 999 * 250), 0.01 * pow(0.001, 0.9), 1e-12);
}

/* The epochs after which a file with this prefix is written, as "89 90 ...". */
static const char *epochs_of(const struct cycle_options *o, const char *prefix, char *text, size_t bytes)
{
    struct cycle_checkpoint c[CYCLE_MAX_AT_ONCE];
    size_t used = 0;
    text[0] = '\0';
    for (int64_t step = 1; step <= o->epochs * o->iterations; step++) {
        const int n = mcs_cycle_checkpoints(o, step, c);
        for (int i = 0; i < n; i++) {
            if (strncmp(c[i].file, prefix, strlen(prefix)) != 0) continue;
            cr_expect_eq(step % o->iterations, 0, "a file in the middle of an epoch");
            cr_expect_eq(c[i].step, step);
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", used ? " " : "", c[i].file + strlen(prefix));
        }
    }
    return text;
}

Test(cycle, released_files)
{
    char text[4096], want[4096];
    struct cycle_options o = release(300, 3, 0.5);
    o.iterations = 2;
    size_t used = 0;
    for (int cycle = 0; cycle < 3; cycle++)
        for (int e = 89; e <= 98; e++)
            used += (size_t)snprintf(want + used, sizeof want - used, "%d.safetensors ", cycle * 100 + e);
    snprintf(want + used, sizeof want - used, "final.safetensors");
    cr_expect_str_eq(epochs_of(&o, "checkpoint_", text, sizeof text), want);
    /* .7 * 90 is 62.99.. in binary, cut to 62; linspace(62, 301, 7) = 62, 101.8, ...: n = 62 alone lies within a cycle
     */
    cr_expect_str_eq(epochs_of(&o, "e_checkpoint_", text, sizeof text),
                     "61.safetensors 161.safetensors 261.safetensors");
    o = release(600, 3, 0.5);
    o.iterations = 1;
    cr_expect_str_eq(epochs_of(&o, "e_checkpoint_", text, sizeof text), /* n = 133 */
                     "132.safetensors 332.safetensors 532.safetensors");
}

/* A single cycle includes most of the sparse rule's epochs: linspace(62, 101, 7) = 62, 68.5, 75, 81.5, 88, 94.5, 101.
 */
Test(cycle, released_files_of_a_single_cycle)
{
    static const struct {
        int step, index;
        const char *file;
    } want[] = {{62, 1, "e_checkpoint_61"},  {68, 2, "e_checkpoint_67"},   {75, 3, "e_checkpoint_74"},
                {81, 4, "e_checkpoint_80"},  {88, 5, "e_checkpoint_87"},   {90, 6, "checkpoint_89"},
                {91, 7, "checkpoint_90"},    {92, 8, "checkpoint_91"},     {93, 9, "checkpoint_92"},
                {94, 10, "e_checkpoint_93"}, {94, 11, "checkpoint_93"},    {95, 12, "checkpoint_94"},
                {96, 13, "checkpoint_95"},   {97, 14, "checkpoint_96"},    {98, 15, "checkpoint_97"},
                {99, 16, "checkpoint_98"},   {100, 17, "checkpoint_final"}};
    enum { N = sizeof want / sizeof *want };
    struct cycle_options o = release(100, 1, 0.5);
    struct cycle_checkpoint c[CYCLE_MAX_AT_ONCE];
    int found = 0;
    o.iterations = 1;
    for (int64_t step = -1; step < 103; step++)
        for (int i = 0, n = mcs_cycle_checkpoints(&o, step, c); i < n; i++, found++) {
            char file[64];
            cr_assert_lt(found, N);
            snprintf(file, sizeof file, "%s.safetensors", want[found].file);
            cr_expect_str_eq(c[i].file, file);
            cr_expect(c[i].cycle == 1 && c[i].index == want[found].index && c[i].step == want[found].step &&
                          c[i].step == step,
                      "%s: cycle %d, index %d, step %d", file, (int)c[i].cycle, (int)c[i].index, (int)c[i].step);
        }
    cr_expect_eq(found, N);
}

/* The index starts from 1 again in the second cycle. */
Test(cycle, released_files_are_counted_by_cycle)
{
    struct cycle_options o = release(200, 2, 0.5);
    struct cycle_checkpoint c[CYCLE_MAX_AT_ONCE];
    o.iterations = 3;
    cr_assert_eq(mcs_cycle_checkpoints(&o, 3 * 162, c), 1);
    cr_expect_str_eq(c[0].file, "e_checkpoint_161.safetensors");
    cr_expect(c[0].cycle == 2 && c[0].index == 1 && c[0].step == 486);
    cr_expect_eq(mcs_cycle_checkpoints(&o, 3 * 162 + 1, c), 0);
    cr_assert_eq(mcs_cycle_checkpoints(&o, 3 * 200, c), 1);
    cr_expect(c[0].cycle == 2 && c[0].step == 600 && !strcmp(c[0].file, "checkpoint_final.safetensors"));
}

Test(cycle, paper_restarts_within_each_cycle)
{
    struct cycle_options o = paper(3, 200, 3, 3);
    for (int cycle = 0; cycle < 3; cycle++) {
        cr_expect_float_eq(mcs_cycle_lr(&o, cycle * 200), 0.01, 1e-12);
        cr_expect_float_eq(mcs_cycle_lr(&o, cycle * 200 + 100), 0.01 * 0.5358867, 1e-9); /* .5^.9 */
        cr_expect_float_eq(mcs_cycle_lr(&o, cycle * 200 + 199), 0.01 * pow(1.0 / 200, 0.9), 1e-12);
    }
    o.restart_lr = 0.1; /* the method's source restarts higher than it starts */
    cr_expect_float_eq(mcs_cycle_lr(&o, 0), 0.01, 1e-12);
    cr_expect_float_eq(mcs_cycle_lr(&o, 200), 0.1, 1e-12);
    cr_expect_float_eq(mcs_cycle_lr(&o, 400), 0.1, 1e-12);
}

Test(cycle, paper_files_end_with_the_cycle)
{
    struct cycle_options o = paper(3, 200, 3, 3);
    struct cycle_checkpoint c[CYCLE_MAX_AT_ONCE];
    int found = 0;
    for (int64_t step = 1; step <= 600; step++) {
        if (!mcs_cycle_checkpoints(&o, step, c)) continue;
        const int64_t wanted[] = {160, 180, 200, 360, 380, 400, 560, 580, 600}; /* 80, 90, 100 % of each */
        char file[64];
        cr_assert_lt(found, 9);
        cr_expect_eq(step, wanted[found]);
        cr_expect_eq(c[0].cycle, found / 3 + 1);
        cr_expect_eq(c[0].index, found % 3 + 1);
        snprintf(file, sizeof file, "cycle_%d_checkpoint_%d.safetensors", found / 3 + 1, found % 3 + 1);
        cr_expect_str_eq(c[0].file, file);
        found++;
    }
    cr_expect_eq(found, 9);
    o = paper(1, 50, 1, 1);
    cr_expect_eq(mcs_cycle_checkpoints(&o, 50, c), 1, "a single checkpoint is the last state");
    cr_expect_eq(mcs_cycle_checkpoints(&o, 49, c), 0);
    cr_expect_eq(mcs_cycle_checkpoints(&o, 51, c), 0, "nothing beyond the end");
}

Test(cycle, impossible_options_are_refused)
{
    struct cycle_options o = paper(100, 10, 3, 3);
    cr_expect_eq(mcs_cycle_check(&o), MCS_E_USAGE, "100 epochs in 3 cycles");
    cr_expect(strstr(mcs_error_message(), "divide"), "%s", mcs_error_message());
    mcs_error_clear();
    o = paper(3, 10, 3, 5); /* the last .2 of 10 steps are 2, too few for 5 checkpoints */
    cr_expect_eq(mcs_cycle_check(&o), MCS_E_USAGE);
    mcs_error_clear();
    o = paper(3, 10, 3, 3);
    cr_expect_eq(mcs_cycle_check(&o), MCS_OK);
    o.checkpoints = 0;
    cr_expect_eq(mcs_cycle_check(&o), MCS_E_USAGE);
    mcs_error_clear();
    o = release(300, 3, 0.5);
    cr_expect_eq(mcs_cycle_check(&o), MCS_OK);
    o.lr = 0;
    cr_expect_eq(mcs_cycle_check(&o), MCS_E_USAGE);
    mcs_error_clear();
}

Test(cycle, limits_of_the_options)
{
    static const struct {
        struct cycle_options o;
        enum mcs_status want;
    } rows[] = {
        {{MCS_PAPER, 1, 1, 1, 1, 1, 1e-9, 0, 0}, MCS_OK},       {{MCS_PAPER, 0, 1, 1, 1, 1, 1, 0, 0}, MCS_E_USAGE},
        {{MCS_PAPER, 1, 0, 1, 1, 1, 1, 0, 0}, MCS_E_USAGE},     {{MCS_PAPER, 1, 1, 0, 1, 1, 1, 0, 0}, MCS_E_USAGE},
        {{MCS_PAPER, 1, 1, 1, 0, 1, 1, 0, 0}, MCS_E_USAGE},     {{MCS_PAPER, 2, 1, 2, 1, 1, 1, 0, 0}, MCS_OK},
        {{MCS_PAPER, 2, 1, 3, 1, 1, 1, 0, 0}, MCS_E_USAGE},     {{MCS_PAPER, 1, 1, 1, 1, 0, 1, 0, 0}, MCS_E_USAGE},
        {{MCS_PAPER, 1, 1, 1, 1, 1.001, 1, 0, 0}, MCS_E_USAGE}, {{MCS_PAPER, 1, 1, 1, 1, 0.001, 1, 0, 0}, MCS_OK},
        {{MCS_PAPER, 1, 1, 1, 1, 1, 0, 0, 0}, MCS_E_USAGE},     {{MCS_PAPER, 1, 1, 1, 1, 1, 1, -1e-9, 0}, MCS_E_USAGE},
        {{MCS_PAPER, 2, 4, 2, 3, 0.5, 1, 0, 0}, MCS_OK}, /* the last two of four steps, and the one before them */
        {{MCS_PAPER, 2, 4, 2, 4, 0.5, 1, 0, 0}, MCS_E_USAGE},   {{MCS_PAPER, 2, 4, 2, 2, 0.24, 1, 0, 0}, MCS_E_USAGE},
        {{MCS_RELEASE, 2, 4, 2, 0, 0, 1, 0, 0}, MCS_OK}, /* ignores checkpoints and late */
        {{MCS_RELEASE, 2, 4, 2, 0, 0, 1, -1, 0}, MCS_E_USAGE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_eq(mcs_cycle_check(&rows[i].o), rows[i].want, "row %d: %s", (int)i, mcs_error_message());
        mcs_error_clear();
    }
}
