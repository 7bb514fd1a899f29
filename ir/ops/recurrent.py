"""Recurrent layers: one direction over a whole sequence. What does not depend on the state (the product of the input
with its weights, the biases) is an operand: it is one large matrix product outside.

Sequences are (time, batch, ...); `r` has one row for each gate and unit. With `lengths` (i32, (batch)) sequences end
early: what comes after is 0, and the last state is that of the last step. `reverse` runs from each sequence's end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from ..core import Value
from ..errors import expect
from ..expr import Dim, Expr, as_dim, as_expr
from ..kernel.builder import KernelBuilder
from ..scalar import Array
from ..types import TensorType, Type
from .base import TensorOp, fresh
from .windows import may_equal, zero

__all__ = ["GRU", "LSTM", "RNN"]

ACTIVATIONS = ("sigmoid", "tanh", "relu")


def _apply(k: KernelBuilder, name: str, x: Value) -> Value:
    return k.max(x, zero(k, x.type.dtype)) if name == "relu" else k.apply(name, x)  # type: ignore[union-attr]


def _numpy(name: str, x: Array) -> Array:
    return {"sigmoid": lambda: 1 / (1 + np.exp(-x)), "tanh": lambda: np.tanh(x), "relu": lambda: np.maximum(x, 0)}[
        name
    ]()


class _Recurrent(TensorOp):
    """Base. `x`: (T, N, gates * H), `r`: (gates * H, H), `h0`: (N, H); f32 or f64. Results: the states of all steps
    (T, N, H) and the last one (N, H)."""

    gates: ClassVar[int] = 1

    x: Value
    r: Value
    h0: Value

    def optional(self, name: str) -> Value | None:
        """An operand that some kinds have."""
        return getattr(self, name, None)

    @property
    def from_end(self) -> bool:
        """Whether time runs backwards."""
        return bool(getattr(self, "reverse", False))

    def sizes(self) -> tuple[Dim, Dim, Dim]:
        """Steps, batch, units."""
        return self.x.tensor.dims[0], self.x.tensor.dims[1], self.h0.tensor.dims[1]

    def infer(self) -> Sequence[Type]:
        x, r, h0 = self.x.tensor, self.r.tensor, self.h0.tensor
        expect(x.dtype in ("f32", "f64"), f"expected f32 or f64, got {x.dtype}")
        expect(x.dtype == r.dtype == h0.dtype, f"expected one element type, got {x}, {r}, {h0}")
        for name in ("activations", "inner"):
            wrong = [a for a in getattr(self, name, ()) if a not in ACTIVATIONS]
            expect(not wrong, f"expected activations {', '.join(ACTIVATIONS)}, got {wrong}")
        if x.shape is None or r.shape is None or h0.shape is None:
            return [TensorType(x.dtype, None)] * (len(self.states) + 1)
        expect((x.rank, r.rank, h0.rank) == (3, 2, 2), f"expected x, r, h0 of rank 3, 2, 2, got {x}, {r}, {h0}")
        steps, batch, units = self.sizes()
        wide = as_dim(as_expr(units) * self.gates)
        fits = may_equal(r.dims[0], wide) and may_equal(r.dims[1], units) and may_equal(x.dims[2], wide)
        expect(fits and may_equal(h0.dims[0], batch), f"expected {self.gates} gates, got {x}, {r}, {h0}")
        state = TensorType(x.dtype, (batch, units))
        return [TensorType(x.dtype, (steps, batch, units)), *[state] * len(self.states)]

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the operands that are states."""
        return ("h0",)

    def buffers(self, k: KernelBuilder) -> dict[str, Value]:
        """The kernel's inputs by field name."""
        names = [f.name for f in self.fields if f.kind == "operand" and getattr(self, f.name) is not None]
        return dict(zip(names, k.inputs, strict=True))

    def kernel(self, k: KernelBuilder) -> None:
        given = self.buffers(k)
        dtype = self.x.tensor.dtype
        steps, batch, units = self.sizes()
        locals_ = [k.local(dtype, batch, units) for _ in self.states]
        y, *last = k.outputs
        with k.map(n=batch, u=units) as (n, u):
            for name, local in zip(self.states, locals_, strict=True):
                k.write(k.read(given[name], n, u), local, n, u)
        with k.scan(t=steps) as s:
            self.step(k, given, locals_, _Clock(self, k, given, s.dims[0], y))
        with k.map(n=batch, u=units) as (n, u):
            for local, out in zip(locals_, last, strict=True):
                k.write(k.read(local, n, u), out, n, u)

    def step(self, k: KernelBuilder, given: dict[str, Value], state: list[Value], clock: _Clock) -> None:
        """One step: updates `state` and writes the result through `clock`."""
        raise NotImplementedError

    def product(self, k: KernelBuilder, h: Value, r: Value, n: Expr, gate: Expr, scale: Value | None = None) -> Value:
        """Row `gate` of `r` times the state, each unit of which is scaled first where `scale` is given."""
        units = self.sizes()[2]
        with k.reduce(init=[zero(k, self.x.tensor.dtype)], j=units) as total:
            value = k.read(h, n, total.dims[0])
            if scale is not None:
                value = k.mul(value, k.read(scale, n, total.dims[0]))
            total.yield_(k.mul(value, k.read(r, gate, total.dims[0])))
        return total.result

    # -- NumPy ----------------------------------------------------------------------------------------------------

    def reference(self, *operands: Any) -> Any:
        given = dict(zip([f.name for f in self.fields if f.kind == "operand"], operands, strict=True))
        x, lengths = given["x"], given.get("lengths")
        steps, batch, units = x.shape[0], x.shape[1], given["h0"].shape[1]
        y = np.zeros((steps, batch, units), x.dtype)
        finals = [np.array(given[name]) for name in self.states]
        for n in range(batch):
            count = steps if lengths is None else int(lengths[n])
            state = [f[n] for f in finals]
            for t in reversed(range(count)) if self.from_end else range(count):
                state = self.advance(x[t, n], state, given)
                y[t, n] = state[0]
            for f, value in zip(finals, state, strict=True):
                f[n] = value
        return (y, *finals)

    def advance(self, x: Array, state: list[Array], given: dict[str, Any]) -> list[Array]:
        """One step of one sequence."""
        raise NotImplementedError

    def sample_inputs(self, rng: np.random.Generator) -> list[Array] | None:
        """Lengths inside."""
        arrays: list[Array] = []
        for v in self.inputs:
            shape = v.tensor.static_shape
            whole = v.tensor.dtype == "i32"
            data = rng.integers(0, self.x.tensor.static_shape[0] + 1, shape) if whole else rng.standard_normal(shape)
            arrays.append(
                np.asarray(data).astype({"i32": np.int32, "f32": np.float32, "f64": np.float64}[v.tensor.dtype])
            )
        return arrays


