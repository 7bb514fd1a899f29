"""Models that predict the next token: their graphs, and the cache of keys and values.

Graphs of a language model: `prefill` reads a prompt and fills the cache, `decode` adds one token to it, `extend` any
number of tokens, `forward` gives logits only. Models with other heads have `forward` alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...ir.constants import ConstantData
from ...ir.expr import Dim
from ..assembly import Input, Item
from .attention import causal_mask
from .layers import Net, linear, positions, project
from .registry import FORWARD, Architecture
from .text import answer_span, token_labels

PREFILL, DECODE, EXTEND = "prefill", "decode", "extend"


@dataclass
class Run:
    """What layers of one graph need to know: which keys count, where the new tokens stand, and the cache."""

    ids: Item
    mask: Item
    positions: Item
    queries: Dim
    past: Dim = 0
    caching: bool = False
    present: dict[str, Item] = field(default_factory=dict[str, Item])
    masks: dict[int | None, Item | None] = field(default_factory=dict[int | None, "Item | None"])

    def added(self, n: Net, window: int | None = None) -> Item | None:
        """The mask that is added to scores; layers share it."""
        if window not in self.masks:
            self.masks[window] = causal_mask(n, self.mask, self.queries, self.past, window)
        return self.masks[window]

    def cached(self, n: Net, layer: int, key: Item, value: Item) -> tuple[Item, Item]:
        """Keys and values of a layer behind those of the cache, which holds them from now on."""
        if self.past != 0:
            with n.scope("cache"):
                key, value = (
                    n.op(kind, "Concat", n.a.input(f"past_key_values.{layer}.{kind}"), new, axis=2)
                    for kind, new in (("key", key), ("value", value))
                )
        if self.caching:
            self.present[f"present.{layer}.key"] = key
            self.present[f"present.{layer}.value"] = value
        return key, value


class Causal(Architecture):
    """A model that predicts the next token. Subclasses set the sizes and build the layers."""

    vocabulary: int
    hidden: int
    count: int  # of layers
    shared: int  # heads of keys and values
    size: int  # of a head
    table: str  # the name of the embeddings' matrix, below `base`
    tied: bool
    softcap: float = 0.0  # of logits

    @property
    def generates(self) -> bool:
        """Whether this is a language model."""
        return self.name.endswith(("ForCausalLM", "LMHeadModel"))

    def all_graphs(self) -> tuple[str, ...]:
        """Those of a language model, or `forward`."""
        return (PREFILL, DECODE, EXTEND, FORWARD) if self.generates else (FORWARD,)

    def inputs(self, graph: str) -> list[Input]:
        """Tokens, which keys count, where the tokens stand, and the cache, named as optimum names it."""
        length = 1 if graph == DECODE else "sequence"
        total = None if graph in (DECODE, EXTEND) else "sequence"  # past + length, which the graph says
        found = [Input("input_ids", "i64", ("batch", length)), Input("attention_mask", "i64", ("batch", total))]
        if graph != FORWARD:
            found.append(Input("position_ids", "i64", ("batch", length)))
        if graph in (DECODE, EXTEND):
            shape = ("batch", self.shared, "past", self.size)
            found += [
                Input(f"past_key_values.{i}.{kind}", "f32", shape)
                for i in range(self.count)
                for kind in ("key", "value")
            ]
        return found

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """Logits or states, then the cache."""
        run = self._run(n, graph)
        with n.scope("" if self.is_bare else self.base):
            x = self.states(n, run)
        return {**self._head(n, x, run), **run.present}

    def _run(self, n: Net, graph: str) -> Run:
        ids, mask = n.a.input("input_ids"), n.a.input("attention_mask")
        batch, queries = n.dims(ids)
        if graph == FORWARD:
            where = n.a.op("Expand", positions(n, queries), [batch, queries])
            return Run(ids, mask, where, queries)
        past = n.dims(n.a.input("past_key_values.0.key"))[2] if graph in (DECODE, EXTEND) else 0
        return Run(ids, mask, n.a.input("position_ids"), queries, past, True)

    @abstractmethod
    def states(self, n: Net, run: Run) -> Item:
        """The last hidden state, [batch, sequence, hidden]."""

    # -- heads -----------------------------------------------------------------------------------------------------

    def _head(self, n: Net, x: Item, run: Run) -> dict[str, Item]:
        if self.generates:
            return {"logits": self._words(n, x)}
        match self.name.partition("For")[2]:
            case "SequenceClassification":
                return {"logits": self._last(n, linear(n, "score", x, self.config.labels(), bias=False), run)}
            case "TokenClassification":
                return token_labels(n, x, self.config, self._labels(n))
            case "QuestionAnswering":
                return answer_span(n, x)
            case _:
                return {"last_hidden_state": x}

    def _labels(self, n: Net) -> str:
        return "classifier" if "classifier.weight" in n.weights else "score"

    def _words(self, n: Net, x: Item) -> Item:
        """Logits of the next word."""
        n.weights.ignore("lm_head.weight")
        name = f"{self.base}.{self.table}" if self.tied else "lm_head.weight"
        data: ConstantData = n.weights.get(name, (self.vocabulary, self.hidden))
        y = project(n, "lm_head", x, data)
        if not self.softcap:
            return y
        cap = n.a.scalar(self.softcap, "f32")
        return n.op("softcap", "Mul", n.op("capped", "Tanh", n.op("divided", "Div", y, cap)), cap)

    def _last(self, n: Net, x: Item, run: Run) -> Item:
        """The rows of `x` [batch, sequence, labels] of the last token that is no padding."""
        padding = self.config.raw("pad_token_id")

        def build() -> Item:
            a = n.a
            batch, length, _ = n.dims(x)
            if not isinstance(padding, int):  # nothing is padding
                return a.op("Gather", x, a.scalar(-1, "i64"), axis=1)
            there = a.op("Cast", a.op("Not", a.op("Equal", run.ids, a.like(padding, run.ids))), to=7)
            at = a.op("ReduceMax", a.op("Mul", there, positions(n, length)), [1], keepdims=1)
            picked = a.op("GatherND", x, at, batch_dims=1)
            return a.op("Reshape", picked, [batch, n.width(x)])

        return n.leaf("last_token", "Select", build, x)


def slices(n: Net, name: str, x: Item, sizes: Sequence[int]) -> list[Item]:
    """Parts of these sizes of the last dimension."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [
        n.op(f"{name}.{i}", "Slice", x, [end - size], [end], [-1])
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


__all__ = ["DECODE", "EXTEND", "PREFILL", "Causal", "Run", "slices"]
