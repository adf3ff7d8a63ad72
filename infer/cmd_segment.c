/* mcsam segment: text to mask in one go, images and volumes. */
#include "data/file.h"
#include "data/json.h"
#include "data/run_folder.h"
#include "data/volume.h"
#include "engine/devices.h"
#include "engine/log.h"
#include "engine/stop.h"
#include "infer/requests.h"
#include "infer/saliency_command.h"
#include "infer/segment.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 32 /* images or slices that are in memory at once, at most */, PATH_BYTES = 4096 };

static const char ENDINGS[] = ".png;.jpg;.jpeg;.nii;.nii.gz";

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
    struct run_folder *run;
    const struct request *requests; /* the first; a case's place in `results` is its distance from here */
    json_t **results;               /* by request, NULL: not done. {"case": for summary.json, "box": of an image} */
    int n_done;
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

/* Records a case whose files are written; ending: of its masks. Takes over `summary` and `box` (may be NULL). */
static enum mcs_status add_case(struct work *w, const struct request *r, const char *ending, json_t *summary,
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
    }
    snprintf(path, sizeof path, "%s/%s.png", c->output, s->stem);
    MCS_TRY(mcs_image_write_mask(path, s->mask, width, height));
    json_t *o = describe(s);
    snprintf(path, sizeof path, "%s.png", s->stem);
    json_object_set_new(o, "image", mcs_json_text(r->name));
    json_object_set_new(o, "mask", mcs_json_text(path));
    json_object_set_new(o, "text", mcs_json_text(r->text));
    return add_case(w, r, ".png", o, boxes_of(s, r->name));
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

/* A group of images: those that are not finished already. They are recorded together. */
static enum mcs_status run_images(struct work *w, const struct request *const *requests, int n)
{
    struct image images[CHUNK] = {0};
    struct segment_case cases[CHUNK] = {0};
    const struct request *of[CHUNK];
    enum mcs_status state[CHUNK], st = MCS_OK;
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
    MCS_TRY_GOTO(run_cases(w, cases, used, state), st, done);
    for (int i = 0; i < used; i++)
        if (state[i] == MCS_OK) MCS_TRY_GOTO(write_image_case(w, of[i], &cases[i]), st, done);
    st = mcs_run_flush(w->run);
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
    MCS_TRY(name_check(w->c, r->stem, ".nii.gz"));
    MCS_TRY(mcs_volume_read(r->path, &v));
    const size_t n = (size_t)v.nx * (size_t)v.ny * (size_t)v.nz;
    struct volume_out out = {calloc(n, 1), calloc(n, 1), calloc(n, sizeof(float)), json_array()};
    enum mcs_status st;
    MCS_REQUIRE_GOTO(out.mask && out.coarse && out.map, MCS_E_NOMEM, st, done, "%s: no memory for its masks", r->path);
    MCS_TRY_GOTO(find_window(&v, window), st, done);
    for (int z = 0; z < v.nz; z += CHUNK) {
        MCS_TRY_GOTO(mcs_stop_check(), st, done);
        MCS_TRY_GOTO(run_slices(w, r, &v, window, z, v.nz - z < CHUNK ? v.nz - z : CHUNK, &out), st, done);
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

/* ---- all ---- */

static int is_volume(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".nii") || !strcmp(dot, ".gz"));
}

/* Folder `name` of the output, "" for itself. */
static const char *folder_of(const struct segment_command *c, const char *name, struct arena *a)
{
    return mcs_arena_printf(a, "%s%s", c->output, name);
}

static enum mcs_status check_paths(const struct segment_command *c)
{
    struct arena a = {0};
    const int stages = c->keep_stages;
    const struct run_output out[] = {
        {c->output, "*.png;*.nii.gz;summary.json;config.yaml;failures.csv"},
        {stages ? folder_of(c, "/saliency", &a) : NULL, "*.png;*.h5;*.nii.gz"},
        {stages ? folder_of(c, "/coarse", &a) : NULL, "*.png;*.nii.gz;boxes.json"},
    };
    const struct run_input in[] = {{"--input", c->input, ENDINGS},
                                   {"--clip", c->clip, NULL},
                                   {"--sam", c->sam, NULL},
                                   {"--prompts", c->prompts, NULL},
                                   {"--noise", c->m2ib.noise, NULL}};
    const enum mcs_status st = mcs_run_check_paths(&c->common, out, 3, in, 5);
    mcs_arena_free(&a);
    return st;
}

