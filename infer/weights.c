#include "infer/weights.h"

#include "data/io/file.h"
#include "data/weights/layout.h"
#include "data/weights/weight_write.h"
#include "engine/base/log.h"
#include "engine/base/text_cut.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---- comparison ---- */

enum weights_fit mcs_weights_fit(const struct weight_file *file, const struct tensor *t, char line[WEIGHTS_LINE])
{
    const struct weight_tensor *s = mcs_weight_file_find(file, t->name);
    const int64_t one = 1;
    char have[96], want[96];
    mcs_array_shape_text(t->nd, t->dim, want, sizeof want);
    line[0] = 0;
    if (!s) {
        mcs_text_cut(line, WEIGHTS_LINE, "%s %s is missing", t->name, want);
        return WEIGHTS_MISSING;
    }
    if (!mcs_weight_is_float(s->type)) {
        mcs_text_cut(line, WEIGHTS_LINE, "%s is of type %s, want floats", t->name, mcs_array_type_name(s->type));
        return WEIGHTS_MISSHAPEN;
    }
    if (mcs_array_same_shape(t->nd, t->dim, s->nd, s->dims) ||
        (t->nd == 0 && mcs_array_same_shape(1, &one, s->nd, s->dims)))
        return WEIGHTS_FIT;
    mcs_text_cut(line, WEIGHTS_LINE, "%s is %s, want %s", t->name,
                 mcs_array_shape_text(s->nd, s->dims, have, sizeof have), want);
    return WEIGHTS_MISSHAPEN;
}

/* The first names of tensors that the model has not: "a, b, ...". A model's name may have a prefix in the file. */
static const char *name_extra(const struct weight_file *file, const struct params *p, char text[WEIGHTS_LINE])
{
    enum { NAMED = 3 };
    int n = 0;
    text[0] = 0;
    for (int i = 0; i < mcs_weight_file_count(file); i++) {
        const struct weight_tensor *s = mcs_weight_file_at(file, i);
        const char *name = s->name;
        int known = 0;
        for (int k = 0; k < p->n && !known; k++) known = mcs_weight_file_find(file, p->t[k]->name) == s;
        if (known || n++ > NAMED) continue;
        const size_t used = strlen(text);
        mcs_text_cut(text + used, WEIGHTS_LINE - used, "%s%s", used ? ", " : "", n > NAMED ? "..." : name);
    }
    return text;
}

/* E_DATA with all differences counted and the first ones named; a warning for tensors that the model has not. */
static enum mcs_status check(const struct weight_file *file, const struct params *p)
{
    enum { LISTED = 4 };
    int n[3] = {0}, listed = 0;
    char text[LISTED * (WEIGHTS_LINE + 2)] = "", line[WEIGHTS_LINE], names[WEIGHTS_LINE];
    for (int i = 0; i < p->n; i++) {
        const enum weights_fit fit = mcs_weights_fit(file, p->t[i], line);
        const size_t used = strlen(text);
        if (n[fit]++ >= LISTED / 2 || fit == WEIGHTS_FIT) continue;
        mcs_text_cut(text + used, sizeof text - used, "%s%s", used ? "; " : "", line);
        listed++;
    }
    const int missing = n[WEIGHTS_MISSING], misshapen = n[WEIGHTS_MISSHAPEN],
              extra = mcs_weight_file_count(file) - n[WEIGHTS_FIT] - misshapen;
    MCS_REQUIRE(
        !missing && !misshapen, MCS_E_DATA,
        "%s: does not fit this model: %d tensors missing, %d of another shape or type (%s%s), %d that it has not%s%s; "
        "`mcsam info` says which model a file is",
        mcs_weight_file_path(file), missing, misshapen, text, listed < missing + misshapen ? "; ..." : "", extra,
        extra ? ": " : "", name_extra(file, p, names));
    if (extra)
        mcs_warn("%s: %d tensors are not part of this model and were not read: %s", mcs_weight_file_path(file), extra,
                 name_extra(file, p, names));
    return MCS_OK;
}

