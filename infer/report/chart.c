#include "infer/report/chart.h"

#include "infer/report/html.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* In SVG user units, about a pixel. Two line or area charts share a row; a bar chart fills one. */
enum { WIDTH = 560, HEIGHT = 270, LEFT = 76, RIGHT = 14, TOP = 12, BOTTOM = 46 };
enum { BAR_WIDTH = 780, BAR_LEFT = 296, BAR_RIGHT = 150, BAR_ROW = 28, BAR_BOTTOM = 40, NAME_CHARS = 38 };
static const double LARGEST = 1e100; /* larger values could overflow in the computation of the axis */

struct axis {
    double lo, hi, step;
    int decimals;
};

static int drawable(double v)
{
    return isfinite(v) && fabs(v) < LARGEST;
}

/* About `want` ticks at 1, 2 or 5 times a power of ten; with `outward` the range is extended to ticks. */
static struct axis make_axis(double lo, double hi, int want, int outward)
{
    if (!(hi > lo)) {
        const double pad = lo != 0.0 ? fabs(lo) / 2 : 0.5;
        hi = lo + pad;
        lo -= pad;
    }
    const double raw = (hi - lo) / want, power = pow(10.0, floor(log10(raw))), f = raw / power;
    const double step = power * (f < 1.5 ? 1 : f < 3 ? 2 : f < 7 ? 5 : 10);
    struct axis a = {lo, hi, step, 0};
    if (outward) {
        a.lo = floor(lo / step + 1e-9) * step;
        a.hi = ceil(hi / step - 1e-9) * step;
    }
    const int digits = (int)-floor(log10(step) + 1e-9);
    a.decimals = digits < 0 ? 0 : digits;
    return a;
}

static double share(const struct axis *a, double v)
{
    const double s = (v - a->lo) / (a->hi - a->lo);
    return s < 0 ? 0 : s > 1 ? 1 : s;
}

static double px(const struct axis *a, double v)
{
    return LEFT + share(a, v) * (WIDTH - LEFT - RIGHT);
}

static double py(const struct axis *a, double v)
{
    return TOP + (1 - share(a, v)) * (HEIGHT - TOP - BOTTOM);
}

/* i-th tick, or NaN beyond the end. */
static double tick(const struct axis *a, int i)
{
    const double v = (ceil(a->lo / a->step - 1e-9) + i) * a->step;
    return v > a->hi + 1e-9 * a->step || i > 50 ? NAN : v + 0.0;
}

static void tick_label(FILE *out, const struct axis *a, double v)
{
    if (fabs(v) < a->step * 1e-6) v = 0.0;
    if (a->decimals > 5 || fabs(v) >= 1e7)
        fprintf(out, "%.3g", v);
    else
        fprintf(out, "%.*f", a->decimals, v);
}

static void begin_figure(FILE *out, const struct chart_frame *f, const char *kind)
{
    fprintf(out, "<figure class=\"chart %s\"><figcaption>", kind);
    mcs_html_text(out, f->title);
}

static void begin_svg(FILE *out, const struct chart_frame *f, int width, int height)
{
    fprintf(out, "</figcaption>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=", width, height);
    mcs_html_wrap(out, "\"", f->title, "\">\n");
}

static void end_figure(FILE *out, const struct chart_frame *f, int drawn)
{
    if (drawn) fputs("</svg>\n", out);
    if (f->note) mcs_html_wrap(out, "<p>", f->note, "</p>");
    fputs("</figure>\n", out);
}

/* If there is nothing to draw, writes a line that says so and returns 1. */
static int nothing(FILE *out, const struct chart_frame *f, int is_empty)
{
    if (!is_empty) return 0;
    begin_figure(out, f, "");
    fputs("</figcaption><p class=\"missing\">Nothing to draw: no finite values.</p>", out);
    end_figure(out, f, 0);
    return 1;
}

