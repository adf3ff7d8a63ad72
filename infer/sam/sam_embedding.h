/* Image embeddings in files: an image is encoded once for the prompts of many runs.
 *
 * A file FOLDER/STEM.safetensors has the tensor image_embedding (1,embed,grid,grid) float32, which is what
 * SamPredictor.get_image_embedding() returns, and the metadata model_sha256, preprocess, image_size ("WIDTH HEIGHT")
 * and image_sha256 (of the pixels). It is used only for the same weights, preparation and pixels. */
#ifndef MCS_SAM_EMBEDDING_H
#define MCS_SAM_EMBEDDING_H

#include "infer/sam/sam_model.h"

/* Folders of embeddings; NULL: none. At most one of them is set. */
struct sam_embeddings {
    const char *load, *save;
};

/* embedding: (grid,grid,embed) on the host. E_IO, E_NOMEM. */
enum mcs_status mcs_sam_embedding_write(const char *folder, const char *stem, const struct sam_model *m,
                                        const struct image *img, const float *embedding);
/* Reads it to dst (grid,grid,embed) on the host; dst NULL: compares the metadata and the shape only. E_NOINPUT: no such
 * file; E_DATA: damaged, not finite, or of another model, preparation or image; the message says which. E_NOMEM. */
enum mcs_status mcs_sam_embedding_read(const char *folder, const char *stem, const struct sam_model *m,
                                       const struct image *img, float *dst);

/* Embeddings of n images to dst (n,grid,grid,embed) on the model's device, and their frames: read from e->load, or
 * computed and then also written to e->save. stems: their file stems; not read where e has no folder. pixels: scratch
 * (n,S,S,3). Errors of mcs_sam_prepare, mcs_sam_encode_on_device and the two functions above. */
enum mcs_status mcs_sam_embed(struct sam_model *m, const struct sam_embeddings *e, const char *const *stems,
                              const struct image *const *images, int n, float *pixels, struct sam_frame *frames,
                              float *dst);

#endif
