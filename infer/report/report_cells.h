/* Cells and bars of the report's tables and charts, from the numbers of a JSON object. */
#ifndef MCS_REPORT_CELLS_H
#define MCS_REPORT_CELLS_H

#include "infer/report/chart.h"
#include "infer/report/report_parts.h"

/* A number; a dash where it is not finite. */
void mcs_report_cell(FILE *out, double v);
/* Member `key` of o with its interval. */
void mcs_report_cell_score(FILE *out, const json_t *o, const char *key);
/* With its sign, and marked where it is no improvement; empty where it is not finite. */
void mcs_report_cell_change(FILE *out, double change);
/* An escaped text, small (explanations) or not. NULL: an empty cell. */
void mcs_report_cell_text(FILE *out, int small, const char *text);

/* A bar for member `key` of o with its interval. */
struct chart_bar mcs_report_bar(const char *name, const json_t *o, const char *key, enum chart_bar_kind kind);

#endif
