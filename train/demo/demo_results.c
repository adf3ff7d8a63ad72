/* The results of a demo run: summary.json, cases.json, cases.csv, and the table on the terminal. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/log.h"
#include "engine/base/path.h"
#include "infer/metrics/metrics.h"
#include "train/demo/demo_run.h"

#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>

static json_t *interval(const struct mean_interval *m)
{
    return json_pack("[o,o]", mcs_json_number(m->lo), mcs_json_number(m->hi));
}

static json_t *stages_json(const struct demo_results *r)
{
    json_t *list = json_array();
    for (int s = 0; s < DEMO_STAGES; s++) {
        const struct demo_score *k = &r->stage[s];
        const struct mean_interval dice = mcs_mean_interval(k->dice, k->n), nsd = mcs_mean_interval(k->nsd, k->n),
                                   iou = mcs_mean_interval(k->iou, k->n);
        json_array_append_new(list, json_pack("{s:s, s:o, s:o, s:o, s:o}", "stage", mcs_demo_stage_names[s], "dsc",
                                              mcs_json_number(dice.mean), "dsc_interval", interval(&dice), "nsd",
                                              mcs_json_number(nsd.mean), "iou", mcs_json_number(iou.mean)));
    }
    return list;
}

static json_t *baselines_json(const struct demo_results *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->n_baselines; i++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:s}", "name", r->baseline[i].name, "dsc",
                                              mcs_json_number(r->baseline[i].dice), "what", r->baseline[i].what));
    if (isfinite(r->ceiling))
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:s}", "name", "ceiling: true masks", "dsc", mcs_json_number(r->ceiling),
                            "what", "the same network trained on the true masks instead of the pseudo-labels"));
    return list;
}

static json_t *recall_json(const struct recall_result *r)
{
    const struct {
        const char *key;
        const struct mean_interval *m;
    } v[] = {{"i2t_r1", &r->image_to_text[0]},
             {"i2t_r2", &r->image_to_text[1]},
             {"t2i_r1", &r->text_to_image[0]},
             {"t2i_r2", &r->text_to_image[1]}};
    json_t *o = json_object();
    for (int i = 0; i < 4; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s_interval", v[i].key);
        json_object_set_new(o, v[i].key, mcs_json_number(v[i].m->mean));
        json_object_set_new(o, key, interval(v[i].m));
    }
    return o;
}

/* Kinds of lesions for which the DSC is also reported ("by_type"). */
static const char *const kinds[] = {"small", "large", "bright", "dark", "with a rim", "without a rim"};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

static int is_of_kind(const struct demo_lesion *l, int kind)
{
    const int is[N_KINDS] = {!l->large, l->large, l->bright, !l->bright, l->rim, !l->rim};
    return is[kind];
}

/* Mean DSC of a stage over the n test cases of a kind. */
static double mean_of(const struct demo_run *run, enum demo_stage stage, int kind, int *n)
{
    double sum = 0;
    *n = 0;
    for (int i = 0; i < run->test.n; i++)
        if (is_of_kind(&run->test.cases[i].sample->lesion[0], kind)) sum += run->r.stage[stage].dice[i], ++*n;
    return *n ? sum / *n : NAN;
}

static json_t *types_json(const struct demo_run *run)
{
    json_t *list = json_array();
    for (int k = 0; k < N_KINDS; k++) {
        int n;
        const double zero = mean_of(run, STAGE_SAM, k, &n), net = mean_of(run, STAGE_NETWORK, k, &n);
        json_array_append_new(list, json_pack("{s:s, s:i, s:o, s:o}", "name", kinds[k], "n", n, "zero_shot",
                                              mcs_json_number(zero), "network", mcs_json_number(net)));
    }
    return list;
}

static json_t *difficulty_json(const struct demo_config *c)
{
    json_t *o = json_object();
#define X(structure, member, field, key, def, lo, hi, help) json_object_set_new(o, key, json_real(c->field));
    MCS_DEMO_CONFIG_LIST(X, , )
#undef X
    return o;
}

