"""Processes that are timed in turns, and the machine's state between the rounds."""
import os
import subprocess
import time
from pathlib import Path
import engines

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/release"
HOLD = ROOT / "target/peers/hold.so"
# Before a process computes, threads of the last one may still look for work.
PAUSE = 0.05


class Worker:
    """A process with one engine, asked line by line; `lines` are what it is timed for."""

    def __init__(self, name, command, result, lines=("run",), level=engines.OWN):
        self.name, self.result, self.lines, self.seconds = name, result, lines, {}
        self.log = result.with_suffix(".log")
        # PyTorch's compiler would take what it made for one level for another, and compute NaN.
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(result.parent / f"inductor-{level}")}
        hold = {"LD_PRELOAD": str(HOLD)} if level != engines.OWN and can_hold() else {}
        environment = os.environ | engines.LEVELS[level] | cache | hold
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=open(self.log, "w"), env=environment)
        if not self.process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"{name} did not start: see {self.log}")

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name} ended: see {self.log}")
        return float(answer)

    def time(self):
        for line in self.lines:
            time.sleep(PAUSE)
            self.seconds.setdefault(line, []).append(self.ask(line))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def can_hold():
    """Whether hold.c works here; builds it."""
    able, source = "cpuid_fault" in Path("/proc/cpuinfo").read_text().split(), Path(__file__).parent / "hold.c"
    if able and not (HOLD.exists() and HOLD.stat().st_mtime > source.stat().st_mtime):
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", HOLD, source], check=True)
    return able


def instruction_sets():
    """Those of this machine, by denoir's names, the slowest first."""
    return subprocess.run([PROGRAMS / "calibrate"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def take(workers, rounds, folder, threads, isa, dtype):
    """Times every worker once a round. Returns the calibration's GFLOP/s before each round and after the last."""
    machine = Worker("calibrate", [PROGRAMS / "calibrate", str(threads), isa, dtype], folder / "calibrate.txt",
                     lines=("product", "peak"))
    machine.time()
    for _ in range(rounds):
        for worker in workers:
            worker.time()
        machine.time()
    machine.close()
    return machine.seconds
