/* The verbs of CLIP and SAM on ten different images together and on each image alone (support_alone.h). Networks,
 * scores and retrieval: test_each_alone_unet.c. */
#include "data/image/image.h"
#include "data/io/store.h"
#include "infer/coarse/boxes.h"
#include "tests/support/support_alone.h"
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define OK(call) cr_assert((call) == MCS_OK, "%s (%s)", mcs_error_message(), mcs_error_trace())

TestSuite(each_alone, .init = alone_open, .fini = shell_close, .timeout = 120);

/* ---- CLIP and SAM ---- */

Test(each_alone, embed)
{
    float all[ALONE_CASES * ALONE_EMBED], one[ALONE_EMBED];
    const int64_t many[] = {ALONE_CASES, ALONE_EMBED}, single[] = {1, ALONE_EMBED};
    struct store *s;
    alone_run("mcsam embed -m clip --images $IN -o $OUT.h5");
    OK(mcs_store_open(shell_path("all.h5"), &s));
    OK(mcs_store_get(s, "image_embeddings", MCS_ARRAY_F32, 2, many, all));
    mcs_store_close(s);
    for (int i = 0; i < ALONE_CASES; i++) {
        char name[32];
        snprintf(name, sizeof name, "alone/c%d.h5", i);
        OK(mcs_store_open(shell_path(name), &s));
        OK(mcs_store_get(s, "image_embeddings", MCS_ARRAY_F32, 2, single, one));
        mcs_store_close(s);
        cr_expect(alone_distance(all + i * ALONE_EMBED, one, ALONE_EMBED) < 1e-6, "image %d", i);
        for (int k = 0; k < i; k++)
            cr_expect(alone_distance(all + i * ALONE_EMBED, all + k * ALONE_EMBED, ALONE_EMBED) > 1e-4, "%d is %d", i,
                      k);
    }
}

/* More texts than one batch, all different: the words are the binary digits of the text's number. */
Test(each_alone, embed_texts)
{
    enum { TEXTS = 40 };
    static const char *const words[6] = {"lung", "brain", "breast", "tumor", "left", "cyst"};
    char text[TEXTS][64], file[TEXTS * 64] = "";
    float all[TEXTS * ALONE_EMBED], one[ALONE_EMBED];
    const int64_t many[] = {TEXTS, ALONE_EMBED}, single[] = {1, ALONE_EMBED};
    struct store *s;
    for (int i = 0; i < TEXTS; i++) {
        strcpy(text[i], "lesion");
        for (int k = 0; k < 6; k++)
            if (i >> k & 1) strcat(strcat(text[i], " "), words[k]);
        strcat(strcat(file, text[i]), "\n");
    }
    shell_write("texts", file);
    expect("mcsam embed -m clip --texts texts -o all.h5", 0, "40 texts");
    OK(mcs_store_open(shell_path("all.h5"), &s));
    OK(mcs_store_get(s, "text_embeddings", MCS_ARRAY_F32, 2, many, all));
    mcs_store_close(s);
    for (int i = 0; i < TEXTS; i++)
        for (int k = 0; k < i; k++)
            cr_expect(alone_distance(all + i * ALONE_EMBED, all + k * ALONE_EMBED, ALONE_EMBED) > 1e-5, "'%s' is '%s'",
                      text[i], text[k]);
    for (int i = 0; i < TEXTS; i += 13) {
        shell_write("text", text[i]);
        expect("mcsam embed -m clip --texts text -o one.h5", 0, "1 texts");
        OK(mcs_store_open(shell_path("one.h5"), &s));
        OK(mcs_store_get(s, "text_embeddings", MCS_ARRAY_F32, 2, single, one));
        mcs_store_close(s);
        cr_expect(alone_distance(all + i * ALONE_EMBED, one, ALONE_EMBED) < 1e-6, "text %d", i);
    }
}

/* Rounding: products of four pairs and of one, amplified by two updates (test_saliency.c has the bound). */
Test(each_alone, saliency)
{
    alone_run("mcsam saliency -m clip -i $IN --text 'bright lesion' --steps 3 --copies 2 --pairs 4 -o $OUT");
    alone_check_arrays("", ".h5", "saliency", 1e-3);
}

