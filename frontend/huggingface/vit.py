"""ViT and DeiT: transformers over patches of pictures."""

from __future__ import annotations

from ..assembly import Input, Item
from .attention import self_attention
from .config import Config
from .layers import Net, activation, first, layer_norm, linear
from .registry import Architecture, architecture
from .vision import image_input, patch_count, patches, repeated


@architecture("ViTModel", "ViTForImageClassification")
class ViT(Architecture):
    """ViT: one token for the class, learned positions, normalisation in front of attention and of two products."""

    base = "vit"
    tokens: tuple[str, ...] = ("cls_token",)

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        self.hidden = config.integer("hidden_size", default=768)
        self.heads = config.integer("num_attention_heads", default=12)
        self.count = config.count("num_hidden_layers", default=12)
        self.inner = config.integer("intermediate_size", default=3072)
        self.epsilon = config.number("layer_norm_eps", default=1e-12)
        self.act = config.text("hidden_act", default="gelu")
        self.bias = config.flag("qkv_bias", default=True)
        config.divided(self.hidden, self.heads, "hidden_size / num_attention_heads")

    def inputs(self, graph: str) -> list[Input]:
        """Pictures."""
        return [image_input(self.config)]

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """The outputs of transformers' class of this name."""
        with n.scope("" if self.is_bare else self.base):
            with n.scope("embeddings"):
                x = self._embed(n, n.a.input("pixel_values"))
            for _ in n.layers("encoder.layer", self.count):
                x = self._layer(n, x)
            x = layer_norm(n, "layernorm", x, self.epsilon)
        return self.head(n, x)

    def head(self, n: Net, x: Item) -> dict[str, Item]:
        """Logits of classes, or states."""
        if not self.is_bare:
            return {"logits": linear(n, "classifier", first(n, "first", x), self.config.labels())}
        outputs = {"last_hidden_state": x}
        if "pooler.dense.weight" in n.weights:
            size = self.config.integer("pooler_output_size", default=self.hidden)
            with n.scope("pooler"):
                y = linear(n, "dense", first(n, "first", x), size)
                outputs["pooler_output"] = activation(n, self.config.text("pooler_act", default="tanh"), y)
        return outputs

    def _embed(self, n: Net, image: Item) -> Item:
        with n.scope("patch_embeddings"):
            x = patches(n, "projection", image, self.config, self.hidden)
        batch = n.dims(x)[0]
        extra = [
            repeated(n, f"{name}s", n.weight(name, (1, 1, self.hidden)), batch, self.hidden) for name in self.tokens
        ]
        x = n.op("tokens", "Concat", *extra, x, axis=1)
        places = n.weight("position_embeddings", (1, patch_count(self.config) + len(self.tokens), self.hidden))
        n.weights.ignore(n.path("mask_token"))
        return n.op("placed", "Add", x, places)

    def _layer(self, n: Net, x: Item) -> Item:
        y = layer_norm(n, "layernorm_before", x, self.epsilon)
        with n.scope("attention"):
            with n.scope("attention"):
                parts = [linear(n, name, y, self.hidden, self.bias) for name in ("query", "key", "value")]
                y = self_attention(n, parts, self.heads, None)
            x = n.op("sum", "Add", linear(n, "output.dense", y, self.hidden), x)
        y = layer_norm(n, "layernorm_after", x, self.epsilon)
        y = activation(n, self.act, linear(n, "intermediate.dense", y, self.inner), "intermediate.act")
        return n.op("sum", "Add", linear(n, "output.dense", y, self.hidden), x)


@architecture("DeiTModel", "DeiTForImageClassification", "DeiTForImageClassificationWithTeacher")
class DeiT(ViT):
    """DeiT: ViT with a second token, which learns from a teacher."""

    base = "deit"
    tokens = ("cls_token", "distillation_token")

    def head(self, n: Net, x: Item) -> dict[str, Item]:
        """As ViT's; with a teacher, the mean of two classifiers and each of them."""
        if not self.name.endswith("WithTeacher"):
            return super().head(n, x)
        labels = self.config.labels()
        second = n.leaf("second", "Select", lambda: n.a.op("Gather", x, n.a.scalar(1, "i64"), axis=1), x)
        own = linear(n, "cls_classifier", first(n, "first", x), labels)
        taught = linear(n, "distillation_classifier", second, labels)
        both = n.op("sum", "Add", own, taught)
        mean = n.op("logits", "Mul", both, n.a.like(0.5, both))
        return {"logits": mean, "cls_logits": own, "distillation_logits": taught}


__all__ = ["DeiT", "ViT"]
