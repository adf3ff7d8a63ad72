/* The report's tables and charts of summary.json, section by section. */
#include "data/lesions/demo_config.h"
#include "infer/report/html.h"
#include "infer/report/report_cells.h"

#include <math.h>
#include <string.h>

/* ---- tables of known numbers ---- */

/* Keys with a label and an explanation; other numbers are shown with their key as label. */
struct known {
    const char *key, *label, *explanation;
};

static int is_known(const struct known *k, int n, const char *key)
{
    for (int i = 0; i < n; i++)
        if (strcmp(k[i].key, key) == 0) return 1;
    return 0;
}

static void known_row(FILE *out, const json_t *o, const char *key, const struct known *k)
{
    fputs("<tr>", out);
    mcs_report_cell_text(out, 0, k ? k->label : key);
    const json_t *value = json_object_get(o, key);
    if (json_is_integer(value)) /* a count */
        fprintf(out, "<td class=\"n\">%lld</td>", (long long)json_integer_value(value));
    else
        mcs_report_cell_score(out, o, key);
    mcs_report_cell_text(out, 1, k ? k->explanation : "");
    fputs("</tr>\n", out);
}

static void known_table(FILE *out, const json_t *o, const struct known *known, int n)
{
    const char *key;
    json_t *value;
    fputs("<div class=\"wide\"><table>\n", out);
    for (int i = 0; i < n; i++)
        if (json_is_number(json_object_get(o, known[i].key))) known_row(out, o, known[i].key, known + i);
    json_object_foreach((json_t *)o, key, value)
    {
        if (json_is_number(value) && !is_known(known, n, key)) known_row(out, o, key, NULL);
    }
    fputs("</table></div>\n", out);
}

/* ---- the sections ---- */

/* The demo configuration's help text for a key, or NULL. */
static const char *difficulty_help(const char *key)
{
    static const struct {
        const char *key, *help;
    } rows[] = {
#define X(structure, member, field, key, def, lo, hi, help) {key, help},
        MCS_DEMO_CONFIG_LIST(X, , )
#undef X
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].key, key) == 0) return rows[i].help;
    return NULL;
}

/* The numbers that determine the task's difficulty most are shown at once, the others are in a collapsed table. */
static int is_main_difficulty(const char *key)
{
    static const char *const starts[] = {"share.", "lesion.small", "lesion.large", "image.noise"};
    int is_main = !difficulty_help(key);
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        is_main |= strncmp(key, starts[i], strlen(starts[i])) == 0;
    return is_main;
}

static void difficulty_rows(FILE *out, const json_t *o, const char *prefix, int is_main)
{
    const char *key;
    json_t *value;
    char name[256];
    json_object_foreach((json_t *)o, key, value)
    {
        snprintf(name, sizeof name, "%s%s%s", prefix, *prefix ? "." : "", key);
        if (json_is_object(value) && !*prefix) difficulty_rows(out, value, key, is_main);
        if (!json_is_number(value) || is_main_difficulty(name) != is_main) continue;
        fputs("<tr>", out);
        mcs_report_cell_text(out, 0, name);
        fprintf(out, "<td class=\"n\">%g</td>", json_number_value(value));
        mcs_report_cell_text(out, 1, difficulty_help(name));
        fputs("</tr>\n", out);
    }
}

void mcs_report_data(FILE *out, const json_t *summary)
{
    const json_t *difficulty = json_object_get(summary, "difficulty");
    if (!json_object_size(difficulty)) {
        mcs_report_missing(out, "The data's difficulty is not in summary.json.");
        return;
    }
    fputs("<p>How hard the images are is fixed by these numbers. Lengths are in pixels of 1.5 mm unless it says "
          "otherwise, grey values are shares of the full scale.</p>\n<div class=\"wide\"><table>\n",
          out);
    difficulty_rows(out, difficulty, "", 1);
    fputs("</table></div>\n<details><summary>The other numbers</summary>\n<div class=\"wide\"><table>\n", out);
    difficulty_rows(out, difficulty, "", 0);
    fputs("</table></div></details>\n", out);
}

