"""Pictures of measurements: what is drawn, that it is reproducible, and what is refused before measuring."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from planish.codegen.llvm.roofline import Roofline
from planish.commands.bench import COMMAND
from planish.ir.errors import PlanishError
from planish.plot import BARS, check_plot, plot_contestants, plot_profile, plot_ratios
from planish.profile import Profile, Row

NEEDS = pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
ROOFLINE = Roofline(1, 1e11, ((1 << 20, 1e11), (0, 2e10)))


def profile(count: int) -> Profile:
    rows = [Row(f"node$_{i}^2", "Conv+Relu", f"k{i}", 1, 1.0 + i, 10**8, 10**6, 0.5, "compute") for i in range(count)]
    return Profile([*rows, Row("copy", "copy", "z", 1, 0.1, 0, 1000, 0.01, "memory")], 5.0, 3, ROOFLINE)


@NEEDS
def test_a_profile_shows_operators_nodes_and_roofs(tmp_path: Path) -> None:
    plot_profile(profile(3), tmp_path / "a.svg", "net, 1 thread")
    text = (tmp_path / "a.svg").read_text()
    for word in ("net, 1 thread", "Conv+Relu", "node$_2^2", "20 GB/s beyond", "roofline, peak 100 GFLOP/s"):
        assert f"<!-- {word}" in text, word
    plot_profile(profile(3), tmp_path / "b.svg", "net, 1 thread")
    assert (tmp_path / "b.svg").read_text() == text


@NEEDS
def test_many_calls_are_cut_and_counted(tmp_path: Path) -> None:
    plot_profile(profile(BARS + 5), tmp_path / "a.svg", "net")
    assert f"<!-- by call, the {BARS} slowest of {BARS + 6}" in (tmp_path / "a.svg").read_text()


@NEEDS
@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_contestants_in_every_format(suffix: str, magic: bytes, tmp_path: Path) -> None:
    facts = [{"name": "planish", "version": "1", "median_ms": 2.0, "min_ms": 1.5, "p90_ms": 1.9}]
    plot_contestants(facts, tmp_path / f"a.{suffix}", "net")
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(magic)


@NEEDS
def test_ratios_of_models_that_were_measured_with_some_threads_only(tmp_path: Path) -> None:
    plot_ratios({"1 thread": {"a": 0.5, "b": 1.25}, "2 threads": {"b": 0.75}}, tmp_path / "a.svg", "ratios")
    text = (tmp_path / "a.svg").read_text()
    assert all(f"<!-- {word} -->" in text for word in ("0.50", "1.25", "0.75", "a", "b", "2 threads"))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlanishError, match=r"--plot .*a\.gif: expected a name that ends in \.svg, \.png, \.pdf"):
        check_plot(tmp_path / "a.gif")
    with pytest.raises(PlanishError, match="the folder .* does not exist"):
        check_plot(tmp_path / "none" / "a.svg")
    find = importlib.util.find_spec

    def without(name: str) -> object:
        return None if name == "matplotlib" else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(PlanishError, match="matplotlib, which is not installed: pip install matplotlib"):
        check_plot(tmp_path / "a.svg")
    assert "--plot" in COMMAND.description
