/* mcsam train: trains a segmentation network on masks, in cycles. */
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "train/cmd/gpus_option.h"
#include "train/cmd/rank_command.h"
#include "train/run/memory_table.h"
#include "train/run/training_data.h"
#include "train/unet/unet_train.h"

#include <stdio.h>

struct train_command {
    struct mcs_common common;
    const char *images, *labels, *output, *patch, *ignore_label;
    int64_t classes, channels, stages, features, max_features, batch, epochs, iterations, cycles, checkpoints,
        checkpoint_every, gpus;
    double lr, restart_lr, weight_decay, clip_norm, gamma, late, foreground;
    int optimizer, no_deep_supervision, no_batch_dice, no_augmentation, resample, merge_labels;
};

enum { OPTIMIZER_SGD, OPTIMIZER_ADAMW };

static const struct mcs_option options[] = {
    {"images", 'i', MCS_FIELD(train_command, images), .value = "DIR", .required = 1,
     .help = "images: PNG, JPEG, or NIfTI, whose slices are then the cases"},
    {"labels", 'l', MCS_FIELD(train_command, labels), .value = "DIR", .required = 1,
     .help = "masks of the same stems; a label is the number stored; with two classes 0 and one other number"},
    {"output", 'o', MCS_FIELD(train_command, output), .value = "DIR", .required = 1,
     .help = "run folder: plans.json, weights of each cycle, metrics.jsonl, checkpoint.h5"},
    {"classes", 0, MCS_FIELD(train_command, classes), .def = "2", .lo = 2, .hi = UNET_MAX_CLASSES, .value = "N",
     .help = "classes, background included"},
    {"ignore-label", 0, MCS_FIELD(train_command, ignore_label), .value = "N",
     .help = "label whose pixels count in no loss, such as 255 or -1"},
    {"merge-labels", 0, MCS_FIELD(train_command, merge_labels), .help = "two classes: all labels but 0 are one"},
    {"resample", 0, MCS_FIELD(train_command, resample),
     .help = "take labels on another grid than their image by the nearest voxel"},
    {"channels", 0, MCS_FIELD(train_command, channels), .def = "0", .lo = 0, .hi = 3, .value = "N",
     .help = "1 or 3: read images as grey or colour; 0: as the first one is"},
    {"patch", 0, MCS_FIELD(train_command, patch), .value = "HxW",
     .help = "size of the training patch; default: the first image's size, rounded down to what the strides divide"},
    {"stages", 0, MCS_FIELD(train_command, stages), .def = "0", .lo = 0, .hi = UNET_MAX_STAGES, .value = "N",
     .help = "resolution levels; 0: until the shorter side is below 8 (nnU-Net)"},
    {"features", 0, MCS_FIELD(train_command, features), .def = "32", .lo = 1, .hi = 1024, .value = "N",
     .help = "channels of the first level, doubled at each next one"},
    {"max-features", 0, MCS_FIELD(train_command, max_features), .def = "512", .lo = 1, .hi = 4096, .value = "N",
     .help = "upper limit of a level's channels"},
    {"batch", 'b', MCS_FIELD(train_command, batch), .alias = "batch-size", .def = "12", .lo = 1, .hi = 4096,
     .value = "N", .help = "patches per step"},
    {"epochs", 0, MCS_FIELD(train_command, epochs), .alias = "num-epochs", .def = "600", .lo = 1, .hi = 1000000,
     .value = "N", .help = "in all cycles together"},
    {"iterations", 0, MCS_FIELD(train_command, iterations), .def = "250", .lo = 1, .hi = 1000000, .value = "N",
     .help = "steps per epoch"},
    {"cycles", 0, MCS_FIELD(train_command, cycles), .alias = "num-of-cycles", .def = "3", .lo = 1, .hi = 1000,
     .value = "N", .help = "number of cycles, must divide the epochs"},
    {"checkpoints", 0, MCS_FIELD(train_command, checkpoints), .def = "10", .lo = 1, .hi = 80, .value = "N",
     .help = "weights kept per cycle, at its end (paper)"},
    {"late", 0, MCS_FIELD(train_command, late), .def = "0.2", .lo = 0.0001, .hi = 1, .value = "SHARE",
     .help = "share of a cycle over which these are spread; its end is always one of them"},
    {"optimizer", 0, MCS_FIELD(train_command, optimizer), .def = "sgd", .choices = "sgd|adamw",
     .help = "sgd: Nesterov, momentum 0.99 (nnU-Net); adamw: quicker on small networks and short runs"},
    {"lr", 0, MCS_FIELD(train_command, lr), .def = "0.01", .lo = 1e-9, .hi = 10, .value = "X",
     .help = "learning rate at the start; about 0.003 for adamw"},
    {"restart-lr", 0, MCS_FIELD(train_command, restart_lr), .def = "0", .lo = 0, .hi = 10, .value = "X",
     .help = "rate at which the second and later cycles start, 0: as the first (paper)"},
    {"gamma", 0, MCS_FIELD(train_command, gamma), .def = "0.5", .lo = 0, .hi = 1, .value = "SHARE",
     .help = "share of a cycle over which the rate falls (release)"},
    {"weight-decay", 0, MCS_FIELD(train_command, weight_decay), .def = "-1", .lo = -1, .hi = 1, .value = "X",
     .help = "-1: 3e-5 (sgd), 0.01 (adamw)"},
    {"clip-norm", 0, MCS_FIELD(train_command, clip_norm), .def = "12", .lo = 0, .hi = 1e9, .value = "X",
     .help = "largest gradient norm, 0: any"},
    {"foreground", 0, MCS_FIELD(train_command, foreground), .alias = "oversample-foreground-percent", .def = "0.33",
     .lo = 0, .hi = 1, .value = "SHARE", .help = "share of a batch whose patches must contain foreground"},
    {"no-deep-supervision", 0, MCS_FIELD(train_command, no_deep_supervision), .help = "a loss at full resolution only"},
    {"no-batch-dice", 0, MCS_FIELD(train_command, no_batch_dice), .help = "Dice by image instead of over the batch"},
    {"no-augmentation", 0, MCS_FIELD(train_command, no_augmentation), .help = "patches without augmentation"},
    {"checkpoint-every", 0, MCS_FIELD(train_command, checkpoint_every), .def = "500", .lo = 0, .hi = 100000000,
     .value = "N", .help = "steps between checkpoints, 0: only at the end"},
    MCS_GPUS_OPTION(train_command),
    {0},
};

