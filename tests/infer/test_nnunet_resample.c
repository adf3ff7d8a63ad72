/* nnU-Net's resampling: arrays of tests/golden/make_nnunet_resample.py. */
#include "infer/nnunet/nnunet_resample.h"
#include "tests/support/support_golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *const names[] = {"isotropic", "double", "thin", "target_thin", "middle", "two_coarse", "line"};
static const int separate[] = {-1, -1, 0, 2, 1, -1, 0};
enum { N_NAMES = 7 };

static float *values(const struct weight_file *f, const char *name, const char *part)
{
    char key[64];
    int64_t n;
    snprintf(key, sizeof key, "%s.%s", name, part);
    return golden_values(f, key, &n);
}

/* The golden's shape: the last three axes. */
static void shape_of(const struct weight_file *f, const char *name, const char *part, int64_t shape[3])
{
    char key[64];
    snprintf(key, sizeof key, "%s.%s", name, part);
    const struct weight_tensor *t = mcs_weight_file_find(f, key);
    cr_assert(t, "no %s", key);
    memcpy(shape, t->dims + t->nd - 3, 3 * sizeof *shape);
}

static void compare(const struct weight_file *f, const char *name, int order, int axis)
{
    int64_t shape[3], new_shape[3];
    const char *part = order == 3 ? "cubic" : "linear";
    shape_of(f, name, "in", shape);
    shape_of(f, name, part, new_shape);
    const int64_t n = shape[0] * shape[1] * shape[2], n_new = new_shape[0] * new_shape[1] * new_shape[2];
    float *src = values(f, name, "in"), *want = values(f, name, part), *got = malloc((size_t)n_new * 8);
    for (int c = 0; c < 2; c++) OK(mcs_nnunet_resample(src + c * n, shape, order, axis, got + c * n_new, new_shape));
    /* float64 sums of at most 5: equal but for the rounding to float32 */
    for (int64_t i = 0; i < 2 * n_new; i++)
        cr_assert(fabsf(got[i] - want[i]) <= 4e-7f * fmaxf(1, fabsf(want[i])), "%s %s: voxel %lld: %.9g, want %.9g",
                  name, part, (long long)i, (double)got[i], (double)want[i]);
    free(src);
    free(want);
    free(got);
}

Test(nnunet_resample, equals_nnunetv2)
{
    struct weight_file *f = golden_open("nnunet_resample.safetensors");
    for (int i = 0; i < N_NAMES; i++) {
        double spacing[2][3];
        float *s = values(f, names[i], "spacings");
        for (int k = 0; k < 6; k++) spacing[k / 3][k % 3] = s[k];
        free(s);
        cr_assert_eq(mcs_nnunet_separate_axis(spacing[0], spacing[1], NNUNET_SEPARATE_AUTO), separate[i], "%s",
                     names[i]);
        compare(f, names[i], 3, separate[i]);
        compare(f, names[i], 1, separate[i]);
        int64_t shape[3], new_shape[3];
        shape_of(f, names[i], "seg_in", shape);
        shape_of(f, names[i], "seg", new_shape);
        const int64_t n = new_shape[0] * new_shape[1] * new_shape[2];
        float *src = values(f, names[i], "seg_in"), *want = values(f, names[i], "seg"), *got = malloc((size_t)n * 4);
        OK(mcs_nnunet_resample_labels(src, shape, separate[i], got, new_shape));
        for (int64_t k = 0; k < n; k++)
            cr_assert_eq(got[k], want[k], "%s: label of voxel %lld: %g, want %g", names[i], (long long)k,
                         (double)got[k], (double)want[k]);
        free(src);
        free(want);
        free(got);
    }
    mcs_weight_file_close(f);
}

Test(nnunet_resample, forced_and_tied_axes)
{
    const double thin[3] = {4, 1, 1}, cube[3] = {1, 1, 1}, coarse[3] = {4, 4, 1};
    cr_assert_eq(mcs_nnunet_separate_axis(thin, cube, 0), -1);
    cr_assert_eq(mcs_nnunet_separate_axis((const double[3]){1, 2, 1}, cube, 1), 1);
    cr_assert_eq(mcs_nnunet_separate_axis(cube, thin, NNUNET_SEPARATE_AUTO), 0);
    cr_assert_eq(mcs_nnunet_separate_axis(coarse, thin, NNUNET_SEPARATE_AUTO), -1); /* the present spacing decides */
    cr_assert_eq(mcs_nnunet_separate_axis((const double[3]){3, 1, 1}, cube, NNUNET_SEPARATE_AUTO), -1);
}

/* Halves go to the even number, as Python's round. */
Test(nnunet_resample, new_shape)
{
    int64_t shape[3];
    mcs_nnunet_new_shape((const int64_t[3]){5, 7, 10}, (const double[3]){1, 1, 1}, (const double[3]){2, 2, 0.3}, shape);
    cr_assert(shape[0] == 2 && shape[1] == 4 && shape[2] == 33);
}
