"""Values that are no tensors, limits and interrupts, from Python: artifacts of hand-written plans."""

from __future__ import annotations

import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _artifact import NATIVE, compiler
from _host_cases import Case, source, strings

from planish.codegen.link import link
from planish.ir.errors import LinkError
from planish.runtime import InferenceSession, InputError, Model, RunError, load

TEXTS = strings("a\0b", "", "déf", shape=(3, 1))
SEQUENCE = [np.ones((2, 1), np.float32), np.zeros((0, 3), np.float32)]
MAP = {"x": np.float32(1.5), "": np.float32(2)}

ENDLESS = """\
static const int32_t in[] = {-1, -1, 0}, out[] = {1}, params[] = {-1, 0}, results[] = {-1, 0}, inputs_[] = {0};
static const planish_plan body = {1, 2, 2, 0, params, results, NULL};
static const planish_plan *const bodies[] = {&body};
static const int64_t one[] = {1};
static const planish_attribute carried[] = {{"carried", 0, 1, one, NULL}};
static const planish_step steps[] = {{PLANISH_STEP_LOOP, 0, 3, 1, in, out, bodies, 1, 0, carried, 0, 0, NULL}};
static const planish_plan plan = {2, 1, 1, 1, inputs_, out, steps};
static const planish_io_spec ports[] = {{"x", "f32", -1, NULL}};
static const char *const nodes[] = {"loop"};
const planish_module planish_module_data = {PLANISH_ABI_VERSION, 1, 1, 0, ports, ports, NULL, NULL, NULL, 1, nodes,
                                            .manifest = "{}", .manifest_bytes = 2, .plan = &plan};
"""


def build(folder: Path, text: str) -> Path:
    (folder / "plan.c").write_text(text)
    flags = ["-O1", "-fPIC", "-I", str(NATIVE)]
    subprocess.run([compiler(), *flags, "-c", str(folder / "plan.c"), "-o", str(folder / "plan.o")], check=True)
    link([folder / "plan.o"], [b""], 0, "lib", folder / "plan.so", name="plan")
    return folder / "plan.so"


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that gives its inputs back: texts, a sequence, a map, an optional that is there, one that is not."""
    cases = [Case("identity", [value], [value]) for value in (TEXTS, SEQUENCE, MAP)]
    cases += [Case("optional_make", [np.ones(3, np.int64)], [np.ones(3, np.int64)]), Case("optional_make", [], [None])]
    text = source(cases).replace('"i3_0", "i64"', '"i3_0", "optional<i64[*]>"')
    return build(tmp_path_factory.mktemp("values"), text)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that never ends by itself."""
    return build(tmp_path_factory.mktemp("endless"), '#include <stddef.h>\n#include "planish_abi.h"\n' + ENDLESS)


def inputs(**others: Any) -> dict[str, Any]:
    return {"i0_0": TEXTS, "i1_0": SEQUENCE, "i2_0": MAP, "i3_0": np.arange(3)} | others


def test_values_come_back(values: Path) -> None:
    model = load(values)
    for _ in range(2):
        out = model.run(inputs())
        assert out["o0_0"].dtype == object and out["o0_0"].tolist() == TEXTS.tolist()
        assert [item.tolist() for item in out["o1_0"]] == [item.tolist() for item in SEQUENCE]
        assert out["o1_0"][1].shape == (0, 3) and out["o2_0"] == MAP
        assert out["o3_0"].tolist() == [0, 1, 2] and out["o4_0"] is None
    assert model.run(inputs(i0_0=[["x"], [b"y"]], i1_0=[], i3_0=None))["o0_0"].tolist() == [["x"], ["y"]]
    with pytest.raises(RunError):
        load(values).run({**inputs()}, max_bytes=1000)


def test_an_optional_input_may_be_left_out(values: Path) -> None:
    given = inputs()
    del given["i3_0"]
    assert load(values).run(given)["o3_0"] is None


def test_binding_of_values(values: Path) -> None:
    binding = load(values).bind(inputs())
    assert binding.outputs["o0_0"] is None
    assert binding.run()["o0_0"].tolist() == TEXTS.tolist()
    assert binding.outputs["o0_0"] is not None


