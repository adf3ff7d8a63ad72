/* Training of CLIP: six steps against open_clip's loss and recipe with torch's AdamW (tests/golden/make_clip_train.py);
 * a model learns the pairs that it is trained on. */
#include "data/io/file.h"
#include "data/io/store.h"
#include "engine/base/rng.h"
#include "tests/golden/formula.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_tiny.h"
#include "train/clip/finetune.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;
static struct device cpu;

static void setup(void)
{
    folder = tiny_folder("clip_train");
    OK(mcs_cpu_open(1, &cpu));
    /* Token w17 has id 17. */
    FILE *f = fopen(tiny_path(folder, "vocab.txt"), "w");
    cr_assert(f);
    fprintf(f, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n");
    for (int i = 4; i < 64; i++) fprintf(f, "w%d\n", i);
    cr_assert_eq(fclose(f), 0);
}

static void teardown(void)
{
    mcs_cpu_close(&cpu);
    tiny_remove(folder);
}
TestSuite(clip_train, .init = setup, .fini = teardown);

/* ---- golden steps ---- */

enum { BATCH = 5, STEPS = 6, SIDE = 32, MAX_WORDS = 12, KEPT = 24 };
static const double LR = 1e-3;

/* The file's token ids as words. */
static enum mcs_status golden_batch(void *context, int64_t step, struct clip_batch *b)
{
    static char text[STEPS][BATCH][8 * MAX_WORDS];
    const struct weight_file *file = context;
    char name[32];
    cr_assert(b->first == 0 && b->n == BATCH && step < STEPS);
    snprintf(name, sizeof name, "input.images.%d", (int)step);
    golden_fill_image(name, BATCH, 3, SIDE * SIDE, b->images);
    snprintf(name, sizeof name, "ids.%d", (int)step);
    float *ids = golden_values(file, name, NULL);
    for (int i = 0; i < BATCH; i++) {
        char *t = text[step][i];
        size_t n = 0;
        for (int k = 1; ids[i * MAX_WORDS + k] != 3; k++)
            n += (size_t)snprintf(t + n, sizeof text[0][0] - n, "w%d ", (int)ids[i * MAX_WORDS + k]);
        b->texts[i] = t;
        b->sample[i] = (int32_t)step * BATCH + i;
    }
    free(ids);
    return MCS_OK;
}

/* A value of the log's line for `step`. */
static double logged(const char *run, int step, const char *key)
{
    char *text;
    double v = NAN;
    int64_t n;
    OK(mcs_file_read(tiny_path(run, "metrics.jsonl"), 1 << 20, &text, &n));
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        json_t *o = json_loads(line, 0, NULL);
        if (json_integer_value(json_object_get(o, "step")) == step) v = json_number_value(json_object_get(o, key));
        json_decref(o);
    }
    free(text);
    cr_assert(!isnan(v), "no %s of step %d", key, step);
    return v;
}

/* golden: name of the file's values per step. The first and the last step are logged. */
static void expect_logged(const char *run, const struct weight_file *file, const char *name, const char *key,
                          const char *golden, double relative)
{
    char full[64];
    snprintf(full, sizeof full, "%s.%s", name, golden);
    float *want = golden_values(file, full, NULL);
    for (int step = 0; step < STEPS; step += STEPS - 1) {
        const double v = logged(run, step + 1, key), w = (double)want[step];
        cr_expect_float_eq(v, w, relative * fabs(w), "%s: %s of step %d is %.9g, want %.9g", name, key, step + 1, v, w);
    }
    free(want);
}

/* Checks the change of the weights relative to the sum of the learning rates, which is the change of an element whose
 * gradient keeps its sign. Each step rounds a weight to a relative 2^-24: 6 times 3.6e-8 of 4e-3, below 5e-5, bounds
 * the mean. Gradients agree to about 1e-6 of a tensor's largest, and Adam divides each element by its magnitude: an
 * element of a thousandth of the largest has an error of 1e-3. A key's bias has gradient 0 in exact arithmetic:
 * rounding gives 1e-8 / (1e-8 + eps), eps 1e-6. */
