/* The demo's run (test_demo.c): CLIP's fine-tuning, retrieval, the zero-shot masks, and the controls. */
#include "tests/support/support_demo_run.h"
#include "tests/support/support_figures.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- CLIP: pairs, retrieval, prompts ---- */

Test(demo, fine_tuning_takes_the_training_pairs)
{
    demo_line("mcsam finetune -m $DEMO/clip --pairs run/seed3/data/train/pairs.csv -i run/seed3/data/train/images "
              "-o again --steps 4 --batch 8 --warmup 2 --lr 0.0005 --temperature 0.08 --beta 0.15 --weight-decay 0.05 "
              "--clip-norm 1 --crop 0.9 --seed 3 --threads 2");
    demo_line("cmp again/model/open_clip_model.safetensors run/seed3/finetune/model/open_clip_model.safetensors");
    demo_line("! cmp -s again/model/open_clip_model.safetensors $DEMO/clip/open_clip_model.safetensors");
}

/* Recall at k in batches of 50 in the table's order: mean over batches. */
static double recall(const float *query, const float *candidate, int dim, int k)
{
    int found = 0;
    for (int i = 0; i < N_RETRIEVAL; i++) {
        const int first = i / 50 * 50;
        const double right = demo_dot(query + i * dim, candidate + i * dim, dim);
        int better = 0;
        for (int j = first; j < first + 50; j++)
            better += j != i && demo_dot(query + i * dim, candidate + j * dim, dim) >= right;
        found += better < k;
    }
    return (double)found / N_RETRIEVAL;
}

Test(demo, retrieval_is_of_test_pairs)
{
    json_t *summary = demo_json("run/seed3/summary.json");
    demo_line("tail -n +2 run/seed3/data/test/pairs.csv | cut -d, -f2- >captions.txt");
    for (int after = 0; after < 2; after++) {
        int dim, same;
        demo_line("mcsam embed -m %s -i run/seed3/data/test/images --texts captions.txt -o embed%d.h5",
                  after ? "run/seed3/finetune/model" : "$DEMO/clip", after);
        char name[32];
        snprintf(name, sizeof name, "embed%d.h5", after);
        float *images = demo_embeddings(name, "image_embeddings", N_RETRIEVAL, &dim),
              *texts = demo_embeddings(name, "text_embeddings", N_RETRIEVAL, &same);
        const json_t *told = json_object_get(json_object_get(summary, "retrieval"), after ? "after" : "before");
        for (int k = 1; k <= 2; k++) {
            const double i2t = recall(images, texts, dim, k), t2i = recall(texts, images, dim, k);
            expect_near(demo_number(told, k == 1 ? "i2t_r1" : "i2t_r2"), i2t, "image to text at %d: %g", k, i2t);
            expect_near(demo_number(told, k == 1 ? "t2i_r1" : "t2i_r2"), t2i, "text to image at %d: %g", k, t2i);
        }
        free(images);
        free(texts);
    }
    json_decref(summary);
}

#define NULL_PROMPTS                                                                                                   \
    "--null 'normal brain' --null 'no lesion' --null 'axial t1 mri showing a normal brain' "                           \
    "--null 'healthy brain without a lesion' --null 'axial t1 mri of a healthy brain' "                                \
    "--null 't1 mri of an unremarkable brain no mass'"

/* The prompts by look in cases.json as a file for verbs. */
static void write_looks(const json_t *cases)
{
    json_t *looks = json_object();
    for (int i = 0; i < N_TEST; i++) {
        char name[40];
        snprintf(name, sizeof name, "test_%05d.png", i);
        const char *look = json_string_value(json_object_get(json_array_get(cases, (size_t)i), "prompt"));
        json_object_set_new(looks, name, json_string(look));
    }
    cr_assert_eq(json_dump_file(looks, demo_path("looks.json"), 0), 0);
    json_decref(looks);
}

