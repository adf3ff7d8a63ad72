#include "tests/support/support_alone.h"

#include "data/io/store.h"
#include "engine/base/rng.h"
#include "infer/unet/ensemble.h"
#include "infer/weights.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

/* Image i: noise, and a bright disc with a unique place and size. */
static void write_image(const char *name, int i)
{
    const struct mcs_rng r = {.seed = 3, .site = mcs_rng_site("tests.alone"), .sample = (uint32_t)i};
    struct image img;
    OK(mcs_image_alloc(&img, ALONE_WIDTH, ALONE_HEIGHT, 1));
    for (int y = 0; y < ALONE_HEIGHT; y++)
        for (int x = 0; x < ALONE_WIDTH; x++) {
            const int dx = x - 4 - 5 * (i % 4), dy = y - 4 - 5 * (i / 4), in = dx * dx + dy * dy <= 4 + 2 * i;
            img.pixels[y * ALONE_WIDTH + x] =
                (uint8_t)((in ? 190 : 20 + 9 * i) + mcs_rng_below(r, (uint32_t)(y * ALONE_WIDTH + x), 50));
        }
    OK(mcs_image_write_png(shell_path(name), &img));
    mcs_image_free(&img);
}

/* A training run with two random checkpoints. */
static void write_run(struct device *d)
{
    struct unet_plans p;
    struct unet_model m;
    const struct unet_checkpoint c[2] = {{.cycle = 1, .index = 1, .step = 10, .file = "one.safetensors"},
                                         {.cycle = 2, .index = 1, .step = 20, .file = "two.safetensors"}};
    OK(mcs_unet_plans_make(1, 2, 16, 16, 3, 4, 16, &p));
    expect("mkdir run", 0, "");
    OK(mcs_unet_plans_write(shell_path("run"), &p));
    OK(mcs_unet_checkpoints_write(shell_path("run"), c, 2));
    for (int i = 0; i < 2; i++) {
        OK(mcs_unet_model_new(&p, 7 + (uint64_t)i, d, &m));
        OK(mcs_weights_write(shell_path(i ? "run/two.safetensors" : "run/one.safetensors"), m.params, 0, NULL, NULL));
        mcs_unet_model_close(&m);
    }
}

void alone_open(void)
{
    struct device d;
    struct sam_model s;
    const struct sam_config sam = tiny_sam_config();
    shell_open(MCS_BINARY, "--threads 1 --quiet");
    expect("mkdir img; for i in 0 1 2 3 4 5 6 7 8 9; do mkdir -p one/c$i; done", 0, "");
    for (int i = 0; i < ALONE_CASES; i++) {
        char name[32];
        snprintf(name, sizeof name, "img/c%d.png", i);
        write_image(name, i);
    }
    expect("for i in 0 1 2 3 4 5 6 7 8 9; do cp img/c$i.png one/c$i; done", 0, "");
    tiny_clip_model(shell_path("clip"));
    OK(mcs_cpu_open(1, &d));
    OK(mcs_sam_model_new(&sam, 2, &d, &s));
    OK(mcs_sam_model_save(&s, shell_path("sam"), 0, NULL));
    mcs_sam_model_close(&s);
    write_run(&d);
    mcs_cpu_close(&d);
}

void alone_run(const char *line)
{
    char whole[2048];
    snprintf(
        whole, sizeof whole,
        "mkdir -p alone; run() { %s; }; IN=img OUT=all CASE='*' && run || exit 1; for c in c0 c1 c2 c3 c4 c5 c6 c7 c8 "
        "c9; do IN=one/$c OUT=alone/$c CASE=$c && run || exit 1; done",
        line);
    expect(whole, 0, "");
}

const char *alone_path(const char *folder, int i, const char *ending, int alone)
{
    char name[128];
    snprintf(name, sizeof name, alone ? "%s/c%d/%sc%d%s" : "%s/%.0d%sc%d%s", alone ? "alone" : "all", alone ? i : 0,
             folder, i, ending);
    return shell_path(name);
}

float *alone_values(const char *folder, int i, const char *ending, const char *dataset, int alone, int64_t *n)
{
    struct store *s;
    struct store_info info;
    OK(mcs_store_open(alone_path(folder, i, ending, alone), &s));
    OK(mcs_store_get_info(s, dataset, &info));
    float *v = malloc((size_t)info.n_values * sizeof *v);
    cr_assert(v);
    OK(mcs_store_get(s, dataset, MCS_ARRAY_F32, info.nd, info.dims, v));
    mcs_store_close(s);
    *n = info.n_values;
    return v;
}

double alone_distance(const float *a, const float *b, int64_t n)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)a[i] - (double)b[i]));
    return worst;
}

void alone_check_arrays(const char *folder, const char *ending, const char *dataset, double rounding)
{
    float *all[ALONE_CASES];
    int64_t n = 0;
    for (int i = 0; i < ALONE_CASES; i++) {
        all[i] = alone_values(folder, i, ending, dataset, 0, &n);
        float *alone = alone_values(folder, i, ending, dataset, 1, &n);
        const double d = alone_distance(all[i], alone, n);
        cr_expect(d <= rounding, "%s of case %d is off by %g among others", dataset, i, d);
        for (int k = 0; k < i; k++)
            cr_expect(alone_distance(all[i], all[k], n) > 10 * rounding, "%s of cases %d and %d are alike", dataset, k,
                      i);
        free(alone);
    }
    for (int i = 0; i < ALONE_CASES; i++) free(all[i]);
}

struct image alone_mask(int i, int alone)
{
    struct image img;
    OK(mcs_image_read(alone_path("", i, ".png", alone), 0, &img));
    cr_assert(img.width == ALONE_WIDTH && img.height == ALONE_HEIGHT && img.channels == 1);
    return img;
}

static int alone_n_different(const struct image *a, const struct image *b)
{
    int n = 0;
    for (int i = 0; i < ALONE_PIXELS; i++) n += a->pixels[i] != b->pixels[i];
    return n;
}

void alone_check_masks(int rounding, int least)
{
    struct image all[ALONE_CASES];
    int n_apart = 0;
    for (int i = 0; i < ALONE_CASES; i++) {
        struct image alone = alone_mask(i, 1);
        all[i] = alone_mask(i, 0);
        cr_expect(alone_n_different(&all[i], &alone) <= rounding, "case %d: %d pixels", i,
                  alone_n_different(&all[i], &alone));
        for (int k = 0; k < i; k++) n_apart += alone_n_different(&all[i], &all[k]) > rounding;
        mcs_image_free(&alone);
    }
    cr_expect(n_apart >= least, "only %d of 45 pairs of cases have different masks", n_apart);
    for (int i = 0; i < ALONE_CASES; i++) mcs_image_free(&all[i]);
}
