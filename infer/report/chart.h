/* Charts as inline SVG in a <figure>: lines, an area over steps, bars with intervals. Colours come from the page's
 * style sheet (infer/report/html.c). Values that are not finite are left out; a chart with nothing to draw says so in a
 * line.
 */
#ifndef MCS_CHART_H
#define MCS_CHART_H

#include <stdio.h>

struct chart_frame {
    const char *title, *x_label, *y_label;
    const char *note;  /* a line under the chart, or NULL */
    double y_lo, y_hi; /* of the y axis (bars: of the value axis); equal = from the data */
    int y_from_zero;   /* the axis begins at 0 at the latest */
    int is_count;      /* bars: values and ticks are whole numbers */
};

struct chart_series {
    const char *name; /* NULL: not in the key */
    const double *x, *y;
    int n;
    int colour; /* 0 .. 3 */
    int faint;  /* thin and pale, for raw values behind their mean */
};
void mcs_chart_lines(FILE *out, const struct chart_frame *f, const struct chart_series *series, int n_series);

/* y[i] holds from i to i + 1. `levels` are horizontal lines, named in the key (there may be none). */
struct chart_level {
    const char *name;
    double y;
};
void mcs_chart_area(FILE *out, const struct chart_frame *f, const double *y, int n, const struct chart_level *levels,
                    int n_levels);

enum chart_bar_kind { CHART_BAR, CHART_BAR_QUIET, CHART_BAR_OUTLINE };
struct chart_bar {
    const char *name;
    double value, lo, hi; /* lo, hi: an interval, NaN where there is none */
    enum chart_bar_kind kind;
};
/* Horizontal bars from 0, the number at the right end; `unit` (may be "") follows it. */
void mcs_chart_bars(FILE *out, const struct chart_frame *f, const struct chart_bar *bars, int n, const char *unit);

#endif
