#include "infer/model_info.h"

#include "data/io/file.h"
#include "data/weights/layout.h"
#include "engine/model/unet.h"
#include "infer/clip/clip_model.h"
#include "infer/sam/sam_plan.h"
#include "infer/unet/unet_model.h"
#include "infer/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- sizes that the tensors' shapes give ---- */

/* Size d of a tensor of nd dimensions; 0 where it is not there, has another number of dimensions or is too large. */
static int size_of(const struct weight_file *f, const char *name, int nd, int d)
{
    const struct weight_tensor *t = mcs_weight_file_find(f, name);
    return t && t->nd == nd && t->dims[d] <= 1 << 20 ? (int)t->dims[d] : 0;
}

/* 1: all n sizes are there, and the image and the depths are plausible. */
static int plausible(const struct clip_config *c, const int *sizes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (sizes[i] <= 0) return 0;
    return c->image_size <= 4096 && c->v_depth <= 256 && c->t_depth <= 256;
}

/* The sizes of a CLIP of BiomedCLIP's form. Heads have no tensor; they do not matter for the shapes. 0: impossible. */
static int clip_sizes(const struct weight_file *f, struct clip_config *c)
{
    static const char word[] = "text.transformer.embeddings.word_embeddings.weight";
    *c = mcs_clip_biomed();
    c->embed = size_of(f, "visual.head.proj.weight", 2, 0);
    c->patch = size_of(f, "visual.trunk.patch_embed.proj.weight", 4, 3);
    c->v_width = size_of(f, "visual.trunk.cls_token", 3, 2);
    c->v_depth = mcs_weight_file_blocks(f, "visual.trunk.blocks.", ".norm1.weight");
    c->v_mlp = size_of(f, "visual.trunk.blocks.0.mlp.fc1.weight", 2, 0);
    c->image_size = c->patch * (int)lround(sqrt(size_of(f, "visual.trunk.pos_embed", 3, 1) - 1.0));
    c->vocab = size_of(f, word, 2, 0);
    c->t_width = size_of(f, word, 2, 1);
    c->positions = size_of(f, "text.transformer.embeddings.position_embeddings.weight", 2, 0);
    c->types = size_of(f, "text.transformer.embeddings.token_type_embeddings.weight", 2, 0);
    c->t_depth = mcs_weight_file_blocks(f, "text.transformer.encoder.layer.", ".output.dense.weight");
    c->t_mlp = size_of(f, "text.transformer.encoder.layer.0.intermediate.dense.weight", 2, 0);
    c->t_proj = size_of(f, "text.proj.0.weight", 2, 0);
    c->context = c->positions < c->context ? c->positions : c->context;
    c->v_heads = c->t_heads = 1;
    const int all[] = {c->embed,   c->patch,     c->v_width, c->v_depth, c->v_mlp, c->image_size, c->vocab,
                       c->t_width, c->positions, c->types,   c->t_depth, c->t_mlp, c->t_proj};
    return plausible(c, all, sizeof all / sizeof *all);
}

/* ---- the models that are read ---- */

static int has_clip_config(const char *folder, struct arena *a)
{
    return mcs_file_exists(mcs_arena_printf(a, "%s/open_clip_config.json", folder)) ||
           mcs_file_exists(mcs_arena_printf(a, "%s/config.json", folder));
}

