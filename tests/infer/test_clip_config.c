/* CLIP's sizes in open_clip_config.json: BiomedCLIP's values are the defaults, each key has limits, and a saved model
 * reads back the same. */
#include "data/io/file.h"
#include "infer/clip/clip_model.h"
#include "infer/weights.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(":", "");
    OK(mcs_folder_make(shell_path("m")));
}
TestSuite(clip_config, .init = setup, .fini = shell_close);

/* Every size with its group and key in the file, its value in microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224,
 * and another valid value. */
static const struct {
    const char *group, *key;
    size_t at;
    int biomed, other;
} sizes[] = {
#define SIZE(group, key, field, biomed, other)                                                                         \
    {                                                                                                                  \
        group, key, offsetof(struct clip_config, field), biomed, other                                                 \
    }
    SIZE("", "embed_dim", embed, 512, 24),
    SIZE("vision_cfg", "image_size", image_size, 224, 32),
    SIZE("vision_cfg", "patch_size", patch, 16, 4),
    SIZE("vision_cfg", "width", v_width, 768, 36),
    SIZE("vision_cfg", "layers", v_depth, 12, 5),
    SIZE("vision_cfg", "heads", v_heads, 12, 6),
    SIZE("vision_cfg", "mlp_width", v_mlp, 3072, 44),
    SIZE("text_cfg", "context_length", context, 256, 10),
    SIZE("text_cfg", "vocab_size", vocab, 30522, 99),
    SIZE("text_cfg", "positions", positions, 512, 11),
    SIZE("text_cfg", "types", types, 2, 3),
    SIZE("text_cfg", "width", t_width, 768, 40),
    SIZE("text_cfg", "layers", t_depth, 12, 7),
    SIZE("text_cfg", "heads", t_heads, 12, 8),
    SIZE("text_cfg", "mlp_width", t_mlp, 3072, 52),
    SIZE("text_cfg", "proj_width", t_proj, 640, 28),
};
enum { N = sizeof sizes / sizeof *sizes };

static int value(const struct clip_config *c, int i)
{
    int v;
    memcpy(&v, (const char *)c + sizes[i].at, sizeof v);
    return v;
}

static enum mcs_status read_text(const char *text, struct clip_config *c)
{
    mcs_error_clear();
    shell_write("m/open_clip_config.json", text);
    return mcs_clip_config_read(shell_path("m"), c);
}

/* Reads a file with a single size. */
static enum mcs_status read_one(int i, const char *number, struct clip_config *c)
{
    char text[256];
    if (*sizes[i].group)
        snprintf(text, sizeof text, "{\"model_cfg\": {\"%s\": {\"%s\": %s}}}", sizes[i].group, sizes[i].key, number);
    else
        snprintf(text, sizeof text, "{\"model_cfg\": {\"%s\": %s}}", sizes[i].key, number);
    return read_text(text, c);
}

Test(clip_config, missing_keys_get_biomedclips_sizes)
{
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f},
                       std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    struct clip_config c;
    OK(read_text("{\"model_cfg\": {}}", &c));
    for (int i = 0; i < N; i++) cr_expect_eq(value(&c, i), sizes[i].biomed, "%s %s", sizes[i].group, sizes[i].key);
    cr_expect(c.v_eps == 1e-6f && c.t_eps == 1e-12f && c.dropout == 0.1f);
    cr_expect(!memcmp(c.mean, mean, sizeof mean) && !memcmp(c.std, std, sizeof std));
    cr_expect_eq(mcs_clip_tokens(&c), 197);
    cr_expect_eq(read_text("{}", &c), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "has no model_cfg"));
    OK(read_text("{\"model_cfg\": {\"text_cfg\": {\"dropout\": 0.25}}, \"preprocess_cfg\": {\"mean\": [1, 2, 3.5], "
                 "\"std\": [4, 5, 6]}}",
                 &c));
    cr_expect_eq(c.dropout, 0.25f);
    for (int k = 0; k < 3; k++) cr_expect(c.mean[k] == (k < 2 ? (float)(k + 1) : 3.5f) && c.std[k] == (float)(k + 4));
    OK(read_text("{\"model_cfg\": {\"text_cfg\": {\"dropout\": \"x\", \"width\": 1.5}}, \"preprocess_cfg\": {\"mean\": "
                 "[1, 2], \"std\": 7}}",
                 &c)); /* another JSON type: ignored */
    cr_expect(c.dropout == 0.1f && c.t_width == 768);
    cr_expect(!memcmp(c.mean, mean, sizeof mean) && !memcmp(c.std, std, sizeof std));
}

