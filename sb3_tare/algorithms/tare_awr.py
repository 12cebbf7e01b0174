"""AWR on a learned reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, Unpack

from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_tare.algorithms.owner import OwnsRewardLearner
from sb3_tare.awr.awr import AWR
from sb3_tare.awr.memory import Paths
from sb3_tare.hosts.awr import ActorUpdate, AWRHost
from sb3_tare.learning.learner import RewardLearner
from sb3_tare.settings import RewardKwargs, RewardSettings
from sb3_tare.settings.groups import GradientSettings
from sb3_tare.utils.checks import check_count

SelfTAREAWR = TypeVar("SelfTAREAWR", bound="TAREAWR")


@dataclass(frozen=True)
class SampleSettings:
    """The setting that a replay memory needs beside those of every reward learner.

    :param sampled_steps: steps drawn from each part of the memory for its gradients; of whole paths, so that they are more
        where one path is longer
    :raises ValueError: for a value out of its range
    """

    sampled_steps: int = 2048

    def __post_init__(self) -> None:
        check_count("sampled_steps", self.sampled_steps, least=2)


class MemoryKwargs(RewardKwargs, total=False):
    """Keys of ``reward_kwargs`` of :class:`~sb3_tare.TAREAWR`."""

    sampled_steps: int


class MemorySettings(RewardSettings):
    """Settings of :class:`~sb3_tare.TAREAWR`: those of :class:`~sb3_tare.RewardSettings`, and :class:`SampleSettings`.

    ``validation="split"`` splits the memory's paths at random; ``"next_rollout"`` fits the actor to all of them, and the
    steps that it collects next validate the reward. ``gae_lambda`` is the lambda of TD(lambda). ``curvature`` is that of
    AWR's objective: ``"fisher"`` is its Gauss-Newton matrix, the Fisher matrix weighted by exp(A / temperature).

    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a setting that does not fit AWR
    """

    groups: ClassVar[Mapping[str, type[Any]]] = {**RewardSettings.groups, "sample": SampleSettings}
    own_defaults: ClassVar[Mapping[str, Any]] = {"reward_every": 0}

    sample: SampleSettings

    def _check(self) -> None:
        super()._check()
        if self.schedule.interleave:
            raise ValueError("interleave=True needs a host that trains in epochs, which AWR does not: leave it out")
        if self.decomposition.return_decomposition:
            raise ValueError(
                "return_decomposition=True needs a host that collects rollouts, which AWR does not: use TAREPPO, or leave it "
                "out"
            )
        if self.schedule.reward_every != 0:
            raise ValueError(
                f"reward_every={self.schedule.reward_every} pools short rollouts, which AWR's memory has no need of: leave it "
                "out, and set train_freq"
            )
        if self.critic.critics != 2:
            raise ValueError("critics=1 would train AWR's critic on rewards that change with every step: leave it at 2")
        if self.gradient.kl_coef != GradientSettings.kl_coef:
            raise ValueError(
                f"kl_coef={self.gradient.kl_coef} has no effect on AWR, whose objective has no KL term: leave it out"
            )


class MemoryLearner(RewardLearner):
    """Learns a reward while AWR learns a policy from it; :class:`~sb3_tare.TAREAWR` owns one.

    :param verbose: as for every SB3 callback
    :param reward_kwargs: see :class:`MemorySettings`
    """

    settings_class = MemorySettings
    settings: MemorySettings

    def __init__(self, verbose: int = 0, **reward_kwargs: Unpack[MemoryKwargs]) -> None:
        super().__init__(verbose, **reward_kwargs)  # type: ignore[misc]

    def update_actor(self, model: AWR, update: ActorUpdate) -> None:
        """Fit the actor of ``model`` to the learned reward, and take the reward steps around that."""
        host = self._attached.host
        assert isinstance(host, AWRHost)

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
    """Taming Reward for AWR: an actor regressed by a learned reward, a reward trained on the actor's held-out objective.

    The actor is regressed on a memory's actions, weighted by advantages of the learned reward; the reward is trained on the
    actor's extrinsic objective on held-out paths.

    The critic phase stays AWR's: its critic is of extrinsic returns. In the actor phase the paths of the memory are split
    in two parts; each in turn is relabelled and trains the actor, and the other validates the reward.

    Takes every argument of :class:`~sb3_tare.AWR`, and ``reward_kwargs``.

    :param policy: as for AWR
    :param env: as for AWR
    :param reward_kwargs: settings of the reward learner, plain data; see :class:`MemorySettings`
    :raises TypeError: for an unknown setting
    :raises ValueError: for a setting out of its range
    """

    learner_class = MemoryLearner
    reward_learner: MemoryLearner

    def __init__(self, *args: Any, reward_kwargs: MemoryKwargs | None = None, **kwargs: Any) -> None:
        super().__init__(*args, reward_kwargs=reward_kwargs, **kwargs)

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
        validation = self.reward_learner.settings.schedule.validation
        if not collect and validation == "next_rollout":
            raise ValueError("validation='next_rollout' needs steps to be collected: use validation='split' offline")
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar, collect)

    def train_actor(self, paths: Paths, n_steps: int) -> None:
        """Fit the actor to the learned reward, and the reward to held-out extrinsic returns."""
        self.reward_learner.update_actor(self, ActorUpdate(paths, n_steps))
