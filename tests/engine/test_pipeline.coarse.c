/* Coarse masks on a device against the CPU (support_pipeline.h). */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/device_ops.h"
#include "infer/clip/saliency.h"
#include "infer/coarse/coarse.h"
#include "tests/support/support_pipeline.h"

/* ---- coarse masks ---- */

/* A score, 0 to 16, from the positions of a component's pixels: wrong labels change it. */
static enum mcs_status score_places(void *context, const char *stem, const struct component_list *list,
                                    const int32_t *labels, int width, int height, float *scores)
{
    ++*(int *)context;
    for (int k = 0; k < list->n; k++) {
        int sum = 0;
        for (int i = 0; i < width * height; i++) sum += labels[i] == list->items[k].label ? i : 0;
        scores[k] = (float)(sum % 17);
    }
    return MCS_OK;
}

enum { SEVERAL = MCS_MASK_FILTERED + 1, SCORED, SEEN };
/* number of masks that ended in each state, had several components, were ranked by a scorer */
static int coarse_seen[SEEN];

static void expect_same_coarse(struct device_scratch on[DEVICES], const struct map2 *map,
                               const struct coarse_options *o, const char *what)
{
    const int n = map->width * map->height;
    int scored = 0;
    const struct coarse_text_scorer scorer = {score_places, &scored};
    struct coarse_result r[DEVICES];
    uint8_t *masks = malloc((size_t)(4 * n)), *above[DEVICES] = {masks, masks + n},
            *mask[DEVICES] = {masks + 2 * n, masks + 3 * n};
    cr_assert(masks);
    memset(masks, 77, (size_t)(4 * n));
    for (int d = 0; d < DEVICES; d++) OK(mcs_coarse_mask(&on[d], map, "a", o, &scorer, above[d], mask[d], &r[d]));
    const struct coarse_result *want = &r[CPU], *got = &r[GPU];
    cr_expect(scored == 0 || (scored == 2 && o->rank >= MCS_COARSE_TEXT), "%s: %d scored", what, scored);
    coarse_seen[scored ? SCORED : want->components.n > 1 ? SEVERAL : (int)want->state]++;
    cr_expect_eq(memcmp(above[CPU], above[GPU], (size_t)n), 0, "%s: other pixels above the threshold", what);
    cr_expect_eq(memcmp(mask[CPU], mask[GPU], (size_t)n), 0, "%s: another mask", what);
    cr_expect_eq(got->state, want->state, "%s: %s, on the CPU %s", what, mcs_mask_state_text(got->state),
                 mcs_mask_state_text(want->state));
    /* kernels/image/masks.h: the means of 2-means agree to 2^-32 of the range, here at most 1; then one rounding */
    const double bound = o->threshold == MCS_COARSE_KMEANS ? 0x1p-32 + 0x1p-23 * fabs((double)want->threshold) : 0;
    cr_expect(fabs((double)got->threshold - (double)want->threshold) <= bound, "%s: threshold %.9g, on the CPU %.9g",
              what, (double)got->threshold, (double)want->threshold);
    cr_expect_eq(got->n_found, want->n_found, "%s: %d components, on the CPU %d", what, got->n_found, want->n_found);
    cr_assert_eq(got->components.n, want->components.n, "%s: %d stay, on the CPU %d", what, got->components.n,
                 want->components.n);
    cr_assert_eq(got->n_boxes, want->n_boxes);
    cr_expect_eq(memcmp(got->components.items, want->components.items,
                        (size_t)got->components.n * sizeof *got->components.items),
                 0, "%s: other components", what);
    for (int i = 0; i < want->n_boxes; i++) {
        struct box_component a = want->boxes[i], b = got->boxes[i];
        cr_assert_eq(a.n_points, b.n_points);
        cr_expect_eq(memcmp(a.points, b.points, (size_t)a.n_points * sizeof *a.points), 0, "%s: other points", what);
        cr_expect(a.x0 == b.x0 && a.y0 == b.y0 && a.x1 == b.x1 && a.y1 == b.y1 && a.area == b.area &&
                      a.confidence == b.confidence,
                  "%s: box %d differs", what, i);
    }
    for (int d = 0; d < DEVICES; d++) mcs_coarse_free(&r[d]);
    free(masks);
}

Test(pipeline, coarse, .timeout = 400)
{
    static const int sizes[][2] = {{47, 33}, {1, 1}, {80, 61}, {2, 3}};
    open_devices();
    struct device_scratch on[DEVICES] = {{.device = &device[CPU]}, {.device = &device[GPU]}};
    for (int i = 0; i < 4 * MAP_KINDS; i++) {
        struct map2 map;
        draw_map(&map, sizes[i % 4][0], sizes[i % 4][1], (enum map_kind)(i / 4));
        for (int way = 0; way < 6; way++) { /* three threshold methods, two forms */
            char what[80];
            struct coarse_options o = mcs_coarse_defaults(way % 2 ? MCS_RELEASE : MCS_PAPER);
            o.threshold = (enum mcs_coarse_threshold)(way / 2);
            o.rank = (enum mcs_coarse_rank)((i + way) % 4);
            o.keep = (i + way / 2) % 4; /* 0: all */
            o.min_area = way % 3;
            o.min_confidence = i % 2 ? 0 : 0.25f;
            o.n_negative = 3;
            o.merge_boxes = way == 3;
            snprintf(what, sizeof what, "map %d of %dx%d, way %d", i / 4, map.width, map.height, way);
            expect_same_coarse(on, &map, &o, what);
        }
        mcs_map_free(&map);
    }
    for (int k = 0; k < SEEN; k++) cr_expect_gt(coarse_seen[k], 4, "%d: %d", k, coarse_seen[k]);
    for (int d = 0; d < DEVICES; d++) mcs_device_scratch_free(&on[d]);
    close_devices();
}

Test(pipeline, coarse_bad_maps, .timeout = 400)
{
    open_devices();
    struct device_scratch on[DEVICES] = {{.device = &device[CPU]}, {.device = &device[GPU]}};
    struct map2 map;
    uint8_t mask[12 * 9];
    draw_map(&map, 12, 9, NOISE);
    for (int i = 0; i < 4; i++) {
        char message[DEVICES][200];
        struct coarse_options o = mcs_coarse_defaults(i % 2 ? MCS_RELEASE : MCS_PAPER);
        struct coarse_result r;
        if (i < 2) map.values[70 - i] = i ? -INFINITY : NAN;
        for (int k = 0; i == 2 && k < 12 * 9; k++) map.values[k] = -NAN;
        if (i == 3) o.keep = -1;
        for (int d = 0; d < DEVICES; d++) {
            cr_expect_eq(mcs_coarse_mask(&on[d], &map, "a", &o, NULL, NULL, mask, &r),
                         i < 3 ? MCS_E_DATA : MCS_E_USAGE);
            snprintf(message[d], sizeof *message, "%s", mcs_error_message());
            mcs_error_clear();
        }
        cr_expect_str_eq(message[GPU], message[CPU]);
    }
    mcs_map_free(&map);
    draw_map(&map, 12, 9, BUMPS); /* the next map is not affected */
    const struct coarse_options o = mcs_coarse_defaults(MCS_PAPER);
    expect_same_coarse(on, &map, &o, "after bad ones");
    mcs_map_free(&map);
    for (int d = 0; d < DEVICES; d++) mcs_device_scratch_free(&on[d]);
    close_devices();
}
