/* Reads and writes a model's weights with the tensor names of the reference implementation. */
#ifndef MCS_WEIGHTS_H
#define MCS_WEIGHTS_H

#include "engine/backend.h"
#include "engine/tape/graph.h"

struct weight_file;

/* Whether the file has the tensor of a parameter: with its shape (scalars may be stored as () or (1)) and a type that
 * is a float. line: "NAME (2, 3) is missing", "NAME is (2, 3), want (3, 2)"; "" where it fits. */
enum { WEIGHTS_LINE = 256 };
enum weights_fit { WEIGHTS_FIT, WEIGHTS_MISSING, WEIGHTS_MISSHAPEN };
enum weights_fit mcs_weights_fit(const struct weight_file *file, const struct tensor *t, char line[WEIGHTS_LINE]);

/* Reads every parameter and buffer of p from a file of any kind (data/weights/weight_file.h). E_DATA: some are missing
 * or of another shape (one message counts them all and names the first ones), or a value is NaN or infinite. Unknown
 * tensors are counted in a warning.
 * sha256 (65 bytes) receives the file's hash; may be NULL. */
enum mcs_status mcs_weights_read(const char *path, struct params *p, char *sha256);
/* The same, but *hash is still being taken by a thread when the call returns. It is ended by mcs_weights_hash_end,
 * which waits for it, writes the hash to hex (65 bytes, or NULL) and frees it; NULL: does nothing. E_IO. */
struct weights_hash;
enum mcs_status mcs_weights_read_hashing(const char *path, struct params *p, struct weights_hash **hash);
enum mcs_status mcs_weights_hash_end(struct weights_hash *hash, char *hex);
/* Writes every parameter and buffer whose name does not start with skip_prefix (NULL: all), atomically: PyTorch's zip
 * where the path ends in .pt, .pth or .bin, else safetensors. half: float16. `note` is stored in safetensors' metadata
 * ("mcsam": how the file was made). */
enum mcs_status mcs_weights_write(const char *path, const struct params *p, int half, const char *skip_prefix,
                                  const char *note);
/* SHA-256 of all parameters in order of name: names, shapes, float32 bytes. It depends on the tensors, not on the file
 * that they were read from. */
enum mcs_status mcs_weights_sha256(const struct params *p, char hex[65]);

#endif
