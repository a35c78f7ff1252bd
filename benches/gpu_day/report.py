"""The small tasks of gpu_day.sh that a shell is not for.

    report.py compare A.npy B.npy        two pictures (float32 samples); fails below 25 dB
    report.py embeds OUT.safetensors     random embeddings of a prompt, as PixelGen-XXL takes them
    report.py ncu FILE.csv               bytes from memory and time of each kernel
    report.py summary FOLDER SECONDS     the page that a person reads
"""

import csv
import json
import math
import pathlib
import random
import re
import struct
import sys
from array import array

LEAST_DB = 25.0
# Tokens and width of PixelGen-XXL's text.
TEXT = (128, 2048)
# Lines of a log that the summary repeats, for each step.
SHOWN = 6


def read_npy(path):
    data = pathlib.Path(path).read_bytes()
    start = 10 + struct.unpack_from("<H", data, 8)[0]
    values = array("f")
    values.frombytes(data[start:])
    return values


def compare(a, b):
    """Samples reach from -1 to 1."""
    a, b = read_npy(a), read_npy(b)
    worst = max(abs(x - y) for x, y in zip(a, b))
    mean = sum((x - y) ** 2 for x, y in zip(a, b)) / len(a)
    db = 10 * math.log10(4 / mean) if mean else math.inf
    print(f"pictures: {len(a)} values, largest difference {worst:.2e}, {db:.1f} dB")
    return 0 if len(a) == len(b) and db >= LEAST_DB else 1


def embeds(path):
    tokens, width = TEXT
    draw = random.Random(1)
    size = 4 * tokens * width
    names = ("prompt_embeds", "negative_prompt_embeds")
    header = {name: {"dtype": "F32", "shape": [tokens, width], "data_offsets": [i * size, (i + 1) * size]}
              for i, name in enumerate(names)}
    text = json.dumps(header).encode()
    values = array("f", (draw.gauss(0, 1) for _ in range(2 * tokens * width)))
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + values.tobytes())
    return 0


def ncu(path):
    """One row of the file a launch; the row below the names has the units."""
    lines = [line for line in pathlib.Path(path).read_text().splitlines() if line.startswith('"')]
    rows = list(csv.DictReader(lines))
    units, rows = rows[0], rows[1:]
    scale = {"byte": 1e-6, "Kbyte": 1e-3, "Mbyte": 1.0, "Gbyte": 1e3, "ns": 1e-3, "us": 1.0, "usecond": 1.0, "nsecond": 1e-3,
             "ms": 1e3, "msecond": 1e3}

    def value(row, name):
        return float(row[name].replace(",", "")) * scale.get(units[name], 1.0)

    total = {}
    for row in rows:
        kernel = total.setdefault(row["Kernel Name"].split("(")[0], [0, 0.0, 0.0, 0.0])
        kernel[0] += 1
        for i, name in enumerate(("gpu__time_duration.sum", "dram__bytes_read.sum", "dram__bytes_write.sum"), 1):
            kernel[i] += value(row, name)
    for name, (count, us, read, written) in sorted(total.items(), key=lambda item: -item[1][1]):
        rate = (read + written) / us if us else 0.0
        print(f"ncu {name}: {count} launches, {us:.1f} us, {read:.2f} MB read, {written:.2f} MB written, {rate:.3f} TB/s")
    return 0 if total else 1


def measured(folder):
    """A program that was stopped may have left half a line."""
    found = []
    for line in (folder / "measures.jsonl").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            print(f"measures.jsonl: not JSON: {line[:80]}")
    return found


def whatever_comes(lines):
    """The lines up to the first that cannot be made: what was measured must not cost the page."""
    try:
        yield from lines
    except Exception as error:
        yield f"FAILED: the summary itself: {error!r}"


def evaluation_lines(measures):
    """denoir's evaluations and PyTorch's, by the device's clock and by the host's."""
    for m in (m for m in measures if m["step"] == "bench"):
        device = m.get("device_ms")
        name = f"{m['name'].removeprefix('random ') or m['model']} {m['type']} batch {m['batch']} {m['backend']}"
        spans = f"{device:.3f} ms on the device, " if device else ""
        rate = m["gflop"] / (device or m["predict_ms"])
        memory = f", {m['device_bytes'] / 1e6:.0f} MB" if m.get("device_bytes") else ""
        yield (f"{name}: {spans}{m['predict_ms']:.3f} ms a step, {m['modulation_ms']:.3f} ms adaLN, "
               f"{rate:.1f} TFLOP/s{memory}")
        kernels = sorted(m.get("kernels") or [], key=lambda k: -k["ms"])[:5]
        if kernels:
            yield "    " + ", ".join(f"{k['kernel']} {k['ms'] * 1e3:.0f} us/{k['runs']}" for k in kernels)
    for m in (m for m in measures if m["step"] == "torch" and "device_ms" in m):
        yield (f"PyTorch {m['model']} {m['type']} batch {m['batch']} {m['variant']}: {m['device_ms']:.3f} ms on the device, "
               f"{m['step_ms']:.3f} ms a step")
    for m in (m for m in measures if m["step"] == "torch" and "device_ms" not in m and "error" in m):
        yield f"{m['model']}: {m['variant']}: {m['error']:.2e}"
    for m in (m for m in measures if m["step"] == "picture"):
        images = ", ".join(f"{image['ms']:.0f}" for image in m["images"])
        yield (f"{m['model']['name']} {m['model']['type']}: pictures in {images} ms, "
               f"{m['timing']['evaluations_per_image']} evaluations each, opened in {m['timing']['load_ms']:.0f} ms")


