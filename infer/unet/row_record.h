/* Rows of uncertainty.csv in the record of a run folder. */
#ifndef MCS_ROW_RECORD_H
#define MCS_ROW_RECORD_H

#include "infer/unet/probability.h"

#include <jansson.h>

/* The row's numbers as texts that convert back to the same bits, NaN and infinity included. */
json_t *mcs_row_json(const struct uncertainty_row *row);
/* Returns 1 if v is such a row; does not change row->stem. */
int mcs_row_read(const json_t *v, struct uncertainty_row *row);

#endif
