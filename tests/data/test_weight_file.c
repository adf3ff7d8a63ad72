/* Files of weights: those that PyTorch wrote (tests/golden/weights), by value; what mcsam writes; several files with an
 * index. Hostile files: test_weight_file.hostile.c. */
#include "data/io/file.h"
#include "data/weights/weight_file.h"
#include "data/weights/weight_write.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_weights.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())
#define GOLDEN MCS_SOURCE_DIR "/tests/golden/weights/"

static void setup(void)
{
    test_folder_open("weight_file");
}

TestSuite(weight_file, .init = setup, .fini = test_folder_close);

static void expect_floats(const struct weight_file *f, const char *name, int nd, const int64_t *dims, const float *want)
{
    float got[64];
    const int64_t n = mcs_array_count(nd, dims);
    OK(mcs_weight_file_read_f32(f, name, nd, dims, got));
    for (int64_t i = 0; i < n; i++)
        cr_expect_eq(got[i], want[i], "%s, value %d: %g, want %g", name, (int)i, got[i], want[i]);
}

static void expect_whole(const struct weight_file *f, const char *name, int64_t factor, int64_t add)
{
    int64_t got[12];
    OK(mcs_weight_file_read_i64(f, name, 2, (int64_t[]){3, 4}, got));
    for (int i = 0; i < 12; i++)
        cr_expect_eq(got[i], ((i - 5) * factor + add), "%s, value %d: %lld", name, i, (long long)got[i]);
}

/* Every type and every kind of strides of make_weights.py. */
static void expect_types(const char *name, enum weight_kind kind)
{
    struct weight_file *f;
    float x[12], third[12], one_more[12], wide[24], transposed[24], slice[9], permuted[24];
    int64_t truth[12];
    OK(mcs_weight_file_open(name, &f));
    cr_expect_eq(mcs_weight_file_kind(f), kind);
    cr_expect_eq(mcs_weight_file_count(f), 19);
    for (int i = 0; i < 12; i++) {
        x[i] = 0.5f * (float)(i - 5);
        third[i] = (float)(0.5 * (i - 5) / 3);
        one_more[i] = x[i] + 1;
    }
    for (int i = 0; i < 24; i++) {
        wide[i] = (float)i;
        transposed[i] = (float)(i % 4 * 6 + i / 4);
        permuted[i] = (float)(i % 6 / 3 * 12 + i % 3 * 4 + i / 6); /* (4, 2, 3) of (2, 3, 4) */
    }
    for (int i = 0; i < 9; i++) slice[i] = (float)((i / 3 + 1) * 6 + 1 + 2 * (i % 3));
    expect_floats(f, "f32", 2, (int64_t[]){3, 4}, x);
    expect_floats(f, "f16", 2, (int64_t[]){3, 4}, x);
    expect_floats(f, "bf16", 2, (int64_t[]){3, 4}, x);
    expect_floats(f, "f64", 2, (int64_t[]){3, 4}, third);
    expect_floats(f, "parameter", 2, (int64_t[]){3, 4}, one_more);
    expect_floats(f, "scalar", 0, NULL, (float[]){2.5f});
    expect_floats(f, "empty", 2, (int64_t[]){0, 4}, NULL);
    expect_floats(f, "shared.a", 2, (int64_t[]){4, 6}, wide);
    expect_floats(f, "shared.b", 2, (int64_t[]){4, 6}, wide);
    expect_floats(f, "transposed", 2, (int64_t[]){6, 4}, transposed);
    expect_floats(f, "slice", 2, (int64_t[]){3, 3}, slice);
    expect_floats(f, "expanded", 2, (int64_t[]){2, 3}, (float[]){1, 1, 1, 2, 2, 2});
    expect_floats(f, "permuted_half", 3, (int64_t[]){4, 2, 3}, permuted);
    expect_whole(f, "i64", 10000000000, 0);
    expect_whole(f, "i32", 1, 0);
    expect_whole(f, "i16", 1, 0);
    expect_whole(f, "i8", 1, 0);
    OK(mcs_weight_file_read_i64(f, "u8", 2, (int64_t[]){3, 4}, truth));
    for (int i = 0; i < 12; i++) cr_expect_eq(truth[i], (i + 245) & 255);
    OK(mcs_weight_file_read_i64(f, "bool", 2, (int64_t[]){3, 4}, truth));
    for (int i = 0; i < 12; i++) cr_expect_eq(truth[i], i > 5);
    cr_expect_eq(mcs_weight_file_find(f, "shared.a")->offset, mcs_weight_file_find(f, "shared.b")->offset);
    mcs_weight_file_close(f);
}

