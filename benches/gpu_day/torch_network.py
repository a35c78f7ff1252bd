"""A model file's network in PyTorch, for torch_peer.py: that of benches/peers in f32, bf16 or int8, compiled or not."""
import math
import re
import sys
import types
from pathlib import Path
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
import gguf

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "peers"))
# network.py takes the sizes of checkpoints from this module, which needs packages that nothing here does.
sys.modules["random_checkpoint"] = types.SimpleNamespace(COMMON={}, SHAPES={})
import network                                                                       # noqa: E402
from network import networks                                                         # noqa: E402

STEPS = 50                                                                           # of a trajectory from 0 to 1

# One kernel where nothing is compiled; the definition spells it out.
networks.RMSNorm.forward = lambda self, x: F.rms_norm(x, self.weight.shape, self.weight, 1e-6)
for layer in (nn.Linear, nn.Embedding, nn.Conv2d):
    layer.reset_parameters = lambda self: None                                       # weights come from the file


class Network(network.Network):
    """The network in parts that are compiled one by one; what the compiler makes of one block serves all of them."""

    def begin(self, x, t, label):
        dtype, y = self.pos_embed.dtype, self.y_embedder(label)
        angle = t[:, None] * self.frequencies
        c = self.t_embedder.mlp(torch.cat([angle.cos(), angle.sin()], -1).to(dtype)) + y
        return self.x_embedder(x.to(dtype)) + self.pos_embed, c, y[:, None] + self.in_context_posemb

    def end(self, tokens, c):
        return networks.unpatchify(self.final_layer(tokens, c), self.patch, self.grid).float()

    def forward(self, x, t, label):
        tokens, c, context = self.begin(x, t, label)
        waves, ctx = (self.cos_image, self.sin_image), 0
        for i, block in enumerate(self.blocks):
            if i == self.context_start:
                ctx, waves = context.shape[1], (self.cos_all, self.sin_all)
                tokens = torch.cat([context, tokens], 1)
            tokens = block(tokens, c, waves)
        return self.end(tokens[:, ctx:], c)

    def advance(self, x, x_hat, t):
        """One Euler step of x, in place."""
        x += (x_hat - x) / (1 - t).clamp(min=0.05)[:, None, None, None] / STEPS

    def quantise(self):
        """The layers that denoir's int8 files quantise."""
        for block in self.blocks:
            for part, name in [(block.attn, "qkv"), (block.attn, "proj"), (block.mlp, "w12"), (block.mlp, "w3")]:
                setattr(part, name, Int8Linear(getattr(part, name)))

    def compile_parts(self, compiler):
        options = dict(backend=compiler, fullgraph=True, dynamic=False)
        for block in self.blocks:
            block.compile(**options)
        for part in ("begin", "end", "advance"):
            setattr(self, part, torch.compile(getattr(self, part), **options))


class Int8Linear(nn.Module):
    """W8A8: a scale for each row of the weights and, at each call, for each token."""

    def __init__(self, linear):
        super().__init__()
        weight = linear.weight.float()
        scale = weight.abs().amax(1) / 127
        self.register_buffer("codes", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.bias = linear.bias

    def forward(self, x):
        rows = x.flatten(0, -2).float()
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        sums = torch._int_mm((rows / scale).round().to(torch.int8), self.codes.t())
        return (sums * scale * self.scale + self.bias).to(x.dtype).unflatten(0, x.shape[:-1])


class Model:
    """A model file: its weights as PyTorch's tensors, and what is computed from them in f32."""

    def __init__(self, path, device, compiler):
        self.metadata, arrays = gguf.read(path)
        if self.metadata["general.architecture"] != "jit":
            raise ValueError("the model is not class-conditional")
        if self.metadata["denoir.weight_type"] == "int8":
            raise ValueError("give the model in bf16: PyTorch's int8 weights are made here")
        self.name = re.sub(r"[-._](f32|f16|bf16)$", "", Path(path).stem)
        self.device, self.compiler, self.config = device, compiler, self.read_config()
        self.weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        for name, weight in self.weights.items():
            if weight.dtype == torch.uint16:
                self.weights[name] = weight.view(torch.bfloat16)
        self.built = {}

    def read_config(self):
        size = {key.removeprefix("jit."): value for key, value in self.metadata.items() if key.startswith("jit.")}
        return dict(input_size=size["input_size"], patch_size=size["patch_size"], hidden_size=size["embedding_length"],
                    depth=size["block_count"], num_heads=size["attention.head_count"], num_classes=size["class_count"],
                    use_bottleneck=size["bottleneck_length"] > 0, bottleneck_dim=size["bottleneck_length"],
                    in_context_len=size["context_token_count"], in_context_start=size["context_start_block"])

    def network(self, dtype, how="eager"):
        """Built once for every type and way to run it: a compiled network keeps what was compiled."""
        key = dtype, "compiled" in how
        if key not in self.built:
            self.built[key] = self.build(*key)
        return self.built[key]

    def build(self, dtype, compiled):
        net = Network(self.config).eval().requires_grad_(False)
        net.load_state_dict(self.weights, assign=True)
        net.to(self.device, torch.float32 if dtype == "f32" else torch.bfloat16).requires_grad_(False)
        k = torch.arange(networks.TIMESTEP_WIDTH // 2, dtype=torch.float64) * 2 / networks.TIMESTEP_WIDTH
        net.frequencies = torch.exp(-math.log(net.t_embedder.max_period) * k).float().to(self.device)
        if dtype == "int8":
            net.quantise()
        if compiled:
            net.compile_parts(self.compiler)
        return net

    def noise(self, seed):
        size = self.config["input_size"]
        noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
        return self.metadata.get("denoir.sampler.noise_scale", 1.0) * noise

    def x_hat(self, dtype, noise, t, label):
        """One evaluation, in the plainest way."""
        x, t = noise.to(self.device), torch.full((len(label),), t, device=self.device)
        with sdpa_kernel(SDPBackend.MATH):
            return self.network(dtype)(x, t, torch.tensor(label, device=self.device)).cpu()
