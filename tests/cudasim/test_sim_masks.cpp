/* Thresholds, connected components, distances and non-maximum suppression against infer/, or against plain loops where
 * infer/ has no such function. */
#include "tests/cudasim/support_array.h"

#include <algorithm>
#include <numeric>

#include "kernels/image/masks.h"
extern "C" {
#include "engine/image/components.h"
#include "engine/image/threshold.h"
#include "infer/metrics/distance.h"
}

enum { SEEDS = 4 };

static std::string named(const char *what, size_t i, int seed)
{
    return std::string(what) + " case " + std::to_string(i) + " seed " + std::to_string(seed);
}

/* ---- thresholds ---- */

/* kind: 0 two bumps, 1 noise, 2 constant, 3 few values, 4 large offset, 5 two adjacent floats at 1, 6 three levels, 7
 * noise with minimum and maximum at the ends of a chunk of 4096, 8 all bin edges and the floats just below them */
struct map_case {
    int height, width, kind;
};
static const map_case map_cases[] = {{1, 1, 1},   {1, 2, 1},     {17, 19, 0},  {64, 64, 0}, {70, 65, 1},
                                     {9, 8, 2},   {33, 31, 3},   {40, 50, 4},  {16, 16, 5}, {12, 12, 6},
                                     {5, 300, 0}, {300, 270, 0}, {90, 100, 7}, {16, 32, 8}};

static std::vector<float> draw_map(const map_case &c)
{
    const size_t n = (size_t)(c.height * c.width);
    std::vector<float> v = uniforms("map", n, 0, 1);
    for (size_t i = 0; i < n; i++) {
        const double y = (double)(i / (size_t)c.width) / c.height, x = (double)(i % (size_t)c.width) / c.width;
        const double bump = exp(-30 * ((y - .3) * (y - .3) + (x - .6) * (x - .6)));
        if (c.kind == 0) v[i] = (float)(0.9 * bump + 0.1 * (double)v[i]);
        if (c.kind == 2) v[i] = 0.3f;
        if (c.kind == 3) v[i] = (float)(int)(4 * v[i]) / 3;
        if (c.kind == 4) v[i] = 1e6f + 100 * (float)bump + v[i];
        if (c.kind == 5) v[i] = v[i] > .5f ? 1.0f : 1.0f + 0x1p-23f;
        if (c.kind == 6) v[i] = (float)(i % 3) / 2;
        if (c.kind == 7 && (i == 4096 || i == n - 1)) v[i] = i == 4096 ? -1 : 2;
        if (c.kind == 8)
            v[i] = i == 1 ? .8f : (float)((double).1f + (double)(i / 2) * (((double).8f - (double).1f) / 256));
        if (c.kind == 8 && i > 1 && i % 2) v[i] = nextafterf(v[i], 0);
    }
    return v;
}