Test(weight_file, types_and_strides_of_torch)
{
    expect_types(GOLDEN "types.pt", WEIGHT_TORCH_ZIP);
    expect_types(GOLDEN "types_legacy.pt", WEIGHT_TORCH_LEGACY);
}

Test(weight_file, wrapper_and_prefix)
{
    struct weight_file *f;
    float got[6];
    OK(mcs_weight_file_open(GOLDEN "epoch_2.pt", &f));
    cr_expect_str_eq(mcs_weight_file_wrapper(f), "state_dict");
    cr_expect_str_eq(mcs_weight_file_prefix(f), "module.");
    cr_expect_eq(mcs_weight_file_count(f), 7);
    OK(mcs_weight_file_read_f32(f, "0.weight", 2, (int64_t[]){2, 3}, got));
    for (int i = 0; i < 6; i++) cr_expect_eq(got[i], (float)i / 8);
    cr_expect_eq(mcs_weight_file_find(f, "module.0.weight"), mcs_weight_file_find(f, "0.weight"));
    const struct pickle_value *o = mcs_weight_file_object(f);
    cr_expect_eq(mcs_pickle_get(o, "epoch")->i, 2);
    cr_expect_str_eq(mcs_pickle_text(mcs_pickle_get(o, "name")), "run");
    const struct pickle_value *state = mcs_pickle_get(mcs_pickle_get(o, "optimizer"), "state");
    cr_assert(state && state->kind == PICKLE_DICT && state->items.n == 8 && state->items.v[0]->kind == PICKLE_INT);
    cr_expect_eq(mcs_pickle_get(state->items.v[1], "exp_avg")->kind, PICKLE_TENSOR);
    mcs_weight_file_close(f);
}

/* TorchScript: the parameters and buffers of modules in modules; its code is compressed, and is not read. */
Test(weight_file, torch_script)
{
    struct weight_file *f;
    int64_t size = 0;
    OK(mcs_weight_file_open(GOLDEN "script.pt", &f));
    cr_expect_eq(mcs_weight_file_kind(f), WEIGHT_TORCH_ZIP);
    cr_expect_eq(mcs_weight_file_count(f), 6);
    cr_expect(!mcs_weight_file_wrapper(f)[0] && !mcs_weight_file_prefix(f)[0]);
    expect_floats(f, "scale", 0, NULL, (float[]){2.5f});
    expect_floats(f, "visual.0.weight", 2, (int64_t[]){2, 3}, (float[]){1, 1.25f, 1.5f, 1.75f, 2, 2.25f});
    expect_floats(f, "visual.0.bias", 1, (int64_t[]){2}, (float[]){1, 1.25f});
    expect_floats(f, "visual.1.weight", 4, (int64_t[]){1, 1, 1, 1}, (float[]){1});
    OK(mcs_weight_file_read_i64(f, "size", 0, NULL, &size));
    cr_expect_eq(size, 7);
    OK(mcs_weight_file_verify(f));
    mcs_weight_file_close(f);
}

