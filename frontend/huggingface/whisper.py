"""Whisper: an encoder of spectrograms and a decoder of text."""

from __future__ import annotations

from ..assembly import Input, Item
from .attention import attend, causal_mask
from .config import Config
from .layers import Net, activation, conv, embedding, heads, layer_norm, linear, positions, project
from .registry import architecture
from .seq2seq import Decoding, EncoderDecoder

_EPSILON = 1e-5


@architecture("WhisperModel", "WhisperForConditionalGeneration")
class Whisper(EncoderDecoder):
    """Whisper."""

    masked = False

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        self.base = "model"
        self.hidden = config.integer("d_model", default=384)
        self.heads = config.integer("decoder_attention_heads", default=6)
        self.source_heads = config.integer("encoder_attention_heads", default=6)
        self.count = config.count("decoder_layers", default=4)
        self.layers = config.count("encoder_layers", default=4)
        self.inner = config.integer("decoder_ffn_dim", default=1536)
        self.source_inner = config.integer("encoder_ffn_dim", default=1536)
        self.vocabulary = config.integer("vocab_size", default=51865)
        self.bands = config.integer("num_mel_bins", default=80)
        self.source = config.integer("max_source_positions", default=1500)
        self.longest = config.integer("max_target_positions", default=448)
        self.act = config.text("activation_function", default="gelu")
        self.size = config.divided(self.hidden, self.heads, "d_model / decoder_attention_heads")
        config.divided(self.hidden, self.source_heads, "d_model / encoder_attention_heads")

    def source_inputs(self) -> list[Input]:
        """A spectrogram of one length: two frames for each state."""
        return [Input("input_features", "f32", ("batch", self.bands, 2 * self.source))]

    def source_length(self) -> int:
        """As many as positions."""
        return self.source

    def _scope(self) -> str:
        return "" if self.is_bare else self.base

    def encode(self, n: Net) -> Item:
        """The states of the sound."""
        with n.scope(self._scope()), n.scope("encoder"):
            x = n.a.input("input_features")
            for name, stride in (("conv1", 1), ("conv2", 2)):
                shape = (self.hidden, n.width(x, 1), 3)
                x = activation(n, "gelu", conv(n, name, x, shape, stride=stride, padding=1), f"{name}.act")
            x = n.op("frames", "Transpose", x, perm=[0, 2, 1])
            x = n.op("placed", "Add", x, n.weight("embed_positions.weight", (self.source, self.hidden)))
            for _ in n.layers("layers", self.layers):
                y = layer_norm(n, "self_attn_layer_norm", x, _EPSILON)
                with n.scope("self_attn"):
                    q, k, v = (self._part(n, p, y, self.source_heads) for p in "qkv")
                    y = self._joined(n, q, k, v)
                x = n.op("attended", "Add", x, y)
                x = self._feed(n, x, self.source_inner)
            return layer_norm(n, "layer_norm", x, _EPSILON)

    def decode(self, n: Net, run: Decoding) -> Item:
        """The states of the text."""
        with n.scope(self._scope()), n.scope("decoder"):
            words = embedding(n, "embed_tokens", run.ids, self.vocabulary, self.hidden)
            where = positions(n, run.queries, run.past)
            places = embedding(n, "embed_positions", where, self.longest, self.hidden)
            x = n.op("placed", "Add", words, places)
            mask = causal_mask(n, None, run.queries, run.past)
            for index in n.layers("layers", self.count):
                x = n.op("attended", "Add", x, self._own(n, x, run, index, mask))
                x = n.op("heard", "Add", x, self._cross(n, x, run, index))
                x = self._feed(n, x, self.inner)
            return layer_norm(n, "layer_norm", x, _EPSILON)

    def _own(self, n: Net, x: Item, run: Decoding, index: int, mask: Item | None) -> Item:
        y = layer_norm(n, "self_attn_layer_norm", x, _EPSILON)
        with n.scope("self_attn"):
            q, k, v = (self._part(n, p, y, self.heads) for p in "qkv")
            k, v = run.own(n, index, k, v)
            return self._joined(n, q, k, v, mask)

    def _cross(self, n: Net, x: Item, run: Decoding, index: int) -> Item:
        y = layer_norm(n, "encoder_attn_layer_norm", x, _EPSILON)
        with n.scope("encoder_attn"):
            q = self._part(n, "q", y, self.heads)
            pair = run.kept(n, index)
            if pair is None:
                assert run.states is not None
                states = run.states
                k, v = (self._part(n, p, states, self.heads) for p in "kv")
                run.keep(index, k, v)
                pair = k, v
            return self._joined(n, q, *pair)

    def words(self, n: Net, x: Item) -> Item:
        """Logits; the matrix is that of the embeddings."""
        n.weights.ignore("proj_out.")
        name = f"{self.base}.decoder.embed_tokens.weight"
        if "proj_out.weight" in n.weights and not self.config.flag("tie_word_embeddings", default=True):
            name = "proj_out.weight"
        return project(n, "proj_out", x, n.weights.get(name, (self.vocabulary, self.hidden)))

    # -- parts -----------------------------------------------------------------------------------------------------

    def _part(self, n: Net, name: str, x: Item, count: int) -> Item:
        """Queries, keys or values by head; keys have no bias."""
        return heads(n, name, linear(n, f"{name}_proj", x, self.hidden, bias=name != "k"), count)

    def _joined(self, n: Net, q: Item, k: Item, v: Item, mask: Item | None = None) -> Item:
        return linear(n, "out_proj", attend(n, q, k, v, scale=n.width(q) ** -0.5, mask=mask), self.hidden)

    def _feed(self, n: Net, x: Item, inner: int) -> Item:
        y = layer_norm(n, "final_layer_norm", x, _EPSILON)
        y = activation(n, self.act, linear(n, "fc1", y, inner))
        return n.op("sum", "Add", x, linear(n, "fc2", y, self.hidden))


__all__ = ["Whisper"]
