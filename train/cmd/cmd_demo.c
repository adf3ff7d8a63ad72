/* mcsam demo: the whole pipeline on one subject's MRI. */
#include "data/io/file.h"
#include "train/demo/demo_run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct mcs_option options[] = {
    {"output", 'o', MCS_FIELD(demo_options, output), .alias = "out", .def = "runs/demo", .value = "DIR",
     .help = "run folder"},
    {"clip", 0, MCS_FIELD(demo_options, clip), .value = "DIR",
     .help = "starting CLIP; default: data/demo/clip here or beside the program"},
    {"sam", 0, MCS_FIELD(demo_options, sam), .value = "DIR", .help = "starting SAM; default: data/demo/sam, likewise"},
    {"atlas", 0, MCS_FIELD(demo_options, atlas), .value = "DIR",
     .help = "folder of the MRI; default: where mricron-data puts it"},
    {"quick", 0, MCS_FIELD(demo_options, quick), .help = "a fifth of everything, two minutes: for a look and for CI"},
    {"gpus", 0, MCS_FIELD(demo_options, gpus), .def = "0", .lo = 0, .hi = 64, .value = "N",
     .help = "train CLIP and the network on N GPUs (with --device cpu: shares of its cores)"},
    {"seeds", 0, MCS_FIELD(demo_options, seeds), .def = "1", .lo = 1, .hi = 100, .value = "N",
     .help = "runs with seeds SEED, SEED+1, ... and their means"},
    {"evaluate", 0, MCS_FIELD(demo_options, evaluate), .def = "test", .choices = "test|validation",
     .help = "slabs that are measured"},
    {"train-images", 0, MCS_FIELD(demo_options, train_images), .def = "2000", .lo = 2, .hi = 100000, .value = "N",
     .help = "image-caption pairs"},
    {"label-images", 0, MCS_FIELD(demo_options, label_images), .def = "500", .lo = 1, .hi = 100000, .value = "N",
     .help = "of these get pseudo-labels"},
    {"test-images", 0, MCS_FIELD(demo_options, test_images), .def = "100", .lo = 2, .hi = 100000, .value = "N",
     .help = "images with one lesion"},
    {"two-images", 0, MCS_FIELD(demo_options, two_images), .def = "40", .lo = 0, .hi = 100000, .value = "N",
     .help = "images with two opposite lesions"},
    {"none-images", 0, MCS_FIELD(demo_options, none_images), .def = "100", .lo = 0, .hi = 100000, .value = "N",
     .help = "images without a lesion"},
    {"retrieval-images", 0, MCS_FIELD(demo_options, retrieval_images), .def = "300", .lo = 2, .hi = 100000,
     .value = "N", .help = "pairs for retrieval"},
    {"finetune-steps", 0, MCS_FIELD(demo_options, finetune_steps), .def = "400", .lo = 1, .hi = 1000000, .value = "N",
     .help = "steps of fine-tuning"},
    {"finetune-batch", 0, MCS_FIELD(demo_options, finetune_batch), .def = "50", .lo = 2, .hi = 4096, .value = "N",
     .help = "pairs per step"},
    {"finetune-warmup", 0, MCS_FIELD(demo_options, finetune_warmup), .def = "20", .lo = 0, .hi = 1000000, .value = "N",
     .help = "steps of warm-up"},
    {"finetune-lr", 0, MCS_FIELD(demo_options, finetune_lr), .def = "0.0005", .lo = 0, .hi = 1, .value = "X",
     .help = "peak rate, cosine to 0"},
    {"finetune-beta", 0, MCS_FIELD(demo_options, finetune_beta), .def = "0.15", .lo = 0, .hi = 10, .value = "X",
     .help = "DHN-NCE's hardness"},
    {"finetune-temperature", 0, MCS_FIELD(demo_options, finetune_temperature), .def = "0.08", .lo = 0.001, .hi = 100,
     .value = "X", .help = "fixed temperature"},
    {"saliency-layer", 0, MCS_FIELD(demo_options, saliency_layer), .def = "2", .lo = 0, .hi = 2, .value = "N",
     .help = "block of the bottleneck"},
    {"saliency-beta", 0, MCS_FIELD(demo_options, saliency_beta), .def = "1", .lo = 0, .hi = 1000, .value = "X",
     .help = "weight of compression"},
    {"saliency-steps", 0, MCS_FIELD(demo_options, saliency_steps), .def = "10", .lo = 2, .hi = 1000, .value = "N",
     .help = "forward passes"},
    {"saliency-copies", 0, MCS_FIELD(demo_options, saliency_copies), .def = "10", .lo = 1, .hi = 1000, .value = "N",
     .help = "noisy copies per pass"},
    {"rank", 0, MCS_FIELD(demo_options, rank), .def = "both", .choices = "confidence|area|text|both",
     .help = "which component is the best"},
    {"min-confidence", 0, MCS_FIELD(demo_options, min_confidence), .def = "0", .lo = 0, .hi = 1, .value = "C",
     .help = "least mean saliency of a component"},
    {"grow", 0, MCS_FIELD(demo_options, grow), .def = "0", .lo = 0, .hi = 64, .value = "PX",
     .help = "pixels added to each side of the boxes"},
    {"cycles", 0, MCS_FIELD(demo_options, cycles), .def = "3", .lo = 1, .hi = 100, .value = "N",
     .help = "training cycles of the network"},
    {"cycle-steps", 0, MCS_FIELD(demo_options, cycle_steps), .def = "600", .lo = 5, .hi = 1000000, .value = "N",
     .help = "steps per cycle"},
    {"cycle-checkpoints", 0, MCS_FIELD(demo_options, cycle_checkpoints), .def = "3", .lo = 1, .hi = 80, .value = "N",
     .help = "weights kept per cycle"},
    {"network-features", 0, MCS_FIELD(demo_options, network_features), .def = "8", .lo = 1, .hi = 64, .value = "N",
     .help = "channels of its first level"},
    {"network-batch", 0, MCS_FIELD(demo_options, network_batch), .def = "8", .lo = 1, .hi = 256, .value = "N",
     .help = "patches per step"},
    {"network-lr", 0, MCS_FIELD(demo_options, network_lr), .def = "0.005", .lo = 0, .hi = 1, .value = "X",
     .help = "AdamW's rate at each restart"},
    {"no-ceiling", 0, MCS_FIELD(demo_options, no_ceiling), .help = "leave out the network trained on true masks"},
    {"checkpoint-every", 0, MCS_FIELD(demo_options, checkpoint_every), .def = "100", .lo = 0, .hi = 1000000,
     .value = "N", .help = "steps between checkpoints"},
    MCS_DEMO_CONFIG_OPTIONS(demo_options, data){0},
};

