/* The layouts of one model's weights: names and shapes are those of the references (tests/golden/layouts.tsv), and a
 * file keeps every value, bit for bit, through any two of them. */
#include "tests/support/support_folder.h"
#include "tests/support/support_layout.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())
#define DEMO MCS_SOURCE_DIR "/data/demo/"

static void setup(void)
{
    test_folder_open("layout");
}

static void teardown(void)
{
    layout_free();
    test_folder_close();
}

TestSuite(layout, .init = setup, .fini = teardown);

static const char *put_file(const char *name)
{
    OK(mcs_safetensors_write(in_folder(name), n_tensors, tensors, 0, NULL));
    return in_folder(name);
}

/* Writes a view's tensors. */
static void put_view(const struct weight_file *view, const char *path)
{
    static struct weight_out out[LAYOUT_TENSORS];
    const int n = mcs_weight_file_count(view);
    cr_assert(n < LAYOUT_TENSORS);
    for (int i = 0; i < n; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(view, i);
        out[i] = (struct weight_out){.name = t->name, .type = t->type, .nd = t->nd, .file = view, .source = t};
        memcpy(out[i].dims, t->dims, sizeof t->dims);
    }
    OK(mcs_safetensors_write(path, n, out, 0, NULL));
}

static void convert(const char *from, int to, const char *path)
{
    struct weight_file *f, *view;
    OK(mcs_weight_file_open(from, &f));
    OK(mcs_weight_view(f, (enum weight_layout)to, &view));
    put_view(view, path);
    mcs_weight_file_close(view);
    mcs_weight_file_close(f);
}

/* The file has exactly the names and shapes of `tensors`. */
static void expect_golden(const char *path, const char *what)
{
    struct weight_file *f;
    char have[96], want[96];
    OK(mcs_weight_file_open(path, &f));
    for (int i = 0; i < n_tensors; i++) {
        const struct weight_tensor *t = mcs_weight_file_find(f, tensors[i].name);
        cr_expect(t, "%s: no %s", what, tensors[i].name);
        if (t)
            cr_expect(mcs_array_same_shape(t->nd, t->dims, tensors[i].nd, tensors[i].dims), "%s: %s is %s, want %s",
                      what, t->name, mcs_array_shape_text(t->nd, t->dims, have, sizeof have),
                      mcs_array_shape_text(tensors[i].nd, tensors[i].dims, want, sizeof want));
    }
    cr_expect_eq(mcs_weight_file_count(f), n_tensors, "%s: %d tensors, want %d", what, mcs_weight_file_count(f),
                 n_tensors);
    mcs_weight_file_close(f);
}

Test(layout, names_of_the_references)
{
    for (int from = 0; from < LAYOUT_N; from++) {
        struct weight_file *f;
        struct layout_report r;
        take_golden(from);
        OK(mcs_weight_file_open(put_file("from.safetensors"), &f));
        cr_expect_eq(mcs_weight_layout(f), from, "%s is taken for %s", layout_ids[from],
                     mcs_layout_text(mcs_weight_layout(f)));
        for (int to = 0; to < LAYOUT_N; to++) {
            char what[128];
            if (mcs_layout_family((enum weight_layout)from) != mcs_layout_family((enum weight_layout)to)) continue;
            snprintf(what, sizeof what, "%s to %s", layout_ids[from], layout_ids[to]);
            OK(mcs_weight_layout_check(f, (enum weight_layout)to, &r));
            cr_expect(!r.missing && !r.misshapen && !r.extra, "%s: %s", what, r.text);
            convert(in_folder("from.safetensors"), to, in_folder("to.safetensors"));
            take_golden(to);
            expect_golden(in_folder("to.safetensors"), what);
        }
        mcs_weight_file_close(f);
    }
}

Test(layout, there_and_back)
{
    for (int from = 0; from < LAYOUT_N; from++)
        for (int to = 0; to < LAYOUT_N; to++) {
            if (mcs_layout_family((enum weight_layout)from) != mcs_layout_family((enum weight_layout)to)) continue;
            take_golden(from);
            if (from == LAYOUT_HUGGINGFACE_SAM) /* the two names of one tensor have the same values */
                tensor("prompt_encoder.shared_embedding.positional_embedding")->values =
                    tensor("shared_image_embedding.positional_embedding")->values;
            put_file("a.safetensors");
            convert(in_folder("a.safetensors"), to, in_folder("b.safetensors"));
            convert(in_folder("b.safetensors"), from, in_folder("c.safetensors"));
            expect_same_bytes(in_folder("a.safetensors"), in_folder("c.safetensors"));
        }
}

