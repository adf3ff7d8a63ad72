/* mcsam automask: masks of everything in images, from SAM prompted by a grid of points. */
#include "data/image/media.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/run/run_folder.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "infer/requests.h"
#include "infer/sam/automask.h"

#include <stdio.h>
#include <stdlib.h>

struct automask_command {
    struct mcs_common common;
    const char *window;
    const char *model, *input, *output, *preprocess;
    struct sam_embeddings embeddings;
    int64_t points_per_side, points_per_batch, crop_n_layers, crop_points_downscale, min_region_area;
    double pred_iou_thresh, stability_thresh, stability_offset, box_nms_thresh, crop_nms_thresh, crop_overlap_ratio;
    int rle;
};

static const struct mcs_option options[] = {
    {"model", 'm', MCS_FIELD(automask_command, model), .value = "CKPT", .required = 1, .help = "SAM: file or folder"},
    {"input", 'i', MCS_FIELD(automask_command, input), .value = "IMGS", .required = 1,
     .help = "an image or a folder of images"},
    {"output", 'o', MCS_FIELD(automask_command, output), .value = "DIR", .required = 1,
     .help = "folder for STEM.png (labels of 16 bits), STEM.json (a record a mask) and automask.json"},
    {"points-per-side", 0, MCS_FIELD(automask_command, points_per_side), .def = "32", .lo = 1, .hi = 1024, .value = "N",
     .help = "the grid of points is N x N"},
    {"points-per-batch", 0, MCS_FIELD(automask_command, points_per_batch), .def = "64", .lo = 1, .hi = 4096,
     .value = "N", .help = "points whose masks are in memory at once"},
    {"pred-iou-thresh", 0, MCS_FIELD(automask_command, pred_iou_thresh), .def = "0.88", .lo = 0, .hi = 1000,
     .value = "X", .help = "masks with a greater predicted IoU stay; 0: all"},
    {"stability-score-thresh", 0, MCS_FIELD(automask_command, stability_thresh), .def = "0.95", .lo = 0, .hi = 1,
     .value = "X", .help = "masks with at least this stability stay; 0: all"},
    {"stability-score-offset", 0, MCS_FIELD(automask_command, stability_offset), .def = "1", .lo = 1e-6, .hi = 1e6,
     .value = "X", .help = "stability: pixels with a logit above X over those above -X"},
    {"box-nms-thresh", 0, MCS_FIELD(automask_command, box_nms_thresh), .def = "0.7", .lo = 0, .hi = 1, .value = "X",
     .help = "of masks whose boxes overlap more, one stays"},
    {"crop-n-layers", 0, MCS_FIELD(automask_command, crop_n_layers), .def = "0", .lo = 0, .hi = 4, .value = "N",
     .help = "also on crops of the image: 4 in the first layer, 16 in the second ..."},
    {"crop-nms-thresh", 0, MCS_FIELD(automask_command, crop_nms_thresh), .def = "0.7", .lo = 0, .hi = 1, .value = "X",
     .help = "the same between crops"},
    {"crop-overlap-ratio", 0, MCS_FIELD(automask_command, crop_overlap_ratio), .def = "0.3413333333333333", .lo = 0,
     .hi = 0.99, .value = "X", .help = "by which crops overlap, of the shorter side"},
    {"crop-n-points-downscale-factor", 0, MCS_FIELD(automask_command, crop_points_downscale), .def = "1", .lo = 1,
     .hi = 64, .value = "N", .help = "each layer's grid has points-per-side / N^layer points a side"},
    {"min-mask-region-area", 0, MCS_FIELD(automask_command, min_region_area), .def = "0", .lo = 0, .hi = 1e9,
     .value = "PX", .help = "smaller holes are filled, smaller islands removed"},
    {"rle", 0, MCS_FIELD(automask_command, rle), .def = "compressed", .choices = "compressed|uncompressed",
     .help = "counts in STEM.json: a string as pycocotools writes it, or a list"},
    {"preprocess", 0, MCS_FIELD(automask_command, preprocess), .choices = "sam|medsam",
     .help = "how images are prepared; by default as sam_config.json says, without one sam"},
    {"save-embeddings", 0, MCS_FIELD(automask_command, embeddings.save), .value = "DIR",
     .help = "write each image's embedding to DIR/STEM.safetensors"},
    {"embeddings", 0, MCS_FIELD(automask_command, embeddings.load), .value = "DIR",
     .help = "read them instead of encoding the images"},
    {"window", 0, MCS_FIELD(automask_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

struct automask_run {
    const struct automask_command *c;
    struct sam_model *model;
    struct automask_options o;
    struct case_list images;
    struct failure_list failures;
    struct run_folder *run;
    json_t **results; /* [image], for automask.json; NULL: not done */
    int n_done;
    struct arena arena;
};

/* ---- files of an image ---- */

static json_t *counts_json(const struct rle *r, int compressed)
{
    if (compressed) {
        char *text = mcs_rle_string(r);
        json_t *s = text ? json_string(text) : NULL;
        free(text);
        return s;
    }
    json_t *list = json_array();
    for (int i = 0; i < r->n; i++) json_array_append_new(list, json_integer(r->counts[i]));
    return list;
}

/* A record of SamAutomaticMaskGenerator.generate; NULL without memory. */
static json_t *record_json(const struct automask *a, int compressed)
{
    const int *b = a->box, *c = a->crop;
    return json_pack("{s:{s:[ii], s:o}, s:I, s:[iiii], s:f, s:[[ff]], s:f, s:[iiii]}", "segmentation", "size",
                     a->rle.height, a->rle.width, "counts", counts_json(&a->rle, compressed), "area",
                     (json_int_t)a->area, "bbox", b[0], b[1], b[2] - b[0], b[3] - b[1], "predicted_iou", (double)a->iou,
                     "point_coords", a->point[0], a->point[1], "stability_score", (double)a->stability, "crop_box",
                     c[0], c[1], c[2] - c[0], c[3] - c[1]);
}

static enum mcs_status write_files(struct automask_run *r, const char *stem, const struct image *img,
                                   const struct automask_list *list)
{
    const char *folder = r->c->output;
    json_t *records = json_array();
    uint16_t *labels = malloc((size_t)img->width * (size_t)img->height * sizeof *labels);
    enum mcs_status st;
    MCS_REQUIRE_GOTO(labels && records, MCS_E_NOMEM, st, done, "%s: no memory for its label map", stem);
    for (int i = 0; i < list->n; i++) {
        json_t *record = record_json(&list->v[i], r->c->rle == 0);
        MCS_REQUIRE_GOTO(record && json_array_append_new(records, record) == 0, MCS_E_NOMEM, st, done,
                         "%s: no memory for its masks", stem);
    }
    MCS_TRY_GOTO(mcs_automask_labels(list, img->width, img->height, labels), st, done);
    MCS_TRY_GOTO(
        mcs_image_write_labels(mcs_arena_printf(&r->arena, "%s/%s.png", folder, stem), labels, img->width, img->height),
        st, done);
    st = mcs_json_write(json_incref(records), JSON_REAL_PRECISION(17), "%s/%s.json", folder, stem);
done:
    json_decref(records);
    free(labels);
    return st;
}

/* ---- images ---- */

static enum mcs_status run_image(struct automask_run *r, int i)
{
    const struct case_file *file = &r->images.files[i];
    const struct run_source source = {(const char *const[]){file->path, NULL}, (const char *const[]){NULL}};
    const char *files[] = {mcs_arena_printf(&r->arena, "%s.png", file->stem),
                           mcs_arena_printf(&r->arena, "%s.json", file->stem), NULL};
    struct image img = {0};
    struct automask_list list = {0};
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_case_name_check(r->c->output, file->stem, ".json"), st, done);
    MCS_TRY_GOTO(mcs_image_read(file->path, 3, &img), st, done);
    MCS_TRY_GOTO(mcs_automask(r->model, &r->o, &img, &r->c->embeddings, file->stem, &list), st, done);
    MCS_TRY_GOTO(write_files(r, file->stem, &img, &list), st, done);
    json_t *result = json_pack("{s:o, s:[ii], s:i}", "image", mcs_json_text(file->name), "size", img.width, img.height,
                               "masks", list.n);
    r->results[i] = json_incref(result);
    r->n_done++;
    MCS_TRY_GOTO(mcs_run_case_add(r->run, file->stem, &source, files, result), st, done);
    st = mcs_run_flush(r->run);
done:
    mcs_automask_free(&list);
    mcs_image_free(&img);
    return st;
}

/* Reads the results of images that an earlier run finished. */
static enum mcs_status find_done(struct automask_run *r)
{
    r->results = mcs_arena_alloc(&r->arena, ((size_t)r->images.n + 1) * sizeof *r->results);
    MCS_TRY(mcs_arena_status(&r->arena));
    for (int i = 0; i < r->images.n; i++) {
        const struct case_file *file = &r->images.files[i];
        const struct run_source source = {(const char *const[]){file->path, NULL}, (const char *const[]){NULL}};
        json_t *result = NULL;
        if (!mcs_run_case_done(r->run, file->stem, &source, &result) || !result) continue;
        r->results[i] = json_incref(result);
        r->n_done++;
    }
    mcs_run_tell_done(r->n_done, r->images.n);
    return MCS_OK;
}

static enum mcs_status run_images(struct automask_run *r)
{
    struct mcs_progress bar;
    mcs_progress_start(&bar, "automask", "image", r->images.n);
    for (int i = 0; i < r->images.n; i++) {
        if (mcs_stop_requested()) return mcs_run_stopped(r->n_done, r->images.n);
        if (!r->results[i]) {
            const enum mcs_status st = run_image(r, i);
            if (st == MCS_E_NOINPUT) /* an image without an embedding */
                mcs_failures_add_held(&r->failures, r->images.files[i].stem);
            else
                MCS_TRY(mcs_failures_take(&r->failures, r->images.files[i].stem, st));
        }
        mcs_progress_set(&bar, i + 1);
    }
    mcs_progress_end(&bar);
    return MCS_OK;
}

static enum mcs_status write_summary(struct automask_run *r)
{
    struct sam_model *m = r->model;
    MCS_TRY(mcs_sam_model_hash(m));
    json_t *cases = json_array();
    json_int_t n_masks = 0;
    for (int i = 0; i < r->images.n; i++) {
        if (!r->results[i]) continue;
        json_array_append(cases, r->results[i]);
        n_masks += json_integer_value(json_object_get(r->results[i], "masks"));
    }
    json_t *root =
        json_pack("{s:s, s:o, s:s, s:s, s:o}", "version", MCS_VERSION, "model", mcs_json_text(m->path), "sha256",
                  m->sha256, "preprocess", mcs_sam_preprocess_name(m->config.preprocess), "cases", cases);
    MCS_TRY(mcs_json_write(root, JSON_INDENT(1), "%s/automask.json", r->c->output));
    printf(r->c->common.json ? "{\"images\": %d, \"masks\": %lld, \"failed\": %d}\n"
                             : "%d images, %lld masks; %d images failed\n",
           r->n_done, (long long)n_masks, r->failures.n);
    return mcs_failures_finish(&r->failures, r->c->output, r->n_done + r->failures.n);
}

/* ---- the verb ---- */

/* The images of a folder, or the one that is named. */
static enum mcs_status list_images(const char *input, struct case_list *list)
{
    char stem[MCS_PATH_BYTES];
    if (mcs_folder_exists(input)) return mcs_cases_list(input, MCS_IMAGE_ENDINGS, NULL, list);
    MCS_REQUIRE(mcs_file_exists(input), MCS_E_NOINPUT, "%s: no such image or folder", input);
    mcs_file_stem(input, stem, sizeof stem);
    list->files = mcs_arena_alloc(&list->arena, sizeof *list->files);
    if (list->files) {
        list->n = 1;
        *list->files = (struct case_file){mcs_arena_strdup(&list->arena, stem), mcs_arena_strdup(&list->arena, input),
                                          mcs_arena_strdup(&list->arena, input)};
    }
    return mcs_arena_status(&list->arena);
}

static struct automask_options options_of(const struct automask_command *c)
{
    return (struct automask_options){.points_per_side = (int)c->points_per_side,
                                     .points_per_batch = (int)c->points_per_batch,
                                     .pred_iou_thresh = c->pred_iou_thresh,
                                     .stability_thresh = c->stability_thresh,
                                     .stability_offset = c->stability_offset,
                                     .box_nms_thresh = c->box_nms_thresh,
                                     .crop_n_layers = (int)c->crop_n_layers,
                                     .crop_nms_thresh = c->crop_nms_thresh,
                                     .crop_overlap_ratio = c->crop_overlap_ratio,
                                     .crop_points_downscale = (int)c->crop_points_downscale,
                                     .min_region_area = c->min_region_area};
}

static enum mcs_status run_all(const struct automask_command *c, struct sam_model *m)
{
    struct automask_run r = {.c = c, .model = m, .o = options_of(c)};
    enum mcs_status st;
    MCS_TRY_GOTO(list_images(c->input, &r.images), st, done);
    if (c->embeddings.save) MCS_TRY_GOTO(mcs_folder_make(c->embeddings.save), st, done);
    MCS_TRY_GOTO(mcs_run_open_late(&c->common.command, c->output, (struct run_more){mcs_sam_model_lines, m}, &r.run),
                 st, done);
    MCS_TRY_GOTO(mcs_run_save_config(r.run), st, done);
    MCS_TRY_GOTO(find_done(&r), st, done);
    MCS_TRY_GOTO(run_images(&r), st, done);
    st = write_summary(&r);
done:
    st = mcs_run_close(r.run, st);
    for (int i = 0; r.results && i < r.images.n; i++) json_decref(r.results[i]);
    mcs_cases_free(&r.images);
    mcs_failures_free(&r.failures);
    mcs_arena_free(&r.arena);
    return st;
}

static enum mcs_status check_paths(const struct automask_command *c)
{
    const struct run_output out[] = {{c->output, "*.png;*.json;config.yaml;failures.csv"},
                                     {c->embeddings.save, "*.safetensors"}};
    const struct run_input in[] = {{"--input", c->input, MCS_IMAGE_ENDINGS},
                                   {"--model", c->model, NULL},
                                   {"--embeddings", c->embeddings.load, "*.safetensors"}};
    MCS_REQUIRE(!c->embeddings.load || !c->embeddings.save, MCS_E_USAGE,
                "want one of --embeddings and --save-embeddings");
    MCS_REQUIRE(!(c->embeddings.load || c->embeddings.save) || !c->crop_n_layers, MCS_E_USAGE,
                "--crop-n-layers encodes parts of the images; embeddings in files are of whole images");
    MCS_TRY(mcs_run_check_paths(&c->common.command, out, 2, in, 3));
    MCS_REQUIRE(!c->embeddings.load || mcs_folder_exists(c->embeddings.load), MCS_E_NOINPUT,
                "%s: no such folder of embeddings", c->embeddings.load);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct automask_command *c = command;
    struct device d;
    struct sam_model m;
    MCS_TRY(mcs_window_use(c->window));
    MCS_TRY(check_paths(c));
    MCS_TRY(mcs_device_open(&c->common.device, &d));
    enum mcs_status st = mcs_sam_model_open_hashing(c->model, &d, &m);
    if (st == MCS_OK) st = mcs_sam_preprocess_set(&m, c->preprocess);
    if (st == MCS_OK && (c->embeddings.load || c->embeddings.save)) st = mcs_sam_model_hash(&m); /* they name it */
    if (st == MCS_OK && c->common.dry_run)
        printf("%s: a grid of %lld x %lld points on each image\n", mcs_text_shown(m.path),
               (long long)c->points_per_side, (long long)c->points_per_side);
    else if (st == MCS_OK)
        st = run_all(c, &m);
    mcs_sam_model_close(&m);
    mcs_device_close(&d);
    return st;
}

const struct mcs_verb mcs_verb_automask = {.name = "automask",
                                           .line = "masks of everything in an image, from a grid of points",
                                           .options = options,
                                           .options_bytes = sizeof(struct automask_command),
                                           .run = run};
