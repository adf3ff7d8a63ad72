/* The shapes of `bench ops`: the products, convolutions, attentions and pointwise ops of the full-size models, and
 * small ones for a quick check. bench/peers/torch_ops.py reads them from the table that bench writes. */
#ifndef MCS_BENCH_SHAPES_H
#define MCS_BENCH_SHAPES_H

#include "bench/case.h"

#define LINEAR(model_, name_, m_, n_, k_)                                                                              \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_linear, .m = m_, .n = n_, .k = k_                                     \
    }
#define CONV2(model_, name_, size, c_, o_, kernel_, stride_)                                                           \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_conv, .batch = 1, .c = c_, .o = o_, .sp = {1, size, size},            \
        .kernel = kernel_, .stride = stride_                                                                           \
    }
#define CONV3(model_, name_, size, c_, o_, kernel_, stride_)                                                           \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_conv, .batch = 1, .c = c_, .o = o_, .sp = {size, size, size},         \
        .kernel = kernel_, .stride = stride_                                                                           \
    }
#define ATTENTION(model_, name_, seqs_, nq_, nk_, heads_, hd_, grid_)                                                  \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_attention, .seqs = seqs_, .nq = nq_, .nk = nk_, .heads = heads_,      \
        .hd = hd_, .grid = grid_                                                                                       \
    }
/* Rows of n channels; an instance norm treats all rows as one sample. */
#define ROWS(model_, name_, op_, m_, n_)                                                                               \
    {                                                                                                                  \
        .model = model_, .name = name_, .op = OP_##op_, .m = m_, .n = n_                                               \
    }

/* Rows: 8 images of 197 tokens (14 x 14 patches and the class token), 8 captions of 256 tokens; SAM's 64 x 64 patches,
 * in windows of 14 x 14 padded to 25 windows. */
static const struct bench_case bench_full_size[] = {
    LINEAR("biomedclip image", "qkv", 8 * 197, 2304, 768),
    LINEAR("biomedclip image", "proj", 8 * 197, 768, 768),
    LINEAR("biomedclip image", "fc1", 8 * 197, 3072, 768),
    LINEAR("biomedclip image", "fc2", 8 * 197, 768, 3072),
    ATTENTION("biomedclip image", "attention", 8, 197, 197, 12, 64, 0),
    ATTENTION("biomedclip image", "attention, first token", 8, 1, 197, 12, 64, 0),
    LINEAR("biomedclip text", "query", 8 * 256, 768, 768),
    LINEAR("biomedclip text", "fc1", 8 * 256, 3072, 768),
    LINEAR("biomedclip text", "fc2", 8 * 256, 768, 3072),
    ATTENTION("biomedclip text", "attention", 8, 256, 256, 12, 64, 0),
    LINEAR("sam vit-b", "qkv", 4096, 2304, 768),
    LINEAR("sam vit-b", "proj", 4096, 768, 768),
    LINEAR("sam vit-b", "fc1", 4096, 3072, 768),
    LINEAR("sam vit-b", "fc2", 4096, 768, 3072),
    ATTENTION("sam vit-b", "attention, windows", 25, 196, 196, 12, 64, 14),
    ATTENTION("sam vit-b", "attention, global", 1, 4096, 4096, 12, 64, 64),
    ROWS("sam vit-b", "norm", layernorm, 4096, 768),
    ROWS("sam vit-b", "gelu", gelu, 4096, 3072),
    ROWS("sam vit-b", "residual", add, 4096, 768),
    ATTENTION("sam decoder", "tokens to image", 1, 7, 4096, 8, 16, 0),
    ATTENTION("sam decoder", "image to tokens", 1, 4096, 7, 8, 16, 0),
    CONV2("sam vit-b", "patches", 1024, 3, 768, 16, 16),
    CONV2("sam vit-b", "neck 1x1", 64, 768, 256, 1, 1),
    CONV2("sam vit-b", "neck 3x3", 64, 256, 256, 3, 1),
    CONV2("nnunet 2d", "stem", 512, 1, 32, 3, 1),
    CONV2("nnunet 2d", "32", 512, 32, 32, 3, 1),
    CONV2("nnunet 2d", "32 to 64, stride 2", 512, 32, 64, 3, 2),
    CONV2("nnunet 2d", "64", 256, 64, 64, 3, 1),
    CONV2("nnunet 2d", "128", 128, 128, 128, 3, 1),
    CONV2("nnunet 2d", "256", 64, 256, 256, 3, 1),
    CONV2("nnunet 2d", "512", 32, 512, 512, 3, 1),
    CONV2("nnunet 2d", "512, decoder", 32, 1024, 512, 3, 1),
    ROWS("nnunet 2d", "norm 32", instance_norm, 512 * 512, 32),
    ROWS("nnunet 2d", "norm 256", instance_norm, 64 * 64, 256),
    CONV3("nnunet 3d", "32", 64, 32, 32, 3, 1),
    CONV3("nnunet 3d", "128", 16, 128, 128, 3, 1),
};
static const struct bench_case bench_small[] = {
    LINEAR("small", "product", 37, 20, 33),
    LINEAR("small", "product, aligned", 96, 64, 64),
    CONV2("small", "3x3", 12, 5, 8, 3, 1),
    CONV3("small", "3x3x3", 6, 4, 8, 3, 2),
    ATTENTION("small", "attention", 2, 20, 20, 2, 8, 0),
    ATTENTION("small", "attention, relative", 2, 25, 25, 2, 8, 5),
    ROWS("small", "norm", layernorm, 21, 40),
    ROWS("small", "gelu", gelu, 21, 40),
    ROWS("small", "residual", add, 21, 40),
    ROWS("small", "instance norm", instance_norm, 36, 10),
};
/* Shapes for the machine's peak rates: large enough to use all of it, small enough to run within a second. */
static const struct bench_case bench_best_product[] = {
    LINEAR("", "1024", 1024, 1024, 1024), LINEAR("", "1536", 1536, 1536, 1536), LINEAR("", "2048", 2048, 2048, 2048),
    LINEAR("", "4096", 4096, 4096, 4096), LINEAR("", "8192", 8192, 8192, 8192)};
static const struct bench_case bench_best_conv[] = {
    CONV2("", "64", 128, 64, 64, 3, 1), CONV2("", "128", 64, 128, 128, 3, 1), CONV2("", "256", 64, 256, 256, 3, 1)};

#endif
