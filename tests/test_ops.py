"""Tensor operations: samples of every one against inference, kernel form and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import onnxruntime
import pytest
from _samples import assert_close, operands, reference, sample_arrays, samples, tensor_ops
from onnx import TensorProto, helper

from planish.ir import ops
from planish.ir.core import Graph, Module, Return, Value
from planish.ir.errors import VerifyError
from planish.ir.expr import sym
from planish.ir.kernel.builder import KernelBuilder
from planish.ir.kernel.form import KernelOp, Map, Reduce
from planish.ir.kernel.interp import run_kernel
from planish.ir.ops import reduce
from planish.ir.ops.base import TensorOp, fresh
from planish.ir.ops.symbols import known_symbols
from planish.ir.text import parse_module, print_module
from planish.ir.types import TensorType, dtype_of
from planish.ir.verifier import verify

ALL = list(samples())


def kernel_of(op: TensorOp) -> KernelOp:
    """The kernel form of an operation."""
    k = KernelBuilder([v.tensor for v in op.inputs], [r.tensor for r in op.results])
    op.kernel(k)
    return k.finish(op.inputs)


@pytest.mark.parametrize("kind", tensor_ops(), ids=lambda c: c.op_name)
def test_every_operation_has_samples_kernel_and_docstring(kind: type[TensorOp]) -> None:
    assert any(True for _ in kind.samples()), f"{kind.op_name} has no samples"
    assert kind.has_kernel()
    assert kind.__doc__


@pytest.mark.parametrize("op", [op for _, op in ALL], ids=[name for name, _ in ALL])
def test_inference_agrees_with_reference(op: TensorOp) -> None:
    for array, result in zip(reference(op, sample_arrays(op)), op.results, strict=True):
        assert (dtype_of(array), array.shape) == (result.tensor.dtype, result.tensor.static_shape)


@pytest.mark.parametrize("op", [op for _, op in ALL], ids=[name for name, _ in ALL])
def test_kernel_agrees_with_reference(op: TensorOp) -> None:
    arrays = sample_arrays(op)
    for got, want in zip(run_kernel(kernel_of(op), arrays), reference(op, arrays), strict=True):
        assert_close(got, want)


@pytest.mark.parametrize("op", [op for _, op in ALL], ids=[name for name, _ in ALL])
def test_kernel_verifies(op: TensorOp) -> None:
    for inner in kernel_of(op).walk():
        inner.verify()


@pytest.mark.parametrize("op", [op for _, op in ALL if any(v.tensor.rank for v in op.inputs)], ids=repr)
def test_inference_accepts_unknown_rank(op: TensorOp) -> None:
    """A tensor of unknown rank gives a result of the same element type, whatever its shape."""
    fields: dict[str, Any] = {}
    for field in op.fields:
        value = getattr(op, field.name)
        if field.kind == "operand" and field.many:
            value = tuple(Value(TensorType(v.tensor.dtype, None)) for v in value)
        elif isinstance(value, Value):
            value = Value(TensorType(value.tensor.dtype, None))
        fields[field.name] = value
    again = type(op)(**fields)
    assert [r.tensor.dtype for r in again.results] == [r.tensor.dtype for r in op.results]


# -- symbolic dimensions --------------------------------------------------------------------------------------------

N, S = sym("N"), sym("S")
SYMBOLIC: list[tuple[TensorOp, tuple[Any, ...]]] = [
    (ops.Add(fresh("f32", N, 4), fresh("f32", 4)), (N, 4)),
    (ops.Conv(fresh("f32", N, 3, S, 8), fresh("f32", 4, 3, 3, 3), None, (2, 2), ((1, 1), (1, 1)), (1, 1), 1),
     (N, 4, (S - 1) // 2 + 1, 4)),
    (ops.MaxPool(fresh("f32", 1, 3, S, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)), (1, 3, (S - 1) // 2 + 1, 4)),
    (ops.AveragePool(fresh("f32", 1, 3, S), (3,), (2,), ((1, 1),), (1,)), (1, 3, (S - 1) // 2 + 1)),
    (ops.ConvTranspose(fresh("f32", 1, 2, S), fresh("f32", 2, 3, 4), None, (2,), ((1, 1),), (1,), 1, (0,)),
     (1, 3, 2 * S)),
    (ops.MatMul(fresh("f32", N, S, 4), fresh("f32", 4, 5)), (N, S, 5)),
    (ops.MatMul(fresh("f32", N, 3, S), fresh("f32", N, S, 2)), (N, 3, 2)),
    (ops.Softmax(fresh("f32", N, S), 1), (N, S)),
    (ops.LayerNorm(fresh("f32", N, S), None, None, 1, 1e-5), (N, S)),
    (ops.Reshape(fresh("f32", N, S, 6), (N, S, 2, 3)), (N, S, 2, 3)),
    (ops.Reshape(fresh("f32", N, S, 6), (N * S, 6)), (N * S, 6)),
    (ops.Reshape(fresh("f32", N * S, 6), (N, S, 3, 2)), (N, S, 3, 2)),
    (ops.Reshape(fresh("f32", N, S), (S, N)), (S, N)),
    (ops.Transpose(fresh("f32", N, S, 2), (1, 0, 2)), (S, N, 2)),
    (ops.Concat((fresh("f32", N, 2), fresh("f32", S, 2)), 0), (N + S, 2)),
    (ops.Slice(fresh("f32", N, 4), (1, 0), (N, 4), (1, 1)), (N - 1, 4)),
    (ops.Expand(fresh("f32", N, 1), (N, S)), (N, S)),
    (ops.Pad(fresh("f32", N), None, ((1, 2),)), (N + 3,)),
    (ops.Pad(fresh("f32", N), None, ((1, 2),), "reflect"), (N + 3,)),
    (ops.Tile(fresh("f32", N), (S,)), (N * S,)),
    (ops.CumSum(fresh("f32", N, S), 1, False, True), (N, S)),
    (ops.Iota((N, S), 1, "i64"), (N, S)),
    (ops.Gather(fresh("f32", 5, N), fresh("i64", S), 0), (S, N)),
    (reduce.Mean(fresh("f32", N, S), (1,), True), (N, 1)),
    (reduce.ArgMax(fresh("f32", N, S), 1, False, False), (N,)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "shape"), SYMBOLIC, ids=[op.op_name for op, _ in SYMBOLIC])
def test_symbolic_dimensions(op: TensorOp, shape: tuple[Any, ...]) -> None:
    """Inference in symbols; then kernel and reference agree for some values of them."""
    assert op.result.tensor.dims == shape
    env = {"N": 3, "S": 6}
    rng = np.random.default_rng(1)
    arrays: list[Any] = []
    for value in op.inputs:
        dims = [d if isinstance(d, int) else d.evaluate(env) for d in value.tensor.dims]
        data = rng.standard_normal(dims) if value.tensor.dtype == "f32" else rng.integers(-5, 5, dims)
        arrays.append(data.astype(np.float32 if value.tensor.dtype == "f32" else np.int64))
    with known_symbols(env):
        (want,) = reference(op, arrays)
    assert want.shape == tuple(d if isinstance(d, int) else d.evaluate(env) for d in shape)
    (got,) = run_kernel(kernel_of(op), arrays, env)
    assert_close(got, want)


# -- the form that code generation expects --------------------------------------------------------------------------


def stages(op: TensorOp) -> tuple[list[Map], list[Reduce]]:
    """The parallel and the folding stages of the kernel form."""
    inner = list(kernel_of(op).walk())
    return [s for s in inner if isinstance(s, Map)], [s for s in inner if isinstance(s, Reduce)]


def test_convolution_is_one_map_and_one_reduction() -> None:
    same, one = ((1, 1), (1, 1)), (1, 1)
    maps, reductions = stages(ops.Conv(fresh("f32", 1, 8, 9, 9), fresh("f32", 4, 8, 3, 3), None, one, same, one, 1))
    assert [str(d) for d in maps[0].dims] == ["n: 1", "o: 4", "h: 9", "w: 9"]
    assert [str(d) for d in reductions[0].dims] == ["c: 8", "i: 3", "j: 3"]
    assert len(maps) == len(reductions) == 1


def test_convolution_of_points_reduces_over_channels_only() -> None:
    none = ((0, 0), (0, 0))
    _, (r,) = stages(ops.Conv(fresh("f32", 1, 8, 9, 9), fresh("f32", 4, 8, 1, 1), None, (2, 2), none, (1, 1), 1))
    assert [str(d) for d in r.dims] == ["c: 8"]


def test_grouped_convolution_has_a_group_dimension_and_depthwise_has_none() -> None:
    none = ((0, 0), (0, 0))
    (grouped,), _ = stages(ops.Conv(fresh("f32", 1, 8, 9, 9), fresh("f32", 4, 4, 3, 3), None, (1, 1), none, (1, 1), 2))
    assert [d.name for d in grouped.dims] == ["n", "g", "o", "h", "w"]
    (depthwise,), (r,) = stages(
        ops.Conv(fresh("f32", 1, 8, 9, 9), fresh("f32", 8, 1, 3, 3), None, (1, 1), none, (1, 1), 8)
    )
    assert [d.name for d in depthwise.dims] == ["n", "o", "h", "w"]
    assert [d.name for d in r.dims] == ["i", "j"]


@pytest.mark.parametrize(
    ("old", "new", "divides"),
    [((6, 4), (2, 3, 4), False), ((2, 3, 4), (6, 4), False), ((6, 4), (3, 8), False), ((6, 4), (4, 6), True)],
)
def test_reshape_divides_only_where_it_must(old: tuple[int, ...], new: tuple[int, ...], divides: bool) -> None:
    maps, _ = stages(ops.Reshape(fresh("f32", *old), new))
    text = " ".join(str(e) for op in maps[0].region for e in getattr(op, "map", ()))
    assert ("floordiv" in text) == divides


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ops.Add(fresh("f32", 2), fresh("f64", 2)), r"expected operands of one element type"),
        (lambda: ops.Add(fresh("f32", 2), fresh("f32", 3)), r"expected shapes that broadcast, got f32\[2\], f32\[3\]"),
        (lambda: ops.Exp(fresh("i32", 2)), r"expected an element type of kind \['float'\], got i32"),
        (lambda: ops.MatMul(fresh("f32", 2, 3), fresh("f32", 4, 5)), r"expected the last dimension of a to be 4"),
        (lambda: ops.Reshape(fresh("f32", 2, 3), (7,)), r"expected a shape of 6 elements for f32\[2,3\], got \[7\]"),
        (lambda: ops.Transpose(fresh("f32", 2, 3), (0, 0)), r"expected a permutation of 2 dimensions, got \(0, 0\)"),
        (lambda: ops.Softmax(fresh("f32", 2, 3), 2), r"expected an axis of f32\[2,3\], got 2"),
        (
            lambda: ops.Conv(fresh("f32", 1, 4, 5), fresh("f32", 2, 3, 3), None, (1,), ((0, 0),), (1,), 1),
            r"expected x with 3 channels for w f32\[2,3,3\], got f32\[1,4,5\]",
        ),
        (
            lambda: ops.MaxPool(fresh("f32", 1, 4, 2), (3,), (1,), ((0, 0),), (1,)),
            r"expected at least 3 elements in dimension 2, got 2 with pads \(0, 0\)",
        ),
        (lambda: ops.Slice(fresh("f32", 4), (1,), (9,), (1,)), r"expected start and stop within 0 to 4 for size 4"),
        (lambda: ops.Concat((fresh("f32", 2, 3), fresh("f32", 2, 4)), 0), r"expected sizes that agree in dimension 1"),
        (lambda: ops.Gather(fresh("f32", 4), fresh("f32", 1), 0), r"expected indices of an integer type, got f32"),
    ],
)
def test_wrong_operands_are_refused(make: Any, message: str) -> None:
    with pytest.raises(VerifyError, match=message):
        make()


# -- against ONNX Runtime -------------------------------------------------------------------------------------------

ONNX_TYPES = {
    "f32": TensorProto.FLOAT, "f64": TensorProto.DOUBLE, "f16": TensorProto.FLOAT16, "i32": TensorProto.INT32,
    "i64": TensorProto.INT64, "u8": TensorProto.UINT8, "i8": TensorProto.INT8, "bool": TensorProto.BOOL,
    "i16": TensorProto.INT16, "u16": TensorProto.UINT16,
}  # fmt: skip


def onnx_pads(pads: Any) -> list[int]:
    """(before, after) pairs in ONNX's order."""
    return [p[0] for p in pads] + [p[1] for p in pads]


