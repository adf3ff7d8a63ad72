#include "infer/unet/predict.h"

#include "data/image/image.h"
#include "data/image/media.h"
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "infer/requests.h"
#include "infer/unet/row_record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP = 8 }; /* images of one size, or slices of a volume, that are predicted together */

struct predict_options mcs_predict_defaults(void)
{
    return (struct predict_options){.sliding = mcs_sliding_defaults(), .choices = {ENSEMBLE_ALL}, .n_choices = 1};
}

static const char *const choice_names[] = {
    [ENSEMBLE_ALL] = "all", [ENSEMBLE_LAST] = "last", [ENSEMBLE_LAST_CYCLE] = "last-cycle"};

const char *mcs_predict_choice_name(enum ensemble_choice choice)
{
    return choice_names[choice];
}

enum mcs_status mcs_predict_parse_choices(const char *text, struct predict_options *o)
{
    o->n_choices = 0;
    for (const char *at = text; *at;) {
        const size_t n = strcspn(at, ", ");
        int choice = 0;
        while (choice < 3 && (strlen(choice_names[choice]) != n || strncmp(at, choice_names[choice], n) != 0)) choice++;
        MCS_REQUIRE(choice < 3 && o->n_choices < 3, MCS_E_USAGE,
                    "--checkpoints %s: want all, last or last-cycle, or some of them with commas, each once", text);
        for (int i = 0; i < o->n_choices; i++)
            MCS_REQUIRE((int)o->choices[i] != choice, MCS_E_USAGE, "--checkpoints %s: %s twice", text,
                        choice_names[choice]);
        o->choices[o->n_choices++] = (enum ensemble_choice)choice;
        at += n;
        at += strspn(at, ", ");
    }
    MCS_REQUIRE(o->n_choices > 0, MCS_E_USAGE, "--checkpoints: names none; want all, last or last-cycle");
    return MCS_OK;
}

/* A case that has been read and waits to be predicted with its group: one image or one volume. */
struct waiting {
    const struct case_file *file;
    struct volume volume; /* header and sizes if is_volume */
    int is_volume, depth, height, width;
    float *values; /* (depth, height, width, channels), normalised; owned */
};

struct job {
    const struct predict_options *o;
    struct ensemble ensemble;
    char folder[3][MCS_PATH_BYTES];
    struct waiting group[GROUP];
    int n_group, n_done;
    const struct case_list *list;
    struct uncertainty_row *rows[3]; /* [choice][index in list]; stem NULL: not done */
    struct run_folder *run;          /* NULL: cases are not recorded */
    struct failure_list failures;
    struct arena arena;
};

static void waiting_free(struct waiting *w)
{
    mcs_volume_free(&w->volume);
    free(w->values);
    *w = (struct waiting){0};
}

static enum mcs_status read_case(const struct case_file *file, int channels, struct waiting *w)
{
    *w = (struct waiting){.file = file, .is_volume = mcs_media_is_volume(file->name)};
    struct image img = {0};
    if (w->is_volume) {
        MCS_REQUIRE(channels == 1, MCS_E_DATA, "%s: a volume has one channel, the network was trained on %d",
                    file->path, channels);
        MCS_TRY(mcs_volume_read(file->path, &w->volume));
        w->depth = w->volume.nz, w->height = w->volume.ny, w->width = w->volume.nx;
    } else {
        MCS_REQUIRE(channels == 1 || channels == 3, MCS_E_DATA,
                    "%s: the network was trained on %d channels, an image has 1 or 3", file->path, channels);
        MCS_TRY(mcs_image_read_deep(file->path, channels, &img, &w->volume));
        w->depth = 1, w->height = img.pixels ? img.height : w->volume.ny,
        w->width = img.pixels ? img.width : w->volume.nx;
    }
    const int64_t pixels = (int64_t)w->depth * w->height * w->width;
    w->values = malloc((size_t)(pixels * channels) * sizeof(float));
    if (w->values) mcs_ensemble_normalise(img.pixels, w->volume.values, pixels, channels, w->values);
    mcs_image_free(&img);
    MCS_REQUIRE(w->values, MCS_E_NOMEM, "%s: no memory for it", file->path);
    for (int64_t i = 0; i < pixels * channels; i++)
        MCS_REQUIRE(w->values[i] - w->values[i] == 0, MCS_E_DATA, "%s: a value that is not finite", file->path);
    return MCS_OK;
}

