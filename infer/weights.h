/* Weights of a model between memory and safetensors files, by the reference's tensor names. */
#ifndef MCS_WEIGHTS_H
#define MCS_WEIGHTS_H

#include "engine/backend.h"
#include "engine/tape/graph.h"

/* Fills every parameter and buffer of p from the file. E_DATA: one is missing or has another shape, both told by name.
 * Tensors that the model does not know are counted in a warning; names that start with "module." or "model." are read
 * without it. sha256 (65 bytes) receives the file's hash; may be NULL. Scalars may be stored as () or (1). */
enum mcs_status mcs_weights_read(const char *path, struct params *p, char *sha256);
/* Writes every parameter and buffer whose name does not start with skip_prefix (NULL: all), whole or not at all. half:
 * float16. `note` goes into the metadata ("mcsam": how the file was made). */
enum mcs_status mcs_weights_write(const char *path, const struct params *p, int half, const char *skip_prefix,
                                  const char *note);
/* SHA-256 over all parameters in order of name: names, shapes, float32 bytes. The same tensors give the same hash
 * whatever file holds them. */
enum mcs_status mcs_weights_sha256(const struct params *p, char hex[65]);

#endif
