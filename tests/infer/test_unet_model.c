/* PlainConvUNet and nnU-Net's loss against dynamic-network-architectures and nnunetv2: tests/golden/unet2d.safetensors,
 * unet3d.safetensors. */
#include "engine/model/layers.h"
#include "engine/model/unet.h"
#include "engine/tape/grad.h"
#include "tests/support/support_golden.h"
#include "tests/support/support_isa.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct unet_config config_2d(void)
{
    return mcs_unet_2d(1, 2, 4, 4, 8);
}

static struct unet_config config_3d(void)
{
    struct unet_config c = {.nsp = 3,
                            .in_channels = 1,
                            .classes = 2,
                            .n_stages = 3,
                            .features = {4, 8, 8},
                            .n_conv = {2, 2, 2},
                            .n_conv_decoder = {2, 2}};
    const int64_t kernel[3][3] = {{1, 3, 3}, {3, 3, 3}, {3, 3, 3}}, stride[3][3] = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}};
    memcpy(c.kernel, kernel, sizeof kernel);
    memcpy(c.stride, stride, sizeof stride);
    return c;
}

/* Largest value of a golden gradient. */
static double size_of(const struct weight_file *file, const char *name)
{
    int64_t n;
    double most = 0;
    float *v = golden_values(file, name, &n);
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)v[i]));
    free(v);
    return most;
}

/* Checks each gradient to 1e-5 of the largest of its tensor, 168 roundings of float32: about 30 sums of up to 72
 * products on a path, backward twice as many, whose roundings of 2^-24 form a random walk of sqrt(60 * 72) = 66 units,
 * at 1 to 2 units each. A bias before an instance norm has gradient 0 in exact arithmetic: its rounding error is
 * compared with 1e-5 of the gradient of its convolution's weights, which sums the same terms. Returns the number of
 * gradients. */
static int check_gradients(const struct weight_file *file, const char *prefix, const struct params *p)
{
    int n_checked = 0;
    for (int i = 0; i < p->n; i++) {
        char name[256], weights[256];
        int64_t n;
        double worst = 0;
        const char *bias = strstr(p->t[i]->name, "conv.bias");
        snprintf(name, sizeof name, "%sgrad.%s", prefix, p->t[i]->name);
        snprintf(weights, sizeof weights, "%sgrad.%.*sconv.weight", prefix, bias ? (int)(bias - p->t[i]->name) : 0,
                 p->t[i]->name);
        if (!mcs_weight_file_find(file, name)) continue;
        float *want = golden_values(file, name, &n);
        const float *got = mcs_params_grad(p, p->t[i]);
        cr_assert_eq(n, mcs_count(p->t[i]), "%s", name);
        for (int64_t k = 0; k < n; k++) {
            const double d = fabs((double)got[k] - (double)want[k]);
            worst = d <= worst ? worst : d; /* propagates NaN */
        }
        const double size = size_of(file, bias ? weights : name);
        cr_expect(worst <= 1e-5 * size, "%s: off by %.3g, the largest is %.3g", name, worst, size);
        free(want);
        n_checked++;
    }
    return n_checked;
}

enum { N = 2 }; /* images */

/* A U-Net with a weighted loss on each level of deep supervision, as the golden files define it. */
struct supervised {
    struct device d;
    struct params *p;
    struct graph *g;
    struct exec *e;
    struct tensor *x, *out[UNET_MAX_STAGES], *target[UNET_MAX_STAGES], *loss[UNET_MAX_STAGES];
    float weight[UNET_MAX_STAGES];
    int n_out, n_losses; /* weights decrease; levels with weight 0 are last and get no loss */
};

/* size: of the image, c->nsp numbers. */
static void supervised_open(struct supervised *s, const struct unet_config *c, const int64_t *size, int batch_dice)
{
    const struct dice_ce_attr attr = {.batch_dice = batch_dice, .smooth = 1e-5f, .weight_ce = 1, .weight_dice = 1};
    int64_t dim[5] = {N};
    for (int i = 0; i < c->nsp; i++) dim[1 + i] = size[i];
    dim[1 + c->nsp] = 1;
    cr_assert(mcs_cpu_open(0, &s->d) == MCS_OK);
    s->p = mcs_params_new();
    s->g = mcs_graph_new(s->p, MCS_F32);
    s->x = mcs_input(s->g, "image", MCS_F32, c->nsp + 2, dim);
    s->n_out = mcs_unet(s->g, s->x, c, 1, s->out);
    mcs_unet_deep_weights(s->n_out, s->weight);
    s->n_losses = 0;
    for (int i = 0; i < s->n_out; i++) {
        mcs_keep(s->out[i]);
        s->target[i] = mcs_input(s->g, "target", MCS_I32, s->out[i]->nd - 1, s->out[i]->dim);
        s->loss[i] = mcs_keep(mcs_apply(s->g, OP_dice_ce, "loss", (struct tensor *[]){s->out[i], s->target[i]}, &attr));
        if (s->weight[i] > 0) s->n_losses = i + 1;
    }
    cr_assert(mcs_grad(s->g, s->loss, s->n_losses) == MCS_OK, "%s", mcs_error_message());
    cr_assert(mcs_params_alloc(s->p, &s->d) == MCS_OK && mcs_params_alloc_grad(s->p) == MCS_OK);
    golden_fill_params(s->p);
    cr_assert(mcs_exec_new(s->g, &s->d, &s->e) == MCS_OK, "%s", mcs_error_message());
}