static void read_all(const struct weight_file *f, const char *name, float *dst)
{
    const struct weight_tensor *t = mcs_weight_file_find(f, name);
    cr_assert(t && t->n_values <= LAYOUT_VALUES, "%s", name);
    OK(mcs_weight_file_read_f32(f, name, t->nd, t->dims, dst));
}

/* Query, key and value are the rows of the joined tensor in this order; a projection is transposed. */
Test(layout, joined_and_transposed_values)
{
    struct weight_file *view;
    float joined[LAYOUT_VALUES];
    static const char *const parts[] = {"text_model.encoder.layers.0.self_attn.q_proj.weight",
                                        "text_model.encoder.layers.0.self_attn.k_proj.weight",
                                        "text_model.encoder.layers.0.self_attn.v_proj.weight"};
    take_golden(LAYOUT_HUGGINGFACE_CLIP);
    OK(mcs_weight_model_open(put_file("w.safetensors"), &view));
    read_all(view, "transformer.resblocks.0.attn.in_proj_weight", joined);
    for (int i = 0; i < 3; i++)
        cr_expect_arr_eq(joined + (ptrdiff_t)64 * i, tensor(parts[i])->values, 64 * sizeof(float), "%s", parts[i]);
    read_all(view, "text_projection", joined); /* (8, 4) of (4, 8) */
    const float *own = tensor("text_projection.weight")->values;
    for (int r = 0; r < 8; r++)
        for (int c = 0; c < 4; c++) cr_expect_eq(joined[4 * r + c], own[8 * c + r], "%d, %d", r, c);
    cr_expect_eq(mcs_weight_file_read_f32(view, "visual.proj", 2, (int64_t[]){4, 12}, joined), MCS_E_DATA);
    mcs_error_clear();
    mcs_weight_file_close(view);
}

/* Several blocks, float16, and files as PyTorch writes them, wrapped and with a prefix. */
Test(layout, models_of_the_demo)
{
    static const struct {
        const char *file;
        int other;
    } rows[] = {{DEMO "clip/open_clip_model.safetensors", LAYOUT_MEDCLIP_SAMV2},
                {DEMO "sam/sam.safetensors", LAYOUT_HUGGINGFACE_SAM}};
    for (int k = 0; k < 2; k++) {
        struct weight_file *f;
        OK(mcs_weight_file_open(rows[k].file, &f));
        const enum weight_layout layout = mcs_weight_layout(f);
        cr_expect_eq(layout, mcs_layout_reference((enum weight_layout)rows[k].other));
        mcs_weight_file_close(f);
        convert(rows[k].file, (int)layout, in_folder("a.safetensors"));
        convert(rows[k].file, rows[k].other, in_folder("b.safetensors"));
        convert(in_folder("b.safetensors"), (int)layout, in_folder("c.safetensors"));
        expect_same_bytes(in_folder("a.safetensors"), in_folder("c.safetensors"));
    }
}

/* ---- bad files ---- */

static void rename_to(const char *name, const char *other)
{
    tensor(name)->name = other;
}

static struct layout_report check_file(int to)
{
    struct weight_file *f;
    struct layout_report r;
    OK(mcs_weight_file_open(put_file("bad.safetensors"), &f));
    OK(mcs_weight_layout_check(f, (enum weight_layout)to, &r));
    mcs_weight_file_close(f);
    return r;
}

Test(layout, all_differences_are_listed)
{
    take_golden(LAYOUT_HUGGINGFACE_CLIP);
    rename_to("text_model.final_layer_norm.bias", "text_model.final_layer_norm.beta");
    rename_to("vision_model.encoder.layers.0.self_attn.k_proj.weight", "own");
    tensor("visual_projection.weight")->dims[1] = 11; /* (4, 12) */
    tensor("logit_scale")->nd = 1;                    /* (1) will do */
    tensor("logit_scale")->dims[0] = 1;
    tensor("vision_model.encoder.layers.0.mlp.fc1.bias")->nd = 2;
    tensor("vision_model.encoder.layers.0.mlp.fc1.bias")->dims[1] = 1;
    const struct layout_report r = check_file(LAYOUT_OPEN_CLIP_OPENAI);
    cr_expect_str_eq(r.text, "2 tensors missing (vision_model.encoder.layers.0.self_attn.k_proj.weight (12, 12), "
                             "text_model.final_layer_norm.bias (8)); 2 tensors of another shape or type "
                             "(vision_model.encoder.layers.0.mlp.fc1.bias is (24, 1), want (24), "
                             "visual_projection.weight is (4, 11), want (4, 12)); 2 tensors extra (own, "
                             "text_model.final_layer_norm.beta)");
    cr_expect(r.missing == 2 && r.misshapen == 2 && r.extra == 2);
}

