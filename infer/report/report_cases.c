/* The report's cases: the image, overlaid with the saliency, the masks, the ground truth and the uncertainty. The page
 * contains each image once; masks and outlines are vector paths over it, so they are sharp at any size. */
#include "data/image/image.h"
#include "engine/base/path.h"
#include "engine/base/text_cut.h"
#include "infer/report/chart.h"
#include "infer/report/html.h"
#include "infer/report/report_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 12, N_WORST = 6, N_MIDDLE = 3, N_BEST = 3, N_OTHERS = 4, MAX_SIDE = 512 };

/* ---- pictures ---- */

/* Pictures outside the run folder are refused: a folder from somebody else must not expose other files. */
static int is_inside(const char *path)
{
    if (!*path || *path == '/') return 0;
    for (const char *at = path; at; at = strchr(at, '/')) {
        at += *at == '/';
        if (!strncmp(at, "..", 2) && (at[2] == '/' || !at[2])) return 0;
    }
    return 1;
}

/* Reads a grey picture of a case, downscaled to at most MAX_SIDE. On failure img is empty and `why` has the reason. */
static int read_picture(const char *folder, const json_t *item, const char *key, enum mcs_filter filter,
                        struct image *img, char why[256])
{
    char path[MCS_PATH_BYTES];
    const char *name = mcs_report_string(item, key);
    *img = (struct image){0};
    snprintf(why, 256, "not in this run");
    if (!name) return 0;
    snprintf(why, 256, "the path leads out of the run folder");
    if (!is_inside(name)) return 0;
    if (mcs_path(path, "%s/%s", folder, name) != MCS_OK || mcs_image_read(path, 1, img) != MCS_OK) {
        mcs_text_cut(why, 256, "not readable: %s", name);
        mcs_error_clear();
        *img = (struct image){0};
        return 0;
    }
    const int longest = img->width > img->height ? img->width : img->height;
    if (longest <= MAX_SIDE) return 1;
    const double scale = (double)MAX_SIDE / longest;
    const int w = (int)fmax(1, round(img->width * scale)), h = (int)fmax(1, round(img->height * scale));
    struct image small;
    const enum mcs_status st = mcs_image_resize(img, w, h, filter, &small);
    mcs_image_free(img);
    *img = st == MCS_OK ? small : (struct image){0};
    if (st != MCS_OK) {
        mcs_error_clear();
        mcs_text_cut(why, 256, "no memory to shrink %s", name);
    }
    return st == MCS_OK;
}

static int is_foreground(const struct image *m, int x, int y)
{
    return x >= 0 && y >= 0 && x < m->width && y < m->height && m->pixels[(int64_t)y * m->width + x] > 127;
}

/* Traces one border of the mask along pixel edges with the mask on the right, starting at the upper left corner of
 * (x, y), whose upper edge is a border. passed: 1 for pixels whose upper edge was traced. Diagonal neighbours are
 * connected. */
static void trace_border(FILE *out, const struct image *m, uint8_t *passed, int x, int y)
{
    static const int dx[4] = {1, 0, -1, 0}, dy[4] = {0, 1, 0, -1};
    const int x0 = x, y0 = y;
    int direction = 0, run = 0;
    fprintf(out, "M%d %d", x, y);
    do {
        if (direction == 0) passed[(int64_t)y * m->width + x] = 1;
        x += dx[direction];
        y += dy[direction];
        run++;
        /* For each direction the pixels ahead of corner (x, y): left and right of the path. */
        const int ahead[4][2][2] = {
            {{x, y - 1}, {x, y}}, {{x, y}, {x - 1, y}}, {{x - 1, y}, {x - 1, y - 1}}, {{x - 1, y - 1}, {x, y - 1}}};
        const int left = is_foreground(m, ahead[direction][0][0], ahead[direction][0][1]);
        const int right = is_foreground(m, ahead[direction][1][0], ahead[direction][1][1]);
        const int next = left ? (direction + 3) % 4 : right ? direction : (direction + 1) % 4;
        if (next == direction) continue;
        fprintf(out, "%c%d", direction % 2 ? 'v' : 'h', run * (dx[direction] + dy[direction]));
        direction = next;
        run = 0;
    } while (x != x0 || y != y0 || direction != 0);
    fputc('Z', out);
}

/* All borders of a mask as one path; the even-odd fill rule leaves holes empty. style: a path class of html.c: m, a
 * mask; t, the outline of the ground truth; f, its area. */
