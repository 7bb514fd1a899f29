"""Whole models through the compiler, run as libraries and executables, against ONNX Runtime."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import planish
from planish.compile import compile_file
from planish.runtime import InputError, RunError, load

sys.path.insert(0, str(Path(__file__).parent))
from _models import encoder_net, huge_net, residual_net

Arrays = dict[str, np.ndarray]
ort: Any = onnxruntime  # its annotations are incomplete


def feeds(path: Path, seed: int = 3) -> Arrays:
    """Seeded inputs of a model: normal floats, token ids below 97, masks of ones with a zero tail."""
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}
    for i in onnx.load(path, load_external_data=False).graph.input:
        shape = [d.dim_value for d in i.type.tensor_type.shape.dim]
        if i.name == "mask":
            arrays[i.name] = (np.arange(shape[1]) < shape[1] - 4).astype(np.int64).reshape(shape)
        elif i.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            arrays[i.name] = rng.integers(0, 97, shape)
        else:
            arrays[i.name] = rng.standard_normal(shape).astype(np.float32)
    return arrays


def expected(path: Path, inputs: Arrays) -> Arrays:
    """What ONNX Runtime gives with its optimizations off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def agree(got: Arrays, want: Arrays) -> None:
    """Within 1e-4 of the largest value and 2e-5 relative L2, per output."""
    assert list(got) == list(want)
    for name, y in want.items():
        x = got[name].astype(np.float64)
        assert x.shape == y.shape
        assert np.abs(x - y).max() <= 1e-4 * np.abs(y).max(), name
        assert np.linalg.norm(x - y) <= 2e-5 * np.linalg.norm(y), name


