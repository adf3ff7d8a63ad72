/* Small models and data for tests, and the three trainings on them, each in a separate process that can be killed. A
 * training runs in a folder made by tiny_training_folder with relative paths only, so that two runs in two folders must
 * write the same bytes, including the options in config.yaml and checkpoint.h5. */
#ifndef MCS_SUPPORT_TINY_H
#define MCS_SUPPORT_TINY_H

#include "engine/model/clip.h"
#include "engine/model/sam.h"

#include <sys/types.h>

/* A new folder in /tmp; its name stays valid. tiny_remove removes it with its content. */
const char *tiny_folder(const char *name);
void tiny_remove(const char *folder);
/* "FOLDER/NAME" by printf; the same name gives the same pointer, which stays valid. */
const char *tiny_path(const char *folder, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* 16 x 16 pixels in patches of 8, 3 blocks of width 16; text of 2 layers. The golden vocabulary. */
struct clip_config tiny_clip_config(void);
struct sam_config tiny_sam_config(void); /* image 32, patch 8, width 16, 2 blocks */
/* Makes a model folder with random weights from a fixed seed. It starts threads: call it from a process that does not
 * fork later, or use tiny_training_folder. */
void tiny_clip_model(const char *folder);
/* folder/pairs.csv and n images of 20 x 18 with an object whose place and look the caption describes. */
void tiny_pairs(const char *folder, int n);
/* folder/images and folder/labels: n PNG of 24 x 24 with a bright blob. */
void tiny_masks(const char *folder, int n);

enum tiny_training { TINY_CLIP, TINY_SAM, TINY_UNET };
enum { TINY_STEPS = 42 };
/* Makes the inputs of a training: folder/model, folder/pairs or folder/images ... */
void tiny_training_folder(enum tiny_training t, const char *folder);
/* Restrictions of a training's process. */
struct tiny_limits {
    int64_t file_bytes; /* largest file; writing more fails as on a full disk. 0: no limit */
    int as_nobody;      /* run as user nobody */
};
/* Starts a training in folder, output FOLDER/run, messages to FOLDER/log (overwritten). more: further arguments,
 * NULL-terminated, or NULL (TINY_SAM has none). */
pid_t tiny_start(enum tiny_training t, const char *binary, const char *folder, const char *const *more,
                 const struct tiny_limits *limits);
/* Runs any command of the program in folder, like tiny_start. argv without the program, NULL-terminated. */
pid_t tiny_spawn(const char *binary, const char *folder, const char *const *argv, const struct tiny_limits *limits);
/* Waits; returns the exit code, or 128 + signal. */
int tiny_wait(pid_t pid);
/* The log of the last process in folder; a static buffer. */
const char *tiny_log(const char *folder);
/* 1 if two files or folders have the same bytes, ignoring temporary files (*.tmp.PID); prints differences to standard
 * error. */
int tiny_same(const char *a, const char *b);
/* Runs a shell line; its exit code. */
int tiny_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Trains without interruption, and again in another folder, killed (SIGKILL) `kills` times at random moments and
 * restarted each time. Both folders must have the same bytes. */
void tiny_kill_test(enum tiny_training t, const char *binary, int kills, uint64_t seed);

#endif
