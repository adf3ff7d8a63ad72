#include "infer/sam/sam_model.h"

#include "data/io/file.h"
#include "data/weights/weight_file.h"
#include "engine/base/path.h"
#include "engine/model/layers.h"
#include "infer/sam/sam_plan.h"
#include "infer/weights.h"

#include <stdio.h>
#include <string.h>

static const char *const WEIGHT_FILES[] = {"sam.safetensors", "model.safetensors", "model.safetensors.index.json",
                                           "pytorch_model.bin", NULL};

/* Declares all parameters, the mask prompt's included. */
enum mcs_status mcs_sam_params_declare(const struct sam_config *c, struct params *p)
{
    const int64_t one = 1, s = c->image_size;
    struct graph *g = mcs_graph_new(p, MCS_F32); /* the weights are float32 whatever the activations are */
    struct tensor *image = mcs_input(g, "image", MCS_F32, MCS_DIMS(1, s, s, 3));
    struct tensor *image_of = mcs_input(g, "image_of", MCS_I32, 1, &one);
    const struct sam_prompt prompt = mcs_sam_prompt_inputs(g, c, 1, 2, 1);
    mcs_sam_decode(g, mcs_sam_encode(g, image, c), image_of, &prompt, c);
    const enum mcs_status st = mcs_graph_status(g);
    mcs_graph_free(g);
    return st;
}

static enum mcs_status name_params(struct sam_model *m, struct device *d)
{
    m->device = m->work.device = m->masks.device = d;
    m->params = mcs_params_new();
    MCS_TRY(mcs_sam_params_declare(&m->config, m->params));
    return mcs_params_alloc(m->params, d);
}

enum mcs_status mcs_sam_model_new(const struct sam_config *c, uint64_t seed, struct device *d, struct sam_model *m)
{
    *m = (struct sam_model){.config = *c};
    enum mcs_status st = mcs_sam_config_check("these sizes", c);
    if (st == MCS_OK) st = name_params(m, d);
    if (st == MCS_OK) st = mcs_params_init(m->params, seed);
    if (st != MCS_OK) mcs_sam_model_close(m);
    return st;
}

enum mcs_status mcs_sam_model_open(const char *path, struct device *d, struct sam_model *m)
{
    MCS_TRY(mcs_sam_model_open_hashing(path, d, m));
    const enum mcs_status st = mcs_sam_model_hash(m);
    if (st != MCS_OK) mcs_sam_model_close(m);
    return st;
}

enum mcs_status mcs_sam_model_hash(struct sam_model *m)
{
    struct weights_hash *hash = m->hash;
    m->hash = NULL;
    return mcs_weights_hash_end(hash, m->sha256);
}

enum mcs_status mcs_sam_model_lines(void *model, struct arena *arena, const char **lines)
{
    struct sam_model *m = model;
    MCS_TRY(mcs_sam_model_hash(m));
    *lines = mcs_arena_printf(arena, "model_sha256: %s\npreprocess: %s\n", m->sha256,
                              mcs_sam_preprocess_name(m->config.preprocess));
    return mcs_arena_status(arena);
}

enum mcs_status mcs_sam_model_open_hashing(const char *path, struct device *d, struct sam_model *m)
{
    char config[MCS_PATH_BYTES];
    *m = (struct sam_model){0};
    if (mcs_folder_exists(path))
        MCS_TRY(mcs_weight_folder_find(path, WEIGHT_FILES, m->path));
    else
        MCS_TRY(mcs_path(m->path, "%s", path));
    const char *slash = strrchr(m->path, '/');
    MCS_TRY(mcs_path(config, "%.*ssam_config.json", slash ? (int)(slash - m->path) + 1 : 0, m->path));
    MCS_REQUIRE(mcs_file_exists(m->path), MCS_E_NOINPUT,
                "%s: no such file; a SAM model is a file of weights (sam_vit_b_01ec64.pth, medsam_vit_b.pth, "
                "safetensors), or a folder with one",
                m->path);
    MCS_TRY(mcs_file_exists(config) ? mcs_sam_config_read(config, &m->config)
                                    : mcs_sam_config_guess(m->path, &m->config));
    enum mcs_status st = name_params(m, d);
    if (st == MCS_OK) st = mcs_weights_read_hashing(m->path, m->params, &m->hash);
    if (st != MCS_OK) mcs_sam_model_close(m);
    return st;
}

void mcs_sam_model_close(struct sam_model *m)
{
    for (struct sam_plan *p = m->plans, *next; p; p = next) {
        next = p->next;
        mcs_sam_plan_free(p);
    }
    (void)mcs_weights_hash_end(m->hash, NULL);
    mcs_exec_memory_free(&m->memory);
    mcs_device_scratch_free(&m->work);
    mcs_device_scratch_free(&m->masks);
    mcs_params_free(m->params);
    *m = (struct sam_model){0};
}

enum mcs_status mcs_sam_model_save(const struct sam_model *m, const char *folder, int half, const char *note)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_folder_make(folder));
    MCS_TRY(mcs_path(path, "%s/sam.safetensors", folder));
    MCS_TRY(mcs_weights_write(path, m->params, half, NULL, note));
    MCS_TRY(mcs_path(path, "%s/sam_config.json", folder));
    return mcs_sam_config_write(path, &m->config);
}
