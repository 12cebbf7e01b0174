"""Replay buffers that keep the rewards of the environment and pay learned ones while an algorithm trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from torch import Tensor

from sb3_tare.data.replay import rows_written
from sb3_tare.utils.checks import check_learned
from sb3_tare.utils.nested import Observations

Payer = Callable[[Observations, Tensor], Tensor]
"""A map from observations ``[k, ...]`` as the policy sees them and actions ``[k, ...]`` of the buffer to rewards ``[k]``."""


class PaysLearnedRewards(ReplayBuffer):
    """Mixed in before a replay buffer of SB3, it has a learned reward paid for the steps of each sampled batch.

    The buffer's own ``rewards`` stay those of the environment. Another class works with it if its ``_get_samples`` reads
    ``self.rewards[rows, columns]``, and its ``add`` stores one row for each step, as those of SB3 do.
    """

    paid_by: ClassVar[str] = "the RewardLearner, which learns from the rewards in it"
    """Words for what pays its steps, of which no rewards in it are replaced"""
    payer: Payer | None = None
    """Pays while a reward is lent; no part of a pickle or a copy"""
    n_written: int = 0
    """Steps of each environment that were ever added, in this generation"""
    generation: int = 0
    """Times that the rows were counted anew, since something else than :meth:`add` had filled or emptied the buffer"""
    seam: NDArray[np.bool_] | None = None
    """``[n_envs]`` of a seam before the row that is added next; no part of a pickle or a copy"""
    seams: Mapping[int, NDArray[np.bool_]] = MappingProxyType({})
    """Rows of the ring that do not go on from the row before; of each, ``[n_envs]``, where a whole episode begins with it"""

    def add(self, *args: Any, **kwargs: Any) -> None:
        """Add a step of each environment; arguments are those of SB3.

        :raises RuntimeError: if the buffer's class has not stored one row
        """
        self.payer = None  # a training that was interrupted has left it behind
        self.recount()
        place = self.pos
        super().add(*args, **kwargs)
        if self.pos != (self.n_written + 1) % self.buffer_size:
            raise RuntimeError(
                f"{type(self).__name__}.add has stored {(self.pos - self.n_written) % self.buffer_size} rows of a step, and "
                "episodes are read from row after row: let it store each step once, and change steps as they are sampled"
            )
        self.n_written += 1
        if self.seam is not None or place in self.seams:
            kept = {row: begins for row, begins in self.seams.items() if row != place}
            self.seams, self.seam = kept if self.seam is None else {**kept, place: self.seam}, None

    def reset(self) -> None:
        """Forget all steps."""
        super().reset()
        self.recount()

    def recount(self) -> None:
        """Begin another generation where the buffer is not as :meth:`add` has left it, so that its rows may be others."""
        if self.pos == self.n_written % self.buffer_size and self.full == (self.n_written >= self.buffer_size):
            return
        self.n_written, self.seams = rows_written(self), {}
        self.generation += 1

    def observations_at(self, rows: NDArray[np.int64], columns: NDArray[np.int64], env: VecNormalize | None = None) -> Any:
        """Observations of steps as the policy sees them.

        :param rows: ``[k]``
        :param columns: ``[k]``
        :param env: whose statistics normalise them
        :return: a tensor ``[k, ...]``, or a dictionary of them
        """
        stored: Any = self.observations
        if isinstance(stored, dict):
            normalised = self._normalize_obs({key: array[rows, columns] for key, array in stored.items()}, env)
            assert isinstance(normalised, dict)
            return {key: self.to_torch(array) for key, array in normalised.items()}
        normalised = self._normalize_obs(stored[rows, columns], env)
        assert isinstance(normalised, np.ndarray)
        return self.to_torch(normalised)

    def actions_at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """Actions ``[k, action_dim]`` of steps, given their rows ``[k]`` and columns ``[k]``."""
        return self.to_torch(self.actions[rows, columns])

    def _get_samples(self, batch_inds: NDArray[np.int64], env: VecNormalize | None = None) -> Any:
        if self.payer is None:
            return super()._get_samples(batch_inds, env)
        paid = _Paid(self, self.payer, env)
        extrinsic, self.rewards = self.rewards, paid  # type: ignore[assignment]
        try:
            samples = super()._get_samples(batch_inds, env)
        finally:
            self.rewards = extrinsic
        if not paid.was_read:
            raise RuntimeError(
                f"{type(self).__name__}._get_samples does not read self.rewards[rows, columns], by which learned rewards are "
                "paid: let it do so"
            )
        return samples

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        assert isinstance(state, dict)
        return {name: value for name, value in state.items() if name not in ("payer", "seam")}


class LearnedReplayBuffer(PaysLearnedRewards, ReplayBuffer):
    """SB3's ``ReplayBuffer``; a :class:`~sb3_tare.RewardLearner` has its sampled batches paid by the learned reward.

    The learner makes one of a plain buffer by itself. A class of your own, such as a prioritised one, becomes one by
    inheriting from this class first, and from its own base second.
    """


class LearnedDictReplayBuffer(PaysLearnedRewards, DictReplayBuffer):
    """SB3's ``DictReplayBuffer`` as a :class:`LearnedReplayBuffer`."""


