/* mcsam preprocess: the training cases of an nnU-Net data set as its plans want them. */
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "train/cmd/nnunet_command.h"
#include "train/plan/fingerprint.h"
#include "train/plan/preprocessed_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LABEL_BYTES = 1 << 30, MAX_JSON_BYTES = 1 << 28 };

struct preprocess_command {
    struct mcs_common common;
    struct nnunet_roots roots;
    const char *plans;
    struct mcs_strings configurations;
    int format;
};

static const struct mcs_option options[] = {
    MCS_NNUNET_OPTIONS(preprocess_command),
    {"plans", 'p', MCS_FIELD(preprocess_command, plans), .alias = "plans-name", .def = "nnUNetPlans", .value = "NAME",
     .help = "name of the plans"},
    {"configuration", 'c', MCS_FIELD(preprocess_command, configurations), .value = "NAME",
     .help = "configuration of the plans, may be repeated; default: 2d, 3d_fullres and 3d_lowres where planned"},
    {"format", 0, MCS_FIELD(preprocess_command, format), .def = "h5", .choices = "h5|npz",
     .help = "h5: mcsam's; npz: .npz and .pkl, which nnunetv2 reads"},
    {0},
};

struct job {
    const struct preprocess_command *c;
    struct nnunet_place place;
    char plans[MCS_PATH_BYTES]; /* the file */
    struct nnunet_dataset dataset;
    struct fingerprint fingerprint;
    struct nnunet_configuration configuration;
    char folder[MCS_PATH_BYTES]; /* of the configuration's cases */
    struct run_folder *run;
    int n_done, n_made;
};

/* ---- checks ---- */

/* dataset.json must be the one that was planned. */
static enum mcs_status check_planned(struct job *j)
{
    char copy[MCS_PATH_BYTES], path[MCS_PATH_BYTES];
    char *now = NULL, *before = NULL;
    int64_t n_now = 0, n_before = 0;
    enum mcs_status st;
    MCS_TRY(mcs_path(copy, "%s/dataset.json", j->place.preprocessed));
    MCS_TRY(mcs_path(path, "%s/dataset_fingerprint.json", j->place.preprocessed));
    MCS_REQUIRE(mcs_file_exists(j->plans), MCS_E_NOINPUT, "%s: no such plans; mcsam plan -d %s makes them", j->plans,
                j->c->roots.dataset);
    MCS_TRY_GOTO(mcs_file_read(j->place.description, MAX_JSON_BYTES, &now, &n_now), st, done);
    MCS_TRY_GOTO(mcs_file_read(copy, MAX_JSON_BYTES, &before, &n_before), st, done);
    MCS_REQUIRE_GOTO(n_now == n_before && !memcmp(now, before, (size_t)n_now), MCS_E_DATA, st, done,
                     "%s was changed after planning; run mcsam plan again", j->place.description);
    MCS_TRY_GOTO(mcs_fingerprint_read(path, &j->fingerprint), st, done);
    MCS_REQUIRE_GOTO(j->fingerprint.n_cases == j->dataset.n_cases, MCS_E_DATA, st, done,
                     "%s: has %d cases, the data set %d: it was changed after planning; run mcsam plan --clean", path,
                     j->fingerprint.n_cases, j->dataset.n_cases);
done:
    free(now);
    free(before);
    return st;
}

static enum mcs_status check_case(const struct job *j, int i, const struct nnunet_image *images,
                                  const struct nnunet_preprocessed *p)
{
    const struct fingerprint *f = &j->fingerprint;
    const int *order = j->configuration.transpose;
    for (int d = 0; d < 3; d++)
        MCS_REQUIRE(p->shape_after_crop[d] == f->shapes[i][order[d]] &&
                        fabs(images->spacing[d] - f->spacings[i][d]) <= 1e-6 * f->spacings[i][d],
                    MCS_E_DATA,
                    "case %s has another size or spacing than in dataset_fingerprint.json: it was changed after "
                    "planning; run mcsam plan --clean",
                    j->dataset.cases[i].name);
    return MCS_OK;
}

static int is_case(const struct nnunet_dataset *d, const char *stem, size_t n)
{
    for (int i = 0; i < d->n_cases; i++)
        if (strlen(d->cases[i].name) == n && !strncmp(d->cases[i].name, stem, n)) return 1;
    return 0;
}

