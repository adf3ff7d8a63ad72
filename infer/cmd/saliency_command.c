#include "infer/cmd/saliency_command.h"

#include "data/io/store.h"
#include "engine/base/path.h"
#include "engine/image/threshold.h"
#include "infer/requests.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TEXT_ATTRIBUTE = 32000 }; /* bytes; an attribute in HDF5's object header must be smaller than 64 KiB */

static enum mcs_status read_noise(const char *path, const struct clip_config *c, const struct saliency_options *o,
                                  struct npy *noise)
{
    const int64_t want[4] = {o->steps, o->copies, mcs_clip_tokens(c), c->v_width};
    char a[128], b[128];
    MCS_TRY(mcs_npy_read(path, noise));
    MCS_REQUIRE(mcs_array_same_shape(noise->nd, noise->dims, 4, want), MCS_E_DATA,
                "%s: is %s, want (steps, copies, tokens, channels) = %s", path,
                mcs_array_shape_text(noise->nd, noise->dims, a, sizeof a), mcs_array_shape_text(4, want, b, sizeof b));
    for (int64_t i = 0; i < noise->n_values; i++)
        MCS_REQUIRE(isfinite(noise->values[i]), MCS_E_DATA, "%s: value %lld is not finite", path, (long long)i);
    return MCS_OK;
}

/* In the order of MCS_SALIENCY_PRESETS. The released code counts blocks from 0 too; its --vvar changes nothing. */
static const struct preset {
    const char *name;
    int layer; /* -1: the last but one */
    float beta;
} presets[] = {{"none", -1, 1}, {"release-cli", 7, 0.1f}, {"release-brain", 9, 2}, {"release-breast", 9, 1}};

enum mcs_status mcs_saliency_resolve(const struct mcs_common *common, const struct saliency_flags *f,
                                     const struct clip_model *m, int n, struct npy *noise, struct saliency_options *o)
{
    const struct preset *preset = &presets[f->preset];
    const int release = common->form[MCS_FORM_SALIENCY] == MCS_RELEASE;
    MCS_REQUIRE(
        !f->preset || release, MCS_E_USAGE,
        "--preset %s is for the released code's form; add --form release (or saliency=release), or give --layer "
        "%d --beta %g instead",
        preset->name, preset->layer, (double)preset->beta);
    MCS_REQUIRE(f->beta >= 0 || f->beta == -1, MCS_E_USAGE, "--beta %g: want 0 or more, or -1 for the preset's",
                f->beta);
    *o = mcs_saliency_defaults();
    o->layer = f->layer < 0 ? preset->layer : (int)f->layer;
    o->beta = f->beta < 0 ? preset->beta : (float)f->beta;
    o->lr = (float)f->lr;
    o->steps = (int)f->steps;
    o->copies = (int)f->copies;
    o->pairs = n > 0 && n < f->pairs ? n : (int)f->pairs; /* no larger batch than there are cases */
    o->seed = (uint64_t)common->seed;
    o->view = release ? CLIP_VIEW_PROCESSOR : CLIP_VIEW_WHOLE;
    o->null_texts = f->null.v;
    o->n_null = f->null.n;
    for (int i = 0; i < f->null.n; i++) MCS_TRY(mcs_text_check(m, f->null.v[i]));
    if (!f->noise) return MCS_OK;
    MCS_TRY(read_noise(f->noise, &m->config, o, noise));
    o->noise = noise->values;
    return MCS_OK;
}

static enum mcs_status put_attributes(struct store *s, const struct mcs_common *common, const struct clip_model *m,
                                      float presence, const char *text)
{
    struct arena a = {0};
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_store_put_number(s, "presence", (double)presence), st, done);
    MCS_TRY_GOTO(strlen(text) > MAX_TEXT_ATTRIBUTE ? mcs_store_put_texts(s, "text", 1, &text)
                                                   : mcs_store_put_text(s, "text", text),
                 st, done);
    MCS_TRY_GOTO(mcs_store_put_text(s, "form", mcs_form_text(common->form, &a)), st, done);
    MCS_TRY_GOTO(mcs_store_put_number(s, "seed", (double)common->seed), st, done);
    MCS_TRY_GOTO(mcs_store_put_text(s, "weights_sha256", m->sha256), st, done);
    st = mcs_store_put_text(s, "version", MCS_VERSION);
done:
    mcs_arena_free(&a);
    return st;
}

enum mcs_status mcs_saliency_write(const struct mcs_common *common, const struct clip_model *m, const char *folder,
                                   const char *stem, const struct map2 *map, float presence, const char *text)
{
    char path[MCS_PATH_BYTES];
    struct store *s;
    struct image png;
    const int64_t n = (int64_t)map->width * map->height;
    enum mcs_status st;
    for (int64_t i = 0; i < n; i++)
        MCS_REQUIRE(isfinite(map->values[i]), MCS_E_DATA, "%s: its map has values that are not finite", stem);
    MCS_TRY(mcs_path(path, "%s/%s.h5", folder, stem));
    MCS_TRY(mcs_store_create(path, &s));
    MCS_TRY_GOTO(mcs_store_put(s, "saliency", MCS_ARRAY_F32, 2, (int64_t[]){map->height, map->width}, map->values), st,
                 done);
    MCS_TRY_GOTO(put_attributes(s, common, m, presence, text), st, done);
    st = mcs_store_commit(s);
    s = NULL;
done:
    mcs_store_close(s);
    MCS_TRY(st);
    MCS_TRY(mcs_path(path, "%s/%s.png", folder, stem));
    MCS_TRY(mcs_image_alloc(&png, map->width, map->height, 1));
    mcs_map_to_u8(map->values, n, png.pixels);
    st = mcs_image_write_png(path, &png);
    mcs_image_free(&png);
    return st;
}