static void threshold(const map_case &c, size_t number, enum threshold_kind kind)
{
    const std::vector<float> map = draw_map(c);
    const size_t n = map.size();
    std::vector<uint8_t> want(n);
    float want_threshold, value = 0.3f;
    if (kind == THRESHOLD_KMEANS_RELEASE) { /* the host finds the cut */
        std::vector<uint8_t> reduced(65536);
        int cut;
        mcs_kmeans_release_reduce(map.data(), c.width, c.height, reduced.data());
        mcs_kmeans_release_cut(reduced.data(), &cut, &want_threshold);
        value = (float)cut;
    }
    mcs_mask_state state;
    cr_assert_eq(mcs_threshold(kind, value, map.data(), c.width, c.height, want.data(), &want_threshold, &state),
                 MCS_OK);
    for (int seed = 0; seed < SEEDS; seed++) {
        const std::string what = named("threshold", number, seed) + " kind " + std::to_string(kind);
        cudasim_seed((uint64_t)seed);
        dev_array<float> dmap(map);
        dev_array<uint8_t> mask(n);
        dev_array<threshold_result> result(1);
        dev_array<uint32_t> counts(K_BINS);
        dev_array<char> work(k_threshold_bytes(c.height, c.width));
        k_threshold a = {kind, c.height, c.width, value, dmap.p, mask.p, result.p, counts.p, work.p};
        cr_assert_eq(k_threshold_run(&a, NULL), cudaSuccess);
        expect_clean(what);
        const threshold_result r = result.get()[0];
        const std::vector<uint32_t> count = counts.get();
        equal_all(what, mask.get(), want);
        cr_expect_eq(r.set, (uint32_t)std::accumulate(want.begin(), want.end(), 0));
        cr_expect_eq(r.constant, state == MCS_MASK_CONSTANT, "%s", what.c_str());
        cr_expect_eq(r.set > 0, state == MCS_MASK_OK);
        cr_expect_eq(r.bad, 0);
        cr_expect_eq(r.low, *std::min_element(map.begin(), map.end()));
        cr_expect_eq(r.high, *std::max_element(map.begin(), map.end()));
        cr_expect_eq(std::accumulate(count.begin(), count.end(), (uint64_t)0), n);
        /* Otsu: the CPU's bits. 2-means: class means differ by at most 2^-32 of the range, then one rounding */
        const double range = (double)r.high - (double)r.low;
        const double tol = kind == THRESHOLD_KMEANS ? 0x1p-32 * range + 0x1p-23 * fabs((double)want_threshold) : 0;
        cr_expect(fabs((double)r.threshold - (double)want_threshold) <= tol, "%s: threshold %.9g, want %.9g",
                  what.c_str(), (double)r.threshold, (double)want_threshold);
        if (kind == THRESHOLD_OTSU) { /* the histogram alone */
            std::vector<uint32_t> plain(K_BINS);
            for (float v : map) {
                int k = 0;
                while (k < K_BINS - 1 && v >= (float)((double)r.low + (k + 1) * (range / (double)K_BINS))) k++;
                plain[(size_t)k]++;
            }
            if (!(range > 0)) plain.assign(K_BINS, 0), plain[0] = (uint32_t)n;
            if (c.kind != 5) equal_all(what + " counts", count, plain); /* only where bins are wider than one ulp */
        }
        a.counts = NULL;
        dmap.set(map);
        cr_assert_eq(k_threshold_run(&a, NULL), cudaSuccess);
        equal_all(what + " again", mask.get(), want);
        std::vector<float> broken = map;
        broken[n / 2] = seed & 1 ? NAN : -INFINITY;
        dmap.set(broken);
        cr_assert_eq(k_threshold_run(&a, NULL), cudaSuccess);
        expect_clean(what);
        cr_expect_eq(result.get()[0].bad, 1, "%s: a value that is not finite is not seen", what.c_str());
    }
}

Test(masks, thresholds)
{
    for (size_t i = 0; i < sizeof map_cases / sizeof *map_cases; i++)
        for (int kind = THRESHOLD_OTSU; kind <= THRESHOLD_FIXED_RELEASE; kind++)
            threshold(map_cases[i], i, (threshold_kind)kind);
}

/* ---- components ---- */

/* kind: 0 empty, 1 full, 2 noise, 3 dense noise, 4 spiral, 5 one voxel, 6 stripes, 7 comb, 8 diagonal, 9 the first
 * column of all slices, 10 every other row and column */
struct mask_case {
    int depth, height, width, kind;
};
static const mask_case mask_cases[] = {{1, 1, 1, 0},    {1, 1, 1, 1},   {1, 7, 9, 5},    {1, 40, 37, 1}, {1, 33, 65, 2},
                                       {1, 65, 70, 3},  {1, 31, 45, 4}, {1, 16, 100, 6}, {1, 20, 64, 7}, {1, 9, 9, 0},
                                       {1, 90, 80, 2},  {3, 5, 7, 1},   {4, 9, 33, 2},   {7, 6, 5, 3},   {5, 12, 40, 7},
                                       {16, 17, 18, 2}, {1, 20, 20, 8}, {4, 6, 7, 9},    {1, 70, 64, 10}};

