/* mcsam saliency: map of the image regions that are relevant to a text, of the image's size. */
#include "data/image/media.h"
#include "data/image/window.h"
#include "data/io/file.h"
#include "data/run/run_folder.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/base/stop.h"
#include "engine/devices.h"
#include "infer/cmd/saliency_command.h"
#include "infer/requests.h"

#include <stdio.h>
#include <stdlib.h>

enum { CHUNK = 64 /* images in memory at once, at most */ };

struct saliency_command {
    struct mcs_common common;
    const char *window;
    const char *model, *input, *output, *text, *prompts;
    struct saliency_flags m2ib;
};

static const struct mcs_option options[] = {
    {"model", 'm', MCS_FIELD(saliency_command, model), .value = "DIR", .required = 1, .help = "CLIP model folder"},
    {"input", 'i', MCS_FIELD(saliency_command, input), .value = "IMGS", .required = 1,
     .help = "an image, or a folder of PNG and JPEG images"},
    {"output", 'o', MCS_FIELD(saliency_command, output), .value = "DIR", .required = 1,
     .help = "folder for STEM.h5 and STEM.png"},
    {"text", 't', MCS_FIELD(saliency_command, text), .value = "TEXT", .help = "what to look for in every image"},
    {"prompts", 0, MCS_FIELD(saliency_command, prompts), .value = "FILE",
     .help = "prompts.json: {image name or \"*\": text}"},
    MCS_SALIENCY_OPTIONS(saliency_command),
    {"window", 0, MCS_FIELD(saliency_command, window), .def = "auto", .value = "LO:HI",
     .help = "values that become black and white where an image has more than 8 bits: two values, two percentiles "
             "(1%:99%), full, or auto: the file's own (DICOM), else 0.5%:99.5%"},
    {0},
};

struct work {
    const struct saliency_command *c;
    struct clip_model *model;
    struct saliency_options o;
    struct saliency session;
    struct failure_list failures;
    struct run_folder *run;
    const struct request *requests; /* all requests */
    char *finished;                 /* [request]: 1 if finished by this or an earlier run */
    int n_done;
};

static enum mcs_status write_case(struct work *w, const struct request *r, const struct saliency_case *s)
{
    const struct saliency_command *c = w->c;
    struct arena a = {0};
    MCS_TRY(mcs_clip_model_hash(w->model));
    MCS_TRY(mcs_saliency_write(&c->common, w->model, c->output, r->stem, &s->map, s->presence, r->text));
    const struct run_source source = {(const char *const[]){r->path, NULL}, (const char *const[]){r->text, NULL}};
    const char *files[] = {mcs_arena_printf(&a, "%s.h5", r->stem), mcs_arena_printf(&a, "%s.png", r->stem), NULL};
    const enum mcs_status st = mcs_run_case_add(w->run, r->stem, &source, files, NULL);
    mcs_arena_free(&a);
    return st;
}

/* Computes, writes and records the maps of n cases. A case that fails by its data is added to the failures. */
static enum mcs_status run_cases(struct work *w, struct saliency_case *cases, const struct request *const *requests,
                                 int n)
{
    enum mcs_status st = mcs_saliency_run(&w->session, cases, n, &w->failures, 0);
    for (int i = 0; i < n; i++) {
        if (st == MCS_OK && cases[i].status == MCS_OK) {
            cases[i].status = write_case(w, requests[i], &cases[i]);
            st = mcs_failures_take(&w->failures, requests[i]->stem, cases[i].status);
            if (cases[i].status == MCS_OK) w->finished[requests[i] - w->requests] = 1, w->n_done++;
        }
        mcs_map_free(&cases[i].map);
    }
    return st == MCS_OK ? mcs_run_flush(w->run) : st;
}

/* Processes the unfinished ones of n <= CHUNK requests. All images are read before the device computes. */
static enum mcs_status run_chunk(struct work *w, const struct request *requests, int n)
{
    struct image images[CHUNK] = {0};
    struct saliency_case cases[CHUNK];
    const struct request *of[CHUNK];
    int used = 0;
    enum mcs_status st = MCS_OK;
    for (int i = 0; i < n; i++) {
        const struct request *r = &requests[i];
        if (w->finished[r - w->requests]) continue;
        st = mcs_case_name_check(w->c->output, r->stem, ".png");
        if (st == MCS_OK) st = mcs_image_read(r->path, 0, &images[used]);
        if (st == MCS_E_NOMEM) goto done;
        if (st != MCS_OK) {
            mcs_failures_add_held(&w->failures, r->stem);
            continue;
        }
        of[used] = r;
        cases[used] = (struct saliency_case){
            .image = &images[used], .text = r->text, .stem = r->stem, .key = mcs_rng_site(r->stem)};
        used++;
    }
    st = run_cases(w, cases, of, used);
done:
    for (int i = 0; i < CHUNK; i++) mcs_image_free(&images[i]);
    return st;
}

static enum mcs_status plan(struct work *w, int n)
{
    int64_t bytes;
    MCS_TRY(mcs_saliency_bytes(w->model, &w->o, &bytes));
    printf(w->c->common.json ? "{\"cases\": %d, \"pairs\": %d, \"bytes\": %lld}\n"
                             : "%d maps would be made, %d at once in %lld bytes\n",
           n, w->o.pairs, (long long)bytes);
    return MCS_OK;
}

