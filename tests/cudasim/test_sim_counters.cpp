/* Counters against values computed by hand; the execution order that a seed gives. */
#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include <algorithm>
#include <vector>

#include "tests/cudasim/counted.h"
#include "tests/cudasim/cudasim.h"

static float *x, *y;

static void open_arrays()
{
    cr_assert_eq(cudaMalloc((void **)&x, 2048 * 4), cudaSuccess);
    cr_assert_eq(cudaMalloc((void **)&y, 2048 * 4), cudaSuccess);
    cr_assert_eq(cudaMemset(x, 0, 2048 * 4), cudaSuccess);
    cudasim_counters_clear();
    cudasim_count(1);
}

static cudasim_counters done(cudaError_t e)
{
    cr_assert_eq(e, cudaSuccess);
    cr_assert_eq(cudaDeviceSynchronize(), cudaSuccess);
    const cudasim_counters c = cudasim_counters_sum("");
    cudasim_counters_clear();
    cr_assert_eq(cudasim_reports(), 0, "%s", cudasim_report_text(0));
    return c;
}

/* A column of a tile 32 wide lies in one bank: 31 extra wavefronts for each of 32 requests; of one 33 wide in 32
 * banks. */
Test(counters, bank_conflicts, .init = open_arrays)
{
    const cudasim_counters bad = done(counted_transpose(x, y, 0)), good = done(counted_transpose(x, y, 1));
    cr_expect_eq(bad.shared_requests, 64);
    cr_expect_eq(bad.bank_conflicts, 31 * 32, "%d conflicts", (int)bad.bank_conflicts);
    cr_expect_eq(good.shared_requests, 64);
    cr_expect_eq(good.bank_conflicts, 0);
    cr_expect_eq(good.barriers, 1);
    cr_expect_eq(good.global_requests, 64);
    cr_expect_eq(good.sectors, 64 * 4);
}

/* 32 floats are 4 sectors at stride 1, 8 at stride 2, 32 at stride 8 and above. */
Test(counters, sectors, .init = open_arrays)
{
    for (int stride = 1; stride <= 32; stride *= 2) {
        const cudasim_counters c = done(counted_stride(x, y, stride));
        const unsigned want = 4 + (unsigned)std::min(4 * stride, 32); /* the store: 4 sectors */
        cr_expect_eq(c.global_requests, 2);
        cr_expect_eq(c.sectors, want, "stride %d: %d sectors", stride, (int)c.sectors);
        cr_expect_float_eq(cudasim_sector_use(&c), 256.0 / (32.0 * want), 1e-12);
    }
}

/* 512 bytes a request: 16 sectors, and four wavefronts, the fewest possible, so no conflict. */
Test(counters, wide_accesses, .init = open_arrays)
{
    const cudasim_counters c = done(counted_wide(x, y));
    cr_expect_eq(c.global_requests, 2);
    cr_expect_eq(c.sectors, 32);
    cr_expect_eq(c.shared_requests, 2);
    cr_expect_eq(c.bank_conflicts, 0);
    cr_expect_eq(c.partial_requests, 0);
}

Test(counters, divergence, .init = open_arrays)
{
    const cudasim_counters c = done(counted_half_warp(x, y));
    cr_expect_eq(c.global_requests, 2);
    cr_expect_eq(c.partial_requests, 1);
    cr_expect_eq(c.sectors, 2 + 4);
}

/* Rows of 1 to 32 floats are 1 to 4 sectors. Lane l's n-th store is in row l + n: without __syncwarp the n-th stores of
 * the lanes are one request with a sector for each lane. */
Test(counters, lanes_that_skip_an_iteration, .init = open_arrays)
{
    const cudasim_counters together = done(counted_diagonal(y, 1)), apart = done(counted_diagonal(y, 0));
    cr_expect_eq(together.global_requests, 32);
    cr_expect_eq(together.sectors, 8 * (1 + 2 + 3 + 4));
    cr_expect_eq(apart.global_requests, 32);
    cr_expect_eq(apart.sectors, 32 * 33 / 2);
}

Test(counters, tensor_cores, .init = open_arrays)
{
    const cudasim_counters c = done(counted_mma(y));
    cr_expect_eq(c.mma, 12);
    cr_expect_eq(c.collectives, 4, "two ldmatrix in two warps");
    cr_expect_eq(c.global_requests, 2);
    cr_expect_float_eq(cudasim_tensor_share(&c),
                       12.0 / (double)(12 + c.collectives + c.global_requests + c.shared_requests), 1e-12);
}

static std::vector<unsigned> order_of(uint64_t seed)
{
    std::vector<unsigned> order(256);
    cudasim_seed(seed);
    cudaMemset(x, 0, 4);
    done(counted_turns((unsigned *)x, (unsigned *)y));
    cudaMemcpy(order.data(), y, 1024, cudaMemcpyDeviceToHost);
    return order;
}

Test(order, reproduced_by_seed, .init = open_arrays)
{
    cudasim_count(0);
    const std::vector<unsigned> straight = order_of(0), one = order_of(1), two = order_of(2);
    for (unsigned i = 0; i < 256; i++) cr_assert_eq(straight[i], i);
    cr_expect(one != straight && two != straight && one != two);
    cr_expect(order_of(1) == one && order_of(2) == two, "the same seed, another order");
    std::vector<unsigned> sorted = one;
    std::sort(sorted.begin(), sorted.end());
    cr_expect(sorted == straight, "each thread once");
    /* blocks are shuffled too, but a block runs alone */
    for (unsigned i = 0; i < 256; i++) cr_assert_eq(one[i] / 64, one[i / 64 * 64] / 64);
}

Test(order, stack_overflow_ends_the_program, .init = open_arrays, .signal = SIGSEGV)
{
    counted_deep(y);
    cudaDeviceSynchronize();
}
