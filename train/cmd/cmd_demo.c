/* mcsam demo: the whole pipeline on one subject's MRI. */
#include "data/io/file.h"
#include "engine/base/path.h"
#include "train/cmd/demo_command.h"
#include "train/cmd/demo_data_options.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct mcs_option options[] = {
    {"output", 'o', MCS_FIELD(demo_command, o.output), .alias = "out", .def = "runs/demo", .value = "DIR",
     .help = "run folder"},
    {"start", 0, MCS_FIELD(demo_command, o.start), .def = "masks", .choices = "masks|captions",
     .help = "what the starting CLIP has seen: pixel masks of made objects, or images with captions alone"},
    {"clip", 0, MCS_FIELD(demo_command, o.clip), .value = "DIR",
     .help = "another starting CLIP; default: the one of --start, in data/demo here or beside the program"},
    {"sam", 0, MCS_FIELD(demo_command, o.sam), .value = "DIR",
     .help = "starting SAM; default: data/demo/sam, likewise"},
    {"atlas", 0, MCS_FIELD(demo_command, o.atlas), .value = "DIR",
     .help = "folder of the MRI; default: where mricron-data puts it"},
    {"quick", 0, MCS_FIELD(demo_command, o.quick), .help = "a fifth of everything, two minutes: for a look and for CI"},
    {"gpus", 0, MCS_FIELD(demo_command, o.gpus), .def = "0", .lo = 0, .hi = 64, .value = "N",
     .help = "train CLIP and the network on N GPUs (with --device cpu: shares of its cores)"},
    {"seeds", 0, MCS_FIELD(demo_command, o.seeds), .def = "1", .lo = 1, .hi = 100, .value = "N",
     .help = "runs with seeds SEED, SEED+1, ..., their means, and figures of all their images"},
    {"choose", 0, MCS_FIELD(demo_command, o.choose),
     .help = "measure every choice on validation slabs and write choices.csv, nothing else"},
    {"evaluate", 0, MCS_FIELD(demo_command, o.evaluate), .def = "test", .choices = "test|validation",
     .help = "slabs that are measured"},
    {"train-images", 0, MCS_FIELD(demo_command, o.train_images), .def = "2000", .lo = 2, .hi = 100000, .value = "N",
     .help = "image-caption pairs"},
    {"label-images", 0, MCS_FIELD(demo_command, o.label_images), .def = "500", .lo = 1, .hi = 100000, .value = "N",
     .help = "of these get pseudo-labels"},
    {"test-images", 0, MCS_FIELD(demo_command, o.test_images), .def = "100", .lo = 2, .hi = 100000, .value = "N",
     .help = "images with lesions"},
    {"two-images", 0, MCS_FIELD(demo_command, o.two_images), .def = "40", .lo = 0, .hi = 100000, .value = "N",
     .help = "images with two opposite lesions"},
    {"none-images", 0, MCS_FIELD(demo_command, o.none_images), .def = "100", .lo = 0, .hi = 100000, .value = "N",
     .help = "healthy images"},
    {"unseen-images", 0, MCS_FIELD(demo_command, o.unseen_images), .def = "50", .lo = 0, .hi = 100000, .value = "N",
     .help = "images with lesions of forms that no training saw"},
    {"validation-images", 0, MCS_FIELD(demo_command, o.validation_images), .def = "60", .lo = 2, .hi = 100000,
     .value = "N", .help = "images with lesions, and as many healthy ones, for all that is tuned"},
    {"retrieval-images", 0, MCS_FIELD(demo_command, o.retrieval_images), .def = "300", .lo = 2, .hi = 100000,
     .value = "N", .help = "pairs for retrieval"},
    {"finetune-steps", 0, MCS_FIELD(demo_command, o.finetune_steps), .def = "400", .lo = 1, .hi = 1000000, .value = "N",
     .help = "steps of fine-tuning"},
    {"finetune-batch", 0, MCS_FIELD(demo_command, o.finetune_batch), .def = "50", .lo = 2, .hi = 4096, .value = "N",
     .help = "pairs per step"},
    {"finetune-warmup", 0, MCS_FIELD(demo_command, o.finetune_warmup), .def = "20", .lo = 0, .hi = 1000000,
     .value = "N", .help = "steps of warm-up"},
    {"finetune-lr", 0, MCS_FIELD(demo_command, o.finetune_lr), .def = "0.0005", .lo = 0, .hi = 1, .value = "X",
     .help = "peak rate, cosine to 0"},
    {"finetune-beta", 0, MCS_FIELD(demo_command, o.finetune_beta), .def = "0.15", .lo = 0, .hi = 10, .value = "X",
     .help = "DHN-NCE's hardness"},
    {"finetune-temperature", 0, MCS_FIELD(demo_command, o.finetune_temperature), .def = "0.08", .lo = 0.001, .hi = 100,
     .value = "X", .help = "fixed temperature"},
    {"saliency-layer", 0, MCS_FIELD(demo_command, o.saliency_layer), .def = "2", .lo = 0, .hi = 2, .value = "N",
     .help = "block of the bottleneck"},
    {"saliency-beta", 0, MCS_FIELD(demo_command, o.saliency_beta), .def = "1", .lo = 0, .hi = 1000, .value = "X",
     .help = "weight of compression"},
    {"saliency-steps", 0, MCS_FIELD(demo_command, o.saliency_steps), .def = "10", .lo = 2, .hi = 1000, .value = "N",
     .help = "forward passes"},
    {"saliency-copies", 0, MCS_FIELD(demo_command, o.saliency_copies), .def = "10", .lo = 1, .hi = 1000, .value = "N",
     .help = "noisy copies per pass"},
    {"rank", 0, MCS_FIELD(demo_command, o.rank), .def = "confidence", .choices = "confidence|area|text|both",
     .help = "which component is the best"},
    {"min-confidence", 0, MCS_FIELD(demo_command, o.min_confidence), .def = "0", .lo = 0, .hi = 1, .value = "C",
     .help = "least mean saliency of a component"},
    {"grow", 0, MCS_FIELD(demo_command, o.grow), .def = "0", .lo = 0, .hi = 64, .value = "PX",
     .help = "pixels added to each side of the boxes"},
    {"presence", 0, MCS_FIELD(demo_command, o.presence), .def = "cosine", .choices = "cosine|contrast|iou",
     .help = "score that tells images with the finding from those without"},
    {"cycles", 0, MCS_FIELD(demo_command, o.cycles), .def = "3", .lo = 1, .hi = 100, .value = "N",
     .help = "training cycles of the network"},
    {"cycle-steps", 0, MCS_FIELD(demo_command, o.cycle_steps), .def = "600", .lo = 5, .hi = 1000000, .value = "N",
     .help = "steps per cycle"},
    {"cycle-checkpoints", 0, MCS_FIELD(demo_command, o.cycle_checkpoints), .def = "3", .lo = 1, .hi = 80, .value = "N",
     .help = "weights kept per cycle"},
    {"network-features", 0, MCS_FIELD(demo_command, o.network_features), .def = "8", .lo = 1, .hi = 64, .value = "N",
     .help = "channels of its first level"},
    {"network-batch", 0, MCS_FIELD(demo_command, o.network_batch), .def = "8", .lo = 1, .hi = 256, .value = "N",
     .help = "patches per step"},
    {"network-lr", 0, MCS_FIELD(demo_command, o.network_lr), .def = "0.005", .lo = 0, .hi = 1, .value = "X",
     .help = "AdamW's rate at each restart"},
    {"ceiling", 0, MCS_FIELD(demo_command, o.ceiling),
     .help = "train the network on true masks too, four times as long, for comparison"},
    {"checkpoint-every", 0, MCS_FIELD(demo_command, o.checkpoint_every), .def = "100", .lo = 0, .hi = 1000000,
     .value = "N", .help = "steps between checkpoints"},
    MCS_DEMO_CONFIG_OPTIONS(demo_command, o.data){0},
};

