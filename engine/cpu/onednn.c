#include "engine/cpu/onednn.h"

#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum mcs_status mcs_sgemm(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                          int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    if (m == 0 || n == 0) return MCS_OK;
    const dnnl_status_t st = dnnl_sgemm(trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    MCS_REQUIRE(st == dnnl_success, MCS_E_BACKEND, "oneDNN sgemm %c%c %lldx%lldx%lld: status %d", trans_a, trans_b,
                (long long)m, (long long)n, (long long)k, (int)st);
    return MCS_OK;
}

/* One engine and one stream for the life of the process: the CPU engine holds no resources worth closing. Threads that
 * are ranks share them: on the CPU a stream runs a primitive in the caller's thread and keeps no state. */
static dnnl_engine_t engine;
static dnnl_stream_t stream;
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static enum mcs_status check(dnnl_status_t st, const char *what)
{
    MCS_REQUIRE(st == dnnl_success, MCS_E_BACKEND, "oneDNN: %s: status %d", what, (int)st);
    return MCS_OK;
}

static enum mcs_status open_engine(void)
{
    dnnl_status_t st = dnnl_success;
    pthread_mutex_lock(&opening);
    if (!engine) st = dnnl_engine_create(&engine, dnnl_cpu, 0);
    if (st == dnnl_success && !stream) st = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    pthread_mutex_unlock(&opening);
    return check(st, "engine and stream");
}

struct onednn_conv {
    enum conv_pass pass;
    int has_bias;
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t conv, reorder; /* reorder: (O,C,k..) <-> packed weights, NULL where they are the same */
    dnnl_memory_t src, dst, bias, packed, plain, scratch;
    size_t packed_bytes, scratch_bytes;
    const char *impl;
};

void mcs_onednn_conv_free(struct onednn_conv *c)
{
    if (!c) return;
    dnnl_memory_t memory[] = {c->src, c->dst, c->bias, c->packed, c->plain, c->scratch};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (memory[i]) dnnl_memory_destroy(memory[i]);
    if (c->conv) dnnl_primitive_destroy(c->conv);
    if (c->reorder) dnnl_primitive_destroy(c->reorder);
    if (c->desc) dnnl_primitive_desc_destroy(c->desc);
    free(c);
}

static enum mcs_status describe(dnnl_memory_desc_t *md, int nd, const dnnl_dims_t dim, dnnl_format_tag_t tag)
{
    return check(dnnl_memory_desc_init_by_tag(md, nd, dim, dnnl_f32, tag), "memory layout");
}

static enum mcs_status memory_for(dnnl_memory_t *m, const dnnl_memory_desc_t *md)
{
    return check(dnnl_memory_create(m, md, engine, DNNL_MEMORY_NONE), "memory");
}

static dnnl_status_t describe_conv(dnnl_primitive_desc_t *out, enum conv_pass pass, const struct conv_dims *d,
                                   const dnnl_memory_desc_t *src, const dnnl_memory_desc_t *w,
                                   const dnnl_memory_desc_t *bias, const dnnl_memory_desc_t *dst,
                                   const_dnnl_primitive_attr_t attr, const_dnnl_primitive_desc_t hint)
{
    dnnl_dims_t stride, pad, pad_end; /* pad_end may be negative: input beyond the last window is not read */
    dnnl_convolution_desc_t cd;
    dnnl_status_t st;
    for (int i = 0; i < d->nsp; i++) {
        const int a = 3 - d->nsp + i;
        stride[i] = d->stride[a];
        pad[i] = d->pad[a];
        pad_end[i] = (d->dst[a] - 1) * d->stride[a] + d->k[a] - d->src[a] - d->pad[a];
    }
    if (pass == CONV_FPROP)
        st = dnnl_convolution_forward_desc_init(&cd, dnnl_forward_training, dnnl_convolution_direct, src, w, bias, dst,
                                                stride, pad, pad_end);
    else if (pass == CONV_DGRAD)
        st = dnnl_convolution_backward_data_desc_init(&cd, dnnl_convolution_direct, src, w, dst, stride, pad, pad_end);
    else
        st = dnnl_convolution_backward_weights_desc_init(&cd, dnnl_convolution_direct, src, w, NULL, dst, stride, pad,
                                                         pad_end);
    return st == dnnl_success ? dnnl_primitive_desc_create(out, &cd, attr, engine, hint) : st;
}

