#include "tests/support/support_demo_run.h"

#include "data/image/image.h"
#include "data/io/json.h"
#include "data/io/store.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int demo_shell(const char *fmt, ...)
{
    char line[8192];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    return n < (int)sizeof line ? system(line) : -1;
}

const char *demo_path(const char *fmt, ...)
{
    static char paths[4][1024];
    static int turn;
    char name[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(name, sizeof name, fmt, args);
    va_end(args);
    turn = (turn + 1) % 4;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", getenv("MCS_TEST_DEMO"), name);
    return paths[turn];
}

void demo_line(const char *fmt, ...)
{
    char line[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    cr_assert_eq(demo_shell("cd %s && DEMO=%s/data/demo && mcsam() { %s \"$@\" --quiet >/dev/null; } && %s",
                            getenv("MCS_TEST_DEMO"), MCS_SOURCE_DIR, MCS_BINARY, line),
                 0, "%s", line);
}

json_t *demo_json(const char *name)
{
    json_t *root = NULL;
    cr_assert_eq(mcs_json_read(demo_path("%s", name), 1 << 26, 0, &root), MCS_OK, "%s", mcs_error_message());
    return root;
}

void demo_grey(const char *path, uint8_t *pixels)
{
    struct image img;
    cr_assert_eq(mcs_image_read(path, 1, &img), MCS_OK, "%s", mcs_error_message());
    cr_assert(img.width == DEMO_SIZE && img.height == DEMO_SIZE, "%s", path);
    memcpy(pixels, img.pixels, DEMO_PIXELS);
    mcs_image_free(&img);
}

void demo_mask(const char *path, uint8_t *mask)
{
    demo_grey(path, mask);
    for (int i = 0; i < DEMO_PIXELS; i++) cr_assert(mask[i] == 0 || mask[i] == 255, "%s", path);
}

void demo_truth(int i, uint8_t *truth)
{
    demo_mask(demo_path("run/seed3/data/test/masks/test_%05d.png", i), truth);
}

static int same_word(const json_t *a, const json_t *b, const char *key)
{
    return !strcmp(json_string_value(json_object_get(a, key)), json_string_value(json_object_get(b, key)));
}

/* A prompt without a rim denies none: it describes lesions with a rim too. */
static int describes(const json_t *asked, const json_t *lesion)
{
    return same_word(asked, lesion, "size") && same_word(asked, lesion, "border") &&
           same_word(asked, lesion, "intensity") &&
           (!json_is_true(json_object_get(asked, "rim")) || json_is_true(json_object_get(lesion, "rim")));
}

void demo_look_truth(int i, uint8_t *truth)
{
    json_t *all = demo_json("run/seed3/data/test/attributes.json");
    char name[40];
    snprintf(name, sizeof name, "test_%05d.png", i);
    const json_t *lesions = json_object_get(json_object_get(all, name), "lesions");
    const size_t n = json_array_size(lesions);
    memset(truth, 0, DEMO_PIXELS);
    for (size_t k = 0; k < n; k++) {
        uint8_t mask[DEMO_PIXELS];
        if (!describes(json_array_get(lesions, 0), json_array_get(lesions, k))) continue;
        if (n == 1)
            demo_truth(i, mask);
        else
            demo_mask(demo_path("run/seed3/data/test/masks_each/test_%05d_%zu.png", i, k), mask);
        for (int p = 0; p < DEMO_PIXELS; p++) truth[p] |= mask[p];
    }
    json_decref(all);
}

double demo_number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    cr_assert(json_is_number(v), "no number '%s'", key);
    return json_number_value(v);
}

const json_t *demo_row(const json_t *list, const char *key, const char *name)
{
    size_t i;
    json_t *row;
    json_array_foreach(list, i, row) if (!strcmp(json_string_value(json_object_get(row, key)), name)) return row;
    cr_assert_fail("no row '%s'", name);
    return NULL;
}

int demo_near(double got, double want)
{
    return fabs(got - want) <= 6e-6 * fabs(want) + 1e-12;
}

float *demo_embeddings(const char *name, const char *dataset, int n, int *dim)
{
    struct store *s;
    struct store_info info;
    cr_assert_eq(mcs_store_open(demo_path("%s", name), &s), MCS_OK, "%s", mcs_error_message());
    cr_assert_eq(mcs_store_get_info(s, dataset, &info), MCS_OK);
    cr_assert(info.nd == 2 && info.dims[0] == n, "%s: %lld rows", dataset, (long long)info.dims[0]);
    *dim = (int)info.dims[1];
    float *x = malloc((size_t)info.n_values * sizeof *x);
    cr_assert(x);
    cr_assert_eq(mcs_store_get(s, dataset, MCS_ARRAY_F32, 2, info.dims, x), MCS_OK);
    mcs_store_close(s);
    return x;
}

double demo_dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * (double)b[i];
    return sum;
}
