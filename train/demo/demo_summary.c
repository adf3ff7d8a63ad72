/* summary.json of a demo run: every figure, with a bootstrap interval over images. */
#include "data/io/json.h"
#include "infer/metrics/statistics.h"
#include "train/demo/demo_results.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* ---- values with intervals ---- */

static json_t *pair(double lo, double hi)
{
    return json_pack("[o,o]", mcs_json_number(lo), mcs_json_number(hi));
}

/* o[key] = value, o[key_interval] = [lo, hi]. */
static void put(json_t *o, const char *key, struct bootstrap_interval r)
{
    char name[64];
    snprintf(name, sizeof name, "%s_interval", key);
    json_object_set_new(o, key, mcs_json_number(r.value));
    json_object_set_new(o, name, pair(r.lo, r.hi));
}

static struct bootstrap_interval mean_of_values(const struct demo_run *run, const double *v, int n)
{
    struct bootstrap_interval r;
    if (mcs_bootstrap_mean(v, n, (uint64_t)run->o->seed, &r) != MCS_OK) mcs_error_clear();
    return r;
}

static json_t *stages_json(const struct demo_run *run)
{
    json_t *list = json_array();
    for (int s = 0; s < DEMO_STAGES; s++) {
        const struct demo_score *k = &run->r.stage[s];
        json_t *o = json_pack("{s:s}", "stage", mcs_demo_stage_names[s]);
        put(o, "dsc", mean_of_values(run, k->dice, k->n));
        json_object_set_new(o, "nsd", mcs_json_number(mean_of_values(run, k->nsd, k->n).value));
        json_object_set_new(o, "iou", mcs_json_number(mean_of_values(run, k->iou, k->n).value));
        if (s == STAGE_NETWORK) {
            json_object_set_new(o, "truth", json_string("all lesions of an image"));
            json_object_set_new(o, "before", mcs_json_number(mcs_demo_interval(run, LIST_ALL_ZERO_SHOT).value));
        }
        json_array_append_new(list, o);
    }
    return list;
}

const struct demo_baseline mcs_demo_baselines_shown[DEMO_BASELINES] = {
    {"rule", "rule: bright or dark", LIST_RULE,
     "reads bright or dark: the share of the brain with such grey values, opened, its largest component; tuned on "
     "validation slabs with true masks"},
    {"rule_sam", "rule, its box into SAM", LIST_RULE_SAM, "the same, its box into SAM"},
    {"rule_words", "rule by word", LIST_WORDS,
     "reads size, border and rim too, where that helped on validation slabs: they choose the component"},
    {"rule_words_sam", "rule by word, its box into SAM", LIST_WORDS_SAM, "the same, its box into SAM"},
    {"random_box_sam", "a random box into SAM", LIST_RANDOM_SAM,
     "a box of a lesion's median size anywhere in the brain"},
    {"other_look", "another image's look", LIST_OTHER, "the whole pipeline, asked for another image's lesion"},
    {"no_prompt", "no prompt", LIST_NO_PROMPT, "the whole pipeline, asked for a normal brain"},
};

static json_t *baselines_json(const struct demo_run *run)
{
    json_t *list = json_array();
    for (int i = 0; i < DEMO_BASELINES; i++) {
        const struct demo_baseline *b = &mcs_demo_baselines_shown[i];
        json_t *o = json_pack("{s:s, s:s, s:s}", "name", b->name, "label", b->label, "what", b->what);
        put(o, "dsc", mcs_demo_interval(run, b->list));
        json_array_append_new(list, o);
    }
    if (!run->o->ceiling) return list;
    json_t *o = json_pack("{s:s, s:s, s:s}", "name", "true_masks", "label", "the network on true masks", "what",
                          "the same network, trained four times as long on the true masks; all lesions of an image");
    put(o, "dsc", mcs_demo_interval(run, LIST_CEILING));
    json_array_append_new(list, o);
    return list;
}

static json_t *prompts_json(const struct demo_run *run)
{
    static const struct {
        const char *key;
        enum demo_list list;
    } levels[] = {{"word", LIST_WORD}, {"look", LIST_LOOK}, {"look_place", LIST_PLACE}};
    json_t *o = json_object();
    for (int i = 0; i < 3; i++) {
        json_t *level = json_object();
        put(level, "zero_shot", mcs_demo_interval(run, levels[i].list));
        json_object_set_new(o, levels[i].key, level);
    }
    return o;
}

