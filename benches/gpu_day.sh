#!/usr/bin/env bash
# Tests and measures denoir on an NVIDIA device in eight minutes, on a machine without Rust and without a network.
# `cargo xtask gpu-kit` builds what it needs beforehand, in .kit; benches/record/README.md says what to do with the result.
#
#   bash benches/gpu_day.sh                     all steps; a summary comes last
#   bash benches/gpu_day.sh --only "1 4"        these steps
#   bash benches/gpu_day.sh --rehearse          without a GPU: CUDA on the emulator, Vulkan in software, tiny cases
#   --out FOLDER                                where the report goes; $OUT or gpu-day by default
#
# PYTHON names a Python with NumPy and, for the comparisons, PyTorch; LIMIT is the most seconds for all steps together.
set -u
cd "$(dirname "$0")/.." || exit 1

# Name, seconds and title of each step.
steps=(
    "machine 15 card, driver, tools"
    "demo 15 the demo picture on CUDA and on the processor: go or no-go"
    "kernels 45 each kernel without Rust, beside cuBLAS and PyTorch's attention"
    "tests 75 op matrix, goldens and host on CUDA"
    "evaluations 90 evaluations and whole pictures on CUDA"
    "ncu 30 bytes from memory, kernel by kernel"
    "torch 80 PyTorch on the same card and weights"
    "sanitizer 75 NVIDIA's sanitizer on linear layers and attention"
    "vulkan 90 Vulkan: tiers, tests, evaluations"
)

# ---------------------------------------------------------------------------------------------------------- the steps
# Each runs in a process of its own, with the kit unpacked in $KIT, scratch space in $WORK and its own standard output as
# its log. A line `skipped: ...` says what could not be done; a status other than 0 means that something is wrong.

# What went wrong so far: a crash or a hang outweighs an error.
failed=0
fail() { [ "$1" -gt "$failed" ] && failed=$1; }

# Runs a command for so many seconds at most. Where it fails the step has failed, and goes on.
part() {
    local seconds=$1 status=0
    shift
    echo "\$ ${*##*/}" >&2
    timeout --foreground -k 5 "$seconds" "$@" || status=$?
    case $status in
        0 | 77) ;;
        124 | 137) echo "FAILED: ${1##*/}: stopped after $seconds s" >&2; fail 124 ;;
        *) echo "FAILED: ${1##*/}: status $status" >&2; fail "$status" ;;
    esac
    return "$status"
}

# A part in Python, where there is one.
python_part() {
    if have "$PYTHON"; then part "$1" "$PYTHON" "${@:2}"; else echo "skipped: ${2##*/}: there is no $PYTHON" && return 77; fi
}

have() { command -v "$1" >/dev/null 2>&1; }
rehearsing() { [ "$REHEARSE" = 1 ]; }

step_machine() {
    cat "$KIT/revision"
    uname -srm
    echo "$(nproc) cores, $(awk '/MemTotal/ {printf "%d GiB", $2 / 1048576}' /proc/meminfo), $(ldd --version | head -1)"
    if have nvidia-smi; then
        nvidia-smi --format=csv --query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit
    else
        echo "nvidia-smi is not here (a Jetson has none)"
    fi
    for tool in nvcc ncu compute-sanitizer cuobjdump gcc "$PYTHON"; do
        printf '%s: %s\n' "$tool" "$(command -v "$tool" || echo none)"
    done
    python_part 10 -c 'import importlib.metadata as m
for name in ("numpy", "torch", "triton", "cupy-cuda13x"):
    try: print(name, m.version(name))
    except m.PackageNotFoundError: print(name, "none")'
    echo "driver: ${LD_LIBRARY_PATH:-found by itself}"
    ls -l "$KIT"
    for program in denoir op_matrix op_goldens cuda vulkan; do
        if ldd "$KIT/$program" | grep "not found"; then
            echo "FAILED: $program lacks libraries"
            fail 1
        fi
    done
    return $failed
}

