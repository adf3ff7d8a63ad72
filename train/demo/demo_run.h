/* The demo: the whole pipeline on one subject's MRI with made lesions, measured against their true masks.
 *
 * OUT/ receives: data/{train,test,...} (images, captions, masks as users have them), finetune/ and network/ (training
 * runs), stages/NAME/STEM.png (each stage's masks and maps of the test images), labels/ (pseudo-labels), summary.json,
 * cases.json, cases.csv, timeline.json, config.yaml, report.html. */
#ifndef MCS_DEMO_RUN_H
#define MCS_DEMO_RUN_H

#include "data/lesions/demo_sample.h"
#include "infer/clip/recall.h"
#include "infer/segment.h"
#include "infer/unet/uncertainty.h"

struct demo_options {
    struct mcs_common common;
    const char *output, *clip, *sam, *atlas;
    int64_t train_images, label_images, test_images, two_images, none_images, retrieval_images;
    int64_t finetune_steps, finetune_batch, finetune_warmup, saliency_layer, saliency_steps, saliency_copies;
    double finetune_lr, finetune_beta, finetune_temperature, saliency_beta, min_confidence;
    int64_t grow, cycles, cycle_steps, cycle_checkpoints, network_features, network_batch, checkpoint_every, seeds;
    double network_lr;
    int64_t gpus; /* ranks that train, as threads of this process */
    int rank, evaluate, quick, no_ceiling;
    struct demo_config data;
};

/* --quick: a fifth of the images and steps, but no fewer than 10; at most 100 pairs for retrieval; no ceiling. */
void mcs_demo_options_quick(struct demo_options *o);
/* One run with one seed into o->output. */
enum mcs_status mcs_demo_run(const struct demo_options *o);
/* Means of FOLDER/seedN/summary.json over n seeds, with 95 % intervals, to FOLDER/seeds.csv and the terminal. */
enum mcs_status mcs_demo_seeds(const char *folder, int64_t first, int64_t n);

/* ---- what the stages share ---- */

/* A made image with its truth, in memory. */
struct demo_case {
    struct demo_sample *sample;
    struct image image; /* views sample->image */
    char stem[32];
};
struct demo_set {
    int n;
    struct demo_case *cases;
};
/* n samples of a kind from first_id on, in parallel; `name` begins the stems. Released with mcs_demo_set_free. */
enum mcs_status mcs_demo_set_make(const struct demo_atlas *atlas, const struct demo_options *o, enum demo_split split,
                                  enum demo_kind kind, int n, struct demo_set *set);
void mcs_demo_set_free(struct demo_set *set);

/* Scores of one stage over a set of cases. */
struct demo_score {
    int n;
    double *dice, *iou, *nsd;
};
enum mcs_status mcs_demo_score_new(int n, struct demo_score *s);
void mcs_demo_score_free(struct demo_score *s);
enum mcs_status mcs_demo_score_add(struct demo_score *s, int i, const uint8_t *mask, const uint8_t *truth);

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

/* The network's predictions that are compared side by side. */
enum demo_average { AVERAGE_LAST, AVERAGE_LAST_CYCLE, AVERAGE_ALL, DEMO_AVERAGES };
extern const char *const mcs_demo_average_names[DEMO_AVERAGES];

struct demo_baseline {
    const char *name, *what;
    double dice;
};
enum { DEMO_MAX_BASELINES = 8, DEMO_MAX_TIMES = 16 };

struct demo_results {
    struct demo_score stage[DEMO_STAGES];
    struct demo_baseline baseline[DEMO_MAX_BASELINES];
    int n_baselines;
    struct recall_result before, after;
    double prompt_dice, other_dice, presence_auroc, presence_start;
    double label_dice; /* of the pseudo-labels, on training images */
    struct error_statistics errors[DEMO_AVERAGES];
    double average_dice[DEMO_AVERAGES], rank_correlation;
    double *score, *presence; /* by test case: uncertainty; cosine margin */
    double ceiling;           /* NaN: not run */
    struct {
        const char *name;
        double seconds;
    } time[DEMO_MAX_TIMES];
    int n_times;
    char clip_sha256[65], sam_sha256[65], network_sha256[65];
};

/* What a run holds while it goes. */
struct demo_run {
    const struct demo_options *o;
    const char *config; /* resolved options, and what the trainings start from */
    struct device device;
    struct demo_atlas atlas;
    struct clip_model clip;
    struct sam_model sam;
    struct demo_set train, test, two, none;
    struct segment_case *segmented; /* of the test set, with the fine-tuned model */
    uint8_t **label;                /* pseudo-labels of the training images used, by index of `labelled` */
    int *labelled, n_labelled;
    uint8_t **network_mask; /* of the test set */
    float **entropy;
    struct demo_results r;
    struct arena arena;
};

/* Stages, in order; each adds to run->r. */
enum mcs_status mcs_demo_make_data(struct demo_run *run);
enum mcs_status mcs_demo_baselines(struct demo_run *run);
enum mcs_status mcs_demo_saliency_before(struct demo_run *run);
enum mcs_status mcs_demo_finetune(struct demo_run *run);
enum mcs_status mcs_demo_zero_shot(struct demo_run *run);
enum mcs_status mcs_demo_control(struct demo_run *run);
enum mcs_status mcs_demo_labels(struct demo_run *run);
enum mcs_status mcs_demo_network(struct demo_run *run);
enum mcs_status mcs_demo_write_results(struct demo_run *run, double seconds);

/* The prompt used for a lesion, and how the saliency of the demo is set up. */
struct segment_options mcs_demo_segment_options(const struct demo_options *o);
enum mcs_status mcs_demo_write_mask(const struct demo_run *run, const char *folder, const char *stem,
                                    const uint8_t *mask); /* 0/1 as 0/255 PNG */
enum mcs_status mcs_demo_write_map(const struct demo_run *run, const char *folder, const char *stem, const float *map,
                                   double scale); /* 8 bit */

#endif
