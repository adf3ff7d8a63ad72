/* Fibers: order of switches, saved registers and stacks, restart of an abandoned fiber, a guard page below each
 * stack. */
#include <criterion/criterion.h>
#include <signal.h>

#include "tests/cudasim/fiber.h"

enum { N = 40, ROUNDS = 50 };
static struct fiber *ring, start;
static int steps[N], at;
static double kept[N];

static void run()
{
    const int me = at;
    volatile double local[16];
    double sum = me; /* in a register or on this stack */
    for (int i = 0; i < 16; i++) local[i] = me;
    for (int r = 0; r < ROUNDS; r++) {
        steps[me]++;
        sum += local[r % 16];
        at = (me + 1) % N;
        fiber_switch(&ring[me], at == 0 && r == ROUNDS - 1 ? &start : &ring[at]);
        if (r == ROUNDS - 2) kept[me] = sum;
    }
    for (;;) fiber_switch(&ring[me], &start);
}

Test(fiber, switches_keep_registers_and_stacks)
{
    ring = fiber_stacks(N, 65536);
    cr_assert(ring);
    for (int again = 0; again < 2; again++) { /* the second time: restarts abandoned fibers */
        for (int i = 0; i < N; i++) fiber_start(&ring[i], run), steps[i] = 0, kept[i] = 0;
        at = 0;
        fiber_switch(&start, &ring[0]);
        for (int i = 0; i < N; i++) {
            cr_expect_eq(steps[i], ROUNDS, "fiber %d: %d steps", i, steps[i]);
            cr_expect_eq(kept[i], (double)i * ROUNDS, "fiber %d kept %g", i, kept[i]); /* i + (ROUNDS - 1) i */
        }
    }
    fiber_stacks_free(ring, N);
}

Test(fiber, stacks_are_separate_and_offset)
{
    ring = fiber_stacks(N, 65536);
    cr_assert(ring);
    for (int i = 1; i < N; i++) {
        const char *end = ring[i - 1].low + ring[i - 1].bytes;
        cr_expect(end <= ring[i].low - 4096, "stack %d has no guard", i);
        cr_expect(fiber_in_guard(ring, N, ring[i].low - 1) && !fiber_in_guard(ring, N, ring[i].low));
        const size_t step = (size_t)(ring[i].low + ring[i].bytes - end);
        cr_expect(step % 4096 != 0, "the tops of stacks %d and %d lie in one set of the cache", i - 1, i);
    }
    fiber_stacks_free(ring, N);
}

Test(fiber, guard_page_stops_overflow, .signal = SIGSEGV)
{
    ring = fiber_stacks(2, 65536);
    ring[1].low[-1] = 1;
}