step_demo() {
    part 10 "$KIT/denoir" devices
    local demo=(generate --seed 42 --class 3 -q)
    rehearsing && demo=(generate -m tests/bare/tiny.gguf --seed 42 --steps 2 -q)
    part 10 "$KIT/denoir" "${demo[@]}" --backend cpu -o "$WORK/cpu.npy"
    if ! part 10 "$KIT/denoir" "${demo[@]}" --backend cuda -o "$WORK/cuda.npy"; then
        # The self-test may have found a kernel: how far is the picture without it?
        export DENOIR_CUDA_SELF_TEST=skip
        part 10 "$KIT/denoir" "${demo[@]}" --backend cuda -o "$WORK/cuda.npy"
    fi
    rehearsing || part 10 "$KIT/denoir" "${demo[@]}" --backend cuda -o "$REPORT/demo-cuda.png"
    python_part 10 benches/gpu_day/report.py compare "$WORK/cpu.npy" "$WORK/cuda.npy"
    return $failed
}

step_kernels() {
    local tiny=()
    rehearsing && tiny=(--tiny)
    python_part "$SECONDS_LEFT" benches/gpu_day/kernels.py ${tiny[@]+"${tiny[@]}"} --json "$WORK/measures.jsonl"
    return $failed
}

# One process a kernel, so that a crash costs one kernel; side by side, as they wait for the reference most of the time.
op_matrix() {
    local kernel=$1 filter=${2:-}
    local log="$WORK/op_matrix.$kernel.${filter//[^a-z0-9]/}"
    DENOIR_CASE=$filter timeout --foreground -k 5 $((SECONDS_LEFT * 2 / 3)) "$KIT/op_matrix" --exact "$kernel" --nocapture >"$log" 2>&1
    local status=$?
    grep -E "^$kernel: |^skipped: .*$DENOIR_ROW" "$log" | sort -u
    [ $status = 0 ] && return
    echo "FAILED: op_matrix $kernel $filter: status $status"
    grep -vE "^(skipped|running|test |failures|$)" "$log" | head -12
    # xargs reports every failure alike.
    [ $status -ge 124 ] && echo $status >"$WORK/crash"
    return 1
}
export -f op_matrix

step_tests() {
    export DENOIR_REQUIRE=cuda DENOIR_ROW=cuda
    local jobs=16 tests=(forward samples graphs errors tensor_cores not_finite)
    rehearsing && jobs=$(nproc) && export DENOIR_CASES=6 && tests=(graphs tensor_cores)
    local kernels
    kernels=$("$KIT/op_matrix" --list 2>/dev/null | sed -n 's/^\([a-z_]*\): test$/\1/p' |
        grep -vE "^(linear|every|scalar|a_wrong|other|forms|no_case)")
    {
        printf 'linear %s\n' "f16·f16" "bf16·bf16" "int8·int8" "f32·" "±127"
        printf '%s\n' $kernels
    } | xargs -P "$jobs" -L 1 bash -c 'op_matrix "$@"' _ || fail "$(cat "$WORK/crash" 2>/dev/null || echo 1)"
    part $((SECONDS_LEFT / 3)) "$KIT/op_goldens" --nocapture >"$WORK/op_goldens"
    grep -vE " on (scalar|avx|amx|neon|vulkan)|^$" "$WORK/op_goldens"
    part $((SECONDS_LEFT / 3)) "$KIT/cuda" "${tests[@]}" --skip can_fail --nocapture --test-threads 1
    return $failed
}

# Model files with random weights, made while the first steps run.
shapes=(jit-b16 pixelgen-xl pixelgen-xxl)
types=(bf16 int8 f16)
step_models() {
    mkdir -p "$WORK/models"
    local shape type
    for type in "${types[@]}"; do
        for shape in "${shapes[@]}"; do
            # The file gets its name when it is complete.
            "$KIT/denoir" bench --shape "$shape" --type "$type" --save "$WORK/models/$shape-$type.gguf" &
        done
        wait
    done
}

# Times evaluations of a model, and keeps the JSON.
bench() {
    local backend=$1 model=$2 batch=$3 json="$WORK/bench.json"
    [ -f "$model" ] || { echo "FAILED: $model was not made"; fail 1; return 1; }
    part 15 "$KIT/denoir" bench --backend "$backend" -m "$model" --batch "$batch" --runs "$RUNS" --quiet --json >"$json" || return
    tr -d '\n' <"$json" | sed 's/^{/{"step": "bench", /; s/$/\n/' >>"$WORK/measures.jsonl"
    sed -nE 's/^  "(batch|device_ms|predict_ms|modulation_ms|device_bytes|model|type|load_ms)": (.*),?$/\1 \2/p' "$json" | tr '\n' ' '
    echo
    # What the model of benches/gpu_model expects of this card.
    local predicted="$KIT/predicted/$CARD-$(basename "$model" .gguf)-$batch"
    [ "$backend" = cuda ] && [ -f "$predicted" ] && echo "predicted: $(tail -1 "$predicted")"
    return 0
}

