"""Results in Markdown, one table for each group that was timed together."""
import statistics
import numpy as np
import latent

GFLOP = {"jit-b16": 50.0, "pixelgen-xl": 263.0}
# The calibration's largest value may exceed its smallest by this much.
STEADY = 0.05


def with_quartiles(values, shape="{:.2f}", middle=None):
    """median (first quartile-third quartile)."""
    middle = statistics.median(values) if middle is None else middle
    low, high = np.percentile(values, [25, 75])
    return f"{shape} ({shape}–{shape})".format(middle, low, high)


def heading(*columns):
    return [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]


def state(group):
    """The calibration's line: what the machine did between the rounds."""
    product, peak = group["calibration"]["product"], statistics.median(group["calibration"]["peak"])
    peak = f", peak {peak:.0f}" if peak else ""
    spread = max(product) / min(product) - 1
    text = f"Calibration: {statistics.median(product):.0f} GFLOP/s ({min(product):.0f}–{max(product):.0f}){peak}."
    return text + (f" **Measured on an unsteady host: {100 * spread:.0f}%.**" if spread > STEADY else "")


def title(group, what):
    level = group["isa"] + ("" if group["level"] == "own" else ", held")
    return f"**{what}, {group['type']}, {level}, {group['threads']} threads**"


def speed(group, row, seconds):
    """GFLOP/s; for denoir with its share of the peak of this level and type."""
    gflops = GFLOP[group["shape"]] * group["batch"] / statistics.median(seconds)
    peak = statistics.median(group["calibration"]["peak"])
    share = f" ({100 * gflops / peak:.0f}% of peak)" if peak and row["engine"].startswith("denoir") else ""
    return f"{gflops:.0f}{share}"


def evaluations(group):
    """Times of one evaluation, and how often denoir's they are: medians, and quartiles of the rounds' ratios."""
    lines, own = [], group["engines"][0]["seconds"]["run"]
    for row in group["engines"]:
        for line, seconds in row["seconds"].items():
            not_held = row["avx512"] > 0
            name = row["engine"] + ", adaLN each time" * (line == "modulate") + ", not held: used AVX-512" * not_held
            middle = statistics.median(seconds)
            ratio = with_quartiles(np.divide(seconds, own), middle=middle / statistics.median(own))
            cells = [name, f"{1e3 * middle:.1f}", f"{1e3 * min(seconds):.1f}", speed(group, row, seconds),
                     "-" if not_held else ratio, f"{row['error']:.2e}", f"{row['rss_mb']:.0f}"]
            lines.append(((not_held, middle), f"| {' | '.join(cells)} |"))
    return [*heading("engine", "median ms", "best ms", "GFLOP/s", "× denoir's time", "error", "peak MB"),
            *(text for _, text in sorted(lines))]


def pictures(group):
    """Times of the parts of a picture, and of the pictures that they come to; those of the paper's own sampler bold."""
    lines = []
    for row in group["engines"]:
        parts = row["seconds"]
        cells = [f"{1e3 * statistics.median(parts[part]):.0f}" if part in parts else "-" for part in latent.PARTS]
        for sampler, counts in latent.SAMPLERS.items():
            seconds = with_quartiles(latent.picture(parts, *counts), "{:.1f}")
            own = row["engine"].startswith(latent.OWN[sampler])
            cells.append(f"**{seconds}**" if own else seconds)
        lines.append(f"| {row['engine']} | {' | '.join(cells)} | {row['rss_mb']:.0f} |")
    samplers = [f"s a picture, {name}: {single} + {pairs} pairs" for name, (single, pairs) in latent.SAMPLERS.items()]
    return [*heading("pipeline", "evaluation ms", "guided pair ms", "decoder ms", *samplers, "peak MB"), *lines]


def tables(groups):
    blocks = []
    for group in sorted(groups, key=lambda g: (g["shape"], g["type"], g["level"] != "own", g["level"], g["batch"])):
        of_latents = group["shape"] == latent.SHAPE
        what = "latents and pixels" if of_latents else f"{group['shape']}, batch {group['batch']}"
        blocks += ["", title(group, what), "", *(pictures if of_latents else evaluations)(group), "", state(group)]
    return "\n".join(blocks)
