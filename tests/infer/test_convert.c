/* mcs_convert: folders there and back, with their configuration; conversions that are refused. That open_clip,
 * transformers and segment-anything load the results: tests/ref/convert_models.py. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "infer/convert/convert.h"
#include "infer/sam/sam_plan.h"
#include "tests/support/support_expected.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_layout.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())
#define DEMO MCS_SOURCE_DIR "/data/demo/"

static struct arena arena;

static void setup(void)
{
    test_folder_open("convert");
    OK(mcs_folder_make(in_folder("src")));
}

static void teardown(void)
{
    mcs_arena_free(&arena);
    layout_free();
    test_folder_close();
}

TestSuite(convert, .init = setup, .fini = teardown);

static enum mcs_status convert_result(const char *src, const char *dst, const char *to, struct convert_result *r)
{
    const struct convert_options o = {.src = src, .dst = dst, .to = to};
    return mcs_convert(&o, &arena, r);
}

static enum mcs_status convert(const char *src, const char *dst, const char *to)
{
    struct convert_result r;
    return convert_result(src, dst, to, &r);
}

static void put_text(const char *name, const char *text)
{
    OK(mcs_file_write(in_folder(name), text, (int64_t)strlen(text)));
}

static const char openai_config[] =
    "{\"model_cfg\": {\"embed_dim\": 4, \"quick_gelu\": true, \"vision_cfg\": {\"image_size\": 16, \"layers\": 1, "
    "\"width\": 12, \"head_width\": 6, \"patch_size\": 8, \"mlp_ratio\": 2.0}, \"text_cfg\": {\"context_length\": 5, "
    "\"vocab_size\": 11, \"width\": 8, \"heads\": 2, \"layers\": 1, \"mlp_ratio\": 2.0}}, \"preprocess_cfg\": "
    "{\"mean\": "
    "[0.5, 0.25, 0.125], \"std\": [0.75, 0.5, 0.25]}}";

/* src: OpenAI's towers in open_clip's folder. */
static void put_openai(void)
{
    take_golden(LAYOUT_OPEN_CLIP_OPENAI);
    OK(mcs_safetensors_write(in_folder("src/open_clip_model.safetensors"), n_tensors, tensors, 0, NULL));
    put_text("src/open_clip_config.json", openai_config);
    put_text("src/merges.txt", "#version: 0.2\na b\n");
}

