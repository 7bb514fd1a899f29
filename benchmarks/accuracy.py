"""Do compiled models compute what the files say? `python -m benchmarks.accuracy [NAME ...]`, over the zoo's folder.

For each model: seconds to compile, then its outputs for the stored inputs against the stored expected ones (of ONNX
Runtime without optimizations), and, where dimensions are symbolic, once more at a second shape against ONNX Runtime
itself. Printed are the largest difference, relative to the largest number, the relative L2 distance, and how many rows
have the same arg-max; for quantized models also how far optimized ONNX Runtime is from the unoptimized one, plus one
step of the output, which is their bound. Every model is compiled in a process of its own. Exit status 1: one is
beyond its bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import files, folder

Arrays = dict[str, Any]

BOUNDS = {"f32": 1e-4, "f16": 1e-2, "int8": 2e-2}
"""Relative L2 distance that a model may have, by its element types."""
ROWS = 2
"""Distances of an output with fewer than this many elements to a row say nothing about an arg-max."""


def main() -> int:
    """Check the models, print the table; 1 if one is out of its bound."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="NAME", help="default: all that have expected outputs")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the run (default: 1)")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS", help="for one model (default: 600)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(check(given.models[0], given.threads)))
        return 0
    names = given.models or sorted(p.name.removesuffix(".expected.npz") for p in folder().glob("*.expected.npz"))
    print(f"{'model':28} {'shape':7} {'max':>9} {'L2':>9} arg-max {'ORT L2':>9} {'compile s':>9}  verdict")
    failed = 0
    for name in names:
        record = _in_process(name, given.threads, given.timeout)
        for line in record.get("runs", [record]):
            print(_line(name, record, line), flush=True)
        failed += record["verdict"] != "ok"
    print(f"{len(names) - failed} of {len(names)} ok")
    return int(failed > 0)


