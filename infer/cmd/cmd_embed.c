/* mcsam embed: CLIP embeddings of images and texts, as HDF5. */
#include "data/image/media.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/io/store.h"
#include "engine/base/escape.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "engine/devices.h"
#include "infer/clip/embed_part.h"
#include "infer/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64, MAX_TEXT_BYTES = 1 << 30 };

struct embed_command {
    struct mcs_common common;
    const char *window;
    const char *model, *images, *texts, *output;
    int raw, whole, checksum;
};

static const struct mcs_option options[] = {
    {"model", 'm', MCS_FIELD(embed_command, model), .value = "DIR", .required = 1, .help = "CLIP model folder"},
    {"images", 'i', MCS_FIELD(embed_command, images), .value = "DIR", .help = "folder of PNG and JPEG images"},
    {"texts", 0, MCS_FIELD(embed_command, texts), .value = "FILE", .help = "texts, one per line, UTF-8"},
    {"output", 'o', MCS_FIELD(embed_command, output), .value = "OUT.h5", .required = 1, .help = "HDF5 file to write"},
    {"raw", 0, MCS_FIELD(embed_command, raw), .help = "embeddings without L2 normalisation"},
    {"whole", 0, MCS_FIELD(embed_command, whole),
     .help = "stretch the whole image over the square instead of cropping its centre"},
    {"checksum", 0, MCS_FIELD(embed_command, checksum),
     .help = "print a number per embedding, to compare with open_clip's: sum of e[0], -e[1], e[2], -e[3], .."},
    {"window", 0, MCS_FIELD(embed_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

struct embedding {
    int n;
    const char **names; /* image names or texts */
    float *values;      /* (n, embed) */
    struct arena arena; /* holds the names */
};

static enum mcs_status embedding_alloc(struct embedding *e, int capacity, int embed)
{
    e->names = calloc((size_t)capacity + 1, sizeof *e->names);
    e->values = malloc(((size_t)capacity * (size_t)embed + 1) * sizeof *e->values);
    MCS_REQUIRE(e->names && e->values, MCS_E_NOMEM, "no memory for %d embeddings", capacity);
    return MCS_OK;
}

static void embedding_free(struct embedding *e)
{
    free(e->names);
    free(e->values);
    mcs_arena_free(&e->arena);
}

static enum mcs_status prepare(const struct clip_config *c, const char *path, enum clip_view view, float *dst)
{
    struct stored_image img;
    MCS_TRY(mcs_image_read_stored(path, &img));
    const enum mcs_status st = mcs_clip_prepare_stored(c, &img, view, dst);
    mcs_stored_free(&img);
    return st;
}

/* The run's record and its part file. They need the weights' SHA-256, which is still being taken while the first batch
 * is computed: without rows of an earlier run they are opened behind that batch. */
struct record {
    const struct embed_command *c;
    struct clip_model *m;
    struct run_folder *run;
    struct embed_part part;
};

static enum mcs_status record_open(struct record *r)
{
    char more[128];
    if (r->run) return MCS_OK;
    MCS_TRY(mcs_clip_model_hash(r->m));
    snprintf(more, sizeof more, "model_sha256: %s\n", r->m->sha256);
    MCS_TRY(mcs_run_open_file(&r->c->common.command, r->c->output, more, &r->run));
    return mcs_embed_part_open(&r->part, r->run, r->c->output, r->m->config.embed);
}

/* Rows computed in one batch. */
struct batch {
    int n, row[CHUNK];         /* row indices in struct embedding */
    const char *source[CHUNK]; /* path of an image, or a text */
    const char *stem[CHUNK];   /* name in the run's record */
    float *prepared, *out;     /* images: (CHUNK, pixels); (CHUNK, embed) */
};

/* The source of a row: an image's file, or a text. */
static struct run_source source_of(const char *const list[2], int is_text)
{
    return is_text ? (struct run_source){NULL, list} : (struct run_source){list, NULL};
}

/* Checks for a request to stop, computes the batch and appends its rows to the part file. */
static enum mcs_status run_batch(const struct embed_command *c, struct clip_model *m, struct batch *b, struct record *r,
                                 struct embedding *e)
{
    const int embed = m->config.embed;
    if (!b->n) return MCS_OK;
    MCS_TRY(mcs_stop_check());
    if (b->prepared)
        MCS_TRY(mcs_clip_embed_images(m, b->prepared, b->n, !c->raw, b->out));
    else
        MCS_TRY(mcs_clip_embed_texts(m, b->source, b->n, !c->raw, b->out));
    MCS_TRY(record_open(r));
    for (int k = 0; k < b->n; k++) {
        const char *const list[2] = {b->source[k], NULL};
        const struct run_source source = source_of(list, !b->prepared);
        memcpy(e->values + (int64_t)b->row[k] * embed, b->out + (int64_t)k * embed, (size_t)embed * sizeof *b->out);
        MCS_TRY(mcs_embed_part_add(&r->part, b->stem[k], &source, b->out + (int64_t)k * embed));
    }
    b->n = 0;
    return mcs_embed_part_flush(&r->part);
}

/* Embeds all images of the folder; images that cannot be read are failures and have no row. */
static enum mcs_status embed_images(const struct embed_command *c, struct clip_model *m, const struct file_list *files,
                                    struct failure_list *failures, struct record *r, struct embedding *e)
{
    const int64_t pixels = (int64_t)m->config.image_size * m->config.image_size * 3;
    const int embed = m->config.embed;
    struct mcs_progress bar;
    struct batch b = {.prepared = malloc((size_t)(CHUNK * pixels) * sizeof(float)),
                      .out = malloc((size_t)(CHUNK * embed) * sizeof(float))};
    enum mcs_status st = MCS_OK;
    MCS_TRY_GOTO(embedding_alloc(e, files->n, embed), st, done);
    MCS_REQUIRE_GOTO(b.prepared && b.out, MCS_E_NOMEM, st, done, "no memory for a batch of images");
    mcs_progress_start(&bar, "embed", "image", files->n);
    for (int i = 0; i < files->n; i++) {
        const char *path = mcs_arena_printf(&e->arena, "%s/%s", c->images, files->names[i]),
                   *stem = mcs_arena_printf(&e->arena, "image %s", files->names[i]);
        MCS_TRY_GOTO(mcs_arena_status(&e->arena), st, done);
        const char *const list[2] = {path, NULL};
        const struct run_source source = source_of(list, 0);
        const int taken = mcs_embed_part_take(&r->part, stem, &source, e->values + (int64_t)e->n * embed);
        if (!taken) {
            st = prepare(&m->config, path, c->whole ? CLIP_VIEW_WHOLE : CLIP_VIEW_CROP, b.prepared + b.n * pixels);
            if (st == MCS_E_NOMEM) goto done;
            if (st != MCS_OK) {
                mcs_failures_add_held(failures, files->names[i]);
                continue;
            }
            b.source[b.n] = path, b.stem[b.n] = stem, b.row[b.n++] = e->n;
        }
        e->names[e->n++] = mcs_text_encode(&e->arena, files->names[i]);
        if (b.n < CHUNK) continue;
        MCS_TRY_GOTO(run_batch(c, m, &b, r, e), st, done);
        mcs_progress_set(&bar, i + 1);
    }
    MCS_TRY_GOTO(run_batch(c, m, &b, r, e), st, done);
    mcs_progress_set(&bar, files->n);
    mcs_progress_end(&bar);
done:
    free(b.prepared);
    free(b.out);
    return st;
}

/* Splits a text file in place into lines without LF or CR LF; the last line may lack its line end. A line with a NUL
 * byte becomes NULL. */
static int split_lines(char *bytes, int64_t n_bytes, char ***lines)
{
    int n = 0, capacity = 1;
    for (int64_t i = 0; i < n_bytes; i++) capacity += bytes[i] == '\n';
    *lines = malloc((size_t)capacity * sizeof **lines);
    if (!*lines) return 0;
    for (char *at = bytes, *end = bytes + n_bytes; at < end;) {
        char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        const int is_text = !memchr(at, 0, (size_t)(stop - at));
        *stop = '\0';
        if (stop > at && stop[-1] == '\r') stop[-1] = '\0';
        (*lines)[n++] = is_text ? at : NULL;
        at = stop + 1;
    }
    return n;
}

static enum mcs_status embed_lines(const struct embed_command *c, struct clip_model *m, char *const *lines, int n,
                                   struct failure_list *failures, struct record *r, struct embedding *e)
{
    const int embed = m->config.embed;
    struct batch b = {.out = malloc((size_t)(CHUNK * embed) * sizeof(float))};
    enum mcs_status st;
    MCS_REQUIRE(b.out, MCS_E_NOMEM, "no memory for a batch of texts");
    MCS_TRY_GOTO(embedding_alloc(e, n, embed), st, done);
    for (int i = 0; i < n; i++) {
        if (!lines[i]) {
            st = MCS_FAIL(MCS_E_DATA, "line %d has a NUL byte, as UTF-16 has; save it as UTF-8", i + 1);
            mcs_failures_add_held(failures, mcs_arena_printf(&e->arena, "%s:%d", c->texts, i + 1));
            continue;
        }
        const char *text = mcs_arena_strdup(&e->arena, lines[i]), *stem = mcs_arena_printf(&e->arena, "text %d", i + 1);
        MCS_TRY_GOTO(mcs_arena_status(&e->arena), st, done);
        const char *const list[2] = {text, NULL};
        const struct run_source source = source_of(list, 1);
        if (!mcs_embed_part_take(&r->part, stem, &source, e->values + (int64_t)e->n * embed)) {
            st = mcs_text_check(m, text);
            if (st == MCS_E_NOMEM) goto done;
            if (st != MCS_OK) {
                mcs_failures_add_held(failures, mcs_arena_printf(&e->arena, "%s:%d", c->texts, i + 1));
                continue;
            }
            b.source[b.n] = text, b.stem[b.n] = stem, b.row[b.n++] = e->n;
        }
        e->names[e->n++] = text;
        if (b.n == CHUNK) MCS_TRY_GOTO(run_batch(c, m, &b, r, e), st, done);
    }
    st = run_batch(c, m, &b, r, e);
done:
    free(b.out);
    return st;
}

static enum mcs_status embed_texts(const struct embed_command *c, struct clip_model *m, struct failure_list *failures,
                                   struct record *r, int *n_lines, struct embedding *e)
{
    char *bytes = NULL, **lines = NULL;
    int64_t n_bytes;
    enum mcs_status st;
    MCS_TRY(mcs_file_read(c->texts, MAX_TEXT_BYTES, &bytes, &n_bytes));
    const int bom = n_bytes >= 3 && !memcmp(bytes, "\xEF\xBB\xBF", 3) ? 3 : 0;
    const int n = *n_lines = split_lines(bytes + bom, n_bytes - bom, &lines);
    MCS_REQUIRE_GOTO(lines, MCS_E_NOMEM, st, done, "%s: no memory for its lines", c->texts);
    MCS_REQUIRE_GOTO(n, MCS_E_DATA, st, done, "%s: is empty, want a text a line", c->texts);
    st = embed_lines(c, m, lines, n, failures, r, e);
done:
    free(lines);
    free(bytes);
    return st;
}

static enum mcs_status logit_scale(const struct clip_model *m, float *value)
{
    for (int i = 0; i < m->params->n; i++)
        if (!strcmp(m->params->t[i]->name, "logit_scale"))
            return m->device->backend->download(m->device, value, m->params->t[i]->data, sizeof *value);
    return MCS_FAIL(MCS_E_DATA, "the model has no logit_scale");
}

static enum mcs_status put(struct store *s, const char *values, const char *names, int embed, const struct embedding *e)
{
    MCS_TRY(mcs_store_put(s, values, MCS_ARRAY_F32, 2, (int64_t[]){e->n, embed}, e->values));
    return mcs_store_put_texts(s, names, e->n, e->names);
}

static enum mcs_status write_store(const struct embed_command *c, const struct clip_model *m, const struct embedding *i,
                                   const struct embedding *t)
{
    struct store *s;
    float scale;
    enum mcs_status st;
    MCS_TRY(logit_scale(m, &scale));
    MCS_TRY(mcs_store_create(c->output, &s));
    if (c->images) MCS_TRY_GOTO(put(s, "image_embeddings", "image_names", m->config.embed, i), st, done);
    if (c->texts) MCS_TRY_GOTO(put(s, "text_embeddings", "texts", m->config.embed, t), st, done);
    MCS_TRY_GOTO(mcs_store_put_number(s, "logit_scale", (double)scale), st, done);
    MCS_TRY_GOTO(mcs_store_put_text(s, "view", c->whole ? "whole" : "crop"), st, done);
    MCS_TRY_GOTO(mcs_store_put_text(s, "normalised", c->raw ? "no" : "yes"), st, done);
    MCS_TRY_GOTO(mcs_store_put_text(s, "weights_sha256", m->sha256), st, done);
    MCS_TRY_GOTO(mcs_store_put_text(s, "version", MCS_VERSION), st, done);
    st = mcs_store_commit(s);
    s = NULL;
done:
    mcs_store_close(s);
    return st;
}

static double checksum(const float *e, int embed)
{
    double sum = 0;
    for (int i = 0; i < embed; i++) sum += i % 2 ? -(double)e[i] : (double)e[i];
    return sum;
}

/* --checksum: a line "VALUE NAME" per embedding. */
static void print_checksums(const struct embedding *e, int embed)
{
    for (int i = 0; i < e->n; i++) printf("%+.5f %s\n", checksum(e->values + (int64_t)i * embed, embed), e->names[i]);
}

static enum mcs_status check_paths(const struct embed_command *c)
{
    struct arena a = {0};
    char folder[MCS_PATH_BYTES];
    const char *name;
    MCS_TRY(mcs_path_split(c->output, folder, &name));
    const struct run_output out = {folder, mcs_arena_printf(&a, "%s;failures.csv", name)};
    const struct run_input in[] = {
        {"--images", c->images, MCS_IMAGE_ENDINGS}, {"--texts", c->texts, NULL}, {"--model", c->model, NULL}};
    const enum mcs_status st = mcs_run_check_paths(&c->common.command, &out, 1, in, 3);
    mcs_arena_free(&a);
    return st;
}

/* Computes the rows and writes the file, with the model open. */
static enum mcs_status run_all(const struct embed_command *c, struct clip_model *m, const struct file_list *files)
{
    struct failure_list failures = {0};
    struct embedding images = {0}, texts = {0};
    struct record r = {.c = c, .m = m, .part = {.fd = -1}};
    char folder[MCS_PATH_BYTES];
    const char *name;
    int n_lines = 0, written = 0;
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_path_split(c->output, folder, &name), st, done);
    if (mcs_embed_part_exists(c->output)) MCS_TRY_GOTO(record_open(&r), st, done);
    st = c->images ? embed_images(c, m, files, &failures, &r, &images) : MCS_OK;
    if (st == MCS_OK && c->texts) st = embed_texts(c, m, &failures, &r, &n_lines, &texts);
    if (st == MCS_E_STOPPED) {
        mcs_error_clear();
        st = MCS_FAIL(MCS_E_STOPPED,
                      "stopped: %lld embeddings are finished and kept; run the same command again to go on",
                      (long long)r.part.n_rows);
    }
    if (st != MCS_OK) goto done;
    if (r.part.n_taken) mcs_log("%d of %d embeddings were finished already", r.part.n_taken, images.n + texts.n);
    MCS_TRY_GOTO(record_open(&r), st, done); /* no row was computed */
    if (images.n + texts.n) MCS_TRY_GOTO(write_store(c, m, &images, &texts), st, done);
    written = 1;
    printf(c->common.json ? "{\"images\": %d, \"texts\": %d, \"dimensions\": %d}\n"
                          : "%d images, %d texts, embeddings of %d values\n",
           images.n, texts.n, m->config.embed);
    if (c->checksum) {
        print_checksums(&images, m->config.embed);
        print_checksums(&texts, m->config.embed);
    }
    st = mcs_failures_finish(&failures, folder, files->n + n_lines);
done:
    mcs_embed_part_close(&r.part, written);
    st = mcs_run_close(r.run, st);
    embedding_free(&images);
    embedding_free(&texts);
    mcs_failures_free(&failures);
    return st;
}

static enum mcs_status run(const void *options)
{
    const struct embed_command *c = options;
    struct device d = {0};
    struct clip_model m = {0};
    struct file_list files = {0};
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_window_use(c->window));
    MCS_REQUIRE(c->images || c->texts, MCS_E_USAGE, "want --images, --texts or both");
    MCS_TRY(check_paths(c));
    if (c->images) {
        MCS_REQUIRE(mcs_folder_exists(c->images), MCS_E_NOINPUT, "%s: no such folder", c->images);
        MCS_TRY(mcs_media_list(c->images, MCS_IMAGE_ENDINGS, &files));
        MCS_REQUIRE_GOTO(files.n, MCS_E_NOINPUT, st, done, "%s: no PNG or JPEG in it", c->images);
    }
    MCS_TRY_GOTO(mcs_device_open(&c->common.device, &d), st, done);
    MCS_TRY_GOTO(mcs_clip_model_open_hashing(c->model, &d, &m), st, done);
    if (files.n < CLIP_IMAGE_BATCH) m.image_batch = files.n;
    if (c->common.dry_run)
        printf(c->common.json ? "{\"images\": %d, \"dimensions\": %d}\n" : "%d images, embeddings of %d values\n",
               files.n, m.config.embed);
    else
        st = run_all(c, &m, &files);
done:
    if (m.params) mcs_clip_model_close(&m);
    mcs_device_close(&d);
    mcs_file_list_free(&files);
    return st;
}

const struct mcs_verb mcs_verb_embed = {.name = "embed",
                                        .line = "embeddings of images and texts",
                                        .options = options,
                                        .options_bytes = sizeof(struct embed_command),
                                        .run = run};