class LearnedNStepReplayBuffer(PaysLearnedRewards, NStepReplayBuffer):
    """SB3's ``NStepReplayBuffer`` as a :class:`LearnedReplayBuffer`: the learned rewards of n steps are summed up."""


KINDS: dict[type[ReplayBuffer], type[PaysLearnedRewards]] = {
    ReplayBuffer: LearnedReplayBuffer,
    DictReplayBuffer: LearnedDictReplayBuffer,
    NStepReplayBuffer: LearnedNStepReplayBuffer,
}
"""Buffers of SB3 that can be taken over, and what they become."""


def take_over(buffer: Any) -> PaysLearnedRewards:
    """Make a buffer pay learned rewards when asked to, in place, with all steps that it holds.

    :raises ValueError: if it cannot, with the reason
    """
    name = type(buffer).__name__
    if isinstance(buffer, HerReplayBuffer):
        raise ValueError(
            f"{name} pays by compute_reward for goals that were never pursued, of which totals of episodes say nothing: "
            "there is no reward to learn, train without the RewardLearner"
        )
    if buffer.optimize_memory_usage:
        raise ValueError(
            "optimize_memory_usage=True keeps no next observations, by which an episode that was broken off is told from a "
            "whole one: leave it out"
        )
    if not isinstance(buffer, PaysLearnedRewards):
        if type(buffer) not in KINDS:
            raise ValueError(
                f"a RewardLearner cannot pay learned rewards from a {name}: let it inherit from LearnedReplayBuffer first, "
                "and from its own base second"
            )
        buffer.__class__ = KINDS[type(buffer)]
    buffer.recount()
    return buffer


_REMEDY = "the policy was not updated with them. Lower decomposition_learning_rate, or bound the network's output"


def _place(rows: NDArray[np.int64], columns: NDArray[np.int64], number: int) -> str:
    return f"in environment {columns[number]} at row {rows[number]} of the replay buffer"


class _Paid:
    """Learned rewards in the place of a buffer's array ``[rows, columns]``, computed for the steps that are asked for."""

    def __init__(self, buffer: PaysLearnedRewards, payer: Payer, env: VecNormalize | None) -> None:
        self._buffer, self._payer, self._env = buffer, payer, env
        self.was_read = False

    def __getitem__(self, places: Any) -> NDArray[np.float32]:
        pair = places if isinstance(places, tuple) else (places,)
        if len(pair) != 2 or any(np.asarray(each).dtype.kind not in "iu" for each in pair):
            raise TypeError(
                f"{type(self._buffer).__name__}._get_samples reads self.rewards other than by rows and columns, such as "
                "self.rewards[rows] where there is one environment: let it read self.rewards[rows, columns], by which learned "
                "rewards are paid"
            )
        self.was_read = True
        rows, columns = np.broadcast_arrays(*pair)
        flat = rows.ravel(), columns.ravel()
        paid = self._payer(self._buffer.observations_at(*flat, self._env), self._buffer.actions_at(*flat))
        check_learned(paid, "the reward network returned rewards", _REMEDY, lambda number: _place(*flat, number))
        return paid.cpu().numpy().astype(np.float32, copy=False).reshape(rows.shape)
