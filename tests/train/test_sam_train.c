/* Training of SAM with boxes: it learns, a resumed run is bit-identical, boxes are jittered within bounds. */
#include "data/io/file.h"
#include "engine/base/stop.h"
#include "infer/weights.h"
#include "tests/support/support_tiny.h"
#include "train/sam/sam_train.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE = 32 };

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct device cpu;
static char folder[64];

static void setup(void)
{
    OK(mcs_cpu_open(1, &cpu));
    mcs_stop_reset();
    snprintf(folder, sizeof folder, "/tmp/mcs_sam_train_%ld", (long)getpid());
}
static void teardown(void)
{
    char line[128];
    mcs_cpu_close(&cpu);
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(sam_train, .init = setup, .fini = teardown);

/* Context of draw. */
struct rectangles {
    uint32_t stop_at; /* requests a stop while this step's images are drawn */
    int n_targets;
};

/* A bright rectangle on a dark background, different in every image. */
static enum mcs_status draw(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s)
{
    const struct rectangles *rectangles = context;
    const uint32_t k = step * 7 + index * 3 + (uint32_t)seed;
    const int x = 2 + (int)(k % 14), y = 3 + (int)(k * 5 % 13), w = 8 + (int)(k % 5), h = 9 + (int)(k % 4);
    if (rectangles->stop_at && step == rectangles->stop_at) mcs_stop_request();
    memset(s->image, 60, SIZE * SIZE);
    memset(s->mask, 0, SIZE * SIZE);
    for (int r = y; r < y + h; r++) {
        memset(s->image + r * SIZE + x, 200, (size_t)w);
        memset(s->mask + r * SIZE + x, 1, (size_t)w);
    }
    s->n = rectangles->n_targets;
    memcpy(s->box[0], (int[]){x, y, x + w - 1, y + h - 1}, sizeof s->box[0]);
    return MCS_OK;
}

static struct sam_train_options options(const char *run, int64_t steps)
{
    struct sam_train_options o = mcs_sam_train_defaults();
    o.steps = steps;
    o.warmup = 5;
    o.checkpoint_every = 2;
    o.images = 3;
    o.boxes = 2;
    o.lr = 3e-3;
    o.seed = 5;
    o.run = run;
    o.config = "a test";
    return o;
}

static enum mcs_status train(const struct sam_train_options *o, const struct rectangles *rectangles, char hash[65])
{
    struct sam_model m;
    const struct sam_train_source source = {draw, (void *)(uintptr_t)rectangles};
    const struct sam_config tiny = tiny_sam_config();
    OK(mcs_sam_model_new(&tiny, 3, &cpu, &m));
    const enum mcs_status st = mcs_sam_train(&m, o, &source);
    if (hash) OK(mcs_weights_sha256(m.params, hash));
    mcs_sam_model_close(&m);
    return st;
}

static char *at(const char *name)
{
    static char path[4][160];
    static int next;
    next = (next + 1) % 4;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

/* IoU of a mask (logits above 0) with the target. */
static double iou_of(const float *logits, const uint8_t *mask)
{
    int both = 0, any = 0;
    for (int i = 0; i < SIZE * SIZE; i++) {
        both += mask[i] && logits[i] > 0;
        any += mask[i] || logits[i] > 0;
    }
    return (double)both / any;
}

/* Mean IoU of the model's mask and of the filled box on unseen images with boxes jittered as in training. */
static void score(struct sam_model *m, const struct sam_train_options *o, const struct rectangles *rectangles,
                  double *by_model, double *by_box)
{
    enum { CASES = 60 };
    static uint8_t image[SIZE * SIZE], mask[SAM_TRAIN_TARGETS * SIZE * SIZE];
    static float input[SIZE * SIZE * 3], embedding[16 * 16], low[4 * 16 * 16], filled[SIZE * SIZE];
    *by_model = *by_box = 0;
    for (uint32_t k = 0; k < CASES; k++) {
        struct sam_train_sample s = {.image = image, .mask = mask};
        struct sam_prompts prompt = {.has_box = 1};
        struct sam_frame frame;
        struct map2 logits;
        float iou[4];
        OK(draw((void *)(uintptr_t)rectangles, 99, 100000 + k, 0, &s));
        const struct image img = {SIZE, SIZE, 1, image};
        mcs_sam_jitter_box(s.box[0], SIZE, o->jitter[k % (uint32_t)o->n_jitters], o->scale, 99, k, 0, prompt.box);
        OK(mcs_sam_prepare(&m->config, &img, input, &frame));
        OK(mcs_sam_encode_images(m, input, 1, embedding));
        OK(mcs_sam_predict(m, embedding, &frame, 1, &prompt, 1, low, iou));
        OK(mcs_sam_upscale(&m->config, low, &frame, &logits));
        for (int i = 0; i < SIZE * SIZE; i++) {
            const int x = i % SIZE, y = i / SIZE;
            filled[i] = x >= prompt.box[0] && x <= prompt.box[2] && y >= prompt.box[1] && y <= prompt.box[3] ? 1 : -1;
        }
        *by_model += iou_of(logits.values, mask) / CASES;
        *by_box += iou_of(filled, mask) / CASES;
        mcs_map_free(&logits);
    }
}

Test(sam_train, learns_to_segment_the_object_in_the_box)
{
    const struct rectangles rectangles = {.n_targets = 1};
    const struct sam_train_options o = options(at("run"), 120);
    const struct sam_train_source source = {draw, (void *)(uintptr_t)&rectangles};
    const struct sam_config tiny = tiny_sam_config();
    struct sam_model m;
    double untrained, trained, by_box;
    OK(mcs_sam_model_new(&tiny, 3, &cpu, &m));
    score(&m, &o, &rectangles, &untrained, &by_box);
    OK(mcs_sam_train(&m, &o, &source));
    score(&m, &o, &rectangles, &trained, &by_box);
    cr_expect(untrained < 0.2, "IoU %g before training", untrained);
    cr_expect(trained > by_box + 0.15, "IoU %g after training; filling the boxes has %g", trained, by_box);
    mcs_sam_model_close(&m);
}

Test(sam_train, stopped_and_resumed_is_the_same_as_not_stopped)
{
    struct sam_train_options once = options(at("once"), 7), twice = options(at("twice"), 7);
    const struct rectangles rectangles = {.n_targets = 1}, stopping = {.n_targets = 1, .stop_at = 4};
    char whole[65], half[65], resumed[65];
    OK(train(&once, &rectangles, whole));
    cr_expect_eq(train(&twice, &stopping, half), MCS_E_STOPPED);
    cr_expect_str_neq(whole, half);
    mcs_stop_reset();
    mcs_error_clear();
    OK(train(&twice, &rectangles, resumed));
    cr_expect_str_eq(whole, resumed);
    /* A checkpoint of other options is refused. */
    twice.config = "another test";
    cr_expect_eq(train(&twice, &rectangles, NULL), MCS_E_DATA);
}

Test(sam_train, bad_options_and_samples)
{
    const struct rectangles rectangles = {.n_targets = 1}, empty = {.n_targets = 0},
                            many = {.n_targets = SAM_TRAIN_TARGETS + 1};
    struct sam_train_options o = options(at("bad"), 0);
    cr_expect_eq(train(&o, &rectangles, NULL), MCS_E_USAGE);
    mcs_error_clear();
    o = options(at("bad"), 2), o.n_jitters = 0;
    cr_expect_eq(train(&o, &rectangles, NULL), MCS_E_USAGE);
    mcs_error_clear();
    o = options(at("bad"), 2), o.lr = 0;
    cr_expect_eq(train(&o, &rectangles, NULL), MCS_E_USAGE);
    mcs_error_clear();
    o = options(at("bad"), 2);
    cr_expect_eq(train(&o, &empty, NULL), MCS_E_DATA);
    mcs_error_clear();
    cr_expect_eq(train(&o, &many, NULL), MCS_E_DATA);
}

Test(sam_train, jittered_boxes)
{
    static const int boxes[][4] = {
        {40, 50, 60, 90}, {0, 0, 127, 127}, {0, 0, 0, 0}, {127, 127, 127, 127}, {5, 100, 9, 127}};
    double out[4];
    mcs_sam_jitter_box(boxes[0], 128, 0, 0, 1, 2, 3, out);
    for (int k = 0; k < 4; k++) cr_expect_float_eq(out[k], boxes[0][k], 1e-12);
    for (uint32_t i = 0; i < 5; i++)
        for (uint32_t k = 0; k < 500; k++) {
            mcs_sam_jitter_box(boxes[i], 128, 0.8, 0.3, 1, k, i, out);
            cr_assert(out[0] >= 0 && out[1] >= 0 && out[2] <= 127 && out[3] <= 127);
            cr_assert(out[2] - out[0] >= 2 - 1e-9 && out[3] - out[1] >= 2 - 1e-9, "%g %g %g %g", out[0], out[1], out[2],
                      out[3]);
        }
    /* Not clipped, an edge moves by at most jitter times the side. */
    for (uint32_t k = 0; k < 500; k++) {
        mcs_sam_jitter_box(boxes[0], 128, 0.3, 0, 9, k, 0, out);
        for (int j = 0; j < 4; j++) cr_assert_float_eq(out[j], boxes[0][j], 0.3 * (j % 2 ? 41 : 21) + 1e-9);
    }
}
