/* Class probabilities in files: written files read back, each limit of the reader, and the masks, entropy maps and
 * tables made of them, value by value. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "data/io/store.h"
#include "infer/unet/probability.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(probability, .init = setup, .fini = shell_close, .timeout = 60);

static void refused(enum mcs_status st, enum mcs_status want, const char *part)
{
    cr_expect_eq(st, want, "status %d, want %d: %s", (int)st, (int)want, mcs_error_message());
    cr_expect(strstr(mcs_error_message(), part), "want '%s' in %s", part, mcs_error_message());
    mcs_error_clear();
}

/* Foreground probabilities 0, 1/n, 2/n ... of two classes. */
static struct probability ramp(int nz, int ny, int nx)
{
    struct probability p;
    const int n = nz * ny * nx;
    OK(mcs_probability_alloc(&p, 2, nz, ny, nx));
    for (int i = 0; i < n; i++) p.values[n + i] = (float)i / (float)n, p.values[i] = 1 - p.values[n + i];
    return p;
}

Test(probability, there_and_back)
{
    struct probability p, again;
    for (int way = 0; way < 3; way++) {
        p = ramp(way == 2 ? 2 : 1, 3, 4);
        cr_expect(p.classes == 2 && p.nz == (way == 2 ? 2 : 1) && p.ny == 3 && p.nx == 4 && p.is_volume == (way == 2));
        for (int a = 0; a < 3; a++) cr_expect_eq(p.spacing[a], 1);
        if (way == 1) p.is_volume = 1;
        if (way) memcpy(p.spacing, (const float[]){0.5f, 2, 3.25f}, sizeof p.spacing);
        OK(mcs_probability_write(shell_path("p.h5"), &p));
        OK(mcs_probability_read(shell_path("p.h5"), &again));
        cr_expect(again.classes == 2 && again.nz == p.nz && again.ny == 3 && again.nx == 4);
        cr_expect_eq(again.is_volume, way > 0);
        cr_expect_arr_eq(again.spacing, p.spacing, sizeof p.spacing);
        cr_expect_arr_eq(again.values, p.values, (size_t)(2 * p.nz * 12) * sizeof *p.values);
        mcs_probability_free(&p);
        mcs_probability_free(&again);
    }
    cr_expect(!p.values && !p.classes);
    refused(mcs_probability_alloc(&p, 2, -1, 3, 4), MCS_E_SHAPE, "probabilities of 4 x 3 x -1 in 2 classes");
    refused(mcs_probability_alloc(&p, 256, 1 << 10, 1 << 10, 1 << 10), MCS_E_SHAPE, "in 256 classes");
}

/* A file of one value v at every voxel of the first class and w of the second; further classes are 0. */
static void put(int nd, const int64_t *dims, float v, float w, const char *note, double number)
{
    const int64_t n = dims[1] * dims[2] * (nd > 3 ? dims[3] : 1);
    float *values = calloc((size_t)(n * dims[0]), sizeof *values);
    struct store *s;
    cr_assert(values);
    for (int64_t i = 0; i < n; i++) {
        values[i] = v;
        if (dims[0] > 1) values[n + i] = w;
    }
    OK(mcs_store_create(shell_path("p.h5"), &s));
    OK(mcs_store_put(s, "probabilities", MCS_ARRAY_F32, nd, dims, values));
    if (note) OK(mcs_store_put_number(s, note, number));
    OK(mcs_store_commit(s));
    free(values);
}

