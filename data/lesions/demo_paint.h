/* Shared by lesion images and starting images: a slice cut from the atlas under a random deformation, soft shapes
 * painted into it, and the finish (bias, gain, noise). For data/lesions/demo_*.c only. Images are
 * (DEMO_SIZE,DEMO_SIZE), row 0 = front, column 0 = the patient's left. No heap. */
#ifndef MCS_DEMO_PAINT_H
#define MCS_DEMO_PAINT_H

#include "data/lesions/demo_atlas.h"
#include "data/lesions/demo_config.h"
#include "engine/base/rng.h"

/* A sequence of random draws for one sample and one site (engine/base/rng.h: the place in the program that draws). Each
 * call uses the next index. Uniform: in [low, high). Normal: mean 0. Below: an integer of 0 .. n - 1. Chance: 1 with
 * probability share. */
struct demo_draw {
    struct mcs_rng rng;
    uint32_t next;
};
struct demo_draw mcs_demo_draw(const char *site, uint64_t seed, uint32_t sample, uint32_t step);
double mcs_demo_uniform(struct demo_draw *d, double low, double high);
double mcs_demo_normal(struct demo_draw *d, double sigma);
int mcs_demo_below(struct demo_draw *d, int n);
int mcs_demo_chance(struct demo_draw *d, double share);

struct demo_scene {
    int z;
    float value[DEMO_PIXELS];   /* 0..1 */
    uint8_t brain[DEMO_PIXELS]; /* 0 or 1 */
    uint8_t label[DEMO_PIXELS]; /* AAL label, nearest */
};

/* Cuts slice z under rotation, scale, shift and a smooth displacement; values bilinear, labels nearest; 0 outside the
 * volume. */
void mcs_demo_scene_cut(const struct demo_atlas *atlas, const struct demo_config *config, int z, struct demo_draw *draw,
                        struct demo_scene *scene);

/* n x n normal draws of sigma, interpolated bicubically (Keys, a = -0.5, edges clamped) between nodes spread from edge
 * to edge; n <= 32. */
void mcs_demo_field(struct demo_draw *draw, int n, double sigma, float *field);

/* How a shape is painted: its grey value (plus texture), the width of its border and, with rim_opacity > 0, a rim. */
struct demo_look {
    double level, edge, rim_value, rim_opacity, rim_depth, rim_width;
    const float *texture; /* (DEMO_SIZE,DEMO_SIZE) added to level */
};
/* Blends a shape into the brain: opacity sigmoid(-distance / (0.55 edge)), a logistic border with standard deviation
 * edge (0.55 is about sqrt(3) / pi). distance (DEMO_SIZE,DEMO_SIZE): pixels to the outline, negative inside. mask is 1
 * where distance < 0 in the brain, else 0. Returns the mask's area. */
int mcs_demo_paint(struct demo_scene *scene, const float *distance, const struct demo_look *look, uint8_t *mask);
/* Sets a look's grey value so that it differs from the mean under the shape and up to 4 pixels around it by `contrast`,
 * brighter or darker, within 0.03 and 0.97, and the rim's by the opposite sign. Returns 0, and sets nothing, where the
 * scale leaves no room for the config's least contrast. */
int mcs_demo_contrast(const struct demo_scene *scene, const float *distance, int bright, double contrast,
                      const struct demo_config *config, struct demo_look *look);
/* Bias, gain, noise, clip: converts values to 8 bits. Returns the noise's sigma. */
double mcs_demo_finish(const struct demo_scene *scene, const struct demo_config *config, struct demo_draw *draw,
                       uint8_t *image);

/* City-block distance of each brain pixel to the nearest pixel outside, capped at 255. */
void mcs_demo_depth(const uint8_t *brain, uint8_t *depth);
/* A random pixel where depth > margin (and, unless side < 0, on that side by the atlas, else NULL); 0 when there is
 * none.
 */
int mcs_demo_pick(const struct demo_atlas *atlas, const struct demo_scene *scene, const uint8_t *depth, double margin,
                  int side, struct demo_draw *draw, double *row, double *col);
/* The mask's area, and its bounding box x0 y0 x1 y1, inclusive. */
int mcs_demo_box(const uint8_t *mask, int box[4]);
/* The region with most of a mask's labelled pixels and its lobe; and the mask's side: left or right if at least 7 of 10
 * of these pixels are there, else midline. */
void mcs_demo_locate(const struct demo_atlas *atlas, const struct demo_scene *scene, const uint8_t *mask, int *region,
                     enum demo_side *side, enum demo_lobe *lobe);

#endif
