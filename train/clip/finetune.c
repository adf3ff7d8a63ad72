#include "train/clip/finetune.h"

#include "engine/base/rng.h"
#include "engine/base/text_cut.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_BYTES = 1 << 30, MAX_DRAWN = 1 << 26 /* pairs whose token counts mcs_pair_source_max_rows adds up */ };

enum mcs_status mcs_pair_source_open(struct pair_source *s, const struct pairs *pairs, const struct clip_config *c,
                                     int64_t batch, double crop_low, uint64_t seed)
{
    *s = (struct pair_source){
        .pairs = pairs, .config = c, .batch = batch, .crop_low = crop_low, .seed = seed, .order_epoch = -1};
    MCS_REQUIRE(pairs->n >= batch, MCS_E_USAGE, "%d pairs are fewer than one batch of %lld; lower --batch", pairs->n,
                (long long)batch);
    s->cached = calloc((size_t)pairs->n, sizeof *s->cached);
    s->order = calloc((size_t)pairs->n, sizeof *s->order);
    MCS_REQUIRE(s->cached && s->order, MCS_E_NOMEM, "no memory for %d pairs", pairs->n);
    int64_t bytes = 0; /* cached so far */
    for (int i = 0; i < pairs->n && bytes < CACHE_BYTES; i++) {
        MCS_TRY(mcs_image_read(pairs->v[i].image, 0, &s->cached[i]));
        bytes += (int64_t)s->cached[i].width * s->cached[i].height * s->cached[i].channels;
    }
    return MCS_OK;
}

void mcs_pair_source_close(struct pair_source *s)
{
    for (int i = 0; s->cached && i < s->pairs->n; i++) mcs_image_free(&s->cached[i]);
    free(s->cached);
    free(s->order);
    s->cached = NULL;
    s->order = NULL;
}

int64_t mcs_pair_source_steps_per_epoch(const struct pair_source *s)
{
    return s->pairs->n / s->batch;
}

static void shuffle(struct pair_source *s, int64_t epoch)
{
    if (epoch != s->order_epoch)
        mcs_rng_permutation((struct mcs_rng){s->seed, mcs_rng_site("finetune.order"), 0, (uint32_t)epoch}, s->order,
                            (uint32_t)s->pairs->n);
    s->order_epoch = epoch;
}

/* ---- the largest number of token rows of a batch ---- */

static enum mcs_status count_tokens(const struct pair_source *s, const struct tokenizer *tokenizer, int *n_tokens)
{
    enum mcs_status failure = MCS_OK;
    char message[1024] = "no memory for a caption's tokens";
#pragma omp parallel
    {
        int32_t *ids = malloc((size_t)s->config->context * sizeof *ids);
#pragma omp for schedule(dynamic, 64)
        for (int i = 0; i < s->pairs->n; i++) {
            const enum mcs_status st =
                ids ? mcs_clip_encode(tokenizer, s->config, s->pairs->v[i].caption, ids, &n_tokens[i]) : MCS_E_NOMEM;
            if (st == MCS_OK) continue;
#pragma omp critical(caption_error)
            if (failure == MCS_OK) {
                failure = st;
                if (ids) mcs_text_cut(message, sizeof message, "%s", mcs_error_message());
            }
            mcs_error_clear();
        }
        free(ids);
    }
    return failure == MCS_OK ? MCS_OK : MCS_FAIL(failure, "%s", message);
}

