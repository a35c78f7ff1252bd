"""CUDA's driver by ctypes: what runs and times denoir's compiled kernels where there is no Rust.

    device = Device()
    with device.scope():
        x = device.upload(array)
        function = device.function("swiglu", "swiglu")
        device.launch(function, (blocks, 1, 1), threads, 0, arguments)   # arguments: the kernel's one ctypes.Structure

It makes the calls that cuda/src makes, and needs nothing but Python; arrays are NumPy's. denoir's emulator is such a
driver too: LD_LIBRARY_PATH=FOLDER, where FOLDER holds it as libcuda.so.1.
"""

import contextlib
import ctypes
import pathlib
import statistics
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

MODULES = pathlib.Path(__file__).resolve().parents[2] / "cuda" / "modules"

# What each function takes: without it ctypes would pass addresses as 32 bits. An address of the device is a c_uint64.
SIGNATURES = {
    "cuInit": [c_uint],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuDeviceGetName": [c_char_p, c_int, c_int],
    "cuDeviceGetAttribute": [POINTER(c_int), c_int, c_int],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuModuleLoadData": [POINTER(c_void_p), c_char_p],
    "cuModuleGetFunction": [POINTER(c_void_p), c_void_p, c_char_p],
    "cuFuncSetAttribute": [c_void_p, c_int, c_int],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), c_uint],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamBeginCapture_v2": [c_void_p, c_int],
    "cuStreamEndCapture": [c_void_p, POINTER(c_void_p)],
    "cuGraphInstantiateWithFlags": [POINTER(c_void_p), c_void_p, c_uint64],
    "cuGraphLaunch": [c_void_p, c_void_p],
    "cuGraphDestroy": [c_void_p],
    "cuGraphExecDestroy": [c_void_p],
    "cuEventCreate": [POINTER(c_void_p), c_uint],
    "cuEventRecord": [c_void_p, c_void_p],
    "cuEventSynchronize": [c_void_p],
    "cuEventElapsedTime": [POINTER(c_float), c_void_p, c_void_p],
    "cuLaunchKernel": [c_void_p] + [c_uint] * 7 + [c_void_p, POINTER(c_void_p), POINTER(c_void_p)],
}
# What the emulator lacks.
OPTIONAL = {
    "cuMemcpyDtoDAsync_v2": [c_uint64, c_uint64, c_size_t, c_void_p],
    "cuGetErrorName": [c_int, POINTER(c_char_p)],
}

# Numbers of cuda.h.
MULTIPROCESSORS, L2_BYTES, COMPUTE_MAJOR, COMPUTE_MINOR, MULTIPROCESSOR_SHARED, BLOCK_SHARED = 16, 38, 75, 76, 81, 97
MOST_DYNAMIC_SHARED = 8
NON_BLOCKING = 1
CAPTURE_THREAD_LOCAL = 1
# After these every call of the process fails: memory or link errors, illegal addresses and what else kernels trap on.
STICKY = {214, 220, 700, 702, *range(714, 720)}

# A structure lies at the start of so many bytes: the emulator copies them all.
ARGUMENT_BYTES = 160

# Launches between two events, so that their resolution does not count, and how long a measurement goes on at least
# where its runs allow it: clocks need time to rise.
LAUNCHES = range(4, 17)
BUDGET_MS = 15.0
# A launch that takes longer is a measurement by itself: a device in software.
SLOW_MS = 20.0


class CudaError(Exception):
    """A call that failed. `lost`: no other call in this process will succeed."""

    def __init__(self, call, code, name=""):
        super().__init__(f"{call} gave {code}" + (f" ({name})" if name else ""))
        self.call, self.code, self.lost = call, code, code in STICKY


class Clock:
    """What times launches. A subclass gives `elapsed(work)`, ms between events, and `record(work)`, a replay of it."""

    def time(self, launch, runs=50):
        """The median ms of one launch, over at most so many groups; `launch(i)` starts the i-th of a group.

        A group is replayed from a graph, as the backend does it: a small kernel takes less time than its launch.
        """
        once = self.elapsed(lambda: launch(0))
        if once > SLOW_MS:
            return once
        count = min(LAUNCHES[-1], max(LAUNCHES[0], int(BUDGET_MS / max(once, 1e-3))))
        replay = self.record(lambda: [launch(i) for i in range(count)])
        replay()
        times = [self.elapsed(replay)]
        while len(times) < 3 or (len(times) < runs and sum(times) < BUDGET_MS):
            times.append(self.elapsed(replay))
        return statistics.median(times) / count


