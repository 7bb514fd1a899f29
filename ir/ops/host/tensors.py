"""Host operations on tensors: results whose size is data, and movement of elements that no kernel moves (strings).

Functions and operands stand in docs/HOST.md; where types are not inferred, who builds gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ...core import Value
from ...expr import sym
from ...types import TensorType, Type
from .base import HostOp, a_size, words

__all__ = [
    "Compress", "HostConcat", "HostExpand", "HostGather", "HostGatherElements", "HostGatherND", "HostReshape",
    "HostSlice", "HostTile", "HostTranspose", "HostWhere", "Identity", "NonMaxSuppression", "NonZero", "Take", "Unique",
]  # fmt: skip


class NonZero(HostOp, name="host.nonzero"):
    """Coordinates of the elements that are not 0, one column each, in row-major order: i64[rank, n]. Source: ONNX."""

    function: ClassVar[str] = "nonzero"
    x: Value
    sizes: tuple[str, ...]

    def infer(self) -> Sequence[Type]:
        return [TensorType("i64", (max(self.x.tensor.rank, 1), sym(self.sizes[0])))]

    def reference(self, *operands: Any) -> Any:
        return np.array(np.nonzero(np.atleast_1d(operands[0])), np.int64)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([np.array([[0.0, 2.0], [-0.0, np.nan]], np.float32)], (a_size(),))
        yield cls.sample([np.array([0, 1j, 0], np.complex64)], (a_size(),))


class Compress(HostOp, name="host.compress"):
    """The slices of `x` along `axis` (absent: of the flattened tensor) at which `condition` is true. Source: ONNX."""

    function: ClassVar[str] = "compress"
    x: Value
    condition: Value
    axis: int | None
    sizes: tuple[str, ...]

    def infer(self) -> Sequence[Type]:
        x, found = self.x.tensor, sym(self.sizes[0])
        if self.axis is None:
            return [TensorType(x.dtype, (found,))]
        return [TensorType(x.dtype, tuple(found if i == self.axis else d for i, d in enumerate(x.dims)))]

    def reference(self, *operands: Any) -> Any:
        x, condition = operands
        return np.compress(condition, x, self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = np.arange(6, dtype=np.int16).reshape(2, 3)
        yield cls.sample([x, np.array([True, False, True])], 1, (a_size(),))
        yield cls.sample([x, np.array([False, True, True, False, True])], None, (a_size(),))


class Unique(HostOp, name="host.unique"):
    """Distinct elements (or slices along `axis`), where each comes first, the number of each element's one, and how
    often they occur. `sorted` is 0 for the order of first occurrence. Source: ONNX."""

    function: ClassVar[str] = "unique"
    x: Value
    axis: int | None
    sorted: int
    sizes: tuple[str, ...]

    def infer(self) -> Sequence[Type]:
        x, found = self.x.tensor, sym(self.sizes[0])
        shape = (found,) if self.axis is None else tuple(found if i == self.axis else d for i, d in enumerate(x.dims))
        count = x.elements if self.axis is None else x.dims[self.axis]
        vector = TensorType("i64", (found,))
        return [TensorType(x.dtype, shape), vector, TensorType("i64", (count,)), vector]

    def reference(self, *operands: Any) -> Any:
        x = np.asarray(operands[0])
        flat = x.reshape(-1) if self.axis is None else x
        plain = flat.astype(np.float32) if flat.dtype.name in ("bfloat16", "float16") else flat
        _, first, inverse, counts = np.unique(plain, True, True, True, axis=self.axis or 0)
        order = np.arange(len(first)) if self.sorted else np.argsort(first)
        place = np.argsort(order)
        values = np.take(flat, first[order], axis=self.axis or 0)
        return values, first[order].astype(np.int64), place[inverse.reshape(-1)].astype(np.int64), counts[order]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = np.array([[3, 1, 3], [2, 2, 1]], np.float32)
        for flag in (1, 0):
            yield cls.sample([x], None, flag, (a_size(),))
        yield cls.sample([x], 1, 1, (a_size(),))
        yield cls.sample([np.array([2j, 1, 2j, 1 + 1j], np.complex128)], None, 1, (a_size(),))
        yield cls.sample([words("b", "a", "b")], None, 1, (a_size(),))


class NonMaxSuppression(HostOp, name="host.nms"):
    """Boxes that overlap none of a higher score too much: i64[k, 3] of batch, class and number of the box.

    boxes (b, n, 4), scores (b, c, n), the most boxes of a class, the largest overlap (IoU), the least score. Source:
    ONNX NonMaxSuppression."""

    function: ClassVar[str] = "nms"
    boxes: Value
    scores: Value
    most: Value | None
    iou: Value | None
    score: Value | None
    center_point_box: int
    sizes: tuple[str, ...]

    def infer(self) -> Sequence[Type]:
        return [TensorType("i64", (sym(self.sizes[0]), 3))]

    def reference(self, *operands: Any) -> Any:
        boxes, scores, most, iou, score = operands
        limit = 0 if most is None else int(np.reshape(most, -1)[0])
        overlap = 0.0 if iou is None else float(np.reshape(iou, -1)[0])
        least = None if score is None else float(np.reshape(score, -1)[0])
        found: list[tuple[int, int, int]] = []
        for b in range(scores.shape[0]):
            corners = _corners(boxes[b], self.center_point_box != 0)
            for c in range(scores.shape[1]):
                found += [(b, c, i) for i in _kept(corners, scores[b, c], limit, overlap, least)]
        return np.array(found, np.int64).reshape(-1, 3)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3], [0, 0.1, 1, 1.1]]], np.float32)
        scores = np.array([[[0.6, 0.9, 0.5, 0.7]]], np.float32)
        most, overlap, least = np.array(3), np.array(0.5, np.float32), np.array(0.55, np.float32)
        for flag in (0, 1):
            yield cls.sample([boxes, scores, most, overlap, None], flag, (a_size(),))
        yield cls.sample([boxes, scores, most, overlap, least], 0, (a_size(),))


def _corners(boxes: Any, centred: bool) -> Any:
    if centred:
        x, y, w, h = boxes.T
        return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], 1)
    a, b = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(a, b), np.maximum(a, b)], 1)


def _kept(corners: Any, scores: Any, limit: int, overlap: float, least: float | None) -> list[int]:
    order = [i for i in np.argsort(-scores, kind="stable") if least is None or scores[i] > least]
    kept: list[int] = []
    for i in order:
        if len(kept) >= limit:
            break
        if all(_iou(corners[i], corners[j]) <= overlap for j in kept):
            kept.append(int(i))
    return kept


def _iou(a: Any, b: Any) -> float:
    inside = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0).prod()
    union = (a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inside
    return float(inside / union) if union > 0 else 0.0


class Take(HostOp, name="host.take"):
    """Elements of `xs`, one after the other, by flat number; -1 gives 0, False or "". The shape is that of `index`."""

    function: ClassVar[str] = "take"
    index: Value
    xs: tuple[Value, ...]

    def infer(self) -> Sequence[Type]:
        return [TensorType(self.xs[0].tensor.dtype, self.index.tensor.shape)]

    def reference(self, *operands: Any) -> Any:
        index, *xs = operands
        blank = np.array("", object) if xs[0].dtype == object else np.zeros((), xs[0].dtype)
        flat = np.concatenate([*(x.reshape(-1) for x in xs), blank.reshape(1)])
        return flat[index]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = np.arange(3, dtype=np.float32)
        yield cls.sample([np.array([[4, -1], [0, 3]]), (x, x + 10)])
        yield cls.sample([np.array([1, -1]), (words("a", "b"),)])


class HostReshape(HostOp, name="host.reshape"):
    """Reshape with 0 and -1 as ONNX has them."""

    function: ClassVar[str] = "reshape"
    x: Value
    shape: Value
    allowzero: int = 0
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        x, shape = operands
        kept = [x.shape[i] if n == 0 and not self.allowzero else int(n) for i, n in enumerate(shape)]
        return x.reshape(kept)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        kinds = [TensorType("string", (2, 3)), TensorType("string", (3, 2))]
        yield cls.sample([words(*"abcdef"), np.array([2, -1])], types=kinds[:1])
        yield cls.sample([words(*"abcdef").reshape(3, 2), np.array([0, 2])], types=kinds[1:])


class HostConcat(HostOp, name="host.concat"):
    """Concatenation along `axis`."""

    function: ClassVar[str] = "concat"
    xs: tuple[Value, ...]
    axis: int
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        return np.concatenate(operands, self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = words(*"abcd").reshape(2, 2)
        yield cls.sample([(x, x)], 1, types=[TensorType("string", (2, 4))])


class HostGather(HostOp, name="host.gather"):
    """Gather along `axis`; indices below 0 count from the end."""

    function: ClassVar[str] = "gather"
    x: Value
    index: Value
    axis: int = 0
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        x, index = operands
        return np.asarray(np.take(x, index, self.axis), x.dtype)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = words(*"abcdef").reshape(2, 3)
        yield cls.sample([x, np.array([[2, -1]])], 1, types=[TensorType("string", (2, 1, 2))])


class HostGatherElements(HostOp, name="host.gather_elements"):
    """GatherElements along `axis`."""

    function: ClassVar[str] = "gather_elements"
    x: Value
    index: Value
    axis: int = 0
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        x, index = operands
        return np.take_along_axis(x, index, self.axis)

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = words(*"abcdef").reshape(2, 3)
        yield cls.sample([x, np.array([[0, 1, 1]])], 0, types=[TensorType("string", (1, 3))])


class HostGatherND(HostOp, name="host.gather_nd"):
    """GatherND."""

    function: ClassVar[str] = "gather_nd"
    x: Value
    index: Value
    batch_dims: int = 0
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        x, index = operands
        if self.batch_dims == 0:
            return np.asarray(x[tuple(np.moveaxis(index, -1, 0))], x.dtype)
        rows = [HostGatherND.picked(a, b, self.batch_dims - 1) for a, b in zip(x, index, strict=True)]
        return np.stack(rows)

    @staticmethod
    def picked(x: Any, index: Any, batch: int) -> Any:
        """GatherND of arrays."""
        if batch == 0:
            return np.asarray(x[tuple(np.moveaxis(index, -1, 0))], x.dtype)
        return np.stack([HostGatherND.picked(a, b, batch - 1) for a, b in zip(x, index, strict=True)])

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = words(*"abcdef").reshape(2, 3)
        yield cls.sample([x, np.array([[1, 2], [0, 0]])], types=[TensorType("string", (2,))])
        yield cls.sample([x, np.array([[1], [2]])], 1, types=[TensorType("string", (2,))])


class HostSlice(HostOp, name="host.slice"):
    """Slice by starts, ends, axes and steps."""

    function: ClassVar[str] = "slice"
    x: Value
    starts: Value
    ends: Value
    axes: Value | None
    steps: Value | None
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        x, starts, ends, axes, steps = operands
        index = [slice(None)] * x.ndim
        for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
            axis, step = (i if axes is None else int(axes[i])), (1 if steps is None else int(steps[i]))
            stop = None if step < 0 and end < -x.shape[axis] else int(end)
            index[axis] = slice(int(start), stop, step)
        return x[tuple(index)].copy()

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x, kind = words(*"abcdef").reshape(2, 3), TensorType("string", (2, 2))
        yield cls.sample([x, np.array([1]), np.array([9]), np.array([1]), None], types=[kind])
        steps = [np.array([0, 2]), np.array([2, -9]), None, np.array([1, -2])]
        yield cls.sample([x, *steps], types=[kind])


class HostExpand(HostOp, name="host.expand"):
    """Expand: both shapes broadcast."""

    function: ClassVar[str] = "expand"
    x: Value
    shape: Value
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        x, shape = operands
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(map(int, shape)))).copy()

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("a", "b"), np.array([2, 1])], types=[TensorType("string", (2, 2))])


class HostTile(HostOp, name="host.tile"):
    """Tile."""

    function: ClassVar[str] = "tile"
    x: Value
    repeats: Value
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        return np.tile(operands[0], operands[1])

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("a", "b"), np.array([2])], types=[TensorType("string", (4,))])


class HostTranspose(HostOp, name="host.transpose"):
    """Transpose; without `perm` all dimensions in reverse."""

    function: ClassVar[str] = "transpose"
    x: Value
    perm: tuple[int, ...] | None
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        return np.transpose(operands[0], self.perm).copy()

    @classmethod
    def samples(cls) -> Iterator[Self]:
        x = words(*"abcdef").reshape(2, 3)
        yield cls.sample([x], (1, 0), types=[TensorType("string", (3, 2))])
        yield cls.sample([x], None, types=[TensorType("string", (3, 2))])


class HostWhere(HostOp, name="host.where"):
    """`x` where the condition is true, else `y`; all broadcast."""

    function: ClassVar[str] = "where"
    condition: Value
    x: Value
    y: Value
    sizes: tuple[str, ...] = ()

    def reference(self, *operands: Any) -> Any:
        condition, x, y = np.broadcast_arrays(*operands)
        chosen = y.copy()
        np.copyto(chosen, x, where=condition.astype(np.bool_))
        return chosen

    @classmethod
    def samples(cls) -> Iterator[Self]:
        flags = np.array([[True], [False]])
        yield cls.sample([flags, words("a", "b"), words("c", "d")], types=[TensorType("string", (2, 2))])


class Identity(HostOp, name="host.identity"):
    """The same value, of any type."""

    function: ClassVar[str] = "identity"
    x: Value

    def infer(self) -> Sequence[Type]:
        return [self.x.type]

    def reference(self, *operands: Any) -> Any:
        return operands[0]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        yield cls.sample([words("a", "")])
        yield cls.sample([[np.zeros(2, np.float32), np.ones((1, 3), np.float32)]])
