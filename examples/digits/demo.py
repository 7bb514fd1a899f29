"""Compile the digit classifier into ONE executable and run that executable on 20 pictures it has never seen.

    make demo                          # or: python examples/digits/demo.py, with planish installed

Python only starts the programs and draws what they answer: the digit, its probability and the time come from the
executable, which reads one `.npy` picture and writes its answer as `.npz`, as it would on a machine without Python.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
SHADES = " .:*#"
ACROSS = 5


@dataclass
class Answer:
    """What the executable said about one picture; `milliseconds` is from starting the process to its end."""

    picture: NDArray[np.float32]
    label: int
    digit: int
    probability: float
    milliseconds: float

    def lines(self) -> list[str]:
        """The picture in characters, two for each pixel, and the answer under it; every line 18 wide."""
        shade = (self.picture * (len(SHADES) - 1) + 0.5).astype(int)
        drawn = ["".join(SHADES[v] * 2 for v in row) for row in shade]
        verdict = "" if self.digit == self.label else f" (is {self.label})"
        drawn += [f"{self.digit}  {self.probability:.1%}{verdict}", f"{self.milliseconds:.2f} ms", ""]
        return [line.ljust(18) for line in drawn]


def run(folder: Path, *command: str | Path) -> str:
    """Run a program in `folder` and return what it prints; if it fails, so does the demo, after its own message."""
    done = subprocess.run([str(word) for word in command], cwd=folder, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"demo: {Path(command[0]).name} ended with status {done.returncode}")
    return done.stdout.rstrip()


def compile_digits(folder: Path) -> Path:
    """The executable, compiled for this machine."""
    command = [sys.executable, "-m", "planish", "compile", HERE / "digits.onnx", "-o", "digits", "--emit", "exe"]
    print("$ planish compile examples/digits/digits.onnx -o digits --emit exe", flush=True)
    start = time.perf_counter()
    said = run(folder, *command)
    print(f"{said}\n(compiled in {time.perf_counter() - start:.2f} s)\n" if said else "", flush=True)
    return folder / "digits"


def classify(app: Path, picture: NDArray[np.float32], label: int) -> Answer:
    """Run the executable on one picture: `.npy` in, `.npz` out."""
    given, answered = app.with_name("picture.npy"), app.with_name("answer.npz")
    np.save(given, picture[None])
    start = time.perf_counter()
    run(app.parent, app, "run", "--input", f"image={given}", "-o", answered)
    milliseconds = (time.perf_counter() - start) * 1e3
    with np.load(answered) as outputs:
        probability: NDArray[np.float32] = outputs["probability"][0]
    digit = int(probability.argmax())
    return Answer(picture[0], label, digit, float(probability[digit]), milliseconds)


def main() -> None:
    """Compile, classify, and show the executable."""
    parser = argparse.ArgumentParser(description="Compile the digit classifier and run the executable on pictures.")
    parser.add_argument("-o", "--output", type=Path, default=HERE / "build", help="folder for the executable")
    folder: Path = parser.parse_args().output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    app = compile_digits(folder)

    with np.load(HERE / "pictures.npz") as file:
        pictures, labels = file["image"], file["label"]
    print("$ ./digits run --input image=picture.npy -o answer.npz      # once for each picture\n")
    answers = [classify(app, picture, int(label)) for picture, label in zip(pictures, labels, strict=True)]
    for row in range(0, len(answers), ACROSS):
        for line in zip(*(answer.lines() for answer in answers[row : row + ACROSS]), strict=True):
            print("  ".join(line).rstrip())

    right = sum(answer.digit == answer.label for answer in answers)
    typical = sorted(answer.milliseconds for answer in answers)[len(answers) // 2]
    print(f"{right} of {len(answers)} right; from process start to answer on disk {typical:.2f} ms (median)\n")
    print(f"$ ./digits bench\n{run(folder, app, 'bench')}\n")
    print(f"one file, {app.stat().st_size:,} bytes, code and weights; linked to:")
    print(run(folder, "ldd", app) if shutil.which("ldd") else "  (ldd is not installed here)")
    if right < 19:
        sys.exit(f"demo: expected at least 19 of {len(answers)} pictures right, got {right}")


if __name__ == "__main__":
    main()
