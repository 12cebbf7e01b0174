"""AWR on a learned reward."""

from __future__ import annotations

from typing import TypeVar

from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_tare.algorithms.owner import OwnsRewardLearner
from sb3_tare.awr.awr import AWR
from sb3_tare.awr.memory import Paths
from sb3_tare.hosts.memory_reader import ActorUpdate
from sb3_tare.learning.memory_learner import MemoryLearner

SelfTAREAWR = TypeVar("SelfTAREAWR", bound="TAREAWR")


class TAREAWR(OwnsRewardLearner, AWR):
    """Taming Reward for AWR: an actor regressed on a memory's actions, weighted by advantages of a learned reward, and a
    reward trained on the actor's held-out extrinsic objective.

    The critic phase stays AWR's: its critic is of extrinsic returns. In the actor phase the paths of the memory are split
    in two parts; each in turn is relabelled and trains the actor, and the other validates the reward.

    Takes every argument of :class:`~sb3_tare.AWR`, and ``reward_kwargs``.

    :param policy: as for AWR
    :param env: as for AWR
    :param reward_kwargs: settings of the reward learner, plain data; see
        :class:`~sb3_tare.learning.memory_settings.MemorySettings`
    :raises TypeError: for an unknown setting
    :raises ValueError: for a setting out of its range
    """

    learner_class = MemoryLearner
    reward_learner: MemoryLearner

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
        """As :meth:`AWR.learn`; ``rollout/ep_rew_mean`` is the environment's reward, ``reward/...`` the learner's log.

        :raises ValueError: where episodes collected next cannot validate because none are collected
        """
        validation = self.reward_learner.settings.validation
        if not collect and validation == "next_rollout":
            raise ValueError("validation='next_rollout' needs steps to be collected: use validation='split' offline")
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar, collect)

    def train_actor(self, paths: Paths, n_steps: int) -> None:
        """Fit the actor to the learned reward, and the reward to held-out extrinsic returns."""
        self.reward_learner.update_actor(self, ActorUpdate(paths, n_steps))
