"""Lowerings of MindIR's losses."""

from __future__ import annotations

from .lower_common import axis_of, constant, operands, rank, reshaped
from .lower_make import filled, one_hot
from .lower_math import log1p
from .lower_pairs import without
from .lower_reduce import reduced, vector_norm
from .primitive import Call, Datum, Item, primitive

REDUCTIONS = {0: "SUM", 1: "MEAN", 2: "NONE"}


def combined(call: Call, loss: Item, name: str = "reduction") -> Item:
    """Losses of elements as the argument `reduction` says: their sum, mean, or themselves."""
    word = call.word(name, REDUCTIONS, "mean")
    if word == "NONE":
        return loss
    axes = range(rank(call, loss))
    if word == "BATCHMEAN":
        batch = call.cast(call.op("Squeeze", call.a.sizes(call.shape(loss)[:1]), [0]), call.element_type(loss))
        return call.op("Div", reduced(call, "ReduceSum", loss, axes, False), batch)
    return reduced(call, "ReduceSum" if word == "SUM" else "ReduceMean", loss, axes, False)


def optional(call: Call, name: str) -> Item | None:
    """A tensor that may be left out."""
    return call.tensor(name) if call.datum(name, None) is not None else None


def scaled(call: Call, loss: Item, weight: Item | None) -> Item:
    """Losses times weights."""
    return loss if weight is None else call.op("Mul", *operands(call, loss, weight))


def _minus(call: Call, x: Item) -> Item:
    """`1 - x`."""
    return call.op("Sub", constant(call, 1, x), x)


@primitive("BinaryCrossEntropy")
def binary_cross_entropy(call: Call) -> Item:
    """`-(target log(x) + (1 - target) log(1 - x))`; logarithms of at least 1e-12."""
    x, target = call.tensor(0), call.tensor(1)
    least = constant(call, 1e-12, x)
    yes = call.op("Mul", target, call.op("Log", call.op("Max", x, least)))
    no = call.op("Mul", _minus(call, target), call.op("Log", call.op("Max", _minus(call, x), least)))
    return combined(call, scaled(call, call.op("Neg", call.op("Add", yes, no)), optional(call, "weight")))


def soft_sigmoid_loss(call: Call, x: Item) -> Item:
    """`log(1 + exp(-x))` without overflow."""
    zero = constant(call, 0, x)
    tail = log1p(call, call.op("Exp", call.op("Neg", call.op("Abs", x))))
    return call.op("Add", call.op("Max", call.op("Neg", x), zero), tail)


@primitive("BCEWithLogitsLoss")
def bce_with_logits(call: Call) -> Item:
    """Binary cross entropy of the sigmoid, positive examples weighed by `posWeight`."""
    x, target = operands(call, call[0], call[1])
    weight = _minus(call, target)
    positive = optional(call, "posWeight")
    factor = target if positive is None else call.op("Mul", *operands(call, target, positive))
    loss = call.op("Mul", call.op("Add", weight, factor), soft_sigmoid_loss(call, x))
    loss = call.op("Add", call.op("Mul", weight, x), loss)
    return combined(call, scaled(call, loss, optional(call, "weight")))


@primitive("SigmoidCrossEntropyWithLogits")
def sigmoid_cross_entropy(call: Call) -> Item:
    """Binary cross entropy of the sigmoid, element by element."""
    x, target = operands(call, call[0], call[1])
    return call.op("Add", soft_sigmoid_loss(call, x), call.op("Mul", _minus(call, target), x))


@primitive("KLDivLoss", "KLDiv")
def kl_div(call: Call) -> Item:
    """`target (log(target) - x)`, 0 where the target is 0."""
    x, target = operands(call, call[0], call[1])
    if call.name == "KLDiv" and call.flag("log_target", False):
        return combined(call, call.op("Mul", call.op("Exp", target), call.op("Sub", target, x)))
    loss = call.op("Mul", target, call.op("Sub", call.op("Log", target), x))
    positive = call.op("Greater", target, constant(call, 0, target))
    return combined(call, without(call, call.op("Not", positive), loss))


@primitive("L1LossExt")
def l1_loss(call: Call) -> Item:
    """Absolute differences."""
    return combined(call, call.op("Abs", call.op("Sub", *operands(call, call[0], call[1]))))


@primitive("MSELossExt")
def mse_loss(call: Call) -> Item:
    """Squared differences."""
    d = call.op("Sub", *operands(call, call[0], call[1]))
    return combined(call, call.op("Mul", d, d))