/* Another image's look: the own look is measured on the same images. */
static json_t *shuffled_json(const struct demo_run *run)
{
    const struct demo_list_values *other = &run->r.list[LIST_OTHER], *own = &run->r.list[LIST_LOOK];
    json_t *o = json_object();
    double *right = malloc((size_t)(own->n + 1) * sizeof *right);
    if (!right) return o;
    for (int i = 0; i < own->n; i++) right[i] = isfinite(other->v[i]) ? own->v[i] : NAN;
    const struct bootstrap_interval d = mcs_demo_difference(run, LIST_LOOK, LIST_OTHER);
    put(o, "zero_shot", mcs_demo_interval(run, LIST_OTHER));
    put(o, "right", mean_of_values(run, right, own->n));
    put(o, "difference", d);
    json_object_set_new(o, "images", json_integer(d.n));
    free(right);
    return o;
}

static json_t *all_lesions_json(const struct demo_run *run)
{
    json_t *o = json_object();
    put(o, "zero_shot", mcs_demo_interval(run, LIST_ALL_ZERO_SHOT));
    put(o, "weak", mcs_demo_interval(run, LIST_WEAK));
    put(o, "difference", mcs_demo_difference(run, LIST_WEAK, LIST_ALL_ZERO_SHOT));
    return o;
}

static json_t *unseen_json(const struct demo_run *run)
{
    json_t *o = json_pack("{s:i}", "images", run->unseen.n);
    put(o, "zero_shot", mcs_demo_interval(run, LIST_UNSEEN_ZERO_SHOT));
    put(o, "weak", mcs_demo_interval(run, LIST_UNSEEN_WEAK));
    return o;
}

/* ---- healthy images ---- */

/* DSC over all images: 0 where a lesion's mask is refused, 1 where a healthy image gets no mask, 0 where it gets one.
 */
static struct bootstrap_interval all_images(const struct demo_run *run)
{
    const struct demo_list_values *l = run->r.list;
    const int n = run->test.n, m = run->none.n;
    struct bootstrap_interval r = {.value = NAN, .lo = NAN, .hi = NAN};
    double *v = malloc((size_t)(n + m + 1) * sizeof *v);
    if (!v) return r;
    for (int i = 0; i < n; i++) v[i] = l[LIST_PASSED].v[i] > 0 ? l[LIST_LOOK].v[i] : 0;
    for (int i = 0; i < m; i++) v[n + i] = 1 - l[LIST_PASSED_NONE].v[i];
    r = mean_of_values(run, v, n + m);
    free(v);
    return r;
}

struct bootstrap_interval mcs_demo_lesions_found(const struct demo_run *run, enum demo_list dice)
{
    const struct demo_list_values *l = &run->r.list[dice];
    struct bootstrap_interval r = {.value = NAN, .lo = NAN, .hi = NAN};
    double *v = malloc((size_t)(l->n + 1) * sizeof *v);
    if (!v) return r;
    for (int i = 0; i < l->n; i++) v[i] = l->v[i] > DEMO_FOUND_DICE;
    r = mean_of_values(run, v, l->n);
    free(v);
    return r;
}

struct bootstrap_interval mcs_demo_presence_auroc(const struct demo_run *run)
{
    const struct demo_list_values *with = &run->r.list[LIST_PRESENCE], *none = &run->r.list[LIST_PRESENCE_NONE];
    struct bootstrap_interval r;
    if (mcs_bootstrap_auroc(with->v, with->n, none->v, none->n, (uint64_t)run->o->seed, &r) != MCS_OK)
        mcs_error_clear();
    return r;
}

static json_t *healthy_json(const struct demo_run *run)
{
    const struct demo_tuned *t = &run->r.tuned;
    json_t *o = json_pack("{s:i, s:s, s:o}", "images", run->none.n, "presence_score",
                          mcs_demo_presence_names[run->o->presence], "min_presence", mcs_json_number(t->min_presence));
    json_t *without = json_object(), *weak = json_object();
    put(o, "false_mask_share", mcs_demo_interval(run, LIST_PASSED_NONE));
    put(o, "lesions_found", mcs_demo_interval(run, LIST_FOUND));
    put(o, "presence_auroc", mcs_demo_presence_auroc(run));
    put(o, "dsc_all_images", all_images(run));
    json_object_set_new(o, "empty_mask_rule",
                        json_string("an empty mask of a healthy image counts 1, any mask of one 0, an empty mask of an "
                                    "image with a lesion 0"));
    put(without, "false_mask_share", mcs_demo_interval(run, LIST_MASK_NONE));
    put(without, "lesions_found", mcs_demo_lesions_found(run, LIST_LOOK));
    json_object_set_new(o, "without_threshold", without);
    put(weak, "false_mask_share", mcs_demo_interval(run, LIST_WEAK_NONE));
    put(weak, "lesions_found", mcs_demo_lesions_found(run, LIST_WEAK));
    json_object_set_new(o, "network", weak);
    json_object_set_new(o, "validation",
                        json_pack("{s:o, s:o, s:o}", "presence_auroc", mcs_json_number(t->presence_auroc),
                                  "lesions_found", mcs_json_number(t->presence_found), "false_mask_share",
                                  mcs_json_number(t->presence_false)));
    return o;
}

