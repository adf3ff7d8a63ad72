#include "engine/optim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/backend.h"

/* Adjacent tensors with the same decay form one range. A tensor's padding (to 16 floats) may be inside: it is zero and
 * its gradient is zero. */
struct ranges {
    int n;
    struct optim_range r[];
};

double mcs_optim_decimal(float x)
{
    return round((double)x * 1e7) / 1e7;
}

static int starts_with_one_of(const char *name, const char *const *prefixes)
{
    for (; prefixes && *prefixes; prefixes++)
        if (strncmp(name, *prefixes, strlen(*prefixes)) == 0) return 1;
    return 0;
}

/* open_clip's rule (open_clip_train.main): no decay for vectors, norms, biases and the temperature */
static int decays(const struct optim_options *o, const struct tensor *t)
{
    if (o->decay_all) return 1;
    return t->nd >= 2 && !strstr(t->name, "bn") && !strstr(t->name, "ln") && !strstr(t->name, "bias") &&
           !strstr(t->name, "logit_scale");
}

static void make_ranges(struct optim *o)
{
    struct ranges *all = o->state;
    int64_t end = -1; /* of the last range, with padding */
    for (int i = 0; i < o->params->n; i++) {
        const struct tensor *t = o->params->t[i];
        const int64_t first = t->offset / (int64_t)sizeof(float), n = mcs_count(t);
        const float decay = decays(&o->o, t) ? o->o.weight_decay : 0;
        struct optim_range *last = all->n ? &all->r[all->n - 1] : NULL;
        if (!o->trained[i]) continue;
        if (last && first == end && last->decay == decay)
            last->n = first + n - last->first;
        else
            all->r[all->n++] = (struct optim_range){first, n, decay};
        end = first + (n + 15) / 16 * 16;
    }
}

static enum mcs_status check_options(const struct optim_options *o)
{
    if (o->kind == OPTIM_ADAMW)
        MCS_REQUIRE(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1 && o->eps > 0, MCS_E_USAGE,
                    "AdamW wants betas in [0,1) and a positive epsilon, got %g, %g and %g", (double)o->beta1,
                    (double)o->beta2, (double)o->eps);
    else
        MCS_REQUIRE(o->kind == OPTIM_SGD && o->momentum >= 0 && o->momentum < 1, MCS_E_USAGE,
                    "SGD wants a momentum in [0,1), got %g", (double)o->momentum);
    MCS_REQUIRE(o->weight_decay >= 0 && o->clip_norm >= 0, MCS_E_USAGE,
                "weight decay and clipping norm cannot be negative");
    return MCS_OK;
}

static enum mcs_status zeros(struct params *p, float **out)
{
    struct device *d = p->device;
    const int64_t bytes = p->n_values * (int64_t)sizeof(float);
    void *memory;
    MCS_TRY(d->backend->alloc(d, bytes, &memory));
    *out = memory;
    return d->backend->zero(d, memory, bytes);
}

enum mcs_status mcs_optim_new(struct params *p, const struct optim_options *options, const char *const *frozen,
                              struct optim **out)
{
    enum mcs_status st = MCS_OK;
    int n_trained = 0;
    *out = NULL;
    MCS_TRY(check_options(options));
    MCS_REQUIRE(p->data && p->grad, MCS_E_FAIL, "an optimizer wants parameters that have memory and gradients");
    struct optim *o = calloc(1, sizeof *o);
    MCS_REQUIRE(o, MCS_E_NOMEM, "no memory for an optimizer");
    o->o = *options;
    o->params = p;
    o->trained = calloc((size_t)p->n + 1, sizeof *o->trained);
    o->state = calloc(1, sizeof(struct ranges) + (size_t)p->n * sizeof(struct optim_range));
    MCS_REQUIRE_GOTO(o->trained && o->state, MCS_E_NOMEM, st, failed, "no memory for an optimizer of %d tensors", p->n);
    for (int i = 0; i < p->n; i++)
        n_trained += o->trained[i] = !p->is_buffer[i] && !starts_with_one_of(p->t[i]->name, frozen);
    MCS_REQUIRE_GOTO(n_trained > 0, MCS_E_USAGE, st, failed, "nothing to train: all %d parameters are frozen", p->n);
    make_ranges(o);
    MCS_TRY_GOTO(zeros(p, &o->m), st, failed);
    if (options->kind == OPTIM_ADAMW) MCS_TRY_GOTO(zeros(p, &o->v), st, failed);
    *out = o;
    return MCS_OK;
failed:
    mcs_optim_free(o);
    return st;
}

void mcs_optim_free(struct optim *o)
{
    if (!o) return;
    if (o->m) o->params->device->backend->free(o->params->device, o->m);
    if (o->v) o->params->device->backend->free(o->params->device, o->v);
    free(o->trained);
    free(o->state);
    free(o);
}

enum mcs_status mcs_optim_begin(struct optim *o, double lr)
{
    struct params *p = o->params;
    const struct ranges *all = o->state;
    MCS_REQUIRE(isfinite(lr), MCS_E_USAGE, "the learning rate is not finite");
    const struct optim_update u = {
        .o = &o->o,
        .ranges = all->r,
        .n_ranges = all->n,
        .w = p->data,
        .g = p->grad,
        .m = o->m,
        .v = o->v,
        .lr = lr,
        .step = o->step + 1,
    };
    MCS_TRY(p->device->backend->optim_update(p->device, &u));
    o->step++;
    return MCS_OK;
}

/* The parameter nearest to the losses whose gradient is not finite (parameters are in forward order); NULL: none, so
 * the sum of squares overflowed. */
static const char *find_nonfinite_gradient(const struct optim *o)
{
    const struct params *p = o->params;
    const int64_t bytes = p->n_values * (int64_t)sizeof(float);
    const char *name = NULL;
    float *host = malloc((size_t)bytes + 1);
    if (host && p->device->backend->download(p->device, host, p->grad, bytes) == MCS_OK)
        for (int i = p->n - 1; i >= 0 && !name; i--) {
            const float *g = host + p->t[i]->offset / (int64_t)sizeof(float);
            for (int64_t k = 0, n = mcs_count(p->t[i]); o->trained[i] && k < n; k++)
                if (!isfinite(g[k])) name = p->t[i]->name;
        }
    free(host);
    return name;
}

enum mcs_status mcs_optim_end(struct optim *o, double *norm)
{
    double size;
    MCS_TRY(o->params->device->backend->optim_norm(o->params->device, &size));
    if (norm) *norm = size;
    if (isfinite(size)) return MCS_OK;
    o->step--; /* the update did not take place */
    const char *name = find_nonfinite_gradient(o);
    return MCS_FAIL(MCS_E_DATA, "update %lld: the gradient's norm is not finite%s%s; lower the learning rate",
                    (long long)o->step + 1, name ? ", first that of " : "", name ? name : "");
}

enum mcs_status mcs_optim_step(struct optim *o, double lr, double *norm)
{
    MCS_TRY(mcs_optim_begin(o, lr));
    return mcs_optim_end(o, norm);
}
