/* The whole zero-shot pipeline on volumes: every slice gets its mask, as if it were an image. Images: test_segment.c.
 */
#include "data/image/volume.h"
#include "data/io/npy.h"
#include "engine/base/rng.h"
#include "tests/support/support_segment.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

TestSuite(segment, .init = segment_open, .fini = segment_close, .timeout = 120);

/* ---- volumes ---- */

/* Slice z of the volume: a disc of unique place and size on a ramp. */
static void paint_slice(float *values, int z, int n)
{
    for (int y = 0; y < SEGMENT_HEIGHT; y++)
        for (int x = 0; x < SEGMENT_WIDTH; x++) {
            const int dx = x - 4 - z % 28, dy = y - 5 - z / 3, in = dx * dx + dy * dy < 12 + z;
            values[y * SEGMENT_WIDTH + x] = (float)(in ? 700 : -300 + 5 * x + 3 * y + 100 * z / n);
        }
}

static void write_volume(const char *name, int n, int reversed)
{
    struct volume v;
    OK(mcs_volume_alloc(&v, SEGMENT_WIDTH, SEGMENT_HEIGHT, n, (const float[]){0.5f, 0.75f, 2}));
    for (int z = 0; z < n; z++) paint_slice(v.values + (reversed ? n - 1 - z : z) * SEGMENT_PIXELS, z, n);
    OK(mcs_volume_write_f32(shell_path(name), v.values, &v));
    mcs_volume_free(&v);
}

/* Both volumes hold the same slices, the second one in reverse. */
static void check_reversed(const char *a, const char *b, int n, int least)
{
    struct volume v, w;
    int n_apart = 0;
    OK(mcs_volume_read(shell_path(a), &v));
    OK(mcs_volume_read(shell_path(b), &w));
    cr_assert(v.nz == n && w.nz == n && v.nx == SEGMENT_WIDTH && w.ny == SEGMENT_HEIGHT);
    for (int z = 0; z < n; z++) {
        const float *p = v.values + z * SEGMENT_PIXELS, *q = w.values + (n - 1 - z) * SEGMENT_PIXELS;
        cr_expect_arr_eq(p, q, SEGMENT_PIXELS * sizeof *p, "%s: slice %d", a, z);
        n_apart += z && memcmp(p, p - SEGMENT_PIXELS, SEGMENT_PIXELS * sizeof *p) != 0;
    }
    cr_expect(n_apart >= least, "%s: only %d slices differ from the one before", a, n_apart);
    mcs_volume_free(&v);
    mcs_volume_free(&w);
}

/* More slices than are in memory at once: if the slices' order is reversed, so are masks and maps. The noise is read
 * from a file, since drawn noise depends on the slice's number. */
Test(segment, every_slice_of_a_volume_gets_its_own_mask)
{
    enum { SLICES = 34, TOKENS = 37, CHANNELS = 16, N = 2 * TOKENS * CHANNELS };
    float noise[N];
    mcs_rng_fill_normal((struct mcs_rng){.seed = 4}, noise, N);
    OK(mcs_npy_write(shell_path("noise.npy"), noise, 4, (const int64_t[]){2, 1, TOKENS, CHANNELS}));
    expect("mkdir v", 0, "");
    write_volume("v/a.nii.gz", SLICES, 0);
    write_volume("v/b.nii.gz", SLICES, 1);
    expect("mcsam segment --clip clip --sam sam -i v --text tumor --steps 2 --copies 1 --pairs 1 --noise noise.npy "
           "--min-confidence 0 --keep-stages -o o",
           0, "2 cases");
    check_reversed("o/saliency/a.nii.gz", "o/saliency/b.nii.gz", SLICES, 25);
    check_reversed("o/coarse/a.nii.gz", "o/coarse/b.nii.gz", SLICES, 20);
    check_reversed("o/a.nii.gz", "o/b.nii.gz", SLICES, 15);
    expect("grep -c '\"slice\": ' o/summary.json", 0, "68");
}

static int ascending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* A volume is segmented like images of its slices, windowed to 0 and 255 by the volume's 0.5 and 99.5 percentiles
 * (nearest rank). One percent of the voxels are outliers, so other percentiles would give other images. */
Test(segment, a_volume_is_the_pictures_of_its_slices)
{
    enum { SLICES = 3, N = SLICES * SEGMENT_PIXELS };
    float *sorted = malloc(N * sizeof *sorted);
    struct volume v, mask;
    cr_assert(sorted);
    OK(mcs_volume_alloc(&v, SEGMENT_WIDTH, SEGMENT_HEIGHT, SLICES, NULL));
    for (int z = 0; z < SLICES; z++) paint_slice(v.values + z * SEGMENT_PIXELS, 5 * z, 15);
    for (int i = 0; i < N; i++) v.values[i] += (float)mcs_rng_below((struct mcs_rng){.seed = 3}, (uint32_t)i, 100);
    for (int i = 0; i + 200 < N; i += 400) v.values[i] = (float)(9000 + i), v.values[i + 200] = (float)(-9000 - i);
    memcpy(sorted, v.values, N * sizeof *sorted);
    qsort(sorted, N, sizeof *sorted, ascending);
    const double low = sorted[(int)(0.005 * (N - 1))], high = sorted[(int)ceil(0.995 * (N - 1))];
    cr_assert(high < 9000 && low > -9000 && high - low < 2000, "from %g to %g", low, high);
    expect("mkdir v slices", 0, "");
    OK(mcs_volume_write_f32(shell_path("v/v.nii.gz"), v.values, &v));
    for (int z = 0; z < SLICES; z++) {
        struct image img;
        char name[32];
        OK(mcs_image_alloc(&img, SEGMENT_WIDTH, SEGMENT_HEIGHT, 1));
        for (int i = 0; i < SEGMENT_PIXELS; i++) {
            const double share = ((double)v.values[z * SEGMENT_PIXELS + i] - low) / (high - low);
            img.pixels[i] = (uint8_t)lrint(255 * fmin(fmax(share, 0), 1));
        }
        snprintf(name, sizeof name, "slices/v_z%04d.png", z);
        OK(mcs_image_write_png(shell_path(name), &img));
        mcs_image_free(&img);
    }
    expect("for i in v slices; do mcsam segment --clip clip --sam sam -i $i --text tumor --steps 3 --pairs 1 "
           "--min-confidence 0 --keep-stages -o out_$i || exit 1; done",
           0, "1 cases");
    OK(mcs_volume_read(shell_path("out_v/coarse/v.nii.gz"), &mask));
    for (int z = 0; z < SLICES; z++) {
        struct image want;
        char name[64];
        int wrong = 0;
        snprintf(name, sizeof name, "out_slices/coarse/v_z%04d.png", z);
        OK(mcs_image_read(shell_path(name), 0, &want));
        for (int i = 0; i < SEGMENT_PIXELS; i++)
            wrong += (mask.values[z * SEGMENT_PIXELS + i] != 0) != (want.pixels[i] != 0);
        cr_expect(wrong <= SEGMENT_PIXELS / 100, "slice %d: %d pixels", z,
                  wrong); /* rounding of values between grey levels */
        mcs_image_free(&want);
    }
    mcs_volume_free(&mask);
    mcs_volume_free(&v);
    free(sorted);
}
