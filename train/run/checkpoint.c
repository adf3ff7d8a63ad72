#include "train/run/checkpoint.h"

#include "data/io/file.h"
#include "data/io/store.h"
#include "data/run/run_folder.h"
#include "engine/backend.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 1 << 16 };

/* The flat arrays of a checkpoint: the weights, then those moments that the optimizer has. */
struct flat {
    const char *name;
    float *data;
};

static int flat_arrays(const struct params *p, const struct optim *o, struct flat out[3])
{
    int n = 0;
    out[n++] = (struct flat){"weights", p->data};
    if (o && o->m) out[n++] = (struct flat){"moment1", o->m};
    if (o && o->v) out[n++] = (struct flat){"moment2", o->v};
    return n;
}

/* The file's attribute "sha256": hash of the step, the options and the arrays' hashes. It detects damage that HDF5,
 * which stores no checksums, does not. */
static void checkpoint_hash(int64_t step, const char *config, int n, char hashes[3][65], char hex[65])
{
    struct {
        int64_t step;
        char config[65], arrays[3][65];
    } all;
    memset(&all, 0, sizeof all);
    all.step = step;
    mcs_sha256(config, (int64_t)strlen(config), all.config);
    memcpy(all.arrays, hashes, (size_t)n * sizeof all.arrays[0]);
    mcs_sha256(&all, sizeof all, hex);
}

enum mcs_status mcs_checkpoint_save(const char *path, const struct params *p, const struct optim *o, int64_t step,
                                    const char *config)
{
    struct store *s = NULL;
    struct flat flat[3];
    const int n = flat_arrays(p, o, flat);
    const int64_t bytes = p->n_values * (int64_t)sizeof(float), one = 1;
    char hashes[3][65], hex[65];
    float *host = malloc((size_t)bytes + 1);
    MCS_REQUIRE(host, MCS_E_NOMEM, "no memory for a copy of the checkpoint");
    enum mcs_status st;
    MCS_TRY_GOTO(mcs_store_create(path, &s), st, done);
    for (int i = 0; i < n; i++) {
        MCS_TRY_GOTO(p->device->backend->download(p->device, host, flat[i].data, bytes), st, done);
        MCS_TRY_GOTO(mcs_store_put(s, flat[i].name, MCS_ARRAY_F32, 1, &p->n_values, host), st, done);
        mcs_sha256(host, bytes, hashes[i]);
    }
    checkpoint_hash(step, config, n, hashes, hex);
    MCS_TRY_GOTO(mcs_store_put_text(s, "sha256", hex), st, done);
    MCS_TRY_GOTO(mcs_store_put(s, "step", MCS_ARRAY_I64, 1, &one, &step), st, done);
    MCS_TRY_GOTO(mcs_store_put_text(s, "config", config), st, done);
    st = mcs_store_commit(s);
    s = NULL;
done:
    mcs_store_close(s);
    free(host);
    return st;
}

/* Opens a checkpoint and requires its options to equal config; stored (MAX_CONFIG) receives the checkpoint's options.
 */
static enum mcs_status open_matching(const char *path, const char *config, char *stored, struct store **s)
{
    enum mcs_status st;
    struct arena a = {0};
    const char *differ;
    *s = NULL;
    MCS_REQUIRE(stored, MCS_E_NOMEM, "no memory for the options of a run");
    MCS_TRY_GOTO(mcs_store_open(path, s), st, done);
    MCS_TRY_GOTO(mcs_store_get_text(*s, "config", stored, MAX_CONFIG), st, done);
    MCS_REQUIRE_GOTO(!mcs_options_differ(config, stored, 1, &a, &differ), MCS_E_DATA, st, done,
                     "%s: is of a run with other options: %s; use the same ones to go on, or another output folder",
                     path, differ);
done:
    mcs_arena_free(&a);
    if (st != MCS_OK) {
        mcs_store_close(*s);
        *s = NULL;
    }
    return st;
}

enum mcs_status mcs_checkpoint_check(const char *path, const char *config)
{
    struct store *s;
    if (!mcs_file_exists(path)) return MCS_OK;
    char *stored = malloc(MAX_CONFIG);
    const enum mcs_status st = open_matching(path, config, stored, &s);
    mcs_store_close(s);
    free(stored);
    return st;
}

enum mcs_status mcs_checkpoint_load(const char *path, struct params *p, struct optim *o, const char *config,
                                    int64_t *step, int *found)
{
    *found = 0;
    *step = 0;
    if (!mcs_file_exists(path)) return MCS_OK;
    struct store *s = NULL;
    struct flat flat[3];
    const int n = flat_arrays(p, o, flat);
    const int64_t bytes = p->n_values * (int64_t)sizeof(float), one = 1;
    char hashes[3][65], hex[65], stored_hex[65], *stored = malloc(MAX_CONFIG);
    int64_t done_steps;
    float *host = malloc((size_t)bytes + 1);
    enum mcs_status st;
    MCS_REQUIRE_GOTO(host, MCS_E_NOMEM, st, done, "no memory for the checkpoint");
    MCS_TRY_GOTO(open_matching(path, config, stored, &s), st, done);
    for (int i = 0; i < n; i++) {
        MCS_TRY_GOTO(mcs_store_get(s, flat[i].name, MCS_ARRAY_F32, 1, &p->n_values, host), st, done);
        MCS_TRY_GOTO(p->device->backend->upload(p->device, flat[i].data, host, bytes), st, done);
        mcs_sha256(host, bytes, hashes[i]);
    }
    MCS_TRY_GOTO(mcs_store_get(s, "step", MCS_ARRAY_I64, 1, &one, &done_steps), st, done);
    MCS_TRY_GOTO(mcs_store_get_text(s, "sha256", stored_hex, sizeof stored_hex), st, done);
    checkpoint_hash(done_steps, stored, n, hashes, hex);
    MCS_REQUIRE_GOTO(!strcmp(stored_hex, hex), MCS_E_DATA, st, done,
                     "%s: damaged: its values are not those that were written; put an older copy in its place, or move "
                     "it away to start anew",
                     path);
    *step = done_steps;
    if (o) o->step = *step;
    *found = 1;
done:
    mcs_store_close(s);
    free(host);
    free(stored);
    return st;
}

enum mcs_status mcs_checkpoint_error_add(enum mcs_status st, const char *path, int64_t saved)
{
    if (saved)
        mcs_error_add("; the last checkpoint, %s, is of step %lld", path, (long long)saved);
    else
        mcs_error_add("; there is no checkpoint yet");
    return st;
}
