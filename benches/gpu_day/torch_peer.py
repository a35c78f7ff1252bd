"""PyTorch beside denoir: one evaluation of the same network, from the same model file, on the same card.

    torch_peer.py MODEL.gguf... [--seconds 60] [--json FILE]
    torch_peer.py MODEL.gguf --compare X_HAT.npy --seed 5 --label 207   also how far denoir's x_hat is from f32
    torch_peer.py MODEL.gguf --rehearse                                 on the processor, to try this script

A model is class-conditional, in f32, f16 or bf16. X_HAT.npy is x_hat at t = 0, which is what one step draws:

    denoir generate -m MODEL.gguf --sampling-method euler --steps 1 --cfg-scale 1 --seed 5 --class 207 -o X_HAT.npy

An evaluation computes adaLN in each pass, as upstream does, and ends with an Euler step, as denoir's own program does.
`device` is the time between CUDA events around it, `step` the host's for one evaluation of a sampling loop: write t,
run, copy x_hat to the host, wait. `denoir bench` calls the same two spans `device_ms` and `predict_ms`; it makes adaLN
vectors for many steps at once, so add its `modulation_ms` for the same work.

`error` is the relative error of x_hat against f32 from the same file, without TF32. Exit codes: 0 something was
measured, 1 nothing was, 77 there is no PyTorch or no card.
"""
import argparse
import importlib.metadata
import itertools
import json
import os
import statistics
import sys
import tempfile
import time

START = time.monotonic()
CACHE = tempfile.TemporaryDirectory(prefix="torch-peer-", ignore_cleanup_errors=True)
os.environ["TORCHINDUCTOR_CACHE_DIR"] = CACHE.name                                   # read when PyTorch is imported

try:
    import torch
except ImportError:
    print("skipped: PyTorch is not installed")
    sys.exit(77)
import numpy as np                                                                   # noqa: E402
from torch_network import STEPS, Model                                               # noqa: E402

# The most telling first, should time run out.
VARIANTS = [("bf16", "compiled+graph"), ("bf16", "compiled"), ("bf16", "eager+graph"), ("bf16", "eager"),
            ("int8", "compiled+graph")]
BATCHES = [2, 1]
LABEL = 207                                                                          # the other of a pair has no class
TIME = 0.3                                                                           # where a trajectory starts


class Clock:
    """Milliseconds that a function takes: by events on the device, which a processor has none of, and by the host."""

    def __init__(self, device):
        self.events = [torch.cuda.Event(enable_timing=True) for _ in "ab"] if device == "cuda" else []

    def wait(self):
        if self.events:
            torch.cuda.synchronize()

    def device_ms(self, run):
        if not self.events:
            return self.host_ms(run)
        self.events[0].record()
        run()
        self.events[1].record()
        self.wait()
        return self.events[0].elapsed_time(self.events[1])

    def host_ms(self, run):
        start = time.perf_counter()
        run()
        self.wait()
        return 1e3 * (time.perf_counter() - start)


def capture(run, device):
    """The function as a CUDA graph; as it is on a processor."""
    if device == "cpu":
        return run
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    return graph.replay


class Trajectory:
    """A sampling run of one network: an image for each label, all from the same noise."""

    def __init__(self, model, dtype, how, batch):
        self.net = model.network(dtype, how)
        self.noise, self.labels = model.noise(0).repeat(batch, 1, 1, 1), labels(model)[:batch]
        self.x, self.x_hat = self.noise.to(model.device, copy=True), None
        self.t = torch.full((batch,), TIME, device=model.device)
        self.label = torch.tensor(self.labels, device=model.device)
        self.host = torch.empty(self.noise.shape, pin_memory=model.device == "cuda")
        self.run = capture(self.evaluate, model.device) if "graph" in how else self.evaluate
        self.restart()

    def evaluate(self):
        """All that the device does for an evaluation. A graph leaves x_hat at the same place each time."""
        self.x_hat = self.net(self.x, self.t, self.label)
        self.net.advance(self.x, self.x_hat, self.t)

    def step(self):
        """What a sampling loop does for an evaluation, but for the wait at the end."""
        self.t.fill_((TIME + self.evaluations / STEPS) % 1)
        self.evaluations += 1
        self.run()
        self.host.copy_(self.x_hat, non_blocking=True)

    def restart(self):
        self.x.copy_(self.noise)
        self.evaluations = 0


def labels(model):
    null = model.config["num_classes"]
    return [LABEL % null, null]


def relative_error(got, reference):
    return float(torch.linalg.vector_norm(got - reference) / torch.linalg.vector_norm(reference))


