"""CLIP: a transformer over text and one over patches of pictures, whose vectors are compared."""

from __future__ import annotations

from typing import ClassVar

from ..assembly import Input, Item
from .attention import causal_mask, self_attention
from .config import Config
from .layers import Net, activation, embedding, first, layer_norm, linear, positions
from .registry import FORWARD, Architecture, architecture
from .vision import image_input, patch_count, patches, repeated

TEXT, IMAGE = "text", "image"


class Tower:
    """One of the two transformers; `config` is its own part of the configuration."""

    def __init__(self, config: Config, hidden: int, heads: int, inner: int) -> None:
        self.config = config
        self.hidden = config.integer("hidden_size", default=hidden)
        self.heads = config.integer("num_attention_heads", default=heads)
        self.count = config.count("num_hidden_layers", default=12)
        self.inner = config.integer("intermediate_size", default=inner)
        self.epsilon = config.number("layer_norm_eps", default=1e-5)
        self.act = config.text("hidden_act", default="quick_gelu")
        config.divided(self.hidden, self.heads, "hidden_size / num_attention_heads")

    def layers(self, n: Net, x: Item, mask: Item | None) -> Item:
        """All layers."""
        for _ in n.layers("encoder.layers", self.count):
            y = layer_norm(n, "layer_norm1", x, self.epsilon)
            with n.scope("self_attn"):
                parts = [linear(n, name, y, self.hidden) for name in ("q_proj", "k_proj", "v_proj")]
                y = linear(n, "out_proj", self_attention(n, parts, self.heads, mask), self.hidden)
            x = n.op("attended", "Add", x, y)
            y = layer_norm(n, "layer_norm2", x, self.epsilon)
            with n.scope("mlp"):
                y = linear(n, "fc2", activation(n, self.act, linear(n, "fc1", y, self.inner)), self.hidden)
            x = n.op("sum", "Add", x, y)
        return x

    def text(self, n: Net) -> tuple[Item, Item]:
        """States of text, [batch, sequence, hidden], and that of the token that ends it, [batch, hidden]."""
        ids, config = n.a.input("input_ids"), self.config
        length = n.dims(ids)[1]
        with n.scope("embeddings"):
            words = embedding(n, "token_embedding", ids, config.integer("vocab_size", default=49408), self.hidden)
            longest = config.integer("max_position_embeddings", default=77)
            places = embedding(n, "position_embedding", positions(n, length), longest, self.hidden)
            x = n.op("placed", "Add", words, places)
        x = self.layers(n, x, causal_mask(n, n.a.input("attention_mask"), length))
        x = layer_norm(n, "final_layer_norm", x, self.epsilon)
        return x, self._ended(n, x, ids)

    def _ended(self, n: Net, x: Item, ids: Item) -> Item:
        end = self.config.integer("eos_token_id", default=49407, least=0)

        def build() -> Item:
            a = n.a
            # Configurations that say 2 are older than the field: the token that ends a text has the largest number.
            marks = ids if end == 2 else a.op("Cast", a.op("Equal", ids, a.like(end, ids)), to=6)
            return a.op("GatherND", x, a.op("ArgMax", marks, axis=1, keepdims=1), batch_dims=1)

        return n.leaf("pooled", "Select", build, x, ids)

    def image(self, n: Net) -> tuple[Item, Item]:
        """States of patches, [batch, 1 + patches, hidden], and that of the first token, normalised."""
        pixels, config = n.a.input("pixel_values"), self.config
        with n.scope("embeddings"):
            x = patches(n, "patch_embedding", pixels, config, self.hidden, bias=False)
            own = repeated(n, "class_tokens", n.weight("class_embedding", (self.hidden,)), n.dims(x)[0], self.hidden)
            x = n.op("tokens", "Concat", own, x, axis=1)
            x = n.op("placed", "Add", x, n.weight("position_embedding.weight", (patch_count(config) + 1, self.hidden)))
        x = layer_norm(n, "pre_layrnorm", x, self.epsilon)
        x = self.layers(n, x, None)
        return x, layer_norm(n, "post_layernorm", first(n, "first", x), self.epsilon)