static std::vector<uint8_t> draw_mask(const mask_case &c)
{
    const size_t n = (size_t)(c.depth * c.height * c.width);
    std::vector<uint8_t> m(n);
    for (size_t i = 0; i < n; i++) {
        const int x = (int)i % c.width, y = (int)i / c.width % c.height;
        const float u = uniform_at("mask", i);
        m[i] = c.kind == 1 || (c.kind == 2 && u < .3f) || (c.kind == 3 && u < .6f) || (c.kind == 5 && i == n / 2) ||
               (c.kind == 6 && y % 2) || (c.kind == 7 && (y == c.height - 1 || x % 2 == 0)) ||
               (c.kind == 8 && x == y) || (c.kind == 9 && x == 0 && y == 0) ||
               (c.kind == 10 && x % 2 == 0 && y % 2 == 0);
        if (c.kind == 4) { /* concentric rings joined to one long path */
            const int r = std::min(std::min(x, c.width - 1 - x), std::min(y, c.height - 1 - y));
            m[i] = r % 2 == 0 || (r % 4 == 1 && y == r && x == r) || (r % 4 == 3 && y == r && x == c.width - 1 - r);
        }
        if (m[i]) m[i] = (uint8_t)(1 + i % 3); /* any value but 0 is foreground */
    }
    return m;
}

/* Reference: flood fill; labels in the order of the first voxel. */
static std::vector<int32_t> flood(const mask_case &c, const std::vector<uint8_t> &mask, int *n)
{
    std::vector<int32_t> label(mask.size());
    std::vector<int> stack;
    *n = 0;
    for (size_t i = 0; i < mask.size(); i++) {
        if (!mask[i] || label[i]) continue;
        label[i] = ++*n;
        stack.push_back((int)i);
        while (!stack.empty()) {
            const int at = stack.back(), x = at % c.width, y = at / c.width % c.height, z = at / c.width / c.height;
            stack.pop_back();
            for (int d = 0; d < 27; d++) {
                const int u = x + d % 3 - 1, v = y + d / 3 % 3 - 1, w = z + d / 9 - 1;
                if (u < 0 || v < 0 || w < 0 || u >= c.width || v >= c.height || w >= c.depth) continue;
                const size_t to = (size_t)((w * c.height + v) * c.width + u);
                if (!mask[to] || label[to]) continue;
                label[to] = *n;
                stack.push_back((int)to);
            }
        }
    }
    return label;
}

static void expect_items(const std::string &what, const mask_case &c, const std::vector<component> &got, int n,
                         const std::vector<int32_t> &label, const std::vector<float> *map)
{
    for (int k = 0; k < n && k < (int)got.size(); k++) {
        component w = {};
        double sx = 0, sy = 0, sz = 0, sum = 0;
        for (size_t i = 0; i < label.size(); i++) {
            if (label[i] != k + 1) continue;
            const int x = (int)i % c.width, y = (int)i / c.width % c.height, z = (int)i / c.width / c.height;
            const float v = map ? (*map)[i] : 0;
            if (!w.area) w = {k + 1, 0, x, y, z, x, y, z, 0, 0, 0, 0, v, x, y, z};
            w.area++;
            w.x0 = std::min(w.x0, x), w.x1 = std::max(w.x1, x);
            w.y0 = std::min(w.y0, y), w.y1 = std::max(w.y1, y);
            w.z0 = std::min(w.z0, z), w.z1 = std::max(w.z1, z);
            sx += x, sy += y, sz += z, sum += (double)v;
            if (v > w.peak) w.peak = v, w.peak_x = x, w.peak_y = y, w.peak_z = z;
        }
        w.cx = (float)(sx / w.area), w.cy = (float)(sy / w.area), w.cz = (float)(sz / w.area);
        w.confidence = (float)(sum / w.area);
        const component &g = got[(size_t)k];
        /* a mean of doubles summed in another order, rounded: at most one ulp apart */
        cr_expect(fabs((double)g.confidence - (double)w.confidence) <= 0x1p-23 * fabs((double)w.confidence),
                  "%s: %d: confidence %g, want %g", what.c_str(), k, (double)g.confidence, (double)w.confidence);
        w.confidence = g.confidence;
        cr_expect(memcmp(&g, &w, sizeof g) == 0,
                  "%s: component %d of %d: area %d (%d), box %d %d %d - %d %d %d, peak %d %d %d", what.c_str(), k, n,
                  g.area, w.area, g.x0, g.y0, g.z0, g.x1, g.y1, g.z1, g.peak_x, g.peak_y, g.peak_z);
    }
}

