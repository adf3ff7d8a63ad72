/* The lines of metrics.jsonl and the files that the three trainings write: which steps are logged, the keys of a line,
 * when a checkpoint is written, and that a finished run does nothing when it is started again. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "infer/weights.h"
#include "tests/support/support_tiny.h"
#include "train/clip/finetune.h"
#include "train/run/checkpoint.h"
#include "train/sam/sam_train.h"
#include "train/unet/unet_train.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 13 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static const char *folder;
static struct device cpu;

static void setup(void)
{
    mcs_log_quiet(1);
    folder = tiny_folder("train_lines");
    OK(mcs_cpu_open(1, &cpu));
    mcs_stop_reset();
}
static void teardown(void)
{
    mcs_cpu_close(&cpu);
    tiny_remove(folder);
}
TestSuite(train_lines, .init = setup, .fini = teardown, .timeout = 60);

/* The run's log: its steps and keys as "1 11 13: step loss lr". */
static const char *lines_of(const char *run)
{
    static char all[512];
    char *text, keys[256] = "";
    int64_t n;
    size_t at = 0;
    all[0] = 0;
    OK(mcs_file_read(tiny_path(run, "metrics.jsonl"), 1 << 20, &text, &n));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        const char *key;
        json_t *o, *value;
        char now[256] = "";
        *end = '\0';
        o = json_loads(line, 0, NULL);
        cr_assert(o, "%s", line);
        at += (size_t)snprintf(all + at, sizeof all - at, "%lld ",
                               (long long)json_integer_value(json_object_get(o, "step")));
        json_object_foreach(o, key, value)
        {
            cr_expect(json_is_number(value), "%s: %s", line, key);
            snprintf(now + strlen(now), sizeof now - strlen(now), " %s", key);
        }
        cr_expect(!keys[0] || !strcmp(keys, now), "%s, before it was%s", line, keys);
        snprintf(keys, sizeof keys, "%s", now);
        json_decref(o);
    }
    free(text);
    if (at) snprintf(all + at - 1, sizeof all - at + 1, ":%s", keys);
    return all;
}

static double logged(const char *run, int step, const char *key)
{
    char *text;
    double v = -1;
    int64_t n;
    OK(mcs_file_read(tiny_path(run, "metrics.jsonl"), 1 << 20, &text, &n));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        json_t *o = json_loads(line, 0, NULL);
        if (json_integer_value(json_object_get(o, "step")) == step) v = json_number_value(json_object_get(o, key));
        json_decref(o);
    }
    free(text);
    return v;
}

/* ---- U-Net ---- */

enum { SIDE = 16, N_PIXELS = SIDE * SIDE };

static void add_cases(struct unet_cases *c)
{
    mcs_unet_cases_init(c, 1, 2);
    for (int i = 0; i < 3; i++) {
        uint8_t pixels[N_PIXELS], labels[N_PIXELS];
        for (int k = 0; k < N_PIXELS; k++) {
            labels[k] = k % SIDE > 4 + i && k / SIDE > 6;
            pixels[k] = (uint8_t)(60 + 100 * labels[k] + k * 7 % 23);
        }
        const struct image img = {SIDE, SIDE, 1, pixels};
        OK(mcs_unet_cases_add_image(c, "one", &img, labels));
    }
}

static struct unet_train_options unet_options(const char *run)
{
    return (struct unet_train_options){.cycle = {.form = MCS_PAPER,
                                                 .epochs = STEPS,
                                                 .iterations = 1,
                                                 .cycles = 1,
                                                 .checkpoints = 1,
                                                 .late = 0.5,
                                                 .lr = 0.01},
                                       .optim = mcs_unet_adamw(),
                                       .deep_supervision = 1,
                                       .foreground = 0.33,
                                       .augment = mcs_augment_none(),
                                       .seed = 5,
                                       .checkpoint_every = 4,
                                       .run = run,
                                       .config = "a: 1\n"};
}

static enum mcs_status train_unet(const struct unet_train_options *o, char hash[65])
{
    struct unet_cases c;
    struct unet_plans p;
    struct unet_model m;
    add_cases(&c);
    OK(mcs_unet_plans_make(1, 2, SIDE, SIDE, 3, 2, 8, &p));
    p.batch = 2;
    OK(mcs_unet_model_new(&p, 5, &cpu, &m));
    const enum mcs_status st = mcs_unet_train(&m, &c, o);
    OK(mcs_weights_sha256(m.params, hash));
    mcs_unet_model_close(&m);
    mcs_unet_cases_free(&c);
    return st;
}

