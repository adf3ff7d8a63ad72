#include "train/unet/augment.h"

#include <math.h>
#include <string.h>

struct augment_options mcs_augment_nnunet(int height, int width)
{
    const double aspect = height > width ? (double)height / width : (double)width / height;
    return (struct augment_options){
        .p_rotation = 0.2,
        .rotation = aspect > 1.5 ? M_PI / 12 : M_PI,
        .p_scale = 0.2,
        .scale_lo = 0.7,
        .scale_hi = 1.4,
        .p_noise = 0.1,
        .noise_hi = 0.1,
        .p_blur = 0.2,
        .p_blur_channel = 0.5,
        .blur_lo = 0.5,
        .blur_hi = 1,
        .p_brightness = 0.15,
        .p_contrast = 0.15,
        .factor_lo = 0.75,
        .factor_hi = 1.25,
        .p_lowres = 0.25,
        .p_lowres_channel = 0.5,
        .zoom_lo = 0.5,
        .p_gamma_inverted = 0.1,
        .p_gamma = 0.3,
        .gamma_lo = 0.7,
        .gamma_hi = 1.5,
        .p_mirror = 0.5,
    };
}

struct augment_options mcs_augment_none(void)
{
    return (struct augment_options){0};
}

void mcs_augment_loader_size(const struct augment_options *o, int height, int width, int loader[2])
{
    const double angle = fmin(o->rotation, M_PI / 2), size[2] = {height, width};
    const int moves = o->p_rotation > 0 || o->p_scale > 0;
    for (int a = 0; a < 2; a++) {
        const double sign = a ? -1 : 1, turned = fabs(cos(angle) * size[a] + sign * sin(angle) * size[!a]);
        /* + 1e-9: cos(pi / 2) is not exactly 0, so 85 / .85 could be rounded down from 99.99 instead of 100 */
        loader[a] = moves ? (int)(fmax(size[a], turned) / 0.85 + 1e-9) : (int)size[a];
    }
}

/* ---- draws: each transform has its random stream, so adding a draw to one does not change the others ---- */

enum transform { SPATIAL, NOISE, BLUR, BRIGHTNESS, CONTRAST, LOWRES, GAMMA_INVERTED, GAMMA, MIRROR };

static struct mcs_rng stream(struct mcs_rng key, enum transform t)
{
    key.site ^= 0x9E3779B9u * ((uint32_t)t + 1);
    return key;
}

/* Reads a stream's draws 0, 1, ... in order. */
struct draws {
    struct mcs_rng rng;
    uint32_t next;
};

static double uniform(struct draws *d, double lo, double hi)
{
    return mcs_rng_range(d->rng, d->next++, lo, hi);
}

static int toss(struct draws *d, double p)
{
    return mcs_rng_uniform(d->rng, d->next++) < p;
}

/* Uniform in lo..1 or in 1..hi, with probability 1/2 each. */
static double about_one(struct draws *d, double lo, double hi)
{
    return toss(d, 0.5) ? uniform(d, lo, 1) : uniform(d, 1, hi);
}

/* ---- a sample: its random draws and their application ---- */

static void draw_turn(const struct augment_options *o, struct mcs_rng key, struct augment_draw *a)
{
    struct draws d = {stream(key, SPATIAL), 0};
    const int rotate = toss(&d, o->p_rotation), scale = toss(&d, o->p_scale);
    const double angle = uniform(&d, -o->rotation, o->rotation), factor = uniform(&d, o->scale_lo, o->scale_hi);
    const double turned = rotate ? angle : 0, scaled = scale ? factor : 1;
    a->moves = rotate || scale;
    a->matrix[0][0] = a->matrix[1][1] = scaled * cos(turned);
    a->matrix[1][0] = scaled * sin(turned);
    a->matrix[0][1] = -a->matrix[1][0];
}

static void draw_noise(const struct augment_options *o, struct mcs_rng key, struct augment_draw *a)
{
    struct draws d = {stream(key, NOISE), 0};
    a->noise_seed = d.rng.seed;
    a->noise_site = d.rng.site ^ 0x5A5A5A5Au; /* any constant: the pixels' stream is not that of the draws below */
    a->noise_sample = d.rng.sample;
    a->noise_step = d.rng.step;
    if (toss(&d, o->p_noise)) a->noise = (float)uniform(&d, 0, o->noise_hi);
}

static void draw_channels(const struct augment_options *o, struct mcs_rng key, int channels, struct augment_channel *c)
{
    struct draws d = {stream(key, BLUR), 0};
    const int blur = toss(&d, o->p_blur);
    for (int k = 0; blur && k < channels; k++) {
        if (!toss(&d, o->p_blur_channel)) continue;
        c[k].blur_y = uniform(&d, o->blur_lo, o->blur_hi);
        c[k].blur_x = uniform(&d, o->blur_lo, o->blur_hi);
    }
    d = (struct draws){stream(key, BRIGHTNESS), 0};
    const int brighten = toss(&d, o->p_brightness);
    for (int k = 0; brighten && k < channels; k++) c[k].brightness = (float)about_one(&d, o->factor_lo, o->factor_hi);
    d = (struct draws){stream(key, CONTRAST), 0};
    const int contrast = toss(&d, o->p_contrast);
    for (int k = 0; contrast && k < channels; k++) c[k].contrast = about_one(&d, o->factor_lo, o->factor_hi);
    d = (struct draws){stream(key, LOWRES), 0};
    const int lowres = toss(&d, o->p_lowres);
    for (int k = 0; lowres && k < channels; k++)
        if (toss(&d, o->p_lowres_channel)) c[k].zoom = uniform(&d, o->zoom_lo, 1);
    for (int inverted = 1; inverted >= 0; inverted--) {
        d = (struct draws){stream(key, inverted ? GAMMA_INVERTED : GAMMA), 0};
        const int bend = toss(&d, inverted ? o->p_gamma_inverted : o->p_gamma);
        for (int k = 0; bend && k < channels; k++)
            *(inverted ? &c[k].gamma_inverted : &c[k].gamma) = about_one(&d, o->gamma_lo, o->gamma_hi);
    }
}

void mcs_augment_draw(const struct augment_options *o, struct mcs_rng key, int channels, struct augment_draw *a)
{
    struct draws d = {stream(key, MIRROR), 0};
    *a = (struct augment_draw){0};
    draw_turn(o, key, a);
    draw_noise(o, key, a);
    draw_channels(o, key, channels, a->channel);
    a->flip_rows = toss(&d, o->p_mirror);
    a->flip_columns = toss(&d, o->p_mirror);
}
