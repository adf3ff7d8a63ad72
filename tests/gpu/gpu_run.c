/* The program of ./run gpu: the cases of tests/cases against their oracles, the probes of the intrinsics, the
 * measurements of bench. It needs libc, pthread and CUDA's libraries only (tests/gpu/run.sh builds it). Linked with the
 * simulation it is a test of the ci tier.
 *
 *     gpu_run devices
 *     gpu_run ops CSV [--small] [--op NAME] [--jobs N]     N 0: no child processes
 *     gpu_run intrinsics CSV
 *     gpu_run bench FOLDER [--small] [--seconds S] [--only NAME]     writes FOLDER/NAME.csv
 *
 * NAME: ops_fp32, ops_bf16, models_fp32, models_bf16.
 * Last line: "N passed, M failed". Exit code 0, 1 where something failed, 69 where there is no GPU. */
#include <cuda_runtime_api.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "engine/cuda/module.h"
#include "engine/devices.h"
#include "engine/tape/amp.h"
#include "tests/cudasim/probes.h"
#include "tests/support/support_cases.h"

enum { SMALL_CASES = 2, OP_SECONDS = 150 };

struct arguments {
    const char *what, *path, *op;
    int small, jobs;
    double seconds;
};

/* ---- the device: this program has no CPU backend ---- */

enum mcs_status mcs_device_open(const struct mcs_device_options *o, struct device *d)
{
    MCS_TRY(mcs_cuda_module.open((int)o->gpu, d));
    d->activations = o->precision == MCS_PRECISION_FP32 ? MCS_F32 : MCS_BF16;
    return MCS_OK;
}

/* Prints the error; returns the exit code. */
static int say_error(const char *what, enum mcs_status st)
{
    fprintf(stderr, "%s%s%s\n", what, *what ? ": " : "", mcs_error_message());
    mcs_error_clear();
    return mcs_exit_code(st);
}

static int devices(void)
{
    struct device device;
    char text[256];
    int n, driver = 0, runtime = 0;
    enum mcs_status st = mcs_cuda_module.count(&n);
    if (st != MCS_OK) return say_error("", st);
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    for (int i = 0; i < n; i++) {
        if ((st = mcs_cuda_module.describe(i, text, sizeof text)) != MCS_OK) return say_error("", st);
        printf("GPU %d: %s; CUDA %d.%d built with, %d.%d known to the driver\n", i, text, runtime / 1000,
               runtime % 1000 / 10, driver / 1000, driver % 1000 / 10);
    }
    fflush(stdout);
    if ((st = mcs_cuda_module.open(0, &device)) != MCS_OK) return say_error("", st);
    mcs_device_close(&device);
    return 0;
}

/* ---- the ops ---- */

/* Runs every case of one op in one precision. Returns their number; *failed: how many failed. */
static int run_cases(enum mcs_op op, int half, int small, int *failed)
{
    struct device device;
    int n = 0;
    *failed = 0;
    const enum mcs_status st = mcs_cuda_module.open(0, &device);
    if (st != MCS_OK) {
        (void)say_error(mcs_op_table[op].name, st);
        return *failed = 1;
    }
    struct case_backend b = {.name = half ? "cuda bf16" : "cuda", .device = &device, .half = half};
    b.impl[op] = &device.backend->ops[op];
    for (int i = 0; i < mcs_n_cases; i++) {
        if (mcs_cases[i].op != op || (small && n == SMALL_CASES)) continue;
        n++;
        *failed += mcs_case_run(&mcs_cases[i], &b) != 0;
    }
    mcs_device_close(&device);
    return n;
}

static int run_op(enum mcs_op op, const struct arguments *a)
{
    const int types = mcs_amp_slots(op) ? 2 : 1; /* ops of losses and coordinates stay in float32 in a bf16 graph */
    int bad = 0, failed;
    FILE *f = fopen(a->path, "a"); /* whole lines: other processes append to it too */
    if (!f) return perror(a->path), 1;
    for (int half = 0; half < types; half++) {
        const int n = run_cases(op, half, a->small, &failed);
        const char *type = half ? "bf16" : "fp32", *word = failed || !n ? "FAILED" : "passed";
        fprintf(f, "%s,,%s,cases,%s,%d cases,%d,0,,,,,,,\n", type, mcs_op_table[op].name, word, n, failed);
        fflush(f);
        printf("%-16s %s %3d cases, %s\n", mcs_op_table[op].name, type, n, word);
        bad += failed || !n;
    }
    fclose(f);
    return bad;
}