Test(masks, components)
{
    for (size_t i = 0; i < sizeof mask_cases / sizeof *mask_cases; i++)
        for (int seed = 0; seed < SEEDS; seed++) {
            const mask_case &c = mask_cases[i];
            const std::string what = named("components", i, seed);
            const std::vector<uint8_t> mask = draw_mask(c);
            std::vector<float> map = uniforms("confidence", mask.size(), -1, 1);
            if (seed == 1)
                for (float &v : map) v = (float)(int)(3 * v); /* ties, and -0 */
            int n;
            const std::vector<int32_t> want = flood(c, mask, &n);
            const int capacity = seed == 3 ? n / 2 : n + 5;
            cudasim_seed((uint64_t)seed);
            dev_array<uint8_t> dmask(mask);
            dev_array<float> dmap(map);
            dev_array<int32_t> labels(mask.size()), found(1);
            dev_array<component> items((size_t)capacity);
            dev_array<char> work(k_components_bytes(c.depth, c.height, c.width, capacity));
            k_components a = {c.depth,  c.height, c.width, capacity, dmask.p, seed == 2 ? NULL : dmap.p,
                              labels.p, items.p,  found.p, work.p};
            cr_assert_eq(k_components_run(&a, NULL), cudaSuccess);
            expect_clean(what);
            cr_assert_eq(found.get()[0], n, "%s: %d components, want %d", what.c_str(), found.get()[0], n);
            equal_all(what, labels.get(), want);
            cudasim_quiet(1); /* items beyond the number found are uninitialised: ignore the report of their copy */
            const std::vector<component> got = items.get();
            cudasim_reports_clear();
            cudasim_quiet(0);
            expect_items(what, c, got, n, want, seed == 2 ? NULL : &map);
            if (c.depth > 1) continue;
            std::vector<int32_t> cpu_labels(mask.size());
            component_list list;
            cr_assert_eq(mcs_components_find(mask.data(), map.data(), c.width, c.height, cpu_labels.data(), &list),
                         MCS_OK);
            cr_assert_eq(list.n, n);
            equal_all(what + " as infer/", labels.get(), cpu_labels);
            mcs_components_free(&list);
        }
}

/* Labels beyond `capacity` are never kept: keep has no entries for them. */
Test(masks, components_mask)
{
    const dev_array<int32_t> labels(std::vector<int32_t>{0, 1, 2, 3, 4});
    const dev_array<uint8_t> keep(std::vector<uint8_t>{0, 1, 1});
    dev_array<uint8_t> mask(5);
    cr_assert_eq(k_components_mask(labels.p, keep.p, 2, 5, mask.p, NULL), cudaSuccess);
    expect_clean("labels beyond the capacity");
    equal_all("mask", mask.get(), {0, 1, 1, 0, 0});
}

/* ---- distances ---- */