def window(op: Any, **more: Any) -> dict[str, Any]:
    """Attributes of a pooling."""
    attributes = {"kernel_shape": op.window, "strides": op.strides, "pads": onnx_pads(op.pads)}
    return {**attributes, "dilations": op.dilations, **more}


def spatial(op: Any, **more: Any) -> dict[str, Any]:
    """Attributes of a convolution."""
    attributes = {"strides": op.strides, "pads": onnx_pads(op.pads), "dilations": op.dilations, "group": op.groups}
    return {**attributes, **more}


def reduction(op: Any) -> dict[str, Any]:
    """Attributes of a reduction, before axes became an input."""
    return {"keepdims": int(op.keepdims)}


def nothing(op: Any) -> dict[str, Any]:
    """No attributes."""
    return {}


TRANSLATIONS: dict[type[TensorOp], tuple[str, Callable[[Any], dict[str, Any]]]] = {
    ops.Conv: ("Conv", spatial),
    ops.ConvTranspose: ("ConvTranspose", lambda o: spatial(o, output_padding=o.output_pads)),
    ops.MaxPool: ("MaxPool", window),
    ops.AveragePool: ("AveragePool", lambda o: window(o, count_include_pad=int(o.include_pad))),
    ops.BatchNorm: ("BatchNormalization", lambda o: {"epsilon": o.epsilon}),
    ops.LRN: ("LRN", lambda o: {"size": o.size, "alpha": o.alpha, "beta": o.beta, "bias": o.bias}),
    ops.LayerNorm: ("LayerNormalization", lambda o: {"axis": o.axis, "epsilon": o.epsilon}),
    ops.Softmax: ("Softmax", lambda o: {"axis": o.axis}),
    ops.LogSoftmax: ("LogSoftmax", lambda o: {"axis": o.axis}),
    ops.Transpose: ("Transpose", lambda o: {"perm": o.perm}),
    ops.Concat: ("Concat", lambda o: {"axis": o.axis}),
    ops.Gather: ("Gather", lambda o: {"axis": o.axis}),
    ops.GatherElements: ("GatherElements", lambda o: {"axis": o.axis}),
    ops.GatherND: ("GatherND", lambda o: {"batch_dims": o.batch_dims}),
    ops.ScatterElements: ("ScatterElements", lambda o: {"axis": o.axis, "reduction": o.reduction}),
    ops.ScatterND: ("ScatterND", lambda o: {"reduction": o.reduction}),
    ops.Quantize: ("QuantizeLinear", lambda o: {"axis": o.axis, "block_size": o.block}),
    ops.Dequantize: ("DequantizeLinear", lambda o: {"axis": o.axis, "block_size": o.block}),
    reduce.ArgMax: ("ArgMax", lambda o: {"axis": o.axis, "select_last_index": int(o.last), **reduction(o)}),
    reduce.ArgMin: ("ArgMin", lambda o: {"axis": o.axis, "select_last_index": int(o.last), **reduction(o)}),
    ops.LeakyRelu: ("LeakyRelu", lambda o: {"alpha": o.alpha}),
    ops.Elu: ("Elu", lambda o: {"alpha": o.alpha}),
    ops.Celu: ("Celu", lambda o: {"alpha": o.alpha}),
    ops.ThresholdedRelu: ("ThresholdedRelu", lambda o: {"alpha": o.alpha}),
    ops.Selu: ("Selu", lambda o: {"alpha": o.alpha, "gamma": o.gamma}),
    ops.Gelu: ("Gelu", lambda o: {"approximate": o.approximate}),
    ops.HardSigmoid: ("HardSigmoid", lambda o: {"alpha": o.alpha, "beta": o.beta}),
    ops.Clip: ("Clip", nothing),
    ops.IsInf: ("IsInf", lambda o: {"detect_positive": int(o.positive), "detect_negative": int(o.negative)}),
    ops.Cast: ("Cast", lambda o: {"to": ONNX_TYPES[o.dtype]}),
    ops.Rem: ("Mod", lambda o: {"fmod": 1}),
    ops.Minimum: ("Min", nothing),
    ops.Maximum: ("Max", nothing),
}
for _kind in tensor_ops():
    if _kind.names.get("onnx") and all(f.kind == "operand" for f in _kind.fields):
        TRANSLATIONS[_kind] = (_kind.names["onnx"], nothing)
