/* Patches of a U-Net's loader: position and content, recomputed from nnU-Net's rules; shares of a batch; cases in
 * memory; the targets of deep supervision. */
#include "engine/base/rng.h"
#include "tests/support/support_ops.h"
#include "train/unet/unet_data.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- patches of a U-Net's batch ---- */

enum { CASES = 4, PATCH_H = 6, PATCH_W = 10, BATCH = 7, STEPS = 120, CH = 3 };
static const int case_size[CASES][2] = {{9, 14}, {3, 30}, {25, 4}, {14, 11}};

static int class_at(int which, int y, int x)
{
    if (which == 3) return 0; /* no foreground */
    return (y * 5 + x * 3 + which) % 4 == 0 ? 1 + (y + x) % (1 + which) : 0;
}

static void make_cases(struct unet_cases *c)
{
    mcs_unet_cases_init(c, CH, 4);
    for (int i = 0; i < CASES; i++) {
        struct image img;
        uint8_t labels[400];
        cr_assert_eq(mcs_image_alloc(&img, case_size[i][1], case_size[i][0], CH), MCS_OK);
        for (int y = 0; y < img.height; y++)
            for (int x = 0; x < img.width; x++) {
                const int at = y * img.width + x;
                img.pixels[CH * at] = (uint8_t)(10 * i + y * 7 + x * 11);
                img.pixels[CH * at + 1] = (uint8_t)(250 - y * 3 - x);
                img.pixels[CH * at + 2] = (uint8_t)(y * x + i);
                labels[at] = (uint8_t)class_at(i, y, x);
            }
        cr_assert_eq(mcs_unet_cases_add_image(c, "one", &img, labels), MCS_OK);
        mcs_image_free(&img);
    }
}

/* nnU-Net's get_bbox: the number of pixels by which a patch may extend outside of the image, half of them on each side:
 * loader - network, or loader - size if the image is smaller than the network's patch. */
static int64_t outside(int64_t size, int64_t loader, int64_t network)
{
    return size < network ? loader - size : loader - network;
}

static void corner_by_definition(const struct unet_loader *l, int64_t step, int item, int *which, int64_t corner[2])
{
    const struct mcs_rng key = {l->seed, mcs_rng_site("unet.patch"), (uint32_t)item, (uint32_t)step};
    const int network[2] = {PATCH_H, PATCH_W};
    int found[4] = {0}, n_found = 0, wanted = 0;
    int64_t pixel[2] = {-1, -1}, k;
    *which = (int)mcs_rng_below(key, 0, CASES);
    const int *size = case_size[*which];
    if (item >= (int)nearbyint(BATCH * (1 - l->foreground))) {
        int64_t n[4] = {0};
        for (int y = 0; y < size[0]; y++)
            for (int x = 0; x < size[1]; x++) n[class_at(*which, y, x)]++;
        for (int c = 1; c < 4; c++)
            if (n[c]) found[n_found++] = c;
        if (n_found) wanted = found[mcs_rng_below(key, 3, (uint32_t)n_found)];
        k = wanted ? mcs_rng_below(key, 4, (uint32_t)n[wanted]) : 0;
        for (int y = 0; wanted && y < size[0]; y++)
            for (int x = 0; x < size[1]; x++)
                if (class_at(*which, y, x) == wanted && k-- == 0) pixel[0] = y, pixel[1] = x;
    }
    for (int a = 0; a < 2; a++) {
        const int64_t more = outside(size[a], l->loader_size[a], network[a]), lowest = -(more / 2 + more % 2),
                      highest = size[a] - l->loader_size[a] + more / 2 + more % 2;
        if (wanted)
            corner[a] = pixel[a] - l->loader_size[a] / 2 > lowest ? pixel[a] - l->loader_size[a] / 2 : lowest;
        else
            corner[a] = lowest + mcs_rng_below(key, 1 + (uint32_t)a, (uint32_t)(highest - lowest + 1));
    }
}

