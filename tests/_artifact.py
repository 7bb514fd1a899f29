"""Artifacts made from the hand-written module in tests/native, without the compiler."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from planish.codegen.link import Emit, link

ROOT = Path(__file__).parent.parent
NATIVE = ROOT / "runtime" / "native"
FAKE = ROOT / "tests" / "native" / "fake_module.c"
TABLE = np.arange(32, dtype=np.float32).reshape(8, 4)


@cache
def compiler() -> str:
    path = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert path, "the tests need a C compiler"
    return path


@cache
def fake_object(*flags: str) -> bytes:
    """The object that stands in for generated code."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "fake.o"
        command = [compiler(), "-O2", "-fPIC", "-ffile-prefix-map=" + str(ROOT) + "=.", "-I", str(NATIVE), *flags]
        subprocess.run([*command, "-c", str(FAKE), "-o", str(out)], check=True)
        return out.read_bytes()


def make(out: Path, emit: Emit, *, flags: Sequence[str] = (), name: str = "fake", static: bool = False) -> Path:
    """Link the fake module with its table of 0, 1, 2 ... as weights."""
    link([fake_object(*flags)], [TABLE.tobytes()], TABLE.nbytes, emit, out, name=name, static=static)
    return out


def sample_inputs(rows: int = 5, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    return {"x": rng.random((rows, 4), np.float32), "index": rng.integers(0, 8, rows)}


def expected_y(inputs: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    return inputs["x"] * TABLE[inputs["index"]]


def run(*command: object, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program; with `ok`, it must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=120)
    assert not ok or done.returncode == 0, done.stderr + done.stdout
    return done
