/* The demo: the whole pipeline on one subject's MRI with synthetic lesions, evaluated against their true masks.
 *
 * OUT/ receives: data/{train,test,...} (images, captions and masks in the formats that users have), finetune/ and
 * network/ (training runs), stages/NAME/STEM.png (each stage's masks and maps of the test images), labels/
 * (pseudo-labels), summary.json, scores.json (every figure's values, image by image), cases.json, cases.csv,
 * timeline.json, config.yaml, report.html. */
#ifndef MCS_DEMO_RUN_H
#define MCS_DEMO_RUN_H

#include "data/lesions/demo_sample.h"
#include "engine/base/command.h"
#include "engine/base/device_options.h"
#include "engine/base/form.h"
#include "infer/clip/recall.h"
#include "infer/metrics/bootstrap.h"
#include "infer/segment.h"
#include "infer/unet/uncertainty.h"
#include "train/demo/demo_rules.h"

enum demo_start { DEMO_START_MASKS, DEMO_START_CAPTIONS }; /* training data of the starting CLIP */

/* Scores that say whether an image holds the finding that the prompt names. */
enum demo_presence {
    PRESENCE_COSINE,   /* of the verb segment: cosine(image, prompt) - mean cosine(image, null prompts) */
    PRESENCE_CONTRAST, /* mean of the saliency map inside SAM's mask less that outside */
    PRESENCE_IOU,      /* the mean IoU that SAM predicts for its masks */
    DEMO_PRESENCES
};
extern const char *const mcs_demo_presence_names[DEMO_PRESENCES];

/* The option table of train/cmd/cmd_demo.c explains the fields. */
struct demo_options {
    struct mcs_command command; /* its options are those below */
    struct mcs_device_options device;
    int64_t seed;
    enum mcs_form form[MCS_FORM_STAGES];
    const char *output, *clip, *sam, *atlas;
    int64_t train_images, label_images, test_images, two_images, none_images, unseen_images, validation_images;
    int64_t retrieval_images;
    int64_t finetune_steps, finetune_batch, finetune_warmup, saliency_layer, saliency_steps, saliency_copies;
    double finetune_lr, finetune_beta, finetune_temperature, saliency_beta, min_confidence;
    int64_t grow, cycles, cycle_steps, cycle_checkpoints, network_features, network_batch, checkpoint_every, seeds;
    double network_lr;
    int64_t gpus; /* ranks of the trainings, as threads of this process */
    int start, presence, rank, evaluate, quick, ceiling, choose;
    struct demo_config data;
};

/* --quick: a fifth of the images and steps, but no fewer than 10; at most 100 pairs for retrieval; no ceiling. */
void mcs_demo_options_quick(struct demo_options *o);
/* Runs the demo with one seed into o->output; with o->choose only up to the table of choices, OUT/choices.csv. */
enum mcs_status mcs_demo_run(const struct demo_options *o);
/* Over the n seeds N = first to first + n - 1, from FOLDER/seedN/summary.json and scores.json: figures of all seeds'
 * images together with 95 % bootstrap intervals, and means of figures that a run has once, with the least and the
 * greatest: to FOLDER/seeds.csv, FOLDER/seeds.md (a table to be read) and the terminal. */
enum mcs_status mcs_demo_seeds(const char *folder, int64_t first, int64_t n);

/* ---- shared by the stages ---- */

/* A synthetic image with its ground truth and the prompts that it is asked with, in memory. */
struct demo_case {
    struct demo_sample *sample;
    struct image image; /* views sample->image */
    char stem[32];
    /* of lesion[0]; of a healthy image: those of an image with a lesion, so that both groups are asked alike */
    char prompt[DEMO_PROMPT_LEVELS][DEMO_CAPTION_BYTES];
};
struct demo_set {
    int n;
    struct demo_case *cases;
};
/* Makes n samples of a kind, with ids from `first`, in parallel. Released with mcs_demo_set_free. */
enum mcs_status mcs_demo_set_make(const struct demo_atlas *atlas, const struct demo_options *o, enum demo_split split,
                                  enum demo_kind kind, int first, int n, struct demo_set *set);
void mcs_demo_set_free(struct demo_set *set);
/* Truth of a case and its prompt of a level (DEMO_PIXELS, 0/1): all 0 for a healthy image. */
void mcs_demo_truth(const struct demo_case *c, enum demo_prompt_level level, uint8_t *truth);
/* All lesions of a case. */
void mcs_demo_truth_all(const struct demo_case *c, uint8_t *truth);
double mcs_demo_dice(const uint8_t *mask, const uint8_t *truth); /* NaN: both are empty */

