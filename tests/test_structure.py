"""The shape of the project itself: layers, packaging, file sizes, docstrings, and what importing the runtime loads."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]

# What each folder may import of ours; itself is always allowed. `driver` and `serving` may import everything.
ARROWS: dict[str, set[str]] = {
    "ir": set(),
    "runtime": set(),
    "frontend": {"ir"},
    "passes": {"ir"},
    "codegen": {"ir", "runtime"},
    "writers": {"ir"},
}
FREE = {"driver", "serving"}
# Emitters see kernels and programs, never tensor operations.
FORBIDDEN = {"codegen/llvm": ("ir.ops",), "codegen/cuda": ("ir.ops",)}
RUNTIME_MAY_IMPORT = {"numpy"}
# Taken if the user has it, done without if not.
RUNTIME_MAY_LOOK_FOR = {"runtime/dtypes.py": "ml_dtypes"}


def folders() -> dict[str, str]:
    """Package name -> top-level folder, as pyproject.toml maps them."""
    return dict(SETUPTOOLS["package-dir"])


def sources(folder: str) -> Iterator[Path]:
    """Every Python file of a top-level folder."""
    return (path for path in sorted((ROOT / folder).rglob("*.py")) if "__pycache__" not in path.parts)


def module_of(path: Path) -> list[str]:
    """`ir/ops/nn.py` -> `["ir", "ops", "nn"]`, `ir/__init__.py` -> `["ir", "__init__"]`."""
    return list(path.relative_to(ROOT).with_suffix("").parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything a file imports, wherever it stands: functions, TYPE_CHECKING, `if`.

    Ours come out by folder: `from ..ir.core import Op` in passes/x.py is `planish.ir.core.Op`.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = ["planish", *module_of(path)[: -node.level]]
                base = ".".join([*package, base] if base else package)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def our_files() -> list[Path]:
    """Every Python file of the package."""
    return [path for folder in sorted(set(folders().values())) for path in sources(folder)]


@pytest.mark.parametrize("folder", sorted(ARROWS))
def test_layers_point_one_way(folder: str) -> None:
    wrong: list[str] = []
    for path in sources(folder):
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "planish":
                continue
            target = parts[1] if len(parts) > 1 else ""
            if target != folder and target not in ARROWS[folder]:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {folder} may not import {name}")
    assert not wrong, "\n".join(wrong)


def test_every_top_level_package_has_a_layer() -> None:
    assert set(folders().values()) == set(ARROWS) | (FREE & set(folders().values()))


@pytest.mark.parametrize("folder", sorted(folder for folder in FORBIDDEN if (ROOT / folder).exists()))
def test_emitters_never_see_tensor_operations(folder: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources(folder)
        for line, name in imports(path)
        for banned in FORBIDDEN[folder]
        if f"{name}.".startswith(f"planish.{banned}.")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_runtime_imports_numpy_and_the_standard_library_only() -> None:
    allowed = RUNTIME_MAY_IMPORT | {"planish"} | set(sys.stdlib_module_names)
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources("runtime")
        for line, name in imports(path)
        if name.split(".")[0] not in allowed | {RUNTIME_MAY_LOOK_FOR.get(path.relative_to(ROOT).as_posix(), "")}
    ]
    assert not wrong, "\n".join(wrong)


def test_inside_the_package_imports_are_relative() -> None:
    """Except in driver/: pyright sees two classes where one file is imported by both names (STYLE of the layout)."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in our_files()
        if path.relative_to(ROOT).parts[0] not in FREE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "planish"
    ]
    assert not wrong, "\n".join(wrong)


LIGHT = """
import sys
import planish, planish.runtime
heavy = {"onnx", "llvmlite", "jinja2", "rich", "ml_dtypes"} & set(sys.modules)
ours = {name for name in sys.modules if name.startswith("planish.") and not name.startswith("planish.runtime")}
print(*sorted(heavy | (ours - {"planish._version"})))
"""


def test_importing_the_runtime_loads_neither_compiler_nor_model_libraries() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.split() == []


def test_packages_in_pyproject_are_the_packages_on_disk() -> None:
    """A package missing from the list works in an editable install and is absent from the wheel."""
    found: set[str] = set()
    for package, folder in folders().items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inside = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *inside]))
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_every_folder_with_python_files_is_a_package() -> None:
    without = {path.parent for path in our_files() if not (path.parent / "__init__.py").exists()}
    assert not without


def data_files() -> list[Path]:
    """Every file of the package that is neither Python nor made by a tool."""
    found: list[Path] = []
    for folder in set(folders().values()):
        for path in (ROOT / folder).rglob("*"):
            hidden = any(part.startswith((".", "__pycache__")) for part in path.relative_to(ROOT).parts)
            if path.is_file() and path.suffix not in {".py", ".pyc"} and not hidden:
                found.append(path)
    return found


def test_data_files_on_disk_are_in_pyproject() -> None:
    patterns = [
        f"{folders().get(package, package.removeprefix('planish.').replace('.', '/'))}/{pattern}"
        for package, listed in SETUPTOOLS["package-data"].items()
        for pattern in listed
    ]
    missing = [
        name
        for name in (path.relative_to(ROOT).as_posix() for path in data_files())
        if not any(fnmatch(name, pattern) or fnmatch(name, pattern.replace("**/", "")) for pattern in patterns)
    ]
    assert not missing, f"not in [tool.setuptools.package-data]: {missing}"


def test_links_for_pyright_are_complete() -> None:
    """`.links/planish` shows pyright the package as it is installed (it cannot follow the editable finder)."""
    expected = {folder: ROOT / folder for folder in folders().values() if folder != "driver"}
    for path in (ROOT / "driver").iterdir():
        if not path.name.startswith("__pycache__"):
            expected[path.name] = path
    links = {link.name: link.resolve() for link in (ROOT / ".links" / "planish").iterdir()}
    assert links == expected, "run 'make links'"


def test_files_stay_below_500_lines() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in our_files() if (lines := len(_lines(path))) > 500}
    assert not long


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_every_module_has_a_docstring() -> None:
    files = [*our_files(), *sources("tests"), *sources("examples")]
    without = [
        str(path.relative_to(ROOT))
        for path in files
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not without


def test_the_version_is_written_once() -> None:
    import planish
    from planish._version import __version__

    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert planish.__version__ == __version__
