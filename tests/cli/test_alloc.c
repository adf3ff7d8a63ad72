/* No heap allocation in a step: fine-tuning CLIP, SAM's training and M2IB, between one batch and the next. The U-Net's
 * step is counted in tests/train/test_unet_train.c. Counts only calls from this program's code, which includes all of
 * mcsam; libraries are not counted (oneDNN's sgemm and stdio allocate internally). */
#include "engine/tape/exec.h"
#include "infer/clip/saliency.h"
#include "tests/support/support_malloc.h"
#include "tests/support/support_sessions.h"
#include "tests/support/support_tiny.h"
#include "train/clip/clip_train.h"
#include "train/sam/sam_train.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
#define VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"

/* first_caller: code address of the first counted call, for addr2line -e build/test_alloc. */
static void expect(const char *what, int steps, int by_step)
{
    counting = 0;
    cr_expect_gt(steps, 0, "%s: nothing was counted", what);
    cr_expect_eq(n_allocations, steps * by_step, "%s: %d allocations in %d steps, the first at program + 0x%zx", what,
                 n_allocations, steps, first_caller ? (size_t)(first_caller - program) : 0);
}

static struct device cpu;
static const char *folder;

static void setup(void)
{
#ifdef MCS_SANITIZE
    cr_skip_test("the sanitizer's own heap is in the way");
#endif
    folder = tiny_folder("alloc");
    OK(mcs_cpu_open(2, &cpu));
}
static void teardown(void)
{
    mcs_cpu_close(&cpu);
    tiny_remove(folder);
}
TestSuite(alloc, .init = setup, .fini = teardown);

/* Checks the counter itself: without it the other tests would prove nothing. */
Test(alloc, own_calls_are_counted)
{
    counting = 1;
    void *volatile p = malloc(10);
    free(p);
    p = calloc(2, 5);
    free(p);
    counting = 0;
    cr_expect_eq(n_allocations, 2);
    cr_expect_neq(first_caller, NULL);
}

/* ---- CLIP ---- */

enum { BATCH = 4, STEPS = 12, WARM = 2 };
static int counted_steps;
static int64_t fills;

/* Counting begins when a batch is in the graph's inputs, with its texts tokenized, and ends when the next one is
 * requested: the step, the optimizer, the log line. */
static enum mcs_status fill_pairs(void *context, int64_t step, struct clip_batch *b)
{
    static const char *const captions[BATCH] = {"a bright lesion", "a dark lesion", "left side", "the right side"};
    const int64_t pixels = *(const int64_t *)context;
    counting = 0;
    if (step > WARM) counted_steps++;
    for (int64_t i = 0; i < BATCH * pixels; i++) b->images[i] = (float)((i * 7 + step * 3) % 17) / 8 - 1;
    for (int i = 0; i < BATCH; i++) b->texts[i] = captions[(i + step) % BATCH], b->sample[i] = i;
    fills = step;
    return MCS_OK;
}

static int no_loss(void *context, struct graph *g, const struct clip_nodes *n, struct tensor *loss[CLIP_MAX_EXTRA],
                   float weight[CLIP_MAX_EXTRA], const char *name[CLIP_MAX_EXTRA])
{
    return 0;
}

static enum mcs_status inputs_are_set(void *context, int session, struct exec *e)
{
    counting = fills >= WARM && fills + 1 < STEPS;
    return MCS_OK;
}

Test(alloc, fine_tuning, .timeout = 60)
{
    const struct clip_config c = tiny_clip_config();
    struct clip_model m;
    int64_t pixels = (int64_t)c.image_size * c.image_size * 3;
    OK(mcs_clip_model_new(&c, VOCABULARY, 1, &cpu, NULL, &m));
    const struct clip_train_options o = {.batch = BATCH,
                                         .steps = STEPS,
                                         .warmup = 2,
                                         .lr = 1e-3,
                                         .weight_decay = 0.1,
                                         .clip_norm = 1,
                                         .loss = {.b_image = 0.15f, .b_text = 0.15f},
                                         .seed = 1,
                                         .run = tiny_path(folder, "run"),
                                         .config = "alloc"};
    OK(mcs_clip_train(&m, &o, &(struct clip_source){fill_pairs, &pixels},
                      &(struct clip_extra){.build = no_loss, .fill = inputs_are_set}));
    expect("fine-tuning", counted_steps, 0);
    mcs_clip_model_close(&m);
}

