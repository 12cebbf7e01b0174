"""The argument that every estimator of the reward's gradient is given, and the estimate that it returns.

With theta' where a policy's update arrived, g the gradient of the extrinsic objective on held-out steps there, and A the
advantages of the learned reward that the update trained on, the hypergradient is ``sum_t w_t dA_t/dphi``. An estimator is a
function of a :class:`PolicyUpdate` that returns the weights w: :func:`~sb3_tare.hypergradient.implicit.implicit_weights`,
:func:`~sb3_tare.hypergradient.one_step.one_step_weights` or :func:`~sb3_tare.hypergradient.unrolled.unrolled_weights`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sb3_tare.hypergradient.conjugate_gradient import Solution
from sb3_tare.policy.gradients import Batch, PolicyGradients


@dataclass(frozen=True)
class PolicyUpdate:
    """An update of a policy, and what it is judged by.

    :param parameters: the actor's, ``p`` numbers in all, where the update left them
    :param advantages: ``[n]`` leaf that requires a gradient, of the training steps
    :param training: J of the training steps, a scalar function of parameters and advantages
    :param validation: extrinsic J of held-out steps, a scalar function of parameters
    :param is_twice_differentiable: whether torch can differentiate the training objective's gradient
    """

    parameters: Sequence[Tensor]
    advantages: Tensor
    training: Callable[[Sequence[Tensor], Tensor], Tensor]
    validation: Callable[[Sequence[Tensor]], Tensor]
    is_twice_differentiable: bool = True

    @classmethod
    def of(cls, gradients: PolicyGradients, training: Batch, validation: Batch, parameters: Sequence[Tensor]) -> PolicyUpdate:
        """The update of a host's policy, which stands where the update left it.

        :param training: steps and the advantages that the policy was trained on
        :param validation: held-out steps and their extrinsic advantages
        :param parameters: of the policy, those that count
        """

        def objective(batch: Batch, theta: Sequence[Tensor]) -> Tensor:
            return gradients.evaluate(batch, theta, parameters).value

        return cls(
            parameters,
            training.advantages.detach().requires_grad_(),
            lambda theta, advantages: objective(Batch(training.steps, advantages), theta),
            lambda theta: objective(validation, theta),
            not gradients.derivatives.obstacle,
        )


class Estimate(NamedTuple):
    """Weights of a hypergradient."""

    weights: Tensor
    """``[n]``, one for each training step"""
    solution: Solution | None = None
    """Solution of the linear system, where one was solved"""
