/* Prediction of a folder of images or volumes with the checkpoints of a run. */
#ifndef MCS_PREDICT_H
#define MCS_PREDICT_H

#include "engine/base/command.h"
#include "infer/unet/ensemble.h"
#include "infer/unet/probability.h"

struct predict_options {
    struct sliding_options sliding;
    /* Groups of checkpoints, predicted in one pass. Masks of the first group go to OUT, of another one to OUT/NAME. */
    enum ensemble_choice choices[3];
    int n_choices;
    double threshold;        /* on the foreground's probability; 0: the most probable class */
    int save_probabilities;  /* STEM.h5 beside the masks */
    int uncertainty;         /* entropy maps and uncertainty.csv in a folder `uncertainty` beside the masks */
    int continue_prediction; /* skip cases whose mask exists */
    enum mcs_form form;      /* of the uncertainty score */
    /* Not NULL: the output is a run folder (data/run/run_folder.h), which records the cases under this command. */
    const struct mcs_command *command;
};
struct predict_options mcs_predict_defaults(void);
/* "all", "last" or "last-cycle". */
const char *mcs_predict_choice_name(enum ensemble_choice choice);
enum mcs_status mcs_predict_parse_choices(const char *text, struct predict_options *o);

/* Predicts every PNG, JPEG and NIfTI file of `input`; images are converted to grey or RGB as the network needs. Writes
 * masks (mcs_probability_write_mask). Consecutive images of one size share batches. *n_done: cases finished, those of
 * an earlier run included. E_NOINPUT, E_DATA (the model, or every case failed), E_PARTIAL: some cases failed and are
 * listed in failures.csv; E_STOPPED. */
enum mcs_status mcs_predict_folder(const char *input, const char *output, const char *run,
                                   const struct predict_options *o, struct device *d, int *n_done);

#endif
