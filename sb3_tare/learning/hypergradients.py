"""The policy's side of the reward's gradient: the steps that it is taken on, its curvature, and its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sb3_tare.data.labelled import Appraised, Labelled
from sb3_tare.data.rollout import PolicySteps, Rollout
from sb3_tare.hosts.held import holds_features
from sb3_tare.hosts.host import Host
from sb3_tare.hypergradient.conjugate_gradient import Solution
from sb3_tare.hypergradient.implicit import reward_weights
from sb3_tare.policy.curvature import CURVATURES
from sb3_tare.policy.derivatives import resting, unhooked
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.settings import LearnerSettings


class Hypergradients:
    """Weights of the implicit gradient through a host's update, on its policy as it is now.

    :param settings: of the learner
    :param host: adapter of the algorithm
    :param generator: draws the steps that the curvature is measured on, where there are too many
    :param label: gives a part the advantages of the learned reward as it is now
    :raises TypeError: if the curvature needs a KL divergence that there is none of for the policy's actions
    :raises ValueError: if it needs second derivatives of a layer that torch cannot differentiate twice
    """

    def __init__(
        self,
        settings: LearnerSettings,
        host: Host[Any],
        generator: torch.Generator,
        label: Callable[[Appraised], Labelled],
    ) -> None:
        self.settings = settings.gradient
        self.host = host
        name = host.curvature(settings)
        curvature = CURVATURES[name](self.settings.kl_coef, self.settings.damping)
        excluded = ("log_std",) if self.settings.actor_parameters == "without_log_std" else ()
        self.gradients = PolicyGradients(host, curvature, excluded, host.chunk_rows)
        """Of the host's policy"""
        self._generator = generator
        self._label = label
        self._holds_features = holds_features(self.settings.hold_features, host.policy)
        if settings.takes_hypergradients:
            self._try(name)

    def weighted(
        self, labelled: Labelled, training_steps: PolicySteps, held_out: Batch, validation: Appraised
    ) -> tuple[Tensor, Tensor, Solution | None]:
        """Weights of the hypergradient and the advantages that they weight, ``[n]`` each; the latter differentiable.

        :param labelled: what the policy was just updated on
        :param training_steps: the policy's side of it, as :meth:`held` gives it
        :param held_out: what validates it, as :meth:`extrinsic_batch` gives it
        :param validation: the same, with the reward's side
        :return: these, and the solution of the system in the curvature
        """
        advantages = self.host.standardise(labelled.differentiable, labelled.advantages)
        trained = Batch(training_steps, advantages.detach())
        curved = self.drawn(self._curved(trained, held_out, validation))
        with unhooked(self.host.policy):
            weights, solution = reward_weights(self.gradients, trained, held_out, curved, self.settings.cg_steps)
        return weights, advantages, solution

    def alignment(self, labelled: Labelled, validation: Appraised, moved: bool) -> dict[str, float]:
        """Cosines of the policy gradient on what is labelled, with either reward, and the extrinsic one on held-out steps.

        :param moved: whether the policy is another one than the steps were read with
        """
        learned = self.host.standardise(labelled.differentiable.detach(), labelled.advantages)
        extrinsic = self.extrinsic_batch(labelled.appraised, moved)
        with unhooked(self.host.policy):
            held_out = self.gradients.gradient(self.extrinsic_batch(validation, moved))
            both = self.gradients.gradients(extrinsic.steps, (learned, extrinsic.advantages))
        return {
            name: float(cosine_similarity(gradient, held_out, dim=0))
            for name, gradient in zip(("learned", "extrinsic"), both, strict=True)
        }

    def extrinsic_batch(self, appraised: Appraised, moved: bool = True) -> Batch:
        """The sample with the advantages of its extrinsic rewards."""
        extrinsic = self.host.standardise(appraised.sample_extrinsic, appraised.extrinsic)
        return Batch(self.held(appraised.sample, moved), extrinsic)

    def held(self, sample: Rollout, moved: bool = True) -> PolicySteps:
        """The policy's side of a sample, with the features of the policy as it is now where these are held fixed."""
        if not self._holds_features:
            return sample.policy
        if not moved and self.host.policy_features:  # then they are what the reward has read
            assert isinstance(sample.reward.states, Tensor)
            return replace(sample.policy, features=sample.reward.states)
        with resting(self.host.policy):
            return replace(sample.policy, features=self.host.actor_features(sample.policy.observations))

    def drawn(self, batch: Batch) -> Batch:
        """No more than ``curvature_samples`` steps of a batch, drawn at random where there are more."""
        most, n = self.settings.curvature_samples, len(batch.steps)
        return batch if n <= most else batch.take(torch.randperm(n, generator=self._generator)[:most].sort().values)

    def is_enough(self, saved: Mapping[str, Any]) -> bool:
        """Whether a saved rollout has all that these settings need; others may not have kept it."""
        return bool(saved["policy"]["behaviour"]) or not self.gradients.curvature.needs_behaviour(self.host.objective)

    def _curved(self, trained: Batch, held_out: Batch, validation: Appraised) -> Batch:
        """Steps that the curvature is measured on, with the parameterised advantages of eq. 11 where it needs any."""
        if self.settings.curvature_episodes == "training":
            return trained
        if not self.gradients.curvature.needs_advantages(self.host.objective):
            return held_out
        advantages = self._label(validation.sample_alone).differentiable.detach()
        return Batch(held_out.steps, self.host.standardise(advantages))

    def _try(self, curvature: str) -> None:
        """Take the gradients of a reward step once, on steps that nobody has taken.

        :param curvature: its name
        :raises TypeError: if the curvature needs a KL divergence that there is none of
        :raises ValueError: if it needs second derivatives that there are none of
        """
        gradients = self.gradients
        obstacle = gradients.derivatives.obstacle
        if obstacle and curvature not in ("identity", "adam"):
            raise ValueError(
                f"curvature={curvature!r} needs second derivatives, which torch has not for the layer {obstacle}: set "
                "curvature='identity', which needs none, or use another layer"
            )
        if curvature == "adam":  # an Adam that has taken no step yet has no diagonal to be read
            gradients = PolicyGradients(self.host, CURVATURES["identity"](), gradients.excluded, self.host.chunk_rows)
        probe = gradients.probe()
        with unhooked(self.host.policy):
            reward_weights(gradients, probe, probe, probe, cg_steps=1)