def share(ways):
    """The chosen way's speed as a share of the peer's, and what the best way would gain."""
    chosen = next((way for way in ways if way.get("chosen")), ways[0])
    best = min(ways, key=lambda way: way["ms"])
    return chosen, best, chosen["peer_ms"] / chosen["ms"] if chosen.get("peer_ms") else None


def linear_lines(layers):
    """For each type: how all shapes stand beside cuBLAS, and the tiles that were chosen wrongly."""
    for kind in dict.fromkeys(kind for kind, _ in layers):
        found = {shape: share(ways) for (of, shape), ways in layers.items() if of == kind}
        peers = {shape: ratio for shape, (_, _, ratio) in found.items() if ratio}
        text = f"linear {kind}: {len(found)} shapes"
        if peers:
            mean = math.exp(sum(map(math.log, peers.values())) / len(peers))
            worst = min(peers, key=peers.get)
            text += f", {mean:.2f} of cuBLAS' speed, the worst {peers[worst]:.2f} at {worst}"
        fastest = max(found.values(), key=lambda way: way[0].get("tflops") or 0)[0]
        yield f"{text}; at most {fastest.get('tflops') or 0:.1f} TFLOP/s ({fastest['shape']})"
        wrong = [(chosen["ms"] / best["ms"], chosen, best) for chosen, best, _ in found.values()
                 if best["ms"] < 0.95 * chosen["ms"]]
        for gain, chosen, best in sorted(wrong, key=lambda w: -w[0])[:3]:
            yield f"    {chosen['shape']}: {best['tile']} is {gain:.2f} times as fast as {chosen['tile']}"


def kernel_lines(measures):
    timed = [m for m in measures if m["step"] == "kernels" and m.get("ms")]
    layers = {}
    for m in (m for m in timed if m["kernel"] == "linear"):
        layers.setdefault((m["type"], m["shape"]), []).append(m)
    yield from linear_lines(layers)
    for m in (m for m in timed if m["kernel"] == "attention"):
        peer = f", {m['peer_ms'] / m['ms']:.2f} of PyTorch's speed" if m.get("peer_ms") else ""
        yield f"attention {m['type']} {m['shape']}: {m['ms'] * 1e3:.1f} us, {m['tflops']:.1f} TFLOP/s{peer}"
    rows = [f"{m['kernel']} {m['type']} {m['ms'] * 1e3:.1f} us" + (f" {m['share']:.2f}" if m.get("share") else "")
            for m in timed if m["kernel"] not in ("linear", "attention")]
    if rows:
        yield "rows, time and share of a copy's rate: " + ", ".join(rows)


def log_lines(path):
    """What a log says of failures, skips, limits and pictures, each once."""
    wanted = re.compile(r"FAILED|^skipped|^pictures|^ncu \w+:|computes wrongly|in the self-test|^\w+: .*, F? ?failed")
    lines = dict.fromkeys(line.strip()[:150] for line in path.read_text(errors="replace").splitlines() if wanted.search(line))
    lines = sorted(lines, key=lambda line: "FAILED" not in line)
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"... {len(lines) - SHOWN} more lines like these"


def worst_of_tests(path):
    """Of each kernel the largest error as a share of its limit."""
    worst, goldens = {}, (0, "")
    for line in path.read_text(errors="replace").splitlines():
        found = re.match(r"(\w+): ((?:cuda|vulkan)\S*): at most (\d+)% of", line)
        if found:
            worst[found[1]] = max(worst.get(found[1], 0), int(found[3]))
        found = re.match(r"(.+) on (?:cuda|vulkan)\S*: .*\((\d+)% of its limit\)", line)
        if found:
            goldens = max(goldens, (int(found[2]), found[1]))
    if worst:
        yield "largest error, in % of its limit: " + ", ".join(f"{kernel} {share}" for kernel, share in worst.items())
    if goldens[1]:
        yield f"goldens: largest error {goldens[0]}% of its limit ({goldens[1]})"


def summary(folder, seconds):
    folder = pathlib.Path(folder)
    steps = [line.split(maxsplit=3) for line in (folder / "steps").read_text().splitlines()]
    logs = {path.stem.split("-", 1)[1]: path for path in sorted((folder / "logs").glob("*-*.log"))}
    measures = measured(folder)
    about = {"evaluations": evaluation_lines(measures), "kernels": kernel_lines(measures)}
    for name, status, took, title in steps:
        word = {"0": "ok", "77": "skipped", "75": "skipped", "124": "FAILED (time)"}.get(status, f"FAILED ({status})")
        print(f"step {name}: {word}, {took} s: {title}")
        if name in logs:
            for line in (*worst_of_tests(logs[name]), *log_lines(logs[name])):
                print(f"    {line}")
        for line in whatever_comes(about.get(name, ())):
            print(f"  {line}")
    print(f"{len(steps)} steps in {seconds} s; logs.tar.gz has the logs, measures.jsonl the figures")
    return 0


TASKS = {"compare": compare, "embeds": embeds, "ncu": ncu, "summary": summary}

if __name__ == "__main__":
    sys.exit(TASKS[sys.argv[1]](*sys.argv[2:]))
