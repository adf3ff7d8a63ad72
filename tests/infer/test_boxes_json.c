/* boxes.json: written and read back, refused texts, the limits of each number. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "infer/coarse/boxes.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_ops.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static void expect_box(const struct box_component *b, int x0, int y0, int x1, int y1)
{
    cr_expect(b->x0 == x0 && b->y0 == y0 && b->x1 == x1 && b->y1 == y1, "box %d %d %d %d", b->x0, b->y0, b->x1, b->y1);
}

static void setup(void)
{
    test_folder_open("boxes");
}
TestSuite(coarse, .init = setup, .fini = test_folder_close);

/* ---- boxes.json ---- */

Test(coarse, boxes_json_there_and_back)
{
    struct box_point points[2] = {{3, 4, 1}, {0, 0, 0}};
    struct box_component comps[2] = {{1, 2, 5, 6, 2, points, 0.123456789, 17}, {0, 0, 9, 7, 0, NULL, 1.0, 80}};
    struct box_case cases[2] = {{"b.png", 10, 8, 2, comps, NULL},
                                {"a \"q\".png", 3, 3, 0, NULL, "the map is constant"}};
    struct box_list list = {.n = 2, .cases = cases, .made_by = "{\"form\":\"paper\"}"}, got;
    const char *path = in_folder("boxes.json");
    cr_assert_eq(mcs_boxes_write(path, &list), MCS_OK);
    cr_assert_eq(mcs_boxes_read(path, &got), MCS_OK, "%s", mcs_error_message());
    cr_assert(got.n == 2 && !strcmp(got.made_by, list.made_by));
    const struct box_case *b = mcs_boxes_find(&got, "b");
    cr_assert(b && !strcmp(b->image, "b.png") && b->width == 10 && b->height == 8 && b->n_components == 2 &&
              !b->reason);
    expect_box(b->components, 1, 2, 5, 6);
    cr_expect(b->components->area == 17 && b->components->n_points == 2);
    cr_expect_float_eq(b->components->confidence, 0.123456789, 1e-9); /* nine digits are written */
    cr_expect(b->components->points[0].x == 3 && b->components->points[0].y == 4 &&
              b->components->points[0].label == 1);
    b = mcs_boxes_find(&got, "a \"q\"");
    cr_assert(b && b->n_components == 0 && !strcmp(b->reason, "the map is constant"));
    cr_expect_null(mcs_boxes_find(&got, "c"));
    mcs_boxes_free(&got);
}

static void expect_bad(const char *text, const char *part)
{
    struct box_list list;
    const char *path = in_folder("bad.json");
    cr_assert_eq(mcs_file_write(path, text, (int64_t)strlen(text)), MCS_OK);
    cr_expect_eq(mcs_boxes_read(path, &list), MCS_E_DATA, "%s", text);
    cr_expect(strstr(mcs_error_message(), part), "%s: %s", text, mcs_error_message());
    mcs_error_clear();
}

Test(coarse, bad_boxes_are_named)
{
#define CASE(rest) "{\"cases\": [{\"image\": \"x.png\", \"size\": [10, 8], \"components\": [" rest "]}]}"
    struct box_list list;
    cr_expect_eq(mcs_boxes_read(in_folder("nowhere.json"), &list), MCS_E_NOINPUT);
    mcs_error_clear();
    expect_bad("", "not JSON");
    expect_bad("{\"cases\": [", ":1: not JSON");
    expect_bad("[]", "cases");
    expect_bad("{\"cases\": [{\"size\": [1, 1]}]}", "image");
    expect_bad("{\"cases\": [{\"image\": \"x\", \"size\": [0, 1], \"components\": []}]}", "size");
    expect_bad("{\"cases\": [{\"image\": \"x\", \"size\": [1e3, 1], \"components\": []}]}", "size");
    expect_bad("{\"cases\": [{\"image\": \"x\", \"size\": [9, 9]}]}", "components");
    expect_bad(CASE("{\"box\": [5, 0, 4, 3]}"), "inside 10 x 8");
    expect_bad(CASE("{\"box\": [0, 0, 10, 3]}"), "inside 10 x 8");
    expect_bad(CASE("{\"box\": [0, 0, 99999999999, 3]}"), "x.png");
    expect_bad(CASE("{\"box\": [0, 0, 4]}"), "component 0");
    expect_bad(CASE("{\"box\": [0, 0, 4, 3], \"points\": [[1, 2, 3]]}"), "point 0");
    expect_bad(CASE("{\"box\": [0, 0, 4, 3], \"area\": -1}"), "area");
    expect_bad(CASE("{\"box\": [0, 0, 4, 3], \"confidence\": \"high\"}"), "confidence");
    expect_bad("{\"cases\": [{\"image\": \"x.png\", \"size\": [1, 1], \"components\": []},"
               "{\"image\": \"x.jpg\", \"size\": [1, 1], \"components\": []}]}",
               "one stem");
    struct box_component nan_box = {.x1 = 1, .y1 = 1, .confidence = NAN};
    struct box_case one = {"x.png", 2, 2, 1, &nan_box, NULL};
    list = (struct box_list){.n = 1, .cases = &one};
    cr_expect_eq(mcs_boxes_write(in_folder("nan.json"), &list), MCS_E_DATA);
    cr_expect(!mcs_file_exists(in_folder("nan.json")));
}