static void expect_moved(const char *name, const struct weight_file *file, const struct params *p, const float *before)
{
    const double way = LR * (0.5 + 1 + 1 + 0.8535533905932737 + 0.5 + 0.1464466094067263);
    int n_tensors = 0;
    for (int i = 0; i < p->n; i++) {
        char full[160];
        const struct tensor *t = p->t[i];
        int64_t n;
        snprintf(full, sizeof full, "%s.moved.%s", name, t->name);
        float *want = golden_values(file, full, &n);
        const int64_t first = t->offset / (int64_t)sizeof(float), every = mcs_count(t) > KEPT ? mcs_count(t) / KEPT : 1;
        const int keys = strstr(t->name, "key.bias") || strstr(t->name, "qkv.bias");
        double worst = 0, mean = 0;
        cr_assert_eq(n, mcs_count(t) < KEPT ? mcs_count(t) : KEPT, "%s", t->name);
        for (int64_t k = 0; k < n; k++) {
            const double moved = (double)p->data[first + k * every] - (double)before[first + k * every],
                         e = fabs(moved - (double)want[k]) / way;
            worst = e <= worst ? worst : e; /* propagates NaN */
            mean += e / (double)n;
        }
        cr_expect(worst <= (keys ? 3e-2 : 1e-3), "%s: %s moved otherwise by %.3g of its way", name, t->name, worst);
        cr_expect(keys || mean <= 5e-5, "%s: %s moved otherwise by %.3g of its way on average", name, t->name, mean);
        n_tensors++;
        free(want);
    }
    cr_expect_eq(n_tensors, 71);
}

static struct clip_train_options golden_options(const struct contrastive_attr *loss, double clip_norm)
{
    return (struct clip_train_options){.batch = BATCH,
                                       .steps = STEPS,
                                       .warmup = 2,
                                       .lr = LR,
                                       .weight_decay = 0.2,
                                       .clip_norm = clip_norm,
                                       .loss = *loss,
                                       .run = tiny_path(folder, "run"),
                                       .config = "golden"};
}

static void check_golden(const char *name, const struct contrastive_attr *loss, float start, double clip_norm)
{
    struct weight_file *file = golden_open("clip_train.safetensors");
    struct clip_config c = golden_clip_config(2);
    c.vocab = 0; /* the vocabulary file's */
    const struct clip_train_options o = golden_options(loss, clip_norm);
    struct clip_model m;
    OK(mcs_clip_model_new(&c, tiny_path(folder, "vocab.txt"), 1, &cpu, NULL, &m));
    golden_fill_params(m.params);
    const struct tensor *scale = mcs_params_find(m.params, "logit_scale");
    cr_assert(scale);
    *(float *)scale->data = start;
    const size_t bytes = (size_t)m.params->n_values * sizeof(float);
    float *before = malloc(bytes);
    cr_assert(before);
    memcpy(before, m.params->data, bytes);
    OK(mcs_clip_train(&m, &o, &(struct clip_source){golden_batch, file}, NULL));
    /* loss: 1e-5 for the towers (test_clip_model.c), doubled because the last step's weights were rounded in every
     * step; the gradient's norm is a sum of squares, each accurate to 1e-5 */
    expect_logged(o.run, file, name, "loss", "loss", 2e-5);
    expect_logged(o.run, file, name, "lr", "lr", 1e-7);
    expect_logged(o.run, file, name, "gradient_norm", "norm", 2e-5);
    expect_moved(name, file, m.params, before);
    free(before);
    mcs_clip_model_close(&m);
    mcs_weight_file_close(file);
}

static const struct contrastive_attr infonce = {.a = 1},
                                     dhnnce = {.b_image = 0.15f, .b_text = 0.15f, .inv_tau = 1 / 0.6f};

Test(clip_train, infonce_with_clipped_gradients_equals_open_clip)
{
    check_golden("infonce", &infonce, 2.6593f, 1);
}

