/* mcsam bench ops, models, comm, compare: the machine's speed on the program's ops, on whole networks, and on
 * collectives between ranks. */
#include "bench/bench.h"
#include "data/run/run_folder.h"
#include "engine/base/path.h"

#include <limits.h>
#include <string.h>

static const struct mcs_option options[] = {
    {"op", 0, MCS_FIELD(bench_options, ops), .value = "NAME",
     .help = "ops: only this op: linear, conv, attention, layernorm, instance_norm, gelu, add; may be given again"},
    {"model", 'm', MCS_FIELD(bench_options, model), .value = "TEXT",
     .help = "ops: only rows whose model contains this text; models: biomedclip, biomedclip_image, sam_vit_b, "
             "sam_vit_b_encoder, nnunet_2d, all"},
    {"batch", 0, MCS_FIELD(bench_options, batch), .def = "0", .lo = 0, .hi = 4096, .value = "N",
     .help = "models: images (and texts) at once; 0: 8 for biomedclip, 1 for sam_vit_b, 2 for nnunet_2d"},
    {"gpus", 0, MCS_FIELD(bench_options, gpus), .alias = "ranks", .def = "2", .lo = 0, .hi = 64, .value = "N",
     .help = "comm: over so many GPUs (with --device cpu: shares of its cores)"},
    {"train", 0, MCS_FIELD(bench_options, train), .help = "models: forward and backward too"},
    {"by-op", 0, MCS_FIELD(bench_options, by_op), .help = "models: also a row for each kind of op"},
    {"fail-above", 0, MCS_FIELD(bench_options, fail_above), .def = "5%", .value = "PERCENT",
     .help = "compare: exit code 1 where B is more than this slower than A"},
    {"output", 'o', MCS_FIELD(bench_options, output), .value = "FILE",
     .help = "also write FILE.md, FILE.csv and FILE.jsonl"},
    {"seconds", 0, MCS_FIELD(bench_options, seconds), .def = "0.5", .lo = 0, .hi = 3600, .value = "S",
     .help = "time spent on a row"},
    {"small", 0, MCS_FIELD(bench_options, small), .help = "small shapes: a check, not a measurement"},
    {0},
};

/* --config is the only input. */
static enum mcs_status check_paths(const struct bench_options *b)
{
    struct arena a = {0};
    char folder[MCS_PATH_BYTES];
    const char *name;
    if (!b->output) return MCS_OK;
    MCS_TRY(mcs_path_split(b->output, folder, &name));
    const struct run_output out = {folder, mcs_arena_printf(&a, "%s.md;%s.csv;%s.jsonl", name, name, name)};
    const enum mcs_status st = mcs_run_check_paths(&b->common.command, &out, 1, NULL, 0);
    mcs_arena_free(&a);
    return st;
}

static enum mcs_status run(const void *o)
{
    const struct bench_options *b = o;
    const struct mcs_strings *args = &b->common.args;
    const char *what = args->n ? args->v[0] : "ops";
    MCS_TRY(check_paths(b));
    if (strcmp(what, "compare") == 0) {
        MCS_REQUIRE(args->n == 3, MCS_E_USAGE, "bench compare: want two files, A and B, got %d", args->n - 1);
        return mcs_bench_compare(args->v[1], args->v[2], b);
    }
    MCS_REQUIRE(args->n <= 1, MCS_E_USAGE, "bench %s: '%s' is one word too many", what, args->v[1]);
    if (strcmp(what, "ops") == 0) {
        MCS_REQUIRE(!b->common.dry_run, MCS_E_USAGE, "bench ops has nothing to plan; --small is a quick check");
        return mcs_bench_ops(b);
    }
    if (strcmp(what, "models") == 0) return mcs_bench_models(b);
    if (strcmp(what, "comm") == 0) {
        MCS_REQUIRE(!b->common.dry_run, MCS_E_USAGE, "bench comm has nothing to plan; --small is a quick check");
        return mcs_bench_comm(b);
    }
    return MCS_FAIL(MCS_E_USAGE, "bench: nothing named '%s' can be measured; known: ops, models, comm, compare", what);
}

const struct mcs_verb mcs_verb_bench = {
    .name = "bench",
    .line = "how fast ops and whole networks are here: checked first, then timed",
    .options = options,
    .options_bytes = sizeof(struct bench_options),
    .run = run,
    .args = "[ops | models | comm | compare A B]",
    .min_args = 0,
    .max_args = 3,
    .details =
        "The figures stand beside the best product, 3x3 convolution and copy that the device reached in the same "
        "run; a simulated GPU (--device cudasim) has counts instead of times.",
};
