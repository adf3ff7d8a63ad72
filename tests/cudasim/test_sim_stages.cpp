/* Kernels outside the tape: sliding windows and ensemble probabilities, against the functions of infer/ or, where these
 * cannot be called alone, plain loops in double. */
#include "tests/cudasim/support_array.h"

#include "kernels/image/inference.h"
extern "C" {
#include "engine/image/prob_maps.h"
#include "infer/unet/ensemble.h"
#include "infer/unet/uncertainty.h"
}

enum { SEEDS = 4 };

static std::string named(const char *what, size_t i, int seed)
{
    return std::string(what) + " case " + std::to_string(i) + " seed " + std::to_string(seed);
}

/* ---- windows ---- */

struct window_case {
    int n, channels, image[3], window[3];
    std::vector<sliding_window> list;
};

static const std::vector<window_case> window_cases = {
    {1, 1, {1, 1, 1}, {1, 1, 1}, {{0, 0, 0, 0, 3}}},
    {1, 2, {1, 7, 9}, {1, 4, 5}, {{0, 0, 0, 0, 0}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 2}, {0, 0, 0, 0, 3}, {0, 0, 3, 4, 0}}},
    {2,
     3,
     {1, 20, 18},
     {1, 16, 16},
     {{0, 0, 0, 0, 1}, {1, 0, 4, 2, 2}, {0, 0, 4, 0, 3}, {-1, 0, 0, 0, 0}, {1, 0, 4, 2, 0}}},
    {1, 4, {6, 5, 7}, {4, 3, 5}, {{0, 0, 0, 0, 7}, {0, 2, 2, 2, 4}, {0, 1, 1, 1, 5}}},
    {3, 2, {1, 8, 8}, {1, 8, 8}, {{2, 0, 0, 0, 0}, {0, 0, 0, 0, 2}}},
    {1, 1, {1, 5, 40}, {1, 5, 33}, {{0, 0, 0, 7, 2}, {0, 0, 0, 0, 0}, {0, 0, 0, 3, 1}}},
};

/* *image: index of the image's element under element e of window w; *seen: index in the mirrored window. */
static void walk(const window_case &c, const sliding_window &w, size_t e, size_t *image, size_t *seen)
{
    const int k = (int)e % c.channels, x = (int)e / c.channels % c.window[2],
              y = (int)e / c.channels / c.window[2] % c.window[1], z = (int)e / c.channels / c.window[2] / c.window[1];
    const int fz = w.flip & FLIP_SLICES ? c.window[0] - 1 - z : z, fy = w.flip & FLIP_ROWS ? c.window[1] - 1 - y : y,
              fx = w.flip & FLIP_COLUMNS ? c.window[2] - 1 - x : x;
    *image =
        (size_t)((((w.image * c.image[0] + w.z + z) * c.image[1] + w.y + y) * c.image[2] + w.x + x) * c.channels + k);
    *seen = (size_t)(((fz * c.window[1] + fy) * c.window[2] + fx) * c.channels + k);
}

static void windows(const window_case &c, size_t number, enum k_dtype t)
{
    const size_t area = (size_t)(c.image[0] * c.image[1] * c.image[2]),
                 voxels = (size_t)(c.window[0] * c.window[1] * c.window[2]), one = voxels * (size_t)c.channels,
                 all = (size_t)c.n * area * (size_t)c.channels;
    const std::vector<float> images = uniforms("images", all, -2, 2), weight = uniforms("weight", voxels, 0.01f, 10);
    std::vector<float> outputs = uniforms("outputs", one * c.list.size(), -3, 3), first_cut, first_sum;
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = named("windows", number, seed);
        cudasim_seed((uint64_t)seed);
        std::vector<float> empty(one * c.list.size(), 99);
        dev_array<sliding_window> list(c.list);
        dev_array<float> dimages(images), dweight(weight);
        dev_values cut(empty, t), doutputs(outputs, t);
        k_windows a = {t,           (int)c.list.size(), c.channels, c.image[0], c.image[1], c.image[2], c.window[0],
                       c.window[1], c.window[2],        list.p,     cut.at(),   dimages.p,  dweight.p};
        cr_assert_eq(k_windows_cut(&a, NULL), cudaSuccess);
        a.values = doutputs.at();
        cr_assert_eq(k_windows_paste(&a, NULL), cudaSuccess);
        expect_clean(what);
        const std::vector<float> got_cut = cut.get(), got_sum = dimages.get();
        std::vector<double> sum(images.begin(), images.end()), size(all);
        for (size_t i = 0; i < all; i++) size[i] = fabs(sum[i]);
        for (size_t j = 0; j < c.list.size(); j++)
            for (size_t e = 0; e < one; e++) {
                size_t at, seen;
                if (c.list[j].image < 0) {
                    cr_assert_eq(got_cut[j * one + e], empty[j * one + e], "%s: a window that is none", what.c_str());
                    continue;
                }
                walk(c, c.list[j], e, &at, &seen);
                const float want = t == K_BF16 ? __bfloat162float(__float2bfloat16_rn(images[at])) : images[at];
                cr_assert_eq(got_cut[j * one + seen], want, "%s: cut %zu", what.c_str(), e);
                sum[at] += (double)weight[e / (size_t)c.channels] * (double)outputs[j * one + seen];
                size[at] += fabs((double)weight[e / (size_t)c.channels] * (double)outputs[j * one + seen]);
            }
        /* a product and a sum for each window, each rounded by half an ulp of terms that sum to `size` */
        near_all(what, got_sum, sum, [&](size_t i) { return (2 + (double)c.list.size()) * 0x1p-24 * size[i]; });
        same_bytes(what, got_cut, first_cut);
        same_bytes(what, got_sum, first_sum);
    }
}

