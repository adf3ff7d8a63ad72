/* Dropout. Channel c of a row uses number c of mcs_rng_fill_uniform with sample = the row's id (the row number where
 * none are given) and the run's step: the mask depends on nothing else, and the backward pass draws it again. Values
 * are kept where the number is >= p. */
#include "engine/base/philox.h"
#include "engine/cpu/op_common.h"

enum { TILE = 64 }; /* channels per call: Philox blocks of 4, vectorised */

/* Philox4x32-10 on TILE/4 counters {block + i, sample, step, 3}; u[4 i + k] = 24 bits of word k, in [0,1). As
 * mcs_rng_fill_uniform. */
MCS_INLINE void draw_tile(uint32_t block, uint32_t sample, uint32_t step, uint32_t k0, uint32_t k1, float *u)
{
    uint32_t c0[TILE / 4], c1[TILE / 4], c2[TILE / 4], c3[TILE / 4];
    for (int i = 0; i < TILE / 4; i++) c0[i] = block + (uint32_t)i, c1[i] = sample, c2[i] = step, c3[i] = 3;
    for (int round = 0; round < MCS_PHILOX_ROUNDS; round++, mcs_philox_next_key(&k0, &k1))
#pragma omp simd
        for (int i = 0; i < TILE / 4; i++) mcs_philox_round(&c0[i], &c1[i], &c2[i], &c3[i], k0, k1);
    for (int i = 0; i < TILE / 4; i++) {
        u[4 * i] = (float)(int32_t)(c0[i] >> 8) * 0x1p-24f;
        u[4 * i + 1] = (float)(int32_t)(c1[i] >> 8) * 0x1p-24f;
        u[4 * i + 2] = (float)(int32_t)(c2[i] >> 8) * 0x1p-24f;
        u[4 * i + 3] = (float)(int32_t)(c3[i] >> 8) * 0x1p-24f;
    }
}

/* dst = beta dst + keep(src) / (1 - p), one row */
MCS_CLONES static void drop_row(const float *restrict src, float beta, float *restrict dst, int64_t n, uint32_t sample,
                                uint32_t step, uint32_t k0, uint32_t k1, float p)
{
    const float up = 1.0f / (1.0f - p);
    for (int64_t c = 0; c < n; c += TILE) {
        const int64_t m = n - c < TILE ? n - c : TILE;
        float u[TILE];
        draw_tile((uint32_t)(c / 4), sample, step, k0, k1, u);
#pragma omp simd
        for (int64_t i = 0; i < m; i++) dst[c + i] = op_blend(beta, dst[c + i], u[i] >= p ? up * src[c + i] : 0);
    }
}

static enum mcs_status run(const struct step *s)
{
    const struct tensor *src = s->backward ? s->dout[0] : s->in[0], *dst = s->backward ? s->din[0] : s->out[0];
    if (!dst) return MCS_OK;
    const struct dropout_attr *a = s->attr;
    const int64_t n = mcs_last(dst), rows = mcs_rows(dst);
    uint32_t key[2];
    const int32_t *sample = mcs_i32(s->in[1]);
    const float *x = mcs_f32(src);
    float *y = mcs_f32(dst), beta = s->backward ? s->beta[0] : 0;
    mcs_philox_key(s->run->seed, a->site, key);
#pragma omp parallel for schedule(static) if (rows * n >= MCS_PARALLEL_MIN / 4)
    for (int64_t r = 0; r < rows; r++)
        drop_row(x + r * n, beta, y + r * n, n, sample ? (uint32_t)sample[r] : (uint32_t)r, s->run->step, key[0],
                 key[1], a->p);
    return MCS_OK;
}

const struct op_impl mcs_cpu_dropout = {NULL, run, run, NULL};
