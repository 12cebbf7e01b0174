"""Return consistency: a learned reward that sums to the extrinsic one over windows of episodes.

For rewards that are delayed or noisy, and networks that see state and action but not the reward, which could copy it. Cf.
RUDDER (Arjona-Medina et al., 2019) and randomised return decomposition (Ren et al., 2022).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes, Selection
from sb3_tare.data.rollout import RewardSteps
from sb3_tare.rewards.reward_model import RewardModel


class WindowMemory:
    """The last rollouts, and random windows of the episodes in them.

    :param n_rollouts: rollouts kept
    :param window: steps in a window; a shorter piece of an episode is a window of its own
    """

    def __init__(self, n_rollouts: int, window: int) -> None:
        self.rollouts: deque[RewardSteps] = deque(maxlen=n_rollouts)
        self.window = window

    def add(self, rollout: RewardSteps) -> None:
        """Store the steps of a rollout."""
        self.rollouts.append(rollout)

    def sample(self, n_windows: int, generator: torch.Generator) -> list[RewardSteps]:
        """Windows of one stored rollout each; pieces are drawn in proportion to their steps, places in them evenly."""
        sizes = torch.tensor([rollout.episodes.n_steps for rollout in self.rollouts])
        rows = torch.randint(int(sizes.sum()), (n_windows,), generator=generator)
        ends = sizes.cumsum(0)
        owners = torch.searchsorted(ends, rows, right=True)
        local = rows - (ends - sizes)[owners]
        return [self._windows(self.rollouts[owner], local[owners == owner]) for owner in owners.unique().tolist()]

    def _windows(self, rollout: RewardSteps, rows: Tensor) -> RewardSteps:
        """A window for each of ``rows``, inside the row's piece and as far along it as the row is."""
        episodes = rollout.episodes
        pieces = episodes.pieces[rows]
        piece_lengths = episodes.lengths[pieces]
        lengths = piece_lengths.clamp(max=self.window)
        skipped = episodes.offsets[rows] * (piece_lengths - lengths + 1) // piece_lengths
        ends = torch.where(skipped + lengths < piece_lengths, int(End.CUT), episodes.ends[pieces])
        windows = Episodes(lengths, episodes.first_times[pieces] + skipped, ends)
        begins = episodes.begins[pieces] + skipped
        return rollout.select(Selection(windows, begins[windows.pieces] + windows.offsets))

    def state_dict(self) -> list[dict[str, Any]]:
        """A state for each rollout."""
        return [rollout.state_dict() for rollout in self.rollouts]

    def load_state_dict(self, state: Iterable[dict[str, Any]], device: torch.device) -> None:
        """Take stored rollouts over."""
        self.rollouts.clear()
        self.rollouts.extend(RewardSteps.from_state_dict(rollout, device) for rollout in state)


def consistency_losses(reward_model: RewardModel, windows: Sequence[RewardSteps]) -> list[Tensor]:
    """Their sum is the mean over all windows, in one unit for all rollouts; differentiable in the reward's parameters."""
    unit, n_windows = reward_model.unit, sum(len(rollout.episodes) for rollout in windows)
    return [
        consistency_loss(reward_model(replace(rollout, unit=unit)), rollout, unit.scale) / n_windows for rollout in windows
    ]


def consistency_loss(learned_rewards: Tensor, rollout: RewardSteps, scale: float) -> Tensor:
    """Sum over windows of (sum of learned minus sum of extrinsic rewards)^2 / steps, in squared units of ``scale``.

    :param learned_rewards: ``[n]``
    :param rollout: windows, as its pieces
    """
    episodes = rollout.episodes
    pieces = episodes.pieces.to(learned_rewards.device)
    differences = (learned_rewards - rollout.rewards.to(learned_rewards)) / scale
    sums = torch.zeros(len(episodes), dtype=differences.dtype, device=differences.device).index_add(0, pieces, differences)
    return (sums.square() / episodes.lengths.to(sums)).sum()
