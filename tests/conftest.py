"""pytest set-up: `.ir` files as FileCheck tests, golden files, a compile cache of the tests' own.

A file `tests/filecheck/**/*.ir` is one test for each of its RUN lines:

    // RUN: planish opt -p canonicalize %s                                  must exit with status 0
    // RUN-FAIL: planish opt %s                                             must exit with status 1
    // RUN: planish opt -p cse %s | filecheck --check-prefix CSE            checked by the CSE lines

`%s` is the file itself and `%t` a path for a temporary file. The command line runs in this process; what it prints
(for RUN-FAIL: what it prints on standard error) is checked against the file's CHECK lines.
"""

from __future__ import annotations

import io
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from _filecheck import check, misspelt

pytest_plugins = ["pytester"]

TESTS = Path(__file__).parent
_RUN = re.compile(r"//\s*(?P<kind>RUN|RUN-FAIL):\s*(?P<command>.*?)\s*(\|\s*filecheck(?P<options>.*))?$")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes what the code produces now into the golden files; look at the difference in git."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files with the present output")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect `.ir` files under tests/filecheck."""
    if file_path.suffix == ".ir" and TESTS / "filecheck" in file_path.parents:
        return IrFile.from_parent(parent, path=file_path)
    return None


@dataclass(frozen=True)
class RunLine:
    """One RUN line: the words after `planish`, whether it must fail, and the prefix of its CHECK lines."""

    words: tuple[str, ...]
    fails: bool
    prefix: str

    @classmethod
    def parse(cls, match: re.Match[str]) -> RunLine:
        """Read a RUN line; raises `pytest.UsageError` on anything but `planish ... [| filecheck --check-prefix P]`."""
        words = shlex.split(match["command"])
        options = shlex.split((match["options"] or "").replace("=", " ").replace("%s", ""))
        if words[:1] != ["planish"] or not (options == [] or (len(options) == 2 and options[0] == "--check-prefix")):
            raise pytest.UsageError(
                f"{match[0]}: expected 'planish ARGUMENTS' or 'planish ARGUMENTS | filecheck --check-prefix PREFIX'"
            )
        return cls(tuple(words[1:]), match["kind"] == "RUN-FAIL", options[1] if options else "CHECK")


class IrFile(pytest.File):
    """An `.ir` file with RUN and CHECK lines."""

    def collect(self) -> Iterator[IrTest]:
        """One item for each RUN line."""
        text = self.path.read_text(encoding="utf-8")
        runs = [RunLine.parse(match) for line in text.splitlines() if (match := _RUN.match(line.strip()))]
        if not runs:
            raise pytest.UsageError(f"{self.path}: expected at least one '// RUN:' line")
        if wrong := misspelt(text, {run.prefix for run in runs}):
            raise pytest.UsageError(f"{self.path}: " + "; ".join(wrong))
        for index, run in enumerate(runs):
            item = IrTest.from_parent(self, name=f"run{index}")
            item.line = run
            yield item


class CheckFailed(Exception):
    """A RUN line did not do what the file says."""


class IrTest(pytest.Item):
    """One RUN line, run in process."""

    line: RunLine

    def runtest(self) -> None:
        """Run the command and check what it prints."""
        with tempfile.TemporaryDirectory() as scratch:
            words = [word.replace("%s", str(self.path)).replace("%t", f"{scratch}/t") for word in self.line.words]
            status, out, err = run_planish(words)
        shown = f"$ planish {shlex.join(words)}\n--- stdout\n{out}--- stderr\n{err}"
        if status != (1 if self.line.fails else 0):
            raise CheckFailed(f"expected exit status {int(self.line.fails)}, got {status}\n{shown}")
        if said := check(err if self.line.fails else out, self.path, self.line.prefix):
            raise CheckFailed(f"{said}\n{shown}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The message alone for a failed check, a traceback for everything else."""
        if isinstance(excinfo.value, CheckFailed):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where pytest says the test is."""
        return self.path, 0, f"{self.path.name}: {self.name}"


def run_planish(words: list[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `planish WORDS`, run in this process."""
    from planish.cli import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(words)
    return status, out.getvalue(), err.getvalue()


@pytest.fixture
def planish() -> Callable[..., tuple[int, str, str]]:
    """`planish("compile", model, "-o", out) -> (status, stdout, stderr)`: the command line, in process."""
    return lambda *words: run_planish([str(word) for word in words])


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden("llvm/relu.ll", text)`: `text` must equal tests/golden/llvm/relu.ll; `--update-golden` writes it."""

    def compare(name: str, text: str) -> None:
        file = TESTS / "golden" / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        expected = file.read_text(encoding="utf-8") if file.exists() else ""
        assert text == expected, f"{file.relative_to(TESTS)} differs; if that is meant: pytest --update-golden"

    return compare


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile caches go to a folder of this test run, so that no earlier run can make a test pass."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
