/* Shared by the files of a demo's results: summary.json (demo_summary.c), and scores.json, cases.json, cases.csv and
 * the table (demo_results.c). */
#ifndef MCS_DEMO_RESULTS_H
#define MCS_DEMO_RESULTS_H

#include "train/demo/demo_run.h"

#include <jansson.h>

#define DEMO_FOUND_DICE 0.1 /* a lesion is found by a mask whose Dice is greater */

/* A row of summary.json's "baselines". */
struct demo_baseline {
    const char *name, *label;
    enum demo_list list;
    const char *what;
};
enum { DEMO_BASELINES = 7 };
extern const struct demo_baseline mcs_demo_baselines_shown[DEMO_BASELINES];
extern const enum demo_list mcs_demo_average_lists[DEMO_AVERAGES];

/* The object of summary.json. */
json_t *mcs_demo_summary(const struct demo_run *run, double seconds);
/* Share of test images whose Dice in a list is above DEMO_FOUND_DICE, whatever their presence score. */
struct bootstrap_interval mcs_demo_lesions_found(const struct demo_run *run, enum demo_list dice);
struct bootstrap_interval mcs_demo_presence_auroc(const struct demo_run *run);

#endif
