/* Sessions on a device: their allocations, plans and copies, and their results compared with those of a fresh one. */
#include <criterion/criterion.h>
#include <string.h>

#include "infer/sam/sam_prompts.h"
#include "infer/unet/ensemble.h"
#include "tests/support/support_counted.h"
#include "tests/support/support_pipeline.h"

enum { IMAGES = 2, HEIGHT = 13, COLUMNS = 25, PIXELS = HEIGHT * COLUMNS };

/* Predicts n of the images of one width in an open ensemble; the probabilities must be those of a fresh one, or within
 * 1e-6 where that plans a smaller batch. */
static void expect_as_fresh(struct ensemble *e, const char *folder, int n, int columns)
{
    static float images[IMAGES * PIXELS], kept[IMAGES * 2 * PIXELS], fresh[IMAGES * 2 * PIXELS];
    const enum ensemble_choice last = ENSEMBLE_LAST;
    const struct sliding_options o = {.step = 0.5, .mirror = 0, .batch = 3};
    const struct ensemble_maps to_kept = {.prob = kept}, to_fresh = {.prob = fresh};
    struct ensemble other;
    for (int i = 0; i < n * HEIGHT * columns; i++) images[i] = (float)((i * 7 + n) % 11 - 5);
    memset(kept, 77, sizeof kept);
    memset(fresh, 77, sizeof fresh);
    OK(mcs_ensemble_run(e, &o, images, n, HEIGHT, columns, &last, 1, 0, &to_kept));
    OK(mcs_ensemble_open(folder, &last, 1, &device[GPU], &other));
    OK(mcs_ensemble_run(&other, &o, images, n, HEIGHT, columns, &last, 1, 0, &to_fresh));
    mcs_ensemble_close(&other);
    const double bound = n == 1 && columns <= PATCH ? 1e-6 : 0; /* 1 window, not 3 */
    for (int i = 0; i < n * 2 * HEIGHT * columns; i++)
        cr_assert_float_eq(kept[i], fresh[i], bound, "%d images, %d columns: value %d", n, columns, i);
}

/* An ensemble keeps its graph and, while the size of the images stays, its windows. */
Test(pipeline, an_ensemble_plans_once, .timeout = 400)
{
    const enum ensemble_choice last = ENSEMBLE_LAST;
    const char *folder = tiny_folder("once");
    struct ensemble e;
    open_devices();
    make_run(folder, 2);
    OK(mcs_ensemble_open(folder, &last, 1, &device[GPU], &e));
    expect_as_fresh(&e, folder, IMAGES, COLUMNS);
    const struct exec *planned = e.model.exec;
    const float *windows = e.sliding.images;
    expect_as_fresh(&e, folder, 1, COLUMNS);
    cr_expect(e.model.exec == planned && e.sliding.images == windows);
    expect_as_fresh(&e, folder, 1, PATCH);
    expect_as_fresh(&e, folder, IMAGES, COLUMNS);
    cr_expect(e.model.exec == planned);
    mcs_ensemble_close(&e);
    tiny_remove(folder);
    close_devices();
}

/* The image embeddings never leave the device: 3 images are encoded by 3 uploads of pixels, and nothing as large as an
 * embedding travels otherwise. A second call allocates and plans nothing. */
Test(pipeline, embeddings_stay_on_the_device, .timeout = 400)
{
    enum { N = 3, SIDE = 12 };
    const struct sam_config c = tiny_sam_config();
    const struct sam_options o = mcs_sam_defaults(MCS_PAPER);
    struct box_component box = {.x0 = 2, .y0 = 3, .x1 = 9, .y1 = 8};
    const struct box_case prompts = {
        .image = "a", .width = SIDE, .height = SIDE, .n_components = 1, .components = &box};
    struct sam_result results[N];
    struct sam_case cases[N];
    struct image images[N];
    struct sam_model m;
    open_devices();
    choose_precision(GPU);
    support_count(&device[GPU]);
    for (int i = 0; i < N; i++) {
        draw(&images[i], SIDE, SIDE, (uint32_t)i);
        cases[i] = (struct sam_case){&images[i], &prompts};
    }
    OK(mcs_sam_model_new(&c, 5, &device[GPU], &m));
    for (int run = 0; run < 2; run++) {
        support_counts = (struct support_counts){.large_bytes = mcs_sam_embedding_values(&c) * 4};
        OK(mcs_sam_segment(&m, &o, cases, N, results));
        if (run) cr_expect_eq(support_counts.n_large_uploads, N); /* a first run also fills constants */
        cr_expect_eq(support_counts.n_large_downloads, 0);
        if (run) cr_expect(support_counts.n_allocs == 0 && support_counts.n_prepared == 0);
        for (int i = 0; i < N; i++) mcs_sam_result_free(&results[i]);
    }
    mcs_sam_model_close(&m);
    for (int i = 0; i < N; i++) mcs_image_free(&images[i]);
    close_devices();
}
