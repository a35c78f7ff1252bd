"""Compiles kernels/*.cu with NVRTC and ptxas to the folder that is named: `cargo xtask cuda` runs this in an environment
of its own. Writes STEM.ptx and STEM.sm_NN.cubin for every kernel file, and resources.txt, what ptxas says of each kernel:
registers, stack, spills, shared memory."""

import ctypes
import pathlib
import re
import subprocess
import sys

import nvidia

# What sm_80 takes runs on sm_86 and sm_89 too; sm_87 is Orin.
ARCHITECTURES = ["sm_80", "sm_87", "sm_90"]
NVIDIA = pathlib.Path(list(nvidia.__path__)[0])
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


def ptx(library, source):
    program = ctypes.c_void_p()
    name = source.name.encode()
    library.nvrtcCreateProgram(ctypes.byref(program), source.read_bytes(), name, 0, None, None)
    options = ["--gpu-architecture=compute_80", "--std=c++17", "--restrict", f"--include-path={KERNELS}"]
    array = (ctypes.c_char_p * len(options))(*[o.encode() for o in options])
    failed = library.nvrtcCompileProgram(program, len(options), array)
    log = text(library, program, "ProgramLog").decode().strip()
    if log:
        print(log, file=sys.stderr)
    if failed:
        sys.exit(f"{source.name}: NVRTC fails")
    return text(library, program, "PTX")


def main():
    out = pathlib.Path(sys.argv[1])
    only = sys.argv[2:]
    out.mkdir(parents=True, exist_ok=True)
    library = nvrtc()
    for source in sorted(KERNELS.glob("*.cu")):
        if only and source.stem not in only:
            continue
        path = out / f"{source.stem}.ptx"
        path.write_bytes(ptx(library, source))
        report = []
        for architecture in ARCHITECTURES:
            cubin = out / f"{source.stem}.{architecture}.cubin"
            command = [NVIDIA / "cuda_nvcc" / "bin" / "ptxas", "-v", f"-arch={architecture}", path, "-o", cubin]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr)
            report += resources(done.stderr, architecture)
        (out / f"{source.stem}.txt").write_text("".join(f"{line}\n" for line in report))


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
