/* The batches of fine-tuning: pairing of images and captions, order and crops in each epoch. Each image encodes its
 * number, and by two ramps the rectangle that was cropped from it. */
#include "data/image/image.h"
#include "tests/support/support_tiny.h"
#include "train/clip/finetune.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 13, BATCH = 4, PER_EPOCH = N / BATCH, WIDTH = 100, HEIGHT = 80, S = 32, VALUES = S * S * 3 };
enum { AREA = WIDTH * HEIGHT };

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;
static struct pairs pairs;
static struct clip_config config;

/* Pixel (x, y) of image i: (10 + 18 i, 2 x, 3 y). */
static void paint(int i, struct image *img)
{
    OK(mcs_image_alloc(img, WIDTH, HEIGHT, 3));
    for (int k = 0; k < AREA; k++) {
        img->pixels[3 * k] = (uint8_t)(10 + 18 * i);
        img->pixels[3 * k + 1] = (uint8_t)(2 * (k % WIDTH));
        img->pixels[3 * k + 2] = (uint8_t)(3 * (k / WIDTH));
    }
}

static void setup(void)
{
    const struct pairs_options po = {0};
    folder = tiny_folder("finetune");
    config = tiny_clip_config();
    config.image_size = S;
    for (int k = 0; k < 3; k++) config.mean[k] = 0, config.std[k] = 1;
    FILE *f = fopen(tiny_path(folder, "pairs.csv"), "w");
    cr_assert(f);
    fprintf(f, "filename,Caption\n");
    for (int i = 0; i < N; i++) {
        struct image img;
        const int number = i * 5 % N; /* the table is not ordered by name */
        paint(number, &img);
        OK(mcs_image_write_png(tiny_path(folder, "p%02d.png", number), &img));
        mcs_image_free(&img);
        fprintf(f, "p%02d.png,caption of image %d\n", number, number);
    }
    cr_assert_eq(fclose(f), 0);
    OK(mcs_pairs_read(tiny_path(folder, "pairs.csv"), &po, &pairs));
    cr_assert_eq(pairs.n, N);
}

static void teardown(void)
{
    mcs_pairs_free(&pairs);
    tiny_remove(folder);
}
TestSuite(finetune, .init = setup, .fini = teardown);

static float images[N * VALUES], other_images[N * VALUES];
static const char *texts[N], *other_texts[N];
static int32_t sample[N], other_sample[N];
static struct clip_batch batch = {.n = BATCH, .images = images, .texts = texts, .sample = sample};

static void open_source(struct pair_source *s, double crop_low, uint64_t seed)
{
    OK(mcs_pair_source_open(s, &pairs, &config, BATCH, crop_low, seed));
}

static int image_number(const float *image)
{
    return (int)lround((255 * (double)image[0] - 10) / 18);
}

static int caption_number(const char *text)
{
    int i = -1;
    cr_assert_eq(sscanf(text, "caption of image %d", &i), 1, "%s", text);
    return i;
}

/* ---- pairing and order ---- */

Test(finetune, every_image_comes_with_its_own_caption)
{
    int name_of[N];
    struct pair_source s;
    for (int i = 0; i < N; i++) name_of[i] = -1;
    open_source(&s, 0.5, 3);
    for (int64_t step = 0; step < 8 * PER_EPOCH; step++) {
        OK(mcs_pair_source_fill(&s, step, &batch));
        for (int i = 0; i < BATCH; i++) {
            const int number = image_number(images + i * VALUES);
            cr_assert_eq(caption_number(texts[i]), number, "step %d, place %d: image %d has \"%s\"", (int)step, i,
                         number, texts[i]);
            /* the key of dropout: one number for each pair, the same in all epochs */
            cr_assert(sample[i] >= 0 && sample[i] < N);
            cr_assert(name_of[sample[i]] < 0 || name_of[sample[i]] == number, "pair %d has two images", sample[i]);
            name_of[sample[i]] = number;
        }
    }
    for (int i = 0; i < N; i++) cr_expect_geq(name_of[i], 0, "pair %d never came in 8 epochs", i);
    mcs_pair_source_close(&s);
}

/* The pairs of an epoch, in order. */
static void epoch_order(struct pair_source *s, int64_t epoch, int order[PER_EPOCH * BATCH])
{
    for (int b = 0; b < PER_EPOCH; b++) {
        OK(mcs_pair_source_fill(s, epoch * PER_EPOCH + b, &batch));
        for (int i = 0; i < BATCH; i++) order[b * BATCH + i] = image_number(images + i * VALUES);
    }
}