/* All slices of a case as predicted by one group of checkpoints; results that were not requested stay empty. */
struct result {
    struct probability prob; /* sizes are always set */
    float *bits;
    uint8_t *labels;
};

static void result_free(struct result *r)
{
    mcs_probability_free(&r->prob);
    free(r->bits);
    free(r->labels);
    *r = (struct result){0};
}

static enum mcs_status result_alloc(const struct job *j, const struct waiting *w, struct result *r)
{
    const size_t voxels = (size_t)w->depth * (size_t)w->height * (size_t)w->width;
    MCS_TRY(mcs_probability_alloc(&r->prob, (int)j->ensemble.model.plans.net.classes, w->depth, w->height, w->width));
    r->labels = malloc(voxels);
    r->bits = j->o->uncertainty ? malloc(voxels * sizeof *r->bits) : NULL;
    MCS_REQUIRE(r->labels && (r->bits || !j->o->uncertainty), MCS_E_NOMEM, "%s: no memory for its mask", w->file->stem);
    return MCS_OK;
}

/* Writes all files of one case for one group of checkpoints. */
static enum mcs_status write_case(struct job *j, int choice, const struct waiting *w, const struct result *r)
{
    const char *folder = j->folder[choice], *stem = w->file->stem;
    char path[MCS_PATH_BYTES];
    if (j->o->save_probabilities) {
        MCS_TRY(mcs_path(path, "%s/%s.h5", folder, stem));
        MCS_TRY(mcs_probability_write(path, &r->prob));
    }
    if (j->o->uncertainty) {
        struct uncertainty_row *row = &j->rows[choice][w->file - j->list->files];
        row->stem = stem;
        MCS_TRY(mcs_path(path, "%s/uncertainty", folder)); /* apart: readers of masks read every image of a folder */
        MCS_TRY(mcs_probability_write_entropy(path, stem, &r->prob, r->bits, r->labels, j->o->form, row));
    }
    return mcs_probability_write_mask(folder, stem, &r->prob, r->labels, w->is_volume ? &w->volume : NULL);
}

/* Copies images [from, from + n) of m to slices [first, first + n) of the case. */
static void place(const struct ensemble_maps *m, int64_t from, int64_t n, int64_t first, struct result *r)
{
    struct probability *p = &r->prob;
    const int64_t pixels = (int64_t)p->ny * p->nx;
    for (int64_t i = 0; m->prob && i < n; i++)
        for (int k = 0; k < p->classes; k++)
            memcpy(p->values + ((int64_t)k * p->nz + first + i) * pixels,
                   m->prob + ((from + i) * p->classes + k) * pixels, (size_t)pixels * sizeof *m->prob);
    memcpy(r->labels + first * pixels, m->labels + from * pixels, (size_t)(n * pixels));
    if (m->bits) memcpy(r->bits + first * pixels, m->bits + from * pixels, (size_t)(n * pixels) * sizeof *m->bits);
}

/* Adds a case whose files have been written to the run folder's record. */
static enum mcs_status record(struct job *j, const struct waiting *w)
{
    const char *stem = w->file->stem, *files[4 * ENSEMBLE_MAX_CHOICES + 1] = {NULL};
    const struct run_source source = {(const char *const[]){w->file->path, NULL}, NULL};
    json_t *rows = json_array();
    int n = 0;
    if (!j->run) return json_decref(rows), MCS_OK;
    for (int g = 0; g < j->o->n_choices; g++) {
        const char *in = g ? mcs_arena_printf(&j->arena, "%s/", mcs_predict_choice_name(j->o->choices[g])) : "";
        files[n++] = mcs_arena_printf(&j->arena, "%s%s.%s", in, stem, w->is_volume ? "nii.gz" : "png");
        if (j->o->save_probabilities) files[n++] = mcs_arena_printf(&j->arena, "%s%s.h5", in, stem);
        if (!j->o->uncertainty) continue;
        files[n++] = mcs_arena_printf(&j->arena, "%suncertainty/%s_entropy.h5", in, stem);
        if (w->depth == 1) files[n++] = mcs_arena_printf(&j->arena, "%suncertainty/%s_entropy.png", in, stem);
        json_array_append_new(rows, mcs_uncertainty_row_json(&j->rows[g][w->file - j->list->files]));
    }
    return mcs_run_case_add(j->run, stem, &source, files, rows);
}

