/* Which model a file of weights is, and the one message about all tensors that are missing, misshapen or extra. */
#include "data/io/file.h"
#include "infer/model_info.h"
#include "infer/sam/sam_model.h"
#include "infer/weights.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_layout.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())
#define DEMO MCS_SOURCE_DIR "/data/demo/"

static struct arena arena;

static void setup(void)
{
    test_folder_open("model_info");
}

static void teardown(void)
{
    mcs_arena_free(&arena);
    test_folder_close();
}

TestSuite(model_info, .init = setup, .fini = teardown);

static struct model_info recognise(const char *path)
{
    struct weight_file *f;
    struct model_info info;
    OK(mcs_weight_file_open(path, &f));
    OK(mcs_model_recognise(f, &arena, &info));
    for (int i = 0; i < info.extra.n; i++) info.extra.v[i] = mcs_arena_strdup(&arena, info.extra.v[i]);
    mcs_weight_file_close(f);
    return info;
}

Test(model_info, models_of_the_demo)
{
    struct model_info i = recognise(DEMO "clip/open_clip_model.safetensors");
    cr_expect_str_eq(i.name, "the demo's CLIP");
    cr_expect(i.compared && !i.note && !i.missing.n && !i.misshapen.n && !i.extra.n);
    i = recognise(DEMO "sam/sam.safetensors");
    cr_expect_str_eq(i.name, "the demo's SAM");
    cr_expect(i.compared && !i.note && !i.missing.n && !i.misshapen.n && !i.extra.n);
}

/* The demo's SAM in Hugging Face's names: the same model, with the same weights. */
Test(model_info, another_layout)
{
    struct weight_file *f, *view;
    struct weight_out out[400];
    struct device d;
    struct sam_model a, b;
    char *config, hex[2][65];
    int64_t n_bytes;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_weight_file_open(DEMO "sam/sam.safetensors", &f));
    OK(mcs_weight_view(f, LAYOUT_HUGGINGFACE_SAM, &view));
    const int n = mcs_weight_file_count(view);
    cr_assert(n <= 400);
    for (int i = 0; i < n; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(view, i);
        out[i] = (struct weight_out){.name = t->name, .type = t->type, .nd = t->nd, .file = view, .source = t};
        memcpy(out[i].dims, t->dims, sizeof t->dims);
    }
    OK(mcs_torch_write(in_folder("pytorch_model.bin"), n, out, NULL));
    OK(mcs_file_read(DEMO "sam/sam_config.json", 1 << 16, &config, &n_bytes));
    OK(mcs_file_write(in_folder("sam_config.json"), config, n_bytes));
    free(config);
    mcs_weight_file_close(view);
    mcs_weight_file_close(f);
    const struct model_info i = recognise(in_folder("pytorch_model.bin"));
    cr_expect_str_eq(i.name, "the demo's SAM, in Hugging Face's names, SamModel");
    cr_expect(i.compared && !i.missing.n && !i.misshapen.n && !i.extra.n);
    OK(mcs_sam_model_open(test_folder, &d, &a));
    OK(mcs_sam_model_open(DEMO "sam", &d, &b));
    OK(mcs_weights_sha256(a.params, hex[0]));
    OK(mcs_weights_sha256(b.params, hex[1]));
    cr_expect_str_eq(hex[0], hex[1]);
    mcs_sam_model_close(&a);
    mcs_sam_model_close(&b);
    mcs_device_close(&d);
}

