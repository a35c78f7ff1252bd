"""One engine in a process of its own: `worker.py ENGINE FOLDER SHAPE BATCH THREADS OUT.npy`.

Answers every line on standard input: `run` (or the name of a part, if the engine has parts) with the seconds of one
evaluation, `avx512` with 1 if evaluations use its registers, `save` with the peak memory after writing the last result.
"""
import os
import sys
import time
from pathlib import Path
import engines


def peak_rss():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def used_avx512(evaluate):
    """Whether a thread had AVX-512's registers in use during evaluations: 1, 0, or -1 if the kernel does not say."""
    start = time.perf_counter()
    while time.perf_counter() - start < 0.5:
        evaluate()
    ages = [int(file.read_text().split()[1]) for file in Path("/proc/self/task").glob("*/arch_status")]
    passed = 1e3 * (time.perf_counter() - start)
    return int(any(0 <= age < passed for age in ages)) if ages else -1


def main():
    name, folder, shape, batch, threads, out = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)                                                                    # libraries print as they like
    engines.limit_threads(int(threads))
    import numpy as np
    if shape == "latent":
        import latent                                                                # noqa: F401, adds its engines
    evaluate, to_numpy = engines.ENGINES[name][1](engines.Case(folder, shape, int(batch), int(threads)))
    parts = evaluate if isinstance(evaluate, dict) else {"run": evaluate}
    for evaluate in parts.values():
        result = evaluate()
    print("ready", file=answers)
    for line in map(str.strip, sys.stdin):
        if line in parts:
            start = time.perf_counter()
            result = parts[line]()
            print(time.perf_counter() - start, file=answers)
        elif line == "avx512":
            print(used_avx512(parts["run"]), file=answers)
        else:
            np.save(out, to_numpy(result))
            print(peak_rss(), file=answers)


if __name__ == "__main__":
    main()