/* ---- SAM ---- */

enum { SIZE = 32, IMAGES = 2 };

static enum mcs_status draw(void *context, uint64_t seed, uint32_t step, uint32_t index, struct sam_train_sample *s)
{
    counting = 0;
    if (step > WARM && index == 0) counted_steps++;
    memset(s->image, 60, SIZE * SIZE);
    memset(s->mask, 0, SIZE * SIZE);
    for (int y = 8; y < 20; y++) memset(s->image + y * SIZE + 6, 200, 12), memset(s->mask + y * SIZE + 6, 1, 12);
    s->n = 1;
    memcpy(s->box[0], (int[]){6, 8, 17, 19}, sizeof s->box[0]);
    counting = step >= WARM && step + 1 < STEPS && index + 1 == IMAGES;
    return MCS_OK;
}

Test(alloc, sam_training, .timeout = 60)
{
    const struct sam_config c = tiny_sam_config();
    struct sam_model m;
    struct sam_train_options o = mcs_sam_train_defaults();
    o.steps = STEPS, o.warmup = 2, o.images = IMAGES, o.boxes = 2, o.checkpoint_every = 0, o.seed = 1;
    o.run = tiny_path(folder, "run"), o.config = "alloc";
    OK(mcs_sam_model_new(&c, 3, &cpu, &m));
    OK(mcs_sam_train(&m, &o, &(struct sam_train_source){draw, NULL}));
    /* One: the last image of the batch is still to be prepared by the loader. */
    expect("SAM's training", counted_steps, 1);
    mcs_sam_model_close(&m);
}

/* Twenty images: a full batch and a padded one. (The tokenizer of texts allocates.) */
Test(alloc, embeddings, .timeout = 60)
{
    enum { IMAGES = 20, CALLS = 3 };
    const struct clip_config c = tiny_clip_config();
    const int64_t pixels = (int64_t)c.image_size * c.image_size * 3;
    float *images = calloc((size_t)(IMAGES * pixels), sizeof *images),
          *out = malloc((size_t)(IMAGES * c.embed) * sizeof *out);
    struct clip_model m;
    cr_assert(images && out);
    OK(mcs_clip_model_new(&c, VOCABULARY, 1, &cpu, NULL, &m));
    for (int i = 0; i < CALLS; i++) {
        counting = i > 0;
        OK(mcs_clip_embed_images(&m, images, IMAGES, 1, out));
    }
    expect("embeddings", CALLS - 1, 0);
    mcs_clip_model_close(&m);
    free(images);
    free(out);
}

/* ---- M2IB ---- */

static void after_step(void *context, int step, const float *alpha)
{
    const struct saliency_options *o = context;
    if (counting) counted_steps++;
    counting = step + 3 < o->steps; /* after the last update the map is allocated */
}

Test(alloc, saliency, .timeout = 60)
{
    const struct clip_config c = tiny_clip_config();
    struct saliency_options o = mcs_saliency_defaults();
    struct clip_model m;
    struct image img;
    o.pairs = 2;
    o.copies = 3;
    o.on_alpha = after_step, o.on_alpha_ctx = &o;
    OK(mcs_clip_model_new(&c, VOCABULARY, 1, &cpu, NULL, &m));
    OK(mcs_image_alloc(&img, 20, 20, 1));
    for (int i = 0; i < 400; i++) img.pixels[i] = (uint8_t)(i * 7);
    struct saliency_case cases[2] = {{.image = &img, .text = "a bright lesion", .key = 1},
                                     {.image = &img, .text = "a dark lesion", .key = 2}};
    OK(saliency_once(&m, &o, cases, 2));
    expect("saliency", counted_steps, 0);
    for (int i = 0; i < 2; i++) mcs_map_free(&cases[i].map);
    mcs_image_free(&img);
    mcs_clip_model_close(&m);
}
