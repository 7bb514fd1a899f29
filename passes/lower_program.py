"""From a graph of kernels to a program: calls of shared, outlined kernels over buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..ir.constants import Constant, ConstantData
from ..ir.core import Builder, Graph, Module, Op, Region, Return, Value, Yield
from ..ir.errors import PlanishError
from ..ir.expr import Dim, Expr, sym
from ..ir.kernel.builder import KernelBuilder
from ..ir.kernel.form import Kernel, KernelOp, Local
from ..ir.program import Alloc, Call, Input, Output, Program, View, Weight
from ..ir.types import Layout, TensorType
from .analysis.guards import guards
from .analysis.structure import kernel_key
from .base import Pass
from .packed import flat, is_packed, pack_region, packed_type, unpack_region
from .placement import Placement, from_its_start, view_layout


class LowerProgram(Pass, name="lower-program"):
    """Turn the graph of kernels into a program that calls them over buffers.

    `main` is replaced by the program `program` and one `Kernel` k0, k1, ... for each distinct kernel. Buffers that a
    kernel declares at its top level become further outputs of it, with arena memory of their own. Concatenations and
    slices become views where layouts permit (`passes.placement`).
    """

    def run(self, module: Module) -> bool:
        if not isinstance(module.functions.get("main"), Graph):
            return False
        graph = module.main
        _check(graph)
        lowered = _Lowering(graph)
        lowered.run()
        del module.functions["main"]
        module.add(lowered.program)
        for kernel in lowered.kernels.values():
            module.add(kernel)
        _guard(lowered.program, {kernel.name: kernel for kernel in lowered.kernels.values()})
        return True


def _guard(program: Program, kernels: Mapping[str, Kernel]) -> None:
    """Add what sizes found at run time must fulfil to the program's checks."""
    if any(name.startswith("?") for name in program.symbols):
        message = "a size or position that was found at run time does not fit"
        checks = program.attributes.get("checks", ())
        said = {e for _, nonnegative, _, _ in checks for e in nonnegative}
        more = [((), (e,), message, loc) for e, loc in guards(program, kernels).items() if e not in said]
        if more:
            program.attributes["checks"] = (*checks, *more)


def _check(graph: Graph) -> None:
    """Everything else must have become a kernel by now."""
    left = [op for op in graph.body if not isinstance(op, KernelOp | Constant | Return)]
    if left:
        named = ", ".join(sorted({f"{op.text_name}{f' ({op.loc})' if op.loc else ''}" for op in left}))
        raise PlanishError(f"lower-program: expected kernels only, got {named}; run form-kernels before")