void mcs_demo_options_quick(struct demo_options *o)
{
    int64_t *const fields[] = {&o->train_images, &o->label_images,   &o->test_images, &o->two_images,
                               &o->none_images,  &o->finetune_steps, &o->cycle_steps};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) *fields[i] = *fields[i] / 5 > 10 ? *fields[i] / 5 : 10;
    o->retrieval_images = o->retrieval_images > 100 ? 100 : o->retrieval_images;
    o->no_ceiling = 1;
}

/* Finds a shipped folder in the current folder or in the source tree that contains this program as build/mcsam. */
static const char *shipped(const char *folder, char *path, size_t bytes)
{
    char program[512];
    const ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (mcs_folder_exists(folder) || n < 0) return folder;
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    snprintf(path, bytes, "%s/../%s", program, folder);
    return mcs_folder_exists(path) ? path : folder;
}

static enum mcs_status run(const void *options_given)
{
    struct demo_options o = *(const struct demo_options *)options_given;
    char clip[1024], sam[1024];
    MCS_TRY(mcs_demo_config_check(&o.data));
    if (o.quick) mcs_demo_options_quick(&o);
    if (!o.clip) o.clip = shipped("data/demo/clip", clip, sizeof clip);
    if (!o.sam) o.sam = shipped("data/demo/sam", sam, sizeof sam);
    if (o.common.dry_run) {
        const long long n[] = {o.seeds, o.train_images, o.finetune_steps, o.cycles * o.cycle_steps, o.test_images};
        printf(o.common.json ? "{\"runs\": %lld, \"training_images\": %lld, \"finetune_steps\": %lld, "
                               "\"network_steps\": %lld, \"test_images\": %lld}\n"
                             : "%lld runs; each: %lld training images, %lld steps of CLIP, %lld steps of the network, "
                               "%lld test images\n",
               n[0], n[1], n[2], n[3], n[4]);
        return MCS_OK;
    }
    if (o.seeds == 1) return mcs_demo_run(&o);
    const char *folder = o.output;
    const int64_t first = o.common.seed;
    for (int64_t k = 0; k < o.seeds; k++) {
        char path[1100];
        snprintf(path, sizeof path, "%s/seed%lld", folder, (long long)(first + k));
        o.output = path;
        o.common.seed = first + k;
        MCS_TRY(mcs_demo_run(&o));
    }
    return mcs_demo_seeds(folder, first, o.seeds);
}

const struct mcs_verb mcs_verb_demo = {
    .name = "demo",
    .line = "the whole pipeline on one subject's MRI with synthetic lesions; writes a report",
    .options = options,
    .options_bytes = sizeof(struct demo_options),
    .run = run};
