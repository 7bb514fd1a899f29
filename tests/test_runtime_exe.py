"""The executable: its command line, its files, its messages."""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from _artifact import expected_y, make, run, sample_inputs


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("exe") / "app", "exe", name='my "model"\n')


def refused(app: Path, *arguments: object, status: int = 1) -> str:
    """What the program says on standard error when it ends with `status`."""
    done = run(app, *arguments, ok=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr.startswith("app: ") and done.stderr.count("\n") == 1
    return done.stderr[5:-1]


def test_run_from_npz(app: Path, tmp_path: Path) -> None:
    inputs = sample_inputs()
    np.savez(tmp_path / "in.npz", allow_pickle=False, **inputs)
    run(app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert out.files == ["y", "total", "last"]
        assert np.array_equal(out["y"], expected_y(inputs)) and out["y"].dtype == np.float32
        assert out["last"].shape == () and out["last"] == 31
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.npz"]


def test_run_from_npy(app: Path, tmp_path: Path) -> None:
    inputs = sample_inputs()
    folder = tmp_path / "a=b"
    folder.mkdir()
    np.save(folder / "x.npy", np.asfortranarray(inputs["x"]))
    np.save(folder / "i.npy", inputs["index"])
    files = ["--input", f"x={folder}/x.npy", f"--input=index={folder}/i.npy"]
    run(app, "run", *files, "--output", folder / "out.npz", "--threads", 1)
    with np.load(folder / "out.npz") as out:
        assert np.array_equal(out["y"], expected_y(inputs))
    summary = run(app, "run", *files).stdout.splitlines()
    assert summary[0].startswith("'y' f32[5,4] ") and summary[2] == "'last' f32[] 31"


def data_offsets(path: Path) -> dict[str, int]:
    """Where the elements of each array of an .npz begin in the file."""
    offsets: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        for member in archive.infolist():
            file.seek(member.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            file.seek(name + extra, os.SEEK_CUR)
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            offsets[member.filename.removesuffix(".npy")] = file.tell()
    return offsets


@pytest.mark.parametrize("rows", [0, 5, 50_000])
def test_outputs_are_written_in_place_and_can_be_inputs_in_place(app: Path, tmp_path: Path, rows: int) -> None:
    inputs = sample_inputs(rows)
    np.savez(tmp_path / "in.npz", allow_pickle=False, **inputs)
    run(app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert all(offset % 64 == 0 for offset in data_offsets(tmp_path / "out.npz").values())
    again = run(app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")  # over the old one
    assert again.stderr == ""
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["y"], expected_y(inputs))


@pytest.mark.parametrize("pad", range(4))
def test_inputs_at_any_place_of_the_file(app: Path, tmp_path: Path, pad: int) -> None:
    inputs = sample_inputs(50_000)
    with zipfile.ZipFile(tmp_path / "in.npz", "w") as archive:
        for name, array in inputs.items():
            content = io.BytesIO()
            np.save(content, array)
            info = zipfile.ZipInfo(f"{name}.npy")
            info.extra = struct.pack("<HH", 0xD935, pad) + bytes(pad)
            archive.writestr(info, content.getvalue())
    run(app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["y"], expected_y(inputs))


def test_large_inputs_and_outputs_are_no_anonymous_memory(app: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", allow_pickle=False, **sample_inputs(1_000_000))
    found = json.loads(run(app, "bench", "--inputs", tmp_path / "in.npz", "--runs", 1, "--json").stdout)
    assert found["bound_mb"] > 39 and found["anonymous_mb"] < found["arena_mb"] + 8


def test_a_run_that_fails_leaves_the_old_output(app: Path, tmp_path: Path) -> None:
    inputs = sample_inputs(50_000)
    inputs["index"][-1] = 99
    np.savez(tmp_path / "in.npz", allow_pickle=False, **inputs)
    (tmp_path / "out.npz").write_text("old")
    assert "got 99" in refused(app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.npz"]


def test_same_inputs_give_the_same_file(app: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", allow_pickle=False, **sample_inputs())
    for name in ("one.npz", "two.npz"):
        run(app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / name)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_info(app: Path) -> None:
    assert run(app, "info").stdout == (
        "model     'my \"model\"\\x0a'\n"
        "inputs    'x' f32[N,4]\n"
        "          'index' i64[N]\n"
        "outputs   'y' f32[N,4]\n"
        "          'total' f32[]\n"
        "          'last' f32[]\n"
        "weights   0.00 MB\n"
        "cpu       sse2\n"
        "self-test yes\n"
    )
    assert json.loads(run(app, "info", "--json").stdout)["symbols"] == ["N"]


def test_bench(app: Path) -> None:
    assert "median" in run(app, "bench", "--runs", 5).stdout
    found = json.loads(run(app, "bench", "--runs", 5, "--threads", 1, "--json").stdout)
    assert found["model"] == 'my "model"\n' and found["runs"] == 5 and found["threads"] == 1
    assert found["min_ms"] <= found["median_ms"] <= found["p90_ms"]


def test_peak_memory_is_that_of_the_program_not_of_who_started_it(app: Path) -> None:
    # exec hands the resource counters on: a child of this script would inherit its 200 MB.
    script = "import os, sys; big = b'x' * (200 << 20); os.execv(sys.argv[1], sys.argv[1:])"
    done = run(sys.executable, "-c", script, app, "bench", "--runs", 1, "--json")
    assert 0 < json.loads(done.stdout)["peak_rss_mb"] < 100


def test_self_test(app: Path, tmp_path: Path) -> None:
    assert run(app, "self-test").stdout.startswith("self-test passed: 1 values and the sums of 3 outputs")
    content = app.read_bytes()
    at = content.rindex(np.float32(31).tobytes())
    (tmp_path / "app").write_bytes(content[:at] + np.float32(32).tobytes() + content[at + 4 :])
    (tmp_path / "app").chmod(0o755)
    assert refused(tmp_path / "app", "self-test") == "output 'last': element 0: expected 31, got 32"


def test_help(app: Path) -> None:
    for arguments in (["--help"], ["run", "-h"]):
        assert run(app, *arguments).stdout.startswith("usage: app COMMAND")
    done = run(app, ok=False)
    assert done.returncode == 2 and done.stderr.startswith("usage: app COMMAND")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["fly"], "unknown command 'fly'; see app --help"),
        (["run", "--fly"], "unknown option '--fly'"),
        (["info", "--runs", "3"], "unknown option '--runs'"),
        (["run", "-o"], "a value must follow '-o'"),
        (["run", "--input", "x"], "--input: expected NAME=FILE.npy, got 'x'"),
        (["bench", "--runs", "0"], "expected a number of at least 1, got '0'"),
        (["bench", "--threads", "2x"], "expected a number of at least 1, got '2x'"),
        (["bench", "--threads", "99999999999999999999"], "expected a number of at least 1"),
    ],
)
def test_wrong_usage(app: Path, arguments: list[str], text: str) -> None:
    assert text in refused(app, *arguments, status=2)


def test_wrong_inputs(app: Path, tmp_path: Path) -> None:
    inputs = sample_inputs()

    def save(name: str, **arrays: np.ndarray) -> Path:
        np.savez(tmp_path / name, allow_pickle=False, **arrays)
        return tmp_path / name

    cases = [
        (save("none.npz"), "missing inputs: 'x' (f32[N,4]), 'index' (i64[N]); give them with --input"),
        (save("one.npz", x=inputs["x"]), "missing inputs: 'index' (i64[N]);"),
        (save("more.npz", **inputs, z=np.zeros(1)), "the model has no input 'z'; app info lists its inputs"),
        (save("type.npz", x=inputs["x"].astype("f8"), index=inputs["index"]), "input 'x': type: expected f32, got f64"),
        (save("shape.npz", x=inputs["x"][:, :2], index=inputs["index"]), "input 'x': shape: expected [N,4], got [5,2]"),
        (save("rank.npz", x=inputs["x"][0], index=inputs["index"]), "input 'x': shape: expected [N,4], got [4]"),
        (save("symbol.npz", x=inputs["x"][:2], index=inputs["index"]), "expected 2 as in input 'x', got 5"),
        (save("range.npz", x=inputs["x"], index=inputs["index"] + 8), "index: expected 0 to 7, got"),
        (save("raw.npz", **inputs, **{"x:bf16": np.zeros((5, 4), "u2")}), "input 'x': type: expected f32, got bf16"),
        (tmp_path / "absent.npz", "cannot be opened: No such file or directory"),
    ]
    for path, text in cases:
        assert text in refused(app, "run", "--inputs", path), path
    np.savez_compressed(tmp_path / "small.npz", allow_pickle=False, **inputs)
    assert "save it with numpy.savez instead" in refused(app, "run", "--inputs", tmp_path / "small.npz")


def test_unwritable_output(app: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", allow_pickle=False, **sample_inputs())
    for out, text in (
        (tmp_path / "absent" / "out.npz", "cannot be written: No such file or directory"),
        (tmp_path, "cannot be written: Is a directory"),
        (Path("/dev/full"), "cannot be written: Invalid argument"),
    ):
        assert text in refused(app, "run", "--inputs", tmp_path / "in.npz", "-o", out)
    assert [path.name for path in tmp_path.iterdir()] == ["in.npz"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([app, "info"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr == "app: standard output: cannot be written\n"


def test_full_disk_leaves_the_old_output(app: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", allow_pickle=False, **sample_inputs(100_000))
    (tmp_path / "out.npz").write_text("old")

    def limit() -> None:  # files may not grow beyond 64 kB: the write fails as on a full disk
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    command = [app, "run", "--inputs", tmp_path / "in.npz", "-o", tmp_path / "out.npz"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1 and "cannot be written: File too large" in done.stderr
    assert (tmp_path / "out.npz").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.npz", "out.npz"]


def test_one_thread_is_one_thread(app: Path) -> None:
    """With one CPU the pool has one thread, whatever is asked for."""
    cpu = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [app, "bench", "--runs", "1", "--threads", "8", "--json"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )
    assert json.loads(done.stdout)["threads"] == 1
