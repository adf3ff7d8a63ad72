/* A model's weights from a file: values that no model can use, and the warning about tensors that were not read. */
#include "data/weights/weight_write.h"
#include "engine/model/layers.h"
#include "infer/weights.h"
#include "tests/support/support_device.h"
#include "tests/support/support_folder.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static struct device cpu;
static struct params *params;

/* A model of two tensors: fc.weight (3, 2) and fc.bias (3). */
static void setup(void)
{
    test_folder_open("weights");
    OK(mcs_cpu_open(1, &cpu));
    params = mcs_params_new();
    struct graph *g = mcs_graph_new(params, MCS_F32);
    mcs_linear(g, mcs_input(g, "x", MCS_F32, MCS_DIMS(1, 2)), 3, BIAS, "fc");
    OK(mcs_graph_status(g));
    mcs_graph_free(g);
    OK(mcs_params_alloc(params, &cpu));
}

static void teardown(void)
{
    mcs_params_free(params);
    mcs_device_close(&cpu);
    test_folder_close();
}

TestSuite(weights, .init = setup, .fini = teardown);

static float weight[6], bias[3];

static enum mcs_status put_and_read(int n, const char *const names[], enum mcs_array_type type)
{
    struct weight_out t[3] = {{.type = type, .nd = 2, .dims = {3, 2}, .values = weight},
                              {.type = type, .nd = 1, .dims = {3}, .values = bias},
                              {.type = type, .nd = 1, .dims = {1}, .values = bias}};
    for (int i = 0; i < n; i++) t[i].name = names[i];
    OK(mcs_torch_write(in_folder("w.pt"), n, t, NULL));
    mcs_error_clear();
    return mcs_weights_read(in_folder("w.pt"), params, NULL);
}

static const char *const plain[] = {"fc.weight", "fc.bias"};

/* The largest and smallest finite numbers are read, in each type; NaN and infinities of each sign are refused. */
Test(weights, values_that_are_no_numbers_are_refused)
{
    static const float good[] = {0, -0.0F, 65504, -65504, 6e-8F, 3.4028235e38F},
                       bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 2; k++) {
        const enum mcs_array_type type = k ? MCS_ARRAY_F16 : MCS_ARRAY_F32;
        for (int i = 0; i < (k ? 5 : 6); i++) {
            weight[5] = good[i];
            cr_expect_eq(put_and_read(2, plain, type), MCS_OK, "%g: %s", (double)good[i], mcs_error_message());
        }
        weight[5] = 1;
        for (int i = 0; i < 4; i++) {
            bias[0] = bias[2] = bad[i];
            cr_expect_eq(put_and_read(2, plain, type), MCS_E_DATA, "%g", (double)bad[i]);
            cr_expect(strstr(mcs_error_message(), "w.pt: fc.bias: 2 of its 3 values are NaN or infinite"), "%s",
                      mcs_error_message());
            bias[0] = bias[2] = 0;
        }
    }
}

/* A training's checkpoint has its model below a prefix and other tensors beside it: the warning names only these. */
Test(weights, tensors_that_are_not_read_are_named)
{
    char said[512] = "";
    cr_redirect_stderr();
    OK(put_and_read(3, (const char *const[]){"model.fc.weight", "model.fc.bias", "loss.weight"}, MCS_ARRAY_F32));
    fflush(stderr);
    cr_assert(fread(said, 1, sizeof said - 1, cr_get_redirected_stderr()) > 0);
    cr_expect(strstr(said, "w.pt: 1 tensors are not part of this model and were not read: loss.weight\n"), "%s", said);
}
