/* The verb sam on a folder of images with boxes.json. */
#include "data/image/media.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "infer/cmd/sam_command.h"
#include "infer/requests.h"

#include <stdlib.h>

enum { CHUNK = 16 /* images in memory at once, at most */ };

json_t *mcs_sam_json_head(const struct sam_command *c, const struct sam_model *m, struct arena *a)
{
    return json_pack("{s:s, s:o, s:s, s:s, s:s, s:i}", "version", MCS_VERSION, "model", mcs_json_text(m->path),
                     "sha256", m->sha256, "preprocess", mcs_sam_preprocess_name(m->config.preprocess), "form",
                     mcs_form_text(c->common.form, a), "seed", (int)c->common.seed);
}

struct folder_run {
    const struct sam_command *c;
    struct sam_model *model;
    struct sam_options o;
    struct box_list boxes;
    struct case_list images;
    struct failure_list failures;
    struct run_folder *run;
    json_t **results; /* [image], for sam.json; NULL: not done */
    int n_done;
    struct arena arena;
};

static json_t *result_to_json(const struct box_case *b, const struct sam_result *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n_prompts; i++) {
        const struct sam_prompt_result *q = &r->prompts[i];
        json_array_append_new(list, json_pack("{s:[ffff], s:i, s:i, s:f, s:f}", "box", q->box[0], q->box[1], q->box[2],
                                              q->box[3], "points", q->n_points, "chosen", q->chosen, "iou",
                                              (double)q->iou, "stability", q->stability));
    }
    json_t *o = json_pack("{s:o, s:[ii], s:i, s:o}", "image", mcs_json_text(b->image), "size", b->width, b->height,
                          "area", r->area, "prompts", list);
    if (o && !r->n_prompts)
        json_object_set_new(o, "reason", mcs_json_text(b->reason ? b->reason : "the coarse mask is empty"));
    return o;
}

/* The inputs that a recorded result depends on: the image file, and its prompts as text. */
static struct run_source source_of(struct folder_run *f, const struct case_file *file, const struct box_case *b)
{
    json_t *o = mcs_box_case_json(b);
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
    const char **list = mcs_arena_alloc(&f->arena, 4 * sizeof *list);
    if (list) {
        list[0] = file->path;
        list[2] = text ? mcs_arena_strdup(&f->arena, text) : "";
    }
    free(text);
    json_decref(o);
    if (!list) return (struct run_source){0};
    return (struct run_source){list, list + 2};
}

/* Writes and records one image's mask and its entry in sam.json. */
static enum mcs_status write_case(struct folder_run *f, const struct case_file *file, const struct sam_case *c,
                                  const struct sam_result *r)
{
    const struct run_source source = source_of(f, file, c->prompts);
    const char *name = mcs_arena_printf(&f->arena, "%s.png", file->stem);
    MCS_TRY(mcs_image_write_mask(mcs_arena_printf(&f->arena, "%s/%s", f->c->output, name), r->mask, c->image->width,
                                 c->image->height));
    json_t *result = result_to_json(c->prompts, r);
    f->results[file - f->images.files] = json_incref(result);
    f->n_done++;
    return mcs_run_case_add(f->run, file->stem, &source, (const char *const[]){name, NULL}, result);
}

/* Segments and writes n cases that have been read. */
static enum mcs_status segment_some(struct folder_run *f, const struct sam_case *cases,
                                    const struct case_file *const *files, int n)
{
    struct sam_result results[CHUNK] = {0};
    enum mcs_status st = mcs_sam_segment(f->model, &f->o, cases, n, results);
    for (int i = 0; i < n; i++) {
        if (st == MCS_OK)
            st = mcs_failures_take(&f->failures, files[i]->stem, write_case(f, files[i], &cases[i], &results[i]));
        mcs_sam_result_free(&results[i]);
    }
    return st;
}

/* Reads the results of images that an earlier run finished. */
static void find_done(struct folder_run *f)
{
    f->results = mcs_arena_alloc(&f->arena, ((size_t)f->images.n + 1) * sizeof *f->results);
    for (int i = 0; f->results && i < f->images.n; i++) {
        const struct case_file *file = &f->images.files[i];
        const struct box_case *b = mcs_boxes_find(&f->boxes, file->stem);
        json_t *result = NULL;
        if (!b) continue;
        const struct run_source source = source_of(f, file, b);
        if (!mcs_run_case_done(f->run, file->stem, &source, &result) || !result) continue;
        f->results[i] = json_incref(result);
        f->n_done++;
    }
    mcs_run_tell_done(f->n_done, f->images.n);
}

