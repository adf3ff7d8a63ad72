/* M2IB's command-line options and the files of a saliency map, shared by the verbs saliency and segment. */
#ifndef MCS_SALIENCY_COMMAND_H
#define MCS_SALIENCY_COMMAND_H

#include "data/io/npy.h"
#include "engine/cli/config.h"
#include "infer/clip/saliency.h"

struct saliency_flags {
    const char *noise;
    int preset; /* index into MCS_SALIENCY_PRESETS */
    struct mcs_strings null;
    int64_t layer, steps, copies, pairs;
    double beta, lr;
};
/* Block and weight of the compression that --layer and --beta stand for where they are -1. MedCLIP-SAMv2's released
 * code has three sets: the defaults of its command line (generate_saliency_maps.py), and what its two scripts of
 * zeroshot_scripts/ pass for brain and breast tumours. */
#define MCS_SALIENCY_PRESETS "none|release-cli|release-brain|release-breast"
/* Rows of an option table; the command's structure must have a field `struct saliency_flags m2ib`. */
/* clang-format off */
#define MCS_SALIENCY_OPTIONS(command)                                                                                  \
    {"noise", 0, MCS_FIELD(command, m2ib.noise), .value = "FILE.npy",                                                  \
     .help = "noise to use for every case, (steps, copies, tokens, channels); else drawn by --seed and case"},         \
    {"preset", 0, MCS_FIELD(command, m2ib.preset), .def = "none", .choices = MCS_SALIENCY_PRESETS,                     \
     .help = "layer and beta of the released code's command line or scripts; for --form release"},                     \
    {"layer", 0, MCS_FIELD(command, m2ib.layer), .def = "-1", .lo = -1, .hi = 1000, .value = "N",                      \
     .help = "block after which the bottleneck sits, from 0; -1: the preset's, or the last but one"},                  \
    {"beta", 0, MCS_FIELD(command, m2ib.beta), .def = "-1", .lo = -1, .hi = 1000000, .value = "X",                     \
     .help = "weight of the compression; -1: the preset's, or 1"},                                                     \
    {"lr", 0, MCS_FIELD(command, m2ib.lr), .def = "1", .lo = 0, .hi = 1000, .value = "X",                              \
     .help = "the bottleneck's learning rate"},                                                                        \
    {"steps", 0, MCS_FIELD(command, m2ib.steps), .def = "10", .lo = 2, .hi = 100000, .value = "N",                     \
     .help = "steps of the bottleneck's optimisation"},                                                                \
    {"copies", 0, MCS_FIELD(command, m2ib.copies), .def = "10", .lo = 1, .hi = 4096, .value = "N",                     \
     .help = "noisy copies per step"},                                                                                 \
    {"pairs", 0, MCS_FIELD(command, m2ib.pairs), .def = "8", .lo = 1, .hi = 4096, .value = "N",                        \
     .help = "images optimised together"},                                                                             \
    {"null", 0, MCS_FIELD(command, m2ib.null), .value = "TEXT",                                                        \
     .help = "prompt without a finding, for the presence score (repeatable)"}
/* clang-format on */

/* Converts the flags to options for n cases; the view follows the form. *noise (start with {0}) owns the noise file's
 * values and must outlive the options. E_USAGE: a preset of the released code in form paper. E_NOINPUT, E_DATA: a noise
 * file of another shape or with values that are not finite; a null prompt without words. */
enum mcs_status mcs_saliency_resolve(const struct mcs_common *common, const struct saliency_flags *f,
                                     const struct clip_model *m, int n, struct npy *noise, struct saliency_options *o);

/* Writes folder/STEM.h5 (dataset saliency, (height, width) float32, and attributes presence, text, form, seed,
 * weights_sha256, version; a text of more than 32,000 bytes, too long for an attribute, becomes a dataset) and
 * folder/STEM.png (8 bits). E_DATA: a map that is not finite. */
enum mcs_status mcs_saliency_write(const struct mcs_common *common, const struct clip_model *m, const char *folder,
                                   const char *stem, const struct map2 *map, float presence, const char *text);

#endif
