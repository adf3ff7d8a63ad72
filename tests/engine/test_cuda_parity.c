/* The same commands on the CPU and on the simulated GPU: compares their results on identical inputs. Skipped, with a
 * message, where the simulation was not built (it needs NVIDIA's headers). */
#include "data/weights/weight_file.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "infer/sam/sam_model.h"
#include "tests/support/support_tiny.h"

static const char *work;

static void setup(void)
{
    work = tiny_folder("parity");
}
static void teardown(void)
{
    tiny_remove(work);
}
TestSuite(parity, .init = setup, .fini = teardown);

static int is_built(void)
{
    return access(MCS_BUILD "/libmcsam_cudasim.so", R_OK) == 0;
}

/* Runs "mcsam LINE --device DEVICE" in the folder, with the output folder named by the device and precision. */
static void run(const char *line, const char *device, const char *precision, const char *out)
{
    cr_assert_eq(
        tiny_shell("cd %s && OMP_WAIT_POLICY=passive %s %s --device %s --precision %s --threads 1 --quiet -o %s "
                   "> log 2>&1 || { cat log >&2; exit 1; }",
                   work, MCS_BINARY, line, device, precision, out),
        0, "%s on %s", line, device);
}

/* |b - a| and |a - start| over all weights, in the Euclidean norm: the distance between two trainings' ends, and the
 * distance from the start. */
static void distances(const char *start, const char *a, const char *b, double *apart, double *walked)
{
    struct weight_file *f[3];
    const char *path[3] = {start, a, b};
    double d = 0, w = 0;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(mcs_weight_file_open(tiny_path(work, "%s", path[i]), &f[i]), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < mcs_weight_file_count(f[1]); i++) {
        const struct weight_tensor *t = mcs_weight_file_at(f[1], i);
        int64_t n = 1;
        for (int k = 0; k < t->nd; k++) n *= t->dims[k];
        float *v = malloc((size_t)(3 * n + 1) * sizeof *v);
        cr_assert(v);
        for (int k = 0; k < 3; k++)
            cr_assert_eq(mcs_weight_file_read_f32(f[k], t->name, t->nd, t->dims, v + k * n), MCS_OK, "%s",
                         mcs_error_message());
        for (int64_t k = 0; k < n; k++) {
            d += pow((double)v[2 * n + k] - (double)v[n + k], 2);
            w += pow((double)v[n + k] - (double)v[k], 2);
        }
        free(v);
    }
    for (int i = 0; i < 3; i++) mcs_weight_file_close(f[i]);
    *apart = sqrt(d);
    *walked = sqrt(w);
}

/* The allowed distance of two trainings, relative to the distance from their start. A gradient passes about 12
 * operations forward and 12 backward; each rounds it once to the stored type and sums K terms in between. The errors of
 * all 10 steps add up, and so does the distance. In float32 a sum of the K <= 64 terms here has an error of sqrt(K)
 * roundings, so 24 * 8 * 2^-24 per step; Adam's quotient and the feedback of one step's error into the next (the rates
 * here are small) are allowed a factor of 10 together. In bf16 only the stored roundings of 2^-8 matter; at worst all
 * 24 have the same sign. */
static const double share_fp32 = 10 * 24 * 8 * 0x1p-24, share_bf16 = 24 * 0x1p-8;

static void check(const char *line, const char *start, const char *file, const char *precision, double share)
{
    double apart, walked;
    run(line, "cudasim", precision, precision);
    distances(start, tiny_path(".", "cpu/%s", file), tiny_path(".", "%s/%s", precision, file), &apart, &walked);
    fprintf(stderr, "%s: apart %g, walked %g, share %g\n", precision, apart, walked, apart / walked);
    cr_expect(apart <= share * walked, "%s: %g apart after %g, want at most %g of it", precision, apart, walked, share);
}

Test(parity, ten_steps_of_clip)
{
    static const char line[] = "finetune -m model --pairs pairs/pairs.csv --batch 6 --steps 10 --warmup 1 --lr 1e-3 "
                               "--seed 3 --temperature learned",
                      file[] = "model/open_clip_model.safetensors";
    if (!is_built()) cr_skip_test("no simulation in this build");
    tiny_training_folder(TINY_CLIP, work);
    run(line, "cpu", "fp32", "cpu");
    check(line, file, file, "fp32", share_fp32);
    check(line, file, file, "bf16", share_bf16);
}

