/* The demo: the whole pipeline on one subject's MRI with synthetic lesions, evaluated against their true masks.
 *
 * OUT/ receives: data/{train,test,...} (images, captions and masks in the formats that users have), finetune/ and
 * network/ (training runs), stages/NAME/STEM.png (each stage's masks and maps of the test images), labels/
 * (pseudo-labels), summary.json, cases.json, cases.csv, timeline.json, config.yaml, report.html. */
#ifndef MCS_DEMO_RUN_H
#define MCS_DEMO_RUN_H

#include "data/lesions/demo_sample.h"
#include "engine/base/command.h"
#include "engine/base/device_options.h"
#include "engine/base/form.h"
#include "infer/clip/recall.h"
#include "infer/segment.h"
#include "infer/unet/uncertainty.h"

/* The option table of train/cmd/cmd_demo.c explains the fields. */
struct demo_options {
    struct mcs_command command; /* its options are those below */
    struct mcs_device_options device;
    int64_t seed;
    enum mcs_form form[MCS_FORM_STAGES];
    const char *output, *clip, *sam, *atlas;
    int64_t train_images, label_images, test_images, two_images, none_images, retrieval_images;
    int64_t finetune_steps, finetune_batch, finetune_warmup, saliency_layer, saliency_steps, saliency_copies;
    double finetune_lr, finetune_beta, finetune_temperature, saliency_beta, min_confidence;
    int64_t grow, cycles, cycle_steps, cycle_checkpoints, network_features, network_batch, checkpoint_every, seeds;
    double network_lr;
    int64_t gpus; /* ranks of the trainings, as threads of this process */
    int rank, evaluate, quick, no_ceiling;
    struct demo_config data;
};

/* --quick: a fifth of the images and steps, but no fewer than 10; at most 100 pairs for retrieval; no ceiling. */
void mcs_demo_options_quick(struct demo_options *o);
/* Runs the demo with one seed into o->output. */
enum mcs_status mcs_demo_run(const struct demo_options *o);
/* Means over the n seeds N = first to first + n - 1 of the numbers in FOLDER/seedN/summary.json, with 95 % intervals:
 * to FOLDER/seeds.csv and the terminal. */
enum mcs_status mcs_demo_seeds(const char *folder, int64_t first, int64_t n);

/* ---- shared by the stages ---- */

/* A synthetic image with its ground truth, in memory. */
struct demo_case {
    struct demo_sample *sample;
    struct image image; /* views sample->image */
    char stem[32];
};
struct demo_set {
    int n;
    struct demo_case *cases;
};
/* Makes n samples of a kind in parallel. Released with mcs_demo_set_free. */
enum mcs_status mcs_demo_set_make(const struct demo_atlas *atlas, const struct demo_options *o, enum demo_split split,
                                  enum demo_kind kind, int n, struct demo_set *set);
void mcs_demo_set_free(struct demo_set *set);

/* Scores of one stage, one per case of a set. */
struct demo_score {
    int n;
    double *dice, *iou, *nsd;
};
enum mcs_status mcs_demo_score_new(int n, struct demo_score *s);
void mcs_demo_score_free(struct demo_score *s);
enum mcs_status mcs_demo_score_add(struct demo_score *s, int i, const uint8_t *mask, const uint8_t *truth);

/* The intermediate results that are scored, in the order of the pipeline. The stages of a run, whose times are
 * reported, are others (stage_names in demo_run.c). */
enum demo_stage {
    STAGE_SALIENCY_START,
    STAGE_SALIENCY,
    STAGE_POST,
    STAGE_COMPONENTS,
    STAGE_SAM,
    STAGE_NETWORK,
    DEMO_STAGES
};
extern const char *const mcs_demo_stage_names[DEMO_STAGES];
extern const char *const mcs_demo_stage_folders[DEMO_STAGES];

/* The groups of checkpoints whose mean predictions are compared. */
enum demo_average { AVERAGE_LAST, AVERAGE_LAST_CYCLE, AVERAGE_ALL, DEMO_AVERAGES };
extern const char *const mcs_demo_average_names[DEMO_AVERAGES];

struct demo_baseline {
    const char *name, *what; /* what: its description in summary.json */
    double dice;
};
enum { DEMO_MAX_BASELINES = 8, DEMO_MAX_TIMES = 16 };

struct demo_results {
    struct demo_score stage[DEMO_STAGES];
    struct demo_baseline baseline[DEMO_MAX_BASELINES];
    int n_baselines;
    struct recall_result before, after;
    /* two lesions: mean Dice with the one in the prompt, and with the other; AUROC of lesion or none */
    double prompt_dice, other_dice, presence_auroc;
    double label_dice; /* of the pseudo-labels, on training images */
    struct error_statistics errors[DEMO_AVERAGES];
    double average_dice[DEMO_AVERAGES], rank_correlation;
    double *score, *presence; /* per test case: uncertainty score; presence score (difference of cosines) */
    double ceiling;           /* NaN: not run */
    struct {
        const char *name;
        double seconds;
    } time[DEMO_MAX_TIMES];
    int n_times;
    char clip_sha256[65], sam_sha256[65], network_sha256[65];
};

/* State of a demo run. */
struct demo_run {
    const struct demo_options *o;
    const char *config; /* resolved options, and a line for each input of the trainings (training_data.h) */
    struct device device;
    struct demo_atlas atlas;
    struct clip_model clip;
    struct sam_model sam;
    struct demo_set train, test, two, none; /* two, none: images with two lesions, and without one */
    struct segment_case *segmented;         /* the test set, with the fine-tuned model */
    uint8_t **label;                        /* pseudo-label of training image labelled[i] */
    int *labelled, n_labelled;
    struct demo_results r;
    struct arena arena;
};

/* The stages in order; each adds its results to run->r. */
enum mcs_status mcs_demo_make_data(struct demo_run *run);
enum mcs_status mcs_demo_baselines(struct demo_run *run);
enum mcs_status mcs_demo_saliency_before(struct demo_run *run);
enum mcs_status mcs_demo_finetune(struct demo_run *run);
enum mcs_status mcs_demo_zero_shot(struct demo_run *run);
enum mcs_status mcs_demo_control(struct demo_run *run);
enum mcs_status mcs_demo_labels(struct demo_run *run);
enum mcs_status mcs_demo_network(struct demo_run *run);
enum mcs_status mcs_demo_write_results(struct demo_run *run, double seconds);

/* The demo's options of the zero-shot pipeline. */
struct segment_options mcs_demo_segment_options(const struct demo_options *o);
enum mcs_status mcs_demo_write_mask(const struct demo_run *run, const char *folder, const char *stem,
                                    const uint8_t *mask); /* 0/1 as 0/255 PNG */
enum mcs_status mcs_demo_write_map(const struct demo_run *run, const char *folder, const char *stem, const float *map,
                                   double scale); /* map (DEMO_PIXELS) times scale, as grey values of 0 to 255 */

#endif
