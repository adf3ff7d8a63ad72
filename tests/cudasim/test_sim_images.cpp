/* Resizing of images and maps against data/image/resample.c, infer/sam/sam_model.c, clip_model.c and saliency.c. */
#include "tests/cudasim/support_array.h"

#include "kernels/image/images.h"
extern "C" {
#include "engine/image/bilinear.h"
#include "engine/image/threshold.h"
#include "infer/clip/clip_model.h"
#include "infer/sam/sam_model.h"
#include "train/unet/unet_data.h"
}
#include "tests/support/support_ops.h"

enum { SEEDS = 4 };

static std::string named(const char *what, size_t i, int seed)
{
    return std::string(what) + " case " + std::to_string(i) + " seed " + std::to_string(seed);
}

static std::vector<uint8_t> draw_bytes(const char *name, size_t n)
{
    std::vector<uint8_t> v(n);
    for (size_t i = 0; i < n; i++) v[i] = i % 7 ? (uint8_t)(256 * uniform_at(name, i)) : i % 2 ? 255 : 0;
    return v;
}

/* ---- 8-bit images ---- */

struct size_case {
    int channels, src_height, src_width, height, width;
};
static const size_case size_cases[] = {{1, 1, 1, 1, 1},    {3, 1, 1, 5, 4},     {1, 7, 5, 7, 5},
                                       {3, 20, 31, 9, 50}, {1, 64, 48, 64, 17}, {1, 33, 40, 71, 40},
                                       {3, 100, 90, 8, 8}, {1, 10, 200, 30, 3}, {3, 16, 16, 32, 32},
                                       {1, 257, 3, 1, 1},  {1, 3, 5, 2, 300},   {1, 9, 9, 102, 102}};

Test(images, resize)
{
    for (const size_case &c : size_cases)
        for (int filter = K_NEAREST; filter <= K_BICUBIC; filter++) {
            const std::vector<uint8_t> pixels = draw_bytes("pixels", (size_t)(c.src_height * c.src_width * c.channels));
            image src = {c.src_width, c.src_height, c.channels, (uint8_t *)pixels.data()}, dst;
            cr_assert_eq(mcs_image_resize(&src, c.width, c.height, (mcs_filter)filter, &dst), MCS_OK);
            const std::vector<uint8_t> want(dst.pixels, dst.pixels + c.height * c.width * c.channels);
            mcs_image_free(&dst);
            for (int seed = 0; seed < SEEDS; seed++) {
                const std::string what =
                    named("resize", (size_t)(&c - size_cases), seed) + " filter " + std::to_string(filter);
                cudasim_seed((uint64_t)seed);
                dev_array<uint8_t> from(pixels), to(want.size());
                k_image_resize a = {(k_filter)filter, c.channels, c.src_height, c.src_width, c.height,
                                    c.width,          from.p,     to.p,         NULL};
                dev_array<char> work(k_image_resize_bytes(&a));
                a.workspace = work.p;
                cr_assert_eq(k_image_resize_run(&a, NULL), cudaSuccess);
                expect_clean(what);
                equal_all(what, to.get(), want); /* byte for byte */
            }
        }
}

