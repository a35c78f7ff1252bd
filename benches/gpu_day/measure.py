"""What kernels.py stands on: element types, matrices that a kernel writes and their errors, launches that are checked
and timed, and PyTorch as a second clock."""

import ctypes
import gc
import json
import math
from dataclasses import dataclass

import numpy as np
from driver import Clock, Device

U32, AT, F32 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_float


def structure(size, **fields):
    """A kernel's argument, whose size its source asserts as well."""
    made = type("Arguments", (ctypes.Structure,), {"_fields_": list(fields.items())})
    assert ctypes.sizeof(made) == size
    return made


# Twins of cuda/src/args.rs.
Matrix = structure(16, at=AT, stride=U32, rows=U32)
AnyMatrix = structure(16, at=AT, stride=U32, type=U32)
Tokens = structure(12, images=U32, image_tokens=U32, context_tokens=U32)

# Numbers that operands are made of: drawing each anew takes longer than all kernels.
POOL = 1 << 22

# As cuda/kernels/types.cuh numbers types, and what holds their bits here.
NUMBERS = {"f32": 0, "f16": 1, "bf16": 2, "int8": 3}
STORED = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "int8": np.int8}


def rounded(x, kind):
    """The bits of floats in this type, ties to even."""
    x = np.asarray(x, np.float32)
    if kind != "bf16":
        return x.astype(STORED[kind])
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(bits, kind):
    """The values of such bits, in f64."""
    if kind == "bf16":
        bits = (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float64)


def quantised(x):
    """int8 rows and their scales, as cuda/kernels/rows.cuh makes them."""
    most = np.abs(x).max(axis=1, keepdims=True)
    return np.rint(x * (127 / most)), most / 127


def images_of(layout):
    """The image of each token row."""
    images = np.arange(layout.images)
    return np.r_[images.repeat(layout.image_tokens), images.repeat(layout.context_tokens)]


def ceil_div(a, b):
    return -(-a // b)


def silu(x):
    return x / (1 + np.exp(-x))


class Output:
    """A matrix that a kernel writes: poisoned before, unless the kernel changes what is there, and compared `where` it
    is known what it has to be. int8 rows have a scale each."""

    def __init__(self, device, kind, want, shape=None, where=..., before=None):
        self.kind, self.want, self.where, self.before = kind, want, where, before
        self.values = np.empty(shape or want.shape, STORED[kind])
        self.scales = np.empty((len(self.values), 1 if kind == "int8" else 0), np.float32)
        self.at, self.scale_at = device.allocate(self.values.nbytes), 0
        if kind == "int8":
            q, scale = quantised(want)
            self.want, self.scale_at = q * scale, device.allocate(self.scales.nbytes)
        elif kind != "f32":
            self.want = widened(rounded(want, kind), kind)

    @property
    def matrix(self):
        return Matrix(self.at, self.values.shape[1], self.values.shape[0])

    @property
    def any_matrix(self):
        return AnyMatrix(self.at, self.values.shape[1], NUMBERS[self.kind])

    @property
    def nbytes(self):
        return self.values.nbytes + self.scales.nbytes

    def poison(self, device):
        # All bits set is NaN in every type of floats.
        poison = np.full(self.values.nbytes, 0xFF, np.uint8)
        device.write(self.at, poison if self.before is None else self.before)
        if self.scale_at:
            device.write(self.scale_at, np.full_like(self.scales, np.nan))

    def error(self, device):
        """‖got − want‖ / ‖want‖, NaN where anything of the matrix is."""
        device.read(self.values, self.at)
        # The sum of finite numbers of their size is finite; of bf16, what is compared shows NaN.
        if self.kind == "f32" and not math.isfinite(self.values.sum()):
            return math.nan
        got = widened(self.values[self.where], self.kind)
        if self.scale_at:
            device.read(self.scales, self.scale_at)
            got *= self.scales
        return np.linalg.norm(got - self.want) / np.linalg.norm(self.want)


@dataclass
class Case:
    """A launch, what it has to give, and what it costs. `args`: the launches of a group take turns with these."""

    kernel: str
    type: str
    shape: str
    grid: tuple
    threads: int
    args: list
    outputs: list
    limit: float
    name: str = ""
    shared: int = 0
    tile: str = "-"
    chosen: bool = True
    timed: bool = True
    flops: float = 0
    nbytes: float = 0
    peer: str = ""
    peer_ms: float = None
    note: str = ""


class Torch(Clock):
    """PyTorch's time for the same work, where it has CUDA: a stream and graphs of its own, timed in the same way."""

    def __init__(self):
        self.torch, self.told = None, set()
        try:
            import torch

            if torch.cuda.is_available():
                self.torch, self.stream = torch, torch.cuda.Stream()
                # Captures collect garbage, and PyTorch itself is a lot to walk through.
                gc.freeze()
            else:
                self.tell(f"PyTorch {torch.__version__} finds no CUDA")
        except Exception as error:
            self.tell(f"no PyTorch ({error})")

    def tell(self, why):
        """Says once why there is nothing to compare with."""
        if why not in self.told:
            print(f"nothing to compare with: {why}", flush=True)
        self.told.add(why)

    def ms(self, prepare):
        """The time of one of the launches that `prepare(torch)` returns."""
        if self.torch is None:
            return None
        try:
            with self.torch.inference_mode(), self.torch.cuda.stream(self.stream):
                launch = prepare(self.torch)
                launch(0)
                self.torch.cuda.synchronize()
                return self.time(launch)
        except Exception as error:
            self.tell(f"{error}".strip().splitlines()[0])
            return None

    def tensor(self, bits, kind):
        """Such bits on the device."""
        if kind == "bf16":
            return self.torch.from_numpy(bits.view(np.int16)).view(self.torch.bfloat16).cuda()
        return self.torch.from_numpy(bits).cuda()

    def elapsed(self, work):
        start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def record(self, work):
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph, stream=self.stream):
            work()
        return graph.replay


