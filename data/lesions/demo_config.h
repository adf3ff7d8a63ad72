/* The demo data's difficulty in numbers: how lesions look, how much images vary, how many have no lesion. All reported
 * figures were made with the defaults, which are frozen: they were chosen before anything was trained on them.
 * configs/demo.yaml has the same values (a test compares them). Pixels are 1.5 mm; grey values are fractions of full
 * scale, with white matter about 0.7. */
#ifndef MCS_DEMO_CONFIG_H
#define MCS_DEMO_CONFIG_H

#include "engine/base/status.h"

/*   field, key, default, lowest, highest, help */
#define MCS_DEMO_CONFIG_LIST(X, structure, member)                                                                     \
    X(structure, member, rotation_degrees, "image.rotation", 4, 0, 30, "sigma of an image's rotation, degrees")        \
    X(structure, member, log_scale, "image.log-scale", 0.04, 0, 0.5, "sigma of the log of its scale, each axis")       \
    X(structure, member, shift_mm, "image.shift", 3, 0, 20, "sigma of its shift, mm, each axis")                       \
    X(structure, member, warp_mm, "image.warp", 2.5, 0, 10, "sigma of the smooth displacement, mm, 5 x 5 nodes")       \
    X(structure, member, bias, "image.bias", 0.10, 0, 1, "sigma of the log bias field, 3 x 3 nodes")                   \
    X(structure, member, gain, "image.gain", 0.06, 0, 1, "sigma of the log gain")                                      \
    X(structure, member, noise_low, "image.noise-low", 0.01, 0, 0.5, "noise sigma, at least")                          \
    X(structure, member, noise_high, "image.noise-high", 0.03, 0, 0.5, "noise sigma, at most")                         \
    X(structure, member, without, "share.without", 0.20, 0, 1, "share of images without a lesion")                     \
    X(structure, member, two, "share.two", 0.30, 0, 1, "share of lesion images with two lesions")                      \
    X(structure, member, three, "share.three", 0.10, 0, 1, "share of lesion images with three")                        \
    X(structure, member, large, "share.large", 0.5, 0, 1, "share of large lesions")                                    \
    X(structure, member, bright, "share.bright", 0.5, 0, 1, "share of bright lesions")                                 \
    X(structure, member, blurred, "share.blurred", 0.5, 0, 1, "share of blurred lesions")                              \
    X(structure, member, rim, "share.rim", 0.35, 0, 1, "share of lesions with a rim")                                  \
    X(structure, member, irregular, "share.irregular", 0.5, 0, 1,                                                      \
      "share of irregular outlines, the others are smooth")                                                            \
    X(structure, member, lobe, "share.lobe", 0.6, 0, 1, "share of captions that name the lobe, not the region")        \
    X(structure, member, small_low, "lesion.small-low", 5, 1, 40, "radius of a small lesion, pixels, at least")        \
    X(structure, member, small_high, "lesion.small-high", 7.5, 1, 40, "at most")                                       \
    X(structure, member, large_low, "lesion.large-low", 11, 1, 40, "radius of a large lesion, pixels, at least")       \
    X(structure, member, large_high, "lesion.large-high", 17, 1, 40, "at most")                                        \
    X(structure, member, ellipse, "lesion.ellipse", 0.12, 0, 1, "sigma of the log of the half axes' ratio to it")      \
    X(structure, member, wobble, "lesion.wobble", 0.15, 0, 0.5, "smooth outline: amplitude of harmonics 2, 3, 4")      \
    X(structure, member, spikes, "lesion.spikes", 0.12, 0, 0.5, "irregular outline: amplitude of harmonics 2 to 7")    \
    X(structure, member, contrast_low, "lesion.contrast-low", 0.15, 0.01, 0.9,                                         \
      "difference to the local mean grey, at least")                                                                   \
    X(structure, member, contrast_high, "lesion.contrast-high", 0.45, 0.01, 0.9, "at most")                            \
    X(structure, member, texture, "lesion.texture", 0.04, 0, 0.5, "sigma of its texture, 24 x 24 nodes an image")      \
    X(structure, member, edge_sharp, "lesion.edge-sharp", 0.6, 0.05, 10, "width of a sharp border, pixels")            \
    X(structure, member, edge_blurred, "lesion.edge-blurred", 3, 0.05, 10, "width of a blurred border, pixels")        \
    X(structure, member, rim_depth, "lesion.rim-depth", 0.8, 0, 10, "how far inside the border its rim is, pixels")    \
    X(structure, member, rim_width, "lesion.rim-width", 0.8, 0.1, 10, "sigma of the rim's width, pixels")              \
    X(structure, member, rim_opacity, "lesion.rim-opacity", 0.85, 0, 1, "opacity of the rim")                          \
    X(structure, member, rim_contrast, "lesion.rim-contrast", 1, 0, 3,                                                 \
      "rim's contrast, of opposite sign, as a share of the lesion's")                                                  \
    X(structure, member, margin, "lesion.margin", 5, 0, 40, "least distance of its centre from the brain's edge")      \
    X(structure, member, gap, "lesion.gap", 5, 1, 40, "least city-block distance of two lesions, pixels")              \
    X(structure, member, vessels, "lookalike.vessels", 2, 0, 8,                                                        \
      "most vessels an image (thin bright curves), any number of 0 to this")                                           \
    X(structure, member, dots, "lookalike.dots", 3, 0, 8, "most calcifications an image (bright or dark dots)")        \
    X(structure, member, vessel_low, "lookalike.vessel-low", 1.5, 0.5, 6, "width of a vessel, pixels, at least")       \
    X(structure, member, vessel_high, "lookalike.vessel-high", 2.5, 0.5, 6, "at most")                                 \
    X(structure, member, dot_low, "lookalike.dot-low", 1, 0.5, 4, "radius of a calcification, pixels, at least")       \
    X(structure, member, dot_high, "lookalike.dot-high", 2, 0.5, 4, "at most")                                         \
    X(structure, member, unseen_two, "unseen.two", 0.3, 0, 1, "unseen forms: share of images with two lesions")        \
    X(structure, member, cluster, "unseen.cluster", 0.5, 0, 1, "share of clusters, the others are wedges")             \
    X(structure, member, focus, "unseen.focus", 0.36, 0.1, 1,                                                          \
      "radius of a cluster's focus, as a share of the lesion's")                                                       \
    X(structure, member, wedge, "unseen.wedge", 2, 0.5, 4, "depth of a wedge, as a multiple of the lesion's radius")   \
    X(structure, member, angle, "unseen.angle", 30, 5, 60, "half the angle of a wedge, degrees")                       \
    X(structure, member, start_none, "start.none", 0.12, 0, 1, "starting data: share of images without an object")     \
    X(structure, member, start_region, "start.region", 0.2, 0, 1, "starting data: share of tinted atlas regions")      \
    X(structure, member, start_two, "start.two", 0.25, 0, 1, "starting data: share of images with two shapes")         \
    X(structure, member, start_three, "start.three", 0.10, 0, 1, "starting data: share of images with three")          \
    X(structure, member, start_drop, "start.drop", 0.2, 0, 1, "starting data: share of attributes a caption leaves out")

struct demo_config {
#define X(structure, member, field, key, def, lo, hi, help) double field;
    MCS_DEMO_CONFIG_LIST(X, , )
#undef X
};

struct demo_config mcs_demo_config_default(void);
/* E_USAGE, naming the key: a range whose low end is above its high end, shares that add up to more than 1. */
enum mcs_status mcs_demo_config_check(const struct demo_config *config);

#endif
