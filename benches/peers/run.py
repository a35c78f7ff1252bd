"""Times denoir beside other engines: the same network and weights, in turns, and how far each is from f32.

    cargo xtask peers                                               everything: hours of building, once, then minutes
    cargo xtask peers --shape jit-b16 --type int8 --batch 1         a part; the table shows all parts measured so far

Prepared files and results are kept in target/peers. Every engine has a process of its own; only one computes at a time.
"""
import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
import engines

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SHAPES = ["jit-b16", "pixelgen-xl"]
GFLOP = {"jit-b16": 50.0, "pixelgen-xl": 263.0}
# What a product has to come to, relative to f32 ‖Δ‖/‖ref‖: engines that compute something else do not count.
LIMITS = {"f32": 1e-4, "bf16": 5e-2, "int8": 3e-1}


class Worker:
    """A process with one engine, asked line by line."""

    def __init__(self, name, command, result):
        self.name, self.result, self.seconds = name, result, {}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        stderr=open(result.with_suffix(".log"), "w"))
        if not self.process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"{name} did not start: see {result.with_suffix('.log')}")

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def time(self, line):
        self.seconds.setdefault(line, []).append(self.ask(line))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def prepare(case, dtype):
    """Every file that the engines of a type read."""
    case.folder.mkdir(parents=True, exist_ok=True)
    if not case.checkpoint.exists():
        partial = case.checkpoint.with_suffix(".partial")
        subprocess.run([sys.executable, ROOT / "fixtures/random_checkpoint.py", "--shape", case.shape, "-o", partial], check=True)
        partial.rename(case.checkpoint)
    model = case.folder / f"{dtype}.gguf"
    if not model.exists():
        subprocess.run([ROOT / "target/release/forward", "convert", case.checkpoint, model, dtype], check=True)
    for prepare_files in {engines.ENGINES[name][0] for name in engines.TYPES[dtype]} - {None}:
        # In a process of its own, which gives its memory back.
        code = (f"import engines; engines.{prepare_files.__name__}"
                f"(engines.Case({str(case.folder)!r}, {case.shape!r}, {case.batch}, {case.threads}))")
        subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True, stdout=subprocess.DEVNULL)
    return model


def start(case, dtype, model, names):
    """denoir first."""
    import numpy as np
    x, _, labels = case.inputs()
    x.numpy().tofile(case.folder / f"x.{case.batch}.f32")
    results = case.folder / "results"
    results.mkdir(exist_ok=True)
    yield Worker(f"denoir {dtype}", [ROOT / "target/release/peer", model, str(case.threads), case.folder / f"x.{case.batch}.f32",
                                     results / f"denoir {dtype}.f32", *(str(n) for n in labels.tolist())], results / f"denoir {dtype}.f32")
    for name in names:
        result = results / f"{name}.npy"
        yield Worker(name, [sys.executable, HERE / "worker.py", name, case.folder, case.shape, str(case.batch), str(case.threads), result], result)
    del np


def reference(case):
    """x̂ in f64 where that is quick to compute, which an XL network is as well: a few seconds, once."""
    import numpy as np
    path = case.folder / f"reference.{case.batch}.npy"
    if not path.exists():
        import torch
        net, (x, t, label) = case.network().double(), case.inputs()
        with torch.inference_mode():
            np.save(path, net(x.double(), t.double(), label).numpy())
    return np.load(path)


def measure(case, dtype, rounds):
    """One row for each engine: its best and median time, its error, its memory."""
    import numpy as np
    model = prepare(case, dtype)
    expected, rows = reference(case), []
    workers = list(start(case, dtype, model, engines.TYPES[dtype]))
    for _ in range(rounds):
        for worker in workers:
            worker.time("run")
        workers[0].time("modulate")
    for worker in workers:
        rss = worker.ask("save")
        worker.close()
        got = np.fromfile(worker.result, np.float32).reshape(expected.shape) if worker.result.suffix == ".f32" else np.load(worker.result)
        error = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
        if not error <= LIMITS[dtype]:
            raise RuntimeError(f"{worker.name} computes something else: its error is {error:.2e}")
        for kind, seconds in worker.seconds.items():
            name = worker.name + (", adaLN each time" if kind == "modulate" else "")
            rows.append(dict(shape=case.shape, type=dtype, batch=case.batch, threads=case.threads, engine=name, error=error,
                             ms=1e3 * statistics.median(seconds), best_ms=1e3 * min(seconds), rss_mb=rss / 1e6))
    return rows


def table(rows):
    """Rows in Markdown; the ratio is to denoir, the error of int8 to denoir's."""
    lines = []
    groups = {}
    for row in rows:
        groups.setdefault((row["shape"], row["type"], row["batch"], row["threads"]), []).append(row)
    for (shape, dtype, batch, threads), group in sorted(groups.items()):
        own = group[0]
        gflop = GFLOP[shape] * batch
        lines += ["", f"**{shape}, {dtype}, batch {batch}, {threads} threads**", "",
                  "| engine | median ms | best ms | GFLOP/s | × denoir's time | error | peak MB |", "|---|---|---|---|---|---|---|"]
        for row in sorted(group, key=lambda row: row["ms"]):
            lines.append(f"| {row['engine']} | {row['ms']:.1f} | {row['best_ms']:.1f} | {gflop / row['ms'] * 1e3:.0f} | "
                         f"{row['ms'] / own['ms']:.2f} | {row['error']:.2e} | {row['rss_mb']:.0f} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--type", choices=engines.TYPES, action="append")
    parser.add_argument("--batch", type=int, action="append", help="1, and 2 for the guided pair")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=ROOT / "target/peers")
    parser.add_argument("--prepare", action="store_true", help="make the files, time nothing")
    args = parser.parse_args()
    path = args.folder / "results.json"
    known = json.loads(path.read_text()) if path.exists() else []
    for shape in args.shape or SHAPES:
        for dtype in args.type or engines.TYPES:
            for batch in args.batch or [1, 2]:
                case = engines.Case(args.folder / shape, shape, batch, args.threads)
                if args.prepare:
                    prepare(case, dtype)
                    reference(case)
                    continue
                rows = measure(case, dtype, args.rounds)
                same = ("shape", "type", "batch", "threads")
                known = [row for row in known if any(row[key] != rows[0][key] for key in same)] + rows
                path.write_text(json.dumps(known, indent=1))
                print(table(rows), flush=True)
    if not args.prepare:
        print(table(known))


if __name__ == "__main__":
    main()