Test(train_lines, unet)
{
    char hash[65], again[65], *before, *after;
    int64_t n, m;
    const struct unet_train_options o = unet_options(tiny_path(folder, "unet"));
    OK(train_unet(&o, hash));
    cr_expect_str_eq(lines_of(o.run), "1 6 11 13: step loss lr gradient_norm cycle");
    cr_expect_eq(logged(o.run, 1, "cycle"), 1);
    cr_expect_eq(logged(o.run, 13, "cycle"), 1);
    for (int step = 1; step <= 13; step += 5)
        cr_expect_float_eq(logged(o.run, step, "lr"), mcs_cycle_lr(&o.cycle, step - 1), 1e-9);
    OK(mcs_file_read(tiny_path(o.run, "checkpoint.h5"), 1 << 26, &before, &n));
    OK(train_unet(&o, again)); /* a finished run: its weights, and nothing is written again */
    cr_expect_str_eq(again, hash);
    OK(mcs_file_read(tiny_path(o.run, "checkpoint.h5"), 1 << 26, &after, &m));
    cr_expect(n == m && !memcmp(before, after, (size_t)n));
    cr_expect_str_eq(lines_of(o.run), "1 6 11 13: step loss lr gradient_norm cycle");
    free(before);
    free(after);
}

/* Two cycles of two epochs of three steps: the cycle changes after six steps. */
Test(train_lines, cycles)
{
    char hash[65];
    struct unet_train_options o = unet_options(tiny_path(folder, "cycles"));
    o.cycle.epochs = 4, o.cycle.iterations = 3, o.cycle.cycles = 2;
    OK(train_unet(&o, hash));
    cr_expect_str_eq(lines_of(o.run), "1 6 11 12: step loss lr gradient_norm cycle");
    cr_expect_eq(logged(o.run, 6, "cycle"), 1);
    cr_expect_eq(logged(o.run, 11, "cycle"), 2);
    cr_expect_eq(logged(o.run, 12, "cycle"), 2);
}

/* ---- SAM ---- */

struct source {
    int64_t stop_at, damaged_at; /* -1: never */
};

static enum mcs_status draw(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s)
{
    const struct source *source = context;
    const int x = 3 + (int)(step + index + seed) % 9;
    if ((int64_t)step == source->stop_at) mcs_stop_request();
    memset(s->image, 60, 32 * 32);
    memset(s->mask, 0, 32 * 32);
    for (int y = 8; y < 20; y++) memset(s->image + y * 32 + x, 200, 10), memset(s->mask + y * 32 + x, 1, 10);
    s->n = (int64_t)step == source->damaged_at ? SAM_TRAIN_TARGETS + 1 : 1;
    memcpy(s->box[0], (int[]){x, 8, x + 9, 19}, sizeof s->box[0]);
    return MCS_OK;
}

static struct sam_train_options sam_options(const char *run)
{
    struct sam_train_options o = mcs_sam_train_defaults();
    o.steps = STEPS, o.warmup = 2, o.checkpoint_every = 4, o.images = 1, o.boxes = 1;
    o.seed = 5, o.run = run, o.config = "a: 1\n";
    return o;
}

static enum mcs_status train_sam(const struct sam_train_options *o, struct source source, char hash[65])
{
    struct sam_model m;
    const struct sam_config tiny = tiny_sam_config();
    OK(mcs_sam_model_new(&tiny, 3, &cpu, &m));
    const enum mcs_status st = mcs_sam_train(&m, o, &(struct sam_train_source){draw, &source});
    if (hash) OK(mcs_weights_sha256(m.params, hash));
    mcs_sam_model_close(&m);
    return st;
}

#define SAM_KEYS "step loss loss_multimask iou lr gradient_norm"

