"""Lowerings of MindIR's primitives that write into their first argument.

Each computes what its twin without "Inplace" does. Parameters hold the result from there on; where the argument is
another tensor, its names stand for the result.
"""

from __future__ import annotations

from .lower_common import axis_of, constant, operands, rank
from .lower_index import kept, like_first, scatter_elements, scattered
from .lower_make import filled
from .primitive import PRIMITIVES, Call, Datum, Item, Lowering, primitive
from .table import arguments

_TWINS = {
    "InplaceAddExt": "AddExt", "InplaceSubExt": "SubExt",
    "InplaceAddsExt": "AddScalar", "InplaceSubScalar": "SubScalar", "InplaceClampScalar": "ClampScalar",
    "InplaceClampTensor": "ClampTensor", "InplaceDiv": "Div", "InplaceDivs": "Divs", "InplaceDivMod": "DivMod",
    "InplaceDivMods": "DivMods", "InplaceElu": "EluExt", "InplaceErfinv": "Erfinv", "InplaceExp": "Exp",
    "InplaceFloor": "Floor", "InplaceFloorDivide": "FloorDiv", "InplaceFloorDivides": "FloorDivScalar",
    "InplaceHardtanh": "Hardtanh", "InplaceIndexAddExt": "IndexAddExt", "InplaceIndexFillScalar": "IndexFillScalar",
    "InplaceIndexFillTensor": "IndexFillTensor", "InplaceLog": "Log", "InplaceMaskedFillScalar": "MaskedFillScalar",
    "InplaceMaskedFillTensor": "MaskedFill", "InplaceMaskedScatter": "MaskedScatter", "InplaceMul": "Mul",
    "InplaceMuls": "Muls", "InplaceReLU": "ReLU", "InplaceRemainderTensorScalar": "RemainderTensorScalar",
    "InplaceRemainderTensorTensor": "RemainderTensorTensor", "InplaceScatterAdd": "ScatterAddExt",
    "InplaceSiLU": "SiLU", "InplaceSigmoid": "Sigmoid", "InplaceSign": "Sign", "InplaceTanh": "Tanh",
    "InplaceThreshold": "Threshold", "InplaceAddmm": "Addmm",
}  # fmt: skip
"""Primitives whose arguments have the names of their twins'."""


def _as_twin(twin: str) -> Lowering:
    def lowering(call: Call) -> Datum:
        result = PRIMITIVES[twin](call)
        assert isinstance(result, Item)
        return kept(call, call.cast(result, call.element_type(call.tensor(0))))

    return lowering


for _name, _twin in _TWINS.items():
    assert len(arguments(_name)) <= len(arguments(_twin)), _name
    primitive(_name)(_as_twin(_twin))


@primitive("InplaceCopy", "SetData")
def copy(call: Call) -> Item:
    """The elements of another tensor."""
    x = call.tensor(0)
    source = like_first(call, x, call[1])
    return kept(call, call.op("Expand", source, list(call.shape(x))))


@primitive("InplaceZero", "InplaceFillScalar", "InplaceFillTensor")
def fill(call: Call) -> Item:
    """One value everywhere."""
    x = call.tensor(0)
    value = 0 if call.name == "InplaceZero" else call.datum("value")
    return kept(call, filled(call, call.shape(x), value, call.element_type(x)))


@primitive("InplaceScatterSrc", "InplaceScatterValue", "InplaceScatterSrcReduce", "InplaceScatterValueReduce")
def scatter(call: Call) -> Item:
    """One update along `dim` for every index."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    source = call.item(call.datum("src" if "Src" in call.name else "value"), x)
    reduction = "none"
    if call.name.endswith("Reduce"):
        reduction = {"ADD": "add", "MULTIPLY": "mul"}.get(call.word("reduce", {1: "ADD", 2: "MULTIPLY"}), "none")
    return kept(call, scatter_elements(call, x, call.tensor("index"), source, axis, reduction))


@primitive("InplaceAddr")
def addr(call: Call) -> Item:
    """`beta * input + alpha * outer product`."""
    x, first, second = operands(call, call[0], call[1], call[2])
    outer = call.op("Mul", call.op("Unsqueeze", first, [1]), call.op("Unsqueeze", second, [0]))
    parts = [
        call.op("Mul", item, constant(call, call.real(name, 1.0), item))
        for name, item in (("beta", x), ("alpha", outer))
    ]
    return kept(call, call.op("Add", *parts))


@primitive("InplaceIndexCopy")
def index_copy(call: Call) -> Item:
    """Slices of a dimension that an index names, replaced."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("dim"), rank(call, x), "dim")
    moved = [axis, *(i for i in range(rank(call, x)) if i != axis)]
    y, source = (call.op("Transpose", i, perm=moved) for i in (x, like_first(call, x, call.datum("tensor"))))
    y = scattered(call, y, call.op("Unsqueeze", call.tensor("index"), [1]), source)
    return kept(call, call.op("Transpose", y, perm=[moved.index(i) for i in range(len(moved))]))


__all__: list[str] = []
