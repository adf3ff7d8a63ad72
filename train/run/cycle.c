#include "train/run/cycle.h"

#include <math.h>
#include <stdio.h>

static int64_t cycle_epochs(const struct cycle_options *o)
{
    return o->epochs / o->cycles;
}

static int64_t cycle_steps(const struct cycle_options *o)
{
    return cycle_epochs(o) * o->iterations;
}

enum mcs_status mcs_cycle_check(const struct cycle_options *o)
{
    MCS_REQUIRE(o->epochs > 0 && o->iterations > 0 && o->cycles > 0, MCS_E_USAGE,
                "training needs at least one epoch, one step in it and one cycle; got %lld, %lld and %lld",
                (long long)o->epochs, (long long)o->iterations, (long long)o->cycles);
    MCS_REQUIRE(o->epochs % o->cycles == 0, MCS_E_USAGE,
                "%lld epochs do not divide into %lld cycles; take a multiple of %lld", (long long)o->epochs,
                (long long)o->cycles, (long long)o->cycles);
    MCS_REQUIRE(o->lr > 0 && o->restart_lr >= 0, MCS_E_USAGE, "a learning rate must be above 0");
    if (o->form == MCS_RELEASE) return MCS_OK;
    MCS_REQUIRE(o->checkpoints > 0, MCS_E_USAGE, "a cycle needs at least one checkpoint");
    MCS_REQUIRE(o->late > 0 && o->late <= 1, MCS_E_USAGE,
                "the late share of a cycle must be above 0 and at most 1, got %g", o->late);
    MCS_REQUIRE(o->checkpoints == 1 || o->late * (double)cycle_steps(o) >= (double)(o->checkpoints - 1), MCS_E_USAGE,
                "%lld checkpoints do not fit into the last %g of a cycle of %lld steps", (long long)o->checkpoints,
                o->late, (long long)cycle_steps(o));
    return MCS_OK;
}

double mcs_cycle_lr(const struct cycle_options *o, int64_t step)
{
    const double power = 0.9;
    if (o->form == MCS_PAPER) {
        const int64_t length = cycle_steps(o), cycle = step / length, t = step % length;
        const double base = cycle && o->restart_lr > 0 ? o->restart_lr : o->lr;
        return base * pow(1 - (double)t / (double)length, power);
    }
    const int64_t e = step / o->iterations, length = cycle_epochs(o), t = e % length;
    if (o->cycles == 1) return o->lr * pow(1 - (double)e / (double)o->epochs, power);
    const int64_t held = (int64_t)(o->gamma * (double)length), at = t < held ? t : held;
    return o->lr * pow(1 - (double)at / (double)o->epochs, power);
}

/* Steps within a cycle after which its checkpoint k of n (from 0) is written. */
static int64_t late_step(const struct cycle_options *o, int64_t k)
{
    const int64_t length = cycle_steps(o), n = o->checkpoints;
    if (n == 1) return length;
    return length - llround(o->late * (double)length * (double)(n - 1 - k) / (double)(n - 1));
}

static int paper_checkpoints(const struct cycle_options *o, int64_t steps_done, struct cycle_checkpoint *found)
{
    const int64_t length = cycle_steps(o), cycle = (steps_done - 1) / length, in_cycle = steps_done - cycle * length;
    for (int64_t k = 0; k < o->checkpoints; k++)
        if (late_step(o, k) == in_cycle) {
            *found = (struct cycle_checkpoint){.cycle = cycle + 1, .index = k + 1, .step = steps_done};
            snprintf(found->file, sizeof found->file, "cycle_%lld_checkpoint_%lld.safetensors", (long long)cycle + 1,
                     (long long)k + 1);
            return 1;
        }
    return 0;
}

/* Epoch e, from 0: rules of the released form (mcs_cycle_checkpoints in cycle.h). */
static int is_late(const struct cycle_options *o, int64_t e)
{
    return (e + 1) % cycle_epochs(o) >= cycle_epochs(o) - 10;
}

static int is_sparse(const struct cycle_options *o, int64_t e)
{
    const int64_t n = (e + 1) % cycle_epochs(o);
    const double first = (double)(int64_t)(0.7 * (double)(cycle_epochs(o) - 10)), last = (double)(o->epochs + 1);
    for (int i = 0; i < 7; i++)
        if ((int64_t)(first + (double)i * ((last - first) / 6)) == n) return 1;
    return 0;
}

static int release_checkpoints(const struct cycle_options *o, int64_t steps_done, struct cycle_checkpoint *found)
{
    if (steps_done % o->iterations) return 0;
    const int64_t e = steps_done / o->iterations - 1, length = cycle_epochs(o);
    int n = 0;
    int64_t before = 0; /* earlier checkpoints of this cycle */
    for (int64_t i = e / length * length; i < e; i++) before += is_late(o, i) + is_sparse(o, i);
    const int kept[CYCLE_MAX_AT_ONCE] = {is_sparse(o, e), is_late(o, e), e + 1 == o->epochs};
    for (int i = 0; i < CYCLE_MAX_AT_ONCE; i++) {
        if (!kept[i]) continue;
        struct cycle_checkpoint *c = &found[n];
        *c = (struct cycle_checkpoint){.cycle = e / length + 1, .index = before + n + 1, .step = steps_done};
        if (i == 0) snprintf(c->file, sizeof c->file, "e_checkpoint_%lld.safetensors", (long long)e);
        if (i == 1) snprintf(c->file, sizeof c->file, "checkpoint_%lld.safetensors", (long long)e);
        if (i == 2) snprintf(c->file, sizeof c->file, "checkpoint_final.safetensors");
        n++;
    }
    return n;
}

int mcs_cycle_checkpoints(const struct cycle_options *o, int64_t steps_done,
                          struct cycle_checkpoint found[CYCLE_MAX_AT_ONCE])
{
    if (steps_done <= 0 || steps_done > o->epochs * o->iterations) return 0;
    return o->form == MCS_PAPER ? paper_checkpoints(o, steps_done, found) : release_checkpoints(o, steps_done, found);
}
