"""planish: an ahead-of-time compiler for deep-learning models.

The public names are loaded on first use, so that `import planish` and `import planish.runtime` stay light: a machine
that only runs artifacts needs neither onnx nor llvmlite nor jinja2.

    model = planish.compile("net.onnx")          # needs the compiler
    model = planish.load("net.so")               # needs NumPy only
    outputs = model.run({"image": picture})
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from planish._version import __version__

if TYPE_CHECKING:
    from planish.compile import compile
    from planish.exporting import export
    from planish.runtime import load
    from planish.session import InferenceSession

__all__ = ["InferenceSession", "__version__", "compile", "export", "load"]

_LAZY = {
    "InferenceSession": "planish.session",
    "compile": "planish.compile",
    "export": "planish.exporting",
    "load": "planish.runtime",
}


def __getattr__(name: str) -> object:
    """Import the module that defines the public name `name` when it is asked for the first time."""
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'planish' has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `planish.compile` the function: importing the module of that name would put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _LAZY and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
