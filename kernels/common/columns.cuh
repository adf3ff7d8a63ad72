/* Blocks over a matrix (rows, n) of packs, whose threads are tx neighbours in a row and ty rows: a warp reads whole
 * sectors, and sums down the columns need no exchange but one over ty at the end. */
#ifndef MCS_KERNELS_COLUMNS_CUH
#define MCS_KERNELS_COLUMNS_CUH

#include "kernels/common/pack.cuh"

constexpr int COLUMN_THREADS = 256;

struct column_tile {
    int tx, ty;
    unsigned chunks; /* blocks side by side */
};
/* The widest of 8, 16 and 32 packs that leaves the fewest lanes without a column; single elements by 32. */
template <int V> static inline column_tile column_tile_of(int64_t packs)
{
    int best = 1;
    while (best < 32 && best < packs) best *= 2;
    for (int tx = best / 2; V > 1 && tx >= 8; tx /= 2)
        if ((packs + tx - 1) / tx * tx < (packs + best - 1) / best * best) best = tx;
    return {best, COLUMN_THREADS / best, (unsigned)((packs + best - 1) / best)};
}

/* Rows are split into parts, at most 256 of them, by the shape alone. */
static inline int64_t column_part_rows(int64_t rows)
{
    const int64_t per = (rows + 255) / 256;
    return per < 256 ? 256 : per;
}
static inline int64_t column_parts(int64_t rows)
{
    const int64_t per = column_part_rows(rows);
    return (rows + per - 1) / per;
}

/* s of the threads with threadIdx.y == 0 becomes the sum over threadIdx.y, by a tree. All threads of the block call it;
 * room [V][COLUMN_THREADS] in shared memory, free before and after a barrier. */
template <int V, class A> static DEV_INLINE void column_tree(A (*room)[COLUMN_THREADS], A *s)
{
    const int tx = (int)blockDim.x, y = (int)threadIdx.y, me = y * tx + (int)threadIdx.x;
    for (int j = 0; j < V; j++) room[j][me] = s[j];
    for (int h = (int)blockDim.y / 2; h > 0; h /= 2) {
        DEV_SYNC();
        if (y < h)
            for (int j = 0; j < V; j++) room[j][me] = s[j] += room[j][me + h * tx];
    }
}

#endif
