"""Runs artifacts in a process of its own, in which importing onnx, llvmlite or planish.ir fails.

The parent sends (path, inputs in order) and gets the outputs, or the text of an error. One process serves many tests;
after a crash a new one is started.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

FORBIDDEN = ("onnx", "llvmlite", "planish.ir", "planish.frontend", "planish.codegen", "planish.passes")


class RunError(Exception):
    """The run ended with an error; the text is the runtime's."""


class Runner:
    """The child process."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None

    def run(self, artifact: Path, inputs: list[Any]) -> list[Any]:
        """The outputs of an artifact. Raises `RunError`, also where the process dies."""
        if self.child is None or self.child.poll() is not None:
            command = [sys.executable, str(Path(__file__)), "--serve"]
            self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.child.stdin is not None and self.child.stdout is not None
        try:
            _send(self.child.stdin, (str(artifact), inputs))
            good, result = _receive(self.child.stdout)
        except (EOFError, BrokenPipeError):
            raise RunError(f"the process ended with status {self.child.wait()}") from None
        if not good:
            raise RunError(result)
        return result


def _send(stream: BinaryIO | Any, value: object) -> None:
    data = pickle.dumps(value)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> Any:
    size = stream.read(8)
    if len(size) < 8:
        raise EOFError
    return pickle.loads(stream.read(int.from_bytes(size, "little")))


class Forbid:
    """An import hook that refuses modules."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Raise for what compiled code must not need."""
        del path, target
        if any(name == f or name.startswith(f + ".") for f in FORBIDDEN):
            raise ImportError(f"{name} is not there")


def _serve() -> None:
    sys.path = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).parent]
    sys.meta_path.insert(0, Forbid())  # type: ignore[arg-type]
    from planish.runtime import load

    while True:
        try:
            path, inputs = _receive(sys.stdin.buffer)
        except EOFError:
            return
        try:
            model = load(path, threads=1)
            named = {port.name: value for port, value in zip(model.inputs, inputs, strict=False)}
            answer: tuple[bool, Any] = (True, list(model.run(named).values()))
        except Exception as e:
            answer = (False, f"{type(e).__name__}: {e}")
        _send(sys.stdout.buffer, answer)


if __name__ == "__main__":
    _serve()
