/* Components against a flood fill; filters, ties and boxes. */
#include "engine/base/rng.h"
#include "engine/image/components.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX = 70 * 70 };

static void flood(const uint8_t *mask, int w, int h, int32_t *labels, int x, int y, int32_t l)
{
    static int stack[MAX];
    int n = 0;
    labels[y * w + x] = l;
    stack[n++] = y * w + x;
    while (n) {
        int i = stack[--n];
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++) {
                int u = i % w + dx, v = i / w + dy;
                if (u < 0 || v < 0 || u >= w || v >= h || !mask[v * w + u] || labels[v * w + u]) continue;
                labels[v * w + u] = l;
                stack[n++] = v * w + u;
            }
    }
}

Test(components, equal_a_flood_fill)
{
    static uint8_t mask[MAX];
    static float map[MAX];
    static int32_t got[MAX], want[MAX];
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct mcs_rng r = {.seed = seed, .site = mcs_rng_site("test.components")};
        int w = 1 + (int)mcs_rng_below(r, 0, 69), h = 1 + (int)mcs_rng_below(r, 1, 69);
        double density = 0.05 + 0.9 * mcs_rng_uniform(r, 2);
        for (int i = 0; i < w * h; i++) {
            mask[i] = mcs_rng_uniform(r, (uint32_t)(10 + 2 * i)) < density ? 255 : 0;
            map[i] = (float)mcs_rng_uniform(r, (uint32_t)(11 + 2 * i));
        }
        int n = 0;
        memset(want, 0, sizeof want);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                if (mask[y * w + x] && !want[y * w + x]) flood(mask, w, h, want, x, y, ++n);
        struct component_list list;
        cr_assert_eq(mcs_components_find(mask, map, w, h, got, &list), MCS_OK);
        cr_assert_eq(list.n, n);
        cr_assert_arr_eq(got, want, (size_t)(w * h) * sizeof *got);
        for (int k = 0; k < n; k++) {
            const struct component *c = list.items + k;
            int area = 0, x0 = w, y0 = h, x1 = -1, y1 = -1, peak = -1;
            double sx = 0, sy = 0, sm = 0;
            for (int i = 0; i < w * h; i++) {
                if (want[i] != k + 1) continue;
                int x = i % w, y = i / w;
                area++;
                x0 = x < x0 ? x : x0, x1 = x > x1 ? x : x1, y0 = y < y0 ? y : y0, y1 = y > y1 ? y : y1;
                sx += x, sy += y, sm += map[i];
                if (peak < 0 || map[i] > map[peak]) peak = i;
            }
            cr_assert(c->label == k + 1 && c->area == area);
            cr_assert(c->x0 == x0 && c->x1 == x1 && c->y0 == y0 && c->y1 == y1);
            cr_assert(c->peak_x == peak % w && c->peak_y == peak / w && c->peak == map[peak]);
            cr_assert_eq(c->cx, (float)(sx / area));
            cr_assert_eq(c->cy, (float)(sy / area));
            cr_assert_eq(c->confidence, (float)(sm / area)); /* same order of the same sums */
        }
        mcs_components_free(&list);
    }
}

Test(components, spirals_and_combs_join_late)
{
    /* A comb whose teeth meet only in the last row, so that each tooth gets another provisional label. */
    enum { W = 41, H = 20 };
    uint8_t mask[W * H] = {0};
    int32_t labels[W * H];
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W; x++) mask[y * W + x] = x % 2 == 0 || y == H - 1;
    struct component_list list;
    cr_assert_eq(mcs_components_find(mask, NULL, W, H, labels, &list), MCS_OK);
    cr_assert(list.n == 1 && list.items[0].area == 21 * H + 20 && list.items[0].confidence == 0.0f);
    mcs_components_free(&list);
    memset(mask, 0, sizeof mask);
    cr_assert_eq(mcs_components_find(mask, NULL, W, H, labels, &list), MCS_OK);
    cr_assert_eq(list.n, 0);
    mcs_components_free(&list);
    cr_assert_eq(mcs_components_find(mask, NULL, 0, H, labels, &list), MCS_E_SHAPE);
}

static struct component_list list_of(const int *area, const float *confidence, int n)
{
    struct component_list list = {n, calloc((size_t)n, sizeof(struct component))};
    for (int i = 0; i < n; i++)
        list.items[i] = (struct component){.label = i + 1, .area = area[i], .confidence = confidence[i]};
    return list;
}

