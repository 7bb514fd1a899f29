"""The wheel: it holds the whole package and nothing else, and works in a fresh environment from another folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
FOLDERS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
    "package-dir"
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built from a copy: setuptools would take stale files from a `build` folder."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    out = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(out)]
    done = subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = out.glob("planish-*.whl")
    return found


@pytest.fixture(scope="module")
def fresh_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel installed; what planish depends on is borrowed from this environment, not planish."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    # A path named in a .pth file does not have its own .pth files read: the editable planish stays out.
    (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return python


def package_files() -> set[str]:
    """Every file of the package as a wheel names it."""
    nested = sorted(FOLDERS.items(), key=lambda item: -len(item[1]))
    found: set[str] = set()
    for package, folder in nested:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(f"{package.replace('.', '/')}/{path.relative_to(ROOT / folder).as_posix()}")
    return found


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == package_files()


def test_the_wheel_states_its_license_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {name.split(".dist-info/")[1]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "planish = planish.cli:main" in archive.read(info["entry_points.txt"]).decode()
        assert "License-Expression: Apache-2.0" in archive.read(info["METADATA"]).decode()
        assert "licenses/LICENSE" in info


def run(python: Path, *words: str | Path) -> str:
    """Standard output of the fresh Python, started in the root folder."""
    done = subprocess.run([python, *map(str, words)], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_installed_package_is_the_wheels(fresh_python: Path) -> None:
    where = run(fresh_python, "-c", "import planish; print(planish.__file__)").strip()
    assert Path(where).is_relative_to(fresh_python.parent.parent)
    assert run(fresh_python, "-m", "planish", "--version").startswith("planish ")


def test_the_installed_package_compiles_and_runs_a_model(fresh_python: Path, tmp_path: Path) -> None:
    digits = ROOT / "examples" / "digits"
    app, picture, answer = tmp_path / "digits", tmp_path / "picture.npy", tmp_path / "answer.npz"
    with np.load(digits / "pictures.npz") as pictures:
        np.save(picture, pictures["image"][6:7])
        label = int(pictures["label"][6])
    said = run(fresh_python, "-m", "planish", "compile", digits / "digits.onnx", "-o", app, "--emit", "exe", "--json")
    assert json.loads(said)["bytes"] == app.stat().st_size
    subprocess.run([app, "run", "--input", f"image={picture}", "-o", answer], check=True)
    with np.load(answer) as outputs:
        assert int(outputs["probability"].argmax()) == label