/* Opens the run and its folders, and finds what is finished already. */
static enum mcs_status start(struct work *w, const struct request_list *list, struct arena *a)
{
    const struct segment_command *c = w->c;
    const char *more = mcs_arena_printf(a, "clip_sha256: %s\nsam_sha256: %s\n", w->clip.sha256, w->sam.sha256);
    if (c->m2ib.noise) {
        char hex[65];
        MCS_TRY(mcs_file_sha256(c->m2ib.noise, hex));
        more = mcs_arena_printf(a, "%snoise_sha256: %s\n", more, hex);
    }
    MCS_TRY(mcs_run_open(c, c->output, more, &w->run));
    if (c->keep_stages) {
        MCS_TRY(mcs_folder_make(folder_of(c, "/saliency", a)));
        MCS_TRY(mcs_folder_make(folder_of(c, "/coarse", a)));
    }
    MCS_TRY(mcs_run_save_config(w->run));
    w->requests = list->v;
    w->results = mcs_arena_alloc(a, ((size_t)list->n + 1) * sizeof *w->results);
    for (int i = 0; i < list->n; i++) {
        const struct request *r = &list->v[i];
        const struct run_source source = {(const char *const[]){r->path, NULL}, (const char *const[]){r->text, NULL}};
        json_t *result;
        if (!mcs_run_case_done(w->run, r->stem, &source, &result) || !json_object_get(result, "case")) continue;
        w->results[i] = json_incref(result);
        w->n_done++;
    }
    mcs_run_tell_done(w->n_done, list->n);
    return MCS_OK;
}

static int is_empty(const json_t *described)
{
    return json_is_string(json_object_get(described, "empty"));
}

/* summary.json, and with stages coarse/boxes.json. Returns in *n_empty how many images and slices had no coarse mask.
 */
static enum mcs_status write_summary(struct work *w, int n, int *n_empty)
{
    const struct segment_command *c = w->c;
    struct arena a = {0};
    json_t *cases = json_array(), *boxes = json_array();
    enum mcs_status st;
    *n_empty = 0;
    for (int i = 0; i < n; i++) {
        json_t *one = json_object_get(w->results[i], "case"), *box = json_object_get(w->results[i], "box"), *slice;
        size_t k;
        if (one) json_array_append(cases, one);
        if (box) json_array_append(boxes, box);
        *n_empty += is_empty(one);
        json_array_foreach(json_object_get(one, "slices"), k, slice) *n_empty += is_empty(slice);
    }
    json_t *root = json_pack("{s:{s:s, s:s, s:s, s:I, s:s, s:s}, s:O}", "made_by", "verb", "segment", "version",
                             MCS_VERSION, "form", mcs_form_text(&c->common, &a), "seed", (json_int_t)c->common.seed,
                             "clip_sha256", w->clip.sha256, "sam_sha256", w->sam.sha256, "cases", cases);
    st = mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(7), "%s/summary.json", c->output);
    if (st == MCS_OK && c->keep_stages && json_array_size(boxes))
        st = mcs_boxes_write_json(folder_of(c, "/coarse/boxes.json", &a), boxes, NULL);
    json_decref(cases);
    json_decref(boxes);
    mcs_arena_free(&a);
    return st;
}

/* Images at once: whole groups of the saliency's, so that a group does not depend on where an earlier run stopped, and
 * few, so that a request to stop does not wait long. */
static int group_size(const struct work *w)
{
    const int pairs = w->o.saliency.pairs;
    return pairs >= CHUNK ? CHUNK : pairs >= 8 ? pairs : 8 / pairs * pairs;
}