/* The mean of both directions halves loss and gradient. */
Test(clip_train, mean_of_both_directions_is_half_their_sum)
{
    double loss[2], norm[2];
    struct weight_file *file = golden_open("clip_train.safetensors");
    struct clip_config c = golden_clip_config(2);
    c.vocab = 0; /* the vocabulary file's */
    for (int mean = 0; mean < 2; mean++) {
        struct clip_model m;
        struct clip_train_options o = golden_options(&infonce, 1);
        o.steps = 1, o.mean_directions = mean, o.run = tiny_path(folder, mean ? "mean" : "sum");
        OK(mcs_clip_model_new(&c, tiny_path(folder, "vocab.txt"), 1, &cpu, NULL, &m));
        golden_fill_params(m.params);
        OK(mcs_clip_train(&m, &o, &(struct clip_source){golden_batch, file}, NULL));
        loss[mean] = logged(o.run, 1, "loss"), norm[mean] = logged(o.run, 1, "gradient_norm");
        mcs_clip_model_close(&m);
    }
    cr_expect_float_eq(loss[1], loss[0] / 2, 1e-6);
    cr_expect_float_eq(norm[1], norm[0] / 2, 1e-6);
    mcs_weight_file_close(file);
}

/* The log scale starts outside of its bounds, so it is clamped in the first step. */
Test(clip_train, temperature_is_clamped_from_below_as_in_open_clip)
{
    check_golden("hot", &infonce, -0.01f, 0);
}

Test(clip_train, temperature_is_clamped_from_above_as_in_open_clip)
{
    check_golden("cold", &infonce, 4.7f, 1);
}

Test(clip_train, dhnnce_equals_the_published_loss)
{
    check_golden("dhnnce", &dhnnce, 2.6593f, 3.5);
}

/* ---- learning ---- */

/* 16 kinds of images that a tiny model can distinguish: red, green and blue low or high, stripes horizontal or
 * vertical.
 */
enum { KINDS = 16, COPIES = 3, PICTURE = 16, WORDS = 4 };

/* The noise is keyed by `copy`, so that images to train on and to test on differ. */
static void picture(int kind, uint32_t copy, struct image *img)
{
    const struct mcs_rng r = {.seed = 5, .site = 1, .sample = (uint32_t)kind, .step = copy};
    OK(mcs_image_alloc(img, PICTURE, PICTURE, 3));
    for (int i = 0; i < PICTURE * PICTURE * 3; i++) {
        const int channel = i % 3, line = (kind >> 3 ? i / 3 % PICTURE : i / 3 / PICTURE) / 2;
        const int level = (kind >> channel & 1 ? 190 : 60) + (line & 1 ? 35 : -35);
        img->pixels[i] = (uint8_t)(level + (int)mcs_rng_below(r, (uint32_t)i, 20));
    }
}

/* A word for each of the four properties. */
static const char *caption(int kind, char text[8 * WORDS])
{
    size_t n = 0;
    for (int k = 0; k < WORDS; k++) n += (size_t)snprintf(text + n, 8, "w%d ", 10 + 2 * k + (kind >> k & 1));
    return text;
}

static void write_pairs(int shift)
{
    char text[8 * WORDS];
    FILE *f = fopen(tiny_path(folder, "pairs.csv"), "w");
    cr_assert(f);
    fprintf(f, "filename,Caption\n");
    for (int i = 0; i < COPIES * KINDS; i++) {
        struct image img;
        picture(i % KINDS, 1 + (uint32_t)(i / KINDS), &img);
        OK(mcs_image_write_png(tiny_path(folder, "k%02d.png", i), &img));
        mcs_image_free(&img);
        fprintf(f, "k%02d.png,%s\n", i, caption((i + shift) % KINDS, text));
    }
    cr_assert_eq(fclose(f), 0);
}

