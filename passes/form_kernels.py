"""Kernel formation: every operation of the tensor form becomes a kernel that states its meaning."""

from __future__ import annotations

from ..ir.constants import Constant
from ..ir.core import Graph, Op, Region
from ..ir.errors import PlanishError, UnsupportedError
from ..ir.kernel.builder import KernelBuilder
from ..ir.kernel.form import Const, KernelOp, Read, Reduce, Scan
from ..ir.ops.base import TensorOp
from ..ir.types import TensorType
from .base import Pass
from .kernel_edit import drop_unused


class FormKernels(Pass, name="form-kernels"):
    """Turn every tensor operation into a kernel."""

    def run_graph(self, graph: Graph) -> bool:
        problems: list[str] = []
        changed = _form(graph.body, problems)
        if problems:
            count = f"{len(problems)} operation{'s' if len(problems) > 1 else ''}"
            raise UnsupportedError(f"graph @{graph.name}: {count} cannot be compiled:\n  " + "\n  ".join(problems))
        return changed


def _form(region: Region, problems: list[str]) -> bool:
    changed = False
    for op in region:
        if isinstance(op, TensorOp):
            try:
                kernel = kernel_of(op)
            except (PlanishError, NotImplementedError) as e:
                problems.append(f"{op.loc or '(no name)'}: {op.op_name}: {e}")
                continue
            region.insert_before(op, kernel)
            op.replace_by(kernel.results)
            changed = True
        elif not isinstance(op, KernelOp):
            for inner in op.regions:
                changed |= _form(inner, problems)
    return changed


def kernel_of(op: TensorOp) -> KernelOp:
    """`op` as a kernel over the same operands. Constants of one value that are not factors of a sum move into the
    kernel. Raises `UnsupportedError` when the operation has no kernel form or its types are not known."""
    if not op.has_kernel():
        raise UnsupportedError("has no kernel form yet")
    types = [v.type for v in [*op.inputs, *op.results]]
    unknown = [t for t in types if not isinstance(t, TensorType) or t.shape is None or t.dtype == "string"]
    if unknown:
        raise UnsupportedError(f"expected tensors of known rank, got {', '.join(map(str, unknown))}")
    builder = KernelBuilder([v.tensor for v in op.inputs], [r.tensor for r in op.results])
    op.kernel(builder)
    kernel = builder.finish(op.inputs, label=type(op).__name__, loc=op.loc)
    _inline_splats(kernel)
    return kernel


def _inline_splats(kernel: KernelOp) -> None:
    """Constants of one value become `k.const` in the kernel, unless a reduction reads them: a contraction keeps its two
    factors."""
    args = list(kernel.args)
    for arg, buffer in zip(kernel.args, kernel.buffers, strict=True):
        if not isinstance(arg.op, Constant):
            continue
        value = arg.op.value.splat_value()
        reads = [op for op in buffer.users if isinstance(op, Read)]
        if value is None or not all(_plain(r) for r in reads) or len(reads) != len(buffer.users):
            continue
        for read in reads:
            assert read.parent is not None
            constant = read.parent.insert_before(read, Const(value, buffer.tensor.dtype))
            read.replace_by(constant.results)
    drop_unused(kernel.region, args)
    kernel.args = tuple(args)


def _plain(read: Read) -> bool:
    """True for a read that is sure to give an element of the buffer, outside of reductions."""
    op: Op | None = read
    while op is not None and not isinstance(op, KernelOp):
        if isinstance(op, Reduce | Scan):
            return False
        op = op.parent.parent if op.parent is not None and isinstance(op.parent.parent, Op) else None
    return read.fill is None and not read.indices
