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
from types import TracebackType
from typing import IO, Any, Self

from ...ir.errors import PlanishError
from ...ir.target_info import TargetInfo
from .objects import compile_object

WORTH_A_CHILD = 4  # jobs that pay for starting a process


@dataclass(frozen=True)
class Job:
    """LLVM IR text to compile; `name` is what an error shows; `quick`: with few of LLVM's passes."""

    name: str
    text: str
    quick: bool = False


class Crew:
    """Child processes that compile jobs as they come, so that LLVM works while more code is written.

    A child starts when there are jobs enough to pay for it; a few jobs are compiled in this process, at the end. Of the
    jobs that wait the longest goes first, so that no process is left with a long one at the end.
    """

    def __init__(self, target: TargetInfo, opt: int = 3, workers: int = 1) -> None:
        self._target, self._opt, self._workers = target, opt, workers
        self._jobs: list[Job] = []
        self._results: dict[int, bytes] = {}
        self._failures: list[str] = []
        self._waiting: queue.PriorityQueue[tuple[int, int]] = queue.PriorityQueue()
        self._children: list[threading.Thread] = []

    def add(self, job: Job) -> None:
        """One more job."""
        self._jobs.append(job)
        self._waiting.put((-len(job.text), len(self._jobs) - 1))
        # One process would only repeat what this one can do: the first two start together.
        wanted = min(self._workers, len(self._jobs) // WORTH_A_CHILD)
        while wanted >= 2 and len(self._children) < wanted:
            child = threading.Thread(target=self._feed)
            self._children.append(child)
            child.start()

    def finish(self) -> list[bytes]:
        """The objects of all jobs, in their order; the same for any number of workers. Raises `PlanishError`."""
        if not self._children:
            return [compile_object(job.text, self._target, 0 if job.quick else self._opt) for job in self._jobs]
        self._end()
        if self._failures:
            raise PlanishError(self._failures[0])
        return [self._results[index] for index in range(len(self._jobs))]

    def _end(self) -> None:
        for _ in self._children:
            self._waiting.put((1, -1))  # behind all jobs
        for child in self._children:
            child.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is not None:  # nobody wants the rest
            self._failures.append(str(error))
            self._end()

    def _feed(self) -> None:
        """One thread: gives jobs to one child until there are no more or one has failed."""
        command = [sys.executable, "-m", "planish.codegen.llvm.worker"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdin is not None and child.stdout is not None
            while not self._failures:
                _, index = self._waiting.get()
                if index < 0:
                    break
                job = self._jobs[index]
                request = {"text": job.text, "target": asdict(self._target), "opt": 0 if job.quick else self._opt}
                try:
                    _send(child.stdin, json.dumps(request).encode())
                    status, *answer = _receive(child.stdout)
                except (OSError, EOFError, ValueError):
                    failure = f"compiling {job.name}: the compiler process ended with status {child.wait()}"
                    self._failures.append(failure)
                    return
                if status:
                    self._failures.append(f"compiling {job.name}: {bytes(answer).decode()}")
                    return
                self._results[index] = bytes(answer)
            with contextlib.suppress(OSError):
                child.stdin.close()


def compile_all(jobs: Sequence[Job], target: TargetInfo, *, opt: int = 3, workers: int = 1) -> list[bytes]:
    """Objects of `jobs`, in their order. The result does not depend on `workers`."""
    with Crew(target, opt, workers) as crew:
        for job in jobs:
            crew.add(job)
        return crew.finish()


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
