/* nnU-Net's experiment planning: networks, patches, batches and spacings from a fingerprint. Sources: nnU-Net 2.6.2,
 * ExperimentPlanner, ResEncUNetPlanner and nnUNetPlannerResEncM, L, XL. The plans equal nnunetv2's nnUNetPlans.json key
 * by key. */
#ifndef MCS_PLANNER_H
#define MCS_PLANNER_H

#include "train/plan/fingerprint.h"
#include "train/plan/topology.h"

/* A planner of nnU-Net. reference_values: mcs_topology_values of a network that fits reference_gb. */
struct planner {
    const char *name, *plans_name; /* "nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans" */
    int residual;
    double reference_values[2]; /* 2-D, 3-D */
    double reference_gb, default_gb;
    double max_covered; /* largest share of the data set's voxels in one batch */
};
/* By nnU-Net's class name; "" is ExperimentPlanner. NULL: none of that name. */
const struct planner *mcs_planner_find(const char *name);
/* "ExperimentPlanner, ...", for messages. */
#define MCS_PLANNER_NAMES                                                                                              \
    "ExperimentPlanner, ResEncUNetPlanner, nnUNetPlannerResEncM, nnUNetPlannerResEncL and nnUNetPlannerResEncXL"

struct planner_options {
    const struct planner *planner;
    const char *plans_name;   /* NULL: the planner's */
    double gpu_memory;        /* GB; 0: the planner's */
    const double *spacing;    /* (3) target spacing z y x in place of the fingerprint's; NULL: none */
    const char *dataset_name; /* "Dataset005_Prostate" */
};

enum { PLAN_2D, PLAN_3D_LOWRES, PLAN_3D_FULLRES, N_PLANS };
extern const char *const mcs_plan_names[N_PLANS]; /* "2d", "3d_lowres", "3d_fullres" */

struct plan_configuration {
    int exists;
    double spacing[3], median[3]; /* of n_axes, transposed; median: the median image's voxels after resampling */
    int64_t batch;
    int batch_dice;
    struct topology net;
};
struct experiment_plan {
    int transpose[3], back[3];
    double median_spacing[3]; /* of the images as they are, transposed */
    int64_t median_shape[3];
    struct plan_configuration configurations[N_PLANS];
};

/* E_USAGE: a memory in which no network fits, a spacing below 0; E_DATA: a topology that nnU-Net's tables cannot
 * describe; E_NOMEM. */
enum mcs_status mcs_plan_experiment(const struct nnunet_dataset *d, const struct fingerprint *f,
                                    const struct planner_options *o, struct experiment_plan *p);
/* The plans as JSON, a new reference; NULL: no memory. */
json_t *mcs_plans_json(const struct nnunet_dataset *d, const struct fingerprint *f, const struct planner_options *o,
                       const struct experiment_plan *p);
/* Writes FOLDER/PLANS_NAME.json. Configurations of other names in an older file of this name are kept, as nnU-Net keeps
 * them. E_IO, E_DATA. */
enum mcs_status mcs_plans_write(const char *folder, const struct nnunet_dataset *d, const struct fingerprint *f,
                                const struct planner_options *o, const struct experiment_plan *p);

#endif
