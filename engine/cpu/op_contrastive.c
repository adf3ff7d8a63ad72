/* The contrastive losses (formulas: struct contrastive_attr in engine/tape/op.h). No B x B matrix is stored: each
 * block of rows loops over tiles of columns, each row keeps two running log-sum-exps, and the backward pass recomputes
 * the similarities.
 *
 * Direction 0 is image -> text, 1 is text -> image. By direction and row i, over j != i: stats[0] = ln sum exp((1+b)
 * L_ij), stats[1] = ln sum exp(b L_ij); in the released form stats[0] = ln(1 + sum exp(L_ij)), stats[1] = 0. */
#include <math.h>

#include "engine/cpu/op_common.h"

enum { ROWS = 16, COLS = 64 };

struct problem {
    const float *x[2]; /* image, text (B,D) */
    int64_t batch, width;
    float scale, b[2];
    double a, log_negatives; /* ln(B-1); released: ln(N-1) */
    int released;
};

static struct problem problem_of(const struct step *s)
{
    const struct contrastive_attr *a = s->attr;
    struct problem p = {
        .x = {mcs_f32(s->in[0]), mcs_f32(s->in[1])}, .a = a->a, .b = {a->b_image, a->b_text}, .released = a->released};
    p.batch = s->in[0]->dim[0];
    p.width = s->in[0]->dim[1];
    p.scale = s->in[2] ? (float)exp((double)mcs_f32(s->in[2])[0]) : a->inv_tau;
    p.log_negatives = log((double)((a->released > 1 ? a->released : p.batch) - 1));
    return p;
}

/* out (ROWS,COLS) = scale a b^T for ra rows and rb columns, in 2 x 4 register tiles: six loads for eight products. */
MCS_CLONES static void similarities(const float *a, int64_t ra, const float *b, int64_t rb, int64_t d, float scale,
                                    float out[ROWS][COLS])
{
    for (int64_t i = 0; i < ra; i += 2) {
        const int64_t i1 = i + 1 < ra ? i + 1 : i;
        const float *a0 = a + i * d, *a1 = a + i1 * d;
        for (int64_t j = 0; j < rb; j += 4) {
            const int64_t j1 = j + 1 < rb ? j + 1 : j, j2 = j + 2 < rb ? j + 2 : j, j3 = j + 3 < rb ? j + 3 : j;
            const float *b0 = b + j * d, *b1 = b + j1 * d, *b2 = b + j2 * d, *b3 = b + j3 * d;
            float s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
#pragma omp simd reduction(+ : s00, s01, s02, s03, s10, s11, s12, s13)
            for (int64_t k = 0; k < d; k++) {
                s00 += a0[k] * b0[k], s01 += a0[k] * b1[k], s02 += a0[k] * b2[k], s03 += a0[k] * b3[k];
                s10 += a1[k] * b0[k], s11 += a1[k] * b1[k], s12 += a1[k] * b2[k], s13 += a1[k] * b3[k];
            }
            out[i][j] = scale * s00, out[i][j1] = scale * s01, out[i][j2] = scale * s02, out[i][j3] = scale * s03;
            out[i1][j] = scale * s10, out[i1][j1] = scale * s11, out[i1][j2] = scale * s12, out[i1][j3] = scale * s13;
            /* at the edge, clamped repeats overwrite column j with the same value */
        }
    }
}

/* A running log-sum-exp, ln(sum) + top; top: the maximum so far. */
struct lse {
    float top;
    double sum;
};

/* Adds exp(m L_j) of n columns, except column `self` (none if outside). */
MCS_CLONES static void lse_add(struct lse *r, const float *restrict row, int64_t n, int64_t self, float m)
{
    float v[COLS], top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) v[j] = m * row[j];
    if (self >= 0 && self < n) v[self] = -INFINITY;
#pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < n; j++) top = v[j] > top ? v[j] : top;
    if (top == -INFINITY) return;
    if (top > r->top) {
        r->sum *= exp((double)r->top - top);
        r->top = top;
    }
    const float t = r->top;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) sum += mcs_expf(v[j] - t);
    r->sum += (double)sum;
}

static double log_add(double x, double y)
{
    const double top = x > y ? x : y;
    return top + log1p(exp((x > y ? y : x) - top));
}

/* ln( a e^L_ii + (B-1) S1/S0 ) */
static double log_denominator(const struct problem *p, double diag, double log1, double log0)
{
    const double negative = p->log_negatives + log1 - log0;
    return p->a > 0 ? log_add(log(p->a) + diag, negative) : negative;
}