static json_t *notes_json(const struct demo_run *run)
{
    const struct demo_results *r = &run->r;
    json_t *list = json_array();
    double before = NAN;
    for (int s = 0; s < DEMO_STAGES; s++) {
        const struct mean_interval m = mcs_mean_interval(r->stage[s].dice, r->stage[s].n);
        if (s && m.mean <= before)
            json_array_append_new(list,
                                  json_sprintf("\"%s\" did not improve on \"%s\": DSC %.3f after %.3f",
                                               mcs_demo_stage_names[s], mcs_demo_stage_names[s - 1], m.mean, before));
        before = m.mean;
    }
    if (r->average_dice[AVERAGE_ALL] <= r->average_dice[AVERAGE_LAST])
        json_array_append_new(
            list, json_sprintf("averaging all cycles did not improve on the last checkpoint: DSC %.3f against %.3f",
                               r->average_dice[AVERAGE_ALL], r->average_dice[AVERAGE_LAST]));
    json_array_append_new(list, json_string("The prompt of each test image says its lesion's size, border, intensity, "
                                            "rim and place, as the paper's class-specific prompts "
                                            "do: knowledge that a user brings."));
    if (run->o->evaluate)
        json_array_append_new(list, json_string("These are VALIDATION slabs, on which choices were made."));
    return list;
}

static json_t *summary_json(const struct demo_run *run, double seconds)
{
    const struct demo_results *r = &run->r;
    const struct error_statistics *e = &r->errors[AVERAGE_ALL];
    struct rusage usage;
    struct arena arena = {0};
    getrusage(RUSAGE_SELF, &usage);
    json_t *times = json_object(), *averages = json_array();
    for (int i = 0; i < r->n_times; i++)
        json_object_set_new(times, r->time[i].name, mcs_json_number(r->time[i].seconds));
    for (int a = 0; a < DEMO_AVERAGES; a++)
        json_array_append_new(averages, json_pack("{s:s, s:o, s:o, s:o}", "name", mcs_demo_average_names[a], "dsc",
                                                  mcs_json_number(r->average_dice[a]), "error_auroc",
                                                  mcs_json_number(r->errors[a].auroc), "error_auroc_outside_band",
                                                  mcs_json_number(r->errors[a].auroc_outside_band)));
    json_t *o = json_object();
    json_object_set_new(o, "stages", stages_json(r));
    json_object_set_new(o, "baselines", baselines_json(r));
    json_object_set_new(o, "retrieval",
                        json_pack("{s:o, s:o}", "before", recall_json(&r->before), "after", recall_json(&r->after)));
    json_object_set_new(o, "control",
                        json_pack("{s:o, s:o, s:o, s:i}", "prompt_dsc", mcs_json_number(r->prompt_dice), "other_dsc",
                                  mcs_json_number(r->other_dice), "presence_auroc", mcs_json_number(r->presence_auroc),
                                  "n_two_lesion_images", run->two.n));
    json_object_set_new(o, "uncertainty",
                        json_pack("{s:o, s:o, s:o, s:o, s:o}", "right", mcs_json_number(e->right), "wrong",
                                  mcs_json_number(e->wrong), "error_auroc", mcs_json_number(e->auroc),
                                  "error_auroc_outside_band", mcs_json_number(e->auroc_outside_band),
                                  "rank_correlation", mcs_json_number(r->rank_correlation)));
    json_object_set_new(o, "ensemble", averages);
    json_object_set_new(o, "by_type", types_json(run));
    json_object_set_new(o, "pseudo_labels",
                        json_pack("{s:i, s:o}", "images", run->n_labelled, "dsc", mcs_json_number(r->label_dice)));
    json_object_set_new(o, "difficulty", difficulty_json(&run->o->data));
    json_object_set_new(o, "seconds", mcs_json_number(seconds));
    json_object_set_new(o, "seconds_by_stage", times);
    json_object_set_new(o, "peak_memory_bytes", json_integer((json_int_t)usage.ru_maxrss * 1024));
    json_object_set_new(o, "form", json_string(mcs_form_text(run->o->form, &arena)));
    json_object_set_new(o, "seed", json_integer(run->o->seed));
    json_object_set_new(o, "split", json_string(run->o->evaluate ? "validation" : "test"));
    json_object_set_new(o, "test_images", json_integer(run->test.n));
    json_object_set_new(o, "weights",
                        json_pack("{s:s, s:s, s:s}", "clip_sha256", r->clip_sha256, "sam_sha256", r->sam_sha256,
                                  "network_sha256", r->network_sha256));
    json_object_set_new(o, "version", json_string(MCS_VERSION));
    json_object_set_new(o, "notes", notes_json(run));
    mcs_arena_free(&arena);
    return o;
}

