"""Loading and running artifacts from Python."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from _artifact import TABLE, expected_y, make, run, sample_inputs

from planish import runtime
from planish.runtime import (
    ArtifactError,
    InferenceSession,
    InputError,
    LoadError,
    Manifest,
    Model,
    Pool,
    Port,
    RunError,
    load,
)
from planish.runtime._native import Message, Tensor
from planish.runtime.dtypes import numpy_dtype, pack, raw_dtype, unpack
from planish.runtime.manifest import Memory, Sample, SelfTest, Target
from planish.runtime.selftest import check, record, seeded_input, seeded_inputs


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("python") / "fake.so", "lib")


@pytest.fixture
def model(library: Path) -> Model:
    return load(library)


def test_ports(model: Model) -> None:
    assert model.inputs == (Port("x", "f32", ("N", 4)), Port("index", "i64", ("N",)))
    assert model.outputs == (Port("y", "f32", ("N", 4)), Port("total", "f32", ()), Port("last", "f32", ()))
    assert model.manifest.name == "fake" and model.manifest.inputs == model.inputs


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 1000])
def test_run(model: Model, rows: int) -> None:
    inputs = sample_inputs(rows)
    outputs = model.run(inputs)
    assert list(outputs) == ["y", "total", "last"]
    assert np.array_equal(outputs["y"], expected_y(inputs))
    assert np.isclose(outputs["total"], expected_y(inputs).sum(), rtol=1e-4)
    results = model(inputs["x"], inputs["index"])
    assert isinstance(results, tuple) and np.array_equal(cast("tuple[Any, ...]", results)[0], outputs["y"])


def test_results_are_independent(model: Model) -> None:
    first, second = sample_inputs(seed=1), sample_inputs(seed=2)
    one = model.run(first)["y"]
    model.run(second)
    assert np.array_equal(one, expected_y(first))


class OnlyDlpack:
    """An array of another library."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def test_what_may_be_passed(model: Model) -> None:
    inputs = sample_inputs()
    y = expected_y(inputs)
    strided = np.zeros((5, 8), np.float32)
    strided[:, ::2] = inputs["x"]
    misaligned = np.zeros(5 * 16 + 1, np.uint8)[1:].view(np.float32).reshape(5, 4)
    misaligned[:] = inputs["x"]
    readonly = inputs["x"].copy()
    readonly.flags.writeable = False
    for x in (
        np.asfortranarray(inputs["x"]),
        strided[:, ::2],
        misaligned,
        readonly,
        OnlyDlpack(inputs["x"]),
        inputs["x"].tolist(),
    ):
        assert np.array_equal(model.run({"x": x, "index": inputs["index"]})["y"], y)
    assert np.array_equal(np.from_dlpack(model.run(inputs)["y"]), y)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x": None}, r"input 'x': expected an array of f32"),
        ({"x": np.zeros((5, 4))}, r"^input 'x': type: expected f32, got f64$"),
        ({"x": np.zeros((5, 3), "f4")}, r"^input 'x': shape: expected \[N,4\], got \[5,3\]$"),
        ({"x": np.zeros(5, "f4")}, r"^input 'x': shape: expected \[N,4\], got \[5\]$"),
        ({"x": np.zeros((1,) * 40, "f4")}, r"^input 'x': rank: expected at most 32, got 40$"),
        (
            {"x": np.zeros((3, 4), "f4")},
            r"^input 'index': dimension 0, which is 'N': expected 3 as in input 'x', got 5$",
        ),
        ({"index": np.zeros(5, "i4")}, r"^input 'index': type: expected i64, got i32$"),
        ({"index": np.array(["a"] * 5)}, r"input 'index': type: expected i64, got <U1"),
        ({"z\n": 1}, r"^inputs: the model has no input 'z\\n'; expected 'x', 'index'$"),
    ],
)
def test_wrong_inputs(model: Model, change: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        model.run({**sample_inputs(), **change})
    inputs = sample_inputs()
    assert np.array_equal(model.run(inputs)["y"], expected_y(inputs))  # the model still works


def test_missing_inputs_are_listed(model: Model) -> None:
    with pytest.raises(InputError, match=r"missing 'x' \(f32\['N', 4\]\), 'index' \(i64\['N'\]\)"):
        model.run({})
    with pytest.raises(InputError, match=r"inputs: expected 2 \('x', 'index'\), got 1"):
        model(1)


def test_index_out_of_range(model: Model) -> None:
    inputs = sample_inputs()
    inputs["index"][2] = 8
    with pytest.raises(RunError, match=r"node 'gather/rows \"quoted\"\\x0a': index: expected 0 to 7, got 8"):
        model.run(inputs)


def test_memory_that_cannot_be_had(tmp_path: Path) -> None:
    flag = f"-DFAKE_ARENA_PER_ROW={1 << 60}ll"
    with load(make(tmp_path / "big.so", "lib", flags=[flag])) as model, pytest.raises(RunError, match="no memory"):
        model.run(sample_inputs())


def test_binding(model: Model) -> None:
    inputs = sample_inputs()
    mine = np.empty((5, 4), np.float32)
    binding = model.bind(inputs, {"y": mine})
    assert binding.outputs["y"] is mine
    for step in range(3):
        inputs["x"][:] = step
        total = binding.run()["total"]
        assert np.array_equal(mine, expected_y(inputs)) and binding.outputs["total"] is total
    inputs["index"][0] = -1
    with pytest.raises(RunError, match="expected 0 to 7, got -1"):
        binding.run()


def test_a_binding_keeps_what_it_needs(library: Path) -> None:
    with load(library) as model:
        binding = model.bind(sample_inputs())
    del model
    gc.collect()
    assert np.array_equal(binding.run()["y"], expected_y(sample_inputs()))


def test_a_binding_never_copies(model: Model) -> None:
    inputs = sample_inputs()
    with pytest.raises(InputError, match="needs no copy"):
        model.bind({**inputs, "x": np.asfortranarray(inputs["x"])})
    with pytest.raises(InputError, match="output 'y': expected a writable row-major array of f32"):
        model.bind(inputs, {"y": np.empty((5, 4))})
    with pytest.raises(InputError, match="output 'y': dimension 0 of the buffer: expected 5, got 6"):
        model.bind(inputs, {"y": np.empty((6, 4), np.float32)}).run()
    with pytest.raises(InputError, match="overlaps"):
        model.bind(inputs, {"y": inputs["x"]}).run()
    with pytest.raises(InputError, match="no output 'q'"):
        model.bind(inputs, {"q": np.empty(1)})


def test_concurrent_calls(model: Model) -> None:
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for step in range(100):
                inputs = sample_inputs(1 + (seed + step) % 7, seed)
                assert np.array_equal(model.run(inputs)["y"], expected_y(inputs))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_new_file_at_the_place_of_a_loaded_one_is_loaded(tmp_path: Path) -> None:
    def loaded_name(model: Model) -> str:
        core = model._core
        return core.library.model_name(core.model).decode()

    path = tmp_path / "fake.so"
    models: list[Model] = []
    for name in ("one", "two", "three"):
        make(path, "lib", name=name)
        models += [load(path), load(path)]
    assert [loaded_name(model) for model in models] == ["one", "one", "two", "two", "three", "three"]
    models[0].close()
    models[2].close()
    models[3].close()
    make(path, "lib", name="four")
    last = load(path)
    assert [loaded_name(model) for model in (models[1], models[4], last)] == ["one", "three", "four"]
    inputs = sample_inputs()
    assert np.array_equal(last.run(inputs)["y"], models[1].run(inputs)["y"])


def maps(path: Path) -> int:
    return Path("/proc/self/maps").read_text().count(str(path))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_load_run_unload_leaks_nothing(library: Path) -> None:
    inputs = sample_inputs()

    def once() -> None:
        with load(library) as model:
            model.run(inputs)

    for _ in range(100):
        once()
    assert maps(library) == 0
    before, files = resident(), open_files()
    for _ in range(300):
        once()
    assert maps(library) == 0 and open_files() == files
    assert resident() - before < 2 << 20


def test_close_during_use(library: Path) -> None:
    model = load(library)
    binding = model.bind(sample_inputs())
    model.close()
    with pytest.raises(ArtifactError, match="the model is closed"):
        model.run(sample_inputs())
    binding.run()
    assert maps(library)
    del binding
    assert maps(library) == 0


def test_pool_is_shared_and_outlives_its_first_model(library: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other.so", "lib", name="other")
    pool = Pool(2)
    first, second = load(library, pool=pool), load(other, pool=pool, threads=1)
    inputs = sample_inputs(100)
    first.run(inputs)
    del first
    assert maps(library)  # its code runs the threads
    assert np.array_equal(second.run(inputs)["y"], expected_y(inputs))
    del second
    assert maps(library) == 0 and maps(other) == 0
    third = load(library, pool=pool)
    assert np.array_equal(third.run(inputs)["y"], expected_y(inputs))
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="expected 1 or more"):
            load(library, threads=wrong)
    with pytest.raises(ValueError, match="expected 0 or more"):
        Pool(-1)


def test_after_fork(model: Model) -> None:
    inputs = sample_inputs(100)
    model.run(inputs)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(model.run(inputs)["y"], expected_y(inputs)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(model.run(inputs)["y"], expected_y(inputs))


def test_a_replaced_file_is_loaded_anew(tmp_path: Path) -> None:
    path = make(tmp_path / "m.so", "lib", name="one")
    with load(path) as one:
        make(path, "lib", name="two")
        with load(path) as two:
            inputs = sample_inputs()
            assert np.array_equal(one.run(inputs)["y"], two.run(inputs)["y"])


def test_files_that_are_no_artifacts(library: Path, tmp_path: Path) -> None:
    content = library.read_bytes()
    app = make(tmp_path / "app", "exe")
    cases: dict[str, tuple[bytes, str]] = {
        "text": (b"hello", "expected a shared library made by planish compile, got another kind of file"),
        "empty": (b"", "another kind of file"),
        "header": (content[:50], "expected a 64-bit little-endian library"),
        "half": (content[: len(content) // 2], "the file is cut off: expected .* bytes, got"),
        "nearly": (content[:-1], "the file is cut off"),
        "app": (app.read_bytes(), "this is an executable; run it, or compile the model with --emit lib"),
        "machine": (content[:18] + b"\xf3\0" + content[20:], "made for another machine, this machine is"),
    }
    for name, (data, text) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(LoadError, match=text):
            load(tmp_path / name)
    with pytest.raises(LoadError, match="No such file"):
        load(tmp_path / "absent.so")


def test_another_library_is_no_artifact() -> None:
    import _bisect

    with pytest.raises(LoadError, match="expected a library made by planish compile"):
        load(_bisect.__file__)


def test_missing_cpu_features(tmp_path: Path) -> None:
    path = make(tmp_path / "m.so", "lib", flags=['-DFAKE_FEATURES="sse2","no-such"'])
    with pytest.raises(LoadError, match="lacks features that the code was compiled for: no-such;"):
        load(path)
    assert maps(path) == 0


def test_session(library: Path) -> None:
    session = InferenceSession(str(library), providers=["CPUExecutionProvider"])
    (x, index), outputs = session.get_inputs(), session.get_outputs()
    assert (x.name, x.shape, x.type) == ("x", ["N", 4], "tensor(float)") and index.type == "tensor(int64)"
    inputs = sample_inputs()
    assert [output.name for output in outputs] == ["y", "total", "last"]
    assert np.array_equal(session.run(None, inputs)[0], expected_y(inputs))
    assert float(session.run(["last", "total"], inputs)[0]) == TABLE[-1, -1]
    assert "CPUExecutionProvider" in session.get_providers()
    with pytest.raises(InputError, match="no output 'q'"):
        session.run(["q"], inputs)
    with pytest.raises(LoadError, match="compile the model first"):
        InferenceSession("model.onnx")


def test_importing_the_runtime_needs_numpy_only() -> None:
    code = (
        "import sys, planish.runtime\n"
        "heavy = {'onnx', 'llvmlite', 'jinja2', 'ml_dtypes', 'google', 'rich'} & set(sys.modules)\n"
        "layers = tuple('planish.' + layer for layer in ('ir', 'codegen', 'passes', 'frontend'))\n"
        "ours = [m for m in sys.modules if m.startswith(layers)]\n"
        "assert not heavy and not ours, (heavy, ours)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_include_folder() -> None:
    out = run(sys.executable, "-m", "planish.runtime", "--include").stdout
    assert (Path(out.strip()) / "planish.hpp").exists()


def test_manifest_round_trip() -> None:
    manifest = Manifest(
        name='a"\n名',
        inputs=(Port("x", "bf16", ("N", 3)),),
        outputs=(Port("y", "f32", ()),),
        symbols=("N",),
        model_sha256="ab" * 32,
        passes=("fold", "fuse:limit=3"),
        target=Target("x86_64-unknown-linux-gnu", "znver4", ("avx2", "fma")),
        memory=Memory(1, 2, 3, 4, 5),
        versions={"planish": "0.1.0"},
        self_test=SelfTest(7, (3,), ((0.0, 1.0),), (None, (1.5, 2.5)), (Sample(0, 1, 0.1),), 1e-3, 1e-5),
    )
    text = manifest.to_json()
    assert text.isascii() and Manifest.from_json(text) == manifest
    assert Manifest.from_json(text[:-1] + ',"later":1}') == manifest
    wrongs = {"[]": "not a manifest", "{}": "not a manifest", "x": "Expecting", '{"format":99}': "update"}
    for wrong, text in wrongs.items():
        with pytest.raises(ValueError, match=text):
            Manifest.from_json(wrong)


# ---- the self-test: C and Python make the same inputs ----


def test_self_test_of_the_fake_model(model: Model) -> None:
    test = SelfTest(7, (3,), ((0.0, 1.0), (2.0, 2.0)), (None, None, (31.0, 31.0)), (Sample(2, 0, 31.0),), 1e-6, 1e-6)
    inputs = seeded_inputs(model.inputs, model.manifest.symbols, test)
    assert inputs["x"].shape == (3, 4) and (inputs["index"] == 2).all()
    outputs = model.run(inputs)
    assert check(model.outputs, outputs, test) == ""
    recorded = record(7, (3,), test.ranges, list(outputs.values()))
    assert check(model.outputs, outputs, recorded) == ""
    outputs["y"] = outputs["y"] + 1
    assert "output 'y': element 0: expected" in check(model.outputs, outputs, recorded)


def test_seeded_inputs_stay_in_range() -> None:
    x = seeded_input(Port("x", "f32", ()), 0, 1, (1000,), -2, 3)
    assert x.dtype == np.float32 and -2 <= x.min() < -1.9 and 2.9 < x.max() <= 3
    i = seeded_input(Port("x", "i64", ()), 1, 1, (1000,), -5, 5)
    assert set(i.tolist()) == set(range(-5, 6))
    b = seeded_input(Port("x", "bool", ()), 1, 1, (100,), 0, 1)
    assert b.dtype == np.bool_ and 20 < b.sum() < 80
    assert not np.array_equal(x, seeded_input(Port("x", "f32", ()), 1, 1, (1000,), -2, 3))
    bf16 = seeded_input(Port("x", "bf16", ()), 0, 1, (1000,), -2, 3).view(np.uint16)
    assert np.abs((bf16.astype(np.uint32) << 16).view(np.float32) - x).max() < 0.01


@pytest.mark.parametrize("count", [0, 1, 4, 5])
def test_four_bit_types(count: int) -> None:
    values = np.arange(count, dtype=np.uint8) * 3 % 16
    packed = pack(values.view(raw_dtype("u4")), "u4")
    assert packed.size == (count + 1) // 2
    assert np.array_equal(unpack(packed, "u4", (count,)).astype(np.uint8), values)
    signed = unpack(packed, "i4", (count,)).astype(np.int8)
    assert np.array_equal(signed, (values.astype(np.int8) ^ 8) - 8)
    assert unpack(packed, "f4e2m1", (count,)).dtype == numpy_dtype("f4e2m1")


def test_structures_are_as_large_as_in_c() -> None:
    """Static assertions in native/calls.c say the same."""
    assert (ctypes.sizeof(Tensor), Tensor.shape.offset, ctypes.sizeof(Message)) == (48, 24, 1024)


def test_public_names() -> None:
    assert all(hasattr(runtime, name) for name in runtime.__all__)
