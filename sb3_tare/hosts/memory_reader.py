"""A replay memory as the reward learner needs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor

from sb3_tare.awr.evaluation import in_chunks, path_baseline
from sb3_tare.awr.memory import Paths
from sb3_tare.data.episodes import Part
from sb3_tare.data.rollout import Baseline, Rollout
from sb3_tare.hosts.reader import RolloutReader
from sb3_tare.utils.nested import Observations, take


class ActorUpdate(NamedTuple):
    """What AWR's actor phase is asked to do."""

    paths: Paths
    """All steps of the memory"""
    n_steps: int
    """Gradient steps"""


class MemoryReader(RolloutReader):
    """Turns AWR's memory into a :class:`~sb3_tare.data.rollout.Rollout`.

    Its ``observations`` are rows of the memory in place of what lies there: only the few steps drawn for a gradient have
    theirs fetched, by :meth:`fetch`.
    """

    @torch.no_grad()
    def read(self, record: ActorUpdate) -> Rollout:  # type: ignore[override]
        """All paths of the memory, without the second critic's baseline."""
        model, paths = self.model, record.paths
        memory, env = model.replay_buffer, model.get_vec_normalize_env()
        actions = memory.actions_at(paths.rows)
        rewards = memory.rewards_at(paths.rows, env)
        return Rollout(
            observations=torch.from_numpy(paths.rows).to(model.device),
            states=in_chunks(self._states, lambda rows: memory.observations_at(rows, env), paths.rows),
            actions=actions,
            encoded_actions=preprocess_obs(actions, model.action_space, normalize_images=False).flatten(1),  # type: ignore[union-attr]
            action_masks=None,
            old_log_probs=torch.zeros_like(rewards),  # the objective does not look at who acted
            extrinsic_rewards=rewards,
            episodes=paths.episodes,
            extrinsic=model.baseline(paths),
        )

    def new_rewards(self, rollout: Rollout, record: ActorUpdate) -> Tensor:  # type: ignore[override]
        """``[k]`` extrinsic rewards of the steps that were collected since the last iteration."""
        return self.collected(rollout).extrinsic_rewards

    def collected(self, rollout: Rollout) -> Rollout:
        """The steps of the memory that were collected since the last iteration."""
        memory = self.model.replay_buffer
        newest = memory.paths(memory.n_new)
        by_env = torch.arange(len(rollout.extrinsic_rewards)).view(memory.n_envs, -1)
        rows = by_env[:, by_env.shape[1] - len(newest.rows) // memory.n_envs :].flatten()
        return rollout.select(Part(newest.episodes, rows))

    @torch.no_grad()
    def baseline(  # type: ignore[override]
        self, rollout: Rollout, record: ActorUpdate, critic: Callable[[Observations], Tensor]
    ) -> Baseline:
        """What ``critic``, a map from states to values ``[n]``, says about all paths."""
        model = self.model
        states = np.arange(len(record.paths.rows))
        values = in_chunks(critic, lambda rows: take(rollout.states, torch.from_numpy(rows)), states)
        return path_baseline(
            lambda observations: critic(self._states(observations)),
            model.replay_buffer,
            record.paths,
            model.gamma,
            model.get_vec_normalize_env(),
            values,
        )

    def fetch(self, rollout: Rollout) -> Rollout:
        """The same steps with the observations themselves."""
        assert isinstance(rollout.observations, Tensor)
        rows = rollout.observations.cpu().numpy()
        model = self.model
        return replace(rollout, observations=model.replay_buffer.observations_at(rows, model.get_vec_normalize_env()))
