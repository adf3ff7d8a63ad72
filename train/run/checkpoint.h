/* Checkpoint of a training run: weights, moments, step and options in one HDF5 file that is replaced atomically. A run
 * killed at any moment resumes from its last checkpoint with bit-identical results: there is no other state, since
 * random numbers are keyed by step and sample. */
#ifndef MCS_CHECKPOINT_H
#define MCS_CHECKPOINT_H

#include "engine/optim.h"

/* Writes params, moments, step (steps done) and config, with a SHA-256 of all of them. config: the resolved options as
 * YAML, and a line for each input of the run (train/run/training_data.h). */
enum mcs_status mcs_checkpoint_save(const char *path, const struct params *p, const struct optim *o, int64_t step,
                                    const char *config);
/* Reads the file if it exists (*found 1), else changes nothing (*found 0). E_DATA: damaged (HDF5 or the SHA-256 shows
 * it), or of a run with other options (the message names them), data or shapes: the user must move the file away or
 * choose another folder. After an error params and moments may be partly overwritten. */
enum mcs_status mcs_checkpoint_load(const char *path, struct params *p, struct optim *o, const char *config,
                                    int64_t *step, int *found);

/* E_DATA: the file exists, but cannot be opened or is of a run with other options. Called before anything is written
 * into the run's folder; does not read the values. */
enum mcs_status mcs_checkpoint_check(const char *path, const char *config);

/* Appends the last checkpoint to the error message of a failed step, so that the user knows from where the run can be
 * resumed. saved: steps done at that checkpoint, 0 if there is none. Returns st. */
enum mcs_status mcs_checkpoint_error_add(enum mcs_status st, const char *path, int64_t saved);

#endif
