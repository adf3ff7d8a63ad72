#include "train/demo_run.h"

#include "data/file.h"
#include "engine/devices.h"
#include "engine/log.h"
#include "infer/report.h"
#include "infer/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void run_close(struct demo_run *run)
{
    for (int i = 0; run->segmented && i < run->test.n; i++) mcs_segment_case_free(&run->segmented[i]);
    free(run->segmented);
    mcs_demo_set_free(&run->train);
    mcs_demo_set_free(&run->test);
    mcs_demo_set_free(&run->two);
    mcs_demo_set_free(&run->none);
    for (int s = 0; s < DEMO_STAGES; s++) mcs_demo_score_free(&run->r.stage[s]);
    if (run->clip.params) mcs_clip_model_close(&run->clip);
    if (run->sam.params) mcs_sam_model_close(&run->sam);
    mcs_device_close(&run->device);
    mcs_demo_atlas_free(&run->atlas);
    mcs_arena_free(&run->arena);
}

static enum mcs_status run_open(struct demo_run *run)
{
    const struct demo_options *o = run->o;
    char path[1200];
    MCS_REQUIRE(o->finetune_batch <= o->train_images, MCS_E_USAGE, "--train-images %lld is less than one batch of %lld",
                (long long)o->train_images, (long long)o->finetune_batch);
    MCS_TRY(mcs_device_open(&o->common, &run->device));
    MCS_TRY(mcs_clip_model_open(o->clip, &run->device, &run->clip));
    MCS_TRY(mcs_sam_model_open(o->sam, &run->device, &run->sam));
    memcpy(run->r.clip_sha256, run->clip.sha256, sizeof run->r.clip_sha256);
    memcpy(run->r.sam_sha256, run->sam.sha256, sizeof run->r.sam_sha256);
    MCS_TRY(mcs_folder_make(o->output));
    snprintf(path, sizeof path, "%s/config.yaml", o->output);
    return mcs_config_save(path, o);
}

enum mcs_status mcs_demo_run(const struct demo_options *o)
{
    static const struct {
        const char *name;
        enum mcs_status (*run)(struct demo_run *);
    } stages[] = {
        {"data", mcs_demo_make_data},
        {"baselines", mcs_demo_baselines},
        {"saliency before", mcs_demo_saliency_before},
        {"fine-tuning", mcs_demo_finetune},
        {"zero-shot", mcs_demo_zero_shot},
        {"controls", mcs_demo_control},
        {"pseudo-labels", mcs_demo_labels},
        {"network", mcs_demo_network},
    };
    struct demo_run run = {.o = o};
    char path[1200];
    const double started = mcs_seconds();
    enum mcs_status st;
    MCS_TRY_GOTO(run_open(&run), st, done);
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        const double at = mcs_seconds();
        MCS_TRY_GOTO(stages[i].run(&run), st, done);
        run.r.time[run.r.n_times].name = stages[i].name;
        run.r.time[run.r.n_times++].seconds = mcs_seconds() - at;
    }
    MCS_TRY_GOTO(mcs_demo_write_results(&run, mcs_seconds() - started), st, done);
    snprintf(path, sizeof path, "%s/report.html", o->output);
    MCS_TRY_GOTO(mcs_report_write(o->output, path), st, done);
    mcs_log("%s: the report; look at it in a browser", path);
done:
    run_close(&run);
    return st;
}