/* A folder must not hold cases that training would take for this data set's: nnU-Net's, of another format, or old. */
static enum mcs_status check_folder(const struct job *j)
{
    struct file_list list;
    enum mcs_status st = MCS_OK;
    if (!mcs_folder_exists(j->folder)) return MCS_OK;
    MCS_TRY(mcs_folder_list(j->folder, ".h5;.npz;.b2nd;.npy", &list));
    for (int i = 0; i < list.n; i++) {
        const char *name = list.names[i], *ending = strrchr(name, '.');
        MCS_REQUIRE_GOTO(!strcmp(ending, j->c->format == PREPROCESSED_NPZ ? ".npz" : ".h5"), MCS_E_DATA, st, done,
                         "%s/%s: a case of another format; remove the folder to preprocess it again", j->folder, name);
        MCS_REQUIRE_GOTO(is_case(&j->dataset, name, (size_t)(ending - name)), MCS_E_DATA, st, done,
                         "%s/%s is no case of the data set any more; remove the folder to preprocess it again",
                         j->folder, name);
    }
done:
    mcs_file_list_free(&list);
    return st;
}

/* ---- cases ---- */

static enum mcs_status make_case(struct job *j, int i, const char *stem)
{
    const struct nnunet_case *one = &j->dataset.cases[i];
    struct nnunet_image images, label;
    struct nnunet_preprocessed p;
    struct foreground_list places = {0};
    MCS_TRY(mcs_nnunet_case_read(&j->dataset, j->configuration.reader, one, &images, &label));
    enum mcs_status st = mcs_nnunet_preprocess(one->name, &j->configuration, &images, &label, &p);
    if (st == MCS_OK) {
        st = check_case(j, i, &images, &p);
        if (st == MCS_OK) st = mcs_foreground_draw(&j->dataset, p.labels, p.shape, &places);
        if (st == MCS_OK)
            st = mcs_preprocessed_write(stem, (enum preprocessed_format)j->c->format, &j->configuration, &images, &p,
                                        &places);
        mcs_foreground_free(&places);
        mcs_nnunet_preprocessed_free(&p);
    }
    mcs_nnunet_image_free(&images);
    mcs_nnunet_image_free(&label);
    return st;
}

/* nnunetv2 refuses a folder of cases with other files in it, so that the record of npz lies beside the folder; names in
 * a record are relative to where it lies. */
static enum mcs_status do_case(struct job *j, int i)
{
    const struct nnunet_case *one = &j->dataset.cases[i];
    const char *inside = j->c->format == PREPROCESSED_NPZ ? j->configuration.data_identifier : "";
    struct arena arena = {0};
    char stem[MCS_PATH_BYTES];
    enum mcs_status st;
    const char *base = mcs_arena_printf(&arena, "%s%s%s", inside, *inside ? "/" : "", one->name),
               *files[] = {mcs_arena_printf(&arena, "%s%s", base, *inside ? ".npz" : ".h5"),
                           *inside ? mcs_arena_printf(&arena, "%s.pkl", base) : NULL, NULL};
    const char **read = mcs_arena_alloc(&arena, ((size_t)one->n_images + 2) * sizeof *read);
    MCS_TRY_GOTO(mcs_arena_status(&arena), st, done);
    for (int k = 0; k < one->n_images; k++) read[k] = one->images[k];
    read[one->n_images] = one->label;
    const struct run_source source = {read, NULL};
    if (mcs_run_case_done(j->run, base, &source, NULL)) {
        j->n_done++;
        goto done;
    }
    MCS_TRY_GOTO(mcs_path(stem, "%s/%s", j->folder, one->name), st, done);
    MCS_TRY_GOTO(make_case(j, i, stem), st, done);
    MCS_TRY_GOTO(mcs_run_case_add(j->run, base, &source, files, NULL), st, done);
    MCS_TRY_GOTO(mcs_run_flush(j->run), st, done);
    j->n_made++;
done:
    mcs_arena_free(&arena);
    return st;
}

static enum mcs_status all_cases(struct job *j)
{
    struct mcs_progress progress;
    const int n = j->dataset.n_cases;
    mcs_progress_start(&progress, j->configuration.name, "case", n);
    for (int i = 0; i < n; i++) {
        if (mcs_stop_requested()) return mcs_run_stopped(i, n);
        MCS_TRY(do_case(j, i));
        mcs_progress_set(&progress, i + 1);
    }
    mcs_progress_end(&progress);
    return MCS_OK;
}

