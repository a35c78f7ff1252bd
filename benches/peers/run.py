"""Times denoir beside other engines: the same network and weights, in turns, and how far each is from f32.

    cargo xtask peers                                               everything, after most of an hour of preparing, once
    cargo xtask peers --shape jit-b16 --type int8 --batch 1         a part; the table shows all parts measured so far
    cargo xtask peers --level avx2 --type f32                       with every engine held to an instruction set
    cargo xtask peers --latent                                      only REPA's pipeline on latents, beside PixelGen-XL

Prepared files and results are kept in target/peers. Every engine has a process of its own; only one computes at a time.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path
import numpy as np
import engines
import latent
import table
from turns import PROGRAMS, ROOT, Worker, can_hold, instruction_sets, take

HERE = Path(__file__).resolve().parent
SHAPES = ["jit-b16", "pixelgen-xl"]
# What a product has to come to, relative to f32 ‖Δ‖/‖ref‖: engines that compute something else do not count.
LIMITS = {"f32": 1e-4, "bf16": 5e-2, "int8": 3e-1}


def prepare(case, dtype):
    """Every file that the engines of a type read."""
    case.folder.mkdir(parents=True, exist_ok=True)
    if not case.checkpoint.exists():
        partial = case.checkpoint.with_suffix(".partial")
        subprocess.run([sys.executable, ROOT / "fixtures/random_checkpoint.py", "--shape", case.shape, "-o", partial],
                       check=True)
        partial.rename(case.checkpoint)
    model = case.folder / f"{dtype}.gguf"
    if not model.exists():
        subprocess.run([PROGRAMS / "forward", "convert", case.checkpoint, model, dtype], check=True)
    prepare_files(case, engines.TYPES[dtype])
    return model


def prepare_files(case, names):
    for make in {engines.ENGINES[name][0] for name in names} - {None}:
        # In a process of its own, which gives its memory back.
        code = (f"import engines, latent; {make.__module__}.{make.__name__}"
                f"(engines.Case({str(case.folder)!r}, {case.shape!r}, {case.batch}, {case.threads}))")
        subprocess.run([sys.executable, "-c", code], cwd=HERE, check=True, stdout=subprocess.DEVNULL)


def results(case):
    folder = case.folder / "results"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start_denoir(case, dtype, model, level, lines=("run", "modulate"), name="denoir"):
    x, _, labels = case.inputs()
    image, result = case.folder / f"x.{case.batch}.f32", results(case) / f"denoir {dtype}.f32"
    x.numpy().tofile(image)
    return Worker(f"{name} {dtype}", [PROGRAMS / "peer", model, str(case.threads), level, image, result,
                                      *(str(n) for n in labels.tolist())], result, lines)


def start(case, name, level=engines.OWN, lines=("run",)):
    result = results(case) / f"{name}.npy"
    arguments = [name, case.folder, case.shape, str(case.batch), str(case.threads), result]
    return Worker(name, [sys.executable, HERE / "worker.py", *arguments], result, lines, level)


def reference(case):
    """x̂ in f64 where that is quick to compute, which an XL network is as well: a few seconds, once."""
    path = case.folder / f"reference.{case.batch}.npy"
    if not path.exists():
        import torch
        net, (x, t, label) = case.network().double(), case.inputs()
        with torch.inference_mode():
            np.save(path, net(x.double(), t.double(), label).numpy())
    return np.load(path)


def finish(worker, dtype, expected, watched):
    """An engine's row: its times, its error, its memory, and whether it used AVX-512 where this was `watched`."""
    avx512 = worker.ask("avx512") if watched else 0
    rss = worker.ask("save")
    worker.close()
    raw = worker.result.suffix == ".f32"
    got = np.fromfile(worker.result, np.float32).reshape(expected.shape) if raw else np.load(worker.result)
    error = float(np.linalg.norm(got - expected) / np.linalg.norm(expected))
    if not error <= LIMITS[dtype]:
        raise RuntimeError(f"{worker.name} computes something else: its error is {error:.2e}")
    return dict(engine=worker.name, seconds=worker.seconds, error=error, rss_mb=rss / 1e6, avx512=avx512)


