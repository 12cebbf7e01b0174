"""Everything that is learned beside the policy, and how each rollout trains it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from sb3_tare.advantages.parameterised import Advantages
from sb3_tare.data.recorder import Record
from sb3_tare.data.rollout import Rollout
from sb3_tare.hosts.host import Host
from sb3_tare.hypergradient.policy_gradients import Batch
from sb3_tare.learning.metrics import Metrics
from sb3_tare.learning.optimisers import Optimisers
from sb3_tare.rewards.consistency import WindowMemory, consistency_losses
from sb3_tare.rewards.reward_model import build_reward_model
from sb3_tare.settings import RewardSettings
from sb3_tare.utils.nested import take

RewardObjective = Callable[[Tensor, Tensor], Tensor]


def along_hypergradient(weights: Tensor, advantages: Tensor) -> Tensor:
    """Loss whose gradient in phi is minus the hypergradient ``sum_t w_t dA_t/dphi`` (eq. 13 and 14)."""
    return -(weights * advantages).sum()


class RewardTrainer:
    """Reward model, second critic, their optimisers, and the rollouts they still need; for one host.

    :param settings: of the learner
    :param model: the host's algorithm
    :param host: what kind of host it is
    :param seed: of the initial weights and of all splits and shuffles
    :param objective: loss of a reward step, a function of the weights w and the advantages A_phi, ``[n]`` each
    """

    def __init__(
        self,
        settings: RewardSettings,
        model: Any,
        host: Host,
        seed: int,
        objective: RewardObjective = along_hypergradient,
    ) -> None:
        self.settings = settings
        self.objective = objective
        self.device: torch.device = model.device
        self.reward_model = build_reward_model(settings, model.policy, seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.advantages = Advantages(settings, model.gamma, model.gae_lambda, host.sums)
        self.gradients = host.gradients_class(model.policy, host.objective, model.normalize_advantage, settings)
        self.reader = host.reader_class(model, policy_features=settings.features == "policy")
        self.memory = WindowMemory(settings.consistency_rollouts, settings.consistency_window)
        self._waiting: Rollout | None = None
        self._waiting_policy = torch.zeros(2, dtype=torch.float64)
        self.optimisers = Optimisers(settings, self.reward_model)
        self.metrics = Metrics()
        self._relabelled: dict[int, tuple[Rollout, Tensor]] = {}
        self._forward: dict[int, tuple[Rollout, Tensor]] = {}

    def read(self, record: Record) -> Rollout:
        """Begin an iteration: read the rollout, with all that the reward will need of it once the policy has moved on."""
        self._relabelled.clear()
        self._forward.clear()
        self.metrics.clear()
        rollout = self.reader.read(record)
        self.reward_model.observe(self.reader.new_rewards(rollout, record))
        unit = self.reward_model.unit
        behaviour = self.gradients.behaviour(rollout) if self.gradients.needs_behaviour else None
        if self.settings.critics == 1:
            return replace(rollout, unit=unit, behaviour=behaviour)
        learned = self.reader.baseline(rollout, record, lambda states: self.reward_model.values(states, unit.scale))
        return replace(rollout, unit=unit, behaviour=behaviour, learned=learned)

    def learned_rewards(self, rollout: Rollout) -> Tensor:
        """``[n]`` learned rewards in extrinsic units, differentiable in phi.

        The forward pass is kept until phi moves: relabelling, alignment and the reward step that follows share it.

        :raises FloatingPointError: if one is not finite
        """
        if id(rollout) not in self._forward:
            self._forward[id(rollout)] = rollout, self._finite_rewards(rollout)
        return self._forward[id(rollout)][1]

    def _finite_rewards(self, rollout: Rollout) -> Tensor:
        rewards = self.reward_model(rollout)
        if self.settings.center:
            rewards = rewards - rewards.mean()
        if not torch.isfinite(rewards).all():
            raise FloatingPointError(
                "the reward network returned rewards that are not finite; neither policy nor reward were updated with them. "
                "Lower learning_rate or max_grad_norm, or bound the network's output"
            )
        return rewards

    def relabel(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantages and returns ``[n]`` on which the host is to train."""
        parameterised = self.parameterised(rollout).detach()
        return parameterised, self.advantages.host_returns(rollout, parameterised)

    def parameterised(self, rollout: Rollout) -> Tensor:
        """Advantages ``[n]`` on which the host is to train, differentiable in phi."""
        rewards = self.learned_rewards(rollout)
        self._relabelled[id(rollout)] = rollout, rewards.detach()
        return self.advantages.parameterised(rollout, rewards)

    def reward_step(self, training: Rollout, validation: Rollout) -> None:
        """``n_reward_updates`` steps along the hypergradient (Algorithm 1, lines 8 to 10).

        :param training: what the policy was just updated on
        :param validation: held-out steps
        :raises FloatingPointError: if the gradient is not finite, before anything is changed
        """
        prepared = self.gradients.prepared
        held_out = Batch(validation, prepared(self.advantages.extrinsic(validation)))
        for _ in range(self.settings.n_reward_updates):
            advantages = prepared(self.advantages.parameterised(training, self.learned_rewards(training)))
            trained = Batch(training, advantages.detach())
            weights, solution = self.gradients.reward_weights(trained, held_out, self._curved(trained, held_out))
            self.step_along(weights, advantages)
            self.metrics.note(
                cg_residual=solution.residual,
                cg_steps=solution.steps,
                negative_curvature=float(solution.negative_curvature),
            )

    def step_along(self, weights: Tensor, advantages: Tensor) -> None:
        """One step on the reward along the hypergradient ``sum_t w_t dA_t/dphi``.

        :param weights: ``[n]``
        :param advantages: ``[n]``, differentiable in phi
        :raises FloatingPointError: if the gradient is not finite, before anything is changed
        """
        self.metrics.note(hypergradient_norm=self.optimisers.step("reward", self.objective(weights, advantages)))
        self._forward.clear()

    def wait(self, rollout: Rollout) -> None:
        """Keep what the policy was just updated on until the updated policy has collected its validation."""
        self._waiting, self._waiting_policy = rollout, self.gradients.signature()

    def take_waiting(self) -> Rollout | None:
        """The rollout that waits, unless the policy is no longer the one that was updated on it."""
        waiting, self._waiting = self._waiting, None
        return waiting if torch.allclose(self.gradients.signature(), self._waiting_policy) else None

    def measure_alignment(self, first: Rollout, second: Rollout) -> None:
        """Does the learned reward point where held-out extrinsic reward grows, and does the extrinsic one itself?

        Cosine of the policy gradient on ``first``, with either reward, and the extrinsic one on ``second``.
        """
        gradient, prepared, extrinsic = self.gradients.gradient, self.gradients.prepared, self.advantages.extrinsic
        parameterised = self.advantages.parameterised(first, self.learned_rewards(first).detach())
        held_out = gradient(Batch(second, prepared(extrinsic(second))))
        for name, advantages in (("learned", parameterised), ("extrinsic", extrinsic(first))):
            cosine = cosine_similarity(gradient(Batch(first, prepared(advantages))), held_out, dim=0)
            self.metrics.note(**{f"alignment_{name}": float(cosine)})

    def finish(self, collected: Rollout, share: float = 1.0) -> None:
        """After the policy's updates: train the second critic, and the reward's consistency where it is asked for.

        :param collected: in this iteration
        :param share: of the relabelled steps that each of the critic's passes takes
        """
        self._forward.clear()
        if self.settings.return_consistency > 0:
            self.memory.add(collected)
        if self.reward_model.unit.scale > 0:
            self._fit_critic(share)
            if self.settings.return_consistency > 0:
                self._make_consistent()
        learned = torch.cat([rewards for _, rewards in self._relabelled.values()])
        extrinsic = torch.cat([part.extrinsic_rewards for part, _ in self._relabelled.values()])
        self.metrics.note_rewards(learned, extrinsic)

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs, as nested plain data and tensors."""
        return {
            "reward_model": self.reward_model.state_dict(),
            "optimisers": self.optimisers.state_dict(),
            "generator": self.generator.get_state(),
            "waiting": None if self._waiting is None else self._waiting.state_dict(),
            "waiting_policy": self._waiting_policy,
            "memory": self.memory.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take a copy of a :meth:`state_dict` over; step sizes stay those of the settings.

        :raises RuntimeError: if it belongs to a reward model of another shape
        """
        self.reward_model.load_state_dict(state["reward_model"], strict=strict)
        self._forward.clear()
        self.optimisers.load_state_dict(state["optimisers"])  # consistency may be taken up or dropped
        self.generator.set_state(state["generator"].cpu())
        waiting, self._waiting_policy = state["waiting"], state["waiting_policy"].cpu()
        self._waiting = None if waiting is None else Rollout.from_state_dict(waiting, self.device)
        if self.settings.validation == "split" or (self.gradients.needs_behaviour and not (waiting or {}).get("behaviour")):
            self._waiting = None  # these settings do not wait, or would need of it what others did not keep
        self.memory.load_state_dict(state["memory"], self.device)

    def _curved(self, trained: Batch, held_out: Batch) -> Batch:
        """Where the curvature is measured, with the parameterised advantages of eq. 11 where it needs any."""
        if self.settings.curvature_episodes == "training":
            return trained
        if not self.gradients.curvature_needs_advantages:
            return held_out
        rewards = self.learned_rewards(held_out.rollout).detach()
        parameterised = self.advantages.parameterised(held_out.rollout, rewards)
        return Batch(held_out.rollout, self.gradients.prepared(parameterised))

    def _fit_critic(self, share: float) -> None:
        """Towards the learned rewards' returns, in units of the extrinsic reward."""
        scale = self.reward_model.unit.scale
        targets = [
            (rollout.states, (self.advantages.learned(rollout, rewards) + rollout.learned.values) / scale)
            for rollout, rewards in self._relabelled.values()
            if rollout.learned is not None
        ]
        for states, returns in targets * self.settings.critic_epochs:
            n_rows = math.ceil(share * len(returns))
            shuffled = torch.randperm(len(returns), generator=self.generator)[:n_rows].to(returns.device)
            for rows in shuffled.split(self.settings.critic_batch_size):
                loss = mse_loss(self.reward_model.values(take(states, rows), scale=1.0), returns[rows])
                self.optimisers.step("critic", loss)
                self.metrics.note(critic_loss=float(loss.detach()))

    def _make_consistent(self) -> None:
        for _ in range(self.settings.consistency_updates):
            windows = self.memory.sample(self.settings.consistency_batch_size, self.generator)
            losses = consistency_losses(self.reward_model, windows)
            self.optimisers.step("consistency", *losses)
            self.metrics.note(consistency_loss=float(sum(loss.detach() for loss in losses)))
