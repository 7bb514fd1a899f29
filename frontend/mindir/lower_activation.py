"""Lowerings of MindIR's activation functions, softmax and dropout."""

from __future__ import annotations

import numpy as np

from .lower_common import axis_of, constant, floating, rank
from .primitive import Call, Datum, Item, primitive

_PLAIN = {
    "ReLU": "Relu", "Sigmoid": "Sigmoid", "Tanh": "Tanh", "HSwish": "HardSwish", "SeLU": "Selu", "SeLUExt": "Selu",
    "Mish": "Mish", "MishExt": "Mish", "Softplus": "Softplus", "Softsign": "Softsign",
}  # fmt: skip


def _plain(name: str, operator: str) -> None:
    @primitive(name)
    def lowering(call: Call) -> Item:  # pyright: ignore[reportUnusedFunction]
        x = call.tensor(0)
        return call.op(operator, x if operator == "Relu" else floating(call, x))


for _name, _operator in _PLAIN.items():
    _plain(_name, _operator)


@primitive("ReLUV2")
def relu_v2(call: Call) -> Datum:
    """`max(x, 0)`, and where x is above 0 (u8)."""
    x = call.tensor(0)
    return call.op("Relu", x), call.cast(call.op("Greater", x, constant(call, 0, x)), "u8")


@primitive("ReluGrad", "ReLUGrad")
def relu_grad(call: Call) -> Datum:
    """The gradient where the rectifier's result is above 0 (in files of 1.x that hold gradients of single nodes)."""
    gradient, y = call.tensor(0), call.tensor(1)
    return call.op("Where", call.op("Greater", y, constant(call, 0, y)), gradient, constant(call, 0, gradient))


@primitive("ReLU6")
def relu6(call: Call) -> Datum:
    """`min(max(x, 0), 6)`."""
    x = call.tensor(0)
    return call.op("Clip", x, constant(call, 0, x), constant(call, 6, x))


@primitive("Hardtanh")
def hardtanh(call: Call) -> Datum:
    """`x` between two numbers."""
    x = call.tensor(0)
    low, high = call.real("min_val", -1.0), call.real("max_val", 1.0)
    return call.op("Clip", x, constant(call, low, x), constant(call, high, x))


@primitive("GeLU", "Gelu")
def gelu_tanh(call: Call) -> Datum:
    """GELU through tanh."""
    return call.op("Gelu", floating(call, call.tensor(0)), approximate="tanh")


@primitive("GeluExt")
def gelu_ext(call: Call) -> Datum:
    """GELU through erf, or (`approximate` is "tanh") through tanh."""
    approximate = call.word("approximate", {0: "NONE", 1: "TANH"}).lower()
    return call.op("Gelu", floating(call, call.tensor(0)), approximate=approximate)


@primitive("FastGeLU", "QuickGeLU")
def fast_gelu(call: Call) -> Datum:
    """`x * sigmoid(1.702 x)`: what MindSpore's formula with absolute values amounts to."""
    x = floating(call, call.tensor(0))
    return call.op("Mul", x, call.op("Sigmoid", call.op("Mul", x, constant(call, 1.702, x))))


@primitive("SiLU", "Swish")
def silu(call: Call) -> Datum:
    """`x * sigmoid(x)`."""
    x = floating(call, call.tensor(0))
    return call.op("Mul", x, call.op("Sigmoid", x))


@primitive("HSigmoid")
def hsigmoid(call: Call) -> Datum:
    """`min(max(x / 6 + 1/2, 0), 1)`; integers are rounded down."""
    x = call.tensor(0)
    y = call.op("HardSigmoid", floating(call, x), alpha=1 / 6, beta=0.5)
    return call.cast(y, call.element_type(x))


@primitive("PReLU")
def prelu(call: Call) -> Datum:
    """`x` above 0, else `x` times the weight of its channel (dimension 1)."""
    x, weight = call.tensor("input"), call.tensor("weight")
    dims = rank(call, x)
    if dims > 2 and call.shape(weight) not in ((), (1,)):
        weight = call.op("Reshape", weight, np.array([-1] + [1] * (dims - 2), np.int64))
    return call.op("PRelu", x, call.cast(weight, call.element_type(x)))


@primitive("LeakyReLUExt", "LeakyReLU", "LeakyRelu")
def leaky_relu(call: Call) -> Datum:
    """`x` above 0, else `x` times the slope."""
    x = floating(call, call.tensor(0))
    return call.op("LeakyRelu", x, alpha=call.real(call.first("negative_slope", "alpha"), 0.01))


@primitive("Elu", "EluExt")
def elu(call: Call) -> Datum:
    """`x` above 0, else `alpha (exp(x) - 1)`."""
    return call.op("Elu", floating(call, call.tensor(0)), alpha=call.real("alpha", 1.0))


@primitive("CeLU")
def celu(call: Call) -> Datum:
    """`max(x, 0) + min(0, alpha (exp(x / alpha) - 1))`."""
    x = floating(call, call.tensor(0))
    y = call.op("Celu", call.cast(x, "f32"), alpha=call.real("alpha", 1.0))
    return call.cast(y, call.element_type(x))


