"""Other CPUs: names and features, aarch64 executables under QEMU, one artifact for several levels of x86-64."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from _artifact import NATIVE
from _samples import samples
from onnx_models import info, make, node
from test_emit_ops import kernel

from planish.codegen import toolchain
from planish.codegen.elf import PAGE
from planish.codegen.llvm.kernel import emit_kernel
from planish.codegen.llvm.objects import compile_assembly, compile_object, undefined_symbols
from planish.codegen.llvm.scalars import LIBM_SYMBOLS
from planish.codegen.llvm.target import cpu_names, host, normal_triple, target_for, targets_for
from planish.compile import compile_file
from planish.files import Kind, kind_of
from planish.ir.errors import LinkError, PlanishError
from planish.ir.expr import sym
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.types import tensor
from planish.passes.schedule.cpu import schedule_kernel
from planish.passes.schedule.tiles import panel_vectors, row_limit
from planish.runtime import LoadError, load

DIGITS = Path(__file__).parent.parent / "examples" / "digits"
MODEL = DIGITS / "digits.onnx"
FOREIGN = "x86_64" if platform.machine() == "aarch64" else "aarch64"
ZOO = Path(os.environ.get("PLANISH_ZOO", Path.home() / ".cache" / "planish-zoo")) / "zoo"
ARM = target_for(triple="aarch64-linux-gnu")
# One sample of each operation and element type.
OPS = {
    (op.op_name, op.results[0].tensor.dtype): (name, op)
    for name, op in samples()
    if all(v.tensor.dtype != "string" for v in [*op.inputs, *op.results])
}.values()

Planish = Callable[..., tuple[int, str, str]]
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="levels of x86-64 need an x86-64 CPU")


# ---- names and features ----


def test_triples_have_short_and_full_names() -> None:
    assert normal_triple("aarch64-linux-gnu") == normal_triple("arm64-unknown-linux") == "aarch64-unknown-linux-gnu"
    assert normal_triple("x86_64-pc-linux-musl") == "x86_64-unknown-linux-musl"
    assert normal_triple().startswith(platform.machine())


@pytest.mark.parametrize(
    ("cpu", "triple", "message"),
    [
        ("", "riscv64-linux-gnu", "--triple riscv64-linux-gnu: expected one of .*aarch64-linux-gnu"),
        ("", "aarch64-apple-darwin", "--triple aarch64-apple-darwin: expected one of"),
        ("haswell", "aarch64-linux-gnu", "--cpu haswell: expected one of .*cortex-a72"),
        ("native", f"{FOREIGN}-linux-gnu", "--cpu native: expected one of"),
        ("portable", "aarch64-linux-gnu", "--cpu portable: .* has no levels"),
    ],
)
def test_unknown_names_are_refused(cpu: str, triple: str, message: str) -> None:
    with pytest.raises(PlanishError, match=message):
        targets_for(cpu, triple)


def test_every_name_has_a_target() -> None:
    for triple in ("x86_64-linux-gnu", "aarch64-linux-gnu"):
        for cpu in cpu_names(triple):
            assert targets_for(cpu, triple)
    assert (ARM.vector_bytes, ARM.vector_registers, ARM.cpu) == (16, 32, "generic")


def test_artifacts_ask_for_features_that_code_can_use_only() -> None:
    """A feature for the operating system or for cryptography must not keep an artifact from running."""
    useless = re.compile(r"xsave|clzero|invpcid|fsgsbase|rdpid|rdrnd|sha|aes|clflush|clwb|pku|prfchw|amx|64bit|mwait")
    names = [name for name in cpu_names() if name != "portable"]
    for target in [host(), *(target_for(name) for name in names)]:
        assert not [f for f in target.features if useless.match(f[1:])], target.cpu


def test_the_runtime_can_check_every_feature() -> None:
    known = set(re.findall(r'\{"([^"]+)", ', (NATIVE / "cpu.c").read_text()))
    for triple in ("x86_64-linux-gnu", "aarch64-linux-gnu"):
        for target in (t for cpu in cpu_names(triple) for t in targets_for(cpu, triple)):
            assert {f[1:] for f in target.features} <= known, target.cpu


# ---- code ----


@pytest.mark.parametrize("op", [op for _, op in OPS], ids=[name for name, _ in OPS])
def test_every_operation_compiles_for_aarch64_without_helpers(op: Any) -> None:
    made = kernel(op)
    schedule_kernel(made, ARM)
    body = compile_object(emit_kernel(made, ARM, "pk_x").text, ARM, 1)
    allowed = LIBM_SYMBOLS | {"memcpy", "memset", "memmove", "planish_fail_index", "planish_fail"}
    assert undefined_symbols(body) <= allowed


def test_f16_uses_the_instructions_of_aarch64() -> None:
    k = KernelBuilder([tensor("f16", 64)], [tensor("f16", 64)])
    with k.map(i=64) as (i,):
        k.write(k.add(k.read(k.inputs[0], i), k.read(k.inputs[0], i)), k.outputs[0], i)
    made = k.outlined("test")
    schedule_kernel(made, ARM)
    assembly = compile_assembly(emit_kernel(made, ARM, "pk_x").text, ARM)
    assert "fcvtl\t" in assembly and "fcvtn\t" in assembly


def test_masked_loads_on_neon_do_not_branch() -> None:
    k = KernelBuilder([tensor("f32", sym("n"))], [tensor("f32", sym("n"))])
    with k.map(i=k.inputs[0].tensor.dims[0]) as (i,):
        k.write(k.add(k.read(k.inputs[0], i), k.read(k.inputs[0], i)), k.outputs[0], i)
    made = k.outlined("test")
    schedule_kernel(made, ARM)
    text = emit_kernel(made, ARM, "pk_x", program_symbols=("n",)).text
    assert "masked.load" not in text and "masked.store" in text


def test_tiles_of_panels_that_are_packed_for_wider_vectors() -> None:
    v4, v3, v2 = targets_for("portable", "x86_64-linux-gnu")
    many = [(panel_vectors(n, 100, t), t) for n, t in ((2, v4), (4, v3), (8, v2))]
    assert [(row_limit(t, vectors), vectors) for vectors, t in many] == [(10, 2), (5, 2), (4, 2)]
    assert [panel_vectors(n, 1, t) for n, t in ((2, v4), (4, v3), (8, v2))] == [2, 4, 4]


# ---- aarch64 ----


@pytest.fixture(scope="module")
def arm_triple() -> Iterator[str]:
    """A triple whose programs can be linked and run here: through zig and QEMU."""
    if not importlib.util.find_spec("ziglang"):
        pytest.skip("ziglang is not installed (pip install planish[cross])")
    if platform.machine() != "aarch64" and not shutil.which("qemu-aarch64"):
        pytest.skip("qemu-aarch64 is not installed (Debian: apt install qemu-user)")
    with pytest.MonkeyPatch.context() as patch:
        # zig builds the C library once for each cache: minutes that another run may spare.
        patch.setenv("ZIG_GLOBAL_CACHE_DIR", str(Path.home() / ".cache" / "zig"))
        yield "aarch64-linux-gnu" if Path("/usr/aarch64-linux-gnu/lib").exists() else "aarch64-linux-musl"


def on_arm(*command: object) -> subprocess.CompletedProcess[str]:
    emulator = [] if platform.machine() == "aarch64" else ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
    done = subprocess.run([*emulator, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def outputs(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_digits_for_aarch64(arm_triple: str, tmp_path: Path) -> None:
    app = tmp_path / "digits"
    compile_file(MODEL, app, emit="exe", triple=arm_triple)
    assert "self-test passed" in on_arm(app, "self-test").stdout
    with np.load(DIGITS / "pictures.npz") as file:
        np.save(tmp_path / "image.npy", file["image"][:1])
    on_arm(app, "run", "--input", f"image={tmp_path / 'image.npy'}", "-o", tmp_path / "out.npz")
    compile_file(MODEL, tmp_path / "digits.so")
    with load(tmp_path / "digits.so") as model:
        want = model.run({"image": np.load(tmp_path / "image.npy")})["probability"]
    np.testing.assert_allclose(outputs(tmp_path / "out.npz")["probability"], want, rtol=1e-5, atol=1e-6)


def test_segments_for_aarch64_fit_large_pages(arm_triple: str, tmp_path: Path) -> None:
    """Kernels with pages of 64 KiB map segments whose place in file and memory agree to 64 KiB."""
    for name in ("digits", "digits.so"):
        compile_file(MODEL, tmp_path / name, emit="exe" if name == "digits" else "lib", triple=arm_triple)
        readelf = shutil.which("readelf")
        if not readelf:
            pytest.skip("readelf is not installed (Debian: apt install binutils)")
        text = subprocess.run([readelf, "-lW", tmp_path / name], capture_output=True, text=True).stdout
        loads = [line.split() for line in text.splitlines() if line.lstrip().startswith("LOAD")]
        for _, offset, address, *_ in loads:
            assert (int(offset, 16) - int(address, 16)) % PAGE[183] == 0


def test_artifacts_for_another_machine_are_named(arm_triple: str, planish: Planish, tmp_path: Path) -> None:
    if platform.machine() == "aarch64":
        pytest.skip("this machine is aarch64")
    for name in ("digits", "digits.so"):
        compile_file(MODEL, tmp_path / name, emit="exe" if name == "digits" else "lib", triple=arm_triple)
        status, _, err = planish("run", tmp_path / name)
        assert status == 1 and f"{name}: made for aarch64: run it there" in err
        assert json.loads(planish("inspect", tmp_path / name, "--json")[1])["machine"] == "aarch64"
    with pytest.raises(LoadError, match="made for aarch64, this machine is .*: compile the model for"):
        load(tmp_path / "digits.so")


def test_a_static_position_independent_executable_is_no_library(tmp_path: Path) -> None:
    """Executables for musl are of this kind."""
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    command = ["cc", "-static-pie", tmp_path / "main.c", "-o", tmp_path / "main"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cc makes no static executables here: {done.stderr.splitlines()[:1]}")
    assert kind_of(tmp_path / "main") is Kind.EXECUTABLE


def test_squeezenet_for_aarch64(arm_triple: str, tmp_path: Path) -> None:
    if not (ZOO / "squeezenet_rand.onnx").exists():
        pytest.skip(f"{ZOO / 'squeezenet_rand.onnx'} is not there (set PLANISH_ZOO)")
    app = tmp_path / "squeezenet"
    compile_file(ZOO / "squeezenet_rand.onnx", app, emit="exe", triple=arm_triple, cpu="cortex-a72")
    on_arm(app, "run", "--inputs", ZOO / "squeezenet_rand.inputs.npz", "-o", tmp_path / "out.npz")
    got, want = outputs(tmp_path / "out.npz"), outputs(ZOO / "squeezenet_rand.expected.npz")
    assert len(got) == len(want)
    for a, b in zip(got.values(), want.values(), strict=True):
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def conversions() -> onnx.ModelProto:
    """A model of all conversions of f32 and a few functions, on vectors of any length."""
    types = {"f16": 10, "bf16": 16, "i8": 3, "u8": 2, "i32": 6, "u32": 12, "i64": 7, "f64": 11}
    nodes: list[Any] = []
    for name, number in types.items():
        nodes += [node("Cast", ["x"], [f"to_{name}"], to=number), node("Cast", [f"to_{name}"], [name], to=11)]
    nodes += [node(fn, ["x"], [fn.lower()]) for fn in ("Exp", "Tanh", "Erf", "Sigmoid", "Floor", "Round", "Sqrt")]
    made = [*types, *(n.output[0] for n in nodes[2 * len(types) :])]
    return make(nodes, {"x": info("x", ["n"])}, made)


def test_conversions_and_tails_on_aarch64(arm_triple: str, tmp_path: Path) -> None:
    """Special values through every conversion, at lengths that are no multiple of a vector."""
    app = tmp_path / "app"
    compile_file(conversions(), app, emit="exe", triple=arm_triple)
    compile_file(conversions(), tmp_path / "app.so", cpu="x86-64" if platform.machine() == "x86_64" else "")
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 65504, 65519.996, 65520, 6e-8, 2.9e-8, 6.1e-5, 3.4e38, 1e-45, 2.5]
    rng = np.random.default_rng(0)
    values = np.array([*special, *rng.normal(0, 10.0 ** rng.integers(-9, 12, 50))], np.float32)
    with load(tmp_path / "app.so") as model:
        for length in (1, 3, 5, len(values)):
            x = values[-length:]
            np.save(tmp_path / "x.npy", x)
            on_arm(app, "run", "--input", f"x={tmp_path / 'x.npy'}", "-o", tmp_path / "out.npz")
            got = outputs(tmp_path / "out.npz")
            for name, want in model.run({"x": x}).items():
                np.testing.assert_allclose(got[name], want, rtol=0 if "64" in name else 1e-6, err_msg=name)


def no_package(_: str) -> None:
    """In the place of `importlib.util.find_spec`."""


def test_without_a_cross_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", no_package)
    with pytest.raises(LinkError, match=rf"linking for {FOREIGN}-unknown-linux-gnu: .*pip install planish\[cross\]"):
        compile_file(MODEL, tmp_path / "app", emit="exe", triple=f"{FOREIGN}-linux-gnu")
    assert not list(tmp_path.iterdir())


def test_a_compiler_for_another_machine_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(importlib.util, "find_spec", no_package)
    with pytest.raises(LinkError, match="expected a compiler for that machine"):
        toolchain.find_compiler(f"{FOREIGN}-unknown-linux-gnu")


# ---- portable ----


@pytest.fixture(scope="module")
def portable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with digits (an executable) and digits.so for x86-64-v2, v3 and v4."""
    folder = tmp_path_factory.mktemp("portable")
    for name in ("digits", "digits.so"):
        compile_file(MODEL, folder / name, emit="exe" if name == "digits" else "lib", cpu="portable")
    with np.load(DIGITS / "pictures.npz") as file:
        np.save(folder / "image.npy", file["image"][:1])
    return folder