/* Scores of one stage, one per case of a set. */
struct demo_score {
    int n;
    double *dice, *iou, *nsd;
};
enum mcs_status mcs_demo_score_new(int n, struct demo_score *s);
void mcs_demo_score_free(struct demo_score *s);
enum mcs_status mcs_demo_score_add(struct demo_score *s, int i, const uint8_t *mask, const uint8_t *truth);

/* The intermediate results that are scored, in the order of the pipeline. The stages of a run, whose times are
 * reported, are others (stage_names in demo_run.c). All but the last are scored against the lesions that the prompt by
 * look describes; the network has no prompt and is scored against all lesions of the image. */
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

/* Values of single images, from which figures, intervals and paired differences are made: a Dice each, but for the
 * presence scores. Name in scores.json, set of images, comment. A value that does not exist is NaN. */
/* clang-format off */
#define DEMO_LISTS(X)                                                                                                  \
    X(LIST_WORD, "zero_shot_word", test)            /* zero-shot by the prompts of each level */                       \
    X(LIST_LOOK, "zero_shot_look", test)                                                                               \
    X(LIST_PLACE, "zero_shot_look_place", test)                                                                        \
    X(LIST_OTHER, "other_look", test)               /* asked with another image's look, where that differs */          \
    X(LIST_NO_PROMPT, "no_prompt", test)            /* asked with a null prompt */                                     \
    X(LIST_RULE, "rule", test)                      /* rules without a model, and their boxes into SAM */              \
    X(LIST_RULE_SAM, "rule_sam", test)                                                                                 \
    X(LIST_WORDS, "rule_words", test)                                                                                  \
    X(LIST_WORDS_SAM, "rule_words_sam", test)                                                                          \
    X(LIST_BEST_SAM, "best_rule_sam", test)         /* of the two rules, the better one on validation images */         \
    X(LIST_RANDOM_SAM, "random_box_sam", test)                                                                         \
    X(LIST_ALL_ZERO_SHOT, "zero_shot_all", test)    /* all lesions of an image: each asked for, masks united */        \
    X(LIST_LAST, "weak_last", test)                 /* the network, which has no prompt: all lesions */                \
    X(LIST_LAST_CYCLE, "weak_last_cycle", test)                                                                        \
    X(LIST_WEAK, "weak", test)                                                                                         \
    X(LIST_CEILING, "true_masks", test)                                                                                \
    X(LIST_UNSEEN_ZERO_SHOT, "unseen_zero_shot", unseen)                                                               \
    X(LIST_UNSEEN_WEAK, "unseen_weak", unseen)                                                                         \
    X(LIST_PRESENCE, "presence_lesion", test)       /* the presence score, and the Dice where the image passes it */   \
    X(LIST_PRESENCE_NONE, "presence_healthy", none)                                                                    \
    X(LIST_PASSED, "passed_lesion", test)           /* 1: the presence score passes the threshold */                   \
    X(LIST_FOUND, "found", test)                    /* 1: it passes, and the Dice by look is above 0.1 */ \
    X(LIST_PASSED_NONE, "false_mask", none)         /* 1: a mask in a healthy image that passes it; any mask */        \
    X(LIST_MASK_NONE, "any_mask", none)                                                                                \
    X(LIST_WEAK_NONE, "weak_mask_healthy", none)    /* 1: the network finds a lesion in a healthy image */
/* clang-format on */
enum demo_list {
#define X(id, name, set) id,
    DEMO_LISTS(X)
#undef X
        DEMO_N_LISTS
};
extern const char *const mcs_demo_list_names[DEMO_N_LISTS];
struct demo_list_values {
    int n;
    double *v;
};

enum { DEMO_MAX_TIMES = 16 };
enum { DEMO_GROWS = 3 };
extern const int mcs_demo_grows[DEMO_GROWS]; /* margins that are tried around a rule's box, pixels */

/* What validation slabs decided. */
struct demo_tuned {
    struct demo_rule rule, words; /* the rule that reads bright and dark, and the best by more words */
    int rule_grow, words_grow;    /* margins of their boxes for SAM, pixels */
    int words_is_best;            /* which of both has the greater Dice with SAM there: it is called rule_sam */
    double rule_sam, words_sam;   /* their Dice with SAM */
    int box_width, box_height;    /* median box of a lesion there, for the random box */
    double min_presence, presence_auroc, presence_found, presence_false; /* the threshold, and its figures there */
};

