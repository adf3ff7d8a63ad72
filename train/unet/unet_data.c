#include "train/unet/unet_data.h"

#include "data/image/labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- cases ---- */

void mcs_unet_cases_init(struct unet_cases *c, int channels, int classes)
{
    *c = (struct unet_cases){.channels = channels, .classes = classes};
}

void mcs_unet_cases_free(struct unet_cases *c)
{
    for (int i = 0; i < c->n; i++) {
        free(c->items[i].bytes);
        free(c->items[i].values);
        free(c->items[i].labels);
    }
    free(c->items);
    *c = (struct unet_cases){0};
}

/* Appends a case, copies its labels and counts the pixels of each class. */
static enum mcs_status add(struct unet_cases *c, const char *name, const uint8_t *labels, int height, int width,
                           struct unet_case **made)
{
    if (c->n == c->capacity) {
        const int capacity = c->capacity ? 2 * c->capacity : 64;
        struct unet_case *items = realloc(c->items, (size_t)capacity * sizeof *items);
        MCS_REQUIRE(items, MCS_E_NOMEM, "%s: no memory for a list of %d cases", name, capacity);
        c->items = items;
        c->capacity = capacity;
    }
    const int64_t n = (int64_t)height * width;
    struct unet_case *one = &c->items[c->n];
    *one = (struct unet_case){.height = height, .width = width};
    for (int64_t i = 0; i < n; i++) {
        if (labels[i] == MCS_LABEL_IGNORED) continue;
        MCS_REQUIRE(labels[i] < c->classes, MCS_E_DATA, "%s: a label of %d where there are %d classes", name, labels[i],
                    c->classes);
        one->n_of_class[labels[i]]++;
    }
    one->labels = malloc((size_t)n);
    MCS_REQUIRE(one->labels, MCS_E_NOMEM, "%s: no memory for its labels", name);
    memcpy(one->labels, labels, (size_t)n);
    c->n++;
    *made = one;
    return MCS_OK;
}

static void set_moments(struct unet_case *one, int channel, double mean, double variance)
{
    one->mean[channel] = (float)mean;
    one->inverse_sd[channel] = (float)(1 / fmax(sqrt(variance), 1e-8));
}

enum mcs_status mcs_unet_cases_add_image(struct unet_cases *c, const char *name, const struct image *image,
                                         const uint8_t *labels)
{
    MCS_REQUIRE(image->channels == c->channels, MCS_E_DATA, "%s: has %d channels, the others have %d", name,
                image->channels, c->channels);
    struct unet_case *one;
    MCS_TRY(add(c, name, labels, image->height, image->width, &one));
    const int64_t pixels = (int64_t)image->height * image->width;
    const size_t bytes = (size_t)pixels * (size_t)c->channels;
    one->bytes = malloc(bytes);
    MCS_REQUIRE(one->bytes, MCS_E_NOMEM, "%s: no memory for the image", name);
    memcpy(one->bytes, image->pixels, bytes);
    for (int k = 0; k < c->channels; k++) {
        int64_t sum = 0, squares = 0; /* exact: at most 2^28 pixels times 255^2 */
        for (int64_t i = 0; i < pixels; i++) {
            const int64_t v = image->pixels[i * c->channels + k];
            sum += v;
            squares += v * v;
        }
        const double n = (double)pixels, mean = (double)sum / n;
        set_moments(one, k, mean, fmax((double)squares / n - mean * mean, 0));
    }
    return MCS_OK;
}

enum mcs_status mcs_unet_cases_add_volume(struct unet_cases *c, const char *name, const float *values,
                                          const uint8_t *labels, int depth, int height, int width)
{
    const int64_t plane = (int64_t)height * width, n = plane * depth;
    MCS_REQUIRE(c->channels == 1, MCS_E_DATA, "%s: a volume has one channel, the others have %d", name, c->channels);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; i++) {
        MCS_REQUIRE(isfinite(values[i]), MCS_E_DATA, "%s: voxel %lld is not finite", name, (long long)i);
        mean += (double)values[i] / (double)n;
    }
    for (int64_t i = 0; i < n; i++) variance += ((double)values[i] - mean) * ((double)values[i] - mean) / (double)n;
    for (int z = 0; z < depth; z++) {
        struct unet_case *one;
        MCS_TRY(add(c, name, labels + z * plane, height, width, &one));
        one->values = malloc((size_t)plane * sizeof(float));
        MCS_REQUIRE(one->values, MCS_E_NOMEM, "%s: no memory for slice %d", name, z);
        memcpy(one->values, values + z * plane, (size_t)plane * sizeof(float));
        set_moments(one, 0, mean, variance);
    }
    return MCS_OK;
}

/* ---- batches ---- */

enum mcs_status mcs_unet_loader_open(struct unet_loader *l)
{
    MCS_REQUIRE(l->cases->n > 0, MCS_E_USAGE, "there is nothing to draw a batch from");
    MCS_REQUIRE(l->batch > 0 && l->height > 0 && l->width > 0, MCS_E_USAGE,
                "a batch of %d patches of %d x %d; each number must be at least 1", l->batch, l->height, l->width);
    if (!l->n) l->first = 0, l->n = l->batch;
    MCS_REQUIRE(l->first >= 0 && l->n > 0 && l->first + l->n <= l->batch, MCS_E_USAGE,
                "items %d to %d are no part of a batch of %d", l->first, l->first + l->n - 1, l->batch);
    mcs_augment_loader_size(&l->augment, l->height, l->width, l->loader_size);
    const size_t n = (size_t)l->n, pixels = n * (size_t)l->loader_size[0] * (size_t)l->loader_size[1],
                 values = pixels * (size_t)l->cases->channels;
    l->memory = malloc(n * sizeof *l->draws + values * sizeof *l->patches + pixels * sizeof *l->patch_labels);
    MCS_REQUIRE(l->memory, MCS_E_NOMEM, "no memory for a batch of %d patches of %d x %d", l->batch, l->loader_size[0],
                l->loader_size[1]);
    l->draws = l->memory;
    l->patches = (float *)(l->draws + n);
    l->patch_labels = (int32_t *)(l->patches + values);
    return MCS_OK;
}

