/* Sliding windows: starts, weights, and reassembly of the windows. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/rng.h"
#include "engine/image/prob_maps.h"
#include "infer/unet/ensemble.h"

static void expect_starts(int64_t size, int64_t patch, double step, int n, const int64_t *want)
{
    int64_t start[64];
    cr_assert_eq(mcs_sliding_starts(size, patch, step, start, 64), n, "%lld of %lld", (long long)size,
                 (long long)patch);
    for (int i = 0; i < n; i++) cr_expect_eq(start[i], want[i], "window %d of %lld", i, (long long)size);
}

/* ceil((size - patch) / (patch step)) + 1 windows at round_half_even(i (size - patch) / (n - 1)), by hand. */
Test(sliding, starts)
{
    expect_starts(128, 128, 0.5, 1, (int64_t[]){0});
    expect_starts(129, 128, 0.5, 2, (int64_t[]){0, 1});
    expect_starts(192, 128, 0.5, 2, (int64_t[]){0, 64});
    expect_starts(193, 128, 0.5, 3, (int64_t[]){0, 32, 65}); /* 32.5 goes to the even 32 */
    expect_starts(195, 128, 0.5, 3, (int64_t[]){0, 34, 67}); /* 33.5 goes to the even 34 */
    expect_starts(256, 128, 0.5, 3, (int64_t[]){0, 64, 128});
    expect_starts(110, 64, 0.5, 3, (int64_t[]){0, 23, 46}); /* nnU-Net's example of this rule */
    expect_starts(256, 128, 1, 2, (int64_t[]){0, 128});
    int64_t start[4];
    cr_expect_eq(mcs_sliding_starts(100, 128, 0.5, start, 4), -1, "smaller than a window");
    cr_expect_eq(mcs_sliding_starts(4096, 16, 0.01, start, 4), -1, "more than the capacity");
}

Test(sliding, gaussian)
{
    enum { N = 64 };
    float *w = malloc(N * N * sizeof *w);
    cr_assert(w);
    mcs_sliding_gaussian(N, N, w);
    cr_expect_eq(w[(N / 2) * N + N / 2], 10, "10 at patch/2");
    for (int i = 0; i < N * N; i++) cr_assert(w[i] > 0 && w[i] <= 10);
    /* 8 pixels are one sigma; float16 keeps 11 bits: 2^-11 relative */
    cr_expect_float_eq(w[(N / 2 + 8) * N + N / 2], 10 * exp(-0.5), 10 * exp(-0.5) / 2048);
    cr_expect_float_eq(w[(N / 2) * N + N / 2 - 16], 10 * exp(-2), 10 * exp(-2) / 2048);
    cr_expect_eq(w[(N / 2 + 5) * N + N / 2], w[(N / 2 - 5) * N + N / 2]);
    cr_expect_float_eq(w[0], 10 * exp(-16), 0x1p-24, "a float16 below its normal range"); /* steps of 2^-24 */
    free(w);
}

/* A network with constant output: all weights are 0, so each head returns its bias. */
static void constant_network(struct unet_model *m, struct device *d, float bias)
{
    struct unet_plans p;
    cr_assert_eq(mcs_unet_plans_make(1, 2, 16, 16, 2, 4, 8, &p), MCS_OK);
    cr_assert_eq(mcs_unet_model_new(&p, 1, d, m), MCS_OK, "%s", mcs_error_message());
    memset(m->params->data, 0, (size_t)m->params->n_values * sizeof(float));
    float *head = mcs_params_find(m->params, "decoder.seg_layers.0.bias")->data;
    head[0] = -bias, head[1] = bias;
}

static void check_constant(int64_t n, int64_t height, int64_t width, struct sliding_options o)
{
    struct device d;
    struct unet_model m;
    struct sliding s;
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    constant_network(&m, &d, 1.25f);
    float *images = calloc((size_t)(n * height * width), sizeof *images),
          *logits = calloc((size_t)(n * height * width * 2), sizeof *logits);
    cr_assert(images && logits);
    cr_assert_eq(mcs_sliding_open(&s, &m, &o, images, n, height, width), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_sliding_run(&s, logits), MCS_OK, "%s", mcs_error_message());
    /* at most 9 windows x 4 mirrorings are added and divided by the same weights: 40 roundings of 2^-24 */
    for (int64_t i = 0; i < n * height * width; i++) {
        cr_assert_float_eq(logits[2 * i], -1.25, 1.25 * 40 / 16777216);
        cr_assert_float_eq(logits[2 * i + 1], 1.25, 1.25 * 40 / 16777216);
    }
    mcs_sliding_close(&s);
    mcs_unet_model_close(&m);
    mcs_cpu_close(&d);
    free(images);
    free(logits);
}

