/* Rows of uncertainty.csv in the record of a run folder. */
#ifndef MCS_ROW_RECORD_H
#define MCS_ROW_RECORD_H

#include "infer/unet/probability.h"

#include <jansson.h>

/* [score, score_area, mean, foreground]: reals as texts that convert back to the same bits, NaN and infinity included.
 */
json_t *mcs_uncertainty_row_json(const struct uncertainty_row *row);
/* Reads such a row; does not change row->stem. Returns 0 if v is none. */
int mcs_uncertainty_row_read(const json_t *v, struct uncertainty_row *row);

#endif
