/* Prediction of a folder: images and volumes, groups of checkpoints, probabilities, bad cases. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "data/image/image.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "infer/unet/predict.h"
#include "infer/weights.h"

static char folder[64];

static void path_of(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", folder, name);
}

static void write_image(const char *name, int width, int height, uint32_t id)
{
    char path[256];
    struct image img;
    path_of(path, name);
    cr_assert_eq(mcs_image_alloc(&img, width, height, 1), MCS_OK);
    for (int i = 0; i < width * height; i++)
        img.pixels[i] = (uint8_t)mcs_rng_below((struct mcs_rng){1, 2, id, 0}, (uint32_t)i, 256);
    cr_assert_eq(mcs_image_write_png(path, &img), MCS_OK);
    mcs_image_free(&img);
}

/* A run of two cycles with one checkpoint each, with random weights: their predictions are meaningless, but differ. */
static void write_run(struct device *d)
{
    struct unet_plans p;
    struct unet_model m;
    char run[256], path[512];
    struct unet_checkpoint c[2] = {{.cycle = 1, .index = 1, .step = 10, .file = "one.safetensors"},
                                   {.cycle = 2, .index = 1, .step = 20, .file = "two.safetensors"}};
    path_of(run, "run");
    cr_assert_eq(mcs_folder_make(run), MCS_OK);
    cr_assert_eq(mcs_unet_plans_make(1, 2, 16, 16, 3, 4, 16, &p), MCS_OK);
    cr_assert_eq(mcs_unet_plans_write(run, &p), MCS_OK);
    cr_assert_eq(mcs_unet_checkpoints_write(run, c, 2), MCS_OK);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(mcs_unet_model_new(&p, 7 + (uint64_t)i, d, &m), MCS_OK);
        snprintf(path, sizeof path, "%s/%s", run, c[i].file);
        cr_assert_eq(mcs_weights_write(path, m.params, 0, NULL, NULL), MCS_OK);
        mcs_unet_model_close(&m);
    }
}

static struct device device;

static void setup(void)
{
    char path[256];
    snprintf(folder, sizeof folder, "/tmp/mcs_predict_%ld", (long)getpid());
    mcs_log_quiet(1);
    path_of(path, "in");
    cr_assert_eq(mcs_folder_make(path), MCS_OK);
    cr_assert_eq(mcs_cpu_open(1, &device), MCS_OK);
    write_run(&device);
    write_image("in/a.png", 40, 24, 1);
    write_image("in/b.png", 40, 24, 2);
    write_image("in/c.png", 12, 16, 3);
}
static void teardown(void)
{
    char line[128];
    snprintf(line, sizeof line, "rm -rf %s", folder);
    cr_expect_eq(system(line), 0);
}
TestSuite(predict, .init = setup, .fini = teardown);

static enum mcs_status predict(const char *in, const char *out, const struct predict_options *o, int *n)
{
    char input[256], output[256], run[256];
    path_of(input, in);
    path_of(output, out);
    path_of(run, "run");
    return mcs_predict_folder(input, output, run, o, &device, n);
}

