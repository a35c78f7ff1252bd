#!/usr/bin/env bash
# On a machine with an NVIDIA device: the op matrix and the goldens on it, NVIDIA's sanitizer where it is installed, and an
# evaluation of the networks beside PyTorch's where that is. Prints a line of JSON for each measurement.
#   benches/gpu.sh [PYTHON]     a Python with PyTorch for CUDA; python3 by default
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
export DENOIR_REQUIRE=cuda
tests=(-p denoir-tests --test op_matrix --test op_goldens --test cuda)

nvidia-smi --query-gpu=name,driver_version,compute_cap,clocks.max.sm --format=csv || echo "no nvidia-smi here (a Jetson has none)"

echo "== kernels and goldens"
cargo test -p denoir-cuda "${tests[@]}"

if command -v compute-sanitizer >/dev/null; then
    # Cargo runs every test program under what this variable holds.
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    for tool in memcheck racecheck; do
        echo "== compute-sanitizer $tool"
        env "CARGO_TARGET_${host}_RUNNER=compute-sanitizer --tool $tool --error-exitcode 1" \
            cargo test "${tests[@]}" -- --test-threads 1 --skip can_fail
    done
else
    echo "skipped: compute-sanitizer is not installed"
fi

echo "== one evaluation; batch 2 is the guided pair"
cargo build --release -p denoir-cli --features cuda
for shape in jit-b16 pixelgen-xl; do
    for batch in 1 2; do
        for type in bf16 f16 int8; do
            target/release/denoir bench --backend cuda --shape $shape --type $type --batch $batch --runs 20 --quiet --json
        done
    done
done
if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    "$python" benches/gpu_torch.py
else
    echo "skipped: $python has no PyTorch with CUDA"
fi
