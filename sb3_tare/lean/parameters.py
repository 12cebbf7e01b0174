"""The parameters of an optimiser and their moments as flat vectors, for the length of an update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam

from sb3_tare.lean.adam import initial_state

ALIGNMENT = 16
"""Numbers (64 bytes) of which each parameter's start is a multiple, as that of a tensor of its own: some kernels of BLAS take
another way through memory that starts elsewhere. The gaps between parameters stay zero."""


class FlatLayout:
    """Places of parameters in a vector ``[p]`` that holds one number for each of theirs.

    :param parameters: in the order in which they lie
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = parameters
        sizes = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters]
        self._offsets = [sum(sizes[:i]) for i in range(len(sizes))]
        self.size = sum(sizes)

    def views(self, vector: Tensor) -> list[Tensor]:
        """Parts of a vector ``[p]``, one for each parameter in its shape."""
        return [
            vector[offset : offset + parameter.numel()].view(parameter.shape)
            for offset, parameter in zip(self._offsets, self.parameters, strict=True)
        ]

    @torch.no_grad()
    def vector_of(self, tensors: Sequence[Tensor]) -> Tensor:
        """Copy ``tensors``, one for each parameter in its shape, into a vector ``[p]``."""
        vector = torch.zeros(self.size)
        for view, tensor in zip(self.views(vector), tensors, strict=True):
            view.copy_(tensor)
        return vector


class ParameterVector(FlatLayout):
    """Copies of all parameters, their gradients and Adam's moments, each a vector ``[p]`` with a view for each parameter.

    :param parameters: in the order in which their gradients' norms are taken
    :param optimizer: of all of them, with the same number of steps taken for each
    """

    def __init__(self, parameters: Sequence[Parameter], optimizer: Adam) -> None:
        super().__init__(parameters)
        self.optimizer = optimizer
        states = [optimizer.state[parameter] for parameter in parameters if parameter in optimizer.state]
        self.count = self._count_before = int(states[0]["step"]) if states else 0
        states = states or [initial_state(parameter) for parameter in parameters]
        self.values, self.gradient = self.vector_of(parameters), torch.zeros(self.size)
        self.first = self.vector_of([state["exp_avg"] for state in states])
        self.second = self.vector_of([state["exp_avg_sq"] for state in states])

    @torch.no_grad()
    def give_back(self) -> None:
        """Leave parameters, gradients and the optimiser's state as its own steps would have, if there was a step."""
        if self.count == self._count_before:
            return
        vectors = (self.values, self.gradient, self.first, self.second)
        for parameter, value, gradient, first, second in zip(self.parameters, *map(self.views, vectors), strict=True):
            parameter.copy_(value)
            parameter.grad = gradient.clone()
            state = self.optimizer.state[parameter]
            if not state:
                state.update(initial_state(parameter))
            state["step"].fill_(self.count)
            state["exp_avg"].copy_(first)
            state["exp_avg_sq"].copy_(second)