/* OpenAI's towers, alone and in a folder, in each layout. */
Test(model_info, openai)
{
    static const int layouts[] = {LAYOUT_OPEN_CLIP_OPENAI, LAYOUT_OPEN_CLIP_CUSTOM, LAYOUT_HUGGINGFACE_CLIP};
    static const char name[] = "CLIP with OpenAI's towers, ViT-other/8 (image 16; text width 8, 1 layers)";
    for (int k = 0; k < 3; k++) {
        take_golden(layouts[k]);
        OK(mcs_safetensors_write(in_folder("w.safetensors"), n_tensors, tensors, 0, NULL));
        const struct model_info i = recognise(in_folder("w.safetensors"));
        cr_expect(!strncmp(i.name, name, sizeof name - 1), "%s", i.name);
        cr_expect(k == 0 ? !i.name[sizeof name - 1] : strstr(i.name, ", in ") != NULL, "%s", i.name);
        cr_expect(i.compared && !i.missing.n && !i.misshapen.n && !i.extra.n);
        cr_expect_str_eq(i.note, "to use it put its configuration and the tokenizer's files beside it");
    }
    /* a configuration that says other sizes than the tensors have */
    static const char config[] =
        "{\"model_cfg\": {\"embed_dim\": 5, \"vision_cfg\": {\"image_size\": 16, \"layers\": 1, \"width\": 12, "
        "\"head_width\": 6, \"patch_size\": 8, \"mlp_ratio\": 2.0}, \"text_cfg\": {\"context_length\": 5, "
        "\"vocab_size\": 11, \"width\": 8, \"heads\": 2, \"layers\": 1, \"mlp_ratio\": 2.0}}}";
    OK(mcs_file_write(in_folder("open_clip_config.json"), config, sizeof config - 1));
    take_golden(LAYOUT_OPEN_CLIP_OPENAI);
    OK(mcs_safetensors_write(in_folder("w.safetensors"), n_tensors, tensors, 0, NULL));
    struct model_info said = recognise(in_folder("w.safetensors"));
    cr_expect(!said.note && !said.missing.n);
    cr_assert_eq(said.misshapen.n, 2);
    cr_expect_str_eq(said.misshapen.v[0], "visual.proj is (12, 4), want (12, 5)");
    cr_expect_str_eq(said.misshapen.v[1], "text_projection is (8, 4), want (8, 5)");
    OK(mcs_file_write(in_folder("open_clip_config.json"), "{", 1));
    cr_expect(strstr(recognise(in_folder("w.safetensors")).note, "open_clip_config.json:1: not JSON"));
    cr_assert_eq(unlink(in_folder("open_clip_config.json")), 0);
    take_golden(LAYOUT_HUGGINGFACE_CLIP);
    tensor("visual_projection.weight")->name = "own";
    OK(mcs_safetensors_write(in_folder("w.safetensors"), n_tensors, tensors, 0, NULL));
    OK(mcs_file_write(in_folder("config.json"), "{}", 2));
    const struct model_info i = recognise(in_folder("w.safetensors"));
    cr_expect(!i.compared && i.note);
    layout_free();
}

/* A file with these tensors, all of zeros. */
static const char *put_zeros(const char *name, int n, struct weight_out *t)
{
    for (int i = 0; i < n; i++) {
        t[i].type = MCS_ARRAY_F16;
        t[i].values = calloc((size_t)mcs_array_count(t[i].nd, t[i].dims), sizeof(float));
        cr_assert(t[i].values);
    }
    OK(mcs_torch_write(in_folder(name), n, t, "model"));
    for (int i = 0; i < n; i++) free((void *)t[i].values);
    return in_folder(name);
}

Test(model_info, missing_misshapen_extra)
{
    struct weight_out t[] = {{.name = "module.image_encoder.pos_embed", .nd = 4, .dims = {1, 64, 64, 768}},
                             {.name = "module.mask_decoder.iou_token.weight", .nd = 2, .dims = {2, 256}},
                             {.name = "module.own.weight", .nd = 1, .dims = {3}}};
    const struct model_info i = recognise(put_zeros("medsam.pth", 3, t));
    cr_expect_str_eq(i.name, "SAM ViT-B (segment-anything's or MedSAM's)");
    cr_assert(i.compared);
    cr_expect_eq(i.missing.n, 312, "%d", i.missing.n); /* of 314 */
    cr_assert(i.misshapen.n == 1 && i.extra.n == 1);
    cr_expect_str_eq(i.misshapen.v[0], "mask_decoder.iou_token.weight is (2, 256), want (1, 256)");
    cr_expect_str_eq(i.extra.v[0], "own.weight");
}

Test(model_info, other_models)
{
    static const struct {
        const char *tensor, *name, *note;
    } rows[] = {
        {"vision_model.embeddings.class_embedding", "CLIP in Hugging Face's names",
         "only a part of the model: the tensors that tell its sizes are missing"},
        {"vision_encoder.patch_embed.projection.weight", "SAM in Hugging Face's names",
         "only a part of the model: the tensors that tell its sizes are missing"},
        {"visual.conv1.weight", "CLIP with OpenAI's towers", "sizes are missing, so its tensors are not compared"},
        {"visual.trunk.cls_token", "CLIP of BiomedCLIP's form", "sizes are missing, so its tensors are not compared"},
        {"image_encoder.pos_embed", "SAM of segment-anything's form, but neither ViT-B, -L nor -H",
         "to use it put a sam_config.json with its sizes beside it"},
        {"encoder.stages.0.0.convs.0.conv.weight", "nnU-Net's PlainConvUNet",
         "there is no plans.json beside it, so its tensors are not compared"}};
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        struct weight_out t = {.name = rows[k].tensor, .nd = 1, .dims = {3}};
        const struct model_info i = recognise(put_zeros("w.pt", 1, &t));
        cr_expect_str_eq(i.name, rows[k].name);
        cr_expect_str_eq(i.note, rows[k].note);
        cr_expect(!i.compared);
    }
    struct weight_out t = {.name = "a", .nd = 1, .dims = {3}};
    cr_expect_null(recognise(put_zeros("w.pt", 1, &t)).name);
}

