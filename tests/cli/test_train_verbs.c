/* The training verbs by their behaviour: defaults, and the meaning of each loss name of finetune. */
#include "data/io/file.h"
#include "data/text/pairs.h"
#include "infer/clip/clip_model.h"
#include "infer/unet/unet_model.h"
#include "tests/support/support_tiny.h"
#include "train/clip/finetune.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char *folder;

static void setup(void)
{
    folder = tiny_folder("train_verbs");
    setenv("MCSAM_THREADS", "1", 1);
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(train_verbs, .init = setup, .fini = teardown, .timeout = 120);

static void run(const char *const *argv)
{
    cr_assert_eq(tiny_wait(tiny_spawn(MCS_BINARY, folder, argv, NULL)), 0, "%s: %s", argv[0], tiny_log(folder));
}

static char *contents(const char *name)
{
    char *text;
    int64_t n;
    OK(mcs_file_read(tiny_path(folder, "%s", name), 1 << 20, &text, &n));
    return text;
}

/* A number of the line of `step` in a run's log, NaN where there is none. */
static double logged(const char *run_folder, int step, const char *key)
{
    char name[64];
    double v = NAN;
    snprintf(name, sizeof name, "%s/metrics.jsonl", run_folder);
    char *text = contents(name);
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        json_t *o = json_loads(line, 0, NULL), *value = json_object_get(o, key);
        if (json_integer_value(json_object_get(o, "step")) == step && value) v = json_number_value(value);
        json_decref(o);
    }
    free(text);
    return v;
}

/* Runs a command twice, the second time with every default given explicitly: the same resolved options, weights and
 * log. */
static void expect_defaults(const char *const *argv, const char *const *defaults)
{
    const char *all[64];
    int n = 0;
    run(argv);
    cr_assert_eq(tiny_shell("mv %s/run %s/short", folder, folder), 0);
    for (; *argv; argv++) all[n++] = *argv;
    for (; *defaults; defaults++) all[n++] = *defaults;
    cr_assert(n < 64);
    all[n] = NULL;
    run(all);
    cr_expect(tiny_same(tiny_path(folder, "short"), tiny_path(folder, "run")),
              "a default differs from the published one");
}

/* Runs the verb; a number in its JSON line. */
static double said(const char *const *argv, const char *key)
{
    run(argv);
    const char *line = strchr(tiny_log(folder), '{');
    cr_assert(line, "%s", tiny_log(folder));
    json_t *o = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
    const double v = json_number_value(json_object_get(o, key));
    json_decref(o);
    return v;
}

/* ---- finetune ---- */

/* A model without dropout, so that the loss of a batch is that of its embeddings, and pairs with captions. */
static void make_model(void)
{
    const struct clip_config tiny = tiny_clip_config();
    struct clip_config c = tiny;
    struct device d;
    struct clip_model m;
    c.dropout = 0;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 11, &d, NULL, &m));
    OK(mcs_clip_model_save(&m, tiny_path(folder, "model"), 0));
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
}

#define FINETUNE "finetune", "-m", "model", "--pairs", "pairs/pairs.csv", "-o", "run"

/* docs/cli.md and the paper: DHN-NCE at .6 and .15, batches of 64, 32 epochs at 1e-5. */
Test(train_verbs, finetune_defaults)
{
    make_model();
    tiny_pairs(tiny_path(folder, "pairs"), 70);
    expect_defaults(ARGS(FINETUNE, "--steps", "2"),
                    ARGS("--loss", "dhnnce", "--temperature", "0.6", "--beta", "0.15", "--beta-text", "-1", "--batch",
                         "64", "--epochs", "32", "--lr", "1e-5", "--warmup", "100", "--weight-decay", "0.1",
                         "--clip-norm", "1", "--crop", "0.9", "--checkpoint-every", "500", "--image-column", "filename",
                         "--caption-column", "Caption", "--min-caption", "0", "--gpus", "0", "--seed", "1", "--device",
                         "cpu", "--form", "paper"));
    /* 70 pairs are one batch of 64 per epoch */
    cr_expect_eq(said(ARGS(FINETUNE, "--dry-run", "--json"), "steps"), 32);
    cr_expect_eq(said(ARGS(FINETUNE, "--dry-run", "--json", "--batch", "10", "--epochs", "3"), "steps"), 21);
}

