#include "infer/cmd/segment_cases.h"

#include "data/image/volume.h"
#include "data/image/window.h"
#include "data/io/json.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- results ---- */

/* The entry of an image or a slice in summary.json. */
static json_t *describe(const struct segment_case *s)
{
    json_t *boxes = json_array();
    int64_t area = 0;
    for (int64_t i = 0, n = (int64_t)s->image->width * s->image->height; i < n; i++) area += s->mask[i] != 0;
    for (int k = 0; k < s->coarse.n_boxes; k++) {
        const struct box_component *b = &s->coarse.boxes[k];
        json_array_append_new(boxes, json_pack("{s:[i,i,i,i], s:o, s:i}", "box", b->x0, b->y0, b->x1, b->y1,
                                               "confidence", mcs_json_number(b->confidence), "area", b->area));
    }
    const int empty = s->coarse.state != MCS_MASK_OK;
    return json_pack("{s:o, s:o, s:o, s:I, s:o}", "presence", mcs_json_number((double)s->presence), "boxes", boxes,
                     "iou", empty ? json_null() : mcs_json_number((double)s->iou), "area", (json_int_t)area, "empty",
                     empty ? json_string(mcs_mask_state_text(s->coarse.state)) : json_null());
}

/* A case's boxes for coarse/boxes.json. */
static json_t *boxes_of(const struct segment_case *s, const char *name)
{
    return mcs_box_case_json(
        &(struct box_case){.image = name,
                           .width = s->image->width,
                           .height = s->image->height,
                           .n_components = s->coarse.n_boxes,
                           .components = s->coarse.boxes,
                           .reason = s->coarse.state == MCS_MASK_OK ? NULL : mcs_mask_state_text(s->coarse.state)});
}

/* Records a case whose files have been written. ending: extension of its masks. Takes ownership of `summary` and `box`;
 * box may be NULL. */
static enum mcs_status add_case(struct segment_work *w, const struct request *r, const char *ending, json_t *summary,
                                json_t *box)
{
    struct arena a = {0};
    const struct run_source source = {(const char *const[]){r->path, NULL}, (const char *const[]){r->text, NULL}};
    const char *mask = mcs_arena_printf(&a, "%s%s", r->stem, ending), *files[5] = {mask}, *map = ".nii.gz";
    int n = 1;
    if (w->c->keep_stages) {
        files[n++] = mcs_arena_printf(&a, "coarse/%s", mask);
        if (box) files[n++] = mcs_arena_printf(&a, "saliency/%s.h5", r->stem), map = ".png";
        files[n++] = mcs_arena_printf(&a, "saliency/%s%s", r->stem, map);
    }
    json_t *result = json_pack("{s:o, s:o*}", "case", summary, "box", box);
    w->results[r - w->requests] = json_incref(result);
    w->n_done++;
    const enum mcs_status st = mcs_run_case_add(w->run, r->stem, &source, files, result);
    mcs_arena_free(&a);
    return st;
}

static enum mcs_status write_image_case(struct segment_work *w, const struct request *r, const struct segment_case *s)
{
    const struct segment_command *c = w->c;
    const int width = s->image->width, height = s->image->height;
    char path[MCS_PATH_BYTES];
    if (c->keep_stages) {
        MCS_TRY(mcs_path(path, "%s/saliency", c->output));
        MCS_TRY(mcs_clip_model_hash(&w->clip));
        MCS_TRY(mcs_saliency_write(&c->common, &w->clip, path, s->stem, &s->map, s->presence, s->text));
        MCS_TRY(mcs_path(path, "%s/coarse/%s.png", c->output, s->stem));
        MCS_TRY(mcs_image_write_mask(path, s->coarse_mask, width, height));
    }
    MCS_TRY(mcs_path(path, "%s/%s.png", c->output, s->stem));
    MCS_TRY(mcs_image_write_mask(path, s->mask, width, height));
    MCS_TRY(mcs_path(path, "%s.png", s->stem));
    json_t *o = describe(s);
    json_object_set_new(o, "image", mcs_json_text(r->name));
    json_object_set_new(o, "mask", mcs_json_text(path));
    json_object_set_new(o, "text", mcs_json_text(r->text));
    return add_case(w, r, ".png", o, boxes_of(s, r->name));
}

