"""Compiling several objects at once: LLVM runs in child processes, since llvmlite holds one lock around every call.

The children are `python -m planish.codegen.llvm.worker`, never `multiprocessing`, which would import the user's
script again. Requests and answers are frames on pipes: a length, then that many bytes of JSON or object code.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import IO, Any

from ...ir.errors import PlanishError
from ...ir.target_info import TargetInfo
from .objects import compile_object

WORTH_A_CHILD = 4  # jobs that pay for starting a process


@dataclass(frozen=True)
class Job:
    """LLVM IR text to compile; `name` is what an error shows."""

    name: str
    text: str


def compile_all(jobs: Sequence[Job], target: TargetInfo, *, opt: int = 3, workers: int = 1) -> list[bytes]:
    """Objects of `jobs`, in their order. The result does not depend on `workers`."""
    children = min(workers, len(jobs) // WORTH_A_CHILD)
    if children < 2:
        return [compile_object(job.text, target, opt) for job in jobs]
    results: list[bytes | None] = [None] * len(jobs)
    failures: list[str] = []
    # Long texts first, so that no process is left with a long one at the end.
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in sorted(range(len(jobs)), key=lambda i: -len(jobs[i].text)):
        todo.put(index)
    threads = [
        threading.Thread(target=_feed, args=(jobs, todo, results, failures, target, opt)) for _ in range(children)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise PlanishError(failures[0])
    return [r for r in results if r is not None]


def _feed(
    jobs: Sequence[Job],
    todo: queue.SimpleQueue[int],
    results: list[bytes | None],
    failures: list[str],
    target: TargetInfo,
    opt: int,
) -> None:
    """One thread: gives jobs to one child until none is left or one has failed."""
    command = [sys.executable, "-m", "planish.codegen.llvm.worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        while not failures:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                break
            job = jobs[index]
            request = {"text": job.text, "target": asdict(target), "opt": opt}
            try:
                _send(child.stdin, json.dumps(request).encode())
                status, *answer = _receive(child.stdout)
            except (OSError, EOFError, ValueError):
                failures.append(f"compiling {job.name}: the compiler process ended with status {child.wait()}")
                return
            if status:
                failures.append(f"compiling {job.name}: {bytes(answer).decode()}")
                return
            results[index] = bytes(answer)
        with contextlib.suppress(OSError):
            child.stdin.close()


def _send(pipe: IO[bytes], data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> bytes:
    head = pipe.read(8)
    if len(head) < 8:
        raise EOFError
    size = int.from_bytes(head, "little")
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main() -> None:
    """The child: answers requests until its input ends. An answer is one status byte, then the object or a message."""
    while True:
        try:
            request: dict[str, Any] = json.loads(_receive(sys.stdin.buffer))
        except EOFError:
            return
        described: dict[str, Any] = request["target"]
        described["features"] = tuple(described["features"])
        target = TargetInfo(**described)
        try:
            answer = b"\0" + compile_object(request["text"], target, request["opt"])
        except PlanishError as error:
            answer = b"\1" + str(error).encode()
        _send(sys.stdout.buffer, answer)


if __name__ == "__main__":
    main()