/* From 1 to 2^20, if the other sizes allow it. */
Test(clip_config, limits_of_every_size)
{
    static const char *const bad[] = {"0", "-1", "1048577", "4294967296", "-4294967295", "9223372036854775807"};
    static const struct {
        const char *text, *part; /* of the message; NULL: accepted */
    } rows[] = {
        {"{\"model_cfg\": {\"vision_cfg\": {\"image_size\": 225}}}",
         "image_size 225 is not a multiple of the patch size 16"},
        {"{\"model_cfg\": {\"vision_cfg\": {\"image_size\": 1048576}}}", NULL},
        {"{\"model_cfg\": {\"vision_cfg\": {\"heads\": 5}}}", "a width is not a multiple of its heads"},
        {"{\"model_cfg\": {\"text_cfg\": {\"heads\": 5}}}", "a width is not a multiple of its heads"},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 1}}}", "context_length 1: a text has at least its first"},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 2}}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 512}}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"context_length\": 513}}}",
         "context_length 513 is longer than the 512 positions"},
        {"{\"model_cfg\": {\"text_cfg\": {\"positions\": 256}}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"positions\": 255}}}",
         "context_length 256 is longer than the 255 positions"},
        {"{\"model_cfg\": {\"embed_dim\": 1048576}}", NULL},
        {"{\"model_cfg\": {\"embed_dim\": 1}}", NULL},
        {"{\"model_cfg\": {\"text_cfg\": {\"vocab_size\": 1, \"types\": 1, \"layers\": 1, \"proj_width\": 1}}}", NULL},
    };
    struct clip_config c;
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
            cr_expect_eq(read_one(i, bad[k], &c), MCS_E_DATA, "%s %s", sizes[i].key, bad[k]);
            cr_expect(strstr(mcs_error_message(), "m/open_clip_config.json: a size of "), "%s", mcs_error_message());
        }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const enum mcs_status st = read_text(rows[i].text, &c);
        cr_expect_eq(st, rows[i].part ? MCS_E_DATA : MCS_OK, "%s: %s", rows[i].text, mcs_error_message());
        if (rows[i].part)
            cr_expect(strstr(mcs_error_message(), rows[i].part), "%s: %s", rows[i].text, mcs_error_message());
    }
    mcs_error_clear();
    cr_expect_eq(mcs_clip_config_read(shell_path("none"), &c), MCS_E_NOINPUT);
    mcs_error_clear();
}

/* A model whose sizes all differ from the defaults has the same sizes, vocabulary and weights after saving and opening.
 */
Test(clip_config, a_saved_model_is_the_same)
{
    struct clip_config c = tiny_clip_config(), read;
    struct clip_model m, again;
    struct device d;
    char vocabulary[2048] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (int i = 5; i < 99; i++) sprintf(vocabulary + strlen(vocabulary), "w%d\n", i);
    shell_write("vocab", vocabulary);
    for (int i = 0; i < N; i++) memcpy((char *)&c + sizes[i].at, &sizes[i].other, sizeof(int));
    c.dropout = 0.375f;
    for (int k = 0; k < 3; k++) c.mean[k] = 0.25f * (float)(k + 1), c.std[k] = 0.5f * (float)(k + 1);
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&c, shell_path("vocab"), 3, &d, NULL, &m));
    OK(mcs_clip_model_save(&m, shell_path("saved"), 0));
    OK(mcs_clip_config_read(shell_path("saved"), &read));
    for (int i = 0; i < N; i++) cr_expect_eq(value(&read, i), sizes[i].other, "%s %s", sizes[i].group, sizes[i].key);
    cr_expect_eq(read.dropout, 0.375f);
    cr_expect(!memcmp(read.mean, c.mean, sizeof c.mean) && !memcmp(read.std, c.std, sizeof c.std));
    expect("cmp vocab saved/vocab.txt && ls saved | tr '\\n' ' '", 0,
           "open_clip_config.json open_clip_model.safetensors vocab.txt ");
    for (int way = 0; way < 2; way++) { /* by either name of the weights */
        OK(mcs_clip_model_open(shell_path("saved"), &d, &again));
        cr_assert_eq(again.params->n_values, m.params->n_values);
        cr_expect_eq(memcmp(again.params->data, m.params->data, (size_t)m.params->n_values * sizeof(float)), 0);
        cr_expect_eq(strlen(again.sha256), 64);
        mcs_clip_model_close(&again);
        expect("mv saved/open_clip_model.safetensors saved/model.safetensors || mv saved/model.safetensors saved/x", 0,
               "");
    }
    OK(mcs_weights_write(shell_path("saved/open_clip_pytorch_model.bin"), m.params, 0, NULL, NULL));
    OK(mcs_clip_model_open(shell_path("saved"), &d, &again)); /* PyTorch's file */
    cr_expect_eq(memcmp(again.params->data, m.params->data, (size_t)m.params->n_values * sizeof(float)), 0);
    mcs_clip_model_close(&again);
    expect("rm saved/open_clip_pytorch_model.bin", 0, "");
    cr_expect_eq(mcs_clip_model_open(shell_path("saved"), &d, &again), MCS_E_NOINPUT);
    cr_expect(
        strstr(mcs_error_message(), "saved: has no weights: want open_clip_model.safetensors, model.safetensors, "));
    mcs_error_clear();
    cr_expect_eq(mcs_clip_model_open(shell_path("none"), &d, &again), MCS_E_NOINPUT);
    cr_expect(strstr(mcs_error_message(), "none: no such model folder"));
    mcs_error_clear();
    mcs_clip_model_close(&m);
    c.vocab = 98;
    cr_expect_eq(mcs_clip_model_new(&c, shell_path("vocab"), 3, &d, NULL, &m), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "vocab: has 99 pieces, the model wants 98"), "%s", mcs_error_message());
    mcs_error_clear();
    c.vocab = 0; /* any */
    OK(mcs_clip_model_new(&c, shell_path("vocab"), 3, &d, NULL, &m));
    cr_expect_eq(m.config.vocab, 99);
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
}
