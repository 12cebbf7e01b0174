"""SAC, TD3, DDPG, DQN, TQC, CrossQ and QR-DQN as hosts: a replay buffer whose sampled batches are paid by a learned reward."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN, TQC, CrossQ
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor

from sb3_tare.data.recorder import undistorted_rewards
from sb3_tare.hosts.host import AnyHost
from sb3_tare.hosts.replay_buffers import Payer, PaysLearnedRewards, take_over
from sb3_tare.hosts.seams import Seams
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.checks import LOWER_RATES, at_step, check_device, check_finite
from sb3_tare.utils.extractors import acting_extractor, goes_on_learning, in_evaluation
from sb3_tare.utils.nested import Observations

KINDS = (SAC, TD3, DDPG, DQN, TQC, CrossQ, QRDQN)
"""The algorithms that an :class:`OffPolicyHost` adapts, with their subclasses; a further one is a name here."""

IDLE_GROUPS = ("critic", "schedule", "gradient", "step")
"""Groups of settings that only a reward with a hypergradient, a second critic or rollouts reads."""
IDLE = {
    "gae_lambda": "advantage",
    "center": "advantage",
    "decomposition_memory": "decomposition",  # the replay buffer is the memory
    "decomposition_length": "decomposition",  # and holds episodes whole
    "hypergradient_share": "decomposition",
}
"""Further ones that nothing off-policy reads, by their group."""
BUSY = ("chunk_rows",)
"""Settings of an idle group that are read all the same."""

REMEMBERED = 1 << 14
"""Steps at most of which it is remembered what they earned beneath a delay or noise, for the log."""


class OffPolicyHost(AnyHost[None]):
    """An algorithm with a replay buffer.

    The buffer keeps what the environment paid and is the memory that the reward is learned from; while the algorithm trains,
    each batch that it samples is paid by the reward as it is then.

    :param model: a SAC, TD3, DDPG, DQN, TQC, CrossQ or QR-DQN, or of a subclass
    :param policy_features: as for every :class:`~sb3_tare.hosts.host.AnyHost`
    :param chunk_rows: likewise
    """

    def __init__(self, model: Any, policy_features: bool = True, chunk_rows: int | None = None) -> None:
        super().__init__(model, policy_features, chunk_rows)
        self.episode_ended = True
        """Whether an episode may have ended since somebody has put this to False"""
        self._seams = Seams(model)
        self._undistorted: deque[tuple[int, list[float]]] = deque(maxlen=REMEMBERED)

    @property
    def buffer(self) -> PaysLearnedRewards:
        """Its replay buffer, which may be another one after ``load_replay_buffer``."""
        return take_over(self.model.replay_buffer)

    def check(self, settings: LearnerSettings) -> None:
        """Check the settings of the learner, and the buffer of the algorithm.

        :raises ValueError: if they cannot work or mean nothing
        """
        name = type(self.model).__name__
        check_device(self.device)
        if not settings.decomposition.return_decomposition:
            raise ValueError(
                f"a RewardLearner learns a reward for {name} by return decomposition alone, as its updates have no implicit "
                "gradient in the reward: leave preset='decomposition', the default"
            )
        for setting, (value, works) in _idle_settings(settings).items():
            if value != works:
                raise ValueError(
                    f"{setting}={value!r} means nothing to {name}, whose reward has no implicit gradient and is fitted to the "
                    "episodes in its replay buffer alone: leave it out"
                )
        if self.policy_features and goes_on_learning(acting_extractor(self.policy)):
            raise ValueError(
                f"features='policy' would show the reward of {name} old steps through a feature extractor that goes on "
                "learning: set features='own'"
            )
        if self.model.replay_buffer.n_envs != self.model.n_envs:  # which SB3 finds out as the first step is stored
            raise ValueError(
                f"the replay buffer holds steps of {self.model.replay_buffer.n_envs} environments, and there are "
                f"{self.model.n_envs}: learn with as many environments, or with a new replay buffer"
            )
        take_over(self.model.replay_buffer)

    def start_training(self, was_reset: bool) -> None:
        """Find out whether the environments are where the last row of the buffer left them.

        :param was_reset: whether they are known to have been reset
        """
        self._seams.start(self.buffer, was_reset)

    def end_training(self) -> None:
        """Note where the environments are."""
        self._seams.end()

    def begin(self) -> None:
        """Start a rollout.

        :raises ValueError: if an observation is not finite
        """
        check_finite(self.model._last_obs, "observation", place=at_step(self.model.num_timesteps))
        take_over(self.model.replay_buffer)

    def add(self, step: Mapping[str, Any]) -> None:
        """Note a step, which the algorithm puts into its buffer right after.

        :raises ValueError: if a reward, an observation or an action is not finite, naming the environment and the step
        """
        place, env = at_step(self.model.num_timesteps), self.model.get_vec_normalize_env()
        check_finite(step["buffer_actions"], "action", "the policy drew", LOWER_RATES, place)
        check_finite(step["rewards"], "reward", place=place)
        if env is not None:  # statistics that no longer move clip infinity away
            check_finite(env.get_original_reward(), "reward", place=place)
        check_finite(step["new_obs"], "observation", place=place)
        for index in step["dones"].nonzero()[0]:
            self.episode_ended = True
            observation = step["infos"][index].get("terminal_observation", 0.0)
            check_finite(observation, "terminal observation", place=lambda *_, index=index: place(index))
        self._seams.note(self.buffer, step)
        self._undistorted.append((self.buffer.n_written, undistorted_rewards(step["infos"], len(step["dones"]))))

    def record(self) -> None:
        """Nothing, as the buffer has the steps."""

    @property
    def times(self) -> np.ndarray:
        """Empty, ``[0]``, as the buffer tells episodes apart."""
        return np.zeros(0, dtype=np.int64)

    def go_on_from(self, times: np.ndarray) -> None:
        """Do nothing with ``times`` ``[N]``, as the buffer tells episodes apart."""

    def steps_at(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[Observations, Tensor]:
        """States ``[k, ...]`` and encoded actions ``[k, action_dim]`` in given rows and columns ``[k]`` of the buffer.

        Observations are normalised by today's statistics, as for the algorithm itself.
        """
        buffer = self.buffer
        observations = buffer.observations_at(rows, columns, self.model.get_vec_normalize_env())
        return self.seen(observations, buffer.actions_at(rows, columns))

    @torch.no_grad()
    def seen(self, observations: Observations, actions: Tensor) -> tuple[Observations, Tensor]:
        """States ``[k, ...]`` and encoded actions ``[k, action_dim]`` as the reward sees what the buffer gives the policy.

        They are the same while the policy is in training mode: no dropout hides a part of them.

        :param observations: ``[k, ...]``
        :param actions: ``[k, ...]``
        """
        with in_evaluation(acting_extractor(self.policy)):
            return self.states(observations), self.encoded(actions)

    def encoded(self, actions: Tensor) -> Tensor:
        """Actions ``[k, action_dim]`` as the reward sees those ``[k, ...]`` of the buffer."""
        encoded = preprocess_obs(actions, self.model.action_space, normalize_images=False)
        assert isinstance(encoded, Tensor)
        return encoded.flatten(1)

    def take_undistorted(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Hand out what steps earned beneath a delay or noise, ``[n, n_envs]``, NaN where nobody told; and forget it.

        :param rows: ``[n]``, of all that were ever written
        """
        told, unknown = dict(self._undistorted), [np.nan] * self.model.n_envs
        self._undistorted.clear()
        return np.array([told.get(row, unknown) for row in rows.tolist()]).reshape(len(rows), -1)

    @contextmanager
    def paying(self, payer: Payer) -> Iterator[None]:
        """Have the batches that the algorithm samples meanwhile paid by ``payer``.

        :raises RuntimeError: if another one pays already, or the algorithm has updated its policy with nothing paid
        """
        buffer, has_paid, n_updates = self.buffer, False, self.model._n_updates
        if buffer.payer is not None:
            raise RuntimeError("another RewardLearner pays for this replay buffer already: a model can have one")

        def pay(observations: Observations, actions: Tensor) -> Tensor:
            nonlocal has_paid
            has_paid = True
            return payer(observations, actions)

        buffer.payer = pay
        try:
            yield
        finally:
            if buffer.payer is pay:  # and not that of a learner which came after an interruption
                buffer.payer = None
        if self.model._n_updates > n_updates and not has_paid:
            raise RuntimeError(
                f"the policy was updated with batches of {type(buffer).__name__} for which no learned reward was asked: let "
                "its sample() call self._get_samples(), which reads self.rewards[rows, columns]"
            )


def _idle_settings(settings: LearnerSettings) -> dict[str, tuple[Any, Any]]:
    """Settings that nothing off-policy reads, with the values that say nothing."""
    silent = type(settings)(preset="decomposition")
    named = {each.name: group for group in IDLE_GROUPS for each in fields(getattr(settings, group))}
    idle = {
        name: (getattr(getattr(settings, group), name), getattr(getattr(silent, group), name))
        for name, group in (named | IDLE).items()
        if name not in BUSY
    }
    return {**idle, "trust_slope": (settings.decomposition.trust_slope or None, None)}  # 0: no guard, and there is none
