/* Means over several seeds of a demo, with 95 % intervals. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "engine/base/path.h"
#include "infer/metrics/statistics.h"
#include "train/demo/demo_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of summary.json that are averaged: summary[list][value]; with `row` summary[list][row][value], or, where list
 * is an array, the value in its row whose row_key is `row`; without `list` summary[value]. */
static const struct {
    const char *label, *list, *row_key, *row, *value;
} figures[] = {
    {"saliency, starting weights", "stages", "stage", "saliency, starting weights", "dsc"},
    {"+ fine-tuning", "stages", "stage", "+ fine-tuning", "dsc"},
    {"+ post-processing", "stages", "stage", "+ post-processing", "dsc"},
    {"+ components", "stages", "stage", "+ components", "dsc"},
    {"+ SAM (zero-shot)", "stages", "stage", "+ SAM", "dsc"},
    {"+ network ensemble (weak)", "stages", "stage", "+ network ensemble", "dsc"},
    {"ceiling: true masks", "baselines", "name", "ceiling: true masks", "dsc"},
    {"last checkpoint", "ensemble", "name", "last checkpoint", "dsc"},
    {"last cycle", "ensemble", "name", "last cycle", "dsc"},
    {"pseudo-labels", "pseudo_labels", NULL, NULL, "dsc"},
    {"recall@1 i2t before", "retrieval", NULL, "before", "i2t_r1"},
    {"recall@1 i2t after", "retrieval", NULL, "after", "i2t_r1"},
    {"recall@1 t2i before", "retrieval", NULL, "before", "t2i_r1"},
    {"recall@1 t2i after", "retrieval", NULL, "after", "t2i_r1"},
    {"two lesions: the one asked for", "control", NULL, NULL, "prompt_dsc"},
    {"two lesions: the other", "control", NULL, NULL, "other_dsc"},
    {"presence AUROC", "control", NULL, NULL, "presence_auroc"},
    {"entropy AUROC, all pixels", "uncertainty", NULL, NULL, "error_auroc"},
    {"entropy AUROC, outside band", "uncertainty", NULL, NULL, "error_auroc_outside_band"},
    {"score against DSC, rank", "uncertainty", NULL, NULL, "rank_correlation"},
    {"seconds", NULL, NULL, NULL, "seconds"},
    {"peak memory, bytes", NULL, NULL, NULL, "peak_memory_bytes"},
};
enum { N_FIGURES = sizeof figures / sizeof *figures };

static double figure(const json_t *summary, int i)
{
    const json_t *at = figures[i].list ? json_object_get(summary, figures[i].list) : summary;
    if (json_is_array(at)) {
        size_t k;
        json_t *row, *found = NULL;
        json_array_foreach(at, k, row)
        {
            const char *name = json_string_value(json_object_get(row, figures[i].row_key));
            if (name && !strcmp(name, figures[i].row)) found = row;
        }
        at = found;
    } else if (figures[i].row) {
        at = json_object_get(at, figures[i].row);
    }
    const json_t *v = json_object_get(at, figures[i].value);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

enum mcs_status mcs_demo_seeds(const char *folder, int64_t first, int64_t n)
{
    double *values = malloc((size_t)(N_FIGURES * n) * sizeof *values);
    char path[MCS_PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE(values, MCS_E_NOMEM, "no memory for %lld seeds", (long long)n);
    for (int64_t k = 0; k < n; k++) {
        json_t *summary;
        MCS_TRY_GOTO(mcs_path(path, "%s/seed%lld/summary.json", folder, (long long)(first + k)), st, done);
        MCS_TRY_GOTO(mcs_json_read(path, 1 << 26, 0, &summary), st, done);
        for (int i = 0; i < N_FIGURES; i++) values[i * n + k] = figure(summary, i);
        json_decref(summary);
    }
    FILE *f = open_memstream(&text, &bytes);
    MCS_REQUIRE_GOTO(f, MCS_E_NOMEM, st, done, "%s/seeds.csv: no memory", folder);
    fputs("figure,mean,low,high", f);
    for (int64_t k = 0; k < n; k++) fprintf(f, ",seed%lld", (long long)(first + k));
    fputc('\n', f);
    printf("\n%-32s %8s  95 %% interval over %lld seeds\n", "figure", "mean", (long long)n);
    for (int i = 0; i < N_FIGURES; i++) {
        const struct mean_interval m = mcs_mean_interval(values + i * n, n);
        printf("%-32s %8.3f  [%.3f, %.3f]\n", figures[i].label, m.mean, m.lo, m.hi);
        fprintf(f, "\"%s\",%.4f,%.4f,%.4f", figures[i].label, m.mean, m.lo, m.hi);
        for (int64_t k = 0; k < n; k++) fprintf(f, ",%.4f", values[i * n + k]);
        fputc('\n', f);
    }
    fclose(f);
    MCS_TRY_GOTO(mcs_path(path, "%s/seeds.csv", folder), st, done);
    st = mcs_file_write(path, text, (int64_t)bytes);
done:
    free(text);
    free(values);
    return st;
}
