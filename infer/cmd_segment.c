/* mcsam segment: text to mask in one go, images and volumes. */
#include "data/file.h"
#include "data/json.h"
#include "data/volume.h"
#include "engine/devices.h"
#include "engine/log.h"
#include "infer/requests.h"
#include "infer/saliency_command.h"
#include "infer/segment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 32 /* images or slices that are in memory at once */, PATH_BYTES = 4096 };

struct segment_command {
    struct mcs_common common;
    const char *clip, *sam, *input, *output, *text, *prompts, *threshold, *rank;
    struct saliency_flags m2ib;
    int64_t keep, grow;
    double min_confidence;
    int sam_prompts, multimask, keep_stages;
};

static const struct mcs_option options[] = {
    {"clip", 'm', MCS_FIELD(segment_command, clip), .value = "DIR", .required = 1, .help = "CLIP model folder"},
    {"sam", 0, MCS_FIELD(segment_command, sam), .value = "CKPT", .required = 1, .help = "SAM: file or folder"},
    {"input", 'i', MCS_FIELD(segment_command, input), .value = "IMGS", .required = 1,
     .help = "PNG, JPEG or NIfTI: a file or a folder"},
    {"output", 'o', MCS_FIELD(segment_command, output), .value = "DIR", .required = 1,
     .help = "folder for masks and summary.json"},
    {"text", 't', MCS_FIELD(segment_command, text), .value = "TEXT", .help = "what to segment in every image"},
    {"prompts", 0, MCS_FIELD(segment_command, prompts), .value = "FILE",
     .help = "prompts.json: {image name or \"*\": text}"},
    {"threshold", 0, MCS_FIELD(segment_command, threshold), .value = "WORD",
     .help = "otsu (paper), kmeans (release) or a number"},
    {"rank", 0, MCS_FIELD(segment_command, rank), .choices = "confidence|area|text|both",
     .help = "which components are best: mean saliency (paper), area (release), nearness to the prompt"},
    {"keep", 0, MCS_FIELD(segment_command, keep), .def = "1", .lo = 0, .hi = 1000000, .value = "N",
     .help = "how many components stay, 0 all"},
    {"min-confidence", 0, MCS_FIELD(segment_command, min_confidence), .def = "-1", .lo = -1, .hi = 1, .value = "C",
     .help = "least mean saliency of a component; -1: 0.5 (paper), 0 (release)"},
    {"grow", 0, MCS_FIELD(segment_command, grow), .def = "0", .lo = -100000, .hi = 100000, .value = "PX",
     .help = "pixels by which boxes grow on each side"},
    {"sam-prompts", 0, MCS_FIELD(segment_command, sam_prompts), .def = "boxes", .choices = "boxes|points|both",
     .help = "what of the coarse mask SAM is asked with"},
    {"multimask", 0, MCS_FIELD(segment_command, multimask), .help = "the best of SAM's three masks by predicted IoU"},
    {"keep-stages", 0, MCS_FIELD(segment_command, keep_stages),
     .help = "write saliency and coarse masks too: saliency/ and coarse/"},
    MCS_SALIENCY_OPTIONS(segment_command),
    {0},
};

struct work {
    const struct segment_command *c;
    struct clip_model clip;
    struct sam_model sam;
    struct segment_options o;
    struct failure_list failures;
    struct box_list boxes; /* of 2-D images, with --keep-stages */
    json_t *cases;
    int n_empty;
};

static enum mcs_status resolve(struct work *w, int n, struct npy *noise)
{
    const struct segment_command *c = w->c;
    w->o = mcs_segment_defaults(c->common.form);
    MCS_TRY(mcs_saliency_resolve(&c->common, &c->m2ib, &w->clip, n, noise, &w->o.saliency));
    struct coarse_options *o = &w->o.coarse;
    if (c->threshold) MCS_TRY(mcs_coarse_parse_threshold(c->threshold, o));
    if (c->rank) MCS_TRY(mcs_coarse_parse_rank(c->rank, o));
    if (c->min_confidence >= 0.0) o->min_confidence = (float)c->min_confidence;
    o->keep = (int)c->keep;
    o->grow_px = (int)c->grow;
    o->seed = (uint64_t)c->common.seed;
    w->o.sam.multimask = c->multimask;
    w->o.sam.kind = (enum sam_prompt_kind)c->sam_prompts; /* the words stand in the enum's order */
    w->o.null_texts = c->m2ib.null.v;
    w->o.n_null = c->m2ib.null.n;
    return MCS_OK;
}