static void expect_nnunet(const char *name)
{
    struct weight_file *f;
    OK(mcs_weight_file_open(name, &f));
    cr_expect_str_eq(mcs_weight_file_wrapper(f), "network_weights");
    cr_expect_eq(mcs_weight_file_count(f), 70);
    expect_floats(f, "encoder.stages.69.weight", 2, (int64_t[]){2, 2}, (float[]){69, 69, 69, 69});
    const struct pickle_value *o = mcs_weight_file_object(f), *init = mcs_pickle_get(o, "init_args"),
                              *dice = mcs_pickle_get(mcs_pickle_get(o, "logging"), "mean_fg_dice"),
                              *axes = mcs_pickle_get(o, "inference_allowed_mirroring_axes");
    cr_expect_eq(mcs_pickle_get(o, "_best_ema")->f, 0.75);
    cr_expect_eq(mcs_pickle_get(o, "current_epoch")->i, 1000);
    cr_expect_eq(mcs_pickle_get(o, "grad_scaler_state")->kind, PICKLE_NONE);
    cr_expect_str_eq(mcs_pickle_text(mcs_pickle_get(o, "trainer_name")), "nnUNetTrainer");
    cr_assert(dice && dice->kind == PICKLE_LIST && dice->items.n == 2);
    cr_expect(dice->items.v[0]->f == 0.25 && dice->items.v[1]->f == 0.5);
    cr_assert(axes && axes->kind == PICKLE_TUPLE && axes->items.n == 2 && axes->items.v[1]->i == 1);
    cr_expect_str_eq(mcs_pickle_text(mcs_pickle_get(init, "device")), "cuda:0");
    cr_expect_eq(mcs_pickle_get(init, "fold")->i, -3);
    cr_expect_eq(mcs_pickle_get(init, "big")->i, (int64_t)1 << 40);
    const struct pickle_value *size = mcs_pickle_get(mcs_pickle_get(init, "plans"), "patch_size");
    cr_assert(size && size->items.n == 2 && size->items.v[0]->i == 40 && size->items.v[1]->i == 56);
    cr_expect(!mcs_pickle_get(o, "none") && !mcs_pickle_get(NULL, "a") && !mcs_pickle_get(size, "a"));
    mcs_weight_file_close(f);
}

Test(weight_file, checkpoint_of_nnunet)
{
    expect_nnunet(GOLDEN "nnunet.pth");
    expect_nnunet(GOLDEN "nnunet_legacy.pth");
}

/* ---- writing ---- */

static const float values[6] = {1, -2.5f, 1e-30f, 3e38f, 0, 65504};
static const struct weight_out out[] = {
    {.name = "z", .type = MCS_ARRAY_F32, .nd = 2, .dims = {2, 3}, .values = values},
    {.name = "half \xc3\xa9", .type = MCS_ARRAY_F16, .nd = 1, .dims = {5}, .values = values},
    {.name = "scalar", .type = MCS_ARRAY_F32, .nd = 0, .dims = {0}, .values = values + 1},
    {.name = "none", .type = MCS_ARRAY_F32, .nd = 2, .dims = {0, 4}, .values = NULL},
    {.name = "long", .type = MCS_ARRAY_F16, .nd = 3, .dims = {1, 6, 1}, .values = values}};

Test(weight_file, torch_round_trip)
{
    struct weight_file *f;
    char path[512], first[65], second[65];
    for (int wrapped = 0; wrapped < 2; wrapped++) {
        snprintf(path, sizeof path, "%s/w.pt", test_folder);
        OK(mcs_torch_write(path, 5, out, wrapped ? "state_dict" : NULL));
        mcs_file_sha256(path, first);
        OK(mcs_torch_write(path, 5, out, wrapped ? "state_dict" : NULL));
        mcs_file_sha256(path, second);
        cr_expect_str_eq(first, second);
        OK(mcs_weight_file_open(path, &f));
        cr_expect_eq(mcs_weight_file_kind(f), WEIGHT_TORCH_ZIP);
        cr_expect_str_eq(mcs_weight_file_wrapper(f), wrapped ? "state_dict" : "");
        cr_expect_eq(mcs_weight_file_count(f), 5);
        expect_floats(f, "z", 2, (int64_t[]){2, 3}, values);
        expect_floats(f, "scalar", 0, NULL, values + 1);
        expect_floats(f, "half \xc3\xa9", 1, (int64_t[]){5}, (float[]){1, -2.5f, 0, INFINITY, 0});
        mcs_weight_file_close(f);
    }
}

