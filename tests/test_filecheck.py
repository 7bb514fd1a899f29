"""The FileCheck harness itself: what passes, what fails, and that mistakes in a test file are not passed over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _filecheck import check, misspelt

ROOT = Path(__file__).parent.parent


def test_matching_output_says_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.ir"
    file.write_text("// CHECK: relu\n// CHECK-NEXT: return\n")
    assert check("a\nnn.relu(%x)\nreturn %0\n", file) == ""


@pytest.mark.parametrize("output", ["", "return\n", "relu\nadd\nreturn\n"])
def test_other_output_names_the_line_of_the_check(tmp_path: Path, output: str) -> None:
    file = tmp_path / "x.ir"
    file.write_text("// CHECK: relu\n// CHECK-NEXT: return\n")
    assert re.search(r"x\.ir:[12]: |is empty", check(output, file))


def test_a_file_without_checks_fails(tmp_path: Path) -> None:
    file = tmp_path / "x.ir"
    file.write_text("// RUN: planish opt %s\n")
    assert "No check strings" in check("x\n", file)


def test_each_prefix_has_its_own_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.ir"
    file.write_text("// A: one\n// B: two\n")
    assert check("one\n", file, "A") == ""
    assert check("one\n", file, "B") != ""


def test_misspelt_directives_are_found() -> None:
    text = "// CHECK-NXT: a\n// CHECK-NEXT: b\n// CHECK-COUNT-2: c\n// NOTE-TO: self\n"
    assert misspelt(text, {"CHECK"}) == ["line 1: CHECK-NXT: no such directive"]


TESTS = {
    "good.ir": "// RUN: planish --version\n// CHECK: planish\n",
    "wrong.ir": "// RUN: planish --version\n// CHECK: nothing like it\n",
    "fails.ir": "// RUN-FAIL: planish inspect %s.missing\n// CHECK: fails.ir.missing: no such file\n",
    "unexpected.ir": "// RUN: planish inspect %s.missing\n// CHECK: x\n",
}


def test_ir_files_become_tests(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    folder = pytester.mkdir("filecheck")
    for name, text in TESTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "filecheck")
    result.assert_outcomes(passed=2, failed=2)
    result.stdout.fnmatch_lines(["*expected exit status 0, got 1*", "*nothing like it*"])  # fmt: skip


@pytest.mark.parametrize("text", ["no run line\n", "// RUN: sh -c true\n", "// RUN: planish opt %s | grep x\n"])
def test_a_file_that_is_no_test_is_an_error(pytester: pytest.Pytester, text: str) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    (pytester.mkdir("filecheck") / "x.ir").write_text(text, encoding="utf-8")
    assert pytester.runpytest_inprocess("-p", "no:cacheprovider", "filecheck").ret != 0


def test_golden_files_are_compared_and_written(pytester: pytest.Pytester) -> None:
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile("def test_text(golden): golden('a/b.txt', 'hello')")
    for arguments, outcome in [([], "failed"), (["--update-golden"], "passed"), ([], "passed")]:
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", *arguments)
        result.assert_outcomes(**{outcome: 1})
    assert (pytester.path / "golden" / "a" / "b.txt").read_text(encoding="utf-8") == "hello"
