/* Target spacing, transposition, patch and batch of each configuration. Numbers are computed in nnU-Net's order of
 * operations, since a rounding decides between two patch sizes. */
#include "train/plan/planner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MIN_BATCH = 2,
    REFERENCE_BATCH_2D = 12,
    REFERENCE_BATCH_3D = 2,
    MAX_STAGES_PLAIN = 14,
    MAX_STAGES_RESIDUAL = 13,
    MAX_SIDE = 1 << 24
};
static const double ANISOTROPY = 3, LOWRES_BELOW = 0.25, LOWRES_STEP = 1.03;

const char *const mcs_plan_names[N_PLANS] = {"2d", "3d_lowres", "3d_fullres"};

static const struct planner planners[] = {
    {"ExperimentPlanner", "nnUNetPlans", 0, {85e6, 560e6}, 8, 8, 0.05},
    {"ResEncUNetPlanner", "nnUNetResEncUNetPlans", 1, {135e6, 680e6}, 8, 8, 0.05},
    {"nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans", 1, {135e6, 680e6}, 8, 8, 1},
    {"nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans", 1, {380e6, 2100e6}, 24, 24, 1},
    {"nnUNetPlannerResEncXL", "nnUNetResEncUNetXLPlans", 1, {560e6, 3600e6}, 40, 40, 1},
};
enum { N_PLANNERS = sizeof planners / sizeof *planners };

const struct planner *mcs_planner_find(const char *name)
{
    if (!*name) return &planners[0];
    for (int i = 0; i < N_PLANNERS; i++)
        if (!strcmp(name, planners[i].name)) return &planners[i];
    return NULL;
}

/* ---- spacing and shape ---- */

struct job {
    const struct nnunet_dataset *dataset;
    const struct fingerprint *fingerprint;
    const struct planner_options *options;
    double *column; /* (cases) scratch */
};

/* The sorted values of one axis. */
static const double *sorted_spacings(struct job *j, int axis)
{
    for (int i = 0; i < j->fingerprint->n_cases; i++) j->column[i] = j->fingerprint->spacings[i][axis];
    qsort(j->column, (size_t)j->fingerprint->n_cases, sizeof *j->column, mcs_double_compare);
    return j->column;
}

static const double *sorted_shapes(struct job *j, int axis)
{
    for (int i = 0; i < j->fingerprint->n_cases; i++) j->column[i] = (double)j->fingerprint->shapes[i][axis];
    qsort(j->column, (size_t)j->fingerprint->n_cases, sizeof *j->column, mcs_double_compare);
    return j->column;
}

static int largest_axis(const double v[3])
{
    int at = 0;
    for (int i = 1; i < 3; i++)
        if (v[i] > v[at]) at = i;
    return at;
}

/* The median of each axis. Where one axis is much coarser than the others and has few voxels, its 10th percentile. */
static void target_spacing(struct job *j, double target[3])
{
    const int n = j->fingerprint->n_cases;
    double size[3];
    if (j->options->spacing) {
        memcpy(target, j->options->spacing, 3 * sizeof *target);
        return;
    }
    for (int d = 0; d < 3; d++) target[d] = mcs_percentile(sorted_spacings(j, d), n, 0.5);
    for (int d = 0; d < 3; d++) size[d] = mcs_percentile(sorted_shapes(j, d), n, 0.5);
    const int worst = largest_axis(target), a = worst == 0, b = worst == 2 ? 1 : 2;
    const double coarsest_other = fmax(target[a], target[b]);
    if (!(target[worst] > ANISOTROPY * coarsest_other && size[worst] * ANISOTROPY < fmin(size[a], size[b]))) return;
    target[worst] = mcs_percentile(sorted_spacings(j, worst), n, 0.1);
    if (target[worst] < coarsest_other) target[worst] = coarsest_other + 1e-5;
}

/* The median over the cases of the shape after resampling to `target`. */
static void median_shape(struct job *j, const double target[3], double median[3])
{
    const struct fingerprint *f = j->fingerprint;
    for (int d = 0; d < 3; d++) {
        for (int i = 0; i < f->n_cases; i++)
            j->column[i] = rint(f->spacings[i][d] / target[d] * (double)f->shapes[i][d]);
        qsort(j->column, (size_t)f->n_cases, sizeof *j->column, mcs_double_compare);
        median[d] = mcs_median(j->column, f->n_cases);
    }
}

