#include "infer/coarse/boxes.h"

#include "data/io/file.h"
#include "data/io/json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 28, MAX_SIDE = 1 << 20, NAME_BYTES = 512 };

/* ---- writing ---- */

/* jansson returns NULL without memory, for text that is not UTF-8 and for a real that is not finite; callers pass the
 * NULL on. */
static json_t *component_to_json(const struct box_component *c)
{
    json_t *points = json_array();
    for (int i = 0; i < c->n_points; i++)
        if (json_array_append_new(points, json_pack("[iii]", c->points[i].x, c->points[i].y, c->points[i].label))) {
            json_decref(points);
            return NULL;
        }
    return json_pack("{s:[iiii], s:o, s:f, s:i}", "box", c->x0, c->y0, c->x1, c->y1, "points", points, "confidence",
                     c->confidence, "area", c->area);
}

json_t *mcs_box_case_json(const struct box_case *b)
{
    json_t *components = json_array();
    for (int i = 0; i < b->n_components; i++)
        if (json_array_append_new(components, component_to_json(b->components + i))) {
            json_decref(components);
            return NULL;
        }
    json_t *o = json_pack("{s:o, s:[ii], s:o}", "image", mcs_json_text(b->image), "size", b->width, b->height,
                          "components", components);
    if (o && b->reason && json_object_set_new(o, "reason", mcs_json_text(b->reason))) {
        json_decref(o);
        return NULL;
    }
    return o;
}

enum mcs_status mcs_boxes_write_json(const char *path, json_t *cases, const char *made_by)
{
    json_t *root = json_pack("{s:O}", "cases", cases);
    MCS_REQUIRE(root, MCS_E_NOMEM, "%s: no memory", path);
    if (made_by) {
        json_t *by = json_loads(made_by, 0, NULL);
        if (!by) json_decref(root);
        MCS_REQUIRE(by, MCS_E_FAIL, "%s: made_by is not JSON: %s", path, made_by);
        json_object_set_new(root, "made_by", by);
    }
    return mcs_json_write(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9), "%s", path);
}

enum mcs_status mcs_boxes_write(const char *path, const struct box_list *list)
{
    enum mcs_status st = MCS_OK;
    json_t *cases = json_array();
    MCS_REQUIRE(cases, MCS_E_NOMEM, "%s: no memory", path);
    for (int i = 0; i < list->n; i++) {
        json_t *one = mcs_box_case_json(list->cases + i);
        MCS_REQUIRE_GOTO(one, MCS_E_DATA, st, done, "%s: case %d (%s): a number is not finite", path, i,
                         list->cases[i].image);
        json_array_append_new(cases, one);
    }
    st = mcs_boxes_write_json(path, cases, list->made_by);
done:
    json_decref(cases);
    return st;
}

/* ---- reading ---- */

/* Element i of a JSON array as an int in lo..hi; returns 0 if it is not one. */
static int int_at(const json_t *a, size_t i, int lo, int hi, int *v)
{
    const json_t *e = json_array_get(a, i);
    if (!json_is_integer(e)) return 0;
    json_int_t x = json_integer_value(e);
    if (x < lo || x > hi) return 0;
    *v = (int)x;
    return 1;
}

static enum mcs_status read_component(const char *path, const json_t *o, const struct box_case *b, int k,
                                      struct arena *a, struct box_component *c)
{
    const json_t *box = json_object_get(o, "box"), *points = json_object_get(o, "points");
    int w = b->width, h = b->height;
    MCS_REQUIRE(json_array_size(box) == 4 && int_at(box, 0, 0, w - 1, &c->x0) && int_at(box, 1, 0, h - 1, &c->y0) &&
                    int_at(box, 2, c->x0, w - 1, &c->x1) && int_at(box, 3, c->y0, h - 1, &c->y1),
                MCS_E_DATA, "%s: %s: component %d: want \"box\": [x0, y0, x1, y1], inclusive, inside %d x %d", path,
                b->image, k, w, h);
    MCS_REQUIRE(!points || json_is_array(points), MCS_E_DATA, "%s: %s: component %d: \"points\" is not a list", path,
                b->image, k);
    c->n_points = (int)json_array_size(points);
    c->points = mcs_arena_alloc(a, (size_t)(c->n_points + 1) * sizeof *c->points);
    MCS_TRY(mcs_arena_status(a));
    for (int i = 0; i < c->n_points; i++) {
        const json_t *p = json_array_get(points, (size_t)i);
        MCS_REQUIRE(json_array_size(p) == 3 && int_at(p, 0, 0, w - 1, &c->points[i].x) &&
                        int_at(p, 1, 0, h - 1, &c->points[i].y) && int_at(p, 2, 0, 1, &c->points[i].label),
                    MCS_E_DATA, "%s: %s: component %d: point %d: want [x, y, 0 or 1] inside %d x %d", path, b->image, k,
                    i, w, h);
    }
    const json_t *confidence = json_object_get(o, "confidence"), *area = json_object_get(o, "area");
    MCS_REQUIRE(!confidence || json_is_number(confidence), MCS_E_DATA,
                "%s: %s: component %d: \"confidence\" is not a number", path, b->image, k);
    MCS_REQUIRE(!area || (json_is_integer(area) && json_integer_value(area) >= 0 &&
                          json_integer_value(area) <= (json_int_t)w * h && json_integer_value(area) <= INT32_MAX),
                MCS_E_DATA, "%s: %s: component %d: \"area\" is not a number of pixels", path, b->image, k);
    c->confidence = confidence ? json_number_value(confidence) : 0.0;
    c->area = (int)json_integer_value(area);
    return MCS_OK;
}