static enum mcs_status make_plans(const struct train_command *c, const struct unet_cases *cases, struct unet_plans *p)
{
    int64_t height = cases->items[0].height, width = cases->items[0].width;
    char end;
    if (c->patch)
        MCS_REQUIRE(sscanf(c->patch, "%lldx%lld%c", (long long *)&height, (long long *)&width, &end) == 2, MCS_E_USAGE,
                    "--patch %s: want two numbers like 256x256", c->patch);
    else {
        /* a multiple of the strides' product; automatic stages: of 8, so that there are at least 4 levels */
        const int64_t step = c->stages ? (int64_t)1 << (c->stages - 1) : 8;
        height -= height % step;
        width -= width % step;
    }
    MCS_TRY(mcs_unet_plans_make(cases->channels, cases->classes, height, width, (int)c->stages, (int)c->features,
                                (int)c->max_features, p));
    p->batch = c->batch;
    p->batch_dice = !c->no_batch_dice;
    return MCS_OK;
}

/* --dry-run: prints the device memory of each rank. */
static enum mcs_status print_memory(const struct train_command *c, const struct process_group *group,
                                    const struct unet_cases *cases, struct unet_model *m,
                                    const struct unet_train_options *o)
{
    struct unet_trainer t;
    char head[128], json[64];
    struct train_memory memory = mcs_memory_of(m->params, o->optim.kind);
    m->plans.batch /= group->size;
    MCS_TRY(mcs_unet_trainer_open(&t, m, cases, o));
    memory.plan = t.exec->plan;
    mcs_unet_trainer_close(&t);
    snprintf(head, sizeof head, "%lld steps; a smaller --batch needs less", (long long)(c->epochs * c->iterations));
    snprintf(json, sizeof json, "\"steps\": %lld", (long long)(c->epochs * c->iterations));
    mcs_memory_print(&memory, c->common.json, head, json);
    return MCS_OK;
}