/* 100 steps of warm-up to 1e-5 where the run has more steps; else a tenth of its steps. */
Test(train_verbs, finetune_warms_up)
{
    make_model();
    tiny_pairs(tiny_path(folder, "pairs"), 8);
    run(ARGS(FINETUNE, "--steps", "101", "--batch", "4"));
    cr_expect_float_eq(logged("run", 1, "lr"), 1e-7, 1e-15);
    cr_expect_float_eq(logged("run", 51, "lr"), 51e-7, 1e-14);
    cr_expect_float_eq(logged("run", 101, "lr"), 1e-5, 1e-14);
    cr_assert_eq(tiny_shell("rm -r %s/run", folder), 0);
    run(ARGS(FINETUNE, "--steps", "20", "--batch", "4"));
    cr_expect_float_eq(logged("run", 1, "lr"), 5e-6, 1e-14);
    cr_expect_float_eq(logged("run", 11, "lr"), 0.5e-5 * (1 + cos(M_PI * 8 / 18)), 1e-14);
}

enum { B = 6, EMBED = 8, VALUES = 16 * 16 * 3 };

/* One direction of the loss family (Koleilat et al. 2024, and its special cases): similarities by rows. */
static double family(double l[B][B], int transposed, double a, double b)
{
    double sum = 0;
    for (int i = 0; i < B; i++) {
        double hard = 0, soft = 0;
        for (int j = 0; j < B; j++) {
            const double v = transposed ? l[j][i] : l[i][j];
            hard += i == j ? 0 : exp((1 + b) * v);
            soft += i == j ? 0 : exp(b * v);
        }
        sum += -l[i][i] + log(a * exp(l[i][i]) + (B - 1) * hard / soft);
    }
    return sum / B;
}

/* DHN-NCE as the released code computes it: an extra 1 in each normaliser, negatives with the wrong sign. */
static double released(double l[B][B], double b)
{
    double diagonal = 0, off = 0, normalisers = 0;
    for (int i = 0; i < B; i++) {
        double row = 1, column = 1;
        for (int j = 0; j < B; j++) {
            off += i == j ? 0 : l[i][j];
            row += i == j ? 0 : exp(l[i][j]);
            column += i == j ? 0 : exp(l[j][i]);
        }
        diagonal += l[i][i];
        normalisers += log(row) + log(column);
    }
    return -2 * diagonal / (B * B) + (2 + 2 * b) * off / (B * B) + 2 * log(B - 1) - normalisers / B;
}

/* Cosines of the first batch's images and captions under the initial weights. */
static void first_batch(double cosine[B][B], double *scale)
{
    static float images[B * VALUES], image_out[B * EMBED], text_out[B * EMBED];
    const char *texts[B];
    int32_t sample[B];
    struct clip_batch batch = {.n = B, .images = images, .texts = texts, .sample = sample};
    const struct pairs_options po = {0};
    struct device d;
    struct clip_model m;
    struct pairs pairs;
    struct pair_source source;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_open(tiny_path(folder, "model"), &d, &m));
    OK(mcs_pairs_read(tiny_path(folder, "pairs/pairs.csv"), &po, &pairs));
    OK(mcs_pair_source_open(&source, &pairs, &m.config, B, 0.9, 1));
    OK(mcs_pair_source_fill(&source, 0, &batch));
    OK(mcs_clip_embed_images(&m, images, B, 1, image_out));
    OK(mcs_clip_embed_texts(&m, texts, B, 1, text_out));
    for (int i = 0; i < B; i++)
        for (int j = 0; j < B; j++) {
            cosine[i][j] = 0;
            for (int k = 0; k < EMBED; k++)
                cosine[i][j] += (double)image_out[i * EMBED + k] * (double)text_out[j * EMBED + k];
        }
    *scale = exp((double)*(const float *)mcs_params_find(m.params, "logit_scale")->data);
    mcs_pair_source_close(&source);
    mcs_pairs_free(&pairs);
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
}

