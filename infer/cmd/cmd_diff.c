/* mcsam diff A B: compares two maps, masks, weights files or folders of them. */
#include "data/io/json.h"
#include "engine/base/escape.h"
#include "engine/cli/config.h"
#include "infer/metrics/diff.h"

#include <math.h>
#include <stdio.h>

enum { SHORT = 20 /* a table of at most this many rows is shown in full */ };

struct diff_command {
    struct mcs_common common;
    double tolerance;
    int all;
};

static const struct mcs_option options[] = {
    {"tolerance", 0, MCS_FIELD(diff_command, tolerance), .def = "0", .lo = 0, .hi = 1e9, .value = "X",
     .help = "largest relative error (masks: 1 - Dice) of equal arrays"},
    {"all", 0, MCS_FIELD(diff_command, all), .help = "also list equal arrays"},
    {0},
};

static void print_number(double v)
{
    if (isnan(v))
        printf(" %12s", "-");
    else
        printf(" %12.6g", v);
}

static void print_table(const struct diff_command *c, const struct diff *d)
{
    int head = 0;
    for (int i = 0; i < d->n; i++) {
        const struct diff_row *r = &d->rows[i];
        if (!r->differs && !c->all && d->n > SHORT) continue;
        if (!head++) printf("%12s %12s %12s  %s\n", "max abs", "relative", "Dice", "what");
        if (r->fault) {
            printf("%12s %12s %12s  %s%s%s\n", "-", "-", "-", mcs_text_shown(r->name), *r->name ? ": " : "",
                   mcs_text_shown(r->fault));
            continue;
        }
        printf("%12.6g", r->max_abs);
        print_number(r->relative);
        print_number(r->dice);
        printf("  %s\n", mcs_text_shown(*r->name ? r->name : c->common.args.v[0]));
    }
    printf("%d of %d differ\n", d->n_different, d->n);
}

static enum mcs_status print_json(const struct diff *d)
{
    json_t *rows = json_array();
    for (int i = 0; i < d->n; i++) {
        const struct diff_row *r = &d->rows[i];
        json_t *o = r->fault ? json_pack("{s:o, s:o}", "name", mcs_json_text(r->name), "fault", mcs_json_text(r->fault))
                             : json_pack("{s:o, s:o, s:o, s:o}", "name", mcs_json_text(r->name), "max_abs",
                                         mcs_json_number(r->max_abs), "relative", mcs_json_number(r->relative), "dice",
                                         mcs_json_number(r->dice));
        json_object_set_new(o, "differs", json_boolean(r->differs));
        json_array_append_new(rows, o);
    }
    json_t *root = json_pack("{s:i, s:i, s:o}", "compared", d->n, "different", d->n_different, "rows", rows);
    MCS_REQUIRE(root, MCS_E_NOMEM, "no memory for the result");
    json_dumpf(root, stdout, JSON_INDENT(1));
    printf("\n");
    json_decref(root);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct diff_command *c = command;
    const char *const *path = c->common.args.v;
    struct diff d = {0};
    enum mcs_status st = mcs_diff_paths(path[0], path[1], c->tolerance, &d);
    if (st == MCS_OK && c->common.json)
        st = print_json(&d);
    else if (st == MCS_OK)
        print_table(c, &d);
    if (st == MCS_OK && d.n_different)
        st = MCS_FAIL(MCS_E_FAIL, "%s and %s differ in %d of %d", path[0], path[1], d.n_different, d.n);
    mcs_diff_free(&d);
    return st;
}

const struct mcs_verb mcs_verb_diff = {.name = "diff",
                                       .line = "how two maps, masks, weights or folders differ",
                                       .options = options,
                                       .options_bytes = sizeof(struct diff_command),
                                       .run = run,
                                       .args = "A B",
                                       .min_args = 2,
                                       .max_args = 2};
