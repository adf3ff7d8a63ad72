#include "infer/clip/clip_model.h"

#include "data/io/file.h"
#include "data/weights/layout.h"
#include "data/weights/weight_write.h"
#include "engine/base/path.h"
#include "engine/model/layers.h"
#include "infer/clip/clip_parts.h"
#include "infer/weights.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* open_clip's names, then Hugging Face's; the first one is written. */
static const char *const WEIGHT_FILES[] = {"open_clip_model.safetensors",
                                           "model.safetensors",
                                           "model.safetensors.index.json",
                                           "open_clip_pytorch_model.bin",
                                           "pytorch_model.bin",
                                           "pytorch_model.bin.index.json",
                                           NULL};

/* Declares the parameters of both towers by recording their graphs once at the smallest shapes. */
static enum mcs_status name_params(const struct clip_config *c, struct params *p,
                                   void (*name_more)(struct graph *g, const struct clip_config *c))
{
    const int s = c->image_size;
    struct graph *g = mcs_graph_new(p, MCS_F32); /* the weights are float32 whatever the activations are */
    mcs_clip_logit_scale(g);
    mcs_clip_image(g, mcs_input(g, "image", MCS_F32, MCS_DIMS(1, s, s, 3)), c);
    const struct clip_text t = mcs_clip_text_inputs(g, 1, 2);
    mcs_clip_text(g, &t, c, 0);
    if (name_more) name_more(g, c);
    const enum mcs_status st = mcs_graph_status(g);
    mcs_graph_free(g);
    return st;
}

enum mcs_status mcs_clip_params_declare(const struct clip_config *c, struct params *p)
{
    return name_params(c, p, NULL);
}

/* The rest of a model whose tokenizer was opened from `vocab_path`. */
static enum mcs_status make(const struct clip_config *c, const char *vocab_path, struct device *d,
                            void (*name_more)(struct graph *g, const struct clip_config *c), struct clip_model *m)
{
    m->config = *c;
    m->device = d;
    m->config.vocab = mcs_tokenizer_n_pieces(m->tokenizer);
    MCS_REQUIRE(m->config.vocab == c->vocab || !c->vocab, MCS_E_DATA,
                "%s: has %d pieces, the model wants %d: take the vocabulary of the same model", vocab_path,
                m->config.vocab, c->vocab);
    m->params = mcs_params_new();
    MCS_TRY(name_params(&m->config, m->params, name_more));
    return mcs_params_alloc(m->params, d);
}

enum mcs_status mcs_clip_model_new(const struct clip_config *c, const char *vocab_path, uint64_t seed, struct device *d,
                                   void (*name_more)(struct graph *g, const struct clip_config *c),
                                   struct clip_model *m)
{
    memset(m, 0, sizeof *m);
    MCS_TRY(mcs_tokenizer_open(vocab_path, &m->tokenizer));
    enum mcs_status st = make(c, vocab_path, d, name_more, m);
    if (st == MCS_OK) st = mcs_params_init(m->params, seed);
    if (st != MCS_OK) mcs_clip_model_close(m);
    return st;
}

/* E_NOINPUT: no folder, or one without a configuration. */
static enum mcs_status check_folder(const char *folder)
{
    static const char *const configs[] = {"open_clip_config.json", "config.json"};
    char path[MCS_PATH_BYTES];
    int found = 0;
    MCS_REQUIRE(
        mcs_folder_exists(folder) || !mcs_file_exists(folder), MCS_E_NOINPUT,
        "%s: is a file; a CLIP model is a folder with its configuration, weights and vocabulary: docs/models.md "
        "lists them",
        folder);
    MCS_REQUIRE(mcs_folder_exists(folder), MCS_E_NOINPUT, "%s: no such model folder", folder);
    for (int i = 0; i < 2; i++) {
        MCS_TRY(mcs_path(path, "%s/%s", folder, configs[i]));
        found += mcs_file_exists(path);
    }
    MCS_REQUIRE(
        found, MCS_E_NOINPUT,
        "%s: has no open_clip_config.json, nor Hugging Face's config.json; docs/models.md lists the files of each "
        "model",
        folder);
    return MCS_OK;
}

enum mcs_status mcs_clip_model_open(const char *folder, struct device *d, struct clip_model *m)
{
    MCS_TRY(mcs_clip_model_open_hashing(folder, d, m));
    const enum mcs_status st = mcs_clip_model_hash(m);
    if (st != MCS_OK) mcs_clip_model_close(m);
    return st;
}

enum mcs_status mcs_clip_model_hash(struct clip_model *m)
{
    struct weights_hash *hash = m->hash;
    m->hash = NULL;
    return mcs_weights_hash_end(hash, m->sha256);
}

