/* A graph: the record of a model's steps for given shapes, and the weights it is built over.
 *
 *     struct params *p = mcs_params_new();
 *     struct graph *g = mcs_graph_new(p, device->activations);
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

/* The distribution of a parameter's initial value, drawn by (seed, name), so that it does not depend on order. */
enum init_kind { INIT_ZERO, INIT_ONE, INIT_NORMAL, INIT_UNIFORM, INIT_CONST };
struct init {
    enum init_kind kind;
    float value; /* standard deviation; bound of +-bound; the constant */
};

/* The weights of a model under the reference implementation's names: one flat fp32 array, one for gradients, and the
 * optimizer's moments; a gradient bucket is a range of it. Tensors are in the order in which they were first named. */
struct params {
    struct arena arena;
    struct tensor **t;  /* (n) */
    struct init *init;  /* (n) */
    uint8_t *is_buffer; /* (n) 1: stored in the file, never trained (SAM's positional matrix) */
    int n, capacity;
    int64_t n_values;   /* floats in each flat array (each tensor padded to 16) */
    float *data, *grad; /* on the device; grad NULL until mcs_params_alloc_grad */
    struct device *device;
};
struct params *mcs_params_new(void); /* NULL: no memory; mcs_graph_new and mcs_params_alloc report it */
void mcs_params_free(struct params *p);
struct tensor *mcs_params_find(const struct params *p, const char *name); /* NULL if absent */
enum mcs_status mcs_params_alloc(struct params *p, struct device *d); /* call after the last graph is built; zeroed */
enum mcs_status mcs_params_alloc_grad(struct params *p);
/* Initialises every parameter. */
enum mcs_status mcs_params_init(struct params *p, uint64_t seed);
/* Gradient of parameter t: a pointer into p->grad. */
float *mcs_params_grad(const struct params *p, const struct tensor *t);

/* A step: one op, forward or backward, with all its operands. in/out as in ops.def; in a backward step only kept ones
 * are set. dout[i] NULL: no gradient arrives at output i. din[i] NULL: this gradient is not wanted. beta[i] 0: din[i]
 * is overwritten entirely, 1: added to. If one tensor is given to several inputs, each of them gets the same din, with
 * beta of the first: the op writes disjoint parts of it. */
struct step {
    struct device *device; /* the device, and the neighbouring steps; set when an executor is made */
    const struct step *before, *after;
    enum mcs_op op;
    int backward;
    const char *scope;
    const void *attr;
    struct tensor *in[MCS_MAX_IN], *out[MCS_MAX_OUT];
    struct tensor *din[MCS_MAX_IN], *dout[MCS_MAX_OUT];
    const struct tensor *like[MCS_MAX_IN]; /* backward: the forward step's inputs, only for their shapes */
    float beta[MCS_MAX_IN];
    void *prepared;         /* the backend's data, made by prepare */
    size_t workspace_bytes; /* needed; set by prepare */
    void *workspace;        /* at least workspace_bytes during fwd and bwd, 64-byte aligned */
    const struct run_state *run;
};

/* Values that change from run to run without a new plan: read by dropout. */
struct run_state {
    uint64_t seed;
    uint32_t step;
};

struct graph {
    struct arena arena;
    struct params *params;
    struct tensor **tensors;
    struct step *steps;
    int n_tensors, n_steps, n_forward; /* n_forward: number of steps before mcs_grad appended the backward ones */
    int cap_tensors, cap_steps;
    const char *scope[32]; /* of the open scopes, each the whole prefix: "visual.trunk." */
    int n_scopes;
    /* Prefixes of the names of parameters without a gradient in this graph, NULL-ended; {"", NULL} freezes all. */
    const char *const *frozen;
    enum mcs_dtype activations; /* MCS_F32, or MCS_BF16: see amp.h */
    enum mcs_status status;     /* the first error while the graph was built */
    struct run_state run;
};
/* activations: MCS_F32 or MCS_BF16; struct device has the type that was chosen when it was opened. Never NULL:
 * exhausted memory is an error that mcs_graph_status reports, here and in every function below; a tensor or step that
 * they return may then be written to, but has no meaning. p NULL (mcs_params_new had no memory): the same. */
struct graph *mcs_graph_new(struct params *p, enum mcs_dtype activations);
void mcs_graph_free(struct graph *g);
enum mcs_status mcs_graph_status(const struct graph *g);

/* Names inside are prefixed "scope."; printf style. An empty scope adds nothing. */
void mcs_scope_begin(struct graph *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mcs_scope_end(struct graph *g);

struct tensor *mcs_input(struct graph *g, const char *name, enum mcs_dtype dt, int nd, const int64_t *dim);
/* An input whose value belongs to the graph (row numbers, coordinates): copied now, uploaded by mcs_exec_new. */
struct tensor *mcs_constant(struct graph *g, const char *name, enum mcs_dtype dt, int nd, const int64_t *dim,
                            const void *value);
/* The parameter scope.name, created by the first call; later calls must agree in shape. mcs_buffer: saved with the
 * weights, never trained. */
struct tensor *mcs_param(struct graph *g, const char *name, int nd, const int64_t *dim, struct init init);
struct tensor *mcs_buffer(struct graph *g, const char *name, int nd, const int64_t *dim, struct init init);
/* The same storage in another shape with as many elements; records no step. */
struct tensor *mcs_reshape(struct graph *g, struct tensor *x, int nd, const int64_t *dim);
/* Makes a tensor readable after a run. Returns it. */
struct tensor *mcs_keep(struct tensor *t);
/* Records a step and returns it (its outputs are out[]); NULL after an error. in: the op's number of inputs, optional
 * ones NULL. */
struct step *mcs_record(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in, const void *attr);
/* The same, returning the first output; after an error a dummy tensor, never NULL. */
struct tensor *mcs_apply(struct graph *g, enum mcs_op op, const char *name, struct tensor *const *in, const void *attr);

/* For code that extends the graph itself: a new tensor, a new step (cleared), and a view of the first elements of x in
 * another shape. */
struct tensor *mcs_graph_tensor(struct graph *g, const char *name, enum tensor_role role);
struct step *mcs_graph_step(struct graph *g);
struct tensor *mcs_alias(struct graph *g, struct tensor *x, int nd, const int64_t *dim);

#endif