MODELS: dict[str, Callable[[Path], Path]] = {"residual": residual_net, "encoder": encoder_net}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each small model, written once."""
    return MODELS[request.param](tmp_path_factory.mktemp("model") / f"{request.param}.onnx")


@pytest.mark.parametrize("opt", [0, 1, 2, 3])
def test_library_agrees_with_onnxruntime_at_every_level(model: Path, opt: int, tmp_path: Path) -> None:
    compile_file(model, tmp_path / "m.so", opt=opt)
    inputs = feeds(model)
    with load(tmp_path / "m.so") as loaded:
        agree(loaded.run(inputs), expected(model, inputs))


@pytest.mark.parametrize("cpu", ["x86-64", "x86-64-v2", "x86-64-v3"])
def test_code_for_other_cpus_agrees_with_onnxruntime(model: Path, cpu: str, tmp_path: Path) -> None:
    compile_file(model, tmp_path / "m.so", cpu=cpu)
    inputs = feeds(model)
    with load(tmp_path / "m.so") as loaded:
        agree(loaded.run(inputs), expected(model, inputs))


def test_executable_reads_and_writes_numpy_files(model: Path, tmp_path: Path) -> None:
    app, inputs = tmp_path / "app", feeds(model)
    compile_file(model, app, emit="exe")
    np.savez(tmp_path / "in.npz", allow_pickle=False, **inputs)
    subprocess.run([app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz"], check=True)
    with np.load(tmp_path / "out.npz") as out:
        agree(dict(out), expected(model, inputs))


def test_executable_passes_its_own_golden_test(model: Path, tmp_path: Path) -> None:
    compile_file(model, tmp_path / "app", emit="exe")
    done = subprocess.run([tmp_path / "app", "self-test"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "passed" in done.stdout


def test_executable_needs_libc_libm_and_the_loader_only(model: Path, tmp_path: Path) -> None:
    compile_file(model, tmp_path / "app", emit="exe")
    said = subprocess.run(["ldd", tmp_path / "app"], capture_output=True, text=True, check=True).stdout
    names = {line.split()[0].split("/")[-1].split(".")[0] for line in said.splitlines()}
    assert names <= {"linux-vdso", "libc", "libm", "ld-linux-x86-64", "ld-linux-aarch64"}


def test_many_loads_leave_resident_memory_flat(tmp_path: Path) -> None:
    model = encoder_net(tmp_path / "encoder.onnx")
    compile_file(model, tmp_path / "m.so")
    inputs = feeds(model)

    def cycle(times: int) -> int:
        for _ in range(times):
            with load(tmp_path / "m.so") as loaded:
                loaded.run(inputs)
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = cycle(200)
    assert cycle(int(os.environ.get("PLANISH_LOADS", "600"))) - before < 2 << 20


def test_the_artifact_does_not_depend_on_place_hash_seed_workers_or_cache(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two" / "deeper"]
    settings = [("1", "0", 1), ("2", "123", 2)]
    made: list[bytes] = []
    for folder, (_, seed, workers) in zip(folders, settings, strict=True):
        folder.mkdir(parents=True)
        residual_net(folder / "net.onnx")
        code = (
            "from pathlib import Path; from planish.compile import compile_file; "
            f"[compile_file(Path('net.onnx'), Path(name), emit='exe', workers={workers}) for name in ('cold', 'warm')]"
        )
        environment = {**os.environ, "PYTHONHASHSEED": seed, "XDG_CACHE_HOME": str(folder / "cache")}
        subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, check=True)
        made += [(folder / "cold").read_bytes(), (folder / "warm").read_bytes()]
    assert all(m == made[0] for m in made[1:])


def test_weights_beyond_two_gigabytes_are_read_to_the_last(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 1 << 30:
        pytest.skip("less than 1 GiB of disk is free for the sparse files")
    rows = 3 * (1 << 30) // 4096
    compile_file(huge_net(tmp_path / "huge.onnx", rows), tmp_path / "huge.so")
    with load(tmp_path / "huge.so") as loaded:
        row = loaded.run({"index": np.array([rows - 1])})["row"]
    assert np.array_equal(row, np.arange(1024, dtype=np.float32)[None])


def test_a_token_id_out_of_range_names_node_value_and_range(tmp_path: Path) -> None:
    model = encoder_net(tmp_path / "encoder.onnx")
    compile_file(model, tmp_path / "m.so")
    inputs = feeds(model)
    inputs["ids"][0, 3] = 97
    with load(tmp_path / "m.so") as loaded, pytest.raises(RunError, match=r"Gather_\d+.*97"):
        loaded.run(inputs)


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    compile_file(residual_net(tmp_path / "net.onnx"), tmp_path / "m.so")
    with load(tmp_path / "m.so") as loaded:
        with pytest.raises(InputError, match="imagee"):
            loaded.run({"imagee": np.zeros((1, 3, 53, 61), np.float32)})
        with pytest.raises(InputError, match="image.*53"):
            loaded.run({"image": np.zeros((1, 3, 52, 61), np.float32)})
        with pytest.raises(InputError, match="image.*f32"):
            loaded.run({"image": np.zeros((1, 3, 53, 61), np.int64)})


@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: apt install qemu-user)")
def test_an_executable_names_the_features_that_the_cpu_lacks(tmp_path: Path) -> None:
    model = residual_net(tmp_path / "net.onnx")
    compile_file(model, tmp_path / "v4", emit="exe", cpu="x86-64-v4")
    compile_file(model, tmp_path / "v3", emit="exe", cpu="x86-64-v3")
    inputs = feeds(model)
    np.savez(tmp_path / "in.npz", allow_pickle=False, **inputs)

    def run(app: str) -> subprocess.CompletedProcess[str]:
        words = [
            "qemu-x86_64",
            "-cpu",
            "Haswell",
            tmp_path / app,
            "run",
            "--inputs",
            tmp_path / "in.npz",
            "-o",
            tmp_path / "out.npz",
        ]
        return subprocess.run(words, capture_output=True, text=True)

    refused = run("v4")
    assert refused.returncode == 1
    assert "avx512f" in refused.stderr
    assert not (tmp_path / "out.npz").exists()
    assert run("v3").returncode == 0
    with np.load(tmp_path / "out.npz") as out:
        agree(dict(out), expected(model, inputs))


def test_compile_in_python_loads_what_it_links(tmp_path: Path) -> None:
    model = residual_net(tmp_path / "net.onnx")
    inputs = feeds(model)
    loaded = planish.compile(model, threads=2)
    agree(loaded.run(inputs), expected(model, inputs))
    session = planish.InferenceSession(str(model))
    (y,) = session.run(None, inputs)
    assert np.array_equal(y, loaded(inputs["image"]))
