/* mcsam report: the report of a run folder as one HTML page. */
#include "data/io/file.h"
#include "data/io/json.h"
#include "data/run/run_folder.h"
#include "engine/base/escape.h"
#include "engine/base/path.h"
#include "engine/base/stop.h"
#include "engine/cli/config.h"
#include "infer/report/report.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* Inside the run's folder only .html files may be replaced, since any other file may be an input of the page. */
static enum mcs_status check_paths(const struct report_command *c, const char *run, const char *page)
{
    char folder[MCS_PATH_BYTES], real_run[MCS_PATH_BYTES], real_page[MCS_PATH_BYTES];
    const char *name;
    MCS_TRY(mcs_path_split(page, folder, &name));
    const size_t n = strlen(name);
    const struct run_output out = {folder, name};
    MCS_TRY(mcs_run_check_paths(&c->common.command, &out, 1, NULL, 0));
    if ((n > 5 && !strcasecmp(name + n - 5, ".html")) || (n > 4 && !strcasecmp(name + n - 4, ".htm"))) return MCS_OK;
    if (!realpath(run, real_run) || !realpath(folder, real_page)) return MCS_OK; /* reported when it is opened */
    const size_t m = strlen(real_run);
    MCS_REQUIRE(strncmp(real_run, real_page, m) != 0 || (real_page[m] && real_page[m] != '/'), MCS_E_USAGE,
                "%s: lies in the folder that is read; there, a page must end in .html", page);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct report_command *c = command;
    const char *folder = c->common.args.v[0];
    char beside[MCS_PATH_BYTES], *html;
    int64_t n_bytes;
    MCS_TRY(mcs_path(beside, "%s/report.html", folder));
    const char *path = c->output ? c->output : beside;
    MCS_TRY(check_paths(c, folder, path));
    MCS_TRY(mcs_stop_check());
    MCS_TRY(mcs_report_render(folder, &html, &n_bytes)); /* --dry-run too: it reads everything and writes nothing */
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
