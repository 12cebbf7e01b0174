"""The critic phase and the actor phase of AWR, which learn from its memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import FloatSchedule, explained_variance, update_learning_rate
from torch import Tensor

from sb3_tare.advantages.generalised import generalised_advantages
from sb3_tare.advantages.sums import discounted_sum_by_doubling
from sb3_tare.awr.evaluation import path_baseline
from sb3_tare.awr.gathering import RowsAt, gathered
from sb3_tare.awr.memory import PathMemory, Paths
from sb3_tare.awr.policy import AWRPolicy
from sb3_tare.awr.steps import actor_steps, critic_steps
from sb3_tare.awr.updates import bound_loss, check_descent, descend, shuffled_batches, standardised
from sb3_tare.data.rollout import Baseline
from sb3_tare.policy.derivatives import own_distribution
from sb3_tare.policy.objectives import advantage_weights
from sb3_tare.utils.checks import check_learned
from sb3_tare.utils.last_good import last_good
from sb3_tare.utils.nested import Observations

SAMPLES_PER_ITERATION = 2048
"""Steps collected in an iteration unless ``train_freq`` says otherwise; gradient steps are given for as many."""


_REMEDY = (
    "rewards or observations of very large size are the usual cause: scale them, with VecNormalize or a wrapper of the "
    "environment; where neither is large, lower learning_rate, critic_learning_rate or max_weight"
)


class AdvantageWeightedRegression(OffPolicyAlgorithm):
    """The updates of :class:`~sb3_tare.AWR`, which says what its attributes mean (Peng et al., 2019, algorithm 1)."""

    policy: AWRPolicy
    replay_buffer: PathMemory
    td_lambda: float
    temperature: float
    max_weight: float
    critic_steps: int
    actor_steps: int
    bound_coef: float
    ent_coef: float
    normalizer_steps: int
    critic_lr_schedule: FloatSchedule
    lean: bool
    seconds: dict[str, float]
    """Seconds that each phase of the last update took"""
    _n_observed: int

    def train(self, gradient_steps: int = 0, batch_size: int = 0) -> None:
        """Learn from the memory as much as the samples collected since the last time are worth.

        :param gradient_steps: not used: ``critic_steps`` and ``actor_steps`` are scaled to the samples really collected
        :param batch_size: not used either
        """
        n_new = self.replay_buffer.n_new
        collected = self.replay_buffer.paths(n_new)
        is_first = self._n_updates == 0
        if is_first:
            self._observe(collected)
        self.update(n_new)
        if not is_first:
            self._observe(collected)
        self.replay_buffer.n_new = 0

    def update(self, n_samples: int) -> None:
        """Critic phase, then actor phase, on the whole memory, as long as ``n_samples`` collected steps ask for."""
        self.policy.set_training_mode(False)  # but for the gradient steps: values are those of a critic at rest
        self._update_step_sizes()
        self.seconds = dict.fromkeys(self.seconds, 0.0)
        share = n_samples / SAMPLES_PER_ITERATION
        paths = self.replay_buffer.paths()
        self.train_critic(paths, math.ceil(self.critic_steps * share))
        self.train_actor(paths, math.ceil(self.actor_steps * share))
        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for phase, seconds in self.seconds.items():
            self.logger.record(f"time/{phase}_seconds", seconds, exclude="tensorboard")

    def evaluate(self, paths: Paths) -> tuple[Tensor, Tensor]:
        """Values ``[n]`` and advantages ``[n]``, TD(lambda) return minus value, of the policy's critic as it is now.

        :raises FloatingPointError: if one is not finite, naming the environment and the step
        """
        with self._timed("returns"):
            baseline = self.baseline(paths)
            advantages = generalised_advantages(
                self.rewards_of(paths), baseline, paths.episodes, self.gamma, self.td_lambda, discounted_sum_by_doubling
            )
        place = self.replay_buffer.place(paths.rows)
        check_learned(baseline.values, "the critic returned values", _REMEDY, place)
        check_learned(advantages, "rewards and values make advantages", _REMEDY, place)
        return baseline.values, advantages

    def rewards_of(self, paths: Paths) -> Tensor:
        """Rewards ``[n]`` that critic and actor are trained on."""
        return self.replay_buffer.rewards_at(paths.rows, self._vec_normalize_env)

    def baseline(self, paths: Paths) -> Baseline:
        """Values of the policy's critic, as it is now, along paths of the memory."""
        return path_baseline(self._values, self.replay_buffer, paths, self.gamma, self._vec_normalize_env)

    def train_critic(self, paths: Paths, n_steps: int) -> None:
        """Fit the critic to the TD(lambda) returns that are bootstrapped from it as it was before."""
        values, advantages = self.evaluate(paths)
        returns = values + advantages
        batches = shuffled_batches(len(returns), self.batch_size, n_steps)
        with self._timed("critic"), self._undoing("critic"), self._training():
            with critic_steps(self, paths, returns) as step:
                mean_loss = descend(step, batches)
            check_descent(self.policy, self.policy.critic_optimizer, mean_loss, "critic", _REMEDY)
        self.logger.record("train/critic_loss", mean_loss)
        self.logger.record("train/explained_variance", float(explained_variance(values.cpu().numpy(), returns.cpu().numpy())))

    def train_actor(self, paths: Paths, n_steps: int) -> None:
        """Regress the actor on the memory's actions, weighted by advantages over the critic as it is now."""
        self.fit_actor(paths, self.evaluate(paths)[1], n_steps)

    def fit_actor(self, paths: Paths, advantages: Tensor, n_steps: int) -> None:
        """Regress the actor on the actions of ``paths``, weighted by ``[n]`` advantages."""
        weights = advantage_weights(standardised(advantages), self.temperature, self.max_weight)
        batches = shuffled_batches(len(weights), self.batch_size, n_steps)
        with self._timed("actor"), self._undoing("actor"), self._training():
            with actor_steps(self, paths, weights) as step:
                mean_loss = descend(step, batches)
            check_descent(self.policy, self.policy.actor_optimizer, mean_loss, "actor", _REMEDY)
        self.logger.record_mean("train/actor_loss", mean_loss)
        self.logger.record_mean("train/advantage_mean", float(advantages.mean()))
        self.logger.record_mean("train/advantage_std", float(advantages.std()))
        self.logger.record_mean("train/weight_mean", float(weights.mean()))
        self.logger.record_mean("train/weight_max", float(weights.max()))
        if isinstance(self.action_space, spaces.Box):
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))

    def actor_loss(self, paths: Paths, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """Loss of a mini-batch, of the numbers of its steps among those of ``paths``; ``weights`` ``[n]`` are of all."""
        observations_of = self._rows_of(paths)

        def loss(rows: Tensor) -> Tensor:
            distribution = self.policy.get_distribution(observations_of(rows))
            log_probs = distribution.log_prob(self.replay_buffer.actions_at(paths.rows[rows.numpy()]))
            return self._penalties(distribution) - (weights[rows] * log_probs).mean()

        return loss

    def critic_loss(self, paths: Paths, returns: Tensor) -> Callable[[Tensor], Tensor]:
        """Loss of a mini-batch, of the numbers of its steps among those of ``paths``; ``returns`` ``[n]`` are of all."""
        observations_of = self._rows_of(paths)

        def loss(rows: Tensor) -> Tensor:
            errors = self._values(observations_of(rows)) - returns[rows]
            return 0.5 * (errors / self.policy.value_scale).square().mean()

        return loss

    def _penalties(self, distribution: Any) -> Tensor | float:
        """Loss beside the weighted regression's: mean actions out of bounds, too little entropy."""
        penalty: Tensor | float = 0.0
        if self.bound_coef > 0.0 and isinstance(self.action_space, spaces.Box):
            penalty = self.bound_coef * bound_loss(distribution.distribution.mean)
        if self.ent_coef > 0.0:
            penalty = penalty - self.ent_coef * distribution.entropy().mean()
        return penalty

    def _values(self, observations: Observations) -> Tensor:
        return self.policy.predict_values(observations).flatten()

    def _rows_of(self, paths: Paths) -> RowsAt:
        if self.lean:
            return gathered(self._observations, paths.rows, self.observation_space)
        return lambda rows: self._observations(paths.rows[rows.numpy()])

    def _observations(self, rows: np.ndarray) -> Observations:
        return self.replay_buffer.observations_at(rows, self._vec_normalize_env)

    def _observe(self, paths: Paths) -> None:
        """Let collected observations, those at the ends of paths too, enter the statistics that normalise them."""
        if self._n_observed >= self.normalizer_steps:
            return
        self._n_observed += len(paths.rows)
        ends = paths.rows[(paths.episodes.begins + paths.episodes.lengths - 1).numpy()]
        self.policy.normalizer.update(self._observations(paths.rows))
        self.policy.normalizer.update(self.replay_buffer.next_observations_at(ends, self._vec_normalize_env))

    def _update_step_sizes(self) -> None:
        policy, progress = self.policy, self._current_progress_remaining
        phases = (
            ("actor", policy.actor_optimizer, self.lr_schedule),
            ("critic", policy.critic_optimizer, self.critic_lr_schedule),
        )
        for name, optimizer, schedule in phases:
            update_learning_rate(optimizer, schedule(progress))
            self.logger.record(f"train/{name}_learning_rate", schedule(progress))

    def _undoing(self, name: str) -> AbstractContextManager[None]:
        """Put the ``"actor"`` or the ``"critic"`` back where its steps leave numbers that are not finite."""
        optimizer = getattr(self.policy, f"{name}_optimizer")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        return last_good(parameters, optimizer, name, _REMEDY)

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] += time.perf_counter() - start

    @contextmanager
    def _training(self) -> Iterator[None]:
        self.policy.set_training_mode(True)
        try:
            with own_distribution(self.policy):
                yield
        finally:
            self.policy.set_training_mode(False)
