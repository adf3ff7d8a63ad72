/* The results of a demo run: scores.json, cases.json, cases.csv, and the table on the terminal. */
#include "train/demo/demo_results.h"

#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/path.h"

#include <math.h>
#include <stdlib.h>

/* ---- image by image ---- */

static json_t *case_json(const struct demo_run *run, int i)
{
    const struct demo_case *c = &run->test.cases[i];
    const struct demo_results *r = &run->r;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:b}", "stem", c->stem, "group", "test", "caption",
                          c->sample->caption, "prompt", c->prompt[DEMO_PROMPT_LOOK], "uncertainty_score",
                          mcs_json_number(r->score[i]), "presence", mcs_json_number(r->list[LIST_PRESENCE].v[i]),
                          "passed", r->list[LIST_PASSED].v[i] > 0);
    json_object_set_new(o, "image", json_sprintf("data/test/images/%s.png", c->stem));
    json_object_set_new(o, "truth", json_sprintf("stages/truth/%s.png", c->stem));
    json_object_set_new(o, "truth_all", json_sprintf("data/test/masks/%s.png", c->stem));
    json_object_set_new(o, "entropy", json_sprintf("stages/entropy/%s.png", c->stem));
    json_t *dsc = json_object();
    static const struct {
        const char *key;
        enum demo_stage stage;
    } shown[] = {
        {"saliency", STAGE_SALIENCY}, {"coarse", STAGE_COMPONENTS}, {"sam", STAGE_SAM}, {"network", STAGE_NETWORK}};
    for (int k = 0; k < 4; k++) {
        json_object_set_new(o, shown[k].key,
                            json_sprintf("stages/%s/%s.png", mcs_demo_stage_folders[shown[k].stage], c->stem));
        json_object_set_new(dsc, shown[k].key, mcs_json_number(r->stage[shown[k].stage].dice[i]));
    }
    json_object_set_new(o, "dsc", dsc);
    return o;
}

/* A healthy image, or one with lesions of an unseen form: what text and network found in it. */
static json_t *other_json(const struct demo_run *run, const struct demo_case *c, const char *group, int i)
{
    const int healthy = !c->sample->n_lesions;
    const struct demo_list_values *l = run->r.list;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "stem", c->stem, "group", group, "caption", c->sample->caption,
                          "prompt", c->prompt[DEMO_PROMPT_LOOK]);
    json_object_set_new(o, "image", json_sprintf("data/test_%s/images/%s.png", healthy ? "none" : "unseen", c->stem));
    json_object_set_new(o, "truth", json_sprintf("data/test_%s/masks/%s.png", healthy ? "none" : "unseen", c->stem));
    json_object_set_new(o, "sam", json_sprintf("stages/%s/%s.png", group, c->stem));
    json_object_set_new(o, "network", json_sprintf("stages/%s_network/%s.png", group, c->stem));
    if (healthy) {
        json_object_set_new(o, "presence", mcs_json_number(l[LIST_PRESENCE_NONE].v[i]));
        json_object_set_new(o, "passed", json_boolean(l[LIST_PASSED_NONE].v[i] > 0));
    } else {
        json_object_set_new(o, "dsc",
                            json_pack("{s:o, s:o}", "sam", mcs_json_number(l[LIST_UNSEEN_ZERO_SHOT].v[i]), "network",
                                      mcs_json_number(l[LIST_UNSEEN_WEAK].v[i])));
    }
    return o;
}

static enum mcs_status write_cases(const struct demo_run *run)
{
    json_t *cases = json_array();
    for (int i = 0; i < run->test.n; i++) {
        uint8_t truth[DEMO_PIXELS];
        mcs_demo_truth(&run->test.cases[i], DEMO_PROMPT_LOOK, truth);
        const enum mcs_status st = mcs_demo_write_mask(run, "stages/truth", run->test.cases[i].stem, truth);
        if (st != MCS_OK) {
            json_decref(cases);
            return mcs_trace(st, __FILE__, __LINE__);
        }
        json_array_append_new(cases, case_json(run, i));
    }
    for (int i = 0; i < run->none.n; i++)
        json_array_append_new(cases, other_json(run, &run->none.cases[i], "healthy", i));
    for (int i = 0; i < run->unseen.n; i++)
        json_array_append_new(cases, other_json(run, &run->unseen.cases[i], "unseen", i));
    return mcs_json_write(cases, JSON_INDENT(1) | JSON_REAL_PRECISION(6), "%s/cases.json", run->o->output);
}

