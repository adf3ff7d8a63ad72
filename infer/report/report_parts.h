/* The parts of the report's page; infer/report/report.c puts them in order. A part writes to a stream and does not
 * fail: for input that is missing or of another type it writes a line that says so. */
#ifndef MCS_REPORT_PARTS_H
#define MCS_REPORT_PARTS_H

#include <jansson.h>
#include <stdio.h>

/* A member of an object; NaN / NULL if o is NULL or the member is missing or of another type. */
double mcs_report_number(const json_t *o, const char *key);
const char *mcs_report_string(const json_t *o, const char *key);
/* Writes one escaped line about missing content. */
void mcs_report_missing(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* summary.json's tables and charts: the first section (report_glance.c) and the others (report_tables.c). */
void mcs_report_glance(FILE *out, const json_t *summary);
void mcs_report_data(FILE *out, const json_t *summary);
void mcs_report_retrieval(FILE *out, const json_t *summary);
void mcs_report_baselines(FILE *out, const json_t *summary);   /* report_checks.c, as the next four */
void mcs_report_differences(FILE *out, const json_t *summary); /* nothing where there are none, as the next */
void mcs_report_prompts(FILE *out, const json_t *summary);
void mcs_report_healthy(FILE *out, const json_t *summary);
void mcs_report_unseen(FILE *out, const json_t *summary);
void mcs_report_control(FILE *out, const json_t *summary);
void mcs_report_network(FILE *out, const json_t *summary);
void mcs_report_uncertainty(FILE *out, const json_t *summary);
void mcs_report_cost(FILE *out, const json_t *summary);

/* The curves of FOLDER/NAME, a metrics.jsonl (report_curves.c). If there is no such file: returns 0, writes nothing. */
int mcs_report_curves(FILE *out, const char *folder, const char *name);
/* The memory of each plan in timeline.json: live bytes over the steps of its graph. */
void mcs_report_memory(FILE *out, const json_t *timeline);

/* cases.json: a dozen cases, worst first, with their pictures from `folder` (report_cases.c). */
void mcs_report_cases(FILE *out, const char *folder, const json_t *cases);

#endif
