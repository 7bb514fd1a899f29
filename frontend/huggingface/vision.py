"""What vision transformers share: images as rows of patches."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from ...ir.expr import Dim
from ..assembly import Input, Item
from .config import Config, read_config
from .layers import Net, conv


def image_size(config: Config) -> tuple[int, int]:
    """Height and width of the images of a configuration."""
    return _pair(config, "image_size", 224)


def patch_size(config: Config) -> tuple[int, int]:
    """Height and width of a patch."""
    return _pair(config, "patch_size", 16)


def _pair(config: Config, name: str, default: int) -> tuple[int, int]:
    if isinstance(config.raw(name), list):
        height, width = (*config.integers(name), 0, 0)[:2]
        return height, width or height
    size = config.integer(name, default=default)
    return size, size


def image_input(config: Config, batch: str = "batch") -> Input:
    """`pixel_values` of a model whose images have one size."""
    channels = config.integer("num_channels", default=3)
    return Input("pixel_values", "f32", (batch, channels, *image_size(config)))


def size_note(folder: Path, name: str) -> str:
    """What to tell who compiles for pictures of any size; `name` is the input's."""
    place = folder / "preprocessor_config.json"
    config = read_config(place) if place.is_file() else Config({}, str(place))
    given = config.raw("crop_size", "size")
    sides = cast("dict[str, object]", given) if isinstance(given, dict) else {"height": given}
    side = next((v for key in ("height", "shortest_edge") if isinstance(v := sides.get(key), int)), 224)
    return f"made for pictures of any size; for one size, code is faster: --shape {name}=1,3,{side},{side}"


def patches(n: Net, name: str, x: Item, config: Config, hidden: int, bias: bool = True) -> Item:
    """Patches of pictures through one product each: [batch, patches, hidden]."""
    height, width = patch_size(config)
    if height != width:
        config.only("patch_size", height)
    y = conv(n, name, x, (hidden, n.width(x, 1), height, width), stride=height, bias=bias)
    batch, _, rows, columns = n.dims(y)
    assert isinstance(rows, int) and isinstance(columns, int)
    flat = [batch, hidden, rows * columns]
    return n.leaf("patches", "Transpose", lambda: n.a.op("Transpose", n.a.op("Reshape", y, flat), perm=[0, 2, 1]), y)


def patch_count(config: Config) -> int:
    """Patches of one picture."""
    (height, width), (tall, wide) = image_size(config), patch_size(config)
    return (height // tall) * (width // wide)


def repeated(n: Net, name: str, row: Item, batch: Dim, hidden: int) -> Item:
    """A learned row of tokens for each picture: [batch, 1, hidden]."""
    return n.leaf(name, "Expand", lambda: n.a.op("Expand", n.a.op("Reshape", row, [1, 1, hidden]), [batch, 1, hidden]))


__all__ = ["image_input", "image_size", "patch_count", "patches", "repeated", "size_note"]
