"""Linking: the weights in the extended last segment, several models in a process, reproducible bytes, clear errors."""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from _artifact import NATIVE, ROOT, TABLE, compiler, expected_y, fake_object, make, run, sample_inputs

from planish.codegen import link as link_module
from planish.codegen import toolchain
from planish.codegen.elf import ElfError, embed_weights
from planish.codegen.link import Emit, entry_name, exported_names, link
from planish.ir.errors import LinkError
from planish.runtime import load


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("link") / "fake.so", "lib")


@pytest.fixture(scope="module")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("link") / "app", "exe")


def check_library(path: Path) -> None:
    inputs = sample_inputs()
    with load(path) as model:
        assert np.array_equal(model.run(inputs)["y"], expected_y(inputs))


def tool(name: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed")
    return path


def test_library_exports_its_interface_only(library: Path) -> None:
    lines = run(tool("nm"), "-D", "--defined-only", library).stdout.splitlines()
    assert sorted(line.split()[-1] for line in lines) == exported_names("fake")
    assert "planish_open_fake" in exported_names("fake")
    assert "planish_parallel" not in exported_names("fake")


def test_artifacts_need_libc_libm_and_the_loader_only(library: Path, executable: Path) -> None:
    for path in (library, executable):
        needed = re.findall(r"NEEDED.*\[(.*)\]", run(tool("readelf"), "-d", path).stdout)
        assert set(needed) <= {"libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libpthread.so.0"}


def test_static_executable_needs_nothing(tmp_path: Path) -> None:
    app = make(tmp_path / "app", "exe", static=True)
    assert "NEEDED" not in run(tool("readelf"), "-d", app).stdout
    assert "self-test passed" in run(app, "self-test").stdout


def test_stack_is_not_executable(library: Path, executable: Path) -> None:
    for path in (library, executable):
        (line,) = [line for line in run(tool("readelf"), "-lW", path).stdout.splitlines() if "GNU_STACK" in line]
        assert " RW " in line


@pytest.mark.parametrize("command", ["strip", "objcopy"])
def test_weights_survive(library: Path, executable: Path, tmp_path: Path, command: str) -> None:
    for path in (library, executable):
        shutil.copy(path, tmp_path / path.name)
        run(tool(command), tmp_path / path.name)
    check_library(tmp_path / "fake.so")
    assert "self-test passed" in run(tmp_path / "app", "self-test").stdout


def test_section_table_stays_sound(library: Path) -> None:
    done = run(tool("readelf"), "-aW", library)
    assert "Warning" not in done.stderr and "Error" not in done.stderr
    assert ".lrodata" in done.stdout and "planish_artifact_model" in done.stdout


def test_large_sparse_weights(tmp_path: Path) -> None:
    """3 GB of weights, nearly all zero: small on disk, quick to load, the last float readable."""
    size = 3 << 30

    def chunks() -> Iterator[bytes]:
        block = bytes(256 << 20)
        yield TABLE.tobytes()
        yield block[TABLE.nbytes :]
        for _ in range(10):
            yield block
        yield block[:-4]
        yield np.float32(42).tobytes()

    out = tmp_path / "large.so"
    link([fake_object(f"-DFAKE_WEIGHTS={size}ll")], chunks(), size, "lib", out, name="large")
    assert out.stat().st_size > size and out.stat().st_blocks * 512 < 4 << 20
    with load(out) as model:
        assert float(model.run(sample_inputs())["last"]) == 42


@pytest.mark.parametrize("size", [0, 4, 4096, 4100, 1 << 20])
def test_sizes_of_weights(tmp_path: Path, size: int) -> None:
    weights = np.arange(size // 4, dtype=np.float32).tobytes()
    out = tmp_path / "sized.so"
    link([fake_object(f"-DFAKE_WEIGHTS={size}ll")], [weights[:100], weights[100:]], size, "lib", out, name="sized")
    inputs = {"x": np.ones((1, 4), np.float32), "index": np.array([0])}
    with load(out) as model:
        assert float(model.run(inputs)["last"]) == max(size // 4 - 1, 0)


def test_same_bytes_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emits: list[Emit] = ["exe", "lib", "static", "obj"]
    results: dict[Emit, set[bytes]] = {emit: set() for emit in emits}
    for folder, cache in (("a", "one"), ("b/c/d", "one"), ("e", "two")):
        (tmp_path / folder).mkdir(parents=True)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        monkeypatch.chdir(tmp_path / folder)
        for emit in emits:
            results[emit].add(make(Path("out"), emit).read_bytes())
    for contents in results.values():
        (content,) = contents
        for path in (str(ROOT), str(tmp_path), str(Path.home())):
            assert path.encode() not in content


def test_several_libraries_in_one_process(tmp_path: Path, library: Path) -> None:
    other = tmp_path / "other.so"
    link([fake_object()], [(TABLE * 2).tobytes()], TABLE.nbytes, "lib", other, name="other")
    inputs = sample_inputs()
    with load(library) as one, load(other) as two:
        for _ in range(3):
            assert np.array_equal(one.run(inputs)["y"], expected_y(inputs))
            assert np.array_equal(two.run(inputs)["y"], expected_y(inputs) * 2)


TWO_MODELS = """
#include <stdio.h>
#include "planish.h"
PLANISH_OPEN_FUNCTION(one);
PLANISH_OPEN_FUNCTION(two);
static void show(planish_status (*open)(const planish_model **, planish_message *)) {
  const planish_model *model; planish_context *context; planish_message message;
  float x[4] = {1, 1, 1, 1}; int64_t index = 7, x_shape[2] = {1, 4}, shape[1] = {1};
  planish_value in[2] = {{PLANISH_TENSOR, "x", {{x, {1, 0}, 2, {2, 32, 1}, x_shape, 0, 0}}},
                         {PLANISH_TENSOR, "index", {{&index, {1, 0}, 1, {0, 64, 1}, shape, 0, 0}}}};
  planish_value out[1] = {{.kind = PLANISH_TENSOR, .name = "last"}};
  if (open(&model, &message) || planish_context_create(model, 0, 0, &context, &message)) return;
  if (planish_run(context, in, 2, out, 1)) return;
  printf("%s %g\\n", planish_model_name(model), *(float *)out[0].as.tensor.data);
  planish_context_destroy(context);
}
int main(void) { show(planish_open_one); show(planish_open_two); return 0; }
"""


@pytest.mark.parametrize(("emit", "suffix"), [("static", ".a"), ("obj", ".o"), ("lib", ".so")])
def test_two_models_in_one_program(tmp_path: Path, emit: Emit, suffix: str) -> None:
    for name, factor in (("one", 1), ("two", 2)):
        weights = (TABLE * np.float32(factor)).tobytes()
        link([fake_object()], [weights], TABLE.nbytes, emit, tmp_path / (name + suffix), name=name)
    (tmp_path / "main.c").write_text(TWO_MODELS)
    models = [str(tmp_path / f"one{suffix}"), str(tmp_path / f"two{suffix}")]
    run(compiler(), tmp_path / "main.c", *models, "-I", NATIVE, "-lm", "-pthread", "-o", tmp_path / "two")
    assert run(tmp_path / "two").stdout == "one 31\ntwo 62\n"


@pytest.mark.parametrize("emit", ["lib", "static", "obj"])
@pytest.mark.parametrize("language", ["c", "cpp"])
def test_examples(tmp_path: Path, emit: Emit, language: str) -> None:
    suffix = {"lib": ".so", "static": ".a", "obj": ".o"}[emit]
    model = make(tmp_path / f"model{suffix}", emit)
    compile_it = (
        [compiler(), "-std=c99", "-Wconversion"] if language == "c" else [tool("c++"), "-std=c++17", "-Wconversion"]
    )
    source = ROOT / "examples" / language / f"main.{language}"
    flags = ["-Wall", "-Wextra", "-Werror", "-I", NATIVE, "-lm", "-pthread"]
    run(*compile_it, source, model, *flags, "-o", tmp_path / "app")
    out = run(tmp_path / "app").stdout
    assert out == "model: fake\ny: f32[3,4] 4 5 6 7 4 5 6 7 4 5\ntotal: f32[] 66\nlast: f32[] 31\n"


@pytest.mark.parametrize(
    "name", ['a"; int x;"', "*/ #error", "new\nline", "$(touch x)", "..", "x" * 10_000, "nul\0l", "名", "??/", ""]
)
def test_hostile_names_are_data(tmp_path: Path, name: str) -> None:
    assert re.fullmatch(r"planish_open_\w{1,80}", entry_name(name), re.ASCII)
    app = make(tmp_path / "app", "exe", name=name)
    assert run(app, "info").stdout.startswith("model ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app"]


@pytest.mark.parametrize("command", ["gcc", "clang", "ziglang"])
def test_with_each_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    if command == "ziglang" and not importlib.util.find_spec("ziglang"):
        pytest.skip("the package ziglang is not installed")
    monkeypatch.setenv(
        "CC", f"{sys.executable} -m ziglang cc -fno-sanitize=all" if command == "ziglang" else tool(command)
    )
    app = make(tmp_path / "app", "exe")
    run(tool("strip"), app)
    assert "self-test passed" in run(app, "self-test").stdout
    check_library(make(tmp_path / "fake.so", "lib"))


def test_permissions_follow_the_umask(library: Path, executable: Path) -> None:
    assert executable.stat().st_mode & stat.S_IXUSR
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(executable.stat().st_mode) == 0o777 & ~mask


# ---- errors: one clear message, nothing half-written ----


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", dict[str, object]().get)
    with pytest.raises(LinkError, match="no C compiler found: install gcc or clang"):
        link([], [], 0, "lib", tmp_path / "x.so", name="x")


def test_wrong_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", str(tmp_path / "absent"))
    with pytest.raises(LinkError, match="environment variable CC: cannot run"):
        link([], [], 0, "lib", tmp_path / "x.so", name="x")


def test_failing_link_leaves_the_old_file(tmp_path: Path) -> None:
    out = tmp_path / "x.so"
    out.write_text("old")
    with pytest.raises(LinkError, match="linking: .* failed with status 1"):
        link([b"not an object"], [], 0, "lib", out, name="x")
    assert out.read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_unwritable_places(tmp_path: Path) -> None:
    for out, text in (
        (tmp_path / "absent" / "x.so", "No such file or directory; make its folder first"),
        (tmp_path, "it is a folder"),
        (Path("/dev/null"), "it is a device or pipe"),
        (Path("/proc/x.so"), "cannot write"),
    ):
        with pytest.raises(LinkError, match=text):
            link([fake_object()], [TABLE.tobytes()], TABLE.nbytes, "lib", out, name="x")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(link_module, "embed_weights", fail)
    with pytest.raises(LinkError, match="No space left on device: 128 bytes of weights to write, .* free"):
        make(tmp_path / "x.so", "lib")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("chunks", [[b"123"], [b"12345"], []])
@pytest.mark.parametrize("emit", ["lib", "obj"])
def test_wrong_amount_of_weights(tmp_path: Path, chunks: list[bytes], emit: Emit) -> None:
    with pytest.raises(ValueError, match="weights: expected 4 bytes, got"):
        link([fake_object("-DFAKE_WEIGHTS=4")], chunks, 4, emit, tmp_path / "x", name="x")
    assert not list(tmp_path.iterdir())


def test_a_file_without_placeholder(tmp_path: Path) -> None:
    for content, text in (
        (b"hello", "64-bit little-endian ELF"),
        (Path("/bin/true").read_bytes(), "no section .lrodata"),
    ):
        (tmp_path / "x").write_bytes(content.ljust(64, b"\0"))
        with (tmp_path / "x").open("r+b") as file, pytest.raises(ElfError, match=text):
            embed_weights(file, [b"1234"], 4)


# ---- the cache of the compiled runtime ----


def test_cache_is_private_and_repaired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = toolchain.find_compiler()
    objects = toolchain.runtime_objects(found)
    folder = tmp_path / "cache" / "planish"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    before = objects["pool"].stat().st_mtime_ns
    assert toolchain.runtime_objects(found)["pool"].stat().st_mtime_ns == before
    content = objects["pool"].read_bytes()
    objects["pool"].write_bytes(b"somebody else's code")
    assert toolchain.runtime_objects(found)["pool"].read_bytes() == content
    assert [path for path in folder.iterdir() if path.name.startswith("building")] == []
    folder.chmod(0o777)
    with pytest.raises(LinkError, match="others may write"):
        toolchain.runtime_objects(found)


def test_cache_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    with pytest.raises(LinkError, match="belongs to another user"):
        toolchain.cache_folder()


# ---- a CPU that lacks features ----


def test_missing_features_are_named(tmp_path: Path) -> None:
    app = make(tmp_path / "app", "exe", flags=['-DFAKE_FEATURES="no-such"'])
    done = run(app, "info", ok=False)
    assert done.returncode == 1
    assert done.stderr == (
        "app: this CPU lacks features that the code was compiled for: no-such; compile the model for an older CPU, "
        "for example with --cpu x86-64-v3\n"
    )


def test_under_an_older_cpu(tmp_path: Path) -> None:
    qemu = shutil.which("qemu-x86_64")
    if not qemu:
        pytest.skip("qemu-x86_64 is not installed (Debian: apt install qemu-user)")
    new = make(tmp_path / "new", "exe", flags=['-DFAKE_FEATURES="avx2","avx512f","avx512vl"'])
    done = subprocess.run([qemu, "-cpu", "Haswell", str(new), "self-test"], capture_output=True, text=True)
    assert done.returncode == 1 and "compiled for: avx512f, avx512vl;" in done.stderr
    old = make(tmp_path / "old", "exe", flags=['-DFAKE_FEATURES="avx2","fma","bmi2"'])
    done = subprocess.run([qemu, "-cpu", "Haswell", str(old), "self-test"], capture_output=True, text=True)
    assert done.returncode == 0 and "self-test passed" in done.stdout, done.stderr
