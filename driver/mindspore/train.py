"""`Model`: MindSpore's front door for inference."""

from __future__ import annotations

from typing import Any, NoReturn

from planish.ir.errors import PlanishError
from planish.mindspore.errors import ArgumentTypeError
from planish.mindspore.nn import GraphCell
from planish.mindspore.tensor import Tensor


class Model:
    """A network that is asked for predictions. Arguments that only training needs are taken and not used."""

    def __init__(
        self,
        network: GraphCell,
        loss_fn: Any = None,
        optimizer: Any = None,
        metrics: Any = None,
        eval_network: Any = None,
        eval_indexes: Any = None,
        amp_level: str = "O0",
        boost_level: str = "O0",
        **kwargs: Any,
    ) -> None:
        """Raises `TypeError` for a network that is no `GraphCell`."""
        if not isinstance(network, GraphCell):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ArgumentTypeError(f"Model: network: expected a GraphCell, got {type(network).__name__}")
        self._network = network

    @property
    def predict_network(self) -> GraphCell:
        """The network."""
        return self._network

    def predict(self, *predict_data: Any, backend: str | None = None, config: Any = None) -> Tensor | tuple[Any, ...]:
        """Run the network on tensors; a `Tensor`, or a tuple of them. `backend` and `config` choose another engine in
        MindSpore, and say nothing here: it is always planish."""
        return self._network(*predict_data)

    def train(self, *arguments: Any, **options: Any) -> NoReturn:
        """Always raises: planish compiles trained networks."""
        raise PlanishError("Model: planish compiles trained networks: train with MindSpore, and export to MindIR")

    fit = eval = build = train