Test(finetune, each_epoch_has_every_pair_at_most_once_in_a_new_order)
{
    enum { EPOCHS = 60, USED = PER_EPOCH * BATCH };
    int order[EPOCHS][USED], first[N] = {0}, left_out[N] = {0};
    struct pair_source s;
    open_source(&s, 1, 3);
    cr_assert_eq(mcs_pair_source_steps_per_epoch(&s), PER_EPOCH);
    for (int e = 0; e < EPOCHS; e++) {
        int seen[N] = {0};
        epoch_order(&s, e, order[e]);
        for (int i = 0; i < USED; i++) seen[order[e][i]]++;
        for (int i = 0; i < N; i++) {
            cr_assert(seen[i] <= 1, "epoch %d has image %d %d times", e, i, seen[i]);
            left_out[i] += !seen[i];
        }
        first[order[e][0]]++;
        for (int before = 0; before < e; before++)
            cr_assert(memcmp(order[e], order[before], sizeof order[e]) != 0, "epochs %d and %d have one order", before,
                      e);
    }
    /* 60 draws out of 13: 4.6 +- 2.1 times each; more than 16 has a chance of 1 in 100,000 */
    for (int i = 0; i < N; i++) {
        cr_expect(first[i] <= 16, "image %d comes first in %d of %d epochs", i, first[i], EPOCHS);
        cr_expect(left_out[i] <= 16, "image %d is left out of %d of %d epochs", i, left_out[i], EPOCHS);
    }
    mcs_pair_source_close(&s);
    int again[USED];
    open_source(&s, 1, 4);
    epoch_order(&s, 0, again);
    cr_expect(memcmp(again, order[0], sizeof again) != 0, "another seed, another order");
    mcs_pair_source_close(&s);
}

static void fill_other(struct pair_source *s, int64_t step, int64_t first, int64_t n)
{
    struct clip_batch b = {
        .first = first, .n = n, .images = other_images, .texts = other_texts, .sample = other_sample};
    OK(mcs_pair_source_fill(s, step, &b));
}

static void expect_same_batch(const char *what, int first, int n)
{
    cr_expect_eq(memcmp(images + first * VALUES, other_images, (size_t)(n * VALUES) * sizeof *images), 0,
                 "%s: other pixels", what);
    cr_expect_eq(memcmp(sample + first, other_sample, (size_t)n * sizeof *sample), 0, "%s: other pairs", what);
    for (int i = 0; i < n; i++) cr_expect_str_eq(texts[first + i], other_texts[i], "%s", what);
}

/* A resumed run opens a new source in the middle of an epoch, and a rank requests only its share of a batch. Both get
 * the batches of an uninterrupted run. */
Test(finetune, a_batch_does_not_depend_on_earlier_calls)
{
    static const int64_t order[] = {7, 1, 10, 2, 8, 0};
    struct pair_source whole, fresh;
    open_source(&whole, 0.4, 5);
    for (size_t k = 0; k < sizeof order / sizeof *order; k++) {
        open_source(&fresh, 0.4, 5);
        OK(mcs_pair_source_fill(&whole, order[k], &batch));
        fill_other(&fresh, order[k], 0, BATCH);
        expect_same_batch("a fresh source", 0, BATCH);
        for (int half = 0; half < 2; half++) {
            fill_other(&fresh, order[k], half * BATCH / 2, BATCH / 2);
            expect_same_batch("half of the batch", half * BATCH / 2, BATCH / 2);
        }
        mcs_pair_source_close(&fresh);
    }
    mcs_pair_source_close(&whole);
}

