"""Llama and its relatives: one decoder with options, which are read from the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from ...ir.errors import UnsupportedError
from ..assembly import Item
from .attention import attend
from .causal import Causal, Run
from .config import Config
from .layers import Net, activation, embedding, heads, linear, rms_norm, scaled
from .registry import architecture
from .rotary import Rotary, read_rotary

_SLIDING, _FULL = "sliding_attention", "full_attention"
_HEADS = ("Model", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@dataclass(frozen=True)
class Family:
    """How a family differs from Llama, where the configuration does not say it. `gemma`: weights of normalisations
    count from 1, embeddings are scaled; `sandwich`: what layers add is normalised, too."""

    qkv_bias: bool = False
    qk_norm: bool = False
    gemma: bool = False
    sandwich: bool = False
    tied: bool = False
    act: str = "silu"
    head: int | None = None
    base: float = 10_000.0
    epsilon: float = 1e-6
    old_answers: bool = False  # ForQuestionAnswering keeps the model as `transformer`
    windows: str = "none"  # which layers have one by default: none, all, later (max_window_layers), or every so many
    heads: tuple[str, ...] = _HEADS


FAMILIES = {
    "Llama": Family(old_answers=True),
    "Mistral": Family(windows="all"),
    "Qwen2": Family(qkv_bias=True, windows="later", old_answers=True),
    "Qwen3": Family(qk_norm=True, windows="later", head=128, old_answers=True),
    "Gemma": Family(gemma=True, tied=True, act="gelu_pytorch_tanh", head=256, heads=_HEADS[:4]),
    "Gemma2": Family(
        gemma=True, sandwich=True, tied=True, act="gelu_pytorch_tanh", head=256, windows="every 2", heads=_HEADS[:4]
    ),
    "Gemma3": Family(
        gemma=True, sandwich=True, qk_norm=True, tied=True, act="gelu_pytorch_tanh", head=256, windows="every 6",
        base=1_000_000.0, heads=("TextModel", "ForCausalLM", "TextForSequenceClassification"),
    ),
}  # fmt: skip


@architecture(*(family + head for family, options in FAMILIES.items() for head in options.heads))
class Decoder(Causal):
    """Llama, Mistral, Qwen2, Qwen3, Gemma, Gemma 2 and the text model of Gemma 3."""

    base = "model"
    table = "embed_tokens.weight"

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        family = max((f for f in FAMILIES if name.startswith(f)), key=len)
        options = self.options = FAMILIES[family]
        config.only("use_bidirectional_attention", False)
        if name.endswith("ForQuestionAnswering") and options.old_answers:
            self.base = "transformer"
        self.hidden = config.integer("hidden_size")
        self.heads = config.integer("num_attention_heads")
        self.shared = config.integer("num_key_value_heads", default=self.heads)
        self.count = config.count("num_hidden_layers")
        self.inner = config.integer("intermediate_size")
        self.vocabulary = config.integer("vocab_size")
        self.size = config.integer("head_dim", default=options.head or self.hidden // self.heads, most=1 << 16)
        self.epsilon = config.number("rms_norm_eps", default=options.epsilon)
        self.act = config.text("hidden_activation", "hidden_act", default=options.act)
        if options.gemma and self.act == "gelu":  # what old configurations say and do not mean
            self.act = "gelu_pytorch_tanh"
        self.tied = config.flag("tie_word_embeddings", default=options.tied)
        self.qkv_bias = config.flag("attention_bias", default=options.qkv_bias)
        self.out_bias = config.flag("attention_bias", default=False)
        self.mlp_bias = config.flag("mlp_bias", default=False)
        self.softcap = config.number("final_logit_softcapping", default=0.0)
        self.score_cap = config.number("attn_logit_softcapping", default=0.0)
        self.scale = config.number("query_pre_attn_scalar", default=float(self.size)) ** -0.5
        self.kinds = self._kinds()
        self.rotary = {kind: self._rotary(kind, family) for kind in set(self.kinds)}
        config.divided(self.heads, self.shared, "num_attention_heads / num_key_value_heads")

    def _kinds(self) -> list[str]:
        """The kind of each layer: with a sliding window, or without."""
        given = self.config.items("layer_types", default=[])
        if given:
            if len(given) != self.count or any(kind not in (_SLIDING, _FULL) for kind in given):
                raise UnsupportedError(
                    f"{self.config.where}: layer_types: expected {_SLIDING} or {_FULL} for each of {self.count} "
                    f"layers, got {str(given)[:100]}"
                )
            return [str(kind) for kind in given]
        every = range(self.count)
        match self.options.windows.split():
            case ["all"]:
                return [_SLIDING for _ in every]
            case ["later"] if self.config.flag("use_sliding_window", default=False):
                start = self.config.integer("max_window_layers", default=28, least=0)
                return [_SLIDING if i >= start else _FULL for i in every]
            case ["every", number]:
                pattern = self.config.integer("sliding_window_pattern", default=int(number))
                return [_SLIDING if (i + 1) % pattern else _FULL for i in every]
            case _:
                return [_FULL for _ in every]

    def _window(self, kind: str) -> int | None:
        """How many keys layers of a kind see; None for all."""
        if kind == _FULL or not self.config.has("sliding_window"):
            return None
        return self.config.integer("sliding_window")

    def _rotary(self, kind: str, family: str) -> Rotary:
        config = self.config
        if family == "Gemma3" and kind == _SLIDING and _SLIDING not in config.part("rope_parameters").values:
            plain = {"rope_theta": config.raw("rope_local_base_freq") or 10_000.0, "rope_scaling": None}
            return read_rotary(config.merged(plain), self.size)
        return read_rotary(config, self.size, self.options.base, kind)

    def states(self, n: Net, run: Run) -> Item:
        """The last hidden state, normalised."""
        x = embedding(n, "embed_tokens", run.ids, self.vocabulary, self.hidden)
        if self.options.gemma:
            x = scaled(n, "embed_scale", x, self.hidden**0.5)
        names = {kind: "rotary_emb" if len(self.rotary) == 1 else f"rotary_emb.{kind}" for kind in self.rotary}
        tables = {kind: r.tables(n, names[kind], run.positions) for kind, r in sorted(self.rotary.items())}
        for index in n.layers("layers", self.count):
            x = self._layer(n, x, run, index, tables[self.kinds[index]])
        return self._norm(n, "norm", x)

    def _norm(self, n: Net, name: str, x: Item) -> Item:
        return rms_norm(n, name, x, self.epsilon, 1.0 if self.options.gemma else 0.0)

    def _layer(self, n: Net, x: Item, run: Run, index: int, tables: tuple[Item, Item]) -> Item:
        y = self._attention(n, self._norm(n, "input_layernorm", x), run, index, tables)
        if self.options.sandwich:
            x = n.op("attended", "Add", x, self._norm(n, "post_attention_layernorm", y))
            y = self._mlp(n, self._norm(n, "pre_feedforward_layernorm", x))
            return n.op("sum", "Add", x, self._norm(n, "post_feedforward_layernorm", y))
        x = n.op("attended", "Add", x, y)
        return n.op("sum", "Add", x, self._mlp(n, self._norm(n, "post_attention_layernorm", x)))

    def _attention(self, n: Net, x: Item, run: Run, index: int, tables: tuple[Item, Item]) -> Item:
        rotary, window = self.rotary[self.kinds[index]], self._window(self.kinds[index])
        with n.scope("self_attn"):
            q, k, v = (
                heads(n, name, linear(n, f"{name}_proj", x, count * self.size, self.qkv_bias), count)
                for name, count in (("q", self.heads), ("k", self.shared), ("v", self.shared))
            )
            if self.options.qk_norm:
                q, k = self._norm(n, "q_norm", q), self._norm(n, "k_norm", k)
            q, k = rotary.turned(n, "q_turned", q, tables), rotary.turned(n, "k_turned", k, tables)
            k, v = run.cached(n, index, k, v)
            y = attend(n, q, k, v, scale=self.scale, mask=run.added(n, window), softcap=self.score_cap)
            return linear(n, "o_proj", y, self.hidden, self.out_bias)

    def _mlp(self, n: Net, x: Item) -> Item:
        with n.scope("mlp"):
            gate = activation(n, self.act, linear(n, "gate_proj", x, self.inner, self.mlp_bias))
            up = linear(n, "up_proj", x, self.inner, self.mlp_bias)
            return linear(n, "down_proj", n.op("gated", "Mul", gate, up), self.hidden, self.mlp_bias)


__all__ = ["FAMILIES", "Decoder", "Family"]
