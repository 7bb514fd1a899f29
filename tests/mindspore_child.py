"""Run by a Python that has MindSpore (tests/test_export_mindspore.py): loads MindIR files and computes their outputs.

python mindspore_child.py FOLDER      for each NAME.mindir with NAME.in.npz writes NAME.out.npz or NAME.error
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("GLOG_v", "3")  # errors only


def main() -> None:
    """All files of the folder that the command line names."""
    mindspore: Any = import_module("mindspore")
    mindspore.set_context(mode=mindspore.GRAPH_MODE, device_target="CPU")
    for model in sorted(Path(sys.argv[1]).glob("*.mindir")):
        try:
            key = model.with_suffix(".key")
            graph = mindspore.load(str(model), **({"dec_key": key.read_bytes()} if key.exists() else {}))
            given = np.load(model.with_suffix(".in.npz"))
            results: Any = mindspore.nn.GraphCell(graph)(*(mindspore.Tensor(given[name]) for name in given.files))
            outputs: list[Any] = [results] if hasattr(results, "asnumpy") else list(results)
            np.savez(model.with_suffix(".out.npz"), *[output.asnumpy() for output in outputs])
        except Exception as e:  # what fails is told to the test
            model.with_suffix(".error").write_text(f"{type(e).__name__}: {e}", encoding="utf-8")


if __name__ == "__main__":
    main()