/* Checks before a case is computed that none of its file names is too long; --keep-stages has the longest paths. */
static enum mcs_status name_check(const struct segment_command *c, const char *stem, const char *suffix)
{
    char folder[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(folder, c->keep_stages ? "%s/saliency" : "%s", c->output));
    return mcs_case_name_check(folder, stem, suffix);
}

/* ---- images ---- */

enum mcs_status mcs_segment_images(struct segment_work *w, const struct request *const *requests, int n)
{
    struct image images[SEGMENT_CHUNK] = {0};
    struct segment_case cases[SEGMENT_CHUNK] = {0};
    const struct request *of[SEGMENT_CHUNK];
    enum mcs_status st = MCS_OK;
    int used = 0;
    for (int i = 0; i < n; i++) {
        if (w->results[requests[i] - w->requests]) continue;
        st = name_check(w->c, requests[i]->stem, ".png");
        if (st == MCS_OK) st = mcs_image_read(requests[i]->path, 0, &images[used]);
        if (st == MCS_E_NOMEM) goto done;
        if (st != MCS_OK) {
            mcs_failures_add_held(&w->failures, requests[i]->stem);
            continue;
        }
        of[used] = requests[i];
        cases[used] =
            (struct segment_case){.image = &images[used], .text = requests[i]->text, .stem = requests[i]->stem};
        used++;
    }
    MCS_TRY_GOTO(mcs_segment_run(&w->session, cases, used, &w->failures, 0), st, done);
    for (int i = 0; i < used; i++)
        if (cases[i].status == MCS_OK) MCS_TRY_GOTO(write_image_case(w, of[i], &cases[i]), st, done);
    st = mcs_run_flush(w->run);
done:
    for (int i = 0; i < SEGMENT_CHUNK; i++) {
        mcs_segment_case_free(&cases[i]);
        mcs_image_free(&images[i]);
    }
    return st;
}

/* ---- volumes ---- */

static int by_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Intensity window mapped to 0 and 255: --window's values, or percentiles (nearest rank) of the volume's finite values:
 * auto's 0.5 and 99.5, full's 0 and 100. */
static enum mcs_status find_window(const struct volume *v, float window[2])
{
    const int64_t n = (int64_t)v->nx * v->ny * v->nz;
    const struct window w = mcs_window_used();
    const int given = w.kind == MCS_WINDOW_PERCENTILES, full = w.kind == MCS_WINDOW_FULL;
    const double low = given ? w.low / 100 : full ? 0 : 0.005, high = given ? w.high / 100 : full ? 1 : 0.995;
    if (w.kind == MCS_WINDOW_VALUES) {
        window[0] = (float)w.low;
        window[1] = (float)w.high;
        return MCS_OK;
    }
    float *sorted = malloc((size_t)n * sizeof *sorted);
    int64_t finite = 0;
    MCS_REQUIRE(sorted, MCS_E_NOMEM, "no memory for %lld voxels", (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(v->values[i])) sorted[finite++] = v->values[i];
    qsort(sorted, (size_t)finite, sizeof *sorted, by_value);
    window[0] = finite ? sorted[(int64_t)(low * (double)(finite - 1))] : 0;
    window[1] = finite ? sorted[(int64_t)ceil(high * (double)(finite - 1))] : 0;
    free(sorted);
    MCS_REQUIRE(finite, MCS_E_DATA, "has no finite voxel");
    return MCS_OK;
}

/* Slice z as 8 bits: the window is mapped to 0..255; NaN becomes 0. */
static enum mcs_status slice_image(const struct volume *v, int z, const float window[2], struct image *img)
{
    const int64_t n = (int64_t)v->nx * v->ny;
    const float *src = v->values + z * n, range = window[1] - window[0];
    MCS_TRY(mcs_image_alloc(img, v->nx, v->ny, 1));
    for (int64_t i = 0; i < n; i++) {
        const float share = range > 0 && !isnan(src[i]) ? (src[i] - window[0]) / range : 0;
        img->pixels[i] = (uint8_t)lrintf(255 * fminf(fmaxf(share, 0), 1));
    }
    return MCS_OK;
}

/* The volume's results; the arrays are (nz,ny,nx). */
struct volume_out {
    uint8_t *mask, *coarse;
    float *map;     /* saliency */
    json_t *slices; /* an entry of summary.json for each */
};

/* Segments slices first .. first + n - 1 into *out. */
static enum mcs_status run_slices(struct segment_work *w, const struct request *r, const struct volume *v,
                                  const float window[2], int first, int n, struct volume_out *out)
{
    struct image images[SEGMENT_CHUNK] = {0};
    struct segment_case cases[SEGMENT_CHUNK] = {0};
    char stems[SEGMENT_CHUNK][600];
    const int64_t plane = (int64_t)v->nx * v->ny;
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < n; i++) {
        MCS_TRY_GOTO(slice_image(v, first + i, window, &images[i]), st, done);
        snprintf(stems[i], sizeof stems[i], "%s_z%04d", r->stem, first + i);
        cases[i] = (struct segment_case){.image = &images[i], .text = r->text, .stem = stems[i]};
    }
    MCS_TRY_GOTO(mcs_segment_run(&w->session, cases, n, NULL, 0), st, done);
    for (int i = 0; i < n; i++) {
        const int64_t at = (first + i) * plane;
        memcpy(out->mask + at, cases[i].mask, (size_t)plane);
        memcpy(out->coarse + at, cases[i].coarse_mask, (size_t)plane);
        memcpy(out->map + at, cases[i].map.values, (size_t)plane * sizeof *out->map);
        json_t *o = describe(&cases[i]);
        json_object_set_new(o, "slice", json_integer(first + i));
        json_array_append_new(out->slices, o);
    }
done:
    for (int i = 0; i < n; i++) {
        mcs_segment_case_free(&cases[i]);
        mcs_image_free(&images[i]);
    }
    return st;
}

