/* Small models and data that tests make for themselves, and the three trainings on them, each started as a process of
 * its own so that it can be killed. A training runs in a folder made by tiny_training_folder, with relative names only,
 * so that two runs of it in two folders must leave the same bytes: the options in config.yaml and checkpoint.h5 too. */
#ifndef MCS_SUPPORT_TINY_H
#define MCS_SUPPORT_TINY_H

#include "engine/model/clip.h"
#include "engine/model/sam.h"

#include <sys/types.h>

/* A new folder in /tmp; its name stays valid. tiny_remove removes it with all that is in it. */
const char *tiny_folder(const char *name);
void tiny_remove(const char *folder);
/* "FOLDER/NAME" by printf; the same name gives the same pointer, which stays valid. */
const char *tiny_path(const char *folder, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* 16 x 16 pixels in patches of 8, 3 blocks of width 16; text of 2 layers. The golden vocabulary. */
struct clip_config tiny_clip_config(void);
struct sam_config tiny_sam_config(void); /* image 32, patch 8, width 16, 2 blocks */
/* A model folder with weights drawn by a fixed seed. Uses threads of its own: call it from a process that does not
 * fork later, or let tiny_training_folder do it. */
void tiny_clip_model(const char *folder);
/* folder/pairs.csv and n images of 20 x 18 with an object whose place and look the caption tells. */
void tiny_pairs(const char *folder, int n);
/* folder/images and folder/labels: n PNG of 24 x 24 with a bright blob. */
void tiny_masks(const char *folder, int n);

enum tiny_training { TINY_CLIP, TINY_SAM, TINY_UNET };
enum { TINY_STEPS = 42 };
/* Makes folder/model, folder/pairs or folder/images ...: all that a training starts from. */
void tiny_training_folder(enum tiny_training t, const char *folder);
/* What a training's process may be denied. */
struct tiny_limits {
    int64_t file_bytes; /* 0: none. Writing more fails as on a full disk */
    int as_nobody;      /* give up root's rights */
};
/* Starts it in folder, output FOLDER/run, messages to FOLDER/log (overwritten). more: further arguments of the program,
 * NULL-ended, or NULL (TINY_SAM has none). */
pid_t tiny_start(enum tiny_training t, const char *binary, const char *folder, const char *const *more,
                 const struct tiny_limits *limits);
/* Runs any command of the program in folder, like tiny_start. argv without the program, NULL-ended. */
pid_t tiny_spawn(const char *binary, const char *folder, const char *const *argv, const struct tiny_limits *limits);
/* Exit code, or 128 + signal. */
int tiny_wait(pid_t pid);
/* The log of the last process in folder; a static buffer. */
const char *tiny_log(const char *folder);
/* 1 where two files or folders hold the same bytes, temporary files (*.tmp.PID) aside; what differs goes to standard
 * error. */
int tiny_same(const char *a, const char *b);
/* Runs a shell line; its exit code. */
int tiny_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Trains once without a stop; then again in another folder, killed (SIGKILL) `kills` times at moments drawn by seed and
 * started again each time. Both must leave the same bytes. */
void tiny_kill_test(enum tiny_training t, const char *binary, int kills, uint64_t seed);

#endif
