/* Figures over several seeds of a demo. Values of single images are pooled over the seeds, with bootstrap intervals;
 * numbers that a run has once are averaged, and the least and the greatest stand in place of an interval. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/path.h"
#include "train/demo/demo_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind {
    MEAN,       /* of the values of list a in scores.json */
    DIFFERENCE, /* of a and b, paired */
    AUROC,      /* a: positives, b: negatives */
    RUN         /* a number of summary.json: path a.b.c, b and c may be missing */
};

/* Labels up to "peak memory" are those of older versions. */
static const struct figure {
    const char *label;
    enum kind kind;
    const char *a, *b, *c;
} figures[] = {
    {"saliency, starting weights", MEAN, "stage_saliency_start", NULL, NULL},
    {"+ fine-tuning", MEAN, "stage_saliency", NULL, NULL},
    {"+ post-processing", MEAN, "stage_post", NULL, NULL},
    {"+ components", MEAN, "stage_coarse", NULL, NULL},
    {"+ SAM (zero-shot)", MEAN, "zero_shot_look", NULL, NULL},
    {"+ network ensemble (weak)", MEAN, "weak", NULL, NULL},
    {"the network on true masks", MEAN, "true_masks", NULL, NULL},
    {"last checkpoint", MEAN, "weak_last", NULL, NULL},
    {"last cycle", MEAN, "weak_last_cycle", NULL, NULL},
    {"pseudo-labels", RUN, "pseudo_labels", "dsc", NULL},
    {"recall@1 i2t before", RUN, "retrieval", "before", "i2t_r1"},
    {"recall@1 i2t after", RUN, "retrieval", "after", "i2t_r1"},
    {"recall@1 t2i before", RUN, "retrieval", "before", "t2i_r1"},
    {"recall@1 t2i after", RUN, "retrieval", "after", "t2i_r1"},
    {"two lesions: the one asked for", RUN, "control", "prompt_dsc", NULL},
    {"two lesions: the other", RUN, "control", "other_dsc", NULL},
    {"presence AUROC, one generic prompt", RUN, "control", "presence_auroc", NULL},
    {"entropy AUROC, all pixels", RUN, "uncertainty", "error_auroc", NULL},
    {"entropy AUROC, outside band", RUN, "uncertainty", "error_auroc_outside_band", NULL},
    {"score against DSC, rank", RUN, "uncertainty", "rank_correlation", NULL},
    {"seconds", RUN, "seconds", NULL, NULL},
    {"peak memory, bytes", RUN, "peak_memory_bytes", NULL, NULL},
    {"zero-shot, prompt: word", MEAN, "zero_shot_word", NULL, NULL},
    {"zero-shot, prompt: look and place", MEAN, "zero_shot_look_place", NULL, NULL},
    {"zero-shot, all lesions", MEAN, "zero_shot_all", NULL, NULL},
    {"rule", MEAN, "rule", NULL, NULL},
    {"rule, box into SAM", MEAN, "rule_sam", NULL, NULL},
    {"rule by word", MEAN, "rule_words", NULL, NULL},
    {"rule by word, box into SAM", MEAN, "rule_words_sam", NULL, NULL},
    {"best rule, box into SAM", MEAN, "best_rule_sam", NULL, NULL},
    {"random box into SAM", MEAN, "random_box_sam", NULL, NULL},
    {"another image's look", MEAN, "other_look", NULL, NULL},
    {"no prompt", MEAN, "no_prompt", NULL, NULL},
    {"unseen forms, zero-shot", MEAN, "unseen_zero_shot", NULL, NULL},
    {"unseen forms, network", MEAN, "unseen_weak", NULL, NULL},
    {"healthy images with a mask", MEAN, "false_mask", NULL, NULL},
    {"healthy images, any presence", MEAN, "any_mask", NULL, NULL},
    {"lesions found", MEAN, "found", NULL, NULL},
    {"zero-shot - best rule with SAM", DIFFERENCE, "zero_shot_look", "best_rule_sam", NULL},
    {"own look - another image's", DIFFERENCE, "zero_shot_look", "other_look", NULL},
    {"weak - zero-shot, all lesions", DIFFERENCE, "weak", "zero_shot_all", NULL},
    {"presence AUROC", AUROC, "presence_lesion", "presence_healthy", NULL},
};
enum { N_FIGURES = sizeof figures / sizeof *figures };

struct values {
    int64_t n;
    double *v;
};

static double number(const json_t *v)
{
    return json_is_number(v) ? json_number_value(v) : NAN;
}

