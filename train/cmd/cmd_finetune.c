/* mcsam finetune: fine-tunes CLIP on image-caption pairs. */
#include "data/image/window.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "train/clip/finetune.h"
#include "train/cmd/gpus_option.h"
#include "train/cmd/rank_command.h"
#include "train/run/training_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct finetune_command {
    struct mcs_common common;
    const char *window;
    const char *model, *pairs, *images, *output, *image_column, *caption_column, *separator, *temperature;
    struct mcs_strings freeze;
    int64_t batch, epochs, steps, warmup, checkpoint_every, min_caption, gpus;
    double lr, weight_decay, clip_norm, beta, beta_text, crop;
    int loss, directions, diagnose;
};

enum { LOSS_DHNNCE, LOSS_INFONCE, LOSS_DCL, LOSS_HNNCE };

static const struct mcs_option options[] = {
    {"model", 'm', MCS_FIELD(finetune_command, model), .value = "DIR", .required = 1,
     .help = "model folder to start from"},
    {"pairs", 0, MCS_FIELD(finetune_command, pairs), .value = "CSV", .required = 1,
     .help = "table of images and captions"},
    {"images", 'i', MCS_FIELD(finetune_command, images), .value = "DIR",
     .help = "folder of the images; default: the table's"},
    {"output", 'o', MCS_FIELD(finetune_command, output), .value = "DIR", .required = 1,
     .help = "run folder: DIR/model, metrics.jsonl, checkpoint.h5"},
    {"image-column", 0, MCS_FIELD(finetune_command, image_column), .def = "filename", .value = "NAME",
     .help = "the table's column of image names"},
    {"caption-column", 0, MCS_FIELD(finetune_command, caption_column), .def = "Caption", .value = "NAME",
     .help = "the table's column of captions"},
    {"separator", 0, MCS_FIELD(finetune_command, separator), .value = "C",
     .help = "between the table's columns: , ; or tab; default: by its header"},
    {"min-caption", 0, MCS_FIELD(finetune_command, min_caption), .def = "0", .lo = 0, .hi = 1000000, .value = "N",
     .help = "captions of fewer characters are dropped (the paper drops below 20)"},
    {"loss", 0, MCS_FIELD(finetune_command, loss), .def = "dhnnce", .choices = "dhnnce|infonce|dcl|hnnce",
     .help = "contrastive loss"},
    {"directions", 0, MCS_FIELD(finetune_command, directions), .def = "sum", .choices = "sum|mean",
     .help = "the loss is the sum of image to text and text to image, or their mean (open_clip's)"},
    {"temperature", 0, MCS_FIELD(finetune_command, temperature), .def = "0.6", .value = "X",
     .help = "fixed, or 'learned' (starts at the model's)"},
    {"beta", 0, MCS_FIELD(finetune_command, beta), .def = "0.15", .lo = 0, .hi = 10, .value = "X",
     .help = "hardness of negatives (image to text)"},
    {"beta-text", 0, MCS_FIELD(finetune_command, beta_text), .def = "-1", .lo = -1, .hi = 10, .value = "X",
     .help = "the same, text to image; -1: as --beta"},
    {"batch", 0, MCS_FIELD(finetune_command, batch), .alias = "batch-size", .def = "64", .lo = 1, .hi = 65536,
     .value = "N", .help = "pairs per step"},
    {"epochs", 0, MCS_FIELD(finetune_command, epochs), .def = "32", .lo = 1, .hi = 100000, .value = "N",
     .help = "passes over the pairs"},
    {"steps", 0, MCS_FIELD(finetune_command, steps), .def = "0", .lo = 0, .hi = 100000000, .value = "N",
     .help = "optimizer steps instead of --epochs"},
    {"lr", 0, MCS_FIELD(finetune_command, lr), .def = "1e-5", .lo = 0, .hi = 10, .value = "X",
     .help = "peak learning rate, cosine to 0"},
    {"warmup", 0, MCS_FIELD(finetune_command, warmup), .def = "100", .lo = 0, .hi = 100000000, .value = "N",
     .help = "steps of linear warm-up"},
    {"weight-decay", 0, MCS_FIELD(finetune_command, weight_decay), .alias = "wd", .def = "0.1", .lo = 0, .hi = 10,
     .value = "X", .help = "AdamW's"},
    {"clip-norm", 0, MCS_FIELD(finetune_command, clip_norm), .def = "1", .lo = 0, .hi = 1e9, .value = "X",
     .help = "largest gradient norm, 0: any"},
    {"crop", 0, MCS_FIELD(finetune_command, crop), .def = "0.9", .lo = 0.05, .hi = 1, .value = "X",
     .help = "least area of the random crop, 1: none"},
    {"freeze", 0, MCS_FIELD(finetune_command, freeze), .value = "PREFIX",
     .help = "name prefix of frozen parameters (repeatable)"},
    {"diagnose", 0, MCS_FIELD(finetune_command, diagnose),
     .help = "log the share of negatives that each form of DHN-NCE attracts"},
    {"checkpoint-every", 0, MCS_FIELD(finetune_command, checkpoint_every), .def = "500", .lo = 0, .hi = 100000000,
     .value = "N", .help = "steps between checkpoints, 0: only at the end"},
    MCS_GPUS_OPTION(finetune_command),
    {"window", 0, MCS_FIELD(finetune_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

static enum mcs_status resolve_loss(const struct finetune_command *c, struct contrastive_attr *a)
{
    const float b = c->loss == LOSS_DHNNCE || c->loss == LOSS_HNNCE ? (float)c->beta : 0;
    *a = (struct contrastive_attr){.a = c->loss == LOSS_INFONCE || c->loss == LOSS_HNNCE,
                                   .b_image = b,
                                   .b_text = c->beta_text >= 0 && b > 0 ? (float)c->beta_text : b};
    a->released = c->common.form[MCS_FORM_LOSS] == MCS_RELEASE && c->loss == LOSS_DHNNCE;
    if (!strcmp(c->temperature, "learned")) return MCS_OK;
    char *end;
    const double tau = strtod(c->temperature, &end);
    MCS_REQUIRE(*end == '\0' && end != c->temperature && tau > 0.001 && tau < 1000, MCS_E_USAGE,
                "--temperature %s: want a number between 0.001 and 1000, or 'learned'", c->temperature);
    a->inv_tau = (float)(1 / tau);
    return MCS_OK;
}

/* --dry-run: prints the device memory of each of `ranks` ranks. */
static enum mcs_status print_memory(const struct finetune_command *c, struct clip_model *m,
                                    const struct clip_train_options *train, int ranks)
{
    struct train_memory memory;
    struct comm not_there = {.size = ranks}; /* only the size is used; no rank is started */
    struct clip_train_options o = *train;
    char head[128], json[128];
    o.comm = ranks > 1 ? &not_there : NULL;
    MCS_TRY(mcs_clip_train_memory(m, &o, &memory));
    snprintf(head, sizeof head, "%lld steps; at most %lld caption tokens a step; a smaller --batch needs less",
             (long long)o.steps, (long long)o.max_rows);
    snprintf(json, sizeof json, "\"steps\": %lld, \"max_tokens\": %lld", (long long)o.steps, (long long)o.max_rows);
    mcs_memory_print(&memory, c->common.json, head, json);
    return MCS_OK;
}

static enum mcs_status run_steps(const struct finetune_command *c, const struct process_group *group,
                                 struct clip_model *m, struct pair_source *source, struct clip_train_options *o)
{
    o->steps = c->steps ? c->steps : c->epochs * mcs_pair_source_steps_per_epoch(source);
    o->warmup = c->warmup < o->steps ? c->warmup : o->steps / 10;
    MCS_TRY(mcs_pair_source_max_rows(source, m->tokenizer, o->steps, group->size, &o->max_rows));
    if (c->common.dry_run) return print_memory(c, m, o, group->size);
    return mcs_clip_train(m, o, &(struct clip_source){mcs_pair_source_fill, source}, NULL);
}

static enum mcs_status train(const struct finetune_command *c, const struct process_group *group, struct clip_model *m,
                             const struct pairs *pairs, const char *config)
{
    struct pair_source source;
    const char *frozen[65] = {0};
    char path[MCS_PATH_BYTES];
    struct clip_train_options o = {.batch = c->batch,
                                   .checkpoint_every = c->checkpoint_every,
                                   .lr = c->lr,
                                   .weight_decay = c->weight_decay,
                                   .clip_norm = c->clip_norm,
                                   .seed = (uint64_t)c->common.seed,
                                   .diagnose = c->diagnose,
                                   .mean_directions = c->directions == 1,
                                   .run = c->output,
                                   .config = config,
                                   .frozen = frozen,
                                   .comm = group->comm};
    MCS_REQUIRE(c->freeze.n <= 64, MCS_E_USAGE, "--freeze was given more than 64 times");
    for (int i = 0; i < c->freeze.n; i++) frozen[i] = c->freeze.v[i];
    MCS_TRY(resolve_loss(c, &o.loss));
    MCS_REQUIRE(c->batch >= 2, MCS_E_USAGE,
                "a contrastive loss needs a batch of at least 2 pairs (one pair has no negatives); raise --batch");
    MCS_TRY(mcs_process_group_check_batch(group->size, c->batch));
    enum mcs_status st = mcs_pair_source_open(&source, pairs, &m->config, c->batch, c->crop, (uint64_t)c->common.seed);
    if (st == MCS_OK) st = run_steps(c, group, m, &source, &o);
    mcs_pair_source_close(&source);
    MCS_TRY(st);
    if (c->common.dry_run || group->rank) return MCS_OK;
    MCS_TRY(mcs_path(path, "%s/model", c->output));
    MCS_TRY(mcs_clip_model_save(m, path, 0));
    printf(c->common.json ? "{\"steps\": %lld, \"pairs\": %d}\n" : "%lld steps on %d pairs\n", (long long)o.steps,
           pairs->n);
    return MCS_OK;
}

static enum mcs_status run_rank(void *ctx, const struct process_group *group)
{
    const struct rank_command *r = ctx;
    const struct finetune_command *c = r->command;
    char separator;
    MCS_TRY(mcs_csv_separator(c->separator, &separator));
    const struct pairs_options po = {.image_column = c->image_column,
                                     .caption_column = c->caption_column,
                                     .image_folder = c->images,
                                     .separator = separator,
                                     .min_codes = (int)c->min_caption};
    struct pairs pairs = {0};
    struct clip_model m = {0};
    struct arena arena = {0};
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_pairs_read(c->pairs, &po, &pairs), st, done);
    mcs_pairs_report(&pairs, c->pairs);
    MCS_TRY_GOTO(mcs_clip_model_open(c->model, group->device, &m), st, done);
    /* Rank 0 adds the lines of training_data.h and writes them to the checkpoint. */
    const char *config = c->common.command.options;
    if (!c->common.dry_run && group->rank == 0) {
        const char *lines;
        MCS_TRY_GOTO(mcs_training_pairs_lines(&pairs, &arena, &lines), st, done);
        config =
            mcs_arena_printf(&arena, "%s%s%s", config, lines, mcs_training_weights_line("model", m.sha256, &arena));
        MCS_TRY_GOTO(mcs_arena_status(&arena), st, done);
        MCS_TRY_GOTO(mcs_rank_command_begin(r, config), st, done);
    }
    st = train(c, group, &m, &pairs, config);
done:
    mcs_arena_free(&arena);
    if (m.params) mcs_clip_model_close(&m);
    mcs_pairs_free(&pairs);
    return st;
}

static enum mcs_status check_paths(const struct finetune_command *c, struct arena *a)
{
    const struct run_output out[] = {{c->output, "*"}, {mcs_arena_printf(a, "%s/model", c->output), "*"}};
    const struct run_input in[] = {
        {"--model", c->model, NULL}, {"--pairs", c->pairs, NULL}, {"--images", c->images, ""}};
    return mcs_run_check_paths(&c->common.command, out, 2, in, 3);
}

static enum mcs_status run(const void *o)
{
    const struct finetune_command *c = o;
    struct arena arena = {0};
    struct rank_command r = {.command = c, .common = &c->common, .output = c->output, .gpus = c->gpus};
    MCS_TRY(mcs_window_use(c->window));
    enum mcs_status st = check_paths(c, &arena);
    if (st == MCS_OK) st = mcs_rank_command_run(&r, run_rank);
    mcs_arena_free(&arena);
    return st;
}

const struct mcs_verb mcs_verb_finetune = {.name = "finetune",
                                           .line = "fine-tunes CLIP on image-caption pairs",
                                           .options = options,
                                           .options_bytes = sizeof(struct finetune_command),
                                           .run = run};
