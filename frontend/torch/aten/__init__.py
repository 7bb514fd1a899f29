"""Lowerings of ATen's operators, one file for each family. Importing this package fills the table."""

from __future__ import annotations

from . import (
    activation,
    attention,
    control,
    convolution,
    create,
    index,
    loss,
    matrix,
    norm,
    order,
    picture,
    pointwise,
    pool,
    recurrent,
    reduce,
    resize,
    shape,
    sizes,
    views,
)
from .base import LOWERINGS

FAMILIES = (
    activation,
    attention, control, convolution, create, index, loss, matrix, norm, order, picture, pointwise, pool, recurrent,
    reduce, resize, shape, sizes, views,
)  # fmt: skip

__all__ = ["FAMILIES", "LOWERINGS"]
