/* The products of attention's blocks: oneDNN's sgemm, and loops for a few queries. */
#include "engine/cpu/onednn.h"
#include "engine/cpu/op_attention.h"
#include "engine/cpu/simd.h"

#include <string.h>

enum { SMALL_M = 4 }; /* up to this number of queries use loops: a GEMM's set-up would cost more than its work */

/* c (m,n) = alpha a b^T for small m. */
MCS_CLONES static void small_gemm_nt(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                     const float *b, int64_t ldb, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            const float *x = a + i * lda, *y = b + j * ldb;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t l = 0; l < hd; l++) sum += x[l] * y[l];
            c[i * ldc + j] = alpha * sum;
        }
}

/* c (m,hd) = alpha a b + beta c for small m; a (m,n), b (n,hd). */
MCS_CLONES static void small_gemm_nn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                     const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++) {
        float *y = c + i * ldc;
        if (beta == 0) memset(y, 0, (size_t)hd * 4);
        for (int64_t j = 0; j < n; j++) {
            const float w = alpha * a[i * lda + j], *x = b + j * ldb;
#pragma omp simd
            for (int64_t l = 0; l < hd; l++) y[l] += w * x[l];
        }
    }
}

/* c (n,hd) += alpha a^T b for small m; a (m,n), b (m,hd). */
MCS_CLONES static void small_gemm_tn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                     const float *b, int64_t ldb, float *c, int64_t ldc)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = 0; i < m; i++) {
            const float w = alpha * a[i * lda + j], *x = b + i * ldb;
            float *y = c + j * ldc;
#pragma omp simd
            for (int64_t l = 0; l < hd; l++) y[l] += w * x[l];
        }
}

enum mcs_status mcs_attention_gemm_nt(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                      const float *b, int64_t ldb, float *c, int64_t ldc)
{
    if (m > SMALL_M) return mcs_sgemm('N', 'T', m, n, hd, alpha, a, lda, b, ldb, 0, c, ldc);
    small_gemm_nt(m, n, hd, alpha, a, lda, b, ldb, c, ldc);
    return MCS_OK;
}

enum mcs_status mcs_attention_gemm_nn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                      const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    if (m > SMALL_M) return mcs_sgemm('N', 'N', m, hd, n, alpha, a, lda, b, ldb, beta, c, ldc);
    small_gemm_nn(m, n, hd, alpha, a, lda, b, ldb, beta, c, ldc);
    return MCS_OK;
}

enum mcs_status mcs_attention_gemm_tn(int64_t m, int64_t n, int64_t hd, float alpha, const float *a, int64_t lda,
                                      const float *b, int64_t ldb, float *c, int64_t ldc)
{
    if (m > SMALL_M) return mcs_sgemm('T', 'N', n, hd, m, alpha, a, lda, b, ldb, 1, c, ldc);
    small_gemm_tn(m, n, hd, alpha, a, lda, b, ldb, c, ldc);
    return MCS_OK;
}