static enum mcs_status do_configuration(struct job *j, const char *name)
{
    char hash[65];
    struct arena arena = {0};
    MCS_TRY(mcs_nnunet_configuration_read(j->plans, name, &j->configuration));
    MCS_TRY(mcs_path(j->folder, "%s/%s", j->place.preprocessed, j->configuration.data_identifier));
    MCS_TRY(check_folder(j));
    if (j->c->common.dry_run) {
        printf("%s: %d cases to %s\n", name, j->dataset.n_cases, j->folder);
        return MCS_OK;
    }
    MCS_TRY(mcs_folder_make(j->folder));
    MCS_TRY(mcs_file_sha256(j->plans, hash));
    const char *more = mcs_arena_printf(&arena, "plans_sha256: %s\nplanned: %s\n", hash, name);
    enum mcs_status st = mcs_arena_status(&arena);
    if (st == MCS_OK)
        st = (j->c->format == PREPROCESSED_NPZ ? mcs_run_open_file : mcs_run_open)(&j->c->common.command, j->folder,
                                                                                   more, &j->run);
    if (st == MCS_OK) st = mcs_run_close(j->run, all_cases(j));
    mcs_arena_free(&arena);
    return st;
}

/* The labels as they are, for scores when the raw data are not at hand. */
static enum mcs_status copy_labels(const struct job *j)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/gt_segmentations", j->place.preprocessed));
    MCS_TRY(mcs_folder_make(path));
    for (int i = 0; i < j->dataset.n_cases; i++) {
        const struct nnunet_case *one = &j->dataset.cases[i];
        char *bytes;
        int64_t n;
        MCS_TRY(mcs_path(path, "%s/gt_segmentations/%s%s", j->place.preprocessed, one->name, j->dataset.ending));
        MCS_TRY(mcs_file_read(one->label, MAX_LABEL_BYTES, &bytes, &n));
        const enum mcs_status st = mcs_file_write(path, bytes, n);
        free(bytes);
        MCS_TRY(st);
    }
    return MCS_OK;
}

static enum mcs_status preprocess(struct job *j)
{
    static const char *const usual[] = {"2d", "3d_fullres", "3d_lowres"};
    const struct mcs_strings *wanted = &j->c->configurations;
    int n = 0;
    MCS_TRY(mcs_path(j->plans, "%s/%s.json", j->place.preprocessed, j->c->plans));
    MCS_TRY(mcs_nnunet_dataset_list(j->place.raw, &j->dataset));
    MCS_TRY(check_planned(j));
    for (int i = 0; i < wanted->n; i++, n++) MCS_TRY(do_configuration(j, wanted->v[i]));
    for (int i = 0; !wanted->n && i < 3; i++) {
        struct nnunet_configuration c;
        const enum mcs_status st = mcs_nnunet_configuration_read(j->plans, usual[i], &c);
        if (st == MCS_E_DATA && strstr(mcs_error_message(), "has no configuration")) {
            mcs_error_clear();
            continue;
        }
        MCS_TRY(st);
        MCS_TRY(do_configuration(j, usual[i]));
        n++;
    }
    if (j->c->common.dry_run) return MCS_OK;
    MCS_TRY(copy_labels(j));
    if (j->c->common.json)
        printf("{\"cases\": %d, \"configurations\": %d, \"made\": %d, \"there\": %d}\n", j->dataset.n_cases, n,
               j->n_made, j->n_done);
    else
        printf("%d cases of %d configurations: %d made, %d were there\n", j->dataset.n_cases, n, j->n_made, j->n_done);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    struct job *j = calloc(1, sizeof *j);
    MCS_REQUIRE(j, MCS_E_NOMEM, "no memory to start");
    j->c = command;
    enum mcs_status st = mcs_nnunet_place_find(&j->c->roots, &j->place);
    if (st == MCS_OK) st = mcs_nnunet_dataset_read(j->place.description, &j->dataset);
    if (st == MCS_OK) {
        st = preprocess(j);
        mcs_nnunet_dataset_close(&j->dataset);
    }
    mcs_fingerprint_free(&j->fingerprint);
    free(j);
    return st;
}

const struct mcs_verb mcs_verb_preprocess = {.name = "preprocess",
                                             .line = "prepares an nnU-Net data set's cases for training",
                                             .options = options,
                                             .options_bytes = sizeof(struct preprocess_command),
                                             .run = run};
