/* mcsam retrieve: recall of a CLIP model on image-caption pairs, image to text and text to image. */
#include "data/image/window.h"
#include "data/io/json.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "infer/clip/retrieve.h"

#include <stdio.h>

struct retrieve_command {
    struct mcs_common common;
    const char *window;
    const char *model, *pairs, *images, *image_column, *caption_column, *separator;
    int64_t batch, runs, min_caption;
    int whole;
};

static const struct mcs_option options[] = {
    {"model", 'm', MCS_FIELD(retrieve_command, model), .value = "DIR", .required = 1, .help = "CLIP model folder"},
    {"pairs", 0, MCS_FIELD(retrieve_command, pairs), .value = "CSV", .required = 1,
     .help = "table of images and captions"},
    {"images", 'i', MCS_FIELD(retrieve_command, images), .value = "DIR",
     .help = "folder of the images; default: the table's"},
    {"image-column", 0, MCS_FIELD(retrieve_command, image_column), .def = "filename", .value = "NAME",
     .help = "the table's column of image names"},
    {"caption-column", 0, MCS_FIELD(retrieve_command, caption_column), .def = "Caption", .value = "NAME",
     .help = "the table's column of captions"},
    {"separator", 0, MCS_FIELD(retrieve_command, separator), .value = "C",
     .help = "between the table's columns: , ; or tab; default: by its header"},
    {"min-caption", 0, MCS_FIELD(retrieve_command, min_caption), .def = "0", .lo = 0, .hi = 1000000, .value = "N",
     .help = "captions of fewer characters are dropped"},
    {"batch", 'b', MCS_FIELD(retrieve_command, batch), .alias = "batch-size", .def = "50", .lo = 2, .hi = 65536,
     .value = "N", .help = "candidates among which the partner must be found"},
    {"runs", 0, MCS_FIELD(retrieve_command, runs), .def = "0", .lo = 0, .hi = 100000, .value = "N",
     .help = "runs, each in its own random order (published: 5); 0: one in the table's"},
    {"whole", 0, MCS_FIELD(retrieve_command, whole),
     .help = "stretch the whole image over the square instead of cropping its centre"},
    {"window", 0, MCS_FIELD(retrieve_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

static json_t *interval(const struct mean_interval *m)
{
    return json_pack("{s:o, s:o, s:o}", "mean", mcs_json_number(m->mean), "lo", mcs_json_number(m->lo), "hi",
                     mcs_json_number(m->hi));
}

static json_t *both(const struct mean_interval at[2])
{
    return json_pack("{s:o, s:o}", "recall@1", interval(&at[0]), "recall@2", interval(&at[1]));
}

static enum mcs_status print_result(const struct retrieve_command *c, const struct clip_model *m,
                                    const struct pairs *pairs, int n_used, const struct failure_list *failures,
                                    const struct recall_result *r)
{
    json_t *failed = json_array();
    for (int i = 0; i < failures->n; i++)
        json_array_append_new(failed, json_pack("{s:o, s:o}", "case", mcs_json_text(failures->items[i].stem), "reason",
                                                mcs_json_text(failures->items[i].reason)));
    json_t *root =
        json_pack("{s:o, s:o, s:i, s:I, s:i, s:i, s:i, s:o, s:{s:s, s:s, s:I, s:I, s:s, s:s}}", "image_to_text",
                  both(r->image_to_text), "text_to_image", both(r->text_to_image), "pairs", n_used, "batch",
                  (json_int_t)(n_used < c->batch ? n_used : c->batch), "batches", r->n_batches, "left_out_of_batches",
                  r->n_left_out, "rows_left_out", pairs->n_left_out, "failed", failed, "made_by", "verb", "retrieve",
                  "version", MCS_VERSION, "seed", (json_int_t)c->common.seed, "runs", (json_int_t)c->runs, "view",
                  c->whole ? "whole" : "crop", "weights_sha256", m->sha256);
    MCS_REQUIRE(root, MCS_E_FAIL, "the result cannot be written as JSON");
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
    return MCS_OK;
}

static enum mcs_status run(const void *options)
{
    const struct retrieve_command *c = options;
    char separator;
    MCS_TRY(mcs_csv_separator(c->separator, &separator));
    const struct pairs_options po = {.image_column = c->image_column,
                                     .caption_column = c->caption_column,
                                     .image_folder = c->images,
                                     .separator = separator,
                                     .min_codes = (int)c->min_caption};
    struct recall_options o = mcs_recall_defaults();
    struct recall_result r;
    struct pairs pairs = {0};
    struct device d = {0};
    struct clip_model m = {0};
    struct failure_list failures = {0};
    int n_used = 0;
    enum mcs_status st;
    o.batch = (int)c->batch;
    o.n_runs = (int)c->runs;
    o.seed = (uint64_t)c->common.seed;
    MCS_TRY(mcs_window_use(c->window));
    MCS_TRY(mcs_pairs_read(c->pairs, &po, &pairs));
    mcs_pairs_report(&pairs, c->pairs);
    if (c->common.dry_run) {
        printf("{\"pairs\": %d, \"rows_left_out\": %d}\n", pairs.n, pairs.n_left_out);
        mcs_pairs_free(&pairs);
        return MCS_OK;
    }
    MCS_TRY_GOTO(mcs_device_open(&c->common.device, &d), st, done);
    MCS_TRY_GOTO(mcs_clip_model_open_hashing(c->model, &d, &m), st, done);
    MCS_TRY_GOTO(mcs_retrieve_some(&m, &pairs, c->whole ? CLIP_VIEW_WHOLE : CLIP_VIEW_CROP, &o, &failures, &n_used, &r),
                 st, done);
    MCS_TRY_GOTO(mcs_clip_model_hash(&m), st, done);
    MCS_TRY_GOTO(print_result(c, &m, &pairs, n_used, &failures, &r), st, done);
    MCS_REQUIRE_GOTO(!failures.n, MCS_E_PARTIAL, st, done, "%d of %d pairs failed; the first: %s: %s", failures.n,
                     pairs.n, failures.items[0].stem, failures.items[0].reason);
done:
    if (m.params) mcs_clip_model_close(&m);
    mcs_device_close(&d);
    mcs_failures_free(&failures);
    mcs_pairs_free(&pairs);
    return st;
}

const struct mcs_verb mcs_verb_retrieve = {.name = "retrieve",
                                           .line = "recall@1 and @2, image to text and text to image",
                                           .options = options,
                                           .options_bytes = sizeof(struct retrieve_command),
                                           .run = run};