def _text_tower(config: Config) -> Tower:
    return Tower(config, 512, 8, 2048)


def _image_tower(config: Config) -> Tower:
    return Tower(config, 768, 12, 3072)


def _text_inputs(batch: str = "batch") -> list[Input]:
    return [Input(name, "i64", (batch, "sequence")) for name in ("input_ids", "attention_mask")]


@architecture("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel", "CLIPVisionModelWithProjection")
class ClipTower(Architecture):
    """One side of CLIP."""

    def __init__(self, name: str, config: Config) -> None:
        # The folder of a whole CLIP model has the configuration of both sides.
        super().__init__(name, config)
        self.is_text = name.startswith("CLIPText")
        self.base = "text_model" if self.is_text else "vision_model"
        inner = "text_config" if self.is_text else "vision_config"
        own = config.part(inner) if config.has(inner) else config
        self.tower = _text_tower(own) if self.is_text else _image_tower(own)
        self.size = config.integer("projection_dim", default=512)

    def inputs(self, graph: str) -> list[Input]:
        """Tokens, or pictures."""
        return _text_inputs() if self.is_text else [image_input(self.tower.config)]

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """States and the vector of the whole, or its projection."""
        with n.scope(self.base):
            states, pooled = self.tower.text(n) if self.is_text else self.tower.image(n)
        if not self.name.endswith("WithProjection"):
            return {"last_hidden_state": states, "pooler_output": pooled}
        names = ("text_embeds", "text_projection") if self.is_text else ("image_embeds", "visual_projection")
        return {names[0]: linear(n, names[1], pooled, self.size, bias=False), "last_hidden_state": states}


@architecture("CLIPModel")
class Clip(Architecture):
    """CLIP: how well texts and pictures fit; or the features of either (graphs `text`, `image`)."""

    graphs: ClassVar[tuple[str, ...]] = (FORWARD, TEXT, IMAGE)

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        self.texts, self.images = _text_tower(config.part("text_config")), _image_tower(config.part("vision_config"))
        self.size = config.integer("projection_dim", default=512)

    def inputs(self, graph: str) -> list[Input]:
        """Texts and pictures, of which there need not be equally many."""
        one = graph != FORWARD
        texts = _text_inputs("batch" if one else "texts")
        pixels = image_input(self.images.config, "batch" if one else "images")
        return {FORWARD: [*texts, pixels], TEXT: texts, IMAGE: [pixels]}[graph]

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """Features as `get_text_features` and `get_image_features` give them; or all of `CLIPModel`."""
        found: dict[str, Item] = {}
        if graph != IMAGE:
            with n.scope("text_model"):
                _, pooled = self.texts.text(n)
            found["text_features"] = linear(n, "text_projection", pooled, self.size, bias=False)
        if graph != TEXT:
            with n.scope("vision_model"):
                _, pooled = self.images.image(n)
            found["image_features"] = linear(n, "visual_projection", pooled, self.size, bias=False)
        if graph != FORWARD:
            return found
        text, image = (self._normalized(n, name, x) for name, x in found.items())
        scale = n.op("scale", "Exp", n.weight("logit_scale", ()))

        def logits(a: Item, b: Item) -> Item:
            return n.a.op("Mul", n.a.op("MatMul", a, n.a.op("Transpose", b, perm=[1, 0])), scale)

        return {
            "logits_per_image": n.leaf("logits_per_image", "MatMul", lambda: logits(image, text), image, text),
            "logits_per_text": n.leaf("logits_per_text", "MatMul", lambda: logits(text, image), text, image),
            "text_embeds": text,
            "image_embeds": image,
        }

    def _normalized(self, n: Net, name: str, x: Item) -> Item:
        return n.leaf(
            f"{name}.normalized", "Normalize", lambda: n.a.op("Div", x, n.a.op("ReduceL2", x, [-1], keepdims=1)), x
        )


__all__ = ["IMAGE", "TEXT", "Clip", "ClipTower"]
