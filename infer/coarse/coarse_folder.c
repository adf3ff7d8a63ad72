/* mcs_coarse_folder: from a folder of saliency maps to masks and boxes.json. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/io/store.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "infer/cases.h"
#include "infer/coarse/coarse.h"
#include "infer/requests.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* STEM.h5: dataset "saliency", (height, width) float32. */
static enum mcs_status read_store(const char *path, struct map2 *map)
{
    enum mcs_status st = MCS_OK;
    struct store *s;
    struct store_info info;
    MCS_TRY(mcs_store_open(path, &s));
    MCS_TRY_GOTO(mcs_store_get_info(s, "saliency", &info), st, done);
    MCS_REQUIRE_GOTO(info.nd == 2 && info.dims[0] > 0 && info.dims[1] > 0 && info.n_values < INT32_MAX, MCS_E_DATA, st,
                     done, "%s: saliency has %d dimensions, %lld values: want (height, width)", path, info.nd,
                     (long long)info.n_values);
    MCS_TRY_GOTO(mcs_map_alloc(map, (int)info.dims[1], (int)info.dims[0]), st, done);
    MCS_TRY_GOTO(mcs_store_get(s, "saliency", MCS_ARRAY_F32, 2, info.dims, map->values), st, done);
done:
    mcs_store_close(s);
    return st;
}

