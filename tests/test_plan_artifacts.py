"""Artifacts of models that are no single program: what they say about themselves, self-test, values in C++."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from _artifact import NATIVE, run
from test_link import tool

from planish.cli import main
from planish.codegen.link import Emit
from planish.compile import compile_file
from planish.runtime import load
from planish.runtime.manifest import Manifest, PlanFacts

POSITIVE = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (float[4] x) => (float total, float[4] twice) {
  places = NonZero(x)
  all = Constant<value_ints = [-1]>()
  flat = Reshape(places, all)
  chosen = Gather(x, flat)
  total = ReduceSum<keepdims = 0>(chosen)
  twice = Add(x, x)
}
"""
VALUES = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (string[N] names, float[2] x, seq(float[2]) parts) => (string[N] same, seq(float[2]) all, float[2] sum) {
  same = Identity(names)
  all = SequenceInsert(parts, x)
  sum = Add(x, x)
}
"""
PROGRAM = r"""
#include <iostream>
#include <vector>
#include "planish.hpp"

using planish::Value;

int main() {
  auto model = planish::Model::open();
  planish::Context context(model);
  std::vector<float> x{3, 4}, one{1, 2};
  context.set_input("names", Value::strings({"a", std::string("b\0c", 3), ""}));
  context.set_input("x", planish::view(x, {2}));
  context.set_input("parts", Value::sequence({Value::tensor(planish::view(one, {2}))}));
  context.run();
  for (const auto &text : context.value("same").texts()) std::cout << text.size() << ' ';
  const auto all = context.value("all");
  std::cout << (all.kind() == Value::Kind::sequence) << ' ' << all.items().size() << '\n';
  for (const auto &item : all.items())
    for (float v : item.view<float>()) std::cout << v << ' ';
  for (float v : context.value("sum").view<float>()) std::cout << v << ' ';
  std::cout << '\n';
  try {
    context.set_input("names", Value::sequence({}));
  } catch (const planish::Error &error) {
    std::cout << error.status() << ' ' << error.what() << '\n';
  }
  try {
    context.value("sum").view<double>();
  } catch (const planish::Error &error) {
    std::cout << error.what() << '\n';
  }
  const std::vector<Value> none;
  context.set_input("names", Value::strings({}));
  context.set_input("parts", Value::sequence(none));
  context.run();
  std::cout << context.value("same").texts().size() << context.value("all").items().size() << '\n';
}
"""


def made(text: str, folder: Path, emit: Emit) -> Path:
    """Compile the model of this text."""
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    suffix = {"exe": "", "lib": ".so", "static": ".a", "obj": ".o"}[emit]
    out = folder / f"model{suffix}"
    compile_file(folder / "model.onnx", out, emit=emit)
    return out


def test_an_executable_tests_itself(tmp_path: Path) -> None:
    app = made(POSITIVE, tmp_path, "exe")
    assert run(app, "self-test").stdout.startswith("self-test passed")
    content = app.read_bytes()
    facts = json.loads(run(app, "info", "--json").stdout)
    sample = next(s for s in facts["self_test"]["samples"] if facts["outputs"][s["output"]]["name"] == "twice")
    record = np.float64(sample["value"]).tobytes()
    assert record in content
    app.unlink()
    app.write_bytes(content.replace(record, np.float64(99).tobytes()))
    app.chmod(0o755)
    done = run(app, "self-test", ok=False)
    assert done.returncode == 1 and "output 'twice': element" in done.stderr and "expected 99" in done.stderr


def test_an_artifact_says_that_it_is_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = made(POSITIVE, tmp_path, "lib")
    with load(library) as model:
        plan = model.manifest.plan
        assert plan is not None and plan.islands >= 1 and plan.loops == 0
        assert Manifest.from_json(model.manifest.to_json()).plan == plan
    assert main(["inspect", os.fspath(library), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert PlanFacts(**facts["plan"]) == plan
    assert main(["inspect", os.fspath(library)]) == 0
    assert "islands" in capsys.readouterr().out


def test_values_in_cpp(tmp_path: Path) -> None:
    model = made(VALUES, tmp_path, "static")
    (tmp_path / "main.cpp").write_text(PROGRAM)
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-I", NATIVE, "-lm", "-pthread"]
    run(tool("c++"), tmp_path / "main.cpp", model, *flags, "-o", tmp_path / "program")
    lines = run(tmp_path / "program").stdout.splitlines()
    assert lines[:2] == ["1 3 0 1 2", "1 2 3 4 6 8 "]
    assert lines[2] == "1 input 'names': type: expected string, got a sequence"
    assert lines[3:] == ["the value has another kind or element type", "01"]
