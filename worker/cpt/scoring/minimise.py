"""Small smooth problems, solved to the end in float64: the same input gives the same bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from worker.cpt.turn import ALONE, Turn

_ITERATIONS = 200


def minimise(loss: Callable[..., Tensor], *start: Tensor, turn: Turn = ALONE) -> list[Tensor]:
    """Where `loss` of the parameters is least, by L-BFGS from `start`; float64.

    The turn is offered before each evaluation of the loss.
    """
    with torch.enable_grad():
        parameters = [tensor.detach().double().clone().requires_grad_() for tensor in start]
        solver = torch.optim.LBFGS(parameters, max_iter=_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

        def closure() -> float:
            turn.offer()
            solver.zero_grad()
            value = loss(*parameters)
            value.backward()
            return value.item()

        solver.step(closure)
    return [parameter.detach() for parameter in parameters]
