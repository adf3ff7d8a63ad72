#!/usr/bin/env bash
# ./run gpu: builds, tests and times everything on a machine with an NVIDIA GPU, a CUDA toolkit and gcc; it needs no network, cmake,
# Criterion or oneDNN. Less than ten minutes.
#   --small             small shapes, few cases: checks the command
#   --build             builds only
#   --simulate PROGRAM  builds nothing; runs PROGRAM, linked with the simulation, on small shapes
# Writes $OUT/gpu_NAME.csv (OUT: runs/gpu by default; NAME: of the GPU); the last line says which parts passed.
# CUDA_HOME: the toolkit, if nvcc is not on PATH. Exit code 0, 1 where something failed, 69 where there is no GPU.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
small=() simulate= only_build= started=$SECONDS
while [ $# -gt 0 ]; do
    case $1 in
    --small) small=(--small) ;;
    --build) only_build=1 ;;
    --simulate) simulate=$2 small=(--small) && shift ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" && exit 2 ;;
    esac
    shift
done
say() { printf 'gpu: %s\n' "$*"; }
die() { say "$*" && exit "${code:-1}"; }
cores=$(nproc)

# ---- size limit of the tree ----
limit=$((64 << 20))
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    bytes=$(git ls-files -z | du -cb --files0-from=- | tail -n 1 | cut -f 1)
else
    bytes=$(du -sb --exclude=./build --exclude='./build-*' --exclude=./runs --exclude=./.git . | cut -f 1)
fi
[ "$bytes" -lt $limit ] || die "the tree is $bytes bytes; a tree that is copied to a GPU machine must stay below $limit"