/* Leaves c->conv NULL where oneDNN has no implementation but a reference one. */
static enum mcs_status create_primitives(struct onednn_conv *c, const struct conv_dims *d)
{
    const int first = 3 - d->nsp, nd = d->nsp + 2;
    dnnl_dims_t sd = {d->n, d->c}, dd = {d->n, d->o}, wd = {d->o, d->c}, bd = {d->o};
    for (int i = 0; i < d->nsp; i++) {
        sd[2 + i] = d->src[first + i];
        dd[2 + i] = d->dst[first + i];
        wd[2 + i] = d->k[first + i];
    }
    const dnnl_format_tag_t last = d->nsp == 3 ? dnnl_ndhwc : dnnl_nhwc, rows = d->nsp == 3 ? dnnl_oidhw : dnnl_oihw;
    dnnl_memory_desc_t src, dst, any, plain, bias;
    MCS_TRY(describe(&src, nd, sd, last));
    MCS_TRY(describe(&dst, nd, dd, last));
    MCS_TRY(describe(&any, nd, wd, dnnl_format_tag_any));
    MCS_TRY(describe(&plain, nd, wd, rows));
    MCS_TRY(describe(&bias, 1, bd, dnnl_a));

    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t hint = NULL, reorder_desc = NULL;
    enum mcs_status st = MCS_OK;
    MCS_TRY(check(dnnl_primitive_attr_create(&attr), "attributes"));
    MCS_TRY_GOTO(check(dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user), "scratchpad"), st,
                 done);
    if (c->pass != CONV_FPROP)
        MCS_TRY_GOTO(check(describe_conv(&hint, CONV_FPROP, d, &src, &any, NULL, &dst, NULL, NULL), "convolution"), st,
                     done);
    const dnnl_status_t found =
        describe_conv(&c->desc, c->pass, d, &src, &any, c->has_bias ? &bias : NULL, &dst, attr, hint);
    if (found == dnnl_unimplemented) goto done;
    MCS_TRY_GOTO(check(found, "convolution"), st, done);
    MCS_TRY_GOTO(check(dnnl_primitive_desc_query(c->desc, dnnl_query_impl_info_str, 0, &c->impl), "name"), st, done);
    if (strstr(c->impl, "ref")) goto done;
    MCS_TRY_GOTO(check(dnnl_primitive_create(&c->conv, c->desc), "convolution"), st, done);

    const dnnl_query_t which = c->pass == CONV_WGRAD ? dnnl_query_diff_weights_md : dnnl_query_weights_md;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(c->desc, which, 0);
    const dnnl_memory_desc_t *scratch = dnnl_primitive_desc_query_md(c->desc, dnnl_query_scratchpad_md, 0);
    c->packed_bytes = (dnnl_memory_desc_get_size(packed) + 63) & ~(size_t)63;
    c->scratch_bytes = scratch ? dnnl_memory_desc_get_size(scratch) : 0;
    MCS_TRY_GOTO(memory_for(&c->src, &src), st, done);
    MCS_TRY_GOTO(memory_for(&c->dst, &dst), st, done);
    MCS_TRY_GOTO(memory_for(&c->bias, &bias), st, done);
    MCS_TRY_GOTO(memory_for(&c->plain, &plain), st, done);
    MCS_TRY_GOTO(memory_for(&c->packed, packed), st, done);
    if (c->scratch_bytes) MCS_TRY_GOTO(memory_for(&c->scratch, scratch), st, done);
    if (!dnnl_memory_desc_equal(packed, &plain)) {
        const int out = c->pass == CONV_WGRAD;
        MCS_TRY_GOTO(check(dnnl_reorder_primitive_desc_create(&reorder_desc, out ? packed : &plain, engine,
                                                              out ? &plain : packed, engine, NULL),
                           "reorder"),
                     st, done);
        MCS_TRY_GOTO(check(dnnl_primitive_create(&c->reorder, reorder_desc), "reorder"), st, done);
    } else {
        c->packed_bytes = 0;
    }
done:
    if (reorder_desc) dnnl_primitive_desc_destroy(reorder_desc);
    if (hint) dnnl_primitive_desc_destroy(hint);
    dnnl_primitive_attr_destroy(attr);
    return st;
}

enum mcs_status mcs_onednn_conv_new(enum conv_pass pass, const struct conv_dims *d, int has_bias,
                                    struct onednn_conv **conv)
{
    *conv = NULL;
    MCS_TRY(open_engine());
    struct onednn_conv *c = calloc(1, sizeof *c);
    MCS_REQUIRE(c, MCS_E_NOMEM, "out of memory for a convolution");
    c->pass = pass;
    c->has_bias = has_bias && pass == CONV_FPROP;
    enum mcs_status st = create_primitives(c, d);
    if (st == MCS_OK && c->conv)
        *conv = c;
    else
        mcs_onednn_conv_free(c);
    return st;
}

size_t mcs_onednn_conv_workspace(const struct onednn_conv *c)
{
    return c->packed_bytes + c->scratch_bytes;
}

const char *mcs_onednn_conv_impl(const struct onednn_conv *c)
{
    return c->impl;
}

static enum mcs_status place(dnnl_memory_t m, void *p)
{
    return check(dnnl_memory_set_data_handle_v2(m, p, stream), "memory");
}

static enum mcs_status reorder_weights(const struct onednn_conv *c, dnnl_memory_t from, dnnl_memory_t to)
{
    const dnnl_exec_arg_t arg[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    return check(dnnl_primitive_execute(c->reorder, stream, 2, arg), "reorder");
}

enum mcs_status mcs_onednn_conv_run(const struct onednn_conv *c, float *src, float *weight, float *bias, float *dst,
                                    void *workspace)
{
    static const int slot[3][4] = {
        {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DST},
        {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST},
        {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_BIAS, DNNL_ARG_DIFF_DST},
    };
    dnnl_memory_t weights = c->reorder ? c->packed : c->plain;
    dnnl_exec_arg_t arg[5] = {{slot[c->pass][0], c->src}, {slot[c->pass][1], weights}, {slot[c->pass][3], c->dst}};
    int n = 3;
    MCS_TRY(place(c->src, src));
    MCS_TRY(place(c->dst, dst));
    MCS_TRY(place(c->plain, weight));
    if (c->reorder) MCS_TRY(place(c->packed, workspace));
    if (c->scratch) {
        MCS_TRY(place(c->scratch, (char *)workspace + c->packed_bytes));
        arg[n++] = (dnnl_exec_arg_t){DNNL_ARG_SCRATCHPAD, c->scratch};
    }
    if (c->has_bias) {
        MCS_TRY(place(c->bias, bias));
        arg[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, c->bias};
    }
    if (c->reorder && c->pass != CONV_WGRAD) MCS_TRY(reorder_weights(c, c->plain, c->packed));
    MCS_TRY(check(dnnl_primitive_execute(c->conv, stream, n, arg), c->impl));
    if (c->reorder && c->pass == CONV_WGRAD) MCS_TRY(reorder_weights(c, c->packed, c->plain));
    return check(dnnl_stream_wait(stream), "stream");
}
