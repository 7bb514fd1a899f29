"""Integer inputs whose length decides the rank of an output: the dynamic column keeps that length, and nothing else.

`python -m conformance.ranks` prints the tests that have one; `ranks.txt` is the committed list.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto, NodeProto

LIST = Path(__file__).with_name("ranks.txt")

# operator -> number of the input
_SHAPES = {
    "Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Squeeze": 1, "Unsqueeze": 1, "AffineGrid": 1, "Col2Im": 1,
    "GatherND": 1, "RandomNormal": 0, "RandomUniform": 0,
}  # fmt: skip


def rank_inputs(model: ModelProto) -> Mapping[str, tuple[int, ...]]:
    """Names of the inputs that a node reads as a shape or as axes, with the dimension that stays a number."""
    inputs = {i.name: len(i.type.tensor_type.shape.dim) for i in model.graph.input}
    found: dict[str, tuple[int, ...]] = {}
    for node in model.graph.node:
        index = _SHAPES.get(node.op_type, 1 if _reduces_away(node) else None)
        if index is not None and index < len(node.input) and inputs.get(node.input[index], 0) > 0:
            name = node.input[index]
            found[name] = (inputs[name] - 1,)
    return found


def _reduces_away(node: NodeProto) -> bool:
    """A reduction without `keepdims`: its result has as many dimensions fewer as there are axes."""
    keeps = [a.i for a in node.attribute if a.name == "keepdims"]
    return node.op_type.startswith("Reduce") and keeps == [0]


if __name__ == "__main__":
    from .cases import cases

    for case in cases():
        if rank_inputs(case.load()[0]):
            print(case.name)
