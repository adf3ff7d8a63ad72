/* mcsam coarse: from saliency maps to coarse masks, boxes and points. */
#include "data/image/media.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "infer/cases.h"
#include "infer/coarse/coarse.h"
#include "infer/requests.h"
#include "infer/segment.h"

#include <stdio.h>
#include <string.h>

struct coarse_command {
    struct mcs_common common;
    const char *window;
    const char *input, *output, *threshold, *rank, *boxes, *model, *images, *text, *prompts;
    int64_t keep, min_area, grow, points, negative_points;
    double min_confidence;
};

/* Options without a default here get theirs from the form. */
static const struct mcs_option options[] = {
    {"input", 'i', MCS_FIELD(coarse_command, input), .value = "DIR", .required = 1,
     .help = "folder of saliency maps, STEM.h5 or STEM.png"},
    {"output", 'o', MCS_FIELD(coarse_command, output), .value = "DIR", .required = 1,
     .help = "folder for STEM.png (0 and 255) and boxes.json"},
    {"threshold", 0, MCS_FIELD(coarse_command, threshold), .value = "WORD",
     .help = "otsu (paper), kmeans (release), or a number: foreground is above it"},
    {"rank", 0, MCS_FIELD(coarse_command, rank), .choices = "confidence|area|text|both",
     .help = "which components are best: mean saliency (paper), area (release), nearness to the prompt"},
    {"model", 'm', MCS_FIELD(coarse_command, model), .value = "DIR",
     .help = "for --rank text, both: CLIP model folder"},
    {"images", 0, MCS_FIELD(coarse_command, images), .value = "DIR",
     .help = "for --rank text, both: the images that the maps belong to"},
    {"text", 't', MCS_FIELD(coarse_command, text), .value = "TEXT", .help = "for --rank text, both: the prompt of all"},
    {"prompts", 0, MCS_FIELD(coarse_command, prompts), .value = "FILE", .help = "for --rank text, both: prompts.json"},
    {"keep", 0, MCS_FIELD(coarse_command, keep), .def = "1", .lo = 0, .hi = 1000000, .value = "N",
     .help = "components kept, 0: all"},
    {"min-confidence", 0, MCS_FIELD(coarse_command, min_confidence), .def = "-1", .lo = -1, .hi = 1, .value = "C",
     .help = "least mean saliency of a component; -1: 0.5 (paper), 0 (release)"},
    {"min-area", 0, MCS_FIELD(coarse_command, min_area), .def = "1", .lo = 0, .hi = 2147483647, .value = "PIXELS",
     .help = "least area of a component"},
    {"grow", 0, MCS_FIELD(coarse_command, grow), .def = "0", .lo = -100000, .hi = 100000, .value = "PX",
     .help = "pixels added to each side of the boxes"},
    {"boxes", 0, MCS_FIELD(coarse_command, boxes), .choices = "each|merged",
     .help = "a box for each component (paper) or one around all (release)"},
    {"points", 0, MCS_FIELD(coarse_command, points), .def = "10", .lo = 0, .hi = 1000000, .value = "N",
     .help = "points inside each component"},
    {"negative-points", 0, MCS_FIELD(coarse_command, negative_points), .def = "0", .lo = 0, .hi = 1000000, .value = "N",
     .help = "points outside the mask"},
    {"window", 0, MCS_FIELD(coarse_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

static enum mcs_status resolve(const struct coarse_command *c, struct coarse_options *o)
{
    *o = mcs_coarse_defaults(c->common.form[MCS_FORM_COARSE]);
    if (c->threshold) MCS_TRY(mcs_coarse_parse_threshold(c->threshold, o));
    if (c->rank) MCS_TRY(mcs_coarse_parse_rank(c->rank, o));
    if (c->boxes) o->merge_boxes = !strcmp(c->boxes, "merged");
    if (c->min_confidence >= 0.0) o->min_confidence = (float)c->min_confidence;
    o->keep = (int)c->keep;
    o->min_area = (int)c->min_area;
    o->grow_px = (int)c->grow;
    o->n_points = (int)c->points;
    o->n_negative = (int)c->negative_points;
    o->seed = (uint64_t)c->common.seed;
    return MCS_OK;
}

/* ---- rank by text ---- */

struct text_ranker {
    struct clip_model clip;
    struct request_list requests;
    struct failure_list without; /* images without a prompt, and why */
    enum clip_view view;
};

static enum mcs_status ranker_open(struct text_ranker *r, const struct coarse_command *c, struct device *d)
{
    MCS_REQUIRE(c->model && c->images && !c->text != !c->prompts, MCS_E_USAGE,
                "--rank text asks a model: want --model DIR, --images DIR and one of --text and --prompts");
    MCS_TRY(mcs_clip_model_open_hashing(c->model, d, &r->clip));
    r->view = c->common.form[MCS_FORM_SALIENCY] == MCS_RELEASE ? CLIP_VIEW_PROCESSOR : CLIP_VIEW_WHOLE;
    return mcs_requests_read(&r->clip, c->images, MCS_IMAGE_ENDINGS, c->text, c->prompts, &r->without, &r->requests);
}

static void ranker_close(struct text_ranker *r)
{
    if (r->clip.params) mcs_clip_model_close(&r->clip);
    mcs_requests_free(&r->requests);
    mcs_failures_free(&r->without);
}

/* The `score` of a coarse_text_scorer: finds the case's image and prompt and scores its components. */
static enum mcs_status rank_case(void *context, const char *stem, const struct component_list *list,
                                 const int32_t *labels, int width, int height, float *scores)
{
    struct text_ranker *r = context;
    const struct request *q = NULL;
    struct image img;
    enum mcs_status st;
    for (int i = 0; i < r->requests.n && !q; i++)
        if (!strcmp(r->requests.v[i].stem, stem)) q = &r->requests.v[i];
    for (int i = 0; i < r->without.n && !q; i++)
        MCS_REQUIRE(strcmp(r->without.items[i].stem, stem) != 0, MCS_E_DATA, "%s", r->without.items[i].reason);
    MCS_REQUIRE(q, MCS_E_DATA, "there is no image %s to rank its components by", stem);
    MCS_TRY(mcs_image_read(q->path, 0, &img));
    struct text_rank rank = {&r->clip, &img, q->text, r->view};
    MCS_REQUIRE_GOTO(img.width == width && img.height == height, MCS_E_DATA, st, done,
                     "%s has %d x %d pixels, its map %d x %d", q->path, img.width, img.height, width, height);
    st = mcs_text_rank_score(&rank, stem, list, labels, width, height, scores);
done:
    mcs_image_free(&img);
    return st;
}

/* A line for the run's options (struct run_more): the hash of the model, images and prompts that --rank text uses. */
static enum mcs_status ranker_hash_line(void *context, struct arena *a, const char **more)
{
    struct text_ranker *r = context;
    MCS_TRY(mcs_clip_model_hash(&r->clip));
    const char *all = mcs_arena_strdup(a, r->clip.sha256);
    char hex[65];
    for (int i = 0; i < r->requests.n; i++) {
        const struct request *q = &r->requests.v[i];
        MCS_TRY(mcs_file_sha256(q->path, hex));
        all = mcs_arena_printf(a, "%s\n%s %s", all, hex, q->stem);
        mcs_sha256(q->text, (int64_t)strlen(q->text), hex);
        all = mcs_arena_printf(a, "%s %s", all, hex);
        mcs_sha256(all, (int64_t)strlen(all), hex);
        all = mcs_arena_strdup(a, hex);
    }
    *more = mcs_arena_printf(a, "rank_by: %s\n", all);
    return mcs_arena_status(a);
}

static enum mcs_status plan(const struct coarse_command *c)
{
    struct case_list cases;
    MCS_TRY(mcs_cases_list(c->input, ".h5;.png", ".h5", &cases));
    printf(c->common.json ? "{\"cases\": %d}\n" : "%d cases would be written\n", cases.n);
    mcs_cases_free(&cases);
    return MCS_OK;
}

static enum mcs_status check_paths(const struct coarse_command *c)
{
    const struct run_output out = {c->output, "*.png;boxes.json;config.yaml;failures.csv"};
    const struct run_input in[] = {{"--input", c->input, ".h5;.png"},
                                   {"--model", c->model, NULL},
                                   {"--images", c->images, MCS_IMAGE_ENDINGS},
                                   {"--prompts", c->prompts, NULL}};
    return mcs_run_check_paths(&c->common.command, &out, 1, in, 4);
}

static enum mcs_status run_all(const struct coarse_command *c, const struct coarse_options *o, struct device *d)
{
    const int by_text = o->rank == MCS_COARSE_TEXT || o->rank == MCS_COARSE_BOTH;
    struct text_ranker ranker = {0};
    const struct coarse_text_scorer scorer = {rank_case, &ranker};
    struct run_folder *run = NULL;
    int n_cases = 0, n_empty = 0;
    enum mcs_status st = MCS_OK;
    struct case_list cases; /* listed first, so that a faulty input folder fails before anything is written */
    MCS_TRY_GOTO(mcs_cases_list(c->input, ".h5;.png", ".h5", &cases), st, done);
    mcs_cases_free(&cases);
    if (by_text) {
        MCS_TRY_GOTO(ranker_open(&ranker, c, d), st, done);
        MCS_TRY_GOTO(
            mcs_run_open_late(&c->common.command, c->output, (struct run_more){ranker_hash_line, &ranker}, &run), st,
            done);
    } else {
        MCS_TRY_GOTO(mcs_run_open(&c->common.command, c->output, NULL, &run), st, done);
    }
    MCS_TRY_GOTO(mcs_run_save_config(run), st, done);
    st = mcs_coarse_folder(d, c->input, c->output, o, by_text ? &scorer : NULL, run, &n_cases, &n_empty);
    if (st == MCS_OK || st == MCS_E_PARTIAL)
        printf(c->common.json ? "{\"cases\": %d, \"empty\": %d}\n" : "%d masks, %d of them empty\n", n_cases, n_empty);
done:
    st = mcs_run_close(run, st);
    ranker_close(&ranker);
    return st;
}

static enum mcs_status run(const void *command)
{
    const struct coarse_command *c = command;
    struct coarse_options o;
    struct device d;
    MCS_TRY(mcs_window_use(c->window));
    MCS_TRY(resolve(c, &o));
    MCS_TRY(check_paths(c));
    if (c->common.dry_run) return plan(c);
    MCS_TRY(mcs_device_open(&c->common.device, &d));
    const enum mcs_status st = run_all(c, &o, &d);
    mcs_device_close(&d);
    return st;
}

const struct mcs_verb mcs_verb_coarse = {.name = "coarse",
                                         .line = "saliency maps to coarse masks, boxes and points",
                                         .options = options,
                                         .options_bytes = sizeof(struct coarse_command),
                                         .run = run};
