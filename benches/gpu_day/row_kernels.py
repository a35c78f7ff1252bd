"""The kernels of rows and of values: cases for kernels.py, at the shapes of PixelGen-XL's guided pair."""

import functools
from dataclasses import dataclass

import numpy as np
from measure import (AT, F32, U32, AnyMatrix, Case, Matrix, Output, Tokens, ceil_div, images_of, rounded, silu,
                     structure, widened)

# Twins of the arguments in cuda/src/kernels/*.rs.
NormModulateArgs = structure(104, x=Matrix, weight=AT, table=Matrix, table_rows=AT, out=AnyMatrix, out_scale=AT,
                             cols=U32, shift=U32, scale=U32, layout=Tokens, eps=F32, unused=U32)
QkNormRopeArgs = structure(88, qkv=Matrix, out=AnyMatrix, q_weight=AT, k_weight=AT, rope=Matrix, rotated_rows=U32, heads=U32,
                           kv_heads=U32, head_dim=U32, halves=U32, eps=F32)
SwigluArgs = structure(48, x=Matrix, out=AnyMatrix, out_scale=AT, cols=U32, rotated=U32)
QuantizeRowsArgs = structure(48, x=AnyMatrix, out=AnyMatrix, out_scale=AT, cols=U32, rotated=U32)
RmsNormArgs = structure(72, x=Matrix, weight=AT, position=Matrix, out=AnyMatrix, out_scale=AT, cols=U32, eps=F32)
LayerNormArgs = structure(48, x=Matrix, out=AnyMatrix, out_scale=AT, cols=U32, eps=F32)
GatherRowsArgs = structure(56, x=AnyMatrix, index=AT, out=AnyMatrix, rows=U32, cols=U32, count=U32, unused=U32)
PatchifyArgs = structure(48, image=Matrix, out=AnyMatrix, rows=U32, cols=U32, grid=U32, patch=U32)
UnpatchifyArgs = structure(56, x=Matrix, out=Matrix, cols=U32, grid=U32, patch=U32, channels=U32, channel_first=U32,
                           unused=U32)
SolverStepArgs = structure(80, x=Matrix, x_eval=Matrix, x_hat=Matrix, velocity=Matrix, step=AT, pixels=U32, guided=U32)

EPS = 1e-6
LINE_THREADS, ROW_THREADS = 256, 256
ROTATION = 16
# Beside f64 results that were rounded to the same type: a few values near ties round to the other neighbour.
ROW_LIMITS = {"f32": 1e-6, "f16": 2e-4, "bf16": 5e-4, "int8": 1e-3}
COPY_BYTES = 256 << 20


@dataclass
class Rows:
    """Sizes of what the row kernels work on."""

    images: int
    grid: int
    context: int
    patch: int
    heads: int
    head: int
    ffn: int

    def __post_init__(self):
        self.layout = Tokens(self.images, self.grid**2, self.context)
        self.tokens, self.hidden = self.images * (self.grid**2 + self.context), self.heads * self.head
        self.pixels = 3 * (self.grid * self.patch) ** 2


# PixelGen-XL's guided pair.
ROWS = Rows(images=2, grid=16, context=32, patch=16, heads=16, head=72, ffn=3072)
TINY_ROWS = Rows(images=2, grid=5, context=10, patch=4, heads=2, head=72, ffn=135)


def by_row(kernel, args, out, read, note=""):
    """A block a row. `read`: bytes of inputs, each once; of what is written and read again, nothing."""
    rows, cols = out.values.shape
    return Case(kernel, out.kind, f"{rows}x{cols}", (rows, 1, 1), ROW_THREADS, [args], [out], ROW_LIMITS[out.kind],
                nbytes=read + out.nbytes, note=note)


def by_value(kernel, args, outputs, values, nbytes, limit=0.0):
    """A value a thread."""
    rows, cols = outputs[0].values.shape
    return Case(kernel, outputs[0].kind, f"{rows}x{cols}", (ceil_div(values, LINE_THREADS), 1, 1), LINE_THREADS, [args],
                outputs, limit, nbytes=nbytes)


def normed(x):
    x = x.astype(np.float64)
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS)


def norm_modulate(bench, s, kind):
    x, weight = bench.normal(s.tokens, s.hidden), 1 + bench.normal(s.hidden, scale=0.1)
    table, picks = bench.normal(3, 3 * s.hidden, scale=0.3), np.array([2, 0], np.uint32)
    vectors = table[picks[images_of(s.layout)]].astype(np.float64)
    shift, scale = vectors[:, s.hidden : 2 * s.hidden], vectors[:, 2 * s.hidden :]
    out = Output(bench.device, kind, normed(x) * weight * (1 + scale) + shift)
    args = NormModulateArgs(bench.matrix(x), bench.row(weight), bench.matrix(table), bench.row(picks), out.any_matrix,
                            out.scale_at, s.hidden, s.hidden, 2 * s.hidden, s.layout, EPS)
    return by_row("norm_modulate", args, out, x.nbytes)