static const struct known retrieval_rows[] = {
    {"i2t_r1", "image to text, first", "the image's own caption comes first of the batch"},
    {"i2t_r2", "image to text, first two", "it is among the first two"},
    {"t2i_r1", "text to image, first", "the caption's own image comes first of the batch"},
    {"t2i_r2", "text to image, first two", "it is among the first two"},
};
enum { N_RETRIEVAL = sizeof retrieval_rows / sizeof *retrieval_rows };

void mcs_report_retrieval(FILE *out, const json_t *summary)
{
    const json_t *r = json_object_get(summary, "retrieval");
    const json_t *before = json_object_get(r, "before"), *after = json_object_get(r, "after");
    if (!json_object_size(before) && !json_object_size(after)) {
        mcs_report_missing(out, "No retrieval figures in summary.json.");
        return;
    }
    struct chart_bar bars[2 * N_RETRIEVAL];
    char names[2 * N_RETRIEVAL][64];
    fputs(
        "<h3>Retrieval before and after</h3>\n<p>Does the model know which text belongs to which image? Recall is the "
        "share of cases in which it picks the right partner.</p>\n<div class=\"wide\"><table>\n<tr><th>Recall</th><th "
        "class=\"n\">before <span class=\"soft\">(95 % interval)</span></th><th class=\"n\">after</th><th "
        "class=\"n\">change</th><th>meaning</th></tr>\n",
        out);
    for (int i = 0; i < N_RETRIEVAL; i++) {
        const struct known *k = retrieval_rows + i;
        fputs("<tr>", out);
        mcs_report_cell_text(out, 0, k->label);
        mcs_report_cell_score(out, before, k->key);
        mcs_report_cell_score(out, after, k->key);
        mcs_report_cell_change(out, mcs_report_number(after, k->key) - mcs_report_number(before, k->key));
        mcs_report_cell_text(out, 1, k->explanation);
        fputs("</tr>\n", out);
        snprintf(names[2 * i], sizeof names[0], "%s: before", k->label);
        snprintf(names[2 * i + 1], sizeof names[0], "after");
        bars[2 * i] = mcs_report_bar(names[2 * i], before, k->key, CHART_BAR_QUIET);
        bars[2 * i + 1] = mcs_report_bar(names[2 * i + 1], after, k->key, CHART_BAR);
    }
    fputs("</table></div>\n", out);
    const struct chart_frame f = {
        .title = "Recall before and after fine-tuning", .x_label = "recall", .y_lo = 0, .y_hi = 1};
    mcs_chart_bars(out, &f, bars, 2 * N_RETRIEVAL, "");
}

void mcs_report_control(FILE *out, const json_t *summary)
{
    static const struct known rows[] = {
        {"prompt_dsc", "DSC on the lesion that the prompt names",
         "images with two lesions of opposite look: the mask against the one that the text means"},
        {"other_dsc", "DSC on the other lesion", "the same mask against the lesion that the text does not mean"},
        {"n_two_lesion_images", "images with two lesions", "on which the two figures above were measured"},
        {"presence_auroc", "AUROC of the presence score",
         "how well one generic prompt tells images with a lesion from images without; 0.5 is guessing, 1 is perfect"},
    };
    const json_t *o = json_object_get(summary, "control");
    fputs("<h3>Does the text matter?</h3>\n", out);
    if (!json_object_size(o)) {
        mcs_report_missing(out, "No control figures in summary.json.");
        return;
    }
    known_table(out, o, rows, sizeof rows / sizeof *rows);
}