# ---- the build ----
include=() library=() # folders of NVIDIA's headers and libraries, the toolkit's first
find_toolkit() {
    local nvcc root site
    nvcc=$(command -v nvcc || ls -d "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" 2>/dev/null) || die "no nvcc: put it on PATH, or set CUDA_HOME"
    command -v gcc >/dev/null && command -v g++ >/dev/null || die "no gcc and g++ here"
    nvcc=$(readlink -f "$nvcc")
    NVCC=$nvcc root=$(dirname "$(dirname "$nvcc")")
    # A toolkit without cuBLAS or cuDNN: use those that PyTorch installed.
    site=$(timeout 60 python3 -c 'import site, sysconfig; print(" ".join(site.getsitepackages() + [sysconfig.get_paths()["purelib"]]))' 2>/dev/null)
    for d in "$root" "$root"/targets/{x86_64,sbsa}-linux /usr $(for s in $site; do echo "$s"/nvidia/*/; done); do
        for i in "$d"/include; do [ "$d" != /usr ] && { [ -e "$i/cublasLt.h" ] || [ -e "$i/cudnn.h" ] || [ -e "$i/nccl.h" ] || [ -e "$i/cuda_runtime_api.h" ]; } && include+=("$i"); done
        for l in "$d"/lib64 "$d"/lib "$d"/lib/x86_64-linux-gnu; do
            ls "$l"/libcublasLt.so* "$l"/libcudart_static.a "$l"/libcudnn.so* "$l"/libnccl.so* >/dev/null 2>&1 && library+=("$l")
        done
    done
    for l in "${library[@]}"; do
        for n in "$l"/libcudnn.so.[89]; do [ -e "$n" ] && [ -z "${MCSAM_CUDNN:-}" ] && export MCSAM_CUDNN=$n; done
        for n in "$l"/libcublasLt.so "$l"/libcublasLt.so.*; do [ -e "$n" ] && [ -z "${BLAS:-}" ] && BLAS=$n; done
    done
    [ -n "${BLAS:-}" ] || die "no libcublasLt.so: neither in $root nor beside PyTorch"
}

build() {
    local arch objects=() f o failed=0 t=$SECONDS
    find_toolkit
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d '. ')
    case $arch in [1-9][0-9] | [1-9][0-9][0-9]) ;; *) arch=90 ;; esac
    [ "$arch" -ge 80 ] || code=69 die "GPU 0 is of architecture sm_$arch; bf16 tensor cores are there from sm_80 on"
    "$NVCC" --list-gpu-arch 2>/dev/null | grep -qx "compute_$arch" || die "$NVCC does not know sm_$arch: a newer toolkit is wanted"
    folder=build-gpu/sm_$arch
    mkdir -p "$folder"
    program=$folder/gpu_run
    printf '#include "%s"\n' tests/cases/*.def >"$folder/cases.def" # as CMakeLists.txt makes it
    local host=(-std=gnu11 -O2 -Wall -I. "-I$folder" "-DMCS_VERSION=\"$(sed -n 's/^project(mcsam VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)\"")
    for f in "${include[@]}"; do host+=(-isystem "$f"); done
    { # sources, longest compilations first
        ls -S kernels/*/*.cu tests/cudasim/probes*.cu
        ls tests/gpu/gpu_run.c tests/support/support_{cases,case_device}.c tests/ref/*.c bench/{case,bench_time,bench_ops,bench_models,bench_networks,bench_text}.c data/io/file.c \
            engine/*.c engine/base/*.c engine/tape/*.c engine/cuda/*.c engine/dist/*.c engine/model/*.c | grep -v '^engine/devices.c$'
    } >"$folder/files"
    say "$("$NVCC" --version | tail -n 2 | head -n 1), $(gcc --version | head -n 1); sm_$arch, $(wc -l <"$folder/files") files, $cores at a time"
    export NVCC folder arch
    export HOST="${host[*]@Q}"
    xargs -P "$cores" -I FILE bash -c '
        o=$folder/$(echo FILE | tr / _).o
        [ -e "$o" ] && [ -z "$(find FILE kernels engine bench tests -newer "$o" ! -name "*.c" ! -name "*.cpp" ! -name "*.cu" -type f -print -quit)$(find FILE -newer "$o")" ] && exit 0
        case FILE in
        *.cu) "$NVCC" -std=c++17 -O3 -gencode=arch=compute_$arch,code=sm_$arch -I. -c -o "$o" FILE ;;
        *) eval "gcc $HOST -c -o $o FILE" ;;
        esac >"$o.log" 2>&1 || { rm -f "$o"; echo FILE >>"$folder/failed"; }' <"$folder/files"
    if [ -e "$folder/failed" ]; then
        while read -r f; do
            say "cannot compile $f:"
            head -n 12 "$folder/$(echo "$f" | tr / _).o.log"
        done <"$folder/failed"
        rm -f "$folder/failed"
        die "the build failed"
    fi
    while read -r f; do objects+=("$folder/$(echo "$f" | tr / _).o"); done <"$folder/files"
    local link=("$BLAS" -Xlinker -rpath,"$(dirname "$BLAS")" -ldl -lpthread -lrt -lm)
    for l in "${library[@]}"; do link+=(-L "$l"); done
    "$NVCC" -gencode=arch=compute_"$arch",code=sm_"$arch" -o "$program" "${objects[@]}" "${link[@]}" >"$folder/link.log" 2>&1 || { head -n 12 "$folder/link.log" && die "the program does not link"; }
    say "built in $((SECONDS - t)) s"
}

program=$simulate
[ -n "$simulate" ] || build
[ -z "$only_build" ] || exit 0

# ---- the device ----
line=$("$program" devices 2>&1)
rc=$?
say "${line#gpu: }"
[ $rc = 0 ] || exit $rc
ask() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits 2>/dev/null | head -n 1; }
if [ -z "$simulate" ] && command -v nvidia-smi >/dev/null; then
    gpu=$(ask name) driver=$(ask driver_version) sm_mhz=$(ask clocks.max.sm) memory_mhz=$(ask clocks.max.memory)
    say "driver $driver, clocks now $(ask clocks.sm) and $(ask clocks.mem) MHz, at most $sm_mhz and $memory_mhz MHz; $(ask power.limit) W, $(ask temperature.gpu) C"
else
    gpu=$(sed -n 's/^GPU 0: \([^,]*\),.*/\1/p' <<<"$line" | head -n 1) driver= sm_mhz= memory_mhz=
    [ -n "$simulate" ] || say "no nvidia-smi: driver and clocks are not known"
fi
name=$(tr 'A-Z ' 'a-z_' <<<"${gpu#NVIDIA }" | tr -cd 'a-z0-9_')
out=${OUT:-runs/gpu}
[ -z "$simulate" ] || out=$(mktemp -d)
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"; [ -z "$simulate" ] || rm -rf "$out"' EXIT
csv=$out/gpu_${name:-unknown}.csv
echo 'part,gpu,driver,sm_mhz,memory_mhz,precision,model,op,what,pass,shape,error,allowed,median_s,p10_s,p90_s,runs,gflops,gbytes_s,percent_of_best' >"$csv"
rows() { while IFS= read -r l; do printf '%s,"%s",%s,%s,%s,%s\n' "$1" "$gpu" "$driver" "$sm_mhz" "$memory_mhz" "$l"; done >>"$csv"; } # rows PART <rows without the first five

summary=() failed=0
# part NAME SECONDS COMMAND...: the command's last line is the result.
part() {
    local what=$1 limit=$2 rc=0 t=$SECONDS last
    shift 2
    printf '\n== %s\n' "$what"
    timeout "$limit" "$@" 2>&1 | tee "$work/log"
    rc=${PIPESTATUS[0]}
    last=$(tail -n 1 "$work/log")
    [ "$rc" != 124 ] || last="not done within $limit s"
    grep -q ' passed, ' <<<"$last" || [ "$rc" = 0 ] || last="${last:-nothing} (exit $rc)"
    [ "$rc" = 0 ] || failed=$((failed + 1))
    summary+=("$what: $last ($((SECONDS - t)) s)")
}
skip() { printf '\n== %s: skipped: %s\n' "$1" "$2" && summary+=("$1: skipped"); }

# ---- the parts ----
jobs=$((cores < 6 ? cores : 6))
part "ops against the oracles" 240 "$program" ops "$work/ops.csv" --jobs $jobs "${small[@]}"
[ ! -e "$work/ops.csv" ] || rows ops <"$work/ops.csv"
part "intrinsics as documented" 60 "$program" intrinsics "$work/probes.csv"
[ ! -e "$work/probes.csv" ] || rows intrinsics <"$work/probes.csv"

sanitizer() {
    local tool rc bad=0 done=0 op
    command -v compute-sanitizer >/dev/null || PATH=$PATH:$(dirname "${NVCC:-/usr/local/cuda/bin/nvcc}")
    if ! timeout 60 compute-sanitizer --tool memcheck "$program" intrinsics /dev/null >"$work/sanitizer" 2>&1; then
        echo "compute-sanitizer refuses this device or cannot start here: $(grep -m 1 -i -E 'not supported|error|cannot' "$work/sanitizer" || tail -n 1 "$work/sanitizer")"
        return 90
    fi
    for tool in memcheck racecheck; do
        for op in linear conv attention layernorm instance_norm contrastive dice_ce gather resize conv_transpose; do
            timeout 20 compute-sanitizer --tool $tool --error-exitcode 9 "$program" ops "$work/sanitized.csv" --jobs 0 --small --op $op >"$work/sanitizer" 2>&1
            rc=$?
            done=$((done + 1))
            case $rc in
            0) ;;
            124) echo "$tool, $op: not done within 20 s" && done=$((done - 1)) ;;
            *) bad=$((bad + 1)) && echo "$tool, $op: FAILED" && grep -m 8 '=========' "$work/sanitizer" ;;
            esac
            [ $((SECONDS - began)) -lt 90 ] || break
        done
    done
    echo "$((done - bad)) passed, $bad failed"
    [ $bad = 0 ]
}
if [ -n "$simulate" ]; then
    skip "compute-sanitizer" "the simulation has its own checks"