/* Reads image i and its prompts. Returns 0 if it was finished before or cannot be read. */
static int read_case(struct folder_run *f, int i, struct image *img, struct sam_case *c)
{
    const struct case_file *file = &f->images.files[i];
    const struct box_case *b = mcs_boxes_find(&f->boxes, file->stem);
    if (f->results[i]) return 0;
    if (!b) {
        mcs_failures_add(&f->failures, file->stem, "boxes.json has no such case");
        return 0;
    }
    *c = (struct sam_case){img, b};
    *img = (struct image){0};
    if (mcs_case_name_check(f->c->output, file->stem, ".png") == MCS_OK &&
        mcs_image_read(file->path, 3, img) == MCS_OK && mcs_sam_case_check(&f->o, c) == MCS_OK &&
        (!f->c->embeddings.load ||
         mcs_sam_embedding_read(f->c->embeddings.load, file->stem, f->model, img, NULL) == MCS_OK))
        return 1;
    mcs_failures_add_held(&f->failures, file->stem);
    mcs_image_free(img);
    return 0;
}

/* Segments every image that is in boxes.json and in the folder; images in only one of them are listed as failed. The
 * batches do not depend on where an earlier run stopped. */
static enum mcs_status segment_all(struct folder_run *f)
{
    const int size = f->model->config.image_size <= 256 ? CHUNK : 1; /* the batch size of mcs_sam_segment */
    struct image images[CHUNK];
    struct sam_case cases[CHUNK];
    const struct case_file *files[CHUNK];
    struct mcs_progress bar;
    mcs_progress_start(&bar, "sam", "image", f->images.n);
    for (int at = 0; at < f->images.n; at += size) {
        const int end = at + size < f->images.n ? at + size : f->images.n;
        int n = 0;
        if (mcs_stop_requested()) return mcs_run_stopped(f->n_done, f->images.n);
        for (int i = at; i < end; i++) {
            files[n] = &f->images.files[i];
            n += read_case(f, i, &images[n], &cases[n]);
        }
        const enum mcs_status st = n ? segment_some(f, cases, files, n) : MCS_OK;
        while (n) mcs_image_free(&images[--n]);
        MCS_TRY(st);
        MCS_TRY(mcs_run_flush(f->run));
        mcs_progress_set(&bar, end);
    }
    mcs_progress_end(&bar);
    for (int i = 0; i < f->boxes.n; i++) {
        char stem[MCS_PATH_BYTES];
        mcs_file_stem(f->boxes.cases[i].image, stem, sizeof stem);
        if (!mcs_cases_find(&f->images, stem)) mcs_failures_add(&f->failures, stem, "no such image in the folder");
    }
    return MCS_OK;
}

static enum mcs_status write_folder(struct folder_run *f)
{
    int n_empty = 0;
    MCS_TRY(mcs_sam_model_hash(f->model));
    json_t *root = mcs_sam_json_head(f->c, f->model, &f->arena), *cases = json_array();
    for (int i = 0; i < f->images.n; i++) {
        if (!f->results[i]) continue;
        json_array_append(cases, f->results[i]);
        n_empty += json_array_size(json_object_get(f->results[i], "prompts")) == 0;
    }
    if (root) json_object_set(root, "cases", cases);
    json_decref(cases);
    MCS_TRY(mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(7), "%s/sam.json", f->c->output));
    printf(f->c->common.json ? "{\"masks\": %d, \"empty\": %d, \"failed\": %d}\n"
                             : "%d masks, %d of them without prompts; %d cases failed\n",
           f->n_done, n_empty, f->failures.n);
    return mcs_failures_finish(&f->failures, f->c->output, f->n_done + f->failures.n);
}

enum mcs_status mcs_sam_folder(const struct sam_command *c, struct sam_model *m)
{
    struct folder_run f = {.c = c, .model = m, .o = mcs_sam_defaults(c->common.form[MCS_FORM_SAM])};
    enum mcs_status st;
    MCS_REQUIRE(!c->box.n && !c->point.n && !c->mask, MCS_E_USAGE,
                "--box, --point and --mask are for one image; with --prompts-from the prompts come from that file");
    f.o.kind = (enum sam_prompt_kind)c->prompts;
    f.o.merge_boxes = c->boxes;
    f.o.grow_px = (int)c->grow;
    f.o.keep = (int)c->keep;
    f.o.multimask = c->multimask;
    f.o.embeddings = c->embeddings;
    MCS_TRY_GOTO(mcs_boxes_read(c->prompts_from, &f.boxes), st, done);
    MCS_TRY_GOTO(mcs_cases_list(c->input, MCS_IMAGE_ENDINGS, NULL, &f.images), st, done);
    MCS_TRY_GOTO(mcs_run_open_late(&c->common.command, c->output, (struct run_more){mcs_sam_model_lines, m}, &f.run),
                 st, done);
    MCS_TRY_GOTO(mcs_run_save_config(f.run), st, done);
    find_done(&f);
    MCS_TRY_GOTO(mcs_arena_status(&f.arena), st, done);
    MCS_TRY_GOTO(segment_all(&f), st, done);
    st = write_folder(&f);
done:
    st = mcs_run_close(f.run, st);
    for (int i = 0; f.results && i < f.images.n; i++) json_decref(f.results[i]);
    mcs_boxes_free(&f.boxes);
    mcs_cases_free(&f.images);
    mcs_failures_free(&f.failures);
    mcs_arena_free(&f.arena);
    return st;
}
