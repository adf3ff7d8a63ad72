/* The demo at reduced size on the CPU and on one and two simulated GPUs: equal masks in each stage. Takes minutes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/support/support_shell.h"

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1 --quiet");
}
TestSuite(cuda_demo, .init = setup, .fini = shell_close);

#define DEMO                                                                                                           \
    "mcsam demo --train-images 4 --label-images 3 --test-images 2 --two-images 1 --none-images 1 --retrieval-images "  \
    "4 "                                                                                                               \
    "--finetune-steps 2 --finetune-batch 2 --finetune-warmup 1 --saliency-steps 3 --saliency-copies 2 --cycles 1 "     \
    "--cycle-steps 5 --cycle-checkpoints 1 --network-batch 2 --network-features 4 --validation-images 2 "              \
    "--unseen-images 0"

/* Compares the masks of stages whose inputs agree, since a stage's inputs are the results of the one before and
 * differences grow. Networks are not compared: in five steps of AdamW weights with almost no gradient move by the
 * learning rate in either direction. Instead predictions of one network, the CPU's, are compared. */
static void same_masks(const char *folder)
{
    static const char *const stages[] = {"saliency_start", "saliency", "coarse", "post", "sam", "two"};
    char line[256];
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        snprintf(line, sizeof line, "mcsam diff cpu/stages/%s %s/stages/%s --tolerance 0.001", stages[i], folder,
                 stages[i]);
        expect(line, 0, "");
    }
}

Test(cuda_demo, one_and_two_simulated_gpus, .timeout = 1500)
{
    if (access(MCS_BUILD "/libmcsam_cudasim.so", R_OK) != 0) cr_skip_test("no simulation in this build");
    expect(DEMO " -o cpu", 0, "");
    expect(DEMO " -o one --device cudasim --precision fp32", 0, "");
    same_masks("one");
    expect("mcsam predict -i cpu/data/test/images -m cpu/network -o a --disable-tta", 0, " cases");
    expect("mcsam predict -i cpu/data/test/images -m cpu/network -o b --disable-tta --device cudasim --precision fp32",
           0, " cases");
    expect("mcsam diff a b --tolerance 0.001", 0, "");
    expect("export CUDASIM_DEVICES=2; " DEMO " -o two --device cudasim --precision fp32 --gpus 2", 0, "");
    same_masks("two");
}
