/* Charts as inline SVG in a <figure>: lines, an area over steps, bars with intervals. Colours come from the page's
 * style sheet (infer/report/html.c). Values that are not finite are left out; an empty chart is replaced by a line of
 * text. */
#ifndef MCS_CHART_H
#define MCS_CHART_H

#include <stdio.h>

struct chart_frame {
    const char *title, *x_label, *y_label;
    const char *note;  /* a line below the chart, or NULL */
    double y_lo, y_hi; /* range of the y axis (bars: of the horizontal value axis); equal: taken from the data */
    int y_from_zero;   /* the y axis includes 0 */
    int is_count;      /* bars: values and ticks are integers */
};

struct chart_series {
    const char *name; /* NULL: not in the legend */
    const double *x, *y;
    int n;
    int colour; /* 0 .. 3 */
    int faint;  /* thin and pale, for raw values behind their moving average */
};
void mcs_chart_lines(FILE *out, const struct chart_frame *f, const struct chart_series *series, int n_series);

/* Step function: y[i] from i to i + 1. `levels` are horizontal lines, named in the legend (there may be none). */
struct chart_level {
    const char *name;
    double y;
};
void mcs_chart_area(FILE *out, const struct chart_frame *f, const double *y, int n, const struct chart_level *levels,
                    int n_levels);

enum chart_bar_kind { CHART_BAR, CHART_BAR_QUIET, CHART_BAR_OUTLINE };
struct chart_bar {
    const char *name;
    double value, lo, hi; /* lo, hi: an interval, NaN if there is none */
    enum chart_bar_kind kind;
};
/* Horizontal bars from 0 with their number and `unit` (may be "") at the right end. */
void mcs_chart_bars(FILE *out, const struct chart_frame *f, const struct chart_bar *bars, int n, const char *unit);

#endif
