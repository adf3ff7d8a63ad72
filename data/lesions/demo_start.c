#include "data/lesions/demo_start.h"
#include "data/lesions/demo_form.h"

#include <math.h>
#include <string.h>

enum { VERTICES_MAX = 16, TEXTURE_NODES = 24, REGION_PIXELS_MIN = 60, TRIES = 64 };
static const float FAR_AWAY = 1e3f;

/* ---- outlines ---- */

struct polygon {
    int n;
    float x[VERTICES_MAX], y[VERTICES_MAX]; /* around the centre */
};

/* Scales a polygon to the area of a disc of that radius. */
static void to_area(struct polygon *p, double radius)
{
    double twice = 0;
    for (int i = 0; i < p->n; i++) {
        const int j = (i + 1) % p->n;
        twice += p->x[i] * p->y[j] - p->x[j] * p->y[i];
    }
    const float scale = (float)sqrt(M_PI * radius * radius / fmax(fabs(twice) / 2, 1e-6));
    for (int i = 0; i < p->n; i++) {
        p->x[i] *= scale;
        p->y[i] *= scale;
    }
}

/* Signed distance of a point to a polygon: to its nearest edge, negative inside (by counting crossings of a ray). */
static float polygon_distance(const struct polygon *p, float x, float y)
{
    float best = FAR_AWAY * FAR_AWAY;
    int inside = 0;
    for (int i = 0, j = p->n - 1; i < p->n; j = i++) {
        const float ex = p->x[j] - p->x[i], ey = p->y[j] - p->y[i], wx = x - p->x[i], wy = y - p->y[i];
        float t = (wx * ex + wy * ey) / (ex * ex + ey * ey + 1e-12f);
        t = t < 0 ? 0 : t > 1 ? 1 : t;
        const float dx = wx - t * ex, dy = wy - t * ey, d2 = dx * dx + dy * dy;
        if (d2 < best) best = d2;
        if ((p->y[i] > y) != (p->y[j] > y) && x < ex * (y - p->y[i]) / ey + p->x[i]) inside = !inside;
    }
    return inside ? -sqrtf(best) : sqrtf(best);
}

/* A shape around (row, col) with the area of a disc of `radius` (approximately, for crescents and discs): pixels to its
 * outline. */