/* SAM's padded input and CLIP's normalised views: resized by the CPU, framed by both. */
Test(images, frame)
{
    sam_config sam = {};
    sam.image_size = 32, sam.patch = 8;
    clip_config clip = {};
    clip.image_size = 24;
    for (int k = 0; k < 3; k++) clip.mean[k] = 0.4f + 0.05f * (float)k, clip.std[k] = 0.26f + 0.01f * (float)k;
    for (const size_case &c : size_cases)
        for (int what_for = 0; what_for < 2; what_for++)
            for (int t = K_F32; t <= K_BF16; t++)
                for (int seed = 0; seed < 2; seed++) {
                    const std::string what = named(what_for ? "clip" : "sam", (size_t)(&c - size_cases), seed);
                    std::vector<uint8_t> pixels =
                        draw_bytes("pixels", (size_t)(c.src_height * c.src_width * c.channels));
                    image src = {c.src_width, c.src_height, c.channels, pixels.data()}, small;
                    const int side = what_for ? 24 : 32;
                    std::vector<float> want((size_t)(side * side * 3)), zero(want.size(), 77);
                    k_image_frame a = {};
                    sam_frame frame;
                    if (what_for) {
                        cr_assert_eq(mcs_clip_prepare(&clip, &src, CLIP_VIEW_WHOLE, want.data()), MCS_OK);
                        cr_assert_eq(mcs_image_resize(&src, side, side, MCS_BICUBIC, &small), MCS_OK);
                        a.unit = 255;
                        memcpy(a.mean, clip.mean, sizeof a.mean);
                        memcpy(a.deviation, clip.std, sizeof a.deviation);
                    } else {
                        cr_assert_eq(mcs_sam_prepare(&sam, &src, want.data(), &frame), MCS_OK);
                        cr_assert_eq(mcs_image_resize(&src, frame.in_width, frame.in_height, MCS_BILINEAR, &small),
                                     MCS_OK);
                        const float mean[3] = {123.675f, 116.28f, 103.53f}, deviation[3] = {58.395f, 57.12f, 57.375f};
                        a.unit = 1;
                        memcpy(a.mean, mean, sizeof mean);
                        memcpy(a.deviation, deviation, sizeof deviation);
                    }
                    cudasim_seed((uint64_t)seed);
                    dev_array<uint8_t> from(
                        std::vector<uint8_t>(small.pixels, small.pixels + small.width * small.height * small.channels));
                    dev_values to(zero, (k_dtype)t);
                    a.dtype = (k_dtype)t, a.channels = small.channels, a.src_height = small.height,
                    a.src_width = small.width;
                    a.height = a.width = side, a.src = from.p, a.dst = to.at();
                    mcs_image_free(&small);
                    cr_assert_eq(k_image_frame_run(&a, NULL), cudaSuccess);
                    expect_clean(what);
                    if (t == K_BF16) to_bf16(want);
                    equal_all(what, to.get(), want);
                }
    /* a centre crop */
    const std::vector<uint8_t> pixels = draw_bytes("pixels", 7 * 9);
    dev_array<uint8_t> from(pixels);
    dev_array<float> to(5 * 4 * 3);
    const k_image_frame a = {K_F32, 1, 7, 9, 3, 6, 5, 4, 1, {0, 0, 0}, {1, 2, 4}, from.p, to.p};
    cr_assert_eq(k_image_frame_run(&a, NULL), cudaSuccess);
    expect_clean("cut");
    const std::vector<float> got = to.get();
    for (int y = 0; y < 5; y++)
        for (int x = 0; x < 4; x++)
            for (int k = 0; k < 3; k++)
                cr_expect_eq(got[(size_t)((y * 4 + x) * 3 + k)],
                             y < 4 && x < 3 ? (float)pixels[(size_t)((y + 3) * 9 + x + 6)] / (float)(1 << k) : 0);
}

/* ---- maps ---- */

/* Four products of weights and values, three sums, and weights with the coordinate's rounding (`side` ulp); the CPU's
 * roundings differ only where a compiler fuses operations. */
static double bilinear_tolerance(double size, int side)
{
    return (8 + side) * 0x1p-24 * size;
}

Test(images, maps)
{
    static const int sides[] = {1, 2, 7, 14, 9, 16, 5, 34};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        for (int view = 0; view < 2; view++)
            for (int t = K_F32; t <= K_BF16; t++)
                for (int seed = 0; seed < 3; seed++) {
                    const int side = sides[i], n = 1 + (int)i % 3, h = size_cases[i + 2 + i / 6 * 2].height,
                              w = size_cases[i + 2 + i / 6 * 2].width, view_side = view ? 2 * side + 3 : 0;
                    const size_t stride = (size_t)(side * side + (int)(i % 2)), pixels = (size_t)(h * w);
                    const std::string what =
                        named("map", i, seed) + (view ? " release" : " paper") + (t == K_BF16 ? " bf16" : "");
                    std::vector<float> tokens = uniforms("tokens", stride * (size_t)n, -3, 5), want(pixels),
                                       want_resized(pixels);
                    if (i == 2) tokens.assign(tokens.size(), 0.25f); /* constant */
                    /* minimum and maximum at the first and last token */
                    if (i == 4) tokens.front() = -4, tokens[(size_t)(side * side) - 1] = 6;
                    if (i == 7) tokens[13 * 34 + 5] = -4; /* minimum under pixel 4096, the first of a chunk */
                    cudasim_seed((uint64_t)seed);
                    dev_values dtokens(tokens, (k_dtype)t);
                    dev_array<float> maps(pixels * (size_t)n), resized(pixels * (size_t)n);
                    k_saliency_map a = {(k_dtype)t,   n,      side, view_side, h, w, (int64_t)stride,
                                        dtokens.at(), maps.p, NULL};
                    dev_array<char> work(k_saliency_map_bytes(&a));
                    a.workspace = work.p;
                    cr_assert_eq(k_saliency_map_run(&a, NULL), cudaSuccess);
                    const k_map_resize r = {(k_dtype)t,   n,        side, side, h, w, i % 2 ? (int64_t)stride : 0,
                                            dtokens.at(), resized.p};
                    cr_assert_eq(k_map_resize_run(&r, NULL), cudaSuccess);
                    expect_clean(what);
                    const std::vector<float> got = maps.get(), got_resized = resized.get();
                    for (int m = 0; m < n; m++) {
                        const float *from = &tokens[stride * (size_t)m];
                        const bilinear to_size = {side, side, w, h};
                        map2 plain;
                        support_saliency_map(from, side, view_side, w, h, &plain);
                        want.assign(plain.values, plain.values + pixels);
                        mcs_map_free(&plain);
                        want_resized.resize(pixels);
                        for (int y = 0; y < h; y++)
                            mcs_bilinear_row(&to_size, from, y, w, &want_resized[(size_t)y * (size_t)w]);
                        const std::vector<float> mine(got.begin() + (long)(pixels * (size_t)m),
                                                      got.begin() + (long)(pixels * (size_t)(m + 1)));
                        const std::vector<float> mine_resized(got_resized.begin() + (long)(pixels * (size_t)m),
                                                              got_resized.begin() + (long)(pixels * (size_t)(m + 1)));
                        near_all(what + " resized", mine_resized, want_resized,
                                 [&](size_t) { return bilinear_tolerance(5, side); });
                        /* the range is at least a third of the values' magnitude, so scaling adds three roundings; then
                         * one step of 8 bits */
                        near_all(what, mine, want,
                                 [&](size_t) { return view ? 1.001 / 255 : 3 * bilinear_tolerance(5, side); });
                        size_t other = 0;
                        for (size_t k = 0; k < pixels; k++) other += mine[k] != want[k];
                        cr_expect(!view || other <= 1 + pixels / 1000, "%s: %zu of %zu differ", what.c_str(), other,
                                  pixels);
                    }
                }
}

