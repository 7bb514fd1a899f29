"""What text encoders share: their inputs, and heads over tokens."""

from __future__ import annotations

from ..assembly import Input, Item
from .config import Config
from .layers import Net, linear

TOKENS = ("batch", "sequence")


def token_inputs(*names: str) -> list[Input]:
    """Inputs of i64[batch, sequence]."""
    return [Input(name, "i64", TOKENS) for name in names]


def token_labels(n: Net, x: Item, config: Config, name: str = "classifier") -> dict[str, Item]:
    """A label for each token: logits [batch, sequence, labels]."""
    return {"logits": linear(n, name, x, config.labels())}


def answer_span(n: Net, x: Item) -> dict[str, Item]:
    """Where an answer begins and ends: logits [batch, sequence] each."""
    both = linear(n, "qa_outputs", x, 2)
    return {
        name: n.leaf(name, "Select", lambda i=i: n.a.op("Gather", both, n.a.scalar(i, "i64"), axis=2), both)
        for i, name in enumerate(("start_logits", "end_logits"))
    }


def unpadded_positions(n: Net, ids: Item, padding: int) -> Item:
    """Positions that count tokens only, from `padding` + 1; padding has position `padding`."""

    def build() -> Item:
        a = n.a
        there = a.op("Cast", a.op("Not", a.op("Equal", ids, a.like(padding, ids))), to=7)
        count = a.op("Mul", a.op("CumSum", there, a.scalar(1, "i64")), there)
        return a.op("Add", count, a.like(padding, ids))

    return n.leaf("position_ids", "Positions", build, ids)


__all__ = ["TOKENS", "answer_span", "token_inputs", "token_labels", "unpadded_positions"]