/* Recall at 1 on images with other noise than in training. */
static double found(struct clip_model *m)
{
    enum { EMBED = 8 };
    static float images[KINDS * PICTURE * PICTURE * 3], image_out[KINDS * EMBED], text_out[KINDS * EMBED];
    char text[KINDS][8 * WORDS];
    const char *texts[KINDS];
    int n = 0;
    for (int k = 0; k < KINDS; k++) {
        struct image img;
        picture(k, 0, &img);
        OK(mcs_clip_prepare(&m->config, &img, CLIP_VIEW_WHOLE, images + k * PICTURE * PICTURE * 3));
        mcs_image_free(&img);
        texts[k] = caption(k, text[k]);
    }
    OK(mcs_clip_embed_images(m, images, KINDS, 1, image_out));
    OK(mcs_clip_embed_texts(m, texts, KINDS, 1, text_out));
    for (int k = 0; k < KINDS; k++) {
        double own = 0, other = -INFINITY;
        for (int j = 0; j < KINDS; j++) {
            double dot = 0;
            for (int e = 0; e < EMBED; e++) dot += (double)image_out[k * EMBED + e] * (double)text_out[j * EMBED + e];
            if (j == k) own = dot;
            if (j != k) other = fmax(other, dot);
        }
        n += own > other;
    }
    return (double)n / KINDS;
}

struct session {
    struct pairs pairs;
    struct pair_source source;
    struct clip_model m;
    struct clip_train_options o;
};

/* A new model and the pairs; each image gets the caption of the kind `shift` positions later. */
static void session_open(struct session *s, const struct contrastive_attr *loss, int64_t steps, int shift)
{
    const struct pairs_options po = {0};
    struct clip_config c = tiny_clip_config();
    c.dropout = 0;
    write_pairs(shift);
    OK(mcs_clip_model_new(&c, tiny_path(folder, "vocab.txt"), 1, &cpu, NULL, &s->m));
    OK(mcs_pairs_read(tiny_path(folder, "pairs.csv"), &po, &s->pairs));
    OK(mcs_pair_source_open(&s->source, &s->pairs, &s->m.config, 16, 0.9, 3));
    s->o = (struct clip_train_options){.batch = 16,
                                       .steps = steps,
                                       .warmup = 10,
                                       .lr = 5e-3,
                                       .weight_decay = 0.1,
                                       .clip_norm = 1,
                                       .loss = *loss,
                                       .seed = 3,
                                       .run = tiny_path(folder, "run"),
                                       .config = "learns"};
}

static enum mcs_status session_train(struct session *s)
{
    return mcs_clip_train(&s->m, &s->o, &(struct clip_source){mcs_pair_source_fill, &s->source}, NULL);
}

static void session_close(struct session *s)
{
    mcs_pair_source_close(&s->source);
    mcs_pairs_free(&s->pairs);
    mcs_clip_model_close(&s->m);
}

static double learned(const struct contrastive_attr *loss, int shift)
{
    struct session s;
    session_open(&s, loss, 100, shift);
    const double untrained = found(&s.m);
    cr_expect(untrained < 0.25, "before training %g: chance is 1/16", untrained);
    OK(session_train(&s));
    const double share = found(&s.m);
    session_close(&s);
    return share;
}

/* Chance level is 1 of 16. A model trained with shifted captions retrieves the shifted ones, not these. */
Test(clip_train, learns_the_captions_of_its_images_by_infonce)
{
    const double share = learned(&infonce, 0);
    cr_expect(share > 0.8, "%g found", share);
}

Test(clip_train, learns_the_captions_of_its_images_by_dhnnce)
{
    const double share = learned(&dhnnce, 0);
    cr_expect(share > 0.6, "%g found", share);
}

Test(clip_train, learns_nothing_from_captions_of_other_images)
{
    const double share = learned(&infonce, 5);
    cr_expect(share < 0.15, "%g found", share);
}

/* ---- options ---- */

