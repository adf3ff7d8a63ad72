/* Errors of a GPU, its driver or the backend's module, through the program on simulated devices: the exit code, and one
 * line with the remedy. The device's functions are tested in tests/cudasim/test_sim_backend.c; ranks that leave in
 * test_dist.c too. */
#include "data/io/file.h"
#include "engine/base/log.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *folder, *modules; /* folder of the test's files; folder of the program and its modules */

static void setup(void)
{
    char text[1024];
    snprintf(text, sizeof text, "%s", MCS_BINARY);
    *strrchr(text, '/') = '\0';
    folder = tiny_folder("cuda_badinput");
    modules = tiny_path(text, "%s", ".");
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(cuda_badinput, .init = setup, .fini = teardown, .timeout = 120);

/* 1 where the simulation's module was not built, because CUDA's headers are missing. */
static int no_module(void)
{
    return access(tiny_path(modules, "libmcsam_cudasim.so"), R_OK) != 0;
}
#define NEED_MODULE()                                                                                                  \
    if (no_module()) cr_skip_test("%s/libmcsam_cudasim.so is not built: no CUDA headers here", modules)

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define UNET                                                                                                           \
    "train", "-i", "data/images", "-l", "data/labels", "-o", "run", "--patch", "16x16", "--stages", "2", "--features", \
        "4", "--cycles", "1", "--checkpoints", "1", "--threads", "1", "--quiet", "--device", "cudasim"
#define CLIP                                                                                                           \
    "finetune", "-m", "model", "--pairs", "pairs/pairs.csv", "-o", "run", "--batch", "4", "--threads", "1", "--quiet", \
        "--device", "cudasim"

/* Runs the program and expects this exit code, and one line of error with these words. Returns that line. */
static const char *expect(int code, const char *says, const char *const *argv)
{
    const int got = tiny_wait(tiny_spawn(MCS_BINARY, folder, argv, NULL));
    const char *log = tiny_log(folder), *error = strstr(log, "mcsam: error: ");
    cr_expect_eq(got, code, "%s: exit %d, want %d: %s", argv[0], got, code, log);
    cr_expect(strstr(log, says), "want '%s' in: %s", says, log);
    if (code) cr_assert(error && strchr(error, '\n') && !strchr(error, '\n')[1], "want one line at the end: %s", log);
    return error ? error : log;
}

static void run_folder(int there)
{
    cr_expect_eq(mcs_file_exists(tiny_path(folder, "run/config.yaml")), there, "%s",
                 there ? "no run was begun" : "a run was begun");
}

/* ---- no device ---- */

Test(cuda_badinput, devices_that_cannot_be_used)
{
    static const struct {
        const char *name, *value, *says;
    } bad[] = {
        {"CUDASIM_DEVICES", "0", "no NVIDIA GPU is visible here (CUDA_VISIBLE_DEVICES may hide it); use --device cpu"},
        {"CUDASIM_DRIVER", "0", "no NVIDIA driver is installed here; install one, or use --device cpu"},
        {"CUDASIM_DRIVER", "10020", "the NVIDIA driver knows CUDA 10.2, this build wants 1"},
        {"CUDASIM_CAPABILITY", "7.5", "is of architecture sm_75; bf16 tensor cores are there from sm_80 on"},
    };
    NEED_MODULE();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv(bad[i].name, bad[i].value, 1);
        expect(69, bad[i].says, ARGS(CLIP));
        expect(69, bad[i].says, ARGS("devices", "--device", "cudasim"));
        expect(0, bad[i].says, ARGS("devices"));
        expect(0, bad[i].says, ARGS("devices", "--json"));
        unsetenv(bad[i].name);
    }
    run_folder(0);
}

Test(cuda_badinput, devices_are_listed)
{
    NEED_MODULE();
    setenv("CUDASIM_DEVICES", "3", 1);
    setenv("CUDASIM_MEMORY_MIB", "640", 1);
    expect(0, "cudasim  2: cudasim (simulated, compute capability 9.0), sm_90, 640 MiB\n", ARGS("devices"));
    expect(0, "cudasim  0: ", ARGS("devices", "--device", "cudasim", "--gpu", "2"));
    setenv("CUDASIM_CAPABILITY", "8.6", 1);
    expect(0, "[\"cudasim (simulated, compute capability 8.6), sm_86, 640 MiB\", \"cudasim (",
           ARGS("devices", "--json"));
    setenv("CUDASIM_CAPABILITY", "6.1", 1);
    expect(0, "cudasim  1: not usable: GPU 1 (cudasim (simulated, compute capability 6.1)) is of architecture sm_61",
           ARGS("devices"));
}

Test(cuda_badinput, indices_of_no_device)
{
    NEED_MODULE();
    expect(69, "GPU 1 does not exist: 1 is here, counted from 0", ARGS(CLIP, "--gpu", "1"));
    setenv("CUDASIM_DEVICES", "2", 1);
    expect(69, "GPU 2 does not exist: 2 are here, counted from 0",
           ARGS("devices", "--device", "cudasim", "--gpu", "2"));
    expect(2, "gpu: ", ARGS(CLIP, "--gpu", "-1"));
    tiny_training_folder(TINY_CLIP, folder);
    expect(2, "--gpus 4: there are 2 here", ARGS(CLIP, "--gpus", "4"));
    expect(69, "use --device cpu", ARGS("devices", "--device", "cuda", "--gpu", "1023"));
    run_folder(0);
}

/* ---- the module ---- */

