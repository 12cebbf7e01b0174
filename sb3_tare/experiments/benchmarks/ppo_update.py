"""PPO's whole update on a part of a rollout, unrolled: the oracle of the benchmark of curvatures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from stable_baselines3 import PPO
from torch import Tensor
from torch.nn.functional import mse_loss

from sb3_tare.data.rollout import Rollout
from sb3_tare.hypergradient.unrolled_adam import AdamState, unrolled_adam
from sb3_tare.policy.gradients import Batch, replaced
from sb3_tare.policy.objectives import HostObjective, clipped_surrogate


class End(NamedTuple):
    """The end of an update."""

    parameters: list[Tensor]
    """Of the policy, all of them"""
    state: AdamState
    """Of its optimiser"""


@dataclass(frozen=True)
class PPOUpdate:
    """The update that ``PPO.train`` makes on ``n`` steps, from where the policy stands.

    :param model: not changed
    :param part: steps that it trains on
    :param advantages: ``[n]`` as they lie in its buffer
    :param batches: rows ``[m]`` of its mini-batches, in their order
    """

    model: PPO
    part: Rollout
    advantages: Tensor
    batches: Sequence[Tensor]

    @classmethod
    def of(cls, model: PPO, part: Rollout, advantages: Tensor, generator: torch.Generator) -> PPOUpdate:
        """The update in ``n_epochs`` passes, each shuffled by ``generator``.

        :param advantages: ``[n]`` of the part, as they would lie in the buffer
        """
        passes = [torch.randperm(len(part), generator=generator) for _ in range(model.n_epochs)]
        return cls(model, part, advantages, [rows for each in passes for rows in each.split(model.batch_size)])

    def unrolled(self, validation: Batch, objective: HostObjective) -> tuple[Tensor, End]:
        """Weights ``[n]`` of the reward gradient through all steps, in advantages as given, and where they lead.

        :param validation: held-out steps and their standardised advantages
        :param objective: J of them
        """
        policy = self.model.policy
        own = list(policy.parameters())
        leaf = self.advantages.detach().clone().requires_grad_()
        reached, state = unrolled_adam(own, self._state(own), self.loss, leaf, self.batches)
        with replaced(policy, own, reached):
            log_probs = policy.get_distribution(validation.steps.observations).log_prob(validation.steps.actions)
        value = objective.value(log_probs, validation.steps.old_log_probs, validation.advantages)
        (weights,) = torch.autograd.grad(value, leaf)
        return weights, End(reached, state)

    def loss(self, parameters: Sequence[Tensor], advantages: Tensor, rows: Tensor) -> Tensor:
        """Loss of ``PPO.train`` on the mini-batch ``rows`` ``[m]``, without a clip of values.

        :param parameters: of the policy, all of them
        :param advantages: ``[n]`` of all steps
        """
        model, steps, critic = self.model, self.part.policy.take(rows), self.part.policy_critic
        with replaced(model.policy, list(model.policy.parameters()), parameters):
            values, log_probs, entropy = model.policy.evaluate_actions(steps.observations, steps.actions)
        assert entropy is not None
        chosen = advantages[rows]
        if model.normalize_advantage and len(rows) > 1:
            chosen = (chosen - chosen.mean()) / (chosen.std() + 1e-8)
        clip_range = model.clip_range(model._current_progress_remaining)  # type: ignore[operator]
        surrogate = clipped_surrogate(log_probs, steps.old_log_probs, chosen, clip_range)  # type: ignore[arg-type]
        returns = (advantages.detach() + critic.values)[rows]
        return -surrogate - model.ent_coef * entropy.mean() + model.vf_coef * mse_loss(returns, values.flatten())

    def _state(self, parameters: Sequence[Tensor]) -> AdamState:
        (group,) = self.model.policy.optimizer.param_groups
        states = [self.model.policy.optimizer.state.get(parameter, {}) for parameter in parameters]

        def moment(name: str) -> Tensor:
            pairs = zip(states, parameters, strict=True)
            return torch.cat([state.get(name, torch.zeros_like(each)).reshape(-1) for state, each in pairs])

        return AdamState(
            moment("exp_avg"),
            moment("exp_avg_sq"),
            count=int(states[0].get("step", 0)),
            learning_rate=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            max_norm=self.model.max_grad_norm,
        )


@contextmanager
def moved(policy: Any, end: End) -> Iterator[None]:
    """Let ``policy`` and its Adam stand where an update ended; both are given back as they were."""
    parameters, optimiser = list(policy.parameters()), policy.optimizer
    before = [parameter.detach().clone() for parameter in parameters], deepcopy(optimiser.state_dict())
    _copy(parameters, end.parameters)
    sizes = [parameter.numel() for parameter in parameters]
    moments = zip(end.state.first.split(sizes), end.state.second.split(sizes), strict=True)
    for parameter, (first, second) in zip(parameters, moments, strict=True):
        optimiser.state[parameter] = {
            "step": torch.tensor(float(end.state.count)),
            "exp_avg": first.detach().view_as(parameter).clone(),
            "exp_avg_sq": second.detach().view_as(parameter).clone(),
        }
    try:
        yield
    finally:
        _copy(parameters, before[0])
        optimiser.state.clear()  # an optimiser that had not moved yet has no state to load over
        optimiser.load_state_dict(before[1])


@torch.no_grad()
def _copy(parameters: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    for parameter, other in zip(parameters, others, strict=True):
        parameter.copy_(other)