static void transpose(const int order[3], const double src[3], double dst[3])
{
    for (int d = 0; d < 3; d++) dst[d] = src[order[d]];
}

static double product(const double *v, int n)
{
    double p = 1;
    for (int i = 0; i < n; i++) p *= v[i];
    return p;
}

/* ---- one configuration ---- */

/* A patch of the volume 256^3, or the area 2048^2, with the proportions of a cube in mm, at most the median image. */
static void first_patch(int n, const double *spacing, const double *median, double *patch)
{
    double inverse[3];
    for (int i = 0; i < n; i++) inverse[i] = 1 / spacing[i];
    const double volume = n == 3 ? 256.0 * 256 * 256 : 2048.0 * 2048,
                 scale = pow(volume / product(inverse, n), n == 3 ? 1.0 / 3 : 0.5);
    for (int i = 0; i < n; i++) patch[i] = fmin(rint(inverse[i] * scale), median[i]);
}

/* Makes the axis smaller whose patch is the largest part of the image: by the divisor that the axis has after it lost
 * its present one, so that no size in between is left out. */
static enum mcs_status shrink(const struct plan_configuration *c, const double *median, int residual,
                              struct topology *t)
{
    double patch[3], less[3];
    int axis = 0;
    struct topology trial;
    for (int i = 0; i < t->n_axes; i++) {
        patch[i] = less[i] = (double)t->patch[i];
        if (patch[i] / median[i] >= patch[axis] / median[axis]) axis = i; /* the last of equal ones */
    }
    less[axis] -= (double)t->divisor[axis];
    mcs_topology_make(t->n_axes, c->spacing, less, residual, &trial);
    patch[axis] -= (double)trial.divisor[axis];
    MCS_REQUIRE(patch[axis] >= 1, MCS_E_USAGE, "--gpu-memory: no network is small enough for so little memory");
    mcs_topology_make(t->n_axes, c->spacing, patch, residual, t);
    return MCS_OK;
}

/* n_voxels: of the whole data set. The caller has set spacing and median. */
static enum mcs_status plan_configuration(const struct job *j, int n_axes, double n_voxels,
                                          struct plan_configuration *c)
{
    const struct planner *planner = j->options->planner;
    const int residual = planner->residual, n_outputs = j->dataset->n_labels,
              reference_batch = n_axes == 2 ? REFERENCE_BATCH_2D : REFERENCE_BATCH_3D;
    const double gb = j->options->gpu_memory > 0 ? j->options->gpu_memory : planner->default_gb,
                 reference = planner->reference_values[n_axes == 3] * (gb / planner->reference_gb);
    double patch[3], estimate;
    first_patch(n_axes, c->spacing, c->median, patch);
    mcs_topology_make(n_axes, c->spacing, patch, residual, &c->net);
    for (;;) {
        estimate = (double)mcs_topology_values(&c->net, n_outputs);
        if (!((residual ? estimate : estimate / reference_batch * MIN_BATCH) > reference)) break;
        MCS_TRY(shrink(c, c->median, residual, &c->net));
    }
    MCS_REQUIRE(c->net.n_stages <= (residual ? MAX_STAGES_RESIDUAL : MAX_STAGES_PLAIN), MCS_E_DATA,
                "a network of %d resolution levels, more than nnU-Net can plan: the spacings or sizes are implausible",
                c->net.n_stages);
    for (int i = 0; i < n_axes; i++) patch[i] = (double)c->net.patch[i];
    const double batch = rint(reference / estimate * reference_batch),
                 most = rint(n_voxels * planner->max_covered / product(patch, n_axes));
    c->batch = (int64_t)fmax(fmin(batch, most), MIN_BATCH);
    c->exists = 1;
    return MCS_OK;
}

