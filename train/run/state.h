/* The state of a training run on disk: weights, moments, step, the options it was started with. One HDF5 file, whole or
 * not at all, so that a run killed at any moment goes on from its last checkpoint to the same bits: nothing else has
 * state, since random numbers are keyed by step and sample. */
#ifndef MCS_STATE_H
#define MCS_STATE_H

#include "engine/optim.h"

/* Writes params, moments and step (steps done), with a SHA-256 over all of it. config: the resolved options as YAML,
 * and lines for what the run starts from (train/run/training_data.h). */
enum mcs_status mcs_state_save(const char *path, const struct params *p, const struct optim *o, int64_t step,
                               const char *config);
/* Reads them back where the file exists (*found 1), else leaves everything alone (*found 0). E_DATA: damaged (also
 * where only the SHA-256 shows it), or of other options (each is named), data or shapes: an old checkpoint is never
 * mixed with a new run; move it away or choose another folder. After an error params and moments may hold parts of the
 * file. */
enum mcs_status mcs_state_load(const char *path, struct params *p, struct optim *o, const char *config, int64_t *step,
                               int *found);

/* E_DATA where there is a file that cannot be opened or is of other options: to be asked before anything is written
 * into the run's folder. The values are not looked at. */
enum mcs_status mcs_state_check(const char *path, const char *config);

/* Adds to the message of a step that failed where the run can go on from; saved: steps done at the last checkpoint, 0
 * where there is none. Returns st. */
enum mcs_status mcs_state_tell(enum mcs_status st, const char *path, int64_t saved);

#endif
