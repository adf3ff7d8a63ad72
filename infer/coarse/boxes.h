/* boxes.json: SAM prompts (boxes and points) made from the coarse masks.
 *
 *     {"cases": [{"image": name, "size": [W, H],
 *                 "components": [{"box": [x0, y0, x1, y1], "points": [[x, y, label]], "confidence": c, "area": n}]}]}
 *
 * Boxes include their last pixel; all coordinates are pixels of the original image; point label 1 is inside, 0 outside.
 * A case with an empty coarse mask has no components and a "reason". The top level also has "made_by": verb, version
 * and options that made the file. The reader ignores unknown keys. */
#ifndef MCS_BOXES_H
#define MCS_BOXES_H

#include "engine/base/arena.h"
#include "engine/base/status.h"

#include <jansson.h>

struct box_point {
    int x, y, label;
};
struct box_component {
    int x0, y0, x1, y1;
    int n_points;
    struct box_point *points;
    double confidence;
    int area;
};
struct box_case {
    const char *image;
    int width, height;
    int n_components;
    struct box_component *components;
    const char *reason; /* NULL, or why there are no components */
};
/* The arena owns all memory of a list; start with {0}, release with mcs_boxes_free. */
struct box_list {
    int n;
    struct box_case *cases;
    const char *made_by; /* a JSON object as text, or NULL */
    struct arena arena;
};

/* Writes the file atomically. E_IO; E_DATA a name that is not UTF-8 or a number that is not finite. */
enum mcs_status mcs_boxes_write(const char *path, const struct box_list *list);
/* The same from a JSON array of mcs_box_case_json's results, which stays the caller's. made_by may be NULL. */
enum mcs_status mcs_boxes_write_json(const char *path, json_t *cases, const char *made_by);
/* A case as the file stores it; NULL if a number is not finite. */
json_t *mcs_box_case_json(const struct box_case *b);
/* Reads and checks: sizes positive, boxes inside their image with x0 <= x1 and y0 <= y1, points inside, labels 0 or 1,
 * no two images with one stem. E_NOINPUT, E_IO, E_DATA naming the case and its fault; on failure the list is empty.
 */
enum mcs_status mcs_boxes_read(const char *path, struct box_list *list);
void mcs_boxes_free(struct box_list *list);
/* The case whose image has this stem, or NULL. */
const struct box_case *mcs_boxes_find(const struct box_list *list, const char *stem);

#endif
