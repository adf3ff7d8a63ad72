#include "data/lesions/demo_sample.h"

#include <math.h>
#include <string.h>

enum { TEXTURE_NODES = 24, TRIES = 96, LEAST_AREA = 24 };

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

/* What placing and painting lesions needs. */
struct canvas {
    const struct demo_atlas *atlas;
    const struct demo_config *config;
    struct demo_scene scene;
    uint8_t depth[DEMO_PIXELS]; /* to the brain's edge */
    uint8_t taken[DEMO_PIXELS]; /* 1: a lesion's pixel */
    uint8_t steps[DEMO_PIXELS]; /* to the nearest of these */
    struct demo_outline outline[DEMO_LESIONS];
};

/* Draws a lesion's attributes; its place is drawn later. Returns the contrast's place in its range, 0..1. */
static double draw_lesion(const struct demo_config *c, enum demo_kind kind, struct demo_draw *d, struct demo_lesion *l)
{
    l->large = mcs_demo_chance(d, c->large);
    l->bright = mcs_demo_chance(d, c->bright);
    l->blurred = mcs_demo_chance(d, c->blurred);
    l->rim = mcs_demo_chance(d, c->rim);
    l->form = mcs_demo_chance(d, c->irregular) ? DEMO_IRREGULAR : DEMO_SMOOTH;
    const int cluster = mcs_demo_chance(d, c->cluster);
    if (kind == DEMO_UNSEEN) l->form = cluster ? DEMO_CLUSTER : DEMO_WEDGE;
    const double u = mcs_demo_uniform(d, 0, 1), v = mcs_demo_uniform(d, 0, 1);
    l->radius = l->large ? c->large_low + u * (c->large_high - c->large_low)
                         : c->small_low + u * (c->small_high - c->small_low);
    return v;
}

/* A pixel of the brain's edge on that side (either side: -1), and the direction outwards from the brain's centre. */
static int pick_edge(const struct canvas *v, int side, struct demo_draw *d, double *row, double *col, double *outwards)
{
    uint8_t edge[DEMO_PIXELS];
    double r = 0, c = 0;
    int n = 0;
    for (int i = 0; i < DEMO_PIXELS; i++) {
        edge[i] = v->depth[i] == 1;
        if (!v->depth[i]) continue;
        r += i / DEMO_SIZE;
        c += i % DEMO_SIZE;
        n++;
    }
    if (!n || !mcs_demo_pick(v->atlas, &v->scene, edge, 0, side, d, row, col)) return 0;
    *outwards = atan2(*row - r / n, *col - c / n);
    return 1;
}

/* Draws a place and an outline; 0 where there is none on that side. */
static int draw_place(const struct canvas *v, int side, struct demo_draw *d, struct demo_lesion *l,
                      struct demo_outline *o)
{
    double outwards = 0;
    const int found = l->form == DEMO_WEDGE
                          ? pick_edge(v, side, d, &l->row, &l->col, &outwards)
                          : mcs_demo_pick(v->atlas, &v->scene, v->depth, v->config->margin, side, d, &l->row, &l->col);
    if (found) *o = mcs_demo_outline_draw(v->config, l->form, l->row, l->col, l->radius, outwards, d);
    return found;
}

/* 1: the outline has pixels enough, all of them away from the lesions before it. */
static int is_clear(const struct canvas *v, const float *distance)
{
    int area = 0;
    for (int i = 0; i < DEMO_PIXELS; i++) {
        if (distance[i] >= 0 || !v->scene.brain[i]) continue;
        if (v->steps[i] < v->config->gap) return 0;
        area++;
    }
    return area >= LEAST_AREA;
}

/* Places and paints a lesion: on a side unless -1. After half the tries it becomes small and may be anywhere. Returns 0
 * where no place is found; with `must` the last place is taken, without the pixels of other lesions. */