def _line(name: str, record: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    if "error" in run:
        return f"{name:28} {run['error'].strip()[-300:]}"
    own = "" if run["ort"] is None else f"{run['ort']:9.1e}"
    same = f"{run['same']}/{run['rows']}" if run["rows"] else "-"
    return (
        f"{name:28} {run['shape']:7} {run['max']:9.1e} {run['l2']:9.1e} {same:>7} {own:>9} {record['compile']:9.1f}"
        f"  {run['verdict']}"
    )


def _in_process(name: str, threads: int, timeout: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.accuracy", "--worker", "--threads", str(threads), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {timeout:.0f} s", "verdict": "failed"}
    if done.returncode:
        return {"error": done.stderr or f"exit status {done.returncode}", "verdict": "failed"}
    return json.loads(done.stdout.splitlines()[-1])


def check(name: str, threads: int = 1) -> dict[str, Any]:
    """Compile one model and compare its outputs: `compile` (seconds), `runs` (one record per shape) and `verdict`."""
    from planish.compile import compile_file
    from planish.runtime import load

    path, stored = files(name)
    inputs = _arrays(stored)
    expected = _arrays(path.with_suffix("").with_suffix(".expected.npz"))
    kind = kind_of(path)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        compile_file(path, Path(place) / "model.so")
        seconds = time.perf_counter() - start
        with load(Path(place) / "model.so", threads=threads) as model:
            wanted = {port.name for port in model.inputs}
            inputs = {k: v for k, v in inputs.items() if k in wanted}
            runs = [compared("stored", model.run(inputs), expected, kind, _own(path, inputs, expected, kind))]
            smaller = _second(inputs, {port.name: port.shape for port in model.inputs})
            if smaller is not None:
                reference = _onnxruntime(path, smaller, optimized=False)
                own = _own(path, smaller, reference, kind)
                runs.append(compared("second", model.run(smaller), reference, kind, own))
    return {
        "compile": seconds,
        "runs": runs,
        "verdict": next((r["verdict"] for r in runs if r["verdict"] != "ok"), "ok"),
    }


def kind_of(path: Path) -> str:
    """Whether a model is in `f32`, `f16` or quantized (`int8`), by its operators and its inputs' element types."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    if any("Quantize" in n.op_type or "Integer" in n.op_type or n.op_type.startswith("QLinear") for n in graph.node):
        return "int8"
    halves = sum(t.data_type == onnx.TensorProto.FLOAT16 for t in graph.initializer)
    return "f16" if 2 * halves > len(graph.initializer) else "f32"


def output_steps(path: Path) -> dict[str, float]:
    """For each output that is a dequantized one (perhaps moved by other nodes): the size of its step."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path, load_external_data=False).graph
    made = {o: n for n in graph.node for o in n.output}
    numbers = {t.name: t for t in graph.initializer}
    found: dict[str, float] = {}
    for output in graph.output:
        node = made.get(output.name)
        while node is not None and node.op_type in ("Reshape", "Transpose", "Flatten", "Identity", "Squeeze"):
            node = made.get(node.input[0])
        if node is not None and node.op_type == "DequantizeLinear" and node.input[1] in numbers:
            found[output.name] = float(numpy_helper.to_array(numbers[node.input[1]]).max())
    return found


def _own(path: Path, inputs: Arrays, expected: Arrays, kind: str) -> float | None:
    """What a quantized model's distance may be: that of optimized ONNX Runtime from the unoptimized, plus one step."""
    if kind != "int8":
        return None
    optimized, steps = _onnxruntime(path, inputs, optimized=True), output_steps(path)
    return max(_distance(optimized[k], v) + _step(v, steps.get(k, 0.0)) for k, v in expected.items())


def _step(expected: Any, step: float) -> float:
    """The distance when every element is one step off."""
    b = np.asarray(expected, np.float64)
    return step * float(np.sqrt(b.size)) / (float(np.linalg.norm(b)) or 1.0)


def compared(shape: str, got: Mapping[str, Any], expected: Arrays, kind: str, own: float | None) -> dict[str, Any]:
    """The differences of all outputs: the worst of each kind, and the verdict (`own`: the most by ONNX Runtime)."""
    worst, distance, rows, same = 0.0, 0.0, 0, 0
    for name, right in expected.items():
        ours = np.asarray(got[name])
        if ours.shape != right.shape or ours.dtype != right.dtype:
            text = f"{name}: expected {right.dtype}{list(right.shape)}, got {ours.dtype}{list(ours.shape)}"
            return {"shape": shape, "error": text, "verdict": text}
        a, b = np.asarray(ours, np.float64), np.asarray(right, np.float64)
        worst = max(worst, float(np.abs(a - b).max(initial=0.0) / (np.abs(b).max(initial=0.0) or 1.0)))
        distance = max(distance, _distance(a, b))
        if b.ndim and b.shape[-1] >= ROWS:
            rows += b.size // b.shape[-1]
            same += int((a.argmax(-1) == b.argmax(-1)).sum())
    bound = BOUNDS[kind]
    verdict = "ok" if distance <= bound else f"L2 above {bound:.0e}"
    if own is not None and distance > own:
        verdict = f"L2 above ONNX Runtime's {own:.1e}"
    if kind == "int8" and next(iter(expected.values())).ndim == 2 and same < rows:
        verdict = "arg-max differs"
    return {
        "shape": shape, "max": worst, "l2": distance, "rows": rows, "same": same, "ort": own, "verdict": verdict,
    }  # fmt: skip


def _distance(got: Any, expected: Any) -> float:
    """Relative L2 distance; an output that is not finite is infinitely far unless it is so in the same places."""
    a, b = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    a, b = np.where(np.isfinite(a), a, 0.0), np.where(np.isfinite(b), b, 0.0)
    return float(np.linalg.norm(a - b) / (np.linalg.norm(b) or 1.0))


def _second(inputs: Arrays, shapes: Mapping[str, Sequence[int | str] | None]) -> Arrays | None:
    """The inputs cut to somewhat fewer elements along symbolic dimensions, None where there are none to cut.

    Sizes that differ by a little (a past of n and a mask of n + 1) still do so afterwards."""
    cut: Arrays = {}
    for name, array in inputs.items():
        dims = shapes[name] or array.shape
        sizes = [n if isinstance(d, int) else _fewer(n) for d, n in zip(dims, array.shape, strict=True)]
        cut[name] = np.ascontiguousarray(array[tuple(slice(n) for n in sizes)])
    return cut if any(cut[k].shape != v.shape for k, v in inputs.items()) else None


def _fewer(size: int) -> int:
    return size - 5 if size > 8 else max(1, size - 1)


def _onnxruntime(path: Path, inputs: Arrays, *, optimized: bool) -> Arrays:
    import onnxruntime

    ort: Any = onnxruntime
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _arrays(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


if __name__ == "__main__":
    sys.exit(main())
