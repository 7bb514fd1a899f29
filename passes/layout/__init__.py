"""Physical layouts for all buffers of a graph of kernels: see `AssignLayouts`."""

from __future__ import annotations

from ...ir.constants import Constant
from ...ir.core import Graph, Value
from ...ir.kernel.builder import KernelBuilder
from ...ir.kernel.form import KernelOp, Read
from ...ir.types import ROW_MAJOR, Layout, TensorType
from ..analysis.access import accesses
from ..base import Pass
from .free import free_layout
from .halos import Pads, halo_of, halos, merged, pitch_padding
from .orders import Order, Orders, contractions, operand_orders, outer, row_major
from .weights import weight_layouts


class AssignLayouts(Pass, name="assign-layouts"):
    """Choose the layout of every buffer: order of dimensions, panels of weights, halos of zeros, pitch.

    Model inputs and outputs stay row-major; where a contraction wants its operand otherwise, a kernel that copies it
    is inserted, once for all its readers. `plain` leaves everything row-major.
    """

    plain: bool = False
    halo: bool = True
    pitch: bool = True

    def run_graph(self, graph: Graph) -> bool:
        if self.plain or self.context.opt == 0:
            return False
        orders = Orders(graph).order
        self._relayout(graph, orders)
        needs = halos(graph) if self.halo else {}
        for op in graph.body:
            if isinstance(op, KernelOp):
                for value in op.results:
                    layout = self._layout(value, orders[value], needs)
                    if layout == ROW_MAJOR:
                        layout = free_layout(op) or layout
                    value.type = value.tensor.with_layout(layout)
        for op in graph.body:
            if isinstance(op, KernelOp):
                self._retype(op)
        return True

    def _layout(self, value: Value, order: Order, needs: dict[Value, Pads]) -> Layout:
        """The layout of a value that is computed in `order`."""
        rank = value.tensor.rank
        zero = needs.get(value, ())
        pad = [tuple(p) for p in zero] or [(0, 0)] * rank
        extra = pitch_padding(value, order) if self.pitch and rank > 2 else 0
        if extra:
            last = order[-1]
            pad[last] = (pad[last][0], pad[last][1] + extra)
        padded = any(p != (0, 0) for p in pad)
        shown = () if order == row_major(rank) else order
        return Layout(shown, (), tuple((a, b) for a, b in pad) if padded else (), zero)

    def _retype(self, op: KernelOp) -> None:
        """Give the parameters of a kernel the types of what they stand for; pack its constants."""
        for value, param in zip([*op.args, *op.results], op.region.params, strict=True):
            if not isinstance(value.op, Constant):
                param.type = value.type
        for param, layout in weight_layouts(op, self.context.weights_target).items():
            if isinstance(outer(op, param).op, Constant):
                param.type = param.tensor.with_layout(layout)

    # -- borders ------------------------------------------------------------------------------------------------

    def _relayout(self, graph: Graph, orders: dict[Value, Order]) -> None:
        """Copy operands of contractions whose order is not the one they want, or that are the caller's and need a
        halo."""
        copies: dict[tuple[Value, Order], Value] = {}
        for op in graph.body:
            if not isinstance(op, KernelOp):
                continue
            for param, order in self._wishes(op, orders).items():
                value = outer(op, param)
                if (value, order) not in copies:
                    copy = _copy(value, op.loc)
                    graph.body.insert_before(op, copy)
                    orders[copy.result] = order
                    copy.result.name = value.name and f"{value.name}_relaid"
                    copies[value, order] = copy.result
                op.set_operand(param.index, copies[value, order])

    def _wishes(self, op: KernelOp, orders: dict[Value, Order]) -> dict[Value, Order]:
        """Parameters of a kernel that should be copied, with the order that they should get."""
        wishes: dict[Value, Order] = {}
        for c in contractions(op):
            if not c.b.constant:
                continue
            for param, order in operand_orders(op, c):
                value = outer(op, param)
                if isinstance(value.op, Constant) or (value.tensor.rank < 3):
                    continue
                have = orders.get(value, row_major(value.tensor.rank))
                want = order or have
                caller = not isinstance(value.op, KernelOp)
                if not _same_order(value.tensor, have, want) or (caller and self.halo and _reaches_out(op, param)):
                    wishes[param] = want
        return wishes


def _same_order(type: TensorType, a: Order, b: Order) -> bool:
    """True when both orders put the elements at the same places: dimensions of size 1 do not count."""

    def moving(order: Order) -> list[int]:
        return [d for d in order if type.dims[d] != 1]

    return moving(a) == moving(b)


def _reaches_out(op: KernelOp, param: Value) -> bool:
    """True when a read of `param` finds zeros outside of it."""
    pads: Pads | None = None
    for read in accesses(op.region):
        if isinstance(read, Read) and read.buffer is param:
            found = halo_of(read)
            if found is not None:
                pads = found if pads is None else merged(pads, found)
    return pads is not None and any(p != (0, 0) for p in pads)


def _copy(value: Value, loc: str) -> KernelOp:
    """A kernel that copies `value`; layouts come later."""
    type = value.tensor.with_layout(ROW_MAJOR)
    k = KernelBuilder([type], [type])
    with k.map({f"d{i}": d for i, d in enumerate(type.dims)}) as point:
        k.write(k.read(k.inputs[0], *point), k.outputs[0], *point)
    return k.finish([value], label="relayout", loc=loc)
