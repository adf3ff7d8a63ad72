/* Host code of the CUDA backend on the simulation: copies in pieces, out of memory at every allocation, two-phase
 * optimizer updates, error messages. Captured graphs: test_sim_capture.c; results of the ops: test_sim_ops.c. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/module.h"
#include "engine/model/layers.h"
#include "engine/optim.h"
#include "engine/tape/exec.h"
#include "infer/weights.h"
#include "tests/cudasim/cudasim.h"
#include "tests/cudasim/support_backend.h"
#include "tests/support/support_tiny.h"
#include "train/clip/clip_train.h"

static void setup(void)
{
    mcs_log_quiet(1);
}
/* After each test no device memory may be held and no report may be left. */
static int faulted; /* the test faulted the device on purpose: memory cannot be freed then */
static void teardown(void)
{
    if (faulted) return;
    for (int i = 0; i < cudasim_reports(); i++) cr_expect(0, "%s", cudasim_report_text(i));
    cr_expect_eq(cudasim_bytes_held(), 0, "%zu bytes of device memory left", cudasim_bytes_held());
}
TestSuite(cuda_backend, .init = setup, .fini = teardown, .timeout = 120);

/* ---- devices ---- */

Test(cuda_backend, devices_are_described)
{
    char text[200];
    int n = 0;
    cudasim_devices(2);
    cudasim_memory_limit((size_t)96 << 20);
    OK(mcs_cuda_module.count(&n));
    cr_expect_eq(n, 2);
    cr_expect_str_eq(mcs_cuda_module.version, MCS_VERSION);
    OK(mcs_cuda_module.check(1));
    OK(mcs_cuda_module.describe(1, text, sizeof text));
    cr_expect_str_eq(text, "cudasim (simulated, compute capability 9.0), sm_90, 96 MiB");
    fails(mcs_cuda_module.describe(2, text, sizeof text), MCS_E_DEVICE, "GPU 2 does not exist: 2 are here");
    fails(mcs_cuda_module.check(-1), MCS_E_DEVICE, "GPU -1 does not exist");
    struct device d = {0};
    fails(mcs_cuda_module.open(2, &d), MCS_E_DEVICE, "counted from 0");
    cr_expect(!d.backend && !d.state);
}

Test(cuda_backend, unusable_devices)
{
    struct device d = {0};
    int n;
    cudasim_capability(7, 5);
    fails(mcs_cuda_module.open(0, &d), MCS_E_DEVICE, "is of architecture sm_75");
    cudasim_capability(9, 0);
    cudasim_devices(0);
    fails(mcs_cuda_module.open(0, &d), MCS_E_DEVICE, "no NVIDIA GPU is visible here");
    cudasim_devices(1);
    cudasim_driver(9020);
    fails(mcs_cuda_module.count(&n), MCS_E_DEVICE, "the NVIDIA driver knows CUDA 9.2, this build wants ");
    cudasim_driver(0);
    fails(mcs_cuda_module.check(0), MCS_E_DEVICE, "no NVIDIA driver is installed here");
    mcs_device_close(&d); /* closing a device that was never opened */
}

Test(cuda_backend, closing_twice)
{
    struct device d = device_open(), other = device_open();
    mcs_device_close(&d);
    cr_expect(!d.backend && !d.state);
    mcs_device_close(&d);
    OK(other.backend->sync(&other)); /* another open device on the same GPU still works */
    mcs_device_close(&other);
}

/* CUDA errors as statuses: one line each, with advice or CUDA's error text. */
Test(cuda_backend, errors_as_statuses)
{
    cr_expect_eq(mcs_cuda_status(cudaSuccess, "call"), MCS_OK);
    fails(mcs_cuda_status(cudaErrorMemoryAllocation, "call"), MCS_E_NOMEM, "out of memory in call; close what else");
    fails(mcs_cuda_status(cudaErrorNoKernelImageForDevice, "call"), MCS_E_DEVICE, "this build has no kernels that");
    fails(mcs_cuda_status(cudaErrorUnsupportedPtxVersion, "call"), MCS_E_DEVICE, "this build has no kernels that");
    fails(mcs_cuda_status(cudaErrorDevicesUnavailable, "call"), MCS_E_DEVICE, "use another one (--gpu), or");
    fails(mcs_cuda_status(cudaErrorIllegalAddress, "call"), MCS_E_FAIL, "(cudaErrorIllegalAddress in call)");
}

/* ---- copies ---- */

