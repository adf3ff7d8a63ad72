/* The sizes of a SAM model: known ones, sam_config.json, and those of a weights file. */
#include "data/io/json.h"
#include "data/weights/weight_file.h"
#include "engine/base/log.h"
#include "infer/sam/sam_plan.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct sam_config mcs_sam_small(void)
{
    return (struct sam_config){.image_size = 128,
                               .patch = 8,
                               .width = 96,
                               .depth = 4,
                               .heads = 4,
                               .window = 8,
                               .mlp = 384,
                               .n_global = 2,
                               .global = {1, 3},
                               .embed = 64,
                               .d_heads = 4,
                               .d_mlp = 256,
                               .d_downsample = 2,
                               .mask_in = 16};
}

static struct sam_config vit_l(void)
{
    struct sam_config c = mcs_sam_vit_b();
    c.width = 1024, c.depth = 24, c.heads = 16, c.mlp = 4096;
    memcpy(c.global, (int[]){5, 11, 17, 23}, 4 * sizeof(int));
    return c;
}

static struct sam_config vit_h(void)
{
    struct sam_config c = mcs_sam_vit_b();
    c.width = 1280, c.depth = 32, c.heads = 16, c.mlp = 5120;
    memcpy(c.global, (int[]){7, 15, 23, 31}, 4 * sizeof(int));
    return c;
}

/* The integers of struct sam_config and their keys in sam_config.json. */
#define CONFIG_LIST(X)                                                                                                 \
    X(image_size)                                                                                                      \
    X(patch) X(width) X(depth) X(heads) X(window) X(mlp) X(embed) X(d_heads) X(d_mlp) X(d_downsample) X(mask_in)