static enum mcs_status recognise_clip(const struct weight_file *f, const char *folder, struct arena *a,
                                      struct params *p, struct model_info *info)
{
    const struct clip_config b = mcs_clip_biomed();
    struct clip_config c;
    info->name = "CLIP of BiomedCLIP's form";
    const int known = clip_sizes(f, &c);
    if (known && c.v_width == b.v_width && c.v_depth == b.v_depth && c.vocab == b.vocab && c.t_depth == b.t_depth)
        info->name = "BiomedCLIP";
    else if (known && c.v_width == 128 && c.v_depth == 4 && c.image_size == 96 && c.t_depth == 2)
        info->name = "the demo's CLIP";
    else if (known)
        info->name =
            mcs_arena_printf(a,
                             "CLIP of BiomedCLIP's form (image %d, patch %d, width %d, %d blocks; text width %d, "
                             "%d layers)",
                             c.image_size, c.patch, c.v_width, c.v_depth, c.t_width, c.t_depth);
    const int has_config = has_clip_config(folder, a), vocab = c.vocab;
    if (has_config && mcs_clip_config_read(folder, &c) == MCS_OK) {
        if (!c.vocab) c.vocab = vocab; /* that of vocab.txt */
    } else if (!known) {
        info->note = "sizes are missing, so its tensors are not compared";
    } else {
        clip_sizes(f, &c);
        info->note = has_config ? mcs_arena_strdup(a, mcs_error_message())
                                : "to use it put open_clip_config.json and the tokenizer's file beside it";
    }
    mcs_error_clear();
    if (info->note && !known) return MCS_OK;
    info->compared = 1;
    return mcs_clip_params_declare(&c, p);
}

/* The sizes of a CLIP with OpenAI's towers; 0: impossible. */
static int openai_sizes(const struct weight_file *f, struct clip_config *c)
{
    *c = mcs_clip_biomed();
    c->v_openai = c->t_openai = 1;
    c->embed = size_of(f, "visual.proj", 2, 1);
    c->patch = size_of(f, "visual.conv1.weight", 4, 3);
    c->v_width = size_of(f, "visual.class_embedding", 1, 0);
    c->v_depth = mcs_weight_file_blocks(f, "visual.transformer.resblocks.", ".ln_1.weight");
    c->v_mlp = size_of(f, "visual.transformer.resblocks.0.mlp.c_fc.weight", 2, 0);
    c->image_size = c->patch * (int)lround(sqrt(size_of(f, "visual.positional_embedding", 2, 0) - 1.0));
    c->vocab = size_of(f, "token_embedding.weight", 2, 0);
    c->t_width = size_of(f, "token_embedding.weight", 2, 1);
    c->positions = c->context = size_of(f, "positional_embedding", 2, 0);
    c->t_depth = mcs_weight_file_blocks(f, "transformer.resblocks.", ".ln_1.weight");
    c->t_mlp = size_of(f, "transformer.resblocks.0.mlp.c_fc.weight", 2, 0);
    c->v_heads = c->t_heads = 1;
    const int all[] = {c->embed, c->patch,   c->v_width,   c->v_depth, c->v_mlp, c->image_size,
                       c->vocab, c->t_width, c->positions, c->t_depth, c->t_mlp};
    return plausible(c, all, sizeof all / sizeof *all);
}

static enum mcs_status recognise_openai(const struct weight_file *f, const char *folder, struct arena *a,
                                        struct params *p, struct model_info *info)
{
    struct clip_config c, read;
    info->name = "CLIP with OpenAI's towers";
    if (!openai_sizes(f, &c)) {
        info->note = "sizes are missing, so its tensors are not compared";
        return MCS_OK;
    }
    info->name = mcs_arena_printf(a, "CLIP with OpenAI's towers, ViT-%s/%d (image %d; text width %d, %d layers)",
                                  c.v_width == 768 && c.v_depth == 12    ? "B"
                                  : c.v_width == 1024 && c.v_depth == 24 ? "L"
                                                                         : "other",
                                  c.patch, c.image_size, c.t_width, c.t_depth);
    if (!has_clip_config(folder, a))
        info->note = "to use it put its configuration and the tokenizer's files beside it";
    else if (mcs_clip_config_read(folder, &read) != MCS_OK)
        info->note = mcs_arena_strdup(a, mcs_error_message());
    else if (read.v_openai && read.t_openai)
        c = read; /* its sizes are compared with the tensors' */
    mcs_error_clear();
    info->compared = 1;
    return mcs_clip_params_declare(&c, p);
}

/* 1 and the sizes of a SAM without sam_config.json; 0: they are not known. A config.json of transformers that is
 * refused is told in the note. */