static void shape_distance(enum demo_shape shape, double row, double col, double radius, struct demo_draw *d,
                           float *distance)
{
    const double angle = mcs_demo_uniform(d, 0, 2 * M_PI);
    const float co = (float)cos(angle), si = (float)sin(angle), reach = (float)(2.6 * radius + 14);
    struct polygon p = {0};
    float disc[3][3] = {{0}}; /* x, y, radius */
    int n_discs = 0;
    float power = 0, half_x = 0, half_y = 0; /* of a squircle */
    switch (shape) {
    case DEMO_RECTANGLE: {
        const float aspect = (float)mcs_demo_uniform(d, 1, 2.2);
        p = (struct polygon){4, {-aspect, aspect, aspect, -aspect}, {-1, -1, 1, 1}};
        break;
    }
    case DEMO_POLYGON: /* three to seven corners */
        p.n = 3 + mcs_demo_below(d, 5);
        for (int i = 0; i < p.n; i++) {
            const double a = 2 * M_PI * (i + mcs_demo_uniform(d, -0.3, 0.3)) / p.n, r = mcs_demo_uniform(d, 0.7, 1.3);
            p.x[i] = (float)(r * cos(a));
            p.y[i] = (float)(r * sin(a));
        }
        break;
    case DEMO_STAR: { /* four to seven rays */
        const int rays = 4 + mcs_demo_below(d, 4);
        const double inner = mcs_demo_uniform(d, 0.4, 0.65);
        p.n = 2 * rays;
        for (int i = 0; i < p.n; i++) {
            p.x[i] = (float)((i & 1 ? inner : 1) * cos(M_PI * i / rays));
            p.y[i] = (float)((i & 1 ? inner : 1) * sin(M_PI * i / rays));
        }
        break;
    }
    case DEMO_CRESCENT: /* a disc minus another disc */
        disc[0][2] = (float)(1.3 * radius);
        disc[1][0] = (float)(radius * mcs_demo_uniform(d, 0.6, 1.0));
        disc[1][2] = (float)(radius * mcs_demo_uniform(d, 0.9, 1.2));
        break;
    case DEMO_DISCS: /* two or three in a row or a bend */
        n_discs = 2 + mcs_demo_below(d, 2);
        for (int i = 0; i < n_discs; i++) {
            disc[i][0] = (float)(radius * (0.95 * (i - (n_discs - 1) / 2.0)));
            disc[i][1] = (float)(radius * mcs_demo_uniform(d, -0.5, 0.5));
            disc[i][2] = (float)(radius * mcs_demo_uniform(d, 0.55, 0.8));
        }
        break;
    default: { /* squircle: |x / half_x|^p + |y / half_y|^p = 1, nearly a rectangle */
        const double aspect = exp(mcs_demo_normal(d, 0.2));
        power = (float)mcs_demo_uniform(d, 3.5, 7);
        half_x = (float)(radius * 0.92 * aspect);
        half_y = (float)(radius * 0.92 / aspect);
        break;
    }
    }
    if (p.n) to_area(&p, radius);
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const float dr = (float)(i / DEMO_SIZE) - (float)row, dc = (float)(i % DEMO_SIZE) - (float)col;
        distance[i] = FAR_AWAY;
        if (dr > reach || dr < -reach || dc > reach || dc < -reach) continue;
        const float x = co * dc + si * dr, y = co * dr - si * dc;
        if (p.n) {
            distance[i] = polygon_distance(&p, x, y);
        } else if (n_discs) {
            for (int k = 0; k < n_discs; k++) {
                const float one = hypotf(x - disc[k][0], y - disc[k][1]) - disc[k][2];
                if (one < distance[i]) distance[i] = one;
            }
        } else if (shape == DEMO_CRESCENT) {
            const float a = hypotf(x, y) - disc[0][2], b = disc[1][2] - hypotf(x - disc[1][0], y - disc[1][1]);
            distance[i] = a > b ? a : b;
        } else {
            /* f = 1 on the outline and homogeneous of degree one, so (f - 1) times the mean half axis approximates the
             * distance. */
            const float f = powf(powf(fabsf(x) / half_x, power) + powf(fabsf(y) / half_y, power), 1 / power);
            distance[i] = (f - 1) * 0.5f * (half_x + half_y);
        }
    }
}

/* An atlas region as a shape: signed city-block distance to its border in pixels, negative inside. */
static void region_distance(const struct demo_scene *scene, int region, float *distance)
{
    uint8_t mask[DEMO_PIXELS], in[DEMO_PIXELS], out[DEMO_PIXELS];
    for (int i = 0; i < DEMO_PIXELS; i++) mask[i] = scene->brain[i] && scene->label[i] == region;
    mcs_demo_depth(mask, in);
    for (int i = 0; i < DEMO_PIXELS; i++) mask[i] = !mask[i];
    /* The image's border counts as the region's; it is far from the brain, which alone is painted. */
    mcs_demo_depth(mask, out);
    for (int i = 0; i < DEMO_PIXELS; i++) distance[i] = mask[i] ? (float)out[i] - 0.5f : 0.5f - (float)in[i];
}

/* Draws a region with REGION_PIXELS_MIN to `largest` pixels in the slice; 0 if there is none. */
static int pick_region(const struct demo_scene *scene, int largest, struct demo_draw *d)
{
    int count[DEMO_REGIONS] = {0}, n = 0;
    for (int i = 0; i < DEMO_PIXELS; i++)
        if (scene->brain[i]) count[scene->label[i]]++;
    for (int k = 1; k < DEMO_REGIONS; k++) n += count[k] >= REGION_PIXELS_MIN && count[k] <= largest;
    if (!n) return 0;
    int pick = mcs_demo_below(d, n);
    for (int k = 1; k < DEMO_REGIONS; k++)
        if (count[k] >= REGION_PIXELS_MIN && count[k] <= largest && pick-- == 0) return k;
    return 0;
}

static int train_slice(const struct demo_atlas *atlas, struct demo_draw *d)
{
    return atlas->slice[DEMO_TRAIN][mcs_demo_below(d, atlas->n_slices[DEMO_TRAIN])];
}

/* ---- CLIP ---- */

/* What placing and painting objects needs. */
struct canvas {
    const struct demo_atlas *atlas;
    const struct demo_config *config;
    struct demo_scene scene;
    uint8_t depth[DEMO_PIXELS], taken[DEMO_PIXELS], steps[DEMO_PIXELS];
};

