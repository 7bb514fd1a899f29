"""DistilBERT: BERT without types and pooling."""

from __future__ import annotations

from ..assembly import Input, Item
from .attention import padding_mask, self_attention
from .config import Config
from .layers import Net, activation, embedding, first, layer_norm, linear, positions, project
from .registry import Architecture, architecture
from .text import answer_span, token_inputs, token_labels

_EPSILON = 1e-12


@architecture(
    "DistilBertModel", "DistilBertForMaskedLM", "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification", "DistilBertForQuestionAnswering",
)  # fmt: skip
class DistilBert(Architecture):
    """DistilBERT."""

    base = "distilbert"

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        self.hidden = config.integer("dim", "hidden_size", default=768)
        self.heads = config.integer("n_heads", "num_attention_heads", default=12)
        self.count = config.count("n_layers", "num_hidden_layers", default=6)
        self.inner = config.integer("hidden_dim", default=3072)
        self.act = config.text("activation", default="gelu")
        self.vocabulary = config.integer("vocab_size", default=30522)
        self.longest = config.integer("max_position_embeddings", default=512)
        config.divided(self.hidden, self.heads, "dim / n_heads")

    def inputs(self, graph: str) -> list[Input]:
        """Tokens, and which of them count."""
        return token_inputs("input_ids", "attention_mask")

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """The outputs of transformers' class of this name."""
        with n.scope("" if self.is_bare else self.base):
            x = self._encode(n)
        match self.name.partition("For")[2]:
            case "MaskedLM":
                return {"logits": self._words(n, x)}
            case "SequenceClassification":
                y = activation(n, "relu", linear(n, "pre_classifier", first(n, "first", x), self.hidden))
                return {"logits": linear(n, "classifier", y, self.config.labels())}
            case "TokenClassification":
                return token_labels(n, x, self.config)
            case "QuestionAnswering":
                return answer_span(n, x)
            case _:
                return {"last_hidden_state": x}

    def _encode(self, n: Net) -> Item:
        ids = n.a.input("input_ids")
        mask = padding_mask(n, n.a.input("attention_mask"))
        with n.scope("embeddings"):
            words = embedding(n, "word_embeddings", ids, self.vocabulary, self.hidden)
            at = embedding(n, "position_embeddings", positions(n, n.dims(ids)[1]), self.longest, self.hidden)
            x = layer_norm(n, "LayerNorm", n.op("placed", "Add", words, at), _EPSILON)
        for _ in n.layers("transformer.layer", self.count):
            x = self._layer(n, x, mask)
        return x

    def _layer(self, n: Net, x: Item, mask: Item) -> Item:
        with n.scope("attention"):
            parts = [linear(n, name, x, self.hidden) for name in ("q_lin", "k_lin", "v_lin")]
            y = linear(n, "out_lin", self_attention(n, parts, self.heads, mask), self.hidden)
        x = layer_norm(n, "sa_layer_norm", n.op("attended", "Add", y, x), _EPSILON)
        with n.scope("ffn"):
            y = linear(n, "lin2", activation(n, self.act, linear(n, "lin1", x, self.inner)), self.hidden)
        return layer_norm(n, "output_layer_norm", n.op("sum", "Add", y, x), _EPSILON)

    def _words(self, n: Net, x: Item) -> Item:
        """Logits of words."""
        x = activation(n, self.act, linear(n, "vocab_transform", x, self.hidden), "vocab_act")
        x = layer_norm(n, "vocab_layer_norm", x, _EPSILON)
        tied = self.config.flag("tie_word_embeddings", default=True)
        n.weights.ignore("vocab_projector.weight")
        table = f"{self.base}.embeddings.word_embeddings.weight" if tied else "vocab_projector.weight"
        data = n.weights.get(table, (self.vocabulary, self.hidden))
        return project(n, "vocab_projector", x, data, n.weight("vocab_projector.bias", (self.vocabulary,)))


__all__ = ["DistilBert"]