/* Images that do not fit into the cache are read from their files each time and give the same batches. */
Test(finetune, images_outside_of_the_cache_are_read_again)
{
    struct pair_source cached, bare;
    open_source(&cached, 0.4, 5);
    open_source(&bare, 0.4, 5);
    for (int i = 0; i < N; i++) {
        cr_assert(bare.cached[i].pixels, "these few images all fit into the cache");
        if (i % 3) mcs_image_free(&bare.cached[i]);
    }
    for (int64_t step = 0; step < 3 * PER_EPOCH; step++) {
        OK(mcs_pair_source_fill(&cached, step, &batch));
        fill_other(&bare, step, 0, BATCH);
        expect_same_batch("half of the images cached", 0, BATCH);
    }
    for (int i = 0; i < N; i++)
        if (i % 3) cr_expect(!bare.cached[i].pixels, "an image was kept beyond the bound");
    cr_assert_eq(tiny_shell("rm %s/p*.png", folder), 0);
    enum mcs_status st = MCS_OK;
    for (int64_t step = 0; step < PER_EPOCH && st == MCS_OK; step++) st = mcs_pair_source_fill(&bare, step, &batch);
    cr_expect_eq(st, MCS_E_NOINPUT, "a file that has gone");
    cr_expect(strstr(mcs_error_message(), ".png"), "%s", mcs_error_message());
    mcs_error_clear();
    OK(mcs_pair_source_fill(&cached, 0, &batch));
    mcs_pair_source_close(&cached);
    mcs_pair_source_close(&bare);
}

