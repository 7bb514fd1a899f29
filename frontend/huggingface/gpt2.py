"""GPT-2."""

from __future__ import annotations

from ..assembly import Item
from .attention import attend
from .causal import Causal, Run, slices
from .config import Config
from .layers import Net, activation, embedding, heads, layer_norm, project
from .registry import architecture


@architecture(
    "GPT2Model", "GPT2LMHeadModel", "GPT2ForSequenceClassification", "GPT2ForTokenClassification",
    "GPT2ForQuestionAnswering",
)  # fmt: skip
class GPT2(Causal):
    """GPT-2: learned positions, normalisation in front of attention and of two products."""

    base = "transformer"
    table = "wte.weight"

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        config.only("add_cross_attention", False)
        self.hidden = config.integer("n_embd", "hidden_size", default=768)
        self.heads = self.shared = config.integer("n_head", "num_attention_heads", default=12)
        self.count = config.count("n_layer", "num_hidden_layers", default=12)
        self.inner = config.integer("n_inner", default=4 * self.hidden)
        self.vocabulary = config.integer("vocab_size", default=50257)
        self.longest = config.integer("n_positions", "max_position_embeddings", default=1024)
        self.epsilon = config.number("layer_norm_epsilon", default=1e-5)
        self.act = config.text("activation_function", default="gelu_new")
        self.tied = config.flag("tie_word_embeddings", default=True)
        self.size = config.divided(self.hidden, self.heads, "n_embd / n_head")

    def states(self, n: Net, run: Run) -> Item:
        """The last hidden state, normalised."""
        words = embedding(n, "wte", run.ids, self.vocabulary, self.hidden)
        x = n.op("placed", "Add", words, embedding(n, "wpe", run.positions, self.longest, self.hidden))
        for index in n.layers("h", self.count):
            x = self._layer(n, x, run, index)
        return layer_norm(n, "ln_f", x, self.epsilon)

    def _layer(self, n: Net, x: Item, run: Run, index: int) -> Item:
        y = layer_norm(n, "ln_1", x, self.epsilon)
        with n.scope("attn"):
            parts = slices(n, "c_attn.part", _conv1d(n, "c_attn", y, 3 * self.hidden), [self.hidden] * 3)
            q, k, v = (heads(n, name, part, self.heads) for name, part in zip("qkv", parts, strict=True))
            k, v = run.cached(n, index, k, v)
            y = attend(n, q, k, v, scale=self._scale(index), mask=run.added(n))
            x = n.op("sum", "Add", _conv1d(n, "c_proj", y, self.hidden), x)
        y = layer_norm(n, "ln_2", x, self.epsilon)
        with n.scope("mlp"):
            y = activation(n, self.act, _conv1d(n, "c_fc", y, self.inner))
            return n.op("sum", "Add", _conv1d(n, "c_proj", y, self.hidden), x)

    def _scale(self, index: int) -> float:
        scale = self.size**-0.5 if self.config.flag("scale_attn_weights", default=True) else 1.0
        return scale / (index + 1) if self.config.flag("scale_attn_by_inverse_layer_idx", default=False) else scale


def _conv1d(n: Net, name: str, x: Item, out: int) -> Item:
    """A product whose weights are [in, out]."""
    data = n.weights.get(n.path(f"{name}.weight"), (n.width(x), out))
    return project(n, name, x, data.permuted((1, 0)), n.weight(f"{name}.bias", (out,)))


__all__ = ["GPT2"]