/* Draws a shape in a place that keeps the config's gap to the others'; 0 where none is found. */
static int place_shape(struct canvas *v, struct demo_start_object *o, double contrast, double radius,
                       struct demo_draw *d, struct demo_look *look, float *distance)
{
    double row, col;
    mcs_demo_steps(v->taken, DEMO_SIZE, DEMO_SIZE, 1, v->steps);
    for (int t = 0; t < TRIES; t++) {
        int clear = 1;
        if (!mcs_demo_pick(v->atlas, &v->scene, v->depth, v->config->margin, -1, d, &row, &col)) return 0;
        shape_distance(o->shape, row, col, radius, d, distance);
        for (int i = 0; i < DEMO_PIXELS && clear; i++)
            clear = distance[i] >= 0 || !v->scene.brain[i] || v->steps[i] >= v->config->gap;
        if (clear && mcs_demo_contrast(&v->scene, distance, o->words.bright, contrast, v->config, look)) return 1;
    }
    return 0;
}

/* Paints one object, a tinted region where `region` is one; 0 where no place is found. */
static int add_object(struct canvas *v, int region, struct demo_draw *d, struct demo_start_object *o)
{
    const struct demo_config *c = v->config;
    float distance[DEMO_PIXELS], texture[DEMO_PIXELS];
    enum demo_side side;
    struct demo_words *w = &o->words;
    *w = (struct demo_words){.bright = mcs_demo_chance(d, c->bright),
                             .large = mcs_demo_chance(d, c->large),
                             .blurred = mcs_demo_chance(d, c->blurred),
                             .rim = mcs_demo_chance(d, c->rim) && !region,
                             .side = -1,
                             .level = (int)mcs_demo_slice_level(v->scene.z),
                             .object = 1};
    const double u = mcs_demo_uniform(d, 0, 1), contrast = mcs_demo_uniform(d, c->contrast_low, c->contrast_high);
    const double radius = w->large ? c->large_low + u * (c->large_high - c->large_low)
                                   : c->small_low + u * (c->small_high - c->small_low);
    struct demo_look look = {.edge = w->blurred ? c->edge_blurred : c->edge_sharp,
                             .rim_opacity = w->rim ? c->rim_opacity : 0,
                             .rim_depth = c->rim_depth,
                             .rim_width = c->rim_width,
                             .texture = texture};
    o->shape = region ? DEMO_REGION : (enum demo_shape)mcs_demo_below(d, DEMO_SHAPES);
    if (region) {
        region_distance(&v->scene, region, distance);
        if (!mcs_demo_contrast(&v->scene, distance, w->bright, contrast, c, &look)) {
            w->bright = !w->bright;
            mcs_demo_contrast(&v->scene, distance, w->bright, contrast, c, &look);
        }
    } else if (!place_shape(v, o, contrast, radius, d, &look, distance)) {
        return 0;
    }
    mcs_demo_field(d, TEXTURE_NODES, c->texture, texture);
    const int area = mcs_demo_paint(&v->scene, distance, &look, o->mask);
    for (int i = 0; i < DEMO_PIXELS; i++) v->taken[i] |= o->mask[i];
    /* A region's size is not drawn: it is large above the area of a disc whose radius is the geometric mean of the
     * largest small and the smallest large radius. */
    if (region) w->large = area > (int)(M_PI * c->small_high * c->large_low);
    mcs_demo_locate(v->atlas, &v->scene, o->mask, &w->region, &side, &w->lobe);
    w->side = (int)side;
    o->column[w->bright ? DEMO_COL_BRIGHT : DEMO_COL_DARK] = 1;
    o->column[w->blurred ? DEMO_COL_BLURRED : DEMO_COL_SHARP] = 1;
    o->column[w->large ? DEMO_COL_BIG : DEMO_COL_SMALL] = 1;
    o->column[DEMO_COL_RIM] = (uint8_t)w->rim;
    return 1;
}

