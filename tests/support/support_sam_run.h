/* SAM with the weights of the golden files, and images for it. */
#ifndef MCS_SUPPORT_SAM_RUN_H
#define MCS_SUPPORT_SAM_RUN_H

#include "data/image/image.h"
#include "infer/sam/sam_model.h"

enum {
    SAM_RUN_SIDE = 32,
    SAM_RUN_FRAME = 64,
    SAM_RUN_LOW = SAM_RUN_SIDE * SAM_RUN_SIDE,
    SAM_RUN_EMBEDDING = 8 * 8 * 16
};

extern struct sam_config sam_run_config; /* golden_sam_config */
extern struct device sam_run_cpu;
/* Before and after each test; the files are in test_folder, which has a folder "images". */
void sam_run_open(void);
void sam_run_close(void);
/* The model of the golden files, saved in the folder as "model" and opened from there. */
struct sam_model sam_run_model(void);
/* A file of the folder with this text. */
void sam_run_write(const char *name, const char *text);
/* A grey image with a bright square. */
struct image sam_run_picture(int width, int height);

#endif
