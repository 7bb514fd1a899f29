"""Does compiling grow linearly? Chains of any length, compiled in a process of their own.

    python -m benchmarks.growth mixed 2500 5000 10000 20000
    python -m benchmarks.growth blocks 250 500 1000 2000

prints, for each length, wall and CPU seconds and the peak of memory of all processes together, and how they
grew. The cache of kernels is not used: every object is compiled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
WIDTHS = (16, 24, 32, 48)
"""Sizes of rows in the mixed chain: few, so that its kernels are shared as those of real networks are."""


def mixed_chain(nodes: int, seed: int = 5) -> onnx.ModelProto:
    """A chain of `nodes` nodes, of layers out of a few patterns, as networks are: products of small matrices,
    elementwise operations of one and two operands, normalisations, now and then a sum with what was before."""
    rng = np.random.default_rng(seed)
    weights = {f"w{a}_{b}": rng.standard_normal((a, b)) / np.sqrt(a) for a in WIDTHS for b in WIDTHS}
    weights |= {f"b{a}": rng.standard_normal(a) for a in WIDTHS}
    patterns = [rng.integers(0, 10, 8) for _ in range(6)]
    made: list[onnx.NodeProto] = []
    name, width, kept = "x", WIDTHS[0], ("x", WIDTHS[0])
    while len(made) < nodes:
        pattern = patterns[int(rng.integers(0, len(patterns)))]
        to = WIDTHS[int(rng.integers(0, len(WIDTHS)))]
        for step in [0, *(int(k) or 3 for k in pattern)][: nodes - len(made)]:
            op, others, attributes = _mixed_step(step, width, to, kept)
            out = f"v{len(made)}"
            made.append(helper.make_node(op, [name, *others], [out], name=f"{op}_{len(made)}", **attributes))
            name, width = out, to if step == 0 else width
        kept = (name, width)
    return _model(made, {k: v.astype(np.float32) for k, v in weights.items()}, [8, WIDTHS[0]], name)


def _mixed_step(kind: int, width: int, to: int, kept: tuple[str, int]) -> tuple[str, list[str], dict[str, Any]]:
    """One node: its operator, inputs behind the first, and attributes."""
    if kind == 0:
        return "MatMul", [f"w{width}_{to}"], {}
    if kind == 1 and kept[1] == width:
        return "Add", [kept[0]], {}
    if kind == 2:
        return "Softmax", [], {"axis": -1}
    if kind in (1, 3, 4):
        return ("Mul" if kind == 4 else "Add"), [f"b{width}"], {}
    return ("Relu", "Sigmoid", "Tanh", "Erf", "Softplus")[kind - 5], [], {}


def block_chain(blocks: int, seed: int = 5) -> onnx.ModelProto:
    """A chain of `blocks` times MatMul, Add, Gelu, Transpose; no two blocks have the same shapes."""
    sizes = _sizes(blocks + 2, seed)
    rng = np.random.default_rng(seed)
    made: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    name = "x"
    for i in range(blocks):
        inner, columns = sizes[i], sizes[i + 2]
        weights[f"w{i}"] = (rng.standard_normal((inner, columns)) / np.sqrt(inner)).astype(np.float32)
        weights[f"b{i}"] = rng.standard_normal(columns).astype(np.float32)
        steps: list[tuple[str, list[str]]] = [
            ("MatMul", [f"w{i}"]),
            ("Add", [f"b{i}"]),
            ("Gelu", []),
            ("Transpose", []),
        ]
        for op, others in steps:
            made.append(helper.make_node(op, [name, *others], [f"{op}{i}"], name=f"{op}_{i}"))
            name = f"{op}{i}"
    return _model(made, weights, [sizes[1], sizes[0]], name)


def _sizes(count: int, seed: int) -> list[int]:
    """Sizes of which no two neighbouring ones come twice."""
    rng = np.random.default_rng(seed)
    sizes, seen = [17, 23], {(17, 23)}
    while len(sizes) < count:
        pair = (sizes[-1], int(rng.integers(16, 112)))
        if pair not in seen:
            seen.add(pair)
            sizes.append(pair[1])
    return sizes


def _model(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int], out: str) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_empty_tensor_value_info(out)
    y.type.tensor_type.elem_type = TensorProto.FLOAT
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "chain", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


CHAINS = {"mixed": mixed_chain, "blocks": block_chain}

_CHILD = """
import json, resource, sys
from pathlib import Path
from planish.compile import compile_file
report = compile_file(Path(sys.argv[1]), Path(sys.argv[2]), opt=int(sys.argv[3]), cache=False)
passes = {}
for p in report.passes:
    passes[p.name] = passes.get(p.name, 0) + p.seconds
print(json.dumps({"steps": report.seconds, "passes": passes, "kernels": report.kernels}))
"""


def measure(model: Path, out: Path, opt: int = 3) -> dict[str, object]:
    """Compile `model` in a new process: seconds (`wall`, `cpu` with children), `peak` bytes of anonymous memory of
    all its processes together (sampled), and what the compiler reports."""
    before = os.times()
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(model), str(out), str(opt)], stdout=subprocess.PIPE)
    peak = [0]
    watcher = threading.Thread(target=_watch, args=(child, peak))
    watcher.start()
    text, _ = child.communicate()
    watcher.join()
    wall, after = time.perf_counter() - start, os.times()
    if child.returncode:
        raise SystemExit(f"{model.name}: the compiler ended with status {child.returncode}")
    cpu = sum(after[2:4]) - sum(before[2:4])
    return {"wall": wall, "cpu": cpu, "peak": peak[0], **json.loads(text)}


def _watch(child: subprocess.Popen[bytes], peak: list[int]) -> None:
    while child.poll() is None:
        peak[0] = max(peak[0], sum(_anonymous(pid) for pid in _family(child.pid)))
        time.sleep(0.25)


def _family(pid: int) -> Iterator[int]:
    """A process and all that it started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    yield from found


def _anonymous(pid: int) -> int:
    """Bytes of memory that no file stands behind; 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon", "RssShmem")))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chain", choices=CHAINS)
    parser.add_argument("lengths", type=int, nargs="+")
    parser.add_argument("--opt", type=int, default=3)
    parser.add_argument("-v", "--verbose", action="store_true", help="seconds of every step and pass")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for length in options.lengths:
            path = Path(folder, f"{options.chain}{length}.onnx")
            onnx.save(CHAINS[options.chain](length), path)
            got = measure(path, path.with_suffix(".so"), options.opt)
            print(
                f"{options.chain} {length}: {got['wall']:.1f} s, {got['cpu']:.1f} s CPU, "
                f"{int(str(got['peak'])) / 2**20:.0f} MiB, {got['kernels']} kernels",
                flush=True,
            )
            if options.verbose:
                print(json.dumps({k: got[k] for k in ("steps", "passes")}, indent=1), flush=True)


if __name__ == "__main__":
    main()