/* ---- results ---- */

/* What the summary says of an image or a slice. */
static json_t *describe(struct work *w, const struct segment_case *s)
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
    w->n_empty += empty;
    return json_pack("{s:o, s:o, s:o, s:I, s:o}", "presence", mcs_json_number((double)s->presence), "boxes", boxes,
                     "iou", empty ? json_null() : mcs_json_number((double)s->iou), "area", (json_int_t)area, "empty",
                     empty ? json_string(mcs_mask_state_text(s->coarse.state)) : json_null());
}

/* A case's boxes for coarse/boxes.json, copied. */
static void keep_boxes(struct box_list *list, const struct segment_case *s, const char *name)
{
    struct arena *a = &list->arena;
    struct box_case *b = &list->cases[list->n++];
    *b = (struct box_case){.image = mcs_arena_strdup(a, name),
                           .width = s->image->width,
                           .height = s->image->height,
                           .n_components = s->coarse.n_boxes};
    b->components = mcs_arena_alloc(a, ((size_t)s->coarse.n_boxes + 1) * sizeof *b->components);
    for (int i = 0; i < s->coarse.n_boxes; i++) {
        struct box_component *c = &b->components[i];
        *c = s->coarse.boxes[i];
        c->points = mcs_arena_alloc(a, ((size_t)c->n_points + 1) * sizeof *c->points);
        if (c->n_points) memcpy(c->points, s->coarse.boxes[i].points, (size_t)c->n_points * sizeof *c->points);
    }
    if (s->coarse.state != MCS_MASK_OK) b->reason = mcs_mask_state_text(s->coarse.state);
}

static enum mcs_status write_image_case(struct work *w, const struct request *r, const struct segment_case *s)
{
    const struct segment_command *c = w->c;
    const int width = s->image->width, height = s->image->height;
    char path[PATH_BYTES];
    if (c->keep_stages) {
        snprintf(path, sizeof path, "%s/saliency", c->output);
        MCS_TRY(mcs_saliency_write(&c->common, &w->clip, path, s->stem, &s->map, s->presence, s->text));
        snprintf(path, sizeof path, "%s/coarse/%s.png", c->output, s->stem);
        MCS_TRY(mcs_image_write_mask(path, s->coarse_mask, width, height));
        keep_boxes(&w->boxes, s, r->name);
    }
    snprintf(path, sizeof path, "%s/%s.png", c->output, s->stem);
    MCS_TRY(mcs_image_write_mask(path, s->mask, width, height));
    json_t *o = describe(w, s);
    snprintf(path, sizeof path, "%s.png", s->stem);
    json_object_set_new(o, "image", mcs_json_text(r->name));
    json_object_set_new(o, "mask", mcs_json_text(path));
    json_object_set_new(o, "text", mcs_json_text(r->text));
    json_array_append_new(w->cases, o);
    return MCS_OK;
}

/* Before a case is computed: can its files have their names? Those of its stages lie deeper. */
static enum mcs_status name_check(const struct segment_command *c, const char *stem, const char *suffix)
{
    char folder[PATH_BYTES];
    snprintf(folder, sizeof folder, c->keep_stages ? "%s/saliency" : "%s", c->output);
    return mcs_case_name_check(folder, stem, suffix);
}

/* ---- images ---- */

/* Another image may still do where this status says no. */
static int is_of_the_case(enum mcs_status st)
{
    return st == MCS_E_DATA || st == MCS_E_SHAPE;
}

