"""Return decomposition beside AWR, whose replay memory is the memory of episodes: no step is kept twice."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes
from sb3_tare.hosts.awr import AWRHost
from sb3_tare.hosts.host import Host
from sb3_tare.learning.decomposing import Decomposer
from sb3_tare.learning.metrics import Metrics
from sb3_tare.rewards.decomposed import DecomposedReward
from sb3_tare.rewards.episode_memory import Draw, drawn_rows
from sb3_tare.rewards.open_episodes import FinishedEpisodes, warn_of_unpaid_parts
from sb3_tare.utils.nested import Observations, at_rows

CHUNK = 4_096
"""Steps that are read at once."""


class PathEpisodes:
    """Whole episodes among the paths of a replay memory, read where they lie; episodes leave it as their steps do.

    A path that has lost its oldest steps is none, nor is one that has not ended yet: nobody knows what they earned in all.

    :param host: whose memory it is
    :param reward: executes actions
    :param longest: steps of an episode's part, see :class:`~sb3_tare.rewards.open_episodes.OpenEpisodes`
    """

    def __init__(self, host: AWRHost, reward: DecomposedReward, longest: int) -> None:
        self.lengths = torch.zeros(0, dtype=torch.int64)
        """``[E]`` steps"""
        self.totals = torch.zeros(0, dtype=torch.float64)
        """``[E]`` sum of the extrinsic rewards"""
        self.squared_actions = torch.zeros(0, dtype=torch.float64)
        """``[E]`` sum of |a|^2"""
        self._host = host
        self._reward = reward
        self._longest = longest
        self._rows = np.zeros(0, dtype=np.int64)
        self._begins = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def refresh(self, n_new: int) -> FinishedEpisodes:
        """Find the episodes that the memory holds now, and return those that have ended within its newest steps.

        :param n_new: steps of all environments together that count as new
        """
        memory = self._host.model.replay_buffer
        self._rows, episodes = memory.paths()
        self._begins, self.lengths, goes_on = whole_episodes(episodes, self._longest)
        self.totals = self._sums(memory.rewards_at(self._rows).cpu().double())
        actions = at_rows(self._actions, self._rows, CHUNK)
        self.squared_actions = self._sums(actions.double().square().sum(1))
        is_new = self._ended_within(n_new // memory.n_envs)
        warn_of_unpaid_parts(self.totals[is_new & goes_on], self._longest)
        return self._finished(is_new)

    def sample(self, n_episodes: int, n_steps: int, generator: torch.Generator, recent: float = 0.0) -> Draw:
        """Draw episodes, each with the same chance, and ``n_steps`` steps of each, all with replacement.

        :param recent: 0, since paths of several environments are in no order of time
        :raises ValueError: if there is none
        """
        chosen, places = drawn_rows(self._begins, self.lengths, n_episodes, n_steps, generator)
        rows = self._rows[places.numpy()]
        totals, squared_actions = self.totals[chosen], self.squared_actions[chosen]
        return Draw(self.states(rows), self._actions(rows), self.lengths[chosen], totals, squared_actions)

    def steps(self, rows: np.ndarray) -> tuple[Observations, Tensor]:
        """States ``[n, ...]`` and executed actions ``[n, action_dim]`` at ``rows`` ``[n]`` of the memory."""
        return self.states(rows), self._actions(rows)

    @torch.no_grad()
    def states(self, rows: np.ndarray) -> Observations:
        """States ``[n, ...]`` as the reward sees them at ``rows`` ``[n]`` of the memory."""
        model = self._host.model
        return self._host.states(model.replay_buffer.observations_at(rows, model.get_vec_normalize_env()))

    def state_dict(self) -> dict[str, Any]:
        """Nothing, as the memory is saved by its own."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing, as the memory is loaded by its own."""

    @torch.no_grad()
    def _actions(self, rows: np.ndarray) -> Tensor:
        model = self._host.model
        encoded = preprocess_obs(model.replay_buffer.actions_at(rows), model.action_space, normalize_images=False)
        assert isinstance(encoded, Tensor)
        return self._reward.executed(encoded.flatten(1)).cpu()

    def _sums(self, values: Tensor) -> Tensor:
        """Sums ``[E]`` of ``values`` ``[n]`` over the steps of each whole episode."""
        sums = torch.cat([values.new_zeros(1), values.cumsum(0)])
        return sums[self._begins + self.lengths] - sums[self._begins]

    def _ended_within(self, n_steps: int) -> Tensor:
        """Whether the last step of each whole episode, ``[E]``, is among the newest ``n_steps`` of its environment."""
        n_kept = len(self._rows) // self._host.model.n_envs
        return (self._begins + self.lengths - 1) % n_kept >= n_kept - n_steps

    def _finished(self, chosen: Tensor) -> FinishedEpisodes:
        """The ``chosen`` ``[E]`` of the whole episodes, with all of their steps."""
        begins, lengths = self._begins[chosen], self.lengths[chosen]
        shifts = torch.repeat_interleave(begins - (lengths.cumsum(0) - lengths), lengths)
        rows = self._rows[(torch.arange(len(shifts)) + shifts).numpy()]
        return FinishedEpisodes(
            at_rows(self.states, rows, CHUNK), at_rows(self._actions, rows, CHUNK), lengths, self.totals[chosen]
        )