static void mask_path(FILE *out, const struct image *m, const char *style)
{
    uint8_t *passed = calloc((size_t)m->width * m->height, 1);
    if (!passed) return;
    fprintf(out, "<path class=\"%s\" d=\"", style);
    for (int y = 0; y < m->height; y++)
        for (int x = 0; x < m->width; x++)
            if (is_foreground(m, x, y) && !is_foreground(m, x, y - 1) && !passed[(int64_t)y * m->width + x])
                trace_border(out, m, passed, x, y);
    fputs("\"/>", out);
    free(passed);
}

/* Colour maps that start at black, v in 0 .. 1; the legends in infer/report/html.c must match. */
static void hot(double v, double rgb[3])
{
    for (int c = 0; c < 3; c++) rgb[c] = fmin(1, fmax(0, 3 * v - c));
}

static void cool(double v, double rgb[3])
{
    static const double stops[4][3] = {{0, 0, 0}, {.486, .122, .878}, {.902, .420, .816}, {1, .953, .788}};
    const int k = v < 1.0 / 3 ? 0 : v < 2.0 / 3 ? 1 : 2;
    const double t = fmin(1, 3 * v - k);
    for (int c = 0; c < 3; c++) rgb[c] = stops[k][c] + t * (stops[k + 1][c] - stops[k][c]);
}

/* Alpha-blends a heat map (0..255 is 0..1, in the colours of `scale`) over the image, whose brightness is multiplied by
 * dim. alpha grows with the heat, to 0.85 from one half on. */
static enum mcs_status blend_heat(const struct image *grey, const struct image *heat, void (*scale)(double, double[3]),
                                  double dim, struct image *dst)
{
    MCS_TRY(mcs_image_alloc(dst, grey->width, grey->height, 3));
    for (int64_t i = 0; i < (int64_t)grey->width * grey->height; i++) {
        const double v = heat->pixels[i] / 255.0, alpha = fmin(0.85, 1.7 * v);
        double rgb[3];
        scale(v, rgb);
        for (int c = 0; c < 3; c++)
            dst->pixels[3 * i + c] = (uint8_t)lround(dim * (1 - alpha) * grey->pixels[i] + 255 * alpha * rgb[c]);
    }
    return MCS_OK;
}

/* ---- a case ---- */

struct panel {
    const char *key, *label, *dsc; /* dsc: key in "dsc", or NULL */
};
static const struct panel panels[] = {
    {"image", "Image", NULL},         {"saliency", "Saliency", "saliency"}, {"coarse", "Coarse mask", "coarse"},
    {"sam", "SAM mask", "sam"},       {"network", "Network", "network"},    {"truth", "Truth", NULL},
    {"entropy", "Uncertainty", NULL}, {"truth_all", "All lesions", NULL},
};
/* P_ALL is read, but not shown: the truth of the network, which has no prompt. */
enum {
    N_PANELS = sizeof panels / sizeof *panels,
    P_IMAGE = 0,
    P_SALIENCY = 1,
    P_NETWORK = 4,
    P_TRUTH = 5,
    P_ENTROPY = 6,
    P_ALL = 7
};

struct case_pictures {
    int id; /* of the image element in the page */
    struct image img[N_PANELS];
    char why[N_PANELS][256];
};

static void read_pictures(const char *folder, const json_t *item, struct case_pictures *p)
{
    for (int k = 0; k < N_PANELS; k++) {
        const int smooth = k == P_IMAGE || k == P_SALIENCY || k == P_ENTROPY;
        read_picture(folder, item, panels[k].key, smooth ? MCS_BILINEAR : MCS_NEAREST, &p->img[k], p->why[k]);
        struct image *base = &p->img[P_IMAGE], *img = &p->img[k];
        if (!img->pixels) continue;
        if (img->width == base->width && img->height == base->height) continue;
        if (base->pixels)
            snprintf(p->why[k], 256, "%d x %d, but the image is %d x %d", img->width, img->height, base->width,
                     base->height);
        else
            snprintf(p->why[k], 256, "the image itself is missing");
        mcs_image_free(img);
    }
}

static void write_heat(FILE *out, const struct case_pictures *p, int k)
{
    struct image rgb = {0};
    const enum mcs_status st = k == P_SALIENCY ? blend_heat(&p->img[P_IMAGE], &p->img[k], hot, 1.0, &rgb)
                                               : blend_heat(&p->img[P_IMAGE], &p->img[k], cool, 0.6, &rgb);
    fprintf(out, "<image width=\"%d\" height=\"%d\" href=\"", p->img[k].width, p->img[k].height);
    if (st != MCS_OK || mcs_html_png(out, &rgb) != MCS_OK) mcs_error_clear();
    fputs("\"/>", out);
    mcs_image_free(&rgb);
}