static int descending(const void *a, const void *b)
{
    const int x = *(const int *)a, y = *(const int *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

enum mcs_status mcs_pair_source_max_rows(struct pair_source *s, const struct tokenizer *tokenizer, int64_t steps,
                                         int ranks, int64_t *rows)
{
    const int64_t per_epoch = mcs_pair_source_steps_per_epoch(s), own = s->batch / ranks;
    int *n_tokens = calloc((size_t)s->pairs->n + 1, sizeof *n_tokens);
    MCS_REQUIRE(n_tokens, MCS_E_NOMEM, "no memory for the lengths of %d captions", s->pairs->n);
    const enum mcs_status st = count_tokens(s, tokenizer, n_tokens);
    *rows = 0;
    if (st == MCS_OK && steps > MAX_DRAWN / s->batch) {
        qsort(n_tokens, (size_t)s->pairs->n, sizeof *n_tokens, descending);
        for (int64_t i = 0; i < own; i++) *rows += n_tokens[i];
    } else if (st == MCS_OK) {
        for (int64_t part = 0; part < steps * ranks; part++) {
            const int64_t step = part / ranks, first = step % per_epoch * s->batch + part % ranks * own;
            int64_t sum = 0;
            shuffle(s, step / per_epoch);
            for (int64_t i = 0; i < own; i++) sum += n_tokens[s->order[first + i]];
            if (sum > *rows) *rows = sum;
        }
    }
    free(n_tokens);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

/* ---- images ---- */

/* rect: x, y, width, height. Ten attempts as in torchvision; then the whole image (torchvision: a centre crop with the
 * aspect ratio clamped). */
static void random_rectangle(struct mcs_rng r, double crop_low, int w, int h, int rect[4])
{
    const double area = (double)w * h;
    for (uint32_t k = 0; k < 10; k++) {
        const double a = area * mcs_rng_range(r, 4 * k, crop_low, 1),
                     ratio = exp(mcs_rng_range(r, 4 * k + 1, log(3.0 / 4), log(4.0 / 3)));
        const int cw = (int)lround(sqrt(a * ratio)), ch = (int)lround(sqrt(a / ratio));
        if (cw < 1 || ch < 1 || cw > w || ch > h) continue;
        rect[0] = (int)mcs_rng_below(r, 4 * k + 2, (uint32_t)(w - cw + 1));
        rect[1] = (int)mcs_rng_below(r, 4 * k + 3, (uint32_t)(h - ch + 1));
        rect[2] = cw;
        rect[3] = ch;
        return;
    }
    rect[0] = rect[1] = 0, rect[2] = w, rect[3] = h;
}

static enum mcs_status prepare(const struct pair_source *s, uint32_t i, int64_t epoch, float *dst)
{
    struct image read = {0}, cut = {0};
    const struct image *img = &s->cached[i];
    enum mcs_status st = MCS_OK;
    if (!img->pixels) {
        MCS_TRY(mcs_image_read(s->pairs->v[i].image, 0, &read));
        img = &read;
    }
    if (s->crop_low < 1) {
        int r[4];
        random_rectangle((struct mcs_rng){s->seed, mcs_rng_site("finetune.crop"), i, (uint32_t)epoch}, s->crop_low,
                         img->width, img->height, r);
        MCS_TRY_GOTO(mcs_image_crop(img, r[0], r[1], r[2], r[3], &cut), st, done);
        img = &cut;
    }
    st = mcs_clip_prepare(s->config, img, CLIP_VIEW_WHOLE, dst);
done:
    mcs_image_free(&read);
    mcs_image_free(&cut);
    return st;
}

enum mcs_status mcs_pair_source_fill(void *source, int64_t step, struct clip_batch *b)
{
    struct pair_source *s = source;
    const int64_t per_epoch = mcs_pair_source_steps_per_epoch(s), epoch = step / per_epoch,
                  first = step % per_epoch * s->batch + b->first;
    const int64_t pixels = (int64_t)s->config->image_size * s->config->image_size * 3;
    shuffle(s, epoch);
    enum mcs_status failure = MCS_OK;
    char message[1024] = "";
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < b->n; i++) {
        const uint32_t k = s->order[first + i];
        const enum mcs_status st = prepare(s, k, epoch, b->images + i * pixels);
        b->texts[i] = s->pairs->v[k].caption;
        b->sample[i] = (int32_t)k;
        if (st == MCS_OK) continue;
#pragma omp critical /* error messages are per thread: keep the first for the caller's */
        if (failure == MCS_OK) failure = st, mcs_text_cut(message, sizeof message, "%s", mcs_error_message());
        mcs_error_clear();
    }
    return failure == MCS_OK ? MCS_OK : MCS_FAIL(failure, "%s", message);
}