def measure(model, dtype, how, batch, runs):
    """The figures of one variant."""
    started, clock = time.monotonic(), Clock(model.device)
    trajectory = Trajectory(model, dtype, how, batch)
    trajectory.step()
    clock.wait()
    prepared = time.monotonic() - started
    reference = model.x_hat("f32", trajectory.noise, TIME, trajectory.labels)
    figures = dict(error=relative_error(trajectory.host, reference))
    for _ in range(runs // 3):
        trajectory.step()
    clock.wait()
    trajectory.restart()
    figures["device_ms"] = statistics.median(clock.device_ms(trajectory.run) for _ in range(runs))
    trajectory.restart()
    figures["step_ms"] = statistics.median(clock.host_ms(trajectory.step) for _ in range(runs))
    return {**figures, "prepare_s": prepared}


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


class Report:
    """Lines for people, and lines of JSON in a file."""

    def __init__(self, path, device):
        self.file = open(path, "a") if path else None
        card = torch.cuda.get_device_name() if device == "cuda" else "processor, a rehearsal: its times mean nothing"
        self.common = dict(step="torch", device=card, torch=torch.__version__)
        self.measured = 0
        print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, Triton {version('triton')}, "
              f"Python {sys.version.split()[0]}: {card}", flush=True)

    def add(self, line, **record):
        print(line, flush=True)
        if self.file:
            print(json.dumps({**self.common, **record}), file=self.file, flush=True)

    def measurement(self, title, figures, **record):
        self.measured += 1
        parts = [f"{name} {figures[f'{name}_ms']:.2f} ms" for name in ("device", "step") if f"{name}_ms" in figures]
        parts.append(f"error {figures['error']:.2e}")
        self.add(f"torch {title}: {', '.join(parts)}", **record, **figures)

    def failure(self, title, error, **record):
        reason = " ".join((str(error).strip() or type(error).__name__).splitlines()[0].split())[:160]
        self.add(f"skipped: torch {title}: {reason}", **record, failure=reason)


def compare(report, model, path, seed, label):
    """denoir's x_hat against f32, and PyTorch's own in bf16, which shows what that type costs."""
    x_hat, noise = torch.from_numpy(np.load(path))[:1], model.noise(seed)
    reference = model.x_hat("f32", noise, 0.0, [label])
    if x_hat.shape != reference.shape:
        raise ValueError(f"{path} holds {tuple(x_hat.shape)}, not {tuple(reference.shape)}")
    for who, got in [("denoir", x_hat), ("torch bf16", model.x_hat("bf16", noise, 0.0, [label]))]:
        variant, figures = f"x_hat of {who} against f32", dict(error=relative_error(got, reference))
        report.measurement(f"{model.name} {variant}", figures, model=model.name, variant=variant)


def measure_all(report, models, seconds, runs):
    """Every variant that is likely to end in time, judged by the longest of its kind so far."""
    longest, late = {}, []
    for (dtype, how), model, batch in itertools.product(VARIANTS, models, BATCHES):
        title = f"{model.name} {'pair' if batch == 2 else 'single'} {dtype} {how}"
        record = dict(model=model.name, type=dtype, variant=how, batch=batch)
        kind, started = "compiled" in how, time.monotonic()
        if started - START + longest.get(kind, 0) > seconds:
            late.append(title)
            continue
        try:
            report.measurement(title, measure(model, dtype, how, batch, runs), **record)
        except Exception as error:
            report.failure(title, error, **record)
        longest[kind] = max(longest.get(kind, 0), time.monotonic() - started)
    if late:
        print(f"skipped: torch {', '.join(late)}: no time left", flush=True)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL.gguf")
    parser.add_argument("--compare", action="append", default=[], metavar="X_HAT.npy",
                        help="denoir's; one for each model, in order")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures to compare")
    parser.add_argument("--label", type=int, default=LABEL, help="their class")
    parser.add_argument("--seconds", type=float, default=60, help="for all of it; 0 only compares")
    parser.add_argument("--json", metavar="FILE", help="append a line for each measurement")
    parser.add_argument("--rehearse", action="store_true", help="on the processor, two runs each")
    parser.add_argument("--compiler", help="torch.compile's backend [default: inductor; aot_eager, which needs no C++ "
                                           "compiler and much less time, in a rehearsal]")
    return parser.parse_args()


def main():
    args = arguments()
    device = "cpu" if args.rehearse else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        print("skipped: PyTorch sees no CUDA device")
        return 77
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch._dynamo.config.recompile_limit = 64                                        # every shape and type is kept
    compiler = args.compiler or ("aot_eager" if args.rehearse else "inductor")
    report, models = Report(args.json, device), []
    for i, path in enumerate(args.models):
        try:
            models.append(Model(path, device, compiler))
            for x_hat in args.compare[i:i + 1]:
                compare(report, models[-1], x_hat, args.seed, args.label)
        except Exception as error:
            report.failure(path, error)
    if args.seconds:
        measure_all(report, models, args.seconds, 2 if args.rehearse else 30)
    return 0 if report.measured else 1


if __name__ == "__main__":
    sys.exit(main())
