/* Writes the demo's data to files, in the layout of users' data, and contact sheets to look at. */
#ifndef MCS_DEMO_WRITE_H
#define MCS_DEMO_WRITE_H

#include "data/lesions/demo_sample.h"
#include "data/lesions/demo_start.h"

struct demo_write {
    enum demo_split split;
    enum demo_kind kind;
    uint64_t seed;
    uint32_t first_id;
    int n; /* samples first_id .. first_id + n - 1 */
};

/* Writes into `folder` (made if need be):
 *   images/STEM.png      8-bit grey, 128 x 128; STEM is SPLIT_ID, five digits: test_00017
 *   masks/STEM.png       0 / 255, all lesions of the image
 *   masks_each/STEM_K.png  for images with several lesions: each alone, K = 0, 1, 2
 *   pairs.csv            filename,Caption
 *   prompts.json         {"STEM.png": [a prompt for each lesion]}, the generic one where there is none
 *   attributes.json      {"STEM.png": {z, level, kind, noise, lookalikes, lesions: [{intensity, ..., prompts}]}}
 *   vocab.txt            the captions' words, for a word-piece tokenizer
 *   demo.json            split, seed and every number of the config
 * Same arguments, same bytes, whatever the number of threads (OpenMP). E_IO; E_USAGE for a bad config and for
 * DEMO_UNSEEN outside the test split. */
enum mcs_status mcs_demo_write(const char *folder, const struct demo_atlas *atlas, const struct demo_config *config,
                               const struct demo_write *what);

/* A cell of a contact sheet: an image and up to DEMO_TARGETS masks (DEMO_PIXELS each), whose outlines are drawn in
 * colours. */
struct demo_cell {
    const uint8_t *image;
    const uint8_t *mask[DEMO_TARGETS];
};
/* Writes a PNG with each image at twice its size, plain and with the outlines side by side. */
enum mcs_status mcs_demo_sheet(const char *path, const struct demo_cell *cells, int n_cells, int columns);

#endif
