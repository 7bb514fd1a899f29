"""Builds the Winograd form of a convolution kernel: transformed tiles, products, and the way back, block by block.

For a block of tiles (`Plan`), in this order:

1. V[tile, e, c] = (B^T d B)[e] for every tile d of the input: vectors of channels, columns first, then rows;
2. for each block of output channels: M[tile, e, o] = sum over c of V[tile, e, c] * U[e, o, c], e = 0 .. t*t-1, an
   ordinary batched matrix product;
3. A^T M A, and for each of its m*m elements what the direct kernel does after its sum.

V and M are locals that stay in the second cache. With one block only, the first stage and the blocks of output
channels are top-level stages with parallel loops of their own.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ...ir.core import Op, Value
from ...ir.expr import Dim, Expr, as_expr
from ...ir.kernel.builder import KernelBuilder
from ...ir.kernel.form import Const, Index, KernelOp, Read, Scalar, Write
from ...ir.types import Layout, TensorType
from ..kernel_edit import tidy_region
from .match import Convolution
from .transforms import Transforms, apply, transforms

_LINE = 16  # floats of a cache line


@dataclass(frozen=True)
class Plan:
    """How a convolution is cut: `m` x `m` outputs a tile; tiles of `images` x `rows` x `columns` a block; `channels`
    output channels at a time."""

    m: int
    images: int
    rows: int
    columns: int
    channels: int

    @property
    def tiles(self) -> int:
        """Tiles of one block."""
        return self.images * self.rows * self.columns

    def blocks(self, conv: Convolution) -> tuple[int, int, int]:
        """Blocks along images, rows and columns."""
        n, h, w = (-(-extent // size) for extent, size in zip(conv.points, self.sizes, strict=True))
        return n, h, w

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Images, rows and columns of outputs of one block."""
        return self.images, self.m * self.rows, self.m * self.columns

    def reach(self, conv: Convolution) -> tuple[int, ...]:
        """Images, rows and columns of outputs of all blocks: more than there are where the last ones are partial."""
        return tuple(b * s for b, s in zip(self.blocks(conv), self.sizes, strict=True))


def build(conv: Convolution, plan: Plan, u: Value) -> KernelOp:
    """The kernel of `conv` over the transformed weights `u`, of shape [t*t, O / channels, channels, C]."""
    return _Emitter(conv, plan).run(u)


