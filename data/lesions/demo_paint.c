#include "data/lesions/demo_paint.h"

#include <math.h>
#include <string.h>

enum { NODES_MAX = 32, WARP_NODES = 5, BIAS_NODES = 3 };
static const float LOCAL_PIXELS = 4; /* how far around a shape its local mean reaches */
static const double GREY_LOW = 0.03, GREY_HIGH = 0.97;
static const float CENTRE_X = 90, CENTRE_Y = 109; /* voxel at the centre of the image */
static const float MIDDLE = (DEMO_SIZE - 1) / 2.0f;

/* ---- draws ---- */

struct demo_draw mcs_demo_draw(const char *site, uint64_t seed, uint32_t sample, uint32_t step)
{
    return (struct demo_draw){{.seed = seed, .site = mcs_rng_site(site), .sample = sample, .step = step}, 0};
}

double mcs_demo_uniform(struct demo_draw *d, double low, double high)
{
    return mcs_rng_range(d->rng, d->next++, low, high);
}

double mcs_demo_normal(struct demo_draw *d, double sigma)
{
    return sigma * mcs_rng_normal(d->rng, d->next++);
}

int mcs_demo_below(struct demo_draw *d, int n)
{
    return (int)mcs_rng_below(d->rng, d->next++, (uint32_t)n);
}

int mcs_demo_chance(struct demo_draw *d, double share)
{
    return mcs_rng_uniform(d->rng, d->next++) < share;
}

/* ---- smooth fields ---- */

static float cubic_weight(float t)
{
    const float a = -0.5f;
    t = fabsf(t);
    if (t <= 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
    if (t < 2) return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a;
    return 0;
}

void mcs_demo_field(struct demo_draw *draw, int n, double sigma, float *field)
{
    float node[NODES_MAX * NODES_MAX], rows[NODES_MAX * DEMO_SIZE];
    float weight[DEMO_SIZE][4];
    int tap[DEMO_SIZE][4];
    for (int i = 0; i < n * n; i++) node[i] = (float)mcs_demo_normal(draw, sigma);
    for (int i = 0; i < DEMO_SIZE; i++) {
        const float at = (float)i / (DEMO_SIZE - 1) * (float)(n - 1);
        const int base = (int)floorf(at);
        for (int k = 0; k < 4; k++) {
            const int j = base - 1 + k;
            tap[i][k] = j < 0 ? 0 : j >= n ? n - 1 : j;
            weight[i][k] = cubic_weight(at - (float)j);
        }
    }
    for (int r = 0; r < n; r++)
        for (int c = 0; c < DEMO_SIZE; c++) {
            float s = 0;
            for (int k = 0; k < 4; k++) s += weight[c][k] * node[r * n + tap[c][k]];
            rows[r * DEMO_SIZE + c] = s;
        }
    for (int r = 0; r < DEMO_SIZE; r++) {
        const float *w = weight[r];
        const float *a = rows + tap[r][0] * DEMO_SIZE, *b = rows + tap[r][1] * DEMO_SIZE;
        const float *c = rows + tap[r][2] * DEMO_SIZE, *d = rows + tap[r][3] * DEMO_SIZE;
        float *out = field + r * DEMO_SIZE;
        for (int i = 0; i < DEMO_SIZE; i++) out[i] = w[0] * a[i] + w[1] * b[i] + w[2] * c[i] + w[3] * d[i];
    }
}

/* ---- the slice ---- */

void mcs_demo_scene_cut(const struct demo_atlas *atlas, const struct demo_config *config, int z, struct demo_draw *draw,
                        struct demo_scene *scene)
{
    const int nx = atlas->nx, ny = atlas->ny;
    const int64_t plane = (int64_t)(z - DEMO_Z_LOW) * nx * ny;
    const float *value = atlas->value + plane;
    const uint8_t *label = atlas->label + plane, *brain = atlas->brain + plane;
    float dx[DEMO_PIXELS], dy[DEMO_PIXELS];
    const double angle = mcs_demo_normal(draw, config->rotation_degrees) * M_PI / 180;
    const float sx = (float)(exp(mcs_demo_normal(draw, config->log_scale)) * DEMO_PIXEL_MM);
    const float sy = (float)(exp(mcs_demo_normal(draw, config->log_scale)) * DEMO_PIXEL_MM);
    const float tx = (float)mcs_demo_normal(draw, config->shift_mm),
                ty = (float)mcs_demo_normal(draw, config->shift_mm);
    const float co = (float)cos(angle), si = (float)sin(angle);
    mcs_demo_field(draw, WARP_NODES, config->warp_mm, dx);
    mcs_demo_field(draw, WARP_NODES, config->warp_mm, dy);
    scene->z = z;
    for (int r = 0; r < DEMO_SIZE; r++)
        for (int c = 0; c < DEMO_SIZE; c++) {
            const int i = r * DEMO_SIZE + c;
            const float px = ((float)c - MIDDLE) * sx, py = ((float)r - MIDDLE) * sy;
            const float x = CENTRE_X + co * px - si * py + tx + dx[i];
            const float y = CENTRE_Y - (si * px + co * py + ty + dy[i]); /* rows increase to the back, y to the front */
            scene->value[i] = 0;
            scene->brain[i] = scene->label[i] = 0;
            if (!(x >= 0 && y >= 0 && x < (float)(nx - 1) && y < (float)(ny - 1))) continue;
            const int x0 = (int)x, y0 = (int)y, at = y0 * nx + x0;
            const float fx = x - (float)x0, fy = y - (float)y0;
            const float top = value[at] + fx * (value[at + 1] - value[at]);
            const float low = value[at + nx] + fx * (value[at + nx + 1] - value[at + nx]);
            const int near = at + (fx >= 0.5f) + (fy >= 0.5f ? nx : 0);
            scene->value[i] = top + fy * (low - top);
            scene->brain[i] = brain[near];
            scene->label[i] = label[near];
        }
}

/* ---- shapes ---- */

int mcs_demo_paint(struct demo_scene *scene, const float *distance, const struct demo_look *look, uint8_t *mask)
{
    const float scale = (float)(1 / (0.55 * look->edge)), level = (float)look->level;
    const float far = 8 / scale + 1; /* opacity below 4e-4 there */
    const float depth = (float)look->rim_depth, rim_scale = (float)(-0.5 / (look->rim_width * look->rim_width));
    int area = 0;
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const float d = distance[i];
        const int inside = d < 0 && scene->brain[i];
        mask[i] = (uint8_t)inside;
        area += inside;
        if (d > far || !scene->brain[i]) continue;
        const float alpha = d < -far ? 1 : 1 / (1 + expf(d * scale));
        const float grey = level + look->texture[i];
        float v = scene->value[i] + alpha * (grey - scene->value[i]);
        if (look->rim_opacity > 0 && fabsf(d + depth) < 4 * (float)look->rim_width) {
            const float rim = (float)look->rim_opacity * expf(rim_scale * (d + depth) * (d + depth));
            v += rim * ((float)look->rim_value - v);
        }
        scene->value[i] = v;
    }
    return area;
}