Test(images, map_bytes)
{
    std::vector<float> v = uniforms("v", 1000, -0.2f, 1.2f);
    v[3] = NAN, v[4] = 0.5f / 255, v[5] = 1.5f / 255, v[6] = 2.5f / 255, v[7] = INFINITY, v[8] = -INFINITY;
    std::vector<uint8_t> want(v.size());
    mcs_map_to_u8(v.data(), (int64_t)v.size(), want.data());
    dev_array<float> map(v);
    dev_array<uint8_t> bytes(v.size());
    cr_assert_eq(k_map_bytes(map.p, (int64_t)v.size(), bytes.p, NULL), cudaSuccess);
    expect_clean("bytes");
    equal_all("bytes", bytes.get(), want);
}

/* ---- masks ---- */

/* A mask's logits, labels and counts (NULL: not requested) against the CPU's logits. */
static void check_mask(const std::string &what, const map2 &want, const float *got, const uint8_t *mask,
                       const uint32_t *counts)
{
    uint32_t area = 0, inner = 0, outer = 0;
    for (size_t i = 0; i < (size_t)want.width * (size_t)want.height; i++) {
        const float v = got[i];
        /* two bilinear resizes of values up to 4 */
        cr_assert(fabs((double)v - (double)want.values[i]) <= 2 * bilinear_tolerance(4, 32), "%s[%zu]: %.9g, want %.9g",
                  what.c_str(), i, (double)v, (double)want.values[i]);
        cr_assert_eq(mask[i], v > 0 ? 255 : 0);
        area += v > 0, inner += v > 1, outer += v > -1;
    }
    if (!counts) return;
    cr_expect(counts[0] == area && counts[1] == inner && counts[2] == outer, "%s: counts %u %u %u, want %u %u %u",
              what.c_str(), counts[0], counts[1], counts[2], area, inner, outer);
    const double stability = counts[2] ? (double)counts[1] / counts[2] : 1.0;
    cr_expect(fabs(stability - support_stability(&want)) <= 1.0 / (double)(outer + !outer), "%s", what.c_str());
}

