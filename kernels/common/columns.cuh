/* Column sums of a matrix (rows, n) of packs: a block has tx adjacent packs of a row by ty rows, so that a warp reads
 * whole sectors, and threads communicate only once, over ty at the end. */
#ifndef MCS_KERNELS_COLUMNS_CUH
#define MCS_KERNELS_COLUMNS_CUH

#include "kernels/common/pack.cuh"

constexpr int COLUMN_THREADS = 256;

struct column_tile {
    int tx, ty;
    unsigned chunks; /* blocks along a row */
};
/* The widest of 8, 16 and 32 packs that leaves the fewest lanes idle; 32 for single elements. */
template <int V> static inline column_tile column_tile_of(int64_t packs)
{
    int best = 1;
    while (best < 32 && best < packs) best *= 2;
    for (int tx = best / 2; V > 1 && tx >= 8; tx /= 2)
        if ((packs + tx - 1) / tx * tx < (packs + best - 1) / best * best) best = tx;
    return {best, COLUMN_THREADS / best, (unsigned)((packs + best - 1) / best)};
}

/* Rows per part and number of parts (at most 256), functions of the shape alone. */
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

/* Sums s (V) over threadIdx.y by a tree; the threads with threadIdx.y == 0 get the result. Called by the whole block.
 * scratch (V, COLUMN_THREADS) in shared memory: the caller synchronises before any other use. */
template <int V, class A> static DEV_INLINE void column_tree(A (*scratch)[COLUMN_THREADS], A *s)
{
    const int tx = (int)blockDim.x, y = (int)threadIdx.y, me = y * tx + (int)threadIdx.x;
    for (int j = 0; j < V; j++) scratch[j][me] = s[j];
    for (int h = (int)blockDim.y / 2; h > 0; h /= 2) {
        DEV_SYNC();
        if (y < h)
            for (int j = 0; j < V; j++) scratch[j][me] = s[j] += scratch[j][me + h * tx];
    }
}

#endif