def rms_norm(bench, s, kind):
    x, weight = bench.normal(s.tokens, s.hidden), 1 + bench.normal(s.hidden, scale=0.1)
    position = bench.normal(s.grid**2, s.hidden)
    out = Output(bench.device, kind, normed(x) * weight + position[np.arange(s.tokens) % len(position)])
    args = RmsNormArgs(bench.matrix(x), bench.row(weight), bench.matrix(position), out.any_matrix, out.scale_at,
                       s.hidden, EPS)
    return by_row("rms_norm", args, out, x.nbytes + position.nbytes)


def layer_norm(bench, s, kind):
    x = bench.normal(s.tokens, s.hidden) + np.float32(0.5)
    wide = x.astype(np.float64)
    out = Output(bench.device, kind, normed(wide - wide.mean(axis=1, keepdims=True)))
    args = LayerNormArgs(bench.matrix(x), out.any_matrix, out.scale_at, s.hidden, EPS)
    return by_row("layer_norm", args, out, x.nbytes)


def quantize_rows(bench, s, kind):
    x = rounded(bench.normal(s.tokens, s.hidden), "bf16")
    out = Output(bench.device, kind, widened(x, "bf16"))
    args = QuantizeRowsArgs(bench.any_matrix(x, "bf16"), out.any_matrix, out.scale_at, s.hidden)
    return by_row("quantize_rows", args, out, x.nbytes)


def swiglu(bench, s, kind, rotated=False):
    x = bench.normal(s.tokens, 2 * s.ffn)
    gate, value = np.split(x.astype(np.float64), 2, axis=1)
    y, n = silu(gate) * value, s.ffn // ROTATION
    if rotated:
        hadamard = np.array([[(-1) ** (i & j).bit_count() / 4 for j in range(ROTATION)] for i in range(ROTATION)])
        groups = y[:, : ROTATION * n].reshape(s.tokens, ROTATION, n)
        y[:, : ROTATION * n] = np.einsum("ij,rjn->rin", hadamard, groups).reshape(s.tokens, -1)
    out = Output(bench.device, kind, y)
    args = SwigluArgs(bench.matrix(x), out.any_matrix, out.scale_at, s.ffn, rotated)
    return by_row("swiglu", args, out, x.nbytes, "rotated" if rotated else "")


