/* Reads and writes a model's weights as safetensors files with the tensor names of the reference implementation. */
#ifndef MCS_WEIGHTS_H
#define MCS_WEIGHTS_H

#include "engine/backend.h"
#include "engine/tape/graph.h"

/* Reads every parameter and buffer of p from the file. E_DATA: one is missing or has another shape; the message names
 * it. Unknown tensors are counted in a warning; a prefix "module." or "model." of a name is ignored. sha256 (65 bytes)
 * receives the file's hash; may be NULL. Scalars may be stored as () or (1). */
enum mcs_status mcs_weights_read(const char *path, struct params *p, char *sha256);
/* Writes every parameter and buffer whose name does not start with skip_prefix (NULL: all), atomically. half: float16.
 * `note` is stored in the metadata ("mcsam": how the file was made). */
enum mcs_status mcs_weights_write(const char *path, const struct params *p, int half, const char *skip_prefix,
                                  const char *note);
/* SHA-256 of all parameters in order of name: names, shapes, float32 bytes. It depends on the tensors, not on the file
 * that they were read from. */
enum mcs_status mcs_weights_sha256(const struct params *p, char hex[65]);

#endif
