"""Dropout, and one step of the optimizers of `ai.onnx.preview.training`: formulas over weights and gradients."""

from __future__ import annotations

from ...ir.constants import ConstantData
from ...ir.core import Value
from ...ir.expr import as_dim, product
from ...ir.ops.arith import Cast
from ...ir.ops.host.random import RandomUniform
from ...ir.ops.mersenne import Mersenne
from ...ir.ops.shape import Expand
from ...ir.types import TensorType
from .arith import same
from .calc import Calc
from .node import Node, Results, converter
from .scope import Known, Unsupported

_DOMAIN = "ai.onnx.preview.training"


@converter("Dropout")
def dropout(node: Node) -> Results:
    """Dropout: outside of training the input itself, and a mask of trues."""
    if node.opset >= 12 and node.has(2):
        mode = node.scope.array(node.proto.input[2])
        if mode is None or bool(mode.reshape(-1)[0]):
            return _dropped(node)
    results: list[Value | Known | ConstantData | None] = [same(node), None]
    if node.wants(1):
        x, dtype = node.type(0), "bool" if node.opset >= 10 else node.type(0).dtype
        if x.is_static:
            results[1] = ConstantData.splat(True, dtype, x.static_shape)
        else:
            results[1] = node.make(Expand, node.splat(True, dtype), node.shape(0))
    return results


def _dropped(node: Node) -> tuple[Value, Value]:
    """Dropout while training: every element is kept with a probability of `1 - ratio`, and divided by that. Which ones
    follows from the seed as in ONNX's own definition; without one the runtime's generator says so."""
    x, dtype = node.value(0), node.type(0).dtype
    wide = "f64" if dtype == "f64" else "f32"
    ratio = Calc(node, node.make(Cast, node.value(1), wide) if node.has(1) else node.splat(0.5, wide)).reshaped()
    training = Calc(node, node.value(2)).reshaped()
    ratio = training.where(ratio, 0.0)
    if node.has_attribute("seed"):
        numbers = node.make(Mersenne, as_dim(product(node.shape(0))), node.integer("seed") & 0xFFFFFFFF)
        draw = Calc(node, numbers).reshaped(*node.shape(0))
    else:
        shape = node.scope.materialise(Known.of(list(node.shape(0))))
        types = [TensorType("f64", node.shape(0))]
        draw = Calc(node, node.host(RandomUniform, shape, "f64", 0.0, 1.0, None, types=types)[0])
    kept = draw >= ratio.cast("f64")
    share = 1 - ratio
    scaled = Calc(node, x).cast(wide) / share.equals(0).where(share + 1, share)
    return kept.where(scaled, 0).cast(dtype).value, kept.value


def _groups(node: Node, kinds: int) -> tuple[Calc, Calc, list[list[Calc]]]:
    """Rate, number of the step, and for each weight its inputs: weights, gradients, and what else there is."""
    rate, step, *rest = (Calc(node, v) for v in node.values())
    count = len(rest) // kinds
    if count * kinds != len(rest) or not count:
        raise node.error(f"expected a multiple of {kinds} inputs after the rate and the step, got {len(rest)}")
    return rate.reshaped(), step.reshaped(), [rest[i::count] for i in range(count)]


@converter("Momentum", domain=_DOMAIN)
def momentum(node: Node) -> list[Value]:
    """Momentum: standard or Nesterov's."""
    alpha, norm = node.real("alpha"), node.real("norm_coefficient")
    mode = node.string("mode")
    if mode not in ("standard", "nesterov"):
        raise node.error(f"mode: expected standard or nesterov, got {mode!r}")
    rate, step, groups = _groups(node, 3)
    weights: list[Value] = []
    velocities: list[Value] = []
    for x, gradient, velocity in groups:
        regular = x * norm + gradient
        first = step.equals(0).cast(x.dtype)  # in the first step the gradient counts in full
        beta = first + (1 - first) * node.real("beta")
        new = velocity * alpha + regular * beta
        change = new if mode == "standard" else regular + new * alpha
        weights.append((x - rate.cast(x.dtype) * change).value)
        velocities.append(new.value)
    return [*weights, *velocities]


@converter("Adagrad", domain=_DOMAIN)
def adagrad(node: Node) -> list[Value]:
    """Adagrad."""
    norm, epsilon, decay = (
        node.real("norm_coefficient", 0.0),
        node.real("epsilon", 1e-6),
        node.real("decay_factor", 0.0),
    )
    rate, step, groups = _groups(node, 3)
    weights: list[Value] = []
    squares: list[Value] = []
    for x, gradient, square in groups:
        factor = rate.cast(x.dtype) / (step.cast(x.dtype) * decay + 1)
        regular = x * norm + gradient
        new = square + regular * regular
        weights.append((x - factor * regular / (new.sqrt() + epsilon)).value)
        squares.append(new.value)
    return [*weights, *squares]


@converter("Adam", domain=_DOMAIN)
def adam(node: Node) -> list[Value]:
    """Adam."""
    norm, after = node.real("norm_coefficient", 0.0), node.real("norm_coefficient_post", 0.0)
    alpha, beta, epsilon = node.real("alpha", 0.9), node.real("beta", 0.999), node.real("epsilon", 1e-6)
    rate, step, groups = _groups(node, 4)
    columns: list[list[Value]] = [[], [], []]
    for x, gradient, mean, square in groups:
        regular = x * norm + gradient
        new_mean = mean * alpha + regular * (1 - alpha)
        new_square = square * beta + regular * regular * (1 - beta)
        time = step.cast(x.dtype)
        correction = (1 - time.raised(beta)).sqrt() / (1 - time.raised(alpha))
        plain = rate.cast(x.dtype)
        factor = step.equals(0).where(plain, plain * step.equals(0).where(plain * 0 + 1, correction))
        new = (x - factor * new_mean / (new_square.sqrt() + epsilon)) * (1 - after)
        for column, value in zip(columns, (new, new_mean, new_square), strict=True):
            column.append(value.value)
    return [value for column in columns for value in column]


@converter("Gradient", domain=_DOMAIN)
def gradient(node: Node) -> Value:
    """Gradient: planish compiles models for inference."""
    raise Unsupported("derivatives", "export the gradient as a model")