static json_t *case_json(const struct demo_run *run, int i)
{
    const struct demo_case *c = &run->test.cases[i];
    const struct demo_results *r = &run->r;
    json_t *o = json_pack("{s:s, s:s, s:s, s:o, s:o}", "stem", c->stem, "caption", c->sample->caption, "prompt",
                          c->sample->lesion[0].prompt[DEMO_PROMPT_LOOK_PLACE], "uncertainty_score",
                          mcs_json_number(r->score[i]), "presence", mcs_json_number(r->presence[i]));
    json_object_set_new(o, "image", json_sprintf("data/test/images/%s.png", c->stem));
    json_object_set_new(o, "truth", json_sprintf("data/test/masks/%s.png", c->stem));
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

static enum mcs_status write_csv(const struct demo_run *run)
{
    char path[MCS_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    MCS_TRY(mcs_path(path, "%s/cases.csv", run->o->output));
    FILE *f = open_memstream(&text, &bytes);
    MCS_REQUIRE(f, MCS_E_NOMEM, "no memory for cases.csv");
    fputs("case", f);
    for (int s = 0; s < DEMO_STAGES; s++) fprintf(f, ",dsc_%s", mcs_demo_stage_folders[s]);
    fputs(",uncertainty_score,presence,area,bright,large,blurred,rim\n", f);
    for (int i = 0; i < run->test.n; i++) {
        const struct demo_lesion *l = &run->test.cases[i].sample->lesion[0];
        fputs(run->test.cases[i].stem, f);
        for (int s = 0; s < DEMO_STAGES; s++) fprintf(f, ",%.4f", run->r.stage[s].dice[i]);
        fprintf(f, ",%.4f,%.4f,%d,%d,%d,%d,%d\n", run->r.score[i], run->r.presence[i], l->area, l->bright, l->large,
                l->blurred, l->rim);
    }
    fclose(f);
    const enum mcs_status st = mcs_file_write(path, text, (int64_t)bytes);
    free(text);
    return st;
}

static void print_table(const struct demo_run *run, double seconds)
{
    const struct demo_results *r = &run->r;
    printf("\n%-28s %6s  %-15s %6s %6s\n", "stage", "DSC", "95 % interval", "NSD", "IoU");
    for (int s = 0; s < DEMO_STAGES; s++) {
        const struct demo_score *k = &r->stage[s];
        const struct mean_interval d = mcs_mean_interval(k->dice, k->n), nsd = mcs_mean_interval(k->nsd, k->n),
                                   iou = mcs_mean_interval(k->iou, k->n);
        printf("%-28s %6.3f  [%.3f, %.3f]  %6.3f %6.3f\n", mcs_demo_stage_names[s], d.mean, d.lo, d.hi, nsd.mean,
               iou.mean);
    }
    printf("\nwithout a model:");
    for (int i = 0; i < r->n_baselines; i++) printf(" %s %.3f;", r->baseline[i].name, r->baseline[i].dice);
    if (isfinite(r->ceiling)) printf("\nceiling (true masks): %.3f", r->ceiling);
    printf("\nrecall@1 image to text %.3f -> %.3f, text to image %.3f -> %.3f\n", r->before.image_to_text[0].mean,
           r->after.image_to_text[0].mean, r->before.text_to_image[0].mean, r->after.text_to_image[0].mean);
    printf("two lesions: %.3f on the one asked for, %.3f on the other; presence AUROC %.3f\n", r->prompt_dice,
           r->other_dice, r->presence_auroc);
    for (int a = 0; a < DEMO_AVERAGES; a++)
        printf("%-16s DSC %.3f, entropy's AUROC for wrong pixels %.3f (outside a 2-pixel band %.3f)\n",
               mcs_demo_average_names[a], r->average_dice[a], r->errors[a].auroc, r->errors[a].auroc_outside_band);
    printf("per-case score against DSC: rank correlation %.3f; pseudo-labels %.3f; %.0f s\n", r->rank_correlation,
           r->label_dice, seconds);
}

enum mcs_status mcs_demo_write_results(struct demo_run *run, double seconds)
{
    json_t *cases = json_array();
    for (int i = 0; i < run->test.n; i++) json_array_append_new(cases, case_json(run, i));
    MCS_TRY(mcs_json_write(cases, JSON_INDENT(1) | JSON_REAL_PRECISION(6), "%s/cases.json", run->o->output));
    MCS_TRY(write_csv(run));
    MCS_TRY(mcs_json_write(summary_json(run, seconds), JSON_INDENT(1) | JSON_REAL_PRECISION(6), "%s/summary.json",
                           run->o->output));
    print_table(run, seconds);
    return MCS_OK;
}
