/* Non-maximum suppression of boxes, as torchvision.ops.nms. */
#ifndef MCS_NMS_H
#define MCS_NMS_H

#include "engine/base/status.h"

/* boxes (n,4) x0, y0, x1, y1 with the area (x1 - x0) (y1 - y0); scores (n). In descending order of score, of equal ones
 * in theirs, a box is kept unless its intersection over union with one kept before is above `threshold` (in float32;
 * two boxes without area do not suppress each other). keep (n) receives the indices in that order, *n_keep their
 * number. E_NOMEM. */
enum mcs_status mcs_nms(const int (*boxes)[4], const float *scores, int n, double threshold, int *keep, int *n_keep);

#endif
