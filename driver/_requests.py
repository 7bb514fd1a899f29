"""Worker processes that answer requests: JSON objects, one a line, on standard input, each answered by one line."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def serve(make: Callable[[], object]) -> None:
    """Answer requests until the input ends. `{"do": name, ...}` calls that method of what `make` gives, with the other
    fields; its result is the answer, a failure is `{"error": message}`.

    Answers go where standard output was: libraries print where they like, so descriptor 1 becomes standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    gc.disable()  # no collection in the middle of a timed run; the process is short
    worker = make()
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except Exception as error:
            answer = {"error": " ".join(str(error).split()) or type(error).__name__}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
