#!/usr/bin/env bash
# tests/fuzz/run.sh [READER]... [--minutes M | --runs N]: fuzzes readers with libFuzzer (clang) under the address and
# undefined-behaviour sanitizers, each for M minutes (1) or N executions, one after the other. Inputs that reached new code are kept
# in build-fuzz/corpus/READER and are where the next run starts; one that crashes, hangs or leaks is build-fuzz/found/READER-*, and the exit
# status is then 1. Prints a line a reader.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds=60 runs=-1 readers=()
while [ $# -gt 0 ]; do
    case $1 in
    --minutes) seconds=$(awk -v m="${2:?--minutes M}" 'BEGIN {printf "%d", 60 * m}'); shift 2 ;;
    --runs) runs=${2:?--runs N} seconds=0; shift 2 ;;
    -*) echo "fuzz: unknown option $1: want --minutes M or --runs N" >&2; exit 2 ;;
    *) readers+=("$1"); shift ;;
    esac
done
all=$(sed -n 's/^FUZZ_READER(\([a-z]*\),.*/\1/p' tests/fuzz/fuzz.def)
[ ${#readers[@]} -gt 0 ] || read -r -d '' -a readers <<<"$all" || true
for r in "${readers[@]}"; do
    grep -qx "$r" <<<"$all" || { echo "fuzz: no reader '$r'; there are:" $all >&2; exit 2; }
done
if ! command -v clang >/dev/null || ! echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return !d && n; }' |
    clang -x c - -fsanitize=fuzzer,address -o /dev/null 2>/dev/null; then
    echo "mcsam-test-skip: fuzz: no clang with libFuzzer (clang, libclang-rt-14-dev)"
    echo "mcsam-test-count: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
mkdir -p build-fuzz/found
log=build-fuzz/build.log
if ! { cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
    -DMCSAM_FUZZ=ON -DMCSAM_TESTS=OFF -DMCSAM_WERROR=OFF && ninja -C build-fuzz "${readers[@]/#/fuzz_}"; } >$log 2>&1; then
    grep -E -A8 'error|FAILED' $log | head -n 40 >&2 || tail -n 20 $log >&2
    exit 1
fi
# The helper programs run as they are installed, without the sanitizers, which its limits on memory exclude.
[ ! -x build/mcsam-h5read ] || export MCSAM_LIBEXEC=$PWD/build
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
export LSAN_OPTIONS=suppressions=$PWD/tests/leaks.supp:print_suppressions=0

# Of libFuzzer's output the last count of edges, and when it last grew, as "edges seconds"; the output goes to $1.
watch() {
    local line edges=0 cov since=$SECONDS
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$1"
        [[ $line =~ ^#[0-9]+.*cov:\ ([0-9]+) ]] || continue
        cov=${BASH_REMATCH[1]}
        if [ "$cov" -gt "$edges" ]; then edges=$cov since=$SECONDS; fi
    done
    echo "$edges $((SECONDS - since))"
}

bad=0
for r in "${readers[@]}"; do
    most=$(sed -n "s/^FUZZ_READER($r,.*, \([0-9]*\), [0-9]*)$/\1/p" tests/fuzz/fuzz.def)
    corpus=build-fuzz/corpus/$r log=build-fuzz/$r.log
    mkdir -p "$corpus"
    : >"$log"
    started=$SECONDS
    read -r edges quiet < <({ build-fuzz/fuzz_"$r" "$corpus" "tests/fuzz/seeds/$r" -max_len="$most" -timeout=30 -rss_limit_mb=2560 \
        -artifact_prefix="build-fuzz/found/$r-" -print_final_stats=1 -max_total_time="$seconds" -runs="$runs" 2>&1 || echo "ended with status $?"; } | watch "$log")
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    awk -v r="$r" -v n="${executions:-0}" -v e="$edges" -v t=$((SECONDS - started)) -v q="$quiet" \
        'BEGIN {printf "%-12s %9d executions, %5d edges, %6.1f minutes, %6.1f since the last new edge\n", r, n, e, t / 60, q / 60}'
    if grep -q '^ended with status' "$log"; then
        bad=1
        grep -E 'ERROR|runtime error|SUMMARY|Test unit written|^tests/fuzz' "$log" | head -n 6
        echo "$r: see $log; give the input to build-fuzz/fuzz_$r to repeat it"
    fi
done
exit $bad
