"""Return decomposition beside a host: finished episodes enter a memory, and the reward is fitted to their totals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.data.recorder import Record
from sb3_tare.data.rollout import RewardSteps
from sb3_tare.hosts.host import Host
from sb3_tare.hosts.on_policy import OnPolicyHost
from sb3_tare.learning.guarding import Guard
from sb3_tare.learning.metrics import Metrics
from sb3_tare.learning.totals import TotalsFit
from sb3_tare.rewards.episode_memory import EpisodeMemory
from sb3_tare.rewards.open_episodes import FinishedEpisodes
from sb3_tare.rewards.reward_model import RewardModel
from sb3_tare.rewards.running_scale import RunningScale
from sb3_tare.settings.groups import DecompositionSettings
from sb3_tare.utils.nested import Observations, on_cpu

TRUSTED_SLOPE = 0.5
"""Slope of payments on what was foretold of them that a reward needs to be paid alone: half of what it foretells is paid.
Chosen on the tasks of ``examples/results/safety``."""
PAID_CLIP = 10.0
"""Size at which scaled rewards are clipped before the policy is trained on them, as by ``VecNormalize``."""


class Decomposer(TotalsFit):
    """Memory of finished episodes, fits of the reward to them, and the scale in which the policy is paid.

    Vectors of observations are kept as they were before ``VecNormalize``, whose statistics move: what is drawn is normalised
    by those of today, so that an old step looks like a new one in the same state.

    :param settings: of the decomposition
    :param host: gives the action space, the discount and the number of environments
    :param model: a reward model whose network is a :class:`~sb3_tare.rewards.decomposed.DecomposedReward`
    :param generator: decides which episodes are kept and which steps are drawn
    :param fit_every: least number of steps between two fits
    """

    def __init__(
        self,
        settings: DecompositionSettings,
        host: Host[Any],
        model: RewardModel,
        generator: torch.Generator,
        fit_every: int = 0,
    ) -> None:
        super().__init__(settings, host, model, generator)
        self.memory = self._new_memory()
        self.fit_every = fit_every
        self.scale = RunningScale(host.model.n_envs, host.gamma, least_steps=fit_every)
        self.guard = self._new_guard(host)
        self._not_fitted = 0
        """Steps collected since the last fit"""
        self._keeps_originals: bool | None = None
        if isinstance(host, OnPolicyHost):
            host.records_originals = True
        self._fresh: tuple[RewardSteps, Tensor] | tuple[None, None] = (None, None)

    def learn_from(self, steps: RewardSteps, record: Record, metrics: Metrics, beside: Tensor | None = None) -> None:
        """Add a rollout to the memory, and fit the reward to the episodes in it.

        :param steps: the rollout
        :param record: of the same steps
        :param metrics: for the log
        :param beside: ``[p]`` of norm 1 in the parameters of the fits, a direction that they climb too
        :raises RuntimeError: if ``VecNormalize`` came or went since the memory's first rollout
        """
        if self.model.extractor is None:
            assert isinstance(steps.states, Tensor)
            self.reward.moments.update(steps.states)
        self.scale.discount = self.host.gamma
        environments = self._environments(steps)
        actions = self.reward.executed(steps.encoded_actions)
        if self.guard is not None:
            self.guard.observe(steps, environments, self._foretold(steps), self.host.gamma, metrics)
        kept = self._kept_states(steps.states, record.original_observations)
        finished = self.memory.add(steps.episodes, environments, kept, actions, steps.original_rewards)
        self._fit(finished, steps.episodes.n_steps, metrics, beside)
        if self.guard is not None:
            metrics.note(decomposition_trust=self._trust(self.guard))
        with torch.no_grad():
            rewards = self.model(steps)
        self._fresh = steps, rewards
        self.scale.update(rewards, steps.episodes, environments)
        metrics.note(decomposition_scale=self.scale.scale)
        metrics.note_correlation("correlation", rewards, steps.rewards)
        metrics.note_correlation(
            "correlation_undistorted", rewards.cpu(), torch.from_numpy(record.undistorted_rewards.T.ravel())
        )

    def is_due(self, n_new: int) -> bool:
        """Whether a fit follows once ``n_new`` further steps have been collected."""
        return self._not_fitted + n_new >= self.fit_every

    def paid(self, steps: RewardSteps) -> Tensor:
        """Learned rewards ``[n]`` of steps in the scale of their discounted returns, as the policy is trained on them.

        Those of the rollout that was just learned from are at hand. As far as a guard does not trust them, it pays the
        extrinsic ones.
        """
        (known, at_hand), self._fresh = self._fresh, (None, None)
        rewards = self.model(steps) if at_hand is None or steps is not known else at_hand
        learned = (rewards / self.scale.scale).clamp(-PAID_CLIP, PAID_CLIP)
        if self.guard is None:
            return learned
        return self.guard.mixed(learned, steps.original_rewards.to(learned), self._trust(self.guard), PAID_CLIP)

    def in_paid_unit(self, steps: RewardSteps) -> RewardSteps:
        """The steps with the environment's own rewards in the scale in which learned ones are paid, and nothing clipped.

        The policy's critic, which is of learned returns, foretells those of totals that these rewards have too.
        """
        return replace(steps, rewards=(steps.original_rewards / self.scale.scale).to(steps.rewards))

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs beside the reward model's parameters and buffers."""
        return {
            "memory": self.memory.state_dict(),
            "scale": self.scale.state_dict(),
            "keeps_originals": self._keeps_originals,
            "guard": None if self.guard is None else self.guard.state_dict(),
            "not_fitted": self._not_fitted,
            **super().state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over, from any device.

        :raises ValueError: if the memory is too small for what was saved, or observations had another size
        """
        state = on_cpu(dict(state))
        self.memory.load_state_dict(state["memory"])
        self.scale.load_state_dict(state["scale"])
        super().load_state_dict(state)
        self._keeps_originals = state.get("keeps_originals", False)
        self._not_fitted = state.get("not_fitted", 0)  # files from when each rollout was fitted to have none
        guard = state.get("guard")  # files from before there were guards have none
        if self.guard is not None and guard is not None:
            self.guard.load_state_dict(guard)

    def _trust(self, guard: Guard) -> float:
        """Share of the learned reward in what is paid, from 0 to 1; nothing before something is learned."""
        return guard.trust.weight if self.has_learned else 0.0

    def _new_guard(self, host: Host[Any]) -> Guard | None:
        """The guard, unless the reward is trusted at once."""
        slope = self.settings.trust_slope
        full = TRUSTED_SLOPE if slope is None else slope
        return Guard(full, host, self.fit_every) if full > 0.0 else None

    def _new_memory(self) -> Any:
        """The memory of finished episodes."""
        return EpisodeMemory(self.generator, self.settings.decomposition_memory, self.settings.decomposition_length)

    def _fit(self, finished: FinishedEpisodes, n_new: int, metrics: Metrics, beside: Tensor | None = None) -> None:
        """Fit the reward to the memory, where the last fit is far enough back.

        :param finished: episodes that are new to the memory
        :param n_new: steps that were collected
        :param beside: direction ``[p]`` that the fit climbs too
        """
        if len(finished):
            self.judge(finished, metrics)
            self.add_to_cost(finished)
        is_due = self.is_due(n_new)
        if is_due:
            self.solve_action_cost(metrics)
        self._not_fitted += n_new
        if is_due and self.fit(self.memory, self.settings.decomposition_updates, metrics, beside):
            self._not_fitted = 0
        metrics.note(decomposition_episodes=len(self.memory))

    @torch.no_grad()
    def _foretold(self, steps: RewardSteps) -> Tensor | None:
        """Rewards ``[n]`` of steps that the reward has not been fitted to; None before its first fit."""
        return self.model(steps) if self.fits.unit > 0.0 else None

    def _kept_states(self, states: Observations, original: np.ndarray | None) -> Observations:
        """States ``[n, ...]`` as the memory keeps them, of all steps of a rollout in the order of its rows."""
        if self._keeps_originals not in (None, original is not None):
            kinds = ("as the reward sees them", "from before VecNormalize")
            raise RuntimeError(
                f"the reward's memory of episodes keeps observations {kinds[original is None]}, and those of this rollout are "
                f"{kinds[original is not None]}: VecNormalize came or went, or an older version saved the memory. Keep the "
                "environment as it was, or start with a new RewardLearner"
            )
        self._keeps_originals = original is not None
        return states if original is None else torch.from_numpy(np.concatenate(original.swapaxes(0, 1)))

    def _seen(self, states: Observations) -> Observations:
        if self._keeps_originals:
            assert isinstance(states, Tensor)
            assert isinstance(self.host, OnPolicyHost)
            states = self.host.normalised(states)
        return super()._seen(states)

    def _environments(self, steps: RewardSteps) -> Tensor:
        """Environment ``[E]`` of each piece; rows of an environment are consecutive."""
        episodes = steps.episodes
        return episodes.begins // (episodes.n_steps // self.host.model.n_envs)
