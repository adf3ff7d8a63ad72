/* Rare paths of the engine: inputs kept in bfloat16, calls in the wrong order, truncated modules, the CPU as a device.
 */
#include "engine/base/log.h"
#include "engine/devices.h"
#include "engine/model/layers.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"

#include <criterion/criterion.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* ---- inputs in bfloat16: set and read as floats, 4096 at a time ---- */

static void round_trip(int64_t n)
{
    struct device d;
    struct exec *e;
    float *x = malloc((size_t)n * sizeof *x), *got = malloc((size_t)n * sizeof *got);
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct tensor *before = mcs_input(g, "before", MCS_BF16, MCS_DIMS(2)),
                  *t = mcs_input(g, "half", MCS_BF16, MCS_DIMS(n)),
                  *after = mcs_input(g, "after", MCS_BF16, MCS_DIMS(2));
    cr_assert(x && got);
    for (int64_t i = 0; i < n; i++) x[i] = 1 + (float)(i % 8191) / 1024;
    OK(mcs_cpu_open(1, &d));
    OK(mcs_exec_new(g, &d, &e));
    OK(mcs_exec_set(e, before, (float[]){-1, -2}));
    OK(mcs_exec_set(e, after, (float[]){-3, -4}));
    OK(mcs_exec_set(e, t, x));
    OK(mcs_exec_get(e, t, got));
    for (int64_t i = 0; i < n; i++) {
        cr_assert_eq(got[i], mcs_bf16_to(mcs_bf16_from(x[i])), "%lld of %lld", (long long)i, (long long)n);
        cr_assert_leq(got[i] - x[i], x[i] / 256);
        cr_assert_leq(x[i] - got[i], x[i] / 256);
    }
    OK(mcs_exec_get(e, before, got));
    cr_expect(got[0] == -1 && got[1] == -2, "the input before it in memory");
    OK(mcs_exec_get(e, after, got));
    cr_expect(got[0] == -3 && got[1] == -4, "the input behind it in memory");
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_cpu_close(&d);
    free(x), free(got);
}

Test(engine_edges, inputs_in_bfloat16)
{
    static const int64_t n[] = {2, 7, 4095, 4096, 4097, 8193};
    for (int i = 0; i < 6; i++) round_trip(n[i]);
}

/* ---- order of calls ---- */

Test(engine_edges, use_before_memory_is_refused)
{
    struct device d;
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct exec *e;
    float v[6] = {0};
    struct tensor *x = mcs_input(g, "x", MCS_F32, MCS_DIMS(2, 3)), *y = mcs_linear(g, x, 3, BIAS, "layer");
    struct tensor *loss = mcs_apply(g, OP_mse, "loss", (struct tensor *[]){y, x, NULL}, NULL);
    struct exec_memory m = {.device = &d};
    OK(mcs_grad(g, &loss, 1));
    OK(mcs_cpu_open(1, &d));
    OK(mcs_exec_new_in(&m, g, &e));
    cr_expect_eq(mcs_exec_set(e, x, v), MCS_E_FAIL);
    cr_expect_str_eq(mcs_error_message(), "x: set before mcs_exec_memory_alloc");
    mcs_error_clear();
    cr_expect_eq(mcs_exec_run(e), MCS_E_FAIL);
    cr_expect_str_eq(mcs_error_message(), "run before mcs_exec_memory_alloc");
    mcs_error_clear();
    cr_expect_eq(mcs_exec_memory_alloc(&m), MCS_E_FAIL);
    cr_expect_str_eq(mcs_error_message(), "the graph's parameters have no memory yet");
    mcs_error_clear();
    OK(mcs_params_alloc(p, &d));
    cr_expect_eq(mcs_exec_memory_alloc(&m), MCS_E_FAIL);
    cr_expect(strstr(mcs_error_message(), "wanted before mcs_params_alloc_grad"), "%s", mcs_error_message());
    mcs_error_clear();
    OK(mcs_params_alloc_grad(p));
    OK(mcs_exec_memory_alloc(&m));
    OK(mcs_exec_run(e));
    cr_expect_eq(mcs_exec_get(e, y, v), MCS_E_FAIL);
    cr_expect(strstr(mcs_error_message(), "read after a run without mcs_keep"), "%s", mcs_error_message());
    mcs_error_clear();
    cr_expect_eq(mcs_grad(g, &loss, 1), MCS_E_FAIL);
    cr_expect_str_eq(mcs_error_message(), "mcs_grad was called twice on one graph");
    mcs_error_clear();
    mcs_exec_free(e);
    mcs_exec_memory_free(&m);
    mcs_graph_free(g);
    mcs_params_free(p);
    mcs_cpu_close(&d);
}

/* ---- impossible gradients ---- */

static struct params *params;
static struct graph *graph;
static struct tensor *weight, *input;

