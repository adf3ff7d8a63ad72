/* mcs_verify: each kind of finding in a small data set, and none in a good one. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "infer/metrics/verify.h"
#include "tests/support/support_folder.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static void setup(void)
{
    test_folder_open("verify");
    cr_assert_eq(mcs_folder_make(in_folder("i")), MCS_OK);
    cr_assert_eq(mcs_folder_make(in_folder("l")), MCS_OK);
    cr_assert_eq(mcs_folder_make(in_folder("t")), MCS_OK);
}
TestSuite(verify, .init = setup, .fini = test_folder_close);

/* Noise of 16 x 16 pixels; colours: 1 or 3. */
static void put_image(const char *name, int seed, int channels)
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, 16, 16, channels), MCS_OK);
    for (int i = 0; i < 256 * channels; i++) img.pixels[i] = (uint8_t)((i * 37 + seed * 11) % 251);
    cr_assert_eq(mcs_image_write_png(in_folder(name), &img), MCS_OK);
    mcs_image_free(&img);
}

static void put_label(const char *name, int size, uint8_t value)
{
    struct image img;
    cr_assert_eq(mcs_image_alloc(&img, size, 16, 1), MCS_OK);
    for (int i = 40; i < 60; i++) img.pixels[i] = value;
    cr_assert_eq(mcs_image_write_png(in_folder(name), &img), MCS_OK);
    mcs_image_free(&img);
}

static void has(const struct findings *f, const char *file, const char *value, const char *meaning)
{
    for (int i = 0; i < f->n; i++)
        if (strstr(f->v[i].file, file) && strstr(f->v[i].value, value) && strstr(f->v[i].meaning, meaning)) return;
    cr_expect(0, "no finding of %s: %s: %s", file, value, meaning);
}

static void verify(const struct verify_options *o, int n, struct findings *f)
{
    cr_assert_eq(mcs_verify(o, f), MCS_OK, "%s", mcs_error_message());
    for (int i = 0; f->n != n && i < f->n; i++)
        fprintf(stderr, "%s | %s | %s\n", f->v[i].file, f->v[i].value, f->v[i].meaning);
    cr_expect_eq(f->n, n, "%d findings, want %d", f->n, n);
}

Test(verify, nothing_in_a_good_data_set)
{
    struct findings f;
    for (int i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "i/%d.png", i);
        put_image(name, i, 1);
        snprintf(name, sizeof name, "l/%d.png", i);
        put_label(name, 16, 255);
    }
    const struct verify_options o = {.images = in_folder("i"), .labels = in_folder("l"), .classes = 2};
    verify(&o, 0, &f);
    cr_expect(f.n_images == 3 && f.n_labels == 3);
    mcs_verify_free(&f);
}

Test(verify, images_and_labels)
{
    struct findings f;
    put_image("i/a.png", 1, 1);
    put_image("i/b.png", 1, 1); /* as a */
    put_image("i/c.png", 2, 3); /* colour */
    put_image("i/patient1.png", 3, 1);
    put_image("t/z.png", 3, 1); /* as patient1 */
    cr_assert_eq(mcs_file_write(in_folder("i/damaged.png"), "no image", 8), MCS_OK);
    put_label("l/a.png", 16, 7);      /* of two classes, alone: binary */
    put_label("l/b.png", 15, 1);      /* another size */
    put_label("l/c.png", 16, 0);      /* empty */
    put_image("l/damaged.png", 4, 1); /* an image */
    put_label("l/pateint1.png", 16, 1);
    const struct verify_options o = {
        .images = in_folder("i"), .labels = in_folder("l"), .test = in_folder("t"), .classes = 256};
    verify(&o, 9, &f);
    has(&f, "i/b.png", "i/a.png", "a duplicate");
    has(&f, "i/c.png", "3 channels of 8 bits", "different depth or colour");
    has(&f, "", "", "in train and test");
    has(&f, "i/damaged.png", "damaged.png", "it cannot be read");
    has(&f, "l/b.png", "15 x 16", "not on its image's grid");
    has(&f, "l/c.png", "0 everywhere", "an empty mask");
    has(&f, "l/damaged.png", "251 values", "an image given as a mask");
    has(&f, "l/pateint1.png", "patient1", "a label without an image");
    has(&f, "i/patient1.png", "pateint1", "an image without a label");
    mcs_verify_free(&f);
    put_label("l/b.png", 16, 255);
    put_label("l/damaged.png", 16, 3);
    const struct verify_options three = {.labels = in_folder("l"), .classes = 3};
    verify(&three, 4, &f);
    has(&f, "l/b.png", "label 255", "not one of the classes");
    has(&f, "l/damaged.png", "label 3", "not one of the classes");
    mcs_verify_free(&f);
}

Test(verify, empty_masks_everywhere)
{
    struct findings f;
    put_label("l/a.png", 16, 0);
    put_label("l/b.png", 16, 0);
    const struct verify_options o = {.labels = in_folder("l")};
    verify(&o, 3, &f);
    has(&f, "/l", "every mask is empty", "nothing to learn");
    mcs_verify_free(&f);
}

Test(verify, captions)
{
    static const char table[] = "filename,Caption\na.png,a lesion\nb.png,a lesion\ngone.png,x\n";
    struct findings f;
    put_image("i/a.png", 1, 1);
    put_image("i/b.png", 2, 1);
    put_image("i/c.png", 3, 1);
    cr_assert_eq(mcs_file_write(in_folder("p.csv"), table, sizeof table - 1), MCS_OK);
    const struct verify_options o = {.images = in_folder("i"), .pairs = in_folder("p.csv")};
    verify(&o, 3, &f);
    has(&f, "p.csv", "2 rows say \"a lesion\"", "as negatives of each other");
    has(&f, "gone.png", "no such image", "not used");
    has(&f, "c.png", "no row names this image", "not used");
    mcs_verify_free(&f);
    const struct verify_options none = {.images = in_folder("missing")};
    fails_with(mcs_verify(&none, &f), MCS_E_NOINPUT, "no such folder");
}