/* More pieces than staging buffers, a ragged end, odd addresses. */
Test(cuda_backend, copies_of_many_pieces)
{
    const int64_t n = ((int64_t)5 << 22) + 13; /* two and a half staging buffers of 8 MiB */
    struct device d = device_open();
    const struct backend *b = d.backend;
    uint8_t *host = malloc((size_t)n), *back = malloc((size_t)n);
    void *p;
    cr_assert(host && back);
    for (int64_t i = 0; i < n; i++) host[i] = (uint8_t)(i * 7 + (i >> 11));
    OK(b->alloc(&d, n + 3, &p));
    for (int round = 0; round < 2; round++) { /* the staging buffers are reused */
        memset(back, 0, (size_t)n);
        OK(b->upload(&d, (char *)p + 3 * round, host, n));
        OK(b->download(&d, back, (char *)p + 3 * round, n));
        cr_expect(!memcmp(host, back, (size_t)n));
    }
    OK(b->zero(&d, (char *)p + 5, 1000));
    OK(b->upload(&d, (char *)p + 100, host, 0));
    OK(b->download(&d, back, p, 2000));
    for (int i = 5; i < 1005; i++) cr_assert_eq(back[i], 0);
    cr_expect_eq(back[1005], host[1002]);
    OK(b->sync(&d));
    b->free(&d, p);
    b->free(&d, NULL);
    OK(b->alloc(&d, 0, &p)); /* 0 bytes: a valid address as well */
    cr_expect(p);
    b->free(&d, p);
    free(host);
    free(back);
    mcs_device_close(&d);
}

/* Longer than the block that is converted at once. bf16 tensors return the values rounded to bf16. */
Test(cuda_backend, values_in_bf16)
{
    enum { N = 10007 };
    static float in[N], out[N];
    struct device d = device_open();
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct tensor *x = mcs_input(g, "x", MCS_BF16, MCS_DIMS(N));
    mcs_keep(mcs_relu(g, x));
    OK(mcs_graph_status(g));
    struct exec *e;
    OK(mcs_params_alloc(p, &d));
    OK(mcs_exec_new(g, &d, &e));
    draw(in, N, 3);
    OK(mcs_exec_set(e, x, in));
    OK(mcs_exec_get(e, x, out));
    for (int i = 0; i < N; i++) cr_assert_eq(out[i], mcs_bf16_to(mcs_bf16_from(in[i])), "%d", i);
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_device_close(&d);
}

/* ---- out of memory ---- */

/* Opens a device and a network, runs two training steps, closes both. */
static enum mcs_status live(enum mcs_dtype activations)
{
    const struct optim_options adamw = {.kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.99f, .eps = 1e-8f};
    struct device d = {0};
    struct net n = {0};
    struct optim *o = NULL;
    double norm;
    MCS_TRY(mcs_cuda_module.open(0, &d));
    d.activations = activations;
    enum mcs_status st = net_open(&n, &d);
    if (st == MCS_OK) st = mcs_optim_new(n.p, &adamw, NULL, &o);
    for (int i = 0; i < 2 && st == MCS_OK; i++) {
        st = mcs_exec_run(n.e);
        if (st == MCS_OK) st = mcs_optim_step(o, 1e-3, &norm);
    }
    mcs_optim_free(o);
    net_close(&n);
    mcs_device_close(&d);
    return st;
}

Test(cuda_backend, out_of_memory_at_each_allocation)
{
    int n = 1;
    for (;; n++) {
        cudasim_fail_alloc(n);
        if (live(MCS_BF16) == MCS_OK) break; /* bf16: with a workspace for cast weights */
        fails(MCS_E_NOMEM, MCS_E_NOMEM, "MiB of device memory wanted in one piece, ");
        cr_assert_eq(cudasim_bytes_held(), 0, "%zu bytes left by allocation %d that fails", cudasim_bytes_held(), n);
    }
    cudasim_fail_alloc(0);
    /* 13 allocations: two staging buffers, struct k_run; weights, gradients; activations, inputs, workspace, constants;
     * moments m and v; the optimizer's state and workspace */
    cr_expect_eq(n - 1, 13, "%d allocations", n - 1);
}

Test(cuda_backend, too_large_graph_suggests_a_batch)
{
    struct device d = device_open();
    struct net n;
    const size_t held = cudasim_bytes_held();
    /* room for weights, gradients, a workspace and half of the activations */
    cudasim_memory_limit(held + (4 << 20) + (1 << 17));
    fails(net_open(&n, &d), MCS_E_NOMEM,
          "GPU 0 (cudasim (simulated, compute capability 9.0)): a batch of 64 wants 4.1 MiB of device memory, 4.1 MiB "
          "of 20.1 MiB are free; a batch of about ");
    cr_expect_eq(cudasim_bytes_held(), held);
    cudasim_memory_limit(held + (1 << 20));
    fails(net_open(&n, &d), MCS_E_NOMEM, "no batch would fit: use a smaller model or image, or a GPU with more memory");
    cudasim_memory_limit((size_t)64 << 20);
    OK(net_open(&n, &d));
    net_close(&n);
    mcs_device_close(&d);
}