/* Rows [i0, i0+n) of one direction: their statistics and their contribution to the loss. */
static void rows_fwd(const struct problem *p, int dir, int64_t i0, int64_t n, float *stats, double *loss)
{
    struct lse r1[ROWS], r0[ROWS];
    double diag[ROWS] = {0}, off[ROWS] = {0};
    float tile[ROWS][COLS];
    const double count = (double)p->batch;
    for (int64_t i = 0; i < n; i++) r1[i] = r0[i] = (struct lse){-INFINITY, 0};
    for (int64_t j0 = 0; j0 < p->batch; j0 += COLS) {
        const int64_t m = op_min(COLS, p->batch - j0);
        similarities(p->x[dir] + i0 * p->width, n, p->x[!dir] + j0 * p->width, m, p->width, p->scale, tile);
        for (int64_t i = 0; i < n; i++) {
            const int64_t self = i0 + i - j0;
            if (self >= 0 && self < m) diag[i] = tile[i][self];
            lse_add(&r1[i], tile[i], m, self, p->released ? 1 : 1 + p->b[dir]);
            if (!p->released) lse_add(&r0[i], tile[i], m, self, p->b[dir]);
            for (int64_t j = 0; p->released && j < m; j++) off[i] += j == self ? 0 : tile[i][j];
        }
    }
    for (int64_t i = 0; i < n; i++) {
        double log1 = r1[i].top + log(r1[i].sum), log0 = 0;
        if (p->released) {
            log1 = log_add(log1, 0);
            loss[i] = (((1 + p->b[dir]) * off[i] - diag[i]) / count + p->log_negatives - log1) / count;
        } else {
            log0 = r0[i].top + log(r0[i].sum);
            loss[i] = (log_denominator(p, diag[i], log1, log0) - diag[i]) / count;
        }
        stats[2 * i] = (float)log1;
        stats[2 * i + 1] = (float)log0;
    }
}

/* Workspace. Forward: one double per row and direction. Backward: one double per row, then c1, c0 and diag (floats) by
 * direction and row. */
static enum mcs_status prepare(struct step *s)
{
    const struct contrastive_attr *a = s->attr;
    const size_t batch = (size_t)s->in[0]->dim[0];
    MCS_REQUIRE(!a->released || a->a == 0, MCS_E_USAGE,
                "%s: the released form of the loss is known for alpha 0 alone, not %g", s->scope, (double)a->a);
    s->workspace_bytes = s->backward ? batch * (6 * sizeof(float) + sizeof(double)) : 2 * batch * sizeof(double);
    return MCS_OK;
}

static enum mcs_status fwd(const struct step *s)
{
    const struct problem p = problem_of(s);
    const int64_t blocks = op_div_up(p.batch, ROWS);
    float *stats = mcs_f32(s->out[1]);
    double *part = s->workspace, loss = 0;
#pragma omp parallel for schedule(static) if (p.batch * p.batch * p.width >= MCS_PARALLEL_MIN)
    for (int64_t t = 0; t < 2 * blocks; t++) {
        const int64_t dir = t / blocks, i = t % blocks * ROWS, at = dir * p.batch + i;
        rows_fwd(&p, (int)dir, i, op_min(ROWS, p.batch - i), stats + 2 * at, part + at);
    }
    for (int64_t i = 0; i < 2 * p.batch; i++) loss += part[i];
    mcs_f32(s->out[0])[0] = (float)loss;
    return MCS_OK;
}

/* The derivative of one direction's loss by L_ij, j != i, is
 *     flat + c1[i] exp(m1 L_ij - stats[i][0]) + c0[i] exp(m0 L_ij - stats[i][1]),
 * and by L_ii it is diag[i]. */
struct side {
    float m1, m0, flat, *c1, *c0, *diag;
    const float *stats;
};

static void side_fill(const struct problem *p, int dir, struct side *e)
{
    const double count = (double)p->batch, b = p->b[dir];
    e->m1 = p->released ? 1 : (float)(1 + b);
    e->m0 = (float)b;
    e->flat = p->released ? (float)((1 + b) / (count * count)) : 0;
    for (int64_t i = 0; i < p->batch; i++) {
        double positive = 0, negative = 1;
        if (!p->released && p->a > 0) {
            float own[ROWS][COLS];
            similarities(p->x[0] + i * p->width, 1, p->x[1] + i * p->width, 1, p->width, p->scale, own);
            const double l1 = e->stats[2 * i], l0 = e->stats[2 * i + 1], all = log_denominator(p, own[0][0], l1, l0);
            positive = exp(log(p->a) + own[0][0] - all);
            negative = exp(p->log_negatives + l1 - l0 - all);
        }
        e->c1[i] = p->released ? (float)(-1 / count) : (float)(negative * (1 + b) / count);
        e->c0[i] = p->released ? 0 : (float)(-negative * b / count);
        e->diag[i] = p->released ? (float)(-1 / (count * count)) : (float)((positive - 1) / count);
    }
}

/* g (n) = derivative of the loss by L of row i and columns j0 ...: from the row's direction, plus the other direction,
 * where j is the row. */
