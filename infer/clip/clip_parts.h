/* Shared by the files of a CLIP model. */
#ifndef MCS_CLIP_PARTS_H
#define MCS_CLIP_PARTS_H

#include "infer/clip/clip_model.h"

/* Writes folder/open_clip_config.json. */
enum mcs_status mcs_clip_config_write(const char *folder, const struct clip_config *c);
/* Frees the compiled graphs and their memory. */
void mcs_clip_sessions_close(struct clip_model *m);

#endif