# Reductions over axes, whose axes are an input.
AXES: dict[type[TensorOp], str] = {
    reduce.Sum: "ReduceSum", reduce.Mean: "ReduceMean", reduce.Prod: "ReduceProd", reduce.Max: "ReduceMax",
    reduce.Min: "ReduceMin",
}  # fmt: skip


def run_onnx(op_type: str, inputs: list[Any], attributes: dict[str, Any], dtype: str) -> Any:
    """The only output of one operator in ONNX Runtime, with optimisations off; None where it has no kernel for it."""
    names = ["" if a is None else f"x{i}" for i, a in enumerate(inputs)]
    while names and not names[-1]:
        names.pop()
    given = [
        helper.make_tensor_value_info(name, ONNX_TYPES[dtype_of(a)], a.shape)
        for name, a in zip(names, inputs, strict=False)
        if name
    ]
    node = helper.make_node(op_type, names, ["y"], **attributes)
    graph = helper.make_graph([node], "g", given, [helper.make_tensor_value_info("y", ONNX_TYPES[dtype], None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = cast("Any", onnxruntime).SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    except Exception as e:  # ONNX Runtime's classes have no common base but Exception
        if type(e).__name__ == "NotImplemented" or "Type Error: Type 'tensor(" in str(e):
            return None
        raise
    results = cast("Any", session).run(None, {n: a for n, a in zip(names, inputs, strict=False) if n})
    return results[0]


# Samples that ONNX or ONNX Runtime's CPU kernels do not take, or take otherwise, and why we do.
DIFFERENT = {
    "arith.cast-1": "float to a narrow integer out of range is undefined in ONNX; we saturate",
    "arith.cast-2": "float to a narrow integer out of range is undefined in ONNX; we saturate",
    "arith.div-7": "division of integers by zero is undefined in ONNX; we give 0",
    "nn.average_pool-12": "ONNX Runtime refuses pads as large as the window",
    "nn.layer_norm-2": "ONNX requires a scale",
    "nn.layer_norm-3": "ONNX requires a scale",
    "nn.lrn-1": "ONNX Runtime refuses an even size",
    "nn.lrn-2": "ONNX Runtime takes rank 4 only",
    "nn.lrn-5": "ONNX Runtime takes rank 4 only",
    "quant.quantize-2": "the result type is an attribute in ONNX",
    "quant.quantize-7": "ONNX wants scale and x of one type",
    "reduce.mean-7": "the mean of nothing is undefined in ONNX; we give NaN",
    "shape.transpose-4": "an empty permutation cannot be written as an attribute",
}


def slice_inputs(op: Any) -> list[Any]:
    """Starts, ends, axes and steps; an end of -1 would be one before the last."""
    stops: list[int] = [*op.stops]
    return [op.starts, [-99 if n < 0 else n for n in stops], range(len(stops)), op.steps]


# Operations whose attributes are inputs in ONNX.
AS_INPUTS: dict[type[TensorOp], tuple[str, Callable[[Any], list[Any]]]] = {
    ops.Reshape: ("Reshape", lambda o: [o.shape]),
    ops.Expand: ("Expand", lambda o: [o.shape]),
    ops.Tile: ("Tile", lambda o: [o.repeats]),
    ops.Slice: ("Slice", slice_inputs),
    ops.CumSum: ("CumSum", lambda o: [o.axis]),
    ops.Pad: ("Pad", lambda o: [onnx_pads(o.pads)]),
}
COMPARED = [(name, op) for name, op in ALL if type(op) in {**TRANSLATIONS, **AXES, **AS_INPUTS}]


def translated(op: TensorOp) -> tuple[str, list[Any], dict[str, Any]]:
    """ONNX operator, inputs and attributes of an operation."""
    arrays = sample_arrays(op)
    if isinstance(op, reduce.Reduction):
        axes = np.array(op.axes, np.int64)
        return AXES[type(op)], [*arrays, axes], {**reduction(op), "noop_with_empty_axes": 1}
    if type(op) in AS_INPUTS:
        op_type, extra = AS_INPUTS[type(op)]
        attributes: dict[str, Any] = {}
        match op:
            case ops.Pad():
                attributes = {"mode": op.mode}
            case ops.CumSum():
                attributes = {"exclusive": int(op.exclusive), "reverse": int(op.reverse)}
            case ops.Reshape():
                attributes = {"allowzero": 1}
            case _:
                pass
        return op_type, [arrays[0], *(np.array(e, np.int64) for e in extra(op)), *arrays[1:]], attributes
    op_type, of = TRANSLATIONS[type(op)]
    return op_type, operands(op, arrays), of(op)


@pytest.mark.parametrize(("name", "op"), COMPARED, ids=[name for name, _ in COMPARED])
def test_reference_agrees_with_onnxruntime(name: str, op: TensorOp) -> None:
    if name in DIFFERENT:
        pytest.skip(DIFFERENT[name])
    dtypes = [v.tensor.dtype for v in (*op.inputs, *op.results)]
    if not set(dtypes) <= ONNX_TYPES.keys():
        pytest.skip(f"ONNX Runtime takes no NumPy arrays of {dtypes}")
    op_type, inputs, attributes = translated(op)
    want = run_onnx(op_type, inputs, attributes, op.result.tensor.dtype)
    if want is None:
        pytest.skip(f"ONNX Runtime has no {op_type} for {dtypes}")
    (got,) = reference(op, sample_arrays(op))
    # ONNX's attributes are f32, and ONNX Runtime computes some functions of f64 with f32 constants.
    assert_close(got, want, factor=1e4 if "f64" in dtypes else 4.0)


def test_the_list_of_differences_names_samples_that_exist() -> None:
    assert DIFFERENT.keys() <= {name for name, _ in COMPARED}


# -- as part of a module --------------------------------------------------------------------------------------------


def module_of(op: TensorOp) -> Module:
    """A module whose graph is the operation, and a second one, `kernel`, that is its kernel form."""
    graphs: list[Graph] = []
    for name in ("main", "kernel"):
        graph = Graph(name, [v.type for v in op.inputs], [f"x{i}" for i in range(len(op.inputs))])
        own = op.clone(dict(zip(op.inputs, graph.params, strict=True))) if name == "main" else kernel_of(op)
        if isinstance(own, KernelOp):
            own = own.clone(dict(zip(op.inputs, graph.params, strict=True)))
        graph.body.append(own)
        graph.body.append(Return(own.results))
        graph.result_names = [f"y{i}" for i in range(len(own.results))]
        graphs.append(graph)
    return Module(graphs)


@pytest.mark.parametrize("op", [op for _, op in ALL], ids=[name for name, _ in ALL])
def test_module_verifies_and_its_text_reads_back(op: TensorOp) -> None:
    module = module_of(op)
    verify(module)
    text = print_module(module)
    again = parse_module(text)
    verify(again)
    assert print_module(again) == text
