#include "infer/nnunet/nnunet_preprocess.h"

#include "data/io/bounds.h"
#include "engine/base/memory.h"
#include "infer/nnunet/nnunet_resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double EPSILON = 1e-8; /* of every division */

void mcs_nnunet_preprocessed_free(struct nnunet_preprocessed *p)
{
    free(p->data);
    free(p->labels);
    *p = (struct nnunet_preprocessed){0};
}

static int64_t voxels(const int64_t shape[3])
{
    return shape[0] * shape[1] * shape[2];
}

/* *values (channels, z, y, x), owned, in another order of the axes. */
static enum mcs_status transpose(float **values, int channels, const int64_t shape[3], const int order[3])
{
    const int64_t n = voxels(shape), stride[3] = {shape[1] * shape[2], shape[2], 1};
    if (order[0] == 0 && order[1] == 1) return MCS_OK;
    float *dst = malloc((size_t)n * (size_t)channels * sizeof *dst), *at = dst;
    MCS_REQUIRE(dst, MCS_E_NOMEM, "no memory to transpose %lld voxels", (long long)n);
    for (int c = 0; c < channels; c++)
        for (int64_t i = 0; i < shape[order[0]]; i++)
            for (int64_t j = 0; j < shape[order[1]]; j++)
                for (int64_t k = 0; k < shape[order[2]]; k++)
                    *at++ = (*values)[c * n + i * stride[order[0]] + j * stride[order[1]] + k * stride[order[2]]];
    free(*values);
    *values = dst;
    return MCS_OK;
}

/* ---- normalisation ---- */

/* Over the voxels inside; NULL: all. */
static void z_score(float *v, const uint8_t *inside, int64_t n)
{
    double mean = 0, squares = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (!inside || inside[i]) mean += v[i], count++;
    mean /= (double)count;
    for (int64_t i = 0; i < n; i++)
        if (!inside || inside[i]) squares += (v[i] - mean) * (v[i] - mean);
    const float centre = (float)mean, deviation = fmaxf((float)sqrt(squares / (double)count), (float)EPSILON);
    for (int64_t i = 0; i < n; i++)
        if (!inside || inside[i]) v[i] = (v[i] - centre) / deviation;
}

static void range(const float *v, int64_t n, float *least, float *most)
{
    *least = INFINITY;
    *most = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        *least = fminf(*least, v[i]);
        *most = fmaxf(*most, v[i]);
    }
}

enum mcs_status mcs_nnunet_normalise(const char *name, const struct nnunet_channel *ch, float *v, const uint8_t *inside,
                                     int64_t n)
{
    float least, most;
    switch (ch->norm) {
    case NNUNET_NORM_CT: {
        const float low = (float)ch->percentile_00_5, high = (float)ch->percentile_99_5, mean = (float)ch->mean,
                    deviation = (float)fmax(ch->std, EPSILON);
        for (int64_t i = 0; i < n; i++) v[i] = (fminf(fmaxf(v[i], low), high) - mean) / deviation;
        break;
    }
    case NNUNET_NORM_ZSCORE: z_score(v, ch->use_mask ? inside : NULL, n); break;
    case NNUNET_NORM_RESCALE:
        range(v, n, &least, &most);
        most = fmaxf(most - least, (float)EPSILON);
        for (int64_t i = 0; i < n; i++) v[i] = (v[i] - least) / most;
        break;
    case NNUNET_NORM_RGB:
        range(v, n, &least, &most);
        MCS_REQUIRE(least >= 0 && most <= 255, MCS_E_DATA,
                    "%s: values from %g to %g; rgb_to_0_1 is for 8-bit images, of 0 to 255", name, (double)least,
                    (double)most);
        for (int64_t i = 0; i < n; i++) v[i] /= 255;
        break;
    case NNUNET_NORM_NONE:
    case NNUNET_N_NORMS: break;
    }
    return MCS_OK;
}

/* ---- a case ---- */

/* Labels of the crop: -1 outside of the mask, unless something is annotated there. Without a label: a new one. */
static enum mcs_status mark_outside(struct nnunet_image *images, struct nnunet_image *label, const int64_t shape[3],
                                    uint8_t *inside, float **labels)
{
    const int64_t n = voxels(shape);
    MCS_TRY(mcs_nnunet_inside(images->values, images->channels, shape, inside));
    if (label) {
        *labels = label->values;
        label->values = NULL;
    } else {
        *labels = calloc((size_t)n, sizeof **labels);
        MCS_REQUIRE(*labels, MCS_E_NOMEM, "no memory for %lld labels", (long long)n);
    }
    for (int64_t i = 0; i < n; i++)
        if (!inside[i] && (*labels)[i] == 0) (*labels)[i] = -1;
    return MCS_OK;
}