Test(masks, distances)
{
    static const double spacings[][3] = {{1, 1, 1}, {0.7, 1.3, 2.5}, {3, 0.25, 1}};
    for (size_t i = 0; i < sizeof mask_cases / sizeof *mask_cases; i++)
        for (int seed = 0; seed < SEEDS; seed++) {
            const mask_case &c = mask_cases[i];
            const double *spacing = spacings[((int)i + seed) % 3];
            const std::string what = named("distance", i, seed);
            std::vector<uint8_t> sites = draw_mask(c);
            for (size_t k = 0; c.kind == 3 && k < sites.size(); k++)
                sites[k] = sites[k] && uniform_at("thin", k) < .02f;
            std::vector<double> want(sites.size());
            cr_assert_eq(mcs_distance_transform(sites.data(), c.width, c.height, c.depth, spacing, want.data()),
                         MCS_OK);
            cudasim_seed((uint64_t)seed);
            dev_array<uint8_t> dsites(sites);
            dev_array<double> distance(sites.size());
            dev_array<char> work(k_distance_bytes(c.width, c.height, c.depth));
            const k_distance a = {c.width,  c.height,   c.depth, {spacing[0], spacing[1], spacing[2]},
                                  dsites.p, distance.p, work.p};
            cr_assert_eq(k_distance_run(&a, NULL), cudaSuccess);
            expect_clean(what);
            const std::vector<double> got = distance.get();
            for (size_t k = 0; k < got.size(); k++) {
                if (isinf(want[k])) {
                    cr_assert(got[k] > 0 && isinf(got[k]), "%s[%zu]: %g, want infinity", what.c_str(), k, got[k]);
                    continue;
                }
                /* squares of integers are exact; otherwise three products and two sums, and of equal distances another
                 * apex may be taken */
                const double tol = spacing == spacings[0] ? 0 : 8 * 0x1p-53 * want[k];
                cr_assert(fabs(got[k] - want[k]) <= tol, "%s[%zu]: %.17g, want %.17g", what.c_str(), k, got[k],
                          want[k]);
            }
        }
}

/* ---- boxes ---- */

static std::vector<int32_t> plain_nms(const std::vector<float> &b, const std::vector<float> &scores,
                                      const std::vector<int32_t> *group, float threshold)
{
    std::vector<int32_t> order(scores.size()), keep;
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int x, int y) { return scores[(size_t)x] > scores[(size_t)y]; });
    for (int32_t i : order) {
        const float *p = &b[4 * (size_t)i];
        bool stays = true;
        for (int32_t j : keep) {
            const float *q = &b[4 * (size_t)j];
            if (group && (*group)[(size_t)i] != (*group)[(size_t)j]) continue;
            const float w = fmaxf(fminf(p[2], q[2]) - fmaxf(p[0], q[0]), 0),
                        h = fmaxf(fminf(p[3], q[3]) - fmaxf(p[1], q[1]), 0);
            const float both = w * h, either = (q[2] - q[0]) * (q[3] - q[1]) + (p[2] - p[0]) * (p[3] - p[1]) - both;
            if (both / either > threshold) stays = false;
        }
        if (stays) keep.push_back(i);
    }
    return keep;
}

