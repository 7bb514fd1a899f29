"""BERT, and what its relatives take over from it."""

from __future__ import annotations

from ...ir.constants import ConstantData
from ..assembly import Input, Item
from .attention import padding_mask, self_attention
from .config import Config
from .layers import Net, activation, embedding, first, layer_norm, linear, positions, project
from .registry import Architecture, architecture
from .text import answer_span, token_inputs, token_labels


@architecture(
    "BertModel", "BertForMaskedLM", "BertForPreTraining", "BertForNextSentencePrediction",
    "BertForSequenceClassification", "BertForTokenClassification", "BertForQuestionAnswering",
)  # fmt: skip
class Bert(Architecture):
    """BERT: layers of self-attention and two products, each followed by a sum and a normalisation."""

    base = "bert"

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        config.only("position_embedding_type", "absolute")
        config.only("is_decoder", False)
        config.only("add_cross_attention", False)
        self.hidden = config.integer("hidden_size", default=768)
        self.heads = config.integer("num_attention_heads", default=12)
        self.count = config.count("num_hidden_layers", default=12)
        self.inner = config.integer("intermediate_size", default=3072)
        self.epsilon = config.number("layer_norm_eps", default=1e-12)
        self.act = config.text("hidden_act", default="gelu")
        self.vocabulary = config.integer("vocab_size", default=30522)
        self.types = config.integer("type_vocab_size", default=2)
        self.longest = config.integer("max_position_embeddings", default=512)
        config.divided(self.hidden, self.heads, "hidden_size / num_attention_heads")

    def inputs(self, graph: str) -> list[Input]:
        """Tokens, which of them count, and the part of a pair that they belong to."""
        return token_inputs("input_ids", "attention_mask", "token_type_ids")

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """The outputs of transformers' class of this name."""
        with n.scope("" if self.is_bare else self.base):
            x = self.encode(n)
        return self.head(n, x)

    def encode(self, n: Net) -> Item:
        """The last hidden state, [batch, sequence, hidden]."""
        mask = padding_mask(n, n.a.input("attention_mask"))
        with n.scope("embeddings"):
            x = self.embed(n, n.a.input("input_ids"))
        for _ in n.layers("encoder.layer", self.count):
            x = self.layer(n, x, mask)
        return x

    def positions(self, n: Net, ids: Item) -> Item:
        """The position of each token, [sequence] or [batch, sequence]."""
        return positions(n, n.dims(ids)[1])

    def embed(self, n: Net, ids: Item) -> Item:
        """Embeddings of words, their positions and types, normalised."""
        words = embedding(n, "word_embeddings", ids, self.vocabulary, self.hidden)
        types = embedding(n, "token_type_embeddings", n.a.input("token_type_ids"), self.types, self.hidden)
        x = n.op("typed", "Add", words, types)
        places = embedding(n, "position_embeddings", self.positions(n, ids), self.longest, self.hidden)
        return layer_norm(n, "LayerNorm", n.op("placed", "Add", x, places), self.epsilon)

    def layer(self, n: Net, x: Item, mask: Item) -> Item:
        """One layer."""
        with n.scope("attention.self"):
            parts = [linear(n, name, x, self.hidden) for name in ("query", "key", "value")]
            y = self_attention(n, parts, self.heads, mask)
        x = self.output(n, "attention.output", y, x)
        y = activation(n, self.act, linear(n, "intermediate.dense", x, self.inner), "intermediate.act")
        return self.output(n, "output", y, x)

    def output(self, n: Net, name: str, y: Item, x: Item) -> Item:
        """`normalised(dense(y) + x)`."""
        with n.scope(name):
            total = n.op("sum", "Add", linear(n, "dense", y, self.hidden), x)
            return layer_norm(n, "LayerNorm", total, self.epsilon)

    # -- heads -----------------------------------------------------------------------------------------------------

    def head(self, n: Net, x: Item) -> dict[str, Item]:
        """What the class makes of the last hidden state."""
        match self.name.partition("For")[2]:
            case "MaskedLM":
                return {"logits": self.words(n, x)}
            case "PreTraining":
                pair = linear(n, "cls.seq_relationship", self.pooled(n, x), 2)
                return {"prediction_logits": self.words(n, x), "seq_relationship_logits": pair}
            case "NextSentencePrediction":
                return {"logits": linear(n, "cls.seq_relationship", self.pooled(n, x), 2)}
            case "SequenceClassification":
                return {"logits": linear(n, "classifier", self.pooled(n, x), self.config.labels())}
            case "TokenClassification":
                return token_labels(n, x, self.config)
            case "QuestionAnswering":
                return answer_span(n, x)
            case _:
                outputs = {"last_hidden_state": x}
                if n.path("pooler.dense.weight") in n.weights:  # models made with add_pooling_layer=False have none
                    outputs["pooler_output"] = self.pooled(n, x)
                return outputs

    def pooled(self, n: Net, x: Item) -> Item:
        """The first token's state through one more layer."""
        with n.scope("pooler" if self.is_bare else f"{self.base}.pooler"):
            return activation(n, "tanh", linear(n, "dense", first(n, "first", x), self.hidden))

    def words(self, n: Net, x: Item) -> Item:
        """Logits of words. The matrix is that of the embeddings, unless the configuration says otherwise."""
        with n.scope("cls.predictions"):
            x = activation(n, self.act, linear(n, "transform.dense", x, self.hidden), "transform.act")
            x = layer_norm(n, "transform.LayerNorm", x, self.epsilon)
            bias = "decoder.bias" if n.path("bias") not in n.weights else "bias"
            return project(n, "decoder", x, self.table(n, "decoder.weight"), n.weight(bias, (self.vocabulary,)))

    def table(self, n: Net, own: str) -> ConstantData:
        """The matrix that makes logits of words: that of the embeddings where weights are tied, else `own`."""
        tied = self.config.flag("tie_word_embeddings", default=True)
        name = f"{self.base}.embeddings.word_embeddings.weight" if tied else n.path(own)
        n.weights.ignore(n.path(own), n.path("decoder.bias"))
        return n.weights.get(name, (self.vocabulary, self.hidden))


__all__ = ["Bert"]