class _Emitter:
    def __init__(self, conv: Convolution, plan: Plan) -> None:
        self.conv, self.plan = conv, plan
        self.f: Transforms = transforms(plan.m)
        self.blocks = plan.blocks(conv)
        self.mapping: dict[Value, Value] = {}

    def run(self, u: Value) -> KernelOp:
        op, conv = self.conv.kernel, self.conv
        others = [(v, b) for v, b in zip(op.args, op.buffers, strict=True) if b is not conv.weight.buffer]
        args = [v for v, _ in others] + [u]
        self.k = KernelBuilder([v.tensor for v in args], [v.tensor for v in op.results])
        olds = [b for _, b in others] + [conv.weight.buffer]
        self.mapping.update(zip(olds, self.k.inputs, strict=True))
        self.mapping.update(zip(op.outputs, self.k.outputs, strict=True))
        self.u = self.k.inputs[-1]
        with self._around() as block:
            self._block(block)
        tidy_region(self.k.region)
        return self.k.finish(args, label=f"{op.label or 'conv'}~winograd{self.plan.m}", loc=op.loc)

    @contextmanager
    def _around(self) -> Generator[tuple[Expr, ...]]:
        """The loop over blocks, if there are several: the block's place among them."""
        extents: list[Dim] = [*self.blocks]
        if not isinstance(self.conv.batch, int):
            extents[0] = self.conv.batch  # one by one
        names = {name: n for name, n in zip(("nb", "yb", "xb"), extents, strict=True) if n != 1}
        if not names:
            yield (as_expr(0),) * 3
            return
        with self.k.map(names) as dims:
            found = dict(zip(names, dims, strict=True))
            yield tuple(found.get(name, as_expr(0)) for name in ("nb", "yb", "xb"))

    def _block(self, block: tuple[Expr, ...]) -> None:
        k, plan = self.k, self.plan
        v = self._local(self.conv.channels)
        self._input(block, v)
        groups = self.conv.outputs // plan.channels
        if groups > 1:
            with k.map(ob=groups) as (ob,):
                self._products(block, v, ob)
        else:
            self._products(block, v, as_expr(0))

    def _local(self, channels: int) -> Value:
        """A buffer [tiles, edge, channels]: what the transforms of one tile touch lies together, one cache line apart
        from a power of two."""
        edge, tiles = self.f.t**2, self.plan.tiles
        pad = _LINE if channels % (2 * _LINE) == 0 else 0
        layout = Layout((), (), ((0, 0), (0, 0), (0, pad))) if pad else Layout()
        value = self.k.local("f32", tiles, edge, channels)
        value.type = TensorType("f32", (tiles, edge, channels), layout)
        return value

    def _products(self, block: tuple[Expr, ...], v: Value, ob: Expr) -> None:
        k, plan = self.k, self.plan
        m = self._local(plan.channels)
        with k.map(e=self.f.t**2, t=plan.tiles, o=plan.channels) as (e, t, o):
            with k.reduce(c=self.conv.channels, init=[k.const(0.0, "f32")]) as r:
                (c,) = r.dims
                r.yield_(k.mul(k.read(v, t, e, c), k.read(self.u, e, ob, o, c)))
            k.write(r.result, m, t, e, o)
        self._output(block, m, ob)

    def _tile_dims(self) -> dict[str, Dim]:
        return {"n": self.plan.images, "ty": self.plan.rows, "tx": self.plan.columns}

    def _tile(self, n: Expr, ty: Expr, tx: Expr) -> Expr:
        return (n * self.plan.rows + ty) * self.plan.columns + tx

    def _corner(self, block: tuple[Expr, ...], n: Expr, ty: Expr, tx: Expr) -> tuple[Expr, Expr, Expr]:
        """Image, and coordinates of a tile's first output."""
        plan, (nb, yb, xb) = self.plan, block
        return nb * plan.images + n, (yb * plan.rows + ty) * plan.m, (xb * plan.columns + tx) * plan.m

    # -- input --------------------------------------------------------------------------------------------------

    def _input(self, block: tuple[Expr, ...], v: Value) -> None:
        k, t = self.k, self.f.t
        zero = k.const(0.0, "f32")
        with k.map({**self._tile_dims(), "c": self.conv.channels}) as (n, ty, tx, c):
            tile = self._tile(n, ty, tx)
            image, y, x = self._corner(block, n, ty, tx)
            half = k.local("f32", t, t)
            with k.map(j=t) as (j,):
                column = [k.read(self._image(), *self._place(image, c, y + i, x + j), fill=zero) for i in range(t)]
                for i, value in enumerate(apply(k, self.f.input, column)):
                    k.write(value, half, i, j)
            with k.map(i=t) as (i,):
                row = [k.read(half, i, j) for j in range(t)]
                for j, value in enumerate(apply(k, self.f.input, row)):
                    k.write(value, v, tile, i * t + j, c)

    def _image(self) -> Value:
        return self.mapping[self.conv.image.buffer]

    def _place(self, n: Expr, c: Expr, y: Expr, x: Expr) -> list[Expr]:
        """Coordinates in the image of the window of output (y, x), moved by the padding."""
        conv = self.conv
        channel, *window = conv.summed
        env: dict[str, Dim] = {
            conv.dims[0]: n,
            conv.dims[2]: y,
            conv.dims[3]: x,
            channel: c,
            **dict.fromkeys(window, 0),
        }
        return [e.substitute(env) for e in conv.image.map]

    # -- output -------------------------------------------------------------------------------------------------

    def _output(self, block: tuple[Expr, ...], products: Value, ob: Expr) -> None:
        k, t, m = self.k, self.f.t, self.f.m
        with k.map({**self._tile_dims(), "o": self.plan.channels}) as (n, ty, tx, o):
            tile = self._tile(n, ty, tx)
            image, y, x = self._corner(block, n, ty, tx)
            half, whole = k.local("f32", m, t), k.local("f32", m, m)
            with k.map(j=t) as (j,):
                column = [k.read(products, tile, j + i * t, o) for i in range(t)]
                for i, value in enumerate(apply(k, self.f.output, column)):
                    k.write(value, half, i, j)
            with k.map(i=m) as (i,):
                row = [k.read(half, i, j) for j in range(t)]
                for j, value in enumerate(apply(k, self.f.output, row)):
                    k.write(value, whole, i, j)
            with k.map(p=m, q=m) as (p, q):
                self._epilogue(k.read(whole, p, q), image, ob * self.plan.channels + o, y + p, x + q)

    def _epilogue(self, total: Value, image: Expr, o: Expr, y: Expr, x: Expr) -> None:
        """What the direct kernel does with its sum, at one output; nothing where the tile reaches outside."""
        k, conv = self.k, self.conv
        env = dict(zip(conv.dims, (image, o, y, x), strict=True))
        local = {**self.mapping, conv.reduce.result: total}
        mask: Value | None = None
        for at, extent, reached in zip((image, y, x), conv.points, self.plan.reach(conv), strict=True):
            if reached > extent:
                inside = k.lt(k.index(at), k.const(extent, "i64"))
                mask = inside if mask is None else k.apply("and", mask, inside)
        for op in conv.epilogue:
            self._clone(op, env, local, mask)

    def _clone(self, op: Op, env: Mapping[str, Expr], local: dict[Value, Value], mask: Value | None) -> None:
        k = self.k
        match op:
            case Read():
                fill = local[op.fill] if op.fill is not None else None
                if fill is None and mask is not None and any(e.symbols() & set(self.conv.dims[2:]) for e in op.map):
                    fill = k.const(0, op.buffer.tensor.dtype)
                at = [e.substitute(env) for e in op.map]
                local[op.result] = k.read(local[op.buffer], *at, fill=fill)
            case Write():
                own = local[op.mask] if op.mask is not None else None
                both = own if mask is None else mask if own is None else k.apply("and", own, mask)
                k.write(local[op.value], local[op.buffer], *(e.substitute(env) for e in op.map), mask=both)
            case Index():
                local[op.result] = k.index(op.expr.substitute(env))
            case Scalar():
                local[op.result] = k.apply(op.fn, *(local[a] for a in op.args), dtype=op.dtype)
            case Const():
                local[op.result] = k.const(op.value, op.dtype)
            case _:
                raise AssertionError(op.op_name)