static enum mcs_status run_cases_of(struct work *w, const struct request_list *list)
{
    const struct request *waiting[CHUNK];
    struct mcs_progress bar;
    int n = 0;
    mcs_progress_start(&bar, "segment", "case", list->n);
    for (int i = 0; i < list->n; i++) {
        const struct request *r = &list->v[i];
        if (!n) MCS_TRY(mcs_stop_check());
        if (!is_volume(r->name)) {
            waiting[n++] = r;
        } else if (!w->results[i]) {
            const enum mcs_status st = run_volume(w, r);
            if (st == MCS_E_NOMEM || st == MCS_E_USAGE || st == MCS_E_IO || st == MCS_E_STOPPED)
                return mcs_trace(st, __FILE__, __LINE__);
            if (st != MCS_OK) mcs_failures_add_held(&w->failures, r->stem);
        }
        if (n < group_size(w) && i + 1 < list->n) continue;
        MCS_TRY(run_images(w, waiting, n));
        n = 0;
        mcs_progress_set(&bar, i + 1);
    }
    mcs_progress_end(&bar);
    return MCS_OK;
}

static enum mcs_status run_all(struct work *w, const struct request_list *list)
{
    struct arena a = {0};
    int n_empty = 0;
    enum mcs_status st = start(w, list, &a);
    if (st == MCS_OK) st = run_cases_of(w, list);
    if (st == MCS_E_STOPPED) {
        mcs_error_clear();
        st = mcs_run_stopped(w->n_done, list->n);
    }
    MCS_TRY_GOTO(st, st, done);
    MCS_TRY_GOTO(write_summary(w, list->n, &n_empty), st, done);
    if (n_empty) mcs_warn("%d coarse masks are empty; \"empty\" in summary.json says why", n_empty);
    printf(w->c->common.json ? "{\"cases\": %d, \"empty\": %d}\n" : "%d cases, %d empty coarse masks\n", w->n_done,
           n_empty);
    st = mcs_failures_finish(&w->failures, w->c->output, list->n_asked);
done:
    st = mcs_run_close(w->run, st);
    for (int i = 0; w->results && i < list->n; i++) json_decref(w->results[i]);
    mcs_arena_free(&a);
    return st;
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
    struct work w = {.c = c};
    struct request_list list = {0};
    struct npy noise = {0};
    enum mcs_status st;
    MCS_REQUIRE_GOTO(!c->text != !c->prompts, MCS_E_USAGE, st, done, "want one of --text and --prompts");
    MCS_TRY_GOTO(check_paths(c), st, done);
    MCS_TRY_GOTO(mcs_device_open(&c->common, &d), st, done);
    MCS_TRY_GOTO(mcs_clip_model_open(c->clip, &d, &w.clip), st, done);
    MCS_TRY_GOTO(mcs_sam_model_open(c->sam, &d, &w.sam), st, done);
    MCS_TRY_GOTO(mcs_requests_read(&w.clip, c->input, ENDINGS, c->text, c->prompts, &w.failures, &list), st, done);
    int slices = 0; /* of volumes: their number is not known before they are read */
    for (int i = 0; i < list.n; i++) slices |= is_volume(list.v[i].name);
    MCS_TRY_GOTO(resolve(&w, slices ? 0 : list.n, &noise), st, done);
    st = c->common.dry_run ? plan(&w, list.n) : run_all(&w, &list);
done:
    if (w.clip.params) mcs_clip_model_close(&w.clip);
    if (w.sam.params) mcs_sam_model_close(&w.sam);
    mcs_device_close(&d);
    mcs_npy_free(&noise);
    mcs_requests_free(&list);
    mcs_failures_free(&w.failures);
    return st;
}

const struct mcs_verb mcs_verb_segment = {.name = "segment",
                                          .line = "text to mask: saliency, coarse mask and SAM in one go",
                                          .options = options,
                                          .options_bytes = sizeof(struct segment_command),
                                          .run = run};
