/* mma.sync, ldmatrix and cp.async, with the register layouts of the PTX documentation. */
#ifndef CUDASIM_SIM_MATRIX_H
#define CUDASIM_SIM_MATRIX_H

SIM_INLINE float sim_bf16(unsigned pair, int high)
{
    return __uint_as_float(high ? pair & 0xffff0000u : pair << 16);
}

/* mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32: D (16,8) = A (16,16) B (16,8) + C. With g = lane / 4, t = lane %
 * 4: a[0..3] hold rows g, g+8, g, g+8 and columns 2t.. of k 0-7 (first two) and 8-15; b[0..1] rows 2t.. of k 0-7 and
 * 8-15, column g; c and d rows g, g, g+8, g+8, columns 2t, 2t+1. */
static SIM_RAW void sim_mma_bf16(float d[4], const unsigned a[4], const unsigned b[2])
{
    unsigned mine[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const struct sim_slot *s = sim_exchange(SIM_MMA, mine, sizeof mine, SIM_PC);
    const int lane = sim_now->lane;
    if (lane == 0) sim_count_mma();
    for (int i = 0; i < 4; i++) {
        const int row = lane / 4 + (i >= 2 ? 8 : 0), col = lane % 4 * 2 + (i & 1);
        float sum = 0;
        for (int k = 0; k < 16; k++) {
            unsigned ra[6], rb[6];
            memcpy(ra, s[row % 8 * 4 + k % 8 / 2].bytes, sizeof ra);
            memcpy(rb, s[col * 4 + k % 8 / 2].bytes, sizeof rb);
            sum +=
                sim_bf16(ra[(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)], k & 1) * sim_bf16(rb[4 + (k >= 8 ? 1 : 0)], k & 1);
        }
        d[i] += sum;
    }
}

/* ldmatrix.sync.aligned.m8n8.xN[.trans].shared.b16: lane 8i+r passes the address of row r of matrix i (16 bytes). Each
 * lane receives, of matrix i, elements 2(lane%4) and 2(lane%4)+1 of row lane/4; with .trans, of column lane/4. */
static SIM_RAW void sim_ldmatrix(unsigned *r, int n, bool trans, const void *row)
{
    unsigned short mine[9] = {0};
    const int lane = sim_now->lane;
    if (lane < 8 * n) {
        sim_touch(row, 16, 0, SIM_PC);
        memcpy(mine, row, 16);
    }
    const struct sim_slot *s = sim_exchange(SIM_LDMATRIX, mine, 16, SIM_PC);
    for (int i = 0; i < n; i++) {
        unsigned short e[2];
        for (int j = 0; j < 2; j++) {
            const int low = lane % 4 * 2 + j, from = trans ? low : lane / 4, at = trans ? lane / 4 : low;
            memcpy(&e[j], s[8 * i + from].bytes + 2 * at, 2);
        }
        r[i] = e[0] | (unsigned)e[1] << 16;
    }
}

/* cp.async: sched.cpp keeps a thread's copies pending until it waits for them. */
static SIM_RAW void sim_copy(void *dst, const void *src, unsigned bytes, unsigned full)
{
    sim_copy_async(dst, src, bytes, full, SIM_PC);
}

SIM_INLINE void dev_mma_bf16(float d[4], const unsigned a[4], const unsigned b[2])
{
    sim_mma_bf16(d, a, b);
}
SIM_INLINE void dev_ldmatrix_x4(unsigned r[4], const void *row)
{
    sim_ldmatrix(r, 4, false, row);
}
SIM_INLINE void dev_ldmatrix_x4_trans(unsigned r[4], const void *row)
{
    sim_ldmatrix(r, 4, true, row);
}
SIM_INLINE void dev_ldmatrix_x2(unsigned r[2], const void *row)
{
    sim_ldmatrix(r, 2, false, row);
}
SIM_INLINE void dev_ldmatrix_x2_trans(unsigned r[2], const void *row)
{
    sim_ldmatrix(r, 2, true, row);
}
SIM_INLINE void dev_copy_async16(void *dst, const void *src, unsigned bytes)
{
    sim_copy(dst, src, bytes, 16);
}
SIM_INLINE void dev_copy_async4(void *dst, const void *src, unsigned bytes)
{
    sim_copy(dst, src, bytes, 4);
}
SIM_INLINE void dev_copy_commit()
{
    sim_copy_commit();
}
template <int N> SIM_INLINE void dev_copy_wait()
{
    sim_copy_wait(N);
}

#endif
