/* mcsam predict: masks predicted by the checkpoints of a training run. */
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "infer/unet/predict.h"

#include <stdio.h>

struct predict_command {
    struct mcs_common common;
    const char *input, *output, *model, *checkpoints;
    int64_t batch;
    double step_size, threshold;
    int disable_tta, save_probabilities, uncertainty, continue_prediction;
};

static const struct mcs_option options[] = {
    {"input", 'i', MCS_FIELD(predict_command, input), .value = "DIR", .required = 1, .help = "PNG, JPEG or NIfTI"},
    {"output", 'o', MCS_FIELD(predict_command, output), .value = "DIR", .required = 1,
     .help = "STEM.png (0 and 255), or STEM.nii.gz with the input's geometry"},
    {"model", 'm', MCS_FIELD(predict_command, model), .value = "RUN", .required = 1,
     .help = "folder of a training run"},
    {"checkpoints", 0, MCS_FIELD(predict_command, checkpoints), .def = "all", .value = "WORDS",
     .help = "all, last-cycle or last; of several with commas the first is written to -o, the others to folders in it"},
    {"step-size", 0, MCS_FIELD(predict_command, step_size), .def = "0.5", .lo = 0.01, .hi = 1, .value = "SHARE",
     .help = "distance of windows as a share of their size"},
    {"disable-tta", 0, MCS_FIELD(predict_command, disable_tta), .help = "no mirrored windows: a quarter of the time"},
    {"threshold", 0, MCS_FIELD(predict_command, threshold), .def = "0", .lo = 0, .hi = 1, .value = "P",
     .help = "foreground has a probability above P; 0: above the background's"},
    {"save-probabilities", 0, MCS_FIELD(predict_command, save_probabilities), .help = "also STEM.h5, for ensemble"},
    {"uncertainty", 0, MCS_FIELD(predict_command, uncertainty),
     .help = "also DIR/uncertainty: entropy maps and scores"},
    {"continue-prediction", 0, MCS_FIELD(predict_command, continue_prediction), .help = "masks that exist are kept"},
    {"batch", 'b', MCS_FIELD(predict_command, batch), .alias = "batch-size", .def = "8", .lo = 1, .hi = 1024,
     .value = "N", .help = "windows at once"},
    {0},
};

static enum mcs_status run(const void *command)
{
    const struct predict_command *c = command;
    struct predict_options o = mcs_predict_defaults();
    struct device d = {0};
    int n = 0;
    o.sliding = (struct sliding_options){.step = c->step_size, .mirror = !c->disable_tta, .batch = c->batch};
    o.threshold = c->threshold;
    o.save_probabilities = c->save_probabilities;
    o.uncertainty = c->uncertainty;
    o.continue_prediction = c->continue_prediction;
    o.form = c->common.form[MCS_FORM_TRAIN];
    o.command = &c->common.command;
    MCS_TRY(mcs_predict_parse_choices(c->checkpoints, &o));
    MCS_TRY(mcs_device_open(&c->common.device, &d));
    enum mcs_status st = MCS_OK;
    if (c->common.dry_run) {
        struct ensemble e;
        MCS_TRY_GOTO(mcs_ensemble_open(c->model, o.choices, o.n_choices, &d, &e), st, done);
        printf(c->common.json ? "{\"checkpoints\": %d}\n" : "%d checkpoints would be used\n", e.n);
        mcs_ensemble_close(&e);
        goto done;
    }
    st = mcs_predict_folder(c->input, c->output, c->model, &o, &d, &n);
    if (st != MCS_OK && st != MCS_E_PARTIAL) {
        (void)mcs_trace(st, __FILE__, __LINE__);
        goto done;
    }
    printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases\n", n);
done:
    mcs_device_close(&d);
    return st;
}

const struct mcs_verb mcs_verb_predict = {.name = "predict",
                                          .line = "masks predicted by the checkpoints of a training run",
                                          .options = options,
                                          .options_bytes = sizeof(struct predict_command),
                                          .run = run};
