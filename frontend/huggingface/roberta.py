"""RoBERTa and its relatives of the same form (XLM-RoBERTa, CamemBERT): BERT with other positions and heads."""

from __future__ import annotations

from ..assembly import Input, Item
from .bert import Bert
from .config import Config
from .layers import Net, activation, embedding, first, layer_norm, linear, lookup, project
from .registry import architecture
from .text import token_inputs, unpadded_positions

_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@architecture(*(family + head for family in ("Roberta", "XLMRoberta", "Camembert") for head in _HEADS))
class Roberta(Bert):
    """RoBERTa: positions count from the padding token's number on; all tokens are of type 0."""

    base = "roberta"

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config.merged({"type_vocab_size": config.raw("type_vocab_size") or 1}))
        self.padding = config.integer("pad_token_id", default=1, least=0)

    def inputs(self, graph: str) -> list[Input]:
        """Tokens, and which of them count."""
        return token_inputs("input_ids", "attention_mask")

    def embed(self, n: Net, ids: Item) -> Item:
        """Embeddings of words and positions, normalised."""
        words = embedding(n, "word_embeddings", ids, self.vocabulary, self.hidden)
        types = n.weights.get(n.path("token_type_embeddings.weight"), (self.types, self.hidden))
        x = n.op("typed", "Add", words, lookup(n, "token_type_embeddings", types, n.a.scalar(0, "i64")))
        at = unpadded_positions(n, ids, self.padding)
        x = n.op("placed", "Add", x, embedding(n, "position_embeddings", at, self.longest, self.hidden))
        return layer_norm(n, "LayerNorm", x, self.epsilon)

    def head(self, n: Net, x: Item) -> dict[str, Item]:
        """As BERT's, but for words and sequences."""
        if self.name.endswith("ForSequenceClassification"):
            with n.scope("classifier"):
                y = activation(n, "tanh", linear(n, "dense", first(n, "first", x), self.hidden))
                return {"logits": linear(n, "out_proj", y, self.config.labels())}
        return super().head(n, x)

    def words(self, n: Net, x: Item) -> Item:
        """Logits of words."""
        with n.scope("lm_head"):
            x = activation(n, "gelu", linear(n, "dense", x, self.hidden))
            x = layer_norm(n, "layer_norm", x, self.epsilon)
            bias = "decoder.bias" if n.path("bias") not in n.weights else "bias"
            return project(n, "decoder", x, self.table(n, "decoder.weight"), n.weight(bias, (self.vocabulary,)))


__all__ = ["Roberta"]