@primitive("SmoothL1Loss")
def smooth_l1_loss(call: Call) -> Item:
    """`d * d / (2 beta)` below beta, `d - beta / 2` above."""
    d = call.op("Abs", call.op("Sub", *operands(call, call[0], call[1])))
    beta = call.real("beta", 1.0)
    if beta == 0:
        return combined(call, d)
    near = call.op("Mul", call.op("Mul", d, d), constant(call, 0.5 / beta, d))
    small = call.op("Less", d, constant(call, beta, d))
    return combined(call, call.op("Where", small, near, call.op("Sub", d, constant(call, beta / 2, d))))


@primitive("SoftMarginLoss")
def soft_margin_loss(call: Call) -> Item:
    """`log(1 + exp(-target x))`."""
    return combined(call, soft_sigmoid_loss(call, call.op("Mul", *operands(call, call[0], call[1]))))


@primitive("CosineEmbeddingLoss")
def cosine_embedding_loss(call: Call) -> Item:
    """`1 - cos` where the target is 1, `max(cos - margin, 0)` where it is -1."""
    x, y, target = call.tensor(0), call.tensor(1), call.tensor(2)
    axis = [1] if rank(call, target) else [rank(call, x) - 1]
    dot, xx, yy = (call.op("ReduceSum", call.op("Mul", a, b), axis, keepdims=0) for a, b in ((x, y), (x, x), (y, y)))
    tiny = constant(call, 1e-12, x)
    product = call.op("Mul", call.op("Add", xx, tiny), call.op("Add", yy, tiny))
    cosine = call.op("Div", dot, call.op("Sqrt", product))
    zero = constant(call, 0, x)
    apart = call.op("Max", call.op("Sub", cosine, constant(call, call.real("margin", 0.0), x)), zero)
    tests = [call.op("Equal", target, constant(call, v, target)) for v in (1, -1)]
    return combined(
        call,
        call.op("Where", tests[0], _minus(call, cosine), call.op("Where", tests[1], apart, zero)),
    )


# -- classes -----------------------------------------------------------------------------------------------------------


def picked(call: Call, log_probs: Item, target: Item, weight: Item | None, ignore: int) -> tuple[Item, Item]:
    """(minus the weighed log probability of each target along axis 1, its weight: 0 for targets to be ignored)."""
    classes = 1 if rank(call, log_probs) > 1 else 0
    at = call.cast(target, "i64")
    valid = call.op("Not", call.op("Equal", at, call.a.scalar(ignore, "i64")))
    at = call.op("Where", valid, at, call.a.scalar(0, "i64"))
    own = call.op("GatherElements", log_probs, call.op("Unsqueeze", at, [classes]), axis=classes)
    own = call.op("Squeeze", own, [classes])
    if weight is None:
        share = call.cast(valid, call.element_type(log_probs))
    else:
        share = call.cast(call.op("Gather", weight, at, axis=0), call.element_type(log_probs))
        share = call.op("Where", valid, share, constant(call, 0, share))
    return call.op("Neg", call.op("Mul", own, share)), share


def weighed(call: Call, loss: Item, share: Item) -> tuple[Item, Item]:
    """(losses combined, where a mean divides by the sum of weights; that sum)."""
    axes = range(rank(call, share))
    total = reduced(call, "ReduceSum", share, axes, False)
    word = call.word("reduction", REDUCTIONS, "mean")
    if word == "NONE":
        return loss, total
    sum_ = reduced(call, "ReduceSum", loss, range(rank(call, loss)), False)
    return (sum_ if word == "SUM" else call.op("Div", sum_, total)), total


@primitive("NLLLoss", "NLLLoss2d")
def nll_loss(call: Call) -> Datum:
    """(minus the log probabilities of targets, the sum of their weights)."""
    names = ("logits", "labels") if call.name == "NLLLoss" else ("input", "target")
    x, target = (call.tensor(n) for n in names)
    loss, share = picked(call, x, target, optional(call, "weight"), call.integer("ignore_index", -100))
    return weighed(call, loss, share)