def level(features: str) -> str:
    return "v4" if "avx512f" in features else "v3" if "avx2" in features else "v2"


@on_x86
@pytest.mark.parametrize(("cpu", "wanted"), [("Nehalem", "v2"), ("Haswell", "v3"), ("max", "v3")])
def test_portable_picks_its_level(portable: Path, tmp_path: Path, cpu: str, wanted: str) -> None:
    qemu = shutil.which("qemu-x86_64")
    if not qemu:
        pytest.skip("qemu-x86_64 is not installed (Debian: apt install qemu-user)")
    start = [qemu, "-cpu", cpu, str(portable / "digits")]
    info = subprocess.run([*start, "info"], capture_output=True, text=True, check=True).stdout
    assert level(info) == wanted
    given, answered = f"image={portable / 'image.npy'}", str(tmp_path / "out.npz")
    subprocess.run([*start, "run", "--input", given, "-o", answered], check=True, capture_output=True)
    with load(portable / "digits.so") as model:
        want = model.run({"image": np.load(portable / "image.npy")})["probability"]
    np.testing.assert_allclose(outputs(tmp_path / "out.npz")["probability"], want, rtol=1e-5, atol=1e-6)


@on_x86
def test_portable_on_this_machine(portable: Path) -> None:
    """The level is the best that the CPU has, and the manifest is that level's."""
    mine = {f[1:] for f in host().features}
    best = next(t for t in targets_for("portable") if {f[1:] for f in t.features} <= mine)
    with load(portable / "digits.so") as model:
        assert model.manifest.target.cpu == best.cpu
    done = subprocess.run([portable / "digits", "self-test"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@on_x86
def test_portable_on_an_older_cpu(portable: Path) -> None:
    qemu = shutil.which("qemu-x86_64")
    if not qemu:
        pytest.skip("qemu-x86_64 is not installed (Debian: apt install qemu-user)")
    done = subprocess.run([qemu, "-cpu", "core2duo", portable / "digits", "info"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "lacks features that the code was compiled for: popcnt, sse4.1, sse4.2; compile" in done.stderr
    assert "for example with --cpu x86-64\n" in done.stderr


@on_x86
def test_levels_share_their_weights(portable: Path, tmp_path: Path) -> None:
    one = compile_file(MODEL, tmp_path / "one.so", cpu="x86-64-v4")
    several = compile_file(MODEL, tmp_path / "several.so", cpu="portable")
    assert several.weights_bytes == one.weights_bytes


@on_x86
def test_portable_with_ranks_that_are_open(tmp_path: Path) -> None:
    """Each level has the variants of all ranks."""
    model = make([node("Softmax", ["x"], axis=-1)], {"x": info("x", None)})
    compile_file(model, tmp_path / "any.so", cpu="portable")
    with load(tmp_path / "any.so") as loaded:
        for shape in ((7,), (3, 5), (2, 3, 4)):
            y = loaded.run({"x": np.ones(shape, np.float32)})["y"]
            np.testing.assert_allclose(y, np.full(shape, 1 / shape[-1], np.float32), rtol=1e-6)