static int sam_sizes(const struct weight_file *f, const char *folder, struct arena *a, struct model_info *info,
                     struct sam_config *c)
{
    const int known = mcs_sam_config_known(f, c), has = mcs_file_exists(mcs_arena_printf(a, "%s/config.json", folder));
    struct sam_config read;
    if (known && !(has && info->hugging_face)) return 1;
    if (mcs_sam_config_source(f, info->hugging_face, folder, &read) == MCS_OK) {
        *c = read;
        return 1;
    }
    info->note =
        has ? mcs_arena_strdup(a, mcs_error_message()) : "to use it put a sam_config.json with its sizes beside it";
    mcs_error_clear();
    return known;
}

static enum mcs_status recognise_sam(const struct weight_file *f, const char *folder, struct arena *a, struct params *p,
                                     struct model_info *info)
{
    const struct sam_config small = mcs_sam_small();
    const char *config = mcs_arena_printf(a, "%s/sam_config.json", folder);
    struct sam_config c, known;
    if (mcs_file_exists(config)) {
        MCS_TRY(mcs_sam_config_read(config, &c));
        info->name = c.width == small.width && c.depth == small.depth && c.image_size == small.image_size
                         ? "the demo's SAM"
                         : "SAM by the sizes of sam_config.json";
    } else if (!sam_sizes(f, folder, a, info, &c)) {
        info->name = "SAM of segment-anything's form, but neither ViT-B, -L nor -H";
        return MCS_OK;
    } else if (mcs_sam_config_known(f, &known)) {
        info->name = c.depth == 12   ? "SAM ViT-B (segment-anything's or MedSAM's)"
                     : c.depth == 24 ? "SAM ViT-L (segment-anything's)"
                                     : "SAM ViT-H (segment-anything's)";
    } else {
        info->name = mcs_arena_printf(a, "SAM (image %d, patch %d, width %d, %d blocks)", c.image_size, c.patch,
                                      c.width, c.depth);
    }
    info->compared = 1;
    return mcs_sam_params_declare(&c, p);
}

static enum mcs_status recognise_unet(const struct weight_file *f, const char *folder, struct arena *a,
                                      struct params *p, struct model_info *info)
{
    const struct pickle_value *object = mcs_weight_file_object(f), *epoch = mcs_pickle_get(object, "current_epoch");
    const char *trainer = mcs_pickle_text(mcs_pickle_get(object, "trainer_name"));
    struct unet_plans plans;
    info->name = trainer && epoch && epoch->kind == PICKLE_INT
                     ? mcs_arena_printf(a, "nnU-Net's checkpoint (PlainConvUNet, %.100s, epoch %lld)", trainer,
                                        (long long)epoch->i)
                     : "nnU-Net's PlainConvUNet";
    if (!mcs_file_exists(mcs_arena_printf(a, "%s/plans.json", folder))) {
        info->note = "there is no plans.json beside it, so its tensors are not compared";
        return MCS_OK;
    }
    if (mcs_unet_plans_read(folder, &plans) != MCS_OK) {
        info->note = mcs_arena_printf(a, "not compared: %s", mcs_error_message());
        mcs_error_clear();
        return MCS_OK;
    }
    info->compared = 1;
    return mcs_unet_params_declare(&plans, p);
}

/* ---- comparison ---- */

static enum mcs_status new_list(struct arena *a, int n, struct name_list *list)
{
    list->v = mcs_arena_alloc(a, ((size_t)n + 1) * sizeof *list->v);
    MCS_REQUIRE(list->v, MCS_E_NOMEM, "no memory for lists of tensors");
    return MCS_OK;
}