/* ---- what was tuned ---- */

static json_t *rule_json(const struct demo_rule *r, int grow, double with_sam)
{
    json_t *o =
        json_pack("{s:b, s:b, s:b, s:i, s:o, s:o}", "reads_size", (r->reads & DEMO_READS_SIZE) != 0, "reads_border",
                  (r->reads & DEMO_READS_BORDER) != 0, "reads_rim", (r->reads & DEMO_READS_RIM) != 0, "grow", grow,
                  "dsc", mcs_json_number(r->dice), "dsc_sam", mcs_json_number(with_sam));
    for (int bright = 0; bright < 2; bright++)
        json_object_set_new(o, bright ? "bright" : "dark",
                            json_pack("{s:f, s:b, s:i}", "share", r->threshold[bright].share, "smooth",
                                      r->threshold[bright].smooth, "opening", r->threshold[bright].opening));
    return o;
}

static json_t *tuned_json(const struct demo_run *run)
{
    const struct demo_tuned *t = &run->r.tuned;
    return json_pack("{s:i, s:o, s:o, s:s}", "validation_images", run->validation.n, "rule",
                     rule_json(&t->rule, t->rule_grow, t->rule_sam), "rule_words",
                     rule_json(&t->words, t->words_grow, t->words_sam), "best_rule_sam",
                     t->words_is_best ? "rule_words_sam" : "rule_sam");
}

/* ---- the rest ---- */

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
        json_object_set_new(o, key, pair(v[i].m->lo, v[i].m->hi));
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

static json_t *averages_json(const struct demo_run *run)
{
    json_t *list = json_array();
    for (int a = 0; a < DEMO_AVERAGES; a++) {
        const struct error_statistics *e = &run->r.errors[a];
        json_t *o = json_pack("{s:s}", "name", mcs_demo_average_names[a]);
        put(o, "dsc", mcs_demo_interval(run, mcs_demo_average_lists[a]));
        json_object_set_new(o, "error_auroc", mcs_json_number(e->auroc));
        json_object_set_new(o, "error_auroc_outside_band", mcs_json_number(e->auroc_outside_band));
        json_array_append_new(list, o);
    }
    return list;
}

static void note(json_t *list, const char *text)
{
    json_array_append_new(list, json_string(text));
}