static enum mcs_status read_case(const char *path, const json_t *o, int i, struct box_list *list)
{
    struct box_case *b = list->cases + i;
    const json_t *image = json_object_get(o, "image"), *size = json_object_get(o, "size");
    MCS_REQUIRE(json_is_string(image) && json_string_value(image)[0], MCS_E_DATA,
                "%s: case %d: want \"image\": a file name", path, i);
    b->image = mcs_json_name(&list->arena, json_string_value(image));
    MCS_REQUIRE(json_array_size(size) == 2 && int_at(size, 0, 1, MAX_SIDE, &b->width) &&
                    int_at(size, 1, 1, MAX_SIDE, &b->height),
                MCS_E_DATA, "%s: %s: want \"size\": [width, height]", path, b->image);
    const json_t *components = json_object_get(o, "components");
    MCS_REQUIRE(json_is_array(components), MCS_E_DATA, "%s: %s: want \"components\": a list", path, b->image);
    b->n_components = (int)json_array_size(components);
    b->components = mcs_arena_alloc(&list->arena, ((size_t)b->n_components + 1) * sizeof *b->components);
    MCS_TRY(mcs_arena_status(&list->arena));
    for (int k = 0; k < b->n_components; k++)
        MCS_TRY(read_component(path, json_array_get(components, (size_t)k), b, k, &list->arena, b->components + k));
    const json_t *reason = json_object_get(o, "reason");
    if (json_is_string(reason)) b->reason = mcs_arena_strdup(&list->arena, json_string_value(reason));
    return MCS_OK;
}

struct named {
    char stem[NAME_BYTES];
    const char *image;
};

static int by_stem(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->stem, ((const struct named *)b)->stem);
}

static enum mcs_status check_stems(const char *path, struct box_list *list)
{
    if (list->n < 2) return MCS_OK;
    enum mcs_status st = MCS_OK;
    struct named *names = calloc((size_t)list->n, sizeof *names);
    MCS_REQUIRE(names, MCS_E_NOMEM, "%s: no memory for %d names", path, list->n);
    for (int i = 0; i < list->n; i++) {
        names[i].image = list->cases[i].image;
        mcs_file_stem(names[i].image, names[i].stem, NAME_BYTES);
    }
    qsort(names, (size_t)list->n, sizeof *names, by_stem);
    for (int i = 1; i < list->n; i++)
        MCS_REQUIRE_GOTO(strcmp(names[i - 1].stem, names[i].stem) != 0, MCS_E_DATA, st, done,
                         "%s: %s and %s have one stem; a case must be there once", path, names[i - 1].image,
                         names[i].image);
done:
    free(names);
    return st;
}

static enum mcs_status read_root(const char *path, const json_t *root, struct box_list *list)
{
    const json_t *cases = json_object_get(root, "cases"), *made_by = json_object_get(root, "made_by");
    MCS_REQUIRE(json_is_array(cases), MCS_E_DATA, "%s: want an object with \"cases\": a list", path);
    list->n = (int)json_array_size(cases);
    list->cases = mcs_arena_alloc(&list->arena, ((size_t)list->n + 1) * sizeof *list->cases);
    MCS_TRY(mcs_arena_status(&list->arena));
    for (int i = 0; i < list->n; i++) MCS_TRY(read_case(path, json_array_get(cases, (size_t)i), i, list));
    if (json_is_object(made_by)) {
        char *text = json_dumps(made_by, JSON_COMPACT);
        if (text) list->made_by = mcs_arena_strdup(&list->arena, text);
        free(text);
    }
    MCS_TRY(mcs_arena_status(&list->arena));
    return check_stems(path, list);
}

enum mcs_status mcs_boxes_read(const char *path, struct box_list *list)
{
    *list = (struct box_list){0};
    json_t *root;
    MCS_TRY(mcs_json_read(path, MAX_FILE_BYTES, JSON_REJECT_DUPLICATES, &root));
    enum mcs_status st = read_root(path, root, list);
    json_decref(root);
    if (st != MCS_OK) mcs_boxes_free(list);
    return st;
}

void mcs_boxes_free(struct box_list *list)
{
    mcs_arena_free(&list->arena);
    *list = (struct box_list){0};
}

const struct box_case *mcs_boxes_find(const struct box_list *list, const char *stem)
{
    char name[NAME_BYTES];
    for (int i = 0; i < list->n; i++) {
        mcs_file_stem(list->cases[i].image, name, NAME_BYTES);
        if (!strcmp(name, stem)) return list->cases + i;
    }
    return NULL;
}
