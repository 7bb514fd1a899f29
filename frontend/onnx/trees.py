"""Ensembles of trees of ai.onnx.ml: the three operators become one operation over tables of nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir.core import Value
from ...ir.ops.arith import Add, Cast, Div
from ...ir.ops.trees import EQUAL, GREATER, LESS, UNORDERED, TreeEnsemble
from ...ir.types import DTYPES
from .learned import Classes, labelled, post_transform, rows_of
from .node import Node, converter

__all__ = ["Forest", "tree_ensemble", "tree_ensemble_classifier", "tree_ensemble_regressor"]

# How a comparison of a node turns out where it is true; NaN is different from every number, and not less.
_TESTS = {
    "BRANCH_LEQ": LESS | EQUAL, "BRANCH_LT": LESS, "BRANCH_GTE": GREATER | EQUAL, "BRANCH_GT": GREATER,
    "BRANCH_EQ": EQUAL, "BRANCH_NEQ": LESS | GREATER | UNORDERED, "LEAF": 0,
}  # fmt: skip
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_MEMBER = 6
_MOST_WEIGHTS = 1 << 27
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@dataclass
class Forest:
    """Nodes in tables. `entries` are (leaf, target, weight)."""

    feature: list[int] = field(default_factory=list[int])
    threshold: list[float] = field(default_factory=list[float])
    test: list[int] = field(default_factory=list[int])
    yes: list[int] = field(default_factory=list[int])
    no: list[int] = field(default_factory=list[int])
    leaf: list[int] = field(default_factory=list[int])
    roots: list[int] = field(default_factory=list[int])
    leaves: int = 0
    entries: list[tuple[int, int, float]] = field(default_factory=list[tuple[int, int, float]])

    def add(self, feature: int, threshold: float, test: int) -> int:
        """A node that leads to itself; gives its number."""
        number = len(self.feature)
        for column, item in (
            (self.feature, feature), (self.threshold, threshold), (self.test, test), (self.yes, number),
            (self.no, number), (self.leaf, 0),
        ):  # fmt: skip
            column.append(item)  # type: ignore[arg-type]
        return number

    def add_leaf(self) -> int:
        """A node that is a leaf; gives its number."""
        number = self.add(0, 0.0, 0)
        self.leaf[number] = self.leaves
        self.leaves += 1
        return number

    def depth(self, node: Node) -> int:
        """The longest way from a root to a leaf. Raises `ModelError` where ways do not end."""
        steps, front = 0, set(self.roots)
        while True:
            front = {n for at in front for n in (self.yes[at], self.no[at]) if n != at}
            if not front:
                return steps
            steps += 1
            if steps > len(self.feature):
                raise node.error("the nodes of a tree form a cycle")

    def build(self, node: Node, x: Value, targets: int, aggregate: str, dtype: str) -> Value:
        """The operation over rows `x`; weights are of `dtype`. `aggregate` is AVERAGE, SUM, MIN or MAX."""
        if not 1 <= targets <= _MOST_WEIGHTS // max(1, self.leaves):
            raise node.error(
                f"expected 1 to {_MOST_WEIGHTS} weights in all, got {self.leaves} leaves, {targets} targets"
            )
        weights = np.zeros((self.leaves, targets))
        used = np.zeros((self.leaves, targets), np.bool_)
        for leaf, target, weight in self.entries:
            if not 0 <= target < targets:
                raise node.error(f"expected targets in 0..{targets - 1}, got {target}")
            again = used[leaf, target]
            before = float(weights[leaf, target])
            several = {"MIN": min(before, weight), "MAX": max(before, weight)}.get(aggregate, before + weight)
            weights[leaf, target] = several if again else weight
            used[leaf, target] = True
        _check_features(node, x, self.feature)
        kind = DTYPES[x.tensor.dtype].numpy
        tables = [np.array(t, np.int32) for t in (self.feature, self.test, self.yes, self.no, self.leaf, self.roots)]
        feature, test, yes, no, leaf_rows, roots = (node.literal(t) for t in tables)
        y = node.make(
            TreeEnsemble, x, feature, node.literal(np.array(self.threshold, kind), x.tensor.dtype), test, yes, no,
            leaf_rows, roots, node.literal(weights.astype(DTYPES[dtype].numpy), dtype), node.literal(used),
            self.depth(node), {"AVERAGE": "sum"}.get(aggregate, aggregate.lower()),
        )  # fmt: skip
        return node.make(Div, y, node.splat(float(len(self.roots)), dtype)) if aggregate == "AVERAGE" else y


def _check_features(node: Node, x: Value, features: Sequence[int]) -> None:
    count = node.dims_of(x)[1]
    if isinstance(count, int) and features and not 0 <= min(features) <= max(features) < count:
        raise node.error(f"expected features in 0..{count - 1}, got {min(features)}..{max(features)}")


# -- TreeEnsemble ---------------------------------------------------------------------------------------------------


@converter("TreeEnsemble", domain="ai.onnx.ml")
def tree_ensemble(node: Node) -> Value:
    """TreeEnsemble: nodes and leaves in tables of their own, also with tests for membership in a set."""
    x = rows_of(node, 0)
    splits = _numbers(node, "nodes_splits")
    forest = Forest()
    starts = _branches(node, forest, splits, [int(m) for m in _numbers(node, "nodes_modes")])
    targets, weights = node.ints("leaf_targetids"), _numbers(node, "leaf_weights")
    leaves = [forest.add_leaf() for _ in targets]
    forest.entries = [(i, t, w) for i, (t, w) in enumerate(zip(targets, weights, strict=True))]
    _link(node, forest, starts, leaves)
    dtype = x.tensor.dtype
    aggregate = _AGGREGATES[node.integer("aggregate_function", 1)]
    y = forest.build(node, x, node.integer("n_targets"), aggregate, dtype)
    return post_transform(node, y, _TRANSFORMS[node.integer("post_transform", 0)])


def _numbers(node: Node, name: str) -> list[float]:
    data = node.tensor(name)
    if data is None:
        raise node.error(f"attribute {name} is missing")
    return [float(v) for v in data.array().reshape(-1)]


def _branches(node: Node, forest: Forest, splits: Sequence[float], modes: Sequence[int]) -> list[list[int]]:
    """The nodes that branch, for each the numbers of its own: membership is a chain of comparisons."""
    features = node.ints("nodes_featureids")
    missing = node.ints("nodes_missing_value_tracks_true", [0] * len(features))
    members = iter(_sets(node))
    made: list[list[int]] = []
    for feature, split, mode, tracks in zip(features, splits, modes, missing, strict=True):
        if not 0 <= mode <= _MEMBER:
            raise node.error(f"nodes_modes: expected 0..{_MEMBER}, got {mode}")
        none: list[float] = []
        tests = next(members, none) if mode == _MEMBER else [split]
        bits = EQUAL if mode == _MEMBER else _TESTS[_MODES[mode]]
        bits |= UNORDERED if tracks else 0
        made.append([forest.add(feature, test, bits) for test in tests or [float("nan")]])
    return made


def _sets(node: Node) -> list[list[float]]:
    """The members of each set; a NaN ends one."""
    if not node.has_attribute("membership_values"):
        return []
    found: list[list[float]] = [[]]
    for value in _numbers(node, "membership_values"):
        if np.isnan(value):
            found.append([])
        else:
            found[-1].append(value)
    return found[:-1]


def _link(node: Node, forest: Forest, starts: Sequence[Sequence[int]], leaves: Sequence[int]) -> None:
    """Let branches lead on."""

    def target(index: int, is_leaf: int) -> int:
        table = leaves if is_leaf else [chain[0] for chain in starts]
        if not 0 <= index < len(table):
            raise node.error(f"expected the number of one of {len(table)} nodes, got {index}")
        return table[index]

    names = ("nodes_truenodeids", "nodes_trueleafs", "nodes_falsenodeids", "nodes_falseleafs")
    columns = [node.ints(name) for name in names]
    for chain, yes, yes_leaf, no, no_leaf in zip(starts, *columns, strict=True):
        for place, at in enumerate(chain):
            forest.yes[at] = target(yes, yes_leaf)
            forest.no[at] = chain[place + 1] if place + 1 < len(chain) else target(no, no_leaf)
    forest.roots = [target(r, 0) for r in node.ints("tree_roots")]


# -- TreeEnsembleRegressor, TreeEnsembleClassifier --------------------------------------------------------------------


def _read(node: Node, prefix: str) -> Forest:
    """The forest of the older operators: nodes are (tree, node) pairs, a leaf may count for several targets."""
    forest = Forest()
    trees, ids = node.ints("nodes_treeids"), node.ints("nodes_nodeids")
    modes = [s.decode("utf-8", "replace") for s in node.attribute("nodes_modes").strings]
    missing = node.ints("nodes_missing_value_tracks_true", [0] * len(ids))
    values = _floats(node, "nodes_values")
    for feature, value, mode, tracks in zip(node.ints("nodes_featureids"), values, modes, missing, strict=True):
        if mode not in _TESTS:
            raise node.error(f"nodes_modes: unknown mode {mode!r}")
        if mode == "LEAF":
            forest.add_leaf()
        else:
            forest.add(feature, value, _TESTS[mode] & ~UNORDERED | (UNORDERED if tracks else 0))
    places = {pair: i for i, pair in enumerate(zip(trees, ids, strict=True))}
    for i, (tree, yes, no) in enumerate(
        zip(trees, node.ints("nodes_truenodeids"), node.ints("nodes_falsenodeids"), strict=True)
    ):
        if modes[i] != "LEAF":
            forest.yes[i], forest.no[i] = _place(node, places, tree, yes), _place(node, places, tree, no)
    first: dict[int, int] = {}
    for i, tree in enumerate(trees):
        first.setdefault(tree, i)
    forest.roots = [first[tree] for tree in sorted(first)]
    names = (f"{prefix}_treeids", f"{prefix}_nodeids", f"{prefix}_ids")
    weights = _floats(node, f"{prefix}_weights")
    for tree, at, target, weight in zip(*(node.ints(n) for n in names), weights, strict=True):
        forest.entries.append((forest.leaf[_place(node, places, tree, at)], target, weight))
    return forest


def _place(node: Node, places: dict[tuple[int, int], int], tree: int, at: int) -> int:
    if (tree, at) not in places:
        raise node.error(f"tree {tree} has no node {at}")
    return places[tree, at]


def _floats(node: Node, name: str) -> list[float]:
    """Numbers as floats, or as a tensor of a wider type."""
    return _numbers(node, f"{name}_as_tensor") if node.has_attribute(f"{name}_as_tensor") else node.floats(name)


def _based(node: Node, y: Value) -> Value:
    """With the base values, where there are any."""
    given = node.has_attribute("base_values") or node.has_attribute("base_values_as_tensor")
    base = _floats(node, "base_values") if given else []
    base = base[-1:] if node.dims_of(y)[1] == 1 else base  # one column of two: that of the second class
    if not base:
        return y
    return node.make(Add, y, node.literal(np.array(base, DTYPES[y.tensor.dtype].numpy), y.tensor.dtype))


def _input(node: Node) -> Value:
    x = rows_of(node, 0)
    return x if x.tensor.dtype in ("f32", "f64") else node.make(Cast, x, "f32")


@converter("TreeEnsembleRegressor", domain="ai.onnx.ml")
def tree_ensemble_regressor(node: Node) -> Value:
    """TreeEnsembleRegressor: f32, as ONNX says."""
    aggregate = node.string("aggregate_function", "SUM")
    if aggregate not in _AGGREGATES:
        raise node.error(f"aggregate_function: expected one of {', '.join(_AGGREGATES)}, got {aggregate!r}")
    x = _input(node)
    y = _read(node, "target").build(node, x, node.integer("n_targets"), aggregate, x.tensor.dtype)
    y = post_transform(node, _based(node, y), node.string("post_transform", "NONE"))
    return y if y.tensor.dtype == "f32" else node.make(Cast, y, "f32")


@converter("TreeEnsembleClassifier", domain="ai.onnx.ml")
def tree_ensemble_classifier(node: Node) -> tuple[Value, Value]:
    """TreeEnsembleClassifier; where all weights are of one class, there are two, of which the other is what is left."""
    classes = Classes.read(node, "classlabels_int64s")
    x, forest = _input(node), _read(node, "class")
    positive = {min(w, 0) for _, _, w in forest.entries} <= {0}
    binary = len({target for _, target, _ in forest.entries}) == 1 and classes.count <= 2
    columns = 1 if binary else classes.count
    if binary:
        forest.entries = [(leaf, 0, weight) for leaf, _, weight in forest.entries]
    scores = _based(node, forest.build(node, x, columns, "SUM", "f32"))
    least = 0.5 if positive else 0.0  # then scores are probabilities
    return labelled(node, scores, classes, node.string("post_transform", "NONE"), least=least, complement=positive)
