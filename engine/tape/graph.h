/* A graph: the record of a model's steps for given shapes, and the weights it is built over.
 *
 *     struct params *p = mcs_params_new();
 *     struct graph *g = mcs_graph_new(p);
 *     struct tensor *x = mcs_input(g, "image", MCS_F32, 4, (int64_t[]){8, 96, 96, 3});
 *     struct tensor *y = clip_image(g, x, &config);
 *     mcs_keep(y);
 *     MCS_TRY(mcs_graph_status(g));       // builders never fail one by one: the first error is held here
 *     MCS_TRY(mcs_params_alloc(p, device)); ... weights ... mcs_exec_new(g, device, &exec)
 */
#ifndef MCS_GRAPH_H
#define MCS_GRAPH_H

#include "engine/base/arena.h"
#include "engine/tape/op.h"

struct device;

/* How a parameter is drawn before any file is read. Keyed by (seed, name), so it does not depend on order. */
enum init_kind { INIT_ZERO, INIT_ONE, INIT_NORMAL /* std */, INIT_UNIFORM /* +-bound */, INIT_CONST };
struct init {
    enum init_kind kind;
    float value;
};

/* The weights of a model by the reference's own names. One flat fp32 arena, one for gradients, and the optimizer's
 * moments; a bucket is a byte range. Tensors are kept in the order they were first named. */
struct params {
    struct arena arena;
    struct tensor **t;
    struct init *init;
    uint8_t *is_buffer; /* stored in the file, never trained (SAM's positional matrix) */
    int n, capacity;
    int64_t n_values;   /* floats in each flat array (each tensor padded to 16) */
    float *data, *grad; /* on the device; grad NULL until mcs_params_alloc_grad */
    struct device *device;
};
struct params *mcs_params_new(void);
void mcs_params_free(struct params *p);
struct tensor *mcs_params_find(const struct params *p, const char *name); /* NULL if absent */
enum mcs_status mcs_params_alloc(struct params *p, struct device *d);     /* after the last graph was built; zeroed */
enum mcs_status mcs_params_alloc_grad(struct params *p);
/* Draws every parameter by its init. */
enum mcs_status mcs_params_init(struct params *p, uint64_t seed);
/* Gradient of parameter t: a pointer into p->grad. */
float *mcs_params_grad(const struct params *p, const struct tensor *t);

/* A step: one op, forward or backward, with everything it needs. in/out as in ops.def; in a backward step only kept
 * ones are set. dout[i] NULL: nothing flows back from output i. din[i] NULL: gradient not wanted. beta[i] 0: din[i] is
 * overwritten (all of it), 1: added to. One tensor given to several inputs gets one din in each of them, with beta of
 * the first: the op writes disjoint parts of it. */
struct step {
    struct device *device; /* that runs it; set when a plan is bound, with the steps that run just before and after */
    const struct step *before, *after;
    enum mcs_op op;
    int backward;
    const char *scope;
    const void *attr;
    struct tensor *in[MCS_MAX_IN], *out[MCS_MAX_OUT];
    struct tensor *din[MCS_MAX_IN], *dout[MCS_MAX_OUT];
    const struct tensor *like[MCS_MAX_IN]; /* backward: the forward step's inputs, for their shapes alone */
    float beta[MCS_MAX_IN];
    void *prepared;         /* the backend's own, made by prepare */
    size_t workspace_bytes; /* wanted by prepare; `workspace` points to at least so many during fwd / bwd, 64-byte
                               aligned */
    void *workspace;
    const struct run_state *run;
};

/* What changes from run to run without a new plan: read by dropout. */
struct run_state {
    uint64_t seed;
    uint32_t step;
};

struct graph {
    struct arena arena;
    struct params *params;
    struct tensor **tensors;
    struct step *steps;
    int n_tensors, n_steps, n_forward; /* n_forward: steps before mcs_grad appended the backward ones */
    int cap_tensors, cap_steps;
    const char *scope[32];
    int n_scopes;
    const char *const
        *frozen; /* prefixes of parameter names that take no gradient here, NULL-ended; {"", NULL} freezes all */
    enum mcs_dtype activations; /* MCS_F32, or MCS_BF16: see amp.h */
    enum mcs_status status;     /* the first error of a builder */
    struct run_state run;
};
struct graph *mcs_graph_new(struct params *p);
void mcs_graph_free(struct graph *g);
enum mcs_status mcs_graph_status(const struct graph *g);

/* Names inside are prefixed "scope."; printf style. An empty scope adds nothing. */
void mcs_scope_begin(struct graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mcs_scope_end(struct graph *g);

struct tensor *mcs_input(struct graph *g, const char *name, enum mcs_dtype dt, int nd, const int64_t *dim);
/* An input whose value belongs to the graph (row numbers, coordinates): copied now, uploaded by mcs_exec_new. */
struct tensor *mcs_constant(struct graph *g, const char *name, enum mcs_dtype dt, int nd, const int64_t *dim,
                            const void *value);
/* The parameter scope.name, made on first sight; a second sight must agree in shape. mcs_buffer: saved with the
 * weights, never trained. */
struct tensor *mcs_param(struct graph *g, const char *name, int nd, const int64_t *dim, struct init init);
struct tensor *mcs_buffer(struct graph *g, const char *name, int nd, const int64_t *dim, struct init init);
/* The same storage under another shape with as many elements; no step. */
struct tensor *mcs_reshape(struct graph *g, struct tensor *x, int nd, const int64_t *dim);
/* Makes a tensor readable after a run. Returns it. */
struct tensor *mcs_keep(struct tensor *t);
/* Records a step and returns it (its outputs are out[]); NULL after an error. in: as many as the op has, optional ones
 * NULL. */
struct step *mcs_record(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in, const void *attr);
/* The same, first output only; after an error a harmless dummy, never NULL. */
struct tensor *mcs_apply(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in, const void *attr);

/* For those who build on the graph itself: a fresh tensor, a fresh step (cleared), and a view of the first elements of
 * x under another shape. */
struct tensor *mcs_graph_tensor(struct graph *g, const char *name, enum tensor_role role);
struct step *mcs_graph_step(struct graph *g);
struct tensor *mcs_alias(struct graph *g, struct tensor *x, int nd, const int64_t *dim);

#endif
