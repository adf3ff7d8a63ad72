/* Report of a run folder as one self-contained HTML page: pictures, curves and tables for readers of medical images.
 * The output depends on the files only. Files that are read, all optional, relative to the folder:
 *
 *   summary.json:  stages [{stage, dsc, nsd, iou}], baselines [{name, dsc, what}], retrieval {before, after: {i2t_r1,
 *                  i2t_r2, t2i_r1, t2i_r2}}, control {prompt_dsc, other_dsc, presence_auroc}, uncertainty {right,
 *                  wrong, error_auroc, error_auroc_outside_band, rank_correlation}, ensemble [{name, dsc,
 *                  error_auroc}], by_type [{name, n, zero_shot, network}], pseudo_labels {images, dsc}, difficulty
 *                  {KEY: number}, seconds, seconds_by_stage {STAGE: number}, peak_memory_bytes, form, seed, split,
 *                  test_images, weights {NAME: sha256}, version, notes [text], command. KEY_interval: [lo, hi] beside
 *                  a KEY is its 95 % interval.
 *   cases.json:    [{stem, caption, prompt, image, saliency, coarse, sam, network, truth, entropy, dsc {saliency,
 *                  coarse, sam, network}, uncertainty_score, presence}]; the pictures are paths of 8-bit images inside
 *                  the folder: masks 0 and 255, saliency 0 to 1, entropy 0 to 1 bit.
 *   finetune/metrics.jsonl, network/metrics.jsonl, or metrics.jsonl of one training: an object a line, with "step"
 *   timeline.json: plans [{name, planned_bytes, measured_peak_bytes, step_names, live_bytes}]
 *   config.yaml:   how the run was made */
#ifndef MCS_REPORT_H
#define MCS_REPORT_H

#include "engine/base/status.h"

#include <stdint.h>

/* The page as a malloc'ed text. E_NOINPUT: no such folder, or nothing of the above in it. E_DATA: summary.json is not a
 * JSON object. Anything else that cannot be read is left out, with a line on the page that says so. */
enum mcs_status mcs_report_render(const char *run_folder, char **html, int64_t *n_bytes);
/* Renders and writes the page, whole or not at all. Also E_IO. */
enum mcs_status mcs_report_write(const char *run_folder, const char *html_path);

#endif