class Lost(Exception):
    """The device takes no more calls from this process."""


class Bench:
    """The device, its peer, and where results go."""

    def __init__(self, tiny, facts):
        self.tiny, self.facts = tiny, facts
        self.peer, self.device = Torch(), Device()
        self.rng = np.random.default_rng(1)
        self.pool = self.rng.standard_normal(POOL, np.float32)
        # GB/s of a copy on the device, once it has been measured.
        self.copy_rate = None

    def normal(self, *shape, scale=1.0):
        """Normal numbers, from somewhere in the pool on, again and again where they are many."""
        start = self.rng.integers(POOL // 2)
        return np.resize(self.pool[start:][: math.prod(shape)], shape) * np.float32(scale)

    def row(self, array):
        """An array on the device."""
        return self.device.upload(np.ascontiguousarray(array))

    def matrix(self, array):
        return Matrix(self.row(array), array.shape[1], array.shape[0])

    def any_matrix(self, bits, kind):
        return AnyMatrix(self.row(bits), bits.shape[1], NUMBERS[kind])

    def attempt(self, fact, work):
        """Does what may fail: a failure costs a line."""
        try:
            work()
        except Lost:
            raise
        except Exception as error:
            self.add({**fact, "ok": False, "note": f"{fact.get('note', '')} {type(error).__name__}: {error}".strip()})
            if getattr(error, "lost", False):
                raise Lost from error

    def measure(self, case):
        """Runs a case's kernel on poisoned outputs, compares these, and times it."""
        fact = {"kernel": case.kernel, "name": case.name or case.kernel, "type": case.type, "shape": case.shape,
                "tile": case.tile, "chosen": case.chosen, "error": None, "limit": case.limit, "ok": False, "ms": None,
                "tflops": None, "peer": case.peer, "peer_ms": case.peer_ms, "note": case.note}
        self.attempt(fact, lambda: self.run(case, fact))

    def run(self, case, fact):
        function = self.device.function(case.kernel, fact["name"], case.shared)

        def launch(i):
            args = case.args[i % len(case.args)]
            self.device.launch(function, case.grid, case.threads, case.shared, args)

        for output in case.outputs:
            output.poison(self.device)
        launch(0)
        # Python's max forgets NaN.
        fact["error"] = float(np.max([output.error(self.device) for output in case.outputs]))
        fact["ok"] = fact["error"] <= case.limit
        if case.timed:
            fact["ms"] = ms = self.device.time(launch)
            if case.flops:
                fact["tflops"] = case.flops / ms / 1e9
            else:
                rate = case.nbytes / ms / 1e6
                fact |= {"bytes": case.nbytes, "gb_s": rate, "share": rate / self.copy_rate if self.copy_rate else None}
        self.add(fact)

    def add(self, fact):
        """Prints a result and keeps it. JSON has no NaN."""
        print(line(fact), flush=True)
        self.keep({key: None if isinstance(value, float) and not math.isfinite(value) else value
                   for key, value in fact.items()})

    def keep(self, fact):
        with self.facts.open("a") as file:
            file.write(json.dumps({"step": "kernels", **fact}) + "\n")


def line(fact):
    """A result as people read it."""
    error, ms, tflops, peer_ms, rate = map(fact.get, ("error", "ms", "tflops", "peer_ms", "gb_s"))
    words = [f"{fact['kernel']:13} {fact.get('type', '-'):8} {fact.get('shape', '-'):19} {fact.get('tile', '-'):8}",
             "*" if fact.get("chosen") and fact["tile"] != "-" else " ", "   -   " if error is None else f"{error:.1e}",
             "ok" if fact["ok"] else "FAILED"]
    if ms is not None:
        words.append(f"{ms:8.4f} ms")
    if tflops is not None:
        words += [f"{tflops:6.1f} TFLOP/s {fact['peer']}"]
        words += ["-" if peer_ms is None else f"{peer_ms:.4f} ms {peer_ms / ms:.2f}x"]
    if rate is not None:
        share = fact["share"]
        words += [f"{rate:6.0f} GB/s", "-" if share is None else f"{share:.2f} of a copy"]
    return " ".join([*words, fact.get("note", "")]).rstrip()