Test(parity, ten_steps_of_the_network)
{
    static const char line[] = "train -i data/images -l data/labels --patch 16x16 --stages 3 --features 4 "
                               "--max-features 8 --batch 2 --epochs 1 --iterations 10 --cycles 1 --checkpoints 1 "
                               "--seed 3 --optimizer sgd",
                      file[] = "cycle_1_checkpoint_1.safetensors";
    char still[512];
    if (!is_built()) cr_skip_test("no simulation in this build");
    tiny_training_folder(TINY_UNET, work);
    snprintf(still, sizeof still, "%s --lr 1e-9", line); /* the starting point */
    run(still, "cpu", "fp32", "start");
    run(line, "cpu", "fp32", "cpu");
    check(line, tiny_path(".", "start/%s", file), file, "fp32", share_fp32);
    check(line, tiny_path(".", "start/%s", file), file, "bf16", share_bf16);
}

/* ---- masks ---- */

static void draw_sam(void)
{
    const struct sam_config c = tiny_sam_config();
    struct device d;
    struct sam_model m;
    const pid_t pid = fork(); /* threads do not survive a fork */
    cr_assert(pid >= 0);
    if (pid == 0) {
        if (mcs_cpu_open(1, &d) != MCS_OK || mcs_sam_model_new(&c, 5, &d, &m) != MCS_OK) _exit(1);
        _exit(mcs_sam_model_save(&m, tiny_path(work, "sam"), 0, NULL) != MCS_OK);
    }
    cr_assert_eq(tiny_wait(pid), 0);
}

static void expect_near(const char *what, const json_t *a, const json_t *b, double bound)
{
    const char *key;
    json_t *v;
    cr_assert(a && b && json_typeof(a) == json_typeof(b), "%s", what);
    if (json_is_object(a)) json_object_foreach((json_t *)a, key, v) expect_near(key, v, json_object_get(b, key), bound);
    cr_expect_eq(json_array_size(a), json_array_size(b), "%s", what);
    for (size_t i = 0; i < json_array_size(a); i++)
        expect_near(what, json_array_get(a, i), json_array_get(b, i), bound);
    if (json_is_number(a))
        cr_expect(fabs(json_number_value(a) - json_number_value(b)) <= bound * (1 + fabs(json_number_value(a))),
                  "%s: %g and %g", what, json_number_value(a), json_number_value(b));
}

/* Images used as maps: bytes over 255, whose sums are exact in double, so every file is the same. */
Test(parity, coarse_masks)
{
    static const char line[] = "coarse -i data/images --min-confidence 0.1 --keep 2 --points 4 --negative-points 2";
    if (!is_built()) cr_skip_test("no simulation in this build");
    tiny_masks(tiny_path(work, "data"), 4);
    run(line, "cpu", "fp32", "cpu");
    run(line, "cudasim", "fp32", "sim");
    cr_expect_eq(
        tiny_shell("cd %s && ls cpu sim && rm */config.yaml && diff -r -x .mcsam.record -x .mcsam.lock cpu sim", work),
        0);
}

/* Logits agree to 1e-5 of their size, so one of the 576 pixels of a mask or a count may differ. */
Test(parity, sam_masks)
{
    static const char line[] = "sam -m sam -i data/images/img_0.png --box 2,3,14,15 --box 5,1,20,20 --point 9,8,1";
    static const char *const more[] = {"", " --multimask", " --multimask --form release"};
    if (!is_built()) cr_skip_test("no simulation in this build");
    tiny_masks(tiny_path(work, "data"), 1);
    cr_assert_eq(tiny_shell("cd %s/data/images && cp \"$(ls | head -1)\" img_0.png", work), 0);
    draw_sam();
    for (int i = 0; i < 3; i++) {
        char whole[200];
        snprintf(whole, sizeof whole, "%s%s", line, more[i]);
        run(whole, "cpu", "fp32", "cpu");
        run(whole, "cudasim", "fp32", "sim");
        cr_expect_eq(tiny_shell("cd %s && %s diff cpu sim --tolerance 5e-3", work, MCS_BINARY), 0);
        json_t *a = json_load_file(tiny_path(work, "cpu/sam.json"), 0, NULL),
               *b = json_load_file(tiny_path(work, "sim/sam.json"), 0, NULL);
        const json_int_t area = json_integer_value(json_object_get(a, "area"));
        cr_expect(area > 0 && area < 24 * 24, "%d pixels tell nothing", (int)area);
        expect_near("sam.json", a, b, 5e-3);
        json_decref(a);
        json_decref(b);
    }
}