static void write_panel(FILE *out, const struct case_pictures *p, int k, const json_t *item)
{
    const struct image *img = &p->img[k], *truth = &p->img[k == P_NETWORK && p->img[P_ALL].pixels ? P_ALL : P_TRUTH];
    fputs("<figure>", out);
    if (!img->pixels) {
        mcs_html_wrap(out, "<div class=\"none\">", p->why[k], "</div>");
    } else {
        fprintf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"%s\">", img->width, img->height,
                panels[k].label);
        if (k == P_SALIENCY || k == P_ENTROPY) {
            write_heat(out, p, k);
        } else if (k == P_IMAGE) {
            fprintf(out, "<image id=\"image%d\" width=\"%d\" height=\"%d\" href=\"", p->id, img->width, img->height);
            if (mcs_html_png(out, img) != MCS_OK) mcs_error_clear();
            fputs("\"/>", out);
        } else {
            fprintf(out, "<use href=\"#image%d\"/>", p->id);
            if (k != P_TRUTH) mask_path(out, img, "m");
        }
        if (k == P_TRUTH) mask_path(out, truth, "f");
        if (k != P_IMAGE && k != P_ENTROPY && truth->pixels) mask_path(out, truth, "t");
        fputs("</svg>", out);
    }
    fprintf(out, "<figcaption>%s", panels[k].label);
    if (panels[k].dsc) {
        const double dsc = mcs_report_number(json_object_get(item, "dsc"), panels[k].dsc);
        if (isfinite(dsc))
            fprintf(out, " <b>DSC %.2f</b>", dsc);
        else if (json_object_get(item, "dsc"))
            fputs(" <b>DSC: none</b>", out);
    }
    if (k == P_ENTROPY && isfinite(mcs_report_number(item, "uncertainty_score")))
        fprintf(out, " <b>score %.3g</b>", mcs_report_number(item, "uncertainty_score"));
    fputs("</figcaption></figure>\n", out);
}

/* is_other: a case without all of the pipeline's pictures. */
static void write_case(FILE *out, const char *folder, const json_t *item, int id, int is_other)
{
    struct case_pictures p = {.id = id};
    const char *stem = mcs_report_string(item, "stem"), *caption = mcs_report_string(item, "caption");
    const char *prompt = mcs_report_string(item, "prompt");
    const double presence = mcs_report_number(item, "presence");
    mcs_html_wrap(out, "<article class=\"case\"><h3>", stem ? stem : "(no name)", "</h3>\n");
    if (prompt) {
        fputs("<p>Prompt: <q>", out);
        mcs_html_textf(out, "%.600s", prompt);
        fputs("</q></p>\n", out);
    }
    if (caption && prompt && !strcmp(caption, prompt)) caption = NULL;
    if (caption || isfinite(presence)) fputs("<p class=\"soft\">", out);
    if (caption) mcs_html_textf(out, "Caption: %.600s", caption);
    if (isfinite(presence)) fprintf(out, "%sPresence score: %.3f", caption ? " &middot; " : "", presence);
    if (isfinite(presence) && json_is_false(json_object_get(item, "passed")))
        fputs(", below the threshold: no mask is given", out);
    if (caption || isfinite(presence)) fputs("</p>\n", out);
    fputs("<div class=\"panels\">\n", out);
    read_pictures(folder, item, &p);
    for (int k = 0; k < P_ALL; k++)
        if (!is_other || mcs_report_string(item, panels[k].key)) write_panel(out, &p, k, item);
    for (int k = 0; k < N_PANELS; k++) mcs_image_free(&p.img[k]);
    fputs("</div></article>\n", out);
}

/* ---- which cases ---- */

/* "test", "healthy" or "unseen". */
static const char *group_of(const json_t *item)
{
    const char *group = mcs_report_string(item, "group");
    return group ? group : "test";
}

struct ranked {
    const json_t *item;
    double dsc; /* of the network, else of the last step of the pipeline that has one; NaN if none has */
    size_t index;
};

static double ranking_dsc(const json_t *item)
{
    static const char *const keys[] = {"network", "sam", "coarse", "saliency"};
    double dsc = NAN;
    for (int k = 0; k < 4 && !isfinite(dsc); k++) dsc = mcs_report_number(json_object_get(item, "dsc"), keys[k]);
    return dsc;
}