Test(each_alone, coarse)
{
    struct box_list all, one;
    expect("mcsam saliency -m clip -i img --text lesion --steps 3 --copies 2 -o maps; for i in 0 1 2 3 4 5 6 7 8 9; do "
           "rm one/c$i/*; cp maps/c$i.h5 one/c$i; done; rm img/*; cp maps/*.h5 img",
           0, "10 maps");
    alone_run("mcsam coarse -i $IN -o $OUT --min-confidence 0 --keep 0");
    alone_check_masks(0, 30);
    OK(mcs_boxes_read(shell_path("all/boxes.json"), &all));
    for (int i = 0; i < ALONE_CASES; i++) {
        char name[64];
        snprintf(name, sizeof name, "alone/c%d/boxes.json", i);
        OK(mcs_boxes_read(shell_path(name), &one));
        snprintf(name, sizeof name, "c%d", i);
        const struct box_case *a = mcs_boxes_find(&all, name), *b = mcs_boxes_find(&one, name);
        cr_assert(a && b && a->n_components == b->n_components, "%s", name);
        for (int k = 0; k < a->n_components; k++) {
            const struct box_component *p = &a->components[k], *q = &b->components[k];
            cr_expect(p->x0 == q->x0 && p->y0 == q->y0 && p->x1 == q->x1 && p->y1 == q->y1 && p->area == q->area, "%s",
                      name);
            cr_assert_eq(p->n_points, q->n_points);
            cr_expect_arr_eq(p->points, q->points, (size_t)p->n_points * sizeof *p->points);
        }
        mcs_boxes_free(&one);
    }
    mcs_boxes_free(&all);
}

/* Two boxes for each image, at unique places. Case 3 has none. */
static void write_boxes(void)
{
    struct box_component two[ALONE_CASES][2] = {{{0}}};
    struct box_case cases[ALONE_CASES];
    char names[ALONE_CASES][16];
    for (int i = 0; i < ALONE_CASES; i++) {
        snprintf(names[i], sizeof names[i], "c%d.png", i);
        two[i][0] = (struct box_component){.x0 = i, .y0 = 1 + i / 2, .x1 = i + 6, .y1 = 8 + i};
        two[i][1] = (struct box_component){.x0 = 12 - i, .y0 = 9, .x1 = 22 - i, .y1 = 19 - i / 2};
        cases[i] = (struct box_case){.image = names[i],
                                     .width = ALONE_WIDTH,
                                     .height = ALONE_HEIGHT,
                                     .n_components = i == 3 ? 0 : 2,
                                     .components = two[i]};
        const struct box_list one = {.n = 1, .cases = &cases[i]};
        char path[32];
        snprintf(path, sizeof path, "one/c%d/boxes.json", i);
        OK(mcs_boxes_write(shell_path(path), &one));
    }
    OK(mcs_boxes_write(shell_path("img/boxes.json"), &(struct box_list){.n = ALONE_CASES, .cases = cases}));
}

/* A pixel whose logit is 0 up to rounding may have either label: at most 1 of 100. */
Test(each_alone, sam)
{
    write_boxes();
    alone_run("mcsam sam -m sam -i $IN --prompts-from $IN/boxes.json -o $OUT");
    alone_check_masks(ALONE_PIXELS / 100, 30);
    struct image none = alone_mask(3, 0);
    for (int i = 0; i < ALONE_PIXELS; i++) cr_assert_eq(none.pixels[i], 0);
    mcs_image_free(&none);
}

Test(each_alone, segment)
{
    alone_run("mcsam segment --clip clip --sam sam -i $IN --text 'bright lesion' --steps 3 --copies 2 --pairs 4 "
              "--min-confidence 0 --keep-stages -o $OUT");
    alone_check_arrays("saliency/", ".h5", "saliency", 1e-3);
    alone_check_masks(ALONE_PIXELS / 50, 20); /* a rounding error in a map may move its box by a pixel */
}
