"""The reward gradient of LIRPG: through the step of Adam that the host has just taken on a mini-batch, and no further.

With theta' the policy after the step on a mini-batch, g the gradient of its extrinsic objective there, and
``x = (d theta' / d gradient)' g``, the weights of the reward's gradient are the derivatives of dJ/dA along x at the policy
before the step, since the reward enters that step's gradient only through the advantages A.
"""

from __future__ import annotations

from sb3_tare.hypergradient.adam import AdamStep
from sb3_tare.hypergradient.implicit import mixed_weights
from sb3_tare.hypergradient.update import Estimate, PolicyUpdate
from sb3_tare.policy.products import flat_gradient


def one_step_weights(update: PolicyUpdate, step: AdamStep, through_second_moment: bool = True) -> Estimate:
    """Weights w of the hypergradient through ``step`` alone (Zheng et al., 2018).

    The entropy bonus, the critic's loss and the norm that clips them all are in ``step.gradient``.

    :param update: with all parameters that the step moved; its training objective is that of the step's mini-batch
    :param step: of Adam, just taken
    :param through_second_moment: False takes Adam's second moment for a constant, as the authors of LIRPG do
    :return: ``[n]`` weights
    """
    parameters = update.parameters
    x = step.pull_back(flat_gradient(update.validation(parameters), parameters), through_second_moment)
    sizes = [parameter.numel() for parameter in parameters]
    before = [
        part.view_as(parameter).clone().requires_grad_()
        for part, parameter in zip(step.parameters.split(sizes), parameters, strict=True)
    ]
    return Estimate(-mixed_weights(update, before, x))
