"""What kind of file the user gave, and the sections of an artifact; also for files that are cut off or not ELF."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from planish.files import Kind, kind_of, sections_of

SOURCE = "const char weights[5000] = {1}; int counter = 3; int main(void) { return counter - 3; }\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an executable, a library, an object and a static library of the same program."""
    folder = tmp_path_factory.mktemp("built")
    (folder / "x.c").write_text(SOURCE)
    for command in ["cc x.c -o exe", "cc -shared -fPIC x.c -o lib.so", "cc -c x.c -o x.o", "ar rcs x.a x.o"]:
        subprocess.run(command.split(), cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("exe", Kind.EXECUTABLE),
        ("lib.so", Kind.LIBRARY),
        ("x.o", Kind.OBJECT),
        ("x.a", Kind.STATIC),
        ("x.c", Kind.MODEL),
    ],
)
def test_the_kind_is_read_from_the_content(built: Path, name: str, kind: Kind) -> None:
    assert kind_of(built / name) is kind


def test_sections_have_roles_and_sizes(built: Path) -> None:
    sections = {section.name: section for section in sections_of(built / "exe")}
    assert sections[".text"].role == "code"
    assert sections[".data"].role == "data"
    assert sections[".rodata"].role == "constants"
    assert sections[".rodata"].size >= 5000
    assert ".symtab" not in sections


@pytest.mark.parametrize("length", [0, 3, 63, 64, 100, 5000])
def test_a_file_that_is_cut_off_is_no_crash(built: Path, tmp_path: Path, length: int) -> None:
    file = tmp_path / "cut"
    file.write_bytes((built / "exe").read_bytes()[:length])
    assert kind_of(file) in (Kind.MODEL, Kind.LIBRARY, Kind.EXECUTABLE)
    assert sections_of(file) == []


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kind_of(tmp_path / "no")
