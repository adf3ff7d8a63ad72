/* The demo data's difficulty in numbers: how lesions look, how much images vary, how many have no lesion. All reported
 * figures were made with the defaults; configs/demo.yaml has the same values (a test compares them). Pixels are 1.5 mm;
 * grey values are fractions of full scale, with white matter about 0.7. */
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
    X(structure, member, without, "share.without", 0.10, 0, 1, "share of images without a lesion")                     \
    X(structure, member, two, "share.two", 0.05, 0, 1, "share of images with two lesions of opposite look")            \
    X(structure, member, large, "share.large", 0.5, 0, 1, "share of large lesions")                                    \
    X(structure, member, bright, "share.bright", 0.5, 0, 1, "share of bright lesions")                                 \
    X(structure, member, blurred, "share.blurred", 0.5, 0, 1, "share of blurred lesions")                              \
    X(structure, member, rim, "share.rim", 0.35, 0, 1, "share of lesions with a rim")                                  \
    X(structure, member, lobe, "share.lobe", 0.6, 0, 1, "share of captions that name the lobe, not the region")        \
    X(structure, member, small_low, "lesion.small-low", 5, 1, 40, "radius of a small lesion, pixels, at least")        \
    X(structure, member, small_high, "lesion.small-high", 7.5, 1, 40, "at most")                                       \
    X(structure, member, large_low, "lesion.large-low", 11, 1, 40, "radius of a large lesion, pixels, at least")       \
    X(structure, member, large_high, "lesion.large-high", 17, 1, 40, "at most")                                        \
    X(structure, member, ellipse, "lesion.ellipse", 0.12, 0, 1, "sigma of the log of the half axes' ratio to it")      \
    X(structure, member, wobble, "lesion.wobble", 0.15, 0, 0.5, "amplitude of the outline's harmonics 2, 3, 4")        \
    X(structure, member, bright_low, "lesion.bright-low", 0.88, 0, 1, "grey value of a bright lesion, at least")       \
    X(structure, member, bright_high, "lesion.bright-high", 1, 0, 1, "at most")                                        \
    X(structure, member, dark_low, "lesion.dark-low", 0.08, 0, 1, "grey value of a dark lesion, at least")             \
    X(structure, member, dark_high, "lesion.dark-high", 0.2, 0, 1, "at most")                                          \
    X(structure, member, texture, "lesion.texture", 0.05, 0, 0.5, "sigma of its texture, 24 x 24 nodes an image")      \
    X(structure, member, edge_sharp, "lesion.edge-sharp", 0.6, 0.05, 10, "width of a sharp border, pixels")            \
    X(structure, member, edge_blurred, "lesion.edge-blurred", 3, 0.05, 10, "width of a blurred border, pixels")        \
    X(structure, member, rim_depth, "lesion.rim-depth", 1.2, 0, 10, "how far inside the border its rim is, pixels")    \
    X(structure, member, rim_width, "lesion.rim-width", 1.3, 0.1, 10, "sigma of the rim's width, pixels")              \
    X(structure, member, rim_opacity, "lesion.rim-opacity", 0.85, 0, 1, "opacity of the rim")                          \
    X(structure, member, rim_dark, "lesion.rim-dark", 0.15, 0, 1, "grey value of a bright lesion's rim")               \
    X(structure, member, rim_bright, "lesion.rim-bright", 0.95, 0, 1, "grey value of a dark lesion's rim")             \
    X(structure, member, margin, "lesion.margin", 5, 0, 40, "least distance of its centre from the brain's edge")      \
    X(structure, member, start_none, "start.none", 0.12, 0, 1, "starting data: share of images without an object")     \
    X(structure, member, start_region, "start.region", 0.2, 0, 1, "starting data: share of tinted atlas regions")      \
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