static int by_dsc(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (isfinite(x->dsc) != isfinite(y->dsc)) return isfinite(x->dsc) ? -1 : 1;
    if (isfinite(x->dsc) && x->dsc != y->dsc) return x->dsc < y->dsc ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void write_group(FILE *out, const char *folder, const struct ranked *r, size_t first, size_t n, int *id)
{
    for (size_t i = first; i < first + n; i++) write_case(out, folder, r[i].item, (*id)++, 0);
}

/* Histogram of the cases' DSC in ten bins, since a mean does not show whether a few cases fail or all are mediocre. */
static void write_spread(FILE *out, const struct ranked *r, size_t rated)
{
    struct chart_bar bars[10];
    char names[10][32];
    for (int k = 0; k < 10; k++) {
        snprintf(names[k], sizeof names[k], "DSC %.1f to %.1f", k / 10.0, (k + 1) / 10.0);
        bars[k] = (struct chart_bar){.name = names[k], .lo = NAN, .hi = NAN};
    }
    for (size_t i = 0; i < rated; i++) bars[(int)fmin(9, fmax(0, floor(10 * r[i].dsc)))].value += 1;
    const struct chart_frame f = {
        .title = "All cases by the DSC of the network's mask", .x_label = "cases", .is_count = 1};
    mcs_chart_bars(out, &f, bars, 10, "");
}

static void write_intro(FILE *out)
{
    fputs(
        "<p>Each row is one test image; the pictures follow the pipeline from left to right. The DSC under a picture "
        "says how well that mask covers the lesion, from 0 (not at all) to 1 (exactly).</p>\n"
        "<p class=\"keys\"><span class=\"key m\"></span>mask found<span class=\"key t\"></span>outline of the true "
        "lesion"
        "<span class=\"key hot\"></span>saliency, 0 to 1<span class=\"key cool\"></span>uncertainty, 0 to 1 bit</p>\n",
        out);
}

/* The worst cases of another group: of healthy images those whose mask passed the threshold and then those of the
 * greatest presence, of unseen forms those of the least DSC. */
static void write_others(FILE *out, const char *folder, const json_t *cases, const char *group, const char *heading,
                         int *id)
{
    struct ranked *r = calloc(json_array_size(cases) + 1, sizeof *r);
    size_t n = 0;
    if (!r) return;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i);
        if (strcmp(group_of(item), group) != 0) continue;
        const double presence = mcs_report_number(item, "presence"),
                     dsc = mcs_report_number(json_object_get(item, "dsc"), "sam");
        r[n++] = (struct ranked){
            item, isfinite(dsc) ? dsc : -presence - 10 * json_is_true(json_object_get(item, "passed")), i};
    }
    qsort(r, n, sizeof *r, by_dsc);
    if (n) {
        fprintf(out, "<h3>%s</h3>\n<p>The %zu worst of %zu.</p>\n", heading, n < N_OTHERS ? n : N_OTHERS, n);
        for (size_t i = 0; i < n && i < N_OTHERS; i++) write_case(out, folder, r[i].item, (*id)++, 1);
    }
    free(r);
}

void mcs_report_cases(FILE *out, const char *folder, const json_t *cases)
{
    const size_t n_all = json_array_size(cases);
    size_t n = 0;
    struct ranked *r = calloc(n_all + 1, sizeof *r);
    size_t rated = 0;
    int id = 0;
    if (!n_all || !r) {
        mcs_report_missing(out, "No cases to show: cases.json is missing, empty or not readable.");
        free(r);
        return;
    }
    for (size_t i = 0; i < n_all; i++) {
        const json_t *item = json_array_get(cases, i);
        if (strcmp(group_of(item), "test") != 0) continue;
        r[n] = (struct ranked){item, ranking_dsc(item), i};
        rated += isfinite(r[n++].dsc);
    }
    qsort(r, n, sizeof *r, by_dsc);
    write_intro(out);
    if (n <= SHOWN || rated <= SHOWN) {
        const size_t shown = n <= SHOWN ? n : rated ? rated : SHOWN;
        fprintf(out, "<p>%zu of %zu cases, the worst of the network's masks first.</p>\n", shown, n);
        write_group(out, folder, r, 0, shown, &id);
    } else {
        /* The middle cases are centred among those that are neither best nor worst. */
        const size_t middle = N_WORST + (rated - N_WORST - N_BEST - N_MIDDLE) / 2;
        fprintf(out,
                "<p>%d of %zu cases, chosen by the DSC of the network's mask and nothing else: the %d worst, %d from "
                "the middle, the %d best.</p>\n<h3>The %d worst</h3>\n",
                SHOWN, n, N_WORST, N_MIDDLE, N_BEST, N_WORST);
        write_group(out, folder, r, 0, N_WORST, &id);
        fprintf(out, "<h3>%d from the middle</h3>\n", N_MIDDLE);
        write_group(out, folder, r, middle, N_MIDDLE, &id);
        fprintf(out, "<h3>The %d best</h3>\n", N_BEST);
        write_group(out, folder, r, rated - N_BEST, N_BEST, &id);
        write_spread(out, r, rated);
    }
    free(r);
    write_others(out, folder, cases, "healthy", "Healthy images", &id);
    write_others(out, folder, cases, "unseen", "Lesions of forms that no training saw", &id);
}