/* The same cases by the verb segment; the prompts with the place are those of the test folder's prompts.json. */
Test(demo, zero_shot_masks_are_those_of_the_verb_segment)
{
    json_t *cases = demo_json("run/seed3/cases.json"), *prompts = demo_json("run/seed3/data/test/prompts.json");
    demo_line("mkdir few && cp run/seed3/data/test/images/test_0000[0-5].png few/");
    write_looks(cases);
    demo_line("mcsam segment --clip run/seed3/finetune/model --sam $DEMO/sam -i few --prompts looks.json -o seg "
              "--keep-stages --rank confidence --min-confidence 0 --grow 12 " SALIENCY " " NULL_PROMPTS);
    demo_line("mcsam segment --clip run/seed3/finetune/model --sam $DEMO/sam -i few "
              "--prompts run/seed3/data/test/prompts.json -o seg_place --rank confidence --min-confidence 0 "
              "--grow 12 " SALIENCY " " NULL_PROMPTS);
    demo_line("mcsam segment --clip run/seed3/finetune/model --sam $DEMO/sam -i few --text 'axial t1 mri showing a "
              "lesion' -o seg_word --rank confidence --min-confidence 0 --grow 12 " SALIENCY " " NULL_PROMPTS);
    demo_line("mcsam coarse -i seg/saliency -o all --keep 0 --min-confidence 0");
    demo_line("mcsam saliency -m $DEMO/clip -i few --prompts looks.json -o start " SALIENCY);
    json_t *summary = demo_json("seg/summary.json");
    for (int i = 0; i < N_TEST; i++) {
        char stem[32], name[40];
        snprintf(stem, sizeof stem, "test_%05d", i);
        snprintf(name, sizeof name, "%s.png", stem);
        static const char *const same[][2] = {{"stages/sam", "seg"},
                                              {"stages/coarse", "seg/coarse"},
                                              {"stages/post", "all"},
                                              {"stages/saliency", "seg/saliency"},
                                              {"stages/saliency_start", "start"},
                                              {"stages/look_place", "seg_place"},
                                              {"stages/word", "seg_word"}};
        for (int k = 0; k < 7; k++) {
            uint8_t demo[DEMO_PIXELS], verb[DEMO_PIXELS];
            demo_grey(demo_path("run/seed3/%s/%s", same[k][0], name), demo);
            demo_grey(demo_path("%s/%s", same[k][1], name), verb);
            /* a map's values are rounded to grey values in float32 by the verb, in float64 by the demo */
            const int tie = strstr(same[k][0], "saliency") != NULL;
            for (int p = 0; p < DEMO_PIXELS; p++)
                cr_assert(abs(demo[p] - verb[p]) <= tie, "%s/%s, pixel %d", same[k][0], name, p);
        }
        const json_t *told = demo_row(cases, "stem", stem);
        const char *prompt = json_string_value(json_object_get(told, "prompt"));
        const char *placed = json_string_value(json_array_get(json_object_get(prompts, name), 0));
        cr_expect(!strncmp(placed, prompt, strlen(prompt)) && strstr(placed, " in the "), "'%s', '%s'", placed, prompt);
        cr_expect(!strstr(prompt, " in the "), "'%s' says a place", prompt);
        const json_t *verb = demo_row(json_object_get(summary, "cases"), "image", name);
        expect_near(demo_number(told, "presence"), demo_number(verb, "presence"), "%s: presence", name);
    }
    json_decref(summary);
    json_decref(cases);
    json_decref(prompts);
}

Test(demo, controls)
{
    json_t *summary = demo_json("run/seed3/summary.json");
    const json_t *told = json_object_get(summary, "control");
    double asked = 0, other = 0;
    for (int i = 0; i < N_TWO; i++)
        for (int p = 0; p < 2; p++) {
            uint8_t mask[DEMO_PIXELS], truth[2][DEMO_PIXELS];
            demo_mask(demo_path("run/seed3/stages/two/test_%05d_prompt%d.png", i, p), mask);
            for (int t = 0; t < 2; t++)
                demo_mask(demo_path("run/seed3/data/test_two/masks_each/test_%05d_%d.png", i, t), truth[t]);
            asked += figure_dice(mask, truth[p], DEMO_PIXELS) / (2 * N_TWO);
            other += figure_dice(mask, truth[1 - p], DEMO_PIXELS) / (2 * N_TWO);
        }
    expect_near(demo_number(told, "prompt_dsc"), asked, "asked for: %g", asked);
    expect_near(demo_number(told, "other_dsc"), other, "the other: %g", other);
    cr_expect_eq((int)demo_number(told, "n_two_lesion_images"), N_TWO);
    cr_expect(asked > 0 && other > 0, "%g and %g: the comparison says nothing", asked, other);

    int dim, same;
    float score[N_TEST + N_NONE];
    uint8_t lesion[N_TEST + N_NONE];
    demo_line(
        "mkdir both && for i in 0 1 2 3 4 5; do cp run/seed3/data/test/images/test_0000$i.png both/a$i.png; done && "
        "for i in 0 1 2 3; do cp run/seed3/data/test_none/images/test_0000$i.png both/b$i.png; done && "
        "printf 'axial t1 mri showing a lesion\\nnormal brain\\nno lesion\\naxial t1 mri showing a normal brain\\n"
        "healthy brain without a lesion\\naxial t1 mri of a healthy brain\\n"
        "t1 mri of an unremarkable brain no mass\\n' >presence.txt && "
        "mcsam embed -m run/seed3/finetune/model -i both --texts presence.txt -o both.h5");
    float *images = demo_embeddings("both.h5", "image_embeddings", N_TEST + N_NONE, &dim),
          *texts = demo_embeddings("both.h5", "text_embeddings", 7, &same);
    for (int i = 0; i < N_TEST + N_NONE; i++) {
        double s = demo_dot(images + i * dim, texts, dim);
        for (int t = 1; t < 7; t++) s -= demo_dot(images + i * dim, texts + t * dim, dim) / 6;
        score[i] = (float)s;
        lesion[i] = i < N_TEST;
    }
    const double auroc = figure_auroc(score, lesion, N_TEST + N_NONE);
    expect_near(demo_number(told, "presence_auroc"), auroc, "presence: %g, recomputed %g",
                demo_number(told, "presence_auroc"), auroc);
    free(images);
    free(texts);
    json_decref(summary);
}