# Draws two whole pictures: the first records graphs and brings the weights to the device.
picture() {
    local model=$1 json="$WORK/picture.json"
    shift
    [ -f "$model" ] || { echo "FAILED: $model was not made"; fail 1; return 1; }
    part 20 "$KIT/denoir" generate --backend cuda -m "$model" -i 2 --rng philox -q --json "$@" -o "$WORK/picture.png" >"$json" || return
    tr -d '\n' <"$json" | sed 's/^{/{"step": "picture", /; s/$/\n/' >>"$WORK/measures.jsonl"
    grep -E '"(ms|load_ms|sample_ms|evaluations_per_image)"' "$json" | tr -s ' \n' ' '
    echo
}

step_evaluations() {
    if rehearsing; then
        export RUNS=1
        bench cuda tests/bare/tiny.gguf 1
        picture tests/bare/tiny.gguf --class 0 --steps 2
        return $failed
    fi
    export RUNS=10
    local models=$WORK/models
    bench cuda "$models/pixelgen-xl-bf16.gguf" 2
    bench cuda "$models/pixelgen-xl-bf16.gguf" 1
    bench cuda "$models/jit-b16-bf16.gguf" 1
    bench cuda "$models/pixelgen-xl-int8.gguf" 2
    bench cuda "$models/pixelgen-xl-int8.gguf" 1
    bench cuda "$models/pixelgen-xxl-bf16.gguf" 1
    picture "$models/pixelgen-xl-bf16.gguf" --class 207
    python_part 10 benches/gpu_day/report.py embeds "$WORK/embeds.safetensors" &&
        picture "$models/pixelgen-xxl-bf16.gguf" --prompt-embeds "$WORK/embeds.safetensors"
    bench cuda "$models/pixelgen-xxl-int8.gguf" 1
    bench cuda "$models/jit-b16-int8.gguf" 1
    bench cuda "$models/pixelgen-xl-f16.gguf" 2
    bench cuda "$models/pixelgen-xl-f16.gguf" 1
    bench cuda "$models/jit-b16-f16.gguf" 1
    bench cuda "$models/pixelgen-xxl-f16.gguf" 1
    return $failed
}

step_ncu() {
    local model=$WORK/models/pixelgen-xl-bf16.gguf batch=2
    rehearsing && model=tests/bare/tiny.gguf batch=1
    # The program calls the profiler for one evaluation, whose kernels it times one by one.
    local run=("$KIT/denoir" bench --backend cuda -m "$model" --batch "$batch" --runs 1 --quiet --json)
    if have ncu; then
        part "$SECONDS_LEFT" ncu --profile-from-start off --clock-control none --launch-count 200 --csv --page raw \
            --metrics dram__bytes_read.sum,dram__bytes_write.sum,gpu__time_duration.sum --log-file "$WORK/ncu.csv" "${run[@]}"
    else
        echo "skipped: ncu is not here"
        part "$SECONDS_LEFT" "${run[@]}"
        rehearsing || return $failed
        # What it would have written.
        printf '%s\n' '"ID","Kernel Name","dram__bytes_read.sum","dram__bytes_write.sum","gpu__time_duration.sum"' \
            '"","","Mbyte","Kbyte","us"' '"0","linear_f16_64x64(LinearArgs)","1,024.5","32","10.5"' >"$WORK/ncu.csv"
    fi
    python_part 10 benches/gpu_day/report.py ncu "$WORK/ncu.csv"
    return $failed
}