/* STEM.png: 8 bits are 0..1. */
static enum mcs_status read_png(const char *path, struct map2 *map)
{
    struct image img;
    MCS_TRY(mcs_image_read(path, 1, &img));
    enum mcs_status st = mcs_map_alloc(map, img.width, img.height);
    if (st == MCS_OK)
        for (int64_t i = 0; i < (int64_t)img.width * img.height; i++) map->values[i] = (float)img.pixels[i] / 255.0f;
    mcs_image_free(&img);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

static enum mcs_status read_map(const char *path, struct map2 *map)
{
    size_t n = strlen(path);
    if (n > 3 && !strcmp(path + n - 3, ".h5"))
        MCS_TRY(read_store(path, map));
    else
        MCS_TRY(read_png(path, map));
    return MCS_OK;
}

/* The entry of a case in boxes.json. */
static json_t *boxes_of(struct arena *a, const char *stem, int width, int height, const struct coarse_result *r)
{
    return mcs_box_case_json(
        &(struct box_case){.image = mcs_arena_printf(a, "%s.png", stem),
                           .width = width,
                           .height = height,
                           .n_components = r->n_boxes,
                           .components = r->boxes,
                           .reason = r->state == MCS_MASK_OK ? NULL : mcs_mask_state_text(r->state)});
}

static const char *made_by(struct arena *a, const struct coarse_options *o)
{
    static const char *const ranks[] = {"confidence", "area", "text", "both"};
    const char *threshold = o->threshold == MCS_COARSE_OTSU     ? "\"otsu\""
                            : o->threshold == MCS_COARSE_KMEANS ? "\"kmeans\""
                                                                : mcs_arena_printf(a, "%.9g", o->threshold_value);
    return mcs_arena_printf(
        a,
        "{\"verb\": \"coarse\", \"version\": \"%s\", \"form\": \"%s\", \"seed\": %lld, \"threshold\": %s, "
        "\"rank\": \"%s\", \"keep\": %d, \"min_confidence\": %.9g, \"min_area\": %d, \"grow\": %d, "
        "\"merge_boxes\": %d, \"points\": %d, \"negative_points\": %d}",
        MCS_VERSION, o->form == MCS_RELEASE ? "release" : "paper", (long long)o->seed, threshold, ranks[o->rank],
        o->keep, o->min_confidence, o->min_area, o->grow_px, o->merge_boxes, o->n_points, o->n_negative);
}

struct job {
    struct device_scratch *scratch;
    const char *out;
    const struct coarse_options *o;
    const struct coarse_text_scorer *scorer;
    struct run_folder *run;
    struct failure_list failures;
    json_t *boxes; /* of the cases done, in order */
    struct arena arena;
};

/* Computes and writes one case. On failure *read is 0 if the input was at fault, so that other cases may succeed, and 1
 * if writing failed. */
static enum mcs_status run_case(struct job *j, const struct case_file *file, int *read)
{
    enum mcs_status st = MCS_OK;
    struct map2 map = {0};
    struct image mask = {0};
    struct coarse_result r = {0};
    json_t *boxes = NULL;
    *read = 0;
    MCS_TRY_GOTO(mcs_case_name_check(j->out, file->stem, ".png"), st, done);
    MCS_TRY_GOTO(read_map(file->path, &map), st, done);
    MCS_TRY_GOTO(mcs_image_alloc(&mask, map.width, map.height, 1), st, done);
    MCS_TRY_GOTO(mcs_coarse_mask(j->scratch, &map, file->stem, j->o, j->scorer, NULL, mask.pixels, &r), st, done);
    boxes = boxes_of(&j->arena, file->stem, map.width, map.height, &r);
    MCS_REQUIRE_GOTO(boxes, MCS_E_DATA, st, done, "%s: its boxes have a number that is not finite", file->path);
    *read = 1;
    for (int64_t i = 0; i < (int64_t)map.width * map.height; i++) mask.pixels[i] = mask.pixels[i] ? 255 : 0;
    const char *name = mcs_arena_printf(&j->arena, "%s.png", file->stem);
    MCS_TRY_GOTO(mcs_image_write_png(mcs_arena_printf(&j->arena, "%s/%s", j->out, name), &mask), st, done);
    json_array_append(j->boxes, boxes);
    if (!j->run) goto done;
    const struct run_source source = {(const char *const[]){file->path, NULL}, NULL};
    MCS_TRY_GOTO(mcs_run_case_add(j->run, file->stem, &source, (const char *const[]){name, NULL}, json_incref(boxes)),
                 st, done);
    st = mcs_run_flush(j->run);
done:
    json_decref(boxes);
    mcs_map_free(&map);
    mcs_image_free(&mask);
    mcs_coarse_free(&r);
    return st;
}

/* The recorded boxes of each case that an earlier run finished, NULL for the others. NULL: no memory. */
static json_t **find_done(struct job *j, const struct case_list *cases)
{
    json_t **boxes = mcs_arena_alloc(&j->arena, ((size_t)cases->n + 1) * sizeof *boxes);
    int n = 0;
    if (!boxes) return NULL;
    for (int i = 0; j->run && i < cases->n; i++) {
        const struct case_file *file = &cases->files[i];
        const struct run_source source = {(const char *const[]){file->path, NULL}, NULL};
        if (!mcs_run_case_done(j->run, file->stem, &source, &boxes[i])) boxes[i] = NULL;
        n += boxes[i] != NULL;
    }
    mcs_run_tell_done(n, cases->n);
    return boxes;
}

static enum mcs_status run_cases(struct job *j, const struct case_list *cases)
{
    struct mcs_progress progress;
    json_t **done = find_done(j, cases);
    MCS_TRY(mcs_arena_status(&j->arena));
    mcs_progress_start(&progress, "coarse", "case", cases->n);
    for (int i = 0; i < cases->n; i++) {
        int read = 0;
        if (done[i]) {
            json_array_append(j->boxes, done[i]);
            continue;
        }
        if (mcs_stop_requested()) {
            int n = (int)json_array_size(j->boxes);
            for (int k = i; k < cases->n; k++) n += done[k] != NULL;
            return mcs_run_stopped(n, cases->n);
        }
        const enum mcs_status one = run_case(j, cases->files + i, &read);
        if (one != MCS_OK && (read || one == MCS_E_NOMEM || one == MCS_E_USAGE || one == MCS_E_FAIL)) return one;
        if (one != MCS_OK) mcs_failures_add_held(&j->failures, cases->files[i].stem);
        mcs_progress_set(&progress, i + 1);
    }
    mcs_progress_end(&progress);
    return MCS_OK;
}

/* Returns the number of empty masks and warns about them. */
static int warn_empty(const json_t *boxes, const char *out)
{
    size_t i;
    json_t *b;
    int n = 0;
    json_array_foreach(boxes, i, b)
    {
        const char *reason = json_string_value(json_object_get(b, "reason"));
        if (reason && !n++)
            mcs_warn("%s: the coarse mask is empty: %s", json_string_value(json_object_get(b, "image")), reason);
    }
    if (n > 1)
        mcs_warn("%d of %d coarse masks are empty; \"reason\" in %s/boxes.json says why", n,
                 (int)json_array_size(boxes), out);
    return n;
}

static enum mcs_status check_apart(const char *in, const char *out)
{
    char a[MCS_PATH_BYTES], b[MCS_PATH_BYTES];
    MCS_REQUIRE(!realpath(in, a) || !realpath(out, b) || strcmp(a, b) != 0, MCS_E_USAGE,
                "%s: masks would overwrite the maps; choose another output folder", out);
    return MCS_OK;
}

enum mcs_status mcs_coarse_folder(struct device *d, const char *in, const char *out, const struct coarse_options *o,
                                  const struct coarse_text_scorer *scorer, struct run_folder *run, int *n_cases,
                                  int *n_empty)
{
    struct case_list cases;
    struct device_scratch scratch = {.device = d};
    struct job j = {.scratch = &scratch, .out = out, .o = o, .scorer = scorer, .run = run};
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_cases_list(in, ".h5;.png", ".h5", &cases));
    j.boxes = json_array();
    MCS_TRY_GOTO(mcs_folder_make(out), st, done);
    MCS_TRY_GOTO(check_apart(in, out), st, done);
    MCS_TRY_GOTO(run_cases(&j, &cases), st, done);
    MCS_TRY_GOTO(mcs_boxes_write_json(mcs_arena_printf(&j.arena, "%s/boxes.json", out), j.boxes, made_by(&j.arena, o)),
                 st, done);
    const int n_void = warn_empty(j.boxes, out);
    if (n_cases) *n_cases = (int)json_array_size(j.boxes);
    if (n_empty) *n_empty = n_void;
    st = mcs_failures_finish(&j.failures, out, cases.n);
done:
    mcs_device_scratch_free(&scratch);
    mcs_cases_free(&cases);
    json_decref(j.boxes);
    mcs_failures_free(&j.failures);
    mcs_arena_free(&j.arena);
    return st;
}
