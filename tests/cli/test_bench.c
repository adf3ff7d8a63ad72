/* bench from the outside: tiny networks are measured and correct; two results are compared by row. */
#include "tests/support/support_shell.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void setup(void)
{
    shell_open(MCS_BINARY, "--threads 1");
}
TestSuite(bench, .init = setup, .fini = shell_close);

#define HEAD "model,op,what,pass,shape,error,median_s\n"
static const char base[] = HEAD "m,linear,\"fc1, wide\",forward,2x3,0.1,0.5\nm,conv,stem,forward,4x4,0,2\n";

Test(bench, slower_rows_fail)
{
    shell_write("a.csv", base);
    shell_write("b.csv", HEAD "m,conv,stem,forward,4x4,0,1.5\nm,linear,\"fc1, wide\",forward,2x3,0.1,0.53\n");
    expect("mcsam bench compare a.csv a.csv", 0, "2 rows in both, 0 in one alone; geometric mean of B / A: 1.000");
    expect("mcsam bench compare a.csv b.csv", 1, "1.060 SLOWER"); /* 0.53 / 0.5: above the default limit of 5 % */
    expect("mcsam bench compare a.csv b.csv", 1, "1 of 2 rows are more than 5 % slower in b.csv");
    expect("mcsam bench compare a.csv b.csv --fail-above 6.5%", 0, "| m | conv | stem | forward | 4x4 | 2000.000 | ");
    expect("mcsam bench compare a.csv b.csv --fail-above 7", 0, "0.750 |");
    expect("mcsam bench compare b.csv a.csv --fail-above 30% --json", 1, "\"ratio\": 1.3333, \"slower\": true");
}

Test(bench, forms_and_missing_rows)
{
    shell_write("a.csv", base);
    shell_write("b.jsonl", "{\"threads\": 2}\n"
                           "{\"model\": \"m\", \"op\": \"linear\", \"what\": \"fc1, wide\", \"pass\": \"forward\", "
                           "\"shape\": \"2x3\", \"median_s\": 0.25}\n"
                           "{\"model\": \"new\", \"op\": \"linear\", \"what\": \"fc1, wide\", \"pass\": \"forward\", "
                           "\"shape\": \"2x3\", \"median_s\": 9}\n");
    expect("mcsam bench compare a.csv b.jsonl", 0, "1 rows in both, 2 in one alone; geometric mean of B / A: 0.500");
    expect("mcsam bench compare a.csv b.jsonl", 0, "only in a.csv: m, conv, stem, forward, 4x4");
    expect("mcsam bench compare a.csv b.jsonl", 0, "only in b.jsonl: new, linear");
}

/* --trace: a JSON array of events, one process per graph, each step with its number of runs. */
Test(bench, a_trace_of_every_graph)
{
    expect("mcsam bench models --small --seconds 0.01 --trace t.json", 0, "nnunet_2d");
    json_t *events = json_load_file(shell_path("t.json"), 0, NULL), *e;
    cr_assert(json_is_array(events));
    size_t i;
    json_int_t last = 0;
    json_array_foreach(events, i, e)
    {
        const json_int_t pid = json_integer_value(json_object_get(e, "pid"));
        cr_expect(pid == last || pid == last + 1);
        cr_expect_gt(json_integer_value(json_object_get(json_object_get(e, "args"), "runs")), 0);
        cr_expect_geq(json_real_value(json_object_get(e, "dur")), 0);
        last = pid;
    }
    cr_expect_eq(last, 3, "three models, so three graphs");
    json_decref(events);
    expect("mcsam devices --trace no/where/t.json", 74, "no/where/t.json: cannot write");
}

Test(bench, bad_files_and_words)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "no rows"},
        {HEAD, "no rows"},
        {"model,op\nm,conv\n", "no column median_s"},
        {"model,op,what,pass,median_s\nm,conv,a,b,1\n", "no column shape"},
        {HEAD "m,conv,stem,forward\n", "bad:2: 4 columns, the first line has 7"},
        {HEAD "m,conv,stem,forward,4x4,0,fast\n", "'fast' is no time"},
        {HEAD "m,conv,stem,forward,4x4,0,-1\n", "want a positive number"},
        {HEAD "m,conv,stem,forward,4x4,0,nan\n", "want a positive number"},
        {HEAD "m,conv,\"stem\n", "columns"},
        {HEAD "x,conv,stem,forward,4x4,0,1\n", "no row in common"},
        {"{\"median_s\": 1}\n", "no text \"model\""},
        {"{\"model\": \n", "no JSON object"},
        {"{\"threads\": 1}\n[1]\n", "bad:2: no JSON object"},
        {"{\"model\": \"m\", \"op\": \"conv\", \"what\": \"a\", \"pass\": \"b\", \"shape\": \"c\", \"median_s\": "
         "\"1\"}\n",
         "want a positive number"},
    };
    shell_write("a.csv", base);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        shell_write("bad", bad[i].text);
        expect("mcsam bench compare a.csv bad", 65, bad[i].part);
    }
    expect("mcsam bench compare a.csv none.csv", 66, "none.csv");
    expect("mcsam bench compare a.csv", 2, "want two files");
    expect("mcsam bench compare a.csv a.csv --fail-above fast", 2, "no percentage");
    expect("mcsam bench compare a.csv a.csv --fail-above -1%", 2, "no percentage");
    expect("mcsam bench ops a.csv", 2, "one word too many");
    expect("mcsam bench speed", 2, "known: ops, models, comm, compare");
    expect("mcsam bench comm --gpus 1", 2, "2 or more");
    expect("mcsam bench comm --dry-run", 2, "nothing to plan");
    expect("mcsam bench models --model vit_h", 2, "known: biomedclip");
    expect("mcsam bench models --small --model biomedclip --train --batch 1", 2, "at least 2");
}