/* Each number at its limits; the picture has 10 x 8 pixels unless the text says otherwise. */
Test(coarse, limits_of_boxes_json)
{
    static const struct {
        const char *text;
        int fits;
    } rows[] = {
        {CASE("{\"box\": [0, 0, 9, 7]}"), 1},
        {CASE("{\"box\": [9, 7, 9, 7]}"), 1},
        {CASE("{\"box\": [10, 7, 10, 7]}"), 0},
        {CASE("{\"box\": [9, 8, 9, 8]}"), 0},
        {CASE("{\"box\": [-1, 0, 9, 7]}"), 0},
        {CASE("{\"box\": [0, -1, 9, 7]}"), 0},
        {CASE("{\"box\": [0, 0, 9, 8]}"), 0},
        {CASE("{\"box\": [0, 3, 9, 2]}"), 0},
        {CASE("{\"box\": [0, 3, 9, 3]}"), 1},
        {CASE("{\"box\": [0, 0, 9, 7, 0]}"), 0},
        {CASE("{\"box\": [0, 0, 9.0, 7]}"), 0},
        {CASE("{}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[0, 0, 0], [9, 7, 1]]}"), 1},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[10, 7, 1]]}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[9, 8, 1]]}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[-1, 0, 1]]}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[0, -1, 1]]}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[0, 0, -1]]}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[0, 0]]}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": [[0, 0, 1, 1]]}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"points\": 5}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"area\": 0}"), 1},
        {CASE("{\"box\": [0, 0, 4, 3], \"area\": 80}"), 1},
        {CASE("{\"box\": [0, 0, 4, 3], \"area\": 81}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"area\": 1.0}"), 0},
        {CASE("{\"box\": [0, 0, 4, 3], \"confidence\": 1}"), 1},
        {"{\"cases\": []}", 1},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1, 1], \"components\": []}]}", 1},
        {"{\"cases\": [{\"image\": \"\", \"size\": [1, 1], \"components\": []}]}", 0},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1, 0], \"components\": []}]}", 0},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1, 1, 1], \"components\": []}]}", 0},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1048576, 1048576], \"components\": []}]}", 1},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1048577, 1], \"components\": []}]}", 0},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1, 1048577], \"components\": []}]}", 0},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1048576, 1048576], \"components\": [{\"box\": [0, 0, 1, 1], "
         "\"area\": 2147483647}]}]}",
         1},
        {"{\"cases\": [{\"image\": \"x\", \"size\": [1048576, 1048576], \"components\": [{\"box\": [0, 0, 1, 1], "
         "\"area\": 2147483648}]}]}",
         0},
        {"{\"cases\": [], \"cases\": []}", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct box_list list;
        cr_assert_eq(mcs_file_write(in_folder("limits.json"), rows[i].text, (int64_t)strlen(rows[i].text)), MCS_OK);
        cr_expect_eq(mcs_boxes_read(in_folder("limits.json"), &list), rows[i].fits ? MCS_OK : MCS_E_DATA, "%s: %s",
                     rows[i].text, mcs_error_message());
        mcs_error_clear();
        if (rows[i].fits) mcs_boxes_free(&list);
    }
    struct box_list list;
    const char *text =
        CASE("{\"box\": [1, 2, 4, 3], \"points\": [[5, 6, 1], [7, 4, 0]], \"area\": 9}, {\"box\": [0, 0, 0, 0], "
             "\"confidence\": 0.5}");
    cr_assert_eq(mcs_file_write(in_folder("limits.json"), text, (int64_t)strlen(text)), MCS_OK);
    cr_assert_eq(mcs_boxes_read(in_folder("limits.json"), &list), MCS_OK, "%s", mcs_error_message());
    const struct box_component *c = list.cases[0].components;
    cr_expect(c[0].x0 == 1 && c[0].y0 == 2 && c[0].x1 == 4 && c[0].y1 == 3 && c[0].area == 9 && c[0].confidence == 0);
    cr_expect(c[0].n_points == 2 && c[0].points[0].x == 5 && c[0].points[0].y == 6 && c[0].points[0].label == 1);
    cr_expect(c[0].points[1].x == 7 && c[0].points[1].y == 4 && c[0].points[1].label == 0);
    cr_expect(c[1].n_points == 0 && c[1].area == 0 && c[1].confidence == 0.5);
    mcs_boxes_free(&list);
}