/* A sample is drawn while the device is at the step before: a stop at sample k comes after step k. */
Test(train_lines, sam)
{
    char whole[65], again[65];
    const struct sam_train_options o = sam_options(tiny_path(folder, "sam")),
                                   stopped = sam_options(tiny_path(folder, "stopped"));
    OK(train_sam(&o, (struct source){-1, -1}, whole));
    cr_expect_str_eq(lines_of(o.run), "1 11 13: " SAM_KEYS);
    OK(train_sam(&o, (struct source){-1, -1}, again));
    cr_expect_str_eq(again, whole);
    cr_expect_eq(train_sam(&stopped, (struct source){11, -1}, NULL), MCS_E_STOPPED);
    cr_expect(strstr(mcs_error_message(), "stopped after step 11;"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_stop_reset();
    cr_expect_str_eq(lines_of(stopped.run), "1 11: " SAM_KEYS);
    OK(train_sam(&stopped, (struct source){-1, -1}, again));
    cr_expect_str_eq(again, whole);
    cr_expect_str_eq(lines_of(stopped.run), "1 11 13: " SAM_KEYS);
    /* asked to stop in the last step: it ends as finished */
    const struct sam_train_options last = sam_options(tiny_path(folder, "last"));
    cr_expect_eq(train_sam(&last, (struct source){STEPS, -1}, NULL), MCS_OK);
}

/* A sample that cannot be: the step before it is finished, and the message names the last checkpoint. */
Test(train_lines, sam_fails_after_a_checkpoint)
{
    struct sam_train_options o = sam_options(tiny_path(folder, "failed"));
    cr_expect_eq(train_sam(&o, (struct source){-1, 9}, NULL), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "step 9: a sample with"), "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), "is of step 8"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_str_eq(lines_of(o.run), "1: " SAM_KEYS);
    o.run = tiny_path(folder, "at_once");
    cr_expect_eq(train_sam(&o, (struct source){-1, 0}, NULL), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "there is no checkpoint yet"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect(!mcs_file_exists(tiny_path(o.run, "checkpoint.h5")));
}

/* Each limit of the options: the value just inside is taken, the one just outside is refused. */
Test(train_lines, limits_of_sam)
{
    for (int k = 0; k < 14; k++) {
        struct sam_train_options o = sam_options(tiny_path(folder, "limits_%d", k));
        o.steps = 1;
        if (k == 0) o.steps = 0;
        if (k == 1) o.images = 0;
        if (k == 2) o.boxes = 0;
        if (k == 3) o.images = 2, o.boxes = (1 << 15) + 1;
        if (k == 4) o.lr = 0;
        if (k == 5) o.weight_decay = -1e-9;
        if (k == 6) o.clip_norm = -1e-9;
        if (k == 7) o.warmup = -1;
        if (k == 8) o.n_jitters = 0;
        if (k == 9) o.n_jitters = SAM_TRAIN_JITTERS + 1;
        if (k == 10) o.scale = -1e-9;
        if (k == 11) o.scale = 1;
        if (k == 12) o.weight_decay = 0, o.clip_norm = 0, o.warmup = 0, o.n_jitters = 1, o.scale = 0, o.lr = 1e-9;
        if (k == 13) o.n_jitters = SAM_TRAIN_JITTERS, o.scale = 0.999;
        cr_expect_eq(train_sam(&o, (struct source){-1, -1}, NULL), k < 12 ? MCS_E_USAGE : MCS_OK, "limit %d", k);
        mcs_error_clear();
        cr_expect_eq(mcs_folder_exists(o.run), k >= 12, "a refused training makes no folder");
    }
}

/* ---- CLIP ---- */

Test(train_lines, clip)
{
    struct clip_model m;
    struct pairs pairs;
    struct pair_source source;
    char whole[65], again[65];
    tiny_clip_model(tiny_path(folder, "model"));
    tiny_pairs(tiny_path(folder, "pairs"), 5);
    const struct pairs_options po = {0};
    OK(mcs_pairs_read(tiny_path(folder, "pairs/pairs.csv"), &po, &pairs));
    for (int k = 0; k < 2; k++) {
        OK(mcs_clip_model_open(tiny_path(folder, "model"), &cpu, &m));
        OK(mcs_pair_source_open(&source, &pairs, &m.config, 2, 1, 4));
        const struct clip_train_options o = {.batch = 2,
                                             .steps = STEPS,
                                             .warmup = 3,
                                             .checkpoint_every = 0,
                                             .lr = 1e-3,
                                             .clip_norm = 1,
                                             .loss = {.a = 1},
                                             .seed = 4,
                                             .run = tiny_path(folder, "clip"),
                                             .config = "a: 1\n"};
        OK(mcs_clip_train(&m, &o, &(struct clip_source){mcs_pair_source_fill, &source}, NULL));
        cr_expect_str_eq(lines_of(o.run), "1 6 11 13: step loss lr gradient_norm temperature");
        OK(mcs_weights_sha256(m.params, k ? again : whole));
        mcs_pair_source_close(&source);
        mcs_clip_model_close(&m);
    }
    cr_expect_str_eq(again, whole, "a finished run is not trained further");
    mcs_pairs_free(&pairs);
}