static enum mcs_status train(const struct train_command *c, const struct process_group *group,
                             const struct unet_cases *cases, struct unet_model *m, const char *config)
{
    const struct unet_plans *p = &m->plans;
    struct unet_train_options o = {
        .cycle = {.form = c->common.form[MCS_FORM_TRAIN],
                  .epochs = c->epochs,
                  .iterations = c->iterations,
                  .cycles = c->cycles,
                  .checkpoints = c->checkpoints,
                  .late = c->late,
                  .lr = c->lr,
                  .restart_lr = c->restart_lr,
                  .gamma = c->gamma},
        .optim = c->optimizer == OPTIMIZER_SGD ? mcs_unet_nnunet_sgd() : mcs_unet_adamw(),
        .deep_supervision = !c->no_deep_supervision,
        .foreground = c->foreground,
        .augment = c->no_augmentation ? mcs_augment_none() : mcs_augment_nnunet((int)p->patch[0], (int)p->patch[1]),
        .seed = (uint64_t)c->common.seed,
        .checkpoint_every = c->checkpoint_every,
        .run = c->output,
        .config = config,
        .comm = group->comm,
    };
    o.optim.clip_norm = (float)c->clip_norm;
    if (c->weight_decay >= 0) o.optim.weight_decay = (float)c->weight_decay;
    MCS_TRY(mcs_cycle_check(&o.cycle));
    mcs_log("%d cases; patch %lldx%lld, batch %lld, %d stages, %lld parameters", cases->n, (long long)p->patch[0],
            (long long)p->patch[1], (long long)p->batch, p->net.n_stages, (long long)m->params->n_values);
    if (c->common.dry_run) return print_memory(c, group, cases, m, &o);
    MCS_TRY(mcs_unet_train(m, cases, &o));
    if (group->rank) return MCS_OK;
    printf(c->common.json ? "{\"steps\": %lld, \"cases\": %d}\n" : "%lld steps on %d cases\n",
           (long long)(c->epochs * c->iterations), cases->n);
    return MCS_OK;
}

static enum mcs_status run_rank(void *ctx, const struct process_group *group)
{
    const struct rank_command *r = ctx;
    const struct train_command *c = r->command;
    struct unet_cases cases = {0};
    struct unet_plans plans;
    struct unet_model m = {0};
    struct arena arena = {0};
    enum mcs_status st;
    struct unet_label_options labels = {.resample = c->resample};
    MCS_TRY(mcs_label_rule_parse(c->ignore_label, &labels.rule));
    labels.rule.merge = c->merge_labels;
    MCS_TRY_GOTO(mcs_unet_cases_read(&cases, c->images, c->labels, (int)c->channels, (int)c->classes, &labels), st,
                 done);
    MCS_TRY_GOTO(make_plans(c, &cases, &plans), st, done);
    MCS_TRY_GOTO(mcs_process_group_check_batch(group->size, plans.batch), st, done);
    MCS_TRY_GOTO(mcs_unet_model_new(&plans, (uint64_t)c->common.seed, group->device, &m), st, done);
    /* Rank 0 adds the lines of training_data.h and writes them to the checkpoint. */
    const char *config = c->common.command.options;
    if (!c->common.dry_run && group->rank == 0) {
        config = mcs_arena_printf(&arena, "%s%s", config, mcs_training_cases_lines(&cases, &arena));
        MCS_TRY_GOTO(mcs_arena_status(&arena), st, done);
        MCS_TRY_GOTO(mcs_rank_command_begin(r, config), st, done);
    }
    MCS_TRY_GOTO(train(c, group, &cases, &m, config), st, done);
done:
    mcs_arena_free(&arena);
    if (m.params) mcs_unet_model_close(&m);
    mcs_unet_cases_free(&cases);
    return st;
}

static enum mcs_status run(const void *command)
{
    const struct train_command *c = command;
    struct rank_command r = {.command = c, .common = &c->common, .output = c->output, .gpus = c->gpus};
    const struct run_output out = {c->output, "*"};
    const struct run_input in[] = {{"--images", c->images, ""}, {"--labels", c->labels, ""}};
    MCS_TRY(mcs_run_check_paths(&c->common.command, &out, 1, in, 2));
    return mcs_rank_command_run(&r, run_rank);
}

const struct mcs_verb mcs_verb_train = {.name = "train",
                                        .line = "trains a U-Net on masks, in cycles",
                                        .options = options,
                                        .options_bytes = sizeof(struct train_command),
                                        .run = run};