struct demo_results {
    struct demo_score stage[DEMO_STAGES];
    struct demo_list_values list[DEMO_N_LISTS];
    struct demo_tuned tuned;
    struct recall_result before, after;
    /* two lesions: mean Dice with the one in the prompt, and with the other; AUROC of lesion or none by one generic
     * prompt */
    double prompt_dice, other_dice, presence_auroc;
    double label_dice; /* of the pseudo-labels, on training images with lesions */
    struct error_statistics errors[DEMO_AVERAGES];
    double rank_correlation;
    double *score; /* per test case: uncertainty score */
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
    struct demo_set train, test, two, none, unseen; /* two: opposite lesions; none: healthy; unseen: other forms */
    struct demo_set validation, validation_none;    /* for all that is tuned */
    struct segment_case *segmented;                 /* the test set by look, with the fine-tuned model */
    uint8_t **label;                                /* pseudo-label of training image labelled[i] */
    int *labelled, n_labelled;
    struct demo_results r;
    struct arena arena;
};

/* Makes run->r.list and score, all NaN, for the sets' sizes. */
enum mcs_status mcs_demo_lists_new(struct demo_run *run);
/* The stages in order; each adds its results to run->r. */
enum mcs_status mcs_demo_make_data(struct demo_run *run);
enum mcs_status mcs_demo_saliency_before(struct demo_run *run);
enum mcs_status mcs_demo_finetune(struct demo_run *run);
enum mcs_status mcs_demo_zero_shot(struct demo_run *run);
enum mcs_status mcs_demo_prompts(struct demo_run *run);
enum mcs_status mcs_demo_baselines(struct demo_run *run);
enum mcs_status mcs_demo_healthy(struct demo_run *run);
enum mcs_status mcs_demo_labels(struct demo_run *run);
enum mcs_status mcs_demo_network(struct demo_run *run);
enum mcs_status mcs_demo_write_results(struct demo_run *run, double seconds);
/* After mcs_demo_finetune: evaluates every choice on validation slabs and writes OUT/choices.csv. */
enum mcs_status mcs_demo_choose(struct demo_run *run);

/* Their parts on validation images: run->r.tuned. */
enum mcs_status mcs_demo_tune_baselines(struct demo_run *run);
enum mcs_status mcs_demo_tune_presence(struct demo_run *run);

/* Parts of the results that several files need. */
void mcs_demo_free_cases(struct segment_case *cases, int n);
struct bootstrap_interval mcs_demo_interval(const struct demo_run *run, enum demo_list list);
struct bootstrap_interval mcs_demo_difference(const struct demo_run *run, enum demo_list a, enum demo_list b);

/* The demo's options of the zero-shot pipeline. */
struct segment_options mcs_demo_segment_options(const struct demo_options *o);
/* Segments n cases with options s; sam NULL: stops after the coarse masks. */
enum mcs_status mcs_demo_segment_with(struct demo_run *run, const struct segment_options *s, struct sam_model *sam,
                                      struct segment_case *cases, int n);
/* A case for each image of the set, with its prompt of a level, to be freed by mcs_demo_free_cases. */
enum mcs_status mcs_demo_cases_new(const struct demo_set *set, enum demo_prompt_level level,
                                   struct segment_case **cases);
/* Every lesion of each image of a set is asked for by its look, each look once, and the masks are united: masks (n,
 * DEMO_PIXELS). first (n) or NULL: results for lesion[0], which are not computed again. */
enum mcs_status mcs_demo_segment_all(struct demo_run *run, const struct demo_set *set, const struct segment_case *first,
                                     uint8_t *masks);
/* SAM's masks in boxes (x0 y0 x1 y1, inclusive; x1 < x0: no box), grown by grow pixels: masks (n, DEMO_PIXELS). */
enum mcs_status mcs_demo_sam_boxes(struct demo_run *run, const struct demo_set *set, int (*boxes)[4], int grow,
                                   uint8_t *masks);
/* The presence score of a segmented case. */
double mcs_demo_presence(enum demo_presence kind, const struct segment_case *c);
/* The presence threshold of greatest Youden index: the share of images with a lesion that are found (found[i]) and pass
 * it, plus the share of healthy images that do not. At least 85 % of the images with a lesion must be found and pass;
 * where fewer are found at all, 85 % of those found. -INFINITY: nothing is found. */
double mcs_demo_presence_threshold(const double *lesion, const uint8_t *found, int n_lesion, const double *healthy,
                                   int n_healthy);

enum mcs_status mcs_demo_write_mask(const struct demo_run *run, const char *folder, const char *stem,
                                    const uint8_t *mask); /* 0/1 as 0/255 PNG */
enum mcs_status mcs_demo_write_map(const struct demo_run *run, const char *folder, const char *stem, const float *map,
                                   double scale); /* map (DEMO_PIXELS) times scale, as grey values of 0 to 255 */

#endif