Test(stages, windows)
{
    for (size_t i = 0; i < window_cases.size(); i++)
        for (int t = K_F32; t <= K_BF16; t++) windows(window_cases[i], i, (enum k_dtype)t);
}

Test(stages, windows_mean)
{
    static const int cases[][9] = {/* n, channels, padded, before, flips */
                                   {1, 1, 1, 1, 1, 0, 0, 0, 1},
                                   {2, 3, 1, 9, 7, 0, 2, 1, 4},
                                   {1, 2, 4, 5, 6, 1, 0, 2, 8},
                                   {3, 2, 1, 33, 5, 0, 0, 0, 4},
                                   {1, 4, 1, 16, 16, 0, 3, 7, 1}};
    for (auto &c : cases)
        for (int seed = 0; seed < SEEDS; seed++) {
            const std::string what = named("mean", (size_t)(&c - cases), seed);
            const size_t area = (size_t)(c[2] * c[3] * c[4]), channels = (size_t)c[1], n = (size_t)c[0];
            const int size[3] = {c[2] - 2 * c[5], c[3] - 2 * c[6], c[4] - 2 * c[7] > 0 ? c[4] - 2 * c[7] : 1};
            const size_t out = n * (size_t)(size[0] * size[1] * size[2]) * channels;
            std::vector<float> sums = uniforms("sums", n * area * channels, -9, 9), want(out);
            const std::vector<float> weights = uniforms("weights", area, 0.5f, 20);
            cudasim_seed((uint64_t)seed);
            dev_array<float> dsums(sums), dweights(weights), logits(out);
            dev_array<uint32_t> bad(1);
            bad.zero();
            k_windows_mean a = {c[0],        c[1],    {c[2], c[3], c[4]}, {c[5], c[6], c[7]}, size[0], size[1], size[2],
                                (float)c[8], dsums.p, dweights.p,         logits.p,           bad.p};
            cr_assert_eq(k_windows_mean_run(&a, NULL), cudaSuccess);
            expect_clean(what);
            for (size_t i = 0; i < out; i++) {
                const size_t k = i % channels, v = i / channels, x = v % (size_t)size[2],
                             y = v / (size_t)size[2] % (size_t)size[1],
                             z = v / (size_t)size[2] / (size_t)size[1] % (size_t)size[0],
                             image = v / (size_t)size[2] / (size_t)size[1] / (size_t)size[0];
                const size_t from =
                    ((z + (size_t)c[5]) * (size_t)c[3] + y + (size_t)c[6]) * (size_t)c[4] + x + (size_t)c[7];
                want[i] = sums[(image * area + from) * channels + k] * (1 / (weights[from] * (float)c[8]));
            }
            near_all(what, logits.get(), want, [&](size_t i) { return 3 * 0x1p-24 * fabs((double)want[i]); });
            cr_expect_eq(bad.get()[0], 0);
            sums.assign(sums.size(), INFINITY);
            dsums.set(sums);
            cr_assert_eq(k_windows_mean_run(&a, NULL), cudaSuccess);
            cr_expect_eq(bad.get()[0], 1, "%s: infinity is not seen", what.c_str());
        }
}

/* ---- probabilities ---- */

static const struct probability_case {
    int n, classes, height, width;
} probability_cases[] = {{1, 1, 1, 1}, {1, 2, 1, 1}, {1, 2, 17, 19}, {3, 2, 8, 8}, {2, 5, 3, 41}, {1, 3, 70, 65}};

