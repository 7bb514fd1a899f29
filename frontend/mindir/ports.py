"""Inputs and results of a MindIR model as a compiled model has them: tensors with names, in order.

A tuple that is an input becomes one input for each element ("xs.0", "xs.1"), a Python number an input of shape [] with
NumPy's type for it (f64, i64, bool). Results of nested tuples are output0, output1 ... in order; None and monads among
them are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...ir.errors import ModelError
from ...ir.expr import Expr
from ...ir.types import DTYPES, TensorType
from ..assembly import Assembly, Input, Item, Unsupported, input_types
from ..text import quote
from .branches import leaves_of
from .data import Datum, Parameter, described, holds_function, is_number
from .graph import Interpreter
from .names import bare
from .proto import Abstract, ModelFile, Monad, ScalarAbstract, SequenceAbstract, TensorAbstract, UnknownAbstract


class Ports:
    """The inputs of a model. Raises `ModelError` where the file does not say what they are."""

    def __init__(self, model: ModelFile) -> None:
        self.label = model.label
        self.inputs: list[Input] = []
        self.notes: list[str] = []
        """What the user should know of them."""
        self._names: set[str] = set()
        self._bounds: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        keys = {t.parameter for g in (model.graph, *model.functions) for t in g.parameters}
        self._roots = [
            (self._fresh(bare(i.name)), i.abstract)
            for i in model.graph.inputs
            if not isinstance(i.abstract, Monad) and i.ref_key not in keys
        ]
        for name, abstract in self._roots:
            self.inputs += self._leaves(name, abstract)

    def _fresh(self, name: str) -> str:
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _leaves(self, name: str, abstract: Abstract) -> Iterator[Input]:
        where = f"{self.label}: input {quote(name)}"
        match abstract:
            case TensorAbstract():
                dims = None if abstract.dims is None else tuple(None if d < 0 else d for d in abstract.dims)
                self._bounds[name] = abstract.min_dims, abstract.max_dims
                yield Input(name, self._dtype(abstract.dtype, where), dims)
            case ScalarAbstract():
                yield Input(name, self._dtype(_wide(abstract.dtype), where), ())
            case SequenceAbstract() if not abstract.dynamic:
                for i, item in enumerate(abstract.items):
                    yield from self._leaves(f"{name}.{i}", item)
            case None | Monad():
                return
            case SequenceAbstract():
                raise ModelError(f"{where}: a tuple of any length; export the network with a fixed number of elements")
            case UnknownAbstract():
                self.notes.append(f"input {quote(name)}: the file does not tell its type; taken to be f32 of any rank")
                yield Input(name, "f32", None)
            case _:
                raise ModelError(f"{where}: a function cannot be an input; export the network again")

    def _dtype(self, dtype: str, where: str) -> str:
        if dtype not in DTYPES:
            raise ModelError(f"{where}: element type {dtype} is none of planish's")
        return dtype

    def ranges(self) -> dict[str, tuple[int, int | None]]:
        """What the file says of its open sizes: by symbol, the least and the largest (None: any)."""
        found: dict[str, tuple[int, int | None]] = {}
        for name, type in input_types(self.inputs, self.label):
            low, high = self._bounds.get(name, ((), ()))
            shape = type.shape or () if isinstance(type, TensorType) else ()
            for dim, least, most in zip(shape, low, high, strict=False):
                if isinstance(dim, Expr) and dim.symbol and 0 <= least <= most:
                    found[dim.symbol] = least, most
        return found

    def arguments(self, a: Assembly) -> list[Datum]:
        """What the inputs stand for while the model is read."""
        return [self._datum(a, name, abstract) for name, abstract in self._roots]

    def _datum(self, a: Assembly, name: str, abstract: Abstract) -> Datum:
        match abstract:
            case SequenceAbstract():
                return tuple(self._datum(a, f"{name}.{i}", item) for i, item in enumerate(abstract.items))
            case ScalarAbstract():
                return a.cast(a.input(name), abstract.dtype)
            case TensorAbstract() | UnknownAbstract():
                return a.input(name)
            case _:
                return abstract if isinstance(abstract, Monad) else None


def _wide(dtype: str) -> str:
    """The type that NumPy gives a Python number of this type."""
    kind = DTYPES[dtype].kind if dtype in DTYPES else ""
    return "f64" if kind == "float" else "i64" if kind == "int" else dtype


def results(machine: Interpreter, datum: Datum) -> list[Item]:
    """The tensors among the results of a model. Raises `Unsupported` for what cannot leave it."""
    found: list[Item] = []
    if holds_function(datum):
        raise Unsupported("a function among the results", "return tensors")
    for leaf in leaves_of(datum):
        if isinstance(leaf, Item):
            found.append(leaf)
        elif isinstance(leaf, float):
            found.append(machine.a.scalar(leaf, "f64"))
        elif isinstance(leaf, Parameter) or is_number(leaf):
            found.append(machine.branches.tensor(leaf))
        elif leaf is not None and not isinstance(leaf, Monad):
            raise Unsupported(f"{described(leaf)} among the results", "return tensors")
    if not found:
        raise Unsupported("it has no tensors among its results", "return tensors")
    return found


def output_names(count: int, inputs: Sequence[Input]) -> list[str]:
    """Names of that many results."""
    taken = {i.name for i in inputs}
    names: list[str] = []
    for i in range(count):
        name = f"output{i}"
        while name in taken:
            name += "_"
        names.append(name)
    return names


__all__ = ["Ports", "output_names", "results"]
