/* mcsam bench ops: what the machine reaches on the program's own ops. */
#include "bench/bench.h"

#include <string.h>

static const struct mcs_option options[] = {
    {"op", 0, MCS_FIELD(bench_options, ops), .value = "NAME",
     .help = "only this op: linear, conv, attention; may be given again"},
    {"model", 'm', MCS_FIELD(bench_options, model), .value = "TEXT",
     .help = "only rows whose model contains this text"},
    {"output", 'o', MCS_FIELD(bench_options, output), .value = "FILE",
     .help = "also write FILE.md, FILE.csv and FILE.jsonl"},
    {"seconds", 0, MCS_FIELD(bench_options, seconds), .def = "0.5", .lo = 0, .hi = 3600, .value = "S",
     .help = "time spent on a row"},
    {"small", 0, MCS_FIELD(bench_options, small), .help = "small shapes: a check, not a measurement"},
    {0},
};

static enum mcs_status run(const void *o)
{
    const struct bench_options *b = o;
    const char *what = b->common.args.v[0];
    if (strcmp(what, "ops") == 0) return mcs_bench_ops(b);
    return MCS_FAIL(MCS_E_USAGE, "bench: nothing named '%s' can be measured; known: ops", what);
}

const struct mcs_verb mcs_verb_bench = {
    .name = "bench",
    .line = "how fast the ops are here: checked first, then timed",
    .options = options,
    .options_bytes = sizeof(struct bench_options),
    .run = run,
    .args = "ops",
    .min_args = 1,
    .max_args = 1,
    .details = "The figures stand beside the best product and the best 3x3 convolution that this machine reached in "
               "the same run.",
};
