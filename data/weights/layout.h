/* Names of tensors: the layouts in which one model's weights are distributed, and a view of a file of weights in the
 * names of another layout.
 *
 *     struct weight_file *file, *view;
 *     MCS_TRY(mcs_weight_file_open("pytorch_model.bin", &file));
 *     MCS_TRY_GOTO(mcs_weight_view(file, mcs_layout_reference(mcs_weight_layout(file)), &view), st, done);
 *     ... mcs_weight_file_find(view, "visual.trunk.blocks.0.attn.qkv.weight") joins q_proj, k_proj and v_proj ...
 *
 * Nothing is copied: a view's tensor is read from the file's tensors when it is asked for. Layouts of one model differ
 * in names, in joined or separate projections of query, key and value (rows in this order), in leading dimensions of 1
 * and in transposed matrices; never in values.
 *
 * Sources of the names:
 *  open_clip: open_clip 3 (timm's VisionTransformer in TimmModel, transformers' BertModel in HFTextEncoder; its own
 *      VisionTransformer and TextTransformer; CLIP and CustomTextCLIP); checkpoints of its training (epoch_N.pt) have
 *      the same names behind "module.", in the dictionary "state_dict".
 *  medclip-samv2: saliency_maps/model of https://github.com/HealthX-Lab/MedCLIP-SAMv2.
 *  huggingface: transformers 5, CLIPModel and SamModel.
 *  segment-anything: https://github.com/facebookresearch/segment-anything; MedSAM has the same names. */
#ifndef MCS_LAYOUT_H
#define MCS_LAYOUT_H

#include "data/weights/weight_file.h"

enum weight_family { FAMILY_CLIP_BERT, FAMILY_CLIP_OPENAI, FAMILY_SAM, FAMILY_N };

/*  name            family       word              in messages; the first of a family is the reference, which is read */
#define WEIGHT_LAYOUT_LIST(X)                                                                                          \
    X(OPEN_CLIP_BERT, CLIP_BERT, "open_clip", "open_clip's names, timm's ViT and BERT")                                \
    X(MEDCLIP_SAMV2, CLIP_BERT, "medclip-samv2", "MedCLIP-SAMv2's names of BiomedCLIP")                                \
    X(OPEN_CLIP_OPENAI, CLIP_OPENAI, "open_clip", "open_clip's names, OpenAI's towers")                                \
    X(OPEN_CLIP_CUSTOM, CLIP_OPENAI, "open_clip-custom-text", "open_clip's names, OpenAI's towers in CustomTextCLIP")  \
    X(HUGGINGFACE_CLIP, CLIP_OPENAI, "huggingface", "Hugging Face's names, CLIPModel")                                 \
    X(SEGMENT_ANYTHING, SAM, "segment-anything", "segment-anything's names")                                           \
    X(HUGGINGFACE_SAM, SAM, "huggingface", "Hugging Face's names, SamModel")

enum weight_layout {
#define X(name, family, word, text) LAYOUT_##name,
    WEIGHT_LAYOUT_LIST(X)
#undef X
        LAYOUT_N,
    LAYOUT_UNKNOWN = LAYOUT_N
};

/* The layout whose names fit the file best: more than half of them are there; LAYOUT_UNKNOWN: none. */
enum weight_layout mcs_weight_layout(const struct weight_file *file);
enum weight_family mcs_layout_family(enum weight_layout layout); /* FAMILY_N for LAYOUT_UNKNOWN */
const char *mcs_layout_word(enum weight_layout layout);          /* "open_clip"; not unique between families */
const char *mcs_layout_text(enum weight_layout layout);          /* for messages */
/* The layout whose names this program's models have; LAYOUT_UNKNOWN for LAYOUT_UNKNOWN. */
enum weight_layout mcs_layout_reference(enum weight_layout layout);
/* The layout of this family that a word names; LAYOUT_UNKNOWN: none. */
enum weight_layout mcs_layout_by_word(enum weight_family family, const char *word);

/* A view of `file` in the names of a layout of the same family. Tensors without a place in it keep their names, except
 * buffers that are no weights (position_ids, attn_mask), which the view leaves out. Where parts of a joined tensor are
 * missing or do not fit together, the others keep their names. `to` LAYOUT_UNKNOWN: all tensors keep their names.
 *
 * The view is closed with mcs_weight_file_close, before `file`. E_USAGE: another family; E_NOMEM. */
enum mcs_status mcs_weight_view(const struct weight_file *file, enum weight_layout to, struct weight_file **view);
/* Opens a file of any layout, as a view in the reference names; a file of an unknown layout keeps its names. Errors as
 * mcs_weight_file_open. Close with mcs_weight_file_close. */
enum mcs_status mcs_weight_model_open(const char *path, struct weight_file **view);

/* Compares a file with the tensors of its layout: as many blocks as it names, sizes as most of its tensors have them.
 * to: a tensor that has no place in this layout counts as extra. */
struct layout_report {
    int missing, misshapen, extra;
    char text[2048]; /* "2 tensors missing (a (2, 3), b), 1 of another shape (c is (4), want (5)), 1 extra (d)" */
};
enum mcs_status mcs_weight_layout_check(const struct weight_file *file, enum weight_layout to,
                                        struct layout_report *report);

#endif