/* Writes and records one case from its results, one for each choice. */
static enum mcs_status finish(struct job *j, const struct waiting *w, struct result *results)
{
    for (int g = 0; g < j->o->n_choices; g++) {
        struct probability *p = &results[g].prob;
        p->is_volume = w->is_volume;
        if (w->is_volume) memcpy(p->spacing, w->volume.spacing, sizeof p->spacing);
        MCS_TRY(write_case(j, g, w, &results[g]));
    }
    j->n_done++;
    return record(j, w);
}

/* Allocates one choice's results for GROUP images. */
static enum mcs_status maps_alloc(const struct job *j, int64_t pixels, struct ensemble_maps *m)
{
    const size_t values = (size_t)(GROUP * pixels);
    m->labels = malloc(values);
    m->bits = j->o->uncertainty ? malloc(values * sizeof *m->bits) : NULL;
    m->prob = j->o->save_probabilities ? malloc(values * (size_t)j->ensemble.model.plans.net.classes * sizeof *m->prob)
                                       : NULL;
    MCS_REQUIRE(m->labels && (m->bits || !j->o->uncertainty) && (m->prob || !j->o->save_probabilities), MCS_E_NOMEM,
                "no memory for a group of images");
    return MCS_OK;
}

/* Predicts and writes the group: several images of one size, or one volume in chunks of GROUP slices. */
static enum mcs_status run_group(struct job *j)
{
    if (!j->n_group) return MCS_OK;
    const struct waiting *first = &j->group[0];
    const int n_choices = j->o->n_choices;
    const int64_t pixels = (int64_t)first->height * first->width,
                  slice = pixels * j->ensemble.model.plans.net.in_channels;
    struct result results[ENSEMBLE_MAX_CHOICES] = {0};
    struct ensemble_maps out[ENSEMBLE_MAX_CHOICES] = {0};
    float *images = malloc((size_t)(GROUP * slice) * sizeof *images);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(images, MCS_E_NOMEM, st, done, "no memory for a group of images");
    for (int g = 0; g < n_choices; g++) {
        MCS_TRY_GOTO(maps_alloc(j, pixels, &out[g]), st, done);
        MCS_TRY_GOTO(result_alloc(j, first, &results[g]), st, done);
    }
    for (int64_t z = 0; z < first->depth; z += GROUP) { /* images: depth 1, once */
        if (z) MCS_TRY_GOTO(mcs_stop_check(), st, done);
        const int64_t n = first->is_volume ? first->depth - z < GROUP ? first->depth - z : GROUP : j->n_group;
        for (int64_t i = 0; i < n; i++)
            memcpy(images + i * slice, first->is_volume ? first->values + (z + i) * slice : j->group[i].values,
                   (size_t)slice * sizeof *images);
        MCS_TRY_GOTO(mcs_ensemble_run(&j->ensemble, &j->o->sliding, images, n, first->height, first->width,
                                      j->o->choices, n_choices, j->o->threshold, out),
                     st, done);
        for (int g = 0; first->is_volume && g < n_choices; g++) place(&out[g], 0, n, z, &results[g]);
    }
    for (int i = 0; i < j->n_group; i++) {
        for (int g = 0; !first->is_volume && g < n_choices; g++) place(&out[g], i, 1, 0, &results[g]);
        MCS_TRY_GOTO(finish(j, &j->group[i], results), st, done);
    }
    if (j->run) st = mcs_run_flush(j->run);
done:
    for (int g = 0; g < n_choices; g++) {
        result_free(&results[g]);
        free(out[g].prob);
        free(out[g].bits);
        free(out[g].labels);
    }
    free(images);
    for (int i = 0; i < j->n_group; i++) waiting_free(&j->group[i]);
    j->n_group = 0;
    return st;
}

/* 1 if the first choice's mask of the case exists. */
static int mask_exists(const struct job *j, const struct case_file *file)
{
    char path[MCS_PATH_BYTES];
    return mcs_path_fits(path, "%s/%s.%s", j->folder[0], file->stem,
                         mcs_media_is_volume(file->name) ? "nii.gz" : "png") &&
           mcs_file_exists(path);
}