Test(probability, limits_of_the_reader)
{
    static const struct {
        int nd;
        int64_t dims[4];
        float v, w;
        const char *note;
        double number;
        const char *part; /* of the message; NULL: accepted */
    } rows[] = {
        {4, {2, 1, 2, 2}, 0.5f, 0.5f, NULL, 0, NULL},
        {4,
         {1, 1, 2, 2},
         1,
         0,
         NULL,
         0,
         "probabilities have shape (1, 1, 2, 2); want (classes, slices, rows, columns)"},
        {3, {2, 2, 2, 0}, 0.5f, 0.5f, NULL, 0, "have shape (2, 2, 2)"},
        {4, {256, 1, 1, 2}, 0.5f, 0.5f, NULL, 0, NULL},
        {4, {257, 1, 1, 2}, 0.5f, 0.5f, NULL, 0, "2 to 256 classes"},
        {4, {2, 1, 1, 1}, 0.5f, 0.5009f, NULL, 0, NULL},
        {4, {2, 1, 1, 1}, 0.5f, 0.5011f, NULL, 0, "the classes' probabilities of a voxel add up to 1.0011"},
        {4, {2, 1, 1, 1}, 0.5f, 0.4991f, NULL, 0, NULL},
        {4, {2, 1, 1, 1}, 0.5f, 0.4989f, NULL, 0, "add up to 0.9989"},
        {4, {2, 1, 1, 1}, 1.00009f, 0, NULL, 0, NULL},
        {4, {2, 1, 1, 1}, 1.0002f, 0, NULL, 0, "a probability of 1.0002"},
        {4, {2, 1, 1, 1}, 1, -0.00009f, NULL, 0, NULL},
        {4, {2, 1, 1, 1}, 1, -0.0002f, NULL, 0, "a probability of -0.0002"},
        {4, {2, 1, 1, 1}, 1, NAN, NULL, 0, "a probability of "},
        {4, {2, 1, 1, 1}, 1, 0, "spacing_x", 1e6, NULL},
        {4, {2, 1, 1, 1}, 1, 0, "spacing_x", 1.000001e6, "spacing_x is 1e+06; want millimetres above 0, at most 1e6"},
        {4, {2, 1, 1, 1}, 1, 0, "spacing_y", 0, "spacing_y is 0"},
        {4, {2, 1, 1, 1}, 1, 0, "spacing_y", 1e-3, NULL},
        {4, {2, 1, 1, 1}, 1, 0, "spacing_z", -1, "spacing_z is -1"},
        {4, {2, 1, 1, 1}, 1, 0, "spacing_z", NAN, NULL}, /* attribute missing: 1 */
    };
    struct probability p;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put(rows[i].nd, rows[i].dims, rows[i].v, rows[i].w, rows[i].note, rows[i].number);
        const enum mcs_status st = mcs_probability_read(shell_path("p.h5"), &p);
        if (rows[i].part) {
            refused(st, MCS_E_DATA, rows[i].part);
            cr_expect_null(p.values);
            continue;
        }
        cr_expect_eq(st, MCS_OK, "row %zu: %s", i, mcs_error_message());
        for (int a = 0; a < 3; a++) {
            const int given = rows[i].note && rows[i].note[8] == 'x' + a && isfinite(rows[i].number);
            cr_expect_eq(p.spacing[a], given ? (float)rows[i].number : 1, "row %zu, axis %d", i, a);
        }
        cr_expect_eq(p.is_volume, 0);
        mcs_probability_free(&p);
    }
    refused(mcs_probability_read(shell_path("none.h5"), &p), MCS_E_NOINPUT, "none.h5");
}

/* Labels of two classes become 0 and 255 in a PNG, others stay as they are, as in a volume. */
Test(probability, masks)
{
    struct probability p = ramp(1, 2, 4);
    struct image img;
    struct volume v;
    uint8_t labels[24];
    mcs_probability_labels(&p, 0, labels);
    cr_expect_arr_eq(labels, ((const uint8_t[]){0, 0, 0, 0, 0, 1, 1, 1}), 8);
    mcs_probability_labels(&p, 0.25, labels);
    cr_expect_arr_eq(labels, ((const uint8_t[]){0, 0, 0, 1, 1, 1, 1, 1}), 8);
    OK(mcs_probability_write_mask(shell_path("."), "a", &p, labels, NULL));
    OK(mcs_image_read(shell_path("a.png"), 0, &img));
    cr_assert(img.width == 4 && img.height == 2 && img.channels == 1);
    for (int i = 0; i < 8; i++) cr_expect_eq(img.pixels[i], i < 3 ? 0 : 255);
    mcs_image_free(&img);
    p.is_volume = 1;
    p.spacing[0] = 0.5f, p.spacing[1] = 2, p.spacing[2] = 3;
    OK(mcs_probability_write_mask(shell_path("."), "a", &p, labels, NULL));
    OK(mcs_volume_read(shell_path("a.nii.gz"), &v));
    cr_assert(v.nx == 4 && v.ny == 2 && v.nz == 1);
    for (int i = 0; i < 8; i++) cr_expect_eq(v.values[i], labels[i]);
    cr_expect(v.spacing[0] == 0.5f && v.spacing[1] == 2);
    for (int axis = 0; axis < 3; axis++) {
        struct volume other = v;
        (axis == 0 ? &other.nx : axis == 1 ? &other.ny : &other.nz)[0]++;
        refused(mcs_probability_write_mask(shell_path("."), "b", &p, labels, &other), MCS_E_SHAPE,
                "b.nii.gz: 4 x 2 x 1 labels for a volume of ");
    }
    p.spacing[0] = 9;
    OK(mcs_probability_write_mask(shell_path("."), "like", &p, labels, &v));
    mcs_volume_free(&v);
    OK(mcs_volume_read(shell_path("like.nii.gz"), &v));
    cr_expect_eq(v.spacing[0], 0.5f, "the geometry is the volume's");
    mcs_volume_free(&v);
    mcs_probability_free(&p);
    OK(mcs_probability_alloc(&p, 3, 1, 1, 3));
    OK(mcs_probability_write_mask(shell_path("."), "three", &p, (const uint8_t[]){0, 1, 2}, NULL));
    OK(mcs_image_read(shell_path("three.png"), 0, &img));
    for (int i = 0; i < 3; i++) cr_expect_eq(img.pixels[i], i);
    mcs_image_free(&img);
    mcs_probability_free(&p);
}