Test(sliding, a_constant_stays_constant)
{
    const struct sliding_options o = mcs_sliding_defaults();
    check_constant(1, 16, 16, o);
    check_constant(1, 29, 37, o);
    check_constant(3, 5, 40, o); /* lower than a window: padded */
    check_constant(2, 16, 17, (struct sliding_options){.step = 1, .mirror = 0, .batch = 3});
}

/* Instance norms rule out a network that copies its input. So the tests check with a real network that a mirrored image
 * gives mirrored logits and that the batch size does not matter. */
static void predict(struct unet_model *m, struct sliding_options o, const float *images, int64_t n, int64_t height,
                    int64_t width, float *logits)
{
    struct sliding s;
    cr_assert_eq(mcs_sliding_open(&s, m, &o, images, n, height, width), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_sliding_run(&s, logits), MCS_OK, "%s", mcs_error_message());
    mcs_sliding_close(&s);
}

Test(sliding, mirroring_and_batches)
{
    enum { N = 2, H = 16, W = 27, PIXELS = H * W };
    struct device d;
    struct unet_model m;
    struct unet_plans p;
    static float images[N * PIXELS], mirrored[N * PIXELS], a[2 * N * PIXELS], b[2 * N * PIXELS];
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_unet_plans_make(1, 2, 16, 16, 3, 4, 16, &p), MCS_OK);
    cr_assert_eq(mcs_unet_model_new(&p, 3, &d, &m), MCS_OK);
    mcs_rng_fill_normal((struct mcs_rng){5, 5, 5, 5}, images, N * PIXELS);
    for (int i = 0; i < N * PIXELS; i++) mirrored[i / W * W + W - 1 - i % W] = images[i];
    struct sliding_options o = {.step = 0.5, .mirror = 1, .batch = 4};
    predict(&m, o, images, N, H, W, a);
    predict(&m, o, mirrored, N, H, W, b);
    /* The windows of 27 columns start at 0, 6 (5.5 to even) and 11, which is not symmetric, and the Gaussian's centre
     * is off by half a pixel. So only columns covered by a single window are equal: the first and the last five. */
    for (int i = 0; i < N * H; i++)
        for (int x = 0; x < 5; x++)
            for (int k = 0; k < 2; k++)
                cr_assert_float_eq(a[(i * W + x) * 2 + k], b[(i * W + W - 1 - x) * 2 + k], 1e-4, "row %d column %d", i,
                                   x);
    o.batch = 3; /* 24 windows; some batches have windows of both images */
    predict(&m, o, images, N, H, W, b);
    for (int i = 0; i < 2 * N * PIXELS; i++) cr_assert_float_eq(a[i], b[i], 1e-5);
    o.batch = 5;
    predict(&m, o, images + PIXELS, 1, H, W, b);
    for (int i = 0; i < 2 * PIXELS; i++) cr_assert_float_eq(a[2 * PIXELS + i], b[i], 1e-5, "depends on its neighbour");
    mcs_unet_model_close(&m);
    mcs_cpu_close(&d);
}

/* One window of image `i` at (y0, x0), seen mirrored as the bits of `flip` say (1: columns, 2: rows), its logits turned
 * back: dst (16, 16, 2). */
static void one_window(struct unet_model *m, const float *image, int width, int y0, int x0, int flip, float *dst)
{
    enum { P = 16 };
    float window[P * P], logits[P * P * 2];
    for (int y = 0; y < P; y++)
        for (int x = 0; x < P; x++) {
            const int v = flip & 2 ? P - 1 - y : y, u = flip & 1 ? P - 1 - x : x;
            window[v * P + u] = image[(y0 + y) * width + x0 + x];
        }
    cr_assert_eq(mcs_exec_set(m->exec, m->image, window), MCS_OK); /* the graph has batch size 1 */
    cr_assert_eq(mcs_exec_forward(m->exec), MCS_OK);
    cr_assert_eq(mcs_exec_get(m->exec, m->logits, logits), MCS_OK);
    for (int y = 0; y < P; y++)
        for (int x = 0; x < P; x++) {
            const int v = flip & 2 ? P - 1 - y : y, u = flip & 1 ? P - 1 - x : x;
            for (int k = 0; k < 2; k++) dst[(y * P + x) * 2 + k] = logits[(v * P + u) * 2 + k];
        }
}

/* Windows along rows and columns by hand: each window is run alone in its four mirrorings; the means are added with the
 * Gaussian's weights and divided by the sum of weights. At most 9 windows x 4 mirrorings: 40 roundings of the largest
 * logit, and as many from matrix products with another batch size. */
