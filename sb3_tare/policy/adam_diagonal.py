"""The diagonal by which an Adam divides its steps, read from its state: a curvature that the host's own updates have used.

Adam moves each parameter by its first moment over ``sqrt(v) + eps``, v the bias-corrected second moment (Kingma & Ba, 2015,
algorithm 1). A small change of the objective's gradient is divided by the same numbers on its way into the parameters, so that
this diagonal stands where Theorem 1 has the Hessian.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer


@torch.no_grad()
def adam_diagonal(optimiser: Optimizer | None, parameters: Sequence[Tensor]) -> Tensor:
    """Divisors ``sqrt(v) + eps`` of the last step, ``[p]``, over their mean: as large as the identity on average.

    Their own size is that of gradients, which says nothing here: the reward's optimiser forgets it.

    :param optimiser: an Adam, or one derived of it, that moves ``parameters``
    :param parameters: ``p`` numbers in all
    :raises TypeError: if it is another optimiser
    :raises RuntimeError: if it has not moved one of them yet
    """
    if not isinstance(optimiser, Adam):
        raise TypeError(f"curvature='adam' needs the state of an Adam, got {type(optimiser).__name__}")
    places = {id(parameter): group for group in optimiser.param_groups for parameter in group["params"]}
    divisors = []
    for parameter in parameters:
        state, group = optimiser.state.get(parameter), places.get(id(parameter))
        if not state or group is None:
            raise RuntimeError(
                "curvature='adam' reads the second moments of the policy's optimiser, which has not moved all of the actor's "
                "parameters yet: train the policy first, or use curvature='fisher'"
            )
        moment = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        correction = 1.0 - group["betas"][1] ** float(state["step"])
        divisors.append(((moment / correction).sqrt() + group["eps"]).reshape(-1))
    flat = torch.cat(divisors)
    return flat / flat.mean()