Test(masks, nms)
{
    /* kind: 0 scattered, 1 identical boxes, 2 disjoint, 3 tied scores, 4 boxes without area, 5 each box again 65 places
     * later, 6 all coordinates 0 */
    static const struct {
        int n, grouped, kind;
        float threshold;
    } cases[] = {{1, 0, 0, .5f},  {2, 0, 1, .7f},    {31, 0, 0, .3f},  {33, 1, 0, .3f},
                 {64, 0, 1, .5f}, {70, 0, 2, .1f},   {200, 0, 3, .2f}, {150, 1, 3, .4f},
                 {40, 0, 4, .5f}, {330, 0, 0, .05f}, {130, 0, 5, .5f}, {129, 0, 6, .5f}};
    for (auto &c : cases)
        for (int seed = 0; seed < SEEDS; seed++) {
            const std::string what = named("nms", (size_t)(&c - cases), seed);
            const size_t n = (size_t)c.n;
            std::vector<float> boxes(4 * n), scores = uniforms("scores", n, 0, 1);
            std::vector<int32_t> group(n);
            for (size_t i = 0; i < n; i++) {
                const float x = 100 * uniform_at("x", i), y = 100 * uniform_at("y", i), w = 5 + 40 * uniform_at("w", i),
                            h = 5 + 40 * uniform_at("h", i);
                const float b[7][4] = {
                    {x, y, x + w, y + h}, {3, 4, 10, 12}, {(float)(10 * i), 0, (float)(10 * i + 9), 5},
                    {x, y, x + w, y + h}, {x, y, x, y},   {(float)(10 * (i % 65)), 0, (float)(10 * (i % 65) + 9), 5}};
                memcpy(&boxes[4 * i], b[c.kind], sizeof b[0]);
                group[i] = (int32_t)(3 * uniform_at("group", i));
                if (c.kind == 3) scores[i] = (float)(int)(5 * scores[i]);
                if (c.kind >= 5) scores[i] = 1 - (float)i / 256;
            }
            const std::vector<int32_t> want = plain_nms(boxes, scores, c.grouped ? &group : NULL, c.threshold);
            cudasim_seed((uint64_t)seed);
            dev_array<float> dboxes(boxes), dscores(scores);
            dev_array<int32_t> dgroup(group), keep(std::vector<int32_t>(n, -1)), kept(1);
            dev_array<char> work(k_nms_bytes(c.n));
            const k_nms a = {c.n,    c.threshold, dboxes.p, dscores.p, c.grouped ? dgroup.p : NULL,
                             keep.p, kept.p,      work.p};
            cr_assert_eq(k_nms_run(&a, NULL), cudaSuccess);
            expect_clean(what);
            std::vector<int32_t> got = keep.get();
            cr_assert_eq(kept.get()[0], (int)want.size(), "%s: %d stay, want %zu", what.c_str(), kept.get()[0],
                         want.size());
            got.resize(want.size());
            equal_all(what, got, want);
        }
    k_nms many = {};
    many.n = K_NMS_MOST + 1;
    cr_expect_eq(k_nms_run(&many, NULL), cudaErrorInvalidValue);
}

/* NaN scores sort last and suppress no box with a greater score. */
Test(masks, nms_nan)
{
    dev_array<float> boxes(std::vector<float>{0, 0, 9, 9, 0, 0, 9, 9, 20, 20, 30, 30}),
        scores(std::vector<float>{NAN, 0.1f, NAN});
    dev_array<int32_t> keep(3), kept(1);
    dev_array<char> work(k_nms_bytes(3));
    const k_nms a = {3, 0.5f, boxes.p, scores.p, NULL, keep.p, kept.p, work.p};
    cr_assert_eq(k_nms_run(&a, NULL), cudaSuccess);
    cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
    cr_assert_eq(kept.get()[0], 2);
    int32_t first[2];
    cudaMemcpy(first, keep.p, sizeof first, cudaMemcpyDeviceToHost);
    cr_expect(first[0] == 1 && first[1] == 2);
}

Test(masks, zero_sizes)
{
    dev_array<int32_t> kept(std::vector<int32_t>{7});
    k_threshold t = {};
    k_components c = {};
    k_distance d = {};
    k_nms n = {};
    n.n_keep = kept.p;
    cr_expect(!k_threshold_run(&t, NULL) && !k_components_run(&c, NULL) && !k_distance_run(&d, NULL) &&
              !k_nms_run(&n, NULL));
    cr_expect(!k_components_mask(NULL, NULL, 0, 0, NULL, NULL));
    cr_expect_eq(kept.get()[0], 0);
    cr_expect_eq(cudaDeviceSynchronize(), cudaSuccess);
}
