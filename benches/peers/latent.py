"""A latent pipeline beside PixelGen: REPA's SiT-XL/2, guided, and the decoder of Stable Diffusion's autoencoder.

Its weights are random: only its time and memory count. Sizes and sampler are those of REPA's `models/sit.py`,
`samplers.py` and README (arXiv 2410.06940): 250 steps of Euler-Maruyama, guidance 1.8 where t <= 0.7. The projectors,
which only training needs, and the autoencoder's encoder are left out.
"""
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
import engines
import network
from network import networks

SHAPE = "latent"
PARTS = ("single", "pair", "decode")
TYPES = {
    "f32": ["SiT, torch f32", "SiT, torch f32 compiled", "SiT, openvino f32"],
    "bf16": ["SiT, torch bf16", "SiT, torch bf16 compiled", "SiT, openvino bf16"],
}
PIXELS = {"f32": ["f32"], "bf16": ["bf16", "int8"]}                                  # denoir's types beside them


def repa_steps(steps=250, last=0.04, high=0.7):
    """Evaluations without and with guidance: times fall evenly from 1 to 0.04, and from there at once to 0."""
    guided = int((np.linspace(1, last, steps) <= high).sum())
    return steps - guided, guided


# Evaluations of one condition, and of guided pairs: PixelGen-XL's preset is Heun, 50 steps, guidance in (0.1, 0.9].
SAMPLERS = {"REPA's sampler": repa_steps(), "PixelGen's": (23, 76)}
OWN = {"REPA's sampler": "SiT", "PixelGen's": "PixelGen"}


def picture(parts, single, pairs):
    """Seconds of a picture, by each round's times."""
    decode = parts.get("decode", 0)
    return single * np.array(parts["single"]) + pairs * np.array(parts["pair"]) + np.array(decode)


class Block(nn.Module):
    def __init__(self, h, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = (nn.LayerNorm(h, 1e-6, elementwise_affine=False) for _ in range(2))
        self.qkv, self.proj = nn.Linear(h, 3 * h), nn.Linear(h, h)
        self.mlp = nn.Sequential(nn.Linear(h, 4 * h), nn.GELU("tanh"), nn.Linear(4 * h, h))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(h, 6 * h))

    def attend(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def forward(self, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, -1)
        x = x + gate1[:, None] * self.attend(networks.modulate(self.norm1(x), shift1, scale1))
        return x + gate2[:, None] * self.mlp(networks.modulate(self.norm2(x), shift2, scale2))


class SiT(nn.Module):
    """x (B, 4, 32, 32), t (B,), label (B,) -> velocity (B, 4, 32, 32)."""

    def __init__(self, depth=28, h=1152, heads=16, patch=2, size=32):
        super().__init__()
        self.patch, self.grid = patch, size // patch
        self.x_embedder = nn.Conv2d(4, h, patch, patch)
        self.pos_embed = nn.Parameter(networks.position_table(h, self.grid)[None].float(), requires_grad=False)
        self.t_embedder, self.y_embedder = networks.TimestepEmbedder(h, 1e4), networks.LabelEmbedder(1000, h)
        self.blocks = nn.ModuleList(Block(h, heads) for _ in range(depth))
        self.norm_final = nn.LayerNorm(h, 1e-6, elementwise_affine=False)
        self.linear = nn.Linear(h, 4 * patch * patch)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(h, 2 * h))

    def forward(self, x, t, label):
        c = self.t_embedder(t) + self.y_embedder(label)
        tokens = self.x_embedder(x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, c)
        shift, scale = self.adaLN_modulation(c).chunk(2, -1)
        tokens = self.linear(networks.modulate(self.norm_final(tokens), shift, scale))
        return networks.unpatchify(tokens, self.patch, self.grid)


def decoder():
    """(B, 4, 32, 32) -> (B, 3, 256, 256): Stable Diffusion's, by diffusers."""
    from diffusers import AutoencoderKL
    channels = (128, 256, 512, 512)
    vae = AutoencoderKL(down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                        block_out_channels=channels, layers_per_block=2, latent_channels=4, sample_size=256)
    return nn.Sequential(vae.post_quant_conv, vae.decoder)


def made(module, dtype):
    """Weights are made in their type, so that no larger ones count as memory."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    return module().to(dtype).eval().requires_grad_(False)


def inputs(dtype=torch.float32):
    x, t, label = network.inputs(2)
    return x[:, :1, :32, :32].expand(-1, 4, -1, -1).to(dtype).contiguous(), t.to(dtype), label


# PyTorch ----------------------------------------------------------------------------------------------------------

def torch_parts(case, dtype, compiled=False):
    torch.set_num_threads(case.threads)
    (x, t, label), net, decode = inputs(dtype), made(SiT, dtype), made(decoder, dtype)
    if compiled:
        net, decode = torch.compile(net, dynamic=False), torch.compile(decode, dynamic=False)
    net, decode = torch.inference_mode()(net), torch.inference_mode()(decode)
    parts = {"single": lambda: net(x[:1], t[:1], label[:1]), "pair": lambda: net(x, t, label),
             "decode": lambda: decode(x[:1])}
    return parts, lambda y: y.float().numpy()


for kind, element in (("f32", torch.float32), ("bf16", torch.bfloat16)):
    engines.engine(f"SiT, torch {kind}")(lambda case, dtype=element: torch_parts(case, dtype))
    engines.engine(f"SiT, torch {kind} compiled")(lambda case, dtype=element: torch_parts(case, dtype, compiled=True))


# OpenVINO ---------------------------------------------------------------------------------------------------------

def prepare_openvino(case):
    import openvino
    x, t, label = inputs()
    for name, module, example in (("sit", SiT, (x, t, label)), ("decoder", decoder, (x[:1],))):
        path = case.folder / f"{name}.xml"
        if not path.exists():
            model = openvino.convert_model(made(module, torch.float32), example_input=example)
            openvino.save_model(model, path, compress_to_fp16=False)


def openvino_parts(case, precision):
    import openvino
    core, values = openvino.Core(), [z.numpy() for z in inputs()]
    options = {"INFERENCE_NUM_THREADS": case.threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
               "INFERENCE_PRECISION_HINT": precision}
    sit, decode = core.read_model(case.folder / "sit.xml"), core.read_model(case.folder / "decoder.xml")
    sit.reshape({port: [(1, 2), *values[i].shape[1:]] for i, port in enumerate(sit.inputs)})
    decode.reshape([1, 4, 32, 32])
    sit, decode = (core.compile_model(model, "CPU", options).create_infer_request() for model in (sit, decode))
    parts = {"single": lambda: sit.infer([z[:1] for z in values]), "pair": lambda: sit.infer(values),
             "decode": lambda: decode.infer([values[0][:1]])}
    return parts, lambda y: np.array(y[0])


for kind in ("f32", "bf16"):
    engines.engine(f"SiT, openvino {kind}", prepare_openvino)(lambda case, kind=kind: openvino_parts(case, kind))
