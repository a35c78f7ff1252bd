"""The network as a user of PyTorch would run it: fused attention, waves of the rotation made once.

Its weights, names and results are those of fixtures/networks.py, which defines what every engine has to compute.
"""
from pathlib import Path
import sys
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "fixtures"))
import networks                                                                      # noqa: E402
from random_checkpoint import COMMON, SHAPES                                         # noqa: E402


def rotate(x, waves):
    """Turn the channel pairs (2k, 2k + 1) of x (B, T, heads, head_dim) by waves: cos, sin (T, 1, head_dim / 2)."""
    cos, sin = waves
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


class Attention(networks.Attention):
    def forward(self, x, waves):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        q, k = rotate(self.q_norm(q), waves), rotate(self.k_norm(k), waves)
        y = F.scaled_dot_product_attention(*(z.transpose(1, 2) for z in (q, k, v)))
        return self.proj(y.transpose(1, 2).flatten(2))


class Network(networks.ClassNetwork):
    """x (B, 3, H, W), t (B,), label (B,) -> x_hat (B, 3, H, W)."""

    def __init__(self, config):
        super().__init__(config)
        ctx, angle = config["in_context_len"], self.rope[:, None]
        padded = torch.cat([torch.zeros(ctx, *angle.shape[1:], dtype=angle.dtype), angle])
        for name, angle in [("image", angle), ("all", padded)]:
            self.register_buffer(f"cos_{name}", angle.cos().float(), persistent=False)
            self.register_buffer(f"sin_{name}", angle.sin().float(), persistent=False)
        for block in self.blocks:
            block.attn.__class__ = Attention

    def forward(self, x, t, label):
        y = self.y_embedder(label)
        c = self.t_embedder(t) + y
        tokens, waves, ctx = self.x_embedder(x) + self.pos_embed, (self.cos_image, self.sin_image), 0
        for i, block in enumerate(self.blocks):
            if i == self.context_start:
                context = y[:, None] + self.in_context_posemb
                ctx, waves = context.shape[1], (self.cos_all, self.sin_all)
                tokens = torch.cat([context, tokens], 1)
            tokens = block(tokens, c, waves)
        return networks.unpatchify(self.final_layer(tokens[:, ctx:], c), self.patch, self.grid)


class Product(nn.Module):
    """A linear layer as the product that ONNX has, weights already turned."""

    def __init__(self, linear):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.data.t().contiguous(), requires_grad=False)
        self.bias = linear.bias

    def forward(self, x):
        y = x @ self.weight
        return y if self.bias is None else y + self.bias


def load(shape, checkpoint):
    """The network with a checkpoint's weights, f32."""
    network = Network(COMMON | SHAPES[shape]).eval().requires_grad_(False)
    content = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=False)
    weights = content.get("model_ema1") or content["state_dict"]
    network.load_state_dict({name.split(".", 1)[1]: value for name, value in weights.items()})
    return network


def with_products(module):
    """Every linear layer as [`Product`]."""
    for name, child in module.named_children():
        setattr(module, name, Product(child) if isinstance(child, nn.Linear) else with_products(child))
    return module


def inputs(batch, seed=0):
    """One evaluation at t = 0.3; a batch of 2 is a guided pair: two conditions, one image."""
    gen = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 3, COMMON["input_size"], COMMON["input_size"], generator=gen)
    labels = torch.tensor([207, 980]).repeat(batch)[:batch]
    return x.repeat(batch, 1, 1, 1), torch.full((batch,), 0.3), labels