def qk_norm_rope(bench, s, kind):
    qkv, angles = bench.normal(s.tokens, 3 * s.hidden), bench.rng.uniform(0, 6, (s.grid**2, s.head // 2))
    weights = 1 + bench.normal(2, s.head, scale=0.1)
    rope = np.stack([np.cos(angles), np.sin(angles)], axis=-1).reshape(s.grid**2, s.head).astype(np.float32)
    rotated, per_block = s.images * s.grid**2, 4
    y = normed(qkv[:, : 2 * s.hidden].reshape(s.tokens, 2, s.heads, s.head)) * weights[:, None]
    cos, sin = (np.tile(rope[:, part::2], (s.images, 1))[:, None, None] for part in range(2))
    p, q = y[:rotated, ..., ::2].copy(), y[:rotated, ..., 1::2].copy()
    y[:rotated, ..., ::2], y[:rotated, ..., 1::2] = p * cos - q * sin, q * cos + p * sin
    want = np.hstack([y.reshape(s.tokens, -1), qkv[:, 2 * s.hidden :]])
    in_place = kind == "f32"
    out = Output(bench.device, kind, want, before=qkv if in_place else None)
    at = bench.row(weights)
    x, to = (out.matrix, AnyMatrix()) if in_place else (bench.matrix(qkv), out.any_matrix)
    args = QkNormRopeArgs(x, to, at, at + 4 * s.head, bench.matrix(rope), rotated, s.heads, s.heads, s.head, 0, EPS)
    parts, nbytes = (2, 2 * 4 * 2) if in_place else (3, 3 * (4 + 2))
    return Case("qk_norm_rope", kind, f"{s.tokens}x{3 * s.hidden}", (s.tokens, ceil_div(parts * s.heads, per_block), 1),
                32 * per_block, [args], [out], ROW_LIMITS[kind], nbytes=nbytes * s.tokens * s.hidden)


def gather_rows(bench, s, kind):
    count, bits = 2, rounded(bench.normal(s.tokens, s.hidden), kind)
    index = bench.rng.integers(0, s.tokens // count, s.tokens // count, np.uint32)
    want = widened(bits, kind).reshape(-1, count, s.hidden)[index].reshape(-1, s.hidden)
    out = Output(bench.device, kind, want)
    args = GatherRowsArgs(bench.any_matrix(bits, kind), bench.row(index), out.any_matrix, *want.shape, count)
    return by_value("gather_rows", args, [out], want.size, 2 * out.nbytes)


def patches(s):
    """For each value of an image's patches, token by token, its number in the image."""
    pixels = np.arange(s.pixels).reshape(3, s.grid, s.patch, s.grid, s.patch)
    return pixels.transpose(1, 3, 0, 2, 4).reshape(s.grid**2, -1)


def patchify(bench, s, kind):
    image = bench.normal(s.images, s.pixels)
    out = Output(bench.device, kind, image[:, patches(s)].reshape(s.images * s.grid**2, -1).astype(np.float64))
    args = PatchifyArgs(bench.matrix(image), out.any_matrix, *out.values.shape, s.grid, s.patch)
    return by_value("patchify", args, [out], out.values.size, image.nbytes + out.nbytes)


def unpatchify(bench, s, kind):
    x = bench.normal(s.images * s.grid**2, 3 * s.patch**2)
    want = np.empty((s.images, s.pixels))
    want[:, patches(s)] = x.reshape(s.images, s.grid**2, -1)
    out = Output(bench.device, kind, want)
    args = UnpatchifyArgs(bench.matrix(x), out.matrix, s.pixels, s.grid, s.patch, 3, 1)
    return by_value("unpatchify", args, [out], want.size, 2 * out.nbytes)


def solver_step(bench, s, kind):
    """A guided step of one image; weights of two velocities, the older of which is read."""
    x, x_eval, x_hat, velocity = (bench.normal(rows, s.pixels) for rows in (1, 1, 2, 4))
    advance, look_ahead, remaining, guidance, slot = [-0.1, 0.3, 0, 0], [0.2, 0.1, 0, 0], 0.4, 2.5, 1
    step = np.array([*advance, *look_ahead, remaining, guidance, 0], np.float32)
    values = step.astype(np.float64)
    step.view(np.uint32)[10] = slot
    wide = [array.astype(np.float64) for array in (x, x_eval, x_hat, velocity)]
    v, null = (wide[2] - wide[1]) / values[8]
    v = null + values[9] * (v - null)
    history = wide[3].copy()
    history[slot] = v
    moved = wide[0] + values[:4] @ history
    predicted = np.vstack([wide[1] + values[8] * v, wide[2][1:]])
    outputs = [Output(bench.device, kind, want, before=before) for want, before in
               ((moved, x), (moved + values[4:8] @ history, x_eval), (predicted, x_hat), (history, velocity))]
    args = SolverStepArgs(*(out.matrix for out in outputs), bench.row(step), s.pixels, 1)
    # x, x_eval: read and written; x_hat: read twice, written once; velocity: one read, one written.
    return by_value("solver_step", args, outputs, s.pixels, (2 + 2 + 3 + 2) * 4 * s.pixels, ROW_LIMITS[kind])


ROW_KERNELS = [
    *[(norm_modulate, kind) for kind in ("f16", "bf16", "int8")],
    *[(qk_norm_rope, kind) for kind in ("f32", "bf16")],
    *[(swiglu, kind) for kind in ("f16", "bf16", "int8")],
    (functools.partial(swiglu, rotated=True), "int8"),
    (quantize_rows, "int8"),
    (solver_step, "f32"),
    (rms_norm, "f32"),
    (layer_norm, "bf16"),
    *[(gather_rows, kind) for kind in ("f32", "bf16")],
    *[(patchify, kind) for kind in ("f32", "bf16")],
    (unpatchify, "f32"),
]


def rows_group(bench):
    def copy():
        with bench.device.scope():
            to, at = (bench.device.allocate(COPY_BYTES) for _ in range(2))
            ms = bench.device.time(lambda _: bench.device.copy(to, at, COPY_BYTES))
        bench.copy_rate = 2 * COPY_BYTES / ms / 1e6
        print(f"copy of {COPY_BYTES >> 20} MiB on the device: {bench.copy_rate:.0f} GB/s read and written", flush=True)

    def case(make, kind):
        with bench.device.scope():
            bench.measure(make(bench, TINY_ROWS if bench.tiny else ROWS, kind))

    if bench.device.can_copy:
        bench.attempt({"kernel": "copy"}, copy)
    for make, kind in ROW_KERNELS:
        name = getattr(make, "func", make).__name__
        bench.attempt({"kernel": name, "type": kind}, lambda: case(make, kind))