class _Clock:
    """Where in the sequence a step reads and writes, and whether the sequence has ended there."""

    def __init__(self, op: _Recurrent, k: KernelBuilder, given: dict[str, Value], t: Expr, y: Value) -> None:
        self.k, self.t, self.y = k, t, y
        self.lengths = given.get("lengths")
        self.reverse, self.steps = op.from_end, op.sizes()[0]

    def runs(self, n: Expr) -> Value | None:
        """True while sequence `n` goes on; None when all are of full length."""
        if self.lengths is None:
            return None
        return self.k.lt(self.k.index(self.t), self.k.cast(self.k.read(self.lengths, n), "i64"))

    def at(self, n: Expr) -> Expr | Value:
        """The time of this step in sequence `n`."""
        if not self.reverse:
            return self.t
        if self.lengths is None:
            return as_expr(self.steps) - 1 - self.t
        k = self.k
        count = k.cast(k.read(self.lengths, n), "i64")
        back = k.sub(count, k.index(self.t + 1))
        return k.select(k.lt(back, k.const(0, "i64")), k.index(self.t), back)

    def emit(self, state: Value, old: Value, n: Expr, u: Expr) -> Value:
        """Write the new state as the result of the step; gives what the state is from here on."""
        runs = self.runs(n)
        shown = state if runs is None else self.k.select(runs, state, zero(self.k, state.type.dtype))  # type: ignore[union-attr]
        self.k.write(shown, self.y, self.at(n), n, u)
        return state if runs is None else self.k.select(runs, state, old)


