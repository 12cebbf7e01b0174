"""Rollouts cut into episodes, and episodes split in two parts."""

from __future__ import annotations

import torch
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes, Selection

MIN_PART_STEPS = 2
"""An advantage cannot be standardised within fewer steps."""


def cut_rollout(dones: Tensor, timeouts: Tensor, times: Tensor, cuts: Tensor | None = None) -> Episodes:
    """Cut a rollout at the ends of its episodes, at its own edge, and where else it was interrupted.

    :param dones: ``[T, N]`` bool, True where the step ended its episode
    :param timeouts: ``[T, N]`` bool, True where a time limit ended it
    :param times: ``[T, N]`` int64, time step of each row in its episode
    :param cuts: ``[T, N]`` bool, True where the next row does not go on from the step although its episode had not ended
    :raises ValueError: if the shapes differ
    """
    if not dones.shape == timeouts.shape == times.shape:
        raise ValueError(f"dones, timeouts and times must have one shape, got {dones.shape}, {timeouts.shape}, {times.shape}")
    last = dones.clone() if cuts is None else dones | cuts
    last[-1] = True
    flat_last, flat_dones, flat_timeouts, flat_times = (x.T.reshape(-1) for x in (last, dones, timeouts, times))
    last_rows = torch.nonzero(flat_last).flatten()
    lengths = torch.diff(last_rows, prepend=torch.tensor([-1]))
    ends = torch.where(flat_timeouts, int(End.TIMEOUT), torch.where(flat_dones, int(End.TERMINATION), int(End.CUT)))
    return Episodes(lengths, flat_times[last_rows] - lengths + 1, ends[last_rows])


def split(episodes: Episodes, generator: torch.Generator) -> tuple[Selection, Selection]:
    """Split pieces at random into two parts of about equal step counts (Algorithm 1, line 2).

    Pieces go in random order to the part that is the lighter one so far. A piece is cut in two only where one part would
    otherwise hold less than a quarter of the steps, as in a rollout that is a single episode.

    :raises ValueError: if there are too few steps for two parts
    """
    n_steps = episodes.n_steps
    if n_steps < 2 * MIN_PART_STEPS:
        raise ValueError(f"a split needs {2 * MIN_PART_STEPS} steps at least, got {n_steps}")
    lengths = episodes.lengths.tolist()
    parts: tuple[list[int], list[int]] = ([], [])
    sizes = [0, 0]
    for piece in torch.randperm(len(lengths), generator=generator).tolist():
        lighter = int(sizes[1] < sizes[0])
        parts[lighter].append(piece)
        sizes[lighter] += lengths[piece]
    if min(sizes) < max(n_steps / 4, MIN_PART_STEPS):
        return _split_longest(episodes, generator)
    first, second = (episodes.select(torch.tensor(sorted(part))) for part in parts)
    return first, second


def _split_longest(episodes: Episodes, generator: torch.Generator) -> tuple[Selection, Selection]:
    """One part is half of the steps, from either end of the longest piece; the other, before or after it, is all the rest."""
    half = episodes.n_steps // 2
    alone = int(episodes.lengths.argmax())
    length = int(episodes.lengths[alone])
    if length > half:
        from_front = bool(torch.randint(2, (1,), generator=generator))
        episodes = episodes.bisect(alone, half if from_front else length - half)
        alone += not from_front
    others = [piece for piece in range(len(episodes)) if piece != alone]
    parts = episodes.select(torch.tensor([alone])), episodes.select(torch.tensor(others))
    return parts if torch.randint(2, (1,), generator=generator) else parts[::-1]