class _Lowering:
    """The program under construction. `buffers` gives the memory of a value of the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.placement = Placement(graph)
        self.program = Program("program", attributes=_interface(graph))
        self.builder = Builder(self.program.body)
        self.kernels: dict[str, Kernel] = {}
        self.buffers: dict[Value, Value] = {}
        self.weights: dict[tuple[ConstantData, Layout], Value] = {}
        self.to_fill: set[Value] = set()  # buffers whose zero halo nobody has written yet

    def run(self) -> None:
        """Emit everything, in the graph's order; every input is declared, used or not."""
        for value in self.graph.params:
            self.buffer(value)
        for op in self.graph.body:
            if isinstance(op, KernelOp):
                self.kernel(op)
        for i, value in enumerate(self.graph.results):
            if is_packed(value.tensor.dtype):
                self.pack(self.buffer(value), self.output(i))
            elif self.placement.outputs.get(value) != i:
                self.copy(self.buffer(value), self.output(i), "return")
        self.program.body.append(Yield(()))

    # -- calls --------------------------------------------------------------------------------------------------

    def kernel(self, op: KernelOp) -> None:
        """Call the kernel of `op`, or only what of it is no view."""
        if not self.placement.executes(op):
            return
        if op in self.placement.remaining:
            self.concatenation(op)
            return
        inputs = [self.operand(v, p) for v, p in zip(op.args, op.buffers, strict=True)]
        outputs = [self.buffer(v) for v in op.results]
        self.call(op.region, inputs, outputs, op.loc, op.label)

    def concatenation(self, op: KernelOp) -> None:
        """Copy those operands of a concatenation that are not already in its result."""
        moves = self.placement.remaining[op]
        if len(moves) > 1 and len(moves) == sum(1 for o in op.region if not o.terminator):
            inputs = [self.operand(v, p) for v, p in zip(op.args, op.buffers, strict=True)]
            self.call(op.region, inputs, [self.buffer(op.result)], op.loc, op.label)
            return
        for move in moves:
            number = op.buffers.index(move.read.buffer)
            source = self.operand(op.args[number], op.buffers[number])
            host = self.buffer(op.result)
            names = [d.name for d in move.stage.dims]
            starts = [int(t.substitute(dict.fromkeys(names, 0)).evaluate({})) for t in move.write.map]
            self.copy(source, self.part(host, starts, source.tensor.static_shape), op.loc)

    def call(self, region: Region, inputs: Sequence[Value], outputs: Sequence[Value], loc: str, label: str) -> None:
        """Outline `region` for these buffers and call it; fill halos that this is the first to write next to."""
        copy = region.clone({})
        for param, buffer in zip(copy.params, [*inputs, *outputs], strict=True):
            param.type = buffer.type
        extra = [self.builder.insert(Alloc(types=[t])).result for t in _locals_to_outputs(copy)]
        kernel = self.outlined(copy, len(outputs) + len(extra))
        self.builder.insert(Call((*inputs, *outputs, *extra), kernel.name, label, loc=loc))
        for buffer in outputs:
            self.fill(_storage(buffer), loc)

    def outlined(self, region: Region, outputs: int) -> Kernel:
        """The kernel function with this region, shared with equal ones."""
        key = f"{outputs} {kernel_key(region)}"
        if key not in self.kernels:
            self.kernels[key] = Kernel.of(f"k{len(self.kernels)}", region, outputs)
        return self.kernels[key]

    def copy(self, source: Value, target: Value, loc: str) -> None:
        """Copy a tensor from one layout to another."""
        self.call(copy_region(source.tensor, target.tensor), [source], [target], loc, "copy")

    def unpack(self, source: Value, type: TensorType) -> Value:
        """A buffer of `type` with the elements that are packed in `source`."""
        target = self.builder.insert(Alloc(types=[type.with_layout(Layout())])).result
        self.call(unpack_region(type), [source], [self.view(target, flat(type))], "input", "unpack")
        return target

    def pack(self, source: Value, target: Value) -> None:
        """Copy elements into the caller's packed ones."""
        type = source.tensor.with_layout(Layout())
        if source.tensor != type:
            plain = self.builder.insert(Alloc(types=[type])).result
            self.copy(source, plain, "return")
            source = plain
        self.call(pack_region(type), [self.view(source, flat(type))], [target], "return", "pack")

    def fill(self, buffer: Value, loc: str) -> None:
        """Write the zeros around `buffer`, once per run."""
        if buffer in self.to_fill:
            self.to_fill.discard(buffer)
            sides = halo_sides(buffer.tensor.layout, buffer.tensor.static_shape)
            views = [self.part(buffer, starts, extents) for starts, extents in sides]
            self.call(zero_region([v.tensor for v in views]), [], views, loc, "zero")

    def part(self, host: Value, starts: Sequence[int], shape: Sequence[int]) -> Value:
        """A view of the box of `host` that begins at `starts`, which may lie in its padding."""
        layout = replace(view_layout(host.tensor, starts, shape), zero=())  # written, not read around
        return self.view(host, TensorType(host.tensor.dtype, tuple(shape), layout))

    def view(self, host: Value, type: TensorType) -> Value:
        """A view of `host`; where it begins is no part of its type, so that kernels do not differ in it."""
        type, offset = from_its_start(type)
        return self.builder.insert(View(host, offset, types=[type])).result

    # -- buffers ------------------------------------------------------------------------------------------------

    def operand(self, value: Value, param: Value) -> Value:
        """The buffer of an operand; a constant is packed into the layout that `param` asks for."""
        if isinstance(value.op, Constant):
            key = (value.op.value, param.tensor.layout)
            if key not in self.weights:
                type = value.tensor.with_layout(param.tensor.layout)
                self.weights[key] = self.named(Weight(value.op.value, types=[type], loc=value.op.loc), value.name)
            return self.weights[key]
        return self.buffer(value)

    def buffer(self, value: Value) -> Value:
        """The memory of `value`, declared at its first use."""
        if value not in self.buffers:
            self.buffers[value] = self.declare(value)
        return self.buffers[value]

    def declare(self, value: Value) -> Value:
        place = self.placement
        if isinstance(value.op, Constant):
            return self.operand(value, value)
        if value.op is None:
            index = self.graph.params.index(value)
            packed = is_packed(value.tensor.dtype)
            type = packed_type(value.tensor) if packed else value.type
            given = self.named(Input(index, value.name, types=[type]), value.name)
            return self.unpack(given, value.tensor) if packed else given
        if value in place.outputs:
            return self.output(place.outputs[value])
        if value in place.inside or value in place.alias:
            found = self.view(self.buffer(place.host(value)), place.type(value))
            found.name = value.name
            return found
        buffer = self.named(Alloc(types=[value.type]), value.name)
        if any(a or b for a, b in buffer.tensor.layout.zero):
            self.to_fill.add(buffer)
        return buffer

    def output(self, index: int) -> Value:
        """The caller's buffer of output number `index`."""
        name = self.graph.result_names[index] if index < len(self.graph.result_names) else f"output{index}"
        type = self.graph.results[index].tensor.with_layout(Layout())
        type = packed_type(type) if is_packed(type.dtype) else type
        return self.named(Output(index, name, types=[type]), name)

    def named(self, op: Op, name: str) -> Value:
        """Insert an operation that gives a buffer."""
        result = self.builder.insert(op).result
        result.name = name
        return result