enum mcs_status mcs_clip_model_open_hashing(const char *folder, struct device *d, struct clip_model *m)
{
    struct clip_config c;
    char path[MCS_PATH_BYTES];
    memset(m, 0, sizeof *m);
    MCS_TRY(check_folder(folder));
    MCS_TRY(mcs_clip_config_read(folder, &c));
    if (!c.t_openai) MCS_TRY(mcs_clip_tokenizer_config_check(folder));
    MCS_TRY(mcs_weight_folder_find(folder, WEIGHT_FILES, path));
    MCS_TRY(c.t_openai ? mcs_tokenizer_open_bpe(folder, &m->tokenizer)
                       : mcs_tokenizer_open_folder(folder, &m->tokenizer));
    enum mcs_status st = make(&c, folder, d, NULL, m);
    if (st == MCS_OK) st = mcs_clip_files_read(folder, &m->files);
    m->files.config = m->config;
    if (st == MCS_OK) st = mcs_path(m->folder, "%s", folder);
    if (st == MCS_OK) st = mcs_weights_read_hashing(path, m->params, &m->hash);
    if (st != MCS_OK) mcs_clip_model_close(m);
    return st;
}

/* The files of a model that was not read from a folder. */
static enum mcs_status write_new(const struct clip_model *m, const char *folder)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_clip_config_write(folder, &m->config));
    MCS_TRY(mcs_path(path, "%s/vocab.txt", folder));
    int64_t bytes = 0;
    const int n = mcs_tokenizer_n_pieces(m->tokenizer);
    for (int i = 0; i < n; i++) bytes += (int64_t)strlen(mcs_tokenizer_piece(m->tokenizer, i)) + 1;
    char *vocab = malloc((size_t)bytes + 1), *at = vocab;
    MCS_REQUIRE(vocab, MCS_E_NOMEM, "no memory for a vocabulary");
    for (int i = 0; i < n; i++) at += sprintf(at, "%s\n", mcs_tokenizer_piece(m->tokenizer, i));
    const enum mcs_status st = mcs_file_write(path, vocab, bytes);
    free(vocab);
    return st;
}

/* folder/model.safetensors = the weights of `from` in transformers' names, or those of MedCLIP-SAMv2's port. */
static enum mcs_status write_hugging_face(const struct clip_model *m, const char *from, const char *folder)
{
    static const char *const meta[][2] = {{"format", "pt"}};
    char path[MCS_PATH_BYTES];
    struct weight_file *file, *view = NULL;
    struct weight_out *out = NULL;
    MCS_TRY(mcs_path(path, "%s/model.safetensors", folder));
    MCS_TRY(mcs_weight_file_open(from, &file));
    enum mcs_status st =
        mcs_weight_view(file, m->config.t_openai ? LAYOUT_HUGGINGFACE_CLIP : LAYOUT_MEDCLIP_SAMV2, &view);
    const int n = st == MCS_OK ? mcs_weight_file_count(view) : 0;
    if (st == MCS_OK) out = calloc((size_t)n + 1, sizeof *out);
    if (st == MCS_OK && !out) st = MCS_FAIL(MCS_E_NOMEM, "%s: no memory for a list of %d tensors", path, n);
    for (int i = 0; i < n && out; i++) {
        const struct weight_tensor *t = mcs_weight_file_at(view, i);
        out[i] = (struct weight_out){.name = t->name, .type = t->type, .nd = t->nd, .file = view, .source = t};
        memcpy(out[i].dims, t->dims, sizeof t->dims);
    }
    if (st == MCS_OK) st = mcs_safetensors_write(path, n, out, 1, meta);
    free(out);
    mcs_weight_file_close(view);
    mcs_weight_file_close(file);
    return st;
}

enum mcs_status mcs_clip_model_save(const struct clip_model *m, const char *folder, int half)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_folder_make(folder));
    const int kept = m->files.n && !memcmp(&m->files.config, &m->config, sizeof m->config);
    MCS_REQUIRE(kept || !m->config.t_openai, MCS_E_USAGE, "%s: a model with OpenAI's towers is written as it was read",
                folder);
    MCS_TRY(kept ? mcs_clip_files_write(&m->files, folder) : write_new(m, folder));
    MCS_TRY(mcs_path(path, "%s/%s", folder, WEIGHT_FILES[0]));
    MCS_TRY(mcs_weights_write(path, m->params, half, "start.", "CLIP by mcsam " MCS_VERSION));
    if (!kept || !m->config.hugging_face) return MCS_OK;
    MCS_TRY(write_hugging_face(m, path, folder));
    MCS_REQUIRE(unlink(path) == 0, MCS_E_IO, "%s: cannot remove: %s", path, strerror(errno));
    return MCS_OK;
}

void mcs_clip_model_close(struct clip_model *m)
{
    (void)mcs_weights_hash_end(m->hash, NULL);
    mcs_clip_sessions_close(m);
    mcs_params_free(m->params);
    mcs_tokenizer_close(m->tokenizer);
    mcs_clip_files_free(&m->files);
    memset(m, 0, sizeof *m);
}