/* The first loss of each loss name, against the formula on the embeddings of the first batch. */
Test(train_verbs, finetune_losses)
{
    static const struct loss_case {
        const char *argv[8];
        double inv_tau, a, b_image, b_text; /* inv_tau 0: the model's */
        int release;
    } loss_cases[] = {
        {{NULL}, 1 / 0.6, 0, 0.15, 0.15, 0},
        {{"--loss", "infonce", "--temperature", "0.07"}, 1 / 0.07, 1, 0, 0, 0},
        {{"--loss", "infonce", "--temperature", "learned"}, 0, 1, 0, 0, 0},
        {{"--loss", "dcl"}, 1 / 0.6, 0, 0, 0, 0},
        {{"--loss", "hnnce", "--beta", "0.5"}, 1 / 0.6, 1, 0.5, 0.5, 0},
        {{"--loss", "dhnnce", "--beta", "0.5", "--beta-text", "0.25"}, 1 / 0.6, 0, 0.5, 0.25, 0},
        {{"--form", "loss=release"}, 1 / 0.6, 0, 0.15, 0.15, 1},
    };
    enum { N = sizeof loss_cases / sizeof *loss_cases };
    double got[N], cosine[B][B], scale;
    make_model();
    tiny_pairs(tiny_path(folder, "pairs"), 12);
    for (int i = 0; i < N; i++) { /* all processes must be started before this one has threads */
        const char *argv[32] = {FINETUNE, "--steps", "1", "--batch", "6"};
        int n = 11;
        for (const char *const *a = loss_cases[i].argv; *a; a++) argv[n++] = *a;
        run(argv);
        got[i] = logged("run", 1, "loss");
        cr_assert_eq(tiny_shell("rm -r %s/run", folder), 0);
    }
    first_batch(cosine, &scale);
    for (int i = 0; i < N; i++) {
        const struct loss_case *w = &loss_cases[i];
        double l[B][B];
        for (int k = 0; k < B * B; k++) (&l[0][0])[k] = (&cosine[0][0])[k] * (w->inv_tau > 0 ? w->inv_tau : scale);
        const double want =
            w->release ? released(l, w->b_image) : family(l, 0, w->a, w->b_image) + family(l, 1, w->a, w->b_text);
        /* cosines agree to 1e-6 and are scaled by at most 15; two directions */
        cr_expect_float_eq(got[i], want, 3e-5, "%s %s: loss %g, want %g", w->argv[0], w->argv[1], got[i], want);
    }
}

Test(train_verbs, finetune_refuses)
{
    static const char *const bad[][2] = {{"--temperature", "warm"},
                                         {"--temperature", "0"},
                                         {"--temperature", "0.6x"},
                                         {"--batch", "1"},
                                         {"--batch", "9"}};
    make_model();
    tiny_pairs(tiny_path(folder, "pairs"), 8);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const int code =
            tiny_wait(tiny_spawn(MCS_BINARY, folder, ARGS(FINETUNE, "--steps", "1", bad[i][0], bad[i][1]), NULL));
        cr_expect_eq(code, 2, "%s %s: exit %d, %s", bad[i][0], bad[i][1], code, tiny_log(folder));
        cr_expect(strstr(tiny_log(folder), bad[i][0]) || strstr(tiny_log(folder), "--batch"), "%s", tiny_log(folder));
    }
}

/* ---- train ---- */

#define TRAIN "train", "-i", "data/images", "-l", "data/labels", "-o", "run"
#define SMALL "--features", "4", "--max-features", "8", "--batch", "2", "--patch", "16x16", "--stages", "3"

/* nnU-Net's: SGD at .01, a third of a batch with foreground; the paper's: 3 cycles with 10 late checkpoints each. */
Test(train_verbs, train_defaults)
{
    struct unet_checkpoint list[UNET_MAX_CHECKPOINTS];
    int n;
    tiny_masks(tiny_path(folder, "data"), 6);
    expect_defaults(ARGS(TRAIN, SMALL, "--epochs", "3", "--iterations", "45"),
                    ARGS("--classes", "2", "--channels", "0", "--cycles", "3", "--checkpoints", "10", "--late", "0.2",
                         "--optimizer", "sgd", "--lr", "0.01", "--restart-lr", "0", "--gamma", "0.5", "--weight-decay",
                         "-1", "--clip-norm", "12", "--foreground", "0.33", "--checkpoint-every", "500", "--gpus", "0",
                         "--seed", "1"));
    for (int step = 1; step <= 135; step += 5) {
        const double share = (step - 1) % 45 / 45.0;
        cr_expect_float_eq(logged("run", step, "lr"), 0.01 * pow(1 - share, 0.9), 1e-10, "step %d", step);
        cr_expect_eq(logged("run", step, "cycle"), (step - 1) / 45 + 1);
    }
    OK(mcs_unet_checkpoints_read(tiny_path(folder, "run"), list, &n));
    cr_assert_eq(n, 30);
    for (int i = 0; i < 30; i++) /* 45 steps: .2 of them are 9, so checkpoints at each of a cycle's last ten steps */
        cr_expect_eq(list[i].step, i / 10 * 45 + 36 + i % 10, "checkpoint %d after step %lld", i,
                     (long long)list[i].step);
    /* 600 epochs of 250 steps; batches of 12, 32 features, up to 512 */
    cr_expect_eq(said(ARGS(TRAIN, "--dry-run", "--json"), "steps"), 150000);
    const double memory = said(ARGS(TRAIN, "--dry-run", "--json"), "all_mib");
    cr_expect_eq(said(ARGS(TRAIN, "--dry-run", "--json", "--batch", "12", "--features", "32", "--max-features", "512",
                           "--patch", "24x24", "--stages", "3"),
                      "all_mib"),
                 memory);
    cr_expect_neq(said(ARGS(TRAIN, "--dry-run", "--json", "--batch", "13"), "all_mib"), memory);
    cr_expect_neq(said(ARGS(TRAIN, "--dry-run", "--json", "--features", "31"), "all_mib"), memory);
}

