"""Which part of a stage a thread takes: blocks of rows rather than channels or groups."""

from __future__ import annotations

import pytest

from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import Map, Schedule
from planish.ir.types import Layout, TensorType
from planish.passes.schedule.rows import rows_first

NHWC = Layout(order=(0, 2, 3, 1))


def scale(channels: int, rows: int) -> Map:
    """A picture times a factor for each channel and column."""
    t = TensorType("f32", (1, channels, rows, 8), NHWC)
    k = KernelBuilder([t, TensorType("f32", (channels, 8))], [t])
    with k.map(n=1, c=channels, h=rows, w=8) as (n, c, h, w):
        a, b = k.inputs
        k.write(k.mul(k.read(a, n, c, h, w), k.read(b, c, w)), k.outputs[0], n, c, h, w)
    (stage,) = (op for op in k.region if isinstance(op, Map))
    return stage


def loops(rows: int, step: int, cycles: float, lead: str = "c") -> tuple[tuple[str, int], ...]:
    stage = scale(64, rows)
    first = ("c", 32) if lead == "c" else ("h", step)
    last = ("h", step) if lead == "c" else ("c", 32)
    stage.schedule = Schedule((("n", 1), first, last, ("w", 1)), "c")
    rows_first(stage, ["n", "h", "w", "c"], cycles)
    assert stage.schedule is not None
    return stage.schedule.loops


@pytest.mark.parametrize(("rows", "step", "block"), [(56, 1, 7), (28, 1, 7), (14, 1, 7), (49, 1, 7), (48, 2, 6)])
def test_equal_blocks_of_rows_go_outermost(rows: int, step: int, block: int) -> None:
    assert loops(rows, step, 1e9) == (("h", block), ("n", 1), ("c", 32), ("h", step), ("w", 1))


@pytest.mark.parametrize(("rows", "step"), [(14, 2), (13, 1), (8, 8), (2, 1)])
def test_rows_that_do_not_divide_stay_inside(rows: int, step: int) -> None:
    assert loops(rows, step, 1e9)[0] == ("n", 1)


def test_what_is_expensive_to_read_again_is_read_less_often() -> None:
    again = 64 * 8 * 4 / 32  # cycles
    assert loops(56, 1, 7 * again / 0.03)[0] == ("h", 7)
    assert loops(56, 1, 3 * again / 0.03)[0] == ("h", 14)
    assert loops(56, 1, 1 * again / 0.03)[0] == ("h", 28)
    assert loops(56, 1, 0.9 * again / 0.03)[0] == ("n", 1)


def test_rows_that_are_outermost_stay_so() -> None:
    assert loops(56, 1, 1e9, lead="h")[0] == ("n", 1)