/* Replaces a text of src/open_clip_config.json, or of the file `name`. */
static void edit(const char *name, const char *from, const char *to)
{
    char *text, whole[4096];
    int64_t n;
    OK(mcs_file_read(in_folder(name), 4000, &text, &n));
    char *at = strstr(text, from);
    cr_assert(at, "%s has no %s:\n%s", name, from, text);
    snprintf(whole, sizeof whole, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    OK(mcs_file_write(in_folder(name), whole, (int64_t)strlen(whole)));
    free(text);
}

static void expect_file(const char *path, const char *expected)
{
    char *text;
    int64_t n;
    OK(mcs_file_read(in_folder(path), 1 << 16, &text, &n));
    expected_check(expected, text);
    free(text);
}

static void remove_files(const char *folder)
{
    struct file_list list;
    OK(mcs_folder_list(in_folder(folder), NULL, &list));
    for (int i = 0; i < list.n; i++) {
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", in_folder(folder), list.names[i]);
        unlink(path);
    }
    mcs_file_list_free(&list);
}

/* ---- there and back ---- */

Test(convert, openai_to_hugging_face)
{
    struct convert_result r;
    put_openai();
    OK(convert_result(in_folder("src"), in_folder("hf"), "huggingface", &r));
    cr_expect(r.n_tensors == 46 && r.n_files == 3);
    cr_expect_str_eq(r.note,
                     "the source's folder has no tokenizer of transformers: put vocab.json and merges.txt into the "
                     "new one");
    cr_expect_eq(folder_n_entries(in_folder("hf")), 4);
    expect_file("hf/config.json", "convert/huggingface_clip.json");
    expect_file("hf/preprocessor_config.json", "convert/preprocessor.json");
    file_holds(in_folder("hf/merges.txt"), "#version: 0.2\na b\n");
    put_text("src/vocab.json", "{}");
    OK(convert_result(in_folder("src"), in_folder("hf_2"), "huggingface", &r));
    cr_expect_null(r.note);
    OK(convert(in_folder("hf"), in_folder("back"), "open_clip"));
    expect_file("back/open_clip_config.json", "convert/open_clip_openai.json");
    OK(convert(in_folder("src"), in_folder("same.safetensors"), NULL)); /* the same but for the note in its header */
    expect_same_bytes(in_folder("back/open_clip_model.safetensors"), in_folder("same.safetensors"));
    OK(convert(in_folder("hf/model.safetensors"), in_folder("custom"), "open_clip-custom-text"));
    cr_expect(mcs_file_exists(in_folder("custom/open_clip_config.json")));
    OK(convert(in_folder("custom"), in_folder("again.safetensors"), "open_clip"));
    expect_same_bytes(in_folder("again.safetensors"), in_folder("same.safetensors"));
}

/* A hidden width that width * mlp_ratio, cut to a whole number, must not miss by one. */
/* transformers' tokenizer files are made from OpenAI's merges, where they are this model's. */
Test(convert, tokenizer_of_transformers)
{
    enum { IDS = 512 + 1 + 2, WIDTH = 8 };
    static float embedding[IDS * WIDTH];
    struct convert_result r;
    put_openai();
    struct weight_out *t = tensor("token_embedding.weight");
    cr_assert_eq(t->dims[1], WIDTH);
    t->dims[0] = IDS;
    t->values = embedding;
    OK(mcs_safetensors_write(in_folder("src/open_clip_model.safetensors"), n_tensors, tensors, 0, NULL));
    edit("src/open_clip_config.json", "\"vocab_size\": 11", "\"vocab_size\": 515");
    cr_assert_eq(rename(in_folder("src/merges.txt"), in_folder("src/bpe_simple_vocab_16e6.txt.gz")), 0);
    OK(convert_result(in_folder("src"), in_folder("hf"), "huggingface", &r));
    cr_expect_null(r.note);
    cr_assert_eq(r.n_files, 5);
    cr_expect_str_eq(r.files[3], "vocab.json");
    file_holds(in_folder("hf/merges.txt"), "#version: 0.2\na b\n");
    json_t *vocab;
    OK(mcs_json_read(in_folder("hf/vocab.json"), 1 << 20, 0, &vocab));
    cr_expect_eq(json_object_size(vocab), IDS);
    static const struct {
        const char *piece;
        int id;
    } pieces[] = {{"!", 0}, {"a", 64}, {"!</w>", 256}, {"ab", 512}, {"<|startoftext|>", 513}, {"<|endoftext|>", 514}};
    for (int i = 0; i < 6; i++)
        cr_expect_eq(json_integer_value(json_object_get(vocab, pieces[i].piece)), pieces[i].id, "%s", pieces[i].piece);
    json_decref(vocab);
    cr_assert_eq(unlink(in_folder("hf/vocab.json")), 0); /* merges.txt alone */
    OK(convert_result(in_folder("hf"), in_folder("hf_2"), NULL, &r));
    cr_expect(!r.note && mcs_file_exists(in_folder("hf_2/vocab.json")));
}

Test(convert, mlp_ratio)
{
    put_openai();
    OK(convert(in_folder("src"), in_folder("hf"), "huggingface"));
    remove_files("src");
    take_golden(LAYOUT_HUGGINGFACE_CLIP);
    tensor("vision_model.encoder.layers.0.mlp.fc1.weight")->dims[0] = 22;
    tensor("vision_model.encoder.layers.0.mlp.fc1.bias")->dims[0] = 22;
    tensor("vision_model.encoder.layers.0.mlp.fc2.weight")->dims[1] = 22;
    OK(mcs_safetensors_write(in_folder("hf/model.safetensors"), n_tensors, tensors, 0, NULL));
    edit("hf/config.json", "\"intermediate_size\": 24", "\"intermediate_size\": 22");
    OK(convert(in_folder("hf"), in_folder("back"), "open_clip"));
    edit("back/open_clip_config.json", "\"mlp_ratio\": 1.875", ""); /* 22.5 / 12: 12 * 1.83333333 is 21.99999996 */
}

/* epoch_N.pt: PyTorch's zip, in "state_dict", each name behind "module.". */
Test(convert, training_checkpoint)
{
    struct weight_file *f;
    put_openai();
    OK(convert(in_folder("src"), in_folder("epoch_1.pt"), CONVERT_CHECKPOINT));
    OK(mcs_weight_file_open(in_folder("epoch_1.pt"), &f));
    cr_expect_str_eq(mcs_weight_file_wrapper(f), "state_dict");
    cr_expect_str_eq(mcs_weight_file_prefix(f), "module.");
    cr_expect_eq(mcs_weight_file_count(f), n_tensors);
    mcs_weight_file_close(f);
    OK(convert(in_folder("epoch_1.pt"), in_folder("a.safetensors"), "open_clip"));
    OK(convert(in_folder("src"), in_folder("b.safetensors"), "open_clip"));
    expect_same_bytes(in_folder("a.safetensors"), in_folder("b.safetensors"));
}

Test(convert, demo_to_medclip_samv2)
{
    struct convert_result r;
    OK(convert_result(DEMO "clip", in_folder("port"), "medclip-samv2", &r));
    cr_expect(r.n_files == 3 && !r.note);
    expect_file("port/config.json", "convert/medclip_samv2.json");
    expect_same_bytes(in_folder("port/vocab.txt"), DEMO "clip/vocab.txt");
    OK(convert(in_folder("port"), in_folder("back"), "open_clip"));
    expect_file("back/open_clip_config.json", "convert/open_clip_bert.json");
    OK(convert(DEMO "clip", in_folder("same"), NULL));
    expect_same_bytes(in_folder("same/open_clip_config.json"), DEMO "clip/open_clip_config.json");
    expect_same_bytes(in_folder("back/open_clip_model.safetensors"), in_folder("same/open_clip_model.safetensors"));
}

Test(convert, sam_to_hugging_face)
{
    OK(convert(DEMO "sam", in_folder("hf"), "huggingface"));
    expect_file("hf/config.json", "convert/huggingface_sam.json");
    expect_file("hf/preprocessor_config.json", "convert/preprocessor_sam.json");
    OK(convert(in_folder("hf"), in_folder("back"), "segment-anything"));
    expect_same_bytes(in_folder("back/sam_config.json"), DEMO "sam/sam_config.json");
    struct sam_config read, own; /* transformers' folder is read as it is */
    OK(mcs_sam_config_guess(in_folder("hf/model.safetensors"), &read));
    OK(mcs_sam_config_read(DEMO "sam/sam_config.json", &own));
    cr_expect(!memcmp(&read, &own, sizeof read));
    /* MedSAM's preparation of images is no size: transformers' files do not have it */
    OK(mcs_folder_make(in_folder("medsam")));
    OK(convert(DEMO "sam", in_folder("medsam/w.safetensors"), NULL));
    own.preprocess = SAM_PREPROCESS_MEDSAM;
    OK(mcs_sam_config_write(in_folder("medsam/sam_config.json"), &own));
    OK(convert(in_folder("medsam"), in_folder("medsam_hf"), "huggingface"));
    expect_file("medsam_hf/config.json", "convert/huggingface_sam.json");
    OK(convert(in_folder("back/sam.pth"), in_folder("a.safetensors"), NULL));
    OK(convert(DEMO "sam", in_folder("b.safetensors"), NULL));
    expect_same_bytes(in_folder("a.safetensors"), in_folder("b.safetensors"));
}

Test(convert, half_and_dry_run)
{
    struct convert_result r;
    struct weight_file *f;
    put_openai();
    struct convert_options o = {.src = in_folder("src"), .dst = in_folder("half"), .to = "huggingface", .half = 1};
    o.dry_run = 1;
    OK(mcs_convert(&o, &arena, &r));
    cr_expect(!mcs_folder_exists(in_folder("half")) && r.n_files == 3 && r.n_tensors == 46);
    o.dry_run = 0;
    OK(mcs_convert(&o, &arena, &r));
    OK(mcs_weight_file_open(in_folder("half/model.safetensors"), &f));
    for (int i = 0; i < mcs_weight_file_count(f); i++)
        cr_expect_eq(mcs_weight_file_at(f, i)->type, MCS_ARRAY_F16, "%s", mcs_weight_file_at(f, i)->name);
    mcs_weight_file_close(f);
    OK(convert(in_folder("half"), in_folder("half.bin"), "open_clip")); /* float16 stays */
    OK(mcs_weight_file_open(in_folder("half.bin"), &f));
    cr_expect_eq(mcs_weight_file_find(f, "transformer.resblocks.0.attn.in_proj_weight")->type, MCS_ARRAY_F16);
    mcs_weight_file_close(f);
}

/* float16 ends at 65504, and 65520 is the first number that rounds to infinity: nothing is written then. A value that
 * is infinite already stays. */
Test(convert, half_of_numbers_beyond_float16)
{
    struct convert_result r;
    put_openai();
    struct weight_out *t = tensor("text_projection");
    float *values = (float *)t->values;
    const char *const names[] = {"half.safetensors", "half.pt"};
    for (int k = 0; k < 4; k++) {
        values[1] = k < 2 ? -65519.0F : k == 2 ? 65520.0F : 1e30F;
        if (k == 1) values[1] = INFINITY;
        OK(mcs_safetensors_write(in_folder("src/open_clip_model.safetensors"), n_tensors, tensors, 0, NULL));
        for (int i = 0; i < 2; i++) {
            const struct convert_options o = {.src = in_folder("src"), .dst = in_folder(names[i]), .half = 1};
            const enum mcs_status st = mcs_convert(&o, &arena, &r);
            if (k < 2) {
                cr_expect_eq(st, MCS_OK, "%s", mcs_error_message());
                cr_assert_eq(unlink(in_folder(names[i])), 0);
            } else {
                fails_with(st, MCS_E_DATA, "array text_projection has the value");
                cr_expect(!mcs_file_exists(in_folder(names[i])));
                const struct convert_options f = {
                    .src = in_folder("src"), .dst = in_folder("hf"), .to = "huggingface", .half = 1};
                fails_with(mcs_convert(&f, &arena, &r), MCS_E_DATA, "array text_projection.weight has the value");
                cr_expect(!mcs_folder_exists(f.dst)); /* nor a folder with a part of its files */
                OK(mcs_folder_make(f.dst));
                fails_with(mcs_convert(&f, &arena, &r), MCS_E_DATA, "array text_projection.weight has the value");
                cr_assert_eq(rmdir(f.dst), 0, "the folder that was there is empty again");
            }
        }
    }
}

/* ---- refusals ---- */

Test(convert, all_differences_in_one_message)
{
    take_golden(LAYOUT_HUGGINGFACE_CLIP);
    tensor("text_model.final_layer_norm.bias")->name = "own.bias";
    tensor("visual_projection.weight")->dims[1] = 11;
    OK(mcs_safetensors_write(in_folder("src/model.safetensors"), n_tensors, tensors, 0, NULL));
    fails_with(
        convert(in_folder("src"), in_folder("dst"), "open_clip"), MCS_E_DATA,
        "model.safetensors: not Hugging Face's names, CLIPModel that can become open_clip's names, OpenAI's towers: "
        "1 tensor missing (text_model.final_layer_norm.bias (8)); 1 tensor of another shape or type "
        "(visual_projection.weight is (4, 11), want (4, 12)); 1 tensor extra (own.bias)");
    cr_expect(!mcs_folder_exists(in_folder("dst")));
}

Test(convert, unknown_layouts_and_targets)
{
    const float one = 1;
    const struct weight_out t = {.name = "encoder.weight", .type = MCS_ARRAY_F32, .values = &one};
    OK(mcs_safetensors_write(in_folder("a.safetensors"), 1, &t, 0, NULL));
    fails_with(
        convert(in_folder("a.safetensors"), in_folder("b.pt"), NULL), MCS_E_DATA,
        "its 1 tensors have the names of no layout that is known: open_clip, MedCLIP-SAMv2, Hugging Face's CLIPModel "
        "and SamModel, segment-anything (the first is encoder.weight)");
    put_openai();
    fails_with(convert(in_folder("src"), in_folder("b"), "segment-anything"), MCS_E_USAGE,
               "that model becomes open_clip, open_clip-custom-text, huggingface, open_clip-checkpoint");
    fails_with(convert(DEMO "sam", in_folder("b"), CONVERT_CHECKPOINT), MCS_E_USAGE,
               "that model becomes segment-anything, huggingface");
    fails_with(convert(DEMO "clip", in_folder("b"), "huggingface"), MCS_E_USAGE,
               "has open_clip's names, timm's ViT and BERT; that model becomes open_clip, medclip-samv2, ");
    fails_with(convert(in_folder("src"), in_folder("b"), CONVERT_CHECKPOINT), MCS_E_USAGE,
               "want a file that ends in .pt");
    fails_with(convert(in_folder("src"), in_folder("b.safetensors"), CONVERT_CHECKPOINT), MCS_E_USAGE, "ends in .pt");
    const struct convert_options o = {.src = in_folder("src"), .dst = in_folder("b.pt"), .format = "safetensors"};
    struct convert_result r;
    fails_with(mcs_convert(&o, &arena, &r), MCS_E_USAGE, "--format safetensors: ");
    fails_with(convert(in_folder("none"), in_folder("b"), NULL), MCS_E_NOINPUT, "none");
    cr_expect(!mcs_folder_exists(in_folder("b")) && !mcs_file_exists(in_folder("b.pt")));
}

/* The input under its name, another name, a link; a folder with files; a file where a folder is wanted. */
Test(convert, nothing_is_overwritten)
{
    char dots[512], hex[2][65];
    put_openai();
    const char *weights = in_folder("src/open_clip_model.safetensors");
    OK(mcs_file_sha256(weights, hex[0]));
    snprintf(dots, sizeof dots, "%s/../src/open_clip_model.safetensors", in_folder("src"));
    cr_assert(symlink(weights, in_folder("soft.safetensors")) == 0 &&
              link(weights, in_folder("hard.safetensors")) == 0);
    const char *const same[] = {weights, dots, in_folder("soft.safetensors"), in_folder("hard.safetensors"),
                                in_folder("src")};
    for (int i = 0; i < 5; i++)
        fails_with(convert(in_folder("src"), same[i], NULL), MCS_E_USAGE, "is the input, which is not overwritten");
    fails_with(convert(in_folder("src"), in_folder("src"), "huggingface"), MCS_E_USAGE,
               "src: has files already; want a new or empty folder");
    put_text("a", "x");
    fails_with(convert(in_folder("src"), in_folder("a"), "huggingface"), MCS_E_USAGE, "a: is a file; want a folder");
    static const char *const others[] = {"a.ckpt", "a.onnx", "a.H5", "a.json", "a.safetensor"};
    for (int i = 0; i < 5; i++) { /* not a folder of that name */
        fails_with(convert(in_folder("src"), in_folder(others[i]), NULL), MCS_E_USAGE,
                   "files of this kind are not written: want a name that ends in one of .safetensors;.pt;.pth;.bin");
        cr_expect(!mcs_folder_exists(in_folder(others[i])));
    }
    file_holds(in_folder("a"), "x");
    OK(mcs_file_sha256(weights, hex[1]));
    cr_expect_str_eq(hex[0], hex[1]);
    /* a part of several files */
    char index[8192] = "{\"weight_map\": {", *at = index + strlen(index);
    for (int i = 0; i < n_tensors; i++)
        at += sprintf(at, "%s\"%s\": \"1.safetensors\"", i ? ", " : "", tensors[i].name);
    sprintf(at, "}}");
    put_text("src/w.index.json", index);
    OK(mcs_safetensors_write(in_folder("src/1.safetensors"), n_tensors, tensors, 0, NULL));
    fails_with(convert(in_folder("src/w.index.json"), in_folder("src/1.safetensors"), NULL), MCS_E_USAGE,
               "1.safetensors: is the input, which is not overwritten");
    OK(convert(in_folder("src/w.index.json"), in_folder("joined.pt"), NULL));
    OK(mcs_folder_make(in_folder("empty")));
    OK(convert(in_folder("src"), in_folder("empty"), "huggingface"));
}

/* A configuration that contradicts the tensors, or has a value that the other program's cannot have. Nothing is
 * written. */
Test(convert, configurations_that_are_refused)
{
    static const char *const rows[][3] = {
        {"\"layers\": 1, \"width\": 12", "\"layers\": 2, \"width\": 12",
         "open_clip_config.json: vision_cfg.layers is 2, but the tensors have 1"},
        {"\"vocab_size\": 11", "\"vocab_size\": 12", "text_cfg.vocab_size is 12, but the tensors have 11"},
        {"\"vocab_size\": 11", "\"vocab_size\": -1", "text_cfg.vocab_size: want a whole number from 1 to 65536"},
        {"\"vocab_size\": 11", "\"vocab_size\": 11, \"pool_type\": \"last\"",
         "text_cfg.pool_type: a key that the target's configuration cannot say"},
        {"\"heads\": 2", "\"heads\": 3", "2 and 3 heads do not divide the widths 12 and 8"},
        {"\"head_width\": 6", "\"head_width\": 24", "0 and 2 heads do not divide"},
        {"\"preprocess_cfg\": {", "\"preprocess_cfg\": {\"resize_mode\": \"squash\", ",
         "preprocess_cfg.resize_mode is \"squash\"; want \"shortest\""},
        {"[0.5, 0.25, 0.125]", "[0.5, 0.25]", "mean is not three numbers"},
        {"{\"model_cfg\"", "[{\"model_cfg\"", "not JSON"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_openai();
        edit("src/open_clip_config.json", rows[i][0], rows[i][1]);
        fails_with(convert(in_folder("src"), in_folder("dst"), "huggingface"), MCS_E_DATA, rows[i][2]);
    }
    unlink(in_folder("src/open_clip_config.json"));
    fails_with(
        convert(in_folder("src"), in_folder("dst"), "huggingface"), MCS_E_NOINPUT,
        "open_clip_config.json: no such file, and the tensors do not tell the number of heads and the activation");
    cr_expect(!mcs_folder_exists(in_folder("dst")));
}

Test(convert, hugging_face_configurations_that_are_refused)
{
    static const char *const rows[][4] = {
        {"config.json", "\"quick_gelu\"", "\"relu\"", "hidden_act is \"relu\"; want"},
        {"config.json", "\"quick_gelu\"", "\"gelu\"", "the towers have different activations"},
        {"config.json", "\"layer_norm_eps\": 1e-5", "\"layer_norm_eps\": 1e-6", "layer_norm_eps is 1e-06 and 1e-05"},
        {"config.json", "\"projection_dim\": 4", "\"projection_dim\": 5",
         "config.projection_dim is 5, but the tensors have 4"},
        {"config.json", "\"clip\"", "\"siglip\"", "config.model_type is \"siglip\""},
        {"preprocessor_config.json", "\"resample\": 3", "\"resample\": 2", "preprocessor.resample is 2; want 3"},
        {"preprocessor_config.json", "\"shortest_edge\": 16", "\"shortest_edge\": 17",
         "preprocessor.size is {\"shortest_edge\":17}"},
        {"preprocessor_config.json", "\"do_center_crop\": true", "\"do_center_crop\": false",
         "do_center_crop is false"},
    };
    put_openai();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        OK(convert(in_folder("src"), in_folder("hf"), "huggingface"));
        snprintf(name, sizeof name, "hf/%s", rows[i][0]);
        edit(name, rows[i][1], rows[i][2]);
        fails_with(convert(in_folder("hf"), in_folder("dst"), "open_clip"), MCS_E_DATA, rows[i][3]);
        remove_files("hf");
    }
    cr_expect(!mcs_folder_exists(in_folder("dst")));
}

Test(convert, sam_configurations_that_are_refused)
{
    static const char *const rows[][3] = {
        {"\"window_size\": 8", "\"window_size\": 7", "vision_config.window_size is 7, but the tensors have 8"},
        {"\"hidden_act\": \"relu\"", "\"hidden_act\": \"gelu\"", "mask_decoder_config.hidden_act is \"gelu\""},
        {"\"global_attn_indexes\": [\n      1,", "\"global_attn_indexes\": [\n      0,",
         "global_attn_indexes are not the blocks"},
        {"\"sam\"", "\"sam2\"", "config.model_type is \"sam2\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        OK(convert(DEMO "sam", in_folder("hf"), "huggingface"));
        edit("hf/config.json", rows[i][0], rows[i][1]);
        fails_with(convert(in_folder("hf"), in_folder("dst"), "segment-anything"), MCS_E_DATA, rows[i][2]);
        struct sam_config c; /* nor does `sam` read it */
        fails_with(mcs_sam_config_guess(in_folder("hf/model.safetensors"), &c), MCS_E_DATA, rows[i][2]);
        remove_files("hf");
    }
    OK(convert(DEMO "sam", in_folder("src/w.pth"), NULL));
    fails_with(convert(in_folder("src"), in_folder("dst"), "huggingface"), MCS_E_DATA,
               "w.pth: not SAM's ViT-B, -L or -H, so its sam_config.json, or the config.json of transformers, must lie "
               "beside it");
    put_text("src/sam_config.json", "{\"image_size\": 128}");
    fails_with(convert(in_folder("src"), in_folder("dst"), "huggingface"), MCS_E_DATA,
               "sam_config.json: its sizes are not those of the tensors");
    cr_expect(!mcs_folder_exists(in_folder("dst")));
}
