/* The report's curves: the metrics logged by a training, and memory use over the steps of a graph. */
#include "data/io/file.h"
#include "engine/base/path.h"
#include "engine/base/text_cut.h"
#include "infer/report/chart.h"
#include "infer/report/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 28, MAX_NAMES = 64, POINTS = 400 /* drawn per series */ };

struct series {
    char name[64];
    int n, capacity;
    double *x, *y;
};
struct series_list {
    int n;
    struct series s[MAX_NAMES];
};

static void add_value(struct series_list *l, const char *name, double x, double y)
{
    struct series *s = l->s;
    while (s < l->s + l->n && strcmp(s->name, name) != 0) s++;
    if (s == l->s + MAX_NAMES || strlen(name) >= sizeof s->name) return;
    if (s == l->s + l->n) {
        snprintf(s->name, sizeof s->name, "%s", name);
        l->n++;
    }
    if (s->n == s->capacity) {
        const int capacity = s->capacity ? 2 * s->capacity : 256;
        double *px = realloc(s->x, (size_t)capacity * sizeof *px);
        if (px) s->x = px;
        double *py = px ? realloc(s->y, (size_t)capacity * sizeof *py) : NULL;
        if (!py) return;
        s->y = py;
        s->capacity = capacity;
    }
    s->x[s->n] = x;
    s->y[s->n++] = y;
}

/* Reads all numbers of each line that is a JSON object with a step; skips other lines, such as an incomplete last one.
 */
static void read_series(char *text, struct series_list *l)
{
    for (char *line = text, *end; *line; line = end) {
        end = line + strcspn(line, "\n");
        if (*end) *end++ = '\0';
        json_t *o = json_loads(line, 0, NULL), *value;
        const double step = mcs_report_number(o, "step");
        const char *name;
        json_object_foreach(o, name, value)
        {
            if (isfinite(step) && strcmp(name, "step") != 0 && json_is_number(value))
                add_value(l, name, step, json_number_value(value));
        }
        json_decref(o);
    }
}

/* Reduces a series to about POINTS points by averaging neighbours, to keep the page small. */
static void downsample(struct series *s)
{
    const int group = (s->n + POINTS - 1) / POINTS;
    int n = 0;
    for (int i = 0; i < s->n && group > 1; i += group, n++) {
        const int m = s->n - i < group ? s->n - i : group;
        double x = 0, y = 0;
        for (int k = 0; k < m; k++) {
            x += s->x[i + k];
            y += s->y[i + k];
        }
        s->x[n] = x / m;
        s->y[n] = y / m;
    }
    if (group > 1) s->n = n;
}

/* Moving average over each point and the `half` points before and after it. */
static double *running_mean(const struct series *s, int half)
{
    double *mean = calloc((size_t)s->n + 1, sizeof *mean);
    for (int i = 0; mean && i < s->n; i++) {
        const int lo = i < half ? 0 : i - half, hi = i + half >= s->n ? s->n - 1 : i + half;
        for (int k = lo; k <= hi; k++) mean[i] += s->y[k] / (hi - lo + 1);
    }
    return mean;
}

/*  prefix of the names     title                             y axis                  note   is a share (0 .. 1) */
static const struct curve_group {
    const char *prefix, *title, *y_label, *note;
    int is_share;
} groups[] = {
    {"loss", "Loss", "loss", "What training makes small. Pale: the logged values; strong: their running mean.", 0},
    {"recall", "Retrieval during training", "recall",
     "How often the right caption is found for an image, and the reverse.", 1},
    {"dsc", "Overlap during training", "DSC", NULL, 1},
    {"dice", "Overlap during training", "DSC", NULL, 1},
    {"iou", "Overlap (IoU) during training", "IoU", NULL, 1},
    {"attracted", "Negatives that are pulled together, by number", "share of negatives",
     "A contrastive loss should push wrong pairs apart; this share of them is pulled together, however gently, by the "
     "paper's formula and by the released code's.",
     1},
    {"pull", "Negatives that are pulled together, by force", "share of the gradient",
     "The same weighted by the size of the pull: the paper's formula lets go of many easy pairs, the released code "
     "draws in the hardest.",
     1},
    {"temperature", "Temperature", "temperature", "How sharply the contrastive loss tells similarities apart.", 0},
    {"lr", "Learning rate", "learning rate", NULL, 0},
    {"gradient_norm", "Size of the gradient", "norm", NULL, 0},
};
enum { N_GROUPS = sizeof groups / sizeof *groups, MAX_LINES = 4 };

/* Legend text of a series of a group: recall_i2t -> "image to text". */
static const char *key_name(const char *name, const struct curve_group *g)
{
    static const char *const words[][2] = {{"i2t", "image to text"},           {"t2i", "text to image"},
                                           {"i2t_r1", "image to text, first"}, {"t2i_r1", "text to image, first"},
                                           {"paper", "the paper's formula"},   {"release", "the released code's"}};
    const char *rest = name + strlen(g->prefix);
    rest += *rest == '_';
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(rest, words[i][0]) == 0) return words[i][1];
    return *rest ? rest : name;
}

static int in_group(const char *name, const struct curve_group *g)
{
    return strncmp(name, g->prefix, strlen(g->prefix)) == 0;
}

/* One chart of up to four series. Noisy series of 40 points or more are drawn pale, with their moving average over
 * about a twentieth of them on top. */
