"""A multi-layer perceptron written out: its forward pass, and the gradients of its parameters.

Each line is the kernel that autograd calls for ``nn.Linear``, ``nn.Tanh`` and ``nn.ReLU``, on operands of the same layout,
so that its numbers are autograd's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_relu_backward = torch.ops.aten.threshold_backward.grad_input


class Activation(NamedTuple):
    """An activation and its derivative, both in place.

    :param apply: turns ``z`` into ``h = f(z)``
    :param pull_back: turns the gradient by ``h`` into the one by ``z``, given ``h``
    """

    apply: Callable[[Tensor], Tensor]
    pull_back: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS: dict[type[nn.Module], Activation] = {
    nn.Tanh: Activation(torch.tanh_, lambda gradient, h: _tanh_backward(gradient, h, grad_input=gradient)),
    nn.ReLU: Activation(torch.relu_, lambda gradient, h: _relu_backward(gradient, h, 0, grad_input=gradient)),
}


class Layer(NamedTuple):
    """An affine map ``x W' + b`` and room for its gradients.

    :param weight: ``[m, k]``
    :param bias: ``[m]``
    :param weight_gradient: ``[m, k]``, overwritten by :meth:`Perceptron.backward`
    :param bias_gradient: ``[m]``, likewise
    """

    weight: Tensor
    bias: Tensor
    weight_gradient: Tensor
    bias_gradient: Tensor

    @classmethod
    def of(cls, linear: nn.Linear, views: Mapping[Tensor, tuple[Tensor, Tensor]]) -> Layer:
        """The map of ``linear`` in another place.

        :param views: value and gradient there, by parameter, in its shape
        """
        (weight, weight_gradient), (bias, bias_gradient) = views[linear.weight], views[linear.bias]
        return cls(weight, bias, weight_gradient, bias_gradient)


AffineMap = tuple[Tensor, Tensor]
"""Bias ``[m]`` and transposed weight ``[k, m]``."""


def affine(linears: Sequence[nn.Linear]) -> list[AffineMap]:
    """The maps of layers as they are now, in the memory of their parameters, for :func:`passed`."""
    return [(linear.bias.detach(), linear.weight.detach().t()) for linear in linears]


def passed(maps: Sequence[AffineMap], apply: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Outputs ``[N, m]`` of ``inputs`` ``[N, k]``, with an activation, in place, between each two of the ``maps``."""
    hidden, (*inner, (bias, weight)) = inputs, maps
    for inner_bias, inner_weight in inner:
        hidden = apply(torch.addmm(inner_bias, hidden, inner_weight))
    return torch.addmm(bias, hidden, weight)


class Perceptron:
    """Affine layers with an activation between each two of them, for mini-batches of one size.

    It works in memory of its own, which the next mini-batch overwrites, and records nothing for autograd.

    :param layers: from the inputs on; read in place, so that an optimiser's steps are seen
    :param activation: between layers
    :param n_rows: B, the size of a mini-batch
    """

    def __init__(self, layers: Sequence[Layer], activation: Activation, n_rows: int) -> None:
        self.layers = layers
        self.activation = activation
        self.outputs = [torch.empty(n_rows, len(layer.bias)) for layer in layers]
        self.gradients = [torch.empty(n_rows, len(layer.bias)) for layer in layers[:-1]]
        self._transposed = [layer.weight.t() for layer in layers]
        self._inputs: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs ``[B, m]`` of the last layer for ``inputs`` ``[B, k]``."""
        hidden = inputs
        self._inputs = [inputs, *self.outputs[:-1]]
        for layer, weight, output in zip(self.layers, self._transposed, self.outputs, strict=True):
            if hidden is not inputs:
                self.activation.apply(hidden)
            hidden = torch.addmm(layer.bias, hidden, weight, out=output)
        return hidden

    def backward(self, gradient: Tensor) -> None:
        """Fill the layers' gradients, given the loss's gradient ``[B, m]`` by the outputs of the last :meth:`forward`."""
        for i in reversed(range(len(self.layers))):
            layer, inputs = self.layers[i], self._inputs[i]
            torch.mm(gradient.t(), inputs, out=layer.weight_gradient)
            torch.sum(gradient, 0, out=layer.bias_gradient)
            if i > 0:
                gradient = torch.mm(gradient, layer.weight, out=self.gradients[i - 1])
                self.activation.pull_back(gradient, inputs)
