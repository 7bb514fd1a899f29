"""Pictures of measurements for `planish bench --plot` and the benchmarks' page: SVG, PNG or PDF, by the file's name.

matplotlib (`pip install 'planish[bench]'`) is imported when a picture is asked for, not before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planish._atomic import written_beside
from planish.ir.errors import PlanishError
from planish.profile import Profile, Row

SUFFIXES = (".svg", ".png", ".pdf")
BARS = 24
OURS, LIMIT, MUTED = "#2a6f97", "#f4a259", "#8d99ae"
COLOURS = (OURS, "#e76f51", "#8ab17d", "#6d597a")


def check_plot(path: Path) -> None:
    """Raise `PlanishError`, before anything is measured, if a picture could not be made at `path`."""
    if path.suffix.lower() not in SUFFIXES:
        raise PlanishError(f"--plot {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise PlanishError(f"--plot {path}: the folder {path.parent} does not exist: make it, or choose another place")
    if importlib.util.find_spec("matplotlib") is None:
        raise PlanishError(f"--plot {path}: this needs matplotlib, which is not installed: pip install matplotlib")


@dataclass
class _Picture:
    """A figure, and the pyplot-free way to make and save one. Labels never are mathematical text: names have `$`."""

    figure: Any

    @classmethod
    def of(cls, width: float, height: float) -> _Picture:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # The same picture for the same numbers: no random identifiers, no date.
        matplotlib.rcParams["svg.hashsalt"] = "planish"
        matplotlib.rcParams["text.parse_math"] = False
        matplotlib.rcParams["font.size"] = 9
        figure: Any = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        return cls(figure)

    def save(self, path: Path) -> None:
        kind = path.suffix.lower().removeprefix(".")
        metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        with written_beside(path) as place:
            self.figure.savefig(place, format=kind, dpi=150, metadata=metadata)


def plot_profile(profile: Profile, path: Path, title: str) -> None:
    """Time per kind of operator and per call, each beside its limit, and the calls under the roofline."""
    groups, calls = profile.by_label()[:BARS], profile.rows[:BARS]
    left_out = f", the {BARS} slowest of {len(profile.rows)}" if len(calls) < len(profile.rows) else ""
    bars = max(len(groups), 8) + len(calls)
    picture = _Picture.of(13, max(7.0, 1.5 + 0.24 * bars))
    picture.figure.suptitle(f"{title}: {profile.total_ms:.3g} ms")
    left, right = picture.figure.subfigures(1, 2, width_ratios=(1.25, 1))
    top, bottom = left.subplots(2, 1, height_ratios=(max(len(groups), 4), len(calls)))
    _bars(top, groups, lambda row: row.label or row.kernel, "by operators")
    _bars(bottom, calls, lambda row: row.node, f"by call{left_out}")
    _roofline(right.subplots(), profile)
    picture.save(path)


def _bars(axes: Any, rows: Sequence[Row], name: Any, title: str) -> None:
    places = range(len(rows))
    axes.barh(places, [row.ms for row in rows], color=OURS, label="measured")
    axes.barh(places, [row.limit_ms for row in rows], height=0.3, color=LIMIT, label="roofline")
    axes.set_yticks(places, [_cut(name(row)) for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel("ms")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)


def _cut(name: str) -> str:
    plain = "".join(c if c.isprintable() else "?" for c in name)
    return plain if len(plain) <= 44 else f"{plain[:24]}…{plain[-19:]}"


def _roofline(axes: Any, profile: Profile) -> None:
    """GFLOP/s over FLOP per byte; a point's area is the call's share of the time."""
    roof = profile.roofline
    shown = [row for row in profile.rows if row.flops and row.bytes and row.ms > 0]
    x = [row.flops / row.bytes for row in shown]
    y = [row.flops / row.ms / 1e6 for row in shown]
    low, high = min([0.1, *x]), max([100.0, *x])
    for number, (size, rate) in enumerate(roof.levels):
        knee = roof.flops / rate
        line = [low, knee, max(high, knee * 2)]
        held = f"up to {size / 2**20:.3g} MiB" if size else "beyond"
        label = f"{rate / 1e9:.0f} GB/s {held}"
        style = ("-", "--", ":")[number % 3]
        axes.plot(line, [low * rate / 1e9, roof.flops / 1e9, roof.flops / 1e9], style, color=MUTED, label=label)
    sizes = [max(4.0, 1500 * row.ms / max(profile.sum_ms, 1e-9)) for row in shown]
    axes.scatter(x, y, s=sizes, color=OURS, alpha=0.55, linewidths=0)
    axes.set(xscale="log", yscale="log", xlabel="FLOP / byte", ylabel="GFLOP/s")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set_box_aspect(1)
    axes.set_title(f"roofline, peak {roof.flops / 1e9:.0f} GFLOP/s", loc="left", fontsize=9)
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(loc="lower right", frameon=False)


def plot_contestants(facts: Sequence[Mapping[str, Any]], path: Path, title: str) -> None:
    """A bar per contestant: the median, with whiskers from the fastest run to the 90th percentile."""
    picture = _Picture.of(7, 1.4 + 0.5 * len(facts))
    axes = picture.figure.subplots()
    medians = [f["median_ms"] for f in facts]
    spread = [[f["median_ms"] - f["min_ms"] for f in facts], [max(0.0, f["p90_ms"] - f["median_ms"]) for f in facts]]
    axes.barh(range(len(facts)), medians, xerr=spread, color=[OURS, *[MUTED] * (len(facts) - 1)], ecolor="#333333")
    axes.set_yticks(range(len(facts)), [f"{f['name']} {f['version']}" for f in facts])
    axes.invert_yaxis()
    axes.set_xlabel("ms (median, minimum to 90th percentile)")
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    picture.save(path)


def plot_ratios(series: Mapping[str, Mapping[str, float]], path: Path, title: str) -> None:
    """Bars of ratios: `series` gives, for each name in the legend, a ratio per model. A line marks 1."""
    models = list(dict.fromkeys(model for ratios in series.values() for model in ratios))
    picture = _Picture.of(9, 1.6 + 0.22 * len(models) * max(1, len(series)))
    axes = picture.figure.subplots()
    height = 0.8 / max(1, len(series))
    for number, (name, ratios) in enumerate(series.items()):
        places = [index - 0.4 + height * (number + 0.5) for index, model in enumerate(models) if model in ratios]
        values = [ratios[model] for model in models if model in ratios]
        bars = axes.barh(places, values, height=height * 0.92, color=COLOURS[number % len(COLOURS)], label=name)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
    axes.axvline(1, color="#333333", linewidth=0.8)
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(len(models) - 0.4, -0.6)
    axes.set_xlabel("time of planish / time of the fastest other runtime (shorter is better)")
    axes.set_title(title, loc="left", pad=22)
    axes.spines[["top", "right"]].set_visible(False)
    # Under the title, where no bar is.
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), frameon=False, borderaxespad=0.2)
    picture.save(path)


__all__ = ["check_plot", "plot_contestants", "plot_profile", "plot_ratios"]