Test(finetune, impossible_options_are_refused)
{
    struct pair_source s;
    cr_expect_eq(mcs_pair_source_open(&s, &pairs, &config, N + 1, 1, 0), MCS_E_USAGE);
    cr_expect(strstr(mcs_error_message(), "--batch"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_pair_source_close(&s);
    cr_assert_eq(tiny_shell("head -c 100 %s/p03.png > %s/cut && mv %s/cut %s/p03.png", folder, folder, folder, folder),
                 0);
    cr_expect_eq(mcs_pair_source_open(&s, &pairs, &config, BATCH, 1, 0), MCS_E_DATA);
    cr_expect(strstr(mcs_error_message(), "p03.png"), "%s", mcs_error_message());
    mcs_error_clear();
    mcs_pair_source_close(&s);
}

/* ---- crops ---- */

struct rectangle {
    int x, y, width, height;
};

/* Fits first and size of a crop from a ramp of `slope` per pixel, resized from `size` pixels starting at `first` to S:
 * the value at o is slope (first + (o + .5) size / S - .5). Least squares over the inner pixels, whose filter support
 * does not reach the border. */
static void read_ramp(const float *image, int channel, double slope, int *first, int *size)
{
    enum { LOW = 6, HIGH = S - 6 };
    double mean = 0, product = 0, squares = 0;
    for (int o = LOW; o < HIGH; o++) {
        const double at = o - 0.5 * (LOW + HIGH - 1),
                     v = 255 * (double)image[(channel == 1 ? S / 2 * S + o : o * S + S / 2) * 3 + channel];
        mean += v / (HIGH - LOW), product += at * v, squares += at * at;
    }
    *size = (int)lround(product / squares * S / slope);
    *first = (int)lround(mean / slope + 0.5 - 0.5 * *size);
}

/* The rectangle that was cropped, verified by cropping it again. */
static struct rectangle find_crop(const float *image)
{
    struct image whole, cut = {0};
    struct rectangle r;
    float want[VALUES];
    read_ramp(image, 1, 2, &r.x, &r.width);
    read_ramp(image, 2, 3, &r.y, &r.height);
    paint(image_number(image), &whole);
    OK(mcs_image_crop(&whole, r.x, r.y, r.width, r.height, &cut));
    OK(mcs_clip_prepare(&config, &cut, CLIP_VIEW_WHOLE, want));
    cr_assert_eq(memcmp(image, want, sizeof want), 0, "no crop of image %d: %d %d %d %d", image_number(image), r.x, r.y,
                 r.width, r.height);
    mcs_image_free(&whole);
    mcs_image_free(&cut);
    return r;
}

/* torchvision's RandomResizedCrop.get_params with libc's random numbers: mean area and mean of log(width / height). */
static void published(double low, double *area, double *ratio)
{
    enum { DRAWS = 200000 };
    unsigned short state[3] = {1, 2, 3};
    *area = *ratio = 0;
    for (int i = 0; i < DRAWS; i++) {
        int w = WIDTH, h = HEIGHT;
        for (int k = 0; k < 10; k++) {
            const double a = AREA * (low + (1 - low) * erand48(state)),
                         log_ratio = log(3.0 / 4) + (log(4.0 / 3) - log(3.0 / 4)) * erand48(state);
            const int cw = (int)lround(sqrt(a * exp(log_ratio))), ch = (int)lround(sqrt(a / exp(log_ratio)));
            if (cw < 1 || ch < 1 || cw > WIDTH || ch > HEIGHT) continue;
            w = cw, h = ch;
            break;
        }
        *area += (double)(w * h) / AREA / DRAWS;
        *ratio += log((double)w / h) / DRAWS;
    }
}

Test(finetune, crops_are_drawn_anew_in_each_epoch)
{
    enum { EPOCHS = 80, STEPS = EPOCHS * PER_EPOCH, DRAWS = STEPS * BATCH };
    const double low = 0.3;
    static struct rectangle all[N][EPOCHS];
    int n_of[N] = {0}, left = 0, right = 0, top = 0, bottom = 0, same = 0;
    double area = 0, ratio = 0, place_x = 0, place_y = 0, least = 1, most = 0, tall = 0, wide = 0, want_area,
           want_ratio;
    struct pair_source s;
    open_source(&s, low, 9);
    for (int64_t step = 0; step < STEPS; step++) {
        OK(mcs_pair_source_fill(&s, step, &batch));
        for (int i = 0; i < BATCH; i++) {
            const struct rectangle r = find_crop(images + i * VALUES);
            const int k = image_number(images + i * VALUES), room_x = WIDTH - r.width, room_y = HEIGHT - r.height;
            const double share = (double)(r.width * r.height) / AREA;
            all[k][n_of[k]++] = r;
            /* sides are rounded to integers: an error of half a pixel of at least 40 per side */
            cr_assert(share > low * 0.975 && share <= 1, "area %g", share);
            cr_assert(r.width > 0.75 * 0.975 * r.height && r.height > 0.75 * 0.975 * r.width, "%d x %d", r.width,
                      r.height);
            area += share / DRAWS, ratio += log((double)r.width / r.height) / DRAWS;
            least = fmin(least, share), most = fmax(most, share);
            tall = fmin(tall, log((double)r.width / r.height)), wide = fmax(wide, log((double)r.width / r.height));
            place_x += (room_x ? (double)r.x / room_x : 0.5) / DRAWS;
            place_y += (room_y ? (double)r.y / room_y : 0.5) / DRAWS;
            left += r.x == 0 && room_x, right += r.x == room_x && room_x;
            top += r.y == 0 && room_y, bottom += r.y == room_y && room_y;
        }
    }
    for (int k = 0; k < N; k++)
        for (int a = 0; a < n_of[k]; a++)
            for (int b = 0; b < a; b++) same += memcmp(&all[k][a], &all[k][b], sizeof all[k][a]) == 0;
    /* With thousands of rectangles only a few of about 36,000 pairs of epochs draw the same one by chance. */
    cr_expect(same < 60, "%d times two epochs had one crop of an image", same);
    /* Five standard errors, at most: .2 of the area, .17 = log(4/3 / (3/4)) / sqrt(12), .3 of a position, over sqrt(n).
     */
    const double error = 5 / sqrt(DRAWS);
    published(low, &want_area, &want_ratio);
    cr_expect_float_eq(area, want_area, 0.2 * error, "mean area %g, want %g", area, want_area);
    cr_expect_float_eq(ratio, want_ratio, 0.17 * error, "mean log ratio %g, want %g", ratio, want_ratio);
    cr_expect_float_eq(place_x, 0.5, 0.3 * error);
    cr_expect_float_eq(place_y, 0.5, 0.3 * error);
    cr_expect(least < low + 0.05 && most > 0.9, "areas from %g to %g", least, most);
    cr_expect(tall < log(0.75) + 0.03 && wide > log(4.0 / 3) - 0.03, "log ratios from %g to %g", tall, wide);
    cr_expect(left && right && top && bottom, "%d %d %d %d crops touch the borders", left, right, top, bottom);
    mcs_pair_source_close(&s);
}

Test(finetune, without_cropping_an_image_is_stretched_whole)
{
    struct pair_source s;
    open_source(&s, 1, 9);
    for (int64_t step = 0; step < 2 * PER_EPOCH; step++) {
        OK(mcs_pair_source_fill(&s, step, &batch));
        for (int i = 0; i < BATCH; i++) {
            const struct rectangle r = find_crop(images + i * VALUES);
            cr_expect(r.x == 0 && r.y == 0 && r.width == WIDTH && r.height == HEIGHT);
        }
    }
    mcs_pair_source_close(&s);
}
