"""A memory of whole episodes, from each of which a few steps can be drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sb3_tare.data.episodes import Episodes
from sb3_tare.rewards.growing_rows import GrowingRows
from sb3_tare.rewards.open_episodes import FinishedEpisodes, OpenEpisodes
from sb3_tare.utils.checks import check_count
from sb3_tare.utils.nested import Observations

SLACK = 16
"""Share of the memory, one in so many, that is room to spare, so that it need not be tidied after each rollout."""


NEWEST = 32
"""Episodes that are recent at least."""


class Draw(NamedTuple):
    """A few steps of each of ``E`` episodes.

    The ``m`` steps of one episode are consecutive rows.
    """

    states: Observations
    """``[E * m, ...]``"""
    actions: Tensor
    """``[E * m, action_dim]``"""
    lengths: Tensor
    """``[E]`` int64, steps of the whole episode"""
    totals: Tensor
    """``[E]`` float64, sum of the extrinsic rewards of the whole episode"""
    squared_actions: Tensor
    """``[E]`` float64, sum of |a|^2 over the whole episode"""


class EpisodeMemory:
    """All finished episodes, or a uniform sample of them once they have more than ``max_steps`` steps.

    Each episode draws a random number when it ends. The memory holds the episodes with the smallest numbers, as many as it
    has room for, so that it does not matter when an episode ended (reservoir sampling by sorting, Vitter, 1985).

    Floating-point numbers are stored in single precision and images as bytes, each state once.

    :param generator: of the random numbers; its state is saved with the memory
    :param max_steps: most steps of all episodes together
    :param longest: most steps of an episode, see :class:`~sb3_tare.rewards.open_episodes.OpenEpisodes`
    :raises ValueError: if ``max_steps`` or ``longest`` is no positive whole number, or ``longest`` exceeds ``max_steps``
    """

    def __init__(self, generator: torch.Generator, max_steps: int = 1_000_000, longest: int = 1_000) -> None:
        check_count("max_steps", max_steps, 1)
        check_count("longest", longest, 1)
        if longest > max_steps:
            raise ValueError(f"max_steps must have room for an episode of longest={longest} steps, got {max_steps}")
        self.max_steps = max_steps
        self.lengths = torch.zeros(0, dtype=torch.int64)
        """``[E]`` steps"""
        self.totals = torch.zeros(0, dtype=torch.float64)
        """``[E]`` sum of the extrinsic rewards"""
        self.squared_actions = torch.zeros(0, dtype=torch.float64)
        """``[E]`` sum of |a|^2"""
        self._generator = generator
        self._open = OpenEpisodes(longest)
        self._begins = torch.zeros(0, dtype=torch.int64)
        self._keys = torch.zeros(0, dtype=torch.float64)
        self._threshold = math.inf
        self._rows = GrowingRows(max_steps + max_steps // SLACK)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def n_bytes(self) -> int:
        """Bytes of the stored steps, including those of dropped episodes that are not yet tidied away."""
        return self._rows.n_bytes

    def add(
        self, episodes: Episodes, environments: Tensor, states: Observations, actions: Tensor, rewards: Tensor
    ) -> FinishedEpisodes:
        """Take a rollout's pieces and return all episodes that ended, whether the memory keeps them or not.

        :param episodes: pieces, those of one environment in order of time
        :param environments: ``[E]`` int64, where each piece comes from
        :param states: ``[n, ...]``
        :param actions: ``[n, action_dim]``
        :param rewards: ``[n]`` extrinsic rewards
        :raises ValueError: if there is not one environment a piece, or not one action and reward a row
        """
        finished = self._open.add(episodes, environments, states, actions, rewards)
        if len(finished):
            self._store(finished)
        return finished

    def sample(self, n_episodes: int, n_steps: int, generator: torch.Generator, recent: float = 0.0) -> Draw:
        """Draw episodes, each with the same chance, and ``n_steps`` steps of each, all with replacement.

        :param recent: share of the episodes that are drawn from the newest tenth of the memory instead, see
            :func:`drawn_rows`
        :raises ValueError: if the memory is empty
        """
        chosen, rows = drawn_rows(self._begins, self.lengths, n_episodes, n_steps, generator, recent)
        drawn = self._rows.take(rows)
        return Draw(_states(drawn), drawn["actions"], self.lengths[chosen], self.totals[chosen], self.squared_actions[chosen])

    def state_dict(self) -> dict[str, Any]:
        """Nested dictionaries of tensors and numbers, for ``torch.load(weights_only=True)``."""
        return {
            "lengths": self.lengths,
            "totals": self.totals,
            "squared_actions": self.squared_actions,
            "keys": self._keys,
            "threshold": self._threshold,
            "rows": self._rows.take(self._live_rows()),
            "open": self._open.state_dict(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take everything over, the state of the generator included.

        :raises ValueError: if the saved memory holds more steps than this one has room for
        """
        n_steps = int(state["lengths"].sum())
        if n_steps > self.max_steps:
            raise ValueError(f"max_steps={self.max_steps} is too small for the saved memory, which holds {n_steps} steps")
        self.lengths, self.totals, self.squared_actions = state["lengths"], state["totals"], state["squared_actions"]
        self._keys, self._threshold = state["keys"], state["threshold"]
        self._begins = self.lengths.cumsum(0) - self.lengths
        self._rows = GrowingRows(self._rows.limit)
        if state["rows"]:
            self._rows.append(state["rows"])
        self._open.load_state_dict(state["open"])
        self._generator.set_state(state["generator"])

    def _store(self, finished: FinishedEpisodes) -> None:
        """Keep the episodes with the smallest keys, as many as there is room for."""
        n_old = len(self)
        keys = torch.cat([self._keys, torch.rand(len(finished), dtype=torch.float64, generator=self._generator)])
        lengths = torch.cat([self.lengths, finished.lengths])
        # The threshold stays where it was: a short episode must not enter where a longer one with a smaller key had no room.
        kept = keys < self._threshold
        order = torch.argsort(torch.where(kept, keys, math.inf))
        has_room = torch.where(kept[order], lengths[order], 0).cumsum(0) <= self.max_steps
        if not has_room.all():
            self._threshold = float(keys[order][~has_room].min())
            kept &= keys < self._threshold
        entering = kept[n_old:]
        self._evict(kept[:n_old])
        begins = self._append(finished, entering)
        self.lengths, self._keys = lengths[kept], keys[kept]
        self.totals = torch.cat([self.totals, finished.totals[entering]])
        self.squared_actions = torch.cat([self.squared_actions, finished.squared_actions[entering]])
        self._begins = torch.cat([self._begins, begins])

    def _evict(self, kept: Tensor) -> None:
        self.lengths, self.totals, self._begins = self.lengths[kept], self.totals[kept], self._begins[kept]
        self.squared_actions = self.squared_actions[kept]

    def _append(self, finished: FinishedEpisodes, entering: Tensor) -> Tensor:
        """Store the rows of the episodes that enter, and return where each begins."""
        rows = torch.nonzero(torch.repeat_interleave(entering, finished.lengths)).flatten()
        if self._rows.size + len(rows) > self._rows.limit:
            self._rows.keep(self._live_rows())
            self._begins = self.lengths.cumsum(0) - self.lengths
        lengths = finished.lengths[entering]
        begins = self._rows.size + lengths.cumsum(0) - lengths
        if len(rows):
            self._rows.append({name: values[rows] for name, values in _named(finished).items()})
        return begins

    def _live_rows(self) -> Tensor:
        """Rows ``[n]`` of the episodes that are kept, in the order in which these entered."""
        shifts = self._begins - (self.lengths.cumsum(0) - self.lengths)
        return torch.arange(int(self.lengths.sum())) + torch.repeat_interleave(shifts, self.lengths)


