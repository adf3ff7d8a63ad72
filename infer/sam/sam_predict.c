/* SAM's prompt encoder and mask decoder: low resolution masks of prompts on image embeddings. */
#include "engine/device_ops.h"
#include "infer/sam/sam_plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_POINTS = 4096, MAX_CHUNK = SAM_CHUNK };

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
 * float32, as segment-anything does. MedSAM divides by the image's size first. */
static void put_token(const struct sam_config *c, const struct sam_frame *f, double x, double y, int label, int64_t k,
                      float *coords, int32_t *labels, int32_t *kinds)
{
    const int medsam = c->preprocess == SAM_PREPROCESS_MEDSAM;
    const float fx = (float)(medsam ? x / f->width * f->in_width : x * ((double)f->in_width / f->width)),
                fy = (float)(medsam ? y / f->height * f->in_height : y * ((double)f->in_height / f->height));
    coords[2 * k] = (fx + 0.5f) / (float)c->image_size;
    coords[2 * k + 1] = (fy + 0.5f) / (float)c->image_size;
    labels[k] = label;
    kinds[k] = label + 1;
}

struct predict_buffers {
    float *coords, *masks;
    int32_t *label, *kind, *image_of;
};

/* Outputs: low_res on the device in order of decoding, place: position of each prompt there; iou on the host. */
struct predicted {
    float *low_res, *iou;
    int *place, n_placed;
};

static enum mcs_status copy_embedding(struct sam_model *m, const float *from, float *to)
{
    const struct tensor t = {.name = "embedding",
                             .dt = MCS_F32,
                             .nd = 1,
                             .dim = {mcs_sam_embedding_values(&m->config)},
                             .data = (void *)from};
    return m->device->backend->device_ops->copy(m->device, &t, to);
}

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
    MCS_TRY(mcs_sam_plan_get(m, 1, places, tokens, with_mask, &plan));
    for (int i = 0; i < places; i++) {
        const struct sam_prompts *p = &prompts[list[i < n ? i : 0]];
        const struct sam_frame *f = &frames[p->image];
        int slot = 0;
        while (slot < n_slots && slots[slot] != p->image) slot++;
        if (slot == n_slots) {
            slots[n_slots++] = p->image;
            MCS_TRY(copy_embedding(m, embeddings + p->image * values, (float *)plan->embedding->data + slot * values));
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
    const size_t side = (size_t)mcs_sam_side(c), rows = MAX_CHUNK * (size_t)tokens + 1;
    b->coords = malloc(2 * rows * sizeof(float));
    b->masks = malloc(MAX_CHUNK * side * side * sizeof(float));
    b->label = malloc((2 * rows + MAX_CHUNK) * sizeof(int32_t));
    MCS_REQUIRE(b->coords && b->masks && b->label, MCS_E_NOMEM, "no memory for prompts");
    b->kind = b->label + rows;
    b->image_of = b->kind + rows;
    return MCS_OK;
}

// NOLINTBEGIN(readability-non-const-parameter): the results are written through struct predicted
enum mcs_status mcs_sam_predict_on_device(struct sam_model *m, const float *embeddings, const struct sam_frame *frames,
                                          int n_images, const struct sam_prompts *prompts, int n, float *low_res,
                                          int *place, float *iou)
// NOLINTEND(readability-non-const-parameter)
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
    free(b.masks);
    free(b.label);
    return st;
}

enum mcs_status mcs_sam_predict(struct sam_model *m, const float *embeddings, const struct sam_frame *frames,
                                int n_images, const struct sam_prompts *prompts, int n, float *low_res, float *iou)
{
    struct device *d = m->device;
    const int64_t masks = (int64_t)SAM_MASKS * mcs_sam_side(&m->config) * mcs_sam_side(&m->config),
                  values = n_images * mcs_sam_embedding_values(&m->config), word = sizeof(float);
    int *place = malloc(((size_t)n + 1) * sizeof *place);
    enum mcs_status st;
    MCS_REQUIRE(place, MCS_E_NOMEM, "no memory for %d prompts", n);
    MCS_TRY_GOTO(mcs_device_scratch(&m->work, ((n + SAM_CHUNK) * masks + values) * word), st, done);
    float *decoded = m->work.p, *embedded = decoded + (n + SAM_CHUNK) * masks;
    MCS_TRY_GOTO(d->backend->upload(d, embedded, embeddings, values * word), st, done);
    MCS_TRY_GOTO(mcs_sam_predict_on_device(m, embedded, frames, n_images, prompts, n, decoded, place, iou), st, done);
    for (int i = 0; i < n; i++)
        MCS_TRY_GOTO(d->backend->download(d, low_res + i * masks, decoded + place[i] * masks, masks * word), st, done);
done:
    free(place);
    return st;
}
