"""The C runtime's own tests, under the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import io
import struct
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _artifact import NATIVE, ROOT, compiler

from planish.runtime import Port
from planish.runtime.selftest import seeded_input

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", "-std=c11"]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("native") / "test_native"
    sources = [path for path in NATIVE.glob("*.c") if path.stem != "main" and not path.stem.startswith("cli_")]
    sanitize = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    tests = sorted((ROOT / "tests" / "native").glob("*.c"))
    libraries = ["-lm", "-pthread", "-Wl,--wrap=pthread_create"]  # a test holds new threads back
    command = [compiler(), "-std=c11", *sanitize, "-I", str(NATIVE), *map(str, [*sources, *tests]), *libraries]
    subprocess.run([*command, "-o", str(out)], check=True)
    return out


def run(program: Path, *arguments: object) -> str:
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-1000:]
    assert done.stdout.endswith("ok\n")
    return done.stdout


@pytest.mark.parametrize(
    "test",
    [
        "dtypes",
        "text",
        "pool",
        "late",
        "stall",
        "nested",
        "fork",
        "context",
        "sizes",
        "refusals",
        "failures",
        "profile",
        "values",
        "concurrent",
        "cpu",
        "variants",
        "plan",
    ],
)
def test_native(native: Path, test: str) -> None:
    run(native, test)


def test_sources_compile_without_warnings(tmp_path: Path) -> None:
    for source in sorted(NATIVE.glob("*.c")):
        subprocess.run([compiler(), *WARNINGS, "-O2", "-c", str(source), "-o", str(tmp_path / "x.o")], check=True)


@pytest.mark.parametrize(
    ("proc", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000", "a/cpu.max": "400000 100000"}, 1),
        ("0::/\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/a\n", {"a/cpu.max": "max 100000"}, 0),
        ("0::/a\n", {}, 0),
        ("0::/a\n", {"a/cpu.max": "rubbish"}, 0),
        ("0::/a\n", {"a/cpu.max": "-1 0"}, 0),
        ("0::/a\n", {"a/cpu.max": "999999999999999999999999999 1"}, 1024),
        ("0::/../x\n", {"cpu.max": "100000 100000"}, 0),
        (
            "4:cpu,cpuacct:/g\n3:cpuset:/h\n",
            {"cpu/g/cpu.cfs_quota_us": "250000", "cpu/g/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("4:cpu,cpuacct:/g\n", {"cpu/g/cpu.cfs_quota_us": "-1", "cpu/g/cpu.cfs_period_us": "100000"}, 0),
        ("no colons\n::\n", {}, 0),
    ],
)
def test_quota_of_the_control_group(
    native: Path, tmp_path: Path, proc: str, files: dict[str, str], expected: int
) -> None:
    (tmp_path / "proc").write_text(proc)
    root = tmp_path / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    run(native, "quota", tmp_path / "proc", root, expected)


@pytest.mark.parametrize(
    ("dtype", "lo", "hi"),
    [("f32", -2, 3), ("f64", -1e3, 1e3), ("f16", -2, 3), ("f16", 0, 1e-4), ("bf16", -2, 3), ("bool", 0, 1),
     ("i64", -5, 5), ("i32", 0, 30521), ("u8", 0, 255), ("i8", -128, 127), ("u64", 0, 1000), ("i4", -8, 7),
     ("u4", 0, 15), ("f8e4m3fn", 0, 1), ("f4e2m1", 0, 1)],
)  # fmt: skip
def test_c_and_python_make_the_same_inputs(native: Path, tmp_path: Path, dtype: str, lo: float, hi: float) -> None:
    run(native, "seeded", dtype, lo, hi, tmp_path / "x.npz")
    (made,) = np.load(tmp_path / "x.npz").values()
    expected = seeded_input(Port("x", dtype, ()), 1, 99, (7, 143), lo, hi)
    if dtype in ("i4", "u4", "f4e2m1"):  # one element in a byte
        assert np.array_equal(made, expected.view(np.uint8) & 15)
    else:
        assert np.array_equal(made, expected.view(made.dtype))


# ---- NumPy files: sound ones are read, all others refused, none crashes ----


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array)
    return buffer.getvalue()


def npy_with_header(text: str, data: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode() + data


def npz(**arrays: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def good_files() -> Iterator[tuple[str, bytes]]:
    rng = np.random.default_rng(1)
    for name in ("b1", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", "c8", "c16"):
        yield f"type_{name}.npy", npy(rng.integers(0, 2, (3, 4)).astype(name))
    yield "fortran.npy", npy(np.asfortranarray(rng.random((3, 4, 5))))
    yield "scalar.npy", npy(np.array(3, np.float32))
    yield "empty.npy", npy(np.zeros((0, 3), np.float32))
    yield "empty_fortran.npy", npy(np.asfortranarray(np.zeros((2, 0, 3))))
    yield "version2.npy", npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", b"1234", 2)
    yield "quotes.npy", npy_with_header('{"shape": (2,), "descr": "<i2", "fortran_order": False}', b"1234")
    yield "many.npz", npz(x=rng.random((2, 3)), y=np.arange(7), **{"a/b:0": np.zeros(1), "z:bf16": np.zeros(3, "u2")})
    yield "none.npz", npz()
    yield "nibbles.npz", npz(**{"x:i4": np.arange(5, dtype="u1")})
    with_comment = io.BytesIO()
    with zipfile.ZipFile(with_comment, "w") as archive:
        archive.writestr("x.npy", npy(np.arange(3)))
        archive.comment = b"c" * 500
    yield "comment.npz", with_comment.getvalue()


def bad_files() -> Iterator[tuple[str, bytes, str]]:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"
    yield "nothing.npy", b"", "expected a .npy file"
    yield "text.npy", b"hello, this is not an array", "expected a .npy file"
    yield "version9.npy", npy_with_header(header, bytes(12), 9), "expected a .npy file"
    yield "short.npy", npy(np.arange(9))[:-1], "cut off or damaged"
    yield "long.npy", npy(np.arange(9)) + b"x", "cut off or damaged"
    yield "big_header.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFF0) + b"{}", "header of 4294967280 bytes"
    yield "cut_header.npy", npy(np.arange(9))[:40], "too long or cut off"
    yield "big_endian.npy", npy(np.arange(9).astype(">i4")), "expected little endian"
    yield "objects.npy", npy_with_header("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }"), "type: expected"
    yield "record.npy", npy(np.zeros(3, [("a", "i4"), ("b", "f4")])), "one plain type"
    yield "strings.npy", npy(np.array([b"a", b"bc"])), "type: expected"
    yield "huge.npy", npy_with_header(header.replace("(3,)", "(9223372036854775807, 9223372036854775807)")), "length"
    yield "overflow.npy", npy_with_header(header.replace("(3,)", "(99999999999999999999,)")), "expected a header"
    yield "negative.npy", npy_with_header(header.replace("(3,)", "(-3,)")), "expected a header"
    yield "rank.npy", npy_with_header(header.replace("(3,)", "(" + "1," * 33 + ")"), bytes(4)), "expected a header"
    yield "no_shape.npy", npy_with_header("{'descr': '<f4', 'fortran_order': False}"), "expected a header"
    yield "twice.npy", npy_with_header(header[:-1] + "'shape': (1,), }", bytes(4)), "expected a header"
    yield (
        "code.npy",
        npy_with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os'),)}"),
        "expected",
    )
    yield "unclosed.npy", npy_with_header("{'descr': '<f4"), "expected a header"
    yield "nul.npy", npy_with_header("{'descr': '<f4\0', 'fortran_order': False, 'shape': (3,)}", bytes(12)), "expected"


def bad_archives() -> Iterator[tuple[str, bytes, str]]:
    packed = io.BytesIO()
    np.savez_compressed(packed, x=np.zeros(100))
    yield "compressed.npz", packed.getvalue(), "save it with numpy.savez instead of numpy.savez_compressed"
    yield "nothing.npz", b"", "too short"
    yield "text.npz", b"hello " * 50, "no end-of-archive record"
    damaged = bytearray(npz(x=np.zeros(100)))
    damaged[300] ^= 1
    yield "crc.npz", bytes(damaged), "checksum"
    yield "member.npz", zipped({"x.npy": b"hello, this is not an array"}), "expected a .npy file"
    yield "raw.npz", npz(**{"x:bf16": np.zeros(3, np.float32)}), "expected the raw bits of bf16"
    overlap = bytearray(zipped({"x.npy": npy(np.zeros(500))}))
    at = overlap.index(b"PK\x01\x02")
    end = overlap.index(b"PK\x05\x06")
    entry, record = overlap[at:end], overlap[end:]
    record[8:12] = struct.pack("<HH", 9, 9)
    record[12:16] = struct.pack("<I", len(entry) * 9)
    yield "overlap.npz", bytes(overlap[:at] + entry * 9 + record), "members are longer than the file"


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def outcomes(native: Path, paths: list[Path]) -> list[str]:
    lines = run(native, "files", *paths).splitlines()[:-1]
    assert len(lines) == len(paths)
    return [line.removeprefix(f"{path}: ") for line, path in zip(lines, paths, strict=True)]


def test_sound_files_are_read_and_written(native: Path, tmp_path: Path) -> None:
    paths: list[Path] = []
    for name, data in good_files():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
    assert outcomes(native, paths) == ["read"] * len(paths)
    for path in tmp_path.glob("*.copy"):
        original = np.load(path.with_suffix(""))
        with np.load(path) as copy:
            assert sorted(copy.files) == sorted(original.files)
            for name in copy.files:
                assert np.array_equal(copy[name], original[name])
                assert copy[name].dtype == original[name].dtype


def test_unsound_files_are_refused(native: Path, tmp_path: Path) -> None:
    paths: list[Path] = []
    expected: list[str] = []
    for name, data, text in [*bad_files(), *bad_archives()]:
        paths.append(tmp_path / name)
        paths[-1].write_bytes(data)
        expected.append(text)
    for path, outcome, text in zip(paths, outcomes(native, paths), expected, strict=True):
        assert text in outcome, f"{path.name}: {outcome}"


def test_damaged_files_never_crash(native: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    seeds = dict(good_files())
    paths: list[Path] = []
    for name in ("many.npz", "fortran.npy", "comment.npz", "quotes.npy"):
        for number in range(100):
            data = bytearray(seeds[name])
            for _ in range(int(rng.integers(1, 5))):
                data[int(rng.integers(len(data)))] = int(
                    rng.choice(np.array([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
                )
            if number % 4 == 0:
                del data[int(rng.integers(len(data))) :]
            paths.append(tmp_path / f"{number}_{name}")
            paths[-1].write_bytes(data)
    outcomes(native, paths)


def test_folder_and_device_are_refused(native: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.npy").mkdir()
    found = outcomes(native, [tmp_path / "folder.npy", tmp_path / "absent.npz", Path("/dev/null")])
    assert "regular file" in found[0] and "No such file" in found[1] and "regular file" in found[2]
