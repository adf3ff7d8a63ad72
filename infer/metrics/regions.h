/* Classes, and regions of several classes, of a pair of label maps. */
#ifndef MCS_REGIONS_H
#define MCS_REGIONS_H

#include "data/image/labels.h"
#include "engine/base/arena.h"
#include "infer/metrics/metrics.h"

struct region {
    const char *name;
    int any;               /* 1: every label but 0 and the one to ignore */
    int n;                 /* labels */
    const int64_t *labels; /* (n) */
};
/* Memory of the arena that made it. */
struct region_list {
    int n;
    struct region *v;
};

/* From --labels: "liver=1,tumour=2,organ=1+2" (a name may be left out: "1,2"), or the path of a dataset.json as nnU-Net
 * has it, whose regions and label to ignore are taken (rule->ignore, unless --ignore-label has set it). E_USAGE: not of
 * this form, two regions of one name; errors of mcs_nnunet_dataset_read. */
enum mcs_status mcs_regions_parse(const char *text, struct arena *arena, struct label_rule *rule,
                                  struct region_list *list);
/* One region of all labels but 0, named "1". */
void mcs_regions_any(struct arena *arena, struct region_list *list);
/* One region for each label but 0 and the one to ignore, named by its number. labels (n), ascending. */
void mcs_regions_each(struct arena *arena, const int64_t *labels, int n, const struct label_rule *rule,
                      struct region_list *list);
/* E_DATA: a label of the map that is in no region, not 0 and not to be ignored: file, label, voxel. */
enum mcs_status mcs_regions_check(const struct region_list *list, const struct label_map *m, const char *path,
                                  const struct label_rule *rule);

struct region_options {
    double tolerance, min_iou;
    struct label_rule rule;
};
/* Metrics of each region, m (list->n). The maps have one size, and the reference's spacing is used. Voxels that the
 * reference ignores count nowhere (the prediction's labels there become 0). E_NOMEM, E_DATA (--max-memory). */
enum mcs_status mcs_regions_measure(const struct region_list *list, struct label_map *pred, const struct label_map *ref,
                                    const struct region_options *o, struct mask_metrics *m);

#endif