static void write_ensemble(FILE *out, const json_t *rows)
{
    fputs("<h3>One checkpoint or many?</h3>\n<p>The network is kept at several moments of its training, and their "
          "predictions can be averaged. Here is what that did.</p>\n<div "
          "class=\"wide\"><table>\n<tr><th>Average of</th><th class=\"n\">DSC</th><th class=\"n\">AUROC of the "
          "uncertainty for wrong pixels</th></tr>\n",
          out);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        fputs("<tr>", out);
        mcs_report_cell_text(out, 0, mcs_report_string(row, "name"));
        mcs_report_cell_score(out, row, "dsc");
        mcs_report_cell_score(out, row, "error_auroc");
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

static void write_types(FILE *out, const json_t *rows)
{
    fputs(
        "<h3>By kind of lesion</h3>\n<div class=\"wide\"><table>\n<tr><th>Lesions</th><th "
        "class=\"n\">images</th><th class=\"n\">DSC from text alone</th><th class=\"n\">DSC of the network</th></tr>\n",
        out);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const double n = mcs_report_number(row, "n");
        fputs("<tr>", out);
        mcs_report_cell_text(out, 0, mcs_report_string(row, "name"));
        if (isfinite(n))
            fprintf(out, "<td class=\"n\">%.0f</td>", n);
        else
            fputs("<td class=\"n\">&ndash;</td>", out);
        mcs_report_cell(out, mcs_report_number(row, "zero_shot"));
        mcs_report_cell(out, mcs_report_number(row, "network"));
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

void mcs_report_network(FILE *out, const json_t *summary)
{
    const json_t *ensemble = json_object_get(summary, "ensemble"), *types = json_object_get(summary, "by_type");
    const json_t *labels = json_object_get(summary, "pseudo_labels");
    const double n = mcs_report_number(labels, "images"), dsc = mcs_report_number(labels, "dsc");
    if (isfinite(n) && isfinite(dsc))
        fprintf(out, "<p>%.0f training images were labelled in this way; the mean DSC of these labels is %.3f.</p>\n",
                n, dsc);
    if (json_array_size(ensemble))
        write_ensemble(out, ensemble);
    else
        mcs_report_missing(out, "No figures of single checkpoints and their averages in summary.json.");
    if (json_array_size(types))
        write_types(out, types);
    else
        mcs_report_missing(out, "No figures by kind of lesion in summary.json.");
}

void mcs_report_uncertainty(FILE *out, const json_t *summary)
{
    static const struct known rows[] = {
        {"right", "mean entropy of right pixels, bits", "where the network's mask agrees with the truth"},
        {"wrong", "mean entropy of wrong pixels, bits", "where it does not: should be much higher"},
        {"error_auroc", "AUROC for wrong pixels, all pixels",
         "chance that a wrong pixel has the higher entropy of a wrong and a right one; 0.5 is guessing"},
        {"error_auroc_outside_band", "AUROC for wrong pixels away from the border",
         "the same without the 2 pixels on each side of the mask's border, where doubt is easy"},
        {"rank_correlation", "rank correlation of a case's score with its DSC",
         "-1: the score ranks the cases from best to worst; 0: it says nothing"},
    };
    const json_t *o = json_object_get(summary, "uncertainty");
    if (!json_object_size(o)) {
        mcs_report_missing(out, "No uncertainty figures in summary.json.");
        return;
    }
    known_table(out, o, rows, sizeof rows / sizeof *rows);
}

enum { MAX_STAGES = 64 };

void mcs_report_cost(FILE *out, const json_t *summary)
{
    const json_t *stages = json_object_get(summary, "seconds_by_stage");
    const double seconds = mcs_report_number(summary, "seconds"),
                 peak = mcs_report_number(summary, "peak_memory_bytes");
    struct chart_bar bars[MAX_STAGES];
    int n = 0;
    const char *key;
    json_t *value;
    if (isfinite(seconds)) fprintf(out, "<p>The whole run took %.0f s (%.1f minutes).</p>\n", seconds, seconds / 60);
    if (isfinite(peak)) fprintf(out, "<p>At most %.0f MiB of memory were in use.</p>\n", peak / (1024.0 * 1024.0));
    json_object_foreach((json_t *)stages, key, value)
    {
        if (n == MAX_STAGES || !json_is_number(value)) continue;
        bars[n++] = (struct chart_bar){key, json_number_value(value), NAN, NAN, CHART_BAR};
    }
    if (!n) {
        mcs_report_missing(out, "No times of the stages in summary.json.");
        return;
    }
    const struct chart_frame f = {.title = "Time by stage", .x_label = "seconds"};
    mcs_chart_bars(out, &f, bars, n, " s");
}
