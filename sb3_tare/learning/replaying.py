"""Reward learning beside an off-policy host: the reward follows its replay buffer, and pays for what is sampled from it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sb3_tare.data.replay import BLOCK
from sb3_tare.hosts.off_policy import OffPolicyHost
from sb3_tare.learning.metrics import Metrics
from sb3_tare.learning.replay_memory import ReplayMemory
from sb3_tare.learning.totals import TotalsFit
from sb3_tare.learning.unlearned import Unlearned
from sb3_tare.rewards.reward_model import build_reward_model
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.nested import Observations
from sb3_tare.utils.stopwatch import Stopwatch

UPDATES_FOR = 2048
"""Collected steps for which ``decomposition_updates`` steps of Adam are taken: a rollout of PPO at its defaults."""
MOST_UPDATES = 1_000
"""Steps of Adam at most for the steps of a buffer that was taken over, and for those before any episode paid anything."""
SETTLING = 10
"""First fits that renew the unit of rewards: the first is to the totals of a few episodes, perhaps of one that pays little."""
COMPARED_STEPS = 2048
"""Steps of episodes at least among which the cost of actions is solved, those of one rollout at PPO's defaults."""


class ReplayTrainer:
    """Reward model of an off-policy host, and its fit to the whole episodes in the replay buffer.

    Rewards are learned and paid in the environment's own units, as if it had paid each step: entropy coefficients and
    targets stay what they are where rewards are dense. Behind ``VecNormalize`` its statistics scale them, as SB3 scales
    rewards when it samples.

    :param settings: of the learner
    :param host: adapter of the algorithm
    :param seed: of the initial weights and of all draws
    """

    def __init__(self, settings: LearnerSettings, host: OffPolicyHost, seed: int) -> None:
        self.settings = settings
        self.host = host
        self.reward_model = build_reward_model(settings, host.policy, seed, host.chunk_rows)
        self.generator = torch.Generator().manual_seed(seed)
        self.metrics = Metrics()
        self.decomposer = TotalsFit(settings.decomposition, host, self.reward_model, self.generator, SETTLING)
        self.memory = ReplayMemory(host, self.decomposer.reward)
        self.unlearned = Unlearned(host, self.memory)
        self._n_learned = 0
        self._n_loaded = 0
        """Rows that a loaded learner has learned from, and that the buffer has yet to be given"""
        self._generation = self.memory.generation
        self._n_uncompared = 0
        self._owed = 0.0

    def learn(self) -> bool:
        """Learn from the episodes that have ended; return whether there were any."""
        self.memory.update()
        is_other = self.memory.n_written < self._n_learned or self.memory.generation != self._generation
        if is_other or self.memory.n_found < self._n_loaded:  # other rows than those that were learned from
            self._n_learned, self._generation = 0, self.memory.generation
        self._n_loaded = 0
        new = self.memory.since(self._n_learned)
        if not len(new):
            return False
        collected = self._collected()
        self._owe(collected)
        self._n_learned = self.memory.n_written  # before anything is learned, so that after an interruption it is not again
        self._see(collected)
        for group in _groups(new, self.memory.lengths, COMPARED_STEPS):
            self.decomposer.judge(self.memory.finished(group), self.metrics)
        self._compare(len(new))
        n_updates, self._owed = int(self._owed), self._owed % 1.0
        if n_updates > 0 and not self.decomposer.fit(self.memory, n_updates, self.metrics):
            self._owed = min(self._owed + n_updates, MOST_UPDATES)  # for the first episode that pays anything
        self._note(collected[-BLOCK:])
        return True

    @property
    def has_learned(self) -> bool:
        """Whether there is a learned reward that says something."""
        return self.decomposer.has_learned

    @torch.no_grad()
    def paid(self, observations: Observations, actions: Tensor) -> Tensor:
        """Learned rewards ``[k]``, in the environment's units, of a batch from the buffer.

        :param observations: ``[k, ...]`` as the policy sees them
        :param actions: ``[k, ...]``
        """
        return self._rewards(*self.host.seen(observations, actions))

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs beside the replay buffer, as nested plain data and tensors."""
        return {
            "reward_model": self.reward_model.state_dict(),
            "generator": self.generator.get_state(),
            "totals": self.decomposer.state_dict(),
            "n_learned": self._n_learned,
            "generation": self._generation,
            "n_uncompared": self._n_uncompared,
            "owed": self._owed,
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take a copy of a :meth:`state_dict` over; step sizes stay those of the settings.

        :raises RuntimeError: if it belongs to a reward model of another shape
        """
        self.reward_model.load_state_dict(state["reward_model"], strict=strict)
        self.generator.set_state(state["generator"].cpu())
        self.decomposer.load_state_dict(state["totals"])
        self._n_learned, self._n_uncompared, self._owed = state["n_learned"], state["n_uncompared"], state["owed"]
        self._n_loaded = self._n_learned if self._n_learned > self.memory.n_written else 0
        self._generation = state.get("generation", self.memory.generation)  # files from when buffers had none have none

    def _rewards(self, states: Observations, actions: Tensor) -> Tensor:
        return self.decomposer.reward.of_steps(self.reward_model.features(states), actions)

    def _collected(self) -> np.ndarray:
        """Rows ``[T]``, of all that were ever written, from which nothing was learned yet and that are still there."""
        oldest = self.memory.n_written - self.host.buffer.buffer_size
        return np.arange(max(self._n_learned, oldest), self.memory.n_written)

    def _owe(self, rows: np.ndarray) -> None:
        """Owe the fit its steps of Adam for ``rows``; for those that were there before the learner, not too many."""
        rate = self.settings.decomposition.decomposition_updates * self.host.model.n_envs / UPDATES_FOR
        n_found = int((rows < self.memory.n_found).sum()) if self._n_learned == 0 else 0
        self._owed += rate * (len(rows) - n_found) + min(rate * n_found, MOST_UPDATES)

    def _see(self, rows: np.ndarray) -> None:
        """Let states enter the statistics by which the network sees them."""
        if self.reward_model.extractor is not None:
            return
        for first in range(0, len(rows), BLOCK):
            states, _ = self.host.steps_at(*self._places(rows[first : first + BLOCK]))
            assert isinstance(states, Tensor)
            self.decomposer.reward.moments.update(states)

    def _compare(self, n_new: int) -> None:
        """Solve the cost of actions from groups of episodes that ended one after the other."""
        n_episodes = len(self.memory)
        self._n_uncompared = min(self._n_uncompared + n_new, n_episodes)
        waiting = torch.arange(n_episodes - self._n_uncompared, n_episodes)
        for group in _groups(waiting, self.memory.lengths, COMPARED_STEPS):
            if int(self.memory.lengths[group].sum()) >= COMPARED_STEPS:
                self._n_uncompared -= len(group)
                self.decomposer.add_to_cost(self.memory.finished(group))
                self.decomposer.solve_action_cost(self.metrics)

    @torch.no_grad()
    def _note(self, rows: np.ndarray) -> None:
        """Note how learned rewards of steps relate to what the environment paid for them."""
        places = self._places(rows)
        learned = self._rewards(*self.host.steps_at(*places)).cpu()
        earned = torch.from_numpy(self.host.take_undistorted(rows).T.ravel())
        if len(learned) > 1:
            self.metrics.note_rewards(learned, torch.from_numpy(self.host.buffer.rewards[places]))
            self.metrics.note_correlation("correlation_undistorted", learned, earned)
        self.metrics.note(decomposition_episodes=len(self.memory))

    def _places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the ring and columns, ``[T * n_envs]`` each, of all environments' steps in ``rows``."""
        n_envs = self.host.model.n_envs
        return np.tile(rows % self.host.buffer.buffer_size, n_envs), np.repeat(np.arange(n_envs), len(rows))