/* The demo's SAM as a PyTorch file, with changes: without tensor `drop`, `shape` of another shape, and one more. */
static void put_sam(const char *path, const char *drop, const char *shape, int more)
{
    struct weight_file *f;
    OK(mcs_weight_file_open(DEMO "sam/sam.safetensors", &f));
    const int n = mcs_weight_file_count(f);
    struct weight_out *out = calloc((size_t)n + 1, sizeof *out);
    float **values = calloc((size_t)n, sizeof *values);
    int k = 0;
    cr_assert(out && values);
    for (int i = 0; i < n; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(f, i);
        values[i] = malloc((size_t)t->n_bytes * 4);
        OK(mcs_weight_file_read_f32(f, t->name, t->nd, t->dims, values[i]));
        if (drop && strcmp(t->name, drop) == 0) continue;
        out[k] = (struct weight_out){.name = t->name, .type = MCS_ARRAY_F32, .nd = t->nd, .values = values[i]};
        memcpy(out[k].dims, t->dims, sizeof t->dims);
        if (shape && strcmp(t->name, shape) == 0) out[k].dims[out[k].nd++] = 1;
        k++;
    }
    if (more)
        out[k++] = (struct weight_out){.name = "own", .type = MCS_ARRAY_F32, .nd = 1, .dims = {1}, .values = values[0]};
    OK(mcs_torch_write(path, k, out, NULL));
    for (int i = 0; i < n; i++) free(values[i]);
    free(values);
    free(out);
    mcs_weight_file_close(f);
}

Test(model_info, all_differences_in_one_message)
{
    struct device d;
    struct sam_model m;
    char *config;
    int64_t n;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_file_read(DEMO "sam/sam_config.json", 1 << 16, &config, &n));
    OK(mcs_file_write(in_folder("sam_config.json"), config, n));
    free(config);
    put_sam(in_folder("w.pth"), NULL, NULL, 1); /* one tensor too many is a warning */
    OK(mcs_sam_model_open(in_folder("w.pth"), &d, &m));
    cr_expect_eq(strlen(m.sha256), 64);
    mcs_sam_model_close(&m);
    put_sam(in_folder("w.pth"), "mask_decoder.iou_token.weight", "prompt_encoder.no_mask_embed.weight", 1);
    cr_expect_eq(mcs_sam_model_open(in_folder("w.pth"), &d, &m), MCS_E_DATA);
    const char *message = mcs_error_message();
    cr_expect(strstr(message, "1 tensors missing, 1 of another shape or type (") &&
                  strstr(message, "), 1 that it has not: own; "),
              "%s", message);
    cr_expect(strstr(message, "mask_decoder.iou_token.weight (1, 64) is missing"), "%s", message);
    cr_expect(strstr(message, "prompt_encoder.no_mask_embed.weight is (1, 64, 1), want (1, 64)"), "%s", message);
    mcs_error_clear();
    mcs_device_close(&d);
}

/* A folder: the only file of weights in it, whatever its name; of several none can be chosen. */
Test(model_info, weights_of_a_folder)
{
    static const char *const names[] = {"a.safetensors", "b.bin", NULL};
    char path[MCS_PATH_BYTES];
    fails_with(mcs_weight_folder_find(test_folder, names, path), MCS_E_NOINPUT,
               "has no weights: want a.safetensors or b.bin");
    OK(mcs_file_write(in_folder("sam_vit_b_01ec64.pth"), "x", 1));
    OK(mcs_weight_folder_find(test_folder, names, path));
    cr_expect_str_eq(mcs_path_name(path), "sam_vit_b_01ec64.pth");
    OK(mcs_file_write(in_folder("c.pt"), "x", 1));
    fails_with(mcs_weight_folder_find(test_folder, names, path), MCS_E_NOINPUT,
               "several files of weights (c.pt, sam_vit_b_01ec64.pth)");
    OK(mcs_file_write(in_folder("c.pt.index.json"), "x", 1)); /* says which files belong together */
    OK(mcs_weight_folder_find(test_folder, names, path));
    cr_expect_str_eq(mcs_path_name(path), "c.pt.index.json");
    OK(mcs_file_write(in_folder("d.pt.index.json"), "x", 1));
    fails_with(mcs_weight_folder_find(test_folder, names, path), MCS_E_NOINPUT, "several files of weights (c.pt, ");
    OK(mcs_file_write(in_folder("b.bin"), "x", 1));
    OK(mcs_weight_folder_find(test_folder, names, path));
    cr_expect_str_eq(mcs_path_name(path), "b.bin");
}