Test(cuda_badinput, modules_that_cannot_be_opened)
{
    const char *own = tiny_path(folder, "modules/libmcsam_cudasim.so");
    setenv("MCSAM_MODULES", "modules", 1);
    expect(69, "this build has no cudasim backend (modules/libmcsam_cudasim.so is not there)", ARGS(CLIP));
    expect(0, "cudasim  none: --device cudasim: this build has no", ARGS("devices"));
    cr_assert_eq(tiny_shell("mkdir %s/modules && echo text >%s", folder, own), 0);
    expect(69, "--device cudasim: the module cannot be opened: modules/libmcsam_cudasim.so: ", ARGS(CLIP));
    cr_assert_eq(tiny_shell("cp %s/other_version/libmcsam_cudasim.so %s", modules, own), 0);
    expect(69, "modules/libmcsam_cudasim.so is of mcsam 0.0.0, this program is ", ARGS(CLIP));
    cr_assert_eq(tiny_shell("cp %s/other_version/libno_module.so %s", modules, own), 0);
    expect(69, "modules/libmcsam_cudasim.so is no module of mcsam", ARGS(CLIP));
    run_folder(0);
    if (no_module()) return;
    cr_assert_eq(tiny_shell("head -c 100000 %s/libmcsam_cudasim.so >%s", modules, own), 0);
    expect(69, "the module cannot be opened: modules/libmcsam_cudasim.so: the file is truncated; rebuild it",
           ARGS(CLIP));
    cr_assert_eq(tiny_shell("cp %s/libmcsam_cudasim.so %s", modules, own), 0);
    expect(0, "cudasim  0: ", ARGS("devices", "--device", "cudasim"));
}

/* ---- memory ---- */

/* The batch that the message names fits. */
Test(cuda_badinput, out_of_memory_names_a_batch_that_fits)
{
    char batch[32];
    long long asked, fits;
    double wanted, unused, total;
    NEED_MODULE();
    tiny_masks(tiny_path(folder, "data"), 8);
    setenv("CUDASIM_MEMORY_MIB", "17", 1);
    const char *line = expect(1, "would fit", ARGS(UNET, "--epochs", "1", "--iterations", "1", "--batch", "96"));
    cr_assert_eq(sscanf(line,
                        "mcsam: error: GPU 0 (cudasim (simulated, compute capability 9.0)): a batch of %lld wants %lf "
                        "MiB of device memory, %lf MiB of %lf MiB are free; a batch of about %lld would fit",
                        &asked, &wanted, &unused, &total, &fits),
                 5, "%s", line);
    cr_expect(asked == 96 && total == 17 && unused <= 1 && wanted > unused, "%s", line);
    cr_assert(fits > 0 && fits < 96, "%s", line);
    snprintf(batch, sizeof batch, "%lld", fits);
    cr_assert_eq(tiny_shell("rm -r %s/run", folder), 0);
    expect(0, "", ARGS(UNET, "--epochs", "1", "--iterations", "1", "--batch", batch));
    /* With 12 MiB, a buffer that does not depend on the batch fails: the message names no batch. */
    cr_assert_eq(tiny_shell("rm -r %s/run", folder), 0);
    setenv("CUDASIM_MEMORY_MIB", "12", 1);
    expect(1, "8.0 MiB of device memory wanted in one piece, 4.0 MiB of 12.0 MiB are free; close what else uses",
           ARGS(UNET, "--batch", "2"));
}

/* ---- a run that goes wrong ---- */

/* A model whose last weights are finite but overflow in the first product; later errors in a run are in
 * test_sim_backend.c. */
Test(cuda_badinput, losses_that_are_not_finite)
{
    NEED_MODULE();
    tiny_training_folder(TINY_CLIP, folder);
    char *bytes;
    int64_t n;
    const char *path = tiny_path(folder, "model/open_clip_model.safetensors");
    cr_assert_eq(mcs_file_read(path, 1 << 26, &bytes, &n), MCS_OK, "%s", mcs_error_message());
    memset(bytes + n - 4096, 0x7f, 4096); /* 3.4e38 */
    cr_assert_eq(mcs_file_write(path, bytes, n), MCS_OK, "%s", mcs_error_message());
    free(bytes);
    for (int half = 0; half < 2; half++) {
        expect(65,
               "mcsam: error: step 1: loss is not finite; lower --lr, or look at the images of this batch; there is "
               "no checkpoint yet\n",
               ARGS(CLIP, "--precision", half ? "bf16" : "fp32"));
        cr_expect(!mcs_file_exists(tiny_path(folder, "run/checkpoint.h5")));
        cr_assert_eq(tiny_shell("rm -r %s/run", folder), 0);
    }
}

/* One rank finds a damaged image while the other one is in a collective. */
Test(cuda_badinput, a_rank_that_leaves)
{
    NEED_MODULE();
    tiny_training_folder(TINY_CLIP, folder);
    setenv("CUDASIM_DEVICES", "2", 1);
    expect(0, "", ARGS(CLIP, "--steps", "2", "--warmup", "1", "--gpus", "2"));
    cr_assert_eq(tiny_shell("rm -r %s/run && head -c 60 %s/pairs/p05.png >%s/x && mv %s/x %s/pairs/p05.png", folder,
                            folder, folder, folder, folder),
                 0);
    const double started = mcs_seconds();
    expect(65, "p05.png", ARGS(CLIP, "--steps", "40", "--warmup", "1", "--gpus", "2"));
    cr_expect(mcs_seconds() - started < 60);
}
