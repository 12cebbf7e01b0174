"""Return decomposition beside a host: finished episodes enter a memory, and the reward is fitted to their totals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.data.rollout import RewardSteps
from sb3_tare.hosts.host import Host
from sb3_tare.learning.metrics import Metrics
from sb3_tare.learning.totals import TotalsFit
from sb3_tare.rewards.episode_memory import EpisodeMemory
from sb3_tare.rewards.reward_model import RewardModel
from sb3_tare.rewards.running_scale import RunningScale
from sb3_tare.settings.groups import DecompositionSettings

PAID_CLIP = 10.0
"""Size at which scaled rewards are clipped before the policy is trained on them, as by ``VecNormalize``."""


class Decomposer(TotalsFit):
    """Memory of finished episodes, fits of the reward to them, and the scale in which the policy is paid.

    :param settings: of the decomposition
    :param host: gives the action space, the discount and the number of environments
    :param model: a reward model whose network is a :class:`~sb3_tare.rewards.decomposed.DecomposedReward`
    :param generator: decides which episodes are kept and which steps are drawn
    """

    def __init__(
        self, settings: DecompositionSettings, host: Host[Any], model: RewardModel, generator: torch.Generator
    ) -> None:
        super().__init__(settings, host, model, generator)
        self.memory = EpisodeMemory(generator, max_steps=settings.decomposition_memory)
        self.scale = RunningScale(host.model.n_envs, host.gamma)

    def learn_from(self, steps: RewardSteps, undistorted_rewards: np.ndarray, metrics: Metrics) -> None:
        """Add a rollout to the memory, and fit the reward to the episodes in it.

        :param steps: the rollout
        :param undistorted_rewards: ``[n]``, rewards before a wrapper delayed or disturbed them; NaN where they are unknown
        :param metrics: for the log
        """
        if self.model.extractor is None:
            assert isinstance(steps.states, Tensor)
            self.reward.moments.update(steps.states)
        self.scale.discount = self.host.gamma
        environments = self._environments(steps)
        actions = self.reward.executed(steps.encoded_actions)
        finished = self.memory.add(steps.episodes, environments, steps.states, actions, steps.original_rewards)
        if len(finished):
            self.judge(finished, metrics)
            self.solve_action_cost(finished, metrics)
        self.fit(self.memory, self.settings.decomposition_updates, metrics)
        with torch.no_grad():
            rewards = self.model(steps)
        self.scale.update(rewards, steps.episodes, environments)
        metrics.note(decomposition_episodes=len(self.memory), decomposition_scale=self.scale.scale)
        metrics.note_correlation("correlation_undistorted", rewards.cpu(), torch.from_numpy(undistorted_rewards))

    def paid(self, rewards: Tensor) -> Tensor:
        """Learned rewards ``[n]`` in the scale of their discounted returns, as the policy is trained on them."""
        return (rewards / self.scale.scale).clamp(-PAID_CLIP, PAID_CLIP)

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs beside the reward model's parameters and buffers."""
        return {"memory": self.memory.state_dict(), "scale": self.scale.state_dict(), **super().state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over.

        :raises ValueError: if the memory is too small for what was saved, or observations had another size
        """
        self.memory.load_state_dict(state["memory"])
        self.scale.load_state_dict(state["scale"])
        super().load_state_dict(state)

    def _environments(self, steps: RewardSteps) -> Tensor:
        """Environment ``[E]`` of each piece; rows of an environment are consecutive."""
        episodes = steps.episodes
        return episodes.begins // (episodes.n_steps // self.host.model.n_envs)
