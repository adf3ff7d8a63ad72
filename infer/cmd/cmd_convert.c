/* mcsam convert SRC -o DST --to LAYOUT: weights as another program takes them. */
#include "data/io/json.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/cli/config.h"
#include "infer/convert/convert.h"

#include <stdio.h>

struct convert_command {
    struct mcs_common common;
    const char *output, *to, *format;
    int half;
};

static const struct mcs_option options[] = {
    {"output", 'o', MCS_FIELD(convert_command, output), .value = "DST", .required = 1,
     .help = "a file (.safetensors, .pt, .pth, .bin), or a folder with configuration and tokenizer"},
    {"to", 0, MCS_FIELD(convert_command, to),
     .choices = "open_clip|open_clip-custom-text|" CONVERT_CHECKPOINT "|medclip-samv2|huggingface|segment-anything",
     .help = "whose names of tensors; default: those of SRC"},
    {"format", 0, MCS_FIELD(convert_command, format), .choices = "safetensors|torch",
     .help = "kind of file; default: by the ending, in a folder the usual one"},
    {"half", 0, MCS_FIELD(convert_command, half), .help = "float16"},
    {0},
};

static void print_text(const struct convert_options *o, const struct convert_result *r)
{
    printf("%s: %s\n", mcs_text_shown(o->src), mcs_layout_text(r->from));
    printf("%s%s: %s, %d tensors, %lld values\n", o->dry_run ? "would write " : "", mcs_text_shown(r->weights),
           mcs_layout_text(r->to), r->n_tensors, (long long)r->n_values);
    if (r->n_files) printf("  beside it: ");
    for (int i = 0; i < r->n_files; i++) printf("%s%s", i ? ", " : "", r->files[i]);
    if (r->n_files) printf("\n");
}

static void print_json(const struct convert_result *r)
{
    json_t *files = json_array();
    for (int i = 0; i < r->n_files; i++) json_array_append_new(files, json_string(r->files[i]));
    json_t *root = json_pack("{s:s, s:s, s:o, s:i, s:I, s:o}", "from", mcs_layout_text(r->from), "to",
                             mcs_layout_text(r->to), "weights", mcs_json_text(r->weights), "tensors", r->n_tensors,
                             "values", (json_int_t)r->n_values, "files", files);
    if (r->note) json_object_set_new(root, "note", mcs_json_text(r->note));
    json_dumpf(root, stdout, JSON_INDENT(1) | JSON_SORT_KEYS);
    printf("\n");
    json_decref(root);
}

static enum mcs_status run(const void *p)
{
    const struct convert_command *c = p;
    const struct convert_options o = {.src = c->common.args.v[0],
                                      .dst = c->output,
                                      .to = c->to,
                                      .format = c->format,
                                      .half = c->half,
                                      .dry_run = c->common.dry_run};
    struct arena a = {0};
    struct convert_result r;
    const enum mcs_status st = mcs_convert(&o, &a, &r);
    if (st == MCS_OK && r.note) mcs_warn("%s", r.note);
    if (st == MCS_OK && c->common.json)
        print_json(&r);
    else if (st == MCS_OK && !c->common.quiet)
        print_text(&o, &r);
    mcs_arena_free(&a);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

const struct mcs_verb mcs_verb_convert = {
    .name = "convert",
    .line = "weights in the names and files of open_clip, Hugging Face, MedCLIP-SAMv2, segment-anything",
    .options = options,
    .options_bytes = sizeof(struct convert_command),
    .run = run,
    .args = "SRC",
    .min_args = 1,
    .max_args = 1};
