"""ConvNeXt, and its second version."""

from __future__ import annotations

from ..assembly import Input, Item
from .config import Config
from .layers import Net, activation, conv, layer_norm, linear
from .registry import Architecture, architecture

_EPSILON = 1e-6
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)  # channels in front of space, or behind it


@architecture("ConvNextModel", "ConvNextForImageClassification", "ConvNextV2Model", "ConvNextV2ForImageClassification")
class ConvNext(Architecture):
    """ConvNeXt: convolutions by channel, and products over channels."""

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        self.second = name.startswith("ConvNextV2")
        self.base = "convnextv2" if self.second else "convnext"
        self.sizes, self.depths = config.stages("hidden_sizes", "depths", ((96, 192, 384, 768), (3, 3, 9, 3)))
        self.patch = config.integer("patch_size", default=4)
        self.act = config.text("hidden_act", default="gelu")
        self.epsilon = config.number("layer_norm_eps", default=1e-12)
        self.scaled = not self.second and config.number("layer_scale_init_value", default=1e-6) > 0

    def inputs(self, graph: str) -> list[Input]:
        """Pictures of any size."""
        channels = self.config.integer("num_channels", default=3)
        return [Input("pixel_values", "f32", ("batch", channels, "height", "width"))]

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """Logits of classes; or the last states and their normalised mean, [batch, channels]."""
        with n.scope("" if self.is_bare else self.base):
            with n.scope("embeddings"):
                pixels = n.a.input("pixel_values")
                shape = (self.sizes[0], n.width(pixels, 1), self.patch, self.patch)
                x = conv(n, "patch_embeddings", pixels, shape, stride=self.patch)
                x = self._norm(n, "layernorm", x)
            for index in n.layers("encoder.stages", len(self.depths)):
                if index:
                    x = self._norm(n, "downsampling_layer.0", x)
                    shape = (self.sizes[index], self.sizes[index - 1], 2, 2)
                    x = conv(n, "downsampling_layer.1", x, shape, stride=2)
                for _ in n.layers("layers", self.depths[index]):
                    x = self._layer(n, x)
            mean = n.op("mean", "ReduceMean", x, [2, 3], keepdims=0)
            pooled = layer_norm(n, "layernorm", mean, self.epsilon)
        if self.is_bare:
            return {"last_hidden_state": x, "pooler_output": pooled}
        return {"logits": linear(n, "classifier", pooled, self.config.labels())}

    def _norm(self, n: Net, name: str, x: Item) -> Item:
        """Normalisation over channels, which stay in front."""
        y = layer_norm(n, name, n.op(f"{name}.last", "Transpose", x, perm=_LAST), _EPSILON)
        return n.op(f"{name}.first", "Transpose", y, perm=_FIRST)

    def _layer(self, n: Net, x: Item) -> Item:
        size = n.width(x, 1)
        y = conv(n, "dwconv", x, (size, 1, 7, 7), padding=3, groups=size)
        y = layer_norm(n, "layernorm", n.op("last", "Transpose", y, perm=_LAST), _EPSILON)
        y = activation(n, self.act, linear(n, "pwconv1", y, 4 * size))
        if self.second:
            y = _response(n, y, 4 * size)
        y = linear(n, "pwconv2", y, size)
        if self.scaled:
            y = n.op("scaled", "Mul", y, n.weight("layer_scale_parameter", (size,)))
        return n.op("sum", "Add", x, n.op("first", "Transpose", y, perm=_FIRST))


def _response(n: Net, x: Item, size: int) -> Item:
    """Global response normalisation of [batch, height, width, size]."""
    with n.scope("grn"):
        weight, bias = n.weight("weight", (1, 1, 1, size)), n.weight("bias", (1, 1, 1, size))

    def build() -> Item:
        a = n.a
        norm = a.op("ReduceL2", x, [1, 2], keepdims=1)
        mean = a.op("Add", a.op("ReduceMean", norm, [-1], keepdims=1), a.scalar(1e-6, "f32"))
        response = a.op("Mul", x, a.op("Div", norm, mean))
        return a.op("Add", a.op("Add", a.op("Mul", weight, response), bias), x)

    return n.leaf("grn", "GlobalResponseNorm", build, x)


__all__ = ["ConvNext"]