/* Coarser and coarser spacings, the finer axes first, until a patch covers a quarter of the median image. */
static enum mcs_status plan_lowres(const struct job *j, const double shape[3], struct experiment_plan *p)
{
    const struct plan_configuration *full = &p->configurations[PLAN_3D_FULLRES];
    struct plan_configuration *low = &p->configurations[PLAN_3D_LOWRES];
    const double full_voxels = product(shape, 3);
    double voxels = full_voxels, patch_voxels, spacing[3];
    memcpy(spacing, full->spacing, sizeof spacing);
    const struct topology *net = &full->net;
    for (;;) {
        patch_voxels = (double)(net->patch[0] * net->patch[1] * net->patch[2]);
        if (!(patch_voxels / voxels < LOWRES_BELOW)) break;
        const double coarsest = fmax(spacing[0], fmax(spacing[1], spacing[2]));
        int fine[3], any = 0;
        for (int i = 0; i < 3; i++) any |= fine[i] = coarsest / spacing[i] > 2;
        for (int i = 0; i < 3; i++)
            if (fine[i] || !any) spacing[i] *= LOWRES_STEP;
        double scaled[3];
        for (int i = 0; i < 3; i++) scaled[i] = full->spacing[i] / spacing[i] * shape[i];
        voxels = product(scaled, 3);
        *low = (struct plan_configuration){0};
        for (int i = 0; i < 3; i++) low->spacing[i] = spacing[i], low->median[i] = rint(scaled[i]);
        MCS_REQUIRE(fmin(low->median[0], fmin(low->median[1], low->median[2])) >= 1, MCS_E_DATA,
                    "3d_lowres: an axis has no voxel left before a patch covers a quarter of the median image");
        MCS_TRY(plan_configuration(j, 3, voxels * (double)j->dataset->n_training, low));
        net = &low->net;
    }
    if (full_voxels / voxels < 2) *low = (struct plan_configuration){0};
    return MCS_OK;
}

/* ---- the experiment ---- */

static enum mcs_status plan_all(struct job *j, struct experiment_plan *p)
{
    double target[3], shape[3], spacing[3], median[3];
    struct plan_configuration *flat = &p->configurations[PLAN_2D], *full = &p->configurations[PLAN_3D_FULLRES];
    target_spacing(j, target);
    for (int d = 0; d < 3; d++)
        MCS_REQUIRE(target[d] > 0 && target[d] < 1e9, MCS_E_USAGE, "a target spacing of %g mm; it must be above 0",
                    target[d]);
    p->transpose[0] = largest_axis(target);
    for (int d = 0, at = 1; d < 3; d++)
        if (d != p->transpose[0]) p->transpose[at++] = d;
    for (int d = 0; d < 3; d++) p->back[p->transpose[d]] = d;
    median_shape(j, target, shape);
    for (int d = 0; d < 3; d++)
        MCS_REQUIRE(shape[d] >= 1 && shape[d] <= MAX_SIDE, MCS_E_DATA,
                    "the cases have a median of %g voxels along an axis after resampling to %g mm", shape[d],
                    target[d]);
    transpose(p->transpose, target, spacing);
    transpose(p->transpose, shape, median);
    const double n_voxels = product(median, 3) * (double)j->dataset->n_training;
    if (median[0] != 1) {
        memcpy(full->spacing, spacing, sizeof spacing);
        memcpy(full->median, median, sizeof median);
        MCS_TRY(plan_configuration(j, 3, n_voxels, full));
        MCS_TRY(plan_lowres(j, median, p));
        full->batch_dice = p->configurations[PLAN_3D_LOWRES].exists;
    }
    memcpy(flat->spacing, spacing + 1, 2 * sizeof *spacing);
    memcpy(flat->median, median + 1, 2 * sizeof *median);
    MCS_TRY(plan_configuration(j, 2, n_voxels, flat));
    flat->batch_dice = 1;
    for (int d = 0; d < 3; d++) {
        p->median_spacing[d] = mcs_median(sorted_spacings(j, p->transpose[d]), j->fingerprint->n_cases);
        p->median_shape[d] = (int64_t)rint(mcs_median(sorted_shapes(j, p->transpose[d]), j->fingerprint->n_cases));
    }
    return MCS_OK;
}

enum mcs_status mcs_plan_experiment(const struct nnunet_dataset *d, const struct fingerprint *f,
                                    const struct planner_options *o, struct experiment_plan *p)
{
    struct job j = {d, f, o, calloc((size_t)f->n_cases + 1, sizeof(double))};
    *p = (struct experiment_plan){0};
    MCS_REQUIRE(j.column, MCS_E_NOMEM, "no memory to plan %d cases", f->n_cases);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(f->n_channels == d->n_channels, MCS_E_DATA, st, done,
                     "%s names %d channels, but the fingerprint has %d", d->path, d->n_channels, f->n_channels);
    MCS_TRY_GOTO(plan_all(&j, p), st, done);
done:
    free(j.column);
    return st;
}