@primitive("CrossEntropyLoss")
def cross_entropy_loss(call: Call) -> Datum:
    """(cross entropy, log probabilities, an empty tensor, the logarithms of sums)."""
    x, target = call.tensor("input"), call.tensor("target")
    weight = optional(call, "weight")
    log_probs = call.op("LogSoftmax", x, axis=1)
    loss, share = picked(call, log_probs, target, weight, call.integer("ignore_index", -100))
    smoothing = call.real("label_smoothing", 0.0)
    result, total = weighed(call, loss, share)
    if smoothing:
        spread = log_probs if weight is None else call.op("Mul", log_probs, reshaped(call, weight, [1, -1]))
        valid = call.cast(call.op("Not", call.op("Equal", share, constant(call, 0, share))), call.element_type(x))
        spread = call.op("Neg", call.op("Mul", call.op("ReduceSum", spread, [1], keepdims=0), valid))
        smooth, word = spread, call.word("reduction", REDUCTIONS, "mean")
        if word != "NONE":
            smooth = reduced(call, "ReduceSum", spread, range(rank(call, spread)), False)
        if word == "MEAN":
            smooth = call.op("Div", smooth, total)
        classes = call.op("Squeeze", call.a.sizes(call.shape(x)[1:2]), [0])
        part = call.op("Div", constant(call, smoothing, x), call.cast(classes, call.element_type(x)))
        kept = call.op("Mul", result, constant(call, 1 - smoothing, x))
        result = call.op("Add", kept, call.op("Mul", smooth, part))
    lse = call.op("ReduceLogSumExp", x, [1], keepdims=0)
    return result, log_probs, filled(call, [0], 0, call.element_type(x)), lse


@primitive("SoftmaxCrossEntropyWithLogits")
def softmax_cross_entropy(call: Call) -> Datum:
    """(cross entropy of the softmax with labels, its gradient)."""
    x, labels = call.tensor(0), call.tensor(1)
    products = call.op("Mul", labels, call.op("LogSoftmax", x, axis=1))
    loss = call.op("Neg", call.op("ReduceSum", products, [1], keepdims=0))
    return loss, call.op("Sub", call.op("Softmax", x, axis=1), labels)


@primitive("SparseSoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogitsV2")
def sparse_softmax_cross_entropy(call: Call) -> Datum:
    """The mean cross entropy of the softmax with classes, or its gradient; V2: (losses, gradients)."""
    x, labels = call.tensor(0), call.tensor(1)
    loss, _ = picked(call, call.op("LogSoftmax", x, axis=1), labels, None, -(2**62))
    slope = call.op("Sub", call.op("Softmax", x, axis=1), one_hot(call, labels, call.shape(x)[1], 1.0, 0.0, -1))
    if call.name.endswith("V2"):
        return loss, slope
    if call.flag("is_grad", False):
        batch = call.op("Squeeze", call.a.sizes(call.shape(x)[:1]), [0])
        return call.op("Div", slope, call.cast(batch, call.element_type(x)))
    return call.op("ReduceMean", loss, [0], keepdims=0)


@primitive("MultiMarginLoss")
def multi_margin_loss(call: Call) -> Item:
    """`max(0, margin - x[target] + x) ** p`, the mean over the other classes."""
    x, target = call.tensor(0), call.cast(call.tensor(1), "i64")
    p, margin = call.integer("p", 1), constant(call, call.real("margin", 1.0), x)
    own = call.op("GatherElements", x, call.op("Unsqueeze", target, [1]), axis=1)
    gap = call.op("Max", call.op("Add", call.op("Sub", margin, own), x), constant(call, 0, x))
    gap = call.op("Mul", gap, gap) if p == 2 else gap
    if len([d for d in call.given if isinstance(d, Item)]) > 2 and call.datum("weight", None) is not None:
        weights = call.op("Gather", call.tensor("weight"), target, axis=0)
        gap = call.op("Mul", gap, call.op("Unsqueeze", weights, [1]))
    is_own = one_hot(call, target, call.shape(x)[1], True, False, -1)
    others = call.op("ReduceSum", without(call, is_own, gap), [1], keepdims=0)
    classes = call.cast(call.op("Squeeze", call.a.sizes(call.shape(x)[1:2]), [0]), call.element_type(x))
    return combined(call, call.op("Div", others, classes))


@primitive("TripletMarginLoss")
def triplet_margin_loss(call: Call) -> Item:
    """`max(distance to the positive - distance to the negative + margin, 0)`."""
    x, positive, negative = (call.tensor(i) for i in range(3))
    p, tiny = float(call.integer("p", 2)), constant(call, call.real("eps", 1e-6), x)

    def distance(a: Item, b: Item) -> Item:
        d = call.op("Add", call.op("Sub", a, b), tiny)
        return vector_norm(call, d, p, [axis_of(call, -1, rank(call, d))], False)

    near, far = distance(x, positive), distance(x, negative)
    if call.flag("swap", False):
        far = call.op("Min", far, distance(positive, negative))
    margin = reshaped(call, call.cast(call.tensor("margin"), call.element_type(x)), [])
    gap = call.op("Add", call.op("Sub", near, far), margin)
    return combined(call, call.op("Max", gap, constant(call, 0, x)))


__all__ = ["combined", "optional", "soft_sigmoid_loss"]
