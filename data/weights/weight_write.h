/* Writing files of weights, whole or not at all (engine/base/newfile.h). The same contents give the same bytes. */
#ifndef MCS_WEIGHT_WRITE_H
#define MCS_WEIGHT_WRITE_H

#include "data/weights/weight_file.h"

#include <stdint.h>
#include <stdio.h>

struct weight_out {
    const char *name;
    enum mcs_array_type type; /* F32 or F16 (rounded to nearest even) */
    int nd;
    int64_t dims[MCS_ARRAY_MAX_ND];
    const float *values; /* row-major */
    /* Or, in place of values, a tensor of a file, which is read when it is written: its bytes as they are where `type`
     * is its type, which may then be any; else its values as float32, rounded to `type`. */
    const struct weight_file *file;
    const struct weight_tensor *source;
};

/* safetensors, sorted by name; meta: n_meta pairs of key and value. E_USAGE: a name twice or "__metadata__", an
 * unsupported type; E_DATA: a finite value of a source is beyond float16; E_IO, E_NOMEM. */
enum mcs_status mcs_safetensors_write(const char *path, int n, const struct weight_out *tensors, int n_meta,
                                      const char *const (*meta)[2]);
/* PyTorch's zip, as torch.save(OrderedDict(...), path) writes it: torch.load(path, weights_only=True) reads it. The
 * tensors keep their order. wrapper: the dictionary becomes the value of this key in another one ("state_dict"); NULL:
 * none. E_USAGE: a name twice, an unsupported type; E_DATA: a finite value of a source is beyond float16; E_IO,
 * E_NOMEM. */
enum mcs_status mcs_torch_write(const char *path, int n, const struct weight_out *tensors, const char *wrapper);

/* For both writers. check: E_USAGE where a tensor cannot be written. put: writes the values as they lie in the file,
 * which messages call `path`. E_DATA: a finite value of a source is beyond float16; E_IO, and the errors of reading the
 * source. crc: NULL, or a CRC-32 that is continued. */
enum mcs_status mcs_weight_out_check(const char *path, const struct weight_out *t);
enum mcs_status mcs_weight_out_put(FILE *f, const char *path, const struct weight_out *t, uint32_t *crc);

#endif
