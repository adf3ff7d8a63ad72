#include "infer/report/report_cells.h"

#include "infer/report/html.h"

#include <math.h>
#include <stdarg.h>

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

/* Member KEY_interval, a pair of numbers; both NaN if there is none. */
static void interval_of(const json_t *o, const char *key, double lo_hi[2])
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
    mcs_html_wrap(out, "<p class=\"missing\">", text, "</p>\n");
}

/* ---- cells ---- */

void mcs_report_cell(FILE *out, double v)
{
    if (isfinite(v))
        fprintf(out, "<td class=\"n\">%.3f</td>", v);
    else
        fputs("<td class=\"n\">&ndash;</td>", out);
}

void mcs_report_cell_score(FILE *out, const json_t *o, const char *key)
{
    const double v = mcs_report_number(o, key);
    double lo_hi[2];
    interval_of(o, key, lo_hi);
    if (isfinite(v) && isfinite(lo_hi[0]))
        fprintf(out, "<td class=\"n\">%.3f <span class=\"soft\">(%.3f to %.3f)</span></td>", v, lo_hi[0], lo_hi[1]);
    else
        mcs_report_cell(out, v);
}

void mcs_report_cell_change(FILE *out, double change)
{
    if (isfinite(change))
        fprintf(out, "<td class=\"n%s\">%+.3f</td>", change <= 0 ? " worse" : "", change);
    else
        fputs("<td class=\"n\"></td>", out);
}

void mcs_report_cell_text(FILE *out, int small, const char *text)
{
    mcs_html_wrap(out, small ? "<td class=\"s\">" : "<td>", text, "</td>");
}

struct chart_bar mcs_report_bar(const char *name, const json_t *o, const char *key, enum chart_bar_kind kind)
{
    double lo_hi[2];
    interval_of(o, key, lo_hi);
    return (struct chart_bar){name, mcs_report_number(o, key), lo_hi[0], lo_hi[1], kind};
}