/* The MiB that the last dry run listed for a purpose. */
static double part(const char *name)
{
    char key[64];
    snprintf(key, sizeof key, "\"%s_mib\": ", name);
    const char *at = strstr(tiny_log(folder), key);
    cr_assert(at, "no %s in %s", name, tiny_log(folder));
    return atof(at + strlen(key));
}

/* The total of a dry run is the sum of its listed parts. */
Test(train_verbs, train_counts_its_memory)
{
    static const char *const parts[] = {"weights", "gradients", "moments",  "activations",
                                        "inputs",  "constants", "workspace"};
    int64_t rows, columns, parameters;
    double sum = 0;
    tiny_masks(tiny_path(folder, "data"), 6);
    const double all = said(ARGS(TRAIN, "--dry-run", "--json", "--patch", "16x24", "--stages", "3"), "all_mib");
    cr_assert_eq(sscanf(strstr(tiny_log(folder), "patch "), "patch %ldx%ld, batch 12, 3 stages, %ld parameters", &rows,
                        &columns, &parameters),
                 3, "%s", tiny_log(folder));
    cr_expect(rows == 16 && columns == 24, "%s", tiny_log(folder));
    for (int i = 0; i < 7; i++) sum += part(parts[i]);
    /* numbers rounded to a thousandth; SGD has one moment */
    cr_expect_float_eq(all, sum, 8 * 0.0005, "all %g, sum of the parts %g: %s", all, sum, tiny_log(folder));
    for (int i = 0; i < 3; i++)
        cr_expect_float_eq(part(parts[i]), 4 * (double)parameters / 1048576, 0.0006, "%s", parts[i]);
}

/* AdamW's default decay, and a rate that restarts elsewhere. */
Test(train_verbs, train_with_adamw)
{
    tiny_masks(tiny_path(folder, "data"), 6);
    expect_defaults(ARGS(TRAIN, SMALL, "--epochs", "2", "--iterations", "6", "--cycles", "2", "--checkpoints", "1",
                         "--optimizer", "adamw", "--lr", "0.003", "--restart-lr", "0.006", "--weight-decay", "0.01"),
                    ARGS("--clip-norm", "12"));
    cr_expect_float_eq(logged("run", 1, "lr"), 0.003, 1e-12);
    cr_expect_float_eq(logged("run", 11, "lr"), 0.006 * pow(1 - 4.0 / 6, 0.9), 1e-10);
    cr_assert_eq(tiny_shell("mv %s/run/checkpoints.json %s && rm -r %s/run", folder, folder, folder), 0);
    run(ARGS(TRAIN, SMALL, "--epochs", "2", "--iterations", "6", "--cycles", "2", "--checkpoints", "1", "--optimizer",
             "adamw", "--lr", "0.003", "--restart-lr", "0.006"));
    cr_expect(tiny_same(tiny_path(folder, "short/metrics.jsonl"), tiny_path(folder, "run/metrics.jsonl")),
              "the default of AdamW's decay is 0.01");
}

