/* Exhausted memory is an error everywhere: the N-th allocation of this program's code fails, for every N, while a
 * network is built, planned and run, a model is opened, and a saliency map is computed. Each time the status is
 * MCS_E_NOMEM with a message (or the run did not need that memory), nothing crashes, and with the sanitizers nothing is
 * left allocated. The linker redirects the calls (--wrap), so those of libraries never fail here. */
#include "data/image/image.h"
#include "data/io/file.h"
#include "engine/model/layers.h"
#include "engine/model/unet.h"
#include "engine/tape/exec.h"
#include "engine/tape/grad.h"
#include "infer/clip/saliency.h"
#include "infer/sam/sam_model.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

/* ---- allocations that fail ---- */

static int n_calls, first_failing, all_later; /* first_failing 0: none fails */

static int fails(void)
{
    const int n = __atomic_add_fetch(&n_calls, 1, __ATOMIC_RELAXED);
    return first_failing && (all_later ? n >= first_failing : n == first_failing);
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
char *__real_strdup(const char *s);
FILE *__real_open_memstream(char **text, size_t *bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
char *__wrap_strdup(const char *s);
FILE *__wrap_open_memstream(char **text, size_t *bytes);

void *__wrap_malloc(size_t bytes)
{
    return fails() ? NULL : __real_malloc(bytes);
}
void *__wrap_calloc(size_t n, size_t bytes)
{
    return fails() ? NULL : __real_calloc(n, bytes);
}
void *__wrap_realloc(void *p, size_t bytes)
{
    return fails() ? NULL : __real_realloc(p, bytes);
}
void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : __real_aligned_alloc(alignment, bytes);
}
char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}
FILE *__wrap_open_memstream(char **text, size_t *bytes)
{
    return fails() ? NULL : __real_open_memstream(text, bytes);
}

/* The task once without a failure, then with the first, second ... allocation failing: alone, and with all later ones.
 * Tasks with very many allocations are walked in steps, each of the first 200 alone. */
static void walk(const char *name, enum mcs_status (*task)(void))
{
    mcs_error_clear();
    first_failing = n_calls = 0;
    cr_assert_eq(task(), MCS_OK, "%s: %s", name, mcs_error_message());
    const int n = n_calls;
    if (!n) cr_skip_test("the libraries are shared: their calls are not redirected"); /* ./run mutants --cpu */
    int refused = 0;
    for (all_later = 0; all_later < 2; all_later++)
        for (int i = 1; i <= n; i += i < 200 ? 1 : 1 + n / 100) {
            mcs_error_clear();
            n_calls = 0;
            first_failing = i;
            const enum mcs_status st = task();
            first_failing = 0;
            refused += st == MCS_E_NOMEM;
            cr_expect(st == MCS_E_NOMEM || st == MCS_OK, "%s: allocation %d of %d%s: status %d: %s (%s)", name, i, n,
                      all_later ? " and all later ones" : "", st, mcs_error_message(), mcs_error_trace());
            cr_expect(st == MCS_OK || mcs_error_message()[0], "%s: allocation %d of %d: no message", name, i, n);
        }
    cr_expect_gt(refused, n / 2, "%s: only %d of %d failures were noticed", name, refused, n);
    mcs_error_clear();
}

/* ---- tasks ---- */

static struct device cpu;
static const char *folder;
static char clip[256];

static void setup(void)
{
    OK(mcs_cpu_open(1, &cpu));
    folder = tiny_folder("no_memory");
    snprintf(clip, sizeof clip, "%s/clip", folder);
    tiny_clip_model(clip);
}
static void teardown(void)
{
    mcs_cpu_close(&cpu);
    tiny_remove(folder);
}
TestSuite(no_memory, .init = setup, .fini = teardown, .timeout = 600);

enum { SIDE = 16 };