/* 1 if the run folder has recorded the case; its uncertainty rows are then read from the record. */
static int is_recorded(struct job *j, const struct case_file *file)
{
    const struct run_source source = {(const char *const[]){file->path, NULL}, NULL};
    json_t *rows;
    if (!j->run || !mcs_run_case_done(j->run, file->stem, &source, &rows)) return 0;
    for (int g = 0; j->o->uncertainty && g < j->o->n_choices; g++) {
        struct uncertainty_row *row = &j->rows[g][file - j->list->files];
        if (!mcs_uncertainty_row_read(json_array_get(rows, (size_t)g), row)) return 0;
        row->stem = file->stem;
    }
    return 1;
}

/* Checks that no file name of the case is too long; the last choice's folder has the longest path. */
static enum mcs_status name_check(const struct job *j, const struct case_file *file)
{
    char folder[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(folder, j->o->uncertainty ? "%s/uncertainty" : "%s", j->folder[j->o->n_choices - 1]));
    return mcs_case_name_check(folder, file->stem,
                               j->o->uncertainty                 ? "_entropy.png"
                               : mcs_media_is_volume(file->name) ? ".nii.gz"
                                                                 : ".png");
}

/* Adds a case to the group; a group that is full or of another size is run first. */
static enum mcs_status add_case(struct job *j, const struct case_file *file)
{
    struct waiting w = {0};
    enum mcs_status st = name_check(j, file);
    if (st == MCS_OK) st = read_case(file, j->ensemble.model.plans.net.in_channels, &w);
    if (st != MCS_OK) {
        waiting_free(&w);
        if (st == MCS_E_NOMEM) return st;
        mcs_failures_add_held(&j->failures, file->stem);
        return MCS_OK;
    }
    const struct waiting *first = &j->group[0];
    if (j->n_group && (j->n_group == GROUP || w.is_volume || first->is_volume || w.height != first->height ||
                       w.width != first->width)) {
        const enum mcs_status ran = run_group(j);
        if (ran != MCS_OK) {
            waiting_free(&w);
            return ran;
        }
    }
    j->group[j->n_group++] = w;
    return MCS_OK;
}

/* For each case of the list: 1 if it was finished by an earlier run. NULL: no memory. */
static char *find_done(struct job *j)
{
    const struct case_list *list = j->list;
    char *done = mcs_arena_alloc(&j->arena, (size_t)list->n + 1);
    int recorded = 0, passed = 0;
    for (int g = 0; g < j->o->n_choices; g++)
        j->rows[g] = mcs_arena_alloc(&j->arena, ((size_t)list->n + 1) * sizeof *j->rows[g]);
    if (mcs_arena_status(&j->arena) != MCS_OK) return NULL;
    for (int i = 0; i < list->n; i++) {
        const int known = is_recorded(j, &list->files[i]),
                  kept = !known && j->o->continue_prediction && mask_exists(j, &list->files[i]);
        recorded += known;
        passed += kept;
        done[i] = (char)(known || kept);
    }
    mcs_run_tell_done(recorded, list->n);
    if (passed) mcs_log("%d cases were there already", passed);
    j->n_done = recorded;
    return done;
}

static enum mcs_status write_tables(struct job *j)
{
    for (int g = 0; j->o->uncertainty && g < j->o->n_choices; g++) {
        char path[MCS_PATH_BYTES];
        int n = 0;
        for (int i = 0; i < j->list->n; i++)
            if (j->rows[g][i].stem) j->rows[g][n++] = j->rows[g][i];
        MCS_TRY(mcs_path(path, "%s/uncertainty", j->folder[g]));
        MCS_TRY(mcs_uncertainty_write_csv(path, j->rows[g], n));
    }
    return MCS_OK;
}

static enum mcs_status run_cases(struct job *j)
{
    const struct case_list *list = j->list;
    struct mcs_progress bar;
    enum mcs_status st = MCS_OK;
    const char *done = find_done(j);
    MCS_TRY(mcs_arena_status(&j->arena));
    mcs_progress_start(&bar, "predict", "case", list->n);
    for (int i = 0; i < list->n && st == MCS_OK; i++) {
        st = mcs_stop_check();
        if (st == MCS_OK && !done[i]) st = add_case(j, &list->files[i]);
        mcs_progress_set(&bar, i + 1 - j->n_group);
    }
    if (st == MCS_OK) st = mcs_stop_check();
    if (st == MCS_OK) st = run_group(j);
    if (st == MCS_E_STOPPED) {
        mcs_error_clear();
        st = mcs_run_stopped(j->n_done, list->n);
    }
    MCS_TRY(st);
    mcs_progress_set(&bar, list->n);
    mcs_progress_end(&bar);
    return write_tables(j);
}