/* ---- updates ---- */

static const struct optim_options adamw = {
    .kind = OPTIM_ADAMW, .beta1 = 0.9f, .beta2 = 0.98f, .eps = 1e-6f, .weight_decay = 0.1f, .clip_norm = 1};
static const struct optim_options sgd = {
    .kind = OPTIM_SGD, .momentum = 0.9f, .weight_decay = 1e-3f, .decay_all = 1, .clip_norm = 0.5f};

static struct params *params_on(struct device *d)
{
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    const struct init normal = {INIT_NORMAL, 1};
    mcs_param(g, "weight", MCS_DIMS(33, 17), normal);
    mcs_param(g, "bias", MCS_DIMS(33), normal);
    mcs_param(g, "frozen", MCS_DIMS(40), normal);
    mcs_param(g, "last", MCS_DIMS(5, 7), normal);
    OK(mcs_params_alloc(p, d));
    OK(mcs_params_alloc_grad(p));
    OK(mcs_params_init(p, 2));
    mcs_graph_free(g);
    return p;
}

static void set_grad(struct params *p, uint32_t site, float spoil)
{
    float *g = calloc((size_t)p->n_values, sizeof *g);
    cr_assert(g);
    for (int i = 0; i < p->n; i++)
        draw(g + p->t[i]->offset / (int64_t)sizeof *g, mcs_count(p->t[i]), site + (uint32_t)i);
    if (spoil != 0) g[p->t[0]->offset / (int64_t)sizeof *g + 3] = g[p->t[1]->offset / (int64_t)sizeof *g + 8] = spoil;
    OK(p->device->backend->upload(p->device, p->grad, g, p->n_values * (int64_t)sizeof *g));
    free(g);
}

static float *weights_of(const struct params *p)
{
    float *w = malloc((size_t)p->n_values * sizeof *w);
    cr_assert(w);
    OK(p->device->backend->download(p->device, w, p->data, p->n_values * (int64_t)sizeof *w));
    return w;
}

/* Two-phase update (begin, end) on the device and on the CPU. Weights are of order 1 and an update of at most 0.01 is
 * rounded a few times, so after 5 updates they differ by less than 32 * 2^-24 * |w|. */
static void updates(const struct optim_options *o)
{
    static const char *const frozen[] = {"frozen", NULL};
    struct device on[2] = {device_open()};
    struct params *p[2];
    struct optim *opt[2];
    double norm[2], none = 7;
    OK(mcs_cpu_open(1, &on[1]));
    OK(on[0].backend->optim_norm(&on[0], &none));
    cr_expect_eq(none, 0, "no update yet");
    for (int i = 0; i < 2; i++) {
        p[i] = params_on(&on[i]);
        OK(mcs_optim_new(p[i], o, frozen, &opt[i]));
    }
    for (uint32_t step = 0; step < 5; step++) {
        for (int i = 0; i < 2; i++) {
            set_grad(p[i], 10 * step, 0);
            OK(mcs_optim_begin(opt[i], 0.01));
            OK(mcs_optim_end(opt[i], &norm[i]));
        }
        cr_expect_float_eq(norm[0], norm[1], 1e-6 * norm[1]);
    }
    float *w[] = {weights_of(p[0]), weights_of(p[1])};
    for (int64_t i = 0; i < p[0]->n_values; i++)
        cr_assert(fabsf(w[0][i] - w[1][i]) <= 32 * 0x1p-24f * (1 + fabsf(w[1][i])), "%g %g", (double)w[0][i],
                  (double)w[1][i]);
    /* A non-finite gradient changes no weight and is reported with the parameter's name; the next update counts as if
     * it had not happened. */
    set_grad(p[0], 0, NAN);
    OK(mcs_optim_begin(opt[0], 0.01));
    fails(mcs_optim_end(opt[0], &norm[0]), MCS_E_DATA,
          "update 6: the gradient's norm is not finite, first that of bias; lower the learning rate");
    float *after = weights_of(p[0]);
    cr_expect(!memcmp(after, w[0], (size_t)p[0]->n_values * sizeof *after));
    set_grad(p[0], 0, 0);
    OK(mcs_optim_step(opt[0], 0.01, NULL));
    cr_expect_eq(opt[0]->step, 6);
    free(after);
    for (int i = 0; i < 2; i++) {
        free(w[i]);
        mcs_optim_free(opt[i]);
        mcs_params_free(p[i]);
        mcs_device_close(&on[i]);
    }
}

