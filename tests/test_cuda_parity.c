/* The same commands on the CPU and on the simulated GPU: what each makes of identical inputs. Skipped, aloud, where the
 * simulation was not built (it needs NVIDIA's headers). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/safetensors.h"
#include "engine/status.h"
#include "tests/support_tiny.h"

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

/* |b - a| and |a - start| over all weights, in the Euclidean norm: how far apart two trainings ended, how far they
 * went. */
static void distances(const char *start, const char *a, const char *b, double *apart, double *walked)
{
    struct safetensors *f[3];
    const char *path[3] = {start, a, b};
    double d = 0, w = 0;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(mcs_safetensors_open(tiny_path(work, "%s", path[i]), &f[i]), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; i < mcs_safetensors_count(f[1]); i++) {
        const struct safetensor *t = mcs_safetensors_at(f[1], i);
        int64_t n = 1;
        for (int k = 0; k < t->nd; k++) n *= t->dims[k];
        float *v = malloc((size_t)(3 * n + 1) * sizeof *v);
        cr_assert(v);
        for (int k = 0; k < 3; k++)
            cr_assert_eq(mcs_safetensors_read_f32(f[k], t->name, t->nd, t->dims, v + k * n), MCS_OK, "%s",
                         mcs_error_message());
        for (int64_t k = 0; k < n; k++) {
            d += pow((double)v[2 * n + k] - (double)v[n + k], 2);
            w += pow((double)v[n + k] - (double)v[k], 2);
        }
        free(v);
    }
    for (int i = 0; i < 3; i++) mcs_safetensors_close(f[i]);
    *apart = sqrt(d);
    *walked = sqrt(w);
}

/* How far apart two trainings may end, as a share of how far they went. A gradient passes about 12 operations forward
 * and 12 backward, each of which rounds it once to what is stored and sums K terms in between; errors of all 10 steps
 * add up, and so does the way. In float32 a sum of the K <= 64 terms here is good to sqrt(K) roundings, so 24 * 8 *
 * 2^-24 a step; Adam's quotient and the feedback of one step's error into the next (the rates here are small) are
 * allowed a factor of 10 together. In bf16 the stored roundings of 2^-8 are all that counts; at worst all 24 go the
 * same way. */
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
    snprintf(still, sizeof still, "%s --lr 1e-9", line); /* where it starts */
    run(still, "cpu", "fp32", "start");
    run(line, "cpu", "fp32", "cpu");
    check(line, tiny_path(".", "start/%s", file), file, "fp32", share_fp32);
    check(line, tiny_path(".", "start/%s", file), file, "bf16", share_bf16);
}
