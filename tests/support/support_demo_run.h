/* The demo's run that test_demo.c makes once: its options, and reading its files. */
#ifndef MCS_SUPPORT_DEMO_RUN_H
#define MCS_SUPPORT_DEMO_RUN_H

#include "data/io/json.h"
#include "data/lesions/demo_sample.h"

#include <criterion/criterion.h>

enum { N_TEST = 6, N_TRAIN = 40, N_LABELS = 7, N_TWO = 2, N_NONE = 4, N_UNSEEN = 3, N_RETRIEVAL = 100 };
enum { SEED = 3, THREADS = 2 };

/* Of the network: PATCHES per step, KEPT checkpoints per cycle. */
enum { CYCLES = 2, CYCLE_STEPS = 5, KEPT = 2, FEATURES = 4, PATCHES = 4 };

/* Options shared by the demo run and the verbs that repeat parts of it. */
#define SALIENCY "--steps 10 --copies 2 --layer 2 --beta 1 --seed 3 --threads 2"

/* The options of the demo run; the numbers above. */
#define DEMO                                                                                                           \
    "--seed 3 --threads 2 --train-images 40 --label-images 7 --test-images 6 --two-images 2 --none-images 4 "          \
    "--unseen-images 3 --validation-images 4 --ceiling "                                                               \
    "--retrieval-images 100 --finetune-steps 4 --finetune-batch 8 --finetune-warmup 2 --cycles 2 --cycle-steps 5 "     \
    "--cycle-checkpoints 2 --saliency-steps 10 --saliency-copies 2 --network-features 4 --network-batch 4 --grow 12"

/* Runs a shell line; its status. */
int demo_shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The path of a file in the folder of the tests; valid for the next three calls. */
const char *demo_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Runs a shell line in the tests' folder; $DEMO is data/demo, mcsam the program. */
void demo_line(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A JSON file in the folder of the tests; the caller decrements its reference. */
json_t *demo_json(const char *name);
/* A PNG of the demo's size, into pixels (DEMO_PIXELS). */
void demo_grey(const char *path, uint8_t *pixels);
/* Reads a mask, which must have only the values 0 and 255. */
void demo_mask(const char *path, uint8_t *mask);
/* All lesions of test image i; those that its prompt by look describes, by the attributes in attributes.json. */
void demo_truth(int i, uint8_t *truth);
void demo_look_truth(int i, uint8_t *truth);
/* The number of a key; fails the test if there is none. */
double demo_number(const json_t *o, const char *key);
/* The object of the list whose `key` is `name`; fails the test if there is none. */
const json_t *demo_row(const json_t *list, const char *key, const char *name);
/* 1 if the numbers are equal up to the six digits of summary.json. */
int demo_near(double got, double want);
#define expect_near(got, want, ...) cr_expect(demo_near(got, want), __VA_ARGS__)

/* Embeddings (n, *dim) of OUT.h5; malloc'ed. */
float *demo_embeddings(const char *name, const char *dataset, int n, int *dim);
double demo_dot(const float *a, const float *b, int n);

#endif
