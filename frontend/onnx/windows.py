"""Sizes and padding of sliding windows: auto_pad, explicit pads and ceil mode become one pair of pads per dimension."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.assume import assume_equal
from ...ir.core import Value
from ...ir.expr import Dim, Expr, as_dim, as_expr, ceildiv, floordiv, maximum, minimum
from ...ir.ops.shape import Pad
from ...ir.ops.windows import least
from .node import Node
from .scope import Unsupported

Pads = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Window:
    """A resolved window. `extra[d]` is the part of the padding after dimension d that only ceil mode asked for, and
    `open` the padding around it where only the run knows it (then `pads` is 0): who uses the window pads first."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: Pads
    extra: tuple[Dim, ...]
    open: tuple[tuple[Dim, Dim], ...] = ()

    def padded(self, node: Node, x: Value, *, lowest: bool = False) -> Value:
        """`x` (batch, channels, space) with the padding that only the run knows: zeros, or the `lowest` value of the
        element type, which is what a maximum must see there."""
        if not self.open:
            return x
        fill = node.splat(least(x.tensor.dtype), x.tensor.dtype) if lowest else None
        return node.make(Pad, x, fill, ((0, 0), (0, 0), *self.open), "constant")


def read_window(node: Node, kernel: tuple[int, ...], spatial: tuple[Dim, ...]) -> Window:
    """Strides, dilations and pads of a convolution or pooling over `spatial` dimensions."""
    rank = len(kernel)
    strides = lengths(node, "strides", rank)
    dilations = lengths(node, "dilations", rank)
    mode = node.string("auto_pad", "NOTSET")
    pads: list[tuple[Dim, Dim]] = []
    extra: list[Dim] = []
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
        extra.append(as_dim(maximum(as_expr(wanted) - after, 0)))
        _check_fits(node, size, extent, pads[i], i)
    known: Pads = tuple((b, a) for b, a in pads if isinstance(b, int) and isinstance(a, int))
    if len(known) == rank:
        return Window(kernel, strides, dilations, known, tuple(extra))
    return Window(kernel, strides, dilations, ((0, 0),) * rank, tuple(extra), tuple(pads))


def _ceil_mode(node: Node, mode: str) -> bool:
    # With auto_pad the number of windows is given: rounding plays no part.
    return node.op_type != "Conv" and mode == "NOTSET" and node.integer("ceil_mode", 0) != 0


def _check_fits(node: Node, size: Dim, extent: int, pads: tuple[Dim, Dim], i: int) -> None:
    room = as_dim(as_expr(size) + pads[0] + pads[1])
    if isinstance(size, int) and isinstance(room, int) and room < extent and size > 0:
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


def open_kernel(node: Node, sizes: tuple[Dim, ...]) -> bool:
    """True where only the run knows the size of the kernel, and nothing but the convolution needs it."""
    if node.has_attribute("kernel_shape") or node.string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    return any(isinstance(d, Expr) for d in sizes)


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


def _same(size: Dim, extent: int, stride: int, upper: bool) -> tuple[Dim, Dim]:
    """Padding so that there are ceil(size / stride) windows."""
    total = maximum((ceildiv(size, stride) - 1) * stride + extent - as_expr(size), 0)
    small = floordiv(total, 2)
    before, after = as_dim(small), as_dim(total - small)
    return (before, after) if upper else (after, before)


def _ceil_after(size: Dim, extent: int, stride: int, before: Dim, after: Dim) -> Dim:
    """Padding after so that flooring gives ceil mode's number of windows. As ONNX has it, a last window that would
    start in the padding after the data is dropped."""
    if stride == 1:
        return after
    ahead = as_expr(size) + before
    windows = minimum(ceildiv(ahead + after - extent, stride), floordiv(ahead - 1, stride)) + 1
    if windows == floordiv(ahead + after - extent, stride) + 1:
        return after
    return as_dim(maximum((windows - 1) * stride + extent - ahead, 0))