Test(bench, models)
{
    expect("mcsam bench models --small --seconds 0 --train --by-op -o m && cat m.csv", 0,
           "biomedclip,all,\"whole network\",forward and backward,8x32x32x3,1,");
    cr_expect(strstr(shell_output, "sam_vit_b,all,\"whole network\",forward and backward,1x64x64x3,1,"), "%s",
              shell_output);
    cr_expect(strstr(shell_output, "nnunet_2d,instance_norm,\"10 steps\",backward,2x32x32x1,1,"), "%s", shell_output);
    cr_expect(!strstr(shell_output, "WRONG"), "%s", shell_output);
    expect("mcsam bench compare m.csv m.jsonl", 0, " 0 in one alone; geometric mean of B / A: 1.000");
    expect("mcsam bench models --small --seconds 0 --model sam_vit_b_encoder --batch 2 --json --trace t.json && cat "
           "t.json",
           0, "linear image_encoder.blocks.0.attn.qkv");
    cr_expect(strstr(shell_output, "\"shape\": \"2x64x64x3\", \"right\": true"), "%s", shell_output);
}

/* bench compare finds every row of bench ops, whatever its text: "gradient of w, b" has a comma. */
Test(bench, ops)
{
    expect("mcsam bench ops --small --seconds 0 -o o && mcsam bench compare o.csv o.jsonl", 0,
           "24 rows in both, 0 in one alone; geometric mean of B / A: 1.000");
    expect("mcsam bench ops --small --seconds 0 --op attention --json", 0, "\"pass\": \"backward\"");
}

/* Two ranks, threads of this process: all values are correct, every size has a row. */
Test(bench, comm)
{
    expect("mcsam bench comm --small --seconds 0 -o c && cat c.csv", 0,
           "2 ranks by memory,all_reduce,float,\"sum\",4096 floats,16384,0,");
    cr_expect(strstr(shell_output, "2 ranks by memory,broadcast,float,\"from rank 0\",16 floats,64,0,"), "%s",
              shell_output);
    expect("mcsam bench compare c.csv c.jsonl", 0, "9 rows in both, 0 in one alone");
}

/* On a simulated GPU each row is checked and counted: bf16 products use tensor cores, and no times are reported. */
Test(bench, counts)
{
    char module[4096];
    snprintf(module, sizeof module, "%.*s/libmcsam_cudasim.so", (int)(strrchr(MCS_BINARY, '/') - MCS_BINARY),
             MCS_BINARY);
    if (access(module, R_OK) != 0) cr_skip_test("no CUDA headers, so no simulation");
    expect("mcsam bench ops --small --device cudasim --op linear -o s && cat s.csv", 0,
           "small,linear,\"product\",\"forward\",\"37x20x33 bf16\"");
    cr_expect(!strstr(shell_output, "WRONG") && !strstr(shell_output, "median"), "%s", shell_output);
    expect("grep 'aligned, by k_matmul\",\"forward' s.csv", 0,
           ",1,2,256,256"); /* 6 x 8 tiles of 16 x 8, in 4 parts of k; 64 more */
    expect("mcsam bench ops --small --device cudasim --precision fp32 --op linear --json", 0,
           "\"tensor_products\": 0}");
    expect("mcsam bench models --small --device cudasim --model nnunet_2d --train", 0,
           "nnunet_2d | all | whole network | forward and backward | 2x32x32x1 | yes | | | |");
}

/* The plan of the full-size SAM, from the program: known without running it. */
Test(bench, dry_run)
{
    expect("mcsam bench models --dry-run --model sam_vit_b_encoder", 0, "sam_vit_b_encoder, forward, 1x1024x1024x3: ");
    cr_expect(strstr(shell_output, "gradients 0)"), "%s", shell_output);
}