/* One training step of a small U-Net. */
static enum mcs_status train_unet(void)
{
    const struct unet_config c = mcs_unet_2d(1, 2, 2, 4, 8);
    const struct dice_ce_attr attr = {.batch_dice = 1, .smooth = 1e-5f, .weight_ce = 1, .weight_dice = 1};
    static const float image[SIDE * SIDE] = {1};
    static const int32_t label[SIDE * SIDE] = {1};
    struct params *p = mcs_params_new();
    struct graph *g = mcs_graph_new(p, MCS_F32);
    struct tensor *out[UNET_MAX_STAGES];
    struct exec *e = NULL;
    float value;
    enum mcs_status st;
    struct tensor *x = mcs_input(g, "image", MCS_F32, MCS_DIMS(1, SIDE, SIDE, 1));
    struct tensor *target = mcs_constant(g, "target", MCS_I32, MCS_DIMS(1, SIDE, SIDE), label);
    mcs_unet(g, x, &c, 0, out);
    struct tensor *loss = mcs_keep(mcs_apply(g, OP_dice_ce, "loss", (struct tensor *[]){out[0], target}, &attr));
    MCS_TRY_GOTO(mcs_graph_status(g), st, done);
    MCS_TRY_GOTO(mcs_grad(g, &loss, 1), st, done);
    MCS_TRY_GOTO(mcs_params_alloc(p, &cpu), st, done);
    MCS_TRY_GOTO(mcs_params_alloc_grad(p), st, done);
    MCS_TRY_GOTO(mcs_params_init(p, 1), st, done);
    MCS_TRY_GOTO(mcs_exec_new(g, &cpu, &e), st, done);
    MCS_TRY_GOTO(mcs_exec_set(e, x, image), st, done);
    MCS_TRY_GOTO(mcs_exec_run(e), st, done);
    st = mcs_exec_get(e, loss, &value);
done:
    mcs_exec_free(e);
    mcs_graph_free(g);
    mcs_params_free(p);
    return st;
}

static enum mcs_status make_sam(void)
{
    const struct sam_config c = tiny_sam_config();
    struct sam_model m;
    const enum mcs_status st = mcs_sam_model_new(&c, 1, &cpu, &m);
    if (st == MCS_OK) mcs_sam_model_close(&m);
    return st;
}

static enum mcs_status open_clip(void)
{
    struct clip_model m;
    const enum mcs_status st = mcs_clip_model_open(clip, &cpu, &m);
    if (st == MCS_OK) mcs_clip_model_close(&m);
    return st;
}

static struct clip_model opened;

static enum mcs_status map_of_an_image(void)
{
    static uint8_t pixels[20 * 18];
    const struct image img = {20, 18, 1, pixels};
    struct saliency_options o = mcs_saliency_defaults();
    struct saliency_case one = {.image = &img, .text = "a bright lesion", .key = 5};
    static const char *const nulls[] = {"the right side"};
    struct saliency s;
    o.steps = 3, o.copies = 2, o.pairs = 1;
    o.null_texts = nulls, o.n_null = 1;
    for (int i = 0; i < 20 * 18; i++) pixels[i] = (uint8_t)(i * 7 % 251);
    enum mcs_status st = mcs_saliency_open(&s, &opened, &o);
    if (st == MCS_OK) {
        st = mcs_saliency_run(&s, &one, 1, NULL, 0);
        mcs_saliency_close(&s);
    }
    mcs_map_free(&one.map);
    return st;
}

Test(no_memory, a_network_is_built_planned_and_run)
{
    walk("U-Net", train_unet);
}

Test(no_memory, a_model_is_made)
{
    walk("SAM", make_sam);
}

Test(no_memory, a_model_is_opened)
{
    walk("CLIP", open_clip);
}

/* A session is opened, used and closed; after a failure the model is as usable as before. */
Test(no_memory, a_saliency_map_is_computed)
{
    OK(mcs_clip_model_open(clip, &cpu, &opened));
    walk("saliency", map_of_an_image);
    OK(map_of_an_image());
    mcs_clip_model_close(&opened);
}
