/* Runs two steps of the trainings behind demo-start, by each recipe, and compares losses, gradient norms and written
 * files with tests/expected/demo_start_*.txt. A loss is a float32 sum of at most 4,000 terms, so another summation
 * order (threads, SIMD width) changes it by at most 4,000 * 2^-24 = 2.4e-4 of the sum of the terms' sizes. */
#include "data/io/file.h"
#include "data/lesions/demo_config.h"
#include "engine/backend.h"
#include "engine/base/log.h"
#include "tests/support/support_expected.h"
#include "train/demo/start_models.h"

#include <criterion/criterion.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOSS_TOLERANCE 2.4e-4

static char folder[] = "/tmp/mcs_demo_start_XXXXXX";

/* A file of the run, and its expected text. */
struct written {
    const char *file, *expected;
    double tolerance;
};

/* Runs `make` for two steps by a recipe and checks the files that it wrote. */
static void check(enum mcs_status (*make)(const struct demo_start_options *), enum demo_recipe recipe,
                  const struct written *files, int n_files)
{
    struct device d;
    char path[256], *text;
    int64_t n;
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
    omp_set_num_threads(2);
    cr_assert_eq(mcs_cpu_open(2, &d), MCS_OK);
    const struct demo_start_options o = {.out = folder,
                                         .config = "test: 1\n",
                                         .steps = 2,
                                         .batch = 3,
                                         .seed = 5,
                                         .checkpoint_every = 1,
                                         .lr = 0.001,
                                         .data = mcs_demo_config_default(),
                                         .recipe = recipe,
                                         .device = &d};
    cr_assert_eq(make(&o), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < n_files; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i].file);
        cr_assert_eq(mcs_file_read(path, 1 << 20, &text, &n), MCS_OK, "%s", mcs_error_message());
        for (char *p = text; *p; p++) /* each number becomes a separate word */
            if (strchr("{}[]:\"", *p)) *p = ' ';
        expected_check_within(files[i].expected, text, files[i].tolerance);
        free(text);
    }
    mcs_device_close(&d);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    cr_assert_eq(system(path), 0);
}

Test(demo_start, clip)
{
    static const struct written files[] = {{"metrics.jsonl", "demo_start_clip.txt", LOSS_TOLERANCE},
                                           {"model/open_clip_config.json", "demo_start_clip_config.txt", 0}};
    check(mcs_demo_start_clip, DEMO_RECIPE_MASKS, files, 2);
}

/* The evaluation has four decimals; its DSCs are a few hundredths. */
Test(demo_start, sam)
{
    static const struct written files[] = {{"metrics.jsonl", "demo_start_sam.txt", LOSS_TOLERANCE},
                                           {"evaluation.json", "demo_start_sam_dsc.txt", 0.01}};
    check(mcs_demo_start_sam, DEMO_RECIPE_MASKS, files, 2);
}

/* Their losses are those of pairs: none is of masks or attention guidance. */
Test(demo_start, recipes_without_masks)
{
    static const struct written captions[] = {{"metrics.jsonl", "demo_start_captions.txt", LOSS_TOLERANCE}};
    static const struct written tokens[] = {{"metrics.jsonl", "demo_start_tokens.txt", LOSS_TOLERANCE}};
    check(mcs_demo_start_clip, DEMO_RECIPE_CAPTIONS, captions, 1);
    strcpy(strrchr(folder, '_'), "_XXXXXX");
    check(mcs_demo_start_clip, DEMO_RECIPE_TOKENS, tokens, 1);
}

/* A training that goes on from the shipped weights tells the first batch's three pairs apart at once: the loss of
 * random weights is near 2 log 3 = 2.2. */
Test(demo_start, continued)
{
    struct device d;
    char path[256], *text, *at;
    int64_t n;
    mcs_log_quiet(1);
    cr_assert(mkdtemp(folder));
    cr_assert_eq(mcs_cpu_open(2, &d), MCS_OK);
    const struct demo_start_options o = {.out = folder,
                                         .config = "test: 1\n",
                                         .steps = 1,
                                         .batch = 3,
                                         .seed = 5,
                                         .lr = 0.001,
                                         .data = mcs_demo_config_default(),
                                         .from = MCS_SOURCE_DIR "/data/demo/clip",
                                         .device = &d};
    cr_assert_eq(mcs_demo_start_clip(&o), MCS_OK, "%s", mcs_error_message());
    snprintf(path, sizeof path, "%s/metrics.jsonl", folder);
    cr_assert_eq(mcs_file_read(path, 1 << 20, &text, &n), MCS_OK);
    at = strstr(text, "\"loss\": ");
    cr_assert(at);
    cr_expect_lt(strtod(at + 8, NULL), 1.1, "%s", text);
    free(text);
    mcs_device_close(&d);
    snprintf(path, sizeof path, "rm -rf %s", folder);
    cr_assert_eq(system(path), 0);
}

