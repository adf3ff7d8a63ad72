/* Files of weights, of any kind, through one interface: safetensors, PyTorch's zip (.pt, .pth, .bin) and the stream of
 * pickles it wrote before 1.6, and any of these in several files with an index. TorchScript is a zip of modules in
 * modules: a tensor has the name that state_dict() gives it.
 *
 *     struct weight_file *f;
 *     MCS_TRY(mcs_weight_file_open("open_clip_pytorch_model.bin", &f));
 *     for (int i = 0; i < mcs_weight_file_count(f); i++) puts(mcs_weight_file_at(f, i)->name);
 *     MCS_TRY_GOTO(mcs_weight_file_read_f32(f, "visual.head.proj.weight", 2, dims, dst), st, done);
 *     mcs_weight_file_close(f);
 *
 * Formats: https://github.com/huggingface/safetensors; torch/serialization.py; data/weights/pickle.h.
 *
 * Only the lists of tensors are in memory. A tensor's bytes are read from the open file when it is asked for, straight
 * into the caller's memory where neither its type nor its strides need a conversion, so weights are never held twice.
 * (Mapping the file instead would count its pages as this process's memory, and a file that another process shortens
 * would end this one by SIGBUS instead of an error.)
 *
 * Every byte of a file is treated as hostile: lengths, offsets, shapes and names are checked before they are used, and
 * nothing of a pickle is ever run. Opening compares the checksum of a zip's pickle; mcs_weight_file_verify those of the
 * tensors. */
#ifndef MCS_WEIGHT_FILE_H
#define MCS_WEIGHT_FILE_H

#include "data/io/array.h"
#include "data/weights/pickle.h"
#include "engine/base/path.h"
#include "engine/base/status.h"

#include <stdint.h>

struct weight_file; /* an open file */

enum weight_kind { WEIGHT_SAFETENSORS, WEIGHT_TORCH_ZIP, WEIGHT_TORCH_LEGACY, WEIGHT_INDEX, WEIGHT_N_KINDS };
/* "safetensors", "PyTorch, zip", "PyTorch, before 1.6", "in several files". */
const char *mcs_weight_kind_name(enum weight_kind kind);

struct weight_tensor {
    const char *name; /* without the wrapper and without the prefix that all names share; owned by the file */
    enum mcs_array_type type;
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND], strides[MCS_ARRAY_MAX_ND]; /* strides in elements */
    int64_t n_values, n_bytes;                                 /* of the tensor: (n_values x bytes of the type) */
    int part;                                                  /* which of several files */
    int64_t offset;                                            /* of the first element, bytes from the file's start */
    const struct weight_tensor
        *pieces;  /* (n_pieces) of a joined tensor (layout.h): its rows are theirs, one after the */
    int n_pieces; /* other, and strides, part and offset mean nothing; 0: not joined */
};

/* Opens a file, or an index of several (*.index.json), by its content.
 *
 * A PyTorch file's tensors are those of its dictionary. If it is wrapped, those of the first of `state_dict`,
 * `model_state_dict`, `network_weights`, `model`, `net`, `module`, `weights`, `params`, `ema` that is a dictionary with
 * tensors. "module.", "model." and "_orig_mod." are removed where all names begin with them.
 *
 * E_NOINPUT, E_IO, E_NOMEM; E_DATA: none of these kinds, damaged, truncated, of another byte order, or with something
 * that is refused; the message says what. Close with mcs_weight_file_close. */
enum mcs_status mcs_weight_file_open(const char *path, struct weight_file **file);
void mcs_weight_file_close(struct weight_file *file);

enum weight_kind mcs_weight_file_kind(const struct weight_file *file);
const char *mcs_weight_file_path(const struct weight_file *file);
int mcs_weight_file_count(const struct weight_file *file);
const struct weight_tensor *mcs_weight_file_at(const struct weight_file *file, int i); /* by name; NULL: none */
/* The tensor of this name, or of this name with one of the prefixes above; NULL: not there. */
const struct weight_tensor *mcs_weight_file_find(const struct weight_file *file, const char *name);
/* Number of blocks: the first k for which there is no tensor "{before}{k}{after}". */
int mcs_weight_file_blocks(const struct weight_file *file, const char *before, const char *after);
/* safetensors' __metadata__ and the index's metadata; NULL: not there. */
const char *mcs_weight_file_metadata(const struct weight_file *file, const char *key);
/* The whole object of a PyTorch file, such as a checkpoint's epoch and optimizer; NULL for other kinds. The keys that
 * led to the weights ("state_dict"), and the prefix removed from all names; both "" where there are none. */
const struct pickle_value *mcs_weight_file_object(const struct weight_file *file);
const char *mcs_weight_file_wrapper(const struct weight_file *file);
const char *mcs_weight_file_prefix(const struct weight_file *file);
/* The files that it consists of: one, or those of an index. */
int mcs_weight_file_n_parts(const struct weight_file *file);
const char *mcs_weight_file_part(const struct weight_file *file, int i);
/* SHA-256 of the file, 64 hex digits + NUL; of several files that of the text that `sha256sum` prints for them, sorted
 * by name ("HEX  NAME\n"). E_IO, E_NOMEM. */
enum mcs_status mcs_weight_file_sha256(const struct weight_file *file, char hex[65]);

/* Reads a tensor of exactly this shape in row-major order. f32 widens F16 and BF16 and rounds F64; i64 widens I32, I16,
 * I8, U8 and BOOL. E_DATA: no such tensor, another shape (the message names both), a type that does not convert, or the
 * file has become shorter; E_IO, E_NOMEM. Threads may read from one file at the same time. */
enum mcs_status mcs_weight_file_read_f32(const struct weight_file *file, const char *name, int nd, const int64_t *dims,
                                         float *dst);
enum mcs_status mcs_weight_file_read_i64(const struct weight_file *file, const char *name, int nd, const int64_t *dims,
                                         int64_t *dst);
/* Reads a tensor of this file as it is, in row-major order: n_bytes. E_DATA, E_IO, E_NOMEM. */
enum mcs_status mcs_weight_file_read_raw(const struct weight_file *file, const struct weight_tensor *t, void *dst);
/* *count: values of a tensor of floats that are NaN or infinite as float32; 0 for other types, and for views that have
 * more values than the file (then nothing is read). E_DATA, E_IO, E_NOMEM. */
enum mcs_status mcs_weight_file_not_finite(const struct weight_file *file, const struct weight_tensor *t,
                                           int64_t *count);
/* Compares the checksums of all entries of PyTorch's zip with their bytes; other kinds have none. E_DATA: damaged. */
enum mcs_status mcs_weight_file_verify(const struct weight_file *file);
/* The weights in a model's folder: the first of these names (NULL-ended) that is there, else the only file that ends in
 * .safetensors, .pt, .pth, .bin or .ckpt, else the only index of several (.index.json). E_NOINPUT: none, or several;
 * E_IO. */
enum mcs_status mcs_weight_folder_find(const char *folder, const char *const *names, char path[MCS_PATH_BYTES]);

/* 1 where read_f32 takes tensors of this type, and 1 where read_i64 does. */
int mcs_weight_is_float(enum mcs_array_type type);
int mcs_weight_is_whole(enum mcs_array_type type);

#endif