static void softmax(const probability_case &c, size_t number, enum k_dtype t)
{
    const size_t pixels = (size_t)(c.height * c.width), classes = (size_t)c.classes,
                 all = (size_t)c.n * pixels * classes;
    std::vector<float> x[2] = {uniforms("one", all, -70, 70), uniforms("two", all, -1, 1)}, first;
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = named("softmax", number, seed);
        cudasim_seed((uint64_t)seed);
        dev_values one(x[0], t), two(x[1], t);
        dev_array<float> prob(all);
        k_softmax_mean a = {t, c.n, c.classes, (int64_t)pixels, one.at(), prob.p, 0.5f, 0};
        cr_assert_eq(k_softmax_mean_run(&a, NULL), cudaSuccess);
        a.logits = two.at(), a.beta = 1;
        cr_assert_eq(k_softmax_mean_run(&a, NULL), cudaSuccess);
        expect_clean(what);
        std::vector<double> want(all);
        for (const std::vector<float> &v : x)
            for (size_t i = 0; i < (size_t)c.n * pixels; i++) {
                double top = -INFINITY, sum = 0;
                for (size_t k = 0; k < classes; k++) top = fmax(top, (double)v[i * classes + k]);
                for (size_t k = 0; k < classes; k++) sum += exp((double)v[i * classes + k] - top);
                for (size_t k = 0; k < classes; k++)
                    want[(i / pixels * classes + k) * pixels + i % pixels] +=
                        0.5 * exp((double)v[i * classes + k] - top) / sum;
            }
        /* rounding of x - max in the exponent (up to 140; exp underflows beyond), then one ulp for each exponential and
         * sum */
        near_all(what, prob.get(), want,
                 [&](size_t i) { return (140 + 6 + (double)classes) * 0x1p-24 * want[i] + 1e-37; });
        same_bytes(what, prob.get(), first);
    }
}

Test(stages, softmax_mean)
{
    for (const probability_case &c : probability_cases)
        for (int t = K_F32; t <= K_BF16; t++) softmax(c, (size_t)(&c - probability_cases), (enum k_dtype)t);
}

/* Probabilities that sum to 1 over `classes`, some exactly 0 or 1. */
static std::vector<float> probabilities(size_t classes, size_t n)
{
    std::vector<float> p = uniforms("prob", classes * n, 1e-7f, 1);
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t k = 0; k < classes; k++) {
            if (i % 5 == 0) p[k * n + i] = k == i / 5 % classes;
            if (i % 5 == 1) p[k * n + i] *= k ? 1e-7f : 1;
            sum += p[k * n + i];
        }
        for (size_t k = 0; classes > 1 && k < classes; k++) p[k * n + i] /= sum;
    }
    return p;
}

