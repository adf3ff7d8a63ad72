#include "infer/sam/sam_embedding.h"

#include "data/io/file.h"
#include "data/weights/weight_file.h"
#include "data/weights/weight_write.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char TENSOR[] = "image_embedding";

/* The metadata of an image's embedding. */
struct identity {
    char size[32], sha256[65];
};

static struct identity identify(const struct image *img)
{
    struct identity id;
    snprintf(id.size, sizeof id.size, "%d %d", img->width, img->height);
    mcs_sha256(img->pixels, (int64_t)img->width * img->height * img->channels, id.sha256);
    return id;
}

/* src (rows,columns) -> dst (columns,rows). */
static void transpose(const float *src, int64_t rows, int64_t columns, float *dst)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < columns; k++) dst[k * rows + i] = src[i * columns + k];
}

enum mcs_status mcs_sam_embedding_write(const char *folder, const char *stem, const struct sam_model *m,
                                        const struct image *img, const float *embedding)
{
    const int64_t grid = mcs_sam_grid(&m->config), embed = m->config.embed;
    const struct identity id = identify(img);
    const char *const meta[][2] = {{"mcsam", "an image embedding of SAM"},
                                   {"model_sha256", m->sha256},
                                   {"preprocess", mcs_sam_preprocess_name(m->config.preprocess)},
                                   {"image_size", id.size},
                                   {"image_sha256", id.sha256}};
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/%s.safetensors", folder, stem));
    float *values = malloc((size_t)(grid * grid * embed) * sizeof *values);
    MCS_REQUIRE(values, MCS_E_NOMEM, "%s: no memory to write it", path);
    transpose(embedding, grid * grid, embed, values);
    const struct weight_out out = {
        .name = TENSOR, .type = MCS_ARRAY_F32, .nd = 4, .dims = {1, embed, grid, grid}, .values = values};
    const enum mcs_status st = mcs_safetensors_write(path, 1, &out, 5, meta);
    free(values);
    return st;
}

/* E_DATA unless the file's metadata has this value. */
static enum mcs_status check(const struct weight_file *f, const char *key, const char *want, const char *what)
{
    const char *have = mcs_weight_file_metadata(f, key);
    MCS_REQUIRE(have, MCS_E_DATA, "%s: no embedding that --save-embeddings wrote: its metadata has no %s",
                mcs_weight_file_path(f), key);
    MCS_REQUIRE(!strcmp(have, want), MCS_E_DATA,
                "%s: the embedding is of another %s (%s is %.80s, here %s); make it again with --save-embeddings",
                mcs_weight_file_path(f), what, key, have, want);
    return MCS_OK;
}

static enum mcs_status read_file(const struct weight_file *f, const struct sam_model *m, const struct image *img,
                                 float *dst)
{
    const int64_t grid = mcs_sam_grid(&m->config), embed = m->config.embed, n = grid * grid * embed,
                  dims[] = {1, embed, grid, grid};
    const struct identity id = identify(img);
    MCS_TRY(check(f, "model_sha256", m->sha256, "model"));
    MCS_TRY(check(f, "preprocess", mcs_sam_preprocess_name(m->config.preprocess), "preparation"));
    MCS_TRY(check(f, "image_size", id.size, "image"));
    MCS_TRY(check(f, "image_sha256", id.sha256, "image"));
    float *values = malloc((size_t)n * sizeof *values);
    MCS_REQUIRE(values, MCS_E_NOMEM, "%s: no memory to read it", mcs_weight_file_path(f));
    enum mcs_status st = mcs_weight_file_read_f32(f, TENSOR, 4, dims, values);
    for (int64_t i = 0; st == MCS_OK && i < n; i++)
        MCS_REQUIRE_GOTO(isfinite(values[i]), MCS_E_DATA, st, done, "%s: value %lld of %s is not finite",
                         mcs_weight_file_path(f), (long long)i, TENSOR);
    if (st == MCS_OK && dst) transpose(values, embed, grid * grid, dst);
done:
    free(values);
    return st;
}

enum mcs_status mcs_sam_embedding_read(const char *folder, const char *stem, const struct sam_model *m,
                                       const struct image *img, float *dst)
{
    struct weight_file *f;
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/%s.safetensors", folder, stem));
    MCS_REQUIRE(mcs_file_exists(path), MCS_E_NOINPUT, "%s: no embedding of this image; --save-embeddings writes one",
                path);
    MCS_TRY(mcs_weight_file_open(path, &f));
    const enum mcs_status st = read_file(f, m, img, dst);
    mcs_weight_file_close(f);
    return st;
}

enum mcs_status mcs_sam_embed(struct sam_model *m, const struct sam_embeddings *e, const char *const *stems,
                              const struct image *const *images, int n, float *pixels, struct sam_frame *frames,
                              float *dst)
{
    const struct backend *b = m->device->backend;
    const int64_t size = 3 * (int64_t)m->config.image_size * m->config.image_size,
                  values = mcs_sam_embedding_values(&m->config), bytes = values * (int64_t)sizeof(float);
    enum mcs_status st = MCS_OK;
    if (!e->load) {
        for (int i = 0; i < n; i++) MCS_TRY(mcs_sam_prepare(&m->config, images[i], pixels + i * size, &frames[i]));
        MCS_TRY(mcs_sam_encode_on_device(m, pixels, n, dst));
        if (!e->save) return MCS_OK;
    }
    float *host = malloc((size_t)bytes);
    MCS_REQUIRE(host, MCS_E_NOMEM, "no memory for an image's embedding");
    for (int i = 0; i < n; i++) {
        if (e->load) {
            frames[i] = mcs_sam_frame_of(&m->config, images[i]->width, images[i]->height);
            MCS_TRY_GOTO(mcs_sam_embedding_read(e->load, stems[i], m, images[i], host), st, done);
            MCS_TRY_GOTO(b->upload(m->device, dst + i * values, host, bytes), st, done);
        } else {
            MCS_TRY_GOTO(b->download(m->device, host, dst + i * values, bytes), st, done);
            MCS_TRY_GOTO(mcs_sam_embedding_write(e->save, stems[i], m, images[i], host), st, done);
        }
    }
done:
    free(host);
    return st;
}
