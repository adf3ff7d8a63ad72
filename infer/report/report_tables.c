/* The report's tables and charts of summary.json. */
#define _GNU_SOURCE /* strcasestr */
#include "data/lesions/demo_config.h"
#include "infer/report/chart.h"
#include "infer/report/html.h"
#include "infer/report/report_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- reading ---- */

double mcs_report_number(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

const char *mcs_report_string(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

void mcs_report_interval(const json_t *o, const char *key, double lo_hi[2])
{
    char name[128];
    snprintf(name, sizeof name, "%s_interval", key);
    const json_t *pair = json_object_get(o, name);
    lo_hi[0] = lo_hi[1] = NAN;
    if (json_array_size(pair) != 2 || !json_is_number(json_array_get(pair, 0)) ||
        !json_is_number(json_array_get(pair, 1)))
        return;
    for (size_t i = 0; i < 2; i++) lo_hi[i] = json_number_value(json_array_get(pair, i));
}

void mcs_report_missing(FILE *out, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fputs("<p class=\"missing\">", out);
    mcs_html_text(out, text);
    fputs("</p>\n", out);
}

/* ---- cells ---- */

static void cell(FILE *out, double v)
{
    if (isfinite(v))
        fprintf(out, "<td class=\"n\">%.3f</td>", v);
    else
        fputs("<td class=\"n\">&ndash;</td>", out);
}

static void cell_interval(FILE *out, double v, const double lo_hi[2])
{
    if (isfinite(v) && isfinite(lo_hi[0]))
        fprintf(out, "<td class=\"n\">%.3f <span class=\"soft\">(%.3f to %.3f)</span></td>", v, lo_hi[0], lo_hi[1]);
    else
        cell(out, v);
}

static void cell_change(FILE *out, double change)
{
    if (isfinite(change))
        fprintf(out, "<td class=\"n%s\">%+.3f</td>", change <= 0 ? " worse" : "", change);
    else
        fputs("<td class=\"n\"></td>", out);
}

static void cell_text(FILE *out, const char *class, const char *text)
{
    fprintf(out, "<td%s>", class);
    mcs_html_text(out, text ? text : "");
    fputs("</td>", out);
}

static void tile(FILE *out, const char *value, const char *text)
{
    fprintf(out, "<div class=\"tile\"><b>%s</b><span>%s</span></div>\n", value, text);
}

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
    double lo_hi[2];
    mcs_report_interval(o, key, lo_hi);
    fputs("<tr>", out);
    cell_text(out, "", k ? k->label : key);
    const json_t *value = json_object_get(o, key);
    if (json_is_integer(value)) /* a count */
        fprintf(out, "<td class=\"n\">%lld</td>", (long long)json_integer_value(value));
    else
        cell_interval(out, json_number_value(value), lo_hi);
    cell_text(out, " class=\"s\"", k ? k->explanation : "");
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

/* ---- at a glance ---- */

/* The last row whose name contains the word, or NULL. */
static const json_t *find_row(const json_t *rows, const char *name_key, const char *word)
{
    const json_t *found = NULL;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *name = mcs_report_string(json_array_get(rows, i), name_key);
        if (name && strcasestr(name, word)) found = json_array_get(rows, i);
    }
    return found;
}

static void write_tiles(FILE *out, const json_t *s)
{
    const json_t *stages = json_object_get(s, "stages"), *retrieval = json_object_get(s, "retrieval");
    const double sam = mcs_report_number(find_row(stages, "stage", "sam"), "dsc");
    const double network = mcs_report_number(find_row(stages, "stage", "network"), "dsc");
    const double before = mcs_report_number(json_object_get(retrieval, "before"), "i2t_r1");
    const double after = mcs_report_number(json_object_get(retrieval, "after"), "i2t_r1");
    const double presence = mcs_report_number(json_object_get(s, "control"), "presence_auroc");
    const double error = mcs_report_number(json_object_get(s, "uncertainty"), "error_auroc");
    char text[64];
    fputs("<div class=\"tiles\">\n", out);
    if (isfinite(sam)) {
        snprintf(text, sizeof text, "%.2f", sam);
        tile(out, text, "mean DSC of the mask made from a text alone (saliency, then SAM)");
    }
    if (isfinite(network)) {
        snprintf(text, sizeof text, "%.2f", network);
        tile(out, text, "mean DSC of the network trained on such masks, without any hand-drawn one");
    }
    if (isfinite(before) && isfinite(after)) {
        snprintf(text, sizeof text, "%.0f %% &rarr; %.0f %%", 100 * before, 100 * after);
        tile(out, text, "images whose own caption comes first, before and after fine-tuning");
    }
    if (isfinite(presence)) {
        snprintf(text, sizeof text, "%.2f", presence);
        tile(out, text, "AUROC for telling images with a lesion from images without");
    }
    if (isfinite(error)) {
        snprintf(text, sizeof text, "%.2f", error);
        tile(out, text, "AUROC of the uncertainty map for finding wrong pixels");
    }
    fputs("</div>\n", out);
}

static void write_stage_chart(FILE *out, const json_t *stages, const json_t *baselines)
{
    const size_t n_stages = json_array_size(stages), n = n_stages + json_array_size(baselines);
    struct chart_bar *bars = calloc(n + 1, sizeof *bars);
    if (!bars) return;
    for (size_t i = 0; i < n; i++) {
        const int is_stage = i < n_stages;
        const json_t *row = is_stage ? json_array_get(stages, i) : json_array_get(baselines, i - n_stages);
        const char *name = mcs_report_string(row, is_stage ? "stage" : "name");
        double lo_hi[2];
        mcs_report_interval(row, "dsc", lo_hi);
        bars[i] = (struct chart_bar){name ? name : "?", mcs_report_number(row, "dsc"), lo_hi[0], lo_hi[1],
                                     is_stage                              ? CHART_BAR
                                     : name && strcasestr(name, "ceiling") ? CHART_BAR_OUTLINE
                                                                           : CHART_BAR_QUIET};
    }
    const struct chart_frame f = {
        .title = "Overlap with the true lesion after each stage",
        .x_label = "mean DSC over the test images",
        .y_lo = 0,
        .y_hi = 1,
        .note =
            "Blue: the pipeline's stages in order. Grey: what needs no model, for comparison. Dashed: the same network "
            "trained on the true masks. Whiskers: 95 % intervals."};
    mcs_chart_bars(out, &f, bars, (int)n, "");
    free(bars);
}

static void write_stage_table(FILE *out, const json_t *stages)
{
    double before = NAN;
    int n_worse = 0;
    fputs("<div class=\"wide\"><table>\n<tr><th>Stage</th><th class=\"n\">DSC <span class=\"soft\">(95 % "
          "interval)</span></th><th class=\"n\">change</th><th class=\"n\">NSD</th><th class=\"n\">IoU</th></tr>\n",
          out);
    for (size_t i = 0; i < json_array_size(stages); i++) {
        const json_t *row = json_array_get(stages, i);
        const double dsc = mcs_report_number(row, "dsc"), change = dsc - before;
        double lo_hi[2];
        mcs_report_interval(row, "dsc", lo_hi);
        fputs("<tr>", out);
        cell_text(out, "", mcs_report_string(row, "stage"));
        cell_interval(out, dsc, lo_hi);
        cell_change(out, change);
        cell(out, mcs_report_number(row, "nsd"));
        cell(out, mcs_report_number(row, "iou"));
        fputs("</tr>\n", out);
        n_worse += change <= 0;
        before = dsc;
    }
    fputs("</table></div>\n", out);
    if (n_worse)
        fprintf(out,
                "<p><span class=\"worse\">%d %s</span> not improve on the stage before (the changes in orange).</p>\n",
                n_worse, n_worse == 1 ? "stage does" : "stages do");
}

static void write_baselines(FILE *out, const json_t *baselines)
{
    if (!json_array_size(baselines)) {
        mcs_report_missing(out, "No baselines in summary.json.");
        return;
    }
    fputs("<h3>What needs no model, and the ceiling</h3>\n<div class=\"wide\"><table>\n"
          "<tr><th>Baseline</th><th class=\"n\">DSC</th><th>What it is</th></tr>\n",
          out);
    for (size_t i = 0; i < json_array_size(baselines); i++) {
        const json_t *row = json_array_get(baselines, i);
        double lo_hi[2];
        mcs_report_interval(row, "dsc", lo_hi);
        fputs("<tr>", out);
        cell_text(out, "", mcs_report_string(row, "name"));
        cell_interval(out, mcs_report_number(row, "dsc"), lo_hi);
        cell_text(out, " class=\"s\"", mcs_report_string(row, "what"));
        fputs("</tr>\n", out);
    }
    fputs("</table></div>\n", out);
}

/* Explains the pipeline's steps before the first figure names them. */
static void write_stages_in_words(FILE *out)
{
    fputs(
        "<p>An image and a text go in, such as <q>a small bright lesion in the left frontal lobe</q>; a mask comes "
        "out. "
        "Each stage adds to the one before:</p>\n<ol>\n"
        "<li><b>Saliency</b>: a model that knows images and texts marks what in the image matters for the text. Cut at "
        "one half, this map is a first mask.</li>\n"
        "<li><b>Fine-tuning</b>: that model first learns from pairs of image and caption.</li>\n"
        "<li><b>Post-processing</b>: the map is cut at a threshold found from the map itself.</li>\n"
        "<li><b>Components</b>: of the connected parts of the mask only the best is kept.</li>\n"
        "<li><b>SAM</b>, a model that outlines objects, draws the mask in the box around that part.</li>\n"
        "<li><b>Network</b>: a U-Net is trained on such masks of other images, and several of its checkpoints are "
        "averaged. It needs no text.</li>\n</ol>\n",
        out);
}

void mcs_report_glance(FILE *out, const json_t *summary)
{
    const json_t *stages = json_object_get(summary, "stages"), *baselines = json_object_get(summary, "baselines");
    const json_t *notes = json_object_get(summary, "notes");
    if (!json_array_size(stages)) {
        mcs_report_missing(out, "No scores of the stages: summary.json has no list \"stages\".");
    } else {
        write_tiles(out, summary);
        write_stages_in_words(out);
        write_stage_chart(out, stages, baselines);
        write_stage_table(out, stages);
    }
    write_baselines(out, baselines);
    if (!json_array_size(notes)) return;
    fputs("<h3>Noted by the run</h3>\n<ul>\n", out);
    for (size_t i = 0; i < json_array_size(notes); i++) {
        const char *text = json_string_value(json_array_get(notes, i));
        if (!text) continue;
        fputs("<li>", out);
        mcs_html_text(out, text);
        fputs("</li>\n", out);
    }
    fputs("</ul>\n", out);
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
        cell_text(out, "", name);
        fprintf(out, "<td class=\"n\">%g</td>", json_number_value(value));
        cell_text(out, " class=\"s\"", difficulty_help(name));
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
        const double b = mcs_report_number(before, k->key), a = mcs_report_number(after, k->key);
        double b_range[2], a_range[2];
        mcs_report_interval(before, k->key, b_range);
        mcs_report_interval(after, k->key, a_range);
        fputs("<tr>", out);
        cell_text(out, "", k->label);
        cell_interval(out, b, b_range);
        cell_interval(out, a, a_range);
        cell_change(out, a - b);
        cell_text(out, " class=\"s\"", k->explanation);
        fputs("</tr>\n", out);
        snprintf(names[2 * i], sizeof names[0], "%s: before", k->label);
        snprintf(names[2 * i + 1], sizeof names[0], "after");
        bars[2 * i] = (struct chart_bar){names[2 * i], b, b_range[0], b_range[1], CHART_BAR_QUIET};
        bars[2 * i + 1] = (struct chart_bar){names[2 * i + 1], a, a_range[0], a_range[1], CHART_BAR};
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
          "predictions can be averaged. Whether that helps is an open question; here is what it did.</p>\n<div "
          "class=\"wide\"><table>\n<tr><th>Average of</th><th class=\"n\">DSC</th><th class=\"n\">AUROC of the "
          "uncertainty for wrong pixels</th></tr>\n",
          out);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        double dsc[2], auroc[2];
        mcs_report_interval(row, "dsc", dsc);
        mcs_report_interval(row, "error_auroc", auroc);
        fputs("<tr>", out);
        cell_text(out, "", mcs_report_string(row, "name"));
        cell_interval(out, mcs_report_number(row, "dsc"), dsc);
        cell_interval(out, mcs_report_number(row, "error_auroc"), auroc);
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
        cell_text(out, "", mcs_report_string(row, "name"));
        if (isfinite(n))
            fprintf(out, "<td class=\"n\">%.0f</td>", n);
        else
            fputs("<td class=\"n\">&ndash;</td>", out);
        cell(out, mcs_report_number(row, "zero_shot"));
        cell(out, mcs_report_number(row, "network"));
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
