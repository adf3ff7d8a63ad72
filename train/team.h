/* What a training run does together with other ranks, beside what happens inside a step (engine/dist/joint.h). All
 * calls take comm == NULL: one rank. */
#ifndef MCS_TEAM_H
#define MCS_TEAM_H

#include "engine/dist/comm.h"
#include "engine/optim.h"

/* E_USAGE where a batch does not divide into the ranks. */
enum mcs_status mcs_team_check(const struct comm *c, int64_t batch);
/* Gives rank 0's weights, moments and number of steps done to all. */
enum mcs_status mcs_team_start(struct comm *c, struct params *p, struct optim *o, int64_t *step);

#endif
