#include "data/lesions/demo_sample.h"

#include <math.h>
#include <string.h>

enum { TEXTURE_NODES = 24, TRIES = 64, HARMONICS = 3 };

/* ---- a lesion's outline: an ellipse whose radius is bent by harmonics 2, 3, 4 ---- */

struct outline {
    double row, col, radius, log_ratio, angle;
    double amplitude[HARMONICS], phase[HARMONICS];
};

static struct outline draw_outline(const struct demo_config *c, double row, double col, double radius,
                                   struct demo_draw *d)
{
    struct outline o = {.row = row, .col = col, .radius = radius};
    o.log_ratio = mcs_demo_normal(d, c->ellipse);
    o.angle = mcs_demo_uniform(d, 0, M_PI);
    for (int k = 0; k < HARMONICS; k++) {
        o.amplitude[k] = mcs_demo_normal(d, c->wobble / (k + 2));
        o.phase[k] = mcs_demo_uniform(d, 0, 2 * M_PI);
    }
    return o;
}

/* Distance to the outline along the ray from the centre, in pixels, negative inside; 1000 far outside. */
static void outline_distance(const struct outline *o, float *distance)
{
    const float co = (float)cos(o->angle), si = (float)sin(o->angle);
    const float ax = (float)exp(-o->log_ratio), ay = (float)exp(o->log_ratio), radius = (float)o->radius;
    const float reach = 1.6f * radius + 20; /* nothing is painted beyond it */
    float am[HARMONICS], pc[HARMONICS], ps[HARMONICS];
    for (int k = 0; k < HARMONICS; k++) {
        am[k] = (float)o->amplitude[k];
        pc[k] = (float)cos(o->phase[k]);
        ps[k] = (float)sin(o->phase[k]);
    }
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const float dr = (float)(i / DEMO_SIZE) - (float)o->row, dc = (float)(i % DEMO_SIZE) - (float)o->col;
        distance[i] = 1e3f;
        if (dr > reach || dr < -reach || dc > reach || dc < -reach) continue;
        const float x = (co * dc + si * dr) * ax, y = (co * dr - si * dc) * ay;
        const float rho = sqrtf(x * x + y * y), inv = rho > 0 ? 1 / rho : 0;
        const float c1 = rho > 0 ? x * inv : 1, s1 = y * inv;
        float ck = c1, sk = s1, bend = 1; /* cos and sin of k times the angle, by rotation */
        for (int k = 0; k < HARMONICS; k++) {
            const float next = ck * c1 - sk * s1;
            sk = sk * c1 + ck * s1;
            ck = next;
            bend += am[k] * (ck * pc[k] - sk * ps[k]);
        }
        distance[i] = rho - radius * bend;
    }
}

/* ---- measurements on the finished image ---- */

static void measure(struct demo_lesion *l, const struct demo_sample *s, const uint8_t *mask, const float *distance)
{
    double in = 0, out = 0;
    int n_out = 0;
    for (int i = 0; i < DEMO_PIXELS; i++) {
        if (mask[i]) {
            in += s->image[i];
        } else if (s->brain[i] && distance[i] > 2 && distance[i] < 6) {
            out += s->image[i];
            n_out++;
        }
    }
    l->area = mcs_demo_box(mask, l->box);
    l->contrast = l->area && n_out ? (in / l->area - out / n_out) / 255 : 0;
}

static struct demo_words words_of(const struct demo_lesion *l, enum demo_level level)
{
    return (struct demo_words){.bright = l->bright,
                               .large = l->large,
                               .blurred = l->blurred,
                               .rim = l->rim,
                               .side = (int)l->side,
                               .level = (int)level,
                               .lobe = l->lobe,
                               .region = l->region};
}

/* ---- the sample ---- */

/* Draws a lesion's attributes; its place is drawn later. */
static void draw_lesion(const struct demo_config *c, struct demo_draw *d, struct demo_lesion *l)
{
    l->large = mcs_demo_chance(d, c->large);
    l->bright = mcs_demo_chance(d, c->bright);
    l->blurred = mcs_demo_chance(d, c->blurred);
    l->rim = mcs_demo_chance(d, c->rim);
    const double u = mcs_demo_uniform(d, 0, 1), v = mcs_demo_uniform(d, 0, 1);
    l->radius = l->large ? c->large_low + u * (c->large_high - c->large_low)
                         : c->small_low + u * (c->small_high - c->small_low);
    l->grey = v; /* 0..1, mapped to the bright or the dark range once that choice is final */
}

/* Each lesion is in a different half and they do not touch; where no place is found, large ones become small. */
static void place_two(const struct demo_atlas *atlas, const struct demo_config *c, const struct demo_scene *scene,
                      const uint8_t *depth, struct demo_draw *d, struct demo_lesion l[2])
{
    const int first_side = mcs_demo_below(d, 2);
    for (int t = 0; t < TRIES; t++) {
        for (int i = 0; i < 2; i++) {
            if (t == TRIES / 2) {
                l[i].large = 0;
                l[i].radius = c->small_low;
            }
            /* a slice without that half: any place */
            if (!mcs_demo_pick(atlas, scene, depth, c->margin, first_side ^ i, d, &l[i].row, &l[i].col) &&
                !mcs_demo_pick(atlas, scene, depth, c->margin, -1, d, &l[i].row, &l[i].col))
                l[i].row = l[i].col = DEMO_SIZE / 2 + 30 * i - 15;
        }
        const double dr = l[0].row - l[1].row, dc = l[0].col - l[1].col;
        if (sqrt(dr * dr + dc * dc) > 1.3 * (l[0].radius + l[1].radius) + 4) return;
    }
}