static void refused(struct tensor *const *seeds, int n, const char *part)
{
    cr_expect_eq(mcs_grad(graph, seeds, n), MCS_E_SHAPE, "%s", part);
    cr_expect(strstr(mcs_error_message(), part), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_graph_free(graph);
    mcs_params_free(params);
}

static void begin(void)
{
    params = mcs_params_new();
    graph = mcs_graph_new(params, MCS_F32);
    input = mcs_input(graph, "x", MCS_F32, MCS_DIMS(2, 3));
    weight = mcs_param(graph, "w", MCS_DIMS(2, 3), (struct init){INIT_ONE, 0});
}

Test(engine_edges, seeds_that_cannot_be)
{
    begin();
    struct tensor *y = mcs_relu(graph, input);
    refused(&y, 1, "no trainable parameter or wanted input leads to this seed");
    begin();
    y = mcs_add(graph, input, weight);
    refused((struct tensor *[]){y, y}, 2, "given twice as a seed");
    begin();
    y = mcs_relu(graph, mcs_add(graph, input, weight));
    refused((struct tensor *[]){y, mcs_relu(graph, y)}, 2, "a seed of the gradient is also read by");
    begin();
    y = mcs_add(graph, input, weight);
    y = mcs_apply(
        graph, OP_bmm_nt, "product",
        (struct tensor *[]){mcs_reshape(graph, y, MCS_DIMS(1, 2, 3)), mcs_reshape(graph, y, MCS_DIMS(1, 2, 3))}, NULL);
    refused(&y, 1, "product: bmm_nt reads one tensor through two inputs");
}

/* ---- devices ---- */

static char folder[] = "/tmp/mcs_engine_edges_XXXXXX";

/* A library's 64-byte header whose section table ends at `end`, in a file of `bytes` bytes. */
static void module(int64_t end, int64_t bytes, int elf)
{
    char path[96], rest[4096] = {0};
    Elf64_Ehdr head = {.e_shnum = 3, .e_shentsize = 64};
    snprintf(path, sizeof path, "%s/libmcsam_cudasim.so", folder);
    memcpy(head.e_ident, elf ? ELFMAG : "text", SELFMAG);
    head.e_shoff = (Elf64_Off)(end - 3 * 64);
    memcpy(rest, &head, sizeof head);
    FILE *f = fopen(path, "wb");
    cr_assert(f);
    cr_assert_eq(fwrite(rest, 1, (size_t)bytes, f), (size_t)bytes);
    fclose(f);
}

Test(engine_edges, modules_that_are_cut_off)
{
    static const struct {
        int64_t end, bytes;
        int elf, cut;
    } rows[] = {{1000, 999, 1, 1}, {1000, 1000, 1, 0}, {1000, 999, 0, 0},
                {1000, 63, 1, 0},  {1000, 64, 1, 1},   {1000, 0, 1, 0}};
    struct mcs_device_options c = {.kind = MCS_DEVICE_CUDASIM, .precision = MCS_PRECISION_FP32};
    char line[64];
    cr_assert(mkdtemp(folder));
    setenv("MCSAM_MODULES", folder, 1);
    cr_expect_eq(mcs_device_check(&c), MCS_E_DEVICE);
    cr_expect(strstr(mcs_error_message(), "this build has no cudasim backend"), "%s", mcs_error_message());
    mcs_error_clear();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        module(rows[i].end, rows[i].bytes, rows[i].elf);
        cr_expect_eq(mcs_device_check(&c), MCS_E_DEVICE);
        cr_expect(strstr(mcs_error_message(), "--device cudasim: the module cannot be opened: "), "%s",
                  mcs_error_message());
        cr_expect_eq(strstr(mcs_error_message(), "the file is truncated; rebuild it") != NULL, rows[i].cut,
                     "row %d: %s", (int)i, mcs_error_message());
        mcs_error_clear();
    }
    snprintf(line, sizeof line, "rm -r %s", folder);
    cr_expect_eq(system(line), 0);
}

Test(engine_edges, the_processor_as_a_device)
{
    struct mcs_device_options c = {.kind = MCS_DEVICE_CPU, .precision = MCS_PRECISION_BF16, .threads = 1};
    struct device d;
    int n = 0;
    char text[64] = "";
    OK(mcs_device_count(MCS_DEVICE_CPU, &n));
    cr_expect_eq(n, 1);
    OK(mcs_device_describe(MCS_DEVICE_CPU, 0, text, sizeof text));
    cr_expect_str_eq(text, "this computer's processor");
    OK(mcs_device_describe(MCS_DEVICE_CPU, 0, text, 5));
    cr_expect_str_eq(text, "this");
    cr_expect_eq(mcs_device_open(&c, &d), MCS_E_DEVICE);
    mcs_error_clear();
    cr_expect_eq(mcs_device_check(&c), MCS_E_DEVICE);
    mcs_error_clear();
    for (c.precision = MCS_PRECISION_AUTO; c.precision <= MCS_PRECISION_FP32; c.precision++) {
        OK(mcs_device_check(&c));
        OK(mcs_device_open(&c, &d));
        cr_expect_str_eq(d.backend->name, "cpu");
        cr_expect_eq(d.activations, MCS_F32);
        mcs_device_close(&d);
    }
}