/* ---- baselines, prompts, healthy images ---- */

/* Mean DSC of the masks in stages/FOLDER with the lesions of the look, or with all lesions. */
static double mean_of_masks(const char *name, int all)
{
    double sum = 0;
    for (int i = 0; i < N_TEST; i++) {
        uint8_t mask[DEMO_PIXELS], truth[DEMO_PIXELS];
        demo_mask(demo_path("run/seed3/stages/%s/test_%05d.png", name, i), mask);
        if (all)
            demo_truth(i, truth);
        else
            demo_look_truth(i, truth);
        sum += figure_dice(mask, truth, DEMO_PIXELS) / N_TEST;
    }
    return sum;
}

Test(demo, baselines_are_scored_by_their_masks)
{
    static const struct {
        const char *name, *folder;
    } rows[] = {{"rule_sam", "rule_sam"},
                {"rule_words_sam", "rule_words_sam"},
                {"random_box_sam", "random_box_sam"},
                {"other_look", "other_look"},
                {"no_prompt", "no_prompt"}};
    json_t *summary = demo_json("run/seed3/summary.json");
    const json_t *prompts = json_object_get(summary, "prompts");
    for (int k = 0; k < 5; k++) {
        const double told = demo_number(demo_row(json_object_get(summary, "baselines"), "name", rows[k].name), "dsc"),
                     want = mean_of_masks(rows[k].folder, 0);
        expect_near(told, want, "%s: %g, recomputed %g", rows[k].name, told, want);
    }
    /* the word alone means all lesions; all_lesions asks for each */
    const double word = demo_number(json_object_get(prompts, "word"), "zero_shot"),
                 look = demo_number(json_object_get(prompts, "look"), "zero_shot"),
                 all = demo_number(json_object_get(summary, "all_lesions"), "zero_shot");
    expect_near(word, mean_of_masks("word", 1), "word: %g", word);
    expect_near(look, mean_of_masks("sam", 0), "look: %g", look);
    expect_near(all, mean_of_masks("sam_all", 1), "all lesions: %g", all);
    const json_t *shuffled = json_object_get(summary, "shuffled");
    expect_near(demo_number(shuffled, "difference"), mean_of_masks("sam", 0) - mean_of_masks("other_look", 0),
                "own look less another's");
    cr_expect_eq((int)demo_number(shuffled, "images"), N_TEST);
    json_decref(summary);
}

/* The verb segment with the demo's threshold gives as many masks. */
Test(demo, healthy_images_are_those_of_the_verb_segment)
{
    json_t *summary = demo_json("run/seed3/summary.json"), *cases = demo_json("run/seed3/cases.json"), *one;
    const json_t *told = json_object_get(summary, "healthy");
    json_t *asked = json_object();
    size_t k;
    int passed = 0, n = 0;
    json_array_foreach(cases, k, one)
    {
        char name[64];
        if (strcmp(json_string_value(json_object_get(one, "group")), "healthy") != 0) continue;
        snprintf(name, sizeof name, "%s.png", json_string_value(json_object_get(one, "stem")));
        json_object_set(asked, name, json_object_get(one, "prompt"));
        passed += json_is_true(json_object_get(one, "passed"));
        n++;
    }
    cr_assert_eq(n, N_NONE);
    cr_assert_eq(json_dump_file(asked, demo_path("asked.json"), 0), 0);
    json_decref(asked);
    expect_near(demo_number(told, "false_mask_share"), (double)passed / N_NONE, "%d of %d", passed, N_NONE);
    demo_line(
        "mcsam segment --clip run/seed3/finetune/model --sam $DEMO/sam -i run/seed3/data/test_none/images "
        "--prompts asked.json -o healthy --rank confidence --min-confidence 0 --grow 12 --min-presence %.9g " SALIENCY
        " " NULL_PROMPTS,
        demo_number(told, "min_presence"));
    for (int i = 0; i < N_NONE; i++) {
        uint8_t mask[DEMO_PIXELS];
        demo_mask(demo_path("healthy/test_%05d.png", i), mask);
        passed -= memchr(mask, 255, DEMO_PIXELS) != NULL;
    }
    cr_expect_eq(passed, 0, "%d masks more than by the verb", passed);
    json_decref(summary);
    json_decref(cases);
}
