/* Rank by text: similarity between the prompt and the image with all but one component blurred. */
#include "infer/segment.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GROW = 3 };

/* 1-D convolution of n values with a stride, edge values repeated. */
static void blur_line(const float *src, float *dst, int n, int stride, const float *kernel, int radius)
{
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int k = -radius; k <= radius; k++) {
            const int at = i + k < 0 ? 0 : i + k >= n ? n - 1 : i + k;
            sum += kernel[k + radius] * src[at * stride];
        }
        dst[i * stride] = sum;
    }
}

/* Gaussian blur of img to dst (float, the channel order of img). */
static enum mcs_status blur(const struct image *img, float sigma, float *dst)
{
    const int w = img->width, h = img->height, c = img->channels, radius = (int)ceilf(3 * sigma);
    const int64_t n = (int64_t)w * h * c;
    float *src = malloc((size_t)n * sizeof *src), *kernel = malloc((size_t)(2 * radius + 1) * sizeof *kernel), sum = 0;
    if (!src || !kernel) {
        free(src);
        free(kernel);
        return MCS_FAIL(MCS_E_NOMEM, "no memory to blur an image");
    }
    for (int k = -radius; k <= radius; k++) sum += kernel[k + radius] = expf(-0.5f * (float)(k * k) / (sigma * sigma));
    for (int k = 0; k <= 2 * radius; k++) kernel[k] /= sum;
    for (int64_t i = 0; i < n; i++) dst[i] = img->pixels[i];
    for (int y = 0; y < h; y++)
        for (int k = 0; k < c; k++)
            blur_line(dst + (int64_t)y * w * c + k, src + (int64_t)y * w * c + k, w, c, kernel, radius);
    for (int x = 0; x < w * c; x++) blur_line(src + x, dst + x, h, w * c, kernel, radius);
    free(src);
    free(kernel);
    return MCS_OK;
}

static int near_component(const int32_t *labels, int w, int h, int x, int y, int label)
{
    for (int dy = -GROW; dy <= GROW; dy++)
        for (int dx = -GROW; dx <= GROW; dx++) {
            const int u = x + dx, v = y + dy;
            if (u >= 0 && v >= 0 && u < w && v < h && dx * dx + dy * dy <= GROW * GROW && labels[v * w + u] == label)
                return 1;
        }
    return 0;
}

enum mcs_status mcs_text_rank_score(void *context, const char *stem, const struct component_list *list,
                                    const int32_t *labels, int width, int height, float *scores)
{
    struct text_rank *r = context;
    struct clip_model *m = r->clip;
    const struct image *img = r->image;
    const int c = img->channels, embed = m->config.embed, n = list->n;
    const int64_t pixels = (int64_t)m->config.image_size * m->config.image_size * 3;
    float *blurred = malloc((size_t)width * (size_t)height * (size_t)c * sizeof *blurred);
    float *prepared = malloc((size_t)(n * pixels + 1) * sizeof *prepared),
          *out = malloc((size_t)((n + 1) * embed) * sizeof *out), *text = out + (int64_t)n * embed;
    struct image alone = {0};
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(blurred && prepared && out, MCS_E_NOMEM, st, done, "%s: no memory to rank %d components", stem, n);
    MCS_TRY_GOTO(mcs_image_alloc(&alone, width, height, c), st, done);
    MCS_TRY_GOTO(blur(img, 3.0f / 32 * (float)(width > height ? width : height), blurred), st, done);
    for (int k = 0; k < n; k++) {
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                const int64_t at = ((int64_t)y * width + x) * c;
                const int keep = near_component(labels, width, height, x, y, list->items[k].label);
                for (int q = 0; q < c; q++)
                    alone.pixels[at + q] = keep ? img->pixels[at + q] : (uint8_t)lrintf(blurred[at + q]);
            }
        MCS_TRY_GOTO(mcs_clip_prepare(&m->config, &alone, r->view, prepared + k * pixels), st, done);
    }
    MCS_TRY_GOTO(mcs_clip_embed_images(m, prepared, n, 1, out), st, done);
    MCS_TRY_GOTO(mcs_clip_embed_texts(m, &r->text, 1, 1, text), st, done);
    for (int k = 0; k < n; k++) {
        scores[k] = 0;
        for (int i = 0; i < embed; i++) scores[k] += out[(int64_t)k * embed + i] * text[i];
    }
done:
    mcs_image_free(&alone);
    free(blurred);
    free(prepared);
    free(out);
    return st;
}
