"""The page and the picture of the documentation, from records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from planish._atomic import written_beside
from planish.plot import plot_ratios
from planish.quiet import NOISY

from .models import MODELS
from .records import Record, Setup

Records = Mapping[tuple[str, int], Record]

INTRODUCTION = """\
# Benchmarks

Written by `python -m benchmarks` (`make bench`). Batch 1, float32, milliseconds: the median of all runs. Every
contestant runs in a process of its own, with inputs and outputs bound, and they take turns; *ratio* is the time of
planish divided by that of the fastest other contestant, the median of the ratios turn by turn (below 1, planish is
faster). ONNX Runtime runs with all optimizations; OpenVINO in f32 with the latency hint and one stream. *error* is the
largest difference of an output from ONNX Runtime's with its optimizations off, relative to that output's largest value.
*GMAC* are thousand millions of multiply-adds, those that Winograd's algorithm saves included. *first run*, *load*,
*peak MB* (of the process, Python and all) and *compile* are planish's.
"""


def geometric_mean(ratios: Sequence[float]) -> float:
    """exp of the mean logarithm."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def page(records: Records, missing: Sequence[str], peaks: Mapping[int, str], picture: str | None) -> str:
    """The whole page in Markdown. `peaks`: what the machine can do, by number of threads; `picture`: a file's name."""
    parts = [INTRODUCTION, _setups([r.setup for r in records.values()], peaks)]
    if picture:
        parts.append(f"![time of planish divided by that of the fastest other runtime]({picture})\n")
    for threads in sorted({threads for _, threads in records}):
        parts.append(_table(threads, [r for (_, n), r in _ordered(records) if n == threads]))
    if missing:
        parts.append(f"Not measured, since the model was not there: {', '.join(missing)}.\n")
    return "\n".join(parts)


def _ordered(records: Records) -> list[tuple[tuple[str, int], Record]]:
    places = {name: place for place, name in enumerate(MODELS)}
    return sorted(records.items(), key=lambda item: (places.get(item[0][0], len(places)), item[0]))


def _setups(setups: Sequence[Setup], peaks: Mapping[int, str]) -> str:
    lines: list[str] = []
    for setup in dict.fromkeys((s.cpu, s.cpus, tuple(sorted(s.versions.items()))) for s in setups):
        cpu, cpus, versions = setup
        lines.append(f"- {cpu}, {cpus} CPUs; " + ", ".join(f"{name} {version}" for name, version in versions))
    if len({s.compiler for s in setups}) > 1:
        lines.append("- **The rows come from different states of planish**: run it again for a table of one state.")
    lines += [f"- {threads} thread{'s' * (threads > 1)}: {text}" for threads, text in sorted(peaks.items())]
    return "\n".join(lines) + "\n"


def _table(threads: int, records: Sequence[Record]) -> str:
    names = list(dict.fromkeys(c["name"] for r in records for c in r.contestants))
    head = ["model", "GMAC", *names, "ratio", "error", "first run", "load", "peak MB", "compile s", ""]
    lines = [
        f"## {threads} thread{'s' * (threads > 1)}\n",
        _line(head),
        _line(["---", *["---:"] * (len(head) - 2), "---"]),
    ]
    for record in records:
        if record.error:
            lines.append(_line([record.model, "", record.error, *[""] * (len(head) - 3)]))
            continue
        ours = record.facts("planish")
        cells = [_number(record.facts(name).get("median_ms")) for name in names]
        facts = [_number(ours.get(key)) for key in ("first_ms", "load_ms", "peak_rss_mb", "compile_s")]
        ratio = f"**{record.best_ratio:.2f}**" if record.best_ratio else "-"
        noise = max((c["foreign_cpu"] for c in record.contestants), default=0.0)
        note = f"others used {noise:.0%} of a core" if noise > NOISY else ""
        lines.append(
            _line([record.model, _number(record.gmac), *cells, ratio, f"{ours['max_rel_err']:.0e}", *facts, note])
        )
    ratios = [r.best_ratio for r in records if r.best_ratio]
    if ratios:
        blank = [""] * (len(head) - len(names) - 3)
        lines.append(_line(["geometric mean", *[""] * (len(names) + 1), f"**{geometric_mean(ratios):.3f}**", *blank]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def write(path: Path, picture: Path | None, records: Records, missing: Sequence[str], peaks: Mapping[int, str]) -> None:
    """Write the page, and the picture beside it if there is one to draw."""
    series: dict[str, dict[str, float]] = {}
    for (model, threads), record in _ordered(records):
        if record.best_ratio:
            series.setdefault(f"{threads} thread{'s' * (threads > 1)}", {})[model] = record.best_ratio
    if picture and series:
        means = {name: geometric_mean(list(ratios.values())) for name, ratios in series.items()}
        series = {f"{name} (geometric mean {means[name]:.2f})": ratios for name, ratios in series.items()}
        plot_ratios(series, picture, "planish against the fastest other runtime")
    text = page(records, missing, peaks, picture.name if picture and series else None)
    with written_beside(path) as place:
        place.write_text(text, encoding="utf-8")