/* Four pixels: certain, a half, a quarter, certain. A quarter has 2 - 0.75 log2 3 bits. */
Test(probability, entropy)
{
    static const float foreground[4] = {0, 0.5f, 0.25f, 1}, given[4] = {0, 0.5f, 1, 0.25f};
    static const uint8_t labels[4] = {0, 0, 0, 1};
    const double quarter = 2 - 0.75 * log2(3);
    struct uncertainty_row row = {.stem = "mine"};
    struct probability p;
    struct image img;
    struct store *s;
    float bits[4];
    OK(mcs_probability_alloc(&p, 2, 1, 2, 2));
    for (int i = 0; i < 4; i++) p.values[i] = 1 - foreground[i], p.values[4 + i] = foreground[i];
    for (int way = 0; way < 3; way++) { /* entropy computed by the call, or passed by the caller */
        const double want[4] = {0, way ? 0.5 : 1, way ? 1 : quarter, way ? 0.25 : 0}, sum = want[1] + want[2] + want[3];
        OK(mcs_probability_write_entropy(shell_path("."), "e", &p, way ? given : NULL, labels,
                                         way == 2 ? MCS_RELEASE : MCS_PAPER, &row));
        OK(mcs_store_open(shell_path("e_entropy.h5"), &s));
        OK(mcs_store_get(s, "entropy", MCS_ARRAY_F32, 3, (const int64_t[]){1, 2, 2}, bits));
        mcs_store_close(s);
        OK(mcs_image_read(shell_path("e_entropy.png"), 0, &img));
        for (int i = 0; i < 4; i++) {
            cr_expect_float_eq((double)bits[i], want[i], 1e-7); /* one rounding to float32 */
            cr_expect_eq(img.pixels[i], (int)lrint(want[i] * 255), "pixel %d is %d", i, img.pixels[i]);
        }
        mcs_image_free(&img);
        cr_expect_float_eq(row.mean, sum / 4, 1e-7);
        cr_expect_float_eq(row.score_area, 100 * sum, 1e-5);
        cr_expect_float_eq(row.score, 100 * sum / (way == 2 ? 255 * 3 : 3), 1e-5); /* three pixels touch the mask */
        cr_expect_eq(row.foreground, 1);
        cr_expect_str_eq(row.stem, "mine");
    }
    mcs_probability_free(&p);
    OK(mcs_probability_alloc(&p, 4, 1, 1, 2)); /* four classes: two bits are 255 */
    OK(mcs_probability_write_entropy(shell_path("."), "f", &p, (const float[]){1, 2.5f}, labels, MCS_PAPER, &row));
    OK(mcs_image_read(shell_path("f_entropy.png"), 0, &img));
    cr_expect(img.width == 2 && img.height == 1 && img.pixels[0] == 128 && img.pixels[1] == 255);
    mcs_image_free(&img);
    mcs_probability_free(&p);
    OK(mcs_probability_alloc(&p, 2, 2, 1, 2));
    OK(mcs_probability_write_entropy(shell_path("."), "g", &p, given, labels, MCS_PAPER, &row));
    cr_expect(isnan(row.score) && row.foreground == 1 && !mcs_file_exists(shell_path("g_entropy.png")));
    OK(mcs_store_open(shell_path("g_entropy.h5"), &s));
    OK(mcs_store_get(s, "entropy", MCS_ARRAY_F32, 3, (const int64_t[]){2, 1, 2}, bits));
    mcs_store_close(s);
    mcs_probability_free(&p);
}

Test(probability, table_of_scores)
{
    const struct uncertainty_row rows[] = {{"a", 0.123456789123, 25, 1.0 / 3, 7},
                                           {"b,\"c\"", (double)NAN, 1e-12, 0, (int64_t)5000000000}};
    OK(mcs_uncertainty_write_csv(shell_path("."), rows, 2));
    expect("cat uncertainty.csv", 0,
           "image_name,uncertainty_score,score_by_area,mean_entropy,foreground\na,0.123456789,25,0.333333333,7\n"
           "\"b,\"\"c\"\"\",nan,1e-12,0,5000000000\n");
    OK(mcs_uncertainty_write_csv(shell_path("."), rows, 0));
    expect("wc -l < uncertainty.csv", 0, "1\n");
}

/* Each byte that is not UTF-8 is written as four characters. */
Test(probability, table_of_scores_of_the_longest_names)
{
    char stem[244];
    memset(stem, 0xff, sizeof stem - 1);
    stem[sizeof stem - 1] = '\0';
    const struct uncertainty_row row = {stem, 0.123456789123, 1.0 / 3e7, 1.0 / 3, (int64_t)5000000000},
                                 rows[] = {row, row, row};
    OK(mcs_uncertainty_write_csv(shell_path("."), rows, 3));
    expect("tail -n +2 uncertainty.csv | awk -F, '{print length($1), $2, $5}'", 0,
           "972 0.123456789 5000000000\n972 0.123456789 5000000000\n972 0.123456789 5000000000\n");
}