class Device(Clock):
    """The first device, its primary context, which PyTorch shares, and one stream, which everything goes through."""

    def __init__(self):
        self.functions = {}
        self.open()
        device = self.made("cuDeviceGet", c_int, 0)
        self.number, name = device, ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), device)
        self.name = name.value.decode()
        self.compute = self.attribute(COMPUTE_MAJOR), self.attribute(COMPUTE_MINOR)
        self.multiprocessors = self.attribute(MULTIPROCESSORS)
        self.multiprocessor_shared = self.attribute(MULTIPROCESSOR_SHARED)
        self.block_shared = self.attribute(BLOCK_SHARED)
        self.l2_bytes = self.attribute(L2_BYTES, 0)
        self.call("cuCtxSetCurrent", self.made("cuDevicePrimaryCtxRetain", c_void_p, device))
        self.stream = self.made("cuStreamCreate", c_void_p, NON_BLOCKING)
        self.events = [self.made("cuEventCreate", c_void_p, 0) for _ in range(2)]
        self.modules, self.releases = {}, []

    def open(self):
        """Loads the driver and looks its functions up."""
        try:
            library = ctypes.CDLL("libcuda.so.1")
        except OSError:
            library = ctypes.CDLL("libcuda.so")
        for name, takes in {**SIGNATURES, **OPTIONAL}.items():
            if name in OPTIONAL and not hasattr(library, name):
                continue
            function = getattr(library, name)
            function.argtypes, function.restype = takes, c_int
            self.functions[name] = function
        self.call("cuInit", 0)

    def call(self, name, *arguments):
        """Makes a call, or raises what it reports."""
        self.check(name, self.functions[name](*arguments))

    def check(self, name, code):
        if code == 0:
            return
        text = c_char_p()
        if "cuGetErrorName" in self.functions:
            self.functions["cuGetErrorName"](code, byref(text))
        raise CudaError(name, code, (text.value or b"").decode())

    def made(self, name, kind, *arguments):
        """What a call writes where its first argument points."""
        value = kind()
        self.call(name, byref(value), *arguments)
        return value.value

    def attribute(self, number, otherwise=None):
        try:
            return self.made("cuDeviceGetAttribute", c_int, number, self.number)
        except CudaError:
            if otherwise is None:
                raise
            return otherwise

    def image(self, stem):
        """The kernel file's module for this device: its cubin, or PTX where it has none."""
        cubin = MODULES / f"{stem}.sm_{self.compute[0]}{self.compute[1]}.cubin"
        return cubin if cubin.exists() else MODULES / f"{stem}.ptx"

    def function(self, stem, name, shared=0):
        """A kernel of a kernel file, ready for so many bytes of dynamic shared memory."""
        if stem not in self.modules:
            # The driver looks for PTX's end.
            image = self.image(stem).read_bytes() + b"\0"
            self.modules[stem] = self.made("cuModuleLoadData", c_void_p, image)
        function = self.made("cuModuleGetFunction", c_void_p, self.modules[stem], name.encode())
        if shared > 0:
            self.call("cuFuncSetAttribute", function, MOST_DYNAMIC_SHARED, shared)
        return function

    def launch(self, function, grid, threads, shared, arguments):
        """Starts a kernel, whose one argument is a structure."""
        buffer = ctypes.create_string_buffer(bytes(arguments), ARGUMENT_BYTES)
        pointers = (c_void_p * 1)(ctypes.addressof(buffer))
        self.call("cuLaunchKernel", function, *grid, threads, 1, 1, shared, self.stream, pointers, None)

    def synchronise(self):
        self.call("cuStreamSynchronize", self.stream)

    @contextlib.contextmanager
    def scope(self):
        """Memory and graphs that are made inside are given back at its end."""
        outer, self.releases = self.releases, []
        try:
            yield
        finally:
            # Not checked: where these fail, an earlier call has, and said so.
            for release, handle in reversed(self.releases):
                self.functions[release](handle)
            self.releases = outer

    def allocate(self, size):
        at = self.made("cuMemAlloc_v2", c_uint64, max(size, 1))
        self.releases.append(("cuMemFree_v2", at))
        return at

    def upload(self, array):
        """A copy of an array on the device."""
        at = self.allocate(array.nbytes)
        self.write(at, array)
        return at

    def write(self, at, array):
        assert array.flags.c_contiguous
        # In the stream's order: the plain copy does not wait for a stream of this kind, nor the stream for it.
        self.call("cuMemcpyHtoDAsync_v2", at, array.ctypes.data, array.nbytes, self.stream)
        self.synchronise()

    def read(self, array, at):
        """Fills an array once all that was started has ended."""
        assert array.flags.c_contiguous
        self.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, at, array.nbytes, self.stream)
        self.synchronise()

    @property
    def can_copy(self):
        return "cuMemcpyDtoDAsync_v2" in self.functions

    def copy(self, to, at, size):
        self.call("cuMemcpyDtoDAsync_v2", to, at, size, self.stream)

    def elapsed(self, work):
        start, end = self.events
        self.call("cuEventRecord", start, self.stream)
        work()
        self.call("cuEventRecord", end, self.stream)
        self.call("cuEventSynchronize", end)
        return self.made("cuEventElapsedTime", c_float, start, end)

    def record(self, work):
        """A graph of what `work` starts, to be replayed until the scope ends."""
        graph = c_void_p()
        self.call("cuStreamBeginCapture_v2", self.stream, CAPTURE_THREAD_LOCAL)
        try:
            work()
        finally:
            # A capture has to end, whatever became of the launches, and their error is the one to tell.
            ended = self.functions["cuStreamEndCapture"](self.stream, byref(graph))
        self.check("cuStreamEndCapture", ended)
        replay = self.made("cuGraphInstantiateWithFlags", c_void_p, graph, 0)
        self.releases.append(("cuGraphExecDestroy", replay))
        self.call("cuGraphDestroy", graph)
        return lambda: self.call("cuGraphLaunch", replay, self.stream)
