"""The work of a job: train, and record returns of training episodes and of deterministic evaluations.

Evaluations leave no trace in the training run: they have environments of their own, and the global random generators are
put back after each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, sync_envs_normalization

from sb3_tare.experiments.baselines.capacity import NORMALISED_KEYS, History
from sb3_tare.experiments.running.checkpoints import Checkpointing, Checkpoints, restored
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.measures import MEASURES, Measure
from sb3_tare.experiments.running.provenance import Making, versions
from sb3_tare.utils.generators import undisturbed_generators

EVALUATION_SEED = 1_000_000
"""Added to a job's seed for its evaluations' environment."""

LOGGED = ("correlation", "correlation_undistorted", "decomposition_r2")
"""Numbers of the learner's log, ``reward/...``, that results keep: they cost nothing, as training has computed them."""

REPORT_EVERY = 500
"""Steps between two reports of progress."""


class Trained(NamedTuple):
    """A run that has ended.

    :param result: what a result file holds, plain data:
        ``settings`` and ``versions``;
        ``episodes``: ``timesteps`` at which training episodes ended and their extrinsic ``returns``;
        ``evaluations``: ``timesteps`` and, for each, the ``returns`` of all its episodes;
        ``measured``: what the job's measure said at each evaluation (empty without one);
        ``logged``: what the reward's learner had logged last at each evaluation, by name (empty without a learner)
    :param model: the trained model, whose environment is closed
    :param made: commit and seconds, which differ between equal runs
    """

    result: dict[str, Any]
    model: BaseAlgorithm
    made: dict[str, Any]


def train(job: Job, report: Callable[[int], None] = lambda steps: None, checkpointing: Checkpointing | None = None) -> Trained:
    """Run a job on one thread of the CPU.

    :param job: the run
    :param report: is told now and then how many steps were made
    :param checkpointing: where the run is written down now and then, and goes on if it has been; None for nowhere
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = (checkpointing and restored(checkpointing.folder, job)) or _begun(job)
    making, episodes, evaluations, model = Making(run["made"]), run["episodes"], run["evaluations"], run["model"]
    episodes.report = report
    callbacks = [episodes, evaluations]
    if checkpointing is not None:
        callbacks.append(Checkpoints(checkpointing, job, making, run))
    try:
        model.learn(job.steps - model.num_timesteps, callback=callbacks, reset_num_timesteps=model.num_timesteps == 0)
    finally:
        model.get_env().close()
        evaluations.env.close()
        torch.set_num_threads(n_threads)
    result = {
        "settings": job.settings,
        "versions": versions(),
        "episodes": {"timesteps": episodes.timesteps, "returns": episodes.returns},
        "evaluations": {"timesteps": job.evaluation_steps, "returns": evaluations.returns},
        "measured": evaluations.measured,
        "logged": evaluations.logged if any(evaluations.logged) else [],
    }
    return Trained(result, model, making.ended())


def _begun(job: Job) -> dict[str, Any]:
    """A run before its first step, as a checkpoint would hold it."""
    env, evaluation_env = make_env(job), make_env(job)
    evaluation_env.seed(EVALUATION_SEED + job.seed)
    if isinstance(evaluation_env, VecNormalize):
        evaluation_env.training = evaluation_env.norm_reward = False
    recorded = {"episodes": Episodes(), "evaluations": Evaluations(job, evaluation_env)}
    return {"model": job.variant.build(env, job.seed), **recorded, "made": None}


def make_env(job: Job) -> VecEnv:
    """One copy of the job's environment, normalised where its variant says so and where normalising makes sense."""
    wrap = History if job.variant.history else gym.Wrapper
    env = DummyVecEnv([lambda: Monitor(wrap(gym.make(job.env)))])
    if not job.variant.normalize:
        return env
    if job.variant.history:
        return VecNormalize(env, norm_obs_keys=NORMALISED_KEYS)
    space = env.observation_space
    return VecNormalize(env, norm_obs=isinstance(space, spaces.Box) and not is_image_space(space))


class Episodes(BaseCallback):
    """Notes when training episodes ended, and their returns in the environment's own reward."""

    def __init__(self) -> None:
        super().__init__()
        self.report: Callable[[int], None] = lambda steps: None
        self.timesteps: list[int] = []
        self.returns: list[float] = []

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "report"}  # it is told of this process alone

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.timesteps.append(self.num_timesteps)
                self.returns.append(float(info["episode"]["r"]))
        if self.num_timesteps % REPORT_EVERY == 0:
            self.report(self.num_timesteps)
        return True


class Evaluations(BaseCallback):
    """Returns of deterministic episodes, and what else is measured, before the first step and at equal distances."""

    def __init__(self, job: Job, env: VecEnv) -> None:
        super().__init__()
        self.job, self.env = job, env
        self.returns: list[list[float]] = []
        self.measured: list[dict[str, Any]] = []
        self.logged: list[dict[str, float]] = []
        self._newest: dict[str, float] = {}

    def _on_training_start(self) -> None:
        if not self.returns:  # else the run goes on
            self._evaluate()

    def _on_rollout_start(self) -> None:
        # What the update before has logged; when a rollout has ended, the logger may have let go of it.
        values = self.logger.name_to_value
        self._newest |= {name: float(values[key]) for name in LOGGED if (key := f"reward/{name}") in values}

    def _on_step(self) -> bool:
        due = self.job.evaluation_steps
        while len(self.returns) < len(due) and self.num_timesteps >= due[len(self.returns)]:
            self._evaluate()
        return True

    def _evaluate(self) -> None:
        training_env = self.model.get_env()
        assert training_env is not None
        sync_envs_normalization(training_env, self.env)
        with undisturbed_generators():
            returns, _ = evaluate_policy(
                self.model, self.env, self.job.evaluation_episodes, deterministic=True, return_episode_rewards=True
            )
            self.returns.append([float(value) for value in returns])  # type: ignore[union-attr]
            self.logged.append(dict(self._newest))
            if self.job.measure is not None:
                self.measured.append(self._measure(MEASURES[self.job.measure]))

    def _measure(self, measure: Measure) -> dict[str, Any]:
        if not isinstance(self.env, VecNormalize):
            return measure(self.model, self.env)
        self.env.norm_reward = True  # as the algorithm sees rewards
        try:
            return measure(self.model, self.env)
        finally:
            self.env.norm_reward = False
