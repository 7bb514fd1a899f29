"""ResNet."""

from __future__ import annotations

from ..assembly import Input, Item
from .config import Config
from .layers import Net, activation, conv, linear
from .registry import Architecture, architecture

_EPSILON = 1e-5
_REDUCTION = 4  # channels inside of a bottleneck are so many times fewer


@architecture("ResNetModel", "ResNetForImageClassification")
class ResNet(Architecture):
    """ResNet with basic or bottleneck layers."""

    base = "resnet"

    def __init__(self, name: str, config: Config) -> None:
        super().__init__(name, config)
        config.only("layer_type", "basic", "bottleneck")
        self.stem = config.integer("embedding_size", default=64)
        self.sizes, self.depths = config.stages("hidden_sizes", "depths", ((256, 512, 1024, 2048), (3, 4, 6, 3)))
        self.act = config.text("hidden_act", default="relu")
        self.is_basic = config.text("layer_type", default="bottleneck") == "basic"
        self.early = config.flag("downsample_in_bottleneck", default=False)
        self.first = 2 if config.flag("downsample_in_first_stage", default=False) else 1

    def inputs(self, graph: str) -> list[Input]:
        """Pictures of any size."""
        return [
            Input("pixel_values", "f32", ("batch", self.config.integer("num_channels", default=3), "height", "width"))
        ]

    def build(self, n: Net, graph: str) -> dict[str, Item]:
        """Logits of classes; or the last states and their mean, [batch, channels, 1, 1]."""
        with n.scope("" if self.is_bare else self.base):
            with n.scope("embedder"):
                x = self._conv(n, "embedder", n.a.input("pixel_values"), self.stem, 7, 2)
                x = n.op("pooler", "MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
            for index in n.layers("encoder.stages", len(self.depths)):
                for number in n.layers("layers", self.depths[index]):
                    stride = (2 if index else self.first) if number == 0 else 1
                    x = self._layer(n, x, self.sizes[index], stride)
            pooled = n.op("pooler", "GlobalAveragePool", x)
        if self.is_bare:
            return {"last_hidden_state": x, "pooler_output": pooled}
        flat = n.op("classifier.0", "Flatten", pooled, axis=1)
        return {"logits": linear(n, "classifier.1", flat, self.config.labels())}

    def _conv(self, n: Net, name: str, x: Item, out: int, size: int, stride: int = 1, act: bool = True) -> Item:
        """Convolution, batch normalisation, activation."""
        with n.scope(name):
            shape = (out, n.width(x, 1), size, size)
            x = conv(n, "convolution", x, shape, stride=stride, padding=size // 2, bias=False)
            x = batch_norm(n, "normalization", x, out)
            return activation(n, self.act, x, "activation") if act else x

    def _layer(self, n: Net, x: Item, out: int, stride: int) -> Item:
        short = x
        if n.width(x, 1) != out or stride != 1:
            short = self._conv(n, "shortcut", x, out, 1, stride, act=False)
        with n.scope("layer"):
            if self.is_basic:
                y = self._conv(n, "0", x, out, 3, stride)
                y = self._conv(n, "1", y, out, 3, act=False)
            else:
                inner = out // _REDUCTION
                y = self._conv(n, "0", x, inner, 1, stride if self.early else 1)
                y = self._conv(n, "1", y, inner, 3, 1 if self.early else stride)
                y = self._conv(n, "2", y, out, 1, act=False)
        return activation(n, self.act, n.op("sum", "Add", y, short), "activation")


def batch_norm(n: Net, name: str, x: Item, size: int) -> Item:
    """Batch normalisation by the statistics of training."""
    with n.scope(name):
        scale, shift, mean, variance = (
            n.weight(part, (size,)) for part in ("weight", "bias", "running_mean", "running_var")
        )
    return n.op(name, "BatchNormalization", x, scale, shift, mean, variance, epsilon=_EPSILON)


__all__ = ["ResNet", "batch_norm"]
