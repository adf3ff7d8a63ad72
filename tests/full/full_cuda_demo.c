/* The demo at reduced size on the CPU, on one simulated GPU and on two: the same masks stage by stage. Minutes. */
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
    "--cycle-steps 5 --cycle-checkpoints 1 --network-batch 2 --network-features 4 --no-ceiling"

/* Masks of the stages whose inputs agree: each stage's are the last one's results, so a difference would grow. The
 * network is trained by five steps of AdamW, which makes weights with hardly any gradient move by the rate either way:
 * it is compared on one network instead, the CPU's. */
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
