/* Weights of one layout into another (data/weights/layout.h), as a file, or as a folder with the configuration and
 * tokenizer files that open_clip, transformers or segment-anything need to load it. No value changes, except where
 * half precision is asked for.
 *
 * Files of a folder by target:
 *   open_clip, open_clip-custom-text: open_clip_model.safetensors (open_clip_pytorch_model.bin), open_clip_config.json,
 *       the tokenizer's files
 *   medclip-samv2: model.safetensors (pytorch_model.bin), config.json, preprocessor_config.json, the tokenizer's files
 *   huggingface: the same
 *   segment-anything: sam.pth (sam.safetensors), and sam_config.json where it is neither ViT-B, -L nor -H */
#ifndef MCS_CONVERT_H
#define MCS_CONVERT_H

#include "data/weights/layout.h"
#include "engine/base/arena.h"
#include "engine/base/path.h"

/* The target that is no layout but a form of open_clip's: {"state_dict": {"module.NAME": ...}}, as its training writes
 * epoch_N.pt. */
#define CONVERT_CHECKPOINT "open_clip-checkpoint"

struct convert_options {
    const char *src;    /* a file of weights, or a folder with one */
    const char *dst;    /* a file (.safetensors, .pt, .pth, .bin), or a folder, which must be new or empty */
    const char *to;     /* a layout's word, or CONVERT_CHECKPOINT; NULL: the layout of src */
    const char *format; /* "safetensors", "torch"; NULL: by the ending of dst, in a folder the target's usual one */
    int half;           /* float32 and float64 become float16 */
    int dry_run;        /* checks everything and writes nothing */
};

enum { CONVERT_MAX_FILES = 12 };
struct convert_result { /* texts are owned by the arena that was passed in */
    enum weight_layout from, to;
    int n_tensors;
    int64_t n_values;
    const char *weights; /* path of the file of weights */
    int n_files;
    const char *files[CONVERT_MAX_FILES]; /* the other files, by name */
    const char *note;                     /* a thing left to do, or NULL */
};

/* E_USAGE: no such target for this model, dst is an input or a folder that is not empty. E_DATA: a layout that is not
 * known; tensors that are missing, misshapen or extra, all in one message; a configuration that contradicts the tensors
 * or cannot be said in the target's. E_NOINPUT, E_IO, E_NOMEM. Each file appears whole or not at all. */
enum mcs_status mcs_convert(const struct convert_options *o, struct arena *a, struct convert_result *r);

#endif
