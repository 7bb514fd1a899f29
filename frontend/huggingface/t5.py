"""T5: encoder and decoder with biases for the distance between tokens."""

from __future__ import annotations

from ...ir.expr import Dim, as_dim, as_expr
from ..assembly import Input, Item
from .attention import attend, causal_mask, padding_mask
from .config import Config
from .layers import Net, activation, heads, linear, lookup, project, rms_norm, scaled
from .registry import FORWARD, architecture
from .relative import position_bias
from .seq2seq import Decoding, EncoderDecoder
from .text import token_inputs


@architecture("T5Model", "T5ForConditionalGeneration", "T5EncoderModel")
class T5(EncoderDecoder):
    """T5 and its versions 1.1 (products with gates)."""

    masked = True

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        self.hidden = config.integer("d_model", default=512)
        self.heads = config.integer("num_heads", default=8)
        self.size = config.integer("d_kv", default=64)
        self.inner = config.integer("d_ff", default=2048)
        self.layers = config.count("num_layers", default=6)
        self.count = config.count("num_decoder_layers", default=self.layers)
        self.vocabulary = config.integer("vocab_size", default=32128)
        self.epsilon = config.number("layer_norm_epsilon", default=1e-6)
        self.buckets = config.integer("relative_attention_num_buckets", default=32, least=4)
        self.furthest = config.integer(
            "relative_attention_max_distance", default=128, least=self.buckets + 1, most=1 << 17
        )
        kind = config.text("feed_forward_proj", default="relu")
        self.gated = kind.startswith("gated-")
        self.act = "gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-")
        # Version 1 scales what it makes words of; configurations say so by tying, which this one did alone.
        tied = config.flag("tie_word_embeddings", default=True)
        self.scaled = config.flag("scale_decoder_outputs", default=tied)

    def all_graphs(self) -> tuple[str, ...]:
        """The encoder alone has `forward`."""
        return (FORWARD,) if self.name == "T5EncoderModel" else super().all_graphs()

    def source_inputs(self) -> list[Input]:
        """Tokens, and which of them count."""
        return token_inputs("input_ids", "attention_mask")

    def source_length(self) -> str:
        """As many as tokens."""
        return "sequence"

    def inputs(self, graph: str) -> list[Input]:
        """Those of the graph."""
        return self.source_inputs() if self.name == "T5EncoderModel" else super().inputs(graph)

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """The outputs of the graph."""
        n.weights.ignore("encoder.embed_tokens.", "decoder.embed_tokens.", "lm_head.")
        return {"last_hidden_state": self.encode(n)} if self.name == "T5EncoderModel" else super().build(n, graph)

    def _words(self, n: Net, ids: Item) -> Item:
        name = "shared.weight" if "shared.weight" in n.weights else "encoder.embed_tokens.weight"
        return lookup(n, "embed_tokens", n.weights.get(name, (self.vocabulary, self.hidden)), ids)

    def encode(self, n: Net) -> Item:
        """The states of the input."""
        ids = n.a.input("input_ids")
        length = n.dims(ids)[1]
        with n.scope("encoder"):
            x = self._words(n, ids)
            bias = self._bias(n, length, length)
            mask = n.op("bias", "Add", bias, padding_mask(n, n.a.input("attention_mask")))
            for _ in n.layers("block", self.layers):
                with n.scope("layer.0"):
                    y = self._norm(n, "layer_norm", x)
                    with n.scope("SelfAttention"):
                        parts = [heads(n, f"{p}_heads", self._in(n, p, y), self.heads) for p in "qkv"]
                        q, k, v = parts
                        y = self._out(n, attend(n, q, k, v, scale=1.0, mask=mask))
                    x = n.op("sum", "Add", x, y)
                x = self._feed(n, "layer.1", x)
            return self._norm(n, "final_layer_norm", x)

    def decode(self, n: Net, run: Decoding) -> Item:
        """The states of the decoder."""
        with n.scope("decoder"):
            x = self._words(n, run.ids)
            mask = self._decoder_bias(n, run)
            source = None if run.source_mask is None else padding_mask(n, run.source_mask)
            for index in n.layers("block", self.count):
                with n.scope("layer.0"):
                    x = n.op("sum", "Add", x, self._own(n, x, run, index, mask))
                with n.scope("layer.1"):
                    x = n.op("sum", "Add", x, self._cross(n, x, run, index, source))
                x = self._feed(n, "layer.2", x)
            return self._norm(n, "final_layer_norm", x)

    def _own(self, n: Net, x: Item, run: Decoding, index: int, mask: Item) -> Item:
        y = self._norm(n, "layer_norm", x)
        with n.scope("SelfAttention"):
            q, k, v = (heads(n, f"{p}_heads", self._in(n, p, y), self.heads) for p in "qkv")
            k, v = run.own(n, index, k, v)
            return self._out(n, attend(n, q, k, v, scale=1.0, mask=mask))

    def _cross(self, n: Net, x: Item, run: Decoding, index: int, mask: Item | None) -> Item:
        y = self._norm(n, "layer_norm", x)
        with n.scope("EncDecAttention"):
            q = heads(n, "q_heads", self._in(n, "q", y), self.heads)
            pair = run.kept(n, index)
            if pair is None:
                assert run.states is not None
                states = run.states
                k, v = (heads(n, f"{p}_heads", self._in(n, p, states), self.heads) for p in "kv")
                run.keep(index, k, v)
                pair = k, v
            return self._out(n, attend(n, q, *pair, scale=1.0, mask=mask))

    def words(self, n: Net, x: Item) -> Item:
        """Logits; the matrix is that of the embeddings, unless there is one more."""
        if self.scaled:
            x = scaled(n, "lm_scale", x, self.hidden**-0.5)
        name = "lm_head.weight" if "lm_head.weight" in n.weights else "shared.weight"
        return project(n, "lm_head", x, n.weights.get(name, (self.vocabulary, self.hidden)))

    # -- parts -----------------------------------------------------------------------------------------------------

    def _bias(self, n: Net, queries: Dim, keys: Dim, start: Dim = 0, both_ways: bool = True) -> Item:
        with n.scope("block.0.layer.0.SelfAttention"):
            return position_bias(
                n, "relative_attention_bias", self.heads, queries, keys, start,
                buckets=self.buckets, furthest=self.furthest, both_ways=both_ways,
            )  # fmt: skip

    def _decoder_bias(self, n: Net, run: Decoding) -> Item:
        """Biases of distance, and the causal mask where there is more than one query."""
        keys = as_dim(as_expr(run.past) + run.queries)
        bias = self._bias(n, run.queries, keys, run.past, both_ways=False)
        mask = causal_mask(n, None, run.queries, run.past)
        return bias if mask is None else n.op("bias", "Add", bias, mask)

    def _in(self, n: Net, name: str, x: Item) -> Item:
        return linear(n, name, x, self.heads * self.size, bias=False)

    def _out(self, n: Net, x: Item) -> Item:
        return linear(n, "o", x, self.hidden, bias=False)

    def _norm(self, n: Net, name: str, x: Item) -> Item:
        return rms_norm(n, name, x, self.epsilon)

    def _feed(self, n: Net, name: str, x: Item) -> Item:
        """Two products, or three with a gate."""
        with n.scope(name):
            y = self._norm(n, "layer_norm", x)
            with n.scope("DenseReluDense"):
                if self.gated:
                    gate = activation(n, self.act, linear(n, "wi_0", y, self.inner, bias=False))
                    y = n.op("gated", "Mul", gate, linear(n, "wi_1", y, self.inner, bias=False))
                else:
                    y = activation(n, self.act, linear(n, "wi", y, self.inner, bias=False))
                y = linear(n, "wo", y, self.hidden, bias=False)
            return n.op("sum", "Add", x, y)


__all__ = ["T5"]
