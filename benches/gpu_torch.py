"""PyTorch's time for one evaluation of the networks of gpu.sh: bf16, torch.compile with CUDA graphs, its own attention.
And the peak that its products reach on this card, which shares are taken of. A line of JSON for each."""

import json
import pathlib
import statistics
import sys

import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "fixtures"))
import networks  # noqa: E402

SHAPES = {
    "jit-b16": dict(depth=12, hidden_size=768, num_heads=12, bottleneck_dim=128, in_context_start=4),
    "pixelgen-xl": dict(depth=28, hidden_size=1152, num_heads=16, use_bottleneck=False, bottleneck_dim=None,
                        in_context_start=8),
}
COMMON = dict(patch_size=16, input_size=256, num_classes=1000, in_context_len=32)
RUNS = 50


def attention(q, k, v):
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def median_ms(run):
    for _ in range(10):
        run()
    times = []
    for _ in range(RUNS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def peak(dtype, n=8192):
    a, b = torch.ones(n, n, dtype=dtype, device="cuda"), torch.ones(n, n, dtype=dtype, device="cuda").t()
    run = (lambda: torch._int_mm(a, b)) if dtype == torch.int8 else (lambda: a @ b)
    return 2 * n**3 / median_ms(run) / 1e6


def main():
    torch.set_default_device("cpu")
    networks.attention = attention
    device = torch.cuda.get_device_name()
    for dtype in (torch.bfloat16, torch.float16, torch.int8):
        print(json.dumps({"backend": "torch", "device": device, "peak_gflops": round(peak(dtype)), "type": str(dtype)}))
    for name, shape in SHAPES.items():
        net = networks.randomise(networks.ClassNetwork({**COMMON, **shape}), 1).to("cuda", torch.bfloat16)
        net.rope = net.rope.to("cuda", torch.bfloat16)
        compiled = torch.compile(net, mode="max-autotune")
        for batch in (1, 2):
            x = torch.randn(batch, 3, 256, 256, device="cuda", dtype=torch.bfloat16)
            t = torch.full((batch,), 0.5, device="cuda", dtype=torch.bfloat16)
            label = torch.zeros(batch, dtype=torch.long, device="cuda")
            with torch.inference_mode(), torch.device("cuda"):
                ms = median_ms(lambda: compiled(x, t, label))
            print(json.dumps({"backend": "torch.compile", "device": device, "torch": torch.__version__, "model": name,
                              "type": "bf16", "batch": batch, "forward_ms": round(ms, 3)}))


main()