def drawn_rows(
    begins: Tensor, lengths: Tensor, n_episodes: int, n_steps: int, generator: torch.Generator, recent: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Draw episodes ``[n_episodes]``, each with the same chance, and rows ``[n_episodes * n_steps]`` of their steps.

    :param begins: ``[E]`` first row of each episode
    :param lengths: ``[E]`` steps of each
    :param recent: share of the episodes that are drawn from the last tenth of these instead, or from the last
        :data:`NEWEST` where these are more
    :raises ValueError: if there is none
    """
    if not len(lengths):
        raise ValueError("no episode has ended yet: nothing can be drawn from the memory")
    n_recent = round(recent * n_episodes)
    newest = min(len(lengths), max(len(lengths) // 10, NEWEST))
    late = len(lengths) - newest + torch.randint(newest, (n_recent,), generator=generator)
    chosen = torch.cat([torch.randint(len(lengths), (n_episodes - n_recent,), generator=generator), late])
    places = torch.rand(n_episodes, n_steps, dtype=torch.float64, generator=generator)
    rows = begins[chosen, None] + (places * lengths[chosen, None]).long()
    return chosen, rows.flatten()


def _named(finished: FinishedEpisodes) -> dict[str, Tensor]:
    """Arrays by name; those of a dictionary of states are named ``states/key``."""
    states = finished.states
    named = {f"states/{key}": values for key, values in states.items()} if isinstance(states, dict) else {"states": states}
    return {"actions": finished.actions, **named}


def _states(arrays: Mapping[str, Tensor]) -> Observations:
    if "states" in arrays:
        return arrays["states"]
    return {name.removeprefix("states/"): values for name, values in arrays.items() if name.startswith("states/")}