/* ---- weights of another model ---- */

static void open_device(struct device *d)
{
    mcs_log_quiet(1);
    omp_set_num_threads(2);
    cr_assert_eq(mcs_cpu_open(2, d), MCS_OK);
}

/* A new model whose vocabulary is the shipped one in another order (special tokens first), and a word more. */
static void make_other(struct device *d, struct clip_model *m)
{
    char path[] = "/tmp/mcs_demo_words_XXXXXX", *text, *line[512], other[8192];
    int64_t n;
    int n_lines = 0;
    struct clip_config c = mcs_demo_clip_config();
    cr_assert_eq(mcs_file_read(MCS_SOURCE_DIR "/data/demo/clip/vocab.txt", 8000, &text, &n), MCS_OK);
    for (char *p = strtok(text, "\n"); p && n_lines < 511; p = strtok(NULL, "\n")) line[n_lines++] = p;
    other[0] = 0;
    for (int i = 0; i < n_lines; i++) {
        strcat(other, line[i < 5 ? i : n_lines + 4 - i]);
        strcat(other, "\n");
    }
    strcat(other, "zebra\n");
    close(mkstemp(path));
    cr_assert_eq(mcs_file_write(path, other, (int64_t)strlen(other)), MCS_OK);
    cr_assert_eq(mcs_clip_model_new(&c, path, 3, d, NULL, m), MCS_OK, "%s", mcs_error_message());
    unlink(path);
    free(text);
}

Test(demo_start, words_are_matched_by_name)
{
    static const char *const texts[2] = {"axial t1 mri showing a small dark lesion", "zebra"};
    enum { EMBED = 128 };
    float want[EMBED], got[2 * EMBED], before[2 * EMBED];
    struct device d;
    struct clip_model shipped, other;
    open_device(&d);
    cr_assert_eq(mcs_clip_model_open(MCS_SOURCE_DIR "/data/demo/clip", &d, &shipped), MCS_OK);
    make_other(&d, &other);
    cr_assert_eq(mcs_tokenizer_n_pieces(other.tokenizer), mcs_tokenizer_n_pieces(shipped.tokenizer) + 1);
    cr_assert_neq(mcs_tokenizer_id(other.tokenizer, "dark"), mcs_tokenizer_id(shipped.tokenizer, "dark"));
    cr_assert_eq(mcs_clip_embed_texts(&shipped, texts, 1, 1, want), MCS_OK);
    const struct tensor *table = NULL;
    for (int i = 0; i < other.params->n; i++)
        if (strstr(other.params->t[i]->name, "word_embeddings")) table = other.params->t[i];
    cr_assert(table);
    const float *zebra = (const float *)table->data + mcs_tokenizer_id(other.tokenizer, "zebra") * table->dim[1];
    memcpy(before, zebra, sizeof(float) * EMBED);
    cr_assert_eq(mcs_demo_start_from(MCS_SOURCE_DIR "/data/demo/clip", &other), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(memcmp(before, zebra, sizeof(float) * EMBED), 0, "a word that the folder lacks keeps its values");
    cr_assert_eq(mcs_clip_embed_texts(&other, texts, 1, 1, got), MCS_OK);
    /* the same numbers in the same order of operations */
    for (int i = 0; i < EMBED; i++) cr_assert_float_eq(got[i], want[i], 1e-6, "%d: %g, want %g", i, got[i], want[i]);
    mcs_clip_model_close(&other);
    mcs_clip_model_close(&shipped);
    mcs_device_close(&d);
}

Test(demo_start, a_model_of_other_sizes_is_refused)
{
    struct device d;
    struct clip_model m;
    struct clip_config c = mcs_demo_clip_config();
    open_device(&d);
    c.v_mlp = 256;
    cr_assert_eq(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/data/demo/clip/vocab.txt", 3, &d, NULL, &m), MCS_OK);
    cr_expect_eq(mcs_demo_start_from(MCS_SOURCE_DIR "/data/demo/clip", &m), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "mlp"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_eq(mcs_demo_start_from("/nowhere", &m), MCS_E_NOINPUT);
    mcs_clip_model_close(&m);
    mcs_device_close(&d);
}