static void supervised_close(struct supervised *s)
{
    mcs_exec_free(s->e);
    mcs_graph_free(s->g);
    mcs_params_free(s->p);
}

/* The golden images, labels of every level and weights of the losses. */
static void set_inputs(struct supervised *s, const struct weight_file *file)
{
    const int64_t n_pixels = mcs_count(s->x);
    float *pixels = malloc((size_t)n_pixels * sizeof *pixels);
    golden_fill_image("input.image", N, 1, n_pixels / N, pixels);
    cr_assert(mcs_exec_set(s->e, s->x, pixels) == MCS_OK);
    for (int i = 0; i < s->n_out; i++) {
        char name[64];
        int64_t n;
        snprintf(name, sizeof name, "target.%d", i);
        float *t = golden_values(file, name, &n);
        int32_t *labels = malloc((size_t)n * sizeof *labels);
        for (int64_t k = 0; k < n; k++) labels[k] = (int32_t)t[k];
        cr_assert_eq(n, mcs_count(s->target[i]));
        cr_assert(mcs_exec_set(s->e, s->target[i], labels) == MCS_OK);
        if (i < s->n_losses) cr_assert(mcs_exec_set(s->e, s->loss[i]->grad, &s->weight[i]) == MCS_OK);
        free(t);
        free(labels);
    }
    free(pixels);
}

/* Compares the outputs of every level; returns the weighted sum of the losses. */
static double check_outputs(const struct supervised *s, const struct weight_file *file)
{
    double total = 0;
    for (int i = 0; i < s->n_out; i++) {
        char name[64];
        int64_t n;
        snprintf(name, sizeof name, "output.%d", i);
        float *planes = golden_values(file, name, &n), *want = golden_channels_last(planes, N, 2, n / (2 * N)),
              *got = golden_get(s->e, s->out[i]);
        golden_check(name, got, want, n, 1e-5, 0);
        float *l = golden_get(s->e, s->loss[i]);
        total += (double)s->weight[i] * l[0];
        free(planes), free(want), free(got), free(l);
    }
    return total;
}

static void check(const char *golden, const struct unet_config *c, const int64_t *size, int n_grads, int batch_dice)
{
    struct supervised s;
    struct weight_file *file = golden_open(golden);
    const char *prefix = batch_dice ? "batch." : "sample.";
    char name[64];
    supervised_open(&s, c, size, batch_dice);
    set_inputs(&s, file);
    mcs_params_zero_grad(s.p);
    cr_assert(mcs_exec_run(s.e) == MCS_OK, "%s", mcs_error_message());
    const double total = check_outputs(&s, file);
    snprintf(name, sizeof name, "%sloss", prefix);
    float *want = golden_values(file, name, NULL);
    /* the reference sums Dice in float32: 1e-6 of it on top of ours */
    cr_expect_float_eq(total, want[0], 1e-5 * fabs((double)want[0]), "%s: %g, want %g", name, total, (double)want[0]);
    cr_expect_eq(check_gradients(file, prefix, s.p), n_grads);
    free(want);
    supervised_close(&s);
    mcs_weight_file_close(file);
}

/* Parameters: 4 per convolution block (weight, bias, norm weight, norm bias), 2 per transposed convolution, 2 per
 * segmentation layer. */
static void check_2d(int batch_dice)
{
    const struct unet_config c = config_2d();
    check("unet2d.safetensors", &c, (int64_t[]){16, 16}, 4 * 14 + 2 * 3 + 2 * 3, batch_dice);
}

static void check_3d(void)
{
    const struct unet_config c = config_3d();
    check("unet3d.safetensors", &c, (int64_t[]){4, 12, 12}, 4 * 10 + 2 * 2 + 2 * 2, 0);
}

Test(unet, two_dimensional_equals_the_reference_dice_by_batch_avx2)
{
    test_isa(TEST_AVX2);
    check_2d(1);
}

Test(unet, two_dimensional_equals_the_reference_dice_by_batch_avx512)
{
    test_isa(TEST_AVX512);
    check_2d(1);
}

Test(unet, two_dimensional_equals_the_reference_dice_by_sample_avx2)
{
    test_isa(TEST_AVX2);
    check_2d(0);
}

Test(unet, two_dimensional_equals_the_reference_dice_by_sample_avx512)
{
    test_isa(TEST_AVX512);
    check_2d(0);
}

Test(unet, three_dimensional_equals_the_reference_avx2)
{
    test_isa(TEST_AVX2);
    check_3d();
}

Test(unet, three_dimensional_equals_the_reference_avx512)
{
    test_isa(TEST_AVX512);
    check_3d();
}