static void check_patches(struct unet_loader *l)
{
    const struct unet_cases *c = l->cases;
    const int h = l->loader_size[0], w = l->loader_size[1];
    float *image = malloc((size_t)(h * w) * CH * sizeof *image);
    int32_t *label = malloc((size_t)(h * w) * sizeof *label);
    cr_assert(image && label);
    const struct augment_patch patch = {h, w, CH, image, label};
    for (int64_t step = 0; step < STEPS; step++)
        for (int item = 0; item < BATCH; item++) {
            int which, want_which;
            int64_t corner[2], want[2];
            mcs_unet_loader_patch(l, step, item, &patch, &which, corner);
            corner_by_definition(l, step, item, &want_which, want);
            cr_assert_eq(which, want_which, "step %d item %d", (int)step, item);
            cr_assert(corner[0] == want[0] && corner[1] == want[1], "step %d item %d of case %d: %d %d, want %d %d",
                      (int)step, item, which, (int)corner[0], (int)corner[1], (int)want[0], (int)want[1]);
            const struct unet_case *one = &c->items[which];
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w; x++) {
                    const int64_t sy = y + want[0], sx = x + want[1];
                    const int inside = sy >= 0 && sx >= 0 && sy < one->height && sx < one->width;
                    cr_assert_eq(label[y * w + x], inside ? class_at(which, (int)sy, (int)sx) : -1);
                    for (int k = 0; k < CH; k++) {
                        const float v = inside ? one->bytes[(sy * one->width + sx) * CH + k] : 0;
                        cr_assert_eq(image[(y * w + x) * CH + k], inside ? (v - one->mean[k]) * one->inverse_sd[k] : 0);
                    }
                }
        }
    free(image);
    free(label);
}

static struct augment_options turning(void)
{
    struct augment_options o = mcs_augment_none();
    o.p_rotation = 1;
    o.rotation = 0.6;
    return o;
}

/* The loader's patch is larger than the network's by different amounts along the axes, or of equal size. */
Test(unet_patches, where_patches_are_cut)
{
    struct unet_cases c;
    make_cases(&c);
    for (int k = 0; k < 2; k++) {
        struct unet_loader l = {.cases = &c,
                                .augment = k ? turning() : mcs_augment_none(),
                                .batch = BATCH,
                                .height = PATCH_H,
                                .width = PATCH_W,
                                .foreground = 0.6,
                                .seed = 8 + (uint64_t)k};
        cr_assert_eq(mcs_unet_loader_open(&l), MCS_OK);
        cr_expect_eq(k, l.loader_size[0] > PATCH_H && l.loader_size[1] > PATCH_W);
        check_patches(&l);
        mcs_unet_loader_close(&l);
    }
    mcs_unet_cases_free(&c);
}

/* A share of a batch has the same items as the whole batch; the CPU applies the draws item by item. */
Test(unet_patches, a_part_of_a_batch)
{
    enum { FIRST = 2, N = 3, SIZE = PATCH_H * PATCH_W };
    struct unet_cases c;
    static float all[BATCH * SIZE * CH], part[N * SIZE * CH], again[SIZE * CH], scratch[1000];
    static int32_t all_labels[BATCH * SIZE], part_labels[N * SIZE], again_labels[SIZE];
    make_cases(&c);
    struct unet_loader whole = {.cases = &c,
                                .augment = mcs_augment_nnunet(PATCH_H, PATCH_W),
                                .batch = BATCH,
                                .height = PATCH_H,
                                .width = PATCH_W,
                                .foreground = 0.4,
                                .seed = 3};
    struct unet_loader some = whole;
    some.first = FIRST, some.n = N;
    cr_assert_eq(mcs_unet_loader_open(&whole), MCS_OK);
    cr_assert_eq(mcs_unet_loader_open(&some), MCS_OK);
    cr_expect(whole.first == 0 && whole.n == BATCH && some.n == N);
    cr_assert(mcs_augment_scratch(&(struct augment_patch){PATCH_H, PATCH_W, CH, NULL, NULL}) <= 1000);
    for (int64_t step = 0; step < 20; step++) {
        support_loader_fill(&whole, step, all, all_labels);
        support_loader_fill(&some, step, part, part_labels);
        cr_assert_eq(memcmp(part, all + FIRST * SIZE * CH, sizeof part), 0, "step %d", (int)step);
        cr_assert_eq(memcmp(part_labels, all_labels + FIRST * SIZE, sizeof part_labels), 0);
        const int64_t pixels = (int64_t)some.loader_size[0] * some.loader_size[1];
        for (int i = 0; i < N; i++) {
            const struct augment_patch src = {some.loader_size[0], some.loader_size[1], CH,
                                              some.patches + i * pixels * CH, some.patch_labels + i * pixels},
                                       dst = {PATCH_H, PATCH_W, CH, again, again_labels};
            mcs_augment_apply(&some.draws[i], &src, &dst, scratch);
            cr_assert_eq(memcmp(again, part + i * SIZE * CH, sizeof again), 0, "step %d item %d", (int)step, i);
            cr_assert_eq(memcmp(again_labels, part_labels + i * SIZE, sizeof again_labels), 0);
        }
    }
    mcs_unet_loader_close(&whole);
    mcs_unet_loader_close(&some);
    mcs_unet_cases_free(&c);
}

