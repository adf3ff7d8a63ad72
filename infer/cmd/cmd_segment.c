/* mcsam segment: from text to mask in one run, for images and volumes. */
#include "data/image/media.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/devices.h"
#include "infer/cmd/segment_cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
     .help = "components kept, 0: all"},
    {"min-confidence", 0, MCS_FIELD(segment_command, min_confidence), .def = "-1", .lo = -1, .hi = 1, .value = "C",
     .help = "least mean saliency of a component; -1: 0.5 (paper), 0 (release)"},
    {"min-presence", 0, MCS_FIELD(segment_command, min_presence), .def = "-2", .lo = -2, .hi = 2, .value = "X",
     .help = "an image whose presence score is lower gets an empty mask; -2: none does"},
    {"grow", 0, MCS_FIELD(segment_command, grow), .def = "0", .lo = -100000, .hi = 100000, .value = "PX",
     .help = "pixels added to each side of the boxes"},
    {"sam-prompts", 0, MCS_FIELD(segment_command, sam_prompts), .def = "boxes", .choices = "boxes|points|both",
     .help = "prompts for SAM, from the coarse mask"},
    {"preprocess", 0, MCS_FIELD(segment_command, preprocess), .choices = "sam|medsam",
     .help = "how SAM's images are prepared; by default as sam_config.json says, without one sam"},
    {"multimask", 0, MCS_FIELD(segment_command, multimask), .help = "the best of SAM's three masks by predicted IoU"},
    {"keep-stages", 0, MCS_FIELD(segment_command, keep_stages),
     .help = "write saliency and coarse masks too: saliency/ and coarse/"},
    MCS_SALIENCY_OPTIONS(segment_command),
    {"window", 0, MCS_FIELD(segment_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

static enum mcs_status resolve(struct segment_work *w, int n, struct npy *noise)
{
    const struct segment_command *c = w->c;
    w->o = mcs_segment_defaults(c->common.form);
    MCS_TRY(mcs_saliency_resolve(&c->common, &c->m2ib, &w->clip, n, noise, &w->o.saliency));
    struct coarse_options *o = &w->o.coarse;
    if (c->threshold) MCS_TRY(mcs_coarse_parse_threshold(c->threshold, o));
    if (c->rank) MCS_TRY(mcs_coarse_parse_rank(c->rank, o));
    if (c->min_confidence >= 0.0) o->min_confidence = (float)c->min_confidence;
    w->o.min_presence = (float)c->min_presence;
    o->keep = (int)c->keep;
    o->grow_px = (int)c->grow;
    o->seed = (uint64_t)c->common.seed;
    w->o.sam.multimask = c->multimask;
    w->o.sam.kind = (enum sam_prompt_kind)c->sam_prompts; /* the option's words are in the enum's order */
    return MCS_OK;
}

/* ---- the verb ---- */

/* Path of `name` ("/saliency") in the output folder. */
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
    const struct run_input in[] = {{"--input", c->input, MCS_MEDIA_ENDINGS},
                                   {"--clip", c->clip, NULL},
                                   {"--sam", c->sam, NULL},
                                   {"--prompts", c->prompts, NULL},
                                   {"--noise", c->m2ib.noise, NULL}};
    const enum mcs_status st = mcs_run_check_paths(&c->common.command, out, 3, in, 5);
    mcs_arena_free(&a);
    return st;
}

/* Lines of the run's options that need the weights' hashes (struct run_more). */
static enum mcs_status hash_lines(void *context, struct arena *a, const char **lines)
{
    struct segment_work *w = context;
    MCS_TRY(mcs_clip_model_hash(&w->clip));
    MCS_TRY(mcs_sam_model_hash(&w->sam));
    *lines = mcs_arena_printf(a, "clip_sha256: %s\nsam_sha256: %s\nsam_preprocess: %s\n", w->clip.sha256, w->sam.sha256,
                              mcs_sam_preprocess_name(w->sam.config.preprocess));
    if (w->c->m2ib.noise) {
        char hex[65];
        MCS_TRY(mcs_file_sha256(w->c->m2ib.noise, hex));
        *lines = mcs_arena_printf(a, "%snoise_sha256: %s\n", *lines, hex);
    }
    return mcs_arena_status(a);
}

/* Opens the run folder, makes its sub-folders and reads the results of cases that an earlier run finished. */
static enum mcs_status start(struct segment_work *w, const struct request_list *list, struct arena *a)
{
    const struct segment_command *c = w->c;
    MCS_TRY(mcs_run_open_late(&c->common.command, c->output, (struct run_more){hash_lines, w}, &w->run));
    if (c->keep_stages) {
        MCS_TRY(mcs_folder_make(folder_of(c, "/saliency", a)));
        MCS_TRY(mcs_folder_make(folder_of(c, "/coarse", a)));
    }
    MCS_TRY(mcs_run_save_config(w->run));
    w->requests = list->v;
    w->results = mcs_arena_alloc(a, ((size_t)list->n + 1) * sizeof *w->results);
    MCS_TRY(mcs_arena_status(a));
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

/* Writes summary.json and, with --keep-stages, coarse/boxes.json. *n_empty: number of images and slices whose coarse
 * mask is empty. */
static enum mcs_status write_summary(struct segment_work *w, int n, int *n_empty)
{
    const struct segment_command *c = w->c;
    struct arena a = {0};
    enum mcs_status st;
    MCS_TRY(mcs_clip_model_hash(&w->clip));
    MCS_TRY(mcs_sam_model_hash(&w->sam));
    json_t *cases = json_array(), *boxes = json_array();
    *n_empty = 0;
    for (int i = 0; i < n; i++) {
        json_t *one = json_object_get(w->results[i], "case"), *box = json_object_get(w->results[i], "box"), *slice;
        size_t k;
        if (one) json_array_append(cases, one);
        if (box) json_array_append(boxes, box);
        *n_empty += is_empty(one);
        json_array_foreach(json_object_get(one, "slices"), k, slice) *n_empty += is_empty(slice);
    }
    json_t *root = json_pack("{s:{s:s, s:s, s:s, s:I, s:s, s:s, s:s}, s:O}", "made_by", "verb", "segment", "version",
                             MCS_VERSION, "form", mcs_form_text(c->common.form, &a), "seed", (json_int_t)c->common.seed,
                             "clip_sha256", w->clip.sha256, "sam_sha256", w->sam.sha256, "preprocess",
                             mcs_sam_preprocess_name(w->sam.config.preprocess), "cases", cases);
    st = mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(7), "%s/summary.json", c->output);
    if (st == MCS_OK && c->keep_stages && json_array_size(boxes))
        st = mcs_boxes_write_json(folder_of(c, "/coarse/boxes.json", &a), boxes, NULL);
    json_decref(cases);
    json_decref(boxes);
    mcs_arena_free(&a);
    return st;
}

/* Images per group: a multiple of the saliency's batch size, so that batches are the same after a resumption, and
 * small, so that a request to stop is served soon. */
static int group_size(const struct segment_work *w)
{
    const int pairs = w->o.saliency.pairs;
    return pairs >= SEGMENT_CHUNK ? SEGMENT_CHUNK : pairs >= 8 ? pairs : 8 / pairs * pairs;
}

static enum mcs_status run_requests(struct segment_work *w, const struct request_list *list)
{
    const struct request *waiting[SEGMENT_CHUNK];
    struct mcs_progress bar;
    int n = 0;
    mcs_progress_start(&bar, "segment", "case", list->n);
    for (int i = 0; i < list->n; i++) {
        const struct request *r = &list->v[i];
        if (!n) MCS_TRY(mcs_stop_check());
        if (!mcs_media_is_volume(r->name)) {
            waiting[n++] = r;
        } else if (!w->results[i]) {
            const enum mcs_status st = mcs_segment_volume(w, r);
            if (st == MCS_E_NOMEM || st == MCS_E_USAGE || st == MCS_E_IO || st == MCS_E_STOPPED)
                return mcs_trace(st, __FILE__, __LINE__);
            if (st != MCS_OK) mcs_failures_add_held(&w->failures, r->stem);
        }
        if (n < group_size(w) && i + 1 < list->n) continue;
        MCS_TRY(mcs_segment_images(w, waiting, n));
        n = 0;
        mcs_progress_set(&bar, i + 1);
    }
    mcs_progress_end(&bar);
    return MCS_OK;
}

static enum mcs_status run_all(struct segment_work *w, const struct request_list *list)
{
    struct arena a = {0};
    int n_empty = 0;
    enum mcs_status st = start(w, list, &a);
    if (st == MCS_OK && w->n_done < list->n) st = mcs_segment_open(&w->session, &w->clip, &w->sam, &w->o);
    if (st == MCS_OK && w->n_done < list->n) st = run_requests(w, list);
    mcs_segment_close(&w->session);
    if (st == MCS_E_STOPPED) {
        mcs_error_clear();
        st = mcs_run_stopped(w->n_done, list->n);
    }
    if (st != MCS_OK) goto done;
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

static enum mcs_status plan(struct segment_work *w, int n)
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
    struct segment_work w = {.c = c};
    struct request_list list = {0};
    struct npy noise = {0};
    enum mcs_status st;
    MCS_TRY(mcs_window_use(c->window));
    MCS_REQUIRE_GOTO(!c->text != !c->prompts, MCS_E_USAGE, st, done, "want one of --text and --prompts");
    MCS_TRY_GOTO(check_paths(c), st, done);
    MCS_TRY_GOTO(mcs_device_open(&c->common.device, &d), st, done);
    MCS_TRY_GOTO(mcs_clip_model_open_hashing(c->clip, &d, &w.clip), st, done);
    MCS_TRY_GOTO(mcs_sam_model_open_hashing(c->sam, &d, &w.sam), st, done);
    MCS_TRY_GOTO(mcs_sam_preprocess_set(&w.sam, c->preprocess), st, done);
    MCS_TRY_GOTO(mcs_requests_read(&w.clip, c->input, MCS_MEDIA_ENDINGS, c->text, c->prompts, &w.failures, &list), st,
                 done);
    int slices = 0; /* any volumes? The number of their slices is unknown before they are read */
    for (int i = 0; i < list.n; i++) slices |= mcs_media_is_volume(list.v[i].name);
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
                                          .line = "from text to mask: saliency, coarse mask and SAM",
                                          .options = options,
                                          .options_bytes = sizeof(struct segment_command),
                                          .run = run};