class LSTM(_Recurrent, name="nn.lstm"):
    """Long short-term memory; gates input, output, forget, cell. `c0`: (N, H); `peephole`: (3 * H), for the gates
    input, output, forget. Activations: of the gates, of the cell, of the result. Source: ONNX LSTM, one direction."""

    gates = 4

    x: Value
    r: Value
    h0: Value
    c0: Value
    lengths: Value | None = None
    peephole: Value | None = None
    reverse: bool = False
    activations: tuple[str, ...] = ("sigmoid", "tanh", "tanh")

    @property
    def states(self) -> tuple[str, ...]:
        return ("h0", "c0")

    def step(self, k: KernelBuilder, given: dict[str, Value], state: list[Value], clock: _Clock) -> None:
        _, batch, units = self.sizes()
        h, c = state
        f, g, out = self.activations
        gates = k.local(self.x.tensor.dtype, batch, as_dim(as_expr(units) * 4))
        with k.map(n=batch, gate=as_dim(as_expr(units) * 4)) as (n, gate):
            x = k.read(given["x"], clock.at(n), n, gate)
            k.write(k.add(x, self.product(k, h, given["r"], n, gate)), gates, n, gate)
        with k.map(n=batch, u=units) as (n, u):
            i, o, forget, cell = (k.read(gates, n, u + as_expr(units) * q) for q in range(4))
            old, before = k.read(c, n, u), k.read(h, n, u)
            peephole = given.get("peephole")
            if peephole is not None:
                i = k.add(i, k.mul(k.read(peephole, u), old))
                forget = k.add(forget, k.mul(k.read(peephole, u + as_expr(units) * 2), old))
            new = k.add(k.mul(_apply(k, f, forget), old), k.mul(_apply(k, f, i), _apply(k, g, cell)))
            if peephole is not None:
                o = k.add(o, k.mul(k.read(peephole, u + as_expr(units)), new))
            hidden = k.mul(_apply(k, f, o), _apply(k, out, new))
            runs = clock.runs(n)
            k.write(new if runs is None else k.select(runs, new, old), c, n, u)
            k.write(clock.emit(hidden, before, n, u), h, n, u)

    def advance(self, x: Array, state: list[Array], given: dict[str, Any]) -> list[Array]:
        h, c = state
        f, g, out = self.activations
        i, o, forget, cell = np.split(x + given["r"] @ h, 4)
        p = given["peephole"]
        pi, po, pf = (0, 0, 0) if p is None else np.split(p, 3)
        new = _numpy(f, forget + pf * c) * c + _numpy(f, i + pi * c) * _numpy(g, cell)
        return [_numpy(f, o + po * new) * _numpy(out, new), new]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype, lengths, peephole, reverse in (
            ("f32", False, False, False), ("f32", True, True, False), ("f64", True, False, True),
            ("f32", False, True, True),
        ):  # fmt: skip
            ends = fresh("i32", 2) if lengths else None
            weights = fresh(dtype, 9) if peephole else None
            operands = (fresh(dtype, 4, 2, 12), fresh(dtype, 12, 3), fresh(dtype, 2, 3), fresh(dtype, 2, 3))
            yield cls(*operands, ends, weights, reverse)


