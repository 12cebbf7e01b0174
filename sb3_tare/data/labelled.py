"""A part with what the learned reward makes of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sb3_tare.data.rollout import Part, Rollout


@dataclass(frozen=True)
class Labelled:
    """A part as its host is to train on it, and steps of it through which the reward can be differentiated.

    :param part: the steps that the host trains on
    :param rewards: ``[n]`` learned, apart from any graph
    :param advantages: ``[n]`` parameterised (A_phi of eq. 11 and 12), apart from any graph
    :param returns: ``[n]`` what the host's own critic is to be trained towards
    :param sample: the steps that gradients are taken on, of the part: all of them, but for hosts with a large memory
    :param differentiable: ``[m]`` parameterised advantages of the sample, functions of phi
    """

    part: Part
    rewards: Tensor
    advantages: Tensor
    returns: Tensor
    sample: Rollout
    differentiable: Tensor