/* ---- reading ---- */

/* A value that is infinite or no number makes all that the model computes the same. */
static enum mcs_status check_finite(const struct weight_file *file, const struct tensor *t, const float *values)
{
    const int64_t n = mcs_count(t), bad = mcs_count_not_finite(values, n);
    MCS_REQUIRE(!bad, MCS_E_DATA,
                "%s: %s: %lld of its %lld values are NaN or infinite: a training that diverged, float16 that was too "
                "narrow, or a damaged file; take an earlier checkpoint, or the file as published",
                mcs_weight_file_path(file), t->name, (long long)bad, (long long)n);
    return MCS_OK;
}

static enum mcs_status read_one(const struct weight_file *file, const struct params *p, const struct tensor *t,
                                float *host)
{
    const struct weight_tensor *s = mcs_weight_file_find(file, t->name);
    MCS_TRY(mcs_weight_file_read_f32(file, s->name, s->nd, s->dims, host));
    MCS_TRY(check_finite(file, t, host));
    return p->device->backend->upload(p->device, t->data, host, mcs_count(t) * (int64_t)sizeof *host);
}

static enum mcs_status read_all(const struct weight_file *file, struct params *p)
{
    int64_t largest = 1;
    MCS_TRY(check(file, p));
    for (int i = 0; i < p->n; i++)
        if (mcs_count(p->t[i]) > largest) largest = mcs_count(p->t[i]);
    float *host = malloc((size_t)largest * sizeof *host); /* of one tensor at a time */
    MCS_REQUIRE(host, MCS_E_NOMEM, "no memory for the largest tensor of %s", mcs_weight_file_path(file));
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < p->n && st == MCS_OK; i++) st = read_one(file, p, p->t[i], host);
    free(host);
    return st;
}

/* ---- the hash, beside reading and what follows ---- */

struct weights_hash {
    struct weight_file *file;
    pthread_t thread;
    int started; /* 0: no thread could be made; the hash is taken when it is asked for */
    char hex[65], message[512];
    enum mcs_status st;
};

static void *hash(void *p)
{
    struct weights_hash *h = p;
    h->st = mcs_weight_file_sha256(h->file, h->hex);
    mcs_text_cut(h->message, sizeof h->message, "%s", mcs_error_message()); /* messages are kept by thread */
    return NULL;
}

/* With a small stack, since a limit on address space (ulimit -v) counts the default stack's 8 MiB; see
 * engine/cpu/limits_cpu.c. */