/* Cases together; where that fails by their data, each on its own, and state[i] says how it ended. */
static enum mcs_status run_cases(struct work *w, struct segment_case *cases, int n, enum mcs_status *state)
{
    enum mcs_status st = n ? mcs_segment_run(&w->clip, &w->sam, &w->o, cases, n, 0) : MCS_OK;
    for (int i = 0; i < n; i++) state[i] = st;
    if (st == MCS_OK || !is_of_the_case(st)) return st;
    mcs_error_clear();
    for (int i = 0; i < n; i++) {
        const struct segment_case fresh = {.image = cases[i].image, .text = cases[i].text, .stem = cases[i].stem};
        mcs_segment_case_free(&cases[i]);
        cases[i] = fresh;
        state[i] = mcs_segment_run(&w->clip, &w->sam, &w->o, &cases[i], 1, 0);
        if (state[i] != MCS_OK && !is_of_the_case(state[i])) return state[i];
        if (state[i] != MCS_OK) mcs_failures_add_held(&w->failures, cases[i].stem);
    }
    return MCS_OK;
}

static enum mcs_status run_images(struct work *w, const struct request *const *requests, int n)
{
    struct image images[CHUNK] = {0};
    struct segment_case cases[CHUNK] = {0};
    const struct request *of[CHUNK];
    enum mcs_status state[CHUNK], st = MCS_OK;
    int used = 0;
    for (int i = 0; i < n; i++) {
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
    MCS_TRY_GOTO(run_cases(w, cases, used, state), st, done);
    for (int i = 0; i < used; i++)
        if (state[i] == MCS_OK) MCS_TRY_GOTO(write_image_case(w, of[i], &cases[i]), st, done);
done:
    for (int i = 0; i < CHUNK; i++) {
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

/* The volume's 0.5 and 99.5 percentiles (nearest rank) of its finite values: what becomes 0 and 255. */
static enum mcs_status find_window(const struct volume *v, float window[2])
{
    const int64_t n = (int64_t)v->nx * v->ny * v->nz;
    float *sorted = malloc((size_t)n * sizeof *sorted);
    int64_t finite = 0;
    MCS_REQUIRE(sorted, MCS_E_NOMEM, "no memory for %lld voxels", (long long)n);
    for (int64_t i = 0; i < n; i++)
        if (isfinite(v->values[i])) sorted[finite++] = v->values[i];
    qsort(sorted, (size_t)finite, sizeof *sorted, by_value);
    window[0] = finite ? sorted[(int64_t)(0.005 * (double)(finite - 1))] : 0;
    window[1] = finite ? sorted[(int64_t)ceil(0.995 * (double)(finite - 1))] : 0;
    free(sorted);
    MCS_REQUIRE(finite, MCS_E_DATA, "has no finite voxel");
    return MCS_OK;
}

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

struct volume_out {
    uint8_t *mask, *coarse;
    float *map; /* all (nz,ny,nx) */
    json_t *slices;
};

static enum mcs_status run_slices(struct work *w, const struct request *r, const struct volume *v,
                                  const float window[2], int first, int n, struct volume_out *out)
{
    struct image images[CHUNK] = {0};
    struct segment_case cases[CHUNK] = {0};
    char stems[CHUNK][600];
    const int64_t plane = (int64_t)v->nx * v->ny;
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < n; i++) {
        MCS_TRY_GOTO(slice_image(v, first + i, window, &images[i]), st, done);
        snprintf(stems[i], sizeof stems[i], "%s_z%04d", r->stem, first + i);
        cases[i] = (struct segment_case){.image = &images[i], .text = r->text, .stem = stems[i]};
    }
    MCS_TRY_GOTO(mcs_segment_run(&w->clip, &w->sam, &w->o, cases, n, 0), st, done);
    for (int i = 0; i < n; i++) {
        const int64_t at = (first + i) * plane;
        memcpy(out->mask + at, cases[i].mask, (size_t)plane);
        memcpy(out->coarse + at, cases[i].coarse_mask, (size_t)plane);
        memcpy(out->map + at, cases[i].map.values, (size_t)plane * sizeof *out->map);
        json_t *o = describe(w, &cases[i]);
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

static enum mcs_status write_volume(struct work *w, const struct request *r, const struct volume *v,
                                    const struct volume_out *out)
{
    const char *folder = w->c->output;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s.nii.gz", folder, r->stem);
    MCS_TRY(mcs_volume_write_u8(path, out->mask, v));
    if (!w->c->keep_stages) return MCS_OK;
    snprintf(path, sizeof path, "%s/coarse/%s.nii.gz", folder, r->stem);
    MCS_TRY(mcs_volume_write_u8(path, out->coarse, v));
    snprintf(path, sizeof path, "%s/saliency/%s.nii.gz", folder, r->stem);
    return mcs_volume_write_f32(path, out->map, v);
}

static enum mcs_status run_volume(struct work *w, const struct request *r)
{
    struct volume v = {0};
    float window[2];
    char mask[600];
    const int empty_before = w->n_empty;
    MCS_TRY(name_check(w->c, r->stem, ".nii.gz"));
    MCS_TRY(mcs_volume_read(r->path, &v));
    const size_t n = (size_t)v.nx * (size_t)v.ny * (size_t)v.nz;
    struct volume_out out = {calloc(n, 1), calloc(n, 1), calloc(n, sizeof(float)), json_array()};
    enum mcs_status st;
    MCS_REQUIRE_GOTO(out.mask && out.coarse && out.map, MCS_E_NOMEM, st, done, "%s: no memory for its masks", r->path);
    MCS_TRY_GOTO(find_window(&v, window), st, done);
    for (int z = 0; z < v.nz; z += CHUNK)
        MCS_TRY_GOTO(run_slices(w, r, &v, window, z, v.nz - z < CHUNK ? v.nz - z : CHUNK, &out), st, done);
    MCS_TRY_GOTO(write_volume(w, r, &v, &out), st, done);
    snprintf(mask, sizeof mask, "%s.nii.gz", r->stem);
    json_array_append_new(w->cases,
                          json_pack("{s:o, s:o, s:o, s:O}", "image", mcs_json_text(r->name), "mask",
                                    mcs_json_text(mask), "text", mcs_json_text(r->text), "slices", out.slices));
done:
    if (st != MCS_OK) w->n_empty = empty_before;
    json_decref(out.slices);
    free(out.mask);
    free(out.coarse);
    free(out.map);
    mcs_volume_free(&v);
    return st;
}

/* ---- all ---- */

static int is_volume(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".nii") || !strcmp(dot, ".gz"));
}

static enum mcs_status make_folders(const struct segment_command *c)
{
    static const char *const more[] = {"", "/saliency", "/coarse"};
    char path[PATH_BYTES];
    for (int i = 0; i < (c->keep_stages ? 3 : 1); i++) {
        snprintf(path, sizeof path, "%s%s", c->output, more[i]);
        MCS_TRY(mcs_folder_make(path));
    }
    snprintf(path, sizeof path, "%s/config.yaml", c->output);
    return mcs_config_save(path, c);
}

static enum mcs_status write_summary(struct work *w)
{
    const struct segment_command *c = w->c;
    struct arena a = {0};
    char path[PATH_BYTES];
    json_t *root = json_pack("{s:{s:s, s:s, s:s, s:I, s:s, s:s}, s:O}", "made_by", "verb", "segment", "version",
                             MCS_VERSION, "form", mcs_form_text(&c->common, &a), "seed", (json_int_t)c->common.seed,
                             "clip_sha256", w->clip.sha256, "sam_sha256", w->sam.sha256, "cases", w->cases);
    mcs_arena_free(&a);
    MCS_TRY(mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(7), "%s/summary.json", c->output));
    if (!c->keep_stages || !w->boxes.n) return MCS_OK;
    snprintf(path, sizeof path, "%s/coarse/boxes.json", c->output);
    return mcs_boxes_write(path, &w->boxes);
}

static enum mcs_status run_all(struct work *w, const struct request_list *list)
{
    const struct request *waiting[CHUNK];
    struct mcs_progress bar;
    int n = 0;
    MCS_TRY(make_folders(w->c));
    w->boxes.cases = mcs_arena_alloc(&w->boxes.arena, ((size_t)list->n + 1) * sizeof *w->boxes.cases);
    mcs_progress_start(&bar, "segment", "case", list->n);
    for (int i = 0; i < list->n; i++) {
        const struct request *r = &list->v[i];
        if (is_volume(r->name)) {
            const enum mcs_status st = run_volume(w, r);
            if (st == MCS_E_NOMEM || st == MCS_E_USAGE || st == MCS_E_IO) return mcs_trace(st, __FILE__, __LINE__);
            if (st != MCS_OK) mcs_failures_add_held(&w->failures, r->stem);
        } else {
            waiting[n++] = r;
        }
        if (n < CHUNK && i + 1 < list->n) continue;
        MCS_TRY(run_images(w, waiting, n));
        n = 0;
        mcs_progress_set(&bar, i + 1);
    }
    mcs_progress_end(&bar);
    MCS_TRY(write_summary(w));
    if (w->n_empty) mcs_warn("%d coarse masks are empty; \"empty\" in summary.json says why", w->n_empty);
    printf(w->c->common.json ? "{\"cases\": %d, \"empty\": %d}\n" : "%d cases, %d empty coarse masks\n",
           (int)json_array_size(w->cases), w->n_empty);
    return mcs_failures_finish(&w->failures, w->c->output, list->n_asked);
}

static enum mcs_status plan(struct work *w, int n)
{
    int64_t bytes;
    MCS_TRY(mcs_saliency_bytes(&w->clip, &w->o.saliency, &bytes));
    printf(w->c->common.json ? "{\"cases\": %d, \"saliency_bytes\": %lld}\n"
                             : "%d cases would be segmented, their saliency in %lld bytes\n",
           n, (long long)bytes);
    return MCS_OK;
}

static enum mcs_status run(const void *options)
{
    const struct segment_command *c = options;
    struct device d = {0};
    struct work w = {.c = c, .cases = json_array()};
    struct request_list list = {0};
    struct npy noise = {0};
    enum mcs_status st;
    MCS_REQUIRE_GOTO(!c->text != !c->prompts, MCS_E_USAGE, st, done, "want one of --text and --prompts");
    MCS_TRY_GOTO(mcs_device_open(&c->common, &d), st, done);
    MCS_TRY_GOTO(mcs_clip_model_open(c->clip, &d, &w.clip), st, done);
    MCS_TRY_GOTO(mcs_sam_model_open(c->sam, &d, &w.sam), st, done);
    MCS_TRY_GOTO(
        mcs_requests_read(&w.clip, c->input, ".png;.jpg;.jpeg;.nii;.nii.gz", c->text, c->prompts, &w.failures, &list),
        st, done);
    int slices = 0; /* of volumes: their number is not known before they are read */
    for (int i = 0; i < list.n; i++) slices |= is_volume(list.v[i].name);
    MCS_TRY_GOTO(resolve(&w, slices ? 0 : list.n, &noise), st, done);
    st = c->common.dry_run ? plan(&w, list.n) : run_all(&w, &list);
done:
    if (w.clip.params) mcs_clip_model_close(&w.clip);
    if (w.sam.params) mcs_sam_model_close(&w.sam);
    mcs_device_close(&d);
    json_decref(w.cases);
    mcs_npy_free(&noise);
    mcs_boxes_free(&w.boxes);
    mcs_requests_free(&list);
    mcs_failures_free(&w.failures);
    return st;
}

const struct mcs_verb mcs_verb_segment = {.name = "segment",
                                          .line = "text to mask: saliency, coarse mask and SAM in one go",
                                          .options = options,
                                          .options_bytes = sizeof(struct segment_command),
                                          .run = run};
