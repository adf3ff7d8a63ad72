/* mcsam plan: fingerprint and plans of an nnU-Net data set. */
#include "data/io/file.h"
#include "engine/base/log.h"
#include "engine/cli/config.h"
#include "train/cmd/nnunet_command.h"
#include "train/plan/planner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct plan_command {
    struct mcs_common common;
    struct nnunet_roots roots;
    const char *planner, *plans_name, *spacing;
    double gpu_memory;
    int clean;
};

static const struct mcs_option options[] = {
    MCS_NNUNET_OPTIONS(plan_command),
    {"planner", 0, MCS_FIELD(plan_command, planner), .alias = "pl", .def = "ExperimentPlanner", .value = "NAME",
     .help = "nnU-Net's ExperimentPlanner, ResEncUNetPlanner, nnUNetPlannerResEncM, L or XL"},
    {"gpu-memory", 0, MCS_FIELD(plan_command, gpu_memory), .alias = "gpu-memory-target", .def = "0", .lo = 0, .hi = 1e6,
     .value = "GB", .help = "memory that patch and batch are chosen for; 0: the planner's (8; L 24, XL 40)"},
    {"spacing", 0, MCS_FIELD(plan_command, spacing), .alias = "overwrite-target-spacing", .value = "Z,Y,X",
     .help = "target spacing of 3d_fullres in mm, in place of the cases' median"},
    {"plans-name", 0, MCS_FIELD(plan_command, plans_name), .alias = "overwrite-plans-name", .value = "NAME",
     .help = "name of the plans; default: the planner's"},
    {"clean", 0, MCS_FIELD(plan_command, clean), .help = "take the fingerprint again where there is one already"},
    {0},
};

/* The fingerprint that is there already, of this program or of nnU-Net, or a new one. */
static enum mcs_status get_fingerprint(const struct plan_command *c, const struct nnunet_place *place,
                                       const struct nnunet_dataset *d, struct fingerprint *f)
{
    char path[MCS_PATH_BYTES];
    MCS_TRY(mcs_path(path, "%s/dataset_fingerprint.json", place->preprocessed));
    if (c->clean || !mcs_file_exists(path)) {
        MCS_TRY(mcs_fingerprint_make(d, f));
        return mcs_fingerprint_write(path, f);
    }
    MCS_TRY(mcs_fingerprint_read(path, f));
    if (f->n_cases == d->n_cases && f->n_channels == d->n_channels) return MCS_OK;
    const int cases = f->n_cases, channels = f->n_channels;
    mcs_fingerprint_free(f);
    return MCS_FAIL(MCS_E_DATA,
                    "%s: has %d cases of %d channels, the data set %d of %d: it was changed; --clean takes the "
                    "fingerprint again",
                    path, cases, channels, d->n_cases, d->n_channels);
}

static void print_shape(const char *name, const int64_t *v, int n)
{
    printf(", %s ", name);
    for (int i = 0; i < n; i++) printf("%s%lld", i ? "x" : "", (long long)v[i]);
}

/* One line a configuration: what was planned. */
static void print_plans(const struct plan_command *c, const struct planner_options *o, const char *name,
                        const struct experiment_plan *p)
{
    const char *plans = o->plans_name ? o->plans_name : o->planner->plans_name;
    if (c->common.json) {
        printf("{\"dataset\": \"%s\", \"plans\": \"%s\", \"configurations\": [", name, plans);
        for (int i = 0, n = 0; i < N_PLANS; i++)
            if (p->configurations[i].exists) printf("%s\"%s\"", n++ ? ", " : "", mcs_plan_names[i]);
        puts("]}");
        return;
    }
    for (int i = 0; i < N_PLANS; i++) {
        const struct plan_configuration *one = &p->configurations[i];
        if (!one->exists) continue;
        printf("%s %s: batch %lld", plans, mcs_plan_names[i], (long long)one->batch);
        print_shape("patch", one->net.patch, one->net.n_axes);
        printf(", %d levels, spacing ", one->net.n_stages);
        for (int k = 0; k < one->net.n_axes; k++) printf("%s%g", k ? "x" : "", one->spacing[k]);
        printf(" mm\n");
    }
}

static enum mcs_status plan(const struct plan_command *c, const struct nnunet_place *place,
                            const struct nnunet_dataset *d, const struct planner_options *o)
{
    struct fingerprint f;
    struct experiment_plan p;
    MCS_TRY(get_fingerprint(c, place, d, &f));
    enum mcs_status st = mcs_plan_experiment(d, &f, o, &p);
    if (st == MCS_OK) st = mcs_plans_write(place->preprocessed, d, &f, o, &p);
    mcs_fingerprint_free(&f);
    if (st != MCS_OK) return st;
    for (int i = 0; i < N_PLANS; i++)
        if (p.configurations[i].exists && p.configurations[i].net.n_stages < 2)
            mcs_warn("%s: the images are too small to be pooled; a network of one level is no U-Net",
                     mcs_plan_names[i]);
    print_plans(c, o, place->name, &p);
    return MCS_OK;
}

static enum mcs_status run(const void *command)
{
    const struct plan_command *c = command;
    struct nnunet_place place;
    struct nnunet_dataset d;
    double spacing[3];
    char end;
    struct planner_options o = {
        .planner = mcs_planner_find(c->planner), .plans_name = c->plans_name, .gpu_memory = c->gpu_memory};
    MCS_REQUIRE(o.planner, MCS_E_USAGE, "--planner %s: there is no such planner; there are %s", c->planner,
                MCS_PLANNER_NAMES);
    if (c->spacing) {
        MCS_REQUIRE(sscanf(c->spacing, "%lf,%lf,%lf%c", &spacing[0], &spacing[1], &spacing[2], &end) == 3, MCS_E_USAGE,
                    "--spacing %s: want three numbers like 3,0.8,0.8", c->spacing);
        o.spacing = spacing;
    }
    MCS_REQUIRE(!c->plans_name || (*c->plans_name && !strchr(c->plans_name, '/')), MCS_E_USAGE,
                "--plans-name %s: cannot name a file", c->plans_name);
    MCS_TRY(mcs_nnunet_place_find(&c->roots, &place));
    o.dataset_name = place.name;
    MCS_TRY(mcs_nnunet_dataset_read(place.description, &d));
    enum mcs_status st = mcs_nnunet_dataset_list(place.raw, &d);
    if (st == MCS_OK && !c->common.dry_run) st = mcs_nnunet_place_begin(&place);
    if (st == MCS_OK && !c->common.dry_run) st = plan(c, &place, &d, &o);
    if (st == MCS_OK && c->common.dry_run) printf("%d cases of %d channels\n", d.n_cases, d.n_channels);
    mcs_nnunet_dataset_close(&d);
    return st;
}

const struct mcs_verb mcs_verb_plan = {.name = "plan",
                                       .line = "plans networks for an nnU-Net data set",
                                       .options = options,
                                       .options_bytes = sizeof(struct plan_command),
                                       .run = run};
