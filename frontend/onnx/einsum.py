"""Einsum as products of matrices, sums, and transpositions."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.core import Value
from ...ir.expr import Dim, as_dim, product
from ...ir.ops.arith import Equal, Mul, Where
from ...ir.ops.linalg import MatMul
from ...ir.ops.reduce import Sum
from ...ir.ops.shape import Expand, Iota, Reshape, Transpose
from .node import Node, converter


@dataclass
class _Term:
    """A tensor whose dimensions have labels, all different."""

    labels: str
    value: Value


@converter("Einsum")
def einsum(node: Node) -> Value:
    """Einsum: operands are joined from the left, each label is summed as soon as nothing needs it any more."""
    inputs, output = _equation(node)
    if len(inputs) != node.count:
        raise node.error(f"equation: expected {node.count} terms, got {len(inputs)}")
    terms = [_diagonal(node, labels, node.value(i)) for i, labels in enumerate(inputs)]
    total = _summed(node, terms[0], output + "".join(inputs[1:]))
    for i, term in enumerate(terms[1:], 1):
        later = output + "".join(inputs[i + 1 :])
        total = _joined(
            node, _summed(node, total, later + term.labels), _summed(node, term, later + total.labels), later
        )
    total = _summed(node, total, output)
    missing = [c for c in output if c not in total.labels]
    if missing or len(set(output)) < len(output):
        raise node.error(f"equation: the result has label {(missing or [*output])[0]!r}, which no term has")
    return _ordered(node, total, output).value


def _equation(node: Node) -> tuple[list[str], str]:
    """Labels of the terms and of the result; the dimensions of an ellipsis become upper-case labels from the end."""
    text = node.string("equation").replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    used = {c for c in text if c.isalpha()}
    free = [c for c in map(chr, range(0x391, 0x391 + 200)) if c.isalpha() and c not in used]
    most = 0
    found: list[str] = []
    for i, term in enumerate(terms):
        if i >= node.count:
            raise node.error(f"equation: expected {node.count} terms, got {len(terms)}")
        extra = node.rank(i) - len(term.replace("...", ""))
        if extra < 0 or (extra and "..." not in term) or extra > len(free):
            raise node.error(f"equation: term {term!r} does not fit an input of rank {node.rank(i)}")
        most = max(most, extra)
        found.append(term.replace("...", "".join(reversed(free[:extra]))))
    ellipsis = "".join(reversed(free[:most]))
    if arrow:
        return found, right.replace("...", ellipsis)
    once = sorted(c for c in used if sum(t.count(c) for t in found) == 1)
    return found, ellipsis + "".join(once)


def _diagonal(node: Node, labels: str, value: Value) -> _Term:
    """A term in which no label occurs twice: of those that do, the diagonal is taken."""
    while True:
        twice = next((c for c in labels if labels.count(c) > 1), None)
        if twice is None:
            return _Term(labels, value)
        first, second = labels.index(twice), labels.rindex(twice)
        dims = node.dims_of(value)
        rank = len(dims)
        one = node.make(Iota, tuple(dims[i] if i == first else 1 for i in range(rank)), first, "i64")
        two = node.make(Iota, tuple(dims[i] if i == second else 1 for i in range(rank)), second, "i64")
        zero = node.splat(0, value.tensor.dtype)
        value = node.make(Where, node.make(Equal, one, two), value, zero)
        value = node.make(Sum, value, (second,), False)
        labels = labels[:second] + labels[second + 1 :]


def _summed(node: Node, term: _Term, needed: str) -> _Term:
    """The term without the labels that nobody needs."""
    axes = tuple(i for i, c in enumerate(term.labels) if c not in needed)
    if not axes:
        return term
    return _Term("".join(c for c in term.labels if c in needed), node.make(Sum, term.value, axes, False))


def _ordered(node: Node, term: _Term, labels: str) -> _Term:
    """The term with its dimensions in the order of `labels`, which are the same."""
    if term.labels == labels:
        return term
    return _Term(labels, node.make(Transpose, term.value, tuple(term.labels.index(c) for c in labels)))


def _joined(node: Node, a: _Term, b: _Term, later: str) -> _Term:
    """The product of two terms, summed over the labels that both have and nobody needs later."""
    both = [c for c in a.labels if c in b.labels]
    batch, inner = [c for c in both if c in later], [c for c in both if c not in later]
    rows, columns = [c for c in a.labels if c not in both], [c for c in b.labels if c not in both]
    sizes: dict[str, Dim] = {}
    for term in (a, b):
        for c, d in zip(term.labels, node.dims_of(term.value), strict=True):
            if sizes.get(c, 1) == 1:
                sizes[c] = d
    if not inner:
        return _times(node, a, b, "".join(batch + rows + columns))
    left = _matrix(node, _ordered(node, a, "".join(batch + rows + inner)), sizes, len(batch), len(rows))
    right = _matrix(node, _ordered(node, b, "".join(batch + inner + columns)), sizes, len(batch), len(inner))
    labels = "".join(batch + rows + columns)
    value = node.make(Reshape, node.make(MatMul, left, right), tuple(sizes[c] for c in labels))
    return _Term(labels, value)


def _matrix(node: Node, term: _Term, sizes: dict[str, Dim], batch: int, rows: int) -> Value:
    """As a stack of matrices: `batch` dimensions, those of the rows in one, the others in one."""
    wanted = tuple(sizes[c] for c in term.labels)
    value = term.value if node.dims_of(term.value) == wanted else node.make(Expand, term.value, wanted)
    shape = (*wanted[:batch], as_dim(product(wanted[batch : batch + rows])), as_dim(product(wanted[batch + rows :])))
    return value if wanted == shape else node.make(Reshape, value, shape)


def _times(node: Node, a: _Term, b: _Term, labels: str) -> _Term:
    """The elementwise product, nothing summed."""
    parts: list[Value] = []
    for term in (a, b):
        own = "".join(c for c in labels if c in term.labels)
        value = _ordered(node, term, own).value
        dims = iter(node.dims_of(value))
        parts.append(node.make(Reshape, value, tuple(next(dims) if c in own else 1 for c in labels)))
    return _Term(labels, node.make(Mul, parts[0], parts[1]))