static enum mcs_status check_paths(const struct saliency_command *c)
{
    const struct run_output out = {c->output, "*.png;*.h5;config.yaml;failures.csv"};
    const struct run_input in[] = {{"--input", c->input, MCS_IMAGE_ENDINGS},
                                   {"--model", c->model, NULL},
                                   {"--prompts", c->prompts, NULL},
                                   {"--noise", c->m2ib.noise, NULL}};
    return mcs_run_check_paths(&c->common.command, &out, 1, in, 4);
}

/* Lines of the run's options that need the weights' hash (struct run_more). */
static enum mcs_status hash_lines(void *context, struct arena *a, const char **lines)
{
    struct work *w = context;
    MCS_TRY(mcs_clip_model_hash(w->model));
    *lines = mcs_arena_printf(a, "model_sha256: %s\n", w->model->sha256);
    if (w->c->m2ib.noise) {
        char hex[65];
        MCS_TRY(mcs_file_sha256(w->c->m2ib.noise, hex));
        *lines = mcs_arena_printf(a, "%snoise_sha256: %s\n", *lines, hex);
    }
    return mcs_arena_status(a);
}

/* Opens the run folder and reads from its record which cases are finished. */
static enum mcs_status start(struct work *w, const struct request_list *list, struct arena *a)
{
    const struct saliency_command *c = w->c;
    MCS_TRY(mcs_run_open_late(&c->common.command, c->output, (struct run_more){hash_lines, w}, &w->run));
    MCS_TRY(mcs_run_save_config(w->run));
    w->requests = list->v;
    w->finished = mcs_arena_alloc(a, (size_t)list->n + 1);
    MCS_TRY(mcs_arena_status(a));
    for (int i = 0; i < list->n; i++) {
        const struct request *r = &list->v[i];
        const struct run_source source = {(const char *const[]){r->path, NULL}, (const char *const[]){r->text, NULL}};
        w->finished[i] = (char)mcs_run_case_done(w->run, r->stem, &source, NULL);
        w->n_done += w->finished[i];
    }
    mcs_run_tell_done(w->n_done, list->n);
    return MCS_OK;
}

static enum mcs_status run_chunks(struct work *w, const struct request_list *list)
{
    const int size = w->o.pairs < CHUNK ? w->o.pairs : CHUNK;
    struct mcs_progress bar;
    mcs_progress_start(&bar, "saliency", "map", list->n);
    for (int at = 0; at < list->n; at += size) {
        const int n = list->n - at < size ? list->n - at : size;
        MCS_TRY(mcs_stop_check());
        MCS_TRY(run_chunk(w, list->v + at, n));
        mcs_progress_set(&bar, at + n);
    }
    mcs_progress_end(&bar);
    return MCS_OK;
}

static enum mcs_status run_all(struct work *w, const struct request_list *list)
{
    struct arena a = {0};
    enum mcs_status st = start(w, list, &a);
    if (st == MCS_OK && w->n_done < list->n) st = mcs_saliency_open(&w->session, w->model, &w->o);
    if (st == MCS_OK && w->n_done < list->n) st = run_chunks(w, list);
    mcs_saliency_close(&w->session);
    if (st == MCS_E_STOPPED) {
        mcs_error_clear();
        st = mcs_run_stopped(w->n_done, list->n);
    }
    if (st == MCS_OK) {
        printf(w->c->common.json ? "{\"maps\": %d}\n" : "%d maps\n", w->n_done);
        st = mcs_failures_finish(&w->failures, w->c->output, list->n_asked);
    }
    st = mcs_run_close(w->run, st);
    mcs_arena_free(&a);
    return st;
}

static enum mcs_status run(const void *options)
{
    const struct saliency_command *c = options;
    struct device d = {0};
    struct clip_model m = {0};
    struct work w = {.c = c, .model = &m};
    struct request_list list = {0};
    struct npy noise = {0};
    enum mcs_status st;
    MCS_TRY(mcs_window_use(c->window));
    MCS_REQUIRE(!c->text != !c->prompts, MCS_E_USAGE, "want one of --text and --prompts");
    MCS_TRY_GOTO(check_paths(c), st, done);
    MCS_TRY_GOTO(mcs_device_open(&c->common.device, &d), st, done);
    MCS_TRY_GOTO(mcs_clip_model_open_hashing(c->model, &d, &m), st, done);
    MCS_TRY_GOTO(mcs_requests_read(&m, c->input, MCS_IMAGE_ENDINGS, c->text, c->prompts, &w.failures, &list), st, done);
    MCS_TRY_GOTO(mcs_saliency_resolve(&c->common, &c->m2ib, &m, list.n, &noise, &w.o), st, done);
    st = c->common.dry_run ? plan(&w, list.n) : run_all(&w, &list);
done:
    if (m.params) mcs_clip_model_close(&m);
    mcs_device_close(&d);
    mcs_npy_free(&noise);
    mcs_requests_free(&list);
    mcs_failures_free(&w.failures);
    return st;
}

const struct mcs_verb mcs_verb_saliency = {.name = "saliency",
                                           .line = "map of the image regions that match a text",
                                           .options = options,
                                           .options_bytes = sizeof(struct saliency_command),
                                           .run = run};