static void draw_group(FILE *out, const struct curve_group *g, struct series *const *s, int n)
{
    struct chart_series lines[2 * MAX_LINES] = {{0}};
    double *means[MAX_LINES] = {0};
    int k = 0;
    const int smooth = strcmp(g->prefix, "loss") == 0 || strcmp(g->prefix, "gradient_norm") == 0;
    const struct chart_frame f = {.title = g->title,
                                  .x_label = "training step",
                                  .y_label = g->y_label,
                                  .note = g->note,
                                  .y_from_zero = g->is_share};
    for (int i = 0; i < n; i++) {
        downsample(s[i]);
        if (smooth && s[i]->n >= 40) means[i] = running_mean(s[i], s[i]->n / 40);
        if (means[i]) lines[k++] = (struct chart_series){NULL, s[i]->x, s[i]->y, s[i]->n, i, 1};
        lines[k++] = (struct chart_series){n > 1 || strcmp(s[i]->name, g->prefix) != 0 ? key_name(s[i]->name, g) : NULL,
                                           s[i]->x,
                                           means[i] ? means[i] : s[i]->y,
                                           s[i]->n,
                                           i,
                                           0};
    }
    mcs_chart_lines(out, &f, lines, k);
    for (int i = 0; i < n; i++) free(means[i]);
}

static void draw_all(FILE *out, struct series_list *l)
{
    struct series *chosen[MAX_LINES];
    char drawn[MAX_NAMES] = {0};
    fputs("<div class=\"charts\">\n", out);
    for (int g = 0; g < N_GROUPS; g++) {
        int n = 0;
        for (int i = 0; i < l->n && n < MAX_LINES; i++)
            if (!drawn[i] && in_group(l->s[i].name, &groups[g])) {
                drawn[i] = 1;
                chosen[n++] = &l->s[i];
            }
        if (n) draw_group(out, &groups[g], chosen, n);
    }
    for (int i = 0; i < l->n; i++) { /* each series that is in no group gets a chart */
        const struct curve_group own = {l->s[i].name, l->s[i].name, l->s[i].name, NULL, 0};
        chosen[0] = &l->s[i];
        if (!drawn[i]) draw_group(out, &own, chosen, 1);
    }
    fputs("</div>\n", out);
}

int mcs_report_curves(FILE *out, const char *folder, const char *name)
{
    char path[MCS_PATH_BYTES], *text;
    int64_t n_bytes;
    if (!mcs_path_fits(path, "%s/%s", folder, name) || !mcs_file_exists(path)) return 0;
    if (mcs_file_read(path, MAX_FILE_BYTES, &text, &n_bytes) != MCS_OK) {
        mcs_error_clear();
        mcs_report_missing(out, "No curves: %s cannot be read.", name);
        return 1;
    }
    struct series_list *l = calloc(1, sizeof *l);
    if (l) read_series(text, l);
    free(text);
    if (l && l->n)
        draw_all(out, l);
    else
        mcs_report_missing(out, "No curves: %s holds no values.", name);
    for (int i = 0; l && i < l->n; i++) {
        free(l->s[i].x);
        free(l->s[i].y);
    }
    free(l);
    return 1;
}

/* ---- memory over the steps of a graph ---- */

static void draw_plan(FILE *out, const json_t *plan)
{
    static const double mib = 1024.0 * 1024.0;
    const json_t *live = json_object_get(plan, "live_bytes"), *names = json_object_get(plan, "step_names");
    const size_t n = json_array_size(live);
    const char *title = mcs_report_string(plan, "name");
    double *y = calloc(n + 1, sizeof *y);
    size_t top = 0;
    if (!y) return;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(live, i);
        y[i] = json_is_number(v) ? json_number_value(v) / mib : NAN;
        if (y[i] > y[top] || isnan(y[top])) top = i;
    }
    static const char *const known[2][2] = {{"planned_bytes", "planned"}, {"measured_peak_bytes", "measured peak"}};
    char names_of[2][96], note[512] = "";
    struct chart_level levels[2];
    int n_levels = 0;
    for (int i = 0; i < 2; i++) {
        const double level = mcs_report_number(plan, known[i][0]) / mib;
        if (!isfinite(level)) continue;
        snprintf(names_of[i], sizeof *names_of, "%s: %.1f MiB", known[i][1], level);
        levels[n_levels++] = (struct chart_level){names_of[i], level};
    }
    const char *top_name = json_string_value(json_array_get(names, top));
    if (n)
        mcs_text_cut(note, sizeof note, "Most is in use at step %zu of %zu%s%.200s%s: %.1f MiB.", top + 1, n,
                     top_name ? " (" : "", top_name ? top_name : "", top_name ? ")" : "", y[top]);
    const struct chart_frame f = {.title = title ? title : "A plan without a name",
                                  .x_label = "step of the plan",
                                  .y_label = "MiB in use",
                                  .note = *note ? note : NULL,
                                  .y_from_zero = 1};
    mcs_chart_area(out, &f, y, (int)n, levels, n_levels);
    free(y);
}

void mcs_report_memory(FILE *out, const json_t *timeline)
{
    const json_t *plans = json_object_get(timeline, "plans");
    fputs("<h3>Memory over a step</h3>\n", out);
    if (!json_array_size(plans)) {
        mcs_report_missing(out, "No memory timeline: timeline.json is missing, empty or not readable.");
        return;
    }
    fputs("<p>A model's computation is planned before it runs: every array gets a place in one block of memory, and "
          "places are used again. The area is what is in use while a step of the plan runs.</p>\n<div "
          "class=\"charts\">\n",
          out);
    for (size_t i = 0; i < json_array_size(plans); i++) draw_plan(out, json_array_get(plans, i));
    fputs("</div>\n", out);
}
