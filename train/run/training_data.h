/* Hashes of a training's inputs as lines "key: value\n" of its options. A checkpoint stores them, so resuming with
 * other data, captions or weights is refused with a message that names them. The arena owns all texts. */
#ifndef MCS_TRAINING_DATA_H
#define MCS_TRAINING_DATA_H

#include "data/lesions/demo_atlas.h"
#include "data/text/pairs.h"
#include "engine/base/arena.h"
#include "train/unet/unet_data.h"

/* "pairs contents" (stems and captions in order) and "images contents" (the files). At most 64 KiB of a file are
 * hashed: its size, beginning, end and some blocks in between, so changes elsewhere are not detected. E_IO, E_NOINPUT.
 */
enum mcs_status mcs_training_pairs_lines(const struct pairs *pairs, struct arena *a, const char **lines);
/* "images contents" and "labels contents": the decoded values of all cases in order. */
const char *mcs_training_cases_lines(const struct unet_cases *cases, struct arena *a);
/* "atlas contents": the values from which the demo's images are made. */
const char *mcs_training_atlas_lines(const struct demo_atlas *atlas, struct arena *a);
/* "NAME weights": their SHA-256. */
const char *mcs_training_weights_line(const char *name, const char sha256[65], struct arena *a);

#endif
