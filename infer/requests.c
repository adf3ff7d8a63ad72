#include "infer/requests.h"

#include "data/io/file.h"
#include "data/text/prompts.h"
#include "engine/base/log.h"

#include <stdlib.h>
#include <string.h>

enum mcs_status mcs_text_check(const struct clip_model *m, const char *text)
{
    enum { SHOWN = 40 };
    int n_tokens, n_words = 0;
    int32_t *ids = malloc((size_t)m->config.context * sizeof *ids);
    MCS_REQUIRE(ids, MCS_E_NOMEM, "no memory to read a text");
    const enum mcs_status st = mcs_clip_encode(m->tokenizer, &m->config, text, ids, &n_tokens);
    if (st == MCS_OK) n_words = n_tokens - 2; /* [CLS] and [SEP] */
    free(ids);
    MCS_TRY(st);
    MCS_REQUIRE(n_words > 0, MCS_E_DATA, "the text '%.*s' has no words; say what to look for", SHOWN, text);
    return MCS_OK;
}

/* Lists a file, or the files of a folder, as requests without a text. */
static enum mcs_status list_images(const char *images, const char *endings, struct request_list *list)
{
    struct arena *a = &list->arena;
    if (!mcs_folder_exists(images)) {
        char stem[512];
        const char *slash = strrchr(images, '/');
        MCS_REQUIRE(mcs_file_exists(images), MCS_E_NOINPUT, "%s: no such file or folder", images);
        mcs_file_stem(images, stem, sizeof stem);
        list->v = mcs_arena_alloc(a, sizeof *list->v);
        MCS_TRY(mcs_arena_status(a));
        list->v[list->n++] =
            (struct request){mcs_arena_strdup(a, stem), mcs_arena_strdup(a, slash ? slash + 1 : images),
                             mcs_arena_strdup(a, images), NULL};
        return mcs_arena_status(a);
    }
    struct case_list cases;
    MCS_TRY(mcs_cases_list(images, endings, NULL, &cases));
    list->v = mcs_arena_alloc(a, (size_t)cases.n * sizeof *list->v);
    for (int i = 0; list->v && i < cases.n; i++)
        list->v[list->n++] =
            (struct request){mcs_arena_strdup(a, cases.files[i].stem), mcs_arena_strdup(a, cases.files[i].name),
                             mcs_arena_strdup(a, cases.files[i].path), NULL};
    mcs_cases_free(&cases);
    return mcs_arena_status(a);
}

/* Sets each request's text; requests without a usable prompt move to the failures. */
static enum mcs_status give_texts(const struct clip_model *m, const char *path, const struct prompts *prompts,
                                  struct failure_list *failures, struct request_list *list)
{
    int n = 0, n_several = 0;
    for (int i = 0; i < list->n; i++) {
        struct request *r = &list->v[i];
        const struct prompt *p = mcs_prompts_find(prompts, r->name);
        enum mcs_status st = p ? mcs_text_check(m, p->texts[0])
                               : MCS_FAIL(MCS_E_DATA, "%s has no prompt for %s, and no \"*\"", path, r->name);
        if (st == MCS_E_NOMEM) return mcs_trace(st, __FILE__, __LINE__);
        if (st != MCS_OK) {
            mcs_failures_add_held(failures, r->stem);
            continue;
        }
        r->text = mcs_arena_strdup(&list->arena, p->texts[0]);
        n_several += p->n > 1;
        list->v[n++] = *r;
    }
    list->n = n;
    if (n_several) mcs_warn("%s: %d images have several prompts; the first of each is taken", path, n_several);
    return MCS_OK;
}

enum mcs_status mcs_requests_read(const struct clip_model *m, const char *images, const char *endings, const char *text,
                                  const char *prompts_path, struct failure_list *failures, struct request_list *list)
{
    struct prompts prompts = {0};
    enum mcs_status st = MCS_OK;
    *list = (struct request_list){0};
    MCS_REQUIRE(!text != !prompts_path, MCS_E_USAGE, "want one of --text and --prompts");
    MCS_TRY_GOTO(list_images(images, endings, list), st, done);
    list->n_asked = list->n;
    if (text) {
        MCS_TRY_GOTO(mcs_text_check(m, text), st, done);
        for (int i = 0; i < list->n; i++) list->v[i].text = mcs_arena_strdup(&list->arena, text);
    } else {
        MCS_TRY_GOTO(mcs_prompts_read(prompts_path, &prompts), st, done);
        MCS_TRY_GOTO(give_texts(m, prompts_path, &prompts, failures, list), st, done);
    }
done:
    mcs_prompts_free(&prompts);
    if (st != MCS_OK) mcs_requests_free(list);
    return st;
}

void mcs_requests_free(struct request_list *list)
{
    mcs_arena_free(&list->arena);
    *list = (struct request_list){0};
}

enum mcs_status mcs_failures_finish(const struct failure_list *f, const char *folder, int n_asked)
{
    MCS_TRY(mcs_failures_write(f, folder));
    MCS_REQUIRE(!f->n, f->n < n_asked ? MCS_E_PARTIAL : MCS_E_DATA,
                "%d of %d cases failed, see %s/failures.csv; the first: %s: %s", f->n, n_asked, folder,
                f->items[0].stem, f->items[0].reason);
    return MCS_OK;
}
