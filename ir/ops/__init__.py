"""Tensor operations, one file for each family. Importing this package registers all of them."""

from __future__ import annotations

from . import activation, arith, linalg, nn, shape
from .activation import *  # noqa: F403
from .arith import *  # noqa: F403
from .base import Elementwise, TensorOp
from .linalg import *  # noqa: F403
from .nn import *  # noqa: F403
from .shape import *  # noqa: F403

__all__ = ["Elementwise", "TensorOp", *activation.__all__, *arith.__all__, *linalg.__all__, *nn.__all__, *shape.__all__]