def measure(case, dtype, level, rounds):
    """A group: denoir's row first."""
    model, expected = prepare(case, dtype), reference(case)
    isa = instruction_sets()[-1] if level == engines.OWN else level
    workers = [start_denoir(case, dtype, model, level),
               *(start(case, name, level) for name in engines.at_level(dtype, level, can_hold()))]
    calibration = take(workers, rounds, results(case), case.threads, isa, dtype)
    held = level != engines.OWN
    rows = [finish(worker, dtype, expected, held and worker is not workers[0]) for worker in workers]
    return dict(shape=case.shape, type=dtype, level=level, isa=isa, batch=case.batch, threads=case.threads,
                calibration=calibration, engines=rows)


def measure_latent(case, pixels, dtype, rounds):
    """The parts of REPA's pipeline and of PixelGen-XL's; `pixels` are the latter's cases: one image, a guided pair."""
    prepare_files(case, latent.TYPES[dtype])
    single, pair = pixels
    ours = [(start_denoir(single, kind, prepare(single, kind), engines.OWN, ("run",)),
             start_denoir(pair, kind, prepare(pair, kind), engines.OWN, ("run",), "PixelGen-XL, denoir"))
            for kind in latent.PIXELS[dtype]]
    theirs = [start(case, name, lines=latent.PARTS) for name in latent.TYPES[dtype]]
    isa = instruction_sets()[-1]
    calibration = take([*sum(ours, ()), *theirs], rounds, results(case), case.threads, isa, dtype)
    rows = []
    for one, two in ours:
        seconds = {"single": one.seconds["run"], "pair": two.seconds["run"]}
        rows.append(dict(engine=two.name, seconds=seconds, rss_mb=two.ask("save") / 1e6))
        one.close(), two.close()
    for worker in theirs:
        rows.append(dict(engine=worker.name, seconds=worker.seconds, rss_mb=worker.ask("save") / 1e6))
        worker.close()
        if not np.isfinite(np.load(worker.result)).all():
            raise RuntimeError(f"{worker.name} computes no picture")
    return dict(shape=case.shape, type=dtype, level=engines.OWN, isa=isa, batch=1, threads=case.threads,
                calibration=calibration, engines=rows)


def plan(args):
    """What a run consists of: a shape, type, level and batch each."""
    lower = [level for level in engines.LOWER if level in instruction_sets()[:-1]]
    levels = args.level or [engines.OWN, *([] if args.type else lower)]
    for shape in args.shape or SHAPES:
        for level in levels:
            wanted = args.type or (list(engines.TYPES) if args.level or level == engines.OWN else engines.LOWER[level])
            yield from ((shape, dtype, level, batch) for dtype in wanted for batch in args.batch or [1, 2])


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--type", choices=engines.TYPES, action="append")
    parser.add_argument("--level", choices=engines.LEVELS, action="append", help="own, or one that engines are held to")
    parser.add_argument("--batch", type=int, action="append", help="1, and 2 for the guided pair")
    parser.add_argument("--latent", action="store_true", help="only the comparison with latents")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=ROOT / "target/peers")
    parser.add_argument("--prepare", action="store_true", help="make the files, time nothing")
    return parser.parse_args()


def main():
    args = options()
    path = args.folder / "groups.json"
    failures, known = [], json.loads(path.read_text()) if path.exists() else []

    def case(shape, batch):
        return engines.Case(args.folder / shape, shape, batch, args.threads)

    def keep(measure, *details):
        try:
            group = measure(*details, args.rounds)
        except (RuntimeError, OSError) as error:
            failures.append(str(error))
            return print(error, file=sys.stderr)
        same = ("shape", "type", "level", "batch", "threads")
        known[:] = [other for other in known if any(other[key] != group[key] for key in same)] + [group]
        path.write_text(json.dumps(known, indent=1))
        print(table.tables([group]), flush=True)

    for shape, dtype, level, batch in [] if args.latent else plan(args):
        if args.prepare:
            prepare(case(shape, batch), dtype)
            reference(case(shape, batch))
        else:
            keep(measure, case(shape, batch), dtype, level)
    everything = not (args.shape or args.type or args.level or args.batch)
    for dtype in (args.type or latent.TYPES) if args.latent or everything else []:
        pixels = [case("pixelgen-xl", batch) for batch in (1, 2)]
        if args.prepare:
            prepare_files(case(latent.SHAPE, 1), latent.TYPES[dtype])
        else:
            keep(measure_latent, case(latent.SHAPE, 1), pixels, dtype)
    if not args.prepare:
        print(table.tables(known))
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
