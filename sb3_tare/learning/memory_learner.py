"""The reward learner of AWR."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sb3_tare.advantages.sums import discounted_sum_by_doubling
from sb3_tare.awr.awr import AWR
from sb3_tare.data.cutting import MIN_PART_STEPS
from sb3_tare.data.recorder import Recorder
from sb3_tare.hosts.host import Host
from sb3_tare.hosts.memory_reader import ActorUpdate, MemoryReader
from sb3_tare.hypergradient.awr_gradients import AdvantageWeightedGradients
from sb3_tare.learning.learner import RewardLearner
from sb3_tare.learning.memory_iteration import MemoryIteration
from sb3_tare.learning.memory_settings import MemorySettings
from sb3_tare.policy.objectives import advantage_weighted


class PathRecorder(Recorder):
    """Notes nothing at each step, as the memory does; hands on what the actor phase was asked for."""

    update: ActorUpdate | None = None

    def __init__(self) -> None:
        super().__init__(n_envs=0)

    def begin(self, episode_starts: np.ndarray) -> None:
        """Nothing to do."""

    def add(self, *_: Any) -> None:
        """Nothing to do."""

    def record(self) -> ActorUpdate:  # type: ignore[override]
        """What :attr:`update` holds."""
        assert self.update is not None
        return self.update


class MemoryLearner(RewardLearner):
    """Learns a reward while AWR learns a policy from it; :class:`~sb3_tare.TAREAWR` owns one.

    :param verbose: as for every SB3 callback
    :param reward_kwargs: see :class:`~sb3_tare.learning.memory_settings.MemorySettings`
    """

    settings_class = MemorySettings
    iteration_class = MemoryIteration
    _recorder: PathRecorder

    def update_actor(self, model: AWR, update: ActorUpdate) -> None:
        """Fit the actor of ``model`` to the learned reward, and take the reward steps around that."""
        self._recorder.update = update
        iteration = self._iteration
        assert isinstance(iteration, MemoryIteration)

        def fit() -> None:
            assert iteration.fit is not None
            model.fit_actor(*iteration.fit)

        try:
            self.phase(fit)
        finally:
            self._recorder.update = None

    def _host(self, model: Any) -> Host:
        if not isinstance(model, AWR):
            raise TypeError(f"this learner is AWR's; {type(model).__name__} takes a RewardLearner")
        objective = partial(advantage_weighted, temperature=model.temperature, max_weight=model.max_weight)
        return Host(
            AWR,
            objective,
            has_epochs=False,
            gradients_class=AdvantageWeightedGradients,
            reader_class=MemoryReader,
            sums=discounted_sum_by_doubling,
        )

    def _check_host(self, host: Host, model: Any) -> None:
        frequency, unit = model.train_freq
        least = 2 * MIN_PART_STEPS
        if unit is TrainFrequencyUnit.STEP and frequency * model.n_envs < least:
            raise ValueError(
                f"an iteration needs at least {least} steps to learn a reward from, got train_freq={frequency} times "
                f"{model.n_envs} environments: raise train_freq"
            )

    def _new_recorder(self, model: Any) -> PathRecorder:
        return PathRecorder()
