"""A part with its host's own advantages, and with what the learned reward makes of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sb3_tare.data.rollout import Part, Rollout


@dataclass(frozen=True)
class Appraised:
    """A part with the advantages of its extrinsic rewards.

    :param part: the steps
    :param extrinsic: ``[n]`` the host's own advantages of them
    :param sample: those of the steps that gradients are taken on: all of them, but for hosts with a large memory
    :param sample_extrinsic: ``[m]`` the host's own advantages of the sample
    """

    part: Part
    extrinsic: Tensor
    sample: Rollout
    sample_extrinsic: Tensor

    @property
    def sample_alone(self) -> Appraised:
        """The sample as a part of its own."""
        return Appraised(self.sample, self.sample_extrinsic, self.sample, self.sample_extrinsic)


@dataclass(frozen=True)
class Labelled:
    """A part as its host is to train on it.

    :param appraised: the part
    :param rewards: ``[n]`` learned, apart from any graph
    :param advantages: ``[n]`` parameterised (A_phi of eq. 11 and 12), apart from any graph
    :param returns: ``[n]`` targets of the host's own critic
    :param differentiable: ``[m]`` parameterised advantages of the sample, functions of phi
    """

    appraised: Appraised
    rewards: Tensor
    advantages: Tensor
    returns: Tensor
    differentiable: Tensor

    @property
    def part(self) -> Part:
        """The steps that the host trains on."""
        return self.appraised.part

    @property
    def sample(self) -> Rollout:
        """The steps that gradients are taken on."""
        return self.appraised.sample