/* Sets the output folders in the job and lists them in `out` (2 x choices); *n: their number. */
static enum mcs_status name_folders(struct job *j, const char *output, struct run_output out[2 * ENSEMBLE_MAX_CHOICES],
                                    int *n)
{
    const struct predict_options *o = j->o;
    *n = 0;
    for (int g = 0; g < o->n_choices; g++) {
        const char *choice = mcs_predict_choice_name(o->choices[g]);
        MCS_TRY(g ? mcs_path(j->folder[g], "%s/%s", output, choice) : mcs_path(j->folder[g], "%s", output));
        out[(*n)++] = (struct run_output){j->folder[g], "*.png;*.nii.gz;*.h5;config.yaml;failures.csv"};
        if (o->uncertainty)
            out[(*n)++] = (struct run_output){mcs_arena_printf(&j->arena, "%s/uncertainty", j->folder[g]),
                                              "*.png;*.h5;uncertainty.csv"};
    }
    return MCS_OK;
}

/* Opens the output as a run folder; the weights' hash is one of the options that a resumed run must match. */
static enum mcs_status open_run(struct job *j, const char *output, const char *model)
{
    const int64_t bytes = j->ensemble.model.params->n_values * (int64_t)sizeof(float);
    const char *all;
    char hex[65];
    MCS_TRY(mcs_file_sha256(mcs_arena_printf(&j->arena, "%s/plans.json", model), hex));
    all = mcs_arena_strdup(&j->arena, hex);
    for (int i = 0; i < j->ensemble.n; i++) {
        mcs_sha256(j->ensemble.weights[i], bytes, hex);
        all = mcs_arena_printf(&j->arena, "%s %s", all, hex);
    }
    mcs_sha256(all, (int64_t)strlen(all), hex);
    MCS_TRY(mcs_run_open(j->o->command, output, mcs_arena_printf(&j->arena, "model_sha256: %s\n", hex), &j->run));
    return mcs_run_save_config(j->run);
}

enum mcs_status mcs_predict_folder(const char *input, const char *output, const char *run,
                                   const struct predict_options *o, struct device *d, int *n_done)
{
    struct job *j = calloc(1, sizeof *j);
    struct case_list list = {0};
    struct run_output out[2 * ENSEMBLE_MAX_CHOICES];
    const struct run_input in[] = {{"--input", input, MCS_MEDIA_ENDINGS}, {"--model", run, NULL}};
    enum mcs_status st;
    MCS_REQUIRE(j, MCS_E_NOMEM, "no memory for a list of cases");
    j->o = o;
    j->list = &list;
    int n_folders;
    MCS_TRY_GOTO(name_folders(j, output, out, &n_folders), st, done);
    if (o->command) MCS_TRY_GOTO(mcs_run_check_paths(o->command, out, n_folders, in, 2), st, done);
    MCS_TRY_GOTO(mcs_cases_list(input, MCS_MEDIA_ENDINGS, NULL, &list), st, done);
    MCS_TRY_GOTO(mcs_ensemble_open(run, o->choices, o->n_choices, d, &j->ensemble), st, done);
    if (o->command) MCS_TRY_GOTO(open_run(j, output, run), st, done);
    for (int i = 0; i < n_folders; i++) MCS_TRY_GOTO(mcs_folder_make(out[i].folder), st, done);
    mcs_log("%d checkpoints, %d cases", j->ensemble.n, list.n);
    MCS_TRY_GOTO(run_cases(j), st, done);
    st = mcs_failures_finish(&j->failures, output, list.n);
done:
    st = mcs_run_close(j->run, st);
    *n_done = j->n_done;
    for (int i = 0; i < j->n_group; i++) waiting_free(&j->group[i]);
    mcs_ensemble_close(&j->ensemble);
    mcs_failures_free(&j->failures);
    mcs_arena_free(&j->arena);
    mcs_cases_free(&list);
    free(j);
    return st;
}
