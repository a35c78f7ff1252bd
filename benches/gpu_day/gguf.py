"""Reads GGUF v3, the format of denoir's model files, with numpy alone.

    metadata, tensors = gguf.read("model.gguf")

`tensors` maps each name to an array that lies in the mapped file, outermost dimension first: float32, float16, int8,
and bf16 as its bits in uint16, which `float32` widens. The row scales of an int8 matrix are the tensor NAME_scale.
"""
import struct
import numpy as np

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
TYPES = {0: np.float32, 1: np.float16, 24: np.int8, 30: np.uint16}                   # ggml's code -> numpy; 30 is bf16


class Cursor:
    """A place in the file that moves on with each read."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self):
        size = self.number("Q")
        self.at += size
        return bytes(self.data[self.at - size:self.at]).decode()

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind != ARRAY:
            return self.number(SCALARS[kind])
        kind, count = self.number("I"), self.number("Q")
        return [self.value(kind) for _ in range(count)]


def read(path):
    """Metadata by key and tensors by name."""
    data = np.memmap(path, np.uint8, "c")                                            # writable, as PyTorch likes it
    cursor = Cursor(data)
    if bytes(data[:4]) != b"GGUF":
        raise ValueError(f"{path} is not a GGUF file")
    cursor.at = 4
    if (version := cursor.number("I")) != 3:
        raise ValueError(f"{path} is GGUF version {version}, not 3")
    tensor_count, value_count = cursor.number("Q"), cursor.number("Q")
    metadata, places = {}, {}
    for _ in range(value_count):
        key = cursor.text()
        metadata[key] = cursor.value(cursor.number("I"))
    for _ in range(tensor_count):
        name = cursor.text()
        shape = [cursor.number("Q") for _ in range(cursor.number("I"))][::-1]
        places[name] = cursor.number("I"), shape, cursor.number("Q")
    alignment = metadata.get("general.alignment", 32)
    start = -(-cursor.at // alignment) * alignment
    return metadata, {name: view(data, start + offset, code, shape) for name, (code, shape, offset) in places.items()}


def view(data, start, code, shape):
    if code not in TYPES:
        raise ValueError(f"ggml type {code} is not read here")
    size = int(np.prod(shape)) * np.dtype(TYPES[code]).itemsize
    return data[start:start + size].view(TYPES[code]).reshape(shape)


def float32(array):
    """A float tensor's values."""
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)