class PathDecomposer(Decomposer):
    """A :class:`~sb3_tare.learning.decomposing.Decomposer` whose memory is AWR's.

    Rewards are paid in the environment's own units, as AWR takes extrinsic ones: it standardises advantages itself.
    """

    host: AWRHost
    memory: PathEpisodes
    _has_warned = False

    def relabel(self, collects: bool, metrics: Metrics) -> Tensor:
        """Fit the reward to the memory, and return learned rewards ``[n]`` of all of its steps, in time order.

        Until something is learned they are the environment's own.

        :param collects: whether the newest steps were just collected by the policy. Otherwise nobody knows which episodes are
            of one policy, so that no cost of actions can be solved, and none is new to the reward.
        :param metrics: for the log
        """
        replay_memory = self.host.model.replay_buffer
        finished = self.memory.refresh(replay_memory.n_new if collects else 0)
        rows = replay_memory.paths().rows
        if self.model.extractor is None and (collects or int(self.reward.moments.count) == 0):
            newest = replay_memory.paths(replay_memory.n_new).rows if collects else rows
            for first in range(0, len(newest), CHUNK):
                states = self.memory.states(newest[first : first + CHUNK])
                assert isinstance(states, Tensor)
                self.reward.moments.update(states)
        # Data that somebody else collected do not grow: each fit that is asked for is due.
        self._fit(finished, replay_memory.n_new if collects else self.fit_every, metrics)
        if collects:
            self._look()
        if not self.has_learned:
            return replay_memory.rewards_at(rows, self.host.model.get_vec_normalize_env())
        cost = float(self.reward.action_cost)
        rewards = at_rows(lambda chunk: self.fits.rewards(*self.memory.steps(chunk), cost), rows, CHUNK)
        if collects:
            self._compare(rewards, metrics)
        return rewards

    def _new_guard(self, host: Host[Any]) -> None:
        """None: what AWR's memory holds was collected by many policies."""

    def _new_memory(self) -> PathEpisodes:
        for name in ("trust_slope", "decomposition_recent"):
            if value := getattr(self.settings, name):
                raise ValueError(
                    f"{name}={value} needs a host that collects rollouts, which AWR does not: leave it out, or take TAREPPO"
                )
        return PathEpisodes(self.host, self.reward, self.settings.decomposition_length)

    def _look(self) -> None:
        """Warn once where the memory is too short for an episode."""
        memory = self.host.model.replay_buffer
        if self._has_warned or len(self.memory) or not memory.full:
            return
        self._has_warned = True
        paid = "" if self.has_learned else ", and the policy is trained on the environment's own rewards"
        warnings.warn(
            f"no whole episode is in the memory, with {memory.buffer_size} steps of each of {memory.n_envs} environments, so "
            f"that nothing is learned of the reward{paid}: raise buffer_size to several episodes of each, or let them end "
            "earlier, as gymnasium's TimeLimit does",
            stacklevel=2,
        )

    def _compare(self, rewards: Tensor, metrics: Metrics) -> None:
        """Note the correlation with what the steps just collected earned, where the environment tells."""
        undistorted = self.host.undistorted_rewards
        newest = rewards.view(self.host.model.n_envs, -1)[:, -len(undistorted) :]
        metrics.note_correlation("correlation_undistorted", newest.flatten(), undistorted.T.flatten())


def whole_episodes(episodes: Episodes, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """The whole episodes among pieces, longer ones in parts of ``longest`` steps.

    :param episodes: pieces, some of which may lack their beginning or their end
    :param longest: steps of a part; parts begin at its multiples
    :return: first rows ``[E]``, steps ``[E]``, and whether the episode goes on behind its part ``[E]``
    """
    may_begin = episodes.times % longest == 0
    begins = torch.nonzero(may_begin | (episodes.offsets == 0)).flatten()
    lengths = torch.diff(begins, append=torch.tensor([episodes.n_steps]))
    last = begins + lengths - 1
    pieces = episodes.pieces[last]
    has_ended = (episodes.offsets[last] == episodes.lengths[pieces] - 1) & (episodes.ends[pieces] != int(End.CUT))
    is_whole = may_begin[begins] & (has_ended | (lengths == longest))
    return begins[is_whole], lengths[is_whole], ~has_ended[is_whole]