elif ! command -v compute-sanitizer >/dev/null && [ ! -x "$(dirname "$NVCC")/compute-sanitizer" ]; then
    skip "compute-sanitizer" "it is not in this toolkit"
else
    printf '\n== compute-sanitizer\n'
    began=$SECONDS rc=0
    sanitizer >"$work/log" || rc=$?
    cat "$work/log"
    [ $rc = 90 ] || [ $rc = 0 ] || failed=$((failed + 1))
    [ $rc = 90 ] && summary+=("compute-sanitizer: skipped: refused here") || summary+=("compute-sanitizer: $(tail -n 1 "$work/log") ($((SECONDS - began)) s)")
fi

for p in fp32 bf16; do
    part "bench ops, $p" 100 "$program" bench "$work" --only ops_$p "${small[@]}"
    # A simulated GPU's rows have counts as columns; models' rows have: correct, share, memory.
    [ -n "$simulate" ] || [ ! -e "$work/ops_$p.csv" ] || sed "1d; s/^/$p,/" "$work/ops_$p.csv" | rows bench
    part "bench models, $p" 100 "$program" bench "$work" --only models_$p --seconds 0.3 "${small[@]}"
    [ -n "$simulate" ] || [ ! -e "$work/models_$p.csv" ] || awk -F, -v OFS=, -v p=$p 'NR > 1 {print p, $1, $2, $3, $4, $5, 1 - $6, 0, $7, $8, $9, $10, $12, "", $13}' "$work/models_$p.csv" | rows models
done

if [ -n "$simulate" ]; then
    skip "PyTorch" "a simulated GPU has no times"
elif ! timeout 120 python3 -c 'import torch; assert torch.cuda.is_available()' >/dev/null 2>&1; then
    skip "PyTorch" "no python3 with a torch that sees the GPU"
else
    left=$((540 - (SECONDS - started)))
    part "PyTorch" $((left > 60 ? left + 20 : 80)) python3 bench/peers/torch_ops.py "$work/ops_fp32.csv" "$work/ops_bf16.csv" "$work/torch.csv" $((left < 160 ? left : 160))
    [ ! -e "$work/torch.csv" ] || rows torch <"$work/torch.csv"
fi
[ -z "$simulate" ] && command -v nvidia-smi >/dev/null && say "clocks at the end: $(ask clocks.sm) and $(ask clocks.mem) MHz, $(ask temperature.gpu) C"

printf '\n'
say "$(($(wc -l <"$csv") - 1)) rows in $csv, $((SECONDS - started)) s"
printf -v all '%s; ' "${summary[@]}"
say "${all%; }"
[ $failed = 0 ] && say "all passed" || say "$failed parts FAILED"
[ $failed = 0 ]