static enum mcs_status compare(const struct weight_file *f, const struct params *p, struct arena *a,
                               struct model_info *info)
{
    const int n = mcs_weight_file_count(f);
    const struct weight_tensor *first = mcs_weight_file_at(f, 0);
    char line[WEIGHTS_LINE];
    MCS_TRY(new_list(a, p->n, &info->missing));
    MCS_TRY(new_list(a, p->n, &info->misshapen));
    MCS_TRY(new_list(a, n, &info->extra));
    char *used = mcs_arena_alloc(a, (size_t)n + 1);
    MCS_REQUIRE(used, MCS_E_NOMEM, "no memory for lists of tensors");
    for (int i = 0; i < p->n; i++) {
        const struct weight_tensor *t = mcs_weight_file_find(f, p->t[i]->name);
        if (t) used[t - first] = 1;
        switch (mcs_weights_fit(f, p->t[i], line)) {
        case WEIGHTS_FIT: break;
        case WEIGHTS_MISSING: info->missing.v[info->missing.n++] = mcs_arena_strdup(a, p->t[i]->name); break;
        case WEIGHTS_MISSHAPEN: info->misshapen.v[info->misshapen.n++] = mcs_arena_strdup(a, line); break;
        }
    }
    for (int i = 0; i < n; i++)
        if (!used[i]) info->extra.v[info->extra.n++] = first[i].name;
    return mcs_arena_status(a);
}

/* ---- recognition ---- */

/* Models, or parts of them, that are not recognised above, by one of their tensors. */
static const char PART[] = "only a part of the model: the tensors that tell its sizes are missing";
static const struct {
    const char *tensor, *name, *note; /* note NULL: not read by this program */
} others[] = {
    {"text_model.embeddings.token_type_embedding.weight", "BiomedCLIP in the names of MedCLIP-SAMv2's port", PART},
    {"vision_model.embeddings.class_embedding", "CLIP in Hugging Face's names", PART},
    {"vision_encoder.patch_embed.projection.weight", "SAM in Hugging Face's names", PART},
    {"image_encoder.trunk.patch_embed.proj.weight", "SAM 2", NULL},
    {"encoder.stem.convs.0.conv.weight", "nnU-Net's ResidualEncoderUNet", NULL},
    {"embeddings.word_embeddings.weight", "BERT alone", NULL},
    {"bert.embeddings.word_embeddings.weight", "BERT alone", NULL},
    {"cls_token", "a vision transformer of timm alone", NULL},
};

static enum mcs_status recognise(const struct weight_file *f, struct arena *a, struct model_info *info)
{
    static const struct {
        const char *tensor;
        enum mcs_status (*run)(const struct weight_file *f, const char *folder, struct arena *a, struct params *p,
                               struct model_info *info);
    } models[] = {{"visual.trunk.cls_token", recognise_clip},
                  {"visual.conv1.weight", recognise_openai},
                  {"image_encoder.pos_embed", recognise_sam},
                  {"encoder.stages.0.0.convs.0.conv.weight", recognise_unet}};
    char folder[MCS_PATH_BYTES];
    const char *name;
    MCS_TRY(mcs_path_split(mcs_weight_file_path(f), folder, &name));
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (!mcs_weight_file_find(f, models[i].tensor)) continue;
        struct params *p = mcs_params_new();
        MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for a list of parameters");
        enum mcs_status st = models[i].run(f, folder, a, p, info);
        if (st == MCS_OK && info->compared) st = compare(f, p, a, info);
        mcs_params_free(p);
        return st;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others && !info->name; i++)
        if (mcs_weight_file_find(f, others[i].tensor)) {
            info->name = others[i].name;
            info->note = others[i].note ? others[i].note : "not read by this program";
        }
    return mcs_arena_status(a);
}

enum mcs_status mcs_model_recognise(const struct weight_file *f, struct arena *a, struct model_info *info)
{
    const enum weight_layout layout = mcs_weight_layout(f), reference = mcs_layout_reference(layout);
    struct weight_file *view;
    *info = (struct model_info){.hugging_face = layout == LAYOUT_HUGGINGFACE_SAM || layout == LAYOUT_HUGGINGFACE_CLIP};
    MCS_TRY(mcs_weight_view(f, reference, &view));
    const enum mcs_status st = recognise(view, a, info);
    for (int i = 0; st == MCS_OK && i < info->extra.n; i++) info->extra.v[i] = mcs_arena_strdup(a, info->extra.v[i]);
    mcs_weight_file_close(view);
    MCS_TRY(st);
    if (info->name && layout != reference)
        info->name = mcs_arena_printf(a, "%s, in %s", info->name, mcs_layout_text(layout));
    return mcs_arena_status(a);
}