static int add_lesion(struct canvas *v, int side, double contrast, int must, struct demo_draw *d, struct demo_lesion *l,
                      struct demo_outline *outline, uint8_t *truth)
{
    const struct demo_config *c = v->config;
    float distance[DEMO_PIXELS], texture[DEMO_PIXELS];
    struct demo_look look = {.edge = l->blurred ? c->edge_blurred : c->edge_sharp,
                             .rim_opacity = l->rim ? c->rim_opacity : 0,
                             .rim_depth = c->rim_depth,
                             .rim_width = c->rim_width,
                             .texture = texture};
    const double wanted = c->contrast_low + contrast * (c->contrast_high - c->contrast_low);
    int found = 0;
    mcs_demo_steps(v->taken, DEMO_SIZE, DEMO_SIZE, 1, v->steps);
    for (int t = 0; t < TRIES && !found; t++) {
        if (t == TRIES / 2) {
            l->large = 0;
            l->radius = c->small_low;
        }
        if (!draw_place(v, t < TRIES / 2 ? side : -1, d, l, outline)) continue;
        mcs_demo_outline_distance(outline, distance);
        found = is_clear(v, distance) && mcs_demo_contrast(&v->scene, distance, l->bright, wanted, c, &look);
    }
    if (!found && !must) return 0;
    if (!found) {
        l->row = l->col = DEMO_SIZE / 2;
        *outline = mcs_demo_outline_draw(c, DEMO_SMOOTH, l->row, l->col, l->radius, 0, d);
        l->form = DEMO_SMOOTH;
        mcs_demo_outline_distance(outline, distance);
        for (int i = 0; i < DEMO_PIXELS; i++)
            if (v->steps[i] < c->gap) distance[i] = 1e3f;
        look.level = l->bright ? 0.97 : 0.03;
        look.rim_value = 1 - look.level;
    }
    l->grey = look.level;
    mcs_demo_field(d, TEXTURE_NODES, c->texture, texture);
    mcs_demo_paint(&v->scene, distance, &look, truth);
    for (int i = 0; i < DEMO_PIXELS; i++) v->taken[i] |= truth[i];
    mcs_demo_locate(v->atlas, &v->scene, truth, &l->region, &l->side, &l->lobe);
    return 1;
}

/* Draws how many lesions of a kind an image has. */
static int draw_number(const struct demo_config *c, enum demo_kind kind, struct demo_draw *d)
{
    const double u = mcs_demo_uniform(d, 0, 1);
    switch (kind) {
    case DEMO_NONE: return 0;
    case DEMO_TWO: return 2;
    case DEMO_UNSEEN: return u < c->unseen_two ? 2 : 1;
    default: return u < c->three ? 3 : u < c->three + c->two ? 2 : 1;
    }
}

static void add_lesions(struct canvas *v, int n, struct demo_draw *d, struct demo_sample *s)
{
    const int first_side = mcs_demo_below(d, 2);
    for (int i = 0; i < n; i++) {
        struct demo_lesion *l = &s->lesion[s->n_lesions];
        const double contrast = draw_lesion(v->config, s->kind, d, l);
        const int two = s->kind == DEMO_TWO;
        if (two && i) l->bright = !s->lesion[0].bright;
        if (add_lesion(v, two ? first_side ^ i : -1, contrast, two || !i, d, l, &v->outline[s->n_lesions],
                       s->truth[s->n_lesions]))
            s->n_lesions++;
        else
            memset(l, 0, sizeof *l);
    }
}

/* Which of three lesions has the largest is random, but the first is placed first: they are stored in random order. */
static void shuffle(struct canvas *v, struct demo_draw *d, struct demo_sample *s)
{
    for (int i = s->n_lesions - 1; i > 0; i--) {
        const int j = mcs_demo_below(d, i + 1);
        const struct demo_lesion l = s->lesion[i];
        const struct demo_outline o = v->outline[i];
        uint8_t mask[DEMO_PIXELS];
        memcpy(mask, s->truth[i], sizeof mask);
        s->lesion[i] = s->lesion[j];
        v->outline[i] = v->outline[j];
        memcpy(s->truth[i], s->truth[j], sizeof mask);
        s->lesion[j] = l;
        v->outline[j] = o;
        memcpy(s->truth[j], mask, sizeof mask);
    }
}

