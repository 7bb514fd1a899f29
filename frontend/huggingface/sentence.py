"""What sentence-transformers put behind a network: pooling over tokens, products, normalisation (`modules.json`)."""

from __future__ import annotations

from pathlib import Path

from ...ir.errors import UnsupportedError
from ..assembly import Item
from ..text import quote
from .config import Config, read_config
from .folder import CONFIG, Folder, read_weights
from .layers import Net, activation, first, project
from .weights import Weights

_WIDTHS = ("mean_tokens", "max_tokens", "cls_token", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_ACTIVATIONS = {"Tanh": "tanh", "ReLU": "relu", "Identity": "linear", "Sigmoid": "sigmoid", "GELU": "gelu"}


def sentence_embedding(n: Net, folder: Folder, outputs: dict[str, Item]) -> dict[str, Item]:
    """One vector for each sentence, `sentence_embedding` [batch, size], and the last hidden state that it is made of.
    Raises `UnsupportedError` for modules that planish does not have."""
    x = states = outputs.get("last_hidden_state")
    if x is None or states is None:
        raise UnsupportedError(f"{folder.label}: modules.json: expected a model without a head, which gives states")
    for index, (kind, place) in enumerate(folder.modules, start=1):
        with n.scope(str(index)):
            match kind:
                case "Pooling":
                    x = _pooled(n, x, _pooling_config(place))
                case "Dense":
                    x = _dense(n, x, place)
                case "Normalize":
                    x = _normalized(n, x)
                case "Dropout":
                    pass
                case _:
                    raise UnsupportedError(
                        f"{folder.label}: modules.json: expected Pooling, Dense or Normalize, got {quote(kind)}"
                    )
    return {"sentence_embedding": x, "last_hidden_state": states}


def _pooling_config(place: Path) -> Config:
    return read_config(place / CONFIG)


def _modes(config: Config) -> list[str]:
    """The ways of pooling, of which each adds its part to the vector."""
    if config.has("pooling_mode"):
        value = config.raw("pooling_mode")
        listed = [value] if isinstance(value, str) else config.items("pooling_mode")
        short = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "mean_sqrt_len": _WIDTHS[3],
                 "weightedmean": _WIDTHS[4], "lasttoken": "lasttoken"}  # fmt: skip
        return [short.get(str(name), str(name)) for name in listed]
    order = ("cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return [name for name in order if config.flag(f"pooling_mode_{name}", default=False)]


def _pooled(n: Net, x: Item, config: Config) -> Item:
    modes = _modes(config)
    mask = n.a.input("attention_mask")
    if not modes or any(mode not in ("cls_token", "max_tokens", "mean_tokens", _WIDTHS[3]) for mode in modes):
        raise UnsupportedError(f"{config.where}: planish pools by cls, max, mean, mean_sqrt_len; got {modes}")
    parts = [_pool(n, x, mask, mode) for mode in modes]
    return parts[0] if len(parts) == 1 else n.op("pooled", "Concat", *parts, axis=-1)


def _pool(n: Net, x: Item, mask: Item, mode: str) -> Item:
    a = n.a
    if mode == "cls_token":
        return first(n, "cls_token", x)
    batch, length, _ = n.dims(x)

    def column() -> Item:
        return a.op("Reshape", mask, [batch, length, 1])

    def largest() -> Item:
        kept = a.op("Where", a.op("Equal", column(), a.scalar(0, "i64")), a.scalar(-1e9, "f32"), x)
        return a.op("ReduceMax", kept, [1], keepdims=0)

    def mean() -> Item:
        weights = a.op("Cast", column(), to=1)
        total = a.op("ReduceSum", a.op("Mul", x, weights), [1], keepdims=0)
        count = a.op("Max", a.op("ReduceSum", weights, [1], keepdims=0), a.scalar(1e-9, "f32"))
        return a.op("Div", total, count if mode == "mean_tokens" else a.op("Sqrt", count))

    return n.leaf(mode, "Pooling", largest if mode == "max_tokens" else mean, x, mask)


def _dense(n: Net, x: Item, place: Path) -> Item:
    """A product with weights of the module's own folder."""
    config = read_config(place / CONFIG)
    out, bias = config.integer("out_features"), config.flag("bias", default=True)
    weights = Weights(read_weights(place), str(place))
    data = weights.get("linear.weight", (out, n.width(x)))
    offset = weights.get("linear.bias", (out,)) if bias else None
    weights.finish()
    y = project(n, "linear", x, data, None if offset is None else n.float(offset))
    kind = config.text("activation_function", default="torch.nn.modules.activation.Tanh").rpartition(".")[2]
    if kind not in _ACTIVATIONS:
        raise UnsupportedError(f"{config.where}: activation_function: expected {', '.join(_ACTIVATIONS)}, got {kind}")
    return activation(n, _ACTIVATIONS[kind], y, "activation_function")


def _normalized(n: Net, x: Item) -> Item:
    """Vectors of length 1; a vector of zeros stays one."""

    def build() -> Item:
        norm = n.a.op("ReduceL2", x, [-1], keepdims=1)
        return n.a.op("Div", x, n.a.op("Max", norm, n.a.scalar(1e-12, "f32")))

    return n.leaf("normalize", "Normalize", build, x)


__all__ = ["sentence_embedding"]
