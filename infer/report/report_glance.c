/* The report's first section: the stages' scores, the baselines, and notes. */
#define _GNU_SOURCE /* strcasestr */
#include "infer/report/html.h"
#include "infer/report/report_cells.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

static void tile(FILE *out, double value, const char *text)
{
    if (isfinite(value)) fprintf(out, "<div class=\"tile\"><b>%.2f</b><span>%s</span></div>\n", value, text);
}

static void write_tiles(FILE *out, const json_t *s)
{
    const json_t *stages = json_object_get(s, "stages"), *retrieval = json_object_get(s, "retrieval");
    const double sam = mcs_report_number(find_row(stages, "stage", "sam"), "dsc");
    const double network = mcs_report_number(find_row(stages, "stage", "network"), "dsc");
    const double before = mcs_report_number(json_object_get(retrieval, "before"), "i2t_r1");
    const double after = mcs_report_number(json_object_get(retrieval, "after"), "i2t_r1");
    const double asked = mcs_report_number(json_object_get(s, "healthy"), "presence_auroc");
    const double presence =
        isfinite(asked) ? asked : mcs_report_number(json_object_get(s, "control"), "presence_auroc");
    const json_t *rules = json_object_get(s, "baselines");
    const double rule = fmax(mcs_report_number(find_row(rules, "name", "rule_sam"), "dsc"),
                             mcs_report_number(find_row(rules, "name", "rule_words_sam"), "dsc"));
    const double other = mcs_report_number(json_object_get(s, "shuffled"), "zero_shot");
    const double error = mcs_report_number(json_object_get(s, "uncertainty"), "error_auroc");
    fputs("<div class=\"tiles\">\n", out);
    tile(out, sam, "mean DSC of the mask made from a text alone (saliency, then SAM)");
    tile(out, rule,
         "the same of the best rule that reads the prompt's words and looks at grey values, its box into SAM");
    tile(out, other, "the same when asked for another image's lesion");
    tile(out, network, "mean DSC of the network trained on such masks, without any hand-drawn one");
    if (isfinite(before) && isfinite(after))
        fprintf(
            out,
            "<div class=\"tile\"><b>%.0f %% &rarr; %.0f %%</b><span>images whose own caption comes first, before and "
            "after fine-tuning</span></div>\n",
            100 * before, 100 * after);
    tile(out, presence, "AUROC for telling images with a lesion from images without");
    tile(out, error, "AUROC of the uncertainty map for finding wrong pixels");
    fputs("</div>\n", out);
}

static void write_stage_chart(FILE *out, const json_t *stages, const json_t *baselines)
{
    const size_t n_stages = json_array_size(stages), n = n_stages + json_array_size(baselines);
    struct chart_bar *bars = calloc(n + 1, sizeof *bars);
    int has_truth = 0;
    if (!bars) return;
    for (size_t i = 0; i < n; i++) {
        const int is_stage = i < n_stages;
        const json_t *row = is_stage ? json_array_get(stages, i) : json_array_get(baselines, i - n_stages);
        const char *name = mcs_report_string(row, is_stage ? "stage" : "name"),
                   *label = is_stage ? name : mcs_report_string(row, "label");
        const int on_truth = !is_stage && name && (strcasestr(name, "ceiling") || !strcmp(name, "true_masks"));
        has_truth |= on_truth;
        bars[i] = mcs_report_bar(label  ? label
                                 : name ? name
                                        : "?",
                                 row, "dsc",
                                 is_stage   ? CHART_BAR
                                 : on_truth ? CHART_BAR_OUTLINE
                                            : CHART_BAR_QUIET);
    }
    const struct chart_frame f = {
        .title = "Overlap with the true lesion after each stage",
        .x_label = "mean DSC over the test images",
        .y_lo = 0,
        .y_hi = 1,
        .note = has_truth
                    ? "Blue: the pipeline's stages in order. Grey: rules and wrong prompts, for comparison. Dashed: "
                      "the same network trained on the true masks. Whiskers: 95 % intervals."
                    : "Blue: the pipeline's stages in order. Grey: rules and wrong prompts, for comparison. "
                      "Whiskers: 95 % intervals."};
    mcs_chart_bars(out, &f, bars, (int)n, "");
    free(bars);
}

static void write_stage_table(FILE *out, const json_t *stages)
{
    double before = NAN;
    int n_worse = 0, any_compared = 0;
    fputs("<div class=\"wide\"><table>\n<tr><th>Stage</th><th class=\"n\">DSC <span class=\"soft\">(95 % "
          "interval)</span></th><th class=\"n\">change</th><th class=\"n\">NSD</th><th class=\"n\">IoU</th></tr>\n",
          out);
    for (size_t i = 0; i < json_array_size(stages); i++) {
        const json_t *row = json_array_get(stages, i);
        const double dsc = mcs_report_number(row, "dsc"), compared = mcs_report_number(row, "before"),
                     change = dsc - (isfinite(compared) ? compared : before);
        any_compared |= isfinite(compared);
        fputs("<tr>", out);
        mcs_report_cell_text(out, 0, mcs_report_string(row, "stage"));
        mcs_report_cell_score(out, row, "dsc");
        mcs_report_cell_change(out, change);
        mcs_report_cell(out, mcs_report_number(row, "nsd"));
        mcs_report_cell(out, mcs_report_number(row, "iou"));
        fputs("</tr>\n", out);
        n_worse += change <= 0;
        before = dsc;
    }
    fputs("</table></div>\n", out);
    if (any_compared)
        fputs(
            "<p>The network has no prompt and is measured against all lesions of an image; its change is that from the "
            "masks made by asking for each of them.</p>\n",
            out);
    if (n_worse)
        fprintf(out,
                "<p><span class=\"worse\">%d %s</span> not improve on the stage before (the changes in orange).</p>\n",
                n_worse, n_worse == 1 ? "stage does" : "stages do");
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
    mcs_report_baselines(out, summary);
    mcs_report_differences(out, summary);
    if (!json_array_size(notes)) return;
    fputs("<h3>Noted by the run</h3>\n<ul>\n", out);
    for (size_t i = 0; i < json_array_size(notes); i++) {
        const char *text = json_string_value(json_array_get(notes, i));
        if (text) mcs_html_wrap(out, "<li>", text, "</li>\n");
    }
    fputs("</ul>\n", out);
}
