"""denoir's compiled CUDA kernels one by one, where there is no Rust: each is compared with f64 arithmetic on the same
operands and timed at the networks' shapes; beside it, where PyTorch has CUDA, cuBLAS or PyTorch's attention.

    python3 kernels.py                      all groups
    python3 kernels.py linear-bf16 rows     these groups
    python3 kernels.py --tiny               small shapes, for denoir's emulator (see driver.py)

A line is: kernel, type, shape (rows × outputs × inputs, or images × heads × queries × keys × channels), tile, `*` where
it is the one that the backend chooses, error, verdict, time, rate, and the peer's time with our speed as a multiple of
its. Weights lie in more copies than the L2 cache holds; other operands lie in the cache, as in the network, so that a
row kernel may be faster than a copy. `--json FILE` appends the same facts.

Exit code 1: something failed or nothing was checked; 77: Python has no NumPy.
"""

import argparse
import faulthandler
import functools
import json
import math
import pathlib
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError:
    print("skipped: kernels: Python has no numpy")
    sys.exit(77)

from driver import CudaError
from measure import (AT, F32, NUMBERS, U32, AnyMatrix, Bench, Case, Lost, Matrix, Output, Tokens, ceil_div, images_of, rounded,
                     silu, structure, widened)
from row_kernels import rows_group

# Twins of the arguments in cuda/src/kernels/*.rs.
LinearArgs = structure(160, x=AnyMatrix, w=AnyMatrix, x_scale=AT, w_scale=AT, bias=AT, table=Matrix, table_rows=AT,
                       gate=AnyMatrix, gate_scale=AT, gate_bias=AT, out=AnyMatrix, rows=U32, n=U32, k=U32, epilogue=U32,
                       layout=Tokens, stages=U32)
AttentionArgs = structure(96, q=AnyMatrix, k=AnyMatrix, v=AnyMatrix, out=AnyMatrix, queries=Tokens, keys=Tokens, head_dim=U32,
                          scale=F32)

# ---- Linear layers

# Rows, outputs, inputs of qkv, proj, w12 and w3: JiT-B/16, PixelGen-XL and its guided pair, PixelGen-XXL's pair.
LINEAR = [
    *[(288, n, k) for n, k in ((2304, 768), (768, 768), (4096, 768), (768, 2048))],
    *[(m, n, k) for m in (288, 576) for n, k in ((3456, 1152), (1152, 1152), (6144, 1152), (1152, 3072))],
    *[(2048, n, k) for n, k in ((4608, 1536), (1536, 1536), (12288, 1536), (1536, 6144))],
]
TINY_LINEAR = [(70, 136, 152)]
# Every epilogue, on tiles and slabs that are not full.
ODD_LINEAR = (70, 131, 150)
STORE, SILU, ADD_PERIODIC, GATED_RESIDUAL, RESIDUAL = range(5)
EPILOGUES = ("store", "silu", "add_periodic", "gated_residual", "residual")
# Tensor cores truncate partial sums; f32 sums have thousands of terms; int8 sums are exact, scales and bias round.
LINEAR_LIMITS = {"f16": 2e-5, "bf16": 2e-5, "int8": 1e-6, "f32": 1e-5}
# Copies of the weights that launches take turns with, at most, and rows that are compared.
MOST_COPIES, COMPARED = 16, 96

# Rows and columns of a block's outputs and of a warp's, registers: TILES in cuda/src/kernels/linear.rs; and numbers
# of slabs in shared memory.
TILES = {"128x128": (128, 128, 64, 64, 255), "96x192": (96, 192, 48, 48, 188), "96x128": (96, 128, 48, 64, 230),
         "96x64": (96, 64, 48, 32, 160), "48x64": (48, 64, 48, 16, 118)}
STAGES = (4, 3, 2)
ANY = "96x64"


def warps(tile):
    rows, cols, warp_rows, warp_cols, _ = tile
    return rows // warp_rows * (cols // warp_cols)


def shared_bytes(tile, stages):
    return (tile[0] + tile[1]) * 128 * stages


