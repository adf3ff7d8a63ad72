/* Sessions on a device: their allocations, plans and copies, and their results compared with those of a fresh one. */
#include <criterion/criterion.h>
#include <string.h>

#include "infer/sam/sam_prompts.h"
#include "tests/support/support_counted.h"
#include "tests/support/support_pipeline.h"

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