void mcs_unet_loader_close(struct unet_loader *l)
{
    free(l->memory);
    l->memory = NULL;
}

static struct mcs_rng item_key(const struct unet_loader *l, const char *site, int64_t step, int item)
{
    return (struct mcs_rng){l->seed, mcs_rng_site(site), (uint32_t)item, (uint32_t)step};
}

/* Index of the k-th pixel of a class in raster order. */
static int64_t find_pixel(const struct unet_case *c, int wanted, int64_t k)
{
    const int64_t n = (int64_t)c->height * c->width;
    for (int64_t i = 0; i < n; i++)
        if (c->labels[i] == wanted && k-- == 0) return i;
    return 0;
}

/* By how much a patch may extend outside of the image, both ends together. */
static int64_t margin(int64_t size, int64_t patch, int64_t network)
{
    return size < network ? patch - size : patch - network;
}

/* Uniform upper left coordinate; the patch extends outside of the image by at most half of patch - network, or by as
 * much as a smaller image needs. */
static int64_t random_corner(struct mcs_rng key, uint32_t index, int64_t size, int64_t patch, int64_t network)
{
    const int64_t more = margin(size, patch, network), lo = -((more + 1) / 2), hi = size + more / 2 + more % 2 - patch;
    return lo + (int64_t)mcs_rng_below(key, index, (uint32_t)(hi - lo + 1));
}

/* The least coordinate that random_corner returns. */
static int64_t least_corner(int64_t size, int64_t patch, int64_t network)
{
    return -((margin(size, patch, network) + 1) / 2);
}

/* A foreground class of the case, all equally likely; 0 if it has none. */
static int draw_class(const struct unet_cases *cases, const struct unet_case *c, struct mcs_rng key)
{
    int present[UNET_MAX_CLASSES], n = 0;
    for (int k = 1; k < cases->classes; k++)
        if (c->n_of_class[k]) present[n++] = k;
    return n ? present[mcs_rng_below(key, 3, (uint32_t)n)] : 0;
}

static void copy_patch(const struct unet_cases *cases, const struct unet_case *c, const int64_t corner[2],
                       const struct augment_patch *patch)
{
    const int ch = cases->channels;
    for (int y = 0; y < patch->height; y++) {
        const int64_t sy = y + corner[0];
        float *to = patch->image + (int64_t)y * patch->width * ch;
        int32_t *label = patch->label + (int64_t)y * patch->width;
        for (int x = 0; x < patch->width; x++) {
            const int64_t sx = x + corner[1], at = sy * c->width + sx;
            const int inside = sy >= 0 && sy < c->height && sx >= 0 && sx < c->width;
            label[x] = inside && c->labels[at] != MCS_LABEL_IGNORED ? c->labels[at] : -1;
            for (int k = 0; k < ch; k++) {
                const float v = !inside ? 0 : c->bytes ? c->bytes[at * ch + k] : c->values[at * ch + k];
                to[x * ch + k] = inside ? (v - c->mean[k]) * c->inverse_sd[k] : 0;
            }
        }
    }
}

void mcs_unet_loader_patch(const struct unet_loader *l, int64_t step, int item, const struct augment_patch *patch,
                           int *which, int64_t corner[2])
{
    const struct mcs_rng key = item_key(l, "unet.patch", step, item);
    const int i = (int)mcs_rng_below(key, 0, (uint32_t)l->cases->n);
    const struct unet_case *c = &l->cases->items[i];
    const int64_t size[2] = {c->height, c->width}, network[2] = {l->height, l->width};
    const int forced = item >= (int)nearbyint(l->batch * (1 - l->foreground));
    const int wanted = forced ? draw_class(l->cases, c, key) : 0;
    int64_t at[2];
    if (wanted) {
        const int64_t pixel = find_pixel(c, wanted, mcs_rng_below(key, 4, (uint32_t)c->n_of_class[wanted]));
        at[0] = pixel / c->width, at[1] = pixel % c->width;
    }
    for (int a = 0; a < 2; a++) {
        const int64_t least = least_corner(size[a], l->loader_size[a], network[a]);
        if (wanted) {
            at[a] -= l->loader_size[a] / 2;
            at[a] = at[a] < least ? least : at[a];
        } else
            at[a] = random_corner(key, 1 + (uint32_t)a, size[a], l->loader_size[a], network[a]);
    }
    copy_patch(l->cases, c, at, patch);
    if (which) *which = i;
    if (corner) memcpy(corner, at, sizeof at);
}

void mcs_unet_loader_load(const struct unet_loader *l, int64_t step)
{
    const int64_t pixels = (int64_t)l->loader_size[0] * l->loader_size[1];
    const int ch = l->cases->channels;
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < l->n; i++) {
        const int item = l->first + i;
        const struct augment_patch patch = {l->loader_size[0], l->loader_size[1], ch, l->patches + i * pixels * ch,
                                            l->patch_labels + i * pixels};
        mcs_unet_loader_patch(l, step, item, &patch, NULL, NULL);
        mcs_augment_draw(&l->augment, item_key(l, "unet.augment", step, item), ch, &l->draws[i]);
    }
}
