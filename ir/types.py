"""Types of values: element types, tensors (with a physical layout), kernel scalars, tuples, sequences, optionals, maps.

The text form of every type is its `str`; `ir.text` reads it back. Types are immutable and compare by content.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import DTypeLike

from .assume import assume_equal, can_say_equal, may_assume_equal, require_zero
from .expr import Dim, Expr, as_dim, as_expr, const, floordiv, maximum, minimum, mod, product
from .expr import ceildiv as _ceildiv


@dataclass(frozen=True)
class DTypeInfo:
    """Facts about one element type. `bits` is the width of one element (below 8: packed in storage); `kind` is one of
    `float`, `int`, `uint`, `bool`, `float8` (small floats: moved and converted, nothing else), `complex` (moved,
    nothing else: kernels take an element for one integer), `string`; `numpy` is the type that the interpreter computes
    in."""

    name: str
    bits: int
    kind: str
    numpy: np.dtype

    @property
    def bytes(self) -> int:
        """Bytes of one element in memory that a kernel addresses (sub-byte types take one byte each there)."""
        return max(1, self.bits // 8)


def _info(name: str, bits: int, kind: str, numpy: DTypeLike) -> tuple[str, DTypeInfo]:
    return name, DTypeInfo(name, bits, kind, np.dtype(numpy))


DTYPES: dict[str, DTypeInfo] = dict(
    [
        _info("f16", 16, "float", np.float16),
        _info("bf16", 16, "float", ml_dtypes.bfloat16),
        _info("f32", 32, "float", np.float32),
        _info("f64", 64, "float", np.float64),
        _info("i2", 2, "int", ml_dtypes.int2),
        _info("i4", 4, "int", ml_dtypes.int4),
        _info("i8", 8, "int", np.int8),
        _info("i16", 16, "int", np.int16),
        _info("i32", 32, "int", np.int32),
        _info("i64", 64, "int", np.int64),
        _info("u2", 2, "uint", ml_dtypes.uint2),
        _info("u4", 4, "uint", ml_dtypes.uint4),
        _info("u8", 8, "uint", np.uint8),
        _info("u16", 16, "uint", np.uint16),
        _info("u32", 32, "uint", np.uint32),
        _info("u64", 64, "uint", np.uint64),
        _info("bool", 8, "bool", np.bool_),
        _info("f8e4m3fn", 8, "float8", ml_dtypes.float8_e4m3fn),
        _info("f8e4m3fnuz", 8, "float8", ml_dtypes.float8_e4m3fnuz),
        _info("f8e5m2", 8, "float8", ml_dtypes.float8_e5m2),
        _info("f8e5m2fnuz", 8, "float8", ml_dtypes.float8_e5m2fnuz),
        _info("f8e8m0", 8, "float8", ml_dtypes.float8_e8m0fnu),
        _info("f4e2m1", 4, "float8", ml_dtypes.float4_e2m1fn),
        _info("c64", 64, "complex", np.complex64),
        _info("c128", 128, "complex", np.complex128),
        _info("string", 0, "string", np.object_),
    ]
)
_BY_NUMPY = {info.numpy: name for name, info in DTYPES.items()}


def dtype_of(array: np.ndarray | np.dtype) -> str:
    """planish's name of a NumPy array's element type. Raises KeyError for a type planish does not have."""
    dtype = array if isinstance(array, np.dtype) else array.dtype
    if dtype.kind in "UST":
        return "string"
    return _BY_NUMPY[dtype.newbyteorder("=")]


def is_float(dtype: str) -> bool:
    """True for f16, bf16, f32, f64."""
    return DTYPES[dtype].kind == "float"


@dataclass(frozen=True)
class Layout:
    """How a tensor of logical shape d0 x d1 x ... lies in memory: a function from logical coordinates to an offset.

    The physical dimensions, outermost first, are the logical dimensions in `order` (each divided by its block, if
    it has one), then the `blocks` as `(dimension, size)`. `pad[d] = (before, after)` adds that many elements around
    dimension d: a halo for windows, an alignment of the pitch, or, for a view of a larger buffer, the neighbours.
    `zero[d] = (before, after)`, at most `pad`, is the part of it that is known to hold zeros, so that reads with
    fill 0 need no check there. A dimension with a block is rounded up to whole blocks; writers store zeros in the
    padded lanes. `order=()` stands for row-major, `pad=()` and `zero=()` for none.

    NHWC for an NCHW tensor is `order=(0, 2, 3, 1)`; NCHW16c is `order=(0, 1, 2, 3), blocks=((1, 16),)`; a convolution
    weight OIHW packed in panels of 32 output channels is `order=(0, 2, 3, 1), blocks=((0, 32),)`.
    """

    order: tuple[int, ...] = ()
    blocks: tuple[tuple[int, int], ...] = ()
    pad: tuple[tuple[int, int], ...] = ()
    zero: tuple[tuple[int, int], ...] = ()

    def block(self, dim: int) -> int:
        """Size of the block of logical dimension `dim` (1: not blocked)."""
        return next((size for d, size in self.blocks if d == dim), 1)

    def padding(self, dim: int) -> tuple[int, int]:
        """Elements before and after logical dimension `dim`."""
        return self.pad[dim] if self.pad else (0, 0)

    def zeros(self, dim: int) -> tuple[int, int]:
        """The part of the padding of `dim` that holds zeros."""
        return self.zero[dim] if self.zero else (0, 0)

    def physical(self, shape: Sequence[Dim]) -> tuple[Dim, ...]:
        """Physical dimensions, outermost first, of a tensor of logical `shape`."""
        order = self.order or tuple(range(len(shape)))
        outer = tuple(as_dim(_ceildiv(self._padded(shape, d), self.block(d))) for d in order)
        return outer + tuple(size for _, size in self.blocks)

    def _padded(self, shape: Sequence[Dim], dim: int) -> Dim:
        before, after = self.padding(dim)
        return as_dim(as_expr(shape[dim]) + before + after)

    def size(self, shape: Sequence[Dim]) -> Dim:
        """Elements of storage, padding included."""
        return product(self.physical(shape))

    def offset(self, shape: Sequence[Dim], index: Sequence[Dim]) -> Expr:
        """Element offset of the logical coordinates `index` from the start of the storage."""
        return _offset(self, tuple(shape), tuple(index))

    @property
    def is_row_major(self) -> bool:
        """True when the storage is exactly the logical tensor in C order."""
        plain_order = not self.order or self.order == tuple(range(len(self.order)))
        return plain_order and not self.blocks and not any(a or b for a, b in self.pad)

    def __str__(self) -> str:
        parts: list[str] = []
        if self.order:
            parts.append("order=[" + ",".join(map(str, self.order)) + "]")
        for name, pairs in (("blocks", self.blocks), ("pad", self.pad), ("zero", self.zero)):
            if pairs:
                parts.append(f"{name}=[" + ",".join(f"[{a},{b}]" for a, b in pairs) + "]")
        return "@{" + ", ".join(parts) + "}"


@lru_cache(maxsize=1 << 14)  # asked for again and again while accesses are compared
def _offset(layout: Layout, shape: tuple[Dim, ...], index: tuple[Dim, ...]) -> Expr:
    coords: list[Expr] = []
    for d in layout.order or range(len(shape)):
        coords.append(floordiv(as_expr(index[d]) + layout.padding(d)[0], layout.block(d)))
    for d, size in layout.blocks:
        coords.append(mod(as_expr(index[d]) + layout.padding(d)[0], size))
    total = const(0)
    for coordinate, extent in zip(coords, layout.physical(shape), strict=True):
        total = total * extent + coordinate
    return total


ROW_MAJOR = Layout()


@dataclass(frozen=True)
class TensorType:
    """A tensor: element type, shape (None: unknown rank) and, for kernel buffers and programs, physical layout."""

    dtype: str
    shape: tuple[Dim, ...] | None
    layout: Layout = ROW_MAJOR

    def __post_init__(self) -> None:
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(as_dim(d) for d in self.shape))

    @property
    def dims(self) -> tuple[Dim, ...]:
        """The shape of a tensor whose rank is known (asserts it)."""
        assert self.shape is not None, f"{self} has no known rank"
        return self.shape

    @property
    def rank(self) -> int:
        """Number of dimensions of a tensor whose rank is known (asserts it)."""
        return len(self.dims)

    @property
    def is_static(self) -> bool:
        """True when every dimension is a known number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @cached_property
    def static_shape(self) -> tuple[int, ...]:
        """The shape as ints (asserts `is_static`)."""
        assert self.is_static, f"{self} is not static"
        return tuple(d for d in self.dims if isinstance(d, int))

    @property
    def elements(self) -> Dim:
        """Number of logical elements."""
        return product(self.dims)

    @property
    def storage_bytes(self) -> Dim:
        """Bytes of storage in its layout."""
        return as_dim(as_expr(self.layout.size(self.dims)) * DTYPES[self.dtype].bytes)

    @property
    def symbols(self) -> frozenset[str]:
        """Names of the symbols in its shape."""
        return frozenset[str]().union(*(d.symbols() for d in self.shape or () if isinstance(d, Expr)))

    def with_layout(self, layout: Layout) -> TensorType:
        """The same tensor in another physical layout."""
        return replace(self, layout=layout)

    def __str__(self) -> str:
        inside = "*" if self.shape is None else ",".join(map(str, self.shape))
        return f"{self.dtype}[{inside}]" + ("" if self.layout == ROW_MAJOR else str(self.layout))


