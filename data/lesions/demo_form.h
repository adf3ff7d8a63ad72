/* Outlines of the demo's lesions. For data/lesions/demo_*.c only. No training saw a cluster or a wedge. No heap. */
#ifndef MCS_DEMO_FORM_H
#define MCS_DEMO_FORM_H

#include "data/lesions/demo_paint.h"

enum demo_form {
    DEMO_SMOOTH,    /* an ellipse bent by harmonics 2, 3, 4 */
    DEMO_IRREGULAR, /* lobes and spikes: harmonics 2 to 7, larger amplitudes */
    DEMO_CLUSTER,   /* three to six small discs that belong together; unseen */
    DEMO_WEDGE,     /* a sector from inside to the brain's edge, as of an infarct; unseen */
    DEMO_FORMS
};
enum { DEMO_HARMONICS = 6, DEMO_FOCI = 6 };

struct demo_outline {
    enum demo_form form;
    double row, col, radius;
    double log_ratio, angle; /* of the ellipse's axes; of the wedge: from its tip outwards */
    double amplitude[DEMO_HARMONICS], phase[DEMO_HARMONICS]; /* of harmonics 2 .. 7 */
    double length, half_angle;                               /* of a wedge, whose tip is at row, col */
    int n_foci;
    double focus[DEMO_FOCI][3]; /* row and column relative to the centre, radius */
};

/* Draws an outline around (row, col). A wedge's base is there, at the brain's edge, and its tip lies inwards: the
 * direction outwards is (sin outwards, cos outwards) in rows and columns; other forms ignore it. */
struct demo_outline mcs_demo_outline_draw(const struct demo_config *config, enum demo_form form, double row, double col,
                                          double radius, double outwards, struct demo_draw *draw);
/* Pixels to the outline (DEMO_SIZE,DEMO_SIZE), negative inside, 1000 far outside; along the ray from the centre for
 * smooth and irregular outlines. */
void mcs_demo_outline_distance(const struct demo_outline *outline, float *distance);

/* Paints look-alikes into a scene with draws of the config's numbers: vessels, thin bright curves, and calcifications,
 * bright or dark dots. They keep at least 4 pixels (city-block) from the pixels of `taken` (0 or 1). mask receives 1
 * for their pixels and 0 elsewhere. Returns their number. */
int mcs_demo_lookalikes(const struct demo_config *config, struct demo_scene *scene, const uint8_t *taken,
                        struct demo_draw *draw, uint8_t *mask);

#endif
