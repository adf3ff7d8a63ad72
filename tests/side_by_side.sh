#!/usr/bin/env bash
# Two commits side by side: does the second compute the same, and is it as fast?
#   tests/side_by_side.sh BEFORE [AFTER] [--demos N] [--models N] [--work DIR]
# Builds both (AFTER: the working tree unless named), runs `demo --quick` of each with one seed, and compares every array, map, mask
# and checkpoint by `mcsam diff --tolerance 0`, and the figures of summary.json and cases.csv by their text (times, peak memory and the
# version excepted). Then times pairs, one after the other in turns: N quick demos (default 0 more than the one of each) and N runs of
# `bench models --seconds 0` of biomedclip and of nnunet_2d at batch 1, N / 3 of sam_vit_b_encoder, which takes a minute (default 0);
# prints the medians of the ratios AFTER / BEFORE. Exit 1 where anything differs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
demos=0 models=0 work='' commits=()
while [ $# -gt 0 ]; do
    case $1 in
    --demos) demos=$2; shift 2 ;;
    --models) models=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    -*) sed -n '2,3s/^# *//p' "$0" >&2; exit 2 ;;
    *) commits+=("$1"); shift ;;
    esac
done
[ ${#commits[@]} -ge 1 ] || { sed -n '2,3s/^# *//p' "$0" >&2; exit 2; }
work=${work:-$(mktemp -d)}
mkdir -p "$work"
unset OPENBLAS_CORETYPE # a choice of kernels that not every machine has
export OMP_WAIT_POLICY=passive

# prepare NAME COMMIT: the sources of a commit (of the working tree where it is empty), built.
prepare() {
    mkdir -p "$work/$1"
    if [ -n "$2" ]; then git archive "$2" | tar -x -C "$work/$1"
    else git ls-files -z | xargs -0 cp --parents -t "$work/$1"; fi
    cmake -S "$work/$1" -B "$work/$1/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMCSAM_TESTS=OFF >"$work/$1.log"
    ninja -C "$work/$1/build" mcsam >>"$work/$1.log" || { tail -n 20 "$work/$1.log"; exit 1; }
}
prepare before "${commits[0]}"
prepare after "${commits[1]:-}"

# run NAME OUT COMMAND...: a program of one side in a folder where relative names are alike; prints its seconds.
run() {
    local side=$1 out=$2 t
    shift 2
    mkdir -p "$work/$out"
    t=$(date +%s.%N)
    (cd "$work/$side" && ./build/mcsam "$@" >"$work/$out.log" 2>&1) || { tail -n 5 "$work/$out.log" >&2; exit 1; }
    awk -v a="$t" -v b="$(date +%s.%N)" 'BEGIN { printf "%.2f\n", b - a }'
}
# median: of the numbers on standard input.
median() { sort -g | awk '{ x[NR] = $1 } END { print NR % 2 ? x[(NR + 1) / 2] : (x[NR / 2] + x[NR / 2 + 1]) / 2 }'; }
# figures FILE: lines of JSON or CSV without times, peak memory and the version.
figures() {
    sed -E -e '/"seconds_by_stage": \{/,/\}/d' -e 's/"(seconds|peak_memory_bytes|version)": *("[^"]*"|[-0-9.e+]+),?//g' "$1"
}
# compare A B: of two run folders; says what differs, or is in one of them alone. timeline.json holds measured memory alone.
compare() {
    local a=$1 b=$2 d f n=0 bad=0
    while read -r d; do
        [ -n "$(find "$a/$d" "$b/$d" -maxdepth 1 -type f \( -name '*.h5' -o -name '*.safetensors' -o -name '*.npy' -o -name '*.png' -o -name '*.jpg' -o -name '*.nii*' \) -print -quit 2>&1)" ] || continue
        n=$((n + 1))
        "$work/after/build/mcsam" diff "$a/$d" "$b/$d" --tolerance 0 >"$work/diff.log" 2>&1 || { bad=1; echo "differs: $d"; cat "$work/diff.log"; }
    done < <(in_either "$a" "$b" -type d)
    while read -r f; do
        cmp -s <(figures "$a/$f") <(figures "$b/$f") || { bad=1; echo "differs: $f"; diff <(figures "$a/$f") <(figures "$b/$f") | head -n 4 || true; }
    done < <(in_either "$a" "$b" -type f \( -name '*.json' -o -name '*.csv' -o -name '*.jsonl' \) ! -name timeline.json)
    echo "compared: $n folders of arrays, maps and masks"
    [ $n -gt 0 ] && [ $bad = 0 ]
}
# in_either A B TEST...: what find sees in one of two folders or in both.
in_either() {
    local a=$1 b=$2
    shift 2
    { (cd "$a" && find . "$@"); (cd "$b" && find . "$@"); } | sort -u
}

for side in before after; do
    seconds=$(run $side demo.$side demo --quick --seed 1 --out runs/side)
    echo "$side: quick demo: $seconds s"
done
differs=0
compare "$work/before/runs/side" "$work/after/runs/side" || differs=1

# pairs WHAT N COMMAND...: the ratio of times, in turns.
pairs() {
    local what=$1 n=$2 i a b
    shift 2
    [ "$n" -gt 0 ] || return 0
    for i in $(seq "$n"); do
        if [ $((i % 2)) = 1 ]; then a=$(run before pair "${@//OUT/$work/pair/a$i}") b=$(run after pair "${@//OUT/$work/pair/b$i}")
        else b=$(run after pair "${@//OUT/$work/pair/b$i}") a=$(run before pair "${@//OUT/$work/pair/a$i}"); fi
        rm -rf "$work/pair"/*
        awk -v a="$a" -v b="$b" 'BEGIN { print b / a }'
    done >"$work/ratios"
    echo "$what: after / before: median $(median <"$work/ratios") of $n pairs ($(sort -g "$work/ratios" | tr '\n' ' '))"
}
pairs "quick demo" "$demos" demo --quick --seed 1 --out OUT
pairs "bench models, biomedclip" "$models" bench models -m biomedclip --batch 1 --seconds 0 -o OUT
pairs "bench models, nnunet_2d" "$models" bench models -m nnunet_2d --batch 1 --seconds 0 -o OUT
pairs "bench models, sam_vit_b_encoder" $((models / 3)) bench models -m sam_vit_b_encoder --seconds 0 -o OUT
[ $differs = 0 ] && echo "same: every array, map, mask and score" || { echo "not the same"; exit 1; }
