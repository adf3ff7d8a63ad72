/* The layers that networks are built of. Each names its parameters inside `name` as the reference implementations do
 * (weight, bias), records the step and returns its output. None knows a device. Weights are initialised uniformly in
 * +-1/sqrt(fan_in) unless said otherwise (torch's nn.Linear and nn.Conv). */
#ifndef MCS_LAYERS_H
#define MCS_LAYERS_H

#include "engine/tape/graph.h"

#define MCS_DIMS(...) (sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), ((int64_t[]){__VA_ARGS__})

enum { NO_BIAS = 0, BIAS = 1 };

/* x (...,K) -> (...,n_out). */
struct tensor *mcs_linear(struct graph *g, struct tensor *x, int64_t n_out, int bias, const char *name);
/* Only output rows [row, row+rows) of the layer with n_out outputs; its weight must be frozen in this graph. */
struct tensor *mcs_linear_rows(struct graph *g, struct tensor *x, int64_t n_out, int64_t row, int64_t rows,
                               const char *name);
/* The same with the parameters' names given, inside the current scope, as torch's MultiheadAttention has in_proj_weight
 * and in_proj_bias; rows 0: all, and the weight may be trained. `name` is the output's. */
struct tensor *mcs_linear_named(struct graph *g, struct tensor *x, int64_t n_out, int64_t row, int64_t rows,
                                const char *weight, const char *bias, const char *name);
/* x (n,K) times the parameter `name` (K,n_out), which is stored untransposed, unlike a linear layer's weight. */
struct tensor *mcs_project(struct graph *g, struct tensor *x, int64_t n_out, const char *name);
/* Channels-last convolution; nsp, 2 or 3, follows from x's dimensions. kernel, stride: nsp values; pad (kernel-1)/2
 * where `same` is not 0, else none. A 1x1 kernel with stride 1 is recorded as a linear. */
struct tensor *mcs_conv(struct graph *g, struct tensor *x, int64_t n_out, const int64_t *kernel, const int64_t *stride,
                        int same, int bias, struct init init, const char *name);
struct tensor *mcs_conv_transpose(struct graph *g, struct tensor *x, int64_t n_out, const int64_t *kernel,
                                  struct init init, const char *name);
struct init mcs_init_fan_in(int64_t fan_in); /* uniform in +-1/sqrt(fan_in) */
struct tensor *mcs_layernorm(struct graph *g, struct tensor *x, float eps, const char *name);
struct tensor *mcs_instance_norm(struct graph *g, struct tensor *x, float eps, float slope, const char *name);
struct tensor *mcs_gelu(struct graph *g, struct tensor *x);
/* x sigmoid(1.702 x): OpenAI's CLIP */
struct tensor *mcs_quick_gelu(struct graph *g, struct tensor *x);
struct tensor *mcs_relu(struct graph *g, struct tensor *x);
struct tensor *mcs_add(struct graph *g, struct tensor *a, struct tensor *b);
struct tensor *mcs_concat(struct graph *g, int axis, struct tensor *a, struct tensor *b, struct tensor *c,
                          struct tensor *d);
/* Rows of x (leading dimensions flattened) selected by an int32 tensor, or by the constant numbers first + i*step, i <
 * n. */
struct tensor *mcs_gather(struct graph *g, struct tensor *x, struct tensor *index);
struct tensor *mcs_rows_every(struct graph *g, struct tensor *x, int64_t first, int64_t step, int64_t n);
struct tensor *mcs_window(struct graph *g, struct tensor *x, int64_t win);
struct tensor *mcs_unwindow(struct graph *g, struct tensor *x, int64_t win, int64_t h, int64_t w);
struct tensor *mcs_l2norm(struct graph *g, struct tensor *x);
/* p 0: returns x. key: one int32 per row that identifies the row permanently (sample id and position), or NULL for the
 * row number. */
struct tensor *mcs_dropout(struct graph *g, struct tensor *x, float p, struct tensor *key, const char *name);
/* Self-attention of equal lengths over packed qkv (rows, 3*width); rel_h, rel_w may be NULL. */
struct tensor *mcs_attention_packed(struct graph *g, struct tensor *qkv, int heads, int64_t len, struct tensor *rel_h,
                                    struct tensor *rel_w, int grid_h, int grid_w);

#endif