Test(cuda_backend, adamw_two_phase)
{
    updates(&adamw);
}
Test(cuda_backend, sgd_two_phase)
{
    updates(&sgd);
}

/* ---- errors in a run ---- */

/* A kernel with an illegal address: the next call that waits reports it, later calls do too, and close frees
 * everything. */
Test(cuda_backend, kernel_fault)
{
    struct device d = device_open();
    struct net n;
    float loss;
    if (!cudasim_checked()) { /* in plain mode the access would crash the test */
        mcs_device_close(&d);
        return;
    }
    OK(net_open(&n, &d));
    cudasim_quiet(1);
    faulted = 1;
    mcs_params_find(n.p, "norm.weight")->data = n.e->memory->activations + ((size_t)1 << 28);
    OK(mcs_exec_forward(n.e));
    fails(mcs_exec_get(n.e, n.loss, &loss), MCS_E_FAIL, "the GPU failed: a kernel touched an illegal address");
    fails(mcs_exec_forward(n.e), MCS_E_FAIL, "(cudaErrorIllegalAddress in ");
    fails(d.backend->sync(&d), MCS_E_FAIL, "the GPU failed: ");
    cr_expect_eq(cudasim_report_kind(0), CUDASIM_BOUNDS);
    net_close(&n);
    mcs_device_close(&d);
    cr_expect(!d.backend);
}

enum { CLIP_BATCH = 4, CLIP_STEPS = 6 };
struct job {
    int64_t poison, stop; /* poison: the step whose images contain a NaN; stop: the step that requests a stop */
};

static enum mcs_status fill_pairs(void *ctx, int64_t step, struct clip_batch *b)
{
    static const char *const captions[] = {"a bright lesion", "a dark lesion on the left side", "left", "right side"};
    const struct job *job = ctx;
    const int64_t pixels = 16 * 16 * 3;
    for (int64_t i = 0; i < b->n; i++) {
        mcs_rng_fill_normal((struct mcs_rng){9, 2, (uint32_t)i, (uint32_t)step}, b->images + i * pixels, pixels);
        b->texts[i] = captions[(i + step) % 4];
        b->sample[i] = (int32_t)i;
    }
    if (step == job->poison) b->images[pixels + 5] = NAN;
    if (step == job->stop) mcs_stop_request();
    return MCS_OK;
}

static enum mcs_status train(struct device *d, const struct job *job, const char *run, int64_t every, char hash[65])
{
    const struct clip_config config = tiny_clip_config();
    const struct clip_train_options o = {.batch = CLIP_BATCH,
                                         .steps = CLIP_STEPS,
                                         .lr = 1e-3,
                                         .weight_decay = 0.1,
                                         .clip_norm = 1,
                                         .loss = {.a = 1},
                                         .seed = 3,
                                         .checkpoint_every = every,
                                         .run = run,
                                         .config = "a: 1\n"};
    struct clip_model m;
    OK(mcs_clip_model_new(&config, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 11, d, NULL, &m));
    const enum mcs_status st = mcs_clip_train(&m, &o, &(struct clip_source){fill_pairs, (void *)(uintptr_t)job}, NULL);
    char message[2048];
    snprintf(message, sizeof message, "%s", mcs_error_message());
    mcs_error_clear();
    OK(mcs_weights_sha256(m.params, hash));
    mcs_clip_model_close(&m);
    return st == MCS_OK ? st : MCS_FAIL(st, "%s", message);
}

/* A NaN in step 3: the error names the step and the last checkpoint, and the weights are those after step 2. */
static void not_finite(enum mcs_dtype activations)
{
    char stopped[65], spoilt[65];
    struct device d = device_open();
    const char *folder = tiny_folder("cuda_nan");
    d.activations = activations;
    cr_assert_eq(train(&d, &(struct job){-1, 2}, tiny_path(folder, "a"), 0, stopped), MCS_E_STOPPED);
    mcs_error_clear();
    mcs_stop_reset();
    const enum mcs_status st = train(&d, &(struct job){2, -1}, tiny_path(folder, "b"), 1, spoilt);
    cr_expect(strstr(mcs_error_message(), "/b/checkpoint.h5, is of step 2"), "%s", mcs_error_message());
    fails(st, MCS_E_DATA,
          "step 3: loss is not finite; lower --lr, or look at the images of this batch; the last checkpoint, ");
    cr_expect_str_eq(stopped, spoilt, "the weights were changed");
    tiny_remove(folder);
    mcs_device_close(&d);
}

Test(cuda_backend, non_finite_loss)
{
    not_finite(MCS_F32);
}
Test(cuda_backend, non_finite_loss_bf16)
{
    not_finite(MCS_BF16);
}