/* Stages up to SAM are compared one with the next; the network, which has another truth, on all lesions. */
static json_t *notes_json(const struct demo_run *run)
{
    json_t *list = json_array();
    for (int s = 1; s <= STAGE_SAM; s++) {
        const struct demo_score *k = &run->r.stage[s], *b = &run->r.stage[s - 1];
        const double before = mean_of_values(run, b->dice, b->n).value,
                     after = mean_of_values(run, k->dice, k->n).value;
        if (after <= before)
            json_array_append_new(list,
                                  json_sprintf("\"%s\" did not improve on \"%s\": DSC %.3f after %.3f",
                                               mcs_demo_stage_names[s], mcs_demo_stage_names[s - 1], after, before));
    }
    const double zero = mcs_demo_interval(run, LIST_ALL_ZERO_SHOT).value,
                 weak = mcs_demo_interval(run, LIST_WEAK).value;
    const double last = mcs_demo_interval(run, LIST_LAST).value, best = mcs_demo_interval(run, LIST_BEST_SAM).value;
    const double sam = mcs_demo_interval(run, LIST_LOOK).value, truth = mcs_demo_interval(run, LIST_CEILING).value;
    if (weak <= zero)
        json_array_append_new(list, json_sprintf("the network did not improve on the masks made from text: DSC %.3f "
                                                 "after %.3f, all lesions of an image",
                                                 weak, zero));
    if (weak <= last)
        json_array_append_new(
            list, json_sprintf("averaging all cycles did not improve on the last checkpoint: DSC %.3f against %.3f",
                               weak, last));
    if (sam <= best)
        json_array_append_new(list, json_sprintf("a rule without a language model, its box into SAM, is as good as "
                                                 "the pipeline: DSC %.3f against %.3f",
                                                 best, sam));
    if (truth <= weak)
        json_array_append_new(
            list, json_sprintf("the network on true masks is no ceiling: DSC %.3f against %.3f", truth, weak));
    if (run->o->quick)
        note(list,
             "--quick: a fifth of the training was done, on a fifth of the images. The full run's figures differ.");
    note(list, "The prompts say the size, border, intensity and rim of one lesion of the image, chosen at random: "
               "knowledge that a user brings. Where a prompt describes several lesions, their union is the truth.");
    note(list, "The network has no prompt: it is measured against all lesions of an image, as are the masks from text "
               "where both are compared.");
    note(list, run->o->start == DEMO_START_MASKS
                   ? "The starting CLIP was trained with pixel masks of made objects that have the lesions' grey "
                     "values, sizes, borders and rims. A CLIP from a hospital has seen no such masks."
                   : "The starting CLIP was trained on pairs of image and caption alone.");
    if (run->o->evaluate) note(list, "These are VALIDATION slabs, on which choices were made.");
    return list;
}

static void put_made(json_t *o, const struct demo_run *run, double seconds)
{
    const struct demo_results *r = &run->r;
    struct rusage usage;
    struct arena arena = {0};
    json_t *times = json_object();
    getrusage(RUSAGE_SELF, &usage);
    for (int i = 0; i < r->n_times; i++)
        json_object_set_new(times, r->time[i].name, mcs_json_number(r->time[i].seconds));
    json_object_set_new(o, "seconds", mcs_json_number(seconds));
    json_object_set_new(o, "seconds_by_stage", times);
    json_object_set_new(o, "peak_memory_bytes", json_integer((json_int_t)usage.ru_maxrss * 1024));
    json_object_set_new(o, "form", json_string(mcs_form_text(run->o->form, &arena)));
    json_object_set_new(o, "seed", json_integer(run->o->seed));
    json_object_set_new(o, "start", json_string(run->o->start == DEMO_START_MASKS ? "masks" : "captions"));
    json_object_set_new(o, "quick", json_boolean(run->o->quick));
    json_object_set_new(o, "split", json_string(run->o->evaluate ? "validation" : "test"));
    json_object_set_new(o, "test_images", json_integer(run->test.n));
    json_object_set_new(o, "weights",
                        json_pack("{s:s, s:s, s:s}", "clip_sha256", r->clip_sha256, "sam_sha256", r->sam_sha256,
                                  "network_sha256", r->network_sha256));
    json_object_set_new(o, "version", json_string(MCS_VERSION));
    mcs_arena_free(&arena);
}

json_t *mcs_demo_summary(const struct demo_run *run, double seconds)
{
    const struct demo_results *r = &run->r;
    const struct error_statistics *e = &r->errors[AVERAGE_ALL];
    json_t *o = json_object();
    json_object_set_new(o, "stages", stages_json(run));
    json_object_set_new(o, "baselines", baselines_json(run));
    json_object_set_new(o, "prompts", prompts_json(run));
    json_object_set_new(o, "shuffled", shuffled_json(run));
    json_object_set_new(o, "healthy", healthy_json(run));
    json_object_set_new(o, "unseen_kinds", unseen_json(run));
    json_object_set_new(o, "all_lesions", all_lesions_json(run));
    json_t *best = json_object();
    put(best, "difference", mcs_demo_difference(run, LIST_LOOK, LIST_BEST_SAM));
    json_object_set_new(o, "zero_shot_minus_best_rule_sam", best);
    json_object_set_new(o, "tuned", tuned_json(run));
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
    json_object_set_new(o, "ensemble", averages_json(run));
    json_object_set_new(o, "by_type", types_json(run));
    json_object_set_new(o, "pseudo_labels",
                        json_pack("{s:i, s:o}", "images", run->n_labelled, "dsc", mcs_json_number(r->label_dice)));
    json_object_set_new(o, "difficulty", difficulty_json(&run->o->data));
    put_made(o, run, seconds);
    json_object_set_new(o, "notes", notes_json(run));
    return o;
}
