/* The state of a training run on disk: weights, moments, step, the options it was started with. One HDF5 file, whole or
 * not at all, so that a run killed at any moment goes on from its last checkpoint to the same bits: nothing else has
 * state, since random numbers are keyed by step and sample. */
#ifndef MCS_STATE_H
#define MCS_STATE_H

#include "engine/optim.h"

/* Writes params, moments and step (steps done). config: the resolved options as YAML. */
enum mcs_status mcs_state_save(const char *path, const struct params *p, const struct optim *o, int64_t step,
                               const char *config);
/* Reads them back where the file exists (*found 1), else leaves everything alone (*found 0). E_DATA: damaged, or of
 * other options or shapes: an old checkpoint is never mixed with a new run; move it away or choose another folder. */
enum mcs_status mcs_state_load(const char *path, struct params *p, struct optim *o, const char *config, int64_t *step,
                               int *found);

#endif