static void expect_same(const char *a, const char *b, int same)
{
    char path_a[256], path_b[256], hash_a[65], hash_b[65];
    path_of(path_a, a);
    path_of(path_b, b);
    cr_assert_eq(mcs_file_sha256(path_a, hash_a), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_file_sha256(path_b, hash_b), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(!strcmp(hash_a, hash_b), same, "%s and %s", a, b);
}

Test(predict, groups_side_by_side)
{
    struct predict_options o = mcs_predict_defaults(), last = mcs_predict_defaults();
    struct probability all, one;
    char path[256];
    int n;
    cr_assert_eq(mcs_predict_parse_choices("all,last-cycle,last", &o), MCS_OK);
    o.save_probabilities = o.uncertainty = 1;
    cr_assert_eq(predict("in", "out", &o, &n), MCS_OK, "%s", mcs_error_message());
    cr_expect_eq(n, 3);
    expect_same("out/last/a.h5", "out/last-cycle/a.h5", 1); /* the last cycle has one checkpoint */
    expect_same("out/a.h5", "out/last/a.h5", 0);
    path_of(path, "out/c.h5");
    cr_assert_eq(mcs_probability_read(path, &all), MCS_OK, "%s", mcs_error_message());
    cr_expect(all.classes == 2 && all.nz == 1 && all.ny == 16 && all.nx == 12 && !all.is_volume);
    path_of(path, "out/uncertainty/c_entropy.png");
    cr_expect(mcs_file_exists(path));
    path_of(path, "out/last/uncertainty/uncertainty.csv");
    cr_expect(mcs_file_exists(path));
    /* The same checkpoint as the only group gives the same mask and the same probabilities, whatever the batch. */
    last.choices[0] = ENSEMBLE_LAST;
    last.save_probabilities = 1;
    cr_assert_eq(predict("in", "alone", &last, &n), MCS_OK);
    expect_same("out/last/a.h5", "alone/a.h5", 1);
    expect_same("out/last/b.png", "alone/b.png", 1);
    path_of(path, "alone/b.png");
    cr_assert_eq(unlink(path), 0);
    last.continue_prediction = 1;
    cr_assert_eq(predict("in", "alone", &last, &n), MCS_OK);
    cr_expect_eq(n, 1, "two of three were there");
    expect_same("out/last/b.png", "alone/b.png", 1);
    /* a file whose classes do not add up to 1 is refused */
    one = all;
    one.values[3] += 0.1f;
    path_of(path, "bad.h5");
    cr_assert_eq(mcs_probability_write(path, &one), MCS_OK);
    mcs_probability_free(&all);
    cr_expect_eq(mcs_probability_read(path, &one), MCS_E_DATA);
    mcs_error_clear();
}

Test(predict, volumes_keep_their_geometry_and_bad_cases_are_listed)
{
    struct predict_options o = mcs_predict_defaults();
    struct volume v, mask;
    struct probability p;
    char path[256], *text;
    const float spacing[3] = {0.5f, 0.75f, 3};
    int64_t bytes;
    int n;
    cr_assert_eq(mcs_volume_alloc(&v, 20, 18, 11, spacing), MCS_OK); /* more slices than one chunk */
    for (int i = 0; i < 20 * 18 * 11; i++)
        v.values[i] = (float)mcs_rng_normal((struct mcs_rng){3, 3, 3, 3}, (uint32_t)i);
    path_of(path, "in/v.nii.gz");
    cr_assert_eq(mcs_volume_write_f32(path, v.values, &v), MCS_OK);
    v.values[7] = NAN;
    path_of(path, "in/w.nii.gz");
    cr_assert_eq(mcs_volume_write_f32(path, v.values, &v), MCS_OK);
    mcs_volume_free(&v);
    path_of(path, "in/bad.png");
    cr_assert_eq(mcs_file_write(path, "no image", 8), MCS_OK);
    o.save_probabilities = 1;
    cr_assert_eq(predict("in", "out", &o, &n), MCS_E_PARTIAL);
    mcs_error_clear();
    cr_expect_eq(n, 4);
    path_of(path, "out/failures.csv");
    cr_assert_eq(mcs_file_read(path, 1 << 16, &text, &bytes), MCS_OK);
    cr_expect(strstr(text, "bad,") && strstr(text, "w,") && !strstr(text, "\nv,"), "%s", text);
    free(text);
    path_of(path, "out/v.nii.gz");
    cr_assert_eq(mcs_volume_read(path, &mask), MCS_OK, "%s", mcs_error_message());
    cr_expect(mask.nx == 20 && mask.ny == 18 && mask.nz == 11);
    for (int a = 0; a < 3; a++) cr_expect_eq(mask.spacing[a], spacing[a]);
    path_of(path, "out/v.h5");
    cr_assert_eq(mcs_probability_read(path, &p), MCS_OK);
    cr_expect(p.nz == 11 && p.is_volume);
    const int64_t voxels = (int64_t)20 * 18 * 11;
    for (int64_t i = 0; i < voxels; i++)
        cr_assert_eq(mask.values[i], p.values[voxels + i] > p.values[i], "voxel %lld", (long long)i);
    mcs_volume_free(&mask);
    mcs_probability_free(&p);
}

/* Eleven slices in reverse order give masks and probabilities in reverse order, although they are processed in chunks
 * of eight. Mean and deviation of the volume are summed in another order: 1e-5 of a probability. */
Test(predict, every_slice_of_a_volume_gets_its_own_mask)
{
    enum { NX = 20, NY = 18, NZ = 11, PIXELS = NX * NY };
    struct predict_options o = mcs_predict_defaults();
    struct probability p[2];
    struct volume mask[2], v;
    char path[256];
    int n, n_apart = 0;
    cr_assert_eq(mcs_volume_alloc(&v, NX, NY, NZ, NULL), MCS_OK);
    path_of(path, "volumes");
    cr_assert_eq(mcs_folder_make(path), MCS_OK);
    for (int reversed = 0; reversed < 2; reversed++) {
        for (int z = 0; z < NZ; z++)
            for (int i = 0; i < PIXELS; i++)
                v.values[(reversed ? NZ - 1 - z : z) * PIXELS + i] =
                    (float)mcs_rng_normal((struct mcs_rng){3, 3, (uint32_t)z, 3}, (uint32_t)i) + (float)(i % NX > z);
        path_of(path, reversed ? "volumes/r.nii.gz" : "volumes/a.nii.gz");
        cr_assert_eq(mcs_volume_write_f32(path, v.values, &v), MCS_OK, "%s", mcs_error_message());
    }
    mcs_volume_free(&v);
    o.save_probabilities = 1;
    cr_assert_eq(predict("volumes", "out", &o, &n), MCS_OK, "%s", mcs_error_message());
    for (int reversed = 0; reversed < 2; reversed++) {
        path_of(path, reversed ? "out/r.h5" : "out/a.h5");
        cr_assert_eq(mcs_probability_read(path, &p[reversed]), MCS_OK, "%s", mcs_error_message());
        path_of(path, reversed ? "out/r.nii.gz" : "out/a.nii.gz");
        cr_assert_eq(mcs_volume_read(path, &mask[reversed]), MCS_OK, "%s", mcs_error_message());
    }
    for (int z = 0; z < NZ; z++)
        for (int i = 0; i < PIXELS; i++) {
            const int a = z * PIXELS + i, b = (NZ - 1 - z) * PIXELS + i;
            const double foreground = (double)p[0].values[NZ * PIXELS + a];
            for (int k = 0; k < 2; k++)
                cr_assert_float_eq(p[0].values[k * NZ * PIXELS + a], p[1].values[k * NZ * PIXELS + b], 1e-5, "slice %d",
                                   z);
            if (fabs(foreground - 0.5) < 1e-4) continue;
            cr_assert_eq(mask[0].values[a], mask[1].values[b], "slice %d, pixel %d", z, i);
            cr_assert_eq(mask[0].values[a], foreground > 0.5, "slice %d, pixel %d", z, i);
            n_apart += z && mask[0].values[a] != mask[0].values[a - PIXELS];
        }
    cr_expect(n_apart > PIXELS / 2, "the slices' masks are alike");
    for (int k = 0; k < 2; k++) {
        mcs_probability_free(&p[k]);
        mcs_volume_free(&mask[k]);
    }
}

Test(predict, wrong_words_and_folders)
{
    struct predict_options o = mcs_predict_defaults();
    static const char *const wrong[] = {"", "first", "all,all", "al", "all,last,last-cycle,all"};
    int n;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        cr_expect_eq(mcs_predict_parse_choices(wrong[i], &o), MCS_E_USAGE, "'%s'", wrong[i]);
        mcs_error_clear();
    }
    o = mcs_predict_defaults();
    cr_expect_eq(predict("nowhere", "out", &o, &n), MCS_E_NOINPUT);
    mcs_error_clear();
    char path[256];
    path_of(path, "run/two.safetensors");
    cr_assert_eq(truncate(path, 1000), 0);
    cr_expect_eq(predict("in", "out", &o, &n), MCS_E_DATA, "a checkpoint that was cut short");
    mcs_error_clear();
    cr_assert_eq(unlink(path), 0);
    cr_expect_eq(predict("in", "out", &o, &n), MCS_E_NOINPUT, "a checkpoint that is gone");
    mcs_error_clear();
}
