#include "infer/coarse/boxes.h"
#include "tests/fuzz/support_fuzz.h"

#include <string.h>

static void check_case(const struct box_case *b)
{
    FUZZ_REQUIRE(b->width > 0 && b->height > 0 && b->image[0], "%d x %d", b->width, b->height);
    for (int k = 0; k < b->n_components; k++) {
        const struct box_component *c = &b->components[k];
        FUZZ_REQUIRE(c->x0 >= 0 && c->x0 <= c->x1 && c->x1 < b->width && c->y0 >= 0 && c->y0 <= c->y1 &&
                         c->y1 < b->height,
                     "%d %d %d %d in %d x %d", c->x0, c->y0, c->x1, c->y1, b->width, b->height);
        for (int i = 0; i < c->n_points; i++)
            FUZZ_REQUIRE(c->points[i].x >= 0 && c->points[i].x < b->width && c->points[i].y >= 0 &&
                             c->points[i].y < b->height,
                         "point %d outside", i);
    }
}

FUZZ(boxes)
{
    struct box_list l, m;
    if (!fuzz_ended(mcs_boxes_read(fuzz_file(data, size, "f.json"), &l))) return;
    for (int i = 0; i < l.n; i++) check_case(&l.cases[i]);
    const char *path = fuzz_file(NULL, 0, "g.json");
    FUZZ_REQUIRE(mcs_boxes_write(path, &l) == MCS_OK, "%s", mcs_error_message());
    FUZZ_REQUIRE(mcs_boxes_read(path, &m) == MCS_OK, "%s", mcs_error_message());
    FUZZ_REQUIRE(l.n == m.n, "%d cases, read again %d", l.n, m.n);
    for (int i = 0; i < l.n; i++)
        FUZZ_REQUIRE(!strcmp(l.cases[i].image, m.cases[i].image), "case %d has another name", i);
    mcs_boxes_free(&l);
    mcs_boxes_free(&m);
}
