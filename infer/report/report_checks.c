/* The report's checks of the pipeline: rules and wrong prompts, prompts of each level, paired differences, healthy
 * images, lesions of unseen forms. */
#include "infer/report/html.h"
#include "infer/report/report_cells.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void begin_table(FILE *out, const char *first, const char *figure, const char *last)
{
    fprintf(out,
            "<div class=\"wide\"><table>\n<tr><th>%s</th><th class=\"n\">%s <span class=\"soft\">(95 %% "
            "interval)</span></th><th>%s</th></tr>\n",
            first, figure, last);
}

static void row(FILE *out, const char *name, const json_t *o, const char *key, const char *what)
{
    if (!isfinite(mcs_report_number(o, key))) return;
    fputs("<tr>", out);
    mcs_report_cell_text(out, 0, name);
    mcs_report_cell_score(out, o, key);
    mcs_report_cell_text(out, 1, what);
    fputs("</tr>\n", out);
}

static void end_table(FILE *out)
{
    fputs("</table></div>\n", out);
}

/* A baseline's label; older runs have names alone. */
static const char *label_of(const json_t *baseline)
{
    const char *label = mcs_report_string(baseline, "label");
    return label ? label : mcs_report_string(baseline, "name");
}

void mcs_report_baselines(FILE *out, const json_t *summary)
{
    const json_t *baselines = json_object_get(summary, "baselines");
    if (!json_array_size(baselines)) {
        mcs_report_missing(out, "No baselines in summary.json.");
        return;
    }
    fputs("<h3>What rules and wrong prompts reach</h3>\n<p>A pipeline that asks a model of language has to do better "
          "than rules without one. All that the rules choose is chosen on the images that also chose the pipeline's "
          "threshold.</p>\n",
          out);
    begin_table(out, "Baseline", "DSC", "What it is");
    for (size_t i = 0; i < json_array_size(baselines); i++) {
        const json_t *b = json_array_get(baselines, i);
        row(out, label_of(b), b, "dsc", mcs_report_string(b, "what"));
    }
    end_table(out);
}

void mcs_report_differences(FILE *out, const json_t *summary)
{
    static const struct {
        const char *key, *name, *what;
    } rows[] = {
        {"zero_shot_minus_best_rule_sam", "text to mask less the best rule with SAM",
         "above 0: the text and CLIP add something that grey values do not tell"},
        {"shuffled", "own look less another image's look",
         "above 0: the mask follows the words; only images whose looks differ"},
        {"all_lesions", "network less text to mask",
         "above 0: training on the masks improves on them; all lesions of each image"},
    };
    int any = 0;
    for (int i = 0; i < 3; i++) any |= isfinite(mcs_report_number(json_object_get(summary, rows[i].key), "difference"));
    if (!any) return;
    fputs(
        "<h3>Differences on the same images</h3>\n<p>Each is the mean over images of one DSC less another. An interval "
        "that holds 0 shows no difference.</p>\n",
        out);
    begin_table(out, "Difference", "DSC", "Meaning");
    for (int i = 0; i < 3; i++)
        row(out, rows[i].name, json_object_get(summary, rows[i].key), "difference", rows[i].what);
    end_table(out);
}

void mcs_report_prompts(FILE *out, const json_t *summary)
{
    static const struct {
        const char *key, *name, *what;
    } levels[] = {
        {"word", "the word alone", "\"axial t1 mri showing a lesion\": all lesions of the image are meant"},
        {"look", "look", "size, border, intensity and rim, as in the table of stages"},
        {"look_place", "look and place", "and side and lobe, which a user has to know"},
    };
    const json_t *prompts = json_object_get(summary, "prompts"), *shuffled = json_object_get(summary, "shuffled");
    struct chart_bar bars[4];
    int n = 0;
    if (!json_object_size(prompts)) return;
    fputs("<h3>How much the prompt says</h3>\n", out);
    begin_table(out, "Prompt", "DSC of text to mask", "What it says");
    for (int i = 0; i < 3; i++) {
        const json_t *level = json_object_get(prompts, levels[i].key);
        row(out, levels[i].name, level, "zero_shot", levels[i].what);
        bars[n++] = mcs_report_bar(levels[i].name, level, "zero_shot", CHART_BAR);
    }
    row(out, "another image's look", shuffled, "zero_shot",
        "the mask of that look, measured against the lesion of this image");
    bars[n++] = mcs_report_bar("another image's look", shuffled, "zero_shot", CHART_BAR_QUIET);
    end_table(out);
    const struct chart_frame f = {.title = "Text to mask by the prompt", .x_label = "mean DSC", .y_lo = 0, .y_hi = 1};
    mcs_chart_bars(out, &f, bars, n, "");
}

void mcs_report_healthy(FILE *out, const json_t *summary)
{
    const json_t *h = json_object_get(summary, "healthy"), *any = json_object_get(h, "without_threshold"),
                 *network = json_object_get(h, "network");
    const char *score = mcs_report_string(h, "presence_score"), *rule = mcs_report_string(h, "empty_mask_rule");
    const double least = mcs_report_number(h, "min_presence"), n = mcs_report_number(h, "images");
    if (!json_object_size(h)) {
        mcs_report_missing(out, "No figures of healthy images in summary.json.");
        return;
    }
    fprintf(out, "<p>%.0f healthy images were asked with the prompts of the others. An image whose presence score", n);
    if (score) mcs_html_textf(out, " (%s)", score);
    if (isfinite(least)) fprintf(out, " is below %.4g", least);
    fputs(" gets no mask; the threshold was chosen on validation images.</p>\n", out);
    begin_table(out, "Figure", "value", "Meaning");
    row(out, "AUROC of the presence score", h, "presence_auroc",
        "how well it tells images with the lesion from healthy ones; 0.5 is guessing");
    row(out, "healthy images with a mask", h, "false_mask_share", "false alarms, with the threshold");
    row(out, "lesions found", h, "lesions_found",
        "images with a lesion whose mask has a DSC above 0.1, with the threshold");
    row(out, "DSC over all images", h, "dsc_all_images", rule);
    row(out, "healthy images with a mask, no threshold", any, "false_mask_share", "every image is asked and answered");
    row(out, "lesions found, no threshold", any, "lesions_found", "");
    row(out, "healthy images with a mask by the network", network, "false_mask_share", "any pixel counts");
    row(out, "lesions found by the network", network, "lesions_found", "DSC above 0.1, all lesions of an image");
    end_table(out);
}

void mcs_report_unseen(FILE *out, const json_t *summary)
{
    const json_t *u = json_object_get(summary, "unseen_kinds");
    if (!isfinite(mcs_report_number(u, "zero_shot"))) return;
    fputs("<h3>Lesions of a form that no training saw</h3>\n", out);
    begin_table(out, "Mask", "DSC", "");
    row(out, "text to mask", u, "zero_shot", "asked by look");
    row(out, "network", u, "weak", "all lesions of an image");
    end_table(out);
}