void mcs_demo_lesion_sample(const struct demo_atlas *atlas, const struct demo_config *config, enum demo_split split,
                            enum demo_kind kind, uint64_t seed, uint32_t id, struct demo_sample *s)
{
    struct demo_scene scene;
    struct outline outline[2];
    float distance[DEMO_PIXELS], texture[DEMO_PIXELS];
    struct demo_draw slice = mcs_demo_draw("demo.slice", seed, id, (uint32_t)split);
    struct demo_draw lesion = mcs_demo_draw("demo.lesion", seed, id, (uint32_t)split);
    struct demo_draw finish = mcs_demo_draw("demo.finish", seed, id, (uint32_t)split);
    memset(s, 0, sizeof *s);
    s->id = id;
    s->split = split;
    s->z = atlas->slice[split][mcs_demo_below(&slice, atlas->n_slices[split])];
    s->level = mcs_demo_slice_level(s->z);
    const double which = mcs_demo_uniform(&slice, 0, 1);
    if (kind == DEMO_MIXED)
        kind = which < config->without ? DEMO_NONE : which < config->without + config->two ? DEMO_TWO : DEMO_ONE;
    s->kind = kind;
    s->n_lesions = kind == DEMO_TWO ? 2 : kind == DEMO_ONE;
    mcs_demo_scene_cut(atlas, config, s->z, &slice, &scene);
    memcpy(s->brain, scene.brain, sizeof s->brain);
    memcpy(s->label, scene.label, sizeof s->label);

    uint8_t depth[DEMO_PIXELS];
    if (s->n_lesions) mcs_demo_depth(scene.brain, depth);
    for (int i = 0; i < s->n_lesions; i++) draw_lesion(config, &lesion, &s->lesion[i]);
    if (kind == DEMO_TWO) {
        s->lesion[1].bright = !s->lesion[0].bright;
        place_two(atlas, config, &scene, depth, &lesion, s->lesion);
    } else if (kind == DEMO_ONE && !mcs_demo_pick(atlas, &scene, depth, config->margin, -1, &lesion, &s->lesion[0].row,
                                                  &s->lesion[0].col)) {
        s->lesion[0].row = s->lesion[0].col = DEMO_SIZE / 2;
    }
    for (int i = 0; i < s->n_lesions; i++) {
        struct demo_lesion *l = &s->lesion[i];
        const double low = l->bright ? config->bright_low : config->dark_low;
        const double high = l->bright ? config->bright_high : config->dark_high;
        l->grey = low + l->grey * (high - low);
        outline[i] = draw_outline(config, l->row, l->col, l->radius, &lesion);
        outline_distance(&outline[i], distance);
        mcs_demo_field(&lesion, TEXTURE_NODES, config->texture, texture);
        const struct demo_look look = {.level = l->grey,
                                       .edge = l->blurred ? config->edge_blurred : config->edge_sharp,
                                       .rim_value = l->bright ? config->rim_dark : config->rim_bright,
                                       .rim_opacity = l->rim ? config->rim_opacity : 0,
                                       .rim_depth = config->rim_depth,
                                       .rim_width = config->rim_width,
                                       .texture = texture};
        mcs_demo_paint(&scene, distance, &look, s->truth[i]);
        mcs_demo_locate(atlas, &scene, s->truth[i], &l->region, &l->side, &l->lobe);
    }
    s->noise = mcs_demo_finish(&scene, config, &finish, s->image);
    for (int i = 0; i < s->n_lesions; i++) {
        struct demo_lesion *l = &s->lesion[i];
        const struct demo_words w = words_of(l, s->level);
        outline_distance(&outline[i], distance);
        measure(l, s, s->truth[i], distance);
        mcs_demo_prompt(&w, 1, l->prompt1);
        mcs_demo_prompt(&w, 3, l->prompt3);
        mcs_demo_prompt(&w, 4, l->prompt4);
    }
    mcs_demo_lesion_caption(atlas, config, s, seed, 0, s->caption);
}

void mcs_demo_lesion_caption(const struct demo_atlas *atlas, const struct demo_config *config,
                             const struct demo_sample *s, uint64_t seed, uint32_t variant, char *caption)
{
    struct demo_draw d = mcs_demo_draw("demo.caption", seed, s->id, (uint32_t)s->split + variant * DEMO_SPLITS);
    struct demo_words w[2];
    for (int i = 0; i < s->n_lesions; i++) w[i] = words_of(&s->lesion[i], s->level);
    switch (s->kind) {
    case DEMO_ONE:
        w[0].by_region = !mcs_demo_chance(&d, config->lobe);
        mcs_demo_caption_one(atlas, &w[0], &d, caption);
        break;
    case DEMO_TWO: mcs_demo_caption_two(w, &d, caption); break;
    default: mcs_demo_caption_none((int)s->level, 0, &d, caption); break;
    }
}
