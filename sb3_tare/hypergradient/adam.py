"""A step of Adam behind a clipped gradient, as a function of that gradient, and its vector-Jacobian product.

With theta' the parameters after one step on the gradient g of a loss, :meth:`AdamStep.pull_back` is the map
``u -> (d theta' / d g)' u``: all that a derivative through the step needs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CLIP_EPSILON = 1e-6
"""``torch.nn.utils.clip_grad_norm_`` adds it to the norm that it divides by."""


@dataclass(frozen=True)
class AdamStep:
    """One step of ``torch.optim.Adam`` (Kingma & Ba, 2015) behind ``clip_grad_norm_``, over all ``p`` parameters it moves.

    :param parameters: ``[p]`` before the step
    :param gradient: ``[p]`` of the loss, as clipped
    :param norm: scalar, the gradient's norm before it was clipped
    :param exp_avg: ``[p]`` first moment before the step
    :param exp_avg_sq: ``[p]`` second moment before the step
    :param count: ``[p]`` or scalar, steps including this one
    :param max_norm: at which the gradient was clipped
    """

    parameters: Tensor
    gradient: Tensor
    norm: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor
    count: Tensor
    learning_rate: float
    betas: tuple[float, float]
    eps: float
    max_norm: float

    def arrive(self) -> Tensor:
        """Parameters ``[p]`` after the step."""
        first, second = self._moments()
        return self.parameters - self.learning_rate * first / (second.sqrt() + self.eps)

    def pull_back(self, cotangent: Tensor, through_second_moment: bool = True) -> Tensor:
        """The product ``(d arrive() / d g)' cotangent``, g the gradient before it was clipped.

        :param cotangent: ``[p]``
        :param through_second_moment: False takes the second moment for a constant, as the authors of LIRPG do
        :return: ``[p]``
        """
        first, second = self._moments()
        root = second.sqrt()
        slope = (1 - self.betas[0]) / self._correction(0) / (root + self.eps)
        if through_second_moment:
            # sqrt(v) has no derivative where v = 0, but there g = m = 0, and the term goes to zero with them.
            d_root = (1 - self.betas[1]) / self._correction(1) * self.gradient / root
            slope = slope - torch.where(root > 0, first * d_root / (root + self.eps) ** 2, 0.0)
        return self._unclip(-self.learning_rate * slope * cotangent)

    def _moments(self) -> tuple[Tensor, Tensor]:
        """First and second moment ``[p]`` after the step, bias corrected."""
        first = torch.lerp(self.exp_avg, self.gradient, 1 - self.betas[0])
        second = torch.lerp(self.exp_avg_sq, self.gradient.square(), 1 - self.betas[1])
        return first / self._correction(0), second / self._correction(1)

    def _correction(self, moment: int) -> Tensor:
        return (1 - self.betas[moment] ** self.count.double()).to(self.gradient)

    def _unclip(self, cotangent: Tensor) -> Tensor:
        """Cotangent ``[p]`` of the gradient from one of the clipped gradient; clipping is a map of all parameters together."""
        scale = self.max_norm / (self.norm + CLIP_EPSILON)
        if scale >= 1:
            return cotangent
        along = (self.gradient @ cotangent) / (self.norm * self.max_norm)
        return scale * cotangent - along * self.gradient