def clocks(device, kind, m, n, k, name, stages):
    """The twin of linear_clocks in cuda/src/cost.rs."""
    size = 1 if kind == "int8" else 2
    older = {(8, 0): (1024, 2048, 40), (8, 7): (1024, 2048, 32), (8, 6): (512, 1024, 20), (8, 9): (256, 1024, 20)}
    later = {11: (1024, 2048, 32), 12: (256, 1024, 20)}
    half, int8, fill_rate = older.get(device.compute, later.get(device.compute[0], (1270, 2065, 35.8)))
    rows, cols, warp_rows, warp_cols, registers = tile = TILES[name]
    threads = 32 * warps(tile)
    resident = max(1, min(65536 // (-registers // 8 * -8 * threads), 1536 // threads,
                          device.multiprocessor_shared // (shared_bytes(tile, stages) + 1024)))
    products = rows * cols * 128 / size / (int8 if kind == "int8" else half)
    shared = warps(tile) * (warp_rows + warp_cols) + rows + cols

    def slab(blocks):
        fill = blocks * (rows + cols) * 128 / fill_rate
        return max(max(products, shared) + 43, blocks * 1.25 * products, blocks * shared, fill,
                   (600 + fill) / (stages - 1.25))

    blocks = ceil_div(ceil_div(m, rows) * ceil_div(n, cols), device.multiprocessors)
    rounds, rest = divmod(blocks, resident)
    depth = ceil_div(k * size, 128)
    return rounds * (depth * slab(resident) + 1950) + (depth * slab(rest) + 1950 if rest else 0)


def best_tile(device, kind, m, n, k, tiles=TILES):
    """The backend's choice of a tile and its slabs."""
    fit = [(name, stages) for name in tiles for stages in STAGES
           if shared_bytes(TILES[name], stages) <= device.block_shared]
    return min(fit, key=lambda choice: clocks(device, kind, m, n, k, *choice))


def padded(array, align):
    """Rows that start at multiples of so many bytes; between them lies what no kernel may use: NaN, for floats."""
    cols = ceil_div(array.shape[1] * array.itemsize, align) * align // array.itemsize
    wide = np.full((len(array), cols * array.itemsize), 0xFF, np.uint8).view(array.dtype)
    wide[:, : array.shape[1]] = array
    return wide


class Layer:
    """A linear layer: operands rounded to their type, and x · wᵀ + bias of the rows that are compared."""

    def __init__(self, bench, kind, m, n, k, w_kind=None):
        self.bench, self.kind, self.w_kind, self.m, self.n, self.k = bench, kind, w_kind or kind, m, n, k
        self.scales = None
        if kind == "int8":
            self.x, self.w = (bench.rng.integers(-127, 128, (rows, k), np.int8) for rows in (m, n))
            self.scales = [np.abs(bench.normal(rows, scale=0.01)) + np.float32(1e-3) for rows in (m, n)]
        else:
            self.x = rounded(bench.normal(m, k), kind)
            self.w = rounded(bench.normal(n, k, scale=k**-0.5), self.w_kind)
        self.bias = bench.normal(n)
        # Those of the first and of the last tile, and some between.
        some = np.r_[:16, m - 16 : m, np.linspace(0, m - 1, COMPARED - 32).astype(int)]
        self.rows = np.unique(some) if m > COMPARED else np.arange(m)

    @functools.cached_property
    def want(self):
        y = widened(self.x[self.rows], self.kind) @ widened(self.w, self.w_kind).T
        if self.scales:
            y *= np.outer(self.scales[0][self.rows].astype(np.float64), self.scales[1])
        return y + self.bias

    def upload(self, align):
        """The arguments' constant part."""
        x_scale, w_scale = map(self.bench.row, self.scales) if self.scales else (0, 0)
        return {"x": self.bench.any_matrix(padded(self.x, align), self.kind), "x_scale": x_scale, "w_scale": w_scale,
                "bias": self.bench.row(self.bias), "rows": self.m, "n": self.n, "k": self.k}

    def upload_weights(self, align, copies=1):
        bits = padded(self.w, align)
        return [self.bench.any_matrix(bits, self.w_kind) for _ in range(copies)]

    def tiles(self):
        return ["64x64"] if self.kind == "f32" else [*TILES, "any"]

    def block(self, tile):
        """Rows, columns, threads, slabs and shared memory of a block, and whether the backend would choose them."""
        if self.kind == "f32":
            return 64, 64, 256, 0, 0, True
        shape = TILES.get(tile, TILES[ANY])
        best, stages = best_tile(self.bench.device, self.kind, self.m, self.n, self.k)
        if tile == "any":
            stages = 4
        elif tile != best:
            _, stages = best_tile(self.bench.device, self.kind, self.m, self.n, self.k, [tile])
        return *shape[:2], 32 * warps(shape), stages, shared_bytes(shape, stages), tile == best

    def measure(self, tile, args, out, **others):
        """A launch with this tile; `any` takes rows that start anywhere."""
        rows, cols, threads, stages, shared, chosen = self.block(tile)
        for each in args:
            each.stages = stages
        self.bench.measure(Case(
            "linear", self.kind if self.w_kind == self.kind else f"{self.kind}·{self.w_kind}", self.shape(),
            (ceil_div(self.m, rows), ceil_div(self.n, cols), 1), threads, args, [out], LINEAR_LIMITS[self.kind],
            name="linear_f32" if self.kind == "f32" else f"linear_{self.kind}_{tile}", shared=shared, tile=tile,
            chosen=chosen, **others))

    def shape(self):
        return f"{self.m}x{self.n}x{self.k}"


def cublas(layer, copies):
    """PyTorch's product of the same operands; of int8 without scales and bias, for it has none."""

    def prepare(torch):
        tensor = layer.bench.peer.tensor
        x, w = tensor(layer.x, layer.kind), tensor(layer.w, layer.kind)
        ws = [w.clone() for _ in range(copies)]
        if layer.kind == "int8":
            return lambda i: torch._int_mm(x, ws[i % copies].t())
        bias = tensor(rounded(layer.bias, layer.kind), layer.kind)
        return lambda i: torch.nn.functional.linear(x, ws[i % copies], bias)

    return layer.bench.peer.ms(prepare)


def linear(bench, kind, m, n, k):
    """Every tile at a shape of the networks."""
    layer = Layer(bench, kind, m, n, k)
    copies = min(MOST_COPIES, max(1, ceil_div(2 * bench.device.l2_bytes, layer.w.nbytes)))
    peer_ms = cublas(layer, copies)
    with bench.device.scope():
        out = Output(bench.device, "f32", layer.want, shape=(m, n), where=layer.rows)
        fields = {"out": out.any_matrix, "epilogue": STORE, **layer.upload(16)}
        args = [LinearArgs(w=w, **fields) for w in layer.upload_weights(16, copies)]
        for tile in layer.tiles():
            layer.measure(tile, args, out, flops=2 * m * n * k, peer="cublas", peer_ms=peer_ms)


def epilogue_of(layer, epilogue):
    """An epilogue's arguments, what it makes of the layer's y, and what the output holds before."""
    bench, y = layer.bench, layer.want
    if epilogue == SILU:
        return {}, silu(y), None
    if epilogue == ADD_PERIODIC:
        table = bench.normal(7, layer.n)
        return {"table": bench.matrix(table)}, y + table[layer.rows % 7], None
    before = bench.normal(layer.m, layer.n)
    if epilogue == RESIDUAL:
        return {}, before + y, before
    if epilogue == GATED_RESIDUAL:
        layout, gate = Tokens(2, layer.m // 2 - 5, 5), 8
        table, picks = bench.normal(3, gate + layer.n), np.array([2, 0], np.uint32)
        matrix = bench.matrix(table)
        matrix.at += 4 * gate
        gates = table[picks[images_of(layout)], gate:]
        return {"table": matrix, "table_rows": bench.row(picks), "layout": layout}, before + y * gates, before
    return {}, y, None


def odd_linear(bench, kind, w_kind=None):
    """Every tile and every epilogue at an odd shape."""
    layer = Layer(bench, kind, *ODD_LINEAR, w_kind)
    for tile in layer.tiles():
        align = 1 if tile == "any" or kind == "f32" else 16
        for epilogue, name in enumerate(EPILOGUES):
            with bench.device.scope():
                fields, want, before = epilogue_of(layer, epilogue)
                out = Output(bench.device, "f32", want, before=before)
                fields |= {"out": out.any_matrix, "epilogue": epilogue, **layer.upload(align)}
                args = [LinearArgs(w=w, **fields) for w in layer.upload_weights(align)]
                layer.measure(tile, args, out, timed=False, note=name)


def linear_group(bench, kind):
    for w_kind in ("f32", "f16", "bf16") if kind == "f32" else (kind,):
        bench.attempt({"kernel": "linear", "type": kind}, lambda: odd_linear(bench, kind, w_kind))
    for m, n, k in TINY_LINEAR if bench.tiny else LINEAR:
        fact = {"kernel": "linear", "type": kind, "shape": f"{m}x{n}x{k}"}
        bench.attempt(fact, lambda: linear(bench, kind, m, n, k))


# ---- Attention

# Images, heads, channels, and image and context tokens of queries and of keys: JiT-B/16, PixelGen-XL and its guided
# pair, PixelGen-XXL's pair.
ATTENTION = [
    (1, 12, 64, (256, 32), (256, 32)),
    (1, 16, 72, (256, 32), (256, 32)),
    (2, 16, 72, (256, 32), (256, 32)),
    (2, 24, 64, (1024, 0), (1024, 128)),
]
TINY_ATTENTION = [(1, 2, 64, (66, 4), (66, 4)), (2, 2, 72, (66, 0), (66, 4))]
# For each kernel of the file.
ODD_ATTENTION = [(2, 3, channels, (29, 4), (29, 4)) for channels in (12, 64, 72, 104, 128)]
# Factors in bf16, whose weights are rounded, or in f32, of which tensor cores truncate partial sums: the kernels' names, the
# bytes of a channel in shared memory and those of a row's end, and the error.
FACTORS = {"bf16": ("attention", 4, 32, 1e-2), "f32": ("attention_exact", 8, 32, 2e-5)}
# Channels of a head that a kernel has room for, and keys of its tile: cuda/src/kernels/attention.rs.
WIDTHS = {"bf16": ((16, 64), (64, 64), (80, 64), (112, 64), (128, 64)),
          "f32": ((16, 32), (64, 64), (80, 64), (112, 32), (128, 32))}
QUERIES = 64


def attended(qkv, heads, channels, queries, keys, head):
    """Softmax attention of one head in f64, a row a query."""
    q, k, v = (qkv[:, part * heads * channels + head * channels :][:, :channels] for part in range(3))
    query_images, key_images = images_of(queries), images_of(keys)
    out = np.empty((len(query_images), channels))
    for image in range(queries.images):
        mine, theirs = query_images == image, key_images == image
        scores = q[: len(mine)][mine] @ k[theirs].T / math.sqrt(channels)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        out[mine] = weights @ v[theirs] / weights.sum(axis=1, keepdims=True)
    return out


def sdpa(bench, images, heads, channels, queries, keys):
    """PyTorch's attention in bf16, on operands that lie as it likes best."""

    def prepare(torch):
        q, k, v = (bench.peer.tensor(rounded(bench.normal(images, heads, sum(tokens), channels), "bf16"), "bf16")
                   for tokens in (queries, keys, keys))
        return lambda _: torch.nn.functional.scaled_dot_product_attention(q, k, v)

    return bench.peer.ms(prepare)


def attention(bench, images, heads, channels, queries, keys, timed=True):
    """Both kernels of this width, on columns of one matrix of queries, keys and values."""
    width, peer_ms = heads * channels, None
    query_layout, key_layout = Tokens(images, *queries), Tokens(images, *keys)
    qkv = bench.normal(images * sum(keys), 3 * width)
    compared = sorted({0, heads // 2, heads - 1})
    columns = np.concatenate([np.arange(channels) + head * channels for head in compared])
    if timed:
        peer_ms = sdpa(bench, images, heads, channels, queries, keys)
    scale = math.log2(math.e) / math.sqrt(channels)
    for kind, (name, channel_bytes, end_bytes, limit) in FACTORS.items():
        room, tile = next(pair for pair in WIDTHS[kind] if pair[0] >= channels)
        bits = rounded(qkv, kind)
        factors = widened(bits, kind).astype(np.float64)
        want = [attended(factors, heads, channels, query_layout, key_layout, head) for head in compared]
        with bench.device.scope():
            at = bench.row(bits)
            out = Output(bench.device, "f32", np.hstack(want), (images * sum(queries), width), (slice(None), columns))
            parts = [AnyMatrix(at + bits.itemsize * part * width, 3 * width, NUMBERS[kind]) for part in range(3)]
            args = AttentionArgs(*parts, out.any_matrix, query_layout, key_layout, channels, scale)
            bench.measure(Case(
                "attention", kind, f"{images}x{heads}x{sum(queries)}x{sum(keys)}x{channels}",
                (ceil_div(sum(queries), QUERIES), heads, images), 256, [args], [out], limit, name=f"{name}_{room}",
                shared=2 * tile * (channel_bytes * room + end_bytes), tile=f"{QUERIES}x{tile}", timed=timed,
                flops=4 * images * heads * sum(queries) * sum(keys) * channels, peer="sdpa", peer_ms=peer_ms))


def attention_group(bench):
    for sizes in ODD_ATTENTION:
        bench.attempt({"kernel": "attention"}, lambda: attention(bench, *sizes, timed=False))
    for sizes in TINY_ATTENTION if bench.tiny else ATTENTION:
        bench.attempt({"kernel": "attention"}, lambda: attention(bench, *sizes))


# ---- Groups

# What matters most comes first: time may run out.
GROUPS = {
    "linear-bf16": functools.partial(linear_group, kind="bf16"),
    "linear-int8": functools.partial(linear_group, kind="int8"),
    "attention": attention_group,
    "rows": rows_group,
    "linear-f16": functools.partial(linear_group, kind="f16"),
    "linear-f32": functools.partial(linear_group, kind="f32"),
}
NO_DEVICE = 2


def run(groups, tiny, facts, seconds):
    """Runs groups in this process; that a group has ended is among the facts."""
    start = time.monotonic()
    try:
        bench = Bench(tiny, facts)
    except (CudaError, OSError) as error:
        print(f"kernels: FAILED: no device: {error}")
        return NO_DEVICE
    device = bench.device
    print(f"{device.name}: {device.image('linear').name}, {device.multiprocessors} multiprocessors, "
          f"{device.l2_bytes >> 20} MiB of L2; ready after {time.monotonic() - start:.1f} s", flush=True)
    for group in groups:
        start = time.monotonic()
        # Ends the process even where a call never returns.
        faulthandler.dump_traceback_later(seconds, exit=True)
        try:
            GROUPS[group](bench)
        except Lost:
            return 1
        faulthandler.cancel_dump_traceback_later()
        took = round(time.monotonic() - start, 1)
        print(f"{group}: {took} s", flush=True)
        bench.keep({"group": group, "seconds": took})
    return 0


def supervise(groups, options, facts, seconds):
    """Runs groups in a process of their own, for a kernel can take the device, or the process, from all that follows:
    what is left then goes on in a fresh one. Returns the facts, and how many groups did not end."""
    start, lost = facts.stat().st_size if facts.exists() else 0, 0
    while True:
        command = [sys.executable, __file__, "--here", "--json", str(facts), *options, *groups]
        try:
            code = subprocess.run(command, timeout=seconds * (len(groups) + 1)).returncode
        except subprocess.TimeoutExpired:
            code = "a timeout"
        found = [json.loads(fact) for fact in facts.read_bytes()[start:].splitlines()] if facts.exists() else []
        ended = {fact.get("group") for fact in found}
        groups = [group for group in groups if group not in ended]
        if groups and code != NO_DEVICE:
            print(f"{groups[0]}: FAILED: its process ended with {code}", flush=True)
            groups, lost = groups[1:], lost + 1
        if not groups or code == NO_DEVICE:
            return found, lost


def main():
    parser = argparse.ArgumentParser(description="Checks and times denoir's CUDA kernels one by one.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"some of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--tiny", action="store_true", help="small shapes, for the emulator")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="append the results as lines of JSON")
    parser.add_argument("--seconds", type=int, default=60, help="what a group may take (default: %(default)s)")
    parser.add_argument("--here", action="store_true", help="run in this process, which a kernel may end")
    options = parser.parse_args()
    groups = options.groups or list(GROUPS)
    if unknown := [group for group in groups if group not in GROUPS]:
        parser.error(f"no such group: {unknown[0]}")
    with tempfile.TemporaryDirectory() as folder:
        facts = options.json or pathlib.Path(folder) / "facts"
        if options.here:
            return run(groups, options.tiny, facts, options.seconds)
        passed_on = [f"--seconds={options.seconds}", *["--tiny"] * options.tiny]
        found, lost = supervise(groups, passed_on, facts, options.seconds)
    checked = [fact for fact in found if "ok" in fact]
    failed = lost + sum(not fact["ok"] for fact in checked)
    print(f"kernels: {len(checked)} checked, {failed} failed")
    return 1 if failed or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
