#include "infer/metrics/metrics.h"

#include <math.h>
#include <stdlib.h>

struct mask_counts mcs_metrics_count(const uint8_t *pred, const uint8_t *ref, int64_t n)
{
    int64_t tp = 0, n_pred = 0, n_ref = 0;
    for (int64_t i = 0; i < n; i++) {
        int p = pred[i] != 0, r = ref[i] != 0;
        tp += p & r;
        n_pred += p;
        n_ref += r;
    }
    return (struct mask_counts){tp, n_pred - tp, n_ref - tp, n - n_pred - n_ref + tp, n_pred, n_ref};
}

double mcs_metrics_dice(const struct mask_counts *c)
{
    int64_t sum = 2 * c->tp + c->fp + c->fn;
    return sum ? 2.0 * (double)c->tp / (double)sum : NAN;
}

double mcs_metrics_iou(const struct mask_counts *c)
{
    int64_t sum = c->tp + c->fp + c->fn;
    return sum ? (double)c->tp / (double)sum : NAN;
}

/* ---- scores ---- */

void mcs_surface_free(struct surface_pair *s)
{
    free(s->pred.elements);
    free(s->ref.elements);
    *s = (struct surface_pair){0};
}

static double within(const struct surface *s, double tolerance)
{
    double sum = 0.0;
    for (int64_t i = 0; i < s->n && s->elements[i].distance <= tolerance; i++) sum += s->elements[i].size;
    return sum;
}

double mcs_surface_nsd(const struct surface_pair *s, double tolerance)
{
    if (!s->pred.n && !s->ref.n) return NAN;
    return (within(&s->pred, tolerance) + within(&s->ref, tolerance)) / (s->pred.total + s->ref.total);
}

static double percentile(const struct surface *s, double percent)
{
    if (!s->n) return INFINITY;
    double running = 0.0;
    for (int64_t i = 0; i < s->n; i++) {
        running += s->elements[i].size;
        if (running / s->total >= percent / 100.0) return s->elements[i].distance;
    }
    return s->elements[s->n - 1].distance;
}

double mcs_surface_hausdorff(const struct surface_pair *s, double percent)
{
    if (!s->pred.n && !s->ref.n) return NAN;
    return fmax(percentile(&s->pred, percent), percentile(&s->ref, percent));
}

static double weighted_sum(const struct surface *s)
{
    double sum = 0.0;
    for (int64_t i = 0; i < s->n; i++) sum += s->elements[i].distance * s->elements[i].size;
    return sum;
}

double mcs_surface_assd(const struct surface_pair *s)
{
    if (!s->pred.n && !s->ref.n) return NAN;
    return (weighted_sum(&s->pred) + weighted_sum(&s->ref)) / (s->pred.total + s->ref.total);
}

void mcs_surface_average(const struct surface_pair *s, double *ref_to_pred, double *pred_to_ref)
{
    *ref_to_pred = s->ref.n ? weighted_sum(&s->ref) / s->ref.total : NAN;
    *pred_to_ref = s->pred.n ? weighted_sum(&s->pred) / s->pred.total : NAN;
}

/* ---- all of a region ---- */

static double ratio(double a, double b)
{
    return b > 0 ? a / b : NAN;
}

void mcs_metrics_overlap(const struct mask_counts *c, double voxel_volume, struct mask_metrics *m)
{
    *m = (struct mask_metrics){.counts = *c,
                               .dice = mcs_metrics_dice(c),
                               .iou = mcs_metrics_iou(c),
                               .sensitivity = ratio((double)c->tp, (double)c->n_ref),
                               .precision = ratio((double)c->tp, (double)c->n_pred),
                               .nsd = NAN,
                               .nsd_slice = NAN,
                               .hd95 = NAN,
                               .assd = NAN,
                               .volume_pred = (double)c->n_pred * voxel_volume,
                               .volume_ref = (double)c->n_ref * voxel_volume,
                               .volume_difference = ratio((double)(c->n_pred - c->n_ref), (double)c->n_ref),
                               .lesion_sensitivity = NAN,
                               .lesion_precision = NAN,
                               .lesion_fp = NAN,
                               .lesion_dice = NAN,
                               .lesions = {.dice = NAN}};
}

static void set_surface(const struct surface_pair *s, double tolerance, struct mask_metrics *m)
{
    m->nsd = mcs_surface_nsd(s, tolerance);
    m->hd95 = mcs_surface_hausdorff(s, 95.0);
    m->assd = mcs_surface_assd(s);
}

static enum mcs_status measure_plane(const uint8_t *pred, const uint8_t *ref, int width, int height,
                                     const double spacing[2], double tolerance, struct mask_metrics *m)
{
    struct surface_pair s;
    MCS_TRY(mcs_surface_measure(pred, ref, width, height, spacing, MCS_SURFACE_2D, &s));
    set_surface(&s, tolerance, m);
    mcs_surface_free(&s);
    return mcs_surface_slice_nsd(pred, ref, width, height, tolerance, &m->nsd_slice);
}

enum mcs_status mcs_metrics_measure(const uint8_t *pred, const uint8_t *ref, int width, int height,
                                    const double spacing[2], double tolerance, struct mask_metrics *m)
{
    const struct mask_counts counts = mcs_metrics_count(pred, ref, (int64_t)width * height);
    mcs_metrics_overlap(&counts, spacing[0] * spacing[1], m);
    return measure_plane(pred, ref, width, height, spacing, tolerance, m);
}

enum mcs_status mcs_metrics_measure_all(const uint8_t *pred, const uint8_t *ref, const int n[3],
                                        const double spacing[3], double tolerance, double min_iou,
                                        const struct mask_counts *counts, struct mask_metrics *m)
{
    mcs_metrics_overlap(counts, spacing[0] * spacing[1] * (n[2] > 1 ? spacing[2] : 1), m);
    if (n[2] == 1)
        MCS_TRY(measure_plane(pred, ref, n[0], n[1], spacing, tolerance, m));
    else {
        struct surface_pair s;
        MCS_TRY(mcs_surface_measure_volume(pred, ref, n, spacing, &s));
        set_surface(&s, tolerance, m);
        mcs_surface_free(&s);
    }
    MCS_TRY(mcs_lesions_match(pred, ref, n, min_iou, &m->lesions));
    m->lesion_sensitivity = ratio((double)m->lesions.n_matched, (double)m->lesions.n_ref);
    m->lesion_precision = ratio((double)m->lesions.n_matched, (double)m->lesions.n_pred);
    m->lesion_fp = (double)(m->lesions.n_pred - m->lesions.n_matched);
    m->lesion_dice = m->lesions.dice;
    return MCS_OK;
}
