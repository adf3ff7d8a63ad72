/* mcsam dataset verify: suspicious files and values of a data set, in one table. */
#include "data/io/json.h"
#include "data/text/pairs.h"
#include "engine/base/escape.h"
#include "engine/cli/config.h"
#include "infer/metrics/verify.h"

#include <stdio.h>
#include <string.h>

struct dataset_command {
    struct mcs_common common;
    const char *images, *labels, *test, *pairs, *image_column, *caption_column, *separator, *ignore_label;
    int64_t classes;
};

static const struct mcs_option options[] = {
    {"images", 'i', MCS_FIELD(dataset_command, images), .value = "DIR", .help = "images of train, or of the table"},
    {"labels", 'l', MCS_FIELD(dataset_command, labels), .value = "DIR", .help = "their labels, or masks to evaluate"},
    {"test", 0, MCS_FIELD(dataset_command, test), .value = "DIR", .help = "images that must not be among --images"},
    {"classes", 0, MCS_FIELD(dataset_command, classes), .def = "0", .lo = 0, .hi = 65536, .value = "N",
     .help = "labels are below it; 0: any"},
    {"ignore-label", 0, MCS_FIELD(dataset_command, ignore_label), .value = "N", .help = "label that means nothing"},
    {"pairs", 0, MCS_FIELD(dataset_command, pairs), .value = "CSV", .help = "table of images and captions (finetune)"},
    {"image-column", 0, MCS_FIELD(dataset_command, image_column), .def = "filename", .value = "NAME",
     .help = "the table's column of images"},
    {"caption-column", 0, MCS_FIELD(dataset_command, caption_column), .def = "Caption", .value = "NAME",
     .help = "the table's column of captions"},
    {"separator", 0, MCS_FIELD(dataset_command, separator), .value = "C",
     .help = "between the table's columns: , ; or tab; default: by its header"},
    {0},
};

static enum mcs_status print_json(const struct findings *f)
{
    json_t *list = json_array();
    for (int i = 0; i < f->n; i++) {
        const struct finding *v = &f->v[i];
        json_array_append_new(list, json_pack("{s:o, s:o, s:s, s:s}", "file", mcs_json_text(v->file), "value",
                                              mcs_json_text(v->value), "meaning", v->meaning, "fix", v->fix));
    }
    json_t *root = json_pack("{s:i, s:i, s:i, s:o}", "images", f->n_images, "labels", f->n_labels, "pairs", f->n_pairs,
                             "findings", list);
    MCS_REQUIRE(root, MCS_E_FAIL, "the result cannot be written as JSON");
    json_dumpf(root, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(root);
    return MCS_OK;
}

static void print_table(struct findings *f)
{
    printf("%d images, %d labels, %d pairs looked at; %d findings\n", f->n_images, f->n_labels, f->n_pairs, f->n);
    if (f->n) printf("\nfile | value | what it means | what to do\n");
    for (int i = 0; i < f->n; i++)
        printf("%s | %s | %s | %s\n", mcs_text_encode(&f->arena, f->v[i].file),
               mcs_text_encode(&f->arena, f->v[i].value), f->v[i].meaning, f->v[i].fix);
}

static enum mcs_status run(const void *command)
{
    const struct dataset_command *c = command;
    struct findings f;
    struct verify_options o = {.images = c->images,
                               .labels = c->labels,
                               .test = c->test,
                               .pairs = c->pairs,
                               .image_column = c->image_column,
                               .caption_column = c->caption_column,
                               .classes = (int)c->classes};
    MCS_REQUIRE(!strcmp(c->common.args.v[0], "verify"), MCS_E_USAGE, "dataset: want 'verify', not '%s'",
                c->common.args.v[0]);
    MCS_REQUIRE(c->images || c->labels || c->pairs, MCS_E_USAGE,
                "dataset verify: want --images, --labels or --pairs, or several of them");
    MCS_TRY(mcs_csv_separator(c->separator, &o.separator));
    MCS_TRY(mcs_label_rule_parse(c->ignore_label, &o.rule));
    MCS_TRY(mcs_verify(&o, &f));
    enum mcs_status st = MCS_OK;
    if (c->common.json)
        st = print_json(&f);
    else
        print_table(&f);
    const int n = f.n;
    mcs_verify_free(&f);
    MCS_TRY(st);
    MCS_REQUIRE(!n, MCS_E_PARTIAL, "%d findings", n);
    return MCS_OK;
}

const struct mcs_verb mcs_verb_dataset = {.name = "dataset",
                                          .line = "dataset verify: what is suspicious in images, labels and captions",
                                          .options = options,
                                          .options_bytes = sizeof(struct dataset_command),
                                          .run = run,
                                          .args = "verify",
                                          .min_args = 1,
                                          .max_args = 1};