/* The values of a list, of seed k or, for k < 0, of all n seeds. Freed by the caller. */
static enum mcs_status list_of(json_t *const *scores, int64_t n, int64_t k, const char *name, struct values *r)
{
    const int64_t first = k < 0 ? 0 : k, last = k < 0 ? n - 1 : k;
    *r = (struct values){0};
    for (int64_t i = first; i <= last; i++) r->n += (int64_t)json_array_size(json_object_get(scores[i], name));
    r->v = malloc((size_t)(r->n + 1) * sizeof *r->v);
    MCS_REQUIRE(r->v, MCS_E_NOMEM, "no memory for the values of %s", name);
    r->n = 0;
    for (int64_t i = first; i <= last; i++) {
        const json_t *values = json_object_get(scores[i], name);
        for (size_t j = 0; j < json_array_size(values); j++) r->v[r->n++] = number(json_array_get(values, j));
    }
    return MCS_OK;
}

/* A figure of image values, of seed k or, for k < 0, of all. */
static enum mcs_status of_images(json_t *const *scores, int64_t n, int64_t k, const struct figure *f,
                                 struct bootstrap_interval *r)
{
    struct values a = {0}, b = {0};
    enum mcs_status st;
    *r = (struct bootstrap_interval){.value = NAN, .lo = NAN, .hi = NAN};
    MCS_TRY_GOTO(list_of(scores, n, k, f->a, &a), st, done);
    MCS_TRY_GOTO(list_of(scores, n, k, f->b ? f->b : f->a, &b), st, done);
    if (f->kind == AUROC) {
        st = mcs_bootstrap_auroc(a.v, a.n, b.v, b.n, 0, r);
    } else if (f->kind == DIFFERENCE) {
        MCS_REQUIRE_GOTO(a.n == b.n, MCS_E_DATA, st, done, "scores.json: %s has %lld values, %s %lld", f->a,
                         (long long)a.n, f->b, (long long)b.n);
        st = mcs_bootstrap_difference(a.v, b.v, a.n, 0, r);
    } else {
        st = mcs_bootstrap_mean(a.v, a.n, 0, r);
    }
done:
    free(a.v);
    free(b.v);
    return st;
}

static enum mcs_status compute(json_t *const *scores, json_t *const *summary, int64_t n, const struct figure *f,
                               double *seeds, struct bootstrap_interval *r)
{
    if (f->kind != RUN) {
        for (int64_t k = 0; k < n; k++) {
            MCS_TRY(of_images(scores, n, k, f, r));
            seeds[k] = r->value;
        }
        return of_images(scores, n, -1, f, r);
    }
    double sum = 0;
    *r = (struct bootstrap_interval){.n = n, .lo = INFINITY, .hi = -INFINITY};
    for (int64_t k = 0; k < n; k++) {
        const json_t *at = json_object_get(summary[k], f->a);
        if (f->b) at = json_object_get(at, f->b);
        if (f->c) at = json_object_get(at, f->c);
        seeds[k] = number(at);
        sum += seeds[k];
        r->lo = fmin(r->lo, seeds[k]);
        r->hi = fmax(r->hi, seeds[k]);
    }
    r->value = sum / (double)n;
    return MCS_OK;
}

/* A ceiling must lie above the network that it bounds, in every seed. */
static int is_ceiling(const double *truth, const double *weak, int64_t n)
{
    for (int64_t k = 0; k < n; k++)
        if (!(truth[k] > weak[k])) return 0;
    return 1;
}

/* Rows of seeds.md, the table that README shows: the figure's label, and its name there. */
static const struct {
    const char *label, *name;
} shown[] = {{"saliency, starting weights", "saliency, starting weights"},
             {"+ fine-tuning", "+ fine-tuning with DHN-NCE"},
             {"+ post-processing", "+ post-processing (Otsu)"},
             {"+ components", "+ components"},
             {"+ SAM (zero-shot)", "+ SAM: zero-shot"},
             {"zero-shot, prompt: word", "zero-shot, the prompt is the word lesion"},
             {"zero-shot, prompt: look and place", "zero-shot, the prompt names the place too"},
             {"another image's look", "zero-shot, asked for another image's look"},
             {"no prompt", "zero-shot, asked for a normal brain"},
             {"rule", "rule: bright or dark"},
             {"rule, box into SAM", "rule, its box into SAM"},
             {"rule by word", "rule by word"},
             {"rule by word, box into SAM", "rule by word, its box into SAM"},
             {"random box into SAM", "a random box into SAM"},
             {"zero-shot, all lesions", "all lesions: zero-shot, each asked for"},
             {"last checkpoint", "all lesions: network, last checkpoint"},
             {"last cycle", "all lesions: network, last cycle"},
             {"+ network ensemble (weak)", "all lesions: network, all cycles (weakly supervised)"},
             {"the network on true masks", "all lesions: the network on true masks"},
             {"ceiling: true masks", "all lesions: ceiling, the network on true masks"},
             {"unseen forms, zero-shot", "unseen forms: zero-shot"},
             {"unseen forms, network", "unseen forms: network"},
             {"zero-shot - best rule with SAM", "zero-shot less the best rule with SAM"},
             {"own look - another image's", "own look less another image's"},
             {"weak - zero-shot, all lesions", "weakly supervised less zero-shot, all lesions"},
             {"presence AUROC", "AUROC of the presence score"},
             {"healthy images with a mask", "share of healthy images with a mask"},
             {"lesions found", "share of lesions found"}};