static int start(struct weights_hash *h)
{
    enum { STACK_BYTES = 256 << 10 };
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 0;
    const int started = pthread_attr_setstacksize(&attributes, STACK_BYTES) == 0 &&
                        pthread_create(&h->thread, &attributes, hash, h) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

enum mcs_status mcs_weights_hash_end(struct weights_hash *h, char *hex)
{
    enum mcs_status st = MCS_OK;
    if (!h) return MCS_OK;
    if (h->started)
        pthread_join(h->thread, NULL);
    else if (hex)
        h->st = mcs_weight_file_sha256(h->file, h->hex);
    if (hex && h->st != MCS_OK) st = h->started ? MCS_FAIL(h->st, "%s", h->message) : h->st;
    if (hex) memcpy(hex, h->hex, sizeof h->hex);
    mcs_weight_file_close(h->file);
    free(h);
    return st;
}

enum mcs_status mcs_weights_read_hashing(const char *path, struct params *p, struct weights_hash **out)
{
    struct weights_hash *h = calloc(1, sizeof *h);
    *out = NULL;
    MCS_REQUIRE(h, MCS_E_NOMEM, "%s: no memory for a hash", path);
    enum mcs_status st = mcs_weight_model_open(path, &h->file);
    if (st != MCS_OK) {
        free(h);
        return st;
    }
    h->started = start(h);
    st = read_all(h->file, p);
    if (st == MCS_OK)
        *out = h;
    else
        (void)mcs_weights_hash_end(h, NULL);
    return st;
}

enum mcs_status mcs_weights_read(const char *path, struct params *p, char *sha256)
{
    struct weight_file *file;
    struct weights_hash *h;
    if (sha256) {
        MCS_TRY(mcs_weights_read_hashing(path, p, &h));
        return mcs_weights_hash_end(h, sha256);
    }
    MCS_TRY(mcs_weight_model_open(path, &file));
    const enum mcs_status st = read_all(file, p);
    mcs_weight_file_close(file);
    return st;
}

/* ---- writing ---- */

/* Copies all parameters to one host array in the order of params. Freed by the caller. */
static enum mcs_status download(const struct params *p, float **host)
{
    const int64_t bytes = p->n_values * (int64_t)sizeof(float);
    *host = malloc((size_t)bytes + 1);
    MCS_REQUIRE(*host, MCS_E_NOMEM, "no memory for a copy of the weights");
    const enum mcs_status st = p->device->backend->download(p->device, *host, p->data, bytes);
    if (st != MCS_OK) free(*host);
    return st;
}

enum mcs_status mcs_weights_write(const char *path, const struct params *p, int half, const char *skip_prefix,
                                  const char *note)
{
    float *host;
    MCS_TRY(download(p, &host));
    struct weight_out *out = calloc((size_t)p->n + 1, sizeof *out);
    if (!out) {
        free(host);
        return MCS_FAIL(MCS_E_NOMEM, "%s: no memory for a list of %d tensors", path, p->n);
    }
    int n = 0;
    for (int i = 0; i < p->n; i++) {
        const struct tensor *t = p->t[i];
        if (skip_prefix && !strncmp(t->name, skip_prefix, strlen(skip_prefix))) continue;
        struct weight_out *o = &out[n++];
        o->name = t->name;
        o->type = half ? MCS_ARRAY_F16 : MCS_ARRAY_F32;
        o->nd = t->nd;
        memcpy(o->dims, t->dim, sizeof(int64_t) * (size_t)t->nd);
        o->values = host + t->offset / (int64_t)sizeof(float);
    }
    const char *const meta[][2] = {{"format", "pt"}, {"mcsam", note ? note : ""}};
    const enum mcs_status st = mcs_file_has_ending(path, ".pt;.pth;.bin")
                                   ? mcs_torch_write(path, n, out, NULL)
                                   : mcs_safetensors_write(path, n, out, 2, meta);
    free(out);
    free(host);
    return st;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct tensor *const *)a)->name, (*(struct tensor *const *)b)->name);
}

enum mcs_status mcs_weights_sha256(const struct params *p, char hex[65])
{
    float *host;
    MCS_TRY(download(p, &host));
    /* mcs_sha256 needs one buffer: "name\0 dims values" of each parameter in order of name. */
    int64_t bytes = 0;
    for (int i = 0; i < p->n; i++)
        bytes += (int64_t)strlen(p->t[i]->name) + 1 + 8 * p->t[i]->nd + 4 * mcs_count(p->t[i]);
    struct tensor **t = malloc(sizeof *t * (size_t)(p->n + 1));
    char *all = malloc((size_t)bytes + 1), *at = all;
    if (!t || !all) {
        free(all);
        free(t);
        free(host);
        return MCS_FAIL(MCS_E_NOMEM, "no memory for a copy of the weights");
    }
    memcpy(t, p->t, sizeof *t * (size_t)p->n);
    qsort(t, (size_t)p->n, sizeof *t, by_name);
    for (int i = 0; i < p->n; i++) {
        const size_t name = strlen(t[i]->name) + 1, dims = 8 * (size_t)t[i]->nd, values = 4 * (size_t)mcs_count(t[i]);
        memcpy(at, t[i]->name, name);
        memcpy(at + name, t[i]->dim, dims);
        memcpy(at + name + dims, host + t[i]->offset / (int64_t)sizeof(float), values);
        at += name + dims + values;
    }
    mcs_sha256(all, bytes, hex);
    free(all);
    free(t);
    free(host);
    return MCS_OK;
}
