"""`planish.InferenceSession`: ONNX Runtime's calls, on a model that is compiled first or on an artifact."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from planish import runtime
from planish.files import Kind, kind_of


class InferenceSession(runtime.InferenceSession):
    """The calls of `onnxruntime.InferenceSession` that programs use to run a model.

    Takes a model file or its bytes, which it compiles (a second session on the same model finds it in the cache), or a
    shared library made by `planish compile`, for which `planish.runtime.InferenceSession` is enough.
    """

    def __init__(
        self,
        path_or_bytes: str | os.PathLike[str] | bytes | runtime.Model,
        sess_options: Any = None,
        providers: Sequence[Any] | None = None,
        provider_options: Sequence[Any] | None = None,
    ) -> None:
        """`sess_options.intra_op_num_threads` limits the threads; other options and providers are ignored.

        Raises `PlanishError` if the model cannot be compiled, `planish.runtime.LoadError` if the library cannot be
        loaded, `OSError` if the file cannot be read.
        """
        known: str | os.PathLike[str] | runtime.Model
        if isinstance(path_or_bytes, bytes) or (
            not isinstance(path_or_bytes, runtime.Model) and kind_of(Path(path_or_bytes)) is Kind.MODEL
        ):
            from planish.compile import compile

            threads = int(getattr(sess_options, "intra_op_num_threads", 0) or 0)
            known = compile(path_or_bytes, threads=threads or None)
        else:
            known = path_or_bytes
        super().__init__(known, sess_options, providers, provider_options)
