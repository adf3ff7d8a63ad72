#include "infer/weights.h"

#include "data/io/file.h"
#include "data/io/safetensors.h"
#include "engine/base/log.h"

#include <stdlib.h>
#include <string.h>

static const struct safetensor *find(const struct safetensors *file, const char *name)
{
    static const char *const prefixes[] = {"", "module.", "model."};
    char full[512];
    for (int i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "%s%s", prefixes[i], name);
        const struct safetensor *t = mcs_safetensors_find(file, full);
        if (t) return t;
    }
    return NULL;
}

static enum mcs_status read_one(const struct safetensors *file, const char *path, const struct params *p,
                                const struct tensor *t)
{
    const struct safetensor *s = find(file, t->name);
    MCS_REQUIRE(s, MCS_E_DATA, "%s: has no tensor %s; is it a file of this model?", path, t->name);
    const int64_t n = mcs_count(t), one = 1;
    float *host = malloc((size_t)n * sizeof *host);
    MCS_REQUIRE(host, MCS_E_NOMEM, "no memory for %s", t->name);
    const int scalar = t->nd == 0 && s->nd == 1;
    enum mcs_status st = mcs_safetensors_read_f32(file, s->name, scalar ? 1 : t->nd, scalar ? &one : t->dim, host);
    if (st == MCS_OK) st = p->device->backend->upload(p->device, t->data, host, n * (int64_t)sizeof *host);
    free(host);
    return st;
}

enum mcs_status mcs_weights_read(const char *path, struct params *p, char *sha256)
{
    struct safetensors *file;
    enum mcs_status st = MCS_OK;
    MCS_TRY(mcs_safetensors_open(path, &file));
    for (int i = 0; i < p->n; i++) MCS_TRY_GOTO(read_one(file, path, p, p->t[i]), st, done);
    if (mcs_safetensors_count(file) > p->n)
        mcs_warn("%s: %d tensors are not part of this model and were not read", path,
                 mcs_safetensors_count(file) - p->n);
    if (sha256) MCS_TRY_GOTO(mcs_file_sha256(path, sha256), st, done);
done:
    mcs_safetensors_close(file);
    return st;
}

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
    struct safetensor_out *out = calloc((size_t)p->n + 1, sizeof *out);
    if (!out) {
        free(host);
        return MCS_FAIL(MCS_E_NOMEM, "%s: no memory for a list of %d tensors", path, p->n);
    }
    int n = 0;
    for (int i = 0; i < p->n; i++) {
        const struct tensor *t = p->t[i];
        if (skip_prefix && !strncmp(t->name, skip_prefix, strlen(skip_prefix))) continue;
        struct safetensor_out *o = &out[n++];
        o->name = t->name;
        o->type = half ? MCS_ARRAY_F16 : MCS_ARRAY_F32;
        o->nd = t->nd;
        memcpy(o->dims, t->dim, sizeof(int64_t) * (size_t)t->nd);
        o->values = host + t->offset / (int64_t)sizeof(float);
    }
    const char *const meta[][2] = {{"format", "pt"}, {"mcsam", note ? note : ""}};
    const enum mcs_status st = mcs_safetensors_write(path, n, out, 2, meta);
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
