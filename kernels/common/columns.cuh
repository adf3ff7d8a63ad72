/* Column sums of a matrix whose rows are read in packs of V elements (pack.cuh). A block has tx adjacent packs of a row
 * by ty rows: a warp reads whole 32-byte sectors, and each thread sums its columns in registers. The ty partial sums of
 * a column are added in shared memory once, at the end. */
#ifndef MCS_KERNELS_COLUMNS_CUH
#define MCS_KERNELS_COLUMNS_CUH

#include "kernels/common/pack.cuh"

constexpr int COLUMN_THREADS = 256;

struct column_tile {
    int tx, ty;
    unsigned chunks; /* blocks along a row */
};
/* Tile of a matrix with `packs` packs of V elements per row. tx is the smallest power of two that covers a row, at most
 * 32; for V > 1 a smaller one, down to 8, where it leaves fewer lanes idle (among equals the widest). */
template <int V> static inline column_tile column_tile_of(int64_t packs)
{
    int best = 1;
    while (best < 32 && best < packs) best *= 2;
    for (int tx = best / 2; V > 1 && tx >= 8; tx /= 2)
        if ((packs + tx - 1) / tx * tx < (packs + best - 1) / best * best) best = tx;
    return {best, COLUMN_THREADS / best, (unsigned)((packs + best - 1) / best)};
}

/* The rows are summed in parts, one part per block along y: rows per part and number of parts. At least 256 rows, so
 * that the partial sums are few compared with the input; at most 256 parts, so that one block can merge them. Both
 * depend on the shape alone, so that the order of the sums does too. */
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

/* Adds the N sums s of the threads with the same threadIdx.x by a tree; the threads with threadIdx.y == 0 get the
 * result. Called by the whole block. scratch (N, COLUMN_THREADS) in shared memory: the caller synchronises before any
 * other use. */
template <int N, class A> static DEV_INLINE void column_tree(A (*scratch)[COLUMN_THREADS], A *s)
{
    const int tx = (int)blockDim.x, y = (int)threadIdx.y, me = y * tx + (int)threadIdx.x;
    for (int j = 0; j < N; j++) scratch[j][me] = s[j];
    for (int h = (int)blockDim.y / 2; h > 0; h /= 2) {
        DEV_SYNC();
        if (y < h)
            for (int j = 0; j < N; j++) scratch[j][me] = s[j] += scratch[j][me + h * tx];
    }
}

#endif
