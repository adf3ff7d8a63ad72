#include "infer/sam/sam_model.h"

#include "data/io/file.h"
#include "data/io/json.h"
#include "data/io/safetensors.h"
#include "engine/device_ops.h"
#include "engine/image/bilinear.h"
#include "engine/model/layers.h"
#include "infer/weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_POINTS = 4096, MAX_CHUNK = SAM_CHUNK, MAX_PLANS = 12, SMALL_FRAME = 256, CHANNELS = 3 };

struct sam_plan {
    struct sam_plan *next; /* most recently used first */
    int decoder, with_mask;
    int64_t n, tokens;
    struct graph *graph;
    struct exec *exec;
    struct tensor *image, *embedding, *image_of;
    struct sam_prompt prompt;
    struct sam_output out;
};

/* ---- config ---- */

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

static enum mcs_status check_config(const char *path, const struct sam_config *c)
{
#define X(name)                                                                                                        \
    MCS_REQUIRE(c->name > 0 && c->name <= 1 << 16, MCS_E_DATA, "%s: %s is %d, which cannot be", path, #name, c->name);
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
    const json_t *global = json_object_get(root, "global");
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
    return check_config(path, c);
}

enum mcs_status mcs_sam_config_read(const char *path, struct sam_config *c)
{
    json_t *root;
    MCS_TRY(mcs_json_read(path, 1 << 20, 0, &root));
    const enum mcs_status st = parse_config(path, root, c);
    json_decref(root);
    return st;
}

static enum mcs_status write_config(const char *path, const struct sam_config *c)
{
    json_t *root = json_object(), *global = json_array();
    if (!root || !global) abort();
#define X(name) json_object_set_new(root, #name, json_integer(c->name));
    CONFIG_LIST(X)
#undef X
    for (int i = 0; i < c->n_global; i++) json_array_append_new(global, json_integer(c->global[i]));
    json_object_set_new(root, "global", global);
    return mcs_json_write(root, JSON_INDENT(1), "%s", path);
}

enum mcs_status mcs_sam_config_guess(const char *path, struct sam_config *c)
{
    static const char *const names[] = {"image_encoder.pos_embed", "module.image_encoder.pos_embed"};
    const struct sam_config known[] = {mcs_sam_vit_b(), vit_l(), vit_h()};
    struct safetensors *file;
    int found = 0;
    MCS_TRY(mcs_safetensors_open(path, &file));
    for (int i = 0; i < 2 && !found; i++) {
        const struct safetensor *t = mcs_safetensors_find(file, names[i]);
        for (int k = 0; t && k < 3; k++)
            if (t->nd == 4 && t->dims[1] == 64 && t->dims[2] == 64 && t->dims[3] == known[k].width) {
                *c = known[k];
                found = 1;
            }
    }
    mcs_safetensors_close(file);
    MCS_REQUIRE(found, MCS_E_DATA,
                "%s: not SAM's ViT-B, -L or -H by its image_encoder.pos_embed; put a sam_config.json beside it", path);
    return MCS_OK;
}

/* ---- the model ---- */

/* Declares all parameters, the mask prompt's included, and allocates them. */
static enum mcs_status name_params(struct sam_model *m, struct device *d)
{
    const struct sam_config *c = &m->config;
    const int64_t one = 1, s = c->image_size;
    m->device = d;
    m->params = mcs_params_new();
    struct graph *g = mcs_graph_new(m->params, m->device->activations);
    struct tensor *image = mcs_input(g, "image", MCS_F32, MCS_DIMS(1, s, s, 3));
    struct tensor *image_of = mcs_input(g, "image_of", MCS_I32, 1, &one);
    const struct sam_prompt prompt = mcs_sam_prompt_inputs(g, c, 1, 2, 1);
    mcs_sam_decode(g, mcs_sam_encode(g, image, c), image_of, &prompt, c);
    enum mcs_status st = mcs_graph_status(g);
    mcs_graph_free(g);
    if (st == MCS_OK) st = mcs_params_alloc(m->params, d);
    return st;
}

enum mcs_status mcs_sam_model_new(const struct sam_config *c, uint64_t seed, struct device *d, struct sam_model *m)
{
    *m = (struct sam_model){.config = *c};
    enum mcs_status st = check_config("these sizes", c);
    if (st == MCS_OK) st = name_params(m, d);
    if (st == MCS_OK) st = mcs_params_init(m->params, seed);
    if (st != MCS_OK) mcs_sam_model_close(m);
    return st;
}

enum mcs_status mcs_sam_model_open(const char *path, struct device *d, struct sam_model *m)
{
    char config[1100];
    *m = (struct sam_model){0};
    if (mcs_folder_exists(path))
        snprintf(m->path, sizeof m->path, "%s/sam.safetensors", path);
    else
        snprintf(m->path, sizeof m->path, "%s", path);
    const char *slash = strrchr(m->path, '/');
    snprintf(config, sizeof config, "%.*ssam_config.json", slash ? (int)(slash - m->path) + 1 : 0, m->path);
    MCS_REQUIRE(mcs_file_exists(m->path), MCS_E_NOINPUT,
                "%s: no such file; a SAM model is a safetensors file, or a "
                "folder with sam.safetensors and sam_config.json",
                m->path);
    MCS_TRY(mcs_file_exists(config) ? mcs_sam_config_read(config, &m->config)
                                    : mcs_sam_config_guess(m->path, &m->config));
    enum mcs_status st = name_params(m, d);
    if (st == MCS_OK) st = mcs_weights_read(m->path, m->params, m->sha256);
    if (st != MCS_OK) mcs_sam_model_close(m);
    return st;
}

static void plan_free(struct sam_plan *p)
{
    mcs_exec_free(p->exec);
    mcs_graph_free(p->graph);
    free(p);
}

void mcs_sam_model_close(struct sam_model *m)
{
    for (struct sam_plan *p = m->plans, *next; p; p = next) {
        next = p->next;
        plan_free(p);
    }
    mcs_exec_memory_free(&m->memory);
    mcs_params_free(m->params);
    *m = (struct sam_model){0};
}

enum mcs_status mcs_sam_model_save(const struct sam_model *m, const char *folder, int half, const char *note)
{
    char path[1100];
    MCS_TRY(mcs_folder_make(folder));
    snprintf(path, sizeof path, "%s/sam.safetensors", folder);
    MCS_TRY(mcs_weights_write(path, m->params, half, NULL, note));
    snprintf(path, sizeof path, "%s/sam_config.json", folder);
    return write_config(path, &m->config);
}

/* ---- plans ---- */

static enum mcs_status plan_build(struct sam_model *m, struct sam_plan *p)
{
    const struct sam_config *c = &m->config;
    const int64_t s = c->image_size, grid = mcs_sam_grid(c);
    struct graph *g = p->graph = mcs_graph_new(m->params, m->device->activations);
    if (p->decoder) {
        p->embedding = mcs_input(g, "embedding", MCS_F32, MCS_DIMS(p->n, grid, grid, c->embed));
        p->image_of = mcs_input(g, "image_of", MCS_I32, MCS_DIMS(p->n));
        p->prompt = mcs_sam_prompt_inputs(g, c, p->n, p->tokens, p->with_mask);
        p->out = mcs_sam_decode(g, p->embedding, p->image_of, &p->prompt, c);
        mcs_keep(p->out.masks);
        mcs_keep(p->out.iou);
    } else {
        p->image = mcs_input(g, "image", MCS_F32, MCS_DIMS(p->n, s, s, 3));
        p->embedding = mcs_keep(mcs_sam_encode(g, p->image, c));
    }
    MCS_TRY(mcs_graph_status(g));
    m->memory.device = m->device;
    MCS_TRY(mcs_exec_new_in(&m->memory, g, &p->exec));
    return mcs_exec_memory_alloc(&m->memory);
}

/* Returns the compiled graph for these sizes, compiling it if it is not in the list of the MAX_PLANS last used. */
static enum mcs_status plan_get(struct sam_model *m, int decoder, int64_t n, int64_t tokens, int with_mask,
                                struct sam_plan **plan)
{
    int n_plans = 0;
    for (struct sam_plan **at = &m->plans; *at; at = &(*at)->next) {
        struct sam_plan *p = *at;
        if (p->decoder == decoder && p->n == n && p->tokens == tokens && p->with_mask == with_mask) {
            *at = p->next;
            p->next = m->plans;
            m->plans = *plan = p;
            return mcs_exec_memory_alloc(&m->memory); /* a no-op unless an earlier plan's allocation failed */
        }
        if (++n_plans == MAX_PLANS) {
            *at = NULL; /* p is the least recently used */
            plan_free(p);
            break;
        }
    }
    struct sam_plan *p = calloc(1, sizeof *p);
    MCS_REQUIRE(p, MCS_E_NOMEM, "no memory for a plan");
    p->decoder = decoder, p->n = n, p->tokens = tokens, p->with_mask = with_mask;
    const enum mcs_status st = plan_build(m, p);
    if (st != MCS_OK) {
        plan_free(p);
        return mcs_trace(st, __FILE__, __LINE__);
    }
    p->next = m->plans;
    m->plans = *plan = p;
    return MCS_OK;
}

/* ---- images ---- */

enum mcs_status mcs_sam_prepare(const struct sam_config *c, const struct image *img, float *dst,
                                struct sam_frame *frame)
{
    static const float mean[CHANNELS] = {123.675f, 116.28f, 103.53f}, deviation[CHANNELS] = {58.395f, 57.12f, 57.375f};
    MCS_REQUIRE(img->width > 0 && img->height > 0 && (img->channels == 1 || img->channels == CHANNELS), MCS_E_DATA,
                "an image of %d x %d with %d channels is none for SAM", img->width, img->height, img->channels);
    const int s = c->image_size;
    const double scale = (double)s / (img->width > img->height ? img->width : img->height);
    *frame =
        (struct sam_frame){img->width, img->height, (int)(img->width * scale + 0.5), (int)(img->height * scale + 0.5)};
    if (frame->in_width < 1) frame->in_width = 1; /* thinner than a pixel: segment-anything fails here */
    if (frame->in_height < 1) frame->in_height = 1;
    struct image small;
    MCS_TRY(mcs_image_resize(img, frame->in_width, frame->in_height, MCS_BILINEAR, &small));
    memset(dst, 0, (size_t)s * (size_t)s * CHANNELS * sizeof *dst);
    for (int y = 0; y < small.height; y++)
        for (int x = 0; x < small.width; x++) {
            const uint8_t *p = small.pixels + ((size_t)y * (size_t)small.width + (size_t)x) * (size_t)small.channels;
            float *q = dst + ((size_t)y * (size_t)s + (size_t)x) * CHANNELS;
            for (int k = 0; k < CHANNELS; k++) q[k] = ((float)p[small.channels == 1 ? 0 : k] - mean[k]) / deviation[k];
        }
    mcs_image_free(&small);
    return MCS_OK;
}

int64_t mcs_sam_embedding_values(const struct sam_config *c)
{
    return (int64_t)mcs_sam_grid(c) * mcs_sam_grid(c) * c->embed;
}

int mcs_sam_side(const struct sam_config *c)
{
    return 4 * mcs_sam_grid(c);
}

enum mcs_status mcs_sam_encode_images(struct sam_model *m, const float *images, int n, float *dst)
{
    const int64_t pixels = (int64_t)m->config.image_size * m->config.image_size * CHANNELS,
                  values = mcs_sam_embedding_values(&m->config);
    const int batch = m->config.image_size <= SMALL_FRAME ? MAX_CHUNK : 1;
    for (int done = 0; done < n;) {
        struct sam_plan *p;
        const int now = n - done >= batch ? batch : 1;
        MCS_TRY(plan_get(m, 0, now, 0, 0, &p));
        MCS_TRY(mcs_exec_set(p->exec, p->image, images + done * pixels));
        MCS_TRY(mcs_exec_run(p->exec));
        MCS_TRY(mcs_exec_get(p->exec, p->embedding, dst + done * values));
        done += now;
    }
    return MCS_OK;
}

/* ---- prompts ---- */

/* Sparse prompt tokens: the points, the padding point if there is no box, the box's two corners. */
static int64_t n_tokens(const struct sam_prompts *p)
{
    return p->n_points + (p->n_points && !p->has_box ? 1 : 0) + (p->has_box ? 2 : 0);
}

static enum mcs_status check_prompt(const struct sam_prompts *p, int n_images)
{
    MCS_REQUIRE(p->image >= 0 && p->image < n_images, MCS_E_USAGE, "a prompt for image %d of %d", p->image, n_images);
    MCS_REQUIRE(p->n_points >= 0 && p->n_points <= MAX_POINTS, MCS_E_USAGE, "%d points; at most %d", p->n_points,
                MAX_POINTS);
    for (int i = 0; i < p->n_points; i++) {
        MCS_REQUIRE(p->labels[i] == 0 || p->labels[i] == 1, MCS_E_USAGE,
                    "a point's label is %d; 1 is inside, 0 outside", p->labels[i]);
        MCS_REQUIRE(isfinite(p->points[i][0]) && isfinite(p->points[i][1]), MCS_E_USAGE, "a point is not finite");
    }
    for (int i = 0; p->has_box && i < 4; i++)
        MCS_REQUIRE(isfinite(p->box[i]), MCS_E_USAGE, "a box's corner is not finite");
    return MCS_OK;
}

/* Writes token k at (x, y) in image pixels: scaled to the frame in float64, rounded to float32, then (v + 0.5) / S in
 * float32, as segment-anything does. */
static void put_token(const struct sam_config *c, const struct sam_frame *f, double x, double y, int label, int64_t k,
                      float *coords, int32_t *labels, int32_t *kinds)
{
    const float fx = (float)(x * ((double)f->in_width / f->width)),
                fy = (float)(y * ((double)f->in_height / f->height));
    coords[2 * k] = (fx + 0.5f) / (float)c->image_size;
    coords[2 * k + 1] = (fy + 0.5f) / (float)c->image_size;
    labels[k] = label;
    kinds[k] = label + 1;
}

struct predict_buffers {
    float *coords, *embedding, *masks;
    int32_t *label, *kind, *image_of;
};

/* Outputs: low_res on the device in order of decoding, place: position of each prompt there; iou on the host. */
struct predicted {
    float *low_res, *iou;
    int *place, n_placed;
};

/* Decodes prompts list[0..n) (n <= MAX_CHUNK), all of one kind; the plan may have more places, which repeat the first.
 */
static enum mcs_status decode_chunk(struct sam_model *m, const float *embeddings, const struct sam_frame *frames,
                                    const struct sam_prompts *prompts, const int *list, int n,
                                    const struct predict_buffers *b, struct predicted *to)
{
    const struct sam_config *c = &m->config;
    const int64_t values = mcs_sam_embedding_values(c), side = mcs_sam_side(c), tokens = n_tokens(&prompts[list[0]]);
    const int with_mask = prompts[list[0]].mask != NULL;
    int places = 1, slots[MAX_CHUNK], n_slots = 0;
    float all_iou[MAX_CHUNK * SAM_MASKS];
    while (places < n) places *= 2;
    struct sam_plan *plan;
    MCS_TRY(plan_get(m, 1, places, tokens, with_mask, &plan));
    memset(b->embedding, 0, (size_t)(places * values) * sizeof(float));
    for (int i = 0; i < places; i++) {
        const struct sam_prompts *p = &prompts[list[i < n ? i : 0]];
        const struct sam_frame *f = &frames[p->image];
        int slot = 0;
        while (slot < n_slots && slots[slot] != p->image) slot++;
        if (slot == n_slots) {
            slots[n_slots++] = p->image;
            memcpy(b->embedding + slot * values, embeddings + p->image * values, (size_t)values * sizeof(float));
        }
        b->image_of[i] = slot;
        int64_t k = i * tokens;
        for (int j = 0; j < p->n_points; j++)
            put_token(c, f, p->points[j][0], p->points[j][1], p->labels[j], k++, b->coords, b->label, b->kind);
        if (p->n_points && !p->has_box) put_token(c, f, 0, 0, -1, k++, b->coords, b->label, b->kind);
        for (int j = 0; p->has_box && j < 2; j++)
            put_token(c, f, p->box[2 * j], p->box[2 * j + 1], 2 + j, k++, b->coords, b->label, b->kind);
        if (with_mask) memcpy(b->masks + i * side * side, p->mask, (size_t)(side * side) * sizeof(float));
    }
    MCS_TRY(mcs_exec_set(plan->exec, plan->embedding, b->embedding));
    MCS_TRY(mcs_exec_set(plan->exec, plan->image_of, b->image_of));
    if (tokens) {
        MCS_TRY(mcs_exec_set(plan->exec, plan->prompt.coords, b->coords));
        MCS_TRY(mcs_exec_set(plan->exec, plan->prompt.label, b->label));
        MCS_TRY(mcs_exec_set(plan->exec, plan->prompt.kind, b->kind));
    }
    if (with_mask) MCS_TRY(mcs_exec_set(plan->exec, plan->prompt.mask, b->masks));
    MCS_TRY(mcs_exec_run(plan->exec));
    const int64_t one = SAM_MASKS * side * side;
    /* Padding outputs follow the valid ones and are overwritten by the next chunk. */
    MCS_TRY(m->device->backend->device_ops->copy(m->device, plan->out.masks, to->low_res + to->n_placed * one));
    MCS_TRY(mcs_exec_get(plan->exec, plan->out.iou, all_iou));
    for (int i = 0; i < n; i++) {
        to->place[list[i]] = to->n_placed++;
        memcpy(to->iou + list[i] * SAM_MASKS, all_iou + i * SAM_MASKS, SAM_MASKS * sizeof(float));
    }
    return MCS_OK;
}

static enum mcs_status buffers_alloc(const struct sam_config *c, int64_t tokens, struct predict_buffers *b)
{
    const size_t values = (size_t)mcs_sam_embedding_values(c), side = (size_t)mcs_sam_side(c),
                 rows = MAX_CHUNK * (size_t)tokens + 1;
    b->coords = malloc(2 * rows * sizeof(float));
    b->embedding = malloc(MAX_CHUNK * values * sizeof(float));
    b->masks = malloc(MAX_CHUNK * side * side * sizeof(float));
    b->label = malloc((2 * rows + MAX_CHUNK) * sizeof(int32_t));
    MCS_REQUIRE(b->coords && b->embedding && b->masks && b->label, MCS_E_NOMEM, "no memory for prompts");
    b->kind = b->label + rows;
    b->image_of = b->kind + rows;
    return MCS_OK;
}

enum mcs_status mcs_sam_predict_on_device(struct sam_model *m, const float *embeddings, const struct sam_frame *frames,
                                          int n_images, const struct sam_prompts *prompts, int n, float *low_res,
                                          int *place, float *iou)
{
    struct predicted to = {.low_res = low_res, .iou = iou, .place = place};
    struct predict_buffers b = {0};
    int64_t most = 0;
    enum mcs_status st = MCS_OK;
    uint8_t *done = calloc((size_t)n + 1, 1);
    MCS_REQUIRE(done, MCS_E_NOMEM, "no memory for %d prompts", n);
    for (int i = 0; i < n; i++) {
        MCS_TRY_GOTO(check_prompt(&prompts[i], n_images), st, end);
        if (n_tokens(&prompts[i]) > most) most = n_tokens(&prompts[i]);
    }
    MCS_TRY_GOTO(buffers_alloc(&m->config, most, &b), st, end);
    for (int first = 0; first < n; first++) {
        int list[MAX_CHUNK] = {0}, k = 0;
        if (done[first]) continue;
        for (int i = first; i < n && k < MAX_CHUNK; i++)
            if (!done[i] && n_tokens(&prompts[i]) == n_tokens(&prompts[first]) &&
                !prompts[i].mask == !prompts[first].mask) {
                list[k++] = i;
                done[i] = 1;
            }
        MCS_TRY_GOTO(decode_chunk(m, embeddings, frames, prompts, list, k, &b, &to), st, end);
    }
end:
    free(done);
    free(b.coords);
    free(b.embedding);
    free(b.masks);
    free(b.label);
    return st;
}

enum mcs_status mcs_sam_predict(struct sam_model *m, const float *embeddings, const struct sam_frame *frames,
                                int n_images, const struct sam_prompts *prompts, int n, float *low_res, float *iou)
{
    struct device *d = m->device;
    const int64_t values = (int64_t)SAM_MASKS * mcs_sam_side(&m->config) * mcs_sam_side(&m->config),
                  bytes = values * (int64_t)sizeof(float);
    int *place = malloc(((size_t)n + 1) * sizeof *place);
    void *p = NULL;
    enum mcs_status st;
    MCS_REQUIRE(place, MCS_E_NOMEM, "no memory for %d prompts", n);
    MCS_TRY_GOTO(d->backend->alloc(d, (n + SAM_CHUNK) * bytes, &p), st, done);
    MCS_TRY_GOTO(mcs_sam_predict_on_device(m, embeddings, frames, n_images, prompts, n, p, place, iou), st, done);
    for (int i = 0; i < n; i++)
        MCS_TRY_GOTO(d->backend->download(d, low_res + i * values, (float *)p + place[i] * values, bytes), st, done);
done:
    d->backend->free(d, p);
    free(place);
    return st;
}

/* ---- masks ---- */

enum mcs_status mcs_sam_upscale(const struct sam_config *c, const float *low_res, const struct sam_frame *frame,
                                struct map2 *dst)
{
    const int side = mcs_sam_side(c), s = c->image_size, w = frame->in_width, h = frame->in_height;
    const struct bilinear to_frame = {side, side, s, s}, to_image = {w, h, frame->width, frame->height};
    struct map2 part = {0};
    MCS_TRY(mcs_map_alloc(&part, w, h));
    for (int y = 0; y < h; y++) mcs_bilinear_row(&to_frame, low_res, y, w, part.values + (int64_t)y * w);
    const enum mcs_status st = mcs_map_alloc(dst, frame->width, frame->height);
    for (int y = 0; st == MCS_OK && y < dst->height; y++)
        mcs_bilinear_row(&to_image, part.values, y, dst->width, dst->values + (int64_t)y * dst->width);
    mcs_map_free(&part);
    return st;
}

int mcs_sam_choose(const float iou[SAM_MASKS], int multimask)
{
    int best = 1;
    if (!multimask) return 0;
    for (int i = 2; i < SAM_MASKS; i++)
        if (iou[i] > iou[best]) best = i;
    return best;
}

enum mcs_status mcs_sam_masks(const struct sam_config *c, struct device_scratch *on, const float *low_res,
                              const int32_t *plane, int n, const struct sam_frame *f, float weight, uint8_t *united,
                              struct sam_counts *counts)
{
    struct device *d = on->device;
    const int64_t pixels = (int64_t)f->width * f->height, word = sizeof(uint32_t);
    enum mcs_status st;
    uint32_t(*count)[3] = malloc((size_t)n * sizeof *count);
    MCS_REQUIRE(count, MCS_E_NOMEM, "no memory for %d masks", n);
    MCS_TRY_GOTO(mcs_device_scratch(on, 4 * n * word + pixels), st, done);
    const struct masks_args a = {.n = n,
                                 .side = mcs_sam_side(c),
                                 .frame = c->image_size,
                                 .in_height = f->in_height,
                                 .in_width = f->in_width,
                                 .height = f->height,
                                 .width = f->width,
                                 .weight = weight,
                                 .low_res = low_res,
                                 .plane = on->p,
                                 .counts = (uint32_t *)on->p + n,
                                 .united = united ? (uint8_t *)on->p + 4 * n * word : NULL};
    MCS_TRY_GOTO(d->backend->upload(d, on->p, plane, n * word), st, done);
    MCS_TRY_GOTO(d->backend->device_ops->masks(d, &a), st, done);
    MCS_TRY_GOTO(d->backend->download(d, count, a.counts, 3 * n * word), st, done);
    if (united) MCS_TRY_GOTO(d->backend->download(d, united, a.united, pixels), st, done);
    for (int i = 0; i < n; i++)
        counts[i] = (struct sam_counts){count[i][0], count[i][2] ? (double)count[i][1] / (double)count[i][2] : 1.0};
done:
    free(count);
    return st;
}

enum mcs_status mcs_sam_mask_prompt(const struct sam_config *c, const struct image *mask, float *dst)
{
    const int side = mcs_sam_side(c);
    MCS_REQUIRE(mask->width > 0 && mask->height > 0, MCS_E_DATA, "a mask without pixels");
    const double scale = (double)side / (mask->width > mask->height ? mask->width : mask->height);
    int w = (int)(mask->width * scale + 0.5), h = (int)(mask->height * scale + 0.5);
    struct image flat, small;
    MCS_TRY(mcs_image_alloc(&flat, mask->width, mask->height, 1));
    for (int64_t i = 0, n = (int64_t)mask->width * mask->height; i < n; i++)
        for (int k = 0; k < mask->channels; k++)
            if (mask->pixels[i * mask->channels + k]) flat.pixels[i] = 255;
    const enum mcs_status st = mcs_image_resize(&flat, w < 1 ? 1 : w, h < 1 ? 1 : h, MCS_BILINEAR, &small);
    mcs_image_free(&flat);
    if (st != MCS_OK) return mcs_trace(st, __FILE__, __LINE__);
    for (int i = 0; i < side * side; i++) dst[i] = -10;
    for (int y = 0; y < small.height; y++)
        for (int x = 0; x < small.width; x++)
            dst[y * side + x] = 20.0f * (float)small.pixels[y * small.width + x] / 255.0f - 10.0f;
    mcs_image_free(&small);
    return MCS_OK;
}