def test_session_names_the_types(values: Path) -> None:
    session = InferenceSession(load(values))
    types = [port.type for port in session.get_inputs()]
    assert types[:3] == ["tensor(string)", "seq(tensor(float))", "map(string,tensor(float))"]
    assert types[3] == "optional(tensor(int64))"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"i0_0": np.ones(3)}, "input 'i0_0': expected an array of str, got an array of float64"),
        ({"i0_0": [1]}, "input 'i0_0': expected str or bytes as an element, got int"),
        ({"i0_0": "\ud800"}, "input 'i0_0': a string is no Unicode text"),
        ({"i1_0": np.ones(3)}, "input 'i1_0': expected a list, got an array of float64"),
        ({"i1_0": [np.ones(3, np.int64)]}, "input 'i1_0': type: expected f32, got i64"),
        ({"i2_0": [1]}, "input 'i2_0': expected a dict, got list"),
        ({"i3_0": "text"}, "input 'i3_0': expected an array of i64"),
    ],
)
def test_wrong_kinds_are_refused(values: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        load(values).run(inputs(**wrong))
    assert message in str(caught.value)


def test_a_run_ends_in_time(endless: Path) -> None:
    model = load(endless)
    for _ in range(2):
        with pytest.raises(RunError, match=r"longer than the 0.05 seconds that it may take"):
            model.run({"x": np.ones(3, np.float32)}, seconds=0.05)
    with pytest.raises(ValueError, match="positive numbers"):
        model.run({"x": np.ones(3, np.float32)}, seconds=0)


def test_an_interrupt_ends_a_run(endless: Path) -> None:
    model: Model = load(endless)
    timer = threading.Timer(0.1, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        model.run({"x": np.ones(3, np.float32)})
    timer.join()
    with pytest.raises(RunError, match="longer than"):  # the model still works
        model.run({"x": np.ones(3, np.float32)}, seconds=0.01)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_random_numbers(tmp_path: Path) -> None:
    shape, rows = np.array([100, 100]), np.log(np.array([[0.1, 0.0001, 0.9]], np.float32))
    floats, halves = np.zeros((1, 1), np.float32), np.full((100, 100), 0.25, np.float32)
    cases = [
        Case("random_uniform", [shape], [floats], {"low": -1.0, "high": 3.0, "seed": 7.0}),
        Case("random_uniform", [shape], [floats], {"low": -1.0, "high": 3.0}),
        Case("random_normal", [shape], [floats.astype(np.float64)], {"dtype": "f64", "mean": 2.0, "scale": 3.0}),
        Case("bernoulli", [halves], [np.zeros((1, 1), bool)], {"dtype": "bool"}),
        Case("multinomial", [rows], [np.zeros((1, 1), np.int64)], {"dtype": "i64", "sample_size": 10000}),
    ]
    model = load(build(tmp_path, source(cases)))
    given = {"i0_0": shape, "i1_0": shape, "i2_0": shape, "i3_0": halves, "i4_0": rows}
    one, other = model.run(given), model.run(given)
    assert np.array_equal(one["o0_0"], other["o0_0"]) and not np.array_equal(one["o1_0"], other["o1_0"])
    for name in ("o0_0", "o1_0"):
        uniform = one[name]
        assert uniform.min() >= -1 and uniform.max() < 3 and abs(uniform.mean() - 1) < 0.1
        assert abs(uniform.std() - 4 / 12**0.5) < 0.05
    normal = one["o2_0"]
    assert normal.dtype == np.float64 and abs(normal.mean() - 2) < 0.2 and abs(normal.std() - 3) < 0.2
    assert abs(one["o3_0"].mean() - 0.25) < 0.03
    assert one["o4_0"].shape == (1, 10000) and abs((one["o4_0"] == 2).mean() - 0.9) < 0.03


def test_host_functions_are_linked_where_they_are_used(values: Path, tmp_path: Path) -> None:
    content = values.read_bytes()
    assert b"NONE, LOWER or UPPER" not in content
    with pytest.raises(LinkError, match="the runtime has no planish_host_nonsense"):
        build(tmp_path, source([Case("nonsense", [], [])]))