@dataclass(frozen=True)
class ScalarType:
    """One element inside a kernel."""

    dtype: str

    def __str__(self) -> str:
        return self.dtype


@dataclass(frozen=True)
class TupleType:
    """A fixed number of values of known types."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return "tuple<" + ", ".join(map(str, self.items)) + ">"


@dataclass(frozen=True)
class SequenceType:
    """A list, of a length known only when the model runs, of values of one type."""

    item: Type

    def __str__(self) -> str:
        return f"seq<{self.item}>"


@dataclass(frozen=True)
class OptionalType:
    """A value that may be absent."""

    item: Type

    def __str__(self) -> str:
        return f"optional<{self.item}>"


@dataclass(frozen=True)
class MapType:
    """A dictionary: `key` is i64 or string, the values are of type `item` (tensors of rank 0 for numbers)."""

    key: str
    item: Type

    def __str__(self) -> str:
        return f"map<{self.key},{self.item}>"


Type: TypeAlias = TensorType | ScalarType | TupleType | SequenceType | OptionalType | MapType


def type_symbols(type: Type) -> frozenset[str]:
    """Names of the symbols in the shapes inside a type."""
    match type:
        case TensorType():
            return type.symbols
        case SequenceType(item=item) | OptionalType(item=item) | MapType(item=item):
            return type_symbols(item)
        case TupleType(items=items):
            return frozenset[str]().union(*map(type_symbols, items))
        case _:
            return frozenset()


def substituted_type(type: Type, known: Mapping[str, Dim]) -> Type:
    """`type` with what is known of the symbols in its shapes."""
    match type:
        case TensorType(shape=shape) if shape is not None and type.symbols & known.keys():
            return replace(type, shape=tuple(as_dim(as_expr(d).substitute(known)) for d in shape))
        case SequenceType(item=item):
            return SequenceType(substituted_type(item, known))
        case OptionalType(item=item):
            return OptionalType(substituted_type(item, known))
        case MapType(key=key, item=item):
            return MapType(key, substituted_type(item, known))
        case TupleType(items=items):
            return TupleType(tuple(substituted_type(t, known) for t in items))
        case _:
            return type


def tensor(dtype: str, *shape: Dim) -> TensorType:
    """`tensor("f32", 2, 3)` is `TensorType("f32", (2, 3))`."""
    return TensorType(dtype, tuple(shape))


def broadcast(shapes: Iterable[Sequence[Dim]]) -> tuple[Dim, ...] | None:
    """NumPy's broadcast of shapes; None when they do not fit. A symbol against 1 gives the symbol; a symbol of an
    input's shape against a number above 1 gives the number; two different symbols give the larger one of them, unless
    `ir.assume` takes them to be equal (`broadcast_index` in `ir.ops.base` reads such operands)."""
    result: list[Dim] = []
    for shape in shapes:
        dims = [as_dim(d) for d in shape]
        if len(dims) > len(result):
            result = [1] * (len(dims) - len(result)) + result
        offset = len(result) - len(dims)
        for i, d in enumerate(dims):
            have = result[offset + i]
            if have == 1:
                result[offset + i] = d
            elif d not in (1, have):
                joined = _broadcast_dim(have, d)
                if joined is None:
                    return None
                result[offset + i] = joined
    return tuple(result)


def _broadcast_dim(a: Dim, b: Dim) -> Dim | None:
    """The size of two different dimensions, neither of them the number 1, that broadcast."""
    match a, b:
        case int(), int():
            return None
        case (int() as n, Expr() as e) | (Expr() as e, int() as n):
            if e.is_data or not can_say_equal(e, n):
                require_zero((e - n) * (e - 1))
            else:
                assume_equal(e, n)
            return n
        case Expr(), Expr():
            if may_assume_equal(a, b):
                assume_equal(a, b)
                return a
            largest = maximum(a, b)
            if largest in (a, b):  # `b` is `max(a, ...)`, of a broadcast that was checked
                return as_dim(largest)
            require_zero((a - b) * (a - 1) * (b - 1))
            return as_dim(largest if not (a.is_data or b.is_data) else largest * minimum(minimum(a, b), 1))
        case _:
            return None


def broadcasts_to(dims: Sequence[Dim], shape: Sequence[Dim]) -> bool:
    """Whether a tensor of `dims` broadcasts to `shape`, which stays as it is."""
    if len(dims) > len(shape):
        return False
    for d, n in zip(dims, shape[len(shape) - len(dims) :], strict=True):
        if d in (1, n):
            continue
        if isinstance(d, int) and isinstance(n, int):
            return False
        if isinstance(d, int) or (isinstance(n, int) and not d.is_data) or may_assume_equal(d, n):
            assume_equal(d, n)
        else:
            require_zero((d - n) * (d - 1))
    return True