MCS_CLONES static void derivative(const float *restrict row, int64_t i, int64_t j0, int64_t n, const struct side *own,
                                  const struct side *other, float *restrict g)
{
    const float c1 = own->c1[i], c0 = own->c0[i], l1 = own->stats[2 * i], l0 = own->stats[2 * i + 1],
                flat = own->flat + other->flat;
    const float m1 = own->m1, m0 = own->m0, k1 = other->m1, k0 = other->m0;
    const float *d1 = other->c1 + j0, *d0 = other->c0 + j0, *st = other->stats + 2 * j0;
#pragma omp simd
    for (int64_t j = 0; j < n; j++)
        g[j] = flat + (c1 * mcs_expf(m1 * row[j] - l1) + c0 * mcs_expf(m0 * row[j] - l0)) +
               (d1[j] * mcs_expf(k1 * row[j] - st[2 * j]) + d0[j] * mcs_expf(k0 * row[j] - st[2 * j + 1]));
    if (i >= j0 && i < j0 + n) g[i - j0] = own->diag[i] + other->diag[i];
}

/* y += f sum over n of g_j x_j, rows of d floats */
MCS_CLONES static void add_rows(const float *restrict g, float f, const float *restrict x, int64_t n, int64_t d,
                                float *restrict y)
{
    int64_t j = 0;
    for (; j + 4 <= n; j += 4) {
        const float g0 = f * g[j], g1 = f * g[j + 1], g2 = f * g[j + 2], g3 = f * g[j + 3], *r = x + j * d;
#pragma omp simd
        for (int64_t k = 0; k < d; k++) y[k] += (g0 * r[k] + g1 * r[d + k]) + (g2 * r[2 * d + k] + g3 * r[3 * d + k]);
    }
    for (; j < n; j++) {
        const float g0 = f * g[j], *r = x + j * d;
#pragma omp simd
        for (int64_t k = 0; k < d; k++) y[k] += g0 * r[k];
    }
}

/* Rows [i0, i0+n) of image (dir 0) or text (1). dx NULL: not wanted. by_scale: sum_j g_ij L_ij per row, or NULL. */
static void rows_bwd(const struct problem *p, const struct side *sides, int dir, int64_t i0, int64_t n, float dloss,
                     float beta, float *dx, double *by_scale)
{
    float tile[ROWS][COLS], g[COLS];
    for (int64_t k = 0; dx && beta == 0 && k < n * p->width; k++) dx[k] = 0;
    for (int64_t i = 0; by_scale && i < n; i++) by_scale[i] = 0;
    for (int64_t j0 = 0; j0 < p->batch; j0 += COLS) {
        const int64_t m = op_min(COLS, p->batch - j0);
        const float *cols = p->x[!dir] + j0 * p->width;
        similarities(p->x[dir] + i0 * p->width, n, cols, m, p->width, p->scale, tile);
        for (int64_t i = 0; i < n; i++) {
            derivative(tile[i], i0 + i, j0, m, &sides[dir], &sides[!dir], g);
            if (dx) add_rows(g, dloss * p->scale, cols, m, p->width, dx + i * p->width);
            for (int64_t j = 0; by_scale && j < m; j++) by_scale[i] += (double)g[j] * tile[i][j];
        }
    }
}

static enum mcs_status bwd(const struct step *s)
{
    const struct problem p = problem_of(s);
    const int64_t blocks = op_div_up(p.batch, ROWS);
    const float dloss = mcs_f32(s->dout[0])[0];
    double *by_scale = s->workspace;
    float *scratch = (float *)(by_scale + p.batch);
    struct side sides[2];
    for (int dir = 0; dir < 2; dir++, scratch += 3 * p.batch) {
        sides[dir] = (struct side){.c1 = scratch, .c0 = scratch + p.batch, .diag = scratch + 2 * p.batch};
        sides[dir].stats = mcs_f32(s->out[1]) + dir * 2 * p.batch;
        side_fill(&p, dir, &sides[dir]);
    }
    for (int dir = 0; dir < 2; dir++) {
        float *dx = mcs_f32(s->din[dir]), beta = s->beta[dir];
        double *sum = dir == 0 && s->din[2] ? by_scale : NULL;
        if (!dx && !sum) continue;
#pragma omp parallel for schedule(static) if (p.batch * p.batch * p.width >= MCS_PARALLEL_MIN)
        for (int64_t b = 0; b < blocks; b++) {
            const int64_t i = b * ROWS;
            rows_bwd(&p, sides, dir, i, op_min(ROWS, p.batch - i), dloss, beta, dx ? dx + i * p.width : NULL,
                     sum ? sum + i : NULL);
        }
    }
    if (s->din[2]) {
        double sum = 0;
        for (int64_t i = 0; i < p.batch; i++) sum += by_scale[i];
        float *d = mcs_f32(s->din[2]);
        d[0] = op_blend(s->beta[2], d[0], (float)(dloss * sum)); /* L = exp(log_scale) S, so dL / dlog_scale = L */
    }
    return MCS_OK;
}

const struct op_impl mcs_cpu_contrastive = {prepare, fwd, bwd, NULL};