void mcs_demo_clip_start(const struct demo_atlas *atlas, const struct demo_config *config, uint64_t seed, uint32_t id,
                         struct demo_clip_start *s)
{
    struct canvas v = {.atlas = atlas, .config = config};
    struct demo_draw slice = mcs_demo_draw("demo.start.clip.slice", seed, id, 0);
    struct demo_draw d = mcs_demo_draw("demo.start.clip.object", seed, id, 0);
    struct demo_draw lookalike = mcs_demo_draw("demo.start.clip.lookalike", seed, id, 0);
    struct demo_draw finish = mcs_demo_draw("demo.start.clip.finish", seed, id, 0);
    memset(s, 0, sizeof *s);
    s->id = id;
    s->z = train_slice(atlas, &slice);
    mcs_demo_scene_cut(atlas, config, s->z, &slice, &v.scene);
    mcs_demo_depth(v.scene.brain, v.depth);
    const double which = mcs_demo_uniform(&d, 0, 1), several = mcs_demo_uniform(&d, 0, 1);
    int region = 0, n = several < config->start_three ? 3 : several < config->start_three + config->start_two ? 2 : 1;
    if (which < config->start_none)
        n = 0;
    else if (which < config->start_none + config->start_region && (region = pick_region(&v.scene, 1500, &d)) != 0)
        n = 1;
    for (int k = 0; k < n; k++) {
        struct demo_start_object *o = &s->object[s->n_objects];
        if (add_object(&v, region, &d, o))
            s->n_objects++;
        else
            memset(o, 0, sizeof *o);
    }
    s->n_lookalikes = mcs_demo_lookalikes(config, &v.scene, v.taken, &lookalike, s->lookalike);
    mcs_demo_finish(&v.scene, config, &finish, s->image);
    mcs_demo_clip_start_caption(atlas, config, s, seed, 0, s->caption);
}

void mcs_demo_clip_start_caption(const struct demo_atlas *atlas, const struct demo_config *config,
                                 const struct demo_clip_start *s, uint64_t seed, uint32_t variant, char *caption)
{
    struct demo_draw d = mcs_demo_draw("demo.start.clip.caption", seed, s->id, variant);
    struct demo_words all[DEMO_OBJECTS];
    const int by_region = !mcs_demo_chance(&d, config->lobe), drop_level = mcs_demo_chance(&d, config->start_drop);
    for (int k = 0; k < s->n_objects; k++) {
        struct demo_words *w = &all[k];
        *w = s->object[k].words;
        w->by_region = s->object[k].shape == DEMO_REGION || by_region;
        int *const said[] = {&w->bright, &w->large, &w->blurred, &w->side};
        for (size_t i = 0; i < sizeof said / sizeof said[0]; i++)
            if (mcs_demo_chance(&d, config->start_drop)) *said[i] = -1;
        if (mcs_demo_chance(&d, config->start_drop)) w->rim = 0;
        if (drop_level) w->level = -1;
    }
    if (!s->n_objects)
        mcs_demo_caption_none(drop_level ? -1 : (int)mcs_demo_slice_level(s->z), 1, &d, caption);
    else if (s->n_objects == 1)
        mcs_demo_caption_one(atlas, &all[0], &d, caption);
    else
        mcs_demo_caption_some(all, s->n_objects, &d, caption);
}

/* ---- SAM ---- */

static void add_target(struct demo_sam_start *s, enum demo_shape shape, const uint8_t *mask)
{
    int box[4];
    const int area = mcs_demo_box(mask, box);
    if (area < 12 || s->n_targets == DEMO_TARGETS) return;
    struct demo_sam_target *t = &s->target[s->n_targets++];
    t->shape = shape;
    t->area = area;
    memcpy(t->box, box, sizeof box);
    memcpy(t->mask, mask, sizeof t->mask);
}

/* A grey that differs by at least `least` from the mean under the shape. */
static double other_grey(const struct demo_scene *scene, const float *distance, double least, struct demo_draw *d)
{
    double sum = 0, grey = 0;
    int n = 0;
    for (int i = 0; i < DEMO_PIXELS; i++)
        if (distance[i] < 3 && scene->brain[i]) {
            sum += scene->value[i];
            n++;
        }
    for (int t = 0; t < 16; t++) {
        grey = mcs_demo_uniform(d, 0.03, 1);
        if (!n || fabs(grey - sum / n) >= least) break;
    }
    return grey;
}

static struct demo_look random_look(double grey, const float *texture, struct demo_draw *d)
{
    struct demo_look look = {.level = grey, .texture = texture};
    look.edge = mcs_demo_chance(d, 0.65) ? mcs_demo_uniform(d, 0.3, 2) : mcs_demo_uniform(d, 2, 3.5);
    look.rim_opacity = mcs_demo_chance(d, 0.3) ? mcs_demo_uniform(d, 0.6, 0.95) : 0;
    look.rim_value = grey > 0.5 ? mcs_demo_uniform(d, 0, 0.3) : mcs_demo_uniform(d, 0.75, 1);
    look.rim_depth = mcs_demo_uniform(d, 0.5, 2);
    look.rim_width = mcs_demo_uniform(d, 0.8, 1.6);
    return look;
}