enum mcs_status mcs_sam_config_check(const char *path, const struct sam_config *c)
{
#define X(name)                                                                                                        \
    MCS_REQUIRE(c->name > 0 && c->name <= 1 << 16, MCS_E_DATA, "%s: %s is %d; want 1 to 65536", path, #name, c->name);
    CONFIG_LIST(X)
#undef X
    MCS_REQUIRE(c->depth <= 256, MCS_E_DATA, "%s: depth %d is more than this program plans for", path, c->depth);
    MCS_REQUIRE(c->image_size <= 4096 && c->image_size % c->patch == 0, MCS_E_DATA,
                "%s: image_size %d must be a multiple of patch %d, and at most 4096", path, c->image_size, c->patch);
    MCS_REQUIRE(c->width % c->heads == 0, MCS_E_DATA, "%s: width %d is not a multiple of %d heads", path, c->width,
                c->heads);
    MCS_REQUIRE(c->embed % (c->d_downsample * c->d_heads) == 0 && c->embed % 8 == 0, MCS_E_DATA,
                "%s: embed %d must be a multiple of 8 and of d_downsample x d_heads", path, c->embed);
    MCS_REQUIRE(c->mask_in % 4 == 0, MCS_E_DATA, "%s: mask_in %d is not a multiple of 4", path, c->mask_in);
    for (int i = 0; i < c->n_global; i++)
        MCS_REQUIRE(c->global[i] >= 0 && c->global[i] < c->depth, MCS_E_DATA, "%s: no block %d to be global", path,
                    c->global[i]);
    return MCS_OK;
}

static const char *const PREPROCESS[] = {[SAM_PREPROCESS_SAM] = "sam", [SAM_PREPROCESS_MEDSAM] = "medsam"};

const char *mcs_sam_preprocess_name(enum sam_preprocess p)
{
    return PREPROCESS[p];
}

/* 1 and *p, or 0 for another word. */
static int parse_preprocess(const char *word, enum sam_preprocess *p)
{
    for (int i = 0; word && i < 2; i++)
        if (!strcmp(word, PREPROCESS[i])) {
            *p = (enum sam_preprocess)i;
            return 1;
        }
    return 0;
}

enum mcs_status mcs_sam_preprocess_set(struct sam_model *m, const char *word)
{
    const char *slash = strrchr(m->path, '/'), *name = slash ? slash + 1 : m->path;
    if (word)
        MCS_REQUIRE(parse_preprocess(word, &m->config.preprocess), MCS_E_USAGE, "preprocess '%s': want sam or medsam",
                    word);
    else if (m->config.preprocess == SAM_PREPROCESS_SAM && !strncasecmp(name, "medsam", 6))
        mcs_warn("%s: images are prepared as for SAM; if these are MedSAM's weights, --preprocess medsam is right",
                 m->path);
    return MCS_OK;
}

static enum mcs_status parse_config(const char *path, const json_t *root, struct sam_config *c)
{
    *c = mcs_sam_vit_b();
    MCS_REQUIRE(json_is_object(root), MCS_E_DATA, "%s: want a JSON object", path);
#define X(name)                                                                                                        \
    {                                                                                                                  \
        const json_t *v = json_object_get(root, #name);                                                                \
        const json_int_t n = json_integer_value(v);                                                                    \
        MCS_REQUIRE(!v || (json_is_integer(v) && n > 0 && n <= 1 << 16), MCS_E_DATA,                                   \
                    "%s: %s must be a positive integer", path, #name);                                                 \
        if (v) c->name = (int)n;                                                                                       \
    }
    CONFIG_LIST(X)
#undef X
    const json_t *global = json_object_get(root, "global"), *preprocess = json_object_get(root, "preprocess");
    MCS_REQUIRE(!preprocess || parse_preprocess(json_string_value(preprocess), &c->preprocess), MCS_E_DATA,
                "%s: preprocess must be \"sam\" or \"medsam\"", path);
    if (global) {
        MCS_REQUIRE(json_is_array(global) && json_array_size(global) <= SAM_MAX_GLOBAL, MCS_E_DATA,
                    "%s: global must be a list of at most %d blocks", path, SAM_MAX_GLOBAL);
        c->n_global = (int)json_array_size(global);
        for (int i = 0; i < c->n_global; i++) {
            const json_t *v = json_array_get(global, (size_t)i);
            MCS_REQUIRE(json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < 1 << 16, MCS_E_DATA,
                        "%s: global must be a list of blocks' numbers", path);
            c->global[i] = (int)json_integer_value(v);
        }
    }
    return mcs_sam_config_check(path, c);
}

enum mcs_status mcs_sam_config_read(const char *path, struct sam_config *c)
{
    json_t *root;
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    const enum mcs_status st = parse_config(path, root, c);
    json_decref(root);
    return st;
}

enum mcs_status mcs_sam_config_write(const char *path, const struct sam_config *c)
{
    json_t *root = json_object(), *global = json_array();
    if (!root || !global) {
        json_decref(root);
        json_decref(global);
        return MCS_FAIL(MCS_E_NOMEM, "%s: no memory to write it", path);
    }
#define X(name) json_object_set_new(root, #name, json_integer(c->name));
    CONFIG_LIST(X)
#undef X
    for (int i = 0; i < c->n_global; i++) json_array_append_new(global, json_integer(c->global[i]));
    json_object_set_new(root, "global", global);
    if (c->preprocess != SAM_PREPROCESS_SAM)
        json_object_set_new(root, "preprocess", json_string(PREPROCESS[c->preprocess]));
    return mcs_json_write(root, JSON_INDENT(1), "%s", path);
}

int mcs_sam_config_known(const struct weight_file *file, struct sam_config *c)
{
    const struct sam_config known[] = {mcs_sam_vit_b(), vit_l(), vit_h()};
    const struct weight_tensor *t = mcs_weight_file_find(file, "image_encoder.pos_embed");
    for (int k = 0; t && k < 3; k++)
        if (t->nd == 4 && t->dims[1] == 64 && t->dims[2] == 64 && t->dims[3] == known[k].width) {
            *c = known[k];
            return 1;
        }
    return 0;
}
