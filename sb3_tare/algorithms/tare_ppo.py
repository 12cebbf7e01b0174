"""PPO on a learned reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sb3_tare.algorithms.owner import LearnsReward
from sb3_tare.algorithms.taking_over import carried_over, taken_over
from sb3_tare.lean import LeanPPO
from sb3_tare.settings import RewardKwargs

SelfTAREPPO = TypeVar("SelfTAREPPO", bound="TAREPPO")


class TAREPPO(LearnsReward, LeanPPO):
    """Taming Reward for PPO: a policy trained on a learned reward, a reward trained on the policy's held-out return.

    Takes every argument of :class:`~sb3_tare.LeanPPO`, and so of :class:`stable_baselines3.PPO`, and ``reward_kwargs``.

    :param policy: as for PPO
    :param env: as for PPO
    :param reward_kwargs: settings of the reward learner, plain data; see :class:`~sb3_tare.settings.RewardSettings`
    :raises TypeError: for an unknown setting
    :raises ValueError: for a setting out of its range, or rollouts too short to split
    """

    def __init__(self, *args: Any, reward_kwargs: RewardKwargs | None = None, **kwargs: Any) -> None:
        super().__init__(*args, reward_kwargs=reward_kwargs, **kwargs)

    @classmethod
    def from_ppo(
        cls,
        model_or_path: PPO | str | Path,
        reward_kwargs: RewardKwargs | None = None,
        env: GymEnv | None = None,
        device: torch.device | str | None = None,
    ) -> Self:
        """Go on from a trained PPO: its policy, optimiser, schedules, step count, environment and ``VecNormalize``, as copies.

        ``learn(..., reset_num_timesteps=False)`` counts its steps on; the environment is reset before. The reward starts
        afresh. In ``replace``, the default, the critic goes over from extrinsic returns to learned ones.

        :param model_or_path: a PPO or LeanPPO, or the file of one. Statistics of ``VecNormalize`` that lie beside the file, as
            SB3 and rl-zoo3 put them, are taken where ``env`` is not normalised yet.
        :param reward_kwargs: see :class:`~sb3_tare.settings.RewardSettings`
        :param env: None: the model's own
        :param device: None: the model's own
        :raises TypeError: if it is a model of another class, or for an unknown setting
        :raises ValueError: if it is a file of another algorithm, ``env`` has other spaces, or a setting is out of its range
        """
        return taken_over(model_or_path, PPO, cls, env, device, reward_kwargs=reward_kwargs)

    def as_ppo(self) -> PPO:
        """A plain PPO of SB3 that goes on from here, with policy, optimiser, step count and environment, without the reward.

        Its file needs nothing of this package, unless ``policy_kwargs`` name classes of it. Where learned rewards are paid in
        place of the extrinsic ones, the policy's critic is of learned returns, which PPO then unlearns.

        :return: a copy but for the environment, which both have
        """
        return carried_over(self, PPO, None, None)

    def learn(
        self: SelfTAREPPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "TAREPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfTAREPPO:
        """Train like ``PPO.learn``; ``rollout/ep_rew_mean`` is the environment's reward, ``reward/...`` the learner's log."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
