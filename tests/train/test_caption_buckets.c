/* Buckets of token rows: any batch fits into one, the largest batch of a run is known before it, and runs with captions
 * of realistic lengths take the planned memory. Ranks with different captions: test_caption_lengths.c. */
#include "engine/base/log.h"
#include "tests/support/support_captions.h"
#include "tests/support/support_folder.h"
#include "tests/support/support_tiny.h"
#include "train/clip/clip_sessions.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())
#define VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"

enum { PIXELS = 8 * 8 * 3 };

static void setup(void)
{
    mcs_log_quiet(1);
    test_folder_open("captions");
}
TestSuite(captions, .init = setup, .fini = test_folder_close, .timeout = 300);

/* ---- buckets ---- */

Test(captions, buckets_hold_any_batch)
{
    int64_t rows[CLIP_MAX_BUCKETS];
    for (int64_t most = 1; most < 200000; most += 1 + most / 7) {
        const int n = mcs_clip_buckets(most, rows);
        cr_assert(n >= 1 && n <= CLIP_MAX_BUCKETS, "%d buckets", n);
        cr_expect(rows[n - 1] >= most && rows[n - 1] < most + CLIP_BUCKET_STEP, "%lld rows for %lld",
                  (long long)rows[n - 1], (long long)most);
        for (int i = 0; i < n; i++) {
            cr_expect_eq(rows[i] % CLIP_BUCKET_STEP, 0);
            if (!i) continue;
            cr_expect_lt(rows[i - 1], rows[i]);
            /* the smallest batch of bucket i has one row more than bucket i - 1 holds */
            cr_expect_leq((double)rows[i], exp2(0.25) * (double)(rows[i - 1] + 1) + CLIP_BUCKET_STEP);
        }
        cr_expect_leq((double)rows[0], (double)most / 6.7 + CLIP_BUCKET_STEP);
    }
    const struct clip_sessions p = {.n = 3, .rows = {64, 128, 256}};
    cr_expect_eq(mcs_clip_sessions_find(&p, 1), 0);
    cr_expect_eq(mcs_clip_sessions_find(&p, 64), 0);
    cr_expect_eq(mcs_clip_sessions_find(&p, 65), 1);
    cr_expect_eq(mcs_clip_sessions_find(&p, 256), 2);
    cr_expect_eq(mcs_clip_sessions_find(&p, 257), -1);
}

static void write_image(const char *path)
{
    struct image img;
    OK(mcs_image_alloc(&img, 8, 8, 1));
    for (int i = 0; i < 64; i++) img.pixels[i] = (uint8_t)(3 * i);
    OK(mcs_image_write_png(path, &img));
    mcs_image_free(&img);
}

/* mcs_pair_source_max_rows equals the largest batch: it includes every epoch's order, each rank's share and the
 * truncation to the context. */
Test(captions, max_rows_is_the_longest_batch)
{
    struct device d;
    struct clip_model m;
    struct pair_source s;
    const struct clip_config config = caption_towers();
    const char *image = tiny_path(test_folder, "image.png");
    write_image(image);
    struct pairs pairs = caption_pairs(50, image);
    pairs.v[3].caption = (char *)(uintptr_t)caption_of(CAPTION_CONTEXT); /* as long as the context */
    char beyond[2 * CAPTION_CONTEXT + 100] = "a";
    for (size_t i = 1; i + 2 < sizeof beyond; i += 2) memcpy(beyond + i, " a", 3);
    pairs.v[7].caption = beyond; /* truncated to the context */
    OK(mcs_cpu_open(1, &d));
    OK(mcs_clip_model_new(&config, VOCABULARY, 5, &d, NULL, &m));
    OK(mcs_pair_source_open(&s, &pairs, &m.config, 12, 1, 9));
    float images[12 * PIXELS];
    const char *texts[12];
    int32_t sample[12];
    for (int ranks = 1; ranks <= 3; ranks++)
        for (int64_t steps = 1; steps < 40; steps += 6) {
            int64_t most = 0, said;
            for (int64_t step = 0; step < steps; step++)
                for (int r = 0; r < ranks; r++) {
                    struct clip_batch b = {r * 12 / ranks, 12 / ranks, images, texts, sample};
                    int64_t rows = 0;
                    OK(mcs_pair_source_fill(&s, step, &b));
                    for (int i = 0; i < b.n; i++) {
                        const int tokens = 2 + (int)(strlen(texts[i]) + 1) / 2;
                        rows += tokens < CAPTION_CONTEXT ? tokens : CAPTION_CONTEXT;
                    }
                    if (rows > most) most = rows;
                }
            OK(mcs_pair_source_max_rows(&s, m.tokenizer, steps, ranks, &said));
            cr_expect_eq(said, most, "%lld steps, %d ranks: %lld, want %lld", (long long)steps, ranks, (long long)said,
                         (long long)most);
        }
    /* A run too long to enumerate: the upper bound, as if a rank drew all of the longest captions. */
    int64_t said, sum = 0, taken = 0;
    int used[50] = {0};
    for (int k = 0; k < 6; k++) {
        int best = -1;
        for (int i = 0; i < 50; i++)
            if (!used[i] && (best < 0 || caption_tokens(&pairs, i) > caption_tokens(&pairs, best))) best = i;
        used[best] = 1;
        taken = caption_tokens(&pairs, best);
        sum += taken < CAPTION_CONTEXT ? taken : CAPTION_CONTEXT;
    }
    OK(mcs_pair_source_max_rows(&s, m.tokenizer, 100000000, 2, &said));
    cr_expect_eq(said, sum);
    mcs_pair_source_close(&s);
    mcs_clip_model_close(&m);
    mcs_cpu_close(&d);
    caption_pairs_free(&pairs);
}

/* ---- realistic lengths ---- */

/* The run succeeds, takes the device memory that the dry run prints (plus the communicator's buffer), and allocates
 * nothing after the first step. */
static void ends_well(int64_t batch, int ranks, int64_t steps)
{
    const char *image = tiny_path(test_folder, "image.png");
    write_image(image);
    struct pairs pairs = caption_pairs(2000, image);
    struct caption_run run = {.config = caption_towers(),
                              .vocabulary = VOCABULARY,
                              .folder = tiny_path(test_folder, "run_%d_%d", (int)batch, ranks),
                              .pairs = &pairs,
                              .batch = batch,
                              .steps = steps,
                              .early = steps / 2};
    OK(caption_run(&run, ranks));
    for (int r = 0; r < ranks; r++) {
        const int64_t of_comm = ranks > 1 ? (1 + ranks) * COMM_VALUES * (int64_t)sizeof(float) : 0;
        cr_expect_eq(run.taken[r], run.planned[r] + of_comm, "rank %d took %lld bytes, the dry run says %lld", r,
                     (long long)run.taken[r], (long long)run.planned[r]);
        cr_expect_eq(run.allocations[r], 0, "%d allocations after the first step", run.allocations[r]);
        cr_expect_leq(run.most_rows[r], run.max_rows[r]);
    }
    caption_pairs_free(&pairs);
}

Test(captions, of_realistic_length_one_rank)
{
    ends_well(64, 1, 200);
    ends_well(256, 1, 30);
}
Test(captions, of_realistic_length_two_ranks)
{
    ends_well(64, 2, 60);
    ends_well(256, 2, 30);
}
