/* mcsam demo-start: trains the demo's starting weights, which are shipped in data/demo. */
#include "data/run/run_folder.h"
#include "engine/cli/config.h"
#include "train/cmd/demo_data_options.h"
#include "train/cmd/gpus_option.h"
#include "train/cmd/rank_command.h"
#include "train/demo/start_models.h"

#include <stdio.h>
#include <string.h>

struct start_command {
    struct mcs_common common;
    const char *output, *atlas;
    int64_t steps, batch, checkpoint_every, gpus;
    double lr;
    int recipe;
    const char *from;
    struct demo_config data;
};

static const struct mcs_option options[] = {
    {"output", 'o', MCS_FIELD(start_command, output), .value = "DIR", .required = 1,
     .help = "run folder; the weights are in DIR/model"},
    {"atlas", 0, MCS_FIELD(start_command, atlas), .value = "DIR",
     .help = "folder of the MRI; default: where mricron-data puts it"},
    {"steps", 0, MCS_FIELD(start_command, steps), .def = "2000", .lo = 1, .hi = 1000000, .value = "N",
     .help = "optimizer steps"},
    {"batch", 0, MCS_FIELD(start_command, batch), .def = "32", .lo = 2, .hi = 4096, .value = "N",
     .help = "images per step"},
    {"lr", 0, MCS_FIELD(start_command, lr), .def = "0.001", .lo = 0, .hi = 10, .value = "X",
     .help = "peak learning rate, cosine to 0"},
    {"checkpoint-every", 0, MCS_FIELD(start_command, checkpoint_every), .def = "200", .lo = 0, .hi = 1000000,
     .value = "N", .help = "steps between checkpoints, 0: only at the end"},
    {"recipe", 0, MCS_FIELD(start_command, recipe), .def = "masks", .choices = "masks|captions|tokens",
     .help =
         "what clip learns from: objects' masks too, image-caption pairs alone, or these with a loss on patch tokens"},
    {"from", 0, MCS_FIELD(start_command, from), .value = "DIR",
     .help = "clip: continue from this model folder; words that it lacks start at random"},
    MCS_GPUS_OPTION(start_command),
    MCS_DEMO_CONFIG_OPTIONS(start_command, data){0},
};

static int makes_clip(const struct start_command *c)
{
    return !strcmp(c->common.args.v[0], "clip");
}

/* Trains on one rank. */
static enum mcs_status run_rank(void *ctx, const struct process_group *group)
{
    const struct rank_command *r = ctx;
    const struct start_command *c = r->command;
    const struct demo_start_options start = {.out = c->output,
                                             .atlas = c->atlas,
                                             .config = c->common.command.options,
                                             .steps = c->steps,
                                             .batch = c->batch,
                                             .seed = c->common.seed,
                                             .checkpoint_every = c->checkpoint_every,
                                             .lr = c->lr,
                                             .data = c->data,
                                             .recipe = (enum demo_recipe)c->recipe,
                                             .from = c->from,
                                             .device = group->device,
                                             .comm = group->comm};
    return makes_clip(c) ? mcs_demo_start_clip(&start) : mcs_demo_start_sam(&start);
}

static enum mcs_status run(const void *o)
{
    const struct start_command *c = o;
    const char *what = c->common.args.v[0];
    MCS_REQUIRE(makes_clip(c) || !strcmp(what, "sam"), MCS_E_USAGE, "demo-start makes 'clip' or 'sam', not '%s'", what);
    MCS_REQUIRE(makes_clip(c) || (!c->from && c->recipe == DEMO_RECIPE_MASKS), MCS_E_USAGE,
                "demo-start sam: --recipe and --from are for clip");
    if (c->common.dry_run) {
        printf(c->common.json ? "{\"steps\": %lld, \"batch\": %lld}\n" : "%lld steps of %lld images\n",
               (long long)c->steps, (long long)c->batch);
        return MCS_OK;
    }
    struct arena arena = {0};
    struct rank_command r = {.command = c, .common = &c->common, .output = c->output, .gpus = c->gpus};
    const struct run_output out[] = {{c->output, "*"}, {mcs_arena_printf(&arena, "%s/model", c->output), "*"}};
    const struct run_input in[] = {{"--atlas", c->atlas, ""}, {"--from", c->from, ""}};
    enum mcs_status st = mcs_run_check_paths(&c->common.command, out, 2, in, 2);
    if (st == MCS_OK) st = mcs_rank_command_run(&r, run_rank);
    mcs_arena_free(&arena);
    return st;
}

const struct mcs_verb mcs_verb_demo_start = {
    .name = "demo-start",
    .line = "makes the demo's starting weights (an hour on a core; the result is shipped)",
    .options = options,
    .options_bytes = sizeof(struct start_command),
    .run = run,
    .args = "clip|sam",
    .min_args = 1,
    .max_args = 1};
