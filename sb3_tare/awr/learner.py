"""The reward learner of AWR."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np

from sb3_tare.awr.awr import AWR
from sb3_tare.awr.gradients import AdvantageWeightedGradients
from sb3_tare.awr.iteration import MemoryIteration
from sb3_tare.awr.reader import ActorUpdate, MemoryReader
from sb3_tare.checks import check_count
from sb3_tare.hosts import Host
from sb3_tare.learner import RewardLearner
from sb3_tare.objectives import advantage_weighted
from sb3_tare.recorder import Recorder
from sb3_tare.returns import discounted_sum_by_doubling
from sb3_tare.settings import RewardSettings


@dataclass(frozen=True, init=False)
class MemorySettings(RewardSettings):
    """Settings of :class:`~sb3_tare.TAREAWR`: those of :class:`~sb3_tare.RewardSettings`, and one of its own.

    ``validation="split"`` splits the memory's paths at random; ``"next_rollout"`` fits the actor to all of them, and the
    steps that it collects next validate the reward. ``gae_lambda`` is the lambda of TD(lambda). ``curvature`` is that of
    AWR's objective: ``"fisher"`` is its Gauss-Newton matrix, the Fisher matrix weighted by exp(A / temperature).

    :param sampled_steps: steps of whole paths drawn from each part of the memory for its gradients
    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a setting that does not fit AWR
    """

    sampled_steps: int = 2048

    def _check(self) -> None:
        super()._check()
        check_count("sampled_steps", self.sampled_steps, least=2)
        if self.interleave:
            raise ValueError("interleave=True needs a host that trains in epochs, which AWR does not: leave it out")
        if self.critics != 2:
            raise ValueError("critics=1 would train AWR's critic on rewards that change with every step: leave it at 2")
        default = next(setting.default for setting in fields(self) if setting.name == "kl_coef")
        if self.kl_coef != default:
            raise ValueError(f"kl_coef={self.kl_coef} has no effect on AWR, whose objective has no KL term: leave it out")


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
    :param reward_kwargs: see :class:`MemorySettings`
    """

    settings_class = MemorySettings
    iteration_class = MemoryIteration

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
        """AWR has checked its memory itself."""

    def _new_recorder(self, model: Any) -> PathRecorder:
        return PathRecorder()
