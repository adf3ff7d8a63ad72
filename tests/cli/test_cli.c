/* The program itself: verbs, suggestions, exit codes. */
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void setup(void)
{
    shell_open(MCS_BINARY, "");
}
TestSuite(cli, .init = setup, .fini = shell_close);

Test(cli, help)
{
    expect("mcsam --help", 0, "devices");
    expect("mcsam help devices", 0, "--threads N");
    expect("mcsam devices --help", 0, "--threads N");
    expect("mcsam devices -h --nonsense", 0, "--threads N");
    expect("mcsam --version", 0, "mcsam 0.");
    expect("mcsam", 2, "Usage: mcsam VERB");
    expect("MCSAM_THREADS=1 mcsam devices", 0, "1 threads");
    expect("mcsam devices --json --threads 2", 0, "\"threads\": 2");
}

/* --dry-run of long verbs: reports the work and leaves no files. */
Test(cli, dry_runs)
{
    expect("mcsam demo --dry-run -o never; ls never", 2, "steps of the network");
    expect("mcsam demo-start sam --dry-run --json --steps 7 -o never", 0, "{\"steps\": 7, ");
}

Test(cli, every_verb_has_help)
{
    cr_assert_eq(shell("mcsam --help | sed -n 's/^  \\([a-z0-9-]*\\)  *.*/\\1/p' > verbs; wc -l < verbs"), 0, "%s",
                 shell_output);
    cr_expect(atoi(shell_output) >= 1, "%s", shell_output);
    expect("for v in $(cat verbs); do mcsam $v --help > help && grep -q \"^Usage: mcsam $v\" help || echo \"bad: $v\"; "
           "done; echo end",
           0, "end");
    cr_expect(!strstr(shell_output, "bad:"), "%s", shell_output);
}

Test(cli, wrong_use)
{
    expect("mcsam devics", 2, "did you mean 'devices'?");
    expect("mcsam devices --tread 3", 2, "did you mean --threads?");
    expect("mcsam devices --threads", 2, "needs a value");
    expect("mcsam devices --threads 1e9", 2, "whole number");
    expect("mcsam devices word", 2, "'word'");
    expect("mcsam --threads 3 devices", 2, "the verb comes first");
    expect("mcsam help nothing", 2, "unknown verb 'nothing'");
    expect("echo 'tread: 3' > c.yaml; mcsam devices --config c.yaml", 2,
           "c.yaml:1: tread: unknown key; did you mean 'threads'?");
    expect("mcsam devices --config none.yaml", 66, "none.yaml");
    expect("printf 'a: [' > d.yaml; mcsam devices --config d.yaml", 65, "d.yaml");
    expect("CUDA_VISIBLE_DEVICES= mcsam devices --device cuda", 69,
           "use --device cpu"); /* with or without a GPU, built or not */
    expect("mcsam devices --device gpu", 2, "cpu|cuda|cudasim");
    expect("mcsam devices --precision bf16", 69, "computes in fp32 alone");
    expect("mcsam bench ops --dry-run", 2, "nothing to plan");
    expect("mcsam devices > /dev/full", 74, "standard output");
}

Test(cli, info)
{
    expect("mcsam info", 2, "FILE...");
    expect("mcsam info none.png", 66, "none.png");
    expect("mcsam info none.png ''", 2, "info: word 2 is empty, want FILE...");
    expect("mcsam info .", 66, ".: has no weights: want open_clip_model.safetensors, ");
    expect("echo text > a.txt; mcsam info a.txt", 65, "a.txt: none of the kinds that are known");
    expect("printf '\\211PNG\\r\\n\\032\\n' > b.png; mcsam info b.png", 65, "b.png");
    expect("echo x > c.safetensors; echo y > d.nii; mcsam info c.safetensors d.nii", 65,
           "2 of 2 files could not be read");
    expect("h='{\"a\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[0,8]}}'; "
           "{ printf '\\100\\0\\0\\0\\0\\0\\0\\0%-64s' \"$h\"; printf '\\0\\0\\0\\0\\0\\0\\0\\0'; } > w.safetensors; "
           "mcsam info --tensors w.safetensors",
           0, "safetensors, 1 tensors, 2 values, 8 bytes\n  model: not known\n");
    expect("mcsam info --tensors w.safetensors", 0, "\n  F32   (2, 1) a\n");
    expect("mcsam info " MCS_SOURCE_DIR "/data/demo/sam", 0, "model: the demo's SAM; all of its tensors are there");
    expect("mcsam convert " MCS_SOURCE_DIR "/data/demo/sam -o hf --to huggingface && mcsam info hf", 0,
           "model: SAM (image 128, patch 8, width 96, 4 blocks), in Hugging Face's names, SamModel; all of its tensors "
           "are there");
    expect(
        "sed -i 's/\"relu\"/\"gelu\"/' hf/config.json && mcsam info hf", 0,
        "nor -H, in Hugging Face's names, SamModel; hf/config.json: mask_decoder_config.hidden_act is \"gelu\"; want "
        "\"relu\"\n");
    expect("mcsam info " MCS_SOURCE_DIR "/tests/golden/weights/epoch_2.pt", 0,
           "PyTorch, zip, 7 tensors, 17 values, 72 bytes\n  in: state_dict\n  prefix: module.\n  model: not known\n");
    expect("mcsam info --json --filter b w.safetensors", 0, "\"list\": []");
    expect("printf '\\0\\0\\200\\177' | dd of=w.safetensors bs=1 seek=76 conv=notrunc status=none; mcsam info "
           "w.safetensors",
           0, "  1 with values that are NaN or infinite: a\n"); /* its second number is infinite */
}

Test(cli, one_error_line_and_no_trace_unless_asked)
{
    cr_expect_eq(shell("mcsam devices --threads x | wc -l"), 0);
    cr_expect_eq(shell("mcsam devices --threads x"), 2);
    cr_expect(strncmp(shell_output, "mcsam: error: ", 14) == 0, "%s", shell_output);
    cr_expect_eq(strchr(shell_output, '\n') - shell_output, (long)strlen(shell_output) - 1, "more than one line:\n%s",
                 shell_output);
    cr_expect(!strstr(shell_output, "config.c"), "%s", shell_output);
    expect("MCSAM_TRACE_ERRORS=1 mcsam devices --threads x", 2, "options.c:");
}

/* Each verb has a section, so that documentation and program stay consistent. */
Test(cli, every_verb_is_documented)
{
    cr_assert_eq(shell("mcsam --help | sed -n 's/^  \\([a-z0-9-]*\\)  *.*/\\1/p'"), 0);
    char verbs[SHELL_OUTPUT_BYTES], command[512];
    memcpy(verbs, shell_output, sizeof verbs);
    for (char *rest = NULL, *v = strtok_r(verbs, "\n", &rest); v; v = strtok_r(NULL, "\n", &rest)) {
        snprintf(command, sizeof command, "grep -c '^## %s$' %s/docs/cli.md", v, MCS_SOURCE_DIR);
        shell(command);
        cr_expect_eq(atoi(shell_output), 1, "docs/cli.md has %d sections '## %s'", atoi(shell_output), v);
    }
}
