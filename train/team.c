#include "train/team.h"

enum { STEP_UNIT = 1 << 20 }; /* a float holds numbers up to 2^24 */

enum mcs_status mcs_team_check(const struct comm *c, int64_t batch)
{
    const int size = mcs_comm_size(c);
    MCS_REQUIRE(batch % size == 0, MCS_E_USAGE, "a batch of %lld does not divide into %d ranks; take a multiple of %d",
                (long long)batch, size, size);
    return MCS_OK;
}

enum mcs_status mcs_team_start(struct comm *c, struct params *p, struct optim *o, int64_t *step)
{
    int high = (int)(*step / STEP_UNIT), low = (int)(*step % STEP_UNIT);
    if (!c) return MCS_OK;
    if (c->rank) high = low = 0; /* rank 0's is the largest */
    MCS_TRY(mcs_comm_most(c, high, &high, "steps done"));
    MCS_TRY(mcs_comm_most(c, low, &low, "steps done"));
    *step = o->step = (int64_t)high * STEP_UNIT + low;
    MCS_TRY(mcs_comm_broadcast(c, p->data, p->n_values, "weights"));
    if (o->m) MCS_TRY(mcs_comm_broadcast(c, o->m, p->n_values, "first moments"));
    if (o->v) MCS_TRY(mcs_comm_broadcast(c, o->v, p->n_values, "second moments"));
    MCS_TRY(mcs_comm_join(c));
    return mcs_comm_wait(c);
}