int mcs_demo_contrast(const struct demo_scene *scene, const float *distance, int bright, double contrast,
                      const struct demo_config *config, struct demo_look *look)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < DEMO_PIXELS; i++)
        if (distance[i] < LOCAL_PIXELS && scene->brain[i]) {
            sum += (double)scene->value[i];
            n++;
        }
    const double mean = n ? sum / n : 0, room = bright ? GREY_HIGH - mean : mean - GREY_LOW;
    if (!n || room < config->contrast_low) return 0;
    const double step = (bright ? 1 : -1) * fmin(contrast, room);
    look->level = mean + step;
    look->rim_value = fmin(fmax(mean - config->rim_contrast * step, GREY_LOW), GREY_HIGH);
    return 1;
}

double mcs_demo_finish(const struct demo_scene *scene, const struct demo_config *config, struct demo_draw *draw,
                       uint8_t *image)
{
    float bias[DEMO_PIXELS], noise[DEMO_PIXELS];
    const float log_gain = (float)mcs_demo_normal(draw, config->gain);
    const float sigma = (float)mcs_demo_uniform(draw, config->noise_low, config->noise_high);
    mcs_demo_field(draw, BIAS_NODES, config->bias, bias);
    mcs_rng_fill_normal(draw->rng, noise, DEMO_PIXELS);
    for (int i = 0; i < DEMO_PIXELS; i++) {
        float v = scene->value[i] * expf(bias[i] + log_gain) + sigma * noise[i];
        v = v > 0 ? (v < 1 ? v : 1) : 0;
        image[i] = (uint8_t)(v * 255 + 0.5f);
    }
    return sigma;
}

/* ---- places ---- */

void mcs_demo_depth(const uint8_t *brain, uint8_t *depth)
{
    mcs_demo_steps(brain, DEMO_SIZE, DEMO_SIZE, 0, depth);
}

int mcs_demo_pick(const struct demo_atlas *atlas, const struct demo_scene *scene, const uint8_t *depth, double margin,
                  int side, struct demo_draw *draw, double *row, double *col)
{
    int n = 0;
    for (int i = 0; i < DEMO_PIXELS; i++)
        n += depth[i] > margin && (side < 0 || (int)atlas->region[scene->label[i]].side == side);
    if (!n) return 0;
    int k = mcs_demo_below(draw, n);
    for (int i = 0; i < DEMO_PIXELS; i++)
        if (depth[i] > margin && (side < 0 || (int)atlas->region[scene->label[i]].side == side) && k-- == 0) {
            *row = i / DEMO_SIZE + mcs_demo_uniform(draw, -0.5, 0.5);
            *col = i % DEMO_SIZE + mcs_demo_uniform(draw, -0.5, 0.5);
            break;
        }
    return 1;
}

int mcs_demo_box(const uint8_t *mask, int box[4])
{
    int area = 0, x0 = DEMO_SIZE, y0 = DEMO_SIZE, x1 = -1, y1 = -1;
    for (int i = 0; i < DEMO_PIXELS; i++) {
        const int x = i % DEMO_SIZE, y = i / DEMO_SIZE;
        if (!mask[i]) continue;
        area++;
        x0 = x < x0 ? x : x0;
        x1 = x > x1 ? x : x1;
        y0 = y < y0 ? y : y0;
        y1 = y > y1 ? y : y1;
    }
    memcpy(box, (int[4]){x0, y0, x1, y1}, 4 * sizeof *box);
    return area;
}

void mcs_demo_locate(const struct demo_atlas *atlas, const struct demo_scene *scene, const uint8_t *mask, int *region,
                     enum demo_side *side, enum demo_lobe *lobe)
{
    int count[DEMO_REGIONS] = {0}, on[DEMO_SIDES] = {0}, total = 0, best = 0;
    for (int i = 0; i < DEMO_PIXELS; i++)
        if (mask[i] && scene->label[i]) {
            count[scene->label[i]]++;
            on[atlas->region[scene->label[i]].side]++;
            total++;
        }
    for (int k = 1; k < DEMO_REGIONS; k++)
        if (count[k] > count[best]) best = k;
    *region = best;
    *lobe = atlas->region[best].lobe;
    *side = DEMO_MIDLINE;
    for (int s = DEMO_LEFT; s <= DEMO_RIGHT; s++)
        if (10 * on[s] >= 7 * total && total) *side = (enum demo_side)s;
}
