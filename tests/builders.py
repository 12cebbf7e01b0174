"""Layouts of episodes, random numbers and inputs of reward networks for the tests."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from sb3_tare.data.episodes import End, Episodes
from sb3_tare.networks.inputs import RewardInputs

torch.set_num_threads(1)

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
"""For laws over generated layouts: the same examples in each run."""


def episodes_of(
    lengths: Sequence[int], first_times: Sequence[int] | None = None, ends: Sequence[int] | None = None
) -> Episodes:
    """Pieces of the given lengths; unless told otherwise whole episodes that terminate."""
    n_pieces = len(lengths)
    return Episodes(
        torch.tensor(lengths),
        torch.tensor([0] * n_pieces if first_times is None else first_times),
        torch.tensor([int(End.TERMINATION)] * n_pieces if ends is None else ends),
    )


@st.composite
def layouts(draw: st.DrawFn, max_pieces: int = 6, max_length: int = 9, min_steps: int = 1) -> Episodes:
    """Any few pieces of episodes, each with any first time and end."""
    lengths = draw(st.lists(st.integers(1, max_length), min_size=1, max_size=max_pieces).filter(lambda x: sum(x) >= min_steps))
    n_pieces = len(lengths)
    first_times = draw(st.lists(st.integers(0, 40), min_size=n_pieces, max_size=n_pieces))
    ends = draw(st.lists(st.sampled_from([int(end) for end in End]), min_size=n_pieces, max_size=n_pieces))
    return episodes_of(lengths, first_times, ends)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def reward_inputs(
    episodes: Episodes,
    observation_dim: int = 3,
    action_dim: int = 2,
    seed: int = 0,
    scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> RewardInputs:
    n = episodes.n_steps
    rewards = scale * normal(n, seed=seed + 2, dtype=dtype)
    return RewardInputs(
        observations=scale * normal(n, observation_dim, seed=seed, dtype=dtype),
        actions=scale * normal(n, action_dim, seed=seed + 1, dtype=dtype),
        rewards=rewards,
        extrinsic_rewards=rewards,
        episodes=episodes,
    )


def rows_of(episodes: Episodes, piece: int) -> list[int]:
    """Rows of a piece, counted by hand."""
    begin = sum(episodes.lengths.tolist()[:piece])
    return list(range(begin, begin + int(episodes.lengths[piece])))


def unrolled_adam(
    parameters: Tensor,
    gradient: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    count: int,
    max_norm: float,
    learning_rate: float = 1e-2,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-5,
    through_second_moment: bool = True,
) -> Tensor:
    """Where clipping and a step of Adam lead, written down as in its paper and left to autograd; ``[p]`` each.

    :param gradient: before it is clipped
    :param count: steps including this one
    """
    gradient = gradient * (max_norm / (gradient.norm() + 1e-6)).clamp(max=1.0)
    second = gradient if through_second_moment else gradient.detach()
    first_moment = betas[0] * exp_avg + (1 - betas[0]) * gradient
    second_moment = betas[1] * exp_avg_sq + (1 - betas[1]) * second**2
    unbiased = first_moment / (1 - betas[0] ** count), second_moment / (1 - betas[1] ** count)
    return parameters - learning_rate * unbiased[0] / (unbiased[1].sqrt() + eps)