static void draw_axes(FILE *out, const struct chart_frame *f, const struct axis *x, const struct axis *y)
{
    double v;
    for (int i = 0; !isnan(v = tick(y, i)); i++) {
        fprintf(out, "<path class=\"g\" d=\"M%d %.1fH%d\"/><text class=\"t\" x=\"%d\" y=\"%.1f\" text-anchor=\"end\">",
                LEFT, py(y, v), WIDTH - RIGHT, LEFT - 8, py(y, v) + 4.5);
        tick_label(out, y, v);
        fputs("</text>\n", out);
    }
    for (int i = 0; !isnan(v = tick(x, i)); i++) {
        fprintf(out,
                "<path class=\"a\" d=\"M%.1f %dv5\"/><text class=\"t\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">",
                px(x, v), HEIGHT - BOTTOM, px(x, v), HEIGHT - BOTTOM + 19);
        tick_label(out, x, v);
        fputs("</text>\n", out);
    }
    fprintf(out, "<path class=\"a\" d=\"M%d %dV%dH%d\"/>\n<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", LEFT, TOP,
            HEIGHT - BOTTOM, WIDTH - RIGHT, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
    mcs_html_text(out, f->x_label);
    fprintf(out, "</text>\n<text transform=\"translate(13 %d) rotate(-90)\" text-anchor=\"middle\">",
            (TOP + HEIGHT - BOTTOM) / 2);
    mcs_html_wrap(out, "", f->y_label, "</text>\n");
}

static void draw_key(FILE *out, const char *name, int colour)
{
    fprintf(out,
            "<span><svg style=\"display:inline;width:30px\" viewBox=\"0 0 30 10\"><path class=\"l c%d\" "
            "d=\"M0 6H30\"/></svg> ",
            colour);
    mcs_html_wrap(out, "", name, "</span>");
}

struct range {
    double lo, hi;
};

static void widen(struct range *r, double v)
{
    if (!drawable(v)) return;
    if (v < r->lo) r->lo = v;
    if (v > r->hi) r->hi = v;
}

static struct axis value_axis(const struct chart_frame *f, struct range r, int want)
{
    if (f->y_from_zero) widen(&r, 0.0);
    return f->y_lo < f->y_hi ? make_axis(f->y_lo, f->y_hi, want, 0) : make_axis(r.lo, r.hi, want, 1);
}

void mcs_chart_lines(FILE *out, const struct chart_frame *f, const struct chart_series *series, int n_series)
{
    struct range rx = {INFINITY, -INFINITY}, ry = rx;
    for (int k = 0; k < n_series; k++)
        for (int i = 0; i < series[k].n; i++)
            if (drawable(series[k].x[i]) && drawable(series[k].y[i])) {
                widen(&rx, series[k].x[i]);
                widen(&ry, series[k].y[i]);
            }
    if (nothing(out, f, rx.lo > rx.hi)) return;
    if (rx.lo > 0 && rx.lo < 0.05 * rx.hi) rx.lo = 0; /* first step near 0 (1, or the mean of a few): axis from 0 */
    const struct axis x = make_axis(rx.lo, rx.hi, 7, 0), y = value_axis(f, ry, 5);
    begin_figure(out, f, "half");
    for (int k = 0; k < n_series; k++)
        if (series[k].name) draw_key(out, series[k].name, series[k].colour);
    begin_svg(out, f, WIDTH, HEIGHT);
    draw_axes(out, f, &x, &y);
    for (int k = 0; k < n_series; k++) {
        const struct chart_series *s = series + k;
        int drawn = 0;
        fprintf(out, "<path class=\"l c%d%s\" d=\"", s->colour, s->faint ? " faint" : "");
        for (int i = 0; i < s->n; i++) {
            if (!drawable(s->x[i]) || !drawable(s->y[i])) continue;
            fprintf(out, "%c%.1f %.1f", drawn++ ? 'L' : 'M', px(&x, s->x[i]), py(&y, s->y[i]));
        }
        if (drawn == 1) fputs("h2", out); /* a single value becomes a dot */
        fputs("\"/>\n", out);
    }
    end_figure(out, f, 1);
}

void mcs_chart_area(FILE *out, const struct chart_frame *f, const double *y, int n, const struct chart_level *levels,
                    int n_levels)
{
    struct range r = {INFINITY, -INFINITY};
    for (int i = 0; i < n; i++) widen(&r, y[i]);
    if (nothing(out, f, r.lo > r.hi)) return;
    for (int i = 0; i < n_levels; i++) widen(&r, levels[i].y);
    const struct axis ax = make_axis(0, n, 8, 0), ay = value_axis(f, r, 5);
    begin_figure(out, f, "half");
    for (int i = 0; i < n_levels; i++)
        if (drawable(levels[i].y)) draw_key(out, levels[i].name, 1 + i % 3);
    begin_svg(out, f, WIDTH, HEIGHT);
    draw_axes(out, f, &ax, &ay);
    fprintf(out, "<path class=\"area\" d=\"M%.1f %.1f", px(&ax, 0), py(&ay, 0));
    double last = NAN;
    for (int i = 0; i < n; i++) {
        const double v = drawable(y[i]) ? y[i] : 0.0;
        if (v == last) continue;
        fprintf(out, "H%.1fV%.1f", px(&ax, i), py(&ay, v));
        last = v;
    }
    fprintf(out, "H%.1fV%.1fZ\"/>\n", px(&ax, n), py(&ay, 0));
    for (int i = 0; i < n_levels; i++)
        if (drawable(levels[i].y))
            fprintf(out, "<path class=\"l c%d\" d=\"M%d %.1fH%d\"/>\n", 1 + i % 3, LEFT, py(&ay, levels[i].y),
                    WIDTH - RIGHT);
    end_figure(out, f, 1);
}

/* A bar's name, truncated to the space beside the bar; the tooltip has the full name. */
static void bar_name(FILE *out, const char *name, double y)
{
    int chars = 0, bytes = 0;
    for (; name[bytes]; bytes++) {
        if (((unsigned char)name[bytes] & 0xC0) == 0x80) continue;
        if (chars++ == NAME_CHARS) break;
    }
    fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", BAR_LEFT - 8, y);
    mcs_html_wrap(out, "<title>", name, "</title>");
    mcs_html_textf(out, "%.*s%s", bytes, name, name[bytes] ? "..." : "");
    fputs("</text>\n", out);
}

void mcs_chart_bars(FILE *out, const struct chart_frame *f, const struct chart_bar *bars, int n, const char *unit)
{
    const int plot = BAR_WIDTH - BAR_LEFT - BAR_RIGHT, height = TOP + n * BAR_ROW + BAR_BOTTOM;
    struct range r = {0, 0};
    int any = 0;
    for (int i = 0; i < n; i++) {
        any |= drawable(bars[i].value);
        widen(&r, bars[i].value);
        widen(&r, bars[i].hi);
    }
    if (nothing(out, f, !any)) return;
    if (r.lo == r.hi) r.hi = 1; /* all bars are 0: the axis still starts at 0 */
    const struct axis a = value_axis(f, r, f->is_count && r.hi < 5 ? (int)fmax(1, r.hi) : 5);
    double v;
    begin_figure(out, f, "");
    begin_svg(out, f, BAR_WIDTH, height);
    for (int i = 0; !isnan(v = tick(&a, i)); i++) {
        const double x = BAR_LEFT + share(&a, v) * plot;
        fprintf(out,
                "<path class=\"g\" d=\"M%.1f %dV%d\"/><text class=\"t\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">", x,
                TOP, height - BAR_BOTTOM, x, height - BAR_BOTTOM + 17);
        tick_label(out, &a, v);
        fputs("</text>\n", out);
    }
    for (int i = 0; i < n; i++) {
        const struct chart_bar *b = bars + i;
        const double y = TOP + i * BAR_ROW + BAR_ROW / 2.0;
        bar_name(out, b->name, y + 4.5);
        if (!drawable(b->value)) {
            fprintf(out, "<text class=\"t\" x=\"%d\" y=\"%.1f\">not measured</text>\n", BAR_WIDTH - BAR_RIGHT + 10,
                    y + 4.5);
            continue;
        }
        fprintf(out, "<rect class=\"b%d\" x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"18\"/>\n", b->kind, BAR_LEFT,
                y - 9, share(&a, b->value) * plot);
        const int interval = drawable(b->lo) && drawable(b->hi);
        if (interval)
            fprintf(out, "<path class=\"w\" d=\"M%.1f %.1fv8m0 -4H%.1fm0 -4v8\"/>\n",
                    BAR_LEFT + share(&a, b->lo) * plot, y - 4, BAR_LEFT + share(&a, b->hi) * plot);
        fprintf(out, "<text x=\"%d\" y=\"%.1f\">%.*f", BAR_WIDTH - BAR_RIGHT + 10, y + 4.5,
                f->is_count                   ? 0
                : a.step < 1                  ? 3
                : b->value == floor(b->value) ? 0
                                              : 1,
                b->value);
        if (interval) fprintf(out, " (%.2f to %.2f)", b->lo, b->hi);
        mcs_html_wrap(out, "", unit, "</text>\n");
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", BAR_LEFT + plot / 2, height - 4);
    mcs_html_wrap(out, "", f->x_label, "</text>\n");
    end_figure(out, f, 1);
}
