"""What networks are made of: a `Net` knows where in the module tree it is, so that weights and operations have the
names of transformers' modules; the functions here are its layers.

Values are f32. Weights in other floats (bf16, f16) are stored as they are and converted where they are read.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

from ...ir.constants import ConstantData
from ...ir.errors import UnsupportedError
from ...ir.expr import Dim
from ...ir.ops.activation import Silu
from ...ir.ops.arith import Cast
from ...ir.ops.shape import Iota
from .. import SourceNode
from ..assembly import Assembly, Attribute, Item, Operand
from .config import Config
from .weights import Weights

DOMAIN = "huggingface"
LOWEST = -3.4028234663852886e38  # what a masked score becomes: softmax gives 0, and no NaN where all are masked


class Net:
    """A network that is being built: an `Assembly`, weights, and a path in the tree of modules.

    Every operation is built by a *leaf*, a node of the model as users see it (`planish check`): its name is its path,
    which is also the name of its one result.
    """

    def __init__(self, assembly: Assembly, weights: Weights, config: Config) -> None:
        self.a = assembly
        self.weights = weights
        self.config = config
        self.nodes: list[SourceNode] = []
        self.values: dict[str, Item] = {}
        self._names: dict[int, str] = {}  # of items, by identity: `values` keeps them alive
        self._path = ""

    @contextmanager
    def scope(self, name: str) -> Generator[None]:
        """Inside of the block names are those of modules of `name`; "" changes nothing."""
        outer = self._path
        self._path = self.path(name)
        try:
            yield
        finally:
            self._path = outer

    def path(self, name: str) -> str:
        """The full name of a module or weight of this place."""
        return ".".join(part for part in (self._path, name) if part)

    def layers(self, name: str, count: int) -> Iterator[int]:
        """The numbers of a list of modules, each inside of its own scope."""
        for index in range(count):
            with self.scope(f"{name}.{index}"):
                yield index

    def leaf(self, name: str, kind: str, build: Callable[[], Item], *inputs: Item) -> Item:
        """One node: what `build` makes of `inputs`, which are here to be named."""
        path, count = self.path(name), 1
        while path in self.values:
            count += 1
            path = f"{self.path(name)}:{count}"
        with self.a.at(path):
            result = build()
        read = tuple(self._names.get(id(i), i.value.name if i.value is not None else "") for i in inputs)
        self.nodes.append(SourceNode(path, path, kind, DOMAIN, 0, read, (path,)))
        self.values[path] = result
        self._names[id(result)] = path
        return result

    def op(self, name: str, operator: str, *inputs: Operand, **attributes: Attribute | None) -> Item:
        """One node that is an ONNX operator."""
        items = [i for i in inputs if isinstance(i, Item)]
        return self.leaf(
            name, operator, lambda: self.a.ops(operator, *inputs, outputs=1, domain="", **attributes)[0], *items
        )

    def weight(self, name: str, shape: Sequence[int]) -> Item:
        """The parameter `name` of this place, as f32."""
        return self.float(self.weights.get(self.path(name), shape), name)

    def float(self, data: ConstantData, name: str = "") -> Item:
        """A constant as f32; weights of other floats stay as they are in the file until they are read."""
        if data.dtype == "f32":
            return self.a.constant(data, self.path(name))
        return self.a.make(Cast, data, "f32")

    def dims(self, x: Item) -> tuple[Dim, ...]:
        """The shape of a tensor."""
        return self.a.shape(x)

    def width(self, x: Item, axis: int = -1) -> int:
        """A dimension that is a number."""
        size = self.a.shape(x)[axis]
        assert isinstance(size, int), f"dimension {axis} of {self.a.type(x)}"
        return size


def linear(n: Net, name: str, x: Item, out: int, bias: bool = True) -> Item:
    """`x W' + b` along the last dimension; `W` is [out, in] as torch has it."""
    with n.scope(name):
        data = n.weights.get(n.path("weight"), (out, n.width(x)))
        offset = n.weight("bias", (out,)) if bias else None
    return project(n, name, x, data, offset)


def project(n: Net, name: str, x: Item, data: ConstantData, bias: Item | None = None) -> Item:
    """`x W' + b` for given weights [out, in]."""

    def build() -> Item:
        y = n.a.op("MatMul", x, n.float(data.permuted((1, 0)), f"{name}.weight"))
        return y if bias is None else n.a.op("Add", y, bias)

    return n.leaf(name, "Linear", build, x)


def layer_norm(n: Net, name: str, x: Item, epsilon: float, bias: bool = True) -> Item:
    """Layer normalisation of the last dimension."""
    size = n.width(x)
    with n.scope(name):
        scale, shift = n.weight("weight", (size,)), n.weight("bias", (size,)) if bias else None
    return n.leaf(name, "LayerNorm", lambda: n.a.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon), x)


def rms_norm(n: Net, name: str, x: Item, epsilon: float, offset: float = 0.0) -> Item:
    """`x / sqrt(mean(x^2) + epsilon) * (offset + weight)` along the last dimension."""
    scale = n.weight(f"{name}.weight", (n.width(x),))

    def build() -> Item:
        factor = n.a.op("Add", scale, n.a.like(offset, scale)) if offset else scale
        return n.a.op("RMSNormalization", x, factor, axis=-1, epsilon=epsilon)

    return n.leaf(name, "RMSNorm", build, x)


def embedding(n: Net, name: str, ids: Item, count: int, size: int) -> Item:
    """Rows of a table [count, size]."""
    data = n.weights.get(n.path(f"{name}.weight"), (count, size))
    return lookup(n, name, data, ids)


def lookup(n: Net, name: str, data: ConstantData, ids: Item) -> Item:
    """Rows of a given table."""

    def build() -> Item:
        rows = n.a.op("Gather", n.a.constant(data, n.path(f"{name}.weight")), ids, axis=0)
        return rows if data.dtype == "f32" else n.a.make(Cast, rows, "f32")

    return n.leaf(name, "Embedding", build, ids)


def conv(
    n: Net, name: str, x: Item, shape: Sequence[int], *, stride: int = 1, padding: int = 0, groups: int = 1,
    bias: bool = True,
) -> Item:  # fmt: skip
    """A convolution with weights of `shape` [out, in / groups, kernel...]."""
    with n.scope(name):
        weight, offset = n.weight("weight", shape), n.weight("bias", shape[:1]) if bias else None
    space = len(shape) - 2

    def build() -> Item:
        return n.a.op("Conv", x, weight, offset, strides=[stride] * space, pads=[padding] * (2 * space), group=groups)

    return n.leaf(name, f"Conv{space}d", build, x)


def scaled(n: Net, name: str, x: Item, factor: float) -> Item:
    """`x * factor`."""
    return x if factor == 1.0 else n.op(name, "Mul", x, n.a.like(factor, x))


def positions(n: Net, length: Dim, start: Dim = 0) -> Item:
    """start, start + 1, ... as i64[length]."""
    numbers = n.a.make(Iota, (length,), 0, "i64")
    return numbers if start == 0 else n.a.op("Add", numbers, n.a.sizes([start]))


def heads(n: Net, name: str, x: Item, count: int) -> Item:
    """[batch, length, count * size] as [batch, count, length, size]."""
    batch, length, hidden = n.dims(x)
    assert isinstance(hidden, int) and hidden % count == 0
    return n.leaf(
        name,
        "Heads",
        lambda: n.a.op("Transpose", n.a.op("Reshape", x, [batch, length, count, hidden // count]), perm=[0, 2, 1, 3]),
        x,
    )


def first(n: Net, name: str, x: Item) -> Item:
    """Row 0 of dimension 1: [batch, length, hidden] -> [batch, hidden]."""
    return n.leaf(name, "First", lambda: n.a.op("Gather", x, n.a.scalar(0, "i64"), axis=1), x)


# -- activations ----------------------------------------------------------------------------------------------------


def _gelu(n: Net, x: Item) -> Item:
    return n.a.op("Gelu", x)


def _gelu_tanh(n: Net, x: Item) -> Item:
    return n.a.op("Gelu", x, approximate="tanh")


def _quick_gelu(n: Net, x: Item) -> Item:
    return n.a.op("Mul", x, n.a.op("Sigmoid", n.a.op("Mul", x, n.a.like(1.702, x))))


def _silu(n: Net, x: Item) -> Item:
    return n.a.make(Silu, x)


def _relu6(n: Net, x: Item) -> Item:
    return n.a.op("Clip", x, n.a.like(0.0, x), n.a.like(6.0, x))


def _relu2(n: Net, x: Item) -> Item:
    y = n.a.op("Relu", x)
    return n.a.op("Mul", y, y)


def _plain(operator: str) -> Callable[[Net, Item], Item]:
    return lambda n, x: n.a.op(operator, x)


ACTIVATIONS: dict[str, Callable[[Net, Item], Item]] = {
    "gelu": _gelu,
    "gelu_python": _gelu,
    "gelu_new": _gelu_tanh,
    "gelu_fast": _gelu_tanh,
    "gelu_pytorch_tanh": _gelu_tanh,
    "gelu_python_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "silu": _silu,
    "swish": _silu,
    "relu": _plain("Relu"),
    "relu2": _relu2,
    "relu6": _relu6,
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
    "mish": _plain("Mish"),
    "leaky_relu": _plain("LeakyRelu"),
    "linear": _plain("Identity"),
}
"""Activations by the names that configurations have for them."""


def activation(n: Net, kind: str, x: Item, name: str = "act") -> Item:
    """The activation `kind` of configurations. Raises `UnsupportedError` for one that planish does not have."""
    build = ACTIVATIONS.get(kind)
    if build is None:
        raise UnsupportedError(
            f"{n.config.where}: expected an activation among {', '.join(sorted(ACTIVATIONS))}, got {kind!r}: export "
            "the model to ONNX, and compile that"
        )
    return n.leaf(name, kind, lambda: build(n, x), x)


__all__ = [
    "ACTIVATIONS", "DOMAIN", "LOWEST", "Net", "activation", "conv", "embedding", "first", "heads", "layer_norm",
    "linear", "lookup", "positions", "project", "rms_norm", "scaled",
]  # fmt: skip