/* logit_bias has no place in CLIPModel; buffers are neither read nor extra. */
Test(layout, tensors_of_one_layout_only)
{
    const float bias = -10;
    take_golden(LAYOUT_OPEN_CLIP_OPENAI);
    tensors[n_tensors++] = (struct weight_out){.name = "logit_bias", .type = MCS_ARRAY_F32, .values = &bias};
    cr_expect_eq(check_file(LAYOUT_OPEN_CLIP_CUSTOM).extra, 0);
    cr_expect_str_eq(check_file(LAYOUT_HUGGINGFACE_CLIP).text, "1 tensor extra (logit_bias)");
    tensors[n_tensors - 1].name = "attn_mask";
    cr_expect_eq(check_file(LAYOUT_HUGGINGFACE_CLIP).extra, 0);
    convert(in_folder("bad.safetensors"), LAYOUT_HUGGINGFACE_CLIP, in_folder("b.safetensors"));
    take_golden(LAYOUT_HUGGINGFACE_CLIP);
    expect_golden(in_folder("b.safetensors"), "without the buffer");
}

/* A file with both names of one tensor; parts that do not fit; a layout of another model. */
Test(layout, files_that_contradict_themselves)
{
    struct weight_file *f, *view;
    const float x[LAYOUT_VALUES] = {0};
    take_golden(LAYOUT_HUGGINGFACE_CLIP);
    tensors[n_tensors++] = (struct weight_out){
        .name = "visual.class_embedding", .type = MCS_ARRAY_F32, .nd = 1, .dims = {12}, .values = x};
    fails_with(mcs_weight_model_open(put_file("bad.safetensors"), &view), MCS_E_DATA,
               "array visual.class_embedding is there twice");
    n_tensors--;
    tensor("text_model.encoder.layers.0.self_attn.v_proj.weight")->dims[0] = 7;
    tensor("vision_model.encoder.layers.0.self_attn.v_proj.bias")->type = MCS_ARRAY_F16;
    tensor("visual_projection.weight")->nd = 1;
    OK(mcs_weight_model_open(put_file("bad.safetensors"), &view));
    cr_expect_null(mcs_weight_file_find(view, "transformer.resblocks.0.attn.in_proj_weight"));
    cr_expect_null(mcs_weight_file_find(view, "visual.transformer.resblocks.0.attn.in_proj_bias"));
    cr_expect_null(mcs_weight_file_find(view, "visual.proj"));
    cr_expect(mcs_weight_file_find(view, "text_model.encoder.layers.0.self_attn.q_proj.weight"));
    cr_expect(mcs_weight_file_find(view, "transformer.resblocks.0.attn.in_proj_bias"));
    mcs_weight_file_close(view);
    OK(mcs_weight_file_open(in_folder("bad.safetensors"), &f));
    fails_with(mcs_weight_view(f, LAYOUT_SEGMENT_ANYTHING, &view), MCS_E_USAGE,
               "has Hugging Face's names, CLIPModel, which are not those of a model with segment-anything's names");
    mcs_weight_file_close(f);
}

/* Numbers of blocks that no model has; an empty file. */
Test(layout, numbers_of_blocks)
{
    static const char *const names[] = {"visual.transformer.resblocks.99999999999999999999.ln_1.weight",
                                        "visual.transformer.resblocks.1024.ln_1.weight",
                                        "visual.transformer.resblocks.-1.ln_1.weight", "visual.transformer.resblocks.1",
                                        "visual.transformer.resblocks."};
    const float one = 1;
    take_golden(LAYOUT_OPEN_CLIP_OPENAI);
    for (int i = 0; i < 5; i++)
        tensors[n_tensors++] = (struct weight_out){.name = names[i], .type = MCS_ARRAY_F32, .values = &one};
    struct layout_report r = check_file(LAYOUT_OPEN_CLIP_OPENAI);
    cr_expect(r.missing == 0 && r.extra == 5, "%s", r.text);
    tensors[n_tensors - 1].name = "visual.transformer.resblocks.1023.ln_1.weight";
    r = check_file(LAYOUT_OPEN_CLIP_OPENAI); /* so many blocks are missing that it is no such file */
    cr_expect(r.missing == 0 && r.extra == n_tensors, "%s", r.text);
    n_tensors = 0;
    r = check_file(LAYOUT_UNKNOWN);
    cr_expect(!r.missing && !r.misshapen && !r.extra);
}
