"""Stochastic gradient descent with momentum on flat vectors, for the length of a phase."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import SGD

from sb3_tare.lean.parameters import FlatLayout

OPTIONS = ("lr", "momentum", "weight_decay", "dampening", "nesterov", "maximize")


class MomentumVector(FlatLayout):
    """Copies of an optimiser's parameters, their gradients and momentum, each a vector ``[p]`` with a view for each parameter.

    Steps are those of ``torch.optim.SGD(fused=True)``, by the kernel that it calls. That is given the views: it takes the last
    few numbers of each tensor another way than the others, whose last bits may differ.

    :param optimizer: with one param group; all of its parameters have gathered momentum, or none has
    """

    def __init__(self, optimizer: SGD) -> None:
        (group,) = optimizer.param_groups
        super().__init__(group["params"])
        self.optimizer = optimizer
        self._options = {name: group[name] for name in OPTIONS}
        buffers = [optimizer.state.get(parameter, {}).get("momentum_buffer") for parameter in self.parameters]
        self._is_first = buffers[0] is None and group["momentum"] != 0
        self._stepped = False
        momentum = torch.zeros(self.size) if buffers[0] is None else self.vector_of(buffers)
        self.values, self.gradients, self._momenta = map(
            self.views, (self.vector_of(self.parameters), torch.zeros(self.size), momentum)
        )
        self._moved = self._momenta if group["momentum"] != 0 else []

    def step(self) -> None:
        """Move ``values`` along ``gradients``, as these are now."""
        torch._fused_sgd_(self.values, self.gradients, self._moved, is_first_step=self._is_first, **self._options)
        self._is_first, self._stepped = False, True

    @torch.no_grad()
    def give_back(self) -> None:
        """Leave parameters, gradients and the optimiser's state as its own steps would have, if there was a step."""
        if not self._stepped:
            return
        for parameter, value, gradient, momentum in zip(
            self.parameters, self.values, self.gradients, self._momenta, strict=True
        ):
            parameter.copy_(value)
            parameter.grad = gradient.clone()
            if self._moved:
                self._keep(self.optimizer.state[parameter], momentum)

    @staticmethod
    def _keep(state: dict[str, Tensor | None], momentum: Tensor) -> None:
        buffer = state.get("momentum_buffer")
        if buffer is None:
            state["momentum_buffer"] = momentum.clone()
        else:
            buffer.copy_(momentum)