static void masks(size_t number, int patch, int h, int w, int n, int kind, enum k_dtype t)
{
    sam_config c = {};
    c.image_size = 32, c.patch = patch;
    const int side = mcs_sam_side(&c), longest = h > w ? h : w;
    const sam_frame frame = {w, h, (int)(w * 32.0 / longest + .5) > 0 ? (int)(w * 32.0 / longest + .5) : 1,
                             (int)(h * 32.0 / longest + .5) > 0 ? (int)(h * 32.0 / longest + .5) : 1};
    const size_t plane = (size_t)(side * side), pixels = (size_t)(h * w);
    std::vector<float> low = uniforms("low", plane * (size_t)(n + 1), -4, 4);
    if (kind == 1) low.assign(low.size(), -3); /* empty */
    if (kind == 2) low.assign(low.size(), 3);  /* all set */
    std::vector<int32_t> planes((size_t)n);
    for (int i = 0; i < n; i++) planes[(size_t)i] = n - i;
    std::vector<float> first;
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = named("mask", number, seed) + (t == K_BF16 ? " bf16" : "");
        cudasim_seed((uint64_t)seed);
        dev_values dlow(low, t);
        dev_array<int32_t> dplanes(planes);
        dev_array<float> logits(pixels * (size_t)n);
        dev_array<uint8_t> mask(pixels * (size_t)n), united(pixels);
        dev_array<uint32_t> counts((size_t)n * 3);
        const float weight = seed & 1 ? 1.0f : 1.0f / (float)n;
        k_mask_upscale a = {t,
                            n,
                            side,
                            32,
                            frame.in_height,
                            frame.in_width,
                            h,
                            w,
                            0,
                            1,
                            weight,
                            255,
                            dlow.at(),
                            seed & 2 ? dplanes.p : NULL,
                            logits.p,
                            mask.p,
                            united.p,
                            seed == 3 ? NULL : counts.p};
        cr_assert_eq(k_mask_upscale_run(&a, NULL), cudaSuccess);
        expect_clean(what);
        const std::vector<float> got = logits.get();
        const std::vector<uint8_t> got_mask = mask.get(), got_united = united.get();
        if (seed == 3) counts.zero();
        const std::vector<uint32_t> got_counts = counts.get();
        std::vector<float> votes(pixels);
        for (int m = 0; m < n; m++) {
            map2 want;
            cr_assert_eq(mcs_sam_upscale(&c, &low[plane * (size_t)(seed & 2 ? planes[(size_t)m] : m)], &frame, &want),
                         MCS_OK);
            check_mask(what + ": mask " + std::to_string(m), want, &got[(size_t)m * pixels],
                       &got_mask[(size_t)m * pixels], seed == 3 ? nullptr : &got_counts[3 * (size_t)m]);
            for (size_t i = 0; i < pixels; i++)
                if (got[(size_t)m * pixels + i] > 0) votes[i] += weight;
            mcs_map_free(&want);
        }
        for (size_t i = 0; i < pixels; i++)
            cr_assert_eq(got_united[i], votes[i] > .5f ? 255 : 0, "%s: united[%zu]", what.c_str(), i);
        if (!(seed & 2)) same_bytes(what, got, first);
    }
}

Test(images, masks)
{
    static const int cases[][6] = {{8, 1, 1, 1, 0},   {8, 32, 32, 2, 0}, {8, 20, 45, 3, 0}, {16, 61, 17, 1, 0},
                                   {4, 40, 40, 4, 0}, {8, 33, 31, 2, 1}, {8, 30, 29, 3, 2}, {16, 2, 200, 1, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int t = K_F32; t <= K_BF16; t++)
            masks(i, cases[i][0], cases[i][1], cases[i][2], cases[i][3], cases[i][4], (k_dtype)t);
}

Test(images, best_mask)
{
    std::vector<float> iou = uniforms("iou", 4 * 300, 0, 1);
    iou[5] = iou[6] = iou[7] = .5f; /* ties: the first must win */
    for (int t = K_F32; t <= K_BF16; t++) {
        dev_values d(iou, (k_dtype)t);
        dev_array<int32_t> plane(300);
        for (int multimask = 0; multimask < 2; multimask++) {
            const k_mask_choose a = {(k_dtype)t, 300, 4, multimask, multimask ? 3 : 1, 4, d.at(), plane.p};
            cr_assert_eq(k_mask_choose_run(&a, NULL), cudaSuccess);
            expect_clean("choose");
            const std::vector<int32_t> got = plane.get();
            for (int i = 0; i < 300; i++)
                cr_assert_eq(got[(size_t)i], 4 * i + mcs_sam_choose(&iou[4 * (size_t)i], multimask), "prompt %d", i);
        }
    }
}

Test(images, zero_sizes)
{
    k_image_resize r = {};
    k_image_frame f = {};
    k_map_resize m = {};
    k_saliency_map s = {};
    k_mask_upscale u = {};
    k_mask_choose c = {};
    cr_expect(!k_image_resize_run(&r, NULL) && !k_image_frame_run(&f, NULL) && !k_map_resize_run(&m, NULL));
    cr_expect(!k_saliency_map_run(&s, NULL) && !k_mask_upscale_run(&u, NULL) && !k_mask_choose_run(&c, NULL) &&
              !k_map_bytes(NULL, 0, NULL, NULL));
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
}
