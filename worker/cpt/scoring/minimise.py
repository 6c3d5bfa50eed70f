"""Small smooth problems, solved in float64: the same input gives the same bits."""

from collections.abc import Callable

import torch
from torch import Tensor

from worker.cpt.kernels.lanes import on_threads
from worker.cpt.turn import ALONE, Turn

_ITERATIONS = 100
#: Gradients of losses that are summed over rows, below which nothing that counts changes any more.
_GRADIENT = 1e-4
_CHANGE = 1e-8


def minimise(loss: Callable[..., Tensor], *start: Tensor, turn: Turn = ALONE) -> list[Tensor]:
    """Where `loss` of the parameters is least, by L-BFGS from `start`; float64.

    The turn is offered before each evaluation of the loss, on all threads. The rest runs on one: products are so small
    that threads wait for one another, beside other work two to four times as long as a lone one.
    """
    threads = torch.get_num_threads()
    with torch.enable_grad(), on_threads(1):
        parameters = [tensor.detach().double().clone().requires_grad_() for tensor in start]
        solver = torch.optim.LBFGS(
            parameters,
            max_iter=_ITERATIONS,
            tolerance_grad=_GRADIENT,
            tolerance_change=_CHANGE,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            with on_threads(threads):
                turn.offer()
            solver.zero_grad()
            value = loss(*parameters)
            value.backward()
            return value.item()

        solver.step(closure)
    return [parameter.detach() for parameter in parameters]