class GRU(_Recurrent, name="nn.gru"):
    """Gated recurrent unit; gates update, reset, hidden. With `bias` (H) the reset gate acts after the product of the
    state with its weights and this bias is added there (ONNX: linear_before_reset). Activations: of the gates, of the
    hidden one. Source: ONNX GRU, one direction."""

    gates = 3

    x: Value
    r: Value
    h0: Value
    lengths: Value | None = None
    bias: Value | None = None
    reverse: bool = False
    activations: tuple[str, ...] = ("sigmoid", "tanh")

    def step(self, k: KernelBuilder, given: dict[str, Value], state: list[Value], clock: _Clock) -> None:
        dtype = self.x.tensor.dtype
        _, batch, units = self.sizes()
        (h,) = state
        f, g = self.activations
        update, reset, next_ = (k.local(dtype, batch, units) for _ in range(3))
        with k.map(n=batch, u=units) as (n, u):
            for place, gate in ((update, u), (reset, u + as_expr(units))):
                x = k.read(given["x"], clock.at(n), n, gate)
                k.write(_apply(k, f, k.add(x, self.product(k, h, given["r"], n, gate))), place, n, u)
        with k.map(n=batch, u=units) as (n, u):
            gate = u + as_expr(units) * 2
            bias = given.get("bias")
            inner = self.product(k, h, given["r"], n, gate, None if bias is not None else reset)
            if bias is not None:
                inner = k.mul(k.read(reset, n, u), k.add(inner, k.read(bias, u)))
            hidden = _apply(k, g, k.add(k.read(given["x"], clock.at(n), n, gate), inner))
            z, old = k.read(update, n, u), k.read(h, n, u)
            new = k.add(hidden, k.mul(z, k.sub(old, hidden)))
            k.write(clock.emit(new, old, n, u), next_, n, u)
        with k.map(n=batch, u=units) as (n, u):
            k.write(k.read(next_, n, u), h, n, u)

    def advance(self, x: Array, state: list[Array], given: dict[str, Any]) -> list[Array]:
        (h,) = state
        f, g = self.activations
        xz, xr, xh = np.split(x, 3)
        rz, rr, rh = np.split(given["r"], 3)
        z, reset = _numpy(f, xz + rz @ h), _numpy(f, xr + rr @ h)
        inner = rh @ (reset * h) if given["bias"] is None else reset * (rh @ h + given["bias"])
        return [(1 - z) * _numpy(g, xh + inner) + z * h]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype, lengths, bias, reverse in (
            ("f32", False, False, False), ("f32", True, True, False), ("f64", True, False, True),
            ("f32", False, True, True),
        ):  # fmt: skip
            ends = fresh("i32", 2) if lengths else None
            after = fresh(dtype, 3) if bias else None
            yield cls(fresh(dtype, 4, 2, 9), fresh(dtype, 9, 3), fresh(dtype, 2, 3), ends, after, reverse)


class RNN(_Recurrent, name="nn.rnn"):
    """`h = activation(x + r h)`. Source: ONNX RNN, one direction."""

    x: Value
    r: Value
    h0: Value
    lengths: Value | None = None
    reverse: bool = False
    activations: tuple[str, ...] = ("tanh",)

    def step(self, k: KernelBuilder, given: dict[str, Value], state: list[Value], clock: _Clock) -> None:
        _, batch, units = self.sizes()
        (h,) = state
        next_ = k.local(self.x.tensor.dtype, batch, units)
        with k.map(n=batch, u=units) as (n, u):
            x = k.read(given["x"], clock.at(n), n, u)
            new = _apply(k, self.activations[0], k.add(x, self.product(k, h, given["r"], n, u)))
            k.write(clock.emit(new, k.read(h, n, u), n, u), next_, n, u)
        with k.map(n=batch, u=units) as (n, u):
            k.write(k.read(next_, n, u), h, n, u)

    def advance(self, x: Array, state: list[Array], given: dict[str, Any]) -> list[Array]:
        return [_numpy(self.activations[0], x + given["r"] @ state[0])]

    @classmethod
    def samples(cls) -> Iterator[Self]:
        for dtype, lengths, reverse in (("f32", False, False), ("f32", True, False), ("f64", True, True)):
            ends = fresh("i32", 2) if lengths else None
            yield cls(fresh(dtype, 4, 2, 3), fresh(dtype, 3, 3), fresh(dtype, 2, 3), ends, reverse)
        yield cls(fresh("f32", 4, 2, 3), fresh("f32", 3, 3), fresh("f32", 2, 3), None, True, ("relu",))
