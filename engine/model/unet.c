#include "engine/model/unet.h"

#include "engine/model/layers.h"

#include <math.h>

struct unet_config mcs_unet_2d(int in_channels, int classes, int n_stages, int base_features, int max_features)
{
    struct unet_config c = {.nsp = 2, .in_channels = in_channels, .classes = classes, .n_stages = n_stages};
    for (int s = 0; s < n_stages; s++) {
        const int f = base_features << s;
        c.features[s] = f < max_features ? f : max_features;
        c.n_conv[s] = 2;
        if (s + 1 < n_stages) c.n_conv_decoder[s] = 2;
        for (int d = 0; d < 2; d++) {
            c.kernel[s][d] = 3;
            c.stride[s][d] = s ? 2 : 1;
        }
    }
    return c;
}

static int64_t volume(const int64_t *k, int nsp)
{
    return k[0] * k[1] * (nsp == 3 ? k[2] : 1);
}

/* InitWeights_He(0.01): normal with std sqrt(2 / ((1 + 0.01^2) fan_in)). */
static struct init he(int64_t fan_in)
{
    return (struct init){INIT_NORMAL, sqrtf(2.0f / (1.0001f * (float)fan_in))};
}

/* ConvDropoutNormReLU x n: convs.{i}.conv, convs.{i}.norm. Only the first conv strides. */
static struct tensor *conv_blocks(struct graph *g, struct tensor *x, const struct unet_config *c, int n, int features,
                                  const int64_t *kernel, const int64_t *stride)
{
    const int64_t one[] = {1, 1, 1};
    for (int i = 0; i < n; i++) {
        mcs_scope_begin(g, "convs.%d", i);
        x = mcs_conv(g, x, features, kernel, i ? one : stride, 1, BIAS, he(mcs_last(x) * volume(kernel, c->nsp)),
                     "conv");
        x = mcs_instance_norm(g, x, 1e-5f, 0.01f, "norm");
        mcs_scope_end(g);
    }
    return x;
}

int mcs_unet(struct graph *g, struct tensor *x, const struct unet_config *c, int deep,
             struct tensor *out[UNET_MAX_STAGES])
{
    const int64_t one[] = {1, 1, 1};
    const int n_up = c->n_stages - 1;
    struct tensor *skip[UNET_MAX_STAGES];
    for (int s = 0; s < c->n_stages; s++) {
        mcs_scope_begin(g, "encoder.stages.%d.0", s);
        x = skip[s] = conv_blocks(g, x, c, c->n_conv[s], c->features[s], c->kernel[s], c->stride[s]);
        mcs_scope_end(g);
    }
    for (int s = 0; s < n_up; s++) { /* s = 0 is the lowest resolution */
        const int level = n_up - 1 - s;
        const int64_t *up = c->stride[level + 1];
        mcs_scope_begin(g, "decoder.transpconvs");
        const char *name = mcs_arena_printf(&g->arena, "%d", s);
        /* torch computes fan_in of a transposed convolution as output channels times kernel size; the initial weights
         * follow that */
        x = mcs_conv_transpose(g, x, c->features[level], up, he(c->features[level] * volume(up, c->nsp)), name);
        mcs_scope_end(g);
        x = mcs_concat(g, x->nd - 1, x, skip[level], NULL, NULL);
        mcs_scope_begin(g, "decoder.stages.%d", s);
        x = conv_blocks(g, x, c, c->n_conv_decoder[s], c->features[level], c->kernel[level], one);
        mcs_scope_end(g);
        mcs_scope_begin(g, "decoder.seg_layers");
        if (deep || level == 0)
            out[level] = mcs_conv(g, x, c->classes, one, one, 0, BIAS, he(c->features[level]), name);
        else { /* declared all the same, so that a file's list of tensors does not depend on `deep` */
            mcs_scope_begin(g, "%s", name);
            int64_t dim[MCS_MAX_DIM] = {c->classes, c->features[level], 1, 1, 1};
            mcs_param(g, "weight", c->nsp + 2, dim, he(c->features[level]));
            mcs_param(g, "bias", 1, dim, (struct init){INIT_ZERO, 0});
            mcs_scope_end(g);
        }
        mcs_scope_end(g);
    }
    return deep ? n_up : 1;
}

void mcs_unet_deep_weights(int n, float *weight)
{
    float sum = 0;
    for (int i = 0; i < n; i++) {
        weight[i] = n > 1 && i == n - 1 ? 0 : ldexpf(1, -i);
        sum += weight[i];
    }
    for (int i = 0; i < n; i++) weight[i] /= sum;
}