step_torch() {
    if rehearsing; then
        part "$SECONDS_LEFT" "$KIT/denoir" convert fixtures/checkpoints/jit.pth --config fixtures/checkpoints/jit.json --type bf16 -o "$WORK/jit.gguf" -q
        local models=("$WORK/jit.gguf") how=(--rehearse)
    else
        local models=("$WORK/models/pixelgen-xl-bf16.gguf" "$WORK/models/jit-b16-bf16.gguf") how=()
    fi
    part 15 "$KIT/denoir" generate --backend cuda -m "${models[0]}" --sampling-method euler --steps 1 --cfg-scale 1 --flow-shift 1 \
        --seed 5 --class 3 -q -o "$WORK/x_hat.npy"
    python_part "$SECONDS_LEFT" benches/gpu_day/torch_peer.py "${models[@]}" ${how[@]+"${how[@]}"} --seconds $((SECONDS_LEFT - 8)) \
        --compare "$WORK/x_hat.npy" --seed 5 --label 3 --json "$WORK/measures.jsonl"
    return $failed
}

step_sanitizer() {
    export DENOIR_REQUIRE=cuda DENOIR_ROW=cuda DENOIR_CASES=16
    rehearsing && DENOIR_CASES=2
    local tool kernel
    have compute-sanitizer || echo "skipped: compute-sanitizer is not here"
    for tool in memcheck racecheck synccheck; do
        for kernel in linear attention; do
            # `aligned`: the kernels with tiles, which copy asynchronously.
            local run=("$KIT/op_matrix" --exact "$kernel" --nocapture) only=
            [ $kernel = linear ] && only=aligned
            if have compute-sanitizer; then
                run=(compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 8 "${run[@]}")
            elif [ $tool != memcheck ]; then
                continue
            fi
            DENOIR_CASE=$only part 22 "${run[@]}"
        done
    done
    return $failed
}

step_vulkan() {
    # The kit's layer knows cooperative matrices. Where the C library is too old for it, the system's own is used.
    local libraries=$KIT/layers:${LD_LIBRARY_PATH:-}
    if LD_LIBRARY_PATH=$libraries ldd "$KIT/layers/libVkLayer_khronos_validation.so" 2>&1 | grep "not found"; then
        echo "the system's own loader and layers are used"
    else
        export LD_LIBRARY_PATH=$libraries VK_LAYER_PATH=$KIT/layers
    fi
    local icd=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
    [ -f "$icd" ] && export VK_DRIVER_FILES=$icd
    if ! "$KIT/denoir" devices | grep -q '^vulkan'; then
        "$KIT/denoir" generate --backend vulkan -o "$WORK/vulkan.png"
        rehearsing && echo "skipped: there is no Vulkan device here" && return 0
        echo "FAILED: no Vulkan device"
        return 1
    fi
    "$KIT/denoir" devices | sed -n '/^vulkan/,/^[a-u]/p'
    export DENOIR_ROW=vulkan
    local cases=200 tests=(forward)
    rehearsing && cases=4 tests=(large_weights)
    export DENOIR_CASES=$cases
    printf '%s\n' linear attention qk_norm_rope norm_modulate | xargs -P 4 -L 1 bash -c 'op_matrix "$@"' _ || fail 1
    part 25 "$KIT/vulkan" "${tests[@]}" --nocapture --test-threads 1
    rehearsing || part 45 "$KIT/vulkan" not_finite --nocapture
    local model
    for model in "$WORK"/models/pixelgen-xl-{bf16,int8,f16}.gguf; do
        rehearsing && model=tests/bare/tiny.gguf
        bench vulkan "$model" 1
        rehearsing && break
    done
    return $failed
}

# --------------------------------------------------------------------------------------------------------- the order

if [ "${1:-}" = --step ]; then
    "step_$2"
    exit
fi

REHEARSE=0 only= report=${OUT:-gpu-day}
while [ $# -gt 0 ]; do
    case $1 in
        --rehearse) REHEARSE=1 ;;
        --only) only=" ${2:?--only needs steps} "; shift ;;
        --out) report=${2:?--out needs a folder}; shift ;;
        *) echo "gpu_day.sh: unknown argument $1" >&2; exit 2 ;;
    esac
    shift
