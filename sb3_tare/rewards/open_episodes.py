"""Joining of episodes that the edges of rollouts cut into pieces."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes, edges
from sb3_tare.utils.checks import check_count
from sb3_tare.utils.nested import Observations, concatenated, map_tensors, take


@dataclass(frozen=True)
class FinishedEpisodes:
    """Whole episodes, one after the other in flat arrays of ``n = sum(lengths)`` rows.

    :param states: ``[n, ...]``, the part of the observations that the reward sees
    :param actions: ``[n, action_dim]``, as the reward network sees them
    :param lengths: ``[E]`` int64, steps
    :param totals: ``[E]`` float64, sum of the extrinsic rewards
    """

    states: Observations
    actions: Tensor
    lengths: Tensor
    totals: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def sums(self, values: Tensor) -> Tensor:
        """Sums ``[E, ...]`` (float64) of ``values`` ``[n, ...]`` over the steps of each episode."""
        return _sums(values, self.lengths)

    @property
    def squared_actions(self) -> Tensor:
        """Sums ``[E]`` (float64) of |a|^2 over the steps of each episode."""
        return self.sums(self.actions.double().square().flatten(1).sum(1))


@dataclass(frozen=True)
class _Pieces:
    """``K`` pieces of episodes, one after the other; a piece without rows only remembers how far its episode has come."""

    environments: Tensor
    first_times: Tensor
    lengths: Tensor
    ends: Tensor
    states: Observations
    actions: Tensor
    rewards: Tensor

    def select(self, pieces: Tensor) -> _Pieces:
        """The given pieces, in the given order."""
        lengths = self.lengths[pieces]
        begins = (self.lengths.cumsum(0) - self.lengths)[pieces]
        rows = torch.arange(int(lengths.sum())) + torch.repeat_interleave(begins - (lengths.cumsum(0) - lengths), lengths)
        by_piece = {name: getattr(self, name)[pieces] for name in ("environments", "first_times", "lengths", "ends")}
        return _Pieces(**by_piece, **self.rows(rows))

    def rows(self, rows: Tensor) -> dict[str, Any]:
        """``states``, ``actions`` and ``rewards`` of the given rows."""
        return {name: take(getattr(self, name), rows) for name in ("states", "actions", "rewards")}

    def joined(self) -> tuple[_Pieces, Tensor]:
        """Join each piece to the one that it continues; return the results, and ``[K]`` the one that each piece went into."""
        goes_on = torch.zeros(len(self.lengths), dtype=torch.bool)
        same_environment = self.environments[1:] == self.environments[:-1]
        next_times = self.first_times + self.lengths
        goes_on[1:] = same_environment & (self.ends[:-1] == int(End.CUT)) & (self.first_times[1:] == next_times[:-1])
        first = torch.nonzero(~goes_on).flatten()
        last = torch.cat([first[1:], torch.tensor([len(self.lengths)])]) - 1
        owners = (~goes_on).cumsum(0) - 1
        lengths = torch.zeros(len(first), dtype=torch.int64).index_add(0, owners, self.lengths)
        whole = replace(
            self,
            environments=self.environments[first],
            first_times=self.first_times[first],
            lengths=lengths,
            ends=self.ends[last],
        )
        return whole, owners


class OpenEpisodes:
    """Joins the pieces in which rollouts deliver episodes, and hands each episode over when it ends.

    An episode whose first steps were not seen is left out, since nobody knows what they earned; so is one that was cut and
    that no later piece continues. A long one is handed over in parts of ``longest`` steps, each with the rewards paid in it;
    a warning tells of parts that end before their episode does and are paid nothing.

    :param longest: steps of a part; where episodes are paid at their end, it must be at least their length
    :raises ValueError: if ``longest`` is no positive whole number
    """

    def __init__(self, longest: int = 1_000) -> None:
        check_count("longest", longest, 1)
        self.longest = longest
        self._open: _Pieces | None = None

    def add(
        self, episodes: Episodes, environments: Tensor, states: Observations, actions: Tensor, rewards: Tensor
    ) -> FinishedEpisodes:
        """Take a rollout's pieces and return the episodes that ended, in order of environments and then of time.

        :param episodes: pieces, those of one environment in order of time
        :param environments: ``[E]`` int64, where each piece comes from
        :param states: ``[n, ...]``
        :param actions: ``[n, action_dim]``
        :param rewards: ``[n]`` extrinsic rewards
        :raises ValueError: if there is not one environment a piece, or not one action and reward a row
        """
        if environments.shape != (len(episodes),):
            raise ValueError(f"environments must have shape {(len(episodes),)}, one a piece, got {tuple(environments.shape)}")
        if not len(actions) == len(rewards) == episodes.n_steps:
            raise ValueError(
                f"actions and rewards must have {episodes.n_steps} rows, one a step, got {len(actions)} and {len(rewards)}"
            )
        states, actions = map_tensors([states, actions], lambda rows: rows.detach().cpu())
        new = _Pieces(
            environments.cpu(),
            episodes.first_times,
            episodes.lengths,
            episodes.ends,
            states,
            actions,
            rewards.detach().cpu().double(),
        )
        return self._hand_over(new)

    def _hand_over(self, new: _Pieces) -> FinishedEpisodes:
        n_open = 0 if self._open is None else len(self._open.lengths)
        pieces = new if self._open is None else _one_behind_the_other(self._open, new)
        order = torch.argsort(pieces.environments, stable=True)  # an open piece comes before the new ones
        whole, owners = pieces.select(order).joined()
        seen_from_start = whole.first_times == 0
        seen_from_start[owners[order < n_open]] = True
        _, is_last = edges(whole.environments)
        kept = torch.nonzero(seen_from_start).flatten()
        return self._split(whole.select(kept), is_last[kept])

    def _split(self, whole: _Pieces, is_last: Tensor) -> FinishedEpisodes:
        """Hand over what has ended and parts of ``longest`` steps, and keep the rest of each episode that may go on."""
        is_cut = whole.ends == int(End.CUT)
        n_whole = whole.lengths // self.longest
        n_parts = torch.where(is_cut, n_whole, -(-whole.lengths // self.longest))
        owners = torch.repeat_interleave(torch.arange(len(n_parts)), whole.lengths)
        offsets = torch.arange(len(owners)) - (whole.lengths.cumsum(0) - whole.lengths)[owners]
        parts = offsets // self.longest
        has_ended = parts < n_parts[owners]
        part_ids = ((n_parts.cumsum(0) - n_parts)[owners] + parts)[has_ended]
        finished = whole.rows(torch.nonzero(has_ended).flatten())
        lengths = torch.bincount(part_ids, minlength=int(n_parts.sum()))
        goes_on = is_cut & is_last
        skipped = n_parts[goes_on] * self.longest
        self._open = _Pieces(
            whole.environments[goes_on],
            whole.first_times[goes_on] + skipped,
            whole.lengths[goes_on] - skipped,
            whole.ends[goes_on],
            **whole.rows(torch.nonzero(~has_ended & goes_on[owners]).flatten()),
        )
        totals = _sums(finished.pop("rewards"), lengths)
        last_parts = n_parts.cumsum(0)[~is_cut] - 1
        warn_of_unpaid_parts(totals.index_fill(0, last_parts, math.nan), self.longest)
        return FinishedEpisodes(**finished, lengths=lengths, totals=totals)

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors: the episodes under way."""
        return {} if self._open is None else asdict(self._open)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the episodes under way."""
        self._open = _Pieces(**state) if state else None


def warn_of_unpaid_parts(totals: Tensor, longest: int) -> None:
    """Warn where a part of an episode is paid nothing, as all but the last are where episodes are paid at their end.

    :param totals: ``[E]`` rewards of parts; those of parts with which an episode ends are left out, or NaN
    :param longest: steps of a part
    """
    if (totals == 0.0).any():
        warnings.warn(
            f"the first {longest} steps of a longer episode, or later ones, were paid nothing, and enter as an episode of "
            f"return 0, since decomposition_length={longest}: where this environment pays at an episode's end, set it to an "
            "episode's length at least",
            stacklevel=2,
        )


def _one_behind_the_other(first: _Pieces, second: _Pieces) -> _Pieces:
    both = (first, second)
    return _Pieces(*(concatenated([getattr(each, name) for each in both]) for name in _Pieces.__dataclass_fields__))


def _sums(values: Tensor, lengths: Tensor) -> Tensor:
    owners = torch.repeat_interleave(torch.arange(len(lengths)), lengths)
    sums = torch.zeros((len(lengths), *values.shape[1:]), dtype=torch.float64)
    return sums.index_add(0, owners, values.double())