/* Every switch changes the first step's weights, so none is ignored. */
Test(train_verbs, train_switches)
{
    static const char *const switches[][2] = {{NULL, NULL},
                                              {"--foreground", "1"},
                                              {"--no-deep-supervision", NULL},
                                              {"--no-batch-dice", NULL},
                                              {"--no-augmentation", NULL},
                                              {"--weight-decay", "0.5"},
                                              {"--clip-norm", "0.01"},
                                              {"--optimizer", "adamw"},
                                              {"--seed", "2"}};
    enum { N = sizeof switches / sizeof *switches };
    char hash[N][65];
    tiny_masks(tiny_path(folder, "data"), 6);
    for (int i = 0; i < N; i++) {
        run(ARGS(TRAIN, "--features", "4", "--max-features", "8", "--batch", "3", "--patch", "16x16", "--stages", "4",
                 "--epochs", "1", "--iterations", "1", "--cycles", "1", "--checkpoints", "1", switches[i][0],
                 switches[i][1]));
        OK(mcs_file_sha256(tiny_path(folder, "run/cycle_1_checkpoint_1.safetensors"), hash[i]));
        cr_assert_eq(tiny_shell("rm -r %s/run", folder), 0);
        for (int k = 0; k < i; k++) cr_expect_str_neq(hash[i], hash[k], "%s changes nothing", switches[i][0]);
    }
}

/* The released schedule: within a cycle of 12 of 36 epochs the rate falls for int(.5 x 12) epochs, then is constant. */
Test(train_verbs, train_in_the_released_form)
{
    tiny_masks(tiny_path(folder, "data"), 6);
    run(ARGS(TRAIN, SMALL, "--epochs", "36", "--iterations", "1", "--form", "train=release"));
    for (int step = 1; step <= 36; step += 5) { /* epochs 0, 5, 10, 3, 8, 1, 6 and 11 of their cycles */
        const int e = (step - 1) % 12;
        cr_expect_float_eq(logged("run", step, "lr"), 0.01 * pow(1 - (e < 6 ? e : 6) / 36.0, 0.9), 1e-10, "epoch %d",
                           step - 1);
    }
}

/* ---- replay ---- */

Test(train_verbs, replay_says_what_it_would_run_and_what_it_compared)
{
    tiny_masks(tiny_path(folder, "data"), 6);
    run(ARGS(TRAIN, SMALL, "--epochs", "1", "--iterations", "2", "--cycles", "1", "--checkpoints", "1"));
    run(ARGS("replay", "run", "--dry-run"));
    cr_expect_str_eq(tiny_log(folder), "mcsam train --config run/config.yaml --output run.replay\n");
    cr_expect_neq(tiny_shell("ls %s/run.replay 2>/dev/null", folder), 0, "a dry run wrote something");
    cr_expect_geq(said(ARGS("replay", "run/", "--json", "--quiet"), "compared"), 1);
    const char *log = tiny_log(folder);
    cr_expect(strstr(log, "\"verb\": \"train\"") && strstr(log, "\"different\": 0"), "%s", log);
}

Test(train_verbs, replay_refuses)
{
    static const struct {
        const char *prepare, *argument;
        int code;
        const char *says;
    } rows[] = {
        {"printf 'verb: replay\n' > old/config.yaml", NULL, 65, "old/config.yaml: a replay is not replayed"},
        {"printf 'verb: info\n' > old/config.yaml; touch old.replay", "--dry-run", 2,
         "old.replay is a file, a folder is needed"},
        {"rm old.replay; mkdir old.replay", NULL, 2, "old.replay exists: choose another --output, or remove it"},
        {"echo other > old.replay/.mcsam.replay", NULL, 2, "old.replay exists: choose another --output, or remove it"},
    };
    cr_assert_eq(tiny_shell("mkdir %s/old", folder), 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_assert_eq(tiny_shell("cd %s && %s", folder, rows[i].prepare), 0);
        const int code = tiny_wait(tiny_spawn(MCS_BINARY, folder, ARGS("replay", "old", rows[i].argument), NULL));
        cr_expect_eq(code, rows[i].code, "%s: %d", rows[i].says, code);
        cr_expect(strstr(tiny_log(folder), rows[i].says), "%s", tiny_log(folder));
    }
}

/* A second run that fails is a failure of the replay, which says how it ended. */
Test(train_verbs, replay_of_a_run_that_fails_now)
{
    tiny_masks(tiny_path(folder, "data"), 4);
    run(ARGS(TRAIN, SMALL, "--epochs", "1", "--iterations", "1", "--cycles", "1", "--checkpoints", "1"));
    cr_assert_eq(tiny_shell("mv %s/data %s/gone", folder, folder), 0);
    const int code = tiny_wait(tiny_spawn(MCS_BINARY, folder, ARGS("replay", "run"), NULL));
    cr_expect_eq(code, 1, "%d: %s", code, tiny_log(folder));
    cr_expect(strstr(tiny_log(folder), "mcsam train --config run/config.yaml ended with exit code 66"), "%s",
              tiny_log(folder));
}
