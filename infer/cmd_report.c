/* mcsam report: a run folder as one HTML page. */
#include "data/file.h"
#include "data/json.h"
#include "engine/config.h"
#include "engine/escape.h"
#include "infer/report.h"

#include <stdio.h>
#include <stdlib.h>

struct report_command {
    struct mcs_common common;
    const char *output;
};

static const struct mcs_option options[] = {
    {"output", 'o', MCS_FIELD(report_command, output), .value = "FILE", .help = "the page; without it RUN/report.html"},
    {0},
};

static enum mcs_status print_result(const char *path, int64_t n_bytes, int json)
{
    if (!json) {
        printf("%s\n", mcs_text_shown(path));
        return MCS_OK;
    }
    json_t *o = json_pack("{s:o, s:I}", "report", mcs_json_text(path), "bytes", (json_int_t)n_bytes);
    char *text = o ? json_dumps(o, JSON_PRESERVE_ORDER) : NULL;
    json_decref(o);
    MCS_REQUIRE(text, MCS_E_NOMEM, "%s: no memory to print it as JSON", path);
    printf("%s\n", text);
    free(text);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct report_command *c = command;
    const char *folder = c->common.args.v[0];
    char beside[4096], *html;
    int64_t n_bytes;
    snprintf(beside, sizeof beside, "%s/report.html", folder);
    const char *path = c->output ? c->output : beside;
    MCS_TRY(mcs_report_render(folder, &html, &n_bytes)); /* --dry-run: reads all, writes nothing */
    enum mcs_status st = c->common.dry_run ? MCS_OK : mcs_file_write(path, html, n_bytes);
    free(html);
    if (st == MCS_OK) st = print_result(path, n_bytes, c->common.json);
    return st == MCS_OK ? st : mcs_trace(st, __FILE__, __LINE__);
}

const struct mcs_verb mcs_verb_report = {.name = "report",
                                         .line = "a run folder as one HTML page: pictures, curves, tables",
                                         .options = options,
                                         .options_bytes = sizeof(struct report_command),
                                         .run = run,
                                         .args = "RUN",
                                         .min_args = 1,
                                         .max_args = 1};