def _locals_to_outputs(region: Region) -> list[TensorType]:
    """Turn the buffers that live for the kernel's whole run into parameters; gives their types."""
    types: list[TensorType] = []
    for op in region:
        if isinstance(op, Local):
            types.append(op.result.tensor)
            op.replace_by([region.add_param(op.result.type, op.result.name or f"t{len(types) - 1}")])
    return types


def _storage(buffer: Value) -> Value:
    """The buffer that a view is a part of."""
    while isinstance(buffer.op, View):
        buffer = buffer.op.source
    return buffer


def _interface(graph: Graph) -> dict[str, object]:
    """Attributes of the program: symbols in order of first appearance, names and logical types of inputs, outputs;
    bindings and checks where there are any. A size of an input that is no symbol but made of some (in islands of plans
    only) is a symbol of its own there; `derived` says what it must be."""
    symbols: dict[str, None] = {}
    for value in [*graph.params, *graph.results]:
        for dim in value.tensor.dims:
            if not isinstance(dim, int):
                symbols.update(dict.fromkeys(sorted(dim.symbols())))
    bindings, checks = (graph.attributes.get(name, ()) for name in ("bindings", "checks"))
    symbols.update(dict.fromkeys(symbol for _, _, symbol in bindings))
    symbols.update(
        {name: None for zero, least, _, _ in checks for e in (*zero, *least) for name in sorted(e.symbols())}
    )
    derived: list[tuple[str, Expr]] = []
    inputs = [(p.name, _with_symbols(p.tensor, derived)) for p in graph.params]
    symbols.update(dict.fromkeys(name for name, _ in derived))
    names = graph.result_names or [f"output{i}" for i in range(len(graph.results))]
    outputs = [(n, v.tensor.with_layout(Layout())) for n, v in zip(names, graph.results, strict=True)]
    found: dict[str, object] = {"symbols": tuple(symbols), "inputs": inputs, "outputs": outputs}
    more = {"bindings": tuple(bindings), "checks": tuple(checks), "derived": tuple(derived)}
    return found | {name: value for name, value in more.items() if value}


def _with_symbols(type: TensorType, derived: list[tuple[str, Expr]]) -> TensorType:
    """The type of an input with a new symbol, added to `derived`, for each dimension that is made of symbols."""
    dims: list[Dim] = []
    for d in type.dims:
        if isinstance(d, Expr) and d.symbol is None:
            derived.append((f"?d{len(derived)}", d))
            d = sym(derived[-1][0])
        dims.append(d)
    return TensorType(type.dtype, tuple(dims), type.layout) if derived else type


# -- kernels that lowering adds -------------------------------------------------------------------------------------


def copy_region(source: TensorType, target: TensorType) -> Region:
    """A kernel that copies a tensor into another layout."""
    k = KernelBuilder([source], [target])
    with k.map({f"d{i}": d for i, d in enumerate(target.dims)}) as point:
        k.write(k.read(k.inputs[0], *point), k.outputs[0], *point)
    return _closed(k)


def halo_sides(layout: Layout, shape: Sequence[int]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The zeros around a tensor as disjoint boxes: (starts, extents) of each side, in the tensor's coordinates. Corners
    belong to the side of the earlier dimension."""
    sides: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    zeros = [layout.zeros(d) for d in range(len(shape))]
    for dim in range(len(shape)):
        starts = [0 if d < dim else -zeros[d][0] for d in range(len(shape))]
        extents = [n if d < dim else n + sum(zeros[d]) for d, n in enumerate(shape)]
        for start, width in zip((-zeros[dim][0], shape[dim]), zeros[dim], strict=True):
            if width:
                starts[dim], extents[dim] = start, width
                sides.append((tuple(starts), tuple(extents)))
    return sides


def zero_region(types: Sequence[TensorType]) -> Region:
    """A kernel that fills its buffers with zeros."""
    k = KernelBuilder([], types)
    for out in k.outputs:
        with k.map({f"d{i}": d for i, d in enumerate(out.tensor.dims)}) as point:
            k.write(k.const(0, out.tensor.dtype), out, *point)
    return _closed(k)


def _closed(k: KernelBuilder) -> Region:
    """The region that `k` has built."""
    k.region.append(Yield(()))
    return k.region
