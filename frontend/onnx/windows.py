"""Sizes and padding of sliding windows: auto_pad, explicit pads and ceil mode become one pair of pads per dimension."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.assume import assume_equal
from ...ir.expr import Dim, Expr, as_dim
from .node import Node
from .scope import Unsupported

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """A resolved window. `extra[d]` is the part of the padding after dimension d that only ceil mode asked for."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    extra: tuple[int, ...]


def read_window(node: Node, kernel: tuple[int, ...], spatial: tuple[Dim, ...]) -> Window:
    """Strides, dilations and pads of a convolution or pooling over `spatial` dimensions."""
    rank = len(kernel)
    strides = lengths(node, "strides", rank)
    dilations = lengths(node, "dilations", rank)
    mode = node.string("auto_pad", "NOTSET")
    pads: list[tuple[int, int]] = []
    extra: list[int] = []
    given = read_pads(node, rank) if mode == "NOTSET" else ((0, 0),) * rank
    for i, size in enumerate(spatial):
        extent = (kernel[i] - 1) * dilations[i] + 1
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            pads.append(_same(size, extent, strides[i], mode == "SAME_UPPER"))
        elif mode in ("NOTSET", "VALID"):
            pads.append(given[i])
        else:
            raise node.error(f"auto_pad: expected NOTSET, VALID, SAME_UPPER or SAME_LOWER, got {mode!r}")
        before, after = pads[i]
        wanted = _ceil_after(size, extent, strides[i], before, after) if _ceil_mode(node, mode) else after
        pads[i] = (before, wanted)
        extra.append(max(0, wanted - after))
        _check_fits(node, size, extent, pads[i], i)
    return Window(kernel, strides, dilations, tuple(pads), tuple(extra))


def _ceil_mode(node: Node, mode: str) -> bool:
    # With auto_pad the number of windows is given: rounding plays no part.
    return node.op_type != "Conv" and mode == "NOTSET" and node.integer("ceil_mode", 0) != 0


def _check_fits(node: Node, size: Dim, extent: int, pads: tuple[int, int], i: int) -> None:
    if isinstance(size, int) and size + sum(pads) < extent and size > 0:
        raise node.error(
            f"spatial dimension {i}: expected at least {extent} elements under the window, got {size} with padding"
            f" {pads[0]} + {pads[1]}"
        )


def kernel_shape(node: Node, weight: tuple[Dim, ...] | None, rank: int) -> tuple[int, ...]:
    """The `kernel_shape` attribute, or the spatial part of the weight's shape, which it must equal."""
    given = node.optional_ints("kernel_shape")
    if weight is None:
        kernel = node.ints("kernel_shape") if given is None else given
    else:
        if given is not None and len(given) == len(weight):  # what the attribute says of symbols goes into the inputs
            for d, k in zip(weight, given, strict=True):
                assume_equal(d, k)
            if any(isinstance(d, Expr) for d in weight):
                return tuple(given)
        kernel = [fixed(node, d, "the weight's shape") for d in weight]
        if given is not None and given != kernel:
            raise node.error(f"kernel_shape: expected {kernel}, the weight's shape, got {given}")
    if len(kernel) != rank or any(k < 1 for k in kernel):
        raise node.error(f"kernel_shape: expected {rank} numbers of at least 1, got {kernel}")
    return tuple(kernel)


def read_pads(node: Node, rank: int, name: str = "pads") -> Pads:
    """ONNX's `[before..., after...]` as pairs."""
    pads = node.ints(name, [0] * (2 * rank))
    if len(pads) != 2 * rank or any(p < 0 for p in pads):
        raise node.error(f"{name}: expected {2 * rank} numbers of at least 0, got {pads}")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def lengths(node: Node, name: str, rank: int) -> tuple[int, ...]:
    """One number of at least 1 for each spatial dimension (absent: 1)."""
    values = node.ints(name, [1] * rank)
    if len(values) != rank or any(v < 1 for v in values):
        raise node.error(f"{name}: expected {rank} numbers of at least 1, got {values}")
    return tuple(values)


def fixed(node: Node, dim: Dim, what: str) -> int:
    """A dimension that must be a number. Raises `Unsupported`."""
    dim = as_dim(dim)
    if isinstance(dim, Expr):
        raise Unsupported(f"{what} depends on the symbol {', '.join(sorted(dim.symbols()))}", "fix the input's shape")
    return dim


def _same(size: Dim, extent: int, stride: int, upper: bool) -> tuple[int, int]:
    """Padding so that there are ceil(size / stride) windows."""
    size = as_dim(size)
    if isinstance(size, Expr):
        if stride != 1:
            raise Unsupported("auto_pad SAME over a symbolic dimension with a stride", "fix the input's shape")
        total = extent - 1
    else:
        total = max(0, (-(-size // stride) - 1) * stride + extent - size)
    small = total // 2
    return (small, total - small) if upper else (total - small, small)


def _ceil_after(size: Dim, extent: int, stride: int, before: int, after: int) -> int:
    """Padding after so that flooring gives ceil mode's number of windows. As ONNX has it, a last window that would
    start in the padding after the data is dropped."""
    size = as_dim(size)
    if stride == 1:
        return after
    if isinstance(size, Expr):
        raise Unsupported("ceil_mode over a symbolic dimension with a stride", "fix the input's shape")
    padded = size + before + after
    windows = -(-(padded - extent) // stride) + 1
    if (windows - 1) * stride >= size + before:
        windows -= 1
    if (padded - extent) // stride + 1 == windows:
        return after
    return max(0, (windows - 1) * stride + extent - size - before)
