/* What a training starts from, as lines of its options: a checkpoint keeps them, so that a run that goes on with other
 * data, captions or weights is refused and told which. Lines are "key: value\n"; all texts are the arena's. */
#ifndef MCS_TRAINING_DATA_H
#define MCS_TRAINING_DATA_H

#include "data/lesions/demo_atlas.h"
#include "data/text/pairs.h"
#include "engine/base/arena.h"
#include "train/unet/unet_data.h"

/* "pairs contents", over stems and captions in their order, and "images contents", over the files. Of a file at most 64
 * KiB are read: its size, beginning, end, and parts in between; a change elsewhere of the same size is not seen. E_IO,
 * E_NOINPUT. */
enum mcs_status mcs_training_pairs_lines(const struct pairs *pairs, struct arena *a, const char **lines);
/* "images contents" and "labels contents", over the decoded values of all cases in their order. */
const char *mcs_training_cases_lines(const struct unet_cases *cases, struct arena *a);
/* "atlas contents", over the values from which the demo's images are made. */
const char *mcs_training_atlas_lines(const struct demo_atlas *atlas, struct arena *a);
/* "NAME weights", by their SHA-256. */
const char *mcs_training_weights_line(const char *name, const char sha256[65], struct arena *a);

#endif