@primitive("SoftplusExt")
def softplus(call: Call) -> Datum:
    """`log(1 + exp(beta x)) / beta`, and `x` where `beta x` is above the threshold."""
    x = floating(call, call.tensor(0))
    beta, threshold = call.real("beta", 1.0), call.real("threshold", 20.0)
    scaled = call.op("Mul", x, constant(call, beta, x))
    soft = call.op("Div", call.op("Softplus", scaled), constant(call, beta, x))
    return call.op("Where", call.op("Greater", scaled, constant(call, threshold, x)), x, soft)


@primitive("SoftShrink", "Softshrink")
def soft_shrink(call: Call) -> Datum:
    """`x` brought nearer to 0 by lambd."""
    bound = call.real("lambd", 0.5)
    return call.op("Shrink", floating(call, call.tensor(0)), bias=bound, lambd=bound)


@primitive("HShrink", "HardShrink")
def hard_shrink(call: Call) -> Datum:
    """`x`, but 0 from -lambd to lambd."""
    return call.op("Shrink", floating(call, call.tensor(0)), bias=0.0, lambd=call.real("lambd", 0.5))


@primitive("LogSigmoid")
def log_sigmoid(call: Call) -> Datum:
    """`-log(1 + exp(-x))`; some versions give exp(-|x|) with it, for the gradient."""
    x = floating(call, call.tensor(0))
    y = call.op("Neg", call.op("Softplus", call.op("Neg", x)))
    return y if len(call.result_types) < 2 else (y, call.op("Exp", call.op("Neg", call.op("Abs", x))))


@primitive("Threshold")
def threshold(call: Call) -> Datum:
    """`x` above the threshold, else the value."""
    x = call.tensor("input")
    above = call.op("Greater", x, call.cast(call.tensor("threshold", x), call.element_type(x)))
    return call.op("Where", above, x, call.cast(call.tensor("value", x), call.element_type(x)))


@primitive("GLU")
def glu(call: Call) -> Datum:
    """The first half along an axis times the sigmoid of the second."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer("axis", -1), rank(call, x))
    a, b = call.ops("Split", x, outputs=2, axis=axis, num_outputs=2)
    return call.op("Mul", a, call.op("Sigmoid", b))


@primitive("Swiglu")
def swiglu(call: Call) -> Datum:
    """`silu` of the first half along an axis times the second."""
    x = call.tensor(0)
    axis = axis_of(call, call.integer(call.first("dim", "axis"), -1), rank(call, x))
    a, b = call.ops("Split", x, outputs=2, axis=axis, num_outputs=2)
    return call.op("Mul", call.op("Mul", a, call.op("Sigmoid", a)), b)


# -- softmax -----------------------------------------------------------------------------------------------------------


def _implicit_axis(dims: int) -> int:
    """The axis that is meant where none is given, as in PyTorch."""
    return 0 if dims in (0, 1, 3) else 1


@primitive("Softmax", "SoftmaxV2")
def softmax(call: Call) -> Datum:
    """`exp(x) / sum(exp(x))` along one axis, or over several."""
    x = floating(call, call.tensor(0))
    axes = [axis_of(call, a, rank(call, x)) for a in call.ints("axis", (-1,))]
    if len(axes) == 1:
        return call.op("Softmax", x, axis=axes[0])
    at = np.array(axes, np.int64)
    e = call.op("Exp", call.op("Sub", x, call.op("ReduceMax", x, at)))
    return call.op("Div", e, call.op("ReduceSum", e, at))


@primitive("LogSoftmax", "LogSoftmaxV2")
def log_softmax(call: Call) -> Datum:
    """The logarithm of softmax."""
    x = floating(call, call.tensor(0))
    (axis,) = call.ints("axis", (-1,))
    return call.op("LogSoftmax", x, axis=axis_of(call, axis, rank(call, x)))


@primitive("LogSoftmaxExt")
def log_softmax_ext(call: Call) -> Datum:
    """The logarithm of softmax, perhaps in another element type."""
    x = call.tensor(0)
    dtype = call.dtype("dtype")
    x = floating(call, x) if dtype is None else call.cast(x, dtype)
    dims = rank(call, x)
    axis = _implicit_axis(dims) if call.datum("dim", None) is None else call.integer("dim")
    return call.op("LogSoftmax", x, axis=axis_of(call, axis, dims))


# -- dropout -----------------------------------------------------------------------------------------------------------


@primitive("Dropout", "Dropout2D", "Dropout3D", "DropoutExt", "FuncDropoutExt")
def dropout(call: Call) -> Datum:
    """What planish compiles is for inference, where dropout hands its input over, also in networks that were exported
    for training. The mask is all ones."""
    x = call.tensor(0)
    call.machine.note(
        "dropout hands its input over: the model was exported for training, planish compiles for inference"
    )
    if len(call.result_types) == 1:
        return x
    mask = call.op("Expand", call.a.scalar(1, "u8"), call.op("Shape", x))
    return x, mask if call.name == "DropoutExt" else call.cast(mask, call.element_type(x))


@primitive("DropoutGenMask")
def dropout_mask(call: Call) -> Datum:
    """A mask that drops nothing (it is not looked at)."""
    return call.a.scalar(255, "u8")


@primitive("DropoutDoMask", "DropoutDoMaskExt")
def dropout_apply(call: Call) -> Datum:
    """Dropout by a mask: nothing is dropped."""
    return call[0]