Test(weight_file, torch_write_refuses)
{
    char path[512];
    const struct weight_out twice[] = {out[0], out[1], out[0]},
                            whole = {.name = "a", .type = MCS_ARRAY_I64, .nd = 1, .dims = {1}, .values = values};
    snprintf(path, sizeof path, "%s/w.pt", test_folder);
    cr_expect_eq(mcs_torch_write(path, 3, twice, NULL), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect_eq(mcs_torch_write(path, 1, &whole, NULL), MCS_E_USAGE);
    mcs_error_clear();
    cr_expect(!mcs_file_exists(path));
    cr_expect_eq(mcs_torch_write("/proc/none/x.pt", 1, out, NULL), MCS_E_IO);
    mcs_error_clear();
}

/* ---- several files ---- */

static void put_text(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", test_folder, name);
    OK(mcs_file_write(path, text, (int64_t)strlen(text)));
}

static enum mcs_status open_index(const char *text, struct weight_file **f)
{
    char path[512];
    put_text("model.safetensors.index.json", text);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", test_folder);
    mcs_error_clear();
    return mcs_weight_file_open(path, f);
}

Test(weight_file, several_files)
{
    struct weight_file *f;
    char path[512], hex[65], again[65];
    const struct weight_out a[] =
        {{.name = "model.a", .type = MCS_ARRAY_F32, .nd = 2, .dims = {2, 3}, .values = values},
         {.name = "model.left", .type = MCS_ARRAY_F32, .nd = 1, .dims = {1}, .values = values}},
                            b = {.name = "model.b", .type = MCS_ARRAY_F16, .nd = 1, .dims = {2}, .values = values};
    snprintf(path, sizeof path, "%s/1.safetensors", test_folder);
    OK(mcs_safetensors_write(path, 2, a, 0, NULL));
    snprintf(path, sizeof path, "%s/2.bin", test_folder);
    OK(mcs_torch_write(path, 1, &b, NULL));
    OK(open_index("{\"weight_map\": {\"model.a\": \"1.safetensors\", \"model.b\": \"2.bin\"}}", &f));
    cr_expect_eq(mcs_weight_file_kind(f), WEIGHT_INDEX);
    cr_expect_eq(mcs_weight_file_count(f), 2);
    cr_expect_eq(mcs_weight_file_n_parts(f), 3);
    expect_floats(f, "a", 2, (int64_t[]){2, 3}, values);
    expect_floats(f, "model.b", 1, (int64_t[]){2}, values);
    OK(mcs_weight_file_sha256(f, hex));
    mcs_weight_file_close(f);
    OK(open_index("{\"weight_map\": {\"model.a\": \"1.safetensors\", \"model.b\": \"2.bin\"} }", &f));
    OK(mcs_weight_file_sha256(f, again));
    cr_expect_str_neq(hex, again, "the hash has the index in it");
    mcs_weight_file_close(f);

    static const struct {
        const char *text, *message;
        enum mcs_status st;
    } bad[] = {{"{\"weight_map\": {\"a\": \"../1.safetensors\"}}", "names of files beside it", MCS_E_DATA},
               {"{\"weight_map\": {\"a\": 3}}", "names of files beside it", MCS_E_DATA},
               {"{\"weight_map\": {\"a\": \"3.safetensors\"}}", "names 3.safetensors, which is not there", MCS_E_DATA},
               {"{\"weight_map\": {\"model.a\": \"model.safetensors.index.json\"}}", "names an index", MCS_E_DATA},
               {"{\"weight_map\": {\"model.b\": \"1.safetensors\"}}", "the first is model.b", MCS_E_DATA},
               {"{\"weight_map\": 1}", "no weight_map", MCS_E_DATA},
               {"[]", "no weight_map", MCS_E_DATA}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_expect_eq(open_index(bad[i].text, &f), bad[i].st, "case %zu", i);
        cr_expect(strstr(mcs_error_message(), bad[i].message), "case %zu: %s", i, mcs_error_message());
    }
    mcs_error_clear();
}
