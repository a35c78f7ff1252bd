"""The engines of the comparison: what each needs on disk (`prepare`) and how it evaluates (`load`)."""
import os
from pathlib import Path
import numpy as np

ENGINES = {}                                                                         # name -> (prepare or None, load)
OWN = "own"                                                                          # level: the best of the machine
TYPES = {
    "f32": ["torch f32", "torch f32 compiled", "onnxruntime f32", "openvino f32"],
    "bf16": ["torch bf16", "torch bf16 compiled", "openvino bf16"],
    "int8": ["torch int8", "onnxruntime int8", "openvino int8", "openvino int8, rest f32"],
}
# What holds libraries to an instruction set, besides hold.c: oneDNN (in OpenVINO and PyTorch), MKL, PyTorch's own
# loops, FBGEMM, what PyTorch compiles. The C library too: its copies would look like AVX-512 to `worker.used_avx512`.
AVX2 = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
        "TORCHINDUCTOR_CPP_MARCH": "x86-64-v3", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW"}
LEVELS = {
    OWN: {},
    "avx2": AVX2 | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "avx2-vnni": AVX2 | {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI", "HOLD_AVX_VNNI": "1"},
}
LOWER = {"avx2": ["f32", "int8"], "avx2-vnni": ["int8"]}                             # what a full run measures besides
ONLY_BY_HOLD = ["onnxruntime f32", "onnxruntime int8", "openvino f32"]              # MLAS asks the processor alone
NEED_BF16 = ["openvino bf16", "openvino int8"]


def at_level(dtype, level, hold):
    """The engines of a type that can be held to a level, with `hold.c` or without."""
    left_out = [] if level == OWN else NEED_BF16 + ([] if hold else ONLY_BY_HOLD)
    return [name for name in TYPES[dtype] if name not in left_out]


def engine(name, prepare=None):
    def register(load):
        ENGINES[name] = (prepare, load)
        return load
    return register


class Case:
    """A network, a batch and a number of threads; `folder` holds what was prepared."""

    def __init__(self, folder, shape, batch, threads):
        self.folder, self.shape, self.batch, self.threads = Path(folder), shape, batch, threads

    @property
    def checkpoint(self):
        return self.folder / ("checkpoint.pth" if self.shape.startswith("jit") else "checkpoint.ckpt")

    def network(self):
        import network
        return network.load(self.shape, self.checkpoint)

    def inputs(self):
        import network
        return network.inputs(self.batch)


# PyTorch ----------------------------------------------------------------------------------------------------------

def torch_evaluation(case, change, compiled=False, dtype=None):
    import torch
    torch.set_num_threads(case.threads)
    net, (x, t, label) = change(case.network()), case.inputs()
    if compiled:
        net = torch.compile(net)

    def evaluate():
        with torch.inference_mode():
            return net(x.to(dtype), t.to(dtype), label) if dtype else net(x, t, label)
    return evaluate, lambda y: y.float().numpy()


@engine("torch f32")
def load_torch_f32(case):
    return torch_evaluation(case, lambda net: net)


@engine("torch f32 compiled")
def load_torch_f32_compiled(case):
    return torch_evaluation(case, lambda net: net, compiled=True)


@engine("torch bf16")
def load_torch_bf16(case):
    import torch
    return torch_evaluation(case, lambda net: net.bfloat16(), dtype=torch.bfloat16)


@engine("torch bf16 compiled")
def load_torch_bf16_compiled(case):
    import torch
    return torch_evaluation(case, lambda net: net.bfloat16(), compiled=True, dtype=torch.bfloat16)


@engine("torch int8")
def load_torch_int8(case):
    import torch
    from torch.ao.quantization import quantize_dynamic
    return torch_evaluation(case, lambda net: quantize_dynamic(net, {torch.nn.Linear}, dtype=torch.qint8))


# ONNX Runtime -----------------------------------------------------------------------------------------------------

def prepare_onnx(case):
    path = case.folder / "f32.onnx"
    if not path.exists():
        import network
        import torch
        batch = torch.export.Dim("batch", min=1, max=8)
        torch.onnx.export(network.with_products(case.network()), network.inputs(2), path, dynamo=True, verbose=False,
                          external_data=True, input_names=["x", "t", "label"], output_names=["x_hat"],
                          dynamic_shapes=({0: batch}, {0: batch}, {0: batch}))
    return path


def prepare_onnx_int8(case):
    source, path = prepare_onnx(case), case.folder / "int8.onnx"
    if not path.exists():
        from onnxruntime.quantization import QuantType, quantize_dynamic
        quantize_dynamic(source, path, weight_type=QuantType.QInt8, per_channel=True, use_external_data_format=True)
    return path


def onnx_evaluation(case, path):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = case.threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = {name: z.numpy() for name, z in zip(("x", "t", "label"), case.inputs())}
    return lambda: session.run(None, feed), lambda y: y[0]


@engine("onnxruntime f32", prepare_onnx)
def load_onnx_f32(case):
    return onnx_evaluation(case, case.folder / "f32.onnx")


@engine("onnxruntime int8", prepare_onnx_int8)
def load_onnx_int8(case):
    return onnx_evaluation(case, case.folder / "int8.onnx")


# OpenVINO ---------------------------------------------------------------------------------------------------------

def prepare_openvino_int8(case):
    source, path = prepare_onnx(case), case.folder / "openvino-int8.xml"
    if not path.exists():
        import network
        import nncf
        import openvino
        samples = []
        for seed, t in enumerate((0.1, 0.3, 0.6, 0.9)):
            x, times, labels = network.inputs(1, seed)[:2] + network.inputs(2)[2:]
            noisy = t * x.mean((2, 3), keepdim=True).expand_as(x) + (1 - t) * x
            # Both conditions: ranges of activations are fixed here, and a class that was never seen would leave them.
            samples += [{"x": noisy.numpy(), "t": (0 * times + t).numpy(), "label": label[None].numpy()}
                        for label in labels]
        quantised = nncf.quantize(openvino.Core().read_model(source), nncf.Dataset(samples), subset_size=len(samples),
                                  model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED)
        openvino.save_model(quantised, path, compress_to_fp16=False)
    return path


def openvino_evaluation(case, path, **precision):
    import openvino
    core = openvino.Core()
    model, (x, t, label) = core.read_model(path), (z.numpy() for z in case.inputs())
    model.reshape({"x": x.shape, "t": t.shape, "label": label.shape})
    compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": case.threads, "NUM_STREAMS": 1,
                                                 "PERFORMANCE_HINT": "LATENCY", **precision})
    request, feed = compiled.create_infer_request(), {"x": x, "t": t, "label": label}
    return lambda: request.infer(feed), lambda y: np.array(y[compiled.output(0)])


@engine("openvino f32", prepare_onnx)
def load_openvino_f32(case):
    return openvino_evaluation(case, case.folder / "f32.onnx", INFERENCE_PRECISION_HINT="f32")


@engine("openvino bf16", prepare_onnx)
def load_openvino_bf16(case):
    return openvino_evaluation(case, case.folder / "f32.onnx", INFERENCE_PRECISION_HINT="bf16")


@engine("openvino int8", prepare_openvino_int8)
def load_openvino_int8(case):
    return openvino_evaluation(case, case.folder / "openvino-int8.xml", INFERENCE_PRECISION_HINT="bf16")


@engine("openvino int8, rest f32", prepare_openvino_int8)
def load_openvino_int8_f32(case):
    return openvino_evaluation(case, case.folder / "openvino-int8.xml", INFERENCE_PRECISION_HINT="f32")


def limit_threads(threads):
    """Before any library starts its own."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
