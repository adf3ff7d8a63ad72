#include "train/demo/demo_run.h"

#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/devices.h"
#include "infer/report/report.h"
#include "infer/weights.h"
#include "train/demo/demo_clock.h"
#include "train/run/checkpoint.h"
#include "train/run/training_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_close(struct demo_run *run)
{
    struct demo_set *const sets[] = {&run->train,      &run->test,           &run->two, &run->none, &run->unseen,
                                     &run->validation, &run->validation_none};
    mcs_demo_free_cases(run->segmented, run->test.n);
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) mcs_demo_set_free(sets[i]);
    for (int s = 0; s < DEMO_STAGES; s++) mcs_demo_score_free(&run->r.stage[s]);
    if (run->clip.params) mcs_clip_model_close(&run->clip);
    if (run->sam.params) mcs_sam_model_close(&run->sam);
    mcs_device_close(&run->device);
    mcs_demo_atlas_free(&run->atlas);
    mcs_arena_free(&run->arena);
}

/* Checks that the folders that a demo writes do not overlap with its inputs. */
static enum mcs_status check_paths(const struct demo_options *o)
{
    static const char *const below[] = {"",         "/data",   "/finetune", "/finetune/model",
                                        "/network", "/labels", "/stages",   "/ceiling"};
    enum { N = sizeof below / sizeof *below };
    struct run_output out[N];
    const struct run_input in[] = {{"--clip", o->clip, NULL}, {"--sam", o->sam, NULL}, {"--atlas", o->atlas, ""}};
    struct arena a = {0};
    for (int i = 0; i < N; i++) out[i] = (struct run_output){mcs_arena_printf(&a, "%s%s", o->output, below[i]), "*"};
    const enum mcs_status st = mcs_run_check_paths(&o->command, out, N, in, 3);
    mcs_arena_free(&a);
    return st;
}

/* Sets run->config and checks, before anything is written, that existing checkpoints are of runs with these options. */
static enum mcs_status check_checkpoints(struct demo_run *run)
{
    static const char *const trainings[] = {"finetune", "network", "ceiling"};
    struct arena *a = &run->arena;
    run->config = mcs_arena_printf(
        a, "%s%s%s%s", run->o->command.options, mcs_training_weights_line("clip", run->clip.sha256, a),
        mcs_training_weights_line("sam", run->sam.sha256, a), mcs_training_atlas_lines(&run->atlas, a));
    MCS_TRY(mcs_arena_status(a));
    for (int i = 0; i < 3; i++)
        MCS_TRY(mcs_checkpoint_check(mcs_arena_printf(a, "%s/%s/checkpoint.h5", run->o->output, trainings[i]),
                                     run->config));
    return MCS_OK;
}

static enum mcs_status run_open(struct demo_run *run, struct run_folder *folder)
{
    const struct demo_options *o = run->o;
    MCS_REQUIRE(o->finetune_batch <= o->train_images, MCS_E_USAGE, "--train-images %lld is less than one batch of %lld",
                (long long)o->train_images, (long long)o->finetune_batch);
    MCS_TRY(mcs_device_open(&o->device, &run->device));
    MCS_TRY(mcs_clip_model_open(o->clip, &run->device, &run->clip));
    MCS_TRY(mcs_sam_model_open(o->sam, &run->device, &run->sam));
    memcpy(run->r.clip_sha256, run->clip.sha256, sizeof run->r.clip_sha256);
    memcpy(run->r.sam_sha256, run->sam.sha256, sizeof run->r.sam_sha256);
    MCS_TRY(mcs_demo_atlas_load(o->atlas, &run->atlas));
    MCS_TRY(check_checkpoints(run));
    return mcs_run_save_config(folder);
}

struct stage {
    const char *name;
    enum mcs_status (*run)(struct demo_run *);
};
static const struct stage stages[] = {
    {"data", mcs_demo_make_data},         {"saliency before", mcs_demo_saliency_before},
    {"fine-tuning", mcs_demo_finetune},   {"zero-shot", mcs_demo_zero_shot},
    {"prompts", mcs_demo_prompts},        {"baselines", mcs_demo_baselines},
    {"healthy images", mcs_demo_healthy}, {"pseudo-labels", mcs_demo_labels},
    {"network", mcs_demo_network}};
enum { N_STAGES = sizeof stages / sizeof *stages };
/* With --choose. */
static const struct stage choosing[] = {
    {"data", mcs_demo_make_data}, {"fine-tuning", mcs_demo_finetune}, {"choices", mcs_demo_choose}};
enum { N_CHOOSING = sizeof choosing / sizeof *choosing };

/* Runs all stages and stores their times, which include those of earlier runs of this demo. */
static enum mcs_status run_stages(struct demo_run *run, const struct stage *s, int n, struct demo_clock *clock)
{
    const char *names[DEMO_MAX_TIMES];
    for (int i = 0; i < n; i++) names[i] = s[i].name;
    MCS_TRY(mcs_demo_clock_open(clock, run->o->output, names, n));
    for (int i = 0; i < n; i++) {
        MCS_TRY(mcs_stop_check());
        MCS_TRY(mcs_demo_clock_stage(clock, i));
        MCS_TRY(s[i].run(run));
    }
    MCS_TRY(mcs_demo_clock_stage(clock, -1));
    for (int i = 0; i < n; i++) {
        run->r.time[run->r.n_times].name = s[i].name;
        run->r.time[run->r.n_times++].seconds = clock->stage[i].seconds;
    }
    return MCS_OK;
}

enum mcs_status mcs_demo_run(const struct demo_options *o)
{
    struct demo_run run = {.o = o};
    struct demo_clock clock = {.running = -1};
    struct run_folder *folder = NULL;
    char path[MCS_PATH_BYTES];
    enum mcs_status st;
    MCS_TRY_GOTO(check_paths(o), st, done);
    MCS_TRY_GOTO(mcs_run_open(&o->command, o->output, NULL, &folder), st, done);
    MCS_TRY_GOTO(run_open(&run, folder), st, done);
    if (o->choose) {
        st = run_stages(&run, choosing, N_CHOOSING, &clock);
        goto done;
    }
    MCS_TRY_GOTO(run_stages(&run, stages, N_STAGES, &clock), st, done);
    MCS_TRY_GOTO(mcs_demo_write_results(&run, mcs_demo_clock_total(&clock)), st, done);
    MCS_TRY_GOTO(mcs_path(path, "%s/report.html", o->output), st, done);
    MCS_TRY_GOTO(mcs_report_write(o->output, path), st, done);
    mcs_log("%s: the report; look at it in a browser", path);
done:
    mcs_demo_clock_close(&clock);
    run_close(&run);
    return mcs_run_close(folder, st);
}