Test(stages, entropy_labels_and_sums)
{
    for (const probability_case &c : probability_cases)
        for (int seed = 0; seed < SEEDS; seed++) {
            const std::string what = named("entropy", (size_t)(&c - probability_cases), seed);
            const size_t n = (size_t)(c.height * c.width), classes = (size_t)c.classes;
            const std::vector<float> p = probabilities(classes, n);
            std::vector<float> bits(n);
            std::vector<uint8_t> labels(n), above(n);
            cr_assert_eq(mcs_entropy_map(p.data(), c.classes, (int64_t)n, bits.data()), MCS_OK);
            mcs_prob_labels(p.data(), c.classes, (int64_t)n, 0, labels.data());
            mcs_prob_labels(p.data(), c.classes, (int64_t)n, 0.7, above.data());
            cudasim_seed((uint64_t)seed);
            dev_array<float> dp(p), dbits(n);
            dev_array<uint8_t> dlabels(n), dabove(n);
            dev_array<uint32_t> bad(1);
            bad.zero();
            k_entropy e = {c.classes, (int64_t)n, dp.p, dbits.p, bad.p};
            k_labels l = {c.classes, (int64_t)n, 0, dp.p, dlabels.p};
            cr_assert_eq(k_entropy_run(&e, NULL), cudaSuccess);
            cr_assert_eq(k_labels_run(&l, NULL), cudaSuccess);
            l.threshold = 0.7, l.labels = dabove.p;
            cr_assert_eq(k_labels_run(&l, NULL), cudaSuccess);
            expect_clean(what);
            /* computed in double by both, then one rounding */
            near_all(what, dbits.get(), bits, [&](size_t i) { return 0x1p-23 * (double)bits[i]; });
            equal_all(what + " labels", dlabels.get(), labels);
            equal_all(what + " above", dabove.get(), above);
            cr_expect_eq(bad.get()[0], 0);

            for (int fill = 0; fill < 3; fill++) { /* the labels, all background, all foreground */
                if (fill) labels.assign(n, (uint8_t)(fill - 1));
                dlabels.set(labels);
                dbits.set(bits);
                dev_array<k_uncertainty_sums> sums(1);
                dev_array<char> work(k_uncertainty_bytes(c.height, c.width));
                k_uncertainty u = {c.height, c.width, dbits.p, dlabels.p, sums.p, work.p};
                cr_assert_eq(k_uncertainty_run(&u, NULL), cudaSuccess);
                expect_clean(what);
                const k_uncertainty_sums got = sums.get()[0];
                const double edge = 100 * got.bits / (double)(got.edge ? got.edge : 1),
                             area = 100 * got.bits / (double)(got.area ? got.area : 1);
                const double want_edge =
                                 mcs_uncertainty_score(bits.data(), labels.data(), c.width, c.height, MCS_PAPER),
                             want_area = mcs_uncertainty_score_area(bits.data(), labels.data(), (int64_t)n);
                /* sums of n doubles of one sign in another order */
                cr_expect(fabs(edge - want_edge) <= (double)n * 0x1p-53 * want_edge, "%s: %g, want %g", what.c_str(),
                          edge, want_edge);
                cr_expect(fabs(area - want_area) <= (double)n * 0x1p-53 * want_area, "%s: %g, want %g", what.c_str(),
                          area, want_area);
            }
        }
    dev_array<float> p(std::vector<float>{0.5f, NAN, 0.5f}), bits(3);
    dev_array<uint32_t> bad(1);
    bad.zero();
    k_entropy e = {1, 3, p.p, bits.p, bad.p};
    cr_assert_eq(k_entropy_run(&e, NULL), cudaSuccess);
    cr_expect_eq(bad.get()[0], 1, "NaN is no probability");
}

Test(stages, zscore)
{
    static const struct {
        int64_t n;
        int channels, bytes;
    } cases[] = {{1, 1, 0}, {1, 3, 1}, {37, 1, 1}, {4096, 2, 0}, {5001, 3, 1}, {4097, 1, 0}, {64, 1, 2}};
    for (auto &c : cases)
        for (int seed = 0; seed < SEEDS; seed++) {
            const std::string what = named("zscore", (size_t)(&c - cases), seed);
            const size_t all = (size_t)(c.n * c.channels);
            std::vector<uint8_t> bytes(all);
            std::vector<float> v = uniforms("v", all, 900, 1100), want(all);
            for (size_t i = 0; i < all; i++)
                bytes[i] = c.bytes == 2 ? 7 : (uint8_t)(255 * uniform_at("b", i)); /* 2: constant image */
            mcs_ensemble_normalise(c.bytes ? bytes.data() : NULL, v.data(), c.n, c.channels, want.data());
            cudasim_seed((uint64_t)seed);
            dev_array<uint8_t> db(bytes);
            dev_array<float> dv(v), dst(all);
            dev_array<char> work(k_zscore_bytes(c.n, c.channels));
            k_zscore a = {c.n, c.channels, c.bytes ? db.p : NULL, c.bytes ? NULL : dv.p, dst.p, work.p};
            cr_assert_eq(k_zscore_run(&a, NULL), cudaSuccess);
            expect_clean(what);
            /* mean and scale are rounded from doubles by both: at most one ulp apart each */
            near_all(what, dst.get(), want, [&](size_t i) {
                const double size = c.bytes ? 255 : 1100;
                return 0x1p-22 * fabs((double)want[i]) + 0x1p-23 * size * fabs((double)want[i] ? 1.0 : 0.0) / 50;
            });
        }
}

Test(stages, zero_sizes)
{
    k_windows w = {};
    k_windows_mean m = {};
    k_softmax_mean p = {};
    k_entropy e = {};
    k_labels l = {};
    k_uncertainty u = {};
    k_zscore z = {};
    cr_expect(!k_windows_cut(&w, NULL) && !k_windows_paste(&w, NULL) && !k_windows_mean_run(&m, NULL));
    cr_expect(!k_softmax_mean_run(&p, NULL) && !k_entropy_run(&e, NULL) && !k_labels_run(&l, NULL));
    cr_expect(!k_uncertainty_run(&u, NULL) && !k_zscore_run(&z, NULL));
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
}
