"""AWR on a learned reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import torch
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from torch import Tensor

from sb3_tare.algorithms.memory_settings import MemoryKwargs, MemorySettings
from sb3_tare.algorithms.owner import OwnsRewardLearner
from sb3_tare.algorithms.taking_over import carried_over, taken_over
from sb3_tare.awr.awr import AWR
from sb3_tare.awr.memory import Paths
from sb3_tare.hosts.awr import ActorUpdate, AWRHost
from sb3_tare.learning.learner import RewardLearner
from sb3_tare.learning.path_decomposing import PathDecomposer

SelfTAREAWR = TypeVar("SelfTAREAWR", bound="TAREAWR")


class MemoryLearner(RewardLearner):
    """Learns a reward while AWR learns a policy from it; :class:`~sb3_tare.TAREAWR` owns one.

    :param verbose: as for every SB3 callback
    :param reward_kwargs: see :class:`MemorySettings`
    """

    settings_class = MemorySettings
    decomposer_class = PathDecomposer
    settings: MemorySettings

    def __init__(self, verbose: int = 0, **reward_kwargs: Unpack[MemoryKwargs]) -> None:
        super().__init__(verbose, **reward_kwargs)  # type: ignore[misc]
        self.collects = True
        """Whether the memory's newest steps are the policy's own"""

    @property
    def host(self) -> AWRHost:
        """The adapter of its AWR."""
        host = self._attached.host
        assert isinstance(host, AWRHost)
        return host

    @property
    def decomposes(self) -> bool:
        """Whether the learned reward is paid in place of the extrinsic one, to the critic too."""
        return self.settings.decomposition.return_decomposition

    def relabel(self, model: AWR, paths: Paths) -> Tensor:
        """Fit the reward to the episodes of the memory, and return the learned rewards ``[n]`` of its ``paths``.

        Until something is learned they are the environment's own.

        :raises FloatingPointError: if one is not finite
        """
        trainer, clock = self.trainer, self._attached.iteration.clock
        assert isinstance(trainer.decomposer, PathDecomposer)
        trainer.metrics.clear()
        clock.reset()
        with clock.running():
            relabelled = trainer.decomposer.relabel(self.collects, trainer.metrics)
            rewards = trainer.checked(relabelled, torch.from_numpy(paths.rows))
            if trainer.decomposer.has_learned:
                extrinsic = model.replay_buffer.rewards_at(paths.rows, model.get_vec_normalize_env())
                trainer.metrics.note_rewards(rewards, extrinsic.cpu())
        self._log()
        return rewards.to(model.device)

    def update_actor(self, model: AWR, update: ActorUpdate) -> None:
        """Fit the actor of ``model`` to the learned reward, and take the reward steps around that."""
        host = self.host

        def fit() -> None:
            assert host.fit is not None
            model.fit_actor(*host.fit)

        host.update = update
        try:
            self.phase(fit)
        finally:
            host.update = None

    def _host(self, model: Any) -> AWRHost:
        settings = self.settings
        policy_features = settings.network.features == "policy"
        return AWRHost(model, policy_features, settings.sample.sampled_steps, settings.gradient.chunk_rows)


class TAREAWR(OwnsRewardLearner, AWR):
    """Taming Reward for AWR: an actor regressed on a memory's actions, weighted by advantages of a learned reward.

    By default the reward is fitted to the totals of the memory's episodes, and each iteration trains critic and actor on the
    whole memory, relabelled with the reward as it is then.

    By the implicit gradient the critic phase stays AWR's: its critic is of extrinsic returns. In the actor phase the paths of
    the memory are split in two parts; each in turn is relabelled and trains the actor, and the other validates the reward.

    Takes every argument of :class:`~sb3_tare.AWR`, and ``reward_kwargs``.

    :param policy: as for AWR
    :param env: as for AWR
    :param reward_kwargs: settings of the reward learner, plain data; see :class:`MemorySettings`
    :raises TypeError: for an unknown setting
    :raises ValueError: for a setting out of its range
    """

    learner_class = MemoryLearner
    reward_learner: MemoryLearner
    _relabelled: Tensor | None = None
    """Learned rewards ``[n]`` of the memory's paths, while an update lasts"""

    def __init__(self, *args: Any, reward_kwargs: MemoryKwargs | None = None, **kwargs: Any) -> None:
        super().__init__(*args, reward_kwargs=reward_kwargs, **kwargs)

    @classmethod
    def from_awr(
        cls,
        model_or_path: AWR | str | Path,
        reward_kwargs: MemoryKwargs | None = None,
        env: GymEnv | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Go on from a trained AWR: its policy, optimisers, schedules, step count and environment, as copies.

        ``learn(..., reset_num_timesteps=False)`` counts its steps on; the environment is reset before.

        :param model_or_path: an AWR, whose memory both then have, or the file of one, to which ``load_replay_buffer`` brings
            the memory
        :param reward_kwargs: see :class:`MemorySettings`
        :param env: None: the model's own
        :param device: None: the model's own
        :raises TypeError: if it is a model of another class, or for an unknown setting
        :raises ValueError: if it is a file of another algorithm, ``env`` has other spaces or does not fit the memory, or a
            setting is out of its range
        """
        model = taken_over(model_or_path, AWR, cls, env, device, reward_kwargs=reward_kwargs)
        if isinstance(model_or_path, AWR):
            model._take(model_or_path.replay_buffer)
        return model

    def as_awr(self) -> AWR:
        """A plain AWR that goes on from here, with policy, optimisers, step count, memory and environment, without the reward.

        :return: a copy but for memory and environment, which both have
        """
        model = carried_over(self, AWR, None, None)
        model._take(self.replay_buffer)  # with the paths that are under way
        return model

    def learn(
        self: SelfTAREAWR,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "TAREAWR",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        collect: bool = True,
    ) -> SelfTAREAWR:
        """Train like :meth:`AWR.learn`; ``rollout/ep_rew_mean`` is the environment's reward, ``reward/...`` the learner's log.

        :raises ValueError: where episodes collected next cannot validate because none are collected
        """
        learner = self.reward_learner
        learner.collects = collect
        if not collect and not learner.decomposes and learner.settings.schedule.validation == "next_rollout":
            raise ValueError("validation='next_rollout' needs steps to be collected: use validation='split' offline")
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar, collect)

    def update(self, n_samples: int) -> None:
        """Critic phase, then actor phase, as in :meth:`AWR.update`.

        :raises ValueError: if the memory holds too few steps to be split
        """
        learner = self.reward_learner
        if not learner.decomposes and learner.settings.schedule.validation == "split":
            learner.host.check_memory()
        try:
            super().update(n_samples)
        finally:
            self._relabelled = None

    def train_critic(self, paths: Paths, n_steps: int) -> None:
        """Fit the critic to returns of the extrinsic rewards, or of the learned ones where these are paid in their place."""
        if self.reward_learner.decomposes:
            self._relabelled = self.reward_learner.relabel(self, paths)
        super().train_critic(paths, n_steps)

    def train_actor(self, paths: Paths, n_steps: int) -> None:
        """Fit the actor to the learned reward, and the reward to held-out extrinsic returns where no totals are decomposed."""
        if self.reward_learner.decomposes:
            super().train_actor(paths, n_steps)
        else:
            self.reward_learner.update_actor(self, ActorUpdate(paths, n_steps))

    def rewards_of(self, paths: Paths) -> Tensor:
        """Rewards ``[n]`` that critic and actor are trained on; learned ones while an update of a decomposed reward lasts."""
        return super().rewards_of(paths) if self._relabelled is None else self._relabelled