Test(sliding, rows_and_columns_equal_windows_one_by_one)
{
    enum { N = 2, H = 27, W = 37, P = 16, PIXELS = H * W };
    struct device d;
    struct unet_model m;
    struct unet_plans p;
    static float images[N * PIXELS], got[N * PIXELS * 2], gaussian[P * P], window[P * P * 2];
    static double sum[PIXELS * 2], weight[PIXELS];
    int64_t start_y[16], start_x[16];
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    cr_assert_eq(mcs_unet_plans_make(1, 2, P, P, 3, 4, 16, &p), MCS_OK);
    cr_assert_eq(mcs_unet_model_new(&p, 3, &d, &m), MCS_OK);
    mcs_rng_fill_normal((struct mcs_rng){6, 5, 5, 5}, images, N * PIXELS);
    predict(&m, (struct sliding_options){.step = 0.5, .mirror = 1, .batch = 7}, images, N, H, W, got);
    mcs_sliding_gaussian(P, P, gaussian);
    cr_assert_eq(mcs_unet_model_compile(&m, 1), MCS_OK, "%s", mcs_error_message());
    const int n_y = mcs_sliding_starts(H, P, 0.5, start_y, 16), n_x = mcs_sliding_starts(W, P, 0.5, start_x, 16);
    cr_assert(n_y == 3 && n_x == 4);
    for (int i = 0; i < N; i++) {
        double largest = 0;
        memset(sum, 0, sizeof sum);
        memset(weight, 0, sizeof weight);
        for (int at = 0; at < n_y * n_x; at++) {
            const int y0 = (int)start_y[at / n_x], x0 = (int)start_x[at % n_x];
            for (int flip = 0; flip < 4; flip++) {
                one_window(&m, images + i * PIXELS, W, y0, x0, flip, window);
                for (int q = 0; q < P * P; q++) {
                    const int pixel = (y0 + q / P) * W + x0 + q % P;
                    for (int k = 0; k < 2; k++) {
                        sum[2 * pixel + k] += (double)gaussian[q] * window[2 * q + k] / 4;
                        largest = fmax(largest, fabs((double)window[2 * q + k]));
                    }
                    if (!flip) weight[pixel] += gaussian[q];
                }
            }
        }
        for (int q = 0; q < PIXELS; q++)
            for (int k = 0; k < 2; k++)
                cr_assert_float_eq(got[(i * PIXELS + q) * 2 + k], sum[2 * q + k] / weight[q], 80 * 0x1p-24 * largest,
                                   "image %d, row %d, column %d", i, q / W, q % W);
    }
    mcs_unet_model_close(&m);
    mcs_cpu_close(&d);
}

Test(sliding, impossible_options_are_refused)
{
    struct device d;
    struct unet_model m;
    struct sliding s;
    float image[64] = {0}, logits[128];
    cr_assert_eq(mcs_cpu_open(1, &d), MCS_OK);
    constant_network(&m, &d, 1);
    struct sliding_options o = mcs_sliding_defaults();
    o.step = 0;
    cr_expect_eq(mcs_sliding_open(&s, &m, &o, image, 1, 8, 8), MCS_E_USAGE);
    mcs_error_clear();
    o.step = 0.5;
    cr_expect_eq(mcs_sliding_open(&s, &m, &o, image, 0, 8, 8), MCS_E_USAGE);
    mcs_error_clear();
    float *head = mcs_params_find(m.params, "decoder.seg_layers.0.bias")->data;
    head[1] = NAN;
    cr_assert_eq(mcs_sliding_open(&s, &m, &o, image, 1, 8, 8), MCS_OK);
    cr_expect_eq(mcs_sliding_run(&s, logits), MCS_E_DATA);
    mcs_error_clear();
    mcs_sliding_close(&s);
    mcs_unet_model_close(&m);
    mcs_cpu_close(&d);
}

Test(sliding, labels_and_normalisation)
{
    const float prob[] = {0.5f, 0.7f, 0.1f, /* background */ 0.5f, 0.3f, 0.9f /* foreground */};
    uint8_t labels[3];
    mcs_prob_labels(prob, 2, 3, 0, labels);
    cr_expect(labels[0] == 0 && labels[1] == 0 && labels[2] == 1, "of equal ones the first");
    mcs_prob_labels(prob, 2, 3, 0.2, labels);
    cr_expect(labels[0] == 1 && labels[1] == 1 && labels[2] == 1);
    const uint8_t bytes[] = {1, 10, 3, 10}; /* two pixels of two channels */
    float z[4];
    mcs_ensemble_normalise(bytes, NULL, 2, 2, z);
    cr_expect_float_eq(z[0], -1, 1e-6);
    cr_expect_float_eq(z[2], 1, 1e-6);
    cr_expect(z[1] == 0 && z[3] == 0, "a constant channel is 0");
}