enum { N_SHOWN = sizeof shown / sizeof *shown };

static void write_markdown(FILE *f, const char *label, const struct bootstrap_interval *r)
{
    for (int i = 0; i < N_SHOWN && isfinite(r->value); i++)
        if (!strcmp(shown[i].label, label))
            fprintf(f, "| %s | %.2f | %.2f to %.2f |\n", shown[i].name, r->value, r->lo, r->hi);
}

static enum mcs_status write_rows(FILE *f, FILE *md, json_t *const *scores, json_t *const *summary, int64_t n)
{
    struct bootstrap_interval weak, truth;
    double *seeds = malloc((size_t)(3 * n) * sizeof *seeds);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(seeds, MCS_E_NOMEM, "no memory for %lld seeds", (long long)n);
    const struct figure of_weak = {"", MEAN, "weak", NULL, NULL}, of_truth = {"", MEAN, "true_masks", NULL, NULL};
    MCS_TRY_GOTO(compute(scores, summary, n, &of_weak, seeds + n, &weak), st, done);
    MCS_TRY_GOTO(compute(scores, summary, n, &of_truth, seeds + 2 * n, &truth), st, done);
    for (int i = 0; i < N_FIGURES; i++) {
        struct bootstrap_interval r;
        const char *label = figures[i].label;
        MCS_TRY_GOTO(compute(scores, summary, n, &figures[i], seeds, &r), st, done);
        if (!strcmp(figures[i].a, "true_masks") && is_ceiling(seeds + 2 * n, seeds + n, n))
            label = "ceiling: true masks";
        if (isfinite(r.value)) printf("%-36s %8.3f  [%.3f, %.3f]\n", label, r.value, r.lo, r.hi);
        write_markdown(md, label, &r);
        fprintf(f, "\"%s\",%.4f,%.4f,%.4f", label, r.value, r.lo, r.hi);
        for (int64_t k = 0; k < n; k++) fprintf(f, ",%.4f", seeds[k]);
        fprintf(f, ",%s,%lld\n", figures[i].kind == RUN ? "range" : "bootstrap", (long long)r.n);
    }
done:
    free(seeds);
    return st;
}

enum mcs_status mcs_demo_seeds(const char *folder, int64_t first, int64_t n)
{
    json_t **scores = calloc(2 * (size_t)n, sizeof *scores), **summary = scores + n;
    char path[MCS_PATH_BYTES], *text = NULL, *md_text = NULL;
    size_t bytes = 0, md_bytes = 0;
    FILE *f = NULL, *md = NULL;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(scores, MCS_E_NOMEM, "no memory for %lld seeds", (long long)n);
    for (int64_t k = 0; k < n; k++) {
        MCS_TRY_GOTO(mcs_path(path, "%s/seed%lld/summary.json", folder, (long long)(first + k)), st, done);
        MCS_TRY_GOTO(mcs_json_read(path, 1 << 26, 0, &summary[k]), st, done);
        MCS_TRY_GOTO(mcs_path(path, "%s/seed%lld/scores.json", folder, (long long)(first + k)), st, done);
        MCS_TRY_GOTO(mcs_json_read(path, 1 << 26, 0, &scores[k]), st, done);
    }
    f = open_memstream(&text, &bytes);
    md = open_memstream(&md_text, &md_bytes);
    MCS_REQUIRE_GOTO(f && md, MCS_E_NOMEM, st, done, "%s/seeds.csv: no memory", folder);
    fputs("| figure | DSC, or as named | 95 % interval |\n|---|---|---|\n", md);
    fputs("figure,mean,low,high", f);
    for (int64_t k = 0; k < n; k++) fprintf(f, ",seed%lld", (long long)(first + k));
    fputs(",interval,n\n", f);
    printf("\n%-36s %8s  95 %% interval over the images of %lld seeds, or least and greatest seed\n", "figure", "mean",
           (long long)n);
    MCS_TRY_GOTO(write_rows(f, md, scores, summary, n), st, done);
    MCS_REQUIRE_GOTO(!fflush(f) && !fflush(md), MCS_E_NOMEM, st, done, "%s/seeds.csv: no memory", folder);
    MCS_TRY_GOTO(mcs_path(path, "%s/seeds.csv", folder), st, done);
    MCS_TRY_GOTO(mcs_file_write(path, text, (int64_t)bytes), st, done);
    MCS_TRY_GOTO(mcs_path(path, "%s/seeds.md", folder), st, done);
    st = mcs_file_write(path, md_text, (int64_t)md_bytes);
done:
    if (f) fclose(f);
    if (md) fclose(md);
    for (int64_t k = 0; k < 2 * n; k++) json_decref(scores[k]);
    free(scores);
    free(text);
    free(md_text);
    return st;
}
