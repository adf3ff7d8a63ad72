/* mcs_coarse_folder: a folder of saliency maps to masks and boxes.json. */
#include "data/file.h"
#include "data/image.h"
#include "data/store.h"
#include "engine/log.h"
#include "infer/cases.h"
#include "infer/coarse.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096 };

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

/* Copies a result's boxes into the list that becomes boxes.json. */
static void add_case(struct box_list *list, const char *stem, int width, int height, const struct coarse_result *r)
{
    struct arena *a = &list->arena;
    struct box_case *b = list->cases + list->n++;
    *b = (struct box_case){.image = mcs_arena_printf(a, "%s.png", stem), .width = width, .height = height};
    b->n_components = r->n_boxes;
    b->components = mcs_arena_alloc(a, ((size_t)r->n_boxes + 1) * sizeof *b->components);
    for (int i = 0; i < r->n_boxes; i++) {
        struct box_component *c = b->components + i;
        size_t bytes = (size_t)r->boxes[i].n_points * sizeof *c->points;
        *c = r->boxes[i];
        c->points = mcs_arena_alloc(a, bytes + 1);
        memcpy(c->points, r->boxes[i].points, bytes);
    }
    if (r->state != MCS_MASK_OK) b->reason = mcs_mask_state_text(r->state);
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

/* One case: *read is 0 where the input was at fault, 1 where writing was, which no other case will survive either. */
static enum mcs_status run_case(struct stage_room *on, const struct case_file *file, const char *out,
                                const struct coarse_options *o, const struct coarse_text_scorer *scorer,
                                struct box_list *list, int *read)
{
    enum mcs_status st = MCS_OK;
    struct map2 map = {0};
    struct image mask = {0};
    struct coarse_result r = {0};
    *read = 0;
    MCS_TRY_GOTO(mcs_case_name_check(out, file->stem, ".png"), st, done);
    MCS_TRY_GOTO(read_map(file->path, &map), st, done);
    MCS_TRY_GOTO(mcs_image_alloc(&mask, map.width, map.height, 1), st, done);
    MCS_TRY_GOTO(mcs_coarse_mask(on, &map, file->stem, o, scorer, NULL, mask.pixels, &r), st, done);
    *read = 1;
    for (int64_t i = 0; i < (int64_t)map.width * map.height; i++) mask.pixels[i] = mask.pixels[i] ? 255 : 0;
    char path[PATH_BYTES];
    snprintf(path, PATH_BYTES, "%s/%s.png", out, file->stem);
    MCS_TRY_GOTO(mcs_image_write_png(path, &mask), st, done);
    add_case(list, file->stem, map.width, map.height, &r);
done:
    mcs_map_free(&map);
    mcs_image_free(&mask);
    mcs_coarse_free(&r);
    return st;
}

static enum mcs_status check_apart(const char *in, const char *out)
{
    char a[PATH_MAX], b[PATH_MAX];
    MCS_REQUIRE(!realpath(in, a) || !realpath(out, b) || strcmp(a, b) != 0, MCS_E_USAGE,
                "%s: masks would overwrite the maps; choose another output folder", out);
    return MCS_OK;
}

enum mcs_status mcs_coarse_folder(struct device *d, const char *in, const char *out, const struct coarse_options *o,
                                  const struct coarse_text_scorer *scorer, int *n_cases, int *n_empty)
{
    struct case_list cases;
    struct box_list list = {0};
    struct failure_list failures = {0};
    enum mcs_status st = MCS_OK;
    int n_void = 0;
    struct stage_room room = {.device = d}, *on = d ? &room : NULL;
    MCS_TRY(mcs_cases_list(in, ".h5;.png", ".h5", &cases));
    MCS_TRY_GOTO(mcs_folder_make(out), st, done);
    MCS_TRY_GOTO(check_apart(in, out), st, done);
    list.cases = mcs_arena_alloc(&list.arena, (size_t)cases.n * sizeof *list.cases);
    list.made_by = made_by(&list.arena, o);
    struct mcs_progress progress;
    mcs_progress_start(&progress, "coarse", "case", cases.n);
    for (int i = 0; i < cases.n; i++) {
        int read;
        const enum mcs_status one = run_case(on, cases.files + i, out, o, scorer, &list, &read);
        if (one != MCS_OK && (read || one == MCS_E_NOMEM || one == MCS_E_USAGE || one == MCS_E_FAIL)) {
            st = one;
            goto done;
        }
        if (one != MCS_OK) mcs_failures_add_held(&failures, cases.files[i].stem);
        mcs_progress_set(&progress, i + 1);
    }
    mcs_progress_end(&progress);
    char path[PATH_BYTES];
    snprintf(path, PATH_BYTES, "%s/boxes.json", out);
    MCS_TRY_GOTO(mcs_boxes_write(path, &list), st, done);
    MCS_TRY_GOTO(mcs_failures_write(&failures, out), st, done);
    for (int i = 0; i < list.n; i++)
        if (list.cases[i].reason) {
            if (!n_void++) mcs_warn("%s: the coarse mask is empty: %s", list.cases[i].image, list.cases[i].reason);
        }
    if (n_void > 1)
        mcs_warn("%d of %d coarse masks are empty; \"reason\" in %s/boxes.json says why", n_void, list.n, out);
    if (n_cases) *n_cases = list.n;
    if (n_empty) *n_empty = n_void;
    MCS_REQUIRE_GOTO(!failures.n, MCS_E_PARTIAL, st, done,
                     "%d of %d cases failed, see %s/failures.csv; the first: %s: %s", failures.n, cases.n, out,
                     failures.items[0].stem, failures.items[0].reason);
done:
    mcs_stage_room_free(&room);
    mcs_cases_free(&cases);
    mcs_boxes_free(&list);
    mcs_failures_free(&failures);
    return st;
}
