"""Compiles kernels/*.cu with NVRTC and ptxas to the folder that is named: `cargo xtask cuda` runs this in an environment
of its own. Writes STEM.ptx and STEM.sm_NN.cubin for every kernel file, and STEM.txt, what ptxas says of each kernel:
registers, stack, spills, shared memory."""

import concurrent.futures
import ctypes
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import nvidia

NVIDIA = pathlib.Path(list(nvidia.__path__)[0])
PTXAS = NVIDIA / "cuda_nvcc" / "bin" / "ptxas"
PTXAS_13 = NVIDIA / "cu13" / "bin" / "ptxas"
# What sm_80 takes runs on sm_86 and sm_89 too, what sm_100 and sm_120 take on sm_103 and sm_121; sm_87 is Orin, sm_110
# Thor.
ARCHITECTURES = {"sm_80": PTXAS, "sm_87": PTXAS, "sm_90": PTXAS, "sm_100": PTXAS_13, "sm_110": PTXAS_13, "sm_120": PTXAS_13}
# Kernels wait for those before them from 9.0 on, so that there are two kinds of PTX. Only the first is written.
OLDER = ("sm_80", "sm_87")
KERNELS = pathlib.Path(__file__).parent / "kernels"


def nvrtc():
    folder = NVIDIA / "cuda_nvrtc" / "lib"
    ctypes.CDLL(str(next(folder.glob("libnvrtc-builtins.so.*"))), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(next(folder.glob("libnvrtc.so.*"))))


def text(library, program, kind):
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{kind}Size")(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{kind}")(program, buffer)
    return buffer.value


def ptx(library, source, target):
    program = ctypes.c_void_p()
    name = source.name.encode()
    library.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), name, 0, None, None)
    options = [f"--gpu-architecture=compute_{target}", "--std=c++17", "--restrict", f"--include-path={KERNELS}"]
    array = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
    failed = library.nvrtcCompileProgram(program, len(options), array)
    log = text(library, program, "ProgramLog").decode().strip()
    if log:
        print(log, file=sys.stderr)
    if failed:
        sys.exit(f"{source.name}: NVRTC fails")
    return text(library, program, "PTX")


def cubin(path, out, architecture):
    """Assembles a file of PTX; returns what ptxas says of its kernels."""
    command = [ARCHITECTURES[architecture], "-v", f"-arch={architecture}", path, "-o", out]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return resources(done.stderr, architecture)


def main():
    out = pathlib.Path(sys.argv[1])
    only = sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    library = nvrtc()
    # The largest first, as ptxas takes longest over it.
    sources = sorted(KERNELS.glob("*.cu"), key=lambda source: -source.stat().st_size)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool, tempfile.TemporaryDirectory() as folder:
        reports = {}
        for source in sources:
            if only and source.stem not in only:
                continue
            older, newer = out / f"{source.stem}.ptx", pathlib.Path(folder) / f"{source.stem}.ptx"
            older.write_bytes(ptx(library, source, "80"))
            newer.write_bytes(ptx(library, source, "90"))
            reports[source.stem] = [
                pool.submit(cubin, older if name in OLDER else newer, out / f"{source.stem}.{name}.cubin", name)
                for name in ARCHITECTURES
            ]
        for stem, report in reports.items():
            lines = [line for architecture in report for line in architecture.result()]
            (out / f"{stem}.txt").write_text("".join(f"{line}\n" for line in lines))


def resources(log, architecture):
    """One line a kernel: name, architecture, registers, bytes of stack, spilled, shared and constant memory."""
    kernels = re.findall(r"Function properties for (\w+)\n(.*)\n.*?Used (\d+) registers(.*)", log)
    lines = []
    for name, memory, registers, rest in kernels:
        stack, stores, loads = re.findall(r"(\d+) bytes", memory)
        shared = re.search(r"(\d+) bytes smem", rest)
        lines.append(
            f"{name} {architecture}: {registers} registers, {stack} bytes stack, {stores} bytes spill stores, "
            f"{loads} bytes spill loads, {shared.group(1) if shared else 0} bytes shared"
        )
    return sorted(lines)


main()
