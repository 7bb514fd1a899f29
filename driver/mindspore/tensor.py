"""`Tensor` and `Parameter`: NumPy arrays with MindSpore's names. Types of elements are NumPy's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import DTypeLike

from planish.mindspore.errors import LoadValueError

Array = np.ndarray[Any, np.dtype[Any]]
_NAMES = {"bool": "Bool", "bfloat16": "BFloat16", "uint8": "UInt8", "uint16": "UInt16", "uint32": "UInt32",
          "uint64": "UInt64"}  # fmt: skip


class Tensor(NDArrayOperatorsMixin):
    """An array, or only its type: `Tensor(shape=[None, 3], dtype=float32)` stands for an input whose first dimension is
    open, in `export`. Python floats become float32 and Python integers int64 unless `dtype` says otherwise; arrays keep
    their type. Arithmetic is NumPy's and gives a `Tensor`."""

    __array_priority__ = 100

    def __init__(
        self,
        input_data: Any = None,
        dtype: DTypeLike | None = None,
        shape: Sequence[int | None] | None = None,
        init: Any = None,
        const_arg: bool = False,
    ) -> None:
        """`const_arg` says nothing here. Raises `ValueError` where neither data nor a shape and type are given, and for
        `init`, which only training needs."""
        if init is not None:
            raise LoadValueError("Tensor: init: expected data, got an initializer: networks are not defined here")
        self._data: Array | None = None
        if input_data is None:
            if shape is None and dtype is None:
                raise LoadValueError("Tensor: expected data, or a shape and a dtype")
            self._shape: tuple[int | None, ...] | None = None if shape is None else tuple(shape)
            self._dtype = np.dtype(np.float32 if dtype is None else dtype)
            return
        self._data = _array(input_data, dtype)

    @property
    def data(self) -> Array:
        """The array. Raises `ValueError` for a tensor that is only a type."""
        if self._data is None:
            raise LoadValueError("Tensor: expected one with data, got one with a shape and a dtype only")
        return self._data

    def asnumpy(self) -> Array:
        """The elements as a NumPy array (the same memory)."""
        return self.data

    @staticmethod
    def from_numpy(array: Array) -> Tensor:
        """A tensor in the memory of `array`."""
        return Tensor(array)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes; -1 where one is open."""
        if self._data is not None:
            return self._data.shape
        return tuple(-1 if size is None else size for size in self._shape or ())

    @property
    def is_open(self) -> bool:
        """Whether this is only a type."""
        return self._data is None

    @property
    def open_shape(self) -> tuple[int, ...] | None:
        """Sizes, -1 where one is open, None where the rank is."""
        return None if self._data is None and self._shape is None else self.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements, as NumPy has it."""
        return self._dtype if self._data is None else self._data.dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.data.size

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.data.nbytes

    @property
    def T(self) -> Tensor:
        """Transposed."""
        return Tensor(self.data.T)

    def astype(self, dtype: DTypeLike, copy: bool = True) -> Tensor:
        """The same numbers in another type."""
        return Tensor(self.data.astype(dtype, copy=copy))

    def reshape(self, *shape: int | Sequence[int]) -> Tensor:
        """The same elements in another shape."""
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return Tensor(self.data.reshape(sizes))  # type: ignore[arg-type]

    def item(self, index: Any = None) -> Any:
        """One element as a Python number."""
        return self.data.item() if index is None else self.data.item(index)

    def tolist(self) -> Any:
        """The elements as nested lists."""
        return self.data.tolist()

    def copy(self) -> Tensor:
        """A copy in memory of its own."""
        return Tensor(self.data.copy())

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        return np.array(self.data, dtype=dtype) if copy else np.asarray(self.data, dtype=dtype)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if "out" in options:
            return NotImplemented
        plain = [i.data if isinstance(i, Tensor) else i for i in inputs]
        found: Any = getattr(ufunc, method)(*plain, **options)
        return tuple(map(Tensor, cast("tuple[Any, ...]", found))) if isinstance(found, tuple) else Tensor(found)

    def __getitem__(self, index: Any) -> Tensor:
        parts: tuple[Any, ...] = cast("tuple[Any, ...]", index) if isinstance(index, tuple) else (index,)
        plain = tuple(part.data if isinstance(part, Tensor) else part for part in parts)
        return Tensor(np.asarray(self.data[plain]))

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        return (Tensor(np.asarray(row)) for row in self.data)

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return float(self.data)

    def __int__(self) -> int:
        return int(self.data)

    def __index__(self) -> int:
        return int(self.data)

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        shown = "" if self._data is None else f", value=\n{self._data}"
        return f"Tensor(shape={list(self.shape)}, dtype={_name(self.dtype)}{shown})"


class Parameter(Tensor):
    """A tensor with a name, which belongs to a network."""

    def __init__(
        self, default_input: Any, name: str | None = None, requires_grad: bool = True, layerwise_parallel: bool = False
    ) -> None:
        super().__init__(default_input.data if isinstance(default_input, Tensor) else default_input)
        self.name = name or "Parameter"
        self.requires_grad = requires_grad
        self.layerwise_parallel = layerwise_parallel
        self.version = 0
        """Counts how often the user has changed it."""
        self.given: Array = self.data
        """What the user gave it last, whatever runs have made of it since."""

    def set_data(self, data: Any, slice_shape: bool = False) -> Parameter:
        """Give it other elements, of the same type and shape unless `slice_shape`. Raises `ValueError`."""
        array = data.data if isinstance(data, Tensor) else _array(data, None)
        if not slice_shape and array.shape != self.shape:
            raise LoadValueError(f"{self.name}: expected shape {list(self.shape)}, got {list(array.shape)}")
        self._data = self.given = array.astype(self.dtype, copy=False)
        self.version += 1
        return self

    def refresh(self, array: Array) -> None:
        """Take what a run of the network has left in it."""
        self._data = array

    @property
    def value(self) -> Tensor:
        """The elements without the name."""
        return Tensor(self.data)

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.shape)) + ("," if self.ndim == 1 else "")
        return (
            f"Parameter (name={self.name}, shape=({shape}), dtype={_name(self.dtype)},"
            f" requires_grad={self.requires_grad})"
        )


def _array(value: Any, dtype: DTypeLike | None) -> Array:
    """An array of what the user gave; numbers of Python's own take MindSpore's types."""
    if isinstance(value, Tensor):
        value = value.data
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value, dtype=dtype)  # type: ignore[no-any-return]
    found: Array = np.asarray(value, dtype=dtype)
    return found.astype(np.float32) if dtype is None and found.dtype == np.float64 else found


def _name(dtype: np.dtype[Any]) -> str:
    return _NAMES.get(dtype.name, dtype.name.capitalize())
