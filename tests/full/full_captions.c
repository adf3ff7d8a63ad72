/* Fine-tuning on 20,000 captions of realistic length: 2,000 steps of small towers at two batch sizes, 20 of
 * BiomedCLIP's, on one and two ranks. Each run succeeds and takes the device memory that its dry run prints; its
 * resident memory does not grow after all batch sizes have occurred. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "data/image/image.h"
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/dist/comm.h"
#include "tests/support/support_captions.h"
#include "tests/support/support_tiny.h"

#define OK(expr) cr_assert_eq((expr), MCS_OK, "%s", mcs_error_message())

static const char *folder;
static void setup(void)
{
    mcs_log_quiet(1);
    folder = tiny_folder("full_captions");
}
static void teardown(void)
{
    tiny_remove(folder);
}
TestSuite(full_captions, .init = setup, .fini = teardown, .timeout = 3600);

/* A vocabulary of BiomedCLIP's size; captions use one of its words. */
static const char *vocabulary(int n)
{
    const char *path = tiny_path(folder, "vocab.txt");
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n", f);
    for (int i = 6; i < n; i++) fprintf(f, "w%d\n", i);
    cr_assert_eq(fclose(f), 0);
    return path;
}

static void train(struct clip_config c, const char *words, int64_t batch, int ranks, int64_t steps, int64_t early)
{
    struct image img;
    const char *image = tiny_path(folder, "image.png");
    OK(mcs_image_alloc(&img, 8, 8, 1));
    for (int i = 0; i < 64; i++) img.pixels[i] = (uint8_t)(3 * i);
    OK(mcs_image_write_png(image, &img));
    mcs_image_free(&img);
    struct pairs pairs = caption_pairs(20000, image);
    struct caption_run run = {.config = c,
                              .vocabulary = words,
                              .folder = tiny_path(folder, "run"),
                              .pairs = &pairs,
                              .batch = batch,
                              .steps = steps,
                              .early = early};
    OK(caption_run(&run, ranks));
    fprintf(stderr,
            "width %d, batch %lld, %d ranks, %lld steps: dry run %.1f MiB, taken %.1f MiB; resident %.1f MiB at step "
            "%lld, %.1f MiB at the end; at most %lld caption tokens\n",
            c.t_width, (long long)batch, ranks, (long long)steps, (double)run.planned[0] / 1048576,
            (double)run.taken[0] / 1048576, run.early_mib, (long long)early, run.last_mib, (long long)run.max_rows[0]);
    for (int r = 0; r < ranks; r++) {
        cr_expect_float_eq((double)run.planned[r], (double)run.taken[r], 0.02 * (double)run.taken[r]);
        cr_expect_eq(run.allocations[r], 0);
        cr_expect_leq(run.most_rows[r], run.max_rows[r]);
    }
    cr_expect_float_eq(run.last_mib, run.early_mib, 0.01 * run.early_mib);
    caption_pairs_free(&pairs);
}

#define GOLDEN_VOCABULARY MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt"
Test(full_captions, batch_64_one_rank)
{
    train(caption_towers(), GOLDEN_VOCABULARY, 64, 1, 2000, 100);
}
Test(full_captions, batch_64_two_ranks)
{
    train(caption_towers(), GOLDEN_VOCABULARY, 64, 2, 2000, 100);
}
Test(full_captions, batch_256_one_rank)
{
    train(caption_towers(), GOLDEN_VOCABULARY, 256, 1, 2000, 100);
}
Test(full_captions, batch_256_two_ranks)
{
    train(caption_towers(), GOLDEN_VOCABULARY, 256, 2, 2000, 100);
}

Test(full_captions, full_size_one_rank)
{
    const struct clip_config c = mcs_clip_biomed();
    train(c, vocabulary(c.vocab), 4, 1, 20, 10);
}
Test(full_captions, full_size_two_ranks)
{
    const struct clip_config c = mcs_clip_biomed();
    train(c, vocabulary(c.vocab), 4, 2, 20, 10);
}
