"""Tensor operations, one file for each family. Importing this package registers all of them.

`planish.ir.ops.reduce` is not re-exported here by name: its `Max`, `Min`, `Sum` would read like elementwise ones.
"""

from __future__ import annotations

from . import activation, arith, linalg, nn, quant, reduce, shape
from .activation import *  # noqa: F403
from .arith import *  # noqa: F403
from .base import Elementwise, TensorOp
from .linalg import *  # noqa: F403
from .nn import *  # noqa: F403
from .quant import *  # noqa: F403
from .shape import *  # noqa: F403

__all__ = [
    "Elementwise",
    "TensorOp",
    "reduce",
    *activation.__all__,
    *arith.__all__,
    *linalg.__all__,
    *nn.__all__,
    *quant.__all__,
    *shape.__all__,
]