static enum mcs_status write_volume(struct segment_work *w, const struct request *r, const struct volume *v,
                                    const struct volume_out *out)
{
    const char *folder = w->c->output;
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/%s.nii.gz", folder, r->stem));
    MCS_TRY(mcs_volume_write_u8(path, out->mask, v));
    if (!w->c->keep_stages) return MCS_OK;
    MCS_TRY(mcs_path(path, "%s/coarse/%s.nii.gz", folder, r->stem));
    MCS_TRY(mcs_volume_write_u8(path, out->coarse, v));
    MCS_TRY(mcs_path(path, "%s/saliency/%s.nii.gz", folder, r->stem));
    return mcs_volume_write_f32(path, out->map, v);
}

enum mcs_status mcs_segment_volume(struct segment_work *w, const struct request *r)
{
    struct volume v = {0};
    float window[2];
    char mask[600];
    MCS_TRY(name_check(w->c, r->stem, ".nii.gz"));
    MCS_TRY(mcs_volume_read(r->path, &v));
    const size_t n = (size_t)v.nx * (size_t)v.ny * (size_t)v.nz;
    struct volume_out out = {calloc(n, 1), calloc(n, 1), calloc(n, sizeof(float)), json_array()};
    enum mcs_status st;
    MCS_REQUIRE_GOTO(out.mask && out.coarse && out.map, MCS_E_NOMEM, st, done, "%s: no memory for its masks", r->path);
    MCS_TRY_GOTO(find_window(&v, window), st, done);
    for (int z = 0; z < v.nz; z += SEGMENT_CHUNK) {
        MCS_TRY_GOTO(mcs_stop_check(), st, done);
        MCS_TRY_GOTO(run_slices(w, r, &v, window, z, v.nz - z < SEGMENT_CHUNK ? v.nz - z : SEGMENT_CHUNK, &out), st,
                     done);
    }
    MCS_TRY_GOTO(write_volume(w, r, &v, &out), st, done);
    snprintf(mask, sizeof mask, "%s.nii.gz", r->stem);
    json_t *summary = json_pack("{s:o, s:o, s:o, s:O}", "image", mcs_json_text(r->name), "mask", mcs_json_text(mask),
                                "text", mcs_json_text(r->text), "slices", out.slices);
    MCS_TRY_GOTO(add_case(w, r, ".nii.gz", summary, NULL), st, done);
    st = mcs_run_flush(w->run);
done:
    json_decref(out.slices);
    free(out.mask);
    free(out.coarse);
    free(out.map);
    mcs_volume_free(&v);
    return st;
}