static enum mcs_status write_csv(const struct demo_run *run)
{
    char path[MCS_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    MCS_TRY(mcs_path(path, "%s/cases.csv", run->o->output));
    FILE *f = open_memstream(&text, &bytes);
    MCS_REQUIRE(f, MCS_E_NOMEM, "no memory for cases.csv");
    fputs("case", f);
    for (int s = 0; s < DEMO_STAGES; s++) fprintf(f, ",dsc_%s", mcs_demo_stage_folders[s]);
    fputs(",uncertainty_score,presence,passed,lesions,area,bright,large,blurred,rim\n", f);
    for (int i = 0; i < run->test.n; i++) {
        const struct demo_lesion *l = &run->test.cases[i].sample->lesion[0];
        fputs(run->test.cases[i].stem, f);
        for (int s = 0; s < DEMO_STAGES; s++) fprintf(f, ",%.4f", run->r.stage[s].dice[i]);
        fprintf(f, ",%.4f,%.4f,%d,%d,%d,%d,%d,%d,%d\n", run->r.score[i], run->r.list[LIST_PRESENCE].v[i],
                run->r.list[LIST_PASSED].v[i] > 0, run->test.cases[i].sample->n_lesions, l->area, l->bright, l->large,
                l->blurred, l->rim);
    }
    fclose(f);
    const enum mcs_status st = mcs_file_write(path, text, (int64_t)bytes);
    free(text);
    return st;
}

static void put_values(json_t *o, const char *name, const double *v, int n)
{
    json_t *values = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(values, mcs_json_number(v[i]));
    json_object_set_new(o, name, values);
}

/* Every list of values, for figures over several seeds' images. */
static enum mcs_status write_scores(const struct demo_run *run)
{
    json_t *o = json_object();
    char name[64];
    for (int s = 0; s < DEMO_STAGES; s++) {
        snprintf(name, sizeof name, "stage_%s", mcs_demo_stage_folders[s]);
        put_values(o, name, run->r.stage[s].dice, run->r.stage[s].n);
    }
    for (int k = 0; k < DEMO_N_LISTS; k++) put_values(o, mcs_demo_list_names[k], run->r.list[k].v, run->r.list[k].n);
    return mcs_json_write(o, JSON_COMPACT | JSON_REAL_PRECISION(9), "%s/scores.json", run->o->output);
}

/* ---- the table ---- */

static void row(const char *name, struct bootstrap_interval r)
{
    if (isfinite(r.value)) printf("%-36s %6.3f  [%.3f, %.3f]\n", name, r.value, r.lo, r.hi);
}

static void print_stages(const struct demo_run *run)
{
    const struct demo_results *r = &run->r;
    printf("\n%-28s %6s  %-15s %6s %6s\n", "stage", "DSC", "95 % interval", "NSD", "IoU");
    for (int s = 0; s < DEMO_STAGES; s++) {
        const struct demo_score *k = &r->stage[s];
        struct bootstrap_interval v[3];
        const double *const values[3] = {k->dice, k->nsd, k->iou};
        for (int i = 0; i < 3; i++)
            if (mcs_bootstrap_mean(values[i], k->n, (uint64_t)run->o->seed, &v[i]) != MCS_OK) mcs_error_clear();
        printf("%-28s %6.3f  [%.3f, %.3f]  %6.3f %6.3f\n", mcs_demo_stage_names[s], v[0].value, v[0].lo, v[0].hi,
               v[1].value, v[2].value);
    }
}

static void print_table(const struct demo_run *run, double seconds)
{
    const struct demo_results *r = &run->r;
    print_stages(run);
    printf("\nprompts, zero-shot\n");
    row("word", mcs_demo_interval(run, LIST_WORD));
    row("look", mcs_demo_interval(run, LIST_LOOK));
    row("look and place", mcs_demo_interval(run, LIST_PLACE));
    printf("\nbaselines\n");
    for (int i = 0; i < DEMO_BASELINES; i++)
        row(mcs_demo_baselines_shown[i].name, mcs_demo_interval(run, mcs_demo_baselines_shown[i].list));
    if (run->o->ceiling) row("network on true masks", mcs_demo_interval(run, LIST_CEILING));
    printf("\npaired differences\n");
    row("zero-shot - best rule with SAM", mcs_demo_difference(run, LIST_LOOK, LIST_BEST_SAM));
    row("own look - another image's", mcs_demo_difference(run, LIST_LOOK, LIST_OTHER));
    row("network - zero-shot, all lesions", mcs_demo_difference(run, LIST_WEAK, LIST_ALL_ZERO_SHOT));
    printf("\nhealthy images\n");
    row("AUROC of the presence score", mcs_demo_presence_auroc(run));
    row("false masks", mcs_demo_interval(run, LIST_PASSED_NONE));
    row("lesions found", mcs_demo_interval(run, LIST_FOUND));
    printf("\nunseen forms\n");
    row("zero-shot", mcs_demo_interval(run, LIST_UNSEEN_ZERO_SHOT));
    row("network", mcs_demo_interval(run, LIST_UNSEEN_WEAK));
    printf("\nnetwork, all lesions\n");
    for (int a = 0; a < DEMO_AVERAGES; a++)
        row(mcs_demo_average_names[a], mcs_demo_interval(run, mcs_demo_average_lists[a]));
    printf("\nrecall@1 image to text %.3f -> %.3f, text to image %.3f -> %.3f\n", r->before.image_to_text[0].mean,
           r->after.image_to_text[0].mean, r->before.text_to_image[0].mean, r->after.text_to_image[0].mean);
    printf("two lesions: %.3f on the one asked for, %.3f on the other; presence AUROC of one generic prompt %.3f\n",
           r->prompt_dice, r->other_dice, r->presence_auroc);
    printf("entropy's AUROC for wrong pixels %.3f (outside a 2-pixel band %.3f)\n", r->errors[AVERAGE_ALL].auroc,
           r->errors[AVERAGE_ALL].auroc_outside_band);
    printf("per-case score against DSC: rank correlation %.3f; pseudo-labels %.3f; %.0f s\n", r->rank_correlation,
           r->label_dice, seconds);
}

enum mcs_status mcs_demo_write_results(struct demo_run *run, double seconds)
{
    MCS_TRY(write_cases(run));
    MCS_TRY(write_csv(run));
    MCS_TRY(write_scores(run));
    MCS_TRY(mcs_json_write(mcs_demo_summary(run, seconds), JSON_INDENT(1) | JSON_REAL_PRECISION(6), "%s/summary.json",
                           run->o->output));
    print_table(run, seconds);
    return MCS_OK;
}
