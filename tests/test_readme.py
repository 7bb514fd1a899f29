"""The README's programs do what it says: Python, C, the pass with its test, the commands' options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from _filecheck import check

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DIGITS = ROOT / "examples" / "digits"

Planish = Callable[..., tuple[int, str, str]]


def blocks(language: str) -> list[str]:
    """The fenced code blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits.so and the headers, in a folder that also has examples/."""
    from planish.cli import main

    folder = tmp_path_factory.mktemp("readme")
    assert main(["compile", str(DIGITS / "digits.onnx"), "-o", str(folder / "digits.so")]) == 0
    (folder / "examples").symlink_to(ROOT / "examples")
    return folder / "digits.so"


def run_python(code: str, folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_compiler_example_prints_what_its_comments_say(library: Path) -> None:
    code = blocks("python")[0]
    assert run_python(code, library.parent) == re.findall(r"print\(.*# (.*)", code)


def test_the_runtime_example_needs_only_the_library(library: Path) -> None:
    code = blocks("python")[1]
    (said,) = run_python(code, library.parent)
    assert said.endswith(" 0")


def test_the_c_example_classifies(library: Path) -> None:
    folder = library.parent
    (code,) = blocks("c")
    (folder / "classify.c").write_text(code, encoding="utf-8")
    (command,) = re.findall(r"^    cc (.*) && ", README, re.MULTILINE)
    command = command.replace("python", sys.executable)
    subprocess.run(f"cc -std=c11 -Wall -Wextra -Werror {command}", cwd=folder, check=True, shell=True)
    done = subprocess.run(["./classify"], cwd=folder, capture_output=True, text=True, check=True)
    probabilities = [float(line.split()[1]) for line in done.stdout.splitlines()]
    assert len(probabilities) == 10
    assert np.sum(probabilities) == pytest.approx(1, abs=0.01)


@pytest.fixture
def example_pass() -> Iterator[None]:
    """The README's pass, registered for one test."""
    from planish.passes import PASSES

    before = dict(PASSES)
    code = blocks("python")[2].replace("from ..ir", "from planish.ir").replace("from .", "from planish.passes.")
    exec(compile(code, "README.md", "exec"), {"__name__": "readme_pass"})
    yield
    PASSES.clear()
    PASSES.update(before)


@pytest.mark.usefixtures("example_pass")
def test_the_example_pass_passes_its_test(planish: Planish, tmp_path: Path) -> None:
    file = tmp_path / "drop_double_relu.ir"
    (text,) = (block for block in blocks("") if "RUN" in block)
    file.write_text(text, encoding="utf-8")
    status, out, err = planish("opt", "-p", "drop-double-relu", file)
    assert status == 0, err
    assert check(out, file) == ""


def test_the_commands_and_options_exist(planish: Planish) -> None:
    shown = re.findall(r"^    planish (\w+)(.*?)(?:#.*)?$", README, re.MULTILINE)
    known = {"bench", "check", "compare", "compile", "export", "inspect", "opt", "run"}
    assert {command for command, _ in shown} == known
    for command, rest in shown:
        _, help_text, _ = planish(command, "--help")
        for option in re.findall(r"(?<= )--?[a-zA-Z][\w-]*", rest):
            assert option in help_text, f"planish {command} {option}"


def test_links_lead_somewhere() -> None:
    missing = [link for link in re.findall(r"\]\((?!http)([^)#]+)\)", README) if not (ROOT / link).exists()]
    assert not missing


def test_the_transcript_is_what_the_demo_prints(tmp_path: Path) -> None:
    """Word for word and picture for picture; times, sizes and probabilities differ between machines."""
    transcript = README.partition("<!-- transcript -->\n```\n")[2].partition("\n```\n<!-- /transcript -->")[0]
    command = [sys.executable, str(DIGITS / "demo.py"), "--output", str(tmp_path)]
    own = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}  # else another test's artifact is taken from there
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=own).stdout

    def masked(text: str) -> list[list[str]]:
        numbers = re.sub(r"\d[\d,]*(\.\d+)?( [kMG]?B)?", "N", text.partition("linked to:")[0])
        return [line.split() for line in numbers.splitlines()]

    assert masked(printed) == masked(transcript)