Test(clip_train, frozen_parameters_stay)
{
    static const char *const frozen[] = {"visual.", "text.transformer.embeddings.", NULL};
    struct session s;
    session_open(&s, &infonce, 3, 0);
    s.o.frozen = frozen;
    const size_t bytes = (size_t)s.m.params->n_values * sizeof(float);
    float *before = malloc(bytes);
    cr_assert(before);
    memcpy(before, s.m.params->data, bytes);
    OK(session_train(&s));
    for (int i = 0; i < s.m.params->n; i++) {
        const struct tensor *t = s.m.params->t[i];
        const int same =
            !memcmp(t->data, before + t->offset / (int64_t)sizeof(float), (size_t)mcs_count(t) * sizeof(float));
        const int stays =
            !strncmp(t->name, frozen[0], strlen(frozen[0])) || !strncmp(t->name, frozen[1], strlen(frozen[1]));
        cr_expect_eq(same, stays, "%s %s", t->name, same ? "stayed" : "moved");
    }
    free(before);
    session_close(&s);
}

/* The logged shares of attracted negatives are those of the first batch under the first weights. */
Test(clip_train, diagnosis_of_the_first_batch)
{
    enum { B = 16, EMBED = 8, VALUES = PICTURE * PICTURE * 3 };
    static float images[B * VALUES], image_out[B * EMBED], text_out[B * EMBED];
    const char *texts[B];
    int32_t sample[B];
    struct clip_batch batch = {.n = B, .images = images, .texts = texts, .sample = sample};
    struct attraction paper, released;
    struct session s;
    session_open(&s, &dhnnce, 1, 0);
    s.o.diagnose = 1;
    OK(mcs_pair_source_fill(&s.source, 0, &batch));
    OK(mcs_clip_embed_images(&s.m, images, B, 1, image_out));
    OK(mcs_clip_embed_texts(&s.m, texts, B, 1, text_out));
    cr_assert_eq(mcs_clip_attracted(image_out, text_out, B, EMBED, 1 / 0.6, 0.15, 0.15, &paper, &released), MCS_OK);
    OK(session_train(&s));
    /* embeddings agree to 1e-5, and so does the share of the gradient; the count may differ by one pair of 240 */
    cr_expect_float_eq(logged(s.o.run, 1, "attracted_paper"), paper.share, 1.5 / 240);
    cr_expect_float_eq(logged(s.o.run, 1, "attracted_release"), released.share, 1.5 / 240);
    cr_expect_float_eq(logged(s.o.run, 1, "pull_paper"), paper.pull, 1e-4);
    cr_expect_float_eq(logged(s.o.run, 1, "pull_release"), released.pull, 1e-4);
    session_close(&s);
}

/* Pairs whose images are NaN from the third step on. */
static enum mcs_status fill_until_damaged(void *source, int64_t step, struct clip_batch *b)
{
    const enum mcs_status st = mcs_pair_source_fill(source, step, b);
    if (step >= 2) b->images[5] = NAN;
    return st;
}

Test(clip_train, a_loss_that_is_not_finite_keeps_the_last_checkpoint)
{
    struct session s;
    struct store *state;
    int64_t step = 0;
    const int64_t one = 1;
    session_open(&s, &infonce, 5, 0);
    s.o.checkpoint_every = 1;
    cr_expect_eq(mcs_clip_train(&s.m, &s.o, &(struct clip_source){fill_until_damaged, &s.source}, NULL), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "step 3: loss is not finite"), "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), "checkpoint.h5, is of step 2"), "%s", mcs_error_message());
    mcs_error_clear();
    OK(mcs_store_open(tiny_path(s.o.run, "checkpoint.h5"), &state));
    OK(mcs_store_get(state, "step", MCS_ARRAY_I64, 1, &one, &step));
    cr_expect_eq(step, 2);
    mcs_store_close(state);
    session_close(&s);
}

Test(clip_train, impossible_options_are_refused)
{
    struct session s;
    session_open(&s, &infonce, 3, 0);
    s.o.batch = 1;
    cr_expect_eq(session_train(&s), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "at least 2"), "%s", mcs_error_message());
    mcs_error_clear();
    s.o.batch = 16, s.o.lr = 1e30, s.o.warmup = 0, s.o.clip_norm = 0;
    cr_expect_eq(session_train(&s), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "not finite"), "%s", mcs_error_message());
    cr_expect(strstr(mcs_error_message(), "there is no checkpoint yet"), "%s", mcs_error_message());
    mcs_error_clear();
    session_close(&s);
}