void mcs_demo_options_quick(struct demo_options *o)
{
    int64_t *const fields[] = {&o->train_images,      &o->label_images,   &o->test_images,
                               &o->two_images,        &o->none_images,    &o->unseen_images,
                               &o->validation_images, &o->finetune_steps, &o->cycle_steps};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) *fields[i] = *fields[i] / 5 > 10 ? *fields[i] / 5 : 10;
    o->retrieval_images = o->retrieval_images > 100 ? 100 : o->retrieval_images;
    o->ceiling = 0;
}

/* Finds a shipped folder in the current folder or in the source tree that contains this program as build/mcsam. */
static const char *shipped(const char *folder, char path[MCS_PATH_BYTES])
{
    char program[MCS_PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (mcs_folder_exists(folder) || n < 0) return folder;
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    return mcs_path_fits(path, "%s/../%s", program, folder) && mcs_folder_exists(path) ? path : folder;
}

struct demo_options mcs_demo_command_options(const struct demo_command *c, struct arena *arena)
{
    struct demo_options o = c->o;
    o.command = mcs_config_command(c, arena);
    o.device = c->common.device;
    o.seed = c->common.seed;
    memcpy(o.form, c->common.form, sizeof o.form);
    return o;
}

/* Runs the demo with each seed into OUT/seedN, then averages. */
static enum mcs_status run_seeds(struct demo_command *c, struct arena *arena)
{
    const char *folder = c->o.output;
    const int64_t first = c->common.seed;
    for (int64_t k = 0; k < c->o.seeds; k++) {
        c->o.output = mcs_arena_printf(arena, "%s/seed%lld", folder, (long long)(first + k));
        c->common.seed = first + k;
        const struct demo_options o = mcs_demo_command_options(c, arena);
        MCS_TRY(mcs_demo_run(&o));
    }
    return mcs_demo_seeds(folder, first, c->o.seeds);
}

static enum mcs_status run(const void *command)
{
    struct demo_command c = *(const struct demo_command *)command;
    struct demo_options *o = &c.o;
    struct arena arena = {0};
    char clip[MCS_PATH_BYTES], sam[MCS_PATH_BYTES];
    enum mcs_status st;
    MCS_TRY(mcs_demo_config_check(&o->data));
    if (o->quick) mcs_demo_options_quick(o);
    if (!o->clip) {
        const char *name = o->start == DEMO_START_CAPTIONS ? "data/demo/clip-captions" : "data/demo/clip";
        o->clip = shipped(name, clip);
        MCS_REQUIRE(mcs_folder_exists(o->clip), MCS_E_NOINPUT,
                    "%s: no such folder, here or beside the program; it holds the starting CLIP of --start %s: name "
                    "another one by --clip",
                    name, o->start == DEMO_START_CAPTIONS ? "captions" : "masks");
    }
    if (!o->sam) o->sam = shipped("data/demo/sam", sam);
    if (c.common.dry_run) {
        const long long n[] = {o->seeds, o->train_images, o->finetune_steps, o->cycles * o->cycle_steps,
                               o->test_images};
        printf(c.common.json ? "{\"runs\": %lld, \"training_images\": %lld, \"finetune_steps\": %lld, "
                               "\"network_steps\": %lld, \"test_images\": %lld}\n"
                             : "%lld runs; each: %lld training images, %lld steps of CLIP, %lld steps of the network, "
                               "%lld test images\n",
               n[0], n[1], n[2], n[3], n[4]);
        return MCS_OK;
    }
    if (o->seeds == 1) {
        const struct demo_options one = mcs_demo_command_options(&c, &arena);
        st = mcs_demo_run(&one);
    } else
        st = run_seeds(&c, &arena);
    mcs_arena_free(&arena);
    return st;
}

const struct mcs_verb mcs_verb_demo = {
    .name = "demo",
    .line = "the whole pipeline on one subject's MRI with synthetic lesions; writes a report",
    .options = options,
    .options_bytes = sizeof(struct demo_command),
    .run = run};