void mcs_demo_lesion_sample(const struct demo_atlas *atlas, const struct demo_config *config, enum demo_split split,
                            enum demo_kind kind, uint64_t seed, uint32_t id, struct demo_sample *s)
{
    struct canvas v = {.atlas = atlas, .config = config};
    float distance[DEMO_PIXELS];
    struct demo_draw slice = mcs_demo_draw("demo.slice", seed, id, (uint32_t)split);
    struct demo_draw lesion = mcs_demo_draw("demo.lesion", seed, id, (uint32_t)split);
    struct demo_draw lookalike = mcs_demo_draw("demo.lookalike", seed, id, (uint32_t)split);
    struct demo_draw finish = mcs_demo_draw("demo.finish", seed, id, (uint32_t)split);
    memset(s, 0, sizeof *s);
    s->id = id;
    s->split = split;
    s->z = atlas->slice[split][mcs_demo_below(&slice, atlas->n_slices[split])];
    s->level = mcs_demo_slice_level(s->z);
    const double which = mcs_demo_uniform(&slice, 0, 1);
    if (kind == DEMO_MIXED) kind = which < config->without ? DEMO_NONE : DEMO_SOME;
    s->kind = kind == DEMO_UNSEEN && split != DEMO_TEST ? DEMO_SOME : kind;
    mcs_demo_scene_cut(atlas, config, s->z, &slice, &v.scene);
    memcpy(s->brain, v.scene.brain, sizeof s->brain);
    memcpy(s->label, v.scene.label, sizeof s->label);
    mcs_demo_depth(v.scene.brain, v.depth);
    add_lesions(&v, draw_number(config, s->kind, &lesion), &lesion, s);
    shuffle(&v, &lesion, s);
    s->n_lookalikes = mcs_demo_lookalikes(config, &v.scene, v.taken, &lookalike, s->lookalike);
    s->noise = mcs_demo_finish(&v.scene, config, &finish, s->image);
    for (int i = 0; i < s->n_lesions; i++) {
        struct demo_lesion *l = &s->lesion[i];
        mcs_demo_outline_distance(&v.outline[i], distance);
        measure(l, s, s->truth[i], distance);
        for (int p = 0; p < DEMO_PROMPT_LEVELS; p++) mcs_demo_lesion_prompt(l, (enum demo_prompt_level)p, l->prompt[p]);
    }
    mcs_demo_lesion_caption(atlas, config, s, seed, 0, s->caption);
}

/* ---- texts ---- */

void mcs_demo_lesion_caption(const struct demo_atlas *atlas, const struct demo_config *config,
                             const struct demo_sample *s, uint64_t seed, uint32_t variant, char *caption)
{
    struct demo_draw d = mcs_demo_draw("demo.caption", seed, s->id, (uint32_t)s->split + variant * DEMO_SPLITS);
    struct demo_words w[DEMO_LESIONS];
    for (int i = 0; i < s->n_lesions; i++) w[i] = words_of(&s->lesion[i], s->level);
    if (s->n_lesions == 1) {
        w[0].by_region = !mcs_demo_chance(&d, config->lobe);
        mcs_demo_caption_one(atlas, &w[0], &d, caption);
    } else if (s->n_lesions) {
        mcs_demo_caption_some(w, s->n_lesions, &d, caption);
    } else {
        mcs_demo_caption_none((int)s->level, 0, &d, caption);
    }
}

void mcs_demo_lesion_prompt(const struct demo_lesion *l, enum demo_prompt_level level, char *prompt)
{
    const struct demo_words w = words_of(l, DEMO_MIDDLE); /* prompts do not name the slice's level */
    mcs_demo_prompt(&w, level, prompt);
}

static int describes(const struct demo_lesion *asked, enum demo_prompt_level level, const struct demo_lesion *l)
{
    if (level >= DEMO_PROMPT_LOOK && (l->bright != asked->bright || l->large != asked->large ||
                                      l->blurred != asked->blurred || (asked->rim && !l->rim)))
        return 0;
    return level < DEMO_PROMPT_LOOK_PLACE || (l->side == asked->side && l->lobe == asked->lobe);
}

unsigned mcs_demo_prompt_truth(const struct demo_sample *s, int k, enum demo_prompt_level level, uint8_t *truth)
{
    unsigned described = 0;
    memset(truth, 0, DEMO_PIXELS);
    for (int j = 0; j < s->n_lesions; j++) {
        if (!describes(&s->lesion[k], level, &s->lesion[j])) continue;
        described |= 1u << j;
        for (int i = 0; i < DEMO_PIXELS; i++) truth[i] |= s->truth[j][i];
    }
    return described;
}
