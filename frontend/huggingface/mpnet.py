"""MPNet: RoBERTa without types, and with a bias of attention for the distance between tokens."""

from __future__ import annotations

from ..assembly import Item
from .attention import padding_mask, self_attention
from .config import Config
from .layers import Net, activation, embedding, layer_norm, linear
from .registry import architecture
from .relative import position_bias
from .roberta import Roberta
from .text import unpadded_positions


@architecture(
    "MPNetModel", "MPNetForMaskedLM", "MPNetForSequenceClassification", "MPNetForTokenClassification",
    "MPNetForQuestionAnswering",
)  # fmt: skip
class MPNet(Roberta):
    """MPNet."""

    base = "mpnet"

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        self.padding = 1  # transformers' class does not ask the configuration
        self.buckets = config.integer("relative_attention_num_buckets", default=32)
        config.only("relative_attention_num_buckets", 32)

    def embed(self, n: Net, ids: Item) -> Item:
        """Embeddings of words and positions, normalised."""
        words = embedding(n, "word_embeddings", ids, self.vocabulary, self.hidden)
        at = unpadded_positions(n, ids, self.padding)
        x = n.op("placed", "Add", words, embedding(n, "position_embeddings", at, self.longest, self.hidden))
        return layer_norm(n, "LayerNorm", x, self.epsilon)

    def encode(self, n: Net) -> Item:
        """The last hidden state, [batch, sequence, hidden]."""
        ids = n.a.input("input_ids")
        length = n.dims(ids)[1]
        with n.scope("encoder"):
            bias = position_bias(n, "relative_attention_bias", self.heads, length, length, buckets=self.buckets)
            mask = n.op("bias", "Add", bias, padding_mask(n, n.a.input("attention_mask")))
        with n.scope("embeddings"):
            x = self.embed(n, ids)
        for _ in n.layers("encoder.layer", self.count):
            x = self.layer(n, x, mask)
        return x

    def layer(self, n: Net, x: Item, mask: Item) -> Item:
        """One layer; the same as BERT's under other names."""
        with n.scope("attention"):
            with n.scope("attn"):
                parts = [linear(n, name, x, self.hidden) for name in ("q", "k", "v")]
                y = linear(n, "o", self_attention(n, parts, self.heads, mask), self.hidden)
            x = layer_norm(n, "LayerNorm", n.op("sum", "Add", y, x), self.epsilon)
        y = activation(n, self.act, linear(n, "intermediate.dense", x, self.inner), "intermediate.act")
        return self.output(n, "output", y, x)


__all__ = ["MPNet"]