done
begin=$(date +%s)
limit=${LIMIT:-480}
mkdir -p "$report/logs" || exit 1
REPORT=$(cd "$report" && pwd)
WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT
KIT=$WORK/kit
PYTHON=${PYTHON:-python3}
RUNS=10
# The card's name in benches/gpu_model.
CARD=$(nvidia-smi --format=csv,noheader --query-gpu=name 2>/dev/null | grep -oiE -m1 'h[12]00' | tr H h)
export CARD REHEARSE REPORT WORK KIT PYTHON RUNS DENOIR_FIXTURES=$PWD/fixtures
mkdir "$KIT"
: >"$WORK/measures.jsonl"
: >"$REPORT/steps"
if have xz; then tar -xJf .kit/kit.tar.xz -C "$KIT"; else "$PYTHON" -m tarfile -e .kit/kit.tar.xz "$KIT"; fi
if [ ! -x "$KIT/denoir" ]; then
    echo "gpu_day.sh: .kit does not hold the programs: run cargo xtask gpu-kit where there is Rust" >&2
    exit 1
fi

# The folder of the driver, where the system's loader does not know it.
find_driver() {
    rehearsing && echo "$KIT/emulator" && return
    local folder
    ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1' && return
    for folder in /usr/local/nvidia/lib64 /usr/local/nvidia/lib /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib/aarch64-linux-gnu/tegra \
        /usr/lib/aarch64-linux-gnu/nvidia /usr/local/cuda/compat; do
        [ -e "$folder/libcuda.so.1" ] && echo "$folder" && return
    done
}
driver=$(find_driver)
[ -n "$driver" ] && export LD_LIBRARY_PATH=$driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

status_of() { awk -v name="$1" '$1 == name {print $2}' "$REPORT/steps"; }
ended_badly() { [ "$(status_of "$1")" -ge 124 ] 2>/dev/null; }

run_step() {
    local number=$1 name seconds title left status=0 start
    read -r name seconds title <<<"${steps[number]}"
    [ -n "$only" ] && [[ $only != *" $number "* ]] && return
    [ -n "$(status_of "$name")" ] && return
    left=$((limit - $(date +%s) + begin))
    # A rehearsal takes as long as a processor needs.
    rehearsing && seconds=$((seconds * 4))
    [ "$seconds" -gt "$left" ] && seconds=$left
    if [ "$seconds" -lt 5 ]; then
        echo "$name 75 0 $title" >>"$REPORT/steps"
        echo "skipped: no time was left" >"$REPORT/logs/$number-$name.log"
        return
    fi
    echo "== step $number: $title ($seconds s at most)"
    start=$(date +%s.%N)
    SECONDS_LEFT=$seconds timeout -k 5 "$seconds" bash benches/gpu_day.sh --step "$name" >"$REPORT/logs/$number-$name.log" 2>&1 || status=$?
    echo "$name $status $(date +%s.%N | awk -v start="$start" '{printf "%.1f", $1 - start}') $title" >>"$REPORT/steps"
    grep -m 4 FAILED "$REPORT/logs/$number-$name.log"
}

models=
if ! rehearsing; then
    timeout 120 bash benches/gpu_day.sh --step models >"$REPORT/logs/models.log" 2>&1 &
    models=$!
fi
run_step 0
run_step 1
# Without a picture the next steps name the kernel, if the self-test does not stop them.
case $(status_of demo) in "" | 0) ;; *) export DENOIR_CUDA_SELF_TEST=skip ;; esac
if ! rehearsing && [ -f "$REPORT/logs/1-demo.log" ] && ! grep -q '^cuda' "$REPORT/logs/1-demo.log"; then
    echo "no CUDA device: only Vulkan is left"
    only=" 8 "
fi
# After a crash or a hang the sanitizer tells the most.
ended_badly demo && only='' run_step 7
run_step 2
run_step 3
ended_badly tests && only='' run_step 7
[ -n "$models" ] && wait "$models"
for number in 4 5 6 7 8; do run_step "$number"; done

cp "$WORK/measures.jsonl" "$REPORT/measures.jsonl"
tar -czf "$REPORT/logs.tar.gz" -C "$REPORT" logs
echo
{
    if have "$PYTHON"; then
        "$PYTHON" benches/gpu_day/report.py summary "$REPORT" "$(($(date +%s) - begin))"
    else
        while read -r name status seconds title; do echo "step $name: status $status, $seconds s: $title"; done <"$REPORT/steps"
    fi
} | tee "$REPORT/summary.txt"
rm -r "$REPORT/logs"