static void expect(struct component_list *list, const char *labels)
{
    char got[32] = "";
    for (int i = 0; i < list->n; i++) got[i] = (char)('0' + list->items[i].label);
    cr_assert_str_eq(got, labels);
    mcs_components_free(list);
}

Test(components, filters)
{
    const int area[] = {5, 9, 9, 2, 5};
    const float confidence[] = {0.5f, 0.4f, 0.8f, 0.8f, 0.1f};
    struct component_list l = list_of(area, confidence, 5);
    mcs_components_keep_area(&l, 1); /* both of 9 */
    expect(&l, "23");
    l = list_of(area, confidence, 5);
    mcs_components_keep_area(&l, 2); /* the two largest areas are 9 and 9 */
    expect(&l, "23");
    l = list_of(area, confidence, 5);
    mcs_components_keep_area(&l, 3); /* 9, 9, 5: and the other 5 */
    expect(&l, "1235");
    l = list_of(area, confidence, 5);
    mcs_components_keep_area(&l, 0);
    expect(&l, "12345");
    l = list_of(area, confidence, 5);
    mcs_components_min_confidence(&l, 0.5f);
    expect(&l, "134");
    l = list_of(area, confidence, 5);
    mcs_components_min_area(&l, 5);
    expect(&l, "1235");
    l = list_of(area, confidence, 5);
    cr_assert_eq(mcs_components_keep_score(&l, confidence, 1), MCS_OK); /* 0.8 twice: the larger */
    expect(&l, "3");
    l = list_of(area, confidence, 5);
    cr_assert_eq(mcs_components_keep_score(&l, confidence, 3), MCS_OK);
    expect(&l, "134");
    l = list_of(area, confidence, 5);
    const float bad[] = {1, 2, NAN, 0, 0};
    cr_assert_eq(mcs_components_keep_score(&l, bad, 3), MCS_E_DATA);
    mcs_components_free(&l);
}

Test(components, mask_of_the_remaining_components)
{
    const int32_t labels[6] = {0, 1, 2, 2, 3, 0};
    uint8_t mask[6];
    struct component_list l = list_of((int[]){1, 2, 1}, (float[]){0, 0, 0}, 3);
    mcs_components_keep_area(&l, 1);
    cr_assert_eq(mcs_components_mask(&l, labels, 6, mask), MCS_OK);
    cr_assert_arr_eq(mask, ((uint8_t[]){0, 0, 1, 1, 0, 0}), 6);
    l.n = 0;
    cr_assert_eq(mcs_components_mask(&l, labels, 6, mask), MCS_OK);
    cr_assert_arr_eq(mask, ((uint8_t[6]){0}), 6);
    mcs_components_free(&l);
}

Test(components, boxes_grow_inside_the_image)
{
    int b[4] = {2, 3, 6, 9};
    mcs_box_grow(b, 3, 20, 11);
    cr_assert_arr_eq(b, ((int[]){0, 0, 9, 10}), sizeof b);
    int c[4] = {2, 3, 6, 4};
    mcs_box_grow(c, -1, 20, 20);
    cr_assert_arr_eq(c, ((int[]){3, 3, 5, 3}), sizeof c); /* two rows shrink to their middle */
    int d[4] = {2, 3, 6, 4};
    mcs_box_grow(d, 2147483647, 20, 20);
    cr_assert_arr_eq(d, ((int[]){0, 0, 19, 19}), sizeof d);
    /* one side reaches the border, would pass it by one, or stays one short of it */
    int e[4] = {3, 0, 6, 0};
    mcs_box_grow(e, 2, 10, 1);
    cr_assert_arr_eq(e, ((int[]){1, 0, 8, 0}), sizeof e);
    int f[4] = {3, 3, 6, 6};
    mcs_box_grow(f, 3, 10, 9);
    cr_assert_arr_eq(f, ((int[]){0, 0, 9, 8}), sizeof f);
    int h[4] = {3, 3, 7, 7};
    mcs_box_grow(h, -2, 10, 10); /* five pixels shrink to their middle one, */
    cr_assert_arr_eq(h, ((int[]){5, 5, 5, 5}), sizeof h);
    mcs_box_grow(h, -1, 10, 10); /* and stay there */
    cr_assert_arr_eq(h, ((int[]){5, 5, 5, 5}), sizeof h);
}
