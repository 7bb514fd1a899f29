"""Models of an encoder and a decoder: their graphs, and the caches of the decoder.

Graphs: `forward` computes everything at once, `encoder` the states of the input; `prefill` is the decoder's first
step, which also computes keys and values of the input once for all (`present.N.encoder.*`), `decode` adds one token.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field

from ...ir.expr import Dim
from ..assembly import Input, Item
from .causal import DECODE, PREFILL
from .layers import Net
from .registry import FORWARD, Architecture

ENCODER = "encoder"


@dataclass
class Decoding:
    """What decoder layers of one graph need to know: the tokens, the states of the input (None where their keys and
    values come from the cache), what is masked of the input, and the cache."""

    ids: Item
    states: Item | None
    source_mask: Item | None
    queries: Dim
    past: Dim = 0
    caching: bool = False
    present: dict[str, Item] = field(default_factory=dict[str, Item])

    def own(self, n: Net, layer: int, key: Item, value: Item) -> tuple[Item, Item]:
        """Keys and values of a layer's own tokens, behind those of the cache."""
        pair = {"key": key, "value": value}
        if self.past != 0:
            with n.scope("cache"):
                pair = {
                    kind: n.op(kind, "Concat", n.a.input(f"past_key_values.{layer}.decoder.{kind}"), new, axis=2)
                    for kind, new in pair.items()
                }
        if self.caching:
            self.present |= {f"present.{layer}.decoder.{kind}": x for kind, x in pair.items()}
        return pair["key"], pair["value"]

    def kept(self, n: Net, layer: int) -> tuple[Item, Item] | None:
        """Keys and values of the input, if the cache has them."""
        if self.states is not None:
            return None
        key, value = (n.a.input(f"past_key_values.{layer}.encoder.{kind}") for kind in ("key", "value"))
        return key, value

    def keep(self, layer: int, key: Item, value: Item) -> None:
        """Keys and values of the input were computed: the cache will have them."""
        if self.caching:
            self.present |= {f"present.{layer}.encoder.key": key, f"present.{layer}.encoder.value": value}


class EncoderDecoder(Architecture):
    """A model of an encoder and a decoder. Subclasses set the sizes and build both."""

    hidden: int
    heads: int  # of the decoder
    size: int  # of a head
    count: int  # of the decoder's layers
    masked: bool  # whether inputs are padded

    @property
    def generates(self) -> bool:
        """Whether this has logits."""
        return self.name.endswith("ForConditionalGeneration")

    def all_graphs(self) -> tuple[str, ...]:
        """Those of a model that generates, or without a cache."""
        return (FORWARD, ENCODER, PREFILL, DECODE) if self.generates else (FORWARD, ENCODER)

    @abstractmethod
    def source_inputs(self) -> list[Input]:
        """The inputs of the encoder."""

    @abstractmethod
    def source_length(self) -> int | str:
        """How many states the encoder gives."""

    def inputs(self, graph: str) -> list[Input]:
        """The encoder's; or the decoder's tokens, the encoder's states, and the cache, named as optimum names them."""
        if graph == ENCODER:
            return self.source_inputs()
        if graph == FORWARD:
            return [*self.source_inputs(), Input("decoder_input_ids", "i64", ("batch", "decoder_sequence"))]
        source = self.source_length()
        found = [Input("input_ids", "i64", ("batch", 1 if graph == DECODE else "decoder_sequence"))]
        if self.masked:
            found.append(Input("encoder_attention_mask", "i64", ("batch", source)))
        if graph == PREFILL:
            return [*found, Input("encoder_hidden_states", "f32", ("batch", source, self.hidden))]
        for layer in range(self.count):
            for kind, length in (("decoder", "past"), ("encoder", source)):
                shape = ("batch", self.heads, length, self.size)
                found += [Input(f"past_key_values.{layer}.{kind}.{part}", "f32", shape) for part in ("key", "value")]
        return found

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """The states of the input; or logits (states without a head), and the cache or the states of the input."""
        if graph == ENCODER:
            return {"last_hidden_state": self.encode(n)}
        if graph == FORWARD:
            states = self.encode(n)
            ids = n.a.input("decoder_input_ids")
            run = Decoding(ids, states, self._mask(n, "attention_mask"), n.dims(ids)[1])
        else:
            ids = n.a.input("input_ids")
            states = n.a.input("encoder_hidden_states") if graph == PREFILL else None
            past = 0 if states is not None else n.dims(n.a.input("past_key_values.0.decoder.key"))[2]
            run = Decoding(ids, states, self._mask(n, "encoder_attention_mask"), n.dims(ids)[1], past, True)
        x = self.decode(n, run)
        found = {"logits": self.words(n, x)} if self.generates else {"last_hidden_state": x}
        if graph == FORWARD and states is not None:
            found["encoder_last_hidden_state"] = states
        return found | run.present

    def _mask(self, n: Net, name: str) -> Item | None:
        return n.a.input(name) if self.masked else None

    @abstractmethod
    def encode(self, n: Net) -> Item:
        """The states of the input, [batch, length, hidden]."""

    @abstractmethod
    def decode(self, n: Net, run: Decoding) -> Item:
        """The last states of the decoder, [batch, length, hidden]."""

    @abstractmethod
    def words(self, n: Net, x: Item) -> Item:
        """Logits of the next word."""


__all__ = ["ENCODER", "Decoding", "EncoderDecoder"]
