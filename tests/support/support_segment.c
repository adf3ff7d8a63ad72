#include "tests/support/support_segment.h"

#include "engine/base/rng.h"
#include "tests/support/support_shell.h"
#include "tests/support/support_tiny.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

struct device segment_device;
struct clip_model segment_clip;
struct sam_model segment_sam;

void segment_paint(struct image *img, int i)
{
    const struct mcs_rng r = {.seed = 8, .site = mcs_rng_site("tests.segment"), .sample = (uint32_t)i};
    OK(mcs_image_alloc(img, SEGMENT_WIDTH, SEGMENT_HEIGHT, 1));
    for (int y = 0; y < SEGMENT_HEIGHT; y++)
        for (int x = 0; x < SEGMENT_WIDTH; x++) {
            const int dx = x - 8 - 6 * i, dy = y - 10 - i, in = dx * dx + dy * dy < 30;
            img->pixels[y * SEGMENT_WIDTH + x] =
                (uint8_t)((in ? 180 : 30) + mcs_rng_below(r, (uint32_t)(y * SEGMENT_WIDTH + x), 60));
        }
}

void segment_open(void)
{
    const struct sam_config s = tiny_sam_config();
    shell_open(MCS_BINARY, "--threads 1 --quiet");
    struct clip_config c = tiny_clip_config();
    c.image_size = 48; /* 6 x 6 tokens: maps of several components */
    OK(mcs_cpu_open(1, &segment_device));
    OK(mcs_clip_model_new(&c, MCS_SOURCE_DIR "/tests/golden/tokenizer_vocab.txt", 11, &segment_device, NULL,
                          &segment_clip));
    OK(mcs_clip_model_save(&segment_clip, shell_path("clip"), 0));
    OK(mcs_sam_model_new(&s, 2, &segment_device, &segment_sam));
    OK(mcs_sam_model_save(&segment_sam, shell_path("sam"), 0, NULL));
    expect("mkdir img", 0, "");
    for (int i = 0; i < 3; i++) {
        struct image img;
        char name[32];
        segment_paint(&img, i);
        snprintf(name, sizeof name, "img/%c.png", 'a' + i);
        OK(mcs_image_write_png(shell_path(name), &img));
        mcs_image_free(&img);
    }
}

void segment_close(void)
{
    mcs_clip_model_close(&segment_clip);
    mcs_sam_model_close(&segment_sam);
    mcs_cpu_close(&segment_device);
    shell_close();
}