static enum mcs_status resample(const char *name, const struct nnunet_configuration *c, const double current[3],
                                struct nnunet_image *images, struct nnunet_preprocessed *p)
{
    const int64_t *before = p->shape_after_crop, n = voxels(before);
    /* In two dimensions the slices stay where they are. */
    const double target[3] = {c->n_axes == 2 ? current[0] : c->spacing[0], c->spacing[c->n_axes - 2],
                              c->spacing[c->n_axes - 1]};
    mcs_nnunet_new_shape(before, current, target, p->shape);
    const int64_t n_new = mcs_size_mul(mcs_size_mul(p->shape[0], p->shape[1]), p->shape[2]);
    MCS_REQUIRE(n_new != 0, MCS_E_DATA, "%s: an axis has no voxel after resampling to %g x %g x %g mm", name, target[0],
                target[1], target[2]);
    /* the results, and two copies in float64 of one channel while it is resampled */
    MCS_TRY(mcs_memory_check(mcs_size_mul(n_new, 4 * (p->channels + 1) + 16), "%s: %lld x %lld x %lld voxels", name,
                             (long long)p->shape[0], (long long)p->shape[1], (long long)p->shape[2]));
    float *labels = malloc((size_t)n_new * sizeof *labels);
    p->data = malloc((size_t)n_new * (size_t)p->channels * sizeof *p->data);
    enum mcs_status st = MCS_OK;
    MCS_REQUIRE_GOTO(labels && p->data, MCS_E_NOMEM, st, done, "%s: no memory for %lld voxels", name, (long long)n_new);
    for (int k = 0; k < p->channels; k++)
        MCS_TRY_GOTO(mcs_nnunet_resample(images->values + k * n, before, c->data.order,
                                         mcs_nnunet_separate_axis(current, target, c->data.force_separate),
                                         p->data + k * n_new, p->shape),
                     st, done);
    MCS_TRY_GOTO(mcs_nnunet_resample_labels(p->labels, before,
                                            mcs_nnunet_separate_axis(current, target, c->labels.force_separate), labels,
                                            p->shape),
                 st, done);
    free(p->labels);
    p->labels = labels;
    labels = NULL;
done:
    free(labels);
    return st;
}

static enum mcs_status preprocess(const char *name, const struct nnunet_configuration *c, struct nnunet_image *images,
                                  struct nnunet_image *label, uint8_t **inside, struct nnunet_preprocessed *p)
{
    double current[3];
    MCS_REQUIRE(images->channels == c->n_channels, MCS_E_DATA, "%s: %d channels, but the plans have %d", name,
                images->channels, c->n_channels);
    p->channels = images->channels;
    MCS_TRY(transpose(&images->values, images->channels, images->shape, c->transpose));
    if (label) MCS_TRY(transpose(&label->values, 1, label->shape, c->transpose));
    for (int d = 0; d < 3; d++) {
        p->shape_before_crop[d] = images->shape[c->transpose[d]];
        current[d] = images->spacing[c->transpose[d]];
    }
    MCS_REQUIRE(mcs_nnunet_box(images->values, images->channels, p->shape_before_crop, &p->box), MCS_E_DATA,
                "%s: every voxel is 0", name);
    for (int d = 0; d < 3; d++) p->shape_after_crop[d] = p->box.hi[d] - p->box.lo[d];
    mcs_nnunet_crop(images->values, images->channels, p->shape_before_crop, &p->box, images->values);
    if (label) mcs_nnunet_crop(label->values, 1, p->shape_before_crop, &p->box, label->values);
    const int64_t n = voxels(p->shape_after_crop);
    *inside = malloc((size_t)n);
    MCS_REQUIRE(*inside, MCS_E_NOMEM, "%s: no memory for a mask of %lld voxels", name, (long long)n);
    MCS_TRY(mark_outside(images, label, p->shape_after_crop, *inside, &p->labels));
    /* z-score's mask is where labels are not -1: annotated voxels outside count as inside. */
    for (int64_t i = 0; i < n; i++) (*inside)[i] = p->labels[i] >= 0;
    for (int k = 0; k < p->channels; k++)
        MCS_TRY(mcs_nnunet_normalise(name, &c->channels[k], images->values + k * n, *inside, n));
    return resample(name, c, current, images, p);
}

enum mcs_status mcs_nnunet_preprocess(const char *name, const struct nnunet_configuration *c,
                                      struct nnunet_image *images, struct nnunet_image *label,
                                      struct nnunet_preprocessed *p)
{
    uint8_t *inside = NULL;
    *p = (struct nnunet_preprocessed){0};
    const enum mcs_status st = preprocess(name, c, images, label, &inside, p);
    free(inside);
    if (st != MCS_OK) mcs_nnunet_preprocessed_free(p);
    return st;
}
