/* Inputs of the verbs that are stopped, and waiting for events of a process, never for a delay. */
#ifndef MCS_SUPPORT_STOP_H
#define MCS_SUPPORT_STOP_H

#include <stdint.h>
#include <sys/types.h>

enum { STOP_IMAGES = 40, STOP_ATTEMPTS = 20 };

/* Waits until the file exists; 0 where the process ended before. */
int stop_wait_file(pid_t pid, const char *path);
/* Waits until the file has this text; 0 where the process ended before. */
int stop_wait_text(pid_t pid, const char *path, const char *part);
/* Waits until the log of the last process in folder has this text; 0 where the process ended before. */
int stop_wait_log(pid_t pid, const char *folder, const char *part);
/* Waits until the process waits for signals: SIGTERM is blocked in it. */
int stop_wait_blocked(pid_t pid);
/* folder/clip and folder/sam, made in a separate process: threads do not survive the later forks. */
void stop_make_models(const char *folder);
/* folder/img: STOP_IMAGES images, two of them damaged. */
void stop_make_images(const char *folder);
/* folder/name: the probabilities of 2 * STOP_IMAGES cases of 24 x 20 pixels. */
void stop_make_probabilities(const char *folder, const char *name, uint32_t seed);
/* Runs the program in folder; its exit code. */
int stop_run(const char *folder, const char *const *argv);

#endif