void mcs_demo_sam_start(const struct demo_atlas *atlas, const struct demo_config *config, uint64_t seed, uint32_t id,
                        struct demo_sam_start *s)
{
    struct demo_scene scene;
    float distance[DEMO_PIXELS], texture[DEMO_PIXELS];
    uint8_t depth[DEMO_PIXELS], mask[DEMO_PIXELS];
    struct {
        double row, col, radius;
    } placed[3];
    int n_placed = 0;
    struct demo_draw slice = mcs_demo_draw("demo.start.sam.slice", seed, id, 0);
    struct demo_draw d = mcs_demo_draw("demo.start.sam.object", seed, id, 0);
    struct demo_draw finish = mcs_demo_draw("demo.start.sam.finish", seed, id, 0);
    memset(s, 0, sizeof *s);
    s->id = id;
    s->z = train_slice(atlas, &slice);
    mcs_demo_scene_cut(atlas, config, s->z, &slice, &scene);
    mcs_demo_depth(scene.brain, depth);
    const int want = 1 + mcs_demo_below(&d, 3), wants_region = mcs_demo_chance(&d, 0.2),
              wants_brain = mcs_demo_chance(&d, 0.1);
    const int tinted = mcs_demo_chance(&d, 0.5);
    if (wants_region) { /* drawn first, so that a shape may cover it; its target is the visible part */
        const int region = pick_region(&scene, DEMO_PIXELS, &d);
        if (region) {
            region_distance(&scene, region, distance);
            mcs_demo_field(&d, TEXTURE_NODES, config->texture, texture);
            const double grey = other_grey(&scene, distance, config->contrast_low, &d);
            struct demo_look look = random_look(grey, texture, &d);
            look.rim_opacity = 0;
            if (tinted) {
                mcs_demo_paint(&scene, distance, &look, mask);
            } else {
                for (int i = 0; i < DEMO_PIXELS; i++) mask[i] = distance[i] < 0;
            }
            add_target(s, DEMO_REGION, mask);
        }
    }
    for (int k = 0; k < want; k++) {
        const enum demo_shape shape = (enum demo_shape)mcs_demo_below(&d, DEMO_SHAPES);
        const double radius = mcs_demo_chance(&d, 0.5) ? mcs_demo_uniform(&d, 4, 8) : mcs_demo_uniform(&d, 8, 19);
        double row, col;
        int clear = mcs_demo_pick(atlas, &scene, depth, 3, -1, &d, &row, &col);
        for (int j = 0; j < n_placed && clear; j++)
            clear = hypot(row - placed[j].row, col - placed[j].col) > 1.5 * (radius + placed[j].radius) + 2;
        if (!clear) continue;
        placed[n_placed].row = row;
        placed[n_placed].col = col;
        placed[n_placed++].radius = radius;
        shape_distance(shape, row, col, radius, &d, distance);
        mcs_demo_field(&d, TEXTURE_NODES, mcs_demo_uniform(&d, 0, 2) * config->texture, texture);
        const struct demo_look look = random_look(other_grey(&scene, distance, config->contrast_low, &d), texture, &d);
        mcs_demo_paint(&scene, distance, &look, mask);
        for (int t = 0; t < s->n_targets; t++) /* remove covered pixels from a region */
            for (int i = 0; i < DEMO_PIXELS; i++)
                if (mask[i] && s->target[t].shape == DEMO_REGION) s->target[t].mask[i] = 0;
        add_target(s, shape, mask);
    }
    if (s->n_targets && s->target[0].shape == DEMO_REGION && n_placed) { /* recompute the region's box and area */
        struct demo_sam_target all[DEMO_TARGETS];
        const int n = s->n_targets;
        memcpy(all, s->target, sizeof all);
        s->n_targets = 0;
        for (int t = 0; t < n; t++) add_target(s, all[t].shape, all[t].mask);
    }
    if (wants_brain || !s->n_targets) add_target(s, DEMO_BRAIN, scene.brain);
    mcs_demo_finish(&scene, config, &finish, s->image);
}