class ReplayIteration:
    """Learns from what was collected, and lends the reward to the host for its update.

    :param trainer: of the reward
    """

    n_updates = 1
    """Updates of the policy after each rollout"""

    def __init__(self, trainer: ReplayTrainer) -> None:
        self.trainer = trainer
        self.clock = Stopwatch()

    def updates(self, record: None) -> Generator[None, None, None]:
        """Yield when the host is to update its policy, on learned rewards once there are any.

        However it ends, the buffer then pays extrinsic rewards again.
        """
        trainer, host = self.trainer, self.trainer.host
        trainer.metrics.clear()
        if host.episode_ended:
            host.episode_ended = False
            self.clock.reset()
            with self.clock.running():
                trainer.learn()
        has_learned = trainer.has_learned
        trainer.unlearned.look(has_learned)
        with host.paying(trainer.paid) if has_learned else nullcontext():
            yield


def _groups(episodes: Tensor, lengths: Tensor, least: int) -> Iterator[Tensor]:
    """Runs of ``episodes`` ``[K]``, each as short as it can be with ``least`` steps; the last may have fewer."""
    sums, first = lengths[episodes].cumsum(0), 0
    while first < len(episodes):
        done = int(sums[first - 1]) if first else 0
        end = min(int(torch.searchsorted(sums, done + least)) + 1, len(episodes))
        yield episodes[first:end]
        first = end