/* More cases than the list's initial capacity: each keeps its labels and class counts. */
Test(unet_patches, many_cases)
{
    struct unet_cases c;
    mcs_unet_cases_init(&c, 1, 3);
    for (int i = 0; i < 130; i++) {
        uint8_t pixel[4] = {(uint8_t)i, (uint8_t)(i + 1), (uint8_t)(2 * i), 7}, labels[4] = {0, 1, 2, 1};
        labels[0] = (uint8_t)(i % 3);
        const struct image img = {2, 2, 1, pixel};
        cr_assert_eq(mcs_unet_cases_add_image(&c, "one", &img, labels), MCS_OK);
    }
    cr_assert_eq(c.n, 130);
    for (int i = 0; i < 130; i++) {
        const struct unet_case *one = &c.items[i];
        cr_assert(one->bytes[0] == i && one->bytes[2] == (uint8_t)(2 * i) && one->labels[0] == i % 3);
        cr_assert(one->n_of_class[0] == (i % 3 == 0) && one->n_of_class[1] == 2 + (i % 3 == 1) &&
                  one->n_of_class[2] == 1 + (i % 3 == 2));
    }
    mcs_unet_cases_free(&c);
    cr_expect(!c.items && !c.n && !c.capacity);
}

/* Volumes: mean and deviation over all voxels, one case per slice; values that are not finite and labels that are not
 * classes are refused. */
Test(unet_patches, a_volume_by_slices)
{
    enum { D3 = 3, H3 = 2, W3 = 4, N3 = D3 * H3 * W3 };
    struct unet_cases c;
    float values[N3];
    uint8_t labels[N3] = {0};
    double mean = 0, var = 0;
    for (int i = 0; i < N3; i++) values[i] = (float)(2 + 0.5 * i + (i % 5)), mean += (double)values[i] / N3;
    for (int i = 0; i < N3; i++) var += pow((double)values[i] - mean, 2) / N3;
    labels[N3 - 1] = 1, labels[H3 * W3] = 1, labels[H3 * W3 + 1] = 1;
    mcs_unet_cases_init(&c, 1, 2);
    cr_assert_eq(mcs_unet_cases_add_volume(&c, "v", values, labels, D3, H3, W3), MCS_OK);
    cr_assert_eq(c.n, D3);
    for (int z = 0; z < D3; z++) {
        const struct unet_case *one = &c.items[z];
        cr_expect(one->height == H3 && one->width == W3 && !one->bytes);
        cr_expect_eq(memcmp(one->values, values + z * H3 * W3, sizeof(float) * H3 * W3), 0);
        cr_expect_eq(memcmp(one->labels, labels + z * H3 * W3, H3 * W3), 0);
        cr_expect_float_eq((double)one->mean[0], mean, mean * 1e-7);
        cr_expect_float_eq((double)one->inverse_sd[0], 1 / sqrt(var), 1e-6 / sqrt(var));
        cr_expect_eq(one->n_of_class[1], z == 0 ? 0 : z == 1 ? 2 : 1);
    }
    values[N3 - 1] = INFINITY;
    cr_expect_eq(mcs_unet_cases_add_volume(&c, "v", values, labels, D3, H3, W3), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "voxel 23"), "%s", mcs_error_message());
    values[N3 - 1] = 1, labels[N3 - 1] = 2;
    cr_expect_eq(mcs_unet_cases_add_volume(&c, "v", values, labels, D3, H3, W3), MCS_E_DATA);
    mcs_error_clear();
    mcs_unet_cases_free(&c);
    mcs_unet_cases_init(&c, 2, 2);
    cr_expect_eq(mcs_unet_cases_add_volume(&c, "v", values, labels, D3, H3, W3), MCS_E_DATA, "two channels are wanted");
    mcs_error_clear();
    mcs_unet_cases_free(&c);
}

/* Nearest-exact resizing to smaller targets, several images, sides that are not divisible. */
Test(unet_patches, targets_of_deep_supervision)
{
    enum { N = 2, TH = 7, TW = 9 };
    int32_t labels[N * TH * TW], small[N * 3 * 4];
    for (int i = 0; i < N * TH * TW; i++) labels[i] = i;
    mcs_augment_target(labels, N, TH, TW, 3, 4, small);
    for (int n = 0; n < N; n++)
        for (int y = 0; y < 3; y++)
            for (int x = 0; x < 4; x++)
                cr_expect_eq(small[(n * 3 + y) * 4 + x],
                             (n * TH + (int)floor((y + 0.5) * TH / 3)) * TW + (int)floor((x + 0.5) * TW / 4));
}
