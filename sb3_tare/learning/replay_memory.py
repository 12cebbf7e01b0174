"""Whole episodes in a host's replay buffer, from each of which a few steps can be drawn."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sb3_tare.data.replay import begun_rows, check_rows, lost_rows
from sb3_tare.hosts.off_policy import OffPolicyHost
from sb3_tare.hosts.replay_buffers import PaysLearnedRewards
from sb3_tare.rewards.decomposed import DecomposedReward
from sb3_tare.rewards.episode_memory import Draw, drawn_rows
from sb3_tare.rewards.open_episodes import FinishedEpisodes
from sb3_tare.rewards.ring_episodes import RingEpisodes
from sb3_tare.utils.nested import on_cpu

Places = NDArray[np.int64]
"""``[n]`` rows or columns of the buffer"""

ROUNDING = 1e-6
"""Share of the sum of the sizes of rewards that their float32 numbers leave where they cancel out"""


class ReplayMemory:
    """The whole episodes of a replay buffer, without a copy of their steps.

    An episode ends where the environment says so. One that was broken off is left out, and so is one of which steps are
    missing.

    :param host: the algorithm with the buffer
    :param reward: knows which actions are executed
    """

    lengths: Tensor
    """``[E]`` steps, in order of the episodes' ends"""
    totals: Tensor
    """``[E]`` float64, sums of the extrinsic rewards"""
    squared_actions: Tensor
    """``[E]`` float64, sums of |a|^2"""
    n_found: int
    """Rows that were in the buffer when it came into sight, whoever collected them"""

    def __init__(self, host: OffPolicyHost, reward: DecomposedReward) -> None:
        self._host = host
        self._reward = reward
        self._ring: RingEpisodes
        self._follow(host.buffer)

    def __len__(self) -> int:
        return len(self._ring)

    @property
    def n_written(self) -> int:
        """Steps of each environment that the buffer has ever been given, in its :attr:`generation`."""
        return self._host.buffer.n_written

    @property
    def generation(self) -> int:
        """Number that another one takes the place of when the buffer's rows are others."""
        return self._host.buffer.generation

    @property
    def longest(self) -> int:
        """Steps that an episode which ended is known to have, whether it fits the buffer or not."""
        return self._ring.longest

    def update(self) -> None:
        """Let episodes that have ended enter, and those leave whose first steps were overwritten.

        :raises ValueError: if a number in a new row is not finite, naming the row
        """
        buffer = self._host.buffer
        if buffer is not self._buffer or buffer.generation != self._generation:
            self._follow(buffer)
        rows = self._ring.unseen(buffer.n_written)
        check_rows(buffer, rows)
        ended = buffer.dones[rows % buffer.buffer_size].astype(bool)
        begun, lost = begun_rows(buffer, rows, buffer.n_written), lost_rows(buffer, rows)
        ring = copy(self._ring)
        still = ring.extend(buffer.n_written, ended, begun, lost)
        entered = torch.arange(int(still.sum()), len(ring))
        totals = torch.cat([self.totals[still], self._totals(ring, entered)])
        squared_actions = torch.cat([self.squared_actions[still], _sums(ring, entered, self._squared_actions)])
        # All at once, as an interruption would leave what belongs together apart.
        self._ring, self.lengths, self.totals, self.squared_actions = ring, ring.lengths, totals, squared_actions

    def since(self, row: int) -> Tensor:
        """Episodes ``[K]`` that ended in ``row`` or later, of all rows that were ever written."""
        return torch.nonzero(self._ring.ends > row).flatten()

    def finished(self, episodes: Tensor) -> FinishedEpisodes:
        """The given episodes ``[K]`` with all of their steps."""
        states, actions = self._host.steps_at(*self._ring.steps(episodes))
        return FinishedEpisodes(
            on_cpu(states),
            self._reward.executed(actions).cpu(),
            self.lengths[episodes],
            self.totals[episodes],
        )

    def sample(self, n_episodes: int, n_steps: int, generator: torch.Generator, recent: float = 0.0) -> Draw:
        """Draw episodes, each with the same chance, and ``n_steps`` steps of each, all with replacement.

        :param recent: share of the episodes that are drawn from the newest tenth of the memory instead, see
            :func:`~sb3_tare.rewards.episode_memory.drawn_rows`
        :raises ValueError: if the memory is empty
        """
        chosen, rows = drawn_rows(self._ring.begins, self.lengths, n_episodes, n_steps, generator, recent)
        columns = torch.repeat_interleave(self._ring.columns[chosen], n_steps)
        states, actions = self._host.steps_at(*self._ring.places(rows, columns))
        totals, squared_actions = self.totals[chosen], self.squared_actions[chosen]
        return Draw(states, self._reward.executed(actions), self.lengths[chosen], totals, squared_actions)

    def _follow(self, buffer: PaysLearnedRewards) -> None:
        self._buffer = buffer
        self._generation = buffer.generation
        self.n_found = buffer.n_written
        self._ring = RingEpisodes(buffer.buffer_size, buffer.n_envs)
        self.lengths = self._ring.lengths
        self.totals = torch.zeros(0, dtype=torch.float64)
        self.squared_actions = torch.zeros(0, dtype=torch.float64)

    def _totals(self, ring: RingEpisodes, episodes: Tensor) -> Tensor:
        """Sums ``[K]`` (float64) of the rewards of ``episodes``, zero where they are but the rounding of the rewards."""
        totals = _sums(ring, episodes, self._rewards)
        sizes = _sums(ring, episodes, lambda rows, columns: self._rewards(rows, columns).abs())
        return totals.masked_fill(totals.abs() <= ROUNDING * sizes, 0.0)

    def _rewards(self, rows: Places, columns: Places) -> Tensor:
        return torch.from_numpy(self._buffer.rewards[rows, columns])

    def _squared_actions(self, rows: Places, columns: Places) -> Tensor:
        actions = self._host.encoded(self._buffer.actions_at(rows, columns))
        return self._reward.executed(actions).cpu().double().square().sum(1)


def _sums(ring: RingEpisodes, episodes: Tensor, values_at: Callable[[Places, Places], Tensor]) -> Tensor:
    """Sums ``[K]`` (float64) over the steps of each of ``episodes`` in ``ring``."""
    owners = torch.repeat_interleave(torch.arange(len(episodes)), ring.lengths[episodes])
    values = values_at(*ring.steps(episodes))
    return torch.zeros(len(episodes), dtype=torch.float64).index_add(0, owners, values.double())