/* One child process for each op, so that a kernel that faults or hangs affects no other op. */
static int run_ops(const struct arguments *a)
{
    pid_t child[MCS_N_OPS] = {0};
    int running = 0, next = 0, n = 0, bad = 0, status;
    while (next < MCS_N_OPS || running) {
        if (next < MCS_N_OPS && running < (a->jobs ? a->jobs : 1)) {
            const enum mcs_op op = (enum mcs_op)next++;
            if (a->op && strcmp(a->op, mcs_op_table[op].name) != 0) continue;
            n++;
            fflush(NULL);
            if (!a->jobs) {
                bad += run_op(op, a) != 0;
                continue;
            }
            child[op] = fork();
            if (child[op] < 0) return perror("fork"), 1;
            if (!child[op]) {
                alarm(OP_SECONDS);
                _exit((run_op(op, a) != 0) | (fflush(NULL) != 0));
            }
            running++;
            continue;
        }
        const pid_t done = wait(&status);
        running--;
        for (int i = 0; i < MCS_N_OPS; i++)
            if (child[i] == done && WIFSIGNALED(status))
                printf("%-16s FAILED: ended by signal %d%s\n", mcs_op_table[i].name, WTERMSIG(status),
                       WTERMSIG(status) == SIGALRM ? ": it took too long" : "");
        bad += status != 0;
    }
    printf("%d passed, %d failed\n", n - bad, bad);
    return bad || !n;
}

/* ---- the intrinsics ---- */

static int run_probes(const struct arguments *a)
{
    int bad = 0;
    FILE *f = fopen(a->path, "a");
    if (!f) return perror(a->path), 1;
    for (int i = 0; i < n_probes; i++) {
        char text[256] = "";
        const int failed = probes[i].run(text) != 0;
        bad += failed;
        printf("%-16s %s%s\n", probes[i].name, failed ? "FAILED: " : "as documented", text);
        fprintf(f, ",,\"%s\",intrinsic,%s,,%d,0,,,,,,,\n", probes[i].name, failed ? "FAILED" : "passed", failed);
    }
    fclose(f);
    printf("%d passed, %d failed\n", n_probes - bad, bad);
    return bad != 0;
}

/* ---- measurements ---- */

/* Writes FOLDER/NAME.csv for each name, or for that of --only. */
static int run_bench(const struct arguments *a)
{
    static const char *const names[] = {"ops_fp32", "ops_bf16", "models_fp32", "models_bf16"};
    char path[4096];
    int n = 0, bad = 0;
    for (int i = 0; i < 4; i++) {
        struct bench_options o = {.seconds = a->seconds, .small = a->small, .output = path, .train = 1};
        o.common.device.precision = i % 2 ? MCS_PRECISION_BF16 : MCS_PRECISION_FP32;
        o.common.device.kind = MCS_DEVICE_CUDA;
        if (a->op && strcmp(a->op, names[i]) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", a->path, names[i]);
        const enum mcs_status st = i / 2 ? mcs_bench_models(&o) : mcs_bench_ops(&o);
        n++;
        bad += st != MCS_OK;
        if (st != MCS_OK) (void)say_error(names[i], st);
    }
    printf("%d passed, %d failed\n", n - bad, bad);
    return bad || !n;
}

int main(int argc, char **argv)
{
    struct arguments a = {.jobs = 4, .seconds = 0.05};
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--small"))
            a.small = 1;
        else if (!strcmp(argv[i], "--op") || !strcmp(argv[i], "--only"))
            a.op = next, i++;
        else if (!strcmp(argv[i], "--jobs"))
            a.jobs = atoi(next), i++;
        else if (!strcmp(argv[i], "--seconds"))
            a.seconds = strtod(next, NULL), i++;
        else
            *(a.what ? &a.path : &a.what) = argv[i];
    }
    if (a.what && !strcmp(a.what, "devices")) return devices();
    if (a.what && a.path && !strcmp(a.what, "ops")) return run_ops(&a);
    if (a.what && a.path && !strcmp(a.what, "intrinsics")) return run_probes(&a);
    if (a.what && a.path && !strcmp(a.what, "bench")) return run_bench(&a);
    fprintf(stderr, "gpu_run: devices, or ops, intrinsics, bench and where to write\n");
    return 2;
}
