"""Host functions, each called from a hand-written plan, in an executable under the address and undefined-behaviour
sanitizers; operands and results travel as .npz files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _artifact import NATIVE, ROOT, compiler
from _host_cases import Case, encode, source, strings
from _host_tables import LABELS, MOVES, REFUSED, SELECTS, SEQUENCES, TEXTS

FAMILIES = {"moves": MOVES, "selects": SELECTS, "sequences": SEQUENCES, "texts": TEXTS, "labels": LABELS}


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runtime with its command line, as one object with sanitizers."""
    folder = tmp_path_factory.mktemp("runtime")
    flags = ["-std=c11", "-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I", str(NATIVE)]
    sources = sorted(map(str, NATIVE.glob("*.c")))
    subprocess.run([compiler(), *flags, "-c", *sources], cwd=folder, check=True)
    return folder


def build(runtime: Path, folder: Path, cases: list[Case]) -> Path:
    (folder / "plan.c").write_text(source(cases))
    flags = ["-std=c11", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-I", str(NATIVE)]
    objects = sorted(map(str, runtime.glob("*.o")))
    glue = str(ROOT / "tests" / "native" / "glue.c")
    command = [compiler(), *flags, "plan.c", glue, *objects, "-lm", "-pthread", "-o", "app"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "app"


def run(app: Path, cases: list[Case], only: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run the plan on the operands of the cases, or its call number `only`."""
    arrays: dict[str, Any] = {}
    for number, case in enumerate(cases):
        for k, operand in enumerate(case.operands):
            arrays |= encode(f"i{number}_{k}", operand)
    np.savez(app.parent / "in.npz", allow_pickle=False, **arrays)
    command = [str(app), "run", "--inputs", str(app.parent / "in.npz"), "-o", str(app.parent / "out.npz")]
    environment = {**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1"}
    if only is not None:
        environment["CALL"] = str(only)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize("family", FAMILIES)
def test_results(runtime: Path, tmp_path: Path, family: str) -> None:
    cases = FAMILIES[family]
    done = run(build(runtime, tmp_path, cases), cases)
    assert done.returncode == 0, done.stderr[-3000:]
    with np.load(tmp_path / "out.npz") as out:
        for number, case in enumerate(cases):
            for k, result in enumerate(case.results):
                expected = encode(f"o{number}_{k}", result)
                got = {
                    name: out[name]
                    for name in out.files
                    if name == f"o{number}_{k}" or name.startswith(f"o{number}_{k}.")
                }
                assert got.keys() == expected.keys(), f"{case.function} ({number}): {sorted(got)}"
                for name, array in expected.items():
                    assert got[name].shape == array.shape, f"{case.function} ({number}) {name}"
                    assert got[name].dtype.kind == array.dtype.kind, f"{case.function} ({number}) {name}"
                    np.testing.assert_array_equal(got[name], array, f"{case.function} ({number}) {name}")
                    assert array.dtype.kind == "U" or got[name].dtype == array.dtype


def test_refusals(runtime: Path, tmp_path: Path) -> None:
    cases = [case for case, _ in REFUSED]
    app = build(runtime, tmp_path, cases)
    for number, (case, message) in enumerate(REFUSED):
        done = run(app, cases, number)
        assert done.returncode == 1 and message in done.stderr, f"{case.function} ({number}): {done.stderr}"
        assert f"node '{case.function}_{number}': " in done.stderr


def test_summary_and_info(runtime: Path, tmp_path: Path) -> None:
    values = [strings("a", "b\nc"), [np.ones(2, np.float32)], {"k": np.float32(1)}]
    cases = [Case("identity", [value], [value]) for value in values]
    app = build(runtime, tmp_path, cases)
    assert run(app, cases).returncode == 0
    shown = subprocess.run([app, "run", "--inputs", tmp_path / "in.npz"], capture_output=True, text=True, check=True)
    expected = "'o0_0' string[2] 'a' 'b\\x0ac'\n'o1_0' a sequence of 1\n'o2_0' a map\n"
    assert shown.stdout == expected
    info = subprocess.run([app, "info"], capture_output=True, text=True, check=True).stdout
    assert "'i0_0' string[*]\n" in info and "'i1_0' seq<f32[*]>\n" in info and "ranks" not in info
    missing = subprocess.run([app, "run"], capture_output=True, text=True).stderr
    assert "missing inputs: 'i0_0' (string[*]), 'i1_0' (seq<f32[*]>), 'i2_0' (map<string,f32>)" in missing


def test_the_table_of_functions_is_complete() -> None:
    rows = [
        line.split("|")[1] for line in (ROOT / "docs" / "HOST.md").read_text().splitlines() if line.startswith("| `")
    ]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row) if ".c" not in row}
    defined = {
        name
        for path in NATIVE.glob("host_*.c")
        for name in re.findall(r"^PLANISH_HOST_FUNCTION\((\w+)\)", path.read_text(), re.MULTILINE)
    }
    assert documented == defined
