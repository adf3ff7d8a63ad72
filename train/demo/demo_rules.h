/* Segmentation by rules without a model, the demo's baselines: a rule reads words of the prompt and the image, and its
 * numbers are tuned on validation slabs with their true masks, as no method of the pipeline may.
 *
 * A rule smooths the image, takes the share of the brain with the greatest (bright) or least (dark) grey values, opens
 * that mask by a disc, and chooses one of its 8-connected components: the largest, or the one whose size, border and
 * rim are nearest to those of the lesions that the prompt's words mean. */
#ifndef MCS_DEMO_RULES_H
#define MCS_DEMO_RULES_H

#include "data/lesions/demo_sample.h"
#include "engine/base/status.h"

/* Words that choose the component, beyond bright and dark. */
enum { DEMO_READS_SIZE = 1, DEMO_READS_BORDER = 2, DEMO_READS_RIM = 4, DEMO_READS_SETS = 8 };
enum { DEMO_RULE_FEATURES = 3 }; /* of a component, in the order of the words: log area, border, rim */

struct demo_rule_threshold {
    double share; /* of the brain's pixels that are kept */
    int smooth;   /* 1: mean of 3 x 3 pixels first */
    int opening;  /* radius of the disc, pixels */
};

struct demo_rule {
    struct demo_rule_threshold threshold[2]; /* dark, bright */
    unsigned reads;                          /* DEMO_READS_* */
    double mean[2][DEMO_RULE_FEATURES][2];   /* [dark, bright][feature][word is 0, 1], of lesions on validation slabs */
    double deviation[2][DEMO_RULE_FEATURES];
    double dice; /* mean Dice on the images that tuned it */
};

/* A pair for tuning: image, lesion whose words are read, truth (DEMO_PIXELS). */
struct demo_rule_case {
    const struct demo_sample *sample;
    const struct demo_lesion *lesion;
    const uint8_t *truth;
};

/* mask (DEMO_PIXELS), 0/1; all 0 where no component is left. Only sample->image, sample->brain, and bright, large,
 * blurred and rim of the lesion are read. E_NOMEM. */
enum mcs_status mcs_demo_rule_apply(const struct demo_rule *rule, const struct demo_sample *sample,
                                    const struct demo_lesion *lesion, uint8_t *mask);

/* Finds the rule with the greatest mean Dice on n cases for each set of words: rules[set] (DEMO_READS_SETS), where
 * rules[0] reads bright and dark only. All thresholds of a grid are tried for dark and bright lesions apart; the first
 * wins a tie. E_NOMEM. */
enum mcs_status mcs_demo_rules_tune(const struct demo_rule_case *cases, int n, struct demo_rule *rules);

#endif
